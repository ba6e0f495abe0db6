// SPDX-License-Identifier: GPL-2.0-only
/*
 * Free page hinting: what the driver sends for what the host says, which blocks
 * it lends, and who owns them when.
 */

#include <linux/memory.h>
#include <linux/mm.h>

#include <compat/mm.h>

#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "short.h"
#include "suites.h"

#define HINT		FH_BIT(FREE_PAGE_HINT)
#define MIB		(SZ_1M / PAGE_SIZE)	/* guest pages */
#define STOP		VIRTIO_BALLOON_CMD_ID_STOP
#define DONE		VIRTIO_BALLOON_CMD_ID_DONE
#define CMD_ID		offsetof(struct virtio_balloon_config, \
				 free_page_hint_cmd_id)

static bool is_block(const struct fh_event *ev)
{
	return ev->a != sizeof(u32);
}

/* The next buffer that the host saw from number @n on, or -1 */
static long next_seen(struct fh *host, long n)
{
	return fh_find_event(host, n, FH_EV_SEEN, FH_HINT, -1);
}

/* What the host saw: digits are ids, s is STOP, b is one block or more. */
static void spell_commands(struct fh *host, char *text, unsigned int size)
{
	const struct fh_event *ev;
	unsigned int len = 0;
	char what;
	long n;

	for (n = next_seen(host, 0); n >= 0; n = next_seen(host, n + 1)) {
		ev = fh_event_at(host, n);
		what = is_block(ev) ? 'b' : ev->b ? '0' + ev->b : 's';
		if (what == 'b' && len && text[len - 1] == 'b')
			continue;
		if (len < size - 1)
			text[len++] = what;
	}
	text[len] = 0;
}

static void expect_commands(struct kunit *test, const char *want)
{
	struct fh *host = test->priv;
	char text[32];

	fh_until(({
		spell_commands(host, text, sizeof(text));
		!strcmp(text, want);
	}));
	KUNIT_EXPECT_STREQ(test, text, want);
}

/* Guest pages of the blocks that are not free, of those ever seen */
static unsigned long kept_blocks(struct fh *host)
{
	const struct fh_event *ev;
	unsigned long pages = 0;
	long n;

	for (n = next_seen(host, 0); n >= 0; n = next_seen(host, n + 1)) {
		ev = fh_event_at(host, n);
		if (is_block(ev) && guest_free_order(ev->b / FH_PPP) < 0)
			pages += ev->a / PAGE_SIZE;
	}
	return pages;
}

/* Those that the host has not used: none is free, and none was written to. */
static void b36_blocks_wait_for_the_host(struct kunit *test, struct fh *host)
{
	unsigned long pfn, hinting = 0, nr_free = 0;

	for (pfn = 0; pfn < host->nr_pfns; pfn += FH_PPP) {
		if (fh_owner_of(host, pfn) != FH_HINTING)
			continue;
		hinting++;
		nr_free += guest_free_order(pfn / FH_PPP) >= 0;
	}
	KUNIT_EXPECT_EQ(test, nr_free, 0UL);
	KUNIT_EXPECT_GE(test, look(host).hinting, (long)hinting);
	fh_check(host);
}

/*
 * A host's words, one letter each, and what comes of them
 */

struct round {
	const char *why;
	const char *host;
	const char *commands;
	bool hinting;			/* at the end: not used */
	bool hinted;			/* used, and not free */
};

/*
 * Digits: that id, s: STOP, d: DONE, c: nothing new; h: keeps buffers, r: uses
 * one, u: uses them all. And the guest: p: has no memory, f: keeps all it has.
 */
static const struct round rounds[] = {
	{ "STOP is no id", "s", "", false, false },
	{ "DONE is no id", "d", "", false, false },
	{ "b31 b35 id, blocks, STOP", "2", "2bs", false, true },
	{ "b32 an id is begun once", "22", "2bs", false, true },
	{ "b32 nor by an interrupt", "2c", "2bs", false, true },
	{ "b32 nor after STOP", "2s2", "2bs", false, false },
	{ "STOP frees", "2s", "2bs", false, false },
	{ "b39 DONE frees", "2d", "2bs", false, false },
	{ "a new id frees", "23", "2bs3bs", false, true },
	{ "from round to round", "2s3d4", "2bs3bs4bs", false, true },
	{ "the end of memory frees", "2p", "2bs", false, false },
	{ "but not for ever", "2p3", "2bs3bs", false, true },
	{ "nothing to lend", "f2", "2s", false, false },
	{ "a slow host has a part", "h2", "2b", true, false },
	{ "and gets the rest", "h2u", "2bs", false, true },
	{ "b34 STOP ends a round", "h2s", "2bs", true, false },
	{ "b36 and frees what is used", "h2su", "2bs", false, false },
	{ "b34 DONE ends a round", "h2d", "2bs", true, false },
	{ "b36 DONE frees what is used", "h2du", "2bs", false, false },
	{ "a new id ends a round", "h23", "2bs", true, false },
	{ "and begins when all is used", "h23u", "2bs3bs", false, true },
	{ "the last id counts", "h234u", "2bs4bs", false, true },
	{ "STOP takes an id back", "h23su", "2bs", false, false },
	{ "no memory ends a round", "h2p", "2bs", true, false },
	{ "b36 what is used then stays", "h2pu", "2bs", false, true },
	{ "till it is needed", "h2pup", "2bs", false, false },
	{ "four commands at a time", "fh234", "2s3s", false, false },
	{ "and then the next", "fh234u", "2s3s4s", false, false },
	{ "no room for STOP", "fh23r4", "2s3s4", false, false },
	{ "STOP when there is", "fh23r4u", "2s3s4s", false, false },
};

static void round_name(const struct round *round, char *name)
{
	snprintf(name, KUNIT_PARAM_DESC_SIZE, "%s: %s",
		 round->host, round->why);
}

KUNIT_ARRAY_PARAM(round, rounds, round_name);

/* The guest runs out of memory until nothing more comes of it. */
static void press(struct fh *host)
{
	while (inside_oom(&host->dev->vdev))
		;
}

/* So long, and until the driver has done all that it does */
static void rest(struct fh *host, unsigned long jiffies)
{
	unsigned long hinted;
	u64 seen;

	if (!time_travels())
		jiffies *= 2;
	do {
		fh_until(look(host).heard);
		seen = buffers(host, FH_HINT);
		hinted = look(host).hinted;
		guest_sleep(jiffies);
	} while (buffers(host, FH_HINT) != seen || look(host).hinted != hinted);
}

static void say(struct fh *host, char what)
{
	switch (what) {
	case 'h':
		fh_policy(host, FH_HINT, holding);
		return;
	case 'r':
		fh_release(host, FH_HINT, 1);
		rest(host, HZ + HZ / 4);
		return;
	case 'u':
		fh_policy(host, FH_HINT, prompt);
		rest(host, HZ + HZ / 4);
		return;
	case 'p':
		press(host);
		rest(host, HZ + HZ / 4);
		return;
	case 'f':
		guest_set("floor", "1000000");
		return;
	case 'c':
		fh_config_irq(host);
		break;
	default:
		fh_hint(host, what == 's' ? STOP : what == 'd' ? DONE :
			what - '0');
	}
	rest(host, HZ / 4);
}

/* Room for so much, and no more */
static void leave_room(long mib)
{
	char floor[12];

	snprintf(floor, sizeof(floor), "%ld", si_mem_available() / (long)MIB -
		 mib);
	guest_set("floor", floor);
}

/* More than is lent at a time, but not much, as it all is written to. */
static void rounds_go_as_the_host_says(struct kunit *test)
{
	const struct round *round = test->param_value;
	struct fh *host = guest_plug(test, HINT);
	long before = guest_free_pages();
	const char *what;

	leave_room(160);
	for (what = round->host; *what; what++) {
		say(host, *what);
		b36_blocks_wait_for_the_host(test, host);
	}
	expect_commands(test, round->commands);
	KUNIT_EXPECT_EQ(test, !!look(host).hinting, round->hinting);
	KUNIT_EXPECT_EQ(test, !!look(host).hinted, round->hinted);
	if (round->hinted)
		KUNIT_EXPECT_GE(test, kept_blocks(host), look(host).hinted);
	if (!round->hinting && !round->hinted)
		KUNIT_EXPECT_GE(test, guest_free_pages() + 2 * slack(),
				before);
	fh_policy(host, FH_HINT, prompt);
}

/* All that a prompt host was lent is used. */
static bool round_ends(struct fh *host)
{
	return fh_until(host->hint_begun && !host->hint_open &&
			!look(host).hinting);
}

static void it_takes_part_at_all(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	const struct fh_event *ev;
	long n;

	fh_hint(host, 0x80000001);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).rounds == 1));
	KUNIT_ASSERT_TRUE(test, fh_until((n = next_seen(host, 0)) >= 0));
	ev = fh_event_at(host, n);
	KUNIT_EXPECT_EQ(test, ev->a, sizeof(u32));
	KUNIT_EXPECT_EQ(test, ev->b, 0x80000001ULL);
}

/* An id that was there before the driver counts as well. */
static void an_id_may_have_been_there_before(struct kunit *test)
{
	struct fh *host = test->priv;

	fh_set_field(host, CMD_ID, 5);
	guest_plug(test, HINT);
	KUNIT_EXPECT_TRUE(test, round_ends(host));
	expect_commands(test, "5bs");
}

/* Two words in no time: the second is what the host wants. */
static void the_last_of_many_words_counts(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);

	fh_hint(host, 2);
	KUNIT_EXPECT_TRUE(test, round_ends(host));
	fh_hint(host, DONE);
	fh_hint(host, 3);
	fh_hint(host, 4);
	KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun == 4));
	KUNIT_EXPECT_TRUE(test, round_ends(host));
	if (time_travels())
		expect_commands(test, "2bs4bs");
}

/* After STOP it does not wait for more words. */
static void the_first_word_counts_at_once(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	unsigned long start = jiffies;

	fh_hint(host, 2);
	KUNIT_EXPECT_TRUE(test, round_ends(host));
	KUNIT_EXPECT_LE(test, fh_event_at(host, next_seen(host, 0))->when - start,
			time_travels() ? 1UL : HZ);
}

/* Some say STOP while they take hints: a new size is no reason to stop. */
static void stop_with_a_new_size_is_none(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);

	fh_hint(host, 2);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).hinted));
	fh_set_field(host, CMD_ID, STOP);
	fh_target(host, FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, FH_MIB));
	guest_sleep(HZ / 10);
	KUNIT_EXPECT_NE(test, look(host).hinted, 0UL);
	fh_config_irq(host);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinted));
	expect_commands(test, "2bs");
}

/*
 * How much
 */

/*
 * Half of what is free is with the host at a time, to the next block, or 128 MiB;
 * and as soon as it used some, some more.
 */
static void so_much_is_with_the_host_at_a_time(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	unsigned long half, lent;
	unsigned int i;

	half = (min(guest_free_pages(), si_mem_available()) -
		inside_floor(vdev_of(host))) / 2;
	half = max(half, 128 * (ulong)MIB);
	fh_policy(host, FH_HINT, holding);
	fh_hint(host, 2);
	lent = fh_lent(host) / FH_PPP;
	KUNIT_EXPECT_GE(test, lent + 8 * MIB, half);
	KUNIT_EXPECT_LE(test, lent, half + 8 * MIB);
	for (i = 0; i < 3; i++) {
		KUNIT_EXPECT_EQ(test, fh_lent(host) / FH_PPP, lent);
		KUNIT_EXPECT_EQ(test, look(host).hinting, (long)lent);
		KUNIT_EXPECT_LE(test, look(host).hinted, i * 12 * MIB);
		fh_release(host, FH_HINT, i ? 3 : 4);
	}
	fh_policy(host, FH_HINT, prompt);
}

static unsigned long free_blocks(unsigned int order)
{
	struct zone *zone;
	unsigned long nr = 0;
	int node, i;

	for_each_online_node(node)
		for (i = 0; i < MAX_NR_ZONES; i++) {
			zone = &NODE_DATA(node)->node_zones[i];
			nr += zone->free_area[order].nr_free;
		}
	return nr;
}

static unsigned long hint_all(struct kunit *test, struct fh *host)
{
	fh_hint(host, 2);
	KUNIT_ASSERT_TRUE(test, round_ends(host));
	return look(host).hinted;
}

static void all_but_the_floor_is_lent(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	long floor = inside_floor(&host->dev->vdev);

	hint_all(test, host);
	KUNIT_EXPECT_GE(test, si_mem_available(), floor - slack());
	KUNIT_EXPECT_GE(test, guest_free_pages(), floor - slack());
	KUNIT_EXPECT_LE(test, min(si_mem_available(), guest_free_pages()),
			floor + 3 * slack());
	KUNIT_EXPECT_GE(test, host->queues[FH_HINT].least, 2 * FH_MIB);
}

static void the_floor_is_that_of_the_balloon(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);

	KUNIT_ASSERT_EQ(test, guest_set("floor", "150"), 0);
	hint_all(test, host);
	KUNIT_EXPECT_GE(test, si_mem_available(), 150L * (long)MIB - slack());
	KUNIT_EXPECT_LE(test, min(si_mem_available(), guest_free_pages()),
			150L * (long)MIB + 3 * slack());
}

/* Takes blocks, and gives back those that cannot become larger ones then. */
static void leave_small_blocks(struct list_head *hoard, unsigned int order)
{
	struct page *page, *next;
	LIST_HEAD(halves);

	guest_hoard(hoard, order, 128);
	list_for_each_entry_safe(page, next, hoard, lru)
		if (page_to_pfn(page) & 1UL << order)
			list_move(&page->lru, &halves);
	guest_unhoard(&halves);
}

/* An eighth of each size is left, which the kernel itself then uses. */
static void small_blocks_are_not_all_lent(struct kunit *test)
{
	const unsigned int order = ilog2(MIB / 4);
	struct fh *host = guest_plug(test, HINT);
	unsigned long before, lent, left;
	LIST_HEAD(smaller);
	LIST_HEAD(hoard);

	guest_set("floor", "4");
	KUNIT_EXPECT_EQ(test, guest_set("hint_order", "6"), 0);
	leave_small_blocks(&smaller, order - 1);	/* for the floor */
	leave_small_blocks(&hoard, order);
	before = free_blocks(order);
	fh_hint(host, 2);
	KUNIT_EXPECT_TRUE(test, round_ends(host));
	lent = fh_count_events(host, FH_EV_SEEN, FH_HINT, PAGE_SIZE << order);
	left = free_blocks(order);
	KUNIT_EXPECT_GE(test, before, 64);
	KUNIT_EXPECT_GT(test, lent, 3 * left);
	KUNIT_EXPECT_LE(test, lent, before - before / 16);
	guest_unhoard(&hoard);
	guest_unhoard(&smaller);
}

static void the_smallest_blocks_are_as_asked_for(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	LIST_HEAD(smaller);
	LIST_HEAD(hoard);

	KUNIT_ASSERT_EQ(test, guest_set("hint_order", "6"), 0);
	guest_set("floor", "4");
	leave_small_blocks(&smaller, 5);
	leave_small_blocks(&hoard, 6);
	hint_all(test, host);
	KUNIT_EXPECT_EQ(test, host->queues[FH_HINT].least, 64 * FH_PPP);
	guest_unhoard(&hoard);
	guest_unhoard(&smaller);
}

/*
 * Rings
 */

static const unsigned int sizes[] = { 1, 2, 4, 8, 64 };

static void size_name(const unsigned int *size, char *name)
{
	snprintf(name, KUNIT_PARAM_DESC_SIZE, "ring of %u", *size);
}

KUNIT_ARRAY_PARAM(size, sizes, size_name);

static void the_ring_may_be_small(struct kunit *test)
{
	const unsigned int *size = test->param_value;
	struct fh *host = test->priv;

	host->sizes[FH_HINT] = *size;
	guest_plug(test, HINT);
	fh_hint(host, 2);
	KUNIT_EXPECT_TRUE(test, fh_until(host->hint_begun && !host->hint_open));
	expect_commands(test, *size == 1 ? "2s" : "2bs");
	fh_hint(host, DONE);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinted));
}

/* It never fills so far that STOP has no room. */
static void there_always_is_room_for_stop(struct kunit *test)
{
	struct fh *host = test->priv;

	host->sizes[FH_HINT] = 8;
	guest_plug(test, HINT);
	fh_policy(host, FH_HINT, holding);
	fh_hint(host, 2);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_HINT) == 7));
	guest_sleep(HZ / 5);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_HINT), 7U);
	fh_hint(host, STOP);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, FH_HINT) == 8));
	expect_commands(test, "2bs");
	fh_policy(host, FH_HINT, prompt);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinting));
}

static const enum fh_thread threads[] = { FH_SYNC, FH_WORK, FH_IRQ };

static void thread_name(const enum fh_thread *thread, char *name)
{
	static const char * const names[] = {
		"in the notification", "in a thread", "in an interrupt"
	};

	strscpy(name, names[*thread], KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(thread, threads, thread_name);

static void hints_and_balloon_go_together(struct kunit *test)
{
	struct fh *host = test->priv;
	u32 id;

	host->thread = *(const enum fh_thread *)test->param_value;
	guest_plug(test, HINT);
	for (id = 2; id < 8; id++) {
		fh_hint(host, id);
		fh_target(host, (id % 2 ? 64 : 96) * FH_MIB);
		guest_sleep(id % 3);
		if (id % 2)
			fh_hint(host, STOP);
	}
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 64 * FH_MIB));
	fh_hint(host, DONE);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinted &&
					 !look(host).hinting &&
					 !host->hint_open));
}

/*
 * A host that does not listen
 */

/* The first notification is lost: the second comes by itself. */
static void a_lost_notification_delays_hints_a_moment(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	unsigned long start = jiffies;

	fh_policy(host, FH_HINT, (struct fh_policy){ .drop = 1 });
	fh_hint(host, 2);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).hinted));
	if (time_travels())
		KUNIT_EXPECT_LE(test, jiffies - start, HZ / 4UL);
	KUNIT_EXPECT_TRUE(test, round_ends(host));
	expect_commands(test, "2bs");
}

/* Ever less often, down to once a second */
static void a_deaf_host_is_told_less_and_less(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	unsigned long last = 0, gap = 0, when;
	unsigned int told = 0;
	long n = -1;

	fh_policy(host, FH_HINT, (struct fh_policy){ .deaf = true });
	fh_hint(host, 2);
	guest_sleep(12 * HZ);
	while ((n = fh_find_event(host, n + 1, FH_EV_NOTIFY, FH_HINT, -1)) >=
	       0) {
		when = fh_event_at(host, n)->when;
		if (last && when != last) {
			/* One that is late makes the next gap shorter. */
			if (time_travels())
				KUNIT_EXPECT_GE(test,
						when - last + 1 + gap / 8, gap);
			gap = when - last;
			told++;
		}
		last = when;
	}
	KUNIT_EXPECT_GE(test, gap, 1UL * HZ);
	KUNIT_EXPECT_GE(test, told, 20U);
	KUNIT_EXPECT_LE(test, told, time_travels() ? 60U : 80U);
	fh_policy(host, FH_HINT, prompt);
	KUNIT_EXPECT_TRUE(test, round_ends(host));
}

/* Notifications while the host uses a block at each of 20 jiffies */
static u64 told_while_it_uses(struct fh *host)
{
	u64 before = host->queues[FH_HINT].nr_notified;
	int i;

	for (i = 0; i < 20; i++) {
		fh_release(host, FH_HINT, 1);
		guest_sleep(1);
	}
	return host->queues[FH_HINT].nr_notified - before;
}

/* A slow host is watched, and nudged, in the first second of a round only. */
static void it_is_watched_for_a_second(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	u64 first, later;

	if (!time_travels())
		kunit_skip(test, "looks too late where time is real");
	fh_policy(host, FH_HINT, holding);
	fh_hint(host, 2);
	guest_sleep(2);
	first = told_while_it_uses(host);
	guest_sleep(HZ);
	later = told_while_it_uses(host);
	KUNIT_EXPECT_GT(test, first, 60ULL);
	KUNIT_EXPECT_LE(test, later, 40ULL);
	fh_policy(host, FH_HINT, prompt);
	KUNIT_EXPECT_TRUE(test, round_ends(host));
}

/* And when nothing is with the host there is nothing to look for. */
static void it_rests_after_a_round(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	u64 notified;

	hint_all(test, host);
	guest_sleep(HZ / 10);
	notified = host->queues[FH_HINT].nr_notified;
	guest_sleep(5 * HZ);
	KUNIT_EXPECT_EQ(test, host->queues[FH_HINT].nr_notified, notified);
	KUNIT_EXPECT_EQ(test, host->queues[FH_HINT].nr_irqs, 0ULL);
}

/*
 * Blocks go to who needs them
 */

/* Half of what is with the host is used: that half comes free. */
static void half_used(struct kunit *test, struct fh *host)
{
	fh_policy(host, FH_HINT, holding);
	fh_hint(host, 2);
	KUNIT_ASSERT_GE(test, fh_lent(host), 128UL * FH_MIB);
	fh_release(host, FH_HINT, fh_fetched(host, FH_HINT) / 2);
}

static void memory_that_goes_offline_takes_them(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);

	half_used(test, host);
	inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
	KUNIT_EXPECT_EQ(test, look(host).hinted, 0UL);
	KUNIT_EXPECT_NE(test, look(host).hinting, 0L);
	KUNIT_EXPECT_TRUE(test, fh_until(!host->hint_open));
	expect_commands(test, "2bs");
	inside_memory(&host->dev->vdev, MEM_CANCEL_OFFLINE);
	b36_blocks_wait_for_the_host(test, host);
	fh_policy(host, FH_HINT, prompt);
}

/* Those too that the host uses a moment later */
static void memory_that_goes_offline_takes_the_rest(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);

	half_used(test, host);
	inside_memory(&host->dev->vdev, MEM_GOING_OFFLINE);
	KUNIT_EXPECT_NE(test, look(host).hinting, 0L);
	fh_policy(host, FH_HINT, prompt);
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinting &&
					 !look(host).hinted));
	inside_memory(&host->dev->vdev, MEM_OFFLINE);
}

/* The shrinker finds what the host used since the driver looked last. */
static void reclaim_takes_them(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	long before;

	half_used(test, host);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).hinted));
	before = guest_free_pages();
	KUNIT_EXPECT_GE(test, inside_shrink(&host->dev->vdev, 48 * MIB),
			48 * MIB);
	KUNIT_EXPECT_GE(test, guest_free_pages(), before + 47 * (long)MIB);
	KUNIT_EXPECT_TRUE(test, fh_until(!host->hint_open));
	b36_blocks_wait_for_the_host(test, host);
	fh_policy(host, FH_HINT, prompt);
}

static void an_oom_takes_what_was_just_used(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);

	half_used(test, host);
	KUNIT_EXPECT_GE(test, inside_oom(&host->dev->vdev), 56 * MIB);
	b36_blocks_wait_for_the_host(test, host);
	fh_policy(host, FH_HINT, prompt);
}

/* The balloon first: it is what the host asked for. */
static void sizing_at_its_floor_takes_them(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	unsigned long hinted = hint_all(test, host);

	fh_target(host, 100 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 100 * FH_MIB));
	KUNIT_EXPECT_LE(test, look(host).hinted, hinted - 96 * MIB);
	KUNIT_EXPECT_NE(test, look(host).hinted, 0UL);
	guest_sleep(HZ);
	expect_commands(test, "2bs");
}

static void a_reset_takes_them(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	long before = guest_free_pages();

	half_used(test, host);
	fh_fail(host);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).was_reset));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinting));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinted));
	KUNIT_EXPECT_GE(test, guest_free_pages() + slack(), before);
}

static void break_on_read(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type == FH_EV_READ && arg == CMD_ID)
		virtio_break_device(&host->dev->vdev);
}

/* It may break just when a block is to be lent; nobody else looks then. */
static void a_break_takes_them(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	long before = guest_free_pages();

	half_used(test, host);
	host->hook = break_on_read;
	fh_config_irq(host);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).was_reset));
	host->hook = NULL;
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinting));
	KUNIT_EXPECT_TRUE(test, fh_until(!look(host).hinted));
	KUNIT_EXPECT_GE(test, guest_free_pages() + slack(), before);
}

/* An open round is ended first, as it should be. */
static void removal_takes_them(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	long before = guest_free_pages();

	half_used(test, host);
	fh_unplug(host);
	KUNIT_EXPECT_GE(test, guest_free_pages() + slack(), before);
	expect_commands(test, "2bs");
}

static void a_closed_round_is_not_ended_again(struct kunit *test)
{
	struct fh *host = guest_plug(test, HINT);
	long before = guest_free_pages();

	hint_all(test, host);
	fh_unplug(host);
	KUNIT_EXPECT_GE(test, guest_free_pages() + slack(), before);
	expect_commands(test, "2bs");
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(rounds_go_as_the_host_says, round_gen_params),
	KUNIT_CASE(it_takes_part_at_all),
	KUNIT_CASE(an_id_may_have_been_there_before),
	KUNIT_CASE(the_last_of_many_words_counts),
	KUNIT_CASE(the_first_word_counts_at_once),
	KUNIT_CASE(stop_with_a_new_size_is_none),
	KUNIT_CASE(so_much_is_with_the_host_at_a_time),
	KUNIT_CASE(all_but_the_floor_is_lent),
	KUNIT_CASE(the_floor_is_that_of_the_balloon),
	KUNIT_CASE(small_blocks_are_not_all_lent),
	KUNIT_CASE(the_smallest_blocks_are_as_asked_for),
	KUNIT_CASE_PARAM(the_ring_may_be_small, size_gen_params),
	KUNIT_CASE(there_always_is_room_for_stop),
	KUNIT_CASE_PARAM(hints_and_balloon_go_together, thread_gen_params),
	KUNIT_CASE(a_lost_notification_delays_hints_a_moment),
	KUNIT_CASE(a_deaf_host_is_told_less_and_less),
	KUNIT_CASE(it_is_watched_for_a_second),
	KUNIT_CASE(it_rests_after_a_round),
	KUNIT_CASE(memory_that_goes_offline_takes_them),
	KUNIT_CASE(memory_that_goes_offline_takes_the_rest),
	KUNIT_CASE(reclaim_takes_them),
	KUNIT_CASE(an_oom_takes_what_was_just_used),
	KUNIT_CASE(sizing_at_its_floor_takes_them),
	KUNIT_CASE(a_reset_takes_them),
	KUNIT_CASE(a_break_takes_them),
	KUNIT_CASE(removal_takes_them),
	KUNIT_CASE(a_closed_round_is_not_ended_again),
	{}
};

static void hint_exit(struct kunit *test)
{
	guest_reset();
	fh_suite_exit(test);
}

struct kunit_suite hint_suite = {
	.name = "virtio_balloon_hint",
	.init = fh_suite_init,
	.exit = hint_exit,
	.test_cases = cases,
};
