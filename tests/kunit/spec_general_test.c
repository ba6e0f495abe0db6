// SPDX-License-Identifier: GPL-2.0-only
/*
 * The general parts of VIRTIO 1.4 as far as they bear on a balloon driver: G1
 * to G25. Not here, as virtio's core and its transports see to them alone and
 * no driver can do more or less: G5 (legacy devices told by VERSION_1), the
 * waiting of G6, G9 (nothing tells a driver how large the configuration is),
 * G14 (the core knows no feature bit 43), G20 (barriers and suppression), G23
 * (ids and interrupts of PCI), G24 (resets of queues) and G25 (packed rings).
 */

#include <linux/delay.h>

#include "compat.h"
#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "pages.h"
#include "short.h"
#include "suites.h"

#define NUM_PAGES	offsetof(struct virtio_balloon_config, num_pages)
#define ACTUAL		offsetof(struct virtio_balloon_config, actual)
#define POISON_AT	offsetof(struct virtio_balloon_config, poison_val)
#define ID		0x80000005
#define SIZE		(16 * FH_MIB)

#define ACKED		VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER		(ACKED | VIRTIO_CONFIG_S_DRIVER)
#define FEATURED	(DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define READY		(FEATURED | VIRTIO_CONFIG_S_DRIVER_OK)
#define LEGACY_READY	(DRIVER | VIRTIO_CONFIG_S_DRIVER_OK)

static bool hints(struct fh *host, u32 id)
{
	fh_hint(host, id);
	return fh_until(host->hint_begun == id && !host->hint_open &&
			!inside(vdev_of(host)).hinting);
}

static bool reports(struct fh *host)
{
	u64 before = host->queues[FH_REPORT].nr_used;

	pages_churn(64);
	return fh_until(host->queues[FH_REPORT].nr_used > before);
}

/* Up and down, and a round of hints, and reports: what there is */
static void do_all(struct kunit *test)
{
	struct fh *host = test->priv;

	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	if (host->accepted & FH_BIT(FREE_PAGE_HINT)) {
		KUNIT_EXPECT_TRUE(test, hints(host, host->hint_begun + 5));
		fh_hint(host, VIRTIO_BALLOON_CMD_ID_DONE);
	}
	if (host->accepted & FH_BIT(STATS_VQ))
		KUNIT_EXPECT_TRUE(test, fh_until(inside(vdev_of(host)).nr_stats));
	if (host->accepted & FH_BIT(REPORTING))
		KUNIT_EXPECT_TRUE(test, reports(host));
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	fh_check(host);
}

/* The status as it was written, from event number @from on */
static void expect_status(struct kunit *test, unsigned long from,
			  const u32 *want, unsigned int nr)
{
	struct fh *host = test->priv;
	unsigned int i;
	long n = from - 1;

	for (i = 0; i < nr; i++) {
		n = fh_find_event(host, n + 1, FH_EV_STATUS, -1, -1);
		KUNIT_ASSERT_GE(test, n, 0L);
		KUNIT_EXPECT_EQ(test, fh_event_at(host, n)->a, want[i]);
	}
	KUNIT_EXPECT_EQ(test, fh_find_event(host, n + 1, FH_EV_STATUS, -1, -1),
			-1L);
}

static void g01_status_bits_are_set_in_order(struct kunit *test)
{
	static const u32 want[] = { ACKED, DRIVER, FEATURED, READY };
	static const u32 gone[] = { ACKED };
	struct fh *host = test->priv;
	unsigned long n;

	guest_plug(test, all_features());
	expect_status(test, 0, want, ARRAY_SIZE(want));
	n = host->nr_events;
	fh_unplug(host);
	expect_status(test, n, gone, ARRAY_SIZE(gone));
	KUNIT_EXPECT_GE(test, fh_find_event(host, n, FH_EV_RESET, -1, -1), 0L);
}

static void g01_a_probe_that_fails_says_failed(struct kunit *test)
{
	static const u32 want[] = { ACKED, DRIVER, FEATURED,
				    FEATURED | VIRTIO_CONFIG_S_FAILED };
	struct fh *host = test->priv;

	host->sizes[FH_DEFLATE] = 0;
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_FALSE(test, fh_bound(host));
	expect_status(test, 0, want, ARRAY_SIZE(want));
}

/* It waits for no answer longer than for its next step. */
static void g02_no_answer_is_expected_after_needs_reset(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start;

	fh_policy(host, FH_INFLATE, (struct fh_policy){ .hold = true });
	fh_target(host, 128 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_count(host, FH_OFFERED)));
	start = jiffies;
	fh_fail(host);
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), "broken")));
	KUNIT_EXPECT_LE(test, jiffies - start, 2 * HZ + HZ / 2 + grace());
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OFFERED), 0UL);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).offered, 0L);
}

/* Nor by a removal that comes before any work has seen it */
static void g02_no_answer_is_expected_by_a_removal(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long start;

	fh_policy(host, FH_INFLATE, (struct fh_policy){ .hold = true });
	fh_target(host, 16 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
	start = jiffies;
	fh_fail(host);
	fh_unplug(host);
	KUNIT_EXPECT_LE(test, jiffies - start, HZ + HZ / 2 + grace());
}

static void g03_known_features_are_accepted_and_no_others(struct kunit *test)
{
	const u64 core = BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |
			 BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |
			 BIT_ULL(VIRTIO_F_VERSION_1) |
			 BIT_ULL(VIRTIO_F_ORDER_PLATFORM);
	struct fh *host = test->priv;

	/* The fake host has plain rings only. */
	guest_plug(test, ~(BIT_ULL(VIRTIO_F_RING_PACKED) | COMPAT_IN_ORDER |
			   COMPAT_NOTIFICATION));
	KUNIT_EXPECT_EQ(test, host->accepted, all_features() | core);
	do_all(test);
}

static void g03_nothing_is_accepted_that_is_not_offered(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int bit;

	for (bit = 0; bit < 6; bit++) {
		host->features = BIT_ULL(VIRTIO_F_VERSION_1) | BIT_ULL(bit);
		KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
		KUNIT_EXPECT_TRUE(test, fh_bound(host));
		KUNIT_EXPECT_EQ(test, host->accepted & ~host->features, 0ULL);
		KUNIT_EXPECT_EQ(test, host->accepted & BIT_ULL(bit),
				all_features() & BIT_ULL(bit) &
				~(all_features() & FH_BIT(PAGE_POISON) ?
				  FH_BIT(REPORTING) : 0));
		fh_unplug(host);
	}
}

static void g04_the_balloon_needs_no_feature(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	KUNIT_EXPECT_EQ(test, host->accepted, BIT_ULL(VIRTIO_F_VERSION_1));
	do_all(test);
}

/* The device insists on a feature that nobody knows. */
static void g04_a_device_that_wants_more_is_left_alone(struct kunit *test)
{
	static const u32 want[] = { ACKED, DRIVER, FEATURED,
				    DRIVER | VIRTIO_CONFIG_S_FAILED };
	struct fh *host = test->priv;

	host->features |= BIT_ULL(20);
	host->needed = BIT_ULL(20);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_FALSE(test, fh_bound(host));
	expect_status(test, 0, want, ARRAY_SIZE(want));
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_FIND, -1, -1), 0UL);
}

/* The reset takes a second, and until then the device has what it had. */
static void slow_reset(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type != FH_EV_RESET || !fh_count(host, FH_OFFERED))
		return;
	host->hook_data = host;
	msleep(1000);
	pages_use(host, 64 * FH_MIB);
	fh_check(host);
}

static void g06_pages_stay_until_a_reset_is_complete(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	fh_policy(host, FH_INFLATE, (struct fh_policy){ .hold = true });
	fh_target(host, 2 * SIZE);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OFFERED) == SIZE));
	host->hook = slow_reset;
	fh_unplug(host);
	KUNIT_EXPECT_PTR_EQ(test, host->hook_data, (void *)host);
}

/* One read for each of two steps: to the target, and there. */
static void g07_no_two_fields_make_one_decision(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);
	unsigned long reads = fh_count_events(host, FH_EV_READ, -1, -1);

	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_READ, -1, NUM_PAGES),
			reads + 2);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_READ, -1, -1),
			reads + 2);
}

/* Devices have fields up to the last one that they need: 8, 12 or 16 bytes. */
static void g08_fields_without_their_feature_are_not_touched(struct kunit *test)
{
	static const u64 bits[] = { FH_BIT(STATS_VQ), FH_BIT(FREE_PAGE_HINT),
				    FH_BIT(PAGE_POISON), FH_BIT(REPORTING) };
	struct fh *host = test->priv;
	unsigned int i, n;

	for (i = 0; i < 1 << ARRAY_SIZE(bits); i++) {
		host->features = BIT_ULL(VIRTIO_F_VERSION_1);
		for (n = 0; n < ARRAY_SIZE(bits); n++)
			if (i & BIT(n))
				host->features |= bits[n];
		host->config_len = host->features & FH_BIT(PAGE_POISON) ? 16 :
				   host->features & FH_BIT(FREE_PAGE_HINT) ?
				   12 : 8;
		guest_plug(test, 0);
		fh_target(host, FH_MIB);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, FH_MIB));
		if (host->features & FH_BIT(FREE_PAGE_HINT))
			KUNIT_EXPECT_TRUE(test, hints(host, ID));
		fh_unplug(host);
	}
}

/* Each is a complaint of its own; the log says that there were some. */
static void g10_configuration_is_accessed_by_whole_fields(struct kunit *test)
{
	struct fh *host = guest_plug(test, all_features());
	const struct fh_event *ev;
	unsigned long nr = 0;
	long n = -1;

	do_all(test);
	while ((n = fh_find_event(host, n + 1, FH_EV_READ, -1, -1)) >= 0) {
		ev = fh_event_at(host, n);
		KUNIT_EXPECT_EQ(test, ev->b, 4ULL);
		KUNIT_EXPECT_EQ(test, ev->a % 4, 0U);
		nr++;
	}
	KUNIT_EXPECT_GT(test, nr, 2UL);
	KUNIT_EXPECT_GT(test, host->nr_writes[ACTUAL], 1ULL);
}

/* The event of that kind that is first after number *@n, which it moves to */
static void expect_next(struct kunit *test, long *n, enum fh_event_type type,
			int q, int a)
{
	long next = fh_find_event(test->priv, *n + 1, type, q, a);

	KUNIT_EXPECT_GT_MSG(test, next, *n, "no event %u of %d, %d", type, q,
			    a);
	*n = next;
}

static void g11_the_device_is_set_up_step_by_step(struct kunit *test)
{
	struct fh *host = guest_plug(test, all_features());
	long n = -1, ok, first;

	expect_next(test, &n, FH_EV_RESET, -1, -1);
	expect_next(test, &n, FH_EV_STATUS, -1, ACKED);
	expect_next(test, &n, FH_EV_STATUS, -1, DRIVER);
	expect_next(test, &n, FH_EV_FEATURES, -1, -1);
	expect_next(test, &n, FH_EV_STATUS, -1, FEATURED);
	ok = n;
	expect_next(test, &n, FH_EV_FIND, FH_INFLATE, -1);
	expect_next(test, &n, FH_EV_FIND, FH_DEFLATE, -1);
	expect_next(test, &n, FH_EV_FIND, FH_STATS, -1);
	expect_next(test, &n, FH_EV_FIND, FH_HINT, -1);
	expect_next(test, &n, FH_EV_FIND, FH_REPORT, -1);
	if (all_features() & FH_BIT(PAGE_POISON))
		expect_next(test, &n, FH_EV_WRITE, -1, POISON_AT);
	expect_next(test, &n, FH_EV_STATUS, -1, READY);
	first = fh_find_event(host, 0, FH_EV_NOTIFY, -1, -1);
	KUNIT_EXPECT_GT(test, first, n);
	KUNIT_EXPECT_EQ(test, fh_event_at(host, first)->q, FH_STATS);
	first = fh_find_event(host, 0, FH_EV_WRITE, -1, ACTUAL);
	KUNIT_EXPECT_GT(test, first, n);
	KUNIT_EXPECT_EQ(test, fh_find_event(host, ok, FH_EV_FEATURES, -1, -1),
			-1L);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_FIND, -1, -1), 5UL);
}

static void g12_a_legacy_device_is_set_up_without_features_ok(struct kunit *test)
{
	static const u32 want[] = { ACKED, DRIVER, LEGACY_READY };
	struct fh *host = test->priv;

	host->features &= ~BIT_ULL(VIRTIO_F_VERSION_1);
	guest_plug(test, all_features());
	KUNIT_EXPECT_EQ(test, host->accepted, all_features());
	expect_status(test, 0, want, ARRAY_SIZE(want));
	do_all(test);
}

/* First all pages are announced, then `actual` says so. */
static void g13_the_reset_comes_before_the_end_of_the_queues(struct kunit *test)
{
	struct fh *host = guest_plug(test, all_features());
	const struct fh_event *ev;
	long n;

	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	n = host->nr_events;
	fh_unplug(host);
	expect_next(test, &n, FH_EV_USED, FH_DEFLATE, -1);
	expect_next(test, &n, FH_EV_WRITE, -1, ACTUAL);
	KUNIT_EXPECT_EQ(test, fh_event_at(host, n)->b, 0ULL);
	expect_next(test, &n, FH_EV_RESET, -1, -1);
	ev = fh_event_at(host, n);
	KUNIT_EXPECT_EQ(test, ev->a, 0U);	/* owned */
	KUNIT_EXPECT_EQ(test, ev->b, 0ULL);	/* offered */
	expect_next(test, &n, FH_EV_DEL, -1, -1);
	KUNIT_EXPECT_EQ(test, fh_find_event(host, n, FH_EV_NOTIFY, -1, -1),
			-1L);
}

/*
 * Holds queues on the way to @size and then to twice SIZE. Whether a buffer has
 * changed meanwhile the host sees when it uses it.
 */
static void keep_in_flight(struct kunit *test, unsigned long queues, u32 size)
{
	struct fh *host = test->priv;
	unsigned int q;

	for_each_set_bit(q, &queues, FH_QUEUES)
		fh_policy(host, q, holding);
	if (queues & BIT(FH_HINT))
		fh_hint(host, ID);
	fh_target(host, size);
	for_each_set_bit(q, &queues, FH_QUEUES)
		KUNIT_EXPECT_TRUE(test, fh_until(fh_fetched(host, q)));
	fh_target(host, 2 * SIZE);
	for (q = 0; q < FH_REPORT; q++)
		fh_callback(host, q);
	msleep(5000);
	for_each_set_bit(q, &queues, FH_QUEUES) {
		KUNIT_EXPECT_GT(test, fh_fetched(host, q), 0U);
		fh_policy(host, q, prompt);
	}
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 2 * SIZE));
}

/* The inflateq is empty while the deflateq is not. */
static void g13_buffers_in_flight_do_not_change(struct kunit *test)
{
	guest_plug(test, all_features() & ~FH_BIT(REPORTING));
	keep_in_flight(test, BIT(FH_INFLATE), SIZE);
	keep_in_flight(test, BIT(FH_DEFLATE) | BIT(FH_STATS) | BIT(FH_HINT),
		       SIZE / 2);
	do_all(test);
}

/* Commands and PFNs are read, blocks are written: others are complaints. */
static void g15_a_buffer_is_read_or_written(struct kunit *test)
{
	struct fh *host = guest_plug(test, all_features());

	do_all(test);
	KUNIT_EXPECT_GT(test, host->queues[FH_INFLATE].nr_seen, 0ULL);
	KUNIT_EXPECT_GT(test, host->queues[FH_DEFLATE].nr_seen, 0ULL);
	KUNIT_EXPECT_GT(test, host->queues[FH_HINT].nr_pages, 0ULL);
	KUNIT_EXPECT_GT(test, host->queues[FH_REPORT].nr_pages, 0ULL);
}

static void short_chains(struct kunit *test, u64 features)
{
	struct fh *host = test->priv;
	unsigned int q;

	host->sizes[FH_REPORT] = 8;
	guest_plug(test, all_features() | features);
	do_all(test);
	KUNIT_EXPECT_EQ(test, host->queues[FH_REPORT].widest, 8U);
	for (q = 0; q < FH_REPORT; q++)
		KUNIT_EXPECT_EQ(test, host->queues[q].widest, 1U);
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(host)).broken);
}

static void g16_no_chain_is_longer_than_its_ring(struct kunit *test)
{
	short_chains(test, 0);
}

static void g16_no_table_is_longer_than_its_ring(struct kunit *test)
{
	short_chains(test, BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC));
}

/* However long the host keeps it, and whatever it wishes meanwhile */
static void g17_no_buffer_is_taken_back(struct kunit *test)
{
	struct fh *host = guest_plug(test, 0);

	fh_policy(host, FH_INFLATE, (struct fh_policy){ .hold = true });
	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OFFERED) == SIZE));
	msleep(5000);
	KUNIT_EXPECT_TRUE(test, inside_is(vdev_of(host), "stalled"));
	fh_target(host, 0);
	msleep(5000);
	pages_use(host, 64 * FH_MIB);
	fh_check(host);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_INFLATE), 16U);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OFFERED), (ulong)SIZE);
	KUNIT_EXPECT_EQ(test, host->queues[FH_DEFLATE].nr_seen, 0ULL);
	fh_policy(host, FH_INFLATE, (struct fh_policy){ });
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
	KUNIT_EXPECT_EQ(test, host->queues[FH_DEFLATE].nr_pages, (u64)SIZE);
}

/* What the driver has done so far, as the host sees it */
static u64 deeds(struct fh *host)
{
	u64 nr = fh_count_events(host, FH_EV_READ, -1, -1);
	unsigned int i;

	for (i = 0; i < FH_QUEUES; i++)
		nr += host->queues[i].nr_notified + host->queues[i].nr_seen;
	for (i = 0; i < FH_CONFIG; i++)
		nr += host->nr_writes[i];
	return nr;
}

/* Until the driver rests: mm reports what the guest frees, if that takes time. */
static u64 deeds_at_rest(struct fh *host)
{
	u64 now = deeds(host), before;
	int i;

	for (i = 0; i < 10; i++) {
		before = now;
		msleep(5000);
		now = deeds(host);
		if (now == before)
			break;
	}
	return now;
}

static void g18_notifications_for_nothing_do_nothing(struct kunit *test)
{
	struct fh *host = guest_plug(test, all_features());
	u64 before;
	int i, q;

	fh_policy(host, FH_STATS, (struct fh_policy){ .hold = true });
	fh_target(host, SIZE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, SIZE));
	before = deeds_at_rest(host);
	for (i = 0; i < 100; i++)
		for (q = 0; q < FH_QUEUES; q++) {
			fh_irq(host, q);
			fh_callback(host, q);
		}
	msleep(1000);
	KUNIT_EXPECT_EQ(test, deeds(host), before);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_STATS), 1U);
}

static void used_lengths(struct kunit *test, u32 len)
{
	struct fh *host = guest_plug(test, all_features());
	int q;

	for (q = 0; q < FH_QUEUES; q++)
		fh_policy(host, q, (struct fh_policy){ .used_len = len });
	do_all(test);
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(host)).broken);
}

static void g19_the_used_length_says_nothing(struct kunit *test)
{
	used_lengths(test, U32_MAX);
}

static void g19_a_small_used_length_says_nothing(struct kunit *test)
{
	used_lengths(test, 1);
}

/* Pages are named by physical numbers; the driver declines, and says so. */
static void g21_access_platform_is_declined(struct kunit *test)
{
	struct fh *host = guest_plug(test, BIT_ULL(VIRTIO_F_ACCESS_PLATFORM));

	KUNIT_EXPECT_EQ(test, host->accepted, BIT_ULL(VIRTIO_F_VERSION_1));
	do_all(test);
}

static void g21_a_device_behind_an_iommu_is_left_alone(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features |= BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	host->needed = BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_FALSE(test, fh_bound(host));
	KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	KUNIT_EXPECT_EQ(test, fh_count_events(host, FH_EV_FIND, -1, -1), 0UL);
}

/* Legacy devices offer bit 27, and may offer bit 30 to find bad drivers. */
static void g22_any_layout_is_accepted_and_bit_30_is_not(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features &= ~BIT_ULL(VIRTIO_F_VERSION_1);
	guest_plug(test, BIT_ULL(VIRTIO_F_ANY_LAYOUT) | BIT_ULL(30));
	KUNIT_EXPECT_EQ(test, host->accepted, BIT_ULL(VIRTIO_F_ANY_LAYOUT));
	do_all(test);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(g01_status_bits_are_set_in_order),
	KUNIT_CASE(g01_a_probe_that_fails_says_failed),
	KUNIT_CASE(g02_no_answer_is_expected_after_needs_reset),
	KUNIT_CASE(g02_no_answer_is_expected_by_a_removal),
	KUNIT_CASE(g03_known_features_are_accepted_and_no_others),
	KUNIT_CASE(g03_nothing_is_accepted_that_is_not_offered),
	KUNIT_CASE(g04_the_balloon_needs_no_feature),
	KUNIT_CASE(g04_a_device_that_wants_more_is_left_alone),
	KUNIT_CASE(g06_pages_stay_until_a_reset_is_complete),
	KUNIT_CASE(g07_no_two_fields_make_one_decision),
	KUNIT_CASE(g08_fields_without_their_feature_are_not_touched),
	KUNIT_CASE(g10_configuration_is_accessed_by_whole_fields),
	KUNIT_CASE(g11_the_device_is_set_up_step_by_step),
	KUNIT_CASE(g12_a_legacy_device_is_set_up_without_features_ok),
	KUNIT_CASE(g13_the_reset_comes_before_the_end_of_the_queues),
	KUNIT_CASE(g13_buffers_in_flight_do_not_change),
	KUNIT_CASE(g15_a_buffer_is_read_or_written),
	KUNIT_CASE(g16_no_chain_is_longer_than_its_ring),
	KUNIT_CASE(g16_no_table_is_longer_than_its_ring),
	KUNIT_CASE(g17_no_buffer_is_taken_back),
	KUNIT_CASE(g18_notifications_for_nothing_do_nothing),
	KUNIT_CASE(g19_the_used_length_says_nothing),
	KUNIT_CASE(g19_a_small_used_length_says_nothing),
	KUNIT_CASE(g21_access_platform_is_declined),
	KUNIT_CASE(g21_a_device_behind_an_iommu_is_left_alone),
	KUNIT_CASE(g22_any_layout_is_accepted_and_bit_30_is_not),
	{}
};

struct kunit_suite spec_general_suite = {
	.name = "virtio_balloon_spec_general",
	.init = fh_suite_init,
	.exit = fh_suite_exit,
	.test_cases = cases,
};
