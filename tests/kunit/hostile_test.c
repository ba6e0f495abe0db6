// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hosts that break the rules, D1 to D21: what the specification demands of
 * devices, and what becomes of the guest if they do otherwise. At the end of
 * each test the guest has all its pages, and the driver has let go.
 *
 * Not here: D11 (a device that stops for unknown statistics is one that never
 * returns their buffer: D10), D13 (a device that changes pages which are the
 * guest's again: nobody can tell) and D18 (a status that never becomes 0:
 * virtio's transports wait for ever).
 */

#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/suspend.h>

#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "pages.h"
#include "short.h"
#include "suites.h"

#define STOP		VIRTIO_BALLOON_CMD_ID_STOP
#define DONE		VIRTIO_BALLOON_CMD_ID_DONE
#define NUM_PAGES	offsetof(struct virtio_balloon_config, num_pages)
#define ACTUAL		offsetof(struct virtio_balloon_config, actual)
#define POISON_AT	offsetof(struct virtio_balloon_config, poison_val)
#define HINT_AT		offsetof(struct virtio_balloon_config, \
				 free_page_hint_cmd_id)
#define ID		0x80000005
#define SIZE		(32 * FH_MIB)
#define BURST		(128 * FH_MIB)	/* of hints before an answer, at least */
#define SOME		(64UL * FH_MIB)

static const struct fh_policy hold = { .hold = true };

/* Without MUST_TELL_HOST */
static u64 most_features(void)
{
	return all_features() & ~FH_BIT(MUST_TELL_HOST);
}

/* The driver has no page of the guest, and knows of none. */
static bool has_nothing(struct fh *host)
{
	struct inside i = look(host);

	return !i.held && !i.offered && !i.spares && !i.runs && !i.hinting &&
	       !i.hinted;
}

/* Other programs, mm's own caches and those of KASAN move by so much. */
#define SLACK		((long)(4 * FH_MIB / FH_PPP) + others())

/* The guest has its memory back, about: pages are counted by others. */
static void expect_free(struct kunit *test, long before)
{
	KUNIT_EXPECT_TRUE(test, fh_until(guest_free_pages() > before - SLACK));
}

/* It saw that the device failed, and the guest has its pages. */
static void expect_broken(struct kunit *test)
{
	struct fh *host = test->priv;

	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "broken")));
	KUNIT_ASSERT_TRUE(test, fh_until(has_nothing(host)));
	KUNIT_EXPECT_TRUE(test, look(host).was_reset);
	KUNIT_EXPECT_EQ(test, host->status, 0);
}

/* Removal, so many jiffies at most; then another device is fine. */
static void expect_removal(struct kunit *test, unsigned long patience)
{
	struct fh *host = test->priv;
	bool driven = vdev_of(host)->dev.driver;
	unsigned long start = jiffies;
	int q;

	fh_unplug(host);
	KUNIT_EXPECT_LE(test, jiffies - start, patience + grace());
	if (driven)
		KUNIT_EXPECT_EQ(test, host->status,
				VIRTIO_CONFIG_S_ACKNOWLEDGE);
	KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
	host->hook = NULL;
	fh_set_field(host, NUM_PAGES, 0);
	fh_set_field(host, HINT_AT, 0);
	for (q = 0; q < FH_QUEUES; q++)
		host->queues[q].policy = prompt;
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_ASSERT_TRUE(test, fh_bound(host));
	fh_target(host, FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, FH_MIB));
	fh_unplug(host);
}

/* Makes the driver use a queue. */
static void stir(struct fh *host, int q)
{
	switch (q) {
	case FH_INFLATE:
		fh_target(host, 2 * SIZE);
		break;
	case FH_DEFLATE:
		fh_target(host, 0);
		break;
	case FH_HINT:
		fh_hint(host, ID);
		break;
	case FH_REPORT:
		pages_churn(64);
		break;
	}
}

static const char * const queue_names[FH_QUEUES] = {
	"inflateq", "deflateq", "statsq", "hintq", "reportq"
};

static const int queues[] = {
	FH_INFLATE, FH_DEFLATE, FH_STATS, FH_HINT, FH_REPORT
};

static void queue_desc(const int *q, char *desc)
{
	strscpy(desc, queue_names[*q], KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(queue, queues, queue_desc);

static int this_queue(struct kunit *test)
{
	return *(const int *)test->param_value;
}

/* All features, and a balloon of SIZE */
static struct fh *plug_and_inflate(struct kunit *test, u64 features)
{
	struct fh *host = guest_plug(test, features);

	fh_target(host, SIZE);
	KUNIT_ASSERT_TRUE(test, fh_settles(host, SIZE));
	return host;
}

/*
 * D1, D2: before DRIVER_OK, and features
 */

/* What the driver still does until the hook acts, or no longer does */
static int deeds_left;

/* With each of its first deeds: more would keep it busy for ever. */
static void interrupt_all(struct fh *host, enum fh_event_type type, u32 arg)
{
	int q;

	if (type == FH_EV_RESET || deeds_left-- <= 0)
		return;
	fh_config_irq(host);
	for (q = 0; q < FH_QUEUES; q++)
		fh_irq(host, q);
}

static void d01_interrupts_during_probe_do_no_harm(struct kunit *test)
{
	struct fh *host = test->priv;

	deeds_left = 30;
	host->hook = interrupt_all;
	fh_set_field(host, NUM_PAGES, SIZE);
	fh_set_field(host, HINT_AT, ID);
	guest_plug(test, all_features());
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun == ID &&
					 !host->hint_open));
	expect_removal(test, 1);
}

/* What changes in the last moment has not been missed. */
static void change_at_driver_ok(struct fh *host, enum fh_event_type type,
				u32 arg)
{
	if (type != FH_EV_STATUS || !(arg & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	fh_set_field(host, HINT_AT, ID);
	fh_target(host, SIZE);
}

static void d01_changes_during_probe_are_seen(struct kunit *test)
{
	struct fh *host = test->priv;

	host->hook = change_at_driver_ok;
	guest_plug(test, all_features());
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun == ID &&
					 !host->hint_open));
}

/* The device uses the first buffer before anybody has told it of that one. */
static void run_at_driver_ok(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type != FH_EV_STATUS || !(arg & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	fh_run(host);
	host->queues[FH_STATS].policy = hold;
}

static void d01_statistics_used_at_once_are_answered(struct kunit *test)
{
	struct fh *host = test->priv;

	host->hook = run_at_driver_ok;
	guest_plug(test, all_features());
	KUNIT_EXPECT_EQ(test, host->queues[FH_STATS].nr_used, 1ULL);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).nr_stats == 1));
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_STATS), 1U);
}

static void d02_features_refused_at_probe(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features |= all_features();
	host->refused = FH_BIT(STATS_VQ);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_FALSE(test, fh_bound(host));
	KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_FIND, -1, -1), 0UL);
	host->refused = 0;
	expect_removal(test, 1);
}

#ifdef CONFIG_PM_SLEEP
/* Nothing is left of a restore that failed; the next one may succeed. */
static void expect_failed_restore(struct kunit *test)
{
	struct fh *host = test->priv;

	KUNIT_EXPECT_NE(test, virtio_device_restore(vdev_of(host)), 0);
	KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	KUNIT_EXPECT_TRUE(test, has_nothing(host));
	KUNIT_EXPECT_FALSE(test, look(host).reporting);
	fh_target(host, 2 * SIZE);
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	msleep(100);
	KUNIT_EXPECT_TRUE(test, has_nothing(host));
}

static void d02_features_refused_at_restore(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());

	KUNIT_ASSERT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	host->refused = FH_BIT(STATS_VQ);
	expect_failed_restore(test);
	host->refused = 0;
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 2 * SIZE));
	expect_removal(test, 1);
}

static void d02_queues_gone_at_restore(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());
	unsigned int size = host->queues[FH_DEFLATE].size;

	KUNIT_ASSERT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	host->queues[FH_DEFLATE].size = 0;
	expect_failed_restore(test);
	host->queues[FH_DEFLATE].size = size;
	expect_removal(test, 1);
}

/* A reset is what a device needs that failed before it slept. */
static void d17_a_failed_device_works_after_a_suspend(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());

	fh_fail(host);
	expect_broken(test);
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	fh_hint(host, ID);
	KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun == ID &&
					 !host->hint_open));
	expect_removal(test, 1);
}
#endif

/*
 * D3 to D5: the configuration
 */

static long least_available;

static void watch_memory(void)
{
	least_available = min(least_available, si_mem_available());
}

static void watch(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type == FH_EV_NOTIFY)
		watch_memory();
}

static void expect_floor(struct kunit *test)
{
	struct fh *host = test->priv;

	KUNIT_EXPECT_GE(test, least_available,
			(long)inside_floor(vdev_of(host)) - SLACK);
}

static void d03_an_impossible_wish_ends_at_the_floor(struct kunit *test)
{
	static const u32 wishes[] = { U32_MAX, S32_MAX, 0x80000000, FH_PFNS };
	struct fh *host = guest_plug(test, 0);
	unsigned int i;

	host->hook = watch;
	least_available = LONG_MAX;
	for (i = 0; i < ARRAY_SIZE(wishes); i++) {
		fh_target(host, wishes[i]);
		KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host),
							   "floor")));
		expect_floor(test);
		KUNIT_EXPECT_LT(test, si_mem_available(),
				(long)inside_floor(vdev_of(host)) + 2 * SLACK);
	}
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* Another wish at each read, so many times; then it stays at SIZE. */
static int flaps_left;

static void flap_at_read(struct fh *host, enum fh_event_type type, u32 arg)
{
	watch(host, type, arg);
	if (type == FH_EV_READ && arg == NUM_PAGES && flaps_left >= 0)
		fh_set_field(host, NUM_PAGES, !flaps_left-- ? SIZE :
			     flaps_left & 1 ? U32_MAX : 0);
}

static void d03_the_wish_changes_at_each_read(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	flaps_left = 60;
	least_available = LONG_MAX;
	host->hook = flap_at_read;
	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(flaps_left < 0));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	expect_floor(test);
}

static void d03_the_wish_flaps_at_interrupt_rate(struct kunit *test)
{
	struct fh *host = test->priv;
	int i;

	host->thread = FH_WORK;
	guest_plug(test, 0);
	least_available = LONG_MAX;
	host->hook = watch;
	for (i = 0; i < 40; i++) {
		fh_target(host, i & 1 ? 0 : U32_MAX);
		fh_doze();
	}
	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	expect_floor(test);
}

static void d04_the_generation_never_rests(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());

	fh_hint(host, ID);
	KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun == ID));
	KUNIT_EXPECT_EQ(test, host->generation, 0U);
}

/* As libkrun, which ignores it, and kvmtool, which counts for itself */
static void spoil(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type == FH_EV_WRITE)
		fh_set_field(host, arg, 0xdeadbeef);
}

static void d05_actual_and_poison_are_not_believed(struct kunit *test)
{
	struct fh *host = test->priv;

	host->hook = spoil;
	guest_plug(test, all_features() & ~FH_BIT(REPORTING));
	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OWNED) == SIZE));
	msleep(500);
	fh_target(host, FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OWNED) == FH_MIB));
	KUNIT_EXPECT_EQ(test, look(host).held * FH_PPP, (long)FH_MIB);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_READ, -1, ACTUAL),
			0UL);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_READ, -1, POISON_AT),
			0UL);
}

/*
 * D6: buffers that do not exist or were used before. The ring is broken then,
 * the driver resets the device, and has all pages back. Statistics are lost at
 * most.
 */
static void lie(struct kunit *test, struct fh_policy policy)
{
	struct fh *host = test->priv;
	int q = this_queue(test);
	long before = guest_free_pages();

	plug_and_inflate(test, most_features());
	fh_policy(host, q, policy);
	stir(host, q);
	if (q != FH_STATS) {
		expect_broken(test);
		expect_free(test, before);
		expect_removal(test, 1);
		return;
	}
	fh_target(host, 2 * SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 2 * SIZE));
	KUNIT_EXPECT_FALSE(test, look(host).broken);
	expect_removal(test, 1);
}

static void d06_a_buffer_that_cannot_be(struct kunit *test)
{
	lie(test, (struct fh_policy){ .bad_id = true });
}

static void d06_a_buffer_that_was_not_offered(struct kunit *test)
{
	lie(test, (struct fh_policy){ .stale_id = true });
}

static void d06_a_buffer_that_was_used_before(struct kunit *test)
{
	if (this_queue(test) == FH_REPORT)
		test_is_slow(test);	/* the next report has no answer */
	lie(test, (struct fh_policy){ .duplicate = true });
}

/*
 * D7: buffers that are never used
 */

static void d07_offered_pages_are_never_taken(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, most_features());

	fh_policy(host, FH_INFLATE, hold);
	fh_target(host, 4 * SIZE);
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_INFLATE), 64U);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OFFERED), 64UL * FH_MIB);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(!fh_count(host, FH_OWNED)));
	pages_use(host, SOME);
	fh_check(host);
	expect_removal(test, 6 * HZ);
}

/* They are free at once: nobody has to wait. */
static void d07_returned_pages_are_never_acknowledged(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, most_features());

	fh_policy(host, FH_DEFLATE, hold);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).held));
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
	fh_target(host, SIZE);
	msleep(5000);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OFFERED), 0UL);
	expect_removal(test, 6 * HZ);
}

/* With MUST_TELL_HOST nobody gets them, and nobody waits for ever. */
static void d07_a_host_that_must_be_told_never_hears(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());
	unsigned long start;

	fh_policy(host, FH_DEFLATE, hold);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_RETURNING), (ulong)SIZE);
	KUNIT_EXPECT_EQ(test, look(host).returned, 0L);
	start = jiffies;
	KUNIT_EXPECT_EQ(test, inside_oom(vdev_of(host)), 0UL);
	KUNIT_EXPECT_LE(test, jiffies - start, 2 * HZ + HZ / 2 + grace());
	pages_use(host, SOME);
	fh_check(host);
	expect_removal(test, 6 * HZ);
}

#ifdef CONFIG_PM_SLEEP
/* Nor does the guest stay awake for it. */
static void d07_a_silent_host_does_not_keep_the_guest_awake(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());
	unsigned long start = jiffies;
	long before = guest_free_pages();
	int q;

	for (q = 0; q < FH_QUEUES; q++)
		fh_policy(host, q, hold);
	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	KUNIT_EXPECT_LE(test, jiffies - start, 6 * HZ + grace());
	KUNIT_EXPECT_TRUE(test, has_nothing(host));
	KUNIT_EXPECT_GT(test, guest_free_pages() - before,
			(long)(SIZE / FH_PPP) - SLACK);
	for (q = 0; q < FH_QUEUES; q++)
		fh_policy(host, q, prompt);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
}
#endif

/* Removal waits for no hint and no report. */
static void d07_hints_and_reports_are_never_used(struct kunit *test)
{
	struct fh *host = guest_plug(test, most_features());

	fh_policy(host, FH_HINT, hold);
	fh_policy(host, FH_REPORT, hold);
	fh_hint(host, ID);
	KUNIT_EXPECT_GE(test, fh_lent(host), (ulong)BURST);
	pages_churn(64);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_REPORTED)));
	pages_use(host, SOME);
	fh_check(host);
	expect_removal(test, HZ / 2);
}

/*
 * D8: any order, batches, no interrupts, lost notifications
 */

struct way {
	const char *name;
	enum fh_thread thread;
	struct fh_policy policy;
};

static const struct way ways[] = {
	{ "newest first at once", FH_SYNC, { .reverse = true } },
	{ "four at a time at once", FH_SYNC, { .batch = 4 } },
	{ "silently at once", FH_SYNC, { .mute = true } },
	{ "all of that at once", FH_SYNC,
	  { .reverse = true, .batch = 4, .mute = true } },
	{ "newest first by a thread", FH_WORK, { .reverse = true } },
	{ "four at a time by a thread", FH_WORK, { .batch = 4 } },
	{ "silently by a thread", FH_WORK, { .mute = true } },
	{ "all of that by a thread", FH_WORK,
	  { .reverse = true, .batch = 4, .mute = true } },
	{ "newest first in an interrupt", FH_IRQ, { .reverse = true } },
	{ "four at a time in an interrupt", FH_IRQ, { .batch = 4 } },
	{ "silently in an interrupt", FH_IRQ, { .mute = true } },
	{ "all of that in an interrupt", FH_IRQ,
	  { .reverse = true, .batch = 4, .mute = true } },
};

static void way_desc(const struct way *way, char *desc)
{
	strscpy(desc, way->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(way, ways, way_desc);

static void d08_buffers_are_used(struct kunit *test)
{
	const struct way *way = test->param_value;
	struct fh *host = test->priv;

	host->thread = way->thread;
	guest_plug(test, all_features() & ~FH_BIT(REPORTING));
	fh_policy(host, FH_INFLATE, way->policy);
	fh_policy(host, FH_DEFLATE, way->policy);
	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	fh_target(host, SIZE / 2);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE / 2));
	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	fh_check(host);
	KUNIT_EXPECT_FALSE(test, look(host).broken);
}

/* Hints in any order, seen by time and not by interrupt */
static void d08_hints_are_used(struct kunit *test)
{
	const struct way *way = test->param_value;
	struct fh *host = test->priv;
	struct fh_policy policy = way->policy;

	policy.batch = 0;	/* STOP would wait for two more */
	host->thread = way->thread;
	guest_plug(test, all_features() & ~FH_BIT(REPORTING));
	fh_policy(host, FH_HINT, policy);
	fh_hint(host, ID);
	KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun == ID &&
					 !host->hint_open &&
					 !look(host).hinting));
	KUNIT_EXPECT_GT(test, look(host).hinted * FH_PPP, (ulong)BURST);
	fh_hint(host, DONE);
	KUNIT_EXPECT_TRUE(test, fh_until(has_nothing(host)));
}

/* What a device needs for a queue: with others, more would be looked at. */
static u64 features_of(int q)
{
	static const u64 features[FH_QUEUES] = {
		[FH_STATS] = FH_BIT(STATS_VQ),
		[FH_HINT] = FH_BIT(FREE_PAGE_HINT),
		[FH_REPORT] = FH_BIT(REPORTING) | FH_BIT(PAGE_POISON),
	};

	return features[q] & all_features();
}

/* The driver repeats them: ten times a second, hints ever less often. */
static void d08_notifications_are_lost(struct kunit *test)
{
	int q = this_queue(test);
	struct fh *host = plug_and_inflate(test, features_of(q));
	struct fh_queue *hq = &host->queues[q];
	u64 seen = hq->nr_seen;

	if (q == FH_STATS)
		kunit_skip(test, "a host keeps that buffer as it likes");
	fh_policy(host, q, (struct fh_policy){ .drop = 5 });
	stir(host, q);
	KUNIT_EXPECT_TRUE(test, fh_until(hq->nr_seen > seen));
	KUNIT_EXPECT_EQ(test, hq->policy.drop, 0U);
	KUNIT_EXPECT_TRUE(test, fh_until(!fh_fetched(host, q)));
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_FALSE(test, look(host).was_reset);
}

/* The first of all is lost: there are no statistics, and that is all. */
static void d08_the_notification_of_statistics_is_lost(struct kunit *test)
{
	struct fh *host = test->priv;

	host->queues[FH_STATS].policy.drop = 1;
	plug_and_inflate(test, all_features());
	KUNIT_EXPECT_EQ(test, host->queues[FH_STATS].nr_notified, 1ULL);
	KUNIT_EXPECT_EQ(test, look(host).nr_stats, 0UL);
	fh_run(host);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).nr_stats > 1));
	expect_removal(test, 1);
}

/* The transport itself fails: nothing will be heard again. */
static void d08_a_notification_fails(struct kunit *test)
{
	int q = this_queue(test);
	long before = guest_free_pages();
	struct fh *host = plug_and_inflate(test, most_features());

	fh_policy(host, q, (struct fh_policy){ .fail = true });
	stir(host, q);
	if (q != FH_STATS) {
		expect_broken(test);
		expect_free(test, before);
	} else {
		fh_target(host, 0);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	}
	expect_removal(test, 1);
}

/* 100000 interrupts for nothing, where they do not take minutes */
static int storm(void)
{
	return time_travels() ? 100000 : 10000;
}

/* On every queue and in every state, from one and the other place */
static void d08_interrupts_without_end(struct kunit *test)
{
	int i, q = this_queue(test);
	struct fh *host = plug_and_inflate(test, all_features());
	unsigned long start;

	fh_policy(host, FH_STATS, hold);
	msleep(1000);
	start = jiffies;
	for (i = 0; i < storm(); i++) {
		fh_irq(host, q);
		if (i & 1)
			fh_callback(host, q);
		if (!(i & 1023))
			cond_resched();
	}
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, 1UL);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_STATS), 1U);
	KUNIT_EXPECT_TRUE(test, inside_is(vdev_of(host), "idle"));
	fh_policy(host, FH_STATS, prompt);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* Of the configuration: each costs a read at most, and none is a step. */
static void d08_configuration_interrupts_without_end(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());
	u64 seen = host->queues[FH_INFLATE].nr_seen;
	unsigned long reads;
	int i;

	msleep(1000);
	reads = fh_count_events(host, FH_EV_READ, -1, -1);
	for (i = 0; i < storm(); i++)
		fh_config_irq(host);
	msleep(1000);
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_seen, seen);
	KUNIT_EXPECT_TRUE(test, inside_is(vdev_of(host), "idle"));
	if (time_travels())
		KUNIT_EXPECT_LE(test, fh_count_events(host, FH_EV_READ, -1, -1),
				reads + 4);
}

/*
 * D9: memory that is the driver's to write
 */

/* The ledger knows which pages came back, whatever the arrays say by then. */
static void d09_what_the_device_may_only_read(struct kunit *test)
{
	struct fh *host = guest_plug(test, all_features());
	int i, q;

	for (q = 0; q < FH_QUEUES; q++)
		fh_policy(host, q, (struct fh_policy){ .scribble = true });
	for (i = 0; i < 3; i++) {
		fh_target(host, SIZE);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
		fh_hint(host, ID + i);
		KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun == ID + i &&
						 !host->hint_open));
		fh_target(host, SIZE / 3);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE / 3));
	}
	KUNIT_EXPECT_GT(test, look(host).nr_stats, 1UL);
	KUNIT_EXPECT_GT(test, inside_oom(vdev_of(host)), 0UL);
	KUNIT_EXPECT_FALSE(test, look(host).broken);
	expect_removal(test, HZ);
}

/*
 * D10: statistics
 */

/* A hundred answers a second, and no work in between */
static void d10_a_storm_of_requests(struct kunit *test)
{
	struct fh *host = guest_plug(test, all_features());
	struct fh_queue *hq = &host->queues[FH_STATS];
	u64 seen = hq->nr_seen;

	msleep(5000);
	KUNIT_EXPECT_LE(test, hq->nr_seen - seen, 501ULL);
	KUNIT_EXPECT_GE(test, hq->nr_seen - seen, 100ULL);
	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	expect_removal(test, 1);
}

static void d10_statistics_are_never_asked_for(struct kunit *test)
{
	struct fh *host = test->priv;

	host->queues[FH_STATS].policy = hold;
	plug_and_inflate(test, all_features());
	msleep(3000);
	KUNIT_EXPECT_EQ(test, host->queues[FH_STATS].nr_seen, 1ULL);
	KUNIT_EXPECT_EQ(test, host->queues[FH_STATS].nr_notified, 1ULL);
	expect_removal(test, 1);
}

/*
 * D12: commands of hinting
 */

/* So that a round is short: 32 MiB may be lent, not half of the guest. */
static void lend_little(struct kunit *test)
{
	char floor[16];

	snprintf(floor, sizeof(floor), "%lu",
		 ((unsigned long)si_mem_available() >> (20 - PAGE_SHIFT)) - 32);
	KUNIT_ASSERT_EQ(test, guest_set("floor", floor), 0);
}

/* Faster than it reads: the last one counts. */
static void d12_ids_change_all_the_time(struct kunit *test)
{
	struct fh *host = guest_plug(test, most_features());
	int i;

	lend_little(test);
	for (i = 0; i < 200; i++) {
		fh_hint(host, i % 3 ? ID + i : i % 2);
		schedule_timeout_uninterruptible(1);
	}
	fh_hint(host, ID + 200);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID + 200));
	fh_hint(host, DONE);
	KUNIT_EXPECT_TRUE(test, fh_until(has_nothing(host)));
	expect_removal(test, 1);
}

/* More slowly, amid rounds: each one that is begun is ended. */
static void d12_ids_change_amid_rounds(struct kunit *test)
{
	struct fh *host = guest_plug(test, most_features());
	int i;

	for (i = 0; i < 30; i++) {
		fh_policy(host, FH_HINT, hold);
		fh_hint(host, ID + i);
		msleep(50 + i);
		fh_release(host, FH_HINT, 7);
		fh_hint(host, i % 2);
		msleep(50);
		fh_policy(host, FH_HINT, prompt);
	}
	KUNIT_EXPECT_TRUE(test, fh_until(has_nothing(host)));
	KUNIT_EXPECT_FALSE(test, host->hint_open);
	KUNIT_EXPECT_EQ(test, host->nr_commands, 2 * look(host).rounds);
	KUNIT_EXPECT_GT(test, look(host).rounds, time_travels() ? 10UL : 2UL);
	expect_removal(test, 1);
}

static void d12_an_id_comes_back(struct kunit *test)
{
	struct fh *host = guest_plug(test, most_features());
	static const u32 words[] = { STOP, ID, DONE, ID };
	unsigned int i;

	fh_hint(host, ID);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		fh_hint(host, words[i]);
		msleep(500);
	}
	KUNIT_EXPECT_EQ(test, look(host).rounds, 1UL);
	KUNIT_EXPECT_EQ(test, host->nr_commands, 2UL);
	fh_hint(host, ID + 1);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID + 1));
	expect_removal(test, 1);
}

/* Whoever needs them has the blocks; removal has the rest. */
static void d12_done_never_comes(struct kunit *test)
{
	struct fh *host = guest_plug(test, most_features());
	unsigned long hinted;

	fh_hint(host, ID);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinting));
	msleep(3000);
	hinted = look(host).hinted;
	KUNIT_EXPECT_GT(test, hinted * FH_PPP, (ulong)BURST);
	KUNIT_EXPECT_EQ(test, inside_shrink_count(vdev_of(host)), hinted);
	KUNIT_EXPECT_GE(test, inside_oom(vdev_of(host)) * FH_PPP, SOME);
	KUNIT_EXPECT_GE(test, inside_shrink(vdev_of(host), 1), 1UL);
	KUNIT_EXPECT_LT(test, look(host).hinted * FH_PPP,
			hinted * FH_PPP - SOME);
	expect_removal(test, 1);
}

/*
 * As QEMU, which shows STOP while it takes what it asked for: an interrupt that
 * comes late reads as STOP, but a word is what was there for 20 ms.
 */
static void d12_a_late_interrupt_does_not_end_the_round(struct kunit *test)
{
	struct fh *host = test->priv;
	long room;

	host->hint_hides = true;
	guest_plug(test, most_features());
	room = guest_free_pages() - inside_floor(vdev_of(host));
	room = min_t(long, room, pages_in_blocks() / FH_PPP);
	fh_hint(host, ID);
	schedule_timeout_uninterruptible(HZ / 100);
	fh_config_irq(host);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	KUNIT_EXPECT_EQ(test, fh_field(host, HINT_AT), (u32)STOP);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinting));
	if (time_travels())	/* or it may be later than it should be */
		KUNIT_EXPECT_GT(test, (long)look(host).hinted, room * 3 / 4);
	KUNIT_EXPECT_EQ(test, look(host).rounds, 1UL);
}

/* STOP, and within 20 ms what it said before */
static void d12_a_stop_taken_back_does_not_end_the_round(struct kunit *test)
{
	struct fh *host = guest_plug(test, most_features());
	unsigned long start, lent;

	fh_policy(host, FH_HINT, hold);
	fh_hint(host, ID);
	lent = fh_lent(host);
	KUNIT_EXPECT_GE(test, lent, (ulong)BURST);
	start = jiffies;
	fh_hint(host, STOP);
	schedule_timeout_uninterruptible(HZ / 100);
	fh_hint(host, ID);
	if (!time_travels() && time_after_eq(jiffies, start + HZ / 50))
		kunit_skip(test, "too late where time is real");
	msleep(500);
	KUNIT_EXPECT_EQ(test, host->nr_commands, 1UL);
	fh_policy(host, FH_HINT, prompt);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	KUNIT_EXPECT_GT(test, host->queues[FH_HINT].nr_pages, (u64)lent);
}

/* A new size, while QEMU shows STOP, is no word on hints. */
static void d12_a_new_size_does_not_end_the_round(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long lent;

	host->hint_hides = true;
	guest_plug(test, most_features());
	fh_policy(host, FH_HINT, hold);
	fh_hint(host, ID);
	lent = fh_lent(host);
	KUNIT_EXPECT_GE(test, lent, (ulong)BURST);
	fh_target(host, FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, FH_MIB));
	msleep(500);
	KUNIT_EXPECT_EQ(test, host->nr_commands, 1UL);
	fh_policy(host, FH_HINT, prompt);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	KUNIT_EXPECT_GT(test, host->queues[FH_HINT].nr_pages, (u64)lent);
}

/*
 * D14 to D16: pages that changed, queues that are not there
 */

static void d14_pages_come_back_with_anything_in_them(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, all_features());

	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_GT(test, pages_use_zeroed(host, ULONG_MAX), 0UL);
}

/* With what there is, all must work that can. */
static void use_what_is_there(struct kunit *test)
{
	struct fh *host = test->priv;
	struct fh_queue *hq = host->queues;

	fh_target(host, 4 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
	if (hq[FH_STATS].vq)
		KUNIT_EXPECT_TRUE(test, fh_until(look(host).nr_stats > 2));
	if (hq[FH_HINT].vq) {
		fh_hint(host, ID);
		KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
		fh_hint(host, DONE);
	}
	if (hq[FH_REPORT].vq) {
		pages_churn(64);
		KUNIT_EXPECT_TRUE(test, fh_until(look(host).nr_reports > 0));
	}
	KUNIT_EXPECT_GT(test, inside_oom(vdev_of(host)), 0UL);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_TRUE(test, fh_until(has_nothing(host)));
	KUNIT_EXPECT_FALSE(test, look(host).broken);
}

/* A balloon needs two. Without another, that one and those after it do not. */
static void d15_a_queue_is_missing(struct kunit *test)
{
	struct fh *host = test->priv;
	int i, q = this_queue(test);

	host->features |= all_features();
	host->sizes[q] = 0;
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_EQ(test, fh_bound(host), q > FH_DEFLATE);
	if (!fh_bound(host)) {
		KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
		return;
	}
	for (i = 0; i < FH_QUEUES; i++)
		KUNIT_EXPECT_EQ(test, !!host->queues[i].vq, i < q);
	use_what_is_there(test);
	expect_removal(test, HZ);
}

static void small_ring(struct kunit *test, unsigned int size)
{
	struct fh *host = test->priv;
	int q = this_queue(test);

	host->sizes[q] = size;
	guest_plug(test, all_features());
	use_what_is_there(test);
	KUNIT_EXPECT_LE(test, host->queues[q].most, size);
	KUNIT_EXPECT_GT(test, host->queues[q].most, 0U);
	expect_removal(test, HZ);
}

static void d15_a_ring_of_one(struct kunit *test)
{
	small_ring(test, 1);
}

static void d15_a_ring_of_two(struct kunit *test)
{
	small_ring(test, 2);
}

static void d15_all_rings_are_of_one(struct kunit *test)
{
	struct fh *host = test->priv;
	int q;

	for (q = 0; q < FH_QUEUES; q++)
		host->sizes[q] = 1;
	guest_plug(test, all_features());
	use_what_is_there(test);
}

/* mm shows up to 32 blocks at a time. */
static void d15_a_reporting_ring_is_small(struct kunit *test)
{
	static const unsigned int sizes[] = { 1, 2, 4, 16 };
	struct fh *host = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		host->sizes[FH_REPORT] = sizes[i];
		guest_plug(test, all_features());
		pages_churn(64);
		KUNIT_EXPECT_TRUE(test, fh_until(look(host).reported * FH_PPP >=
						 64 * FH_MIB));
		KUNIT_EXPECT_EQ(test, host->queues[FH_REPORT].widest, sizes[i]);
		fh_unplug(host);
	}
}

/* As libkrun: all is offered, and nothing served. Nobody waits for that. */
static void d16_nothing_is_ever_served(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long start = jiffies;
	int q;

	for (q = 0; q < FH_QUEUES; q++)
		host->queues[q].policy.deaf = true;
	host->features |= all_features();
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_TRUE(test, fh_bound(host));
	KUNIT_EXPECT_LE(test, jiffies - start, HZ / 10 + grace());
	fh_hint(host, ID);
	msleep(5000);
	KUNIT_EXPECT_GE(test, look(host).hinting * FH_PPP, (long)BURST);
	expect_removal(test, HZ / 2);
}

/*
 * D17: devices that fail or go away
 */

static void fail_later(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type != FH_EV_RESET && !deeds_left--)
		fh_fail(host);
}

static void pull_later(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type != FH_EV_RESET && !deeds_left--)
		fh_pull(host);
}

/* A busy moment: up, hints, reports, out of memory, down */
static void be_busy(struct fh *host)
{
	fh_target(host, SIZE);
	pages_churn(32);
	msleep(100);
	fh_hint(host, host->hint_begun + ID);
	msleep(50);
	inside_oom(vdev_of(host));
	msleep(2500);		/* mm reports */
	fh_target(host, FH_MIB);
	msleep(100);
}

/* Not each of them: with the first ones it is most likely amid something. */
static int later(int n)
{
	return n < 12 ? n + 1 : n + 5;
}

static void d17_needs_reset_at_any_moment(struct kunit *test)
{
	struct fh *host = test->priv;
	int n, failed = 0;

	test_is_slow(test);
	host->features |= most_features();
	for (n = 0; n < 60; n = later(n)) {
		deeds_left = n;
		host->hook = fail_later;
		KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
		be_busy(host);
		if (deeds_left < 0) {
			failed++;
			expect_broken(test);
		}
		fh_unplug(host);
		KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
	}
	KUNIT_EXPECT_GT(test, failed, 15);
}

static void d17_pulled_out_at_any_moment(struct kunit *test)
{
	struct fh *host = test->priv;
	long before = guest_free_pages();
	int n, pulled = 0;

	test_is_slow(test);
	host->features |= most_features();
	for (n = 0; n < 60; n = later(n)) {
		host->hook = NULL;
		KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
		deeds_left = n;
		host->hook = pull_later;
		be_busy(host);
		pulled += deeds_left < 0;
		fh_unplug(host);
		KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
	}
	KUNIT_EXPECT_GT(test, pulled, 15);
	expect_free(test, before);
}

/*
 * Something is on every queue, and a part of the balloon is at rest: less than
 * was asked for if mm has moved some of it, as those pages are offered anew.
 */
static void fill_all_queues(struct kunit *test)
{
	struct fh *host = test->priv;
	int q;

	for (q = 0; q < FH_QUEUES; q++)
		fh_policy(host, q, hold);
	fh_hint(host, ID);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_HINTING)));
	pages_churn(64);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_REPORTED)));
	fh_target(host, 2 * SIZE);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OFFERED) >= SIZE));
	fh_target(host, SIZE + SIZE / 2);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OWNED) <= SIZE / 2));
}

static void d17_needs_reset_with_all_queues_full(struct kunit *test)
{
	long before = guest_free_pages();
	struct fh *host = plug_and_inflate(test, most_features());
	unsigned long start;

	fill_all_queues(test);
	start = jiffies;
	fh_fail(host);
	fh_fail(host);
	expect_broken(test);
	KUNIT_EXPECT_LE(test, jiffies - start, 3 * HZ + grace());
	expect_free(test, before);
	expect_removal(test, 1);
}

/* It is reset once more when the driver lets go of it. */
static void d17_a_failed_device_fails_again(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, most_features());

	fh_fail(host);
	expect_broken(test);
	fh_fail(host);
	KUNIT_EXPECT_NE(test, host->status, 0);
	expect_removal(test, 1);
}

static void d17_pulled_out_with_all_queues_full(struct kunit *test)
{
	long before = guest_free_pages();
	struct fh *host = plug_and_inflate(test, most_features());

	fill_all_queues(test);
	fh_pull(host);
	expect_removal(test, HZ / 2);
	expect_free(test, before);
}

/* The transport noticed, and told nobody: the first who needs memory does. */
static void d17_found_broken_when_memory_ran_out(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, 0);

	virtio_break_device(vdev_of(host));
	KUNIT_EXPECT_EQ(test, inside_oom(vdev_of(host)) * FH_PPP, (ulong)SIZE);
	expect_broken(test);
	expect_removal(test, 1);
}

/* The same for pages that it has not even taken */
static void d17_offered_pages_come_back_when_memory_ran_out(struct kunit *test)
{
	struct fh *host = guest_plug(test, FH_BIT(DEFLATE_ON_OOM));

	fh_policy(host, FH_INFLATE, hold);
	fh_target(host, SIZE);
	KUNIT_ASSERT_TRUE(test, fh_until(look(host).offered * FH_PPP == SIZE &&
					 in_state(host, "stalled")));
	virtio_break_device(vdev_of(host));
	KUNIT_EXPECT_EQ(test, inside_oom(vdev_of(host)) * FH_PPP, (ulong)SIZE);
	expect_broken(test);
	expect_removal(test, 1);
}

/* The same for blocks with the host */
static void d17_hints_found_broken_when_memory_ran_out(struct kunit *test)
{
	struct fh *host = guest_plug(test, FH_BIT(FREE_PAGE_HINT));

	fh_policy(host, FH_HINT, hold);
	fh_hint(host, ID);
	KUNIT_EXPECT_GE(test, fh_lent(host), (ulong)BURST);
	virtio_break_device(vdev_of(host));
	inside_oom(vdev_of(host));
	KUNIT_EXPECT_TRUE(test, fh_until(has_nothing(host)));
	expect_broken(test);
	expect_removal(test, 1);
}

/*
 * D19 to D21
 */

/* Reads what it has while it is being reset. */
static void read_all(struct fh *host, enum fh_event_type type, u32 arg)
{
	int q;

	if (type != FH_EV_RESET || !host->queues[FH_INFLATE].live)
		return;
	for (q = 0; q < FH_QUEUES; q++)
		if (!fh_fetched(host, q))
			fh_complain(host, "%s: empty", queue_names[q]);
	msleep(500);
	fh_check(host);
	host->hook_data = host;
}

/* What was freed before that, the host finds as it resets. */
static void d19_memory_is_the_device_s_until_the_reset(struct kunit *test)
{
	struct fh *host = plug_and_inflate(test, most_features());

	fill_all_queues(test);
	host->hook = read_all;
	fh_unplug(host);
	KUNIT_EXPECT_PTR_EQ(test, host->hook_data, (void *)host);
	KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
}

static void d20_must_tell_host_is_insisted_on(struct kunit *test)
{
	struct fh *host = test->priv;

	host->needed = FH_BIT(MUST_TELL_HOST);
	plug_and_inflate(test, FH_BIT(MUST_TELL_HOST));
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* A host that has little memory takes its time; `actual` follows it. */
static void d21_actual_is_true_all_the_way(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	u32 actual, last = 96 * FH_MIB;
	int steps = 0;

	fh_target(host, last);
	KUNIT_ASSERT_TRUE(test, fh_settles(host, last));
	fh_policy(host, FH_DEFLATE, hold);
	fh_target(host, 0);
	while (last && steps < 100) {
		msleep(300);
		KUNIT_EXPECT_TRUE(test, fh_until(fh_actual(host) ==
						 fh_count(host, FH_OWNED)));
		actual = fh_actual(host);
		KUNIT_EXPECT_LE(test, actual, last);
		steps += actual != last;
		last = actual;
		fh_release(host, FH_DEFLATE, 6);
	}
	KUNIT_EXPECT_GE(test, steps, 5);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

static struct kunit_case cases[] = {
	KUNIT_CASE(d01_interrupts_during_probe_do_no_harm),
	KUNIT_CASE(d01_changes_during_probe_are_seen),
	KUNIT_CASE(d01_statistics_used_at_once_are_answered),
	KUNIT_CASE(d02_features_refused_at_probe),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(d02_features_refused_at_restore),
	KUNIT_CASE(d02_queues_gone_at_restore),
#endif
	KUNIT_CASE(d03_an_impossible_wish_ends_at_the_floor),
	KUNIT_CASE(d03_the_wish_changes_at_each_read),
	KUNIT_CASE(d03_the_wish_flaps_at_interrupt_rate),
	KUNIT_CASE(d04_the_generation_never_rests),
	KUNIT_CASE(d05_actual_and_poison_are_not_believed),
	KUNIT_CASE_PARAM(d06_a_buffer_that_cannot_be, queue_gen_params),
	KUNIT_CASE_PARAM(d06_a_buffer_that_was_not_offered, queue_gen_params),
	KUNIT_CASE_PARAM(d06_a_buffer_that_was_used_before, queue_gen_params),
	KUNIT_CASE(d07_offered_pages_are_never_taken),
	KUNIT_CASE(d07_returned_pages_are_never_acknowledged),
	KUNIT_CASE(d07_a_host_that_must_be_told_never_hears),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(d07_a_silent_host_does_not_keep_the_guest_awake),
#endif
	KUNIT_CASE(d07_hints_and_reports_are_never_used),
	KUNIT_CASE_PARAM(d08_buffers_are_used, way_gen_params),
	KUNIT_CASE_PARAM(d08_hints_are_used, way_gen_params),
	KUNIT_CASE_PARAM(d08_notifications_are_lost, queue_gen_params),
	KUNIT_CASE(d08_the_notification_of_statistics_is_lost),
	KUNIT_CASE_PARAM(d08_a_notification_fails, queue_gen_params),
	KUNIT_CASE_PARAM(d08_interrupts_without_end, queue_gen_params),
	KUNIT_CASE(d08_configuration_interrupts_without_end),
	KUNIT_CASE(d09_what_the_device_may_only_read),
	KUNIT_CASE(d10_a_storm_of_requests),
	KUNIT_CASE(d10_statistics_are_never_asked_for),
	KUNIT_CASE(d12_ids_change_all_the_time),
	KUNIT_CASE(d12_ids_change_amid_rounds),
	KUNIT_CASE(d12_an_id_comes_back),
	KUNIT_CASE(d12_done_never_comes),
	KUNIT_CASE(d12_a_late_interrupt_does_not_end_the_round),
	KUNIT_CASE(d12_a_stop_taken_back_does_not_end_the_round),
	KUNIT_CASE(d12_a_new_size_does_not_end_the_round),
	KUNIT_CASE(d14_pages_come_back_with_anything_in_them),
	KUNIT_CASE_PARAM(d15_a_queue_is_missing, queue_gen_params),
	KUNIT_CASE_PARAM(d15_a_ring_of_one, queue_gen_params),
	KUNIT_CASE_PARAM(d15_a_ring_of_two, queue_gen_params),
	KUNIT_CASE(d15_all_rings_are_of_one),
	KUNIT_CASE(d15_a_reporting_ring_is_small),
	KUNIT_CASE(d16_nothing_is_ever_served),
	KUNIT_CASE(d17_needs_reset_at_any_moment),
	KUNIT_CASE(d17_pulled_out_at_any_moment),
	KUNIT_CASE(d17_needs_reset_with_all_queues_full),
	KUNIT_CASE(d17_a_failed_device_fails_again),
	KUNIT_CASE(d17_pulled_out_with_all_queues_full),
	KUNIT_CASE(d17_found_broken_when_memory_ran_out),
	KUNIT_CASE(d17_offered_pages_come_back_when_memory_ran_out),
	KUNIT_CASE(d17_hints_found_broken_when_memory_ran_out),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(d17_a_failed_device_works_after_a_suspend),
#endif
	KUNIT_CASE(d19_memory_is_the_device_s_until_the_reset),
	KUNIT_CASE(d20_must_tell_host_is_insisted_on),
	KUNIT_CASE(d21_actual_is_true_all_the_way),
	{}
};

static void hostile_exit(struct kunit *test)
{
	guest_reset();
	fh_suite_exit(test);
}

struct kunit_suite hostile_suite = {
	.name = "virtio_balloon_hostile",
	.init = fh_suite_init,
	.exit = hostile_exit,
	.test_cases = cases,
};
