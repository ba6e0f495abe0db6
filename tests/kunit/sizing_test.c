// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sizing: how the balloon comes to the size that the host asks for, by how many
 * buffers, notifications and configuration accesses, and what it does when the
 * host or the guest's memory will not have it.
 */

#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/umh.h>
#include <linux/vmstat.h>

#include <compat/mm.h>

#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "short.h"
#include "suites.h"

#define BUFFER		256U			/* pages, 4 KiB each */
#define GROUP		8U			/* buffers */
#define BLOCK		(SZ_2M / PAGE_SIZE)	/* guest pages */
#define NUM_PAGES	offsetof(struct virtio_balloon_config, num_pages)
#define ACTUAL		offsetof(struct virtio_balloon_config, actual)

static u64 notified(struct fh *host, enum fh_queue_nr q)
{
	return host->queues[q].nr_notified;
}

static u64 writes(struct fh *host)
{
	return host->nr_writes[ACTUAL];
}

static unsigned long reads(struct fh *host)
{
	return fh_count_events(host, FH_EV_READ, -1, NUM_PAGES);
}

/*
 * What it costs
 */

struct cost {
	u32 pages;
	unsigned int buffers;
	unsigned int kicks;
	unsigned int steps;		/* of 64 MiB at most */
};

static const struct cost costs[] = {
	{ 1 * FH_PPP, 1, 1, 1 },
	{ BUFFER - FH_PPP, 1, 1, 1 },
	{ BUFFER, 1, 1, 1 },
	{ BUFFER + FH_PPP, 2, 1, 1 },
	{ 8 * BUFFER, 8, 1, 1 },
	{ 8 * BUFFER + FH_PPP, 9, 2, 1 },
	{ 32 * BUFFER, 32, 4, 1 },
	{ 64 * BUFFER, 64, 8, 1 },
	{ 64 * BUFFER + FH_PPP, 65, 9, 2 },
	{ 160 * BUFFER, 160, 20, 3 },
};

static void cost_name(const struct cost *cost, char *name)
{
	snprintf(name, KUNIT_PARAM_DESC_SIZE, "%u pages", cost->pages);
}

KUNIT_ARRAY_PARAM(cost, costs, cost_name);

static void buffers_are_full_and_kicked_in_groups(struct kunit *test)
{
	const struct cost *cost = test->param_value;
	struct fh *host = guest_plug(test, 0);

	resize(test, cost->pages);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), cost->buffers);
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_pages, cost->pages);
	KUNIT_EXPECT_EQ(test, notified(host, FH_INFLATE), cost->kicks);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 0);
	resize(test, 0);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), cost->buffers);
	KUNIT_EXPECT_EQ(test, host->queues[FH_DEFLATE].nr_pages, cost->pages);
	KUNIT_EXPECT_EQ(test, notified(host, FH_DEFLATE), cost->kicks);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), cost->buffers);
}

/* One write when a balloon is made, one for each new size, one at its end */
static void b18_actual_is_written_once_an_operation(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	KUNIT_EXPECT_EQ(test, writes(host), 1);
	resize(test, 32 * FH_MIB);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, writes(host), 2);
	resize(test, 16 * FH_MIB);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, writes(host), 3);
	guest_sleep(3 * HZ);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, writes(host), 3);
	fh_config_irq(host);
	guest_sleep(HZ / 5);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, writes(host), 3);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, writes(host), 4);
}

/* The host's wish is read once a step, and once to see that it is done. */
static void the_target_is_read_once_a_step(struct kunit *test)
{
	const struct cost *cost = test->param_value;
	struct fh *host = guest_plug(test, 0);
	unsigned long before = reads(host);

	resize(test, cost->pages);
	fh_until(reads(host) - before > cost->steps);
	guest_sleep(HZ / 10);
	KUNIT_EXPECT_EQ(test, reads(host) - before, cost->steps + 1UL);
	before = reads(host);
	resize(test, 0);
	fh_until(reads(host) - before > cost->steps);
	guest_sleep(HZ / 10);
	KUNIT_EXPECT_EQ(test, reads(host) - before, cost->steps + 1UL);
}

/*
 * What is in the buffers
 */

struct runs {
	unsigned long pages;		/* 4 KiB */
	unsigned long nr;		/* of neighbours, ascending */
	unsigned long shortest;		/* but for the last one */
	unsigned long blocks;		/* runs that fill whole blocks */
};

static void end_run(struct runs *runs, u32 first, unsigned long len)
{
	runs->nr++;
	runs->shortest = min(runs->shortest, len);
	runs->blocks += !(first % (BLOCK * FH_PPP)) &&
			!(len % (BLOCK * FH_PPP));
}

/* Of all that the host has fetched and not used, as one sequence */
static struct runs runs_of(struct fh *host, enum fh_queue_nr q)
{
	struct fh_queue *hq = &host->queues[q];
	struct runs runs = { .shortest = ULONG_MAX };
	unsigned long flags, len = 0;
	unsigned int i, n;
	u32 first = 0, pfn;

	spin_lock_irqsave(&host->lock, flags);
	for (i = 0; i < hq->fetched; i++) {
		for (n = 0; n < hq->elems[i].nr; n++) {
			pfn = hq->elems[i].pfns[n];
			runs.pages++;
			if (len && pfn == first + len) {
				len++;
				continue;
			}
			if (len)
				end_run(&runs, first, len);
			first = pfn;
			len = 1;
		}
	}
	spin_unlock_irqrestore(&host->lock, flags);
	if (len)
		end_run(&runs, first, len);
	return runs;
}

static void pages_are_offered_as_ascending_blocks(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	struct runs runs;

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 32 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 32));
	runs = runs_of(host, FH_INFLATE);
	KUNIT_EXPECT_EQ(test, runs.pages, 32UL * FH_MIB);
	KUNIT_EXPECT_LE(test, runs.nr, 16UL);
	KUNIT_EXPECT_EQ(test, runs.blocks, runs.nr);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 32 * FH_MIB));
}

/* Also what mm's list had, which knows nothing of neighbours */
static void pages_are_announced_as_they_lie(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	struct runs runs;

	resize(test, 32 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_DEFLATE) == 32));
	runs = runs_of(host, FH_DEFLATE);
	KUNIT_EXPECT_EQ(test, runs.pages, 32UL * FH_MIB);
	KUNIT_EXPECT_LE(test, runs.nr, 32UL);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* Takes what is free, down to pieces of 8 pages, and gives back every other. */
static unsigned long leave_pieces(struct list_head *hoard)
{
	struct page *page, *next;
	LIST_HEAD(blocks);
	unsigned long freed = 0;
	unsigned int order, i;

	guest_hoard(&blocks, ilog2(BLOCK), 48);
	for (order = VB_MAX_ORDER + 1; order-- > 3; )
		guest_hoard(hoard, order, ULONG_MAX);
	list_for_each_entry_safe(page, next, &blocks, lru) {
		list_del(&page->lru);
		set_page_private(page, 0);
		split_page(page, ilog2(BLOCK));
		for (i = 0; i < BLOCK; i++) {
			if (i & 8) {
				put_page(page + i);
				freed++;
			} else {
				list_add(&page[i].lru, hoard);
			}
		}
	}
	return freed;
}

static void where_there_are_no_blocks_it_takes_pieces(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	const u32 pages = 8 * FH_MIB;
	LIST_HEAD(hoard);
	struct runs runs;

	fh_policy(host, FH_INFLATE, holding);
	guest_set("floor", "4");
	KUNIT_EXPECT_GT(test, leave_pieces(&hoard), 4UL * pages / FH_PPP / 2);
	fh_target(host, pages);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) ==
					 pages / BUFFER));
	guest_unhoard(&hoard);
	runs = runs_of(host, FH_INFLATE);
	KUNIT_EXPECT_GE(test, runs.shortest, 8UL * FH_PPP);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, pages));
}

/*
 * Rings
 */

static const unsigned int sizes[] = { 1, 2, 16, 64, 256 };

static void size_name(const unsigned int *size, char *name)
{
	snprintf(name, KUNIT_PARAM_DESC_SIZE, "ring of %u", *size);
}

KUNIT_ARRAY_PARAM(size, sizes, size_name);

/* 64 buffers, as far as the ring has room */
static void as_many_buffers_are_in_flight_as_there_can_be(struct kunit *test)
{
	const unsigned int *size = test->param_value;
	struct fh *host = test->priv;
	unsigned int most = min(*size, 64U);

	host->sizes[FH_INFLATE] = *size;
	host->sizes[FH_DEFLATE] = *size;
	guest_plug(test, 0);
	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 96 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "stalled")));
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_INFLATE), most);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 96 * FH_MIB));
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].most, most);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 96);
}

/* A quarter of the buffers of the deflateq is for the guest in need. */
static void deflating_leaves_a_reserve(struct kunit *test)
{
	const unsigned int *size = test->param_value;
	struct fh *host = test->priv;
	unsigned int nr = min(*size, 64U);

	host->sizes[FH_DEFLATE] = *size;
	guest_plug(test, 0);
	resize(test, 96 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "stalled")));
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_DEFLATE),
			nr - (nr > 1 ? max(nr / 4, 1U) : 0));
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* Without MUST_TELL_HOST: at once, whatever the next buffer has to wait for */
static void what_is_announced_is_free(struct kunit *test)
{
	struct fh *host = test->priv;

	host->sizes[FH_DEFLATE] = 16;
	guest_plug(test, 0);
	resize(test, 32 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_DEFLATE) == 12));
	guest_sleep(HZ / 2);
	KUNIT_EXPECT_FALSE(test, in_state(host, "stalled"));
	KUNIT_EXPECT_EQ(test, look(host).returned, 12 * FH_MIB / FH_PPP);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

struct way {
	const char *name;
	enum fh_thread thread;
	u64 features;
};

#define EVENT_IDX	BIT_ULL(VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT	BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC)

static const struct way ways[] = {
	{ "in the notification", FH_SYNC, 0 },
	{ "in the notification, EVENT_IDX", FH_SYNC, EVENT_IDX },
	{ "in a thread", FH_WORK, 0 },
	{ "in a thread, EVENT_IDX", FH_WORK, EVENT_IDX },
	{ "in a thread, INDIRECT", FH_WORK, INDIRECT },
	{ "in an interrupt", FH_IRQ, 0 },
	{ "in an interrupt, EVENT_IDX", FH_IRQ, EVENT_IDX },
	{ "in an interrupt, both", FH_IRQ, EVENT_IDX | INDIRECT },
};

static void way_name(const struct way *way, char *name)
{
	strscpy(name, way->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(way, ways, way_name);

static void it_works_with_every_host(struct kunit *test)
{
	const struct way *way = test->param_value;
	struct fh *host = test->priv;

	host->thread = way->thread;
	guest_plug(test, way->features);
	resize(test, 96 * FH_MIB);
	resize(test, 7 * FH_MIB + 5 * FH_PPP);
	resize(test, 11 * FH_MIB + 3 * FH_PPP);
	resize(test, 0);
}

/* With EVENT_IDX, after most of the buffers in flight */
static void few_interrupts_are_asked_for(struct kunit *test)
{
	struct fh *host = guest_plug(test, EVENT_IDX);
	struct fh_queue *hq = &host->queues[FH_INFLATE];
	unsigned int i;

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 64 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(hq->fetched == 64));
	guest_sleep(HZ / 20);
	for (i = 0; i < 64; i++)
		fh_release(host, FH_INFLATE, 1);
	KUNIT_EXPECT_GE(test, hq->nr_irqs, 1);
	KUNIT_EXPECT_LE(test, hq->nr_irqs, time_travels() ? 1 : 3);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * FH_MIB));
}

/* The host uses what it has but for one buffer, and looks whether more comes. */
static void expect_pause(struct kunit *test, struct fh *host,
			 enum fh_queue_nr q)
{
	u64 seen = buffers(host, q);

	fh_release(host, q, fh_fetched(host, q) - 1);
	guest_sleep(HZ / 20);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, buffers(host, q), seen);
	fh_release(host, q, 1);
}

/* A host may do nothing else while there is a buffer for it. */
static void each_group_finds_an_empty_queue(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned int i;

	fh_policy(host, FH_INFLATE, holding);
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 32 * FH_MIB);
	for (i = 1; i < 4; i++) {
		KUNIT_ASSERT_TRUE(test, fh_until(buffers(host, FH_INFLATE) ==
						 i * GROUP));
		expect_pause(test, host, FH_INFLATE);
	}
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 32 * FH_MIB));

	fh_target(host, 0);
	for (i = 1; i < 4; i++) {
		KUNIT_ASSERT_TRUE(test, fh_until(buffers(host, FH_DEFLATE) ==
						 i * GROUP));
		expect_pause(test, host, FH_DEFLATE);
	}
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* One that keeps a buffer for ever costs a tenth of a second a group. */
static void a_kept_buffer_is_not_waited_for(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start;

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 128 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(buffers(host, FH_INFLATE) == GROUP));
	fh_release(host, FH_INFLATE, GROUP - 1);
	start = jiffies;
	KUNIT_EXPECT_TRUE(test, fh_until(buffers(host, FH_INFLATE) > GROUP));
	if (time_travels()) {
		KUNIT_EXPECT_GE(test, jiffies - start, HZ / 10UL);
		KUNIT_EXPECT_LE(test, jiffies - start, HZ / 4UL);
	}
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 128 * FH_MIB));
}

/*
 * A host that is slow, silent or forgetful
 */

/* Uses @nr buffers, twenty or ten a second */
static void trickle(struct fh *host, enum fh_queue_nr q, unsigned int nr,
		    unsigned int each_second)
{
	while (nr--) {
		guest_sleep(HZ / each_second);
		fh_release(host, q, 1);
	}
}

/* One that takes half a second for a group has its pause, too. */
static void a_slow_host_has_its_pause(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 160 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(buffers(host, FH_INFLATE) == GROUP));
	trickle(host, FH_INFLATE, GROUP - 1, 20);
	if (time_travels())
		KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), GROUP);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 160 * FH_MIB));
}

/* A step that takes longer than two seconds ends: there may be another target. */
static void a_slow_host_is_asked_what_it_wants(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long before;

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 64 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) ==
					 GROUP));
	before = reads(host);
	trickle(host, FH_INFLATE, 42, 12);
	KUNIT_EXPECT_GE(test, reads(host) - before, 1);
	if (time_travels())
		KUNIT_EXPECT_LE(test, reads(host) - before, 2);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * FH_MIB));
}

static void a_new_target_ends_a_step(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 64 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) ==
					 GROUP));
	fh_target(host, 0);
	trickle(host, FH_INFLATE, 48, 12);
	KUNIT_EXPECT_LE(test, buffers(host, FH_INFLATE), 2 * GROUP);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

/* Two seconds, after one pause; then once more every second */
static void a_silent_host_stalls_it(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start = jiffies;

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 96 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(in_state(host, "stalled")));
	KUNIT_EXPECT_GE(test, jiffies - start, 2UL * HZ);
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, 2UL * HZ + HZ / 4);
	KUNIT_EXPECT_EQ(test, look(host).held, 0L);
	KUNIT_EXPECT_EQ(test, look(host).offered, 64L * FH_MIB / FH_PPP);
	KUNIT_EXPECT_EQ(test, writes(host), 1);

	fh_policy(host, FH_INFLATE, prompt);
	start = jiffies;
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 96 * FH_MIB));
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, HZ + HZ / 10UL);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "idle")));
}

/* Ten times a second: eight kicks, and twenty times in two seconds */
static void a_silent_host_is_told_again(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 96 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(in_state(host, "stalled")));
	if (time_travels())
		KUNIT_EXPECT_GE(test, notified(host, FH_INFLATE), 8 + 18);
	KUNIT_EXPECT_LE(test, notified(host, FH_INFLATE), 8 + 21);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 96 * FH_MIB));
}

static void a_lost_notification_costs_a_moment(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start = jiffies;

	fh_policy(host, FH_INFLATE, (struct fh_policy){ .drop = 4 });
	fh_policy(host, FH_DEFLATE, (struct fh_policy){ .drop = 3 });
	resize(test, 64 * FH_MIB);
	resize(test, 0);
	if (time_travels())
		KUNIT_EXPECT_LT(test, jiffies - start, 1UL * HZ);
	KUNIT_EXPECT_EQ(test, notified(host, FH_INFLATE), 9);
	KUNIT_EXPECT_EQ(test, notified(host, FH_DEFLATE), 9);
}

/* Interrupts that are never raised: it looks by itself, once for each group. */
static void a_lost_interrupt_costs_a_moment(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long start;

	host->thread = FH_WORK;
	guest_plug(test, 0);
	start = jiffies;
	fh_policy(host, FH_INFLATE, (struct fh_policy){ .mute = true });
	fh_policy(host, FH_DEFLATE, (struct fh_policy){ .mute = true });
	resize(test, 64 * FH_MIB);
	resize(test, 0);
	if (time_travels())
		KUNIT_EXPECT_LT(test, jiffies - start, 2UL * HZ);
}

/* What is not used yet is not given back, however little the host wants. */
static void b16_a_falling_target_deflates_no_offered_page(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 32 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 32));
	fh_target(host, 8 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "stalled")));
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 0);
	fh_release(host, FH_INFLATE, 4);
	guest_sleep(HZ / 5);
	KUNIT_EXPECT_LE(test, host->queues[FH_DEFLATE].nr_pages, 4 * BUFFER);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 8 * FH_MIB));
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_pages, 32 * FH_MIB);
}

/* A step sees to the end what it has begun; the next one is to the new size. */
static void a_new_target_counts_from_the_next_step(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 256 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 64));
	fh_target(host, 80 * FH_MIB);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 80 * FH_MIB));
	KUNIT_EXPECT_LE(test, host->queues[FH_INFLATE].nr_pages, 128 * FH_MIB);
}

/* Sizing that waits for the host reads what it wants once more afterwards. */
static void the_target_may_change_while_stalled(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 96 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(in_state(host, "stalled")));
	fh_target(host, 66 * FH_MIB);
	guest_sleep(HZ / 5);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 66 * FH_MIB));
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_pages, 66 * FH_MIB);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_DEFLATE), 0);
}

/* Or what came back would be offered before the host heard of its return. */
static void all_deflation_ends_before_inflation(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	resize(test, 16 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 8 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_DEFLATE) == 8));
	fh_target(host, 24 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "stalled")));
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 16);
	fh_release(host, FH_DEFLATE, 7);
	guest_sleep(HZ / 5);
	KUNIT_EXPECT_EQ(test, buffers(host, FH_INFLATE), 16);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 24 * FH_MIB));
}

struct breaking {
	const char *name;
	enum fh_queue_nr q;
	u64 features;
	bool enlisted;
};

static const struct breaking breakings[] = {
	{ "inflating", FH_INFLATE, 0, false },
	{ "deflating", FH_DEFLATE, 0, false },
	{ "deflating, MUST_TELL_HOST", FH_DEFLATE, FH_BIT(MUST_TELL_HOST),
	  false },
	{ "deflating from mm's list", FH_DEFLATE, 0, true },
};

static void breaking_name(const struct breaking *breaking, char *name)
{
	strscpy(name, breaking->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(breaking, breakings, breaking_name);

static void break_on_notify(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type == FH_EV_NOTIFY && arg == (unsigned long)host->hook_data)
		virtio_break_device(&host->dev->vdev);
}

/* The first group of buffers is the device's, and the next one it refuses. */
static void a_device_may_break_amid_a_step(struct kunit *test)
{
	const struct breaking *breaking = test->param_value;
	struct fh *host = guest_plug(test, breaking->features);
	unsigned long total = totalram_pages();

	resize(test, 32 * FH_MIB);
	if (breaking->enlisted)
		KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	host->hook_data = (void *)breaking->q;
	host->hook = break_on_notify;
	fh_target(host, breaking->q == FH_INFLATE ? 64 * FH_MIB : 0);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "broken")));
	host->hook = NULL;
	KUNIT_EXPECT_EQ(test, look(host).held, 0L);
	KUNIT_EXPECT_EQ(test, look(host).offered, 0L);
	KUNIT_EXPECT_EQ(test, look(host).returned, 32L * FH_MIB / FH_PPP);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
	KUNIT_EXPECT_LE(test, buffers(host, breaking->q) -
			(breaking->q == FH_INFLATE ? 32 : 0), 16);
}

/* With one buffer, half of a block waits for the next; not while stalled. */
static void a_stalled_step_keeps_nothing(struct kunit *test)
{
	long before = guest_free_pages();
	struct fh *host = test->priv;
	unsigned int i;

	test_is_slow(test);
	host->sizes[FH_INFLATE] = 1;
	guest_plug(test, 0);
	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 32 * FH_MIB);
	for (i = 0; i < 8; i++) {
		KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE)));
		guest_sleep(3 * HZ);
		fh_release(host, FH_INFLATE, 1);
	}
	fh_unplug(host);
	KUNIT_EXPECT_GE(test, guest_free_pages(), before - 2 * slack());
}

/*
 * `actual` while it takes long
 */

/* Counts writes of `actual` that came less than a tenth of a second later. */
static unsigned int close_writes(struct fh *host, long from)
{
	long n = fh_find_event(host, from, FH_EV_WRITE, -1, ACTUAL);
	unsigned long last, when;
	unsigned int nr = 0;

	last = host->events[n % FH_EVENTS].when;
	for (;;) {
		n = fh_find_event(host, n + 1, FH_EV_WRITE, -1, ACTUAL);
		if (n < 0)
			return nr;
		when = host->events[n % FH_EVENTS].when;
		nr += when - last < HZ / 10;
		last = when;
	}
}

/* Ten times a second, and when it is done */
static void b18_actual_is_written_ten_times_a_second(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start, tenths, from = host->nr_events;
	unsigned int i;

	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 64 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 64));
	start = jiffies;
	for (i = 0; i < 64; i++) {
		fh_release(host, FH_INFLATE, 1);
		guest_sleep(HZ / 50);
	}
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * FH_MIB));
	tenths = (jiffies - start) / (HZ / 10);
	KUNIT_EXPECT_LE(test, close_writes(host, from), 1U);
	if (time_travels())
		KUNIT_EXPECT_GE(test, writes(host), tenths - tenths / 4);
	KUNIT_EXPECT_LE(test, writes(host), 1 + tenths + 1);
	fh_policy(host, FH_INFLATE, prompt);
}

/*
 * The guest's memory
 */

/* Stops at its floor, and looks again: after 200 ms, 400 ms .. 30 s. */
static void it_stops_at_its_floor(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long floor = inside_floor(&host->dev->vdev);
	long target = totalram_pages();

	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_GE(test, si_mem_available(), (long)floor - slack());
	KUNIT_EXPECT_LE(test, si_mem_available(), (long)floor + 2 * slack());
	KUNIT_EXPECT_EQ(test, inside_floor(&host->dev->vdev), floor);
	KUNIT_EXPECT_EQ(test, look(host).target, target);
	resize(test, 0);
}

/* Gaps between reads of the target since event @from; how many */
static unsigned int gaps_of_reads(struct fh *host, long from,
				  unsigned long *gaps, unsigned int max)
{
	unsigned long last = 0, when;
	unsigned int nr = 0;
	long n = from - 1;

	while (nr < max) {
		n = fh_find_event(host, n + 1, FH_EV_READ, -1, NUM_PAGES);
		if (n < 0)
			break;
		when = host->events[n % FH_EVENTS].when;
		if (last)
			gaps[nr++] = when - last;
		last = when;
	}
	return nr;
}

static void it_looks_again_ever_less_often(struct kunit *test)
{
	unsigned long gaps[11], ms = 200;
	struct fh *host;
	unsigned int i;
	long from;

	test_is_slow(test);
	host = guest_plug(test, 0);
	fh_target(host, U32_MAX);
	KUNIT_ASSERT_TRUE(test, fh_until(in_state(host, "floor")));
	from = host->nr_events - 1;
	from = fh_find_event(host, from - 1, FH_EV_READ, -1, NUM_PAGES);
	KUNIT_ASSERT_GE(test, from, 0L);
	guest_sleep(130 * HZ);
	KUNIT_ASSERT_GE(test, gaps_of_reads(host, from, gaps, 11), 10U);
	for (i = 0; i < 10; i++, ms = min(2 * ms, 30000UL)) {
		KUNIT_EXPECT_GE(test, gaps[i], msecs_to_jiffies(ms));
		KUNIT_EXPECT_LE(test, gaps[i], msecs_to_jiffies(ms + ms / 7));
	}
	resize(test, 0);
}

/* And as soon as it finds memory it is as attentive as before. */
static void it_goes_on_when_there_is_memory(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	LIST_HEAD(hoard);
	long held;

	guest_hoard(&hoard, ilog2(BLOCK), 24);
	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).retries == 3));
	KUNIT_EXPECT_TRUE(test, in_state(host, "floor"));
	held = look(host).held;
	guest_unhoard(&hoard);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).held > held));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_GE(test, look(host).held,
			held + 23L * (long)BLOCK - others());
	KUNIT_EXPECT_LE(test, look(host).retries, 1U);
	resize(test, 0);
}

static void the_floor_may_change_at_run_time(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	long pages = SZ_1M / PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, guest_set("floor", "160"), 0);
	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_GE(test, si_mem_available(), 160 * pages - slack());
	KUNIT_EXPECT_LE(test, si_mem_available(), 160 * pages + 2 * slack());
	guest_set("floor", "100");
	KUNIT_EXPECT_TRUE(test, fh_until(si_mem_available() < 110 * pages));
	KUNIT_EXPECT_TRUE(test, fh_until(in_state(host, "floor")));
	KUNIT_EXPECT_GE(test, si_mem_available(), 100 * pages - slack());
	KUNIT_EXPECT_LE(test, si_mem_available(), 100 * pages + 2 * slack());
	resize(test, 0);
}

/* A new size begins anew: no waiting for the end of an old back-off. */
static void a_new_target_ends_the_back_off(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start;

	fh_target(host, U32_MAX);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).retries == 4));
	start = jiffies;
	fh_target(host, U32_MAX - 1);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).retries == 1));
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, HZ / 10UL);
	resize(test, 0);
}

/* By a shell: some files take nothing from the kernel itself. */
static int shell_write(const char *value, const char *path)
{
	char command[80];
	char *argv[4] = { "sh", "-c", command, NULL };
	char *envp[2] = { "PATH=/bin", NULL };

	snprintf(command, sizeof(command), "echo %s >%s", value, path);
	return call_usermodehelper("/bin/busybox", argv, envp, UMH_WAIT_PROC);
}

static int set_fault(const char *name, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/fail_page_alloc/%s",
		 name);
	return shell_write(value, path);
}

/* So many allocations of tasks that are marked fail, of any kind. */
static int set_faults(const char *times)
{
	return set_fault("task-filter", "1") ?: set_fault("verbose", "0") ?:
	       set_fault("min-order", "0") ?:
	       set_fault("ignore-gfp-wait", "N") ?:
	       set_fault("ignore-gfp-highmem", "N") ?:
	       set_fault("times", times) ?: set_fault("probability", "100");
}

static void let_kworkers_fail(bool fail)
{
#ifdef CONFIG_FAULT_INJECTION
	struct task_struct *task;

	rcu_read_lock();
	for_each_process(task)
		if (!strncmp(task->comm, "kworker", 7))
			task->make_it_fail = fail;
	rcu_read_unlock();
#endif
}

/* Ten orders are tried each time: the first four attempts fail. */
static void without_memory_it_tries_again(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	if (set_faults("40"))
		kunit_skip(test, "this kernel does not inject faults");
	let_kworkers_fail(true);
	fh_target(host, 16 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).retries == 3));
	KUNIT_EXPECT_TRUE(test, in_state(host, "no-memory"));
	KUNIT_EXPECT_EQ(test, look(host).held, 0L);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 16 * FH_MIB));
	KUNIT_EXPECT_EQ(test, look(host).retries, 0U);
	let_kworkers_fail(false);
	set_fault("probability", "0");
}

/* Without DEFLATE_ON_OOM, by what the host has confirmed and not let go of */
static void mem_total_follows_what_is_held(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long total = totalram_pages();

	resize(test, 16 * FH_MIB);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total - 16 * FH_MIB / FH_PPP);
	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 32 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE) == 16));
	KUNIT_EXPECT_EQ(test, totalram_pages(), total - 16 * FH_MIB / FH_PPP);
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 32 * FH_MIB));
	KUNIT_EXPECT_EQ(test, totalram_pages(), total - 32 * FH_MIB / FH_PPP);
	resize(test, 3 * FH_PPP);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total - 3);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
}

static void mem_total_waits_for_a_host_to_be_told(struct kunit *test)
{
	struct fh *host = guest_plug(test, FH_BIT(MUST_TELL_HOST));
	unsigned long total = totalram_pages();

	resize(test, 16 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holding);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_DEFLATE) == 16));
	KUNIT_EXPECT_EQ(test, totalram_pages(), total - 16 * FH_MIB / FH_PPP);
	fh_policy(host, FH_DEFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_TRUE(test, fh_until(totalram_pages() == total));
}

static void mem_total_stays_with_deflate_on_oom(struct kunit *test)
{
	struct fh *host = guest_plug(test, FH_BIT(DEFLATE_ON_OOM));
	unsigned long total = totalram_pages();

	resize(test, 32 * FH_MIB);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
	resize(test, 8 * FH_MIB);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, totalram_pages(), total);
}

/* Nor does its floor change with what it holds. */
static void its_floor_is_of_all_memory(struct kunit *test)
{
	struct fh *host = guest_plug(test, FH_BIT(DEFLATE_ON_OOM));
	unsigned long floor = inside_floor(&host->dev->vdev);

	resize(test, 128 * FH_MIB);
	KUNIT_EXPECT_EQ(test, inside_floor(&host->dev->vdev), floor);
	fh_unplug(host);
	host->features &= ~FH_BIT(DEFLATE_ON_OOM);
	guest_plug(test, 0);
	KUNIT_EXPECT_EQ(test, inside_floor(&host->dev->vdev), floor);
	resize(test, 128 * FH_MIB);
	KUNIT_EXPECT_EQ(test, inside_floor(&host->dev->vdev), floor);
}

/*
 * Held pages
 */

static void events_of(unsigned long *inflated, unsigned long *deflated)
{
	unsigned long *ev = kcalloc(NR_VM_EVENT_ITEMS, sizeof(*ev), GFP_KERNEL);

	if (!ev)
		return;
	all_vm_events(ev);
	*inflated = ev[BALLOON_INFLATE];
	*deflated = ev[BALLOON_DEFLATE];
	kfree(ev);
}

/* /proc/vmstat, when mm gets the pages or they leave without */
static void vmstat_counts_every_page_once(struct kunit *test)
{
	unsigned long in[4] = { }, out[4] = { };
	struct fh *host = guest_plug(test, 0);

	events_of(&in[0], &out[0]);
	resize(test, 16 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	events_of(&in[1], &out[1]);
	KUNIT_EXPECT_EQ(test, in[1] - in[0], 16UL * FH_MIB / FH_PPP);
	KUNIT_EXPECT_EQ(test, out[1], out[0]);
	resize(test, 20 * FH_MIB);
	resize(test, 18 * FH_MIB);
	events_of(&in[2], &out[2]);
	KUNIT_EXPECT_EQ(test, in[2] - in[1], 2UL * FH_MIB / FH_PPP);
	KUNIT_EXPECT_EQ(test, out[2] - out[1], 2UL * FH_MIB / FH_PPP);
	resize(test, 0);
	events_of(&in[3], &out[3]);
	KUNIT_EXPECT_EQ(test, in[3] - in[0], 20UL * FH_MIB / FH_PPP);
	KUNIT_EXPECT_EQ(test, out[3] - out[0], 20UL * FH_MIB / FH_PPP);
}

static void mm_gets_the_pages_a_second_after_rest(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	long held = 80L * FH_MIB / FH_PPP;
	unsigned long start;

	resize(test, 80 * FH_MIB);
	start = jiffies;
	KUNIT_EXPECT_EQ(test, look(host).runs, held);
	if (time_travels()) {
		guest_sleep(HZ - HZ / 10);
		KUNIT_EXPECT_EQ(test, look(host).runs, held);
	}
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).runs != held));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, HZ + HZ / 10UL);
	KUNIT_EXPECT_EQ(test, look(host).held, held);
}

/* 64 MiB at a time, the oldest first; which it does not begin while sizing */
static void mm_gets_no_page_while_sizing_goes_on(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned int i;

	resize(test, 16 * FH_MIB);
	guest_sleep(HZ / 2);
	fh_policy(host, FH_INFLATE, holding);
	fh_target(host, 48 * FH_MIB);
	for (i = 0; i < 15; i++) {
		guest_sleep(HZ / 10);
		KUNIT_EXPECT_EQ(test, look(host).runs, look(host).held);
		fh_release(host, FH_INFLATE, 1);
	}
	KUNIT_EXPECT_TRUE(test, in_state(host, "inflating"));
	fh_policy(host, FH_INFLATE, prompt);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 48 * FH_MIB));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
}

/* A copy of what is inflated; NULL without memory */
static unsigned long *owned(struct fh *host)
{
	unsigned long *map = bitmap_zalloc(host->nr_pfns, GFP_KERNEL);
	unsigned long pfn;

	for (pfn = 0; map && pfn < host->nr_pfns; pfn++)
		if (fh_owner_of(host, pfn) == FH_OWNED)
			__set_bit(pfn, map);
	return map;
}

static unsigned long count_owned(struct fh *host, unsigned long *map,
				 unsigned long nr_pfns)
{
	unsigned long pfn, nr = 0;

	for_each_set_bit(pfn, map, nr_pfns)
		nr += fh_owner_of(host, pfn) == FH_OWNED;
	return nr;
}

static void the_newest_pages_are_deflated_first(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long *map, nr_pfns;

	resize(test, 8 * FH_MIB);
	nr_pfns = host->nr_pfns;
	map = owned(host);
	KUNIT_ASSERT_NOT_NULL(test, map);
	resize(test, 16 * FH_MIB);
	fh_target(host, 8 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 8 * FH_MIB));
	KUNIT_EXPECT_EQ(test, count_owned(host, map, nr_pfns), 8UL * FH_MIB);
	bitmap_free(map);
}

struct coming_back {
	const char *name;
	u64 features;
	bool enlisted;
};

static const struct coming_back comings_back[] = {
	{ "as runs", 0, false },
	{ "from mm's list", 0, true },
	{ "as runs, MUST_TELL_HOST", FH_BIT(MUST_TELL_HOST), false },
	{ "from mm's list, MUST_TELL_HOST", FH_BIT(MUST_TELL_HOST), true },
};

static void coming_back_name(const struct coming_back *way, char *name)
{
	strscpy(name, way->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(coming_back, comings_back, coming_back_name);

/* Of the whole blocks of @map, those that are free in one piece, or not */
static unsigned long count_blocks(struct kunit *test, unsigned long *map,
				  unsigned long nr_pfns, bool free)
{
	const unsigned long block = BLOCK * FH_PPP;
	unsigned long pfn, nr = 0;

	for (pfn = 0; pfn + block <= nr_pfns; pfn += block) {
		if (find_next_zero_bit(map, pfn + block, pfn) < pfn + block)
			continue;
		nr += (guest_free_order(pfn / FH_PPP) >= (int)ilog2(BLOCK)) ==
		      free;
	}
	return nr;
}

/* 48 MiB: more than mm keeps aside for the processors */
static void blocks_come_back_whole(struct kunit *test)
{
	const struct coming_back *way = test->param_value;
	struct fh *host = guest_plug(test, way->features);
	unsigned long *map, nr_pfns, blocks;

	resize(test, 48 * FH_MIB);
	if (way->enlisted)
		KUNIT_EXPECT_TRUE(test, fh_until(!look(host).runs));
	nr_pfns = host->nr_pfns;
	map = owned(host);
	KUNIT_ASSERT_NOT_NULL(test, map);
	blocks = count_blocks(test, map, nr_pfns, false);
	KUNIT_EXPECT_GE(test, blocks, 20UL);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).held));
	guest_sleep(HZ / 5);
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		KUNIT_EXPECT_EQ(test, count_blocks(test, map, nr_pfns, true),
				blocks);
	KUNIT_EXPECT_GE(test, count_blocks(test, map, nr_pfns, true),
			blocks - (time_travels() ? 8 : blocks / 2));
	bitmap_free(map);
}

struct profile {
	long long bytes;
	unsigned long long calls;
};

/* What mm says of all that the driver has allocated */
static struct profile profile(struct kunit *test)
{
	char *text = kvzalloc(SZ_1M, GFP_KERNEL), *rest = text, *line;
	struct profile one, sum = { };

	KUNIT_ASSERT_NOT_NULL(test, text);
	KUNIT_EXPECT_GT(test, guest_read("/proc/allocinfo", text, SZ_1M), 0L);
	while ((line = strsep(&rest, "\n"))) {
		if (!strstr(line, "virtio_balloon.c:") ||
		    sscanf(line, "%lld %llu", &one.bytes, &one.calls) != 2)
			continue;
		sum.bytes += one.bytes;
		sum.calls += one.calls;
	}
	kvfree(text);
	return sum;
}

/* Whole blocks are freed as one, which would count as one of their pages. */
static void mms_profile_of_allocations_stays_true(struct kunit *test)
{
	const char *control = "/proc/sys/vm/mem_profiling";
	struct profile before, held, after;

	if (!IS_ENABLED(CONFIG_MEM_ALLOC_PROFILING))
		kunit_skip(test, "this kernel has no such profile");
	guest_plug(test, 0);
	KUNIT_ASSERT_EQ(test, shell_write("1", control), 0);
	before = profile(test);
	resize(test, 64 * FH_MIB);
	held = profile(test);
	resize(test, 0);
	after = profile(test);
	KUNIT_EXPECT_EQ(test, shell_write("0", control), 0);
	KUNIT_EXPECT_GE(test, held.bytes, before.bytes + SZ_64M);
	KUNIT_EXPECT_EQ(test, after.bytes, before.bytes);
	KUNIT_EXPECT_EQ(test, after.calls, before.calls);
}

static u32 some_owned(struct fh *host)
{
	u32 pfn;

	for (pfn = 0; pfn < host->nr_pfns; pfn++)
		if (pfn % (BLOCK * FH_PPP) == 5 * FH_PPP &&
		    fh_owner_of(host, pfn) == FH_OWNED)
			return pfn;
	return 0;
}

/* As compaction scanners do: it only must not be lost, or freed too early. */
static void a_page_somebody_looks_at_is_freed_by_him(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	struct page *page;
	unsigned long pfn;

	resize(test, 4 * FH_MIB);
	pfn = some_owned(host) / FH_PPP;
	KUNIT_ASSERT_NE(test, pfn, 0UL);
	page = pfn_to_page(pfn);
	get_page(page);
	resize(test, 0);
	KUNIT_EXPECT_EQ(test, page_count(page), 1);
	KUNIT_EXPECT_EQ(test, guest_free_order(pfn), -1);
	KUNIT_EXPECT_EQ(test, page_count(page - 1), 0);
	KUNIT_EXPECT_EQ(test, page_count(page + 1), 0);
	put_page(page);
	KUNIT_EXPECT_EQ(test, page_count(page), 0);
}

/*
 * At random
 */

static u32 some(u64 *seed, u32 max)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (u32)(*seed >> 33) % max;
}

static void a_thousand_targets(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i, nr = time_travels() ? 1000 : 100;
	u64 seed = test_seed;
	u32 pages;

	host->thread = FH_WORK;
	guest_plug(test, 0);
	for (i = 0; i < nr; i++) {
		pages = some(&seed, (i % 50 ? 8 : 96) * FH_MIB / FH_PPP) *
			FH_PPP;
		fh_target(host, pages);
		if (i % 3 == 0)
			guest_sleep(some(&seed, HZ / 10));
		if (i % 10 == 0)
			KUNIT_ASSERT_TRUE(test, fh_settles(host, pages));
	}
	KUNIT_EXPECT_TRUE(test, fh_settles(host, pages));
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(buffers_are_full_and_kicked_in_groups, cost_gen_params),
	KUNIT_CASE_PARAM(the_target_is_read_once_a_step, cost_gen_params),
	KUNIT_CASE(b18_actual_is_written_once_an_operation),
	KUNIT_CASE(pages_are_offered_as_ascending_blocks),
	KUNIT_CASE(pages_are_announced_as_they_lie),
	KUNIT_CASE(where_there_are_no_blocks_it_takes_pieces),
	KUNIT_CASE_PARAM(as_many_buffers_are_in_flight_as_there_can_be,
			 size_gen_params),
	KUNIT_CASE_PARAM(deflating_leaves_a_reserve, size_gen_params),
	KUNIT_CASE(what_is_announced_is_free),
	KUNIT_CASE_PARAM(it_works_with_every_host, way_gen_params),
	KUNIT_CASE(few_interrupts_are_asked_for),
	KUNIT_CASE(each_group_finds_an_empty_queue),
	KUNIT_CASE(a_kept_buffer_is_not_waited_for),
	KUNIT_CASE(a_slow_host_has_its_pause),
	KUNIT_CASE(a_slow_host_is_asked_what_it_wants),
	KUNIT_CASE(a_new_target_ends_a_step),
	KUNIT_CASE(a_silent_host_stalls_it),
	KUNIT_CASE(a_silent_host_is_told_again),
	KUNIT_CASE(a_lost_notification_costs_a_moment),
	KUNIT_CASE(a_lost_interrupt_costs_a_moment),
	KUNIT_CASE(b16_a_falling_target_deflates_no_offered_page),
	KUNIT_CASE(a_new_target_counts_from_the_next_step),
	KUNIT_CASE(the_target_may_change_while_stalled),
	KUNIT_CASE(all_deflation_ends_before_inflation),
	KUNIT_CASE_PARAM(a_device_may_break_amid_a_step, breaking_gen_params),
	KUNIT_CASE(a_stalled_step_keeps_nothing),
	KUNIT_CASE(b18_actual_is_written_ten_times_a_second),
	KUNIT_CASE(it_stops_at_its_floor),
	KUNIT_CASE(it_looks_again_ever_less_often),
	KUNIT_CASE(it_goes_on_when_there_is_memory),
	KUNIT_CASE(the_floor_may_change_at_run_time),
	KUNIT_CASE(a_new_target_ends_the_back_off),
	KUNIT_CASE(without_memory_it_tries_again),
	KUNIT_CASE(mem_total_follows_what_is_held),
	KUNIT_CASE(mem_total_waits_for_a_host_to_be_told),
	KUNIT_CASE(mem_total_stays_with_deflate_on_oom),
	KUNIT_CASE(its_floor_is_of_all_memory),
	KUNIT_CASE(vmstat_counts_every_page_once),
	KUNIT_CASE(mm_gets_the_pages_a_second_after_rest),
	KUNIT_CASE(mm_gets_no_page_while_sizing_goes_on),
	KUNIT_CASE(the_newest_pages_are_deflated_first),
	KUNIT_CASE_PARAM(blocks_come_back_whole, coming_back_gen_params),
	KUNIT_CASE(mms_profile_of_allocations_stays_true),
	KUNIT_CASE(a_page_somebody_looks_at_is_freed_by_him),
	KUNIT_CASE(a_thousand_targets),
	{}
};

static void sizing_exit(struct kunit *test)
{
	guest_reset();
	fh_suite_exit(test);
}

struct kunit_suite sizing_suite = {
	.name = "virtio_balloon_sizing",
	.init = fh_suite_init,
	.exit = sizing_exit,
	.test_cases = cases,
};
