// SPDX-License-Identifier: GPL-2.0-only
/*
 * The driver statements B1 to B29 of VIRTIO 1.4, 5.5: features, configuration,
 * inflating and deflating, statistics. B9, B26 and B27 demand nothing and have
 * no test: they permit to inflate at the target, any order of tags, a subset.
 *
 * Pages are 4 KiB, and buffers have 256 of them: 1 MiB.
 */

#include <linux/delay.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/suspend.h>
#include <linux/vmstat.h>

#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "short.h"
#include "suites.h"

#define LITTLE		(8 * FH_MIB)
#define BUFFER		256U
#define HOLD		((struct fh_policy){ .hold = true })
#define USE		((struct fh_policy){ })

#define CONFIG_ACTUAL	offsetof(struct virtio_balloon_config, actual)
#define CONFIG_HINT	offsetof(struct virtio_balloon_config, \
				 free_page_hint_cmd_id)
#define CONFIG_POISON	offsetof(struct virtio_balloon_config, poison_val)

/* FH_EV_STATUS as the device is started, modern or legacy */
#define STARTED		(VIRTIO_CONFIG_S_ACKNOWLEDGE | \
			 VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK | \
			 VIRTIO_CONFIG_S_FEATURES_OK)

/* The statsq keeps its buffer, or it would be asked for more for ever. */
static struct fh *plug(struct kunit *test, u64 features)
{
	struct fh *host = test->priv;

	host->features |= features;
	fh_policy(host, FH_STATS, HOLD);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_ASSERT_TRUE(test, fh_bound(host));
	return host;
}

static struct fh *plug_legacy(struct kunit *test, u64 features)
{
	struct fh *host = test->priv;

	host->features &= ~BIT_ULL(VIRTIO_F_VERSION_1);
	return plug(test, features);
}

static struct fh *plug_inflated(struct kunit *test, u64 features, u32 pages)
{
	struct fh *host = plug(test, features);

	fh_target(host, pages);
	KUNIT_ASSERT_TRUE(test, fh_settles(host, pages));
	return host;
}

/* With that many pages in the device's hands that it does not use */
static struct fh *plug_offered(struct kunit *test, u64 features, u32 pages)
{
	struct fh *host = plug(test, features);

	fh_policy(host, FH_INFLATE, HOLD);
	fh_target(host, pages);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_count(host, FH_OFFERED) == pages));
	return host;
}

/* Longer than a step of the driver waits for the host, and it tries again. */
static void wait_for_nothing(void)
{
	msleep(3500);
}

/* As far as this kernel can be asked for it */
static void compact(void)
{
	guest_write("/proc/sys/vm/compact_memory", "1");
}

/* Of the pages that the device sees as @owner's, those that mm has back */
static unsigned int nr_free(struct fh *host, enum fh_owner owner)
{
	unsigned int nr = 0;
	u32 pfn;

	for (pfn = 0; pfn < host->nr_pfns; pfn++)
		nr += fh_owner_of(host, pfn) == owner &&
		      !page_count(pfn_to_page(pfn / FH_PPP));
	return nr;
}

static u64 seen(struct fh *host, enum fh_queue_nr q)
{
	return READ_ONCE(host->queues[q].nr_seen);
}

static u64 pages_seen(struct fh *host, enum fh_queue_nr q)
{
	return READ_ONCE(host->queues[q].nr_pages);
}

/*
 * Features and configuration
 */

static void b01_must_tell_host_is_accepted(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(MUST_TELL_HOST));

	KUNIT_EXPECT_TRUE(test, host->accepted & FH_BIT(MUST_TELL_HOST));
}

static void b01_also_from_a_legacy_device(struct kunit *test)
{
	struct fh *host = plug_legacy(test, FH_BIT(MUST_TELL_HOST));

	KUNIT_EXPECT_TRUE(test, host->accepted & FH_BIT(MUST_TELL_HOST));
}

/* Here and in B3 the state of the kernel decides which half is tested. */
static void b02_page_poison_is_accepted_if_pages_are_filled(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(PAGE_POISON));

	KUNIT_EXPECT_EQ(test, !!(host->accepted & FH_BIT(PAGE_POISON)),
			guest_fills());
	KUNIT_EXPECT_EQ(test, host->nr_writes[CONFIG_POISON],
			guest_fills() ? 1ULL : 0ULL);
	if (guest_fills())
		KUNIT_EXPECT_EQ(test, fh_poison(host),
				page_poisoning_enabled_static() ?
				0xaaaaaaaaU : 0U);
}

static void b03_no_reporting_without_the_poison_that_counts(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(REPORTING));

	KUNIT_EXPECT_EQ(test, !!(host->accepted & FH_BIT(REPORTING)),
			!guest_fills());
}

static void b03_reporting_is_accepted_with_page_poison(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(REPORTING) | FH_BIT(PAGE_POISON));

	KUNIT_EXPECT_TRUE(test, host->accepted & FH_BIT(REPORTING));
	KUNIT_EXPECT_EQ(test, !!(host->accepted & FH_BIT(PAGE_POISON)),
			guest_fills());
}

/* A device of 8 bytes: any access to what follows is a complaint. */
static void b04_fields_without_their_feature_are_not_touched(struct kunit *test)
{
	struct fh *host = test->priv;

	host->config_len = 8;
	plug_inflated(test, FH_BIT(MUST_TELL_HOST) | FH_BIT(STATS_VQ) |
		      FH_BIT(DEFLATE_ON_OOM) | FH_BIT(REPORTING), LITTLE);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_READ, -1,
					      CONFIG_HINT), 0UL);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_READ, -1,
					      CONFIG_POISON), 0UL);
	KUNIT_EXPECT_EQ(test, host->nr_writes[CONFIG_HINT], 0ULL);
	KUNIT_EXPECT_EQ(test, host->nr_writes[CONFIG_POISON], 0ULL);
	KUNIT_EXPECT_EQ(test, host->complaints, 0UL);
}

static void b04_the_command_id_is_only_read(struct kunit *test)
{
	struct fh *host = test->priv;

	host->config_len = 12;
	plug(test, FH_BIT(FREE_PAGE_HINT));
	fh_hint(host, 0x80000001);
	KUNIT_EXPECT_TRUE(test, fh_until(seen(host, FH_HINT) > 1));
	fh_hint(host, VIRTIO_BALLOON_CMD_ID_DONE);
	KUNIT_EXPECT_TRUE(test, fh_until(!inside(vdev_of(host)).hinted));
	KUNIT_EXPECT_GT(test, fh_count_events(host, FH_EV_READ, -1,
					      CONFIG_HINT), 0UL);
	KUNIT_EXPECT_EQ(test, host->nr_writes[CONFIG_HINT], 0ULL);
	KUNIT_EXPECT_EQ(test, fh_field(host, CONFIG_HINT),
			(u32)VIRTIO_BALLOON_CMD_ID_DONE);
}

static void b05_fields_of_a_legacy_device_are_little_endian(struct kunit *test)
{
	static const u8 actual[] = { 0x30, 0x12, 0, 0 };
	struct fh *host = plug_legacy(test, 0);

	fh_target(host, 0x1230);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0x1230));
	KUNIT_EXPECT_EQ(test, memcmp(host->config + CONFIG_ACTUAL, actual, 4),
			0);
}

/*
 * B6: the order of initialisation
 */

static long event_of(struct fh *host, enum fh_event_type type, int q, int a)
{
	return fh_find_event(host, 0, type, q, a);
}

static void b06_queues_come_before_driver_ok(struct kunit *test)
{
	struct fh *host = plug(test, FH_ALL_FEATURES);
	long start = event_of(host, FH_EV_STATUS, -1, STARTED);
	unsigned int q;

	KUNIT_ASSERT_GE(test, start, 0L);
	for (q = 0; q < FH_QUEUES; q++) {
		KUNIT_EXPECT_GE(test, event_of(host, FH_EV_FIND, q, -1), 0L);
		KUNIT_EXPECT_LT(test, event_of(host, FH_EV_FIND, q, -1), start);
	}
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_FIND, -1, -1),
			(unsigned long)FH_QUEUES);
}

/* What the device finds in the statsq before anybody notified it */
static unsigned int b06_found;

static void b06_look(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type == FH_EV_STATUS && arg & VIRTIO_CONFIG_S_DRIVER_OK)
		b06_found = fh_fetched(host, FH_STATS);
}

static void b06_statistics_are_there_before_driver_ok(struct kunit *test)
{
	struct fh *host = test->priv;

	host->hook = b06_look;
	b06_found = 0;
	plug(test, FH_BIT(STATS_VQ));
	KUNIT_EXPECT_EQ(test, b06_found, 1U);
	KUNIT_EXPECT_EQ(test, seen(host, FH_STATS), 1ULL);
}

static void b06_poison_is_written_before_driver_ok(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(PAGE_POISON));
	long write = event_of(host, FH_EV_WRITE, -1, CONFIG_POISON);

	if (!guest_fills())
		kunit_skip(test, "this guest has no poison value");
	KUNIT_EXPECT_GE(test, write, 0L);
	KUNIT_EXPECT_LT(test, write, event_of(host, FH_EV_STATUS, -1, STARTED));
	KUNIT_EXPECT_LT(test, event_of(host, FH_EV_FIND, 0, -1), write);
}

/* The statsq is the first that hears of it; reports follow in their time. */
static void b06_notifications_come_after_driver_ok(struct kunit *test)
{
	struct fh *host = plug(test, FH_ALL_FEATURES);
	long start = event_of(host, FH_EV_STATUS, -1, STARTED);

	KUNIT_ASSERT_TRUE(test, fh_until(seen(host, FH_REPORT)));
	KUNIT_ASSERT_GE(test, start, 0L);
	KUNIT_EXPECT_GT(test, event_of(host, FH_EV_NOTIFY, -1, -1), start);
	KUNIT_EXPECT_EQ(test, event_of(host, FH_EV_NOTIFY, -1, -1),
			event_of(host, FH_EV_NOTIFY, FH_STATS, -1));
	KUNIT_EXPECT_EQ(test, host->queues[FH_STATS].nr_notified, 1ULL);
	KUNIT_EXPECT_GT(test, event_of(host, FH_EV_NOTIFY, FH_REPORT, -1),
			start);
}

/*
 * B7, B8: sizes
 */

/* Guest pages: around a buffer, a group of them and a block */
static const u32 sizes[] = {
	1, 2, 3, 255, 256, 257, 511, 513, 1023, 4095, 4096, 4097, 6007
};

static void b07_it_inflates_to_each_size_exactly(struct kunit *test)
{
	struct fh *host = plug(test, 0);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fh_target(host, sizes[i] * FH_PPP);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, sizes[i] * FH_PPP));
		KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE),
				(u64)sizes[i] * FH_PPP);
	}
	KUNIT_EXPECT_EQ(test, seen(host, FH_DEFLATE), 0ULL);
}

static void b08_it_deflates_to_each_size_exactly(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, 6400 * FH_PPP);
	int i;

	for (i = ARRAY_SIZE(sizes) - 1; i >= 0; i--) {
		fh_target(host, sizes[i] * FH_PPP);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, sizes[i] * FH_PPP));
		KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE),
				(6400ULL - sizes[i]) * FH_PPP);
	}
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE), 6400ULL * FH_PPP);
}

/*
 * B10, B11: the guest in need
 */

static void b10_without_deflate_on_oom_nothing_comes_back(struct kunit *test)
{
	struct fh *host = plug_inflated(test, FH_BIT(MUST_TELL_HOST), LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 0UL);
	KUNIT_EXPECT_EQ(test, inside_shrink_count(vdev), 0UL);
	KUNIT_EXPECT_EQ(test, inside_shrink(vdev, 1000), SHRINK_STOP);
	guest_use_memory(32);
	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 0UL);
	msleep(500);
	KUNIT_EXPECT_EQ(test, seen(host, FH_DEFLATE), 0ULL);
	KUNIT_EXPECT_EQ(test, inside(vdev).oom_count, 0UL);
	KUNIT_EXPECT_TRUE(test, inside_is(vdev, "idle"));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
}

/* 1 MiB the first time, then 4; and it does not take them back at once. */
static void b11_with_deflate_on_oom_pages_come_back(struct kunit *test)
{
	struct fh *host = plug_inflated(test, FH_BIT(DEFLATE_ON_OOM), LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	KUNIT_EXPECT_EQ(test, inside_oom(vdev), FH_MIB / (unsigned long)FH_PPP);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 7 * FH_MIB));
	KUNIT_EXPECT_EQ(test, inside_oom(vdev),
			4 * FH_MIB / (unsigned long)FH_PPP);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 3 * FH_MIB));
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev, "hold-off")));
	msleep(1000);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 3 * FH_MIB));
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), 5ULL * FH_MIB);
}

/* It goes to nothing, and no further. */
static void b11_an_oom_takes_what_there_is(struct kunit *test)
{
	struct fh *host = plug_inflated(test, FH_BIT(DEFLATE_ON_OOM),
					3 * FH_PPP);
	struct virtio_device *vdev = vdev_of(host);

	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 3UL);
	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 0UL);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), 3ULL * FH_PPP);
}

/*
 * B12: every page is announced
 */

static void check_oom(struct kunit *test, u64 features)
{
	struct fh *host = plug_inflated(test, FH_BIT(DEFLATE_ON_OOM) | features,
					LITTLE);
	struct virtio_device *vdev = vdev_of(host);
	unsigned long freed = inside_oom(vdev);

	KUNIT_EXPECT_EQ(test, freed * FH_PPP, (unsigned long)FH_MIB);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), (u64)FH_MIB);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED),
			(unsigned long)inside(vdev).held * FH_PPP);
	KUNIT_EXPECT_EQ(test, nr_free(host, FH_OWNED), 0U);
}

static void b12_oom_announces_every_page(struct kunit *test)
{
	check_oom(test, 0);
}

static void b12_oom_announces_every_page_with_must_tell_host(struct kunit *test)
{
	check_oom(test, FH_BIT(MUST_TELL_HOST));
}

/* Held pages are mm's to move when they are on its list. */
static struct page *isolate(struct kunit *test, struct fh *host)
{
	struct virtio_device *vdev = vdev_of(host);
	struct page *page;

	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev).runs));
	page = inside_isolate(vdev);
	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_EXPECT_EQ(test, fh_owner_of(host, page_to_pfn(page) * FH_PPP),
			FH_OWNED);
	return page;
}

static void check_migration(struct kunit *test, u64 features)
{
	struct fh *host = plug_inflated(test, features, LITTLE);
	struct page *page = isolate(test, host);
	u32 i, pfn = page_to_pfn(page) * FH_PPP;

	KUNIT_EXPECT_EQ(test, inside_migrate(vdev_of(host), page), 0);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), (u64)FH_PPP);
	for (i = 0; i < FH_PPP; i++)
		KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn + i), FH_GUEST);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE),
			(u64)LITTLE + FH_PPP);
}

static void b12_migration_announces_its_page(struct kunit *test)
{
	check_migration(test, 0);
}

static void b12_migration_announces_it_with_must_tell_host(struct kunit *test)
{
	check_migration(test, FH_BIT(MUST_TELL_HOST));
}

/* The last reset: what the device had then, it had been told nothing of. */
static const struct fh_event *last_reset(struct fh *host)
{
	const struct fh_event *ev = NULL;
	long n = -1;

	while ((n = fh_find_event(host, n + 1, FH_EV_RESET, -1, -1)) >= 0)
		ev = fh_event_at(host, n);
	return ev;
}

static void expect_all_announced(struct kunit *test, struct fh *host)
{
	KUNIT_EXPECT_EQ(test, last_reset(host)->a, 0U);
	KUNIT_EXPECT_EQ(test, last_reset(host)->b, 0ULL);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE),
			pages_seen(host, FH_INFLATE));
}

static void check_removal(struct kunit *test, u64 features)
{
	struct fh *host = plug_inflated(test, features, LITTLE + FH_PPP);

	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE),
			(u64)LITTLE + FH_PPP);
	expect_all_announced(test, host);
}

static void b12_removal_announces_every_page(struct kunit *test)
{
	check_removal(test, 0);
}

static void b12_removal_announces_all_with_must_tell_host(struct kunit *test)
{
	check_removal(test, FH_BIT(MUST_TELL_HOST));
}

/* Those that mm has for migration too */
static void b12_removal_announces_pages_on_the_lists_of_mm(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);

	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev_of(host)).runs));
	fh_unplug(host);
	expect_all_announced(test, host);
}

struct putback {
	struct delayed_work work;
	struct virtio_device *vdev;
	struct page *page;
};

static void putback_work(struct work_struct *work)
{
	struct putback *putback = container_of(to_delayed_work(work),
					       struct putback, work);

	inside_putback(putback->vdev, putback->page);
}

/* Removal waits until mm's hands are off a page. */
static void b12_removal_announces_isolated_pages(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);
	struct putback putback = {
		.vdev = vdev_of(host),
		.page = isolate(test, host)
	};

	INIT_DELAYED_WORK_ONSTACK(&putback.work, putback_work);
	schedule_delayed_work(&putback.work, HZ);
	fh_unplug(host);
	flush_delayed_work(&putback.work);
	destroy_delayed_work_on_stack(&putback.work);
	expect_all_announced(test, host);
}

static unsigned long unplug_call(void *host)
{
	fh_unplug(host);
	return 0;
}

/* A host that takes six seconds, but answers: it hears of every page. */
static void b12_removal_waits_for_a_slow_host(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);
	struct guest_call call;
	unsigned int i;

	fh_policy(host, FH_INFLATE, HOLD);
	fh_target(host, LITTLE + 64 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 64));
	KUNIT_ASSERT_EQ(test, guest_call(&call, unplug_call, host), 0);
	for (i = 0; i < 63; i++) {
		msleep(95);
		KUNIT_EXPECT_EQ(test, fh_release(host, FH_INFLATE, 1), 1U);
	}
	fh_policy(host, FH_INFLATE, USE);
	guest_return(&call);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE),
			LITTLE + 64ULL * FH_MIB);
}

static void b12_freeze_announces_every_page(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);
	struct virtio_device *vdev = vdev_of(host);

#ifdef CONFIG_PM_SLEEP
	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev), 0);
	expect_all_announced(test, host);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE), (u64)LITTLE);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
#else
	kunit_skip(test, "this kernel cannot freeze %s", dev_name(&vdev->dev));
#endif
}

static void b12_hibernation_announces_every_page(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	inside_pm(vdev, PM_HIBERNATION_PREPARE);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), 0UL);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), (u64)LITTLE);
	inside_pm(vdev, PM_POST_HIBERNATION);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
}

/*
 * The queues have no order: a page whose return the host has not used, it may
 * be offered before it hears of that return. So nothing is.
 */
static void b12_nothing_is_offered_before_returns_were_used(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);

	fh_policy(host, FH_DEFLATE, HOLD);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_count(host, FH_RETURNING) ==
					 LITTLE));
	KUNIT_EXPECT_TRUE(test, fh_until(!inside(vdev_of(host)).held));
	fh_target(host, LITTLE);
	wait_for_nothing();
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE), (u64)LITTLE);
	KUNIT_EXPECT_EQ(test, fh_release(host, FH_DEFLATE, 7), 7U);
	wait_for_nothing();
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE), (u64)LITTLE);
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
	fh_policy(host, FH_DEFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE), 2ULL * LITTLE);
}

/* The same for a page that migration left free */
static void b12_no_spare_is_offered_before_it_either(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);
	struct page *page = isolate(test, host);

	fh_policy(host, FH_DEFLATE, HOLD);
	KUNIT_EXPECT_EQ(test, inside_migrate(vdev_of(host), page), 0);
	msleep(1000);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_RETURNING),
			(unsigned long)FH_PPP);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE), (u64)LITTLE);
	fh_policy(host, FH_DEFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
}

/*
 * B13, B14: when a returned page is free
 */

static void expect_kept(struct kunit *test, struct fh *host, unsigned long nr)
{
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_RETURNING), nr);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).returning * FH_PPP,
			(long)nr);
	KUNIT_EXPECT_EQ(test, nr_free(host, FH_RETURNING), 0U);
	fh_check(host);
}

static void b13_pages_stay_until_the_host_used_their_return(struct kunit *test)
{
	struct fh *host = plug_inflated(test, FH_BIT(MUST_TELL_HOST), LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	fh_policy(host, FH_DEFLATE, HOLD);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_count(host, FH_RETURNING) ==
					 LITTLE));
	guest_use_memory(32);
	wait_for_nothing();
	expect_kept(test, host, LITTLE);
	KUNIT_EXPECT_EQ(test, inside(vdev).returned, 0L);

	KUNIT_EXPECT_EQ(test, fh_release(host, FH_DEFLATE, 3), 3U);
	KUNIT_EXPECT_TRUE(test, fh_until(inside(vdev).returned));
	guest_use_memory(32);
	expect_kept(test, host, LITTLE - 3 * BUFFER);
	KUNIT_EXPECT_EQ(test, inside(vdev).returned * FH_PPP, 3L * BUFFER);
	fh_policy(host, FH_DEFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

static void b13_oom_frees_nothing_before_the_host_answers(struct kunit *test)
{
	struct fh *host = plug_inflated(test, FH_BIT(MUST_TELL_HOST) |
					FH_BIT(DEFLATE_ON_OOM), LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	fh_policy(host, FH_DEFLATE, HOLD);
	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 0UL);
	guest_use_memory(16);
	expect_kept(test, host, FH_MIB);
	KUNIT_EXPECT_EQ(test, inside(vdev).returned, 0L);
	fh_policy(host, FH_DEFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_until(inside(vdev).returned * FH_PPP ==
					 FH_MIB));
}

/* One reference is ours, the other that of the buffer. */
static void b13_a_migrated_page_stays_until_then(struct kunit *test)
{
	struct fh *host = plug_inflated(test, FH_BIT(MUST_TELL_HOST), LITTLE);
	struct page *page = isolate(test, host);

	fh_policy(host, FH_DEFLATE, HOLD);
	get_page(page);
	KUNIT_EXPECT_EQ(test, inside_migrate(vdev_of(host), page), 0);
	msleep(500);
	KUNIT_EXPECT_EQ(test, page_count(page), 2);
	expect_kept(test, host, FH_PPP);
	fh_policy(host, FH_DEFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_until(page_count(page) == 1));
	put_page(page);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
}

static void b13_at_reset(struct fh *host, enum fh_event_type type, u32 arg)
{
	struct kunit *test = host->test;

	if (type != FH_EV_RESET || !fh_count(host, FH_RETURNING))
		return;
	guest_use_memory(16);
	expect_kept(test, host, LITTLE);
	host->hook = NULL;
}

/* A host that does not answer has them until the device is reset. */
static void b13_removal_keeps_pages_until_the_reset(struct kunit *test)
{
	struct fh *host = plug_inflated(test, FH_BIT(MUST_TELL_HOST), LITTLE);

	fh_policy(host, FH_DEFLATE, HOLD);
	host->hook = b13_at_reset;
	fh_unplug(host);
	KUNIT_EXPECT_TRUE(test, !host->hook);
	KUNIT_EXPECT_EQ(test, last_reset(host)->a, 0U);
}

static void b14_without_must_tell_host_they_are_free_at_once(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);

	fh_policy(host, FH_DEFLATE, HOLD);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(inside(vdev_of(host)).returned *
					 FH_PPP == LITTLE));
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_RETURNING) ==
					 LITTLE));
	fh_policy(host, FH_DEFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/*
 * B15, B16: pages that the host has not yet used
 */

/* There are more of them if mm migrated pages: to others, offered as well. */
static void check_untouched(struct kunit *test, struct fh *host,
			    unsigned long offered)
{
	KUNIT_EXPECT_GE(test, fh_count(host, FH_OFFERED), offered);
	KUNIT_EXPECT_EQ(test, nr_free(host, FH_OFFERED), 0U);
	KUNIT_EXPECT_EQ(test, look(host).offered * FH_PPP,
			(long)fh_count(host, FH_OFFERED));
	fh_check(host);
}

static void b15_an_offered_page_is_left_alone_in_need(struct kunit *test)
{
	struct fh *host = plug_offered(test, FH_BIT(DEFLATE_ON_OOM),
				       2 * LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 0UL);
	KUNIT_EXPECT_EQ(test, inside_shrink(vdev, 1000), SHRINK_STOP);
	inside_memory(vdev, MEM_GOING_OFFLINE);
	inside_memory(vdev, MEM_CANCEL_OFFLINE);
	guest_use_memory(64);
	compact();
	wait_for_nothing();
	KUNIT_EXPECT_PTR_EQ(test, inside_isolate(vdev), NULL);
	check_untouched(test, host, 2 * LITTLE);
	fh_policy(host, FH_INFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 2 * LITTLE));
}

/* Among held pages, of which mm may have any: none of those offered */
static void b15_mm_gets_held_pages_only(struct kunit *test)
{
	struct fh *host = plug_offered(test, 0, 2 * LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	KUNIT_EXPECT_EQ(test, fh_release(host, FH_INFLATE, 5), 5U);
	KUNIT_ASSERT_TRUE(test, fh_until(inside(vdev).held * FH_PPP ==
					 5L * BUFFER));
	inside_putback(vdev, isolate(test, host));
	compact();
	guest_use_memory(64);
	check_untouched(test, host, 2 * LITTLE - 5 * BUFFER);
	fh_policy(host, FH_INFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 2 * LITTLE));
}

/* MemTotal and `actual` follow what the host confirmed. */
static void b15_an_offered_page_is_not_counted(struct kunit *test)
{
	unsigned long total = totalram_pages();
	struct fh *host = plug_offered(test, 0, LITTLE);

	wait_for_nothing();
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
	KUNIT_EXPECT_EQ(test, fh_release(host, FH_INFLATE, 3), 3U);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_actual(host) == 3 * BUFFER));
	KUNIT_EXPECT_EQ(test, totalram_pages(), total - 3 * BUFFER / FH_PPP);
	fh_policy(host, FH_INFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	KUNIT_EXPECT_EQ(test, totalram_pages(), total - LITTLE / FH_PPP);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
}

/* All is taken back: first what was confirmed, the rest when it is. */
static void b16_a_page_offered_is_not_deflated(struct kunit *test)
{
	struct fh *host = plug_offered(test, 0, LITTLE);

	fh_target(host, 0);
	wait_for_nothing();
	KUNIT_EXPECT_EQ(test, seen(host, FH_DEFLATE), 0ULL);
	KUNIT_EXPECT_EQ(test, fh_release(host, FH_INFLATE, 5), 5U);
	KUNIT_EXPECT_TRUE(test, fh_until(pages_seen(host, FH_DEFLATE)));
	wait_for_nothing();
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), 5ULL * BUFFER);
	check_untouched(test, host, LITTLE - 5 * BUFFER);
	fh_policy(host, FH_INFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), (u64)LITTLE);
}

/* The newest are the first to go, unless the host uses them last. */
static void b16_the_newest_pages_are_not_deflated_either(struct kunit *test)
{
	struct fh *host = plug_inflated(test, 0, LITTLE);

	fh_policy(host, FH_INFLATE, HOLD);
	fh_target(host, 2 * LITTLE);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_count(host, FH_OFFERED) == LITTLE));
	fh_target(host, LITTLE / 2);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OWNED) < LITTLE));
	wait_for_nothing();
	check_untouched(test, host, LITTLE);
	fh_policy(host, FH_INFLATE, USE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE / 2));
}

static void b16_an_oom_deflates_no_offered_page(struct kunit *test)
{
	struct fh *host = plug_offered(test, FH_BIT(DEFLATE_ON_OOM), LITTLE);
	struct virtio_device *vdev = vdev_of(host);

	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 0UL);
	KUNIT_EXPECT_EQ(test, seen(host, FH_DEFLATE), 0ULL);
	KUNIT_EXPECT_EQ(test, fh_release(host, FH_INFLATE, 1), 1U);
	KUNIT_EXPECT_TRUE(test, fh_until(inside(vdev).held));
	KUNIT_EXPECT_EQ(test, inside_oom(vdev) * FH_PPP, (unsigned long)BUFFER);
	KUNIT_EXPECT_EQ(test, inside_oom(vdev), 0UL);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE), (u64)BUFFER);
	check_untouched(test, host, LITTLE - BUFFER);
	fh_policy(host, FH_INFLATE, USE);
}

/* What the host never used, the reset takes back. */
static void b16_removal_deflates_no_offered_page(struct kunit *test)
{
	struct fh *host = plug_offered(test, 0, LITTLE);

	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, seen(host, FH_DEFLATE), 0ULL);
	KUNIT_EXPECT_EQ(test, last_reset(host)->a, 0U);
	KUNIT_EXPECT_EQ(test, last_reset(host)->b, (u64)LITTLE);
}

/*
 * B17, B18, B20: writing `actual`
 */

static u64 writes(struct fh *host)
{
	return READ_ONCE(host->nr_writes[CONFIG_ACTUAL]);
}

/* A driver that has said what it found, and says no more by itself */
static struct fh *plug_quiet(struct kunit *test, u64 features)
{
	struct fh *host = plug(test, features);

	KUNIT_ASSERT_TRUE(test, fh_until(writes(host)));
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "idle")));
	msleep(500);
	KUNIT_EXPECT_EQ(test, writes(host), 1ULL);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
	return host;
}

/*
 * @nr writes since there were @before at @start, the last one @pages, and then
 * no more. Where work takes time there may be one in between each 100 ms.
 */
static void expect_writes(struct kunit *test, u64 before, unsigned long start,
			  u64 nr, u32 pages)
{
	struct fh *host = test->priv;
	unsigned long more = time_travels() ? 0 :
			     1 + (jiffies - start) / (HZ / 10);

	KUNIT_EXPECT_EQ(test, fh_actual(host), pages);
	msleep(1000);
	KUNIT_EXPECT_GE(test, writes(host) - before, nr);
	KUNIT_EXPECT_LE(test, writes(host) - before, nr + more);
	KUNIT_EXPECT_EQ(test, fh_actual(host), pages);
}

static void check_writes(struct kunit *test, u32 pages, u64 nr)
{
	struct fh *host = test->priv;
	unsigned long start = jiffies;
	u64 before = writes(host);

	fh_target(host, pages);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, pages));
	expect_writes(test, before, start, nr, pages);
}

static void b17_actual_follows_each_change(struct kunit *test)
{
	plug_quiet(test, 0);
	check_writes(test, FH_PPP, 1);
	check_writes(test, LITTLE, 1);
	check_writes(test, LITTLE, 0);
	check_writes(test, LITTLE / 2, 1);
	check_writes(test, 0, 1);
	check_writes(test, 0, 0);
}

static void b17_actual_follows_an_oom(struct kunit *test)
{
	struct fh *host = plug_quiet(test, FH_BIT(DEFLATE_ON_OOM));
	unsigned long start;
	u64 before;

	check_writes(test, LITTLE, 1);
	start = jiffies;
	before = writes(host);
	inside_oom(vdev_of(host));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE - FH_MIB));
	expect_writes(test, before, start, 1, LITTLE - FH_MIB);
}

/* Once for the page that is gone, once for that which took its place */
static void b17_actual_follows_a_migration(struct kunit *test)
{
	struct fh *host = plug_quiet(test, 0);
	unsigned long start;
	struct page *page;
	u64 before;

	check_writes(test, LITTLE, 1);
	page = isolate(test, host);
	start = jiffies;
	before = writes(host);
	KUNIT_EXPECT_EQ(test, inside_migrate(vdev_of(host), page), 0);
	KUNIT_EXPECT_TRUE(test, fh_until(pages_seen(host, FH_INFLATE) >
					 LITTLE));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	expect_writes(test, before, start, 2, LITTLE);
}

/* What an earlier driver left behind is corrected even if nothing changes. */
static void b17_a_stale_actual_is_corrected(struct kunit *test)
{
	struct fh *host = test->priv;

	fh_set_field(host, CONFIG_ACTUAL, 12345);
	plug_quiet(test, 0);
}

static void b17_actual_is_0_before_the_device_is_let_go(struct kunit *test)
{
	struct fh *host = plug_quiet(test, 0);
	u64 before;
	long reset;

	check_writes(test, LITTLE, 1);
	before = writes(host);
	reset = host->nr_events;
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
	KUNIT_EXPECT_EQ(test, writes(host) - before, 1ULL);
	reset = fh_find_event(host, reset, FH_EV_RESET, -1, -1);
	KUNIT_EXPECT_EQ(test, fh_find_event(host, reset, FH_EV_WRITE, -1, -1),
			-1L);
}

/* The device comes back with nothing in it, and is told. */
static void b17_actual_is_told_anew_after_a_freeze(struct kunit *test)
{
	struct fh *host = plug_quiet(test, 0);
	struct virtio_device *vdev = vdev_of(host);

	check_writes(test, LITTLE, 1);
#ifdef CONFIG_PM_SLEEP
	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev), 0);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
	fh_set_field(host, CONFIG_ACTUAL, 12345);
	fh_target(host, 0);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
#else
	kunit_skip(test, "this kernel cannot freeze %s", dev_name(&vdev->dev));
#endif
}

/* 64 buffers one after the other, for 640 ms: about one write each 100 ms */
static void b18_a_slow_inflation_has_few_writes(struct kunit *test)
{
	struct fh *host = plug_quiet(test, 0);
	unsigned long start, ticks;
	unsigned int i;
	u64 nr;

	fh_policy(host, FH_INFLATE, HOLD);
	fh_target(host, 64 * BUFFER);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_count(host, FH_OFFERED) ==
					 64 * BUFFER));
	start = jiffies;
	for (i = 0; i < 64; i++) {
		KUNIT_EXPECT_EQ(test, fh_release(host, FH_INFLATE, 1), 1U);
		fh_doze();
	}
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * BUFFER));
	ticks = jiffies - start;
	nr = writes(host) - 1;
	KUNIT_EXPECT_GE(test, nr, time_travels() ? 6ULL : 2ULL);
	KUNIT_EXPECT_LE(test, nr, 2ULL + ticks / (HZ / 10));
}

static void b18_a_fast_inflation_has_one_write(struct kunit *test)
{
	plug_quiet(test, 0);
	check_writes(test, 64 * FH_MIB, 1);
	check_writes(test, FH_MIB, 1);
}

static void b20_actual_is_written_in_one_access(struct kunit *test)
{
	struct fh *host = plug_legacy(test, 0);
	unsigned int i;

	fh_target(host, LITTLE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	fh_target(host, FH_PPP);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, FH_PPP));
	KUNIT_EXPECT_GE(test, writes(host), 2ULL);
	for (i = 0; i < FH_CONFIG; i++)
		if (i != CONFIG_ACTUAL)
			KUNIT_EXPECT_EQ(test, host->nr_writes[i], 0ULL);
	KUNIT_EXPECT_EQ(test, host->complaints, 0UL);
}

/*
 * B19: what the device says of the length
 */

static const u32 lengths[] = { U32_MAX, 0x80000000, 1024, 10, 1, 0 };

static void check_lengths(struct kunit *test, struct fh *host)
{
	struct fh_policy wild = { };
	unsigned int i, pages;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		wild.used_len = lengths[i];
		fh_policy(host, FH_INFLATE, wild);
		fh_policy(host, FH_DEFLATE, wild);
		pages = (i % 2 ? 100 : 2100) * FH_PPP;
		fh_target(host, pages);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, pages));
		fh_check(host);
	}
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_INFLATE),
			(3ULL * 2100 - 2 * 100) * FH_PPP);
	KUNIT_EXPECT_EQ(test, pages_seen(host, FH_DEFLATE),
			3ULL * 2000 * FH_PPP);
}

static void b19_the_used_length_of_legacy_devices_is_ignored(struct kunit *test)
{
	check_lengths(test, plug_legacy(test, FH_BIT(MUST_TELL_HOST)));
}

static void b19_the_used_length_is_always_ignored(struct kunit *test)
{
	check_lengths(test, plug(test, 0));
}

/*
 * B21 to B29: statistics
 */

/* The entries of the buffer that the device has, or NULL */
static const struct virtio_balloon_stat *entries(struct fh *host,
						 unsigned int *nr)
{
	const struct fh_elem *elem = &host->queues[FH_STATS].elems[0];

	*nr = 0;
	if (fh_fetched(host, FH_STATS) != 1)
		return NULL;
	*nr = elem->bytes / sizeof(struct virtio_balloon_stat);
	return elem->data;
}

static u64 stat_of(struct kunit *test, struct fh *host, unsigned int tag)
{
	const struct virtio_balloon_stat *stats;
	unsigned int nr;

	stats = entries(host, &nr);
	KUNIT_ASSERT_NOT_NULL(test, stats);
	KUNIT_ASSERT_GT(test, nr, tag);
	KUNIT_EXPECT_EQ(test, virtio16_to_cpu(vdev_of(host), stats[tag].tag),
			(u16)tag);
	return virtio64_to_cpu(vdev_of(host), stats[tag].val);
}

/* The device uses the buffer, and gets the next one. */
static void ask(struct kunit *test, struct fh *host)
{
	u64 before = seen(host, FH_STATS);

	KUNIT_ASSERT_EQ(test, fh_release(host, FH_STATS, 1), 1U);
	KUNIT_ASSERT_TRUE(test, fh_until(seen(host, FH_STATS) == before + 1));
}

/* Interrupts for nothing, and a callback that nothing was checked for */
static void storm(struct fh *host, unsigned int nr)
{
	while (nr--) {
		fh_irq(host, FH_STATS);
		fh_callback(host, FH_STATS);
		if (nr % 100 == 0)
			fh_doze();
	}
}

static void b21_there_is_never_more_than_one_buffer(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(STATS_VQ));
	struct fh_queue *hq = &host->queues[FH_STATS];
	unsigned int i;

	storm(host, 1000);
	KUNIT_EXPECT_EQ(test, hq->nr_seen, 1ULL);
	for (i = 0; i < 20; i++) {
		KUNIT_EXPECT_EQ(test, fh_release(host, FH_STATS, 1), 1U);
		storm(host, 150);
		KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_STATS)));
		KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_STATS), 1U);
	}
	KUNIT_EXPECT_EQ(test, hq->most, 1U);
	KUNIT_EXPECT_EQ(test, hq->nr_used, 20ULL);
	KUNIT_EXPECT_EQ(test, hq->nr_seen, 21ULL);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).nr_stats, 20UL);
}

/* A device that asks again at once: still one answer to each, and not more. */
static void b21_nor_if_the_device_asks_all_the_time(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(STATS_VQ));
	struct fh_queue *hq = &host->queues[FH_STATS];

	host->thread = FH_WORK;
	fh_policy(host, FH_STATS, USE);
	storm(host, 3000);
	KUNIT_EXPECT_TRUE(test, fh_until(hq->nr_used > 20));
	fh_policy(host, FH_STATS, HOLD);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_STATS) == 1));
	KUNIT_EXPECT_EQ(test, hq->most, 1U);
	KUNIT_EXPECT_EQ(test, hq->nr_seen, hq->nr_used + 1);
}

static void b22_one_buffer_comes_by_itself(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(STATS_VQ));

	KUNIT_EXPECT_EQ(test, seen(host, FH_STATS), 1ULL);
	msleep(500);
	KUNIT_EXPECT_EQ(test, seen(host, FH_STATS), 1ULL);
	KUNIT_EXPECT_FALSE(test, host->queues[FH_STATS].elems[0].in);
}

static void b22_one_buffer_comes_after_each_start(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(STATS_VQ));

	fh_unplug(host);
	plug(test, 0);
	KUNIT_EXPECT_EQ(test, seen(host, FH_STATS), 2ULL);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_STATS), 1U);
#ifdef CONFIG_PM_SLEEP
	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
	KUNIT_EXPECT_EQ(test, seen(host, FH_STATS), 3ULL);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_STATS), 1U);
#endif
}

static void b23_every_request_is_answered_once(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(STATS_VQ));
	unsigned int i;

	for (i = 0; i < 100; i++)
		ask(test, host);
	msleep(100);
	KUNIT_EXPECT_EQ(test, seen(host, FH_STATS), 101ULL);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).nr_stats, 100UL);
}

/* A device that asks before the driver hears of it: the driver looks itself. */
static void b23_a_request_during_the_start_is_answered(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features |= FH_BIT(STATS_VQ);
	fh_policy(host, FH_STATS, (struct fh_policy){ .mute = true });
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_TRUE(test, fh_until(seen(host, FH_STATS) == 2));
	fh_policy(host, FH_STATS, HOLD);
}

/* None, where tests run before the first program does */
static u64 minor_faults(void)
{
	unsigned long events[NR_VM_EVENT_ITEMS] = {};

	all_vm_events(events);
	return events[PGFAULT] - events[PGMAJFAULT];
}

/* All of them, the first buffer included */
static void expect_complete(struct kunit *test, struct fh *host)
{
	const struct virtio_balloon_stat *stats;
	u64 now = minor_faults();
	unsigned int i, nr;

	stats = entries(host, &nr);
	KUNIT_ASSERT_NOT_NULL(test, stats);
	KUNIT_EXPECT_EQ(test, nr, guest_has("stats", "spec") ? 10U : 16U);
	for (i = 0; i < nr; i++)
		KUNIT_EXPECT_EQ(test, virtio16_to_cpu(vdev_of(host),
						      stats[i].tag), i);
	KUNIT_EXPECT_EQ(test, stat_of(test, host, VIRTIO_BALLOON_S_MEMTOT),
			(u64)totalram_pages() << PAGE_SHIFT);
	KUNIT_EXPECT_GT(test, stat_of(test, host, VIRTIO_BALLOON_S_MEMFREE),
			1ULL << 20);
	KUNIT_EXPECT_GT(test, stat_of(test, host, VIRTIO_BALLOON_S_AVAIL),
			1ULL << 20);
	KUNIT_EXPECT_EQ(test, stat_of(test, host, VIRTIO_BALLOON_S_MINFLT) > 0,
			now > 0);
	KUNIT_EXPECT_LE(test, stat_of(test, host, VIRTIO_BALLOON_S_MINFLT),
			now);
}

static void b24_the_first_buffer_is_complete(struct kunit *test)
{
	expect_complete(test, plug(test, FH_BIT(STATS_VQ)));
}

/* Whatever the device did to the last one */
static void b24_every_buffer_is_filled_anew(struct kunit *test)
{
	const struct fh_policy scribble = { .hold = true, .scribble = true };
	struct fh *host = plug(test, FH_BIT(STATS_VQ));
	unsigned int i;
	u64 total;

	for (i = 0; i < 5; i++) {
		fh_policy(host, FH_STATS, scribble);
		ask(test, host);
		fh_policy(host, FH_STATS, HOLD);
		ask(test, host);
		expect_complete(test, host);
	}
	total = stat_of(test, host, VIRTIO_BALLOON_S_MEMTOT);
	fh_target(host, LITTLE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, LITTLE));
	ask(test, host);
	KUNIT_EXPECT_EQ(test, stat_of(test, host, VIRTIO_BALLOON_S_MEMTOT),
			total - ((u64)LITTLE << 12));
}

static void b25_the_length_is_a_multiple_of_an_entry(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(STATS_VQ));
	struct fh_queue *hq = &host->queues[FH_STATS];
	unsigned int i;

	KUNIT_EXPECT_EQ(test, sizeof(struct virtio_balloon_stat), (size_t)10);
	for (i = 0; i < 20; i++) {
		storm(host, 10);
		KUNIT_EXPECT_GE(test, hq->elems[0].bytes, 100U);
		KUNIT_EXPECT_EQ(test, hq->elems[0].bytes % 10, 0U);
		ask(test, host);
	}
	KUNIT_EXPECT_EQ(test, host->complaints, 0UL);
}

static void b28_the_tags_stay_the_same(struct kunit *test)
{
	struct fh *host = plug(test, FH_BIT(STATS_VQ));
	const struct virtio_balloon_stat *stats;
	__virtio16 first[64], tag;
	unsigned int i, n, nr, now;

	stats = entries(host, &nr);
	KUNIT_ASSERT_NOT_NULL(test, stats);
	KUNIT_ASSERT_LE(test, nr, 64U);
	for (i = 0; i < nr; i++)
		first[i] = stats[i].tag;
	for (n = 0; n < 50; n++) {
		storm(host, 20);
		ask(test, host);
		stats = entries(host, &now);
		KUNIT_ASSERT_EQ(test, now, nr);
		for (i = 0; i < nr; i++) {
			tag = stats[i].tag;
			KUNIT_EXPECT_EQ(test, tag, first[i]);
		}
	}
}

/* As the processor has them, not as a modern device does */
static void b29_statistics_of_a_legacy_device_are_native(struct kunit *test)
{
	struct fh *host = plug_legacy(test, FH_BIT(STATS_VQ));
	const struct virtio_balloon_stat *stats;
	unsigned int i, nr;
	u64 total;
	u16 tag;

	stats = entries(host, &nr);
	KUNIT_ASSERT_NOT_NULL(test, stats);
	for (i = 0; i < nr; i++) {
		memcpy(&tag, &stats[i].tag, sizeof(tag));
		KUNIT_EXPECT_EQ(test, (unsigned int)tag, i);
	}
	memcpy(&total, &stats[VIRTIO_BALLOON_S_MEMTOT].val, sizeof(total));
	KUNIT_EXPECT_EQ(test, total, (u64)totalram_pages() << PAGE_SHIFT);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(b01_must_tell_host_is_accepted),
	KUNIT_CASE(b01_also_from_a_legacy_device),
	KUNIT_CASE(b02_page_poison_is_accepted_if_pages_are_filled),
	KUNIT_CASE(b03_no_reporting_without_the_poison_that_counts),
	KUNIT_CASE(b03_reporting_is_accepted_with_page_poison),
	KUNIT_CASE(b04_fields_without_their_feature_are_not_touched),
	KUNIT_CASE(b04_the_command_id_is_only_read),
	KUNIT_CASE(b05_fields_of_a_legacy_device_are_little_endian),
	KUNIT_CASE(b06_queues_come_before_driver_ok),
	KUNIT_CASE(b06_statistics_are_there_before_driver_ok),
	KUNIT_CASE(b06_poison_is_written_before_driver_ok),
	KUNIT_CASE(b06_notifications_come_after_driver_ok),
	KUNIT_CASE(b07_it_inflates_to_each_size_exactly),
	KUNIT_CASE(b08_it_deflates_to_each_size_exactly),
	KUNIT_CASE(b10_without_deflate_on_oom_nothing_comes_back),
	KUNIT_CASE(b11_with_deflate_on_oom_pages_come_back),
	KUNIT_CASE(b11_an_oom_takes_what_there_is),
	KUNIT_CASE(b12_oom_announces_every_page),
	KUNIT_CASE(b12_oom_announces_every_page_with_must_tell_host),
	KUNIT_CASE(b12_migration_announces_its_page),
	KUNIT_CASE(b12_migration_announces_it_with_must_tell_host),
	KUNIT_CASE(b12_removal_announces_every_page),
	KUNIT_CASE(b12_removal_announces_all_with_must_tell_host),
	KUNIT_CASE(b12_removal_announces_pages_on_the_lists_of_mm),
	KUNIT_CASE(b12_removal_announces_isolated_pages),
	KUNIT_CASE(b12_removal_waits_for_a_slow_host),
	KUNIT_CASE(b12_freeze_announces_every_page),
	KUNIT_CASE(b12_hibernation_announces_every_page),
	KUNIT_CASE(b12_nothing_is_offered_before_returns_were_used),
	KUNIT_CASE(b12_no_spare_is_offered_before_it_either),
	KUNIT_CASE(b13_pages_stay_until_the_host_used_their_return),
	KUNIT_CASE(b13_oom_frees_nothing_before_the_host_answers),
	KUNIT_CASE(b13_a_migrated_page_stays_until_then),
	KUNIT_CASE(b13_removal_keeps_pages_until_the_reset),
	KUNIT_CASE(b14_without_must_tell_host_they_are_free_at_once),
	KUNIT_CASE(b15_an_offered_page_is_left_alone_in_need),
	KUNIT_CASE(b15_mm_gets_held_pages_only),
	KUNIT_CASE(b15_an_offered_page_is_not_counted),
	KUNIT_CASE(b16_a_page_offered_is_not_deflated),
	KUNIT_CASE(b16_the_newest_pages_are_not_deflated_either),
	KUNIT_CASE(b16_an_oom_deflates_no_offered_page),
	KUNIT_CASE(b16_removal_deflates_no_offered_page),
	KUNIT_CASE(b17_actual_follows_each_change),
	KUNIT_CASE(b17_actual_follows_an_oom),
	KUNIT_CASE(b17_actual_follows_a_migration),
	KUNIT_CASE(b17_a_stale_actual_is_corrected),
	KUNIT_CASE(b17_actual_is_0_before_the_device_is_let_go),
	KUNIT_CASE(b17_actual_is_told_anew_after_a_freeze),
	KUNIT_CASE(b18_a_slow_inflation_has_few_writes),
	KUNIT_CASE(b18_a_fast_inflation_has_one_write),
	KUNIT_CASE(b19_the_used_length_of_legacy_devices_is_ignored),
	KUNIT_CASE(b19_the_used_length_is_always_ignored),
	KUNIT_CASE(b20_actual_is_written_in_one_access),
	KUNIT_CASE(b21_there_is_never_more_than_one_buffer),
	KUNIT_CASE(b21_nor_if_the_device_asks_all_the_time),
	KUNIT_CASE(b22_one_buffer_comes_by_itself),
	KUNIT_CASE(b22_one_buffer_comes_after_each_start),
	KUNIT_CASE(b23_every_request_is_answered_once),
	KUNIT_CASE(b23_a_request_during_the_start_is_answered),
	KUNIT_CASE(b24_the_first_buffer_is_complete),
	KUNIT_CASE(b24_every_buffer_is_filled_anew),
	KUNIT_CASE(b25_the_length_is_a_multiple_of_an_entry),
	KUNIT_CASE(b28_the_tags_stay_the_same),
	KUNIT_CASE(b29_statistics_of_a_legacy_device_are_native),
	{}
};

struct kunit_suite spec_queues_suite = {
	.name = "virtio_balloon_spec_queues",
	.init = fh_suite_init,
	.exit = fh_suite_exit,
	.test_cases = cases,
};
