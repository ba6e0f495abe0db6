// SPDX-License-Identifier: GPL-2.0-only
/*
 * Free page hinting, page poison and free page reporting as VIRTIO 1.4 has
 * them: one test for each driver statement from B30 to B49. Reports are those
 * of mm's own worker, which comes two seconds after blocks were freed.
 */

#include <linux/delay.h>
#include <linux/mm.h>

#include <compat/mm.h>

#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "pages.h"
#include "short.h"
#include "suites.h"

#define STOP		VIRTIO_BALLOON_CMD_ID_STOP
#define DONE		VIRTIO_BALLOON_CMD_ID_DONE
#define ID		0x80000005
#define POISON_AT	offsetof(struct virtio_balloon_config, poison_val)
#define BLOCK		(2 * FH_MIB)
#define BURST		(128 * FH_MIB)	/* with the host before it answers, or more */
#define SOME		(64UL * FH_MIB)	/* that a guest uses at a time */

static struct fh_queue *hintq(struct fh *host)
{
	return &host->queues[FH_HINT];
}

static struct fh_queue *reportq(struct fh *host)
{
	return &host->queues[FH_REPORT];
}

/* Buffer number @n of those the hintq ever had, or NULL */
static const struct fh_event *hint_seen(struct fh *host, unsigned int n)
{
	long i = -1;

	do
		i = fh_find_event(host, i + 1, FH_EV_SEEN, FH_HINT, -1);
	while (i >= 0 && n--);
	return i < 0 ? NULL : fh_event_at(host, i);
}

static bool is_command(const struct fh_event *ev, u32 id)
{
	return ev && ev->a == sizeof(u32) && ev->b == id;
}

/* A whole round; the host has seen all blocks and not said DONE. */
static void do_round(struct kunit *test, u32 id)
{
	struct fh *host = test->priv;
	u64 before = hintq(host)->nr_pages;

	fh_hint(host, id);
	KUNIT_ASSERT_TRUE(test, round_is_over(host, id));
	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev_of(host)).hinting));
	KUNIT_EXPECT_EQ(test, (u64)inside(vdev_of(host)).hinted * FH_PPP,
			hintq(host)->nr_pages - before);
}

/* A round whose blocks the host keeps: as many as it gets without an answer */
static void hold_round(struct kunit *test, u32 id)
{
	struct fh *host = test->priv;

	fh_policy(host, FH_HINT, (struct fh_policy){ .hold = true });
	fh_hint(host, id);
	KUNIT_ASSERT_GE(test, fh_lent(host), (unsigned long)BURST);
}

static void release_round(struct kunit *test)
{
	struct fh *host = test->priv;

	fh_policy(host, FH_HINT, (struct fh_policy){ });
	KUNIT_EXPECT_TRUE(test, fh_until(!fh_count(host, FH_HINTING)));
}

/* None of the blocks of any round is kept any more. */
static bool all_hints_are_free(struct fh *host)
{
	return fh_until(!inside(vdev_of(host)).hinting &&
			!inside(vdev_of(host)).hinted);
}

static void b30_every_command_has_four_bytes(struct kunit *test)
{
	struct fh *host = test->priv;
	const struct fh_event *ev;
	unsigned int i;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	do_round(test, ID);
	do_round(test, ID + 1);
	KUNIT_EXPECT_EQ(test, host->nr_commands, 4UL);
	for (i = 0; (ev = hint_seen(host, i)); i++)
		KUNIT_EXPECT_TRUE(test, ev->a == sizeof(u32) ||
				  ev->a >= BLOCK * SZ_4K);
	KUNIT_EXPECT_EQ(test, (u64)i, hintq(host)->nr_seen);
}

static void b31_a_round_begins_with_its_id(struct kunit *test)
{
	struct fh *host = test->priv;
	u64 first;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	KUNIT_EXPECT_EQ(test, hintq(host)->nr_seen, 0ULL);
	do_round(test, ID);
	KUNIT_EXPECT_TRUE(test, is_command(hint_seen(host, 0), ID));
	first = hintq(host)->nr_seen;
	do_round(test, ID + 1);
	KUNIT_EXPECT_TRUE(test, is_command(hint_seen(host, first), ID + 1));
}

static void b32_the_id_is_sent_once(struct kunit *test)
{
	struct fh *host = test->priv;
	int i;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	hold_round(test, ID);
	for (i = 0; i < 5; i++) {
		fh_config_irq(host);
		msleep(50);
	}
	KUNIT_EXPECT_EQ(test, host->nr_commands, 1UL);
	release_round(test);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	for (i = 0; i < 5; i++) {
		fh_config_irq(host);
		msleep(50);
	}
	KUNIT_EXPECT_EQ(test, host->nr_commands, 2UL);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).rounds, 1UL);
}

/* What is left free is the reserve, or smaller than a block. */
static void b33_free_pages_are_handed_over(struct kunit *test)
{
	struct fh *host = test->priv;
	long room, blocks;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	room = min(guest_free_pages(), si_mem_available()) * FH_PPP -
	       inside_floor(vdev_of(host)) * FH_PPP;
	blocks = pages_in_blocks();
	do_round(test, ID);
	KUNIT_EXPECT_GT(test, hintq(host)->nr_pages, (u64)BURST);
	room = min(room, blocks);
	KUNIT_EXPECT_GT(test, (long)hintq(host)->nr_pages,
			room - (long)(8 * FH_MIB));
}

/* The host changes its mind when it has a part of the blocks. */
static void flip(struct kunit *test, u32 word)
{
	struct fh *host = test->priv;
	u64 seen;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	hold_round(test, ID);
	seen = hintq(host)->nr_seen;
	fh_hint(host, word);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	KUNIT_EXPECT_TRUE(test, is_command(hint_seen(host, seen), STOP));
	release_round(test);
	KUNIT_EXPECT_TRUE(test, all_hints_are_free(host));
	msleep(1000);
	KUNIT_EXPECT_EQ(test, hintq(host)->nr_seen, seen + 1);
}

static void b34_no_page_after_stop(struct kunit *test)
{
	flip(test, STOP);
}

static void b34_no_page_after_done(struct kunit *test)
{
	flip(test, DONE);
}

static void b35_a_round_ends_with_stop(struct kunit *test)
{
	struct fh *host = test->priv;
	u64 seen;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	do_round(test, ID);
	seen = hintq(host)->nr_seen;
	KUNIT_EXPECT_GT(test, seen, 2ULL);
	KUNIT_EXPECT_TRUE(test, is_command(hint_seen(host, seen - 1), STOP));
}

/* The balloon has what there was. */
static void b35_a_round_without_pages_ends_with_stop(struct kunit *test)
{
	struct fh *host = test->priv;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	fh_target(host, U32_MAX);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "floor")));
	fh_hint(host, ID);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	KUNIT_EXPECT_EQ(test, hintq(host)->nr_seen, 2ULL);
	KUNIT_EXPECT_TRUE(test, is_command(hint_seen(host, 0), ID));
	KUNIT_EXPECT_TRUE(test, is_command(hint_seen(host, 1), STOP));
}

/* Whatever the guest needs and the host says, the host has them. */
static void b36_no_block_is_freed_before_the_host_used_it(struct kunit *test)
{
	struct fh *host = test->priv;
	static const u32 words[] = { ID, STOP, DONE, ID + 1 };
	unsigned long lent;
	unsigned int i;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT) | FH_BIT(DEFLATE_ON_OOM));
	hold_round(test, ID);
	lent = fh_count(host, FH_HINTING);
	for (i = 0; i < ARRAY_SIZE(words); i++) {
		fh_hint(host, words[i]);
		msleep(200);
		KUNIT_EXPECT_EQ(test, inside_oom(vdev_of(host)), 0UL);
		KUNIT_EXPECT_EQ(test, inside_shrink_count(vdev_of(host)), 0UL);
		KUNIT_EXPECT_GT(test, pages_use(host, SOME), 0UL);
		fh_check(host);
		KUNIT_EXPECT_EQ(test, fh_count(host, FH_HINTING), lent);
	}
	release_round(test);
}

static void b37_hinted_pages_are_uninitialised(struct kunit *test)
{
	struct fh *host = test->priv;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	do_round(test, ID);
	fh_hint(host, DONE);
	KUNIT_EXPECT_TRUE(test, all_hints_are_free(host));
	KUNIT_EXPECT_GT(test, pages_use_zeroed(host, SOME), SOME / 4);
}

/* Reclaim and a guest that is out of memory have them while the host looks. */
static void b38_pages_released_early_are_initialised(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long freed;
	u32 fill;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	do_round(test, ID);
	freed = inside_shrink(vdev_of(host), BLOCK / FH_PPP);
	KUNIT_EXPECT_GE(test, freed, (unsigned long)BLOCK / FH_PPP);
	freed += inside_oom(vdev_of(host));
	KUNIT_EXPECT_GE(test, freed * FH_PPP, 66UL * FH_MIB);
	KUNIT_EXPECT_EQ(test, (inside(vdev_of(host)).hinted + freed) * FH_PPP,
			hintq(host)->nr_pages);
	if (vb_free_pages_hold(&fill))
		KUNIT_EXPECT_GE(test, pages_check_fill(host, fill),
				freed / 2 * FH_PPP);
	KUNIT_EXPECT_GT(test, pages_use_zeroed(host, SOME), SOME / 4);
}

static void b39_all_pages_are_released_at_done(struct kunit *test)
{
	struct fh *host = test->priv;
	long before;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	before = guest_free_pages() * FH_PPP;
	do_round(test, ID);
	KUNIT_EXPECT_LT(test, (long)guest_free_pages() * FH_PPP, before - (long)BURST);
	fh_hint(host, DONE);
	KUNIT_EXPECT_TRUE(test, all_hints_are_free(host));
	KUNIT_EXPECT_GT(test, guest_free_pages() * FH_PPP,
			before - slack() * FH_PPP);
}

/* Those that the host still has, as soon as it lets go of them */
static void b39_pages_used_after_done_are_released(struct kunit *test)
{
	struct fh *host = test->priv;

	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	hold_round(test, ID);
	fh_hint(host, DONE);
	KUNIT_EXPECT_TRUE(test, round_is_over(host, ID));
	fh_release(host, FH_HINT, 10);
	msleep(2000);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).hinted, 0UL);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).hinting * FH_PPP,
			(long)fh_count(host, FH_HINTING));
	release_round(test);
	KUNIT_EXPECT_TRUE(test, all_hints_are_free(host));
}

static void b40_a_legacy_device_gets_native_ids(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features &= ~BIT_ULL(VIRTIO_F_VERSION_1);
	guest_plug(test, FH_BIT(FREE_PAGE_HINT));
	do_round(test, ID);
	KUNIT_EXPECT_TRUE(test, is_command(hint_seen(host, 0), ID));
}

/* Memory that mm fills when it is freed is what poison_val stands for. */
static void b41_deflated_pages_hold_the_poison_value(struct kunit *test)
{
	struct fh *host = test->priv;
	u32 fill;

	if (!vb_free_pages_hold(&fill))
		kunit_skip(test, "this guest does not fill free pages");
	guest_plug(test, FH_BIT(PAGE_POISON));
	fh_target(host, 32 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 32 * FH_MIB));
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_GT(test, pages_check_fill(host, fh_poison(host)),
			16UL * FH_MIB);
}

/* Whether poison_val was written between the last features and DRIVER_OK */
static bool poison_came_in_time(struct fh *host)
{
	long last = -1, ok, next = -1;

	while ((next = fh_find_event(host, next + 1, FH_EV_RESET, -1, -1)) >= 0)
		last = next;
	next = fh_find_event(host, last + 1, FH_EV_WRITE, -1, POISON_AT);
	ok = fh_find_event(host, last + 1, FH_EV_STATUS, -1,
			   VIRTIO_CONFIG_S_ACKNOWLEDGE |
			   VIRTIO_CONFIG_S_DRIVER |
			   VIRTIO_CONFIG_S_FEATURES_OK |
			   VIRTIO_CONFIG_S_DRIVER_OK);
	return next >= 0 && next < ok;
}

static void b42_the_poison_value_is_written_before_driver_ok(struct kunit *test)
{
	struct fh *host = test->priv;
	u32 fill;
	bool fills = vb_free_pages_hold(&fill);

	fh_set_field(host, POISON_AT, 0x12345678);
	guest_plug(test, FH_BIT(PAGE_POISON));
	KUNIT_EXPECT_EQ(test, !!(host->accepted & FH_BIT(PAGE_POISON)), fills);
	KUNIT_EXPECT_EQ(test, poison_came_in_time(host), fills);
	KUNIT_EXPECT_EQ(test, fh_poison(host), fills ? fill : 0x12345678);
#ifdef CONFIG_PM_SLEEP
	fh_set_field(host, POISON_AT, 0x12345678);
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
	KUNIT_EXPECT_EQ(test, poison_came_in_time(host), fills);
	KUNIT_EXPECT_EQ(test, fh_poison(host), fills ? fill : 0x12345678);
#endif
}

/* A write after DRIVER_OK is a complaint as well. */
static void b43_the_poison_value_is_written_once(struct kunit *test)
{
	struct fh *host = test->priv;
	u32 fill;
	u64 once = vb_free_pages_hold(&fill);

	guest_plug(test, FH_ALL_FEATURES);
	fh_target(host, 32 * FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 32 * FH_MIB));
	do_round(test, ID);
	fh_hint(host, DONE);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	fh_config_irq(host);
	msleep(3000);
	KUNIT_EXPECT_EQ(test, host->nr_writes[POISON_AT], once);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, host->nr_writes[POISON_AT], once);
}

/* What makes a guest report its free pages: B3 */
static u64 reporting(void)
{
	u32 fill;

	return FH_BIT(REPORTING) |
	       (vb_free_pages_hold(&fill) ? FH_BIT(PAGE_POISON) : 0);
}

/* The host has used one report, at least. */
static bool reports(struct fh *host)
{
	u64 before = reportq(host)->nr_used;

	pages_churn(64);
	return fh_until(reportq(host)->nr_used > before &&
			!fh_fetched(host, FH_REPORT));
}

static void b44_reported_pages_are_uninitialised(struct kunit *test)
{
	struct fh *host = test->priv;
	u32 fill;

	guest_plug(test, FH_BIT(REPORTING));
	if (vb_free_pages_hold(&fill)) {
		pages_churn(64);
		msleep(5000);
		KUNIT_EXPECT_EQ(test, host->accepted & FH_BIT(REPORTING), 0ULL);
		KUNIT_EXPECT_EQ(test, reportq(host)->nr_seen, 0ULL);
		return;
	}
	KUNIT_EXPECT_TRUE(test, reports(host));
	KUNIT_EXPECT_GT(test, pages_use_zeroed(host, ULONG_MAX),
			(unsigned long)BLOCK);
}

/* The host looks at each reported page, and leaves it alone. */
static void b45_reported_pages_hold_the_poison_value(struct kunit *test)
{
	struct fh *host = test->priv;
	u32 fill;

	if (!vb_free_pages_hold(&fill))
		kunit_skip(test, "this guest does not fill free pages");
	guest_plug(test, FH_BIT(REPORTING) | FH_BIT(PAGE_POISON));
	KUNIT_ASSERT_TRUE(test, host->keep_poison);
	KUNIT_EXPECT_TRUE(test, reports(host));
	KUNIT_EXPECT_GT(test, pages_check_fill(host, fh_poison(host)),
			(unsigned long)BLOCK);
}

static void b46_reported_pages_are_not_used_before_the_host(struct kunit *test)
{
	/* The driver waits for 15 s; a busy machine takes seconds for each. */
	unsigned long some = time_travels() ? SOME : SOME / 8;
	int i, times = time_travels() ? 10 : 1;
	struct fh *host = test->priv;
	unsigned long nr;

	guest_plug(test, reporting());
	fh_policy(host, FH_REPORT, (struct fh_policy){ .hold = true });
	pages_churn(64);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_REPORT)));
	nr = fh_count(host, FH_REPORTED);
	for (i = 0; i < times; i++) {
		KUNIT_EXPECT_GT(test, pages_use(host, some), 0UL);
		fh_check(host);
		msleep(1000);
	}
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_REPORTED), nr);
	KUNIT_EXPECT_EQ(test, reportq(host)->nr_seen, 1ULL);
	fh_policy(host, FH_REPORT, (struct fh_policy){ });
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_REPORTED), 0UL);
	KUNIT_EXPECT_TRUE(test, fh_until(inside(vdev_of(host)).nr_reports));
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(host)).was_reset);
}

/*
 * Without an answer they are when the device was reset: after 15 s, in slices
 * of 100 ms that end with one more notification.
 */
static void b46_a_report_without_answer_ends_with_a_reset(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long start;

	test_is_slow(test);
	guest_plug(test, reporting());
	fh_policy(host, FH_REPORT, (struct fh_policy){ .hold = true });
	pages_churn(64);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_count(host, FH_REPORTED)));
	start = jiffies;
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), "broken")));
	KUNIT_EXPECT_GE(test, jiffies - start, 15UL * HZ - HZ / 10);
	KUNIT_EXPECT_EQ(test, reportq(host)->nr_notified, 151ULL);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).nr_reports, 0UL);
	KUNIT_EXPECT_TRUE(test, inside(vdev_of(host)).was_reset);
}

/* Not before it: that is a complaint. Then whenever there is something new */
static void b47_reports_come_at_any_time_after_driver_ok(struct kunit *test)
{
	struct fh *host = test->priv;
	long notify, ok;

	pages_churn(64);
	guest_plug(test, reporting());
	KUNIT_EXPECT_TRUE(test, fh_until(reportq(host)->nr_used));
	notify = fh_find_event(host, 0, FH_EV_NOTIFY, FH_REPORT, -1);
	ok = fh_find_event(host, 0, FH_EV_STATUS, -1,
			   VIRTIO_CONFIG_S_ACKNOWLEDGE |
			   VIRTIO_CONFIG_S_DRIVER |
			   VIRTIO_CONFIG_S_FEATURES_OK |
			   VIRTIO_CONFIG_S_DRIVER_OK);
	KUNIT_EXPECT_GE(test, ok, 0L);
	KUNIT_EXPECT_GT(test, notify, ok);
	KUNIT_EXPECT_TRUE(test, reports(host));
	KUNIT_EXPECT_TRUE(test, reports(host));
}

static void b48_reports_are_of_large_blocks(struct kunit *test)
{
	struct fh *host = test->priv;

	guest_plug(test, reporting());
	pages_use(host, 64 * FH_MIB);	/* there are small ones as well */
	KUNIT_EXPECT_TRUE(test, reports(host));
	KUNIT_EXPECT_GE(test, reportq(host)->least, BLOCK);
	KUNIT_EXPECT_TRUE(test, fh_until(look(host).nr_reports ==
					 reportq(host)->nr_used));
	KUNIT_EXPECT_EQ(test, (u64)inside(vdev_of(host)).reported * FH_PPP,
			reportq(host)->nr_pages);
}

/* Pages whose report the host used, and that hold what they held then */
static unsigned long untouched(struct fh *host)
{
	unsigned long pfn, nr = 0;

	for_each_set_bit(pfn, host->shown, FH_PFNS)
		nr += host->keep_poison ?
		      fh_is_filled(pfn, fh_poison(host)) : fh_untouched(pfn);
	return nr;
}

/* An idle guest neither uses what it reported nor reports it again. */
static void b49_reported_pages_are_left_alone(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long before;
	u64 pages;

	test_is_slow(test);
	guest_plug(test, reporting());
	pages_churn(64);
	do {
		pages = reportq(host)->nr_pages;
		msleep(5000);
	} while (pages != reportq(host)->nr_pages);
	before = untouched(host);
	KUNIT_EXPECT_GE(test, before, 64UL * FH_MIB);
	msleep(60000);
	KUNIT_EXPECT_LE(test, reportq(host)->nr_pages, pages + 4 * BLOCK);
	KUNIT_EXPECT_GE(test, untouched(host) + 4 * BLOCK, before);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(b30_every_command_has_four_bytes),
	KUNIT_CASE(b31_a_round_begins_with_its_id),
	KUNIT_CASE(b32_the_id_is_sent_once),
	KUNIT_CASE(b33_free_pages_are_handed_over),
	KUNIT_CASE(b34_no_page_after_stop),
	KUNIT_CASE(b34_no_page_after_done),
	KUNIT_CASE(b35_a_round_ends_with_stop),
	KUNIT_CASE(b35_a_round_without_pages_ends_with_stop),
	KUNIT_CASE(b36_no_block_is_freed_before_the_host_used_it),
	KUNIT_CASE(b37_hinted_pages_are_uninitialised),
	KUNIT_CASE(b38_pages_released_early_are_initialised),
	KUNIT_CASE(b39_all_pages_are_released_at_done),
	KUNIT_CASE(b39_pages_used_after_done_are_released),
	KUNIT_CASE(b40_a_legacy_device_gets_native_ids),
	KUNIT_CASE(b41_deflated_pages_hold_the_poison_value),
	KUNIT_CASE(b42_the_poison_value_is_written_before_driver_ok),
	KUNIT_CASE(b43_the_poison_value_is_written_once),
	KUNIT_CASE(b44_reported_pages_are_uninitialised),
	KUNIT_CASE(b45_reported_pages_hold_the_poison_value),
	KUNIT_CASE(b46_reported_pages_are_not_used_before_the_host),
	KUNIT_CASE(b46_a_report_without_answer_ends_with_a_reset),
	KUNIT_CASE(b47_reports_come_at_any_time_after_driver_ok),
	KUNIT_CASE(b48_reports_are_of_large_blocks),
	KUNIT_CASE(b49_reported_pages_are_left_alone),
	{}
};

struct kunit_suite spec_free_pages_suite = {
	.name = "virtio_balloon_spec_free_pages",
	.init = fh_suite_init,
	.exit = fh_suite_exit,
	.test_cases = cases,
};
