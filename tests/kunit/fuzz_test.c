// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host that does anything, in any order: random steps, and after each of them
 * what must be true whatever the host does. Pages are counted on both sides
 * after 16 steps, and looked into after 64: for that the host has to fetch what
 * it was given, which it does not always do.
 *
 * A case is made of rounds. Each has a host, a device and random numbers of its
 * own. Where time travels, the same seed and steps= replay all of it exactly (the
 * hash in the log says so), as long as the kernel's memory is the same: boot with
 * norandmaps, and User Mode Linux under "setarch -R", as scripts/kunit does.
 * fuzz=CASE/ROUND runs one round alone and names each step in the log; the steps
 * are the same then, how much memory is free about. With several processors, or
 * real time, what happens between steps differs.
 *
 * A host that lies (uses a buffer twice, or one that does not exist) has no
 * right to complain of pages and of that queue until it is reset: see fh.lied.
 * The guest has all its rights: it must come out of that with all of its
 * memory, and without harm.
 */

#include <linux/debugfs.h>
#include <linux/fault-inject.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/panic_notifier.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/swap.h>

#include "compat.h"
#include "fake_host.h"
#include "guest.h"
#include "inside.h"
#include "suites.h"

#define SAID		20	/* steps in the report of a failure */
#define ISOLATED	8	/* pages at a time */
#define HOGS		(48 * FH_MIB / FH_PPP)
#define KEEP_FREE	(24 * FH_MIB / FH_PPP)
#define LOSS		(4 * FH_MIB / FH_PPP)
#define PIECE		(20 - PAGE_SHIFT)	/* of the ballast: 1 MiB */
#define TOUCHES		100000	/* accesses of one step */

/* A case of KUnit has 300 s: rounds are shorter, and end early if need be. */
#define ROUND_STEPS	(time_travels() ? 2000U : 150U)
#define ROUND_TIME	(150 * HZ)

static char *fuzz;
module_param(fuzz, charp, 0444);
MODULE_PARM_DESC(fuzz, "CASE or CASE/ROUND of the fuzzing host to run alone, the latter with its steps in the log");
static bool alone;

enum { SIZING, HINTING, LIFECYCLE, EVERYTHING, CASES };

static const struct {
	const char *name;
	unsigned int share;		/* of the steps, percent */
	unsigned int room;		/* MiB above the floor */
} kinds[CASES] = {
	[SIZING]	= { "sizing", 30, 40 },
	[HINTING]	= { "hinting", 20, 16 },
	[LIFECYCLE]	= { "lifecycle", 15, 16 },
	[EVERYTHING]	= { "everything", 35, 32 },
};

/* What the host lets somebody else do while it waits for the guest */
enum ghost { LET_GO, NEWS, FAIL, TARGET, HINT, GHOSTS };

/* One round */
struct fuzz {
	struct kunit *test;
	struct fh *host;
	struct task_struct *task;	/* that takes the steps */
	unsigned int kind;
	u64 seed;
	u64 random;
	u64 random_aside;
	bool quiet;			/* nobody interferes */
	u64 hash;			/* of all that can be seen */
	unsigned int step;
	bool failed;
	char said[SAID][80];
	unsigned int nr_said;

	bool frozen;			/* after freeze, until restored */
	unsigned int failing;		/* allocations: one in so many */
	bool failing_pages;
	unsigned int fail_nth;		/* of a probe or restore */
	u32 hint;			/* the last id */

	unsigned long touches;		/* accesses of the driver to the device */
	unsigned long most_touches;
	u64 used;			/* buffers, ever */
	unsigned long since;		/* jiffies, before the step */

	struct mutex lock;		/* isolated pages */
	struct page *isolated[ISOLATED];
	unsigned int nr_isolated;
	struct delayed_work putback;	/* of them all */
	struct list_head hogs;
	unsigned long hogged;		/* pages */
	struct delayed_work ghost;
	enum ghost ghost_does;
	u32 ghost_arg;

	unsigned long totalram;		/* without a balloon */
};

struct action {
	const char *name;
	void (*run)(struct fuzz *f);
	u8 weight[CASES];
	u8 when;			/* what it needs */
	unsigned int ms;		/* it may take so long */
};

/* Of the case that runs; KUnit runs one after the other. */
static struct {
	unsigned int kind;
	unsigned int round;
	unsigned long left;		/* steps */
	unsigned long steps;
	unsigned long settled;
	unsigned long devices;
	unsigned long most_touches;
	u64 hash;
	bool failed;
	long memory;			/* pages, at the start; 0: not yet */
	unsigned long nr_ballast;	/* pages */
	struct list_head ballast;
	struct fuzz *f;
} now = { .ballast = LIST_HEAD_INIT(now.ballast) };

/*
 * Random numbers: xorshift64*
 */

static u32 next(struct fuzz *f)
{
	f->random ^= f->random >> 12;
	f->random ^= f->random << 25;
	f->random ^= f->random >> 27;
	return (f->random * 0x2545f4914f6cdd1dULL) >> 32;
}

static u32 below(struct fuzz *f, u32 n)
{
	return ((u64)next(f) * n) >> 32;
}

/* A step depends on what is there, but not on what steps before it took. */
static void seed_step(struct fuzz *f)
{
	f->random = (f->seed ^ f->step) * 0x9e3779b97f4a7c15ULL;
	f->random ^= f->random >> 32;
	f->random = f->random ?: 1;
	next(f);
}

static bool one_in(struct fuzz *f, u32 n)
{
	return !below(f, n);
}

static void mix(struct fuzz *f, u64 value)
{
	f->hash = (f->hash ^ value) * 0x9e3779b97f4a7c15ULL;
	f->hash ^= f->hash >> 29;
}

/*
 * Saying what happens
 */

static __printf(2, 3) void say(struct fuzz *f, const char *fmt, ...)
{
	char *to = f->said[f->nr_said++ % SAID];
	va_list args;
	int n;

	n = scnprintf(to, sizeof(f->said[0]), "%u: ", f->step);
	va_start(args, fmt);
	vsnprintf(to + n, sizeof(f->said[0]) - n, fmt, args);
	va_end(args);
	if (alone)
		pr_info("    # %s\n", to);
}

static void say_last(struct fuzz *f)
{
	unsigned int n = f->nr_said > SAID ? f->nr_said - SAID : 0;

	pr_err("    # fuzz_%s: seed %lu, round %u, step %u; the last steps:\n",
	       kinds[f->kind].name, test_seed, now.round, f->step);
	for (; n < f->nr_said; n++)
		pr_err("    # %s\n", f->said[n % SAID]);
}

/* Something is wrong: only the first that is counts. */
static __printf(2, 3) void flunk(struct fuzz *f, const char *fmt, ...)
{
	char why[160];
	va_list args;

	if (f->failed)
		return;
	f->failed = true;
	now.failed = true;
	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	KUNIT_FAIL(f->test, "seed %lu, round %u, step %u: %s", test_seed,
		   now.round, f->step, why);
	say_last(f);
}

/* The kernel dies: of what? */
static int at_panic(struct notifier_block *nb, unsigned long action,
		    void *unused)
{
	if (now.f)
		say_last(now.f);
	return NOTIFY_DONE;
}

/* The first one: User Mode Linux has one that does not return. */
static struct notifier_block panic_nb = {
	.notifier_call = at_panic,
	.priority = INT_MAX,
};

/*
 * What there is to look at
 */

static struct virtio_device *vdev(struct fuzz *f)
{
	return &f->host->dev->vdev;
}

static bool bound(struct fuzz *f)
{
	return f->host->dev && vdev(f)->dev.driver;
}

/* The driver has its notifiers in mm. */
static bool alive(struct fuzz *f)
{
	return bound(f) && !f->frozen;
}

/* It works with a device that answers. */
static bool works(struct fuzz *f)
{
	return alive(f) && fh_bound(f->host) && !f->host->gone &&
	       !f->host->lied && inside_lent(vdev(f)) >= 0 &&
	       !(f->host->status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static u64 buffers_used(struct fuzz *f)
{
	u64 nr = 0;
	int i;

	for (i = 0; i < FH_QUEUES; i++)
		nr += f->host->queues[i].nr_used;
	return nr;
}

/* Memory that the balloon could have lost: slabs come and go by themselves. */
static long memory_now(void)
{
	return guest_free_pages() + now.nr_ballast +
	       global_node_page_state_pages(NR_SLAB_RECLAIMABLE_B) +
	       global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B);
}

/* What the host wrote once shall not be taken for a page that was lost. */
static void wipe(struct fuzz *f, struct page *page)
{
	unsigned long i, nr = 1UL << page_private(page);

	for (i = 0; i < nr; i++)
		if (test_bit((page_to_pfn(page) + i) * FH_PPP, f->host->shown))
			clear_page(page_address(page + i));
}

static bool take_ballast(struct fuzz *f, unsigned int order)
{
	if (!guest_hoard(&now.ballast, order, 1))
		return false;
	wipe(f, list_first_entry(&now.ballast, struct page, lru));
	now.nr_ballast += 1UL << order;
	return true;
}

static void drop_ballast(void)
{
	struct page *page = list_first_entry(&now.ballast, struct page, lru);
	unsigned int order = page_private(page);

	list_del(&page->lru);
	set_page_private(page, 0);
	__free_pages(page, order);
	now.nr_ballast -= 1UL << order;
}

/*
 * A small guest is quick: most of its memory is not there. What slabs and their
 * quarantine take meanwhile comes out of this, so that there is as much room in
 * each round, to the page.
 */
static void set_room(struct fuzz *f)
{
	unsigned long total = totalram_pages() << (PAGE_SHIFT - 10);
	long want = (64 * int_sqrt(total) >> (PAGE_SHIFT - 10)) +
		    kinds[f->kind].room * FH_MIB / FH_PPP;

	while (now.nr_ballast && si_mem_available() < want)
		drop_ballast();
	while (si_mem_available() >= want + (1L << PIECE))
		if (!take_ballast(f, PIECE))
			break;
	while (si_mem_available() > want)
		if (!take_ballast(f, 0))
			break;
}

/* KASAN, lockdep and warnings, once each */
static bool kernel_complained(void)
{
	static bool before;
	bool complained = test_taint(TAINT_WARN) || test_taint(TAINT_DIE) ||
			  test_taint(TAINT_BAD_PAGE);

	if (complained == before)
		return false;
	before = complained;
	return true;
}

/*
 * What must be true
 */

/* With one processor and no preemption each step sees whole steps only. */
static bool is_exact(void)
{
	return !IS_ENABLED(CONFIG_SMP) && !IS_ENABLED(CONFIG_PREEMPTION);
}

/* Whether driver and host agree on what the host has, seen or not */
static void check_ledger(struct fuzz *f)
{
	unsigned long theirs, ours;

	if (!works(f) || !is_exact())
		return;
	fh_fetched(f->host, FH_INFLATE);
	fh_fetched(f->host, FH_DEFLATE);
	theirs = fh_count(f->host, FH_OWNED) + fh_count(f->host, FH_OFFERED);
	ours = inside_lent(vdev(f)) * FH_PPP;
	if (ours != theirs)
		flunk(f, "the host has %lu pages, and %lu according to the driver",
		      theirs, ours);
}

/*
 * Accesses are paid for: by steps, by answers of the host and by time. Of each
 * block that is lent the host hears at once, until its ring is full.
 */
static void check_touches(struct fuzz *f, unsigned long touches, u64 used,
			  unsigned long ms)
{
	unsigned long most = 60 + f->host->sizes[FH_HINT] + 2 * used + ms / 5;

	f->most_touches = max(f->most_touches, touches * 100 / most);
	if (touches > most)
		flunk(f, "%lu accesses to the device in %lu ms, for %llu buffers",
		      touches, ms, used);
}

/* After the driver let go of the device */
static void check_none_left(struct fuzz *f)
{
	enum fh_owner owner;

	for (owner = FH_GUEST + 1; owner < FH_OWNERS; owner++)
		if (fh_count(f->host, owner))
			flunk(f, "the host was left with %lu pages (%d)",
			      fh_count(f->host, owner), owner);
	if (totalram_pages() != f->totalram)
		flunk(f, "the guest has %lu pages, it had %lu",
		      totalram_pages(), f->totalram);
}

static void check_step(struct fuzz *f, const struct action *action)
{
	unsigned long touches = f->touches;
	unsigned long ms = jiffies_to_msecs(jiffies - f->since);
	u64 used = buffers_used(f);

	mix(f, touches + f->step);
	mix(f, used + ms);
	check_touches(f, touches, used - f->used, ms);
	if (action->ms && time_travels() && ms > action->ms + 10)
		flunk(f, "%s took %lu ms", action->name, ms);
	if (f->step % 16 == 0)
		check_ledger(f);
	if (f->step % 64 == 0)
		fh_check(f->host);
	if (f->host->complaints)
		flunk(f, "%s", f->host->complaint[0]);
	if (kernel_complained())
		flunk(f, "the kernel complained, see above");
}

/*
 * Allocations that fail
 */

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_FAIL_PAGE_ALLOC) && \
	defined(CONFIG_FAULT_INJECTION_DEBUG_FS)
#define CAN_FAIL	true

/* What a file of debugfs reads and writes */
static void *debugfs_data(const char *name, const char *file)
{
	struct dentry *dir = debugfs_lookup(name, NULL), *entry = NULL;
	void *data = NULL;

	if (dir)
		entry = debugfs_lookup(file, dir);
	if (entry)
		data = d_inode(entry)->i_private;
	dput(entry);
	dput(dir);
	return data;
}

/* One allocation in @nr fails, of the tasks that are marked; 0: none does. */
static void let_fail(const char *name, unsigned int nr)
{
	unsigned long *probability = debugfs_data(name, "probability");
	bool *ignore_wait = debugfs_data(name, "ignore-gfp-wait");
	bool *ignore_highmem = debugfs_data(name, "ignore-gfp-highmem");
	u32 *min_order = debugfs_data(name, "min-order");
	struct fault_attr *attr;

	if (!probability)
		return;
	attr = container_of(probability, struct fault_attr, probability);
	attr->task_filter = true;
	attr->verbose = 0;
	attr->interval = nr;
	attr->count = 0;
	atomic_set(&attr->times, -1);
	if (ignore_wait)
		*ignore_wait = false;
	if (ignore_highmem)
		*ignore_highmem = false;
	if (min_order)
		*min_order = 0;
	attr->probability = nr ? 100 : 0;
}
#else
#define CAN_FAIL	false

static void let_fail(const char *name, unsigned int nr)
{
}
#endif

static void set_failing(struct fuzz *f, unsigned int nr, bool pages)
{
	let_fail("failslab", pages ? 0 : nr);
	let_fail("fail_page_alloc", pages ? nr : 0);
	f->failing = nr;
	f->failing_pages = pages;
}

static void unmark(void)
{
#ifdef CONFIG_FAULT_INJECTION
	current->make_it_fail = false;
	current->fail_nth = 0;
#endif
}

/*
 * Actions: waiting
 */

static void doze(struct fuzz *f, unsigned int ms)
{
	if (!time_travels())
		ms = ms / 4;
	say(f, "wait %u ms", ms);
	guest_sleep(msecs_to_jiffies(ms));
}

/*
 * What must have stood still for `actual` to be due. With weights, as a page
 * that is no longer held is one that was returned.
 */
static u64 moves(struct fuzz *f)
{
	struct inside in = inside(vdev(f));

	return in.held * 7 + in.returned * 5 + in.migrated * 3 +
	       f->host->queues[FH_INFLATE].nr_used;
}

/* B17: it is true at the latest when nothing moved for a while. */
static void check_actual(struct fuzz *f)
{
	u64 before;

	if (!works(f))
		return;
	before = moves(f);
	guest_sleep(3 * HZ / 10);
	if (works(f) && moves(f) == before &&
	    fh_actual(f->host) != inside(vdev(f)).held * FH_PPP)
		flunk(f, "`actual` is %u, with %ld pages held",
		      fh_actual(f->host), inside(vdev(f)).held);
}

static void wait_shortly(struct fuzz *f)
{
	doze(f, one_in(f, 4) ? below(f, 100) : below(f, 20));
}

static void wait_long(struct fuzz *f)
{
	doze(f, below(f, one_in(f, 4) ? 8000 : 1000));
	check_actual(f);
}

/*
 * Actions: sizes
 */

static u32 any_size(struct fuzz *f)
{
	static const u32 wild[] = {
		U32_MAX, U32_MAX - 255, BIT(31), BIT(20) + 1, U16_MAX
	};
	u32 last = fh_field(f->host, 0), r = below(f, 1000);

	if (r < 600)
		return below(f, FH_MIB);
	if (r < 750)
		return below(f, 4 * FH_MIB);
	if (r < 870)
		return 0;
	if (r < 980)
		return last + below(f, 65) - 32;
	if (r < 997)
		return below(f, 24 * FH_MIB);
	return wild[below(f, ARRAY_SIZE(wild))];
}

static void new_target(struct fuzz *f)
{
	u32 size = any_size(f);

	say(f, "target %u", size);
	fh_target(f->host, size);
}

/* Two wishes at once: the driver may see the second only. */
static void flap_target(struct fuzz *f)
{
	u32 size = any_size(f), back = fh_field(f->host, 0);

	say(f, "target %u and back to %u", size, back);
	fh_target(f->host, size);
	fh_target(f->host, back);
}

static void no_news(struct fuzz *f)
{
	say(f, "config interrupt without news");
	fh_config_irq(f->host);
}

/*
 * Actions: queues
 */

static const char * const queue_names[FH_QUEUES] = {
	"inflateq", "deflateq", "statsq", "hintq", "reportq"
};

/* inflateq and deflateq most often */
static enum fh_queue_nr any_queue(struct fuzz *f)
{
	return below(f, 3) ? below(f, 2) : below(f, FH_QUEUES);
}

static struct fh_policy good_policy(enum fh_queue_nr q)
{
	/* Devices keep the statistics until they need them. */
	return (struct fh_policy){ .hold = q == FH_STATS };
}

static void bend(struct fuzz *f, struct fh_policy *policy)
{
	u32 r = below(f, 100);

	if (r < 10)
		policy->deaf = true;
	else if (r < 30)
		policy->hold = true;
	else if (r < 45)
		policy->reverse = true;
	else if (r < 55)
		policy->mute = true;
	else if (r < 70)
		policy->batch = 2 + below(f, 8);
	else if (r < 80)
		policy->drop = 1 + below(f, 3);
	else if (r < 90)
		policy->used_len = next(f);
	else
		policy->scribble = true;
}

static void lie(struct fuzz *f, struct fh_policy *policy)
{
	switch (below(f, 4)) {
	case 0:
		policy->duplicate = true;
		break;
	case 1:
		policy->bad_id = true;
		break;
	case 2:
		policy->stale_id = true;
		break;
	case 3:
		policy->fail = true;
		break;
	}
}

static void say_policy(struct fuzz *f, enum fh_queue_nr q, struct fh_policy p)
{
	say(f, "%s:%s%s%s%s%s%s%s%s%s batch %u drop %u length %x",
	    queue_names[q], p.deaf ? " deaf" : "", p.hold ? " hold" : "",
	    p.reverse ? " reverse" : "", p.mute ? " mute" : "",
	    p.duplicate ? " duplicate" : "", p.bad_id ? " bad_id" : "",
	    p.stale_id ? " stale_id" : "", p.scribble ? " scribble" : "",
	    p.fail ? " fail" : "", p.batch, p.drop, p.used_len);
}

static void new_policy(struct fuzz *f)
{
	enum fh_queue_nr q = any_queue(f);
	struct fh_policy policy = good_policy(q);

	if (one_in(f, 2)) {
		bend(f, &policy);
		if (one_in(f, 3))
			bend(f, &policy);
	} else if (q == FH_STATS) {
		policy.hold = one_in(f, 3);
	}
	say_policy(f, q, policy);
	fh_policy(f->host, q, policy);
}

static void new_lie(struct fuzz *f)
{
	enum fh_queue_nr q = any_queue(f);
	struct fh_policy policy = good_policy(q);

	lie(f, &policy);
	say_policy(f, q, policy);
	fh_policy(f->host, q, policy);
}

static void release(struct fuzz *f)
{
	enum fh_queue_nr q = any_queue(f);
	u32 nr = one_in(f, 4) ? UINT_MAX : 1 + below(f, 4);

	nr = fh_release(f->host, q, nr);
	say(f, "released %u of %s", nr, queue_names[q]);
}

static void do_interrupt(struct fuzz *f)
{
	enum fh_queue_nr q = below(f, FH_QUEUES);

	say(f, "interrupt of %s", queue_names[q]);
	fh_irq(f->host, q);
}

/* As some transports do, even if nothing was used */
static void do_callback(struct fuzz *f)
{
	enum fh_queue_nr q = below(f, FH_QUEUES);

	say(f, "callback of %s", queue_names[q]);
	fh_callback(f->host, q);
}

static void new_thread(struct fuzz *f)
{
	f->host->thread = below(f, FH_IRQ + 1);
	say(f, "thread %d", f->host->thread);
}

static void set_policies(struct fuzz *f)
{
	enum fh_queue_nr q;

	for (q = 0; q < FH_QUEUES; q++)
		fh_policy(f->host, q, good_policy(q));
	for (q = 0; q < FH_QUEUES; q++)
		if (q != FH_STATS)
			fh_release(f->host, q, UINT_MAX);
}

static void behave(struct fuzz *f)
{
	say(f, "good policies");
	set_policies(f);
}

/*
 * Actions: hinting
 */

static void set_hint(struct fuzz *f, u32 id)
{
	say(f, "hint %x", id);
	fh_hint(f->host, id);
}

static void new_hint(struct fuzz *f)
{
	u32 r = below(f, 100);

	if (r < 50)
		set_hint(f, ++f->hint);
	else if (r < 65)
		set_hint(f, VIRTIO_BALLOON_CMD_ID_STOP);
	else if (r < 80)
		set_hint(f, VIRTIO_BALLOON_CMD_ID_DONE);
	else if (r < 90)
		set_hint(f, f->hint);
	else if (r < 95)
		set_hint(f, f->hint - below(f, 3));
	else
		set_hint(f, next(f));
}

static void flap_hint(struct fuzz *f)
{
	u32 ids[3] = { f->hint, ++f->hint, VIRTIO_BALLOON_CMD_ID_STOP };
	unsigned int i;

	for (i = 0; i < 2 + below(f, 3); i++)
		set_hint(f, ids[below(f, ARRAY_SIZE(ids))]);
}

/*
 * Actions: mm
 */

/* B10: without DEFLATE_ON_OOM the guest's need is no reason to deflate. */
static void check_need(struct fuzz *f, long held)
{
	if (works(f) && !(f->host->accepted & FH_BIT(DEFLATE_ON_OOM)) &&
	    inside(vdev(f)).held < held && is_exact())
		flunk(f, "deflated on OOM, from %ld pages", held);
}

static void oom(struct fuzz *f)
{
	long held = inside(vdev(f)).held;

	say(f, "OOM gives %lu", inside_oom(vdev(f)));
	check_need(f, held);
}

static void shrink(struct fuzz *f)
{
	unsigned long there = inside_shrink_count(vdev(f));
	u32 nr = one_in(f, 4) ? 100000 : below(f, 300);
	long held = inside(vdev(f)).held;

	say(f, "reclaim of %u, there are %lu", nr, there);
	inside_shrink(vdev(f), nr);
	check_need(f, held);
}

static void power_event(struct fuzz *f)
{
	static const struct {
		const char *name;
		unsigned long action;
	} events[] = {
		{ "hibernation prepared", PM_HIBERNATION_PREPARE },
		{ "restore prepared", PM_RESTORE_PREPARE },
		{ "suspend prepared", PM_SUSPEND_PREPARE },
		{ "hibernation over", PM_POST_HIBERNATION },
		{ "restore over", PM_POST_RESTORE },
		{ "suspend over", PM_POST_SUSPEND },
	};
	unsigned int i = below(f, ARRAY_SIZE(events));

	say(f, "%s", events[i].name);
	inside_pm(vdev(f), events[i].action);
}

static void do_offline(struct fuzz *f)
{
	static const struct {
		const char *name;
		unsigned long action;
	} events[] = {
		{ "memory goes offline", MEM_GOING_OFFLINE },
		{ "memory is offline", MEM_OFFLINE },
		{ "memory stays online", MEM_CANCEL_OFFLINE },
		{ "memory goes online", MEM_GOING_ONLINE },
	};
	unsigned int i = below(f, ARRAY_SIZE(events));

	say(f, "%s", events[i].name);
	inside_memory(vdev(f), events[i].action);
}

#ifdef VB_MIGRATION
static void put_back(struct fuzz *f, bool all)
{
	mutex_lock(&f->lock);
	while (f->nr_isolated) {
		inside_putback(vdev(f), f->isolated[--f->nr_isolated]);
		if (!all)
			break;
	}
	mutex_unlock(&f->lock);
}

static void putback_work(struct work_struct *work)
{
	put_back(container_of(to_delayed_work(work), struct fuzz, putback),
		 true);
}

static void isolate(struct fuzz *f)
{
	struct page *page = NULL;

	mutex_lock(&f->lock);
	if (f->nr_isolated < ISOLATED)
		page = inside_isolate(vdev(f));
	if (page)
		f->isolated[f->nr_isolated++] = page;
	mutex_unlock(&f->lock);
	say(f, "isolated %s", page ? "a page" : "none");
}

static void migrate(struct fuzz *f)
{
	struct page *page = NULL;
	int rc = 0;

	mutex_lock(&f->lock);
	if (!f->nr_isolated)
		page = inside_isolate(vdev(f));
	else
		page = f->isolated[--f->nr_isolated];
	mutex_unlock(&f->lock);
	if (page)
		rc = inside_migrate(vdev(f), page);
	say(f, "migrated %s: %d", page ? "a page" : "none", rc);
}

static void putback(struct fuzz *f)
{
	say(f, "put a page back");
	put_back(f, false);
}
#else
static void put_back(struct fuzz *f, bool all)
{
}

static void putback_work(struct work_struct *work)
{
}

static void isolate(struct fuzz *f)
{
}

static void migrate(struct fuzz *f)
{
}

static void putback(struct fuzz *f)
{
}
#endif

/* mm does not keep isolated pages for ever: who waits for them may. */
static void put_back_soon(struct fuzz *f)
{
	if (f->nr_isolated)
		queue_delayed_work(system_wq, &f->putback,
				   msecs_to_jiffies(below(f, 600)));
}

/*
 * Actions: memory that the guest itself uses
 */

static u64 *hog_word(struct page *page, unsigned int i)
{
	return (u64 *)((char *)page_address(page) + i * PAGE_SIZE);
}

static void unhog(struct fuzz *f, unsigned long pages)
{
	struct page *page;
	unsigned int i, order;

	while (pages-- && !list_empty(&f->hogs)) {
		page = list_first_entry(&f->hogs, struct page, lru);
		list_del(&page->lru);
		order = page_private(page);
		for (i = 0; i < 1U << order; i++)
			if (*hog_word(page, i) != page_to_pfn(page) + i)
				flunk(f, "somebody wrote to the guest's pfn %lx",
				      page_to_pfn(page) + i);
		set_page_private(page, 0);
		__free_pages(page, order);
		f->hogged -= 1UL << order;
	}
}

static void give_up_hog(struct fuzz *f)
{
	unsigned long nr = one_in(f, 2) ? ULONG_MAX : below(f, 16);

	say(f, "free some of %lu hogged pages", f->hogged);
	unhog(f, nr);
}

static bool hog_one(struct fuzz *f, unsigned int order)
{
	struct page *page;
	unsigned int i;

	if (si_mem_available() < KEEP_FREE || f->hogged >= HOGS)
		return false;
	page = alloc_pages(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order);
	if (!page)
		return false;
	for (i = 0; i < 1U << order; i++)
		*hog_word(page, i) = page_to_pfn(page) + i;
	set_page_private(page, order);
	list_add(&page->lru, &f->hogs);
	f->hogged += 1UL << order;
	return true;
}

static void hog(struct fuzz *f)
{
	unsigned int order = one_in(f, 2) ? 0 : below(f, 10);
	unsigned int n, nr = 1 + (below(f, one_in(f, 16) ? 8192 : 128) >> order);

	for (n = 0; n < nr && hog_one(f, order); n++)
		;
	say(f, "hogged %u of %u blocks of order %u", n, nr, order);
}

/*
 * Actions: parameters and faults
 */

static void parameter(struct fuzz *f)
{
	static const struct {
		const char *name;
		const char *values[7];
	} all[] = {
		{ "floor", { "-1", "16", "24", "40", "64", "100", "300" } },
		{ "oom_pages", { "0", "1", "16", "256", "300", "4096",
				 "1048576" } },
		{ "hint_order", { "-1", "9", "8", "7", "6", "5", "3" } },
		{ "report", { "0", "0", "1", "1", "1", "1", "1" } },
	};
	unsigned int i = below(f, ARRAY_SIZE(all)), n = below(f, 7);

	say(f, "%s=%s", all[i].name, all[i].values[n]);
	guest_set(all[i].name, all[i].values[n]);
}

static void reset_parameters(void)
{
	guest_reset();
	guest_set("report", "1");
}

static void faults(struct fuzz *f)
{
	bool pages = one_in(f, 2);
	unsigned int nr = 2 + below(f, 12);

	if (f->failing || !CAN_FAIL)
		nr = 0;
	say(f, "one in %u allocations of %s fails", nr,
	    pages ? "pages" : "slabs");
	set_failing(f, nr, pages);
}

/*
 * Actions: somebody else acts while a step waits
 */

/* A device that nobody drives has nothing to fail at. */
static void fail(struct fuzz *f)
{
	if (f->host->status & VIRTIO_CONFIG_S_DRIVER_OK)
		fh_fail(f->host);
}

static void ghost_work(struct work_struct *work)
{
	struct fuzz *f = container_of(to_delayed_work(work), struct fuzz,
				      ghost);

	switch (f->ghost_does) {
	case LET_GO:
		set_policies(f);
		break;
	case NEWS:
		fh_config_irq(f->host);
		break;
	case FAIL:
		fail(f);
		break;
	case TARGET:
		fh_target(f->host, f->ghost_arg);
		break;
	default:
		fh_hint(f->host, f->ghost_arg);
	}
}

static void ghost(struct fuzz *f)
{
	static const char * const names[GHOSTS] = {
		[LET_GO] = "good policies", [NEWS] = "no news",
		[FAIL] = "NEEDS_RESET", [TARGET] = "target", [HINT] = "hint"
	};
	u32 ms = below(f, one_in(f, 4) ? 5000 : 500);

	if (delayed_work_pending(&f->ghost))
		return;
	f->ghost_does = below(f, GHOSTS);
	f->ghost_arg = f->ghost_does == HINT ? ++f->hint : any_size(f);
	say(f, "%u ms later: %s %u", ms, names[f->ghost_does], f->ghost_arg);
	queue_delayed_work(system_wq, &f->ghost, msecs_to_jiffies(ms));
}

/*
 * Actions: life and death of the device
 */

#ifndef CONFIG_PM_SLEEP
static int virtio_device_freeze(struct virtio_device *vdev)
{
	return -EOPNOTSUPP;
}

static int virtio_device_restore(struct virtio_device *vdev)
{
	return -EOPNOTSUPP;
}
#endif

static unsigned int any_ring(struct fuzz *f, unsigned int usual)
{
	if (one_in(f, 6))
		return usual;
	return one_in(f, 60) ? 0 : 1U << (one_in(f, 8) ? below(f, 9) :
							 below(f, 5));
}

static void any_features(struct fuzz *f)
{
	static const unsigned int sizes[FH_QUEUES] = { 128, 128, 128, 256, 32 };
	struct fh *host = f->host;
	enum fh_queue_nr q;

	host->features = one_in(f, 3) ? FH_ALL_FEATURES :
					next(f) & FH_ALL_FEATURES;
	if (f->kind == HINTING)
		host->features |= FH_BIT(FREE_PAGE_HINT);
	if (below(f, 10))
		host->features |= BIT_ULL(VIRTIO_F_VERSION_1);
	if (one_in(f, 2))
		host->features |= BIT_ULL(VIRTIO_RING_F_EVENT_IDX);
	if (one_in(f, 2))
		host->features |= BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC);
	if (one_in(f, 8))	/* bits that no balloon has */
		host->features |= (u64)next(f) << 42 |
				  BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	for (q = 0; q < FH_QUEUES; q++)
		host->sizes[q] = any_ring(f, sizes[q]);
	host->config_len = host->features & FH_BIT(PAGE_POISON) ? 16 :
			   host->features & FH_BIT(FREE_PAGE_HINT) ? 12 : 8;
}

/* What it will not do */
static void any_refusal(struct fuzz *f)
{
	struct fh *host = f->host;

	host->reset_keeps = below(f, 4);
	host->no_config = one_in(f, 60);
	host->refused = one_in(f, 20) ? next(f) & FH_ALL_FEATURES : 0;
	host->needed = one_in(f, 20) ? next(f) & FH_ALL_FEATURES &
				       host->features : 0;
	f->fail_nth = CAN_FAIL && one_in(f, 6) ? 1 + below(f, 250) : 0;
}

static bool must_work(struct fuzz *f)
{
	struct fh *host = f->host;

	return !host->no_config && !host->refused && !host->needed &&
	       !f->fail_nth && !f->failing && host->sizes[FH_INFLATE] &&
	       host->sizes[FH_DEFLATE];
}

static void say_device(struct fuzz *f, const char *what, int rc)
{
	struct fh *host = f->host;
	unsigned int *s = host->sizes;

	say(f, "%s: %llx of %llx, rings %u %u %u %u %u: %d", what,
	    host->accepted, host->features, s[0], s[1], s[2], s[3], s[4], rc);
	if (rc && must_work(f))
		flunk(f, "%s: %d", what, rc);
}

static void plug(struct fuzz *f)
{
	int rc;

	unmark();
	rc = fh_plug(f->host);
	now.devices++;
	f->frozen = false;
	if (!rc && !bound(f))
		rc = -ENODEV;
	say_device(f, "plug", rc);
}

/* Whether all that the driver says will be heard, so that it leaves in peace */
static bool in_peace(struct fuzz *f)
{
	enum fh_queue_nr q;

	for (q = FH_INFLATE; q <= FH_DEFLATE; q++) {
		struct fh_policy p = f->host->queues[q].policy;

		if (p.deaf || p.hold || p.batch > 1 || p.drop || p.fail ||
		    p.duplicate || p.bad_id || p.stale_id)
			return false;
	}
	return works(f) && !delayed_work_pending(&f->ghost) && !f->failing;
}

/* The driver let go: B12, and B17 for the last time. */
static void check_farewell(struct fuzz *f, bool peace, unsigned long from)
{
	long reset = fh_find_event(f->host, from, FH_EV_RESET, -1, -1);

	check_none_left(f);
	if (!peace)
		return;
	if (reset < 0)
		flunk(f, "no reset");
	else if (fh_event_at(f->host, reset)->a)
		flunk(f, "%u pages of the host's were not announced",
		      fh_event_at(f->host, reset)->a);
	if (f->host->reset_keeps && fh_actual(f->host))
		flunk(f, "the last `actual` was %u", fh_actual(f->host));
}

static void do_unplug(struct fuzz *f)
{
	unsigned long from = f->host->nr_events;
	bool peace = in_peace(f);

	say(f, "unplug%s", peace ? " in peace" : "");
	f->quiet |= peace;
	put_back_soon(f);
	fh_unplug(f->host);
	f->frozen = false;
	check_farewell(f, peace, from);
}

static void replug(struct fuzz *f)
{
	if (f->host->dev)
		do_unplug(f);
	any_features(f);
	any_refusal(f);
	if (one_in(f, 2))
		set_policies(f);
	plug(f);
}

static void rebind(struct fuzz *f)
{
	unsigned long from = f->host->nr_events;
	bool peace = in_peace(f);

	f->quiet |= peace;
	put_back_soon(f);
	fh_unbind(f->host);
	f->frozen = false;
	check_farewell(f, peace, from);
	any_refusal(f);
	fh_bind(f->host);
	say_device(f, "bound again", bound(f) ? 0 : -ENODEV);
}

static void restore(struct fuzz *f)
{
	int rc;

	any_refusal(f);
	f->host->no_config = !vdev(f)->config->get;
	rc = virtio_device_restore(vdev(f));
	if (!rc)
		f->frozen = false;
	say_device(f, "restore", rc);
}

static void do_freeze(struct fuzz *f)
{
	unsigned long from = f->host->nr_events;
	bool peace = in_peace(f);

	if (!IS_ENABLED(CONFIG_PM_SLEEP))
		return;
	say(f, "freeze%s", peace ? " in peace" : "");
	f->quiet |= peace;
	put_back_soon(f);
	virtio_device_freeze(vdev(f));
	f->frozen = true;
	check_farewell(f, peace, from);
}

static void needs_reset(struct fuzz *f)
{
	say(f, "NEEDS_RESET");
	fail(f);
}

/* G2: the driver does what the device needs. */
static void await_reset(struct fuzz *f)
{
	unsigned long end = jiffies + FH_PATIENCE;

	needs_reset(f);
	while (alive(f) && f->host->status & VIRTIO_CONFIG_S_NEEDS_RESET &&
	       !f->host->gone && time_before(jiffies, end))
		fh_doze();
	if (!time_before(jiffies, end))
		flunk(f, "NEEDS_RESET, and no reset");
}

static void pull(struct fuzz *f)
{
	say(f, "pulled out by surprise");
	fh_pull(f->host);
	if (one_in(f, 2))
		fh_config_irq(f->host);
}

/*
 * What happens while the driver accesses the device
 */

/* The host changes its mind just then. */
static void interfere(struct fuzz *f)
{
	struct fh *host = f->host;
	bool lethal = f->kind >= LIFECYCLE;
	u32 r = below(f, 100);

	if (r < 35) {
		new_target(f);
	} else if (r < 60) {
		new_hint(f);
	} else if (r < 80) {
		no_news(f);
	} else if (r < 90) {
		bend(f, &host->queues[any_queue(f)].policy);
	} else if (r < 96 || !lethal) {
		new_thread(f);
	} else if (r < 98) {
		needs_reset(f);
	} else {
		say(f, "pulled out by surprise");
		fh_pull(host);
	}
}

/* It has random numbers of its own: on other processors it comes at any time. */
static void maybe_interfere(struct fuzz *f)
{
	if (f->quiet || !(f->host->status & VIRTIO_CONFIG_S_DRIVER_OK) ||
	    f->host->gone)
		return;
	swap(f->random, f->random_aside);
	if (one_in(f, 64)) {
		say(f, "(meanwhile)");
		interfere(f);
	}
	swap(f->random, f->random_aside);
}

static void hook(struct fh *host, enum fh_event_type type, u32 arg)
{
	struct fuzz *f = host->hook_data;

	if (type == FH_EV_READ || type == FH_EV_NOTIFY || type == FH_EV_WRITE) {
		if (++f->touches == TOUCHES) {
			fh_complain(host, "the driver does not end");
			host->gone = true;	/* which may end it */
		}
		if (f->touches == 2 * TOUCHES)
			panic("nor did it end without the device");
		maybe_interfere(f);
	}
#ifdef CONFIG_FAULT_INJECTION
	if (type == FH_EV_FIND && f->fail_nth)
		current->fail_nth = f->fail_nth;
	if (f->failing && in_task() &&
	    !(f->failing_pages && current == f->task))
		current->make_it_fail = true;
#endif
}

/*
 * Settling: all is well again, and then all must be true.
 */

/* Ends what lasts longer than a step. */
static void calm(struct fuzz *f)
{
	f->quiet = true;
	cancel_delayed_work_sync(&f->ghost);
	cancel_delayed_work_sync(&f->putback);
	set_failing(f, 0, false);
	unmark();
	unhog(f, ULONG_MAX);
	set_room(f);
	if (bound(f))
		put_back(f, true);
	reset_parameters();
	f->host->refused = 0;
	f->host->needed = 0;
	f->fail_nth = 0;
	set_policies(f);
}

/* A device that can be worked with */
static void revive(struct fuzz *f)
{
	if (f->frozen && !f->host->no_config) {
		int rc = virtio_device_restore(vdev(f));

		f->frozen = rc != 0;
		say_device(f, "restore", rc);
	}
	if (!works(f)) {
		if (f->host->dev)
			do_unplug(f);
		any_features(f);
		f->host->no_config = false;
		f->host->sizes[FH_INFLATE] = f->host->sizes[FH_INFLATE] ?: 64;
		f->host->sizes[FH_DEFLATE] = f->host->sizes[FH_DEFLATE] ?: 64;
		plug(f);
	}
	if (alive(f)) {
		inside_pm(vdev(f), PM_POST_HIBERNATION);
		inside_memory(vdev(f), MEM_CANCEL_OFFLINE);
	}
}

static bool rests(struct fuzz *f)
{
	struct inside in = inside(vdev(f));

	return !strcmp(in.state, "idle") && !in.offered && !in.spares &&
	       !in.hinting && !in.hinted && !in.in_flight;
}

static void check_settled(struct fuzz *f, u32 size)
{
	struct inside in = inside(vdev(f));
	unsigned long total = f->totalram;

	if (in.held * FH_PPP != size)
		flunk(f, "the driver holds %ld pages", in.held);
	if (in.returning)
		flunk(f, "%ld pages on their way", in.returning);
	if (in.pooled != in.buffers)
		flunk(f, "%u of %u buffers", in.pooled, in.buffers);
	if (!(f->host->accepted & FH_BIT(DEFLATE_ON_OOM)))
		total -= in.held;
	if (totalram_pages() != total)
		flunk(f, "MemTotal is %lu pages, not %lu", totalram_pages(),
		      total);
	check_ledger(f);
	fh_check(f->host);
}

/*
 * The host asks for statistics, and gets them (B23), unless it could not even be
 * notified of the first ones: that costs the statistics, and nothing else.
 */
static void check_stats(struct fuzz *f)
{
	struct fh_queue *q = &f->host->queues[FH_STATS];
	u64 seen = q->nr_seen;

	if (!q->live || virtqueue_is_broken(q->vq) ||
	    !fh_release(f->host, FH_STATS, 1))
		return;
	if (!fh_until(fh_fetched(f->host, FH_STATS)) || q->nr_seen != seen + 1)
		flunk(f, "statistics: %llu answers", q->nr_seen - seen);
}

/* A round of hinting begins and ends (B31, B35), and leaves nothing (B39). */
static void check_hint(struct fuzz *f)
{
	struct fh *host = f->host;

	if (!host->queues[FH_HINT].live)
		return;
	fh_hint(host, ++f->hint);
	if (!fh_until(host->hint_begun == f->hint && !host->hint_open))
		flunk(f, "hinting: round %x, the driver is at %x (%d)", f->hint,
		      host->hint_begun, host->hint_open);
	fh_hint(host, VIRTIO_BALLOON_CMD_ID_DONE);
	if (!fh_until(rests(f) && !fh_count(host, FH_HINTING)))
		flunk(f, "hinted blocks are not free after DONE");
}

/* Small, and news to the driver: what it was worried about is past then. */
static u32 good_size(struct fuzz *f)
{
	u32 size;

	do {
		size = below(f, 2 * FH_MIB / FH_PPP) * FH_PPP;
	} while (size == inside(vdev(f)).num_pages);
	return size;
}

static void do_settle(struct fuzz *f)
{
	u32 size;

	calm(f);
	revive(f);
	if (f->failed)
		return;
	now.settled++;
	size = good_size(f);
	say(f, "settle at %u", size);
	fh_set_field(f->host, offsetof(struct virtio_balloon_config,
				       free_page_hint_cmd_id),
		     VIRTIO_BALLOON_CMD_ID_DONE);
	fh_target(f->host, size);
	if (!fh_settles(f->host, size) || !fh_until(rests(f))) {
		struct inside in = inside(vdev(f));

		flunk(f, "%s, %ld held, %ld offered, %u in flight; the host has %lu, actual %u",
		      in.state, in.held, in.offered, in.in_flight,
		      fh_count(f->host, FH_OWNED), fh_actual(f->host));
		return;
	}
	check_settled(f, size);
	check_stats(f);
	check_hint(f);
}

/*
 * The engine
 */

enum { ANY, PLUGGED, BOUND, ALIVE, FROZEN };

#define S	1000

static const struct action actions[] = {
	/* name, action, weights, needs, ms */
	{ "wait", wait_shortly, { 90, 90, 90, 90 } },
	{ "long wait", wait_long, { 1, 1, 1, 1 } },
	{ "target", new_target, { 60, 18, 24, 36 }, ANY, 10 },
	{ "two targets", flap_target, { 9, 3, 3, 6 }, ANY, 10 },
	{ "no news", no_news, { 6, 6, 6, 6 }, ANY, 10 },
	{ "policy", new_policy, { 30, 18, 18, 24 }, ANY, 10 },
	{ "lie", new_lie, { 0, 0, 1, 1 }, ANY, 10 },
	{ "release", release, { 24, 18, 12, 18 }, ANY, 10 },
	{ "interrupt", do_interrupt, { 9, 9, 6, 6 }, PLUGGED, 10 },
	{ "callback", do_callback, { 3, 3, 3, 3 }, PLUGGED, 10 },
	{ "thread", new_thread, { 6, 6, 6, 6 }, ANY, 10 },
	{ "behave", behave, { 9, 9, 9, 9 }, ANY, 10 },
	{ "hint", new_hint, { 0, 48, 12, 15 }, ANY, 10 },
	{ "flap", flap_hint, { 0, 12, 3, 6 }, ANY, 10 },
	{ "OOM", oom, { 6, 6, 3, 6 }, ALIVE, 5 * S },
	{ "reclaim", shrink, { 6, 9, 3, 6 }, ALIVE, 10 },
	{ "PM", power_event, { 1, 1, 1, 1 }, BOUND, 11 * S },
	{ "offline", do_offline, { 6, 6, 3, 6 }, ALIVE, 10 },
	{ "isolate", isolate, { 12, 3, 6, 12 }, ALIVE, 10 },
	{ "migrate", migrate, { 12, 3, 6, 12 }, ALIVE, 10 },
	{ "putback", putback, { 6, 3, 3, 6 }, BOUND, 10 },
	{ "hog", hog, { 9, 12, 6, 9 }, ANY, 1 * S },
	{ "free hog", give_up_hog, { 9, 12, 6, 9 }, ANY, 10 },
	{ "parameter", parameter, { 1, 1, 1, 1 }, ANY, 20 * S },
	{ "faults", faults, { 3, 3, 6, 3 }, ANY, 10 },
	{ "ghost", ghost, { 6, 6, 6, 6 }, ANY, 10 },
	{ "replug", replug, { 0, 0, 2, 1 }, ANY, 25 * S },
	{ "rebind", rebind, { 0, 0, 2, 1 }, BOUND, 25 * S },
	{ "freeze", do_freeze, { 0, 0, 3, 1 }, ALIVE, 25 * S },
	{ "restore", restore, { 8, 8, 8, 8 }, FROZEN, 10 },
	{ "NEEDS_RESET", needs_reset, { 0, 0, 1, 1 }, PLUGGED, 10 },
	{ "await reset", await_reset, { 0, 0, 1, 1 }, ALIVE, 11 * S },
	{ "pull", pull, { 0, 0, 1, 1 }, ALIVE, 10 },
	{ "settle", do_settle, { 1, 1, 1, 1 } },
};

static bool possible(struct fuzz *f, const struct action *action)
{
	switch (action->when) {
	case PLUGGED:
		return f->host->dev;
	case BOUND:
		return bound(f);
	case ALIVE:
		return alive(f);
	case FROZEN:
		return bound(f) && f->frozen;
	}
	return true;
}

static const struct action *choose(struct fuzz *f)
{
	const struct action *action;
	unsigned int total = 0;
	u32 n;

	for (action = actions; action < actions + ARRAY_SIZE(actions); action++)
		total += action->weight[f->kind];
	do {
		n = below(f, total);
		for (action = actions; n >= action->weight[f->kind]; action++)
			n -= action->weight[f->kind];
	} while (!possible(f, action));
	return action;
}

/* A dead device is no fun: it does not stay for long. */
static bool is_dead(struct fuzz *f)
{
	return !alive(f) || inside_lent(vdev(f)) < 0 || f->host->gone ||
	       f->host->lied;
}

static const struct action dies = { "replug", replug, {}, ANY, 25 * S };

static void one_step(struct fuzz *f)
{
	const struct action *action;

	seed_step(f);
	action = choose(f);
	if (is_dead(f) && one_in(f, 12))
		action = &dies;
	f->touches = 0;
	f->used = buffers_used(f);
	f->since = jiffies;
	action->run(f);
	f->quiet = false;
	unmark();
	check_step(f, action);
	f->step++;
}

static void begin(struct fuzz *f, struct kunit *test, unsigned int kind)
{
	f->test = test;
	f->host = test->priv;
	f->host->hook = hook;
	f->host->hook_data = f;
	f->task = current;
	f->kind = kind;
	f->seed = test_seed * 0x9e3779b97f4a7c15ULL +
		  (u64)(now.round * CASES + kind + 1) * 0xd1342543de82ef95ULL;
	f->random_aside = f->seed ?: 1;
	seed_step(f);
	f->hint = next(f);
	f->totalram = totalram_pages();
	mutex_init(&f->lock);
	INIT_LIST_HEAD(&f->hogs);
	INIT_DELAYED_WORK(&f->ghost, ghost_work);
	INIT_DELAYED_WORK(&f->putback, putback_work);
	kernel_complained();
	set_room(f);
	now.f = f;
	atomic_notifier_chain_register(&panic_notifier_list, &panic_nb);
}

static void end(struct fuzz *f)
{
	calm(f);
	if (f->host->dev)
		do_unplug(f);
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_nb);
	now.f = NULL;
	f->host->hook = NULL;
	if (!now.memory)
		now.memory = memory_now();
	if (now.memory - memory_now() > (long)LOSS)
		flunk(f, "%ld pages of the guest are gone",
		      now.memory - memory_now());
	now.steps += f->step;
	now.left -= min_t(unsigned long, now.left, f->step);
	now.hash ^= f->hash;
	now.most_touches = max(now.most_touches, f->most_touches);
}

static void run(struct kunit *test, unsigned int kind)
{
	struct fuzz *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	unsigned long start = jiffies;
	unsigned long most = min_t(unsigned long, now.left, ROUND_STEPS);

	KUNIT_ASSERT_NOT_NULL(test, f);
	begin(f, test, kind);
	any_features(f);
	set_policies(f);
	plug(f);
	while (!f->failed && f->step < most &&
	       time_before(jiffies, start + ROUND_TIME))
		one_step(f);
	if (!f->failed)
		do_settle(f);
	end(f);
}

/*
 * Rounds, until the steps are done or one has failed
 */

/* All cases are, but for the parameter; @round: which one of it alone */
static bool is_wanted(unsigned int kind, unsigned int *round)
{
	size_t n = strlen(kinds[kind].name);

	if (!fuzz)
		return true;
	if (strncmp(fuzz, kinds[kind].name, n))
		return false;
	alone = sscanf(fuzz + n, "/%u", round) == 1;
	return true;
}

static const void *next_round(unsigned int kind, const void *prev, char *desc)
{
	unsigned int only = 0;

	if (!is_wanted(kind, &only))
		return NULL;
	if (!prev) {
		memset(&now, 0, offsetof(typeof(now), ballast));
		now.round = only;
		now.left = test_steps * kinds[kind].share / 100;
		if (!time_travels())
			now.left /= 20;
	} else if (!now.left || now.failed || alone) {
		pr_info("    # fuzz_%s: %lu steps, %lu devices, settled %lu times, touched %lu %%, hash %llx\n",
			kinds[kind].name, now.steps, now.devices, now.settled,
			now.most_touches, now.hash);
		guest_unhoard(&now.ballast);
		return NULL;
	}
	if (prev)
		now.round++;
	now.kind = kind;
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "seed %lu round %u", test_seed,
		 now.round);
	return &now;
}

#define FUZZ(name, nr)							\
static const void *name##_rounds(COMPAT_GENERATOR)			\
{									\
	return next_round(nr, prev, desc);				\
}									\
									\
static void fuzz_##name(struct kunit *test)				\
{									\
	run(test, now.kind);						\
}

FUZZ(sizing, SIZING)
FUZZ(hinting, HINTING)
FUZZ(lifecycle, LIFECYCLE)
FUZZ(everything, EVERYTHING)

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(fuzz_sizing, sizing_rounds),
	KUNIT_CASE_PARAM(fuzz_hinting, hinting_rounds),
	KUNIT_CASE_PARAM(fuzz_lifecycle, lifecycle_rounds),
	KUNIT_CASE_PARAM(fuzz_everything, everything_rounds),
	{}
};

struct kunit_suite fuzz_suite = {
	.name = "virtio_balloon_fuzz",
	.init = fh_suite_init,
	.exit = fh_suite_exit,
	.test_cases = cases,
};
