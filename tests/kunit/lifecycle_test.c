// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device comes, goes, sleeps and fails: in every state, with every subset of
 * the features, and with hosts that do not answer. No page is lost (fh_end()
 * looks for them), and nothing waits for longer than it says.
 */

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/suspend.h>
#include <linux/tracepoint.h>

#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "short.h"
#include "suites.h"

#define GOAL		(32 * FH_MIB)
#define ALL		(~0U)
#define HINT_ID		0x80000000U
#define ACTUAL		offsetof(struct virtio_balloon_config, actual)
#define TARGET		offsetof(struct virtio_balloon_config, num_pages)
#define POISON		offsetof(struct virtio_balloon_config, poison_val)
#define RINGS		(BIT_ULL(VIRTIO_RING_F_EVENT_IDX) | \
			 BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC))

/* Work takes no time where time is simulated. */
#define SLACK		(time_travels() ? 3 : 15 * HZ)

static const struct fh_policy answers, deaf = { .deaf = true },
			      holds = { .hold = true };

/* A device that does not ask for statistics all the time */
static void plug(struct kunit *test, struct fh *host, u64 features)
{
	host->features |= features;
	fh_policy(host, FH_STATS, holds);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_ASSERT_TRUE(test, fh_bound(host));
}

static void inflate(struct kunit *test, struct fh *host, u32 pages)
{
	fh_target(host, pages);
	KUNIT_ASSERT_TRUE(test, fh_settles(host, pages));
}

static unsigned long count_since(struct fh *host, unsigned long from,
				 enum fh_event_type type, int q, int a)
{
	unsigned long nr = 0;
	long n = (long)from - 1;

	while ((n = fh_find_event(host, n + 1, type, q, a)) >= 0)
		nr++;
	return nr;
}

/* The last event of that kind since @from, or NULL */
static const struct fh_event *last_event(struct fh *host, unsigned long from,
					 enum fh_event_type type)
{
	long next = from, n = -1;

	while ((next = fh_find_event(host, next, type, -1, -1)) >= 0)
		n = next++;
	return n < 0 ? NULL : fh_event_at(host, n);
}

/* The host has nothing, knows that, and mm has what it had before. */
static void expect_all_back(struct kunit *test, struct fh *host,
			    unsigned long ram)
{
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), 0UL);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OFFERED), 0UL);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_RETURNING), 0UL);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_HINTING), 0UL);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_REPORTED), 0UL);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
}

/* B12: at the reset that ends a life the host had heard of every page. */
static void expect_announced(struct kunit *test, struct fh *host,
			     unsigned long from)
{
	const struct fh_event *reset = last_event(host, from, FH_EV_RESET);

	KUNIT_ASSERT_NOT_NULL(test, reset);
	KUNIT_EXPECT_EQ(test, reset->a, 0U);
	KUNIT_EXPECT_EQ(test, reset->b, 0ULL);
}

/*
 * Parameters
 */

static void set_param(struct kunit *test, const char *name, const char *value)
{
	KUNIT_ASSERT_EQ_MSG(test, guest_set(name, value), 0, "%s=%s", name,
			    value);
}

static void expect_param(struct kunit *test, const char *name,
			 const char *value)
{
	KUNIT_EXPECT_TRUE_MSG(test, guest_has(name, value), "%s", name);
}

static void set_floor(struct kunit *test, long mib)
{
	char text[16];

	snprintf(text, sizeof(text), "%ld", mib);
	set_param(test, "floor", text);
}

/* A guest with little more memory than its floor: these tests are many. */
static void near_floor(struct kunit *test)
{
	set_floor(test, (si_mem_available() >> (20 - PAGE_SHIFT)) - 64);
}

/*
 * Features and rings
 */

static u64 subset(unsigned int bits)
{
	static const u64 feature[] = {
		FH_BIT(MUST_TELL_HOST), FH_BIT(STATS_VQ),
		FH_BIT(DEFLATE_ON_OOM), FH_BIT(FREE_PAGE_HINT),
		FH_BIT(PAGE_POISON), FH_BIT(REPORTING),
	};
	u64 features = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(feature); i++)
		if (bits & BIT(i))
			features |= feature[i];
	return features;
}

/* All that is offered, but for B2 and B3 */
static u64 accepted_of(u64 offered)
{
	if (!guest_fills())
		return offered & ~FH_BIT(PAGE_POISON);
	if (!(offered & FH_BIT(PAGE_POISON)))
		return offered & ~FH_BIT(REPORTING);
	return offered;
}

static bool has_queue(u64 accepted, unsigned int q)
{
	switch (q) {
	case FH_STATS:
		return accepted & FH_BIT(STATS_VQ);
	case FH_HINT:
		return accepted & FH_BIT(FREE_PAGE_HINT);
	case FH_REPORT:
		return accepted & FH_BIT(REPORTING);
	default:
		return true;
	}
}

/* The host complains of wrong numbers by itself. */
static void expect_queues(struct kunit *test, struct fh *host,
			  unsigned long from)
{
	unsigned int q;

	KUNIT_EXPECT_EQ(test, host->accepted, accepted_of(host->features));
	for (q = 0; q < FH_QUEUES; q++)
		KUNIT_EXPECT_EQ_MSG(test, !!has_queue(host->accepted, q),
				    count_since(host, from, FH_EV_FIND, q, -1),
				    "queue %u, features %llx", q,
				    host->features);
}

/* Probe, inflate, deflate, remove with pages held */
static void live(struct kunit *test, struct fh *host, u64 features)
{
	unsigned long from = host->nr_events, ram = totalram_pages();

	host->features = features;
	plug(test, host, 0);
	expect_queues(test, host, from);
	fh_target(host, 2 * FH_MIB + FH_PPP);
	KUNIT_EXPECT_TRUE_MSG(test, fh_settles(host, 2 * FH_MIB + FH_PPP),
			      "features %llx", features);
	fh_target(host, FH_MIB);
	KUNIT_EXPECT_TRUE_MSG(test, fh_settles(host, FH_MIB), "features %llx",
			      features);
	fh_unplug(host);
	fh_set_field(host, TARGET, 0);
	expect_all_back(test, host, ram);
	expect_announced(test, host, from);
}

/* Each subset of them modern and legacy, on any kind of ring and host */
static void every_subset_of_features_works(struct kunit *test)
{
	static const u64 rings[] = {
		RINGS, 0, BIT_ULL(VIRTIO_RING_F_EVENT_IDX),
		BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC),
	};
	struct fh *host = test->priv;
	unsigned int i;

	set_sizes(host, 4);
	for (i = 0; i < 128; i += time_travels() ? 1 : 5) {
		host->thread = i % 3;
		live(test, host, subset(i / 2) | rings[i / 3 % 4] |
		     (i % 2 ? BIT_ULL(VIRTIO_F_VERSION_1) : 0));
	}
}

static void offered_unknown_features_are_declined(struct kunit *test)
{
	struct fh *host = test->priv;

	/* Bits 6 to 23 and 42 on are of devices yet to come. */
	plug(test, host, GENMASK_ULL(23, 6) | GENMASK_ULL(63, 42));
	KUNIT_EXPECT_EQ(test, host->accepted, BIT_ULL(VIRTIO_F_VERSION_1));
	inflate(test, host, FH_MIB);
}

/* As many buffers in flight as the ring has room for, 64 at most */
static void ring_of(struct kunit *test, struct fh *host, unsigned int size)
{
	unsigned int most = min(size, 64U);
	u32 pages = (most + 1) * FH_MIB;

	set_sizes(host, size);
	fh_policy(host, FH_INFLATE, holds);
	plug(test, host, 0);
	fh_target(host, pages);
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
	KUNIT_EXPECT_EQ_MSG(test, fh_fetched(host, FH_INFLATE), most,
			    "ring of %u", size);
	fh_policy(host, FH_INFLATE, answers);
	KUNIT_EXPECT_TRUE_MSG(test, fh_settles(host, pages), "ring of %u",
			      size);
	fh_target(host, 0);
	KUNIT_EXPECT_TRUE_MSG(test, fh_settles(host, 0), "ring of %u", size);
	fh_unplug(host);
}

static void rings_of_any_size_are_used_as_far_as_they_go(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int size;

	for (size = 1; size <= 128; size *= 2)
		ring_of(test, host, size);
	ring_of(test, host, 1024);
}

/* A round of hints ends, and all that is free is reported. */
static void hint_and_report(struct kunit *test, struct fh *host,
			    unsigned int size)
{
	bool reports = accepted_of(host->features) & FH_BIT(REPORTING);

	set_sizes(host, size);
	plug(test, host, FH_BIT(FREE_PAGE_HINT) | FH_BIT(REPORTING) |
	     FH_BIT(PAGE_POISON) | FH_BIT(STATS_VQ));
	fh_hint(host, HINT_ID + size);
	KUNIT_EXPECT_TRUE_MSG(test, fh_until(host->hint_begun ==
					     HINT_ID + size &&
					     !host->hint_open),
			      "ring of %u", size);
	fh_hint(host, VIRTIO_BALLOON_CMD_ID_DONE);
	KUNIT_EXPECT_TRUE_MSG(test, fh_until(!reports ||
					     inside(vdev_of(host)).nr_reports),
			      "ring of %u", size);
	KUNIT_EXPECT_LE(test, host->queues[FH_HINT].most, size);
	fh_unplug(host);
}

static void small_rings_hint_and_report(struct kunit *test)
{
	struct fh *host = test->priv;

	near_floor(test);
	hint_and_report(test, host, 1);
	hint_and_report(test, host, 2);
	hint_and_report(test, host, 16);
}

static void device_without_configuration_is_refused(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features |= FH_ALL_FEATURES;
	host->no_config = true;
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_FALSE(test, fh_bound(host));
	KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	KUNIT_EXPECT_EQ(test, fh_find_event(host, 0, FH_EV_FIND, -1, -1), -1L);
}

/* D2, G4 */
static void features_refused_by_the_device_are_no_harm(struct kunit *test)
{
	struct fh *host = test->priv;

	host->features |= FH_ALL_FEATURES;
	host->refused = FH_BIT(STATS_VQ);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_EXPECT_FALSE(test, fh_bound(host));
	KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	fh_unplug(host);
	host->refused = 0;
	plug(test, host, 0);
	inflate(test, host, FH_MIB);
}

/*
 * Removal
 */

static void removed_a_hundred_times_with_pages_held(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();
	unsigned int i;

	set_sizes(host, 4);
	for (i = 0; i < 100; i++) {
		host->features ^= FH_BIT(MUST_TELL_HOST);
		plug(test, host, 0);
		inflate(test, host, 2 * FH_MIB + i * FH_PPP);
		fh_unplug(host);
	}
	expect_all_back(test, host, ram);
	expect_announced(test, host, 0);
}

static void rebound_with_pages_held(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram;
	unsigned int i;

	plug(test, host, FH_ALL_FEATURES & ~FH_BIT(DEFLATE_ON_OOM));
	fh_unbind(host);
	ram = totalram_pages();
	fh_set_field(host, TARGET, GOAL);
	for (i = 0; i < 10; i++) {
		KUNIT_ASSERT_EQ(test, fh_bind(host), 0);
		KUNIT_ASSERT_TRUE(test, fh_settles(host, GOAL));
		fh_unbind(host);
		KUNIT_EXPECT_FALSE(test, fh_bound(host));
		expect_all_back(test, host, ram);
	}
}

/* What the host is at when its device goes, and how it does not answer */
struct removal {
	const char *name;
	enum fh_queue_nr q;
	u64 features;
	const struct fh_policy *policy;
	unsigned int late;		/* seconds; 0: it never answers */
	unsigned int takes;		/* seconds for the removal */
};

#define REMOVAL(what, queue, f, p, l, t) { .name = what, .q = queue, \
	.features = f, .policy = &(p), .late = l, .takes = t }
#define TELL	FH_BIT(MUST_TELL_HOST)
#define OOM	FH_BIT(DEFLATE_ON_OOM)
#define HINT	FH_BIT(FREE_PAGE_HINT)
#define REPORT	(FH_BIT(REPORTING) | FH_BIT(PAGE_POISON))

static const struct removal removals[] = {
	REMOVAL("inflating, held", FH_INFLATE, 0, holds, 0, 5),
	REMOVAL("inflating, deaf", FH_INFLATE, TELL, deaf, 0, 5),
	REMOVAL("inflating, late", FH_INFLATE, TELL, holds, 2, 2),
	REMOVAL("inflating, heard late", FH_INFLATE, OOM, deaf, 2, 2),
	REMOVAL("deflating, held", FH_DEFLATE, TELL, holds, 0, 5),
	REMOVAL("deflating, held, not told", FH_DEFLATE, 0, holds, 0, 5),
	REMOVAL("deflating, deaf", FH_DEFLATE, TELL | OOM, deaf, 0, 5),
	REMOVAL("deflating, late", FH_DEFLATE, TELL, holds, 2, 2),
	REMOVAL("deflating, heard late", FH_DEFLATE, 0, deaf, 2, 2),
	REMOVAL("hinting, held", FH_HINT, HINT, holds, 0, 0),
	REMOVAL("hinting, deaf", FH_HINT, HINT, deaf, 0, 0),
	REMOVAL("hinting, late", FH_HINT, HINT, holds, 2, 0),
	REMOVAL("hinted", FH_HINT, HINT, answers, 0, 0),
	REMOVAL("reporting, held", FH_REPORT, REPORT, holds, 0, 0),
	REMOVAL("reporting, deaf", FH_REPORT, REPORT, deaf, 0, 0),
	REMOVAL("reporting, late", FH_REPORT, REPORT, holds, 2, 0),
};

static void removal_name(const struct removal *r, char *desc)
{
	strscpy(desc, r->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(removal, removals, removal_name);

static void until_inflating(struct kunit *test, struct fh *host)
{
	fh_target(host, GOAL);
	KUNIT_ASSERT_TRUE(test, fh_until(inside(vdev_of(host)).offered *
					 FH_PPP == GOAL));
}

static void until_deflating(struct kunit *test, struct fh *host)
{
	struct fh_policy policy = host->queues[FH_DEFLATE].policy;

	fh_policy(host, FH_DEFLATE, answers);
	inflate(test, host, GOAL);
	fh_policy(host, FH_DEFLATE, policy);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev_of(host)).held));
}

/*
 * Blocks at the host or, if it answers, kept until it says DONE. No id is
 * begun twice: this is none of before.
 */
static void until_hinting(struct kunit *test, struct fh *host)
{
	bool used = !host->queues[FH_HINT].policy.hold &&
		    !host->queues[FH_HINT].policy.deaf;

	fh_hint(host, HINT_ID + look(host).rounds);
	KUNIT_ASSERT_TRUE_MSG(test, fh_until(used ? look(host).hinted :
					     look(host).hinting),
			      "%lu rounds, %ld pages are free, state %s",
			      look(host).rounds, guest_free_pages(),
			      look(host).state);
}

/* mm looks for what is free two seconds after it became so. */
static void until_reporting(struct kunit *test, struct fh *host)
{
	if (!(host->accepted & FH_BIT(REPORTING)))
		kunit_skip(test, "no reporting");
	KUNIT_ASSERT_TRUE(test,
			  fh_until(host->queues[FH_REPORT].nr_notified));
}

static void until_busy(struct kunit *test, struct fh *host,
		       enum fh_queue_nr q)
{
	switch (q) {
	case FH_INFLATE:
		until_inflating(test, host);
		break;
	case FH_DEFLATE:
		until_deflating(test, host);
		break;
	case FH_HINT:
		until_hinting(test, host);
		break;
	default:
		until_reporting(test, host);
	}
}

/* A host that answers after a while: once, or from then on */
struct late {
	struct delayed_work work;
	struct fh *host;
	enum fh_queue_nr q;
	bool once;
};

static void late_work(struct work_struct *work)
{
	struct late *late = container_of(to_delayed_work(work), struct late,
					 work);

	if (late->once)
		fh_release(late->host, late->q, 1);
	else
		fh_policy(late->host, late->q, answers);
}

static void answer_later(struct late *late, struct fh *host,
			 enum fh_queue_nr q, unsigned int seconds)
{
	late->host = host;
	late->q = q;
	INIT_DELAYED_WORK_ONSTACK(&late->work, late_work);
	if (seconds)
		schedule_delayed_work(&late->work, seconds * HZ);
}

static void answer_by_now(struct late *late)
{
	flush_delayed_work(&late->work);
	destroy_delayed_work_on_stack(&late->work);
}

/* Timers are never early, and up to an eighth late. */
static void expect_delay(struct kunit *test, unsigned long delay,
			 unsigned int ms)
{
	unsigned long least = msecs_to_jiffies(ms);

	KUNIT_EXPECT_GE(test, delay, least);
	KUNIT_EXPECT_LE(test, delay, least + least / 8 + SLACK);
}

static void expect_took(struct kunit *test, unsigned long start,
			unsigned int seconds)
{
	expect_delay(test, jiffies - start, seconds * MSEC_PER_SEC);
}

static void removed_whatever_the_host_is_at(struct kunit *test)
{
	const struct removal *r = test->param_value;
	unsigned long start, from, ram = totalram_pages();
	struct fh *host = test->priv;
	struct late late = { .once = false };

	fh_policy(host, r->q, *r->policy);
	plug(test, host, r->features);
	until_busy(test, host, r->q);
	answer_later(&late, host, r->q, r->late);
	from = host->nr_events;
	start = jiffies;
	fh_unplug(host);
	expect_took(test, start, r->takes);
	if (r->late == r->takes)
		expect_announced(test, host, from);
	answer_by_now(&late);
	expect_all_back(test, host, ram);
}

/* All of it at once, with each kind of host */
static void removed_while_everything_is_stuck(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long start, ram = totalram_pages();
	enum fh_thread thread;
	unsigned int q;

	for (thread = FH_SYNC; thread <= FH_IRQ; thread++) {
		host->thread = thread;
		plug(test, host, FH_ALL_FEATURES);
		inflate(test, host, GOAL);
		for (q = 0; q < FH_QUEUES; q++)
			fh_policy(host, q, holds);
		fh_hint(host, HINT_ID + thread);
		fh_target(host, 2 * GOAL);
		KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE)));
		fh_target(host, GOAL / 2);
		KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_DEFLATE)));
		start = jiffies;
		fh_unplug(host);
		expect_took(test, start, 5);
		expect_all_back(test, host, ram);
		fh_set_field(host, TARGET, 0);
		fh_set_field(host, TARGET + 8, VIRTIO_BALLOON_CMD_ID_DONE);
		for (q = 0; q < FH_QUEUES; q++)
			fh_policy(host, q, answers);
	}
}

/* The function is gone, as after a surprise removal: reads are all ones. */
static void pulled_out_with_pages_held(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long start, ram = totalram_pages();

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	host->gone = true;
	start = jiffies;
	fh_unplug(host);
	expect_took(test, start, 0);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
}

/* G2, D17; README: "works again after unbinding and binding" */
static void failed_device_works_again_when_rebound(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();

	plug(test, host, 0);
	inflate(test, host, GOAL);
	fh_fail(host);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "broken")));
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).held, 0L);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
	fh_unbind(host);
	KUNIT_ASSERT_EQ(test, fh_bind(host), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}

/*
 * Reboot, and a kexec
 */

/* Whatever the host says, the pages stay where they are until the end. */
static void nothing_goes_on_when_the_machine_goes_down(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long from, ram = totalram_pages();

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	fh_policy(host, FH_INFLATE, holds);
	fh_target(host, 2 * GOAL);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_INFLATE)));
	inside_reboot(vdev_of(host));
	KUNIT_EXPECT_EQ(test, host->status, 0);
	KUNIT_EXPECT_TRUE(test, inside(vdev_of(host)).was_reset);
	from = host->nr_events;
	fh_target(host, 0);
	fh_hint(host, HINT_ID);
	msleep(5000);
	KUNIT_EXPECT_EQ(test, host->nr_events, from);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).held,
			(long)(GOAL / FH_PPP));
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	KUNIT_EXPECT_EQ(test, fh_lost(host), 0UL);
}

/*
 * Suspend
 */

#ifdef CONFIG_PM_SLEEP
static void freeze(struct kunit *test, struct fh *host)
{
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	KUNIT_EXPECT_EQ(test, host->status, 0);
	KUNIT_EXPECT_NULL(test, host->queues[FH_INFLATE].vq);
}

/* The state that sizing or a feature is in when the guest goes to sleep */
struct sleep {
	const char *name;
	u64 features;
	void (*get_there)(struct kunit *test, struct fh *host);
	u32 target;			/* the size after it woke up */
	unsigned int takes;		/* seconds for the freeze */
};

static void get_inflated(struct kunit *test, struct fh *host)
{
	inflate(test, host, GOAL);
}

static void get_nowhere(struct kunit *test, struct fh *host)
{
	KUNIT_ASSERT_TRUE(test, fh_until(inside(vdev_of(host)).nr_published));
}

static void get_inflating(struct kunit *test, struct fh *host)
{
	fh_policy(host, FH_INFLATE, holds);
	until_inflating(test, host);
}

static void get_deflating(struct kunit *test, struct fh *host)
{
	fh_policy(host, FH_DEFLATE, holds);
	until_deflating(test, host);
}

static void get_stalled(struct kunit *test, struct fh *host)
{
	get_inflating(test, host);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
}

static void get_to_floor(struct kunit *test, struct fh *host)
{
	near_floor(test);
	fh_target(host, ALL);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "floor")));
}

static void get_held_off(struct kunit *test, struct fh *host)
{
	inflate(test, host, GOAL);
	KUNIT_EXPECT_GT(test, inside_oom(vdev_of(host)), 0UL);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host),
						   "hold-off")));
}

static void get_broken(struct kunit *test, struct fh *host)
{
	inflate(test, host, GOAL);
	fh_fail(host);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "broken")));
	fh_set_field(host, ACTUAL, 0);	/* nobody could write it */
}

static void get_enlisted(struct kunit *test, struct fh *host)
{
	inflate(test, host, GOAL);
	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev_of(host)).runs));
}

static void get_hinting(struct kunit *test, struct fh *host)
{
	fh_policy(host, FH_HINT, holds);
	inflate(test, host, GOAL);
	until_hinting(test, host);
}

static void get_hinted(struct kunit *test, struct fh *host)
{
	inflate(test, host, GOAL);
	until_hinting(test, host);
}

static void get_reporting(struct kunit *test, struct fh *host)
{
	fh_policy(host, FH_REPORT, holds);
	inflate(test, host, GOAL);
	until_reporting(test, host);
}

#define SLEEP(what, f, how, t, s) { .name = what, .features = f, \
	.get_there = how, .target = t, .takes = s }

static const struct sleep sleeps[] = {
	SLEEP("new", FH_ALL_FEATURES, get_nowhere, 0, 0),
	SLEEP("idle", 0, get_inflated, GOAL, 0),
	SLEEP("idle, told", TELL, get_inflated, GOAL, 0),
	SLEEP("on mm's list", TELL | OOM, get_enlisted, GOAL, 0),
	SLEEP("inflating", TELL, get_inflating, GOAL, 5),
	SLEEP("deflating", TELL, get_deflating, 0, 5),
	SLEEP("deflating, not told", 0, get_deflating, 0, 5),
	SLEEP("stalled", OOM, get_stalled, GOAL, 5),
	SLEEP("floor", OOM, get_to_floor, ALL, 0),
	SLEEP("hold-off", OOM, get_held_off, GOAL, 0),
	SLEEP("broken", TELL | OOM | HINT, get_broken, GOAL, 0),
	SLEEP("hinting", HINT, get_hinting, GOAL, 0),
	SLEEP("hinted", HINT, get_hinted, GOAL, 0),
	SLEEP("reporting", REPORT, get_reporting, GOAL, 0),
};

static void sleep_name(const struct sleep *s, char *desc)
{
	strscpy(desc, s->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(sleep, sleeps, sleep_name);

/* What the host asked for before holds again, however it was then. */
static void wake_up_again(struct kunit *test, struct fh *host, u32 target)
{
	unsigned int q;

	for (q = 0; q < FH_QUEUES; q++)
		if (q != FH_STATS)
			fh_policy(host, q, answers);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
	KUNIT_EXPECT_TRUE(test, fh_bound(host));
	if (target == ALL)
		KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host),
							   "floor")));
	else
		KUNIT_EXPECT_TRUE(test, fh_settles(host, target));
}

static void sleeps_and_wakes_up_in_every_state(struct kunit *test)
{
	const struct sleep *s = test->param_value;
	unsigned long start, ram = totalram_pages();
	struct fh *host = test->priv;
	int i;

	plug(test, host, s->features);
	for (i = 0; i < 2; i++) {
		s->get_there(test, host);
		start = jiffies;
		freeze(test, host);
		expect_took(test, start, s->takes);
		expect_all_back(test, host, ram);
		wake_up_again(test, host, s->target);
		fh_hint(host, VIRTIO_BALLOON_CMD_ID_DONE);
		inflate(test, host, 0);
		host->queues[FH_REPORT].nr_notified = 0;
	}
}

/* mm has a page in its hands; it puts it back when it likes. */
struct mm_hands {
	struct delayed_work work;
	struct virtio_device *vdev;
	struct page *page;
};

static void put_back_work(struct work_struct *work)
{
	struct mm_hands *mm = container_of(to_delayed_work(work),
					   struct mm_hands, work);

	inside_putback(mm->vdev, mm->page);
}

static void freeze_waits_for_a_page_that_mm_has_isolated(struct kunit *test)
{
	struct fh *host = test->priv;
	struct mm_hands mm = { .vdev = NULL };
	unsigned long start, ram = totalram_pages();

	plug(test, host, 0);
	get_enlisted(test, host);
	mm.vdev = vdev_of(host);
	mm.page = inside_isolate(mm.vdev);
	KUNIT_ASSERT_NOT_NULL(test, mm.page);
	INIT_DELAYED_WORK_ONSTACK(&mm.work, put_back_work);
	schedule_delayed_work(&mm.work, 7 * HZ);
	start = jiffies;
	freeze(test, host);
	expect_took(test, start, 7);
	expect_announced(test, host, 0);
	expect_all_back(test, host, ram);
	flush_delayed_work(&mm.work);
	destroy_delayed_work_on_stack(&mm.work);
	wake_up_again(test, host, GOAL);
}

/* Why a device does not come back, and what the user does about it */
struct refusal {
	const char *name;
	u64 refused;			/* features */
	enum fh_queue_nr missing;	/* FH_QUEUES: none */
	int rc;
};

static const struct refusal refusals[] = {
	{ "features", FH_BIT(STATS_VQ), FH_QUEUES, -ENODEV },
	{ "no inflateq", 0, FH_INFLATE, -ENOENT },
	{ "no deflateq", 0, FH_DEFLATE, -ENOENT },
};

static void refusal_name(const struct refusal *r, char *desc)
{
	strscpy(desc, r->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(refusal, refusals, refusal_name);

/* Frozen, and the device does not come back. */
static void fail_to_wake_up(struct kunit *test, struct fh *host,
			    const struct refusal *r)
{
	unsigned int size = 0;

	if (!(host->status & VIRTIO_CONFIG_S_FAILED))
		freeze(test, host);
	host->refused = r->refused;
	if (r->missing < FH_QUEUES)
		swap(size, host->queues[r->missing].size);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev_of(host)), r->rc);
	if (r->missing < FH_QUEUES)
		swap(size, host->queues[r->missing].size);
	host->refused = 0;
	KUNIT_EXPECT_FALSE(test, host->status & VIRTIO_CONFIG_S_DRIVER_OK);
	KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	KUNIT_EXPECT_NULL(test, host->queues[FH_DEFLATE].vq);
}

/* Nothing that happens to a device that did not come back does any harm. */
static void poke_at(struct kunit *test, struct fh *host)
{
	unsigned long start = jiffies;

	fh_config_irq(host);
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	guest_set("report", "0");
	guest_set("report", "1");
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).held, 0L);
	expect_took(test, start, 0);
}

static void refused_after_sleep_and_tried_again(struct kunit *test)
{
	const struct refusal *r = test->param_value;
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();

	plug(test, host, FH_ALL_FEATURES & ~OOM);
	inflate(test, host, GOAL);
	fail_to_wake_up(test, host, r);
	expect_all_back(test, host, ram);
	poke_at(test, host);
	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	fail_to_wake_up(test, host, r);
	poke_at(test, host);
	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	wake_up_again(test, host, GOAL);
}

static void refused_after_sleep_and_removed(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	fail_to_wake_up(test, host, test->param_value);
	fh_unplug(host);
	KUNIT_EXPECT_FALSE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	expect_all_back(test, host, ram);
}

static void refused_after_sleep_and_rebound(struct kunit *test)
{
	struct fh *host = test->priv;

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	fail_to_wake_up(test, host, test->param_value);
	fh_unbind(host);
	KUNIT_ASSERT_EQ(test, fh_bind(host), 0);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}

static void frozen_and_removed(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	freeze(test, host);
	fh_unplug(host);
	expect_all_back(test, host, ram);
}

/* As a kernel that hibernates does, when it has written its image */
static void frozen_and_rebooted(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long from, ram = totalram_pages();

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	freeze(test, host);
	from = host->nr_events;
	inside_reboot(vdev_of(host));
	KUNIT_EXPECT_EQ(test, host->nr_events, from);
	expect_all_back(test, host, ram);
}

/* D15: that costs the feature, and those after it. */
static void queue_missing_after_sleep_costs_its_feature(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int size = 0;

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	freeze(test, host);
	swap(size, host->queues[FH_HINT].size);
	wake_up_again(test, host, GOAL);
	KUNIT_EXPECT_NULL(test, host->queues[FH_HINT].vq);
	KUNIT_EXPECT_NULL(test, host->queues[FH_REPORT].vq);
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(host)).reporting);
	KUNIT_EXPECT_EQ(test, fh_fetched(host, FH_STATS), 1U);
	freeze(test, host);
	swap(size, host->queues[FH_HINT].size);
	wake_up_again(test, host, GOAL);
	KUNIT_EXPECT_NOT_NULL(test, host->queues[FH_HINT].vq);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).reporting,
			!!(host->accepted & FH_BIT(REPORTING)));
}

static void slept_a_hundred_times(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();
	unsigned int i;

	set_sizes(host, 4);
	plug(test, host, TELL | HINT | FH_BIT(STATS_VQ));
	fh_set_field(host, TARGET, 2 * FH_MIB);
	for (i = 0; i < 100; i++) {
		freeze(test, host);
		expect_all_back(test, host, ram);
		wake_up_again(test, host, 2 * FH_MIB);
	}
}

/*
 * Hibernation
 */

static void hibernation_finds_the_balloon_empty(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();

	plug(test, host, 0);
	inflate(test, host, GOAL);
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).held, 0L);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).offered, 0L);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	fh_target(host, 2 * GOAL);
	msleep(1000);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), 0UL);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 2 * GOAL));
}

/*
 * A host that takes its time with a notification, having answered already; each
 * is a step of its own.
 */
static void answer_and_sleep(struct fh *host, enum fh_event_type type, u32 q)
{
	if (type != FH_EV_NOTIFY || q != FH_DEFLATE)
		return;
	fh_run(host);
	fh_config_irq(host);
	fh_callback(host, FH_DEFLATE);
	msleep(200);
}

/* What is announced is not free yet: the last pages are as late as it is. */
static void hibernation_finds_the_last_pages_free(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages();

	plug(test, host, 0);
	inflate(test, host, GOAL);
	host->hook = answer_and_sleep;
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	host->hook = NULL;
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}

/* Sizing has taken pages, and waits with them: they are free again by then. */
static void hibernation_is_before_what_is_to_be_offered(struct kunit *test)
{
	struct fh *host = test->priv;
	struct late late = { .once = false };
	unsigned long start;
	u64 seen;

	plug(test, host, 0);
	inflate(test, host, GOAL);
	fh_policy(host, FH_DEFLATE, holds);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled") &&
					 !inside(vdev_of(host)).held));
	seen = host->queues[FH_INFLATE].nr_seen;
	fh_target(host, GOAL);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host),
						   "inflating")));
	msleep(200);
	start = jiffies;
	answer_later(&late, host, FH_DEFLATE, 1);
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	expect_took(test, start, 1);
	msleep(2000);
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_seen, seen);
	answer_by_now(&late);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}

/* Without MUST_TELL_HOST no answer is needed: the next step knows, at once. */
static void hibernation_does_not_wait_for_answers(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long start;

	plug(test, host, 0);
	inflate(test, host, GOAL);
	fh_policy(host, FH_DEFLATE, holds);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev_of(host)).held));
	start = jiffies;
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	if (time_travels())
		KUNIT_EXPECT_LT(test, jiffies - start, 3UL * HZ);
	fh_policy(host, FH_DEFLATE, answers);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
}

static unsigned long prepare_call(void *arg)
{
	struct fh *host = arg;

	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	return 0;
}

/* The host does not answer, and somebody else takes the last pages. */
static void empty_by_oom(struct kunit *test, const char *state,
			 unsigned long most)
{
	struct fh *host = test->priv;
	struct guest_call call;

	set_sizes(host, 4);
	plug(test, host, FH_BIT(DEFLATE_ON_OOM));
	inflate(test, host, 4 * FH_MIB);
	fh_policy(host, FH_DEFLATE, holds);
	KUNIT_ASSERT_EQ(test, guest_call(&call, prepare_call, host), 0);
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(host), state) &&
					 inside(vdev_of(host)).held * FH_PPP ==
					 FH_MIB));
	msleep(300);
	KUNIT_EXPECT_EQ(test, inside_oom(vdev_of(host)) * FH_PPP,
			(unsigned long)FH_MIB);
	guest_return(&call);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).held, 0L);
	if (time_travels())
		KUNIT_EXPECT_LT(test, call.took, most);
	fh_policy(host, FH_DEFLATE, answers);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
}

static void hibernation_goes_on_after_an_oom(struct kunit *test)
{
	empty_by_oom(test, "stalled", 3 * HZ);
}

/* Not only when sizing has waited in vain */
static void hibernation_goes_on_at_once_after_an_oom(struct kunit *test)
{
	empty_by_oom(test, "deflating", HZ);
}

/* It is what the system waits for, so it is no reason to stay awake. */
static void hibernation_is_not_kept_away_by_what_it_asks_for(struct kunit *test)
{
#ifdef CONFIG_PM_SLEEP
	struct fh *host = test->priv;
	struct device *dev;
	unsigned long seen;

	plug(test, host, 0);
	dev = &vdev_of(host)->dev;
	KUNIT_ASSERT_EQ(test, device_init_wakeup(dev, true), 0);
	inflate(test, host, GOAL);
	seen = dev->power.wakeup->event_count;
	KUNIT_EXPECT_GT(test, seen, 0UL);
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).held, 0L);
	KUNIT_EXPECT_EQ(test, dev->power.wakeup->event_count, seen);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
	device_init_wakeup(dev, false);
#else
	kunit_skip(test, "this kernel does not sleep");
#endif
}

/* The device sleeps and wakes up between the two notifications. */
static void restored_image_stays_empty_until_all_is_over(struct kunit *test)
{
	struct fh *host = test->priv;

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	inside_pm(vdev_of(host), PM_RESTORE_PREPARE);
	freeze(test, host);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
	msleep(1000);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), 0UL);
	inside_pm(vdev_of(host), PM_POST_RESTORE);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}

/* B13: pages are of no use to the image before the host has answered. */
static void hibernation_waits_until_pages_are_free(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long ram = totalram_pages(), start;
	struct late first = { .once = true }, rest = { .once = false };

	plug(test, host, TELL);
	inflate(test, host, GOAL);
	fh_policy(host, FH_DEFLATE, holds);
	start = jiffies;
	answer_later(&first, host, FH_DEFLATE, 1);
	answer_later(&rest, host, FH_DEFLATE, 2);
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	expect_took(test, start, 2);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	answer_by_now(&first);
	answer_by_now(&rest);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
}

static void hibernation_does_not_wait_for_ever(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long start;

	fh_policy(host, FH_INFLATE, deaf);
	plug(test, host, 0);
	until_inflating(test, host);
	start = jiffies;
	inside_pm(vdev_of(host), PM_HIBERNATION_PREPARE);
	expect_took(test, start, 10);
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	fh_policy(host, FH_INFLATE, answers);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}
#endif /* CONFIG_PM_SLEEP */

/*
 * What the host keeps
 */

static void target_of_before_holds_again(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i;

	plug(test, host, 0);
	inflate(test, host, GOAL);
	fh_unplug(host);
	for (i = 0; i < 2; i++) {
		plug(test, host, 0);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
		fh_unbind(host);
		KUNIT_ASSERT_EQ(test, fh_bind(host), 0);
		KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
		fh_unplug(host);
	}
	host->reset_keeps = false;
	plug(test, host, 0);
	msleep(1000);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), 0UL);
}

/* A driver before this one crashed; QEMU keeps its `actual` over the reset. */
static void stale_actual_is_overwritten_once(struct kunit *test)
{
	struct fh *host = test->priv;

	fh_set_field(host, ACTUAL, 12345);
	plug(test, host, 0);
	KUNIT_EXPECT_TRUE(test, fh_until(!fh_actual(host)));
	msleep(1000);
	KUNIT_EXPECT_EQ(test, host->nr_writes[ACTUAL], 1ULL);
	fh_unplug(host);
	KUNIT_EXPECT_EQ(test, host->nr_writes[ACTUAL], 1ULL);
}

/* B42, B43: in this life, just before DRIVER_OK, and only there */
static void expect_poison(struct kunit *test, struct fh *host,
			  unsigned long from)
{
	u32 fill = page_poisoning_enabled_static() ? 0xaaaaaaaa : 0;
	long written, ready;

	written = fh_find_event(host, from, FH_EV_WRITE, -1, POISON);
	ready = fh_find_event(host, from, FH_EV_STATUS, -1, 0xf);
	KUNIT_ASSERT_GE(test, written, 0L);
	KUNIT_EXPECT_LT(test, written, ready);
	KUNIT_EXPECT_EQ(test, fh_event_at(host, written)->b, (u64)fill);
	KUNIT_EXPECT_EQ(test, count_since(host, from, FH_EV_WRITE, -1, POISON),
			1UL);
}

static void poison_val_is_written_in_each_life(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long from;

	if (!guest_fills())
		kunit_skip(test, "free pages hold nothing in this guest");
	plug(test, host, FH_ALL_FEATURES);
	expect_poison(test, host, 0);
	from = host->nr_events;
	fh_unbind(host);
	KUNIT_ASSERT_EQ(test, fh_bind(host), 0);
	expect_poison(test, host, from);
#ifdef CONFIG_PM_SLEEP
	freeze(test, host);
	from = host->nr_events;
	wake_up_again(test, host, 0);
	expect_poison(test, host, from);
#endif
}

static void poison_val_is_never_written_without_poison(struct kunit *test)
{
	struct fh *host = test->priv;

	if (guest_fills())
		kunit_skip(test, "free pages hold something in this guest");
	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, FH_MIB);
	KUNIT_EXPECT_EQ(test, host->nr_writes[POISON], 0ULL);
}

/*
 * Two hosts
 */

static void two_balloons_do_not_mix(struct kunit *test)
{
	struct fh *one = test->priv, *two = fh_new(test, 0);
	unsigned long ram = totalram_pages();

	KUNIT_ASSERT_NOT_NULL(test, two);
	plug(test, one, TELL);
	plug(test, two, 0);
	inflate(test, one, GOAL);
	inflate(test, two, GOAL / 2);
	fh_target(one, GOAL / 2);
	inflate(test, two, GOAL);
	KUNIT_EXPECT_TRUE(test, fh_settles(one, GOAL / 2));
	KUNIT_EXPECT_TRUE(test, fh_until(totalram_pages() +
					 (GOAL + GOAL / 2) / FH_PPP == ram));
	fh_fail(one);
	KUNIT_EXPECT_TRUE(test, fh_until(inside_is(vdev_of(one), "broken")));
	inflate(test, two, 2 * GOAL);
	fh_unplug(one);
	KUNIT_EXPECT_TRUE(test, fh_settles(two, 2 * GOAL));
	fh_check(two);
	fh_unplug(two);
	KUNIT_EXPECT_EQ(test, totalram_pages(), ram);
	fh_end(two);
}

/* mm has room for one reporter: the second is told, and waits for the user. */
static void second_device_reports_when_asked_again(struct kunit *test)
{
	struct fh *one = test->priv, *two = fh_new(test, 0);

	KUNIT_ASSERT_NOT_NULL(test, two);
	plug(test, one, REPORT);
	plug(test, two, REPORT);
	KUNIT_EXPECT_TRUE(test, inside(vdev_of(one)).reporting);
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(two)).reporting);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(two)).report_error, -EBUSY);
	if (!guest_set("report", "0"))
		KUNIT_EXPECT_EQ(test, inside(vdev_of(two)).report_error, 0);
	guest_set("report", "1");
	inflate(test, two, FH_MIB);
	fh_unplug(one);
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(two)).reporting);
	if (!guest_set("report", "1")) {
		KUNIT_EXPECT_TRUE(test, inside(vdev_of(two)).reporting);
		KUNIT_EXPECT_EQ(test, inside(vdev_of(two)).report_error, 0);
	}
	fh_end(two);
}

/*
 * Parameters at run time
 */

static void parameters_out_of_range_change_nothing(struct kunit *test)
{
	static const char * const bad[][2] = {
		{ "floor", "-2" }, { "floor", "1048577" }, { "floor", "x" },
		{ "oom_pages", "-1" }, { "oom_pages", "1048577" },
		{ "hint_order", "-2" }, { "hint_order", "99" },
		{ "report", "2" }, { "report", "on" },
	};
	unsigned int i;

	set_param(test, "floor", "100");
	set_param(test, "oom_pages", "1048576");
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_LT_MSG(test, guest_set(bad[i][0], bad[i][1]), 0,
				    "%s=%s", bad[i][0], bad[i][1]);
	expect_param(test, "floor", "100");
	expect_param(test, "oom_pages", "1048576");
	expect_param(test, "hint_order", "-1");
	expect_param(test, "report", "1");
	expect_param(test, "deflate_mode", "oom");
	expect_param(test, "stats", "all");
}

static void oom_pages_may_be_changed_at_run_time(struct kunit *test)
{
	struct fh *host = test->priv;

	plug(test, host, OOM);
	inflate(test, host, GOAL);
	set_param(test, "oom_pages", "1234");
	KUNIT_EXPECT_EQ(test, inside_oom(vdev_of(host)),
			DIV_ROUND_UP(1234UL, FH_PPP));
	set_param(test, "oom_pages", "0");
	inside_later(vdev_of(host), 20 * HZ);
	KUNIT_EXPECT_EQ(test, inside_oom(vdev_of(host)) * FH_PPP,
			(unsigned long)FH_MIB);
}

static void reporting_may_be_switched_at_run_time(struct kunit *test)
{
	struct fh *host = test->priv;
	u64 seen;

	plug(test, host, REPORT);
	if (!inside(vdev_of(host)).reporting)
		kunit_skip(test, "no reporting");
	set_param(test, "report", "0");
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(host)).reporting);
	seen = host->queues[FH_REPORT].nr_seen;
	inflate(test, host, GOAL);
	inflate(test, host, 0);
	msleep(5000);
	KUNIT_EXPECT_EQ(test, host->queues[FH_REPORT].nr_seen, seen);
	set_param(test, "report", "1");
	KUNIT_EXPECT_TRUE(test, inside(vdev_of(host)).reporting);
	KUNIT_EXPECT_TRUE(test, fh_until(host->queues[FH_REPORT].nr_seen !=
					 seen));
}

/*
 * The floor
 */

/*
 * Memory that others use and return while a test runs: the difference between
 * what sizing saw and what the test sees.
 */
#define OTHERS		(time_travels() ? 256L : 4096L)
#define MIB_PAGES	(1L << (20 - PAGE_SHIFT))

static void expect_at_floor(struct kunit *test, struct fh *host, long floor)
{
	long available;

	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "floor") &&
					 inside(vdev_of(host)).retries > 1));
	available = si_mem_available();
	KUNIT_EXPECT_GE(test, available, floor - OTHERS);
	KUNIT_EXPECT_LE(test, available, floor + MIB_PAGES + OTHERS);
}

/* 64 KiB times the square root of all the RAM there was */
static long default_floor(unsigned long total)
{
	return 64 * int_sqrt(total << (PAGE_SHIFT - 10)) >> (PAGE_SHIFT - 10);
}

static void default_floor_is_left_to_the_guest(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long total = totalram_pages();

	plug(test, host, 0);
	fh_target(host, ALL);
	expect_at_floor(test, host, default_floor(total));
}

static void floor_may_be_changed_at_run_time(struct kunit *test)
{
	struct fh *host = test->priv;
	long mib = (si_mem_available() >> (20 - PAGE_SHIFT)) - 64;
	unsigned long held;

	set_floor(test, mib);
	plug(test, host, OOM);
	fh_target(host, ALL);
	expect_at_floor(test, host, mib * MIB_PAGES);
	held = fh_count(host, FH_OWNED);
	set_floor(test, mib + 50);		/* nothing comes back */
	fh_config_irq(host);
	msleep(1000);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), held);
	set_floor(test, mib - 30);		/* it looks again by itself */
	KUNIT_EXPECT_TRUE(test, fh_until(fh_count(host, FH_OWNED) > held));
	expect_at_floor(test, host, (mib - 30) * MIB_PAGES);
}

/* Each attempt reads the target once. */
static void expect_attempts(struct kunit *test, struct fh *host,
			    unsigned long from)
{
	static const unsigned int ms[] = {
		200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000
	};
	long now, last = fh_find_event(host, from, FH_EV_READ, -1, TARGET);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ms); i++) {
		now = fh_find_event(host, last + 1, FH_EV_READ, -1, TARGET);
		KUNIT_ASSERT_GT(test, now, last);
		expect_delay(test, fh_event_at(host, now)->when -
			     fh_event_at(host, last)->when, ms[i]);
		last = now;
	}
}

static void tries_again_at_the_floor_with_back_off(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long from;

	test_is_slow(test);
	near_floor(test);
	plug(test, host, 0);
	fh_target(host, ALL);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "floor")));
	from = host->nr_events;
	fh_target(host, ALL - 1);	/* a clean slate */
	msleep(120 * MSEC_PER_SEC);
	expect_attempts(test, host, from);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).retries, 11U);
}

/* Ten lines a minute are enough; but the last word is not lost. */
static void why_it_stands_still_is_said_in_the_end(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i;

	test_is_slow(test);
	near_floor(test);
	plug(test, host, 0);
	for (i = 0; i < 12; i++) {
		fh_target(host, ALL - i);
		KUNIT_ASSERT_TRUE(test,
				  fh_until(inside(vdev_of(host)).num_pages ==
					   ALL - i &&
					   inside_is(vdev_of(host), "floor")));
	}
	KUNIT_EXPECT_FALSE(test, inside(vdev_of(host)).said);
	msleep(100 * MSEC_PER_SEC);
	KUNIT_EXPECT_TRUE(test, inside_is(vdev_of(host), "floor"));
	KUNIT_EXPECT_TRUE(test, inside(vdev_of(host)).said);
}

/*
 * Hold-off
 */

/* The guest is out of memory: how long does nobody take any? */
static void expect_hold_off(struct kunit *test, struct fh *host,
			    unsigned int ms)
{
	unsigned long start = jiffies, from = host->nr_events;
	long n = -1;

	KUNIT_ASSERT_GT(test, inside_oom(vdev_of(host)), 0UL);
	KUNIT_ASSERT_TRUE(test, fh_until((n = fh_find_event(host, from,
							    FH_EV_SEEN,
							    FH_INFLATE,
							    -1)) >= 0));
	expect_delay(test, fh_event_at(host, n)->when - start, ms);
}

static void inflation_pauses_after_each_oom(struct kunit *test)
{
	struct fh *host = test->priv;

	test_is_slow(test);
	plug(test, host, OOM);
	inflate(test, host, 4 * GOAL);
	expect_hold_off(test, host, 5000);
	expect_hold_off(test, host, 10000);
	expect_hold_off(test, host, 20000);
	KUNIT_ASSERT_TRUE(test, fh_settles(host, 4 * GOAL));
	/* No OOM for as long as the pause was */
	msleep(21 * MSEC_PER_SEC);
	expect_hold_off(test, host, 5000);
}

static void the_pause_doubles_up_to_five_minutes(struct kunit *test)
{
	static const unsigned int seconds[] = {
		5, 10, 20, 40, 80, 160, 300, 300
	};
	struct fh *host = test->priv;
	unsigned int i;

	plug(test, host, OOM);
	inflate(test, host, 4 * GOAL);
	for (i = 0; i < ARRAY_SIZE(seconds); i++) {
		inside_oom(vdev_of(host));
		KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).hold_off,
				(unsigned long)seconds[i] * HZ);
		inside_oom(vdev_of(host));	/* the same need */
		KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).hold_off,
				(unsigned long)seconds[i] * HZ);
		inside_later(vdev_of(host), seconds[i] * HZ);
	}
	/* What the host wants now it wants now. */
	fh_target(host, 4 * GOAL + FH_MIB);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 4 * GOAL + FH_MIB));
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).hold_off, 0UL);
}

/*
 * The status file
 */

struct status {
	char text[2048];
};

static bool read_status(struct kunit *test, struct fh *host,
			struct status *status)
{
	struct file *file;
	struct seq_file *m;
	char path[80];

	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/virtio_balloon/%s/status",
		 dev_name(&vdev_of(host)->dev));
	file = guest_open(path, O_RDONLY);
	if (IS_ERR(file))
		return false;
	m = file->private_data;
	m->buf = status->text;
	m->size = sizeof(status->text) - 1;
	m->count = 0;
	KUNIT_EXPECT_EQ(test, m->op->show(m, NULL), 0);
	KUNIT_EXPECT_FALSE(test, seq_has_overflowed(m));
	status->text[m->count] = '\0';
	m->buf = NULL;
	m->size = 0;
	filp_close(file, NULL);
	return true;
}

static struct status *new_status(struct kunit *test, struct fh *host)
{
	struct status *status = kunit_kzalloc(test, sizeof(*status),
					      GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, status);
	if (!read_status(test, host, status))
		kunit_skip(test, "no debugfs");
	return status;
}

/* The line that begins with @key, up to its end; moves on behind it */
static const char *status_line(char **text, const char *key)
{
	char *line;

	while ((line = strsep(text, "\n")))
		if (!strncmp(line, key, strlen(key)) &&
		    line[strlen(key)] == ':')
			return line;
	return "";
}

static void expect_lines(struct kunit *test, struct status *status,
			 const char * const (*lines)[2], unsigned int nr)
{
	char *text = status->text;
	char want[100];
	unsigned int i;

	for (i = 0; i < nr; i++) {
		snprintf(want, sizeof(want), "%s:%s%s", lines[i][0],
			 *lines[i][1] ? " " : "", lines[i][1]);
		KUNIT_EXPECT_STREQ(test, status_line(&text, lines[i][0]), want);
	}
}

#define EXPECT_LINES(test, status, ...) do {				\
	static const char * const lines[][2] = { __VA_ARGS__ };		\
									\
	expect_lines(test, status, lines, ARRAY_SIZE(lines));		\
} while (0)

static void status_of_a_plain_balloon(struct kunit *test)
{
	struct fh *host = test->priv;
	struct status *status;

	plug(test, host, 0);
	inflate(test, host, 2 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "idle")));
	status = new_status(test, host);
	KUNIT_EXPECT_NULL(test, strstr(status->text, "hint"));
	KUNIT_EXPECT_NULL(test, strstr(status->text, "reports:"));
	EXPECT_LINES(test, status,
		     { "state", "idle" },
		     { "target", "2048 kB" }, { "held", "2048 kB" },
		     { "offered", "0 kB" }, { "returning", "0 kB" },
		     { "spare", "0 kB" },
		     { "actual", "2048 kB" }, { "features", "" },
		     { "returned", "0 kB" }, { "migrated", "0 kB" },
		     { "oom", "0" }, { "shrunk", "0 kB" },
		     { "hold_off", "0 ms" }, { "retries", "0" },
		     { "stats_answers", "0" },
		     { "inflateq_in_flight", "0" }, { "inflateq_buffers", "2" },
		     { "inflateq_kicks", "1" },
		     { "inflateq_longest_wait", "0 ms" },
		     { "deflateq_in_flight", "0" }, { "deflateq_buffers", "0" },
		     { "poison", "no" }, { "reporting", "no" });
}

#define FEATURES "must-tell-host stats deflate-on-oom free-page-hint "

static void expect_all_features(struct kunit *test, struct status *status)
{
	if (!guest_fills())
		EXPECT_LINES(test, status,
			     { "features", FEATURES "reporting" },
			     { "poison", "no" });
	else if (page_poisoning_enabled_static())
		EXPECT_LINES(test, status,
			     { "features", FEATURES "page-poison reporting" },
			     { "poison", "0xaaaaaaaa" });
	else
		EXPECT_LINES(test, status,
			     { "features", FEATURES "page-poison reporting" },
			     { "poison", "0x0" });
}

static void status_names_the_features(struct kunit *test)
{
	struct fh *host = test->priv;
	struct status *status;

	fh_policy(host, FH_HINT, holds);
	plug(test, host, FH_ALL_FEATURES);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "idle")));
	status = new_status(test, host);
	EXPECT_LINES(test, status,
		     { "hint_id", "0" }, { "hint_rounds", "0" },
		     { "hinting", "0 kB" }, { "hinted", "0 kB" },
		     { "hinted_total", "0 kB" }, { "hintq_in_flight", "0" },
		     { "reporting", IS_ENABLED(CONFIG_PAGE_REPORTING) ?
				    "on" : "refused" },
		     { "reports", "0" }, { "reported", "0 kB" });
	read_status(test, host, status);
	expect_all_features(test, status);
	until_hinting(test, host);
	read_status(test, host, status);
	EXPECT_LINES(test, status,
		     { "hint_id", "2147483648" }, { "hint_rounds", "1" });
}

/* Those are not idle's. */
static void status_says_why_it_is_stuck(struct kunit *test)
{
	struct fh *host = test->priv;
	struct status *status;

	fh_policy(host, FH_INFLATE, holds);
	plug(test, host, OOM);
	fh_target(host, 2 * FH_MIB);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "stalled")));
	status = new_status(test, host);
	EXPECT_LINES(test, status,
		     { "state", "stalled" },
		     { "target", "2048 kB" }, { "held", "0 kB" },
		     { "offered", "2048 kB" }, { "actual", "0 kB" },
		     { "inflateq_in_flight", "2" });
	inside_oom(vdev_of(host));
	fh_fail(host);
	KUNIT_ASSERT_TRUE(test, fh_until(inside_is(vdev_of(host), "broken")));
	read_status(test, host, status);
	EXPECT_LINES(test, status,
		     { "state", "broken" }, { "held", "0 kB" },
		     { "offered", "0 kB" }, { "oom", "1" });
}

#ifdef CONFIG_PM_SLEEP
/* It can be read while there are no queues. */
static void status_of_a_device_that_sleeps(struct kunit *test)
{
	struct fh *host = test->priv;
	struct status *status;

	plug(test, host, FH_ALL_FEATURES);
	inflate(test, host, GOAL);
	freeze(test, host);
	status = new_status(test, host);
	EXPECT_LINES(test, status, { "held", "0 kB" }, { "actual", "0 kB" });
	wake_up_again(test, host, GOAL);
	read_status(test, host, status);
	EXPECT_LINES(test, status, { "held", "32768 kB" });
}
#endif

static void status_file_goes_with_the_device(struct kunit *test)
{
	struct fh *host = test->priv;
	struct file *file;
	char path[80];

	plug(test, host, 0);
	new_status(test, host);
	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/virtio_balloon/%s/status",
		 dev_name(&vdev_of(host)->dev));
	fh_unplug(host);
	file = guest_open(path, O_RDONLY);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(file), -ENOENT);
}

static void status_says_whether_it_reports(struct kunit *test)
{
	struct fh *one = test->priv, *two;
	struct status *status;

	plug(test, one, REPORT);
	if (!inside(vdev_of(one)).reporting)
		kunit_skip(test, "no reporting");
	status = new_status(test, one);
	EXPECT_LINES(test, status, { "reporting", "on" });
	set_param(test, "report", "0");
	read_status(test, one, status);
	EXPECT_LINES(test, status, { "reporting", "off" });
	set_param(test, "report", "1");

	two = fh_new(test, 0);
	KUNIT_ASSERT_NOT_NULL(test, two);
	plug(test, two, REPORT);
	read_status(test, two, status);
	EXPECT_LINES(test, status, { "reporting", "refused" });
	fh_end(two);
}

#if defined(CONFIG_TRACEPOINTS) && defined(MODULE)
/*
 * Tracing
 */

/* What virtio_balloon_state told */
struct traced {
	struct virtio_device *vdev;
	char states[200];
	unsigned int wrong;
};

static void trace_state(void *data, int dev, const char *from, const char *to,
			unsigned long available, unsigned long floor)
{
	struct traced *traced = data;

	if (dev != traced->vdev->index || !available ||
	    floor != inside_floor(traced->vdev))
		traced->wrong++;
	strlcat(traced->states, from, sizeof(traced->states));
	strlcat(traced->states, ">", sizeof(traced->states));
	strlcat(traced->states, to, sizeof(traced->states));
	strlcat(traced->states, " ", sizeof(traced->states));
}

/* A tracepoint of the driver, which exports none */
static struct tracepoint *find_tracepoint(struct fh *host, const char *name)
{
	struct module *owner = vdev_of(host)->dev.driver->owner;
	struct tracepoint *tp;
	unsigned int i;

	for (i = 0; owner && i < owner->num_tracepoints; i++) {
		tp = tracepoint_ptr_deref(&owner->tracepoints_ptrs[i]);
		if (!strcmp(tp->name, name))
			return tp;
	}
	return NULL;
}

static void tracing_tells_each_state(struct kunit *test)
{
	static const char want[] =
		"idle>inflating inflating>idle idle>deflating deflating>idle ";
	struct traced traced = { .wrong = 0 };
	struct fh *host = test->priv;
	struct tracepoint *tp;

	plug(test, host, 0);
	tp = find_tracepoint(host, "virtio_balloon_state");
	if (!tp)
		kunit_skip(test, "the driver is not a module");
	traced.vdev = vdev_of(host);
	KUNIT_ASSERT_EQ(test, tracepoint_probe_register(tp, trace_state,
							&traced), 0);
	fh_target(host, 2 * FH_MIB);
	fh_settles(host, 2 * FH_MIB);
	fh_until(inside_is(traced.vdev, "idle"));
	fh_target(host, FH_MIB);
	fh_settles(host, FH_MIB);
	fh_until(inside_is(traced.vdev, "idle"));
	tracepoint_probe_unregister(tp, trace_state, &traced);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_STREQ(test, traced.states, want);
	KUNIT_EXPECT_EQ(test, traced.wrong, 0U);
}

/* What virtio_balloon_stall told */
struct stalls {
	struct virtio_device *vdev;
	unsigned int queue;		/* it should be this one */
	unsigned int nr;
	unsigned int shortest;		/* ms */
	unsigned int wrong;
};

static void trace_stall(void *data, int dev, unsigned int queue,
			unsigned int in_flight, unsigned int ms)
{
	struct stalls *stalls = data;

	if (dev != stalls->vdev->index || queue != stalls->queue ||
	    in_flight != 2)
		stalls->wrong++;
	if (!stalls->nr++ || ms < stalls->shortest)
		stalls->shortest = ms;
}

/* Each step ends with a look at the queue of a tenth of a second: no stall. */
static void tracing_tells_of_a_stall(struct kunit *test)
{
	struct stalls stalls = { .queue = 0 };
	struct fh *host = test->priv;
	struct tracepoint *tp;

	plug(test, host, 0);
	tp = find_tracepoint(host, "virtio_balloon_stall");
	if (!tp)
		kunit_skip(test, "the driver is not a module");
	stalls.vdev = vdev_of(host);
	KUNIT_ASSERT_EQ(test, tracepoint_probe_register(tp, trace_stall,
							&stalls), 0);
	for (; stalls.queue < 2; stalls.queue++) {
		stalls.nr = 0;
		fh_policy(host, stalls.queue, holds);
		fh_target(host, stalls.queue ? 0 : 2 * FH_MIB);
		fh_until(inside_is(stalls.vdev, "stalled"));
		KUNIT_EXPECT_GE(test, stalls.nr, 1U);
		KUNIT_EXPECT_GE(test, stalls.shortest, 1000U);
		fh_policy(host, stalls.queue, answers);
		fh_until(inside_is(stalls.vdev, "idle"));
	}
	tracepoint_probe_unregister(tp, trace_stall, &stalls);
	tracepoint_synchronize_unregister();
	KUNIT_EXPECT_EQ(test, stalls.wrong, 0U);
}
#endif

static struct kunit_case cases[] = {
	KUNIT_CASE(every_subset_of_features_works),
	KUNIT_CASE(offered_unknown_features_are_declined),
	KUNIT_CASE(rings_of_any_size_are_used_as_far_as_they_go),
	KUNIT_CASE(small_rings_hint_and_report),
	KUNIT_CASE(device_without_configuration_is_refused),
	KUNIT_CASE(features_refused_by_the_device_are_no_harm),
	KUNIT_CASE(removed_a_hundred_times_with_pages_held),
	KUNIT_CASE(rebound_with_pages_held),
	KUNIT_CASE_PARAM(removed_whatever_the_host_is_at, removal_gen_params),
	KUNIT_CASE(removed_while_everything_is_stuck),
	KUNIT_CASE(pulled_out_with_pages_held),
	KUNIT_CASE(failed_device_works_again_when_rebound),
	KUNIT_CASE(nothing_goes_on_when_the_machine_goes_down),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE_PARAM(sleeps_and_wakes_up_in_every_state, sleep_gen_params),
	KUNIT_CASE(freeze_waits_for_a_page_that_mm_has_isolated),
	KUNIT_CASE_PARAM(refused_after_sleep_and_tried_again,
			 refusal_gen_params),
	KUNIT_CASE_PARAM(refused_after_sleep_and_removed, refusal_gen_params),
	KUNIT_CASE_PARAM(refused_after_sleep_and_rebound, refusal_gen_params),
	KUNIT_CASE(frozen_and_removed),
	KUNIT_CASE(frozen_and_rebooted),
	KUNIT_CASE(queue_missing_after_sleep_costs_its_feature),
	KUNIT_CASE(slept_a_hundred_times),
	KUNIT_CASE(hibernation_finds_the_balloon_empty),
	KUNIT_CASE(hibernation_finds_the_last_pages_free),
	KUNIT_CASE(hibernation_is_before_what_is_to_be_offered),
	KUNIT_CASE(hibernation_does_not_wait_for_answers),
	KUNIT_CASE(hibernation_goes_on_after_an_oom),
	KUNIT_CASE(hibernation_goes_on_at_once_after_an_oom),
	KUNIT_CASE(hibernation_is_not_kept_away_by_what_it_asks_for),
	KUNIT_CASE(restored_image_stays_empty_until_all_is_over),
	KUNIT_CASE(hibernation_waits_until_pages_are_free),
	KUNIT_CASE(hibernation_does_not_wait_for_ever),
	KUNIT_CASE(status_of_a_device_that_sleeps),
#endif
	KUNIT_CASE(target_of_before_holds_again),
	KUNIT_CASE(stale_actual_is_overwritten_once),
	KUNIT_CASE(poison_val_is_written_in_each_life),
	KUNIT_CASE(poison_val_is_never_written_without_poison),
	KUNIT_CASE(two_balloons_do_not_mix),
	KUNIT_CASE(second_device_reports_when_asked_again),
	KUNIT_CASE(parameters_out_of_range_change_nothing),
	KUNIT_CASE(oom_pages_may_be_changed_at_run_time),
	KUNIT_CASE(reporting_may_be_switched_at_run_time),
	KUNIT_CASE(default_floor_is_left_to_the_guest),
	KUNIT_CASE(floor_may_be_changed_at_run_time),
	KUNIT_CASE(tries_again_at_the_floor_with_back_off),
	KUNIT_CASE(why_it_stands_still_is_said_in_the_end),
	KUNIT_CASE(inflation_pauses_after_each_oom),
	KUNIT_CASE(the_pause_doubles_up_to_five_minutes),
	KUNIT_CASE(status_of_a_plain_balloon),
	KUNIT_CASE(status_names_the_features),
	KUNIT_CASE(status_says_why_it_is_stuck),
	KUNIT_CASE(status_file_goes_with_the_device),
	KUNIT_CASE(status_says_whether_it_reports),
#if defined(CONFIG_TRACEPOINTS) && defined(MODULE)
	KUNIT_CASE(tracing_tells_each_state),
	KUNIT_CASE(tracing_tells_of_a_stall),
#endif
	{}
};

/* What a test set for all devices is not the next one's. */
static void lifecycle_exit(struct kunit *test)
{
	guest_reset();
	guest_set("report", "1");
	fh_suite_exit(test);
}

struct kunit_suite lifecycle_suite = {
	.name = "virtio_balloon_lifecycle",
	.init = fh_suite_init,
	.exit = lifecycle_exit,
	.test_cases = cases,
};
