/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What needs no device: policy, units, PFNs, lists of runs, statistics and
 * parameters, for one page size. Values of guest pages are written in MiB.
 */
#include "compat.h"
#include "driver_copy.h"
#include "suites.h"

#define BY_SIZE(k4, k16, k64)					\
	(COPY_PAGE_SHIFT == 12 ? (k4) :				\
	 COPY_PAGE_SHIFT == 14 ? (k16) : (k64))

/* Guest pages */
#define MIB(n)		((unsigned long)(n) << (20 - COPY_PAGE_SHIFT))
#define GIB(n)		MIB((unsigned long)(n) << 10)

/*
 * Units
 */

static void units_follow_the_page_size(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, VB_PPP, BY_SIZE(1U, 4U, 16U));
	KUNIT_EXPECT_EQ(test, VB_PAGES(0), 0UL);
	KUNIT_EXPECT_EQ(test, VB_PAGES((1UL << COPY_PAGE_SHIFT) - 1), 0UL);
	KUNIT_EXPECT_EQ(test, VB_PAGES(1UL << COPY_PAGE_SHIFT), 1UL);
	KUNIT_EXPECT_EQ(test, VB_PAGES(SZ_1M), BY_SIZE(256UL, 64UL, 16UL));
	KUNIT_EXPECT_EQ(test, VB_KIB(0), 0ULL);
	KUNIT_EXPECT_EQ(test, VB_KIB(1), BY_SIZE(4ULL, 16ULL, 64ULL));
	KUNIT_EXPECT_EQ(test, VB_KIB(VB_PAGES(SZ_64M)), 65536ULL);
}

/* A u32 number of pages that is not widened first would lose its top. */
static void units_do_not_overflow(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, VB_KIB(U32_MAX),
			BY_SIZE(0x3fffffffcULL, 0xffffffff0ULL,
				0x3fffffffc0ULL));
	KUNIT_EXPECT_EQ(test, VB_PAGES(ULONG_MAX),
			ULONG_MAX >> COPY_PAGE_SHIFT);
}

static void steps_have_the_same_size_in_mib(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, VB_STEP, MIB(64));
	KUNIT_EXPECT_EQ(test, VB_MIN_STEP, MIB(1));
	KUNIT_EXPECT_EQ(test, VB_GROUP, MIB(8));
	KUNIT_EXPECT_EQ(test, VB_ENLIST_STEP, MIB(64));
	KUNIT_EXPECT_EQ(test, VB_HINT_BURST, MIB(128));
	KUNIT_EXPECT_EQ(test, VB_OOM_STEP_MIN, MIB(1));
	KUNIT_EXPECT_EQ(test, VB_OOM_STEP_MAX, MIB(64));
}

/* What a buffer of 512 PFNs needs to free hugetlb memory of the host */
static void a_block_has_2_mib(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, VB_BLOCK_ORDER,
			min(BY_SIZE(9U, 7U, 5U), (unsigned int)VB_MAX_ORDER));
	if (VB_BLOCK_ORDER < VB_MAX_ORDER)
		KUNIT_EXPECT_EQ(test, 1UL << VB_BLOCK_ORDER, MIB(2));
}

/*
 * vb_target()
 */

static void target_is_rounded_up(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_target(0, 1000), 0UL);
	KUNIT_EXPECT_EQ(test, vb_target(1, 1000), 1UL);
	KUNIT_EXPECT_EQ(test, vb_target(VB_PPP, 1000), 1UL);
	KUNIT_EXPECT_EQ(test, vb_target(VB_PPP + 1, 1000), 2UL);
	KUNIT_EXPECT_EQ(test, vb_target(17, 1000), BY_SIZE(17UL, 5UL, 2UL));
	KUNIT_EXPECT_EQ(test, vb_target(33, 1000), BY_SIZE(33UL, 9UL, 3UL));
}

static void target_is_never_more_than_all_memory(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_target(5, 0), 0UL);
	KUNIT_EXPECT_EQ(test, vb_target(VB_PPP, 1), 1UL);
	KUNIT_EXPECT_EQ(test, vb_target(VB_PPP + 1, 1), 1UL);
	KUNIT_EXPECT_EQ(test, vb_target(1000 * VB_PPP, 1000), 1000UL);
	KUNIT_EXPECT_EQ(test, vb_target(1000 * VB_PPP + 1, 1000), 1000UL);
	KUNIT_EXPECT_EQ(test, vb_target(U32_MAX, 1000), 1000UL);
}

/* The largest wishes: to round up within 32 bits would make them 0. */
static void target_does_not_overflow(struct kunit *test)
{
	unsigned long all = BY_SIZE(0xffffffffUL, 0x40000000UL, 0x10000000UL);
	u32 n;

	KUNIT_EXPECT_EQ(test, vb_target(U32_MAX, ULONG_MAX), all);
	for (n = U32_MAX; n > U32_MAX - 40; n--)
		KUNIT_EXPECT_EQ(test, vb_target(n, ULONG_MAX),
				(unsigned long)(n / VB_PPP) +
				!!(n % VB_PPP));
}

static void target_is_monotonous(struct kunit *test)
{
	unsigned long last = 0, now;
	u64 n;

	for (n = 0; n <= U32_MAX; n += 1 + n / 7) {
		now = vb_target(n, ULONG_MAX);
		KUNIT_EXPECT_GE(test, now, last);
		KUNIT_EXPECT_GE(test, (u64)now * VB_PPP, n);
		KUNIT_EXPECT_LT(test, (u64)now * VB_PPP, n + VB_PPP);
		last = now;
	}
}

/*
 * vb_floor()
 */

static void floor_grows_with_the_square_root(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_floor(MIB(64), -1), MIB(16));
	KUNIT_EXPECT_EQ(test, vb_floor(MIB(256), -1), MIB(32));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(1), -1), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(64), -1), MIB(512));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(16384), -1), GIB(8));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(65536), -1), GIB(16));
}

/* The root, and the KiB that do not make a page, are rounded down. */
static void floor_is_rounded_down(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_floor(0, -1), 0UL);
	KUNIT_EXPECT_EQ(test, vb_floor(1, -1), BY_SIZE(32UL, 16UL, 8UL));
	KUNIT_EXPECT_EQ(test, vb_floor(MIB(64) - 1, -1),
			BY_SIZE(4080UL, 1020UL, 255UL));
	KUNIT_EXPECT_EQ(test, vb_floor(MIB(100), -1), MIB(20));
	KUNIT_EXPECT_EQ(test, vb_floor(MIB(300), -1),
			BY_SIZE(8864UL, 2216UL, 554UL));
}

static void floor_is_what_the_parameter_says(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(1), 0), 0UL);
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(1), 1), BY_SIZE(256UL, 64UL, 16UL));
	KUNIT_EXPECT_EQ(test, vb_floor(0, 200), MIB(200));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(1), 4096), GIB(4));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(1), vb_floor_mib.max),
			BY_SIZE(1UL << 28, 1UL << 26, 1UL << 24));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(1), vb_floor_mib.min), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_floor(GIB(1), INT_MIN), MIB(64));
}

static void floor_is_monotonous(struct kunit *test)
{
	unsigned long total, now, last = 0;

	for (total = MIB(4); total <= GIB(65536); total += total / 9) {
		now = vb_floor(total, -1);
		KUNIT_EXPECT_GE(test, now, last);
		KUNIT_EXPECT_LE(test, now, total);
		last = now;
	}
}

/*
 * vb_room()
 */

static void room_ends_at_the_floor(struct kunit *test)
{
	unsigned long min = VB_MIN_STEP, big = GIB(1);

	KUNIT_EXPECT_EQ(test, vb_room(big, 0, MIB(64), false), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, MIB(64) - 1, MIB(64), false), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, MIB(64), MIB(64), false), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, MIB(64) + min - 1, MIB(64), false),
			0UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, MIB(64) + min, MIB(64), false), min);
	KUNIT_EXPECT_EQ(test, vb_room(big, MIB(64) + min + 1, MIB(64), false),
			min + 1);
}

/* Less than 1 MiB of room is worth taking if nothing else is missing. */
static void room_is_enough_for_the_last_pages(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_room(0, MIB(64), MIB(64), false), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(0, MIB(99), MIB(64), false), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(1, MIB(64), MIB(64), false), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(1, MIB(64) + 1, MIB(64), false), 1UL);
	KUNIT_EXPECT_EQ(test, vb_room(9, MIB(64) + 8, MIB(64), false), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(9, MIB(64) + 9, MIB(64), false), 9UL);
	KUNIT_EXPECT_EQ(test, vb_room(9, MIB(64) + 10, MIB(64), false), 9UL);
	KUNIT_EXPECT_EQ(test, vb_room(9, MIB(128) + 9, MIB(64), true), 9UL);
	KUNIT_EXPECT_EQ(test, vb_room(9, MIB(128) + 8, MIB(64), true), 0UL);
}

static void room_is_a_step_at_most(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_room(GIB(1), GIB(2), MIB(64), false), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_room(GIB(1), GIB(2), 0, false), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_room(MIB(64) + 1, GIB(2), 0, false), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_room(MIB(64) - 1, GIB(2), 0, false),
			MIB(64) - 1);
	KUNIT_EXPECT_EQ(test, vb_room(ULONG_MAX, ULONG_MAX, 0, false), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_room(ULONG_MAX, ULONG_MAX, 0, true), MIB(64));
}

/* An eighth of what is above twice the floor, from 1 MiB to 64 */
static void room_is_small_after_an_oom(struct kunit *test)
{
	unsigned long big = GIB(4), floor = MIB(64), twice = MIB(128);

	KUNIT_EXPECT_EQ(test, vb_room(big, twice - 1, floor, true), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, twice, floor, true), 0UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, twice + MIB(1) - 1, floor, true),
			0UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, twice + MIB(1), floor, true),
			MIB(1));
	KUNIT_EXPECT_EQ(test, vb_room(big, twice + MIB(8), floor, true),
			MIB(1));
	KUNIT_EXPECT_EQ(test, vb_room(big, twice + MIB(24), floor, true),
			MIB(3));
	KUNIT_EXPECT_EQ(test, vb_room(7, twice + MIB(24), floor, true), 7UL);
	KUNIT_EXPECT_EQ(test, vb_room(big, twice + GIB(2), floor, true),
			MIB(64));
}

/* One step of any size leaves the floor, and more memory is no hindrance. */
static void check_room(struct kunit *test, unsigned long need, bool paced)
{
	unsigned long available, room, last = 0, floor = MIB(32);
	unsigned long keep = paced ? 2 * floor : floor;

	for (available = 0; available < GIB(3); available += available / 11 + 7) {
		room = vb_room(need, available, floor, paced);
		KUNIT_EXPECT_LE(test, room, need);
		KUNIT_EXPECT_LE(test, room, VB_STEP);
		KUNIT_EXPECT_GE(test, room, last);
		if (room)
			KUNIT_EXPECT_GE(test, available - room, keep);
		last = room;
	}
}

static void room_leaves_the_floor(struct kunit *test)
{
	unsigned long need;

	for (need = 0; need < GIB(1); need += need / 3 + 1) {
		check_room(test, need, false);
		check_room(test, need, true);
	}
}

/*
 * Times
 */

static void backoff_doubles_up_to_30_s(struct kunit *test)
{
	static const unsigned int ms[] = {
		200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ms); i++)
		KUNIT_EXPECT_EQ(test, vb_backoff_ms(i), ms[i]);
	for (; i < 70; i++)
		KUNIT_EXPECT_EQ(test, vb_backoff_ms(i), 30000U);
	KUNIT_EXPECT_EQ(test, vb_backoff_ms(UINT_MAX), 30000U);
}

static void hold_off_doubles_up_to_5_min(struct kunit *test)
{
	static const unsigned int seconds[] = {
		5, 10, 20, 40, 80, 160, 300, 300
	};
	unsigned long hold_off = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(seconds); i++) {
		hold_off = vb_hold_off_next(hold_off, 0);
		KUNIT_EXPECT_EQ(test, hold_off, seconds[i] * (unsigned long)HZ);
	}
}

/* It starts anew if the guest was well for longer than it last lasted. */
static void hold_off_depends_on_when(struct kunit *test)
{
	unsigned long ten = 10 * HZ, five = 5 * HZ;

	KUNIT_EXPECT_EQ(test, vb_hold_off_next(ten, ten), 2 * ten);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(ten, ten + 1), five);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(ten, S64_MAX), five);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(ten, 1LL << 32), five);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(ten, 1), 2 * ten);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(300 * HZ, 300 * HZ),
			300UL * HZ);
}

static void hold_off_that_lasts_stays(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(10 * HZ, -1), 10UL * HZ);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(10 * HZ, S64_MIN), 10UL * HZ);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(10 * HZ, -(1LL << 32)),
			10UL * HZ);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(300 * HZ, -1), 300UL * HZ);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(0, -1), 5UL * HZ);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(0, S64_MIN), 5UL * HZ);
	KUNIT_EXPECT_EQ(test, vb_hold_off_next(0, S64_MAX), 5UL * HZ);
}

/* Jiffies may go on while we look. */
static void check_until(struct kunit *test, u64 due)
{
	u64 before = get_jiffies_64(), left = vb_until(due),
	    after = get_jiffies_64();

	KUNIT_EXPECT_LE(test, left, due > before ? due - before : 0);
	KUNIT_EXPECT_GE(test, left, due > after ? due - after : 0);
}

static void until_counts_in_64_bits(struct kunit *test)
{
	u64 now = get_jiffies_64();

	check_until(test, 0);
	check_until(test, now - (1ULL << 31) - 1);
	check_until(test, now - 1);
	check_until(test, now);
	check_until(test, now + 1000 * HZ);
	check_until(test, now + (1ULL << 31) + 1000);
	check_until(test, now + (1ULL << 32));
	check_until(test, now + (1ULL << 32) + 1000);
	KUNIT_EXPECT_EQ(test, vb_until(0), 0UL);
	KUNIT_EXPECT_EQ(test, vb_until(now), 0UL);
}

static struct vb *new_vb(struct kunit *test)
{
	struct vb *vb = kunit_kzalloc(test, sizeof(*vb), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, vb);
	spin_lock_init(&vb->runs_lock);
	INIT_LIST_HEAD(&vb->runs);
	return vb;
}

static void a_hold_off_lasts_until_its_end(struct kunit *test)
{
	struct vb *vb = new_vb(test);

	vb->hold_until = get_jiffies_64() + 1000 * HZ;
	KUNIT_EXPECT_FALSE(test, vb_holds_off(vb));
	KUNIT_EXPECT_EQ(test, vb_hold_off_ms(vb), 0U);
	vb->hold_off = 5 * HZ;
	KUNIT_EXPECT_TRUE(test, vb_holds_off(vb));
	KUNIT_EXPECT_LE(test, vb_hold_off_ms(vb), 1000000U);
	KUNIT_EXPECT_GT(test, vb_hold_off_ms(vb), 900000U);
	vb->hold_until = get_jiffies_64();
	KUNIT_EXPECT_FALSE(test, vb_holds_off(vb));
	KUNIT_EXPECT_EQ(test, vb_hold_off_ms(vb), 0U);
}

/* Somebody has to take the host's answer: to a return with MUST_TELL_HOST. */
static void a_hold_off_looks_for_answers(struct kunit *test)
{
	struct vb *vb = new_vb(test);

	vb->hold_off = 5 * HZ;
	vb->hold_until = get_jiffies_64() + 1000 * HZ;
	vb->deflateq.in_flight = 1;
	KUNIT_EXPECT_GT(test, vb_hold_off_delay(vb), 900UL * HZ);
	vb->must_tell = true;
	KUNIT_EXPECT_EQ(test, vb_hold_off_delay(vb), (unsigned long)VB_SLICE);
	vb->deflateq.in_flight = 0;
	KUNIT_EXPECT_GT(test, vb_hold_off_delay(vb), 900UL * HZ);
	vb->inflateq.in_flight = 1;
	KUNIT_EXPECT_EQ(test, vb_hold_off_delay(vb), (unsigned long)VB_SLICE);
}

/*
 * vb_oom_step_next()
 */

static void oom_step_grows_fourfold_to_64_mib(struct kunit *test)
{
	static const unsigned int mib[] = { 1, 4, 16, 64, 64, 64 };
	unsigned long step = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mib); i++) {
		step = vb_oom_step_next(step, 0, 0);
		KUNIT_EXPECT_EQ(test, step, MIB(mib[i]));
	}
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(16) + 1, 0, 0), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(15), 0, 0), MIB(60));
}

static void oom_step_starts_anew_after_10_s(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(16), 10 * HZ, 0), MIB(64));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(16), 10 * HZ + 1, 0),
			MIB(1));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(16), 1ULL << 32, 0),
			MIB(1));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(16), U64_MAX, 0), MIB(1));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(0, 0, 0), MIB(1));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(0, U64_MAX, 0), MIB(1));
}

static void oom_step_is_what_the_parameter_says(struct kunit *test)
{
	int max = vb_oom_pages.max;

	KUNIT_EXPECT_EQ(test, vb_oom_step_next(0, 0, 1), 1UL);
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(0, 0, 16),
			BY_SIZE(16UL, 4UL, 1UL));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(0, 0, 17),
			BY_SIZE(17UL, 5UL, 2UL));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(16), 0, 256), MIB(1));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(MIB(16), U64_MAX, 256), MIB(1));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(0, 0, max), GIB(4));
	KUNIT_EXPECT_EQ(test, vb_oom_step_next(0, 0, INT_MAX),
			BY_SIZE(0x7fffffffUL, 0x20000000UL, 0x8000000UL));
}

/*
 * PFNs
 */

/* A buffer of exactly @pages; one PFN more is an error that KASAN sees. */
static struct vb_buf *new_buf(struct kunit *test, unsigned int pages)
{
	struct vb_buf *buf = kunit_kzalloc(test, sizeof(*buf), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, buf);
	buf->pfns = kunit_kzalloc(test, pages * VB_PPP * sizeof(*buf->pfns),
				  GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, buf->pfns);
	return buf;
}

static u32 pfn_of(struct vb *vb, struct vb_buf *buf, unsigned int i)
{
	const void *pfn = &buf->pfns[i];

	return vb->little_endian ? le32_to_cpup(pfn) : be32_to_cpup(pfn);
}

/* Each guest page is so many PFNs, in ascending order, after the last ones. */
static void check_pfns(struct kunit *test, bool little_endian)
{
	struct vb *vb = new_vb(test);
	struct vb_buf *buf = new_buf(test, 5);
	unsigned int i;

	vb->little_endian = little_endian;
	vb_buf_add(vb, buf, pfn_to_page(0x12345), 2);
	KUNIT_EXPECT_EQ(test, buf->nr_pages, 2U);
	vb_buf_add(vb, buf, pfn_to_page(0x2f00), 3);
	KUNIT_EXPECT_EQ(test, buf->nr_pages, 5U);
	for (i = 0; i < 2 * VB_PPP; i++)
		KUNIT_EXPECT_EQ(test, pfn_of(vb, buf, i),
				BY_SIZE(0x12345U, 0x48d14U, 0x123450U) + i);
	for (; i < 5 * VB_PPP; i++)
		KUNIT_EXPECT_EQ(test, pfn_of(vb, buf, i),
				BY_SIZE(0x2f00U, 0xbc00U, 0x2f000U) +
				i - 2 * VB_PPP);
}

static void pfns_are_little_endian(struct kunit *test)
{
	check_pfns(test, true);
}

static void pfns_are_big_endian_for_a_legacy_device(struct kunit *test)
{
	check_pfns(test, false);
}

/* The last page below 16 TiB: nothing beyond that has a number. */
static void pfns_go_up_to_32_bits(struct kunit *test)
{
	struct vb *vb = new_vb(test);
	struct vb_buf *buf = new_buf(test, 1);
	unsigned int i;

	vb->little_endian = true;
	vb_buf_add(vb, buf, pfn_to_page(U32_MAX / VB_PPP), 1);
	for (i = 0; i < VB_PPP; i++)
		KUNIT_EXPECT_EQ(test, pfn_of(vb, buf, i),
				U32_MAX - (VB_PPP - 1 - i));
}

static void nothing_added_is_nothing(struct kunit *test)
{
	struct vb *vb = new_vb(test);
	struct vb_buf *buf = new_buf(test, 1);

	vb_buf_add(vb, buf, pfn_to_page(0x12345), 0);
	KUNIT_EXPECT_EQ(test, buf->nr_pages, 0U);
	KUNIT_EXPECT_EQ(test, pfn_of(vb, buf, 0), 0U);
}

/*
 * Runs, of 16 real pages that are neighbours
 */

#define RUN_ORDER	4

static struct page *new_pages(struct kunit *test)
{
	struct page *first = alloc_pages(GFP_KERNEL, RUN_ORDER);

	KUNIT_ASSERT_NOT_NULL(test, first);
	split_page(first, RUN_ORDER);
	return first;
}

static void free_pages_of(struct page *first)
{
	unsigned int i;

	for (i = 0; i < 1U << RUN_ORDER; i++)
		__free_page(first + i);
}

/* @which: a digit for each */
static void list_pages(struct list_head *list, struct page *first,
		       const char *which)
{
	INIT_LIST_HEAD(list);
	for (; *which; which++)
		list_add_tail(&first[hex_to_bin(*which)].lru, list);
}

/* Runs as text: where each begins + how many pages it has */
static void expect_runs(struct kunit *test, struct page *first,
			struct list_head *runs, const char *expected)
{
	char text[80] = "";
	struct page *run;
	int len = 0;

	list_for_each_entry(run, runs, lru)
		len += scnprintf(text + len, sizeof(text) - len, "%s%d+%lu",
				 len ? " " : "", (int)(run - first),
				 vb_run_pages(run));
	KUNIT_EXPECT_STREQ(test, (const char *)text, expected);
}

static void expect_gathered(struct kunit *test, struct page *first,
			    const char *pages, const char *expected)
{
	struct list_head list;
	LIST_HEAD(runs);

	list_pages(&list, first, pages);
	vb_gather(&list, &runs);
	expect_runs(test, first, &runs, expected);
	KUNIT_EXPECT_TRUE(test, list_empty(&list));
}

static void gather_makes_runs_of_neighbours(struct kunit *test)
{
	struct page *first = new_pages(test);

	expect_gathered(test, first, "", "");
	expect_gathered(test, first, "5", "5+1");
	expect_gathered(test, first, "0123456789abcdef", "0+16");
	expect_gathered(test, first, "012456", "0+3 4+3");
	expect_gathered(test, first, "02468", "0+1 2+1 4+1 6+1 8+1");
	expect_gathered(test, first, "3012", "3+1 0+3");
	expect_gathered(test, first, "fedc", "15+1 14+1 13+1 12+1");
	expect_gathered(test, first, "895670", "8+2 5+3 0+1");
	free_pages_of(first);
}

/* Pages of two zones are not freed as one, even if they are neighbours. */
static void gather_ends_a_run_at_a_zone(struct kunit *test)
{
	struct page *first = new_pages(test);
	enum zone_type zone = page_zonenum(first);

	set_page_zone(&first[2], zone ? 0 : 1);
	set_page_zone(&first[3], zone ? 0 : 1);
	expect_gathered(test, first, "012345", "0+2 2+2 4+2");
	set_page_zone(&first[2], zone);
	set_page_zone(&first[3], zone);
	free_pages_of(first);
}

/* From the runs 0+4 and 8+8, the first one being the newest */
static void expect_taken(struct kunit *test, struct page *first,
			 unsigned int want, const char *taken, const char *left)
{
	struct vb *vb = new_vb(test);
	unsigned int nr;
	LIST_HEAD(runs);

	vb_add_run(&vb->runs, &first[0], 4);
	vb_add_run(&vb->runs, &first[8], 8);
	nr = vb_take_runs(vb, &runs, want);
	KUNIT_EXPECT_EQ(test, nr, min(want, 12U));
	expect_runs(test, first, &runs, taken);
	expect_runs(test, first, &vb->runs, left);
}

static void take_runs_cuts_the_last_one(struct kunit *test)
{
	struct page *first = new_pages(test);

	expect_taken(test, first, 0, "", "0+4 8+8");
	expect_taken(test, first, 1, "3+1", "0+3 8+8");
	expect_taken(test, first, 3, "1+3", "0+1 8+8");
	expect_taken(test, first, 4, "0+4", "8+8");
	expect_taken(test, first, 5, "0+4 15+1", "8+7");
	expect_taken(test, first, 11, "0+4 9+7", "8+1");
	free_pages_of(first);
}

static void take_runs_takes_what_there_is(struct kunit *test)
{
	struct page *first = new_pages(test);
	struct vb *vb = new_vb(test);
	LIST_HEAD(runs);

	expect_taken(test, first, 12, "0+4 8+8", "");
	expect_taken(test, first, 13, "0+4 8+8", "");
	expect_taken(test, first, UINT_MAX, "0+4 8+8", "");
	KUNIT_EXPECT_EQ(test, vb_take_runs(vb, &runs, 5), 0U);
	KUNIT_EXPECT_TRUE(test, list_empty(&runs));
	free_pages_of(first);
}

/* What is taken comes after what the list has. */
static void take_runs_appends(struct kunit *test)
{
	struct page *first = new_pages(test);
	struct vb *vb = new_vb(test);
	LIST_HEAD(runs);

	vb_add_run(&vb->runs, &first[0], 8);
	KUNIT_EXPECT_EQ(test, vb_take_runs(vb, &runs, 2), 2U);
	KUNIT_EXPECT_EQ(test, vb_take_runs(vb, &runs, 3), 3U);
	KUNIT_EXPECT_EQ(test, vb_take_runs(vb, &runs, 4), 3U);
	expect_runs(test, first, &runs, "6+2 3+3 0+3");
	KUNIT_EXPECT_TRUE(test, list_empty(&vb->runs));
	free_pages_of(first);
}

static void link_lists_every_page_of_a_run(struct kunit *test)
{
	struct page *first = new_pages(test), *page;
	unsigned int i = 0;
	LIST_HEAD(pages);

	vb_set_run_pages(&first[2], 5);
	vb_link(&pages, &first[2]);
	list_for_each_entry(page, &pages, lru)
		KUNIT_EXPECT_PTR_EQ(test, page, &first[2 + i++]);
	KUNIT_EXPECT_EQ(test, i, 5U);
	list_for_each_entry_reverse(page, &pages, lru)
		KUNIT_EXPECT_PTR_EQ(test, page, &first[2 + --i]);
	KUNIT_EXPECT_EQ(test, i, 0U);
	free_pages_of(first);
}

/*
 * Statistics
 */

static struct vb *new_stats(struct kunit *test, u64 features)
{
	struct vb *vb = new_vb(test);

	vb->vdev = kunit_kzalloc(test, sizeof(*vb->vdev), GFP_KERNEL);
	vb->stats = kunit_kzalloc(test, VIRTIO_BALLOON_S_NR *
				  sizeof(*vb->stats), GFP_KERNEL);
	vb->events = kunit_kzalloc(test, NR_VM_EVENT_ITEMS *
				   sizeof(*vb->events), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vb->vdev);
	KUNIT_ASSERT_NOT_NULL(test, vb->stats);
	KUNIT_ASSERT_NOT_NULL(test, vb->events);
	vb->vdev->features = features;
	return vb;
}

static void a_subset_is_that_of_the_specification(struct kunit *test)
{
	vb_stats_set.value = 0;
	KUNIT_EXPECT_EQ(test, vb_nr_stats(), 16U);
	vb_stats_set.value = VB_STATS_SPEC;
	KUNIT_EXPECT_EQ(test, vb_nr_stats(), 10U);
	vb_stats_set.value = 0;
}

/* 2 bytes and 8, tag n at 10 * n, and nothing else is written to. */
static void stat_is_little_endian(struct kunit *test)
{
	static const u8 entry[] = {
		9, 0, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 1
	};
	struct vb *vb = new_stats(test, BIT_ULL(VIRTIO_F_VERSION_1));
	const u8 *bytes = (u8 *)vb->stats;

	vb_stat(vb, 9, 0x0123456789abcdefULL);
	KUNIT_EXPECT_EQ(test, memcmp(bytes + 90, entry, 10), 0);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(bytes, 0, 90), NULL);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(bytes + 100, 0, 60), NULL);
}

static void stat_is_native_for_a_legacy_device(struct kunit *test)
{
	struct vb *vb = new_stats(test, 0);
	u64 val = U64_MAX - 5;
	u16 tag = 15;

	vb_stat(vb, tag, val);
	KUNIT_EXPECT_EQ(test, memcmp(&vb->stats[15].tag, &tag, 2), 0);
	KUNIT_EXPECT_EQ(test, memcmp(&vb->stats[15].val, &val, 8), 0);
}

#define BAD_VAL	(0xbadULL << 48)

static u64 val_of(struct vb *vb, unsigned int tag)
{
	struct virtio_balloon_stat *stat = &vb->stats[tag];

	if (virtio16_to_cpu(vb->vdev, stat->tag) != tag)
		return BAD_VAL;
	return virtio64_to_cpu(vb->vdev, stat->val);
}

static void stat_of_pages_is_in_bytes(struct kunit *test)
{
	struct vb *vb = new_stats(test, BIT_ULL(VIRTIO_F_VERSION_1));

	vb_stat_pages(vb, 4, 0);
	KUNIT_EXPECT_EQ(test, val_of(vb, 4), 0ULL);
	vb_stat_pages(vb, 4, 3);
	KUNIT_EXPECT_EQ(test, val_of(vb, 4),
			BY_SIZE(12288ULL, 49152ULL, 196608ULL));
	vb_stat_pages(vb, 5, 0x100000001ULL);
	KUNIT_EXPECT_EQ(test, val_of(vb, 5), 0x100000001ULL << COPY_PAGE_SHIFT);
}

static void stalls_are_those_of_all_zones(struct kunit *test)
{
	unsigned long *ev = new_stats(test, 0)->events;
	u64 sum = 0x300000000ULL;

	ev[PGALLOC_MOVABLE] = 1000;
	ev[PGSCAN_SKIP_NORMAL] = 2000;
	ev[PGFREE] = 3000;
	ev[ALLOCSTALL_NORMAL] = 0x100000000UL;
	ev[ALLOCSTALL_MOVABLE] = 0x200000000UL;
#ifdef CONFIG_ZONE_DMA
	ev[ALLOCSTALL_DMA] = 4;
	sum += 4;
#endif
#ifdef CONFIG_ZONE_DMA32
	ev[ALLOCSTALL_DMA32] = 8;
	sum += 8;
#endif
	KUNIT_EXPECT_EQ(test, vb_alloc_stalls(ev), sum);
}

#define PAGES_TO_BYTES(n)	((u64)(n) << COPY_PAGE_SHIFT)

/* Tags 10 to 15; mm's counters are of pages, the host's of bytes. */
static void stats_of_linux_come_from_its_events(struct kunit *test)
{
	struct vb *vb = new_stats(test, BIT_ULL(VIRTIO_F_VERSION_1));
	unsigned long *ev = vb->events;
	const u64 pages[] = {
		compat_reclaim(ev, PGSCAN_KSWAPD, 7),
		compat_reclaim(ev, PGSCAN_DIRECT, 11),
		compat_reclaim(ev, PGSTEAL_KSWAPD, 13),
		compat_reclaim(ev, PGSTEAL_DIRECT, 17),
	};
	unsigned int i;

	ev[OOM_KILL] = 3;
	ev[ALLOCSTALL_NORMAL] = 5;
	vb_fill_linux_stats(vb, ev);
	KUNIT_EXPECT_EQ(test, val_of(vb, 10), 3ULL);
	KUNIT_EXPECT_EQ(test, val_of(vb, 11), 5ULL);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		KUNIT_EXPECT_EQ(test, val_of(vb, 12 + i),
				PAGES_TO_BYTES(pages[i]));
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(vb->stats, 0, 100), NULL);
}

/* Tags 0 to 9: what can be known here; mm has the rest in real pages. */
static void stats_of_the_specification_are_filled(struct kunit *test)
{
	struct vb *vb = new_stats(test, BIT_ULL(VIRTIO_F_VERSION_1));
	unsigned long *ev = vb->events;
	unsigned int tag;

	ev[PSWPIN] = 3;
	ev[PSWPOUT] = 5;
	ev[PGFAULT] = 1000;
	ev[PGMAJFAULT] = 7;
	vb_fill_spec_stats(vb, ev);
	KUNIT_EXPECT_EQ(test, val_of(vb, 0), PAGES_TO_BYTES(3));
	KUNIT_EXPECT_EQ(test, val_of(vb, 1), PAGES_TO_BYTES(5));
	KUNIT_EXPECT_EQ(test, val_of(vb, 2), 7ULL);
	KUNIT_EXPECT_EQ(test, val_of(vb, 3), 993ULL);
	KUNIT_EXPECT_EQ(test, val_of(vb, 5), PAGES_TO_BYTES(totalram_pages()));
	for (tag = 0; tag < 10; tag++)
		KUNIT_EXPECT_NE(test, val_of(vb, tag), BAD_VAL);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(&vb->stats[10], 0, 60), NULL);
}

/*
 * Parameters
 */

static int set(struct vb_range *range, const char *val)
{
	const struct kernel_param kp = { .name = "test", .arg = range };

	return vb_range_set(val, &kp);
}

static void a_range_takes_what_is_in_it(struct kunit *test)
{
	struct vb_range range = { .value = 5, .min = -1, .max = 0x100 };

	KUNIT_EXPECT_EQ(test, set(&range, "-1"), 0);
	KUNIT_EXPECT_EQ(test, range.value, -1);
	KUNIT_EXPECT_EQ(test, set(&range, "0"), 0);
	KUNIT_EXPECT_EQ(test, range.value, 0);
	KUNIT_EXPECT_EQ(test, set(&range, "0x100"), 0);
	KUNIT_EXPECT_EQ(test, range.value, 256);
	KUNIT_EXPECT_EQ(test, set(&range, "12\n"), 0);
	KUNIT_EXPECT_EQ(test, range.value, 12);
}

static void a_range_refuses_the_rest_and_keeps_its_value(struct kunit *test)
{
	static const struct {
		const char *val;
		int rc;
	} bad[] = {
		{ "-2", -ERANGE }, { "257", -ERANGE }, { "-2147483648", -ERANGE },
		{ "4294967296", -ERANGE }, { "", -EINVAL }, { "64K", -EINVAL }
	};
	struct vb_range range = { .value = 5, .min = -1, .max = 256 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		KUNIT_EXPECT_EQ_MSG(test, set(&range, bad[i].val), bad[i].rc,
				    "\"%s\"", bad[i].val);
		KUNIT_EXPECT_EQ(test, range.value, 5);
	}
}

static void a_parameter_reads_as_it_was_set(struct kunit *test)
{
	struct vb_range range = { .value = -7 };
	struct vb_choice choice = vb_stats_set;
	const struct kernel_param of_range = { .arg = &range };
	const struct kernel_param of_choice = { .arg = &choice };
	char *text = (char *)__get_free_page(GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, text);
	KUNIT_EXPECT_EQ(test, vb_range_get(text, &of_range), 3);
	KUNIT_EXPECT_STREQ(test, text, "-7\n");
	choice.value = 1;
	KUNIT_EXPECT_EQ(test, vb_choice_get(text, &of_choice), 5);
	KUNIT_EXPECT_STREQ(test, text, "spec\n");
	free_page((unsigned long)text);
}

static int choose(struct vb_choice *choice, const char *val)
{
	const struct kernel_param kp = { .name = "test", .arg = choice };

	return vb_choice_set(val, &kp);
}

static void a_choice_is_one_of_its_words(struct kunit *test)
{
	static const char * const bad[] = { "", "specs", "SPEC" };
	struct vb_choice choice = vb_stats_set;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, choose(&choice, "spec"), 0);
	KUNIT_EXPECT_EQ(test, choice.value, 1U);
	KUNIT_EXPECT_EQ(test, choose(&choice, "all\n"), 0);
	KUNIT_EXPECT_EQ(test, choice.value, 0U);
	KUNIT_EXPECT_EQ(test, choose(&choice, "spec\n"), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		KUNIT_EXPECT_EQ_MSG(test, choose(&choice, bad[i]), -EINVAL,
				    "\"%s\"", bad[i]);
		KUNIT_EXPECT_EQ(test, choice.value, 1U);
	}
}

static void the_words_are_as_documented(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_stats_set.value, 0U);
	KUNIT_EXPECT_STREQ(test, vb_stats_set.words[0], "all");
	KUNIT_EXPECT_STREQ(test, vb_stats_set.words[VB_STATS_SPEC], "spec");
	KUNIT_EXPECT_EQ(test, vb_deflate_mode.value, 0U);
	KUNIT_EXPECT_STREQ(test, vb_deflate_mode.words[0], "oom");
	KUNIT_EXPECT_STREQ(test, vb_deflate_mode.words[VB_DEFLATE_SHRINKER],
			   "shrinker");
}

/* README.md promises these; they do not depend on the page size. */
static void the_ranges_are_as_documented(struct kunit *test)
{
	const struct {
		struct vb_range *range;
		int value, min, max;
	} all[] = {
		{ &vb_oom_pages, 0, 0, 1048576 },
		{ &vb_floor_mib, -1, -1, 1048576 },
		{ &vb_pfns_per_buffer, 256, 16, 4096 },
		{ &vb_hint_order, -1, -1, VB_MAX_ORDER },
		{ &vb_report_order, 0, 0, VB_MAX_ORDER },
		{ &vb_report_on, 1, 0, 1 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		KUNIT_EXPECT_EQ(test, all[i].range->value, all[i].value);
		KUNIT_EXPECT_EQ(test, all[i].range->min, all[i].min);
		KUNIT_EXPECT_EQ(test, all[i].range->max, all[i].max);
	}
}

static void hints_are_2_mib_by_default(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, vb_hint_least(), VB_BLOCK_ORDER);
	vb_hint_order.value = 0;
	KUNIT_EXPECT_EQ(test, vb_hint_least(), 0U);
	vb_hint_order.value = 3;
	KUNIT_EXPECT_EQ(test, vb_hint_least(), 3U);
	vb_hint_order.value = -1;
}

/*
 * States
 */

static void every_state_has_a_name_and_a_reason(struct kunit *test)
{
	static const char * const names[] = {
		"idle", "inflating", "deflating", "floor", "no-memory",
		"hold-off", "stalled", "broken"
	};
	unsigned int i;

	KUNIT_ASSERT_EQ(test, (size_t)VB_NR_STATES, ARRAY_SIZE(names));
	for (i = 0; i < VB_NR_STATES; i++) {
		KUNIT_ASSERT_NOT_NULL(test, vb_states[i].name);
		KUNIT_ASSERT_NOT_NULL(test, vb_states[i].why);
		KUNIT_EXPECT_STREQ(test, vb_states[i].name, names[i]);
		KUNIT_EXPECT_GT(test, strlen(vb_states[i].why), (size_t)5);
	}
}

/* mm gets pages where nothing moves, and none of a device that failed. */
static void it_rests_unless_pages_move(struct kunit *test)
{
	static const bool rests[VB_NR_STATES] = {
		[VB_IDLE] = true, [VB_FLOOR] = true, [VB_NO_MEMORY] = true,
		[VB_HOLD_OFF] = true, [VB_STALLED] = true
	};
	struct vb *vb = new_vb(test);

	for (vb->state = 0; vb->state < VB_NR_STATES; vb->state++)
		KUNIT_EXPECT_EQ_MSG(test, vb_rests(vb), rests[vb->state],
				    "%s", vb_states[vb->state].name);
}

/* On the hintq a token is a command or a block. */
static void commands_are_told_from_blocks(struct kunit *test)
{
	struct vb *vb = new_vb(test);

	KUNIT_EXPECT_TRUE(test, vb_is_cmd(vb, &vb->cmds[0]));
	KUNIT_EXPECT_TRUE(test, vb_is_cmd(vb, &vb->cmds[VB_HINT_CMDS - 1]));
	KUNIT_EXPECT_FALSE(test, vb_is_cmd(vb, &vb->cmds[VB_HINT_CMDS]));
	KUNIT_EXPECT_FALSE(test, vb_is_cmd(vb, (void *)vb->cmds - 1));
	KUNIT_EXPECT_FALSE(test, vb_is_cmd(vb, pfn_to_page(0x12345)));
}

static struct kunit_case policy_cases[] = {
	KUNIT_CASE(units_follow_the_page_size),
	KUNIT_CASE(units_do_not_overflow),
	KUNIT_CASE(steps_have_the_same_size_in_mib),
	KUNIT_CASE(a_block_has_2_mib),
	KUNIT_CASE(target_is_rounded_up),
	KUNIT_CASE(target_is_never_more_than_all_memory),
	KUNIT_CASE(target_does_not_overflow),
	KUNIT_CASE(target_is_monotonous),
	KUNIT_CASE(floor_grows_with_the_square_root),
	KUNIT_CASE(floor_is_rounded_down),
	KUNIT_CASE(floor_is_what_the_parameter_says),
	KUNIT_CASE(floor_is_monotonous),
	KUNIT_CASE(room_ends_at_the_floor),
	KUNIT_CASE(room_is_enough_for_the_last_pages),
	KUNIT_CASE(room_is_a_step_at_most),
	KUNIT_CASE(room_is_small_after_an_oom),
	KUNIT_CASE(room_leaves_the_floor),
	KUNIT_CASE(backoff_doubles_up_to_30_s),
	KUNIT_CASE(hold_off_doubles_up_to_5_min),
	KUNIT_CASE(hold_off_depends_on_when),
	KUNIT_CASE(hold_off_that_lasts_stays),
	KUNIT_CASE(until_counts_in_64_bits),
	KUNIT_CASE(a_hold_off_lasts_until_its_end),
	KUNIT_CASE(a_hold_off_looks_for_answers),
	KUNIT_CASE(oom_step_grows_fourfold_to_64_mib),
	KUNIT_CASE(oom_step_starts_anew_after_10_s),
	KUNIT_CASE(oom_step_is_what_the_parameter_says),
	KUNIT_CASE(pfns_are_little_endian),
	KUNIT_CASE(pfns_are_big_endian_for_a_legacy_device),
	KUNIT_CASE(pfns_go_up_to_32_bits),
	KUNIT_CASE(nothing_added_is_nothing),
	KUNIT_CASE(gather_makes_runs_of_neighbours),
	KUNIT_CASE(gather_ends_a_run_at_a_zone),
	KUNIT_CASE(take_runs_cuts_the_last_one),
	KUNIT_CASE(take_runs_takes_what_there_is),
	KUNIT_CASE(take_runs_appends),
	KUNIT_CASE(link_lists_every_page_of_a_run),
	KUNIT_CASE(a_subset_is_that_of_the_specification),
	KUNIT_CASE(stat_is_little_endian),
	KUNIT_CASE(stat_is_native_for_a_legacy_device),
	KUNIT_CASE(stat_of_pages_is_in_bytes),
	KUNIT_CASE(stalls_are_those_of_all_zones),
	KUNIT_CASE(stats_of_linux_come_from_its_events),
	KUNIT_CASE(stats_of_the_specification_are_filled),
	KUNIT_CASE(a_range_takes_what_is_in_it),
	KUNIT_CASE(a_range_refuses_the_rest_and_keeps_its_value),
	KUNIT_CASE(a_parameter_reads_as_it_was_set),
	KUNIT_CASE(a_choice_is_one_of_its_words),
	KUNIT_CASE(the_words_are_as_documented),
	KUNIT_CASE(the_ranges_are_as_documented),
	KUNIT_CASE(hints_are_2_mib_by_default),
	KUNIT_CASE(every_state_has_a_name_and_a_reason),
	KUNIT_CASE(it_rests_unless_pages_move),
	KUNIT_CASE(commands_are_told_from_blocks),
	{}
};
