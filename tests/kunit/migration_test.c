// SPDX-License-Identifier: GPL-2.0-only
/*
 * Migration: mm moves held pages, and isolates some while the balloon changes
 * its size, breaks or goes away.
 */

#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "compat.h"
#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "short.h"
#include "suites.h"

#ifdef VB_MIGRATION

#define OOM		FH_BIT(DEFLATE_ON_OOM)
#define MUST_TELL	FH_BIT(MUST_TELL_HOST)
#define NUM_PAGES	offsetof(struct virtio_balloon_config, num_pages)
#define MIB		((long)(SZ_1M / PAGE_SIZE))	/* guest pages */

static struct page *isolate(struct fh *host)
{
	return inside_isolate(&host->dev->vdev);
}

static int migrate(struct fh *host, struct page *page)
{
	return inside_migrate(&host->dev->vdev, page);
}

static void put_back(struct fh *host, struct page *page)
{
	inside_putback(&host->dev->vdev, page);
}

/* A balloon of that size, all of it on mm's list: that may be hurried. */
static struct fh *at_rest(struct kunit *test, u64 features, u32 pages)
{
	struct fh *host = guest_plug(test, features);

	resize(test, pages);
	if (!time_travels()) {
		inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
		inside_memory(&host->dev->vdev, MEM_CANCEL_OFFLINE);
	}
	KUNIT_ASSERT_TRUE(test, fh_until(!look(host).runs));
	return host;
}

static u32 pfn_of(struct page *page)
{
	return page_to_pfn(page) * FH_PPP;
}

/* Moves @nr pages, one after the other. */
static void migrate_some(struct kunit *test, struct fh *host, unsigned int nr)
{
	struct page *page;

	while (nr--) {
		KUNIT_ASSERT_TRUE(test, fh_until((page = isolate(host))));
		KUNIT_ASSERT_EQ(test, migrate(host, page), 0);
	}
}

/*
 * A page moves
 */

static const u64 agreements[] = { 0, OOM, MUST_TELL, OOM | MUST_TELL };

static void agreement_name(const u64 *features, char *name)
{
	static const char * const names[] = {
		"plain", "MUST_TELL_HOST", "DEFLATE_ON_OOM", "both"
	};

	strscpy(name, names[!!(*features & MUST_TELL) + !!(*features & OOM) * 2],
		KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(agreement, agreements, agreement_name);

static void the_old_page_is_deflated_and_the_new_one_offered(struct kunit *test)
{
	const u64 *features = test->param_value;
	struct fh *host = at_rest(test, *features, 4 * FH_MIB);
	struct page *page = isolate(host);
	unsigned long from = host->nr_events;
	u32 pfn;
	long n;

	KUNIT_ASSERT_NOT_NULL(test, page);
	pfn = pfn_of(page);
	KUNIT_EXPECT_EQ(test, migrate(host, page), 0);
	n = fh_find_event(host, from, FH_EV_SEEN, FH_DEFLATE, -1);
	KUNIT_ASSERT_GE(test, n, 0L);
	KUNIT_EXPECT_EQ(test, fh_event_at(host, n)->a, FH_PPP * sizeof(u32));
	KUNIT_EXPECT_EQ(test, fh_event_at(host, n)->b, (u64)pfn);
	KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn), FH_GUEST);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 1);
	KUNIT_EXPECT_EQ(test, look(host).migrated, 1UL);
	KUNIT_EXPECT_EQ(test, look(host).held, 4 * MIB - 1);

	KUNIT_EXPECT_TRUE(test, fh_until(look(host).held == 4 * MIB));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 4 + 1);
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_pages,
			4 * FH_MIB + FH_PPP);
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn), FH_GUEST);
}

/* When the host saw buffer number @nr, counted from 0 */
static unsigned long offered_at(struct fh *host, unsigned int nr)
{
	long n = -1;

	do {
		n = fh_find_event(host, n + 1, FH_EV_SEEN, FH_INFLATE, -1);
	} while (n >= 0 && nr--);
	return n < 0 ? 0 : fh_event_at(host, n)->when;
}

/* A tenth of a second later, and none of them is newly taken */
static void many_new_pages_are_offered_with_one_buffer(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 4 * FH_MIB);
	unsigned long start = jiffies;
	long before;

	migrate_some(test, host, 200);
	before = guest_free_pages();
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 200);
	if (time_travels()) {
		KUNIT_EXPECT_EQ(test, look(host).spares, 200UL);
		KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 4);
	}
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
	KUNIT_EXPECT_LE(test, buffers(host, FH_INFLATE),
			4 + (time_travels() ? 1 : 20));
	if (time_travels()) {
		KUNIT_EXPECT_LE(test, before - guest_free_pages(), 64L + others());
		KUNIT_EXPECT_GE(test, offered_at(host, 4) - start, HZ / 10UL);
		KUNIT_EXPECT_LE(test, offered_at(host, 4) - start, HZ / 8UL);
	}
	KUNIT_EXPECT_EQ(test, look(host).migrated, 200UL);
}

static void events_of(unsigned long *ev)
{
	unsigned long *all = kcalloc(NR_VM_EVENT_ITEMS, sizeof(*all),
				     GFP_KERNEL);

	if (!all)
		return;
	all_vm_events(all);
	ev[0] = all[BALLOON_INFLATE];
	ev[1] = all[BALLOON_DEFLATE];
	ev[2] = all[BALLOON_MIGRATE];
	kfree(all);
}

static void it_counts_what_mm_shows(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 4 * FH_MIB);
	unsigned long before[3] = { }, after[3] = { };

	events_of(before);
	migrate_some(test, host, 20);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	events_of(after);
	KUNIT_EXPECT_EQ(test, after[0] - before[0], 20UL);
	KUNIT_EXPECT_EQ(test, after[1] - before[1], 20UL);
	KUNIT_EXPECT_EQ(test, after[2] - before[2], 20UL);
}

static void mem_total_stays_what_it_was(struct kunit *test)
{
	const u64 *features = test->param_value;
	struct fh *host = at_rest(test, *features, 4 * FH_MIB);
	unsigned long total = totalram_pages();

	fh_policy(host, FH_INFLATE, holding);
	migrate_some(test, host, 20);
	KUNIT_EXPECT_EQ(test, totalram_pages(),
			total + (*features & OOM ? 0 : 20));
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, totalram_pages(),
			total + (*features & OOM ? 0 : 4 * MIB));
}

/* With MUST_TELL_HOST the old page is free when the host knows. */
static void b13_the_old_page_waits_for_the_host(struct kunit *test)
{
	struct fh *host = at_rest(test, MUST_TELL, 4 * FH_MIB);
	struct page *page = isolate(host);

	KUNIT_ASSERT_NOT_NULL(test, page);
	fh_policy(host, FH_DEFLATE, holding);
	KUNIT_EXPECT_EQ(test, migrate(host, page), 0);
	guest_sleep(HZ);
	KUNIT_EXPECT_EQ(test, page_count(page), 1);
	KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn_of(page)), FH_RETURNING);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 4);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
	KUNIT_EXPECT_EQ(test, page_count(page), 0);
}

/* Without, it is free at once (B14), but not offered before the host knows. */
static void b14_the_old_page_is_free_at_once(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 4 * FH_MIB);
	struct page *page = isolate(host);

	KUNIT_ASSERT_NOT_NULL(test, page);
	fh_policy(host, FH_DEFLATE, holding);
	KUNIT_EXPECT_EQ(test, migrate(host, page), 0);
	KUNIT_EXPECT_EQ(test, page_count(page), 0);
	guest_sleep(HZ);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 4);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
}

/*
 * When it cannot
 */

/* Those that are left are for the guest in need. */
static void without_a_buffer_a_page_stays(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 4 * FH_MIB);
	struct page *page;
	unsigned int i;

	fh_policy(host, FH_DEFLATE, holding);
	migrate_some(test, host, 48);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_DEFLATE), 48U);
	for (i = 0; i < 3; i++) {
		page = isolate(host);
		KUNIT_ASSERT_NOT_NULL(test, page);
		KUNIT_EXPECT_EQ(test, migrate(host, page), -EAGAIN);
		KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn_of(page)),
				FH_OWNED);
	}
	KUNIT_EXPECT_EQ(test, look(host).migrated, 48UL);
	KUNIT_EXPECT_EQ(test, look(host).held, 4 * MIB - 48);
	fh_release(host, FH_DEFLATE, 1);
	migrate_some(test, host, 1);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
}

static void on_a_broken_device_a_page_stays(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 4 * FH_MIB);
	struct page *page = isolate(host);

	KUNIT_ASSERT_NOT_NULL(test, page);
	virtio_break_device(&host->dev->vdev);
	KUNIT_EXPECT_EQ(test, migrate(host, page), -EAGAIN);
	KUNIT_EXPECT_EQ(test, look(host).migrated, 0UL);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, look(host).held, 4 * MIB);
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).held));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "broken")));
}

/*
 * What the host has used for the last page shows that it is broken. Nobody else
 * may look for long.
 */
static void if_the_device_breaks_meanwhile_a_page_stays(struct kunit *test)
{
	const u64 *features = test->param_value;
	struct fh *host = at_rest(test, *features, 4 * FH_MIB);
	struct virtqueue *vq = host->queues[FH_DEFLATE].vq;
	struct page *page;

	fh_policy(host, FH_DEFLATE,
		  (struct fh_policy){ .bad_id = true, .mute = true });
	migrate_some(test, host, 1);
	page = isolate(host);
	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_EXPECT_FALSE(test, virtqueue_is_broken(vq));
	KUNIT_EXPECT_EQ(test, migrate(host, page), -EAGAIN);
	KUNIT_EXPECT_TRUE(test, virtqueue_is_broken(vq));
	KUNIT_EXPECT_EQ(test, look(host).migrated, 1UL);
	if (time_travels()) {
		KUNIT_EXPECT_EQ(test, look(host).held, 4 * MIB - 1);
		KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn_of(page)),
				FH_OWNED);
	}
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).held));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "broken")));
}

/*
 * Isolated pages, which mm puts back or moves in its own time
 */

/* Sizing gets what there is, and comes back for the rest. */
static void deflating_waits_for_an_isolated_page(struct kunit *test)
{
	const u64 *features = test->param_value;
	struct fh *host = at_rest(test, *features, 4 * FH_MIB);
	struct page *page = isolate(host);

	KUNIT_ASSERT_NOT_NULL(test, page);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).held == 1));
	guest_sleep(HZ);
	KUNIT_EXPECT_TRUE(test, in_state(host, "deflating"));
	KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn_of(page)), FH_OWNED);
	KUNIT_EXPECT_EQ(test, fh_actual(host), FH_PPP);
	put_back(host, page);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "idle")));
}

/* Moved away meanwhile, it leaves a page that the balloon does not need. */
static void deflating_takes_no_page_for_a_moved_one(struct kunit *test)
{
	const u64 *features = test->param_value;
	struct fh *host = at_rest(test, *features, 4 * FH_MIB);
	struct page *page = isolate(host);

	KUNIT_ASSERT_NOT_NULL(test, page);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).held == 1));
	KUNIT_EXPECT_EQ(test, migrate(host, page), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "idle")));
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 4);
}

static unsigned long unplug(void *host)
{
	fh_unplug(host);
	return 0;
}

/* A call that must wait until the page is back, which it never loses. */
static void waits_for(struct kunit *test, unsigned long (*fn)(void *host),
		      bool move)
{
	struct fh *host = test->priv;
	struct page *page = isolate(host);
	struct guest_call call;
	u32 pfn;

	KUNIT_ASSERT_NOT_NULL(test, page);
	pfn = pfn_of(page);
	KUNIT_ASSERT_EQ(test, guest_call(&call, fn, host), 0);
	guest_sleep(HZ);
	KUNIT_EXPECT_FALSE(test, completion_done(&call.done));
	KUNIT_EXPECT_EQ(test, fh_owner_of(host, pfn), FH_OWNED);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), (unsigned long)FH_PPP);
	if (move)
		KUNIT_EXPECT_EQ(test, migrate(host, page), -EAGAIN);
	else
		put_back(host, page);
	KUNIT_EXPECT_EQ(test, guest_return(&call), 0UL);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 5);
	KUNIT_EXPECT_EQ(test, page_count(page), 0);
}

/* B12: announced before the reset, each of them */
static void b12_removal_waits_for_an_isolated_page(struct kunit *test)
{
	const u64 *features = test->param_value;
	struct fh *host = at_rest(test, *features, 4 * FH_MIB);
	long n;

	waits_for(test, unplug, false);
	n = fh_find_event(host, 0, FH_EV_RESET, -1, 0);
	KUNIT_EXPECT_GE(test, n, 0L);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
}

static void no_page_moves_while_the_driver_goes(struct kunit *test)
{
	at_rest(test, 0, 4 * FH_MIB);
	waits_for(test, unplug, true);
}

#ifdef CONFIG_PM_SLEEP
static unsigned long freeze(void *data)
{
	struct fh *host = data;

	return virtio_device_freeze(&host->dev->vdev);
}

static void b12_freezing_waits_for_an_isolated_page(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 4 * FH_MIB);

	waits_for(test, freeze, false);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(&host->dev->vdev), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
}
#endif

/* After a reset every page is the guest's, as soon as mm lets go of it. */
static void a_reset_waits_for_an_isolated_page(struct kunit *test)
{
	const u64 *features = test->param_value;
	struct fh *host = at_rest(test, *features, 4 * FH_MIB);
	struct page *page = isolate(host);
	unsigned long total = totalram_pages();

	KUNIT_ASSERT_NOT_NULL(test, page);
	fh_fail(host);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).held == 1));
	KUNIT_EXPECT_TRUE(test, look(host).was_reset);
	guest_sleep(HZ);
	KUNIT_EXPECT_EQ(test, look(host).held, 1L);
	KUNIT_EXPECT_EQ(test, migrate(host, page), -EAGAIN);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "broken")));
	KUNIT_EXPECT_EQ(test, look(host).held, 0L);
	KUNIT_EXPECT_EQ(test, page_count(page), 0);
	KUNIT_EXPECT_EQ(test, totalram_pages(),
			total + (*features & OOM ? 0 : 4 * MIB));
}

static void an_oom_takes_all_but_isolated_pages(struct kunit *test)
{
	struct fh *host = at_rest(test, OOM, FH_MIB);
	struct page *page = isolate(host);

	KUNIT_ASSERT_NOT_NULL(test, page);
	KUNIT_EXPECT_EQ(test, inside_oom(&host->dev->vdev),
			(unsigned long)MIB - 1);
	KUNIT_EXPECT_EQ(test, inside_oom(&host->dev->vdev), 0UL);
	put_back(host, page);
	KUNIT_EXPECT_EQ(test, inside_oom(&host->dev->vdev), 1UL);
}

/*
 * Spares: what moved pages leave the balloon
 */

/* Many, as mm counts pages as free only in batches. */
#define MANY	2000

static void spares_are_free_when_the_target_falls(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 16 * FH_MIB);
	long before = guest_free_pages();

	fh_set_field(host, NUM_PAGES, 4 * FH_MIB);
	migrate_some(test, host, MANY);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * FH_MIB));
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 16);
	KUNIT_EXPECT_GE(test, guest_free_pages(),
			before + 12 * MIB - MANY * 3 / 4 - others());
}

/* They are what sizing takes first, and what it needs no more of. */
static void spares_count_when_the_target_rises(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 4 * FH_MIB);
	long before;

	migrate_some(test, host, 100);
	before = guest_free_pages();
	resize(test, 4 * FH_MIB + 20 * FH_PPP);
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_pages,
			4 * FH_MIB + 120 * FH_PPP);
	KUNIT_EXPECT_LE(test, before - guest_free_pages(), 20L + 60 + others());
}

static void spares_are_free_during_a_hold_off(struct kunit *test)
{
	struct fh *host = at_rest(test, OOM, 16 * FH_MIB);
	long before;

	KUNIT_EXPECT_EQ(test, inside_oom(&host->dev->vdev),
			(unsigned long)MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "hold-off")));
	before = guest_free_pages();
	migrate_some(test, host, MANY);
	guest_sleep(HZ / 4);
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	KUNIT_EXPECT_EQ(test, look(host).held, 15 * MIB - MANY);
	KUNIT_EXPECT_GE(test, guest_free_pages(), before + MANY / 2 - others());
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 16);
}

/* They are not taken from the guest once more. */
static void spares_are_offered_at_the_floor(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	u64 pages;
	long held;

	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	guest_sleep(HZ);
	held = look(host).held;
	pages = host->queues[FH_INFLATE].nr_pages;
	migrate_some(test, host, 30);
	KUNIT_EXPECT_EQ(test, look(host).held, held - 30);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).held >= held));
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	KUNIT_EXPECT_GE(test, host->queues[FH_INFLATE].nr_pages,
			pages + 30 * FH_PPP);
	resize(test, 0);
}

static void spares_are_free_when_the_driver_goes(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 16 * FH_MIB);
	long before = guest_free_pages();

	fh_policy(host, FH_INFLATE, holding);
	migrate_some(test, host, MANY);
	fh_policy(host, FH_INFLATE, prompt);
	fh_unplug(host);
	KUNIT_EXPECT_GE(test, guest_free_pages(),
			before + 16 * MIB - MANY * 3 / 4 - others());
}

static void spares_are_free_after_a_reset(struct kunit *test)
{
	struct fh *host = at_rest(test, 0, 16 * FH_MIB);
	long before = guest_free_pages();

	fh_policy(host, FH_INFLATE, holding);
	migrate_some(test, host, MANY);
	fh_fail(host);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "broken")));
	KUNIT_EXPECT_EQ(test, look(host).spares, 0UL);
	KUNIT_EXPECT_GE(test, guest_free_pages(),
			before + 16 * MIB - MANY * 3 / 4 - others());
}

/*
 * Memory that goes offline
 */

/* mm's list has all at once, and spares are offered after a jiffy. */
static void memory_that_goes_offline_is_ready_at_once(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start;

	resize(test, 80 * FH_MIB);
	KUNIT_EXPECT_EQ(test, look(host).runs, 80UL * MIB);
	start = jiffies;
	inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, 2UL);
	start = jiffies;
	migrate_some(test, host, 10);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).held == 80 * MIB));
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, 4UL);
	resize(test, 81 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, HZ / 2UL);
}

/* The host takes its time, and mm cannot wait for that. */
static void memory_may_go_while_it_inflates(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	resize(test, 8 * FH_MIB);
	fh_policy(host, FH_INFLATE, (struct fh_policy){ .hold = true });
	fh_target(host, 32 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE)));
	KUNIT_EXPECT_EQ(test, look(host).runs, 8UL * MIB);
	inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	if (time_travels())
		KUNIT_EXPECT_TRUE(test, in_state(host, "inflating"));
	inside_memory(&host->dev->vdev, MEM_OFFLINE);
	fh_policy(host, FH_INFLATE, (struct fh_policy){});
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 32 * FH_MIB));
}

#ifdef CONFIG_PM_SLEEP
/* It cannot hear while it sleeps that no memory goes after all. */
static void asleep_it_may_miss_the_end(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	test_is_slow(test);
	inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(&host->dev->vdev), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(&host->dev->vdev), 0);
	resize(test, 8 * FH_MIB);
	guest_sleep(HZ / 2);
	KUNIT_EXPECT_EQ(test, look(host).runs, 8UL * MIB);
}
#endif

static const unsigned long ends[] = { MEM_OFFLINE, MEM_CANCEL_OFFLINE };

static void end_name(const unsigned long *end, char *name)
{
	strscpy(name, *end == MEM_OFFLINE ? "offline" : "cancelled",
		KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(end, ends, end_name);

static void afterwards_all_is_as_before(struct kunit *test)
{
	const unsigned long *end = test->param_value;
	struct fh *host = guest_plug(test, 0);

	inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
	inside_memory(&host->dev->vdev, *end);
	resize(test, 8 * FH_MIB);
	guest_sleep(HZ / 2);
	KUNIT_EXPECT_EQ(test, look(host).runs, 8UL * MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
}

/*
 * All at once
 */

struct mover {
	struct fh *host;
	bool stop;
};

/* As compaction might, if it had nothing else to do */
static unsigned long move_on(void *data)
{
	struct mover *mover = data;
	unsigned long moved = 0;
	struct page *page;

	while (!READ_ONCE(mover->stop)) {
		page = isolate(mover->host);
		if (page && moved % 7 == 0)
			put_back(mover->host, page);
		else if (page)
			migrate(mover->host, page);
		moved += !!page;
		if (!page || moved % 20 == 0)
			guest_sleep(1);
	}
	return moved;
}

static void pages_move_while_sizing_goes_on(struct kunit *test)
{
	struct fh *host = test->priv;
	struct mover mover = { .host = host };
	struct guest_call call;
	unsigned int i;

	host->thread = FH_WORK;
	at_rest(test, *(const u64 *)test->param_value, 8 * FH_MIB);
	KUNIT_ASSERT_EQ(test, guest_call(&call, move_on, &mover), 0);
	for (i = 0; i < 30; i++) {
		fh_target(host, (i % 7 + 2) * FH_MIB);
		guest_sleep(HZ / 20);
		if (i == 10)
			inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
	}
	WRITE_ONCE(mover.stop, true);
	KUNIT_EXPECT_NE(test, guest_return(&call), 0UL);
	KUNIT_EXPECT_NE(test, look(host).migrated, 0UL);
	resize(test, 3 * FH_MIB);
}

/* Takes the @nr blocks that lie lowest out of @hoard. */
static void free_lowest(struct list_head *hoard, unsigned int nr)
{
	struct page *page, *lowest;

	while (nr-- && !list_empty(hoard)) {
		lowest = NULL;
		list_for_each_entry(page, hoard, lru)
			if (!lowest || page_to_pfn(page) < page_to_pfn(lowest))
				lowest = page;
		list_del(&lowest->lru);
		set_page_private(lowest, 0);
		__free_pages(lowest, ilog2(SZ_2M / PAGE_SIZE));
	}
}

/* All but one page of each: mm moves nothing to blocks that are free as such. */
static void free_most(struct list_head *hoard)
{
	struct page *page;
	unsigned int i;

	list_for_each_entry(page, hoard, lru) {
		set_page_private(page, 0);
		split_page(page, ilog2(SZ_2M / PAGE_SIZE));
		for (i = 1; i < SZ_2M / PAGE_SIZE; i++)
			__free_page(page + i);
	}
}

/* The real thing: pages at the low end of memory move up. */
static void compaction_moves_them(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	LIST_HEAD(hoard);
	int rc;

	guest_set("floor", "4");
	guest_hoard(&hoard, ilog2(SZ_2M / PAGE_SIZE), ULONG_MAX);
	free_lowest(&hoard, 16);
	fh_target(host, 16 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 16 * FH_MIB));
	free_most(&hoard);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	rc = guest_write("/proc/sys/vm/compact_memory", "1");
	guest_unhoard(&hoard);
	if (rc)
		kunit_skip(test, "mm does not compact");
	KUNIT_EXPECT_NE(test, look(host).migrated, 0UL);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 16 * FH_MIB));
	fh_check(host);
	resize(test, 0);
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(the_old_page_is_deflated_and_the_new_one_offered,
			 agreement_gen_params),
	KUNIT_CASE(many_new_pages_are_offered_with_one_buffer),
	KUNIT_CASE(it_counts_what_mm_shows),
	KUNIT_CASE_PARAM(mem_total_stays_what_it_was, agreement_gen_params),
	KUNIT_CASE(b13_the_old_page_waits_for_the_host),
	KUNIT_CASE(b14_the_old_page_is_free_at_once),
	KUNIT_CASE(without_a_buffer_a_page_stays),
	KUNIT_CASE(on_a_broken_device_a_page_stays),
	KUNIT_CASE_PARAM(if_the_device_breaks_meanwhile_a_page_stays,
			 agreement_gen_params),
	KUNIT_CASE_PARAM(deflating_waits_for_an_isolated_page,
			 agreement_gen_params),
	KUNIT_CASE_PARAM(deflating_takes_no_page_for_a_moved_one,
			 agreement_gen_params),
	KUNIT_CASE_PARAM(b12_removal_waits_for_an_isolated_page,
			 agreement_gen_params),
	KUNIT_CASE(no_page_moves_while_the_driver_goes),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(b12_freezing_waits_for_an_isolated_page),
#endif
	KUNIT_CASE_PARAM(a_reset_waits_for_an_isolated_page,
			 agreement_gen_params),
	KUNIT_CASE(an_oom_takes_all_but_isolated_pages),
	KUNIT_CASE(spares_are_free_when_the_target_falls),
	KUNIT_CASE(spares_count_when_the_target_rises),
	KUNIT_CASE(spares_are_free_during_a_hold_off),
	KUNIT_CASE(spares_are_offered_at_the_floor),
	KUNIT_CASE(spares_are_free_when_the_driver_goes),
	KUNIT_CASE(spares_are_free_after_a_reset),
	KUNIT_CASE(memory_that_goes_offline_is_ready_at_once),
	KUNIT_CASE(memory_may_go_while_it_inflates),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(asleep_it_may_miss_the_end),
#endif
	KUNIT_CASE_PARAM(afterwards_all_is_as_before, end_gen_params),
	KUNIT_CASE_PARAM(pages_move_while_sizing_goes_on,
			 agreement_gen_params),
	KUNIT_CASE(compaction_moves_them),
	{}
};

#else

static void without_compaction_nothing_moves(struct kunit *test)
{
	kunit_skip(test, "mm cannot migrate held pages");
}

static struct kunit_case cases[] = {
	KUNIT_CASE(without_compaction_nothing_moves),
	{}
};

#endif /* VB_MIGRATION */

static void migration_exit(struct kunit *test)
{
	guest_reset();
	fh_suite_exit(test);
}

struct kunit_suite migration_suite = {
	.name = "virtio_balloon_migration",
	.init = fh_suite_init,
	.exit = migration_exit,
	.test_cases = cases,
};
