// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations fail: each one in turn while a device is probed or wakes up and
 * while it sizes and hints, all of them while mm or the power management call
 * the driver, and many of them while its works are at work. The device works or
 * is refused; what failed once works when it is tried again; nothing is lost
 * (fh_end() looks for pages, and who runs this for the rest, with kmemleak).
 *
 * Needs CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC, CONFIG_FAULT_INJECTION_DEBUG_FS
 * and debugfs at its place.
 */

#include <linux/atomic.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/sched/task.h>
#include <linux/suspend.h>

#include "compat.h"
#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "short.h"
#include "suites.h"

#ifdef CONFIG_FAULT_INJECTION
#define GOAL		(16 * FH_MIB)
#define HINT_ID		0x80000000U
#define BEFORE_PROBE	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | \
			 VIRTIO_CONFIG_S_FEATURES_OK)

static const struct fh_policy holds = { .hold = true }, answers;

/*
 * The kernel's own knobs of its fault injection: debugfs has pointers to them.
 */

enum width { A_BOOL, AN_INT, A_LONG };

struct knob {
	const char *path;		/* below debugfs */
	enum width width;
	unsigned long on;		/* while these tests run */
	unsigned long saved;
	void *value;
};

static struct knob knobs[] = {
	{ "fail_page_alloc/probability", A_LONG, 0 },
	{ "fail_page_alloc/ignore-gfp-highmem", A_BOOL, false },
	{ "fail_page_alloc/ignore-gfp-wait", A_BOOL, false },
	{ "fail_page_alloc/min-order", AN_INT, 0 },
	{ "fail_page_alloc/task-filter", A_BOOL, false },
	{ "fail_page_alloc/verbose", A_LONG, 0 },
	{ "fail_page_alloc/interval", A_LONG, 1 },
	{ "fail_page_alloc/times", AN_INT, UINT_MAX },
	{ "fail_page_alloc/space", AN_INT, 0 },
	{ "failslab/probability", A_LONG, 0 },
	{ "failslab/ignore-gfp-wait", A_BOOL, false },
	{ "failslab/task-filter", A_BOOL, false },
	{ "failslab/verbose", A_LONG, 0 },
	{ "failslab/interval", A_LONG, 1 },
	{ "failslab/times", AN_INT, UINT_MAX },
	{ "failslab/space", AN_INT, 0 },
};

static void *find_knob(const char *name)
{
	struct file *file;
	char full[80];
	void *value;

	snprintf(full, sizeof(full), "/sys/kernel/debug/%s", name);
	file = guest_open(full, O_PATH);
	if (IS_ERR(file))
		return NULL;
	value = file_inode(file)->i_private;
	fput(file);
	return value;
}

static unsigned long turn(struct knob *knob, unsigned long to)
{
	switch (knob->width) {
	case A_BOOL:
		return xchg((bool *)knob->value, to);
	case AN_INT:
		return xchg((unsigned int *)knob->value, to);
	default:
		return xchg((unsigned long *)knob->value, to);
	}
}

/* Percent of the allocations that fail, everywhere */
static void fail_some(unsigned int pages, unsigned int objects)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		if (!strcmp(knobs[i].path, "fail_page_alloc/probability"))
			turn(&knobs[i], pages);
		else if (!strcmp(knobs[i].path, "failslab/probability"))
			turn(&knobs[i], objects);
}

static void fail_none(void)
{
	fail_some(0, 0);
}

/*
 * The nth allocation of this task
 */

static void arm_now(unsigned int nth)
{
	WRITE_ONCE(current->fail_nth, nth);
}

/* When the device is given to the driver, as probe and restore do, and once */
static void arm(struct fh *host, enum fh_event_type type, u32 arg)
{
	if (type == FH_EV_STATUS && READ_ONCE(current->fail_nth) > INT_MAX &&
	    (arg & BEFORE_PROBE) == BEFORE_PROBE)
		arm_now((unsigned long)host->hook_data);
}

static void arm_at_probe(struct fh *host, unsigned int nth)
{
	host->hook_data = (void *)(unsigned long)nth;
	host->hook = arm;
	arm_now(UINT_MAX);
}

/* Whether an allocation has failed */
static bool disarm(struct fh *host)
{
	host->hook = NULL;
	return !xchg(&current->fail_nth, 0);
}

static void plug(struct kunit *test, struct fh *host, u64 features)
{
	host->features |= features;
	fh_policy(host, FH_STATS, holds);
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
}

static void expect_works(struct kunit *test, struct fh *host, u32 pages)
{
	KUNIT_ASSERT_TRUE(test, fh_bound(host));
	fh_target(host, pages);
	KUNIT_ASSERT_TRUE(test, fh_settles(host, pages));
}

static void expect_refused(struct kunit *test, struct fh *host)
{
	KUNIT_EXPECT_TRUE(test, host->status & VIRTIO_CONFIG_S_FAILED);
	KUNIT_EXPECT_NULL(test, host->queues[FH_INFLATE].vq);
	KUNIT_EXPECT_EQ(test, fh_count(host, FH_OWNED), 0UL);
}

/* What a sweep over all allocations found */
struct sweep {
	unsigned int failed;
	unsigned int refused;
};

static void tell(struct kunit *test, const char *what, struct sweep *sweep)
{
	kunit_info(test, "%s: %u allocations failed in turn, %u of them cleanly refused\n",
		   what, sweep->failed, sweep->refused);
}

/*
 * Free pages of the guest, after rounds that used lots of them: what CPUs keep
 * for themselves is less, and so is what KASAN keeps out of use.
 */
#define MANY_ROUNDS	(time_travels() ? 20 : 5)
#define FEW_PAGES	(IS_ENABLED(CONFIG_KASAN) ? totalram_pages() / 20 : \
						    4096)

static void expect_free_again(struct kunit *test, long before)
{
	KUNIT_EXPECT_GE(test, guest_free_pages() + (long)FEW_PAGES, before);
}

/*
 * Each allocation of probe and restore
 */

/* At least: two pools of 2 buffers of two objects each, and 5 rings */
#define FEW_ALLOCATIONS	(2U * 2 * 2 + 5)

/* Return: false if there is no such allocation */
static bool probe_fails_at(struct kunit *test, struct fh *host,
			   struct sweep *sweep)
{
	bool failed;

	arm_at_probe(host, sweep->failed + 1);
	plug(test, host, 0);
	failed = disarm(host);
	sweep->failed += failed;
	if (!fh_bound(host)) {
		expect_refused(test, host);
		sweep->refused++;
		fh_unplug(host);
		plug(test, host, 0);
	}
	expect_works(test, host, FH_MIB);
	fh_unplug(host);
	return failed;
}

static void probe_survives_the_failure_of_each_allocation(struct kunit *test)
{
	struct fh *host = test->priv;
	struct sweep sweep = {};
	long before;

	set_sizes(host, 2);
	plug(test, host, FH_ALL_FEATURES);
	fh_unplug(host);
	before = guest_free_pages();
	while (probe_fails_at(test, host, &sweep))
		;
	expect_free_again(test, before);
	KUNIT_EXPECT_GT(test, sweep.refused, FEW_ALLOCATIONS);
	tell(test, "probe", &sweep);
}

#ifdef CONFIG_PM_SLEEP
/* A device that did not wake up sleeps and wakes up again, or is replaced. */
static void start_again(struct kunit *test, struct fh *host, bool replug)
{
	if (replug) {
		fh_unplug(host);
		plug(test, host, 0);
		return;
	}
	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
}

static bool restore_fails_at(struct kunit *test, struct fh *host,
			     struct sweep *sweep)
{
	bool failed;
	int rc;

	KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
	arm_at_probe(host, sweep->failed + 1);
	rc = virtio_device_restore(vdev_of(host));
	failed = disarm(host);
	sweep->failed += failed;
	if (rc) {
		KUNIT_EXPECT_EQ(test, rc, -ENOMEM);
		expect_refused(test, host);
		sweep->refused++;
		start_again(test, host, sweep->failed % 2);
	}
	expect_works(test, host, FH_MIB);
	return failed;
}

static void waking_up_survives_the_failure_of_each_allocation(struct kunit *test)
{
	struct fh *host = test->priv;
	struct sweep sweep = {};
	long before;

	set_sizes(host, 2);
	plug(test, host, FH_ALL_FEATURES);
	before = guest_free_pages();
	while (restore_fails_at(test, host, &sweep))
		;
	expect_free_again(test, before);
	KUNIT_EXPECT_GT(test, sweep.refused, FEW_ALLOCATIONS);
	tell(test, "restore", &sweep);
}

/* Debugging aids of the kernel make allocations of their own now and then. */
static void freezing_allocates_nothing(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i;
	bool failed;

	plug(test, host, FH_ALL_FEATURES);
	for (i = 0; i < 3; i++) {
		expect_works(test, host, GOAL);
		arm_now(1);
		KUNIT_EXPECT_EQ(test, virtio_device_freeze(vdev_of(host)), 0);
		failed = disarm(host);
		KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
		KUNIT_EXPECT_EQ(test, virtio_device_restore(vdev_of(host)), 0);
		if (!failed)
			return;
	}
	KUNIT_FAIL(test, "it made an allocation three times");
}
#endif

/*
 * Each allocation of a work: the nth after it has read what the host wants
 */

struct worker {
	u32 reads;			/* where in the configuration */
	unsigned int nth;
	struct task_struct *task;
};

static void arm_worker(struct fh *host, enum fh_event_type type, u32 arg)
{
	struct worker *worker = host->hook_data;

	if (type != FH_EV_READ || arg != worker->reads || worker->task ||
	    !(current->flags & PF_WQ_WORKER))
		return;
	worker->task = get_task_struct(current);
	arm_now(worker->nth);
}

static void arm_next(struct fh *host, struct worker *worker)
{
	worker->task = NULL;
	host->hook_data = worker;
	host->hook = arm_worker;
}

/* Whether one of its allocations has failed */
static bool disarm_worker(struct kunit *test, struct fh *host,
			  struct worker *worker)
{
	bool failed;

	host->hook = NULL;
	KUNIT_EXPECT_NOT_NULL(test, worker->task);
	if (!worker->task)
		return false;
	failed = !xchg(&worker->task->fail_nth, 0);
	put_task_struct(worker->task);
	return failed;
}

static bool sizing_fails_at(struct kunit *test, struct fh *host, u32 target,
			    unsigned int nth)
{
	struct worker worker = {
		.reads = offsetof(struct virtio_balloon_config, num_pages),
		.nth = nth,
	};
	bool settled;

	arm_next(host, &worker);
	fh_target(host, target);
	settled = fh_settles(host, target);
	KUNIT_EXPECT_TRUE(test, settled);
	return disarm_worker(test, host, &worker);
}

static void inflation_survives_the_failure_of_each_allocation(struct kunit *test)
{
	const u32 target = 8 * FH_MIB + 3 * FH_PPP;
	struct fh *host = test->priv;
	struct sweep sweep = {};
	long before;

	plug(test, host, 0);
	expect_works(test, host, target);
	expect_works(test, host, 0);
	before = guest_free_pages();
	while (sizing_fails_at(test, host, target, sweep.failed + 1)) {
		sweep.failed++;
		expect_works(test, host, 0);
	}
	expect_works(test, host, 0);
	expect_free_again(test, before);
	KUNIT_EXPECT_GE(test, sweep.failed, 4U);
	tell(test, "inflating", &sweep);
}

static void deflation_allocates_nothing(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i;

	plug(test, host, FH_BIT(MUST_TELL_HOST));
	for (i = 0; i < 3; i++) {
		expect_works(test, host, GOAL);
		if (!sizing_fails_at(test, host, 0, 1))
			return;
	}
	KUNIT_FAIL(test, "it made an allocation three times");
}

static bool hinting_fails_at(struct kunit *test, struct fh *host, u32 id,
			     unsigned int nth)
{
	struct worker worker = {
		.reads = offsetof(struct virtio_balloon_config,
				  free_page_hint_cmd_id),
		.nth = nth,
	};
	bool ended, freed;

	arm_next(host, &worker);
	fh_hint(host, id);
	ended = fh_until(host->hint_begun == id && !host->hint_open);
	fh_hint(host, VIRTIO_BALLOON_CMD_ID_DONE);
	freed = fh_until(!inside(vdev_of(host)).hinted &&
			 !inside(vdev_of(host)).hinting);
	KUNIT_EXPECT_TRUE(test, ended);
	KUNIT_EXPECT_TRUE(test, freed);
	return disarm_worker(test, host, &worker);
}

/*
 * It takes long to lend a host all of a guest's memory, again and again: 32 of its
 * blocks of 2 MiB are left, and what it has of smaller ones.
 */
static void leave_few_blocks(struct list_head *hoard)
{
	unsigned int i;
	LIST_HEAD(few);

	guest_hoard(hoard, ilog2(SZ_2M / PAGE_SIZE), ULONG_MAX);
	for (i = 0; i < 32 && !list_empty(hoard); i++)
		list_move(hoard->next, &few);
	guest_unhoard(&few);
}

static void hinting_survives_the_failure_of_each_allocation(struct kunit *test)
{
	struct fh *host = test->priv;
	struct sweep sweep = {};
	unsigned int nth = 1;
	LIST_HEAD(hoard);
	long before;

	guest_set("floor", "4");
	leave_few_blocks(&hoard);
	plug(test, host, FH_BIT(FREE_PAGE_HINT));
	hinting_fails_at(test, host, HINT_ID, UINT_MAX);
	before = guest_free_pages();
	while (hinting_fails_at(test, host, HINT_ID + nth, nth)) {
		sweep.failed++;
		/* Where time is real, not each of them */
		nth += time_travels() ? 1 : 1 + nth / 4;
	}
	expect_free_again(test, before);
	KUNIT_EXPECT_GT(test, nth, 8U);
	guest_unhoard(&hoard);
	guest_reset();
	expect_works(test, host, GOAL);
	tell(test, "hinting", &sweep);
}

/*
 * Called by others: nothing to allocate
 */

/* A balloon that has come to rest, its pages on mm's list */
static void rest(struct kunit *test, struct fh *host, u64 features)
{
	plug(test, host, features);
	expect_works(test, host, GOAL);
	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev_of(host)).runs));
}

/*
 * Whether a call makes no allocation, @ready for what it has to do. Debugging
 * aids of the kernel make some of their own now and then: the second time at the
 * latest there is none.
 */
#define EXPECT_NO_ALLOCATION_AFTER(test, host, ready, call) do {	\
	unsigned int __try = 0;						\
	bool __failed;							\
									\
	do {								\
		ready;							\
		arm_now(1);						\
		call;							\
		__failed = disarm(host);				\
	} while (__failed && !__try++);					\
	KUNIT_EXPECT_FALSE(test, __failed);				\
} while (0)

/* The same for a call that finds as much to do the second time */
#define EXPECT_NO_ALLOCATION(test, host, call)				\
	EXPECT_NO_ALLOCATION_AFTER(test, host, (void)0, call)

static void oom_notifier_allocates_nothing(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long freed;

	rest(test, host, FH_BIT(DEFLATE_ON_OOM) | FH_BIT(MUST_TELL_HOST));
	EXPECT_NO_ALLOCATION(test, host, freed = inside_oom(vdev_of(host)));
	KUNIT_EXPECT_GT(test, freed, 0UL);
}

/* The host is slow, all buffers are in flight: it waits, and allocates not. */
static void oom_notifier_allocates_nothing_for_waiting(struct kunit *test)
{
	struct fh *host = test->priv;

	set_sizes(host, 4);
	rest(test, host, FH_BIT(DEFLATE_ON_OOM) | FH_BIT(MUST_TELL_HOST));
	fh_policy(host, FH_DEFLATE, holds);
	fh_target(host, 0);
	KUNIT_ASSERT_TRUE(test, fh_until(fh_fetched(host, FH_DEFLATE) == 3));
	EXPECT_NO_ALLOCATION(test, host, inside_oom(vdev_of(host)));
	fh_policy(host, FH_DEFLATE, answers);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 0));
}

static void shrinker_allocates_nothing(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long freed;

	plug(test, host, FH_BIT(FREE_PAGE_HINT));
	fh_hint(host, HINT_ID);
	KUNIT_ASSERT_TRUE(test, fh_until(inside(vdev_of(host)).hinted > 4096));
	EXPECT_NO_ALLOCATION(test, host,
			     freed = inside_shrink(vdev_of(host), 128));
	KUNIT_EXPECT_GE(test, freed, 128UL);
	KUNIT_EXPECT_GT(test, inside_shrink_count(vdev_of(host)), 0UL);
}

/* What the device calls is called in interrupts. */
static void interrupts_allocate_nothing(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int q;

	rest(test, host, FH_ALL_FEATURES);
	EXPECT_NO_ALLOCATION(test, host, fh_config_irq(host));
	for (q = 0; q < FH_QUEUES; q++)
		EXPECT_NO_ALLOCATION(test, host, fh_callback(host, q));
}

#ifdef VB_MIGRATION
/* But for the page that mm brings along */
static void migration_allocates_nothing(struct kunit *test)
{
	struct fh *host = test->priv;
	struct page *page;
	unsigned int left;

	rest(test, host, FH_BIT(MUST_TELL_HOST));
	page = inside_isolate(vdev_of(host));
	KUNIT_ASSERT_NOT_NULL(test, page);
	arm_now(2);
	KUNIT_EXPECT_EQ(test, inside_migrate(vdev_of(host), page), 0);
	left = READ_ONCE(current->fail_nth);
	disarm(host);
	KUNIT_EXPECT_EQ(test, left, 1U);
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).migrated, 1UL);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}

static void page_that_cannot_be_migrated_stays(struct kunit *test)
{
	struct fh *host = test->priv;
	struct page *page;

	rest(test, host, 0);
	page = inside_isolate(vdev_of(host));
	KUNIT_ASSERT_NOT_NULL(test, page);
	arm_now(1);
	KUNIT_EXPECT_EQ(test, inside_migrate(vdev_of(host), page), -ENOMEM);
	KUNIT_EXPECT_TRUE(test, disarm(host));
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).migrated, 0UL);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}
#endif

/* Blocks of another round are hinted, and no memory is about to go. */
static void lend_some(struct kunit *test, struct fh *host)
{
	inside_memory(vdev_of(host), MEM_CANCEL_OFFLINE);
	fh_hint(host, max(host->hint_begun + 1, HINT_ID));
	KUNIT_ASSERT_TRUE(test, fh_until(inside(vdev_of(host)).hinted));
}

static void memory_notifier_allocates_nothing(struct kunit *test)
{
	struct fh *host = test->priv;

	rest(test, host, FH_BIT(FREE_PAGE_HINT));
	EXPECT_NO_ALLOCATION_AFTER(test, host, lend_some(test, host),
				   inside_memory(vdev_of(host),
						 MEM_GOING_OFFLINE));
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).hinted, 0UL);
	EXPECT_NO_ALLOCATION_AFTER(test, host,
				   inside_memory(vdev_of(host),
						 MEM_GOING_OFFLINE),
				   inside_memory(vdev_of(host),
						 MEM_CANCEL_OFFLINE));
}

#ifdef CONFIG_PM_SLEEP
/* As rest() leaves it, also if it hibernated */
static void rest_again(struct kunit *test, struct fh *host)
{
	inside_pm(vdev_of(host), PM_POST_HIBERNATION);
	expect_works(test, host, GOAL);
	KUNIT_ASSERT_TRUE(test, fh_until(!inside(vdev_of(host)).runs));
}

static void pm_notifier_allocates_nothing(struct kunit *test)
{
	struct fh *host = test->priv;

	rest(test, host, 0);
	EXPECT_NO_ALLOCATION_AFTER(test, host, rest_again(test, host),
				   inside_pm(vdev_of(host),
					     PM_HIBERNATION_PREPARE));
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).held, 0L);
	EXPECT_NO_ALLOCATION_AFTER(test, host,
				   inside_pm(vdev_of(host),
					     PM_HIBERNATION_PREPARE),
				   inside_pm(vdev_of(host),
					     PM_POST_HIBERNATION));
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
}
#endif

/*
 * With nothing to be had anywhere
 */

static void pages_come_back_with_no_memory_at_all(struct kunit *test)
{
	struct fh *host = test->priv;
	enum fh_thread thread;
	unsigned long freed;
	bool settled;

	for (thread = FH_SYNC; thread <= FH_IRQ; thread++) {
		host->thread = thread;
		rest(test, host, FH_BIT(DEFLATE_ON_OOM) |
		     FH_BIT(MUST_TELL_HOST));
		fail_some(100, 100);
		freed = inside_oom(vdev_of(host)) * FH_PPP;
		fh_target(host, FH_MIB);
		settled = fh_settles(host, FH_MIB);
		fail_none();
		KUNIT_EXPECT_EQ(test, freed, (unsigned long)FH_MIB);
		KUNIT_EXPECT_TRUE(test, settled);
		fh_unplug(host);
	}
}

/* No page to be had: it says so, tries again with back-off, and gets there. */
static void balloon_waits_for_memory(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned long reads, later;
	bool says_so, retries;

	plug(test, host, 0);
	fail_some(100, 0);
	fh_target(host, GOAL);
	says_so = fh_until(inside_is(vdev_of(host), "no-memory"));
	reads = fh_count_events(host, FH_EV_READ, -1, 0);
	retries = fh_until(inside(vdev_of(host)).retries == 5);
	later = fh_count_events(host, FH_EV_READ, -1, 0);
	fail_none();
	KUNIT_EXPECT_TRUE(test, says_so);
	KUNIT_EXPECT_TRUE(test, retries);
	KUNIT_EXPECT_EQ(test, later, reads + 4);
	KUNIT_EXPECT_EQ(test, host->queues[FH_INFLATE].nr_seen, 0ULL);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, GOAL));
	KUNIT_EXPECT_EQ(test, inside(vdev_of(host)).retries, 0U);
}

#ifdef CONFIG_PM_SLEEP
static void sleeps_with_no_memory_at_all(struct kunit *test)
{
	struct fh *host = test->priv;
	int frozen, restored;
	bool says_so;

	plug(test, host, FH_ALL_FEATURES);
	expect_works(test, host, GOAL);
	fail_some(100, 100);
	fh_target(host, 2 * GOAL);
	says_so = fh_until(inside_is(vdev_of(host), "no-memory"));
	frozen = virtio_device_freeze(vdev_of(host));
	restored = virtio_device_restore(vdev_of(host));
	fail_none();
	KUNIT_EXPECT_TRUE(test, says_so);
	KUNIT_EXPECT_EQ(test, frozen, 0);
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
	KUNIT_EXPECT_EQ(test, restored, -ENOMEM);
	start_again(test, host, false);
	KUNIT_EXPECT_TRUE(test, fh_settles(host, 2 * GOAL));
}
#endif

static void removed_with_no_memory_at_all(struct kunit *test)
{
	struct fh *host = test->priv;

	rest(test, host, FH_ALL_FEATURES);
	fail_some(100, 100);
	fh_unplug(host);
	fail_none();
	KUNIT_EXPECT_EQ(test, fh_actual(host), 0U);
}

/*
 * With a part of it failing
 */

/* Percent of the page and the slab allocations that fail */
static const struct odds {
	unsigned int pages;
	unsigned int objects;
} odds[] = {
	{ 10, 10 }, { 30, 0 }, { 0, 30 }, { 30, 30 }, { 50, 50 },
};

/* fh_settles() that says what hinders it */
static bool settles(struct kunit *test, struct fh *host, u32 pages)
{
	bool ok = fh_settles(host, pages);
	struct inside now = inside(vdev_of(host));

	if (!ok)
		kunit_info(test, "not at %u: %ld held, %ld offered, %lu OOMs, hold-off %lu, %u retries\n",
			   pages, now.held, now.offered, now.oom_count,
			   now.hold_off, now.retries);
	return ok;
}

static void sizes_on(struct kunit *test, struct fh *host,
		     const struct odds *o)
{
	unsigned int i, settled = 0, rounds = MANY_ROUNDS;

	fail_some(o->pages, o->objects);
	for (i = 0; i < rounds; i++) {
		fh_target(host, GOAL + i);
		settled += settles(test, host, GOAL + i);
		fh_target(host, i);
		settled += settles(test, host, i);
	}
	fail_none();
	KUNIT_EXPECT_EQ(test, settled, 2U * rounds);
}

static void sizes_whatever_fails_meanwhile(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i;
	long before;

	for (i = 0; i < ARRAY_SIZE(odds); i++) {
		host->thread = i % 3;
		plug(test, host, FH_ALL_FEATURES & ~FH_BIT(REPORTING));
		expect_works(test, host, GOAL);
		expect_works(test, host, 0);
		before = guest_free_pages();
		sizes_on(test, host, &odds[i]);
		expect_free_again(test, before);
		expect_works(test, host, GOAL);
		fh_unplug(host);
	}
}

/* A round ends with STOP, even if there is no block to be had. */
static void hint_once(struct kunit *test, struct fh *host, u32 id,
		      const struct odds *o)
{
	bool ended, freed;

	fail_some(o->pages, o->objects);
	fh_hint(host, id);
	ended = fh_until(host->hint_begun == id && !host->hint_open);
	fh_hint(host, VIRTIO_BALLOON_CMD_ID_DONE);
	freed = fh_until(!inside(vdev_of(host)).hinted &&
			 !inside(vdev_of(host)).hinting);
	fail_none();
	KUNIT_EXPECT_TRUE(test, ended);
	KUNIT_EXPECT_TRUE(test, freed);
}

static void hints_whatever_fails_meanwhile(struct kunit *test)
{
	static const struct odds none, all = { 100, 100 };
	struct fh *host = test->priv;
	unsigned int i;
	u64 seen;

	plug(test, host, FH_BIT(FREE_PAGE_HINT));
	hint_once(test, host, HINT_ID, &none);
	for (i = 0; i < ARRAY_SIZE(odds); i++)
		hint_once(test, host, HINT_ID + 1 + i, &odds[i]);
	seen = host->queues[FH_HINT].nr_seen;
	hint_once(test, host, HINT_ID + 100, &all);
	KUNIT_EXPECT_EQ(test, host->queues[FH_HINT].nr_seen, seen + 2);
	hint_once(test, host, HINT_ID + 101, &none);
	KUNIT_EXPECT_GT(test, host->queues[FH_HINT].nr_seen, seen + 10);
	expect_works(test, host, GOAL);
}

/* mm's own part may fail, too, and then waits until more becomes free. */
static bool reports_some(struct fh *host)
{
	unsigned long before = inside(vdev_of(host)).nr_reports;
	unsigned int i;

	for (i = 0; i < 20; i++) {
		fh_target(host, GOAL);
		fh_settles(host, GOAL);
		fh_target(host, 0);
		fh_settles(host, 0);
		guest_sleep(3 * HZ);
		if (inside(vdev_of(host)).nr_reports > before)
			return true;
	}
	return false;
}

/* Without memory for indirect descriptors a report takes those of the ring. */
static void reports_whatever_fails_meanwhile(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i;
	bool some;

	plug(test, host, FH_BIT(REPORTING) | FH_BIT(PAGE_POISON) |
	     BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC));
	if (!inside(vdev_of(host)).reporting)
		kunit_skip(test, "no reporting");
	KUNIT_EXPECT_TRUE(test, reports_some(host));
	for (i = 0; i < ARRAY_SIZE(odds); i++) {
		fail_some(odds[i].pages, odds[i].objects);
		some = reports_some(host);
		fail_none();
		KUNIT_EXPECT_TRUE_MSG(test, some, "%u %% of pages, %u of objects",
				      odds[i].pages, odds[i].objects);
	}
	KUNIT_EXPECT_TRUE(test, inside(vdev_of(host)).reporting);
	expect_works(test, host, GOAL);
}

/* Everything at once, and a host with a thread of its own */
static void all_features_whatever_fails_meanwhile(struct kunit *test)
{
	struct fh *host = test->priv;
	unsigned int i, settled = 0, rounds = MANY_ROUNDS;

	host->thread = FH_WORK;
	plug(test, host, FH_ALL_FEATURES);
	fail_some(30, 30);
	for (i = 0; i < rounds; i++) {
		fh_hint(host, HINT_ID + i);
		fh_target(host, GOAL + i * FH_MIB);
		settled += fh_settles(host, GOAL + i * FH_MIB);
		inside_oom(vdev_of(host));
		inside_shrink(vdev_of(host), 1024);
		fh_target(host, i * FH_MIB);
		settled += fh_settles(host, i * FH_MIB);
	}
	fail_none();
	KUNIT_EXPECT_EQ(test, settled, 2U * rounds);
	expect_works(test, host, 2 * GOAL);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(probe_survives_the_failure_of_each_allocation),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(waking_up_survives_the_failure_of_each_allocation),
	KUNIT_CASE(freezing_allocates_nothing),
	KUNIT_CASE(pm_notifier_allocates_nothing),
	KUNIT_CASE(sleeps_with_no_memory_at_all),
#endif
	KUNIT_CASE(inflation_survives_the_failure_of_each_allocation),
	KUNIT_CASE(deflation_allocates_nothing),
	KUNIT_CASE(hinting_survives_the_failure_of_each_allocation),
	KUNIT_CASE(oom_notifier_allocates_nothing),
	KUNIT_CASE(oom_notifier_allocates_nothing_for_waiting),
	KUNIT_CASE(shrinker_allocates_nothing),
	KUNIT_CASE(interrupts_allocate_nothing),
#ifdef VB_MIGRATION
	KUNIT_CASE(migration_allocates_nothing),
	KUNIT_CASE(page_that_cannot_be_migrated_stays),
#endif
	KUNIT_CASE(memory_notifier_allocates_nothing),
	KUNIT_CASE(pages_come_back_with_no_memory_at_all),
	KUNIT_CASE(balloon_waits_for_memory),
	KUNIT_CASE(removed_with_no_memory_at_all),
	KUNIT_CASE(sizes_whatever_fails_meanwhile),
	KUNIT_CASE(hints_whatever_fails_meanwhile),
	KUNIT_CASE(reports_whatever_fails_meanwhile),
	KUNIT_CASE(all_features_whatever_fails_meanwhile),
	{}
};

static int fault_init(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++) {
		knobs[i].value = find_knob(knobs[i].path);
		if (!knobs[i].value)
			kunit_skip(test, "no /sys/kernel/debug/%s",
				   knobs[i].path);
	}
	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		knobs[i].saved = turn(&knobs[i], knobs[i].on);
	return fh_suite_init(test);
}

static void fault_exit(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		if (test->priv)
			turn(&knobs[i], knobs[i].saved);
	fh_suite_exit(test);
}
#else
static void faults_are_injected(struct kunit *test)
{
	kunit_skip(test, "no CONFIG_FAULT_INJECTION");
}

static struct kunit_case cases[] = {
	KUNIT_CASE(faults_are_injected),
	{}
};

#define fault_init	NULL
#define fault_exit	NULL
#endif

struct kunit_suite fault_suite = {
	.name = "virtio_balloon_fault",
	.init = fault_init,
	.exit = fault_exit,
	.test_cases = cases,
};
