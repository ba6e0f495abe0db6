// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtio memory balloon: the host takes memory from the running guest and
 * gives it back.
 *
 * Life of a page
 *
 *   i.   taken: allocated as part of the largest block to be had (2 MiB, then
 *        smaller, single pages last) and split; belongs to one PFN buffer.
 *   ii.  offered: its PFN is in a buffer on the inflateq. Nobody may touch,
 *        move, count or deflate it (B15, B16).
 *   iii. held: the host used that buffer and `actual` counts the page. It waits
 *        on the balloon's own list, together with its neighbours; once sizing
 *        has come to rest it goes to mm's balloon list, one by one, and mm may
 *        migrate it. It leaves them for a buffer of the deflateq.
 *   iv.  returning: that buffer is announced (B12). With MUST_TELL_HOST it stays
 *        there until the host used it (B13); without, it is free at once (B14).
 *   v.   free: neighbours go back together, as the blocks they once were.
 *
 * Pages move by whole buffer, and as runs: neighbours that were taken or found
 * together are handled by their first page, which links them (lru) and knows
 * how many they are (index). i -> ii is vb_offer(), ii -> iii vb_hold(),
 * iii -> iv vb_announce(), iv -> v vb_release().
 *
 * Blocks of free page hinting and reporting are never the balloon's: the driver
 * or mm owns them, and nobody uses them until the host has looked at them.
 *
 * Contexts
 *
 *   queue callbacks    irq: wake their queue's waiters or queue the stats work
 *   sizing work        target -> policy -> inflate or deflate, step by step;
 *                      waits for the host for a few seconds a step at most;
 *                      resets a device that failed and takes all pages back
 *   publish work       the only writer of `actual` while the driver runs
 *   enlist work        hands held pages to mm's list while sizing rests, or
 *                      takes little at a time
 *   stats work         fills and offers the one stats buffer; waits for nothing
 *   hint work          lends free blocks to the host and takes them back; waits
 *                      for nothing, and looks again later
 *   OOM notifier       frees hinted blocks, returns held pages; allocates
 *                      nothing; waits, bounded, for the host with
 *                      MUST_TELL_HOST or if every buffer is in flight and mm
 *                      would kill otherwise, and for sizing if that has the
 *                      last pages or the device failed
 *   shrinker           frees hinted blocks, and with deflate_mode=shrinker
 *                      returns held pages; waits for nothing
 *   page reporting     mm's worker: shows free pages to the host and waits for
 *                      it, bounded; resets the device before it gives up
 *   migration          returns the page, keeps the new one for sizing to offer;
 *                      waits for nothing
 *   memory notifier    offlining: readies held pages for migration, frees
 *                      hinted blocks; waits for nothing
 *   PM notifier        hibernation: has sizing empty the balloon, waits bounded
 *   reboot notifier    ends all works and resets the device; pages stay
 *   freeze, remove     (and before the user resets the function) all pages back,
 *                      announced, then a reset; waits bounded for the host,
 *                      and for mm's hands off isolated pages
 *
 * Locking
 *
 *   vb_queue.lock guards one queue's ring and pool for a few instructions, so
 *   that the queues never meet. vb.runs_lock guards the lists of held runs,
 *   spare pages and hinted blocks. vb.gate orders "queue a work" against "the
 *   driver stops"; RCU does so for migration. None is held while anything
 *   waits, sleeps or accesses configuration space; none nests in another. The
 *   mutexes around them, vb.reset_lock and vb_reporters_lock, are of the life
 *   cycle.
 *
 * A wait ends on the answer, on a broken device or when the driver stops; that
 * of page reporting on the answer or a reset only. Pages whose state the host
 * did not confirm are kept until the device is reset, and every buffer outlives
 * the device's access to it.
 *
 * Units: pages are guest pages unless a name or comment says 4 KiB, the unit
 * of the protocol. B1..B49 are the driver statements of VIRTIO 1.4, 5.5, in
 * the order of its text.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/memory.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/ratelimit.h>
#include <linux/reboot.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/swap.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>

#include <compat/balloon.h>
#include <compat/encryption.h>
#include <compat/mm.h>
#include <compat/reporting.h>
#include <compat/shrinker.h>
#include <compat/virtio.h>

#define CREATE_TRACE_POINTS
#include <trace/events/virtio_balloon.h>

/* 4 KiB pages in a guest page: 1, 4 or 16 */
#define VB_PPP			(1U << (PAGE_SHIFT - VIRTIO_BALLOON_PFN_SHIFT))
#define VB_PAGES(bytes)		((unsigned long)(bytes) >> PAGE_SHIFT)
#define VB_KIB(pages)		((u64)(pages) << (PAGE_SHIFT - 10))

/* Blocks up to this order are taken and given back whole: 2 MiB. */
#define VB_BLOCK_ORDER		min_t(unsigned int, ilog2(VB_PAGES(SZ_2M)), \
				      VB_MAX_ORDER)

/* Buffers of a queue (as far as its ring has room), and pages at a time. */
#define VB_BUFFERS		64U
#define VB_GROUP		VB_PAGES(SZ_8M)

/* A sizing step looks at the host's wish and the guest's memory anew. */
#define VB_STEP			VB_PAGES(SZ_64M)
#define VB_MIN_STEP		VB_PAGES(SZ_1M)

/* How long a step or a caller in mm waits for the host. */
#define VB_PATIENCE		(2 * HZ)
#define VB_LAST_PATIENCE	(5 * HZ)	/* for each step of a removal */
#define VB_SLOW_STEPS		12U		/* of it that end late */
#define VB_SLICE		(HZ / 10)

#define VB_PUBLISH_INTERVAL	(HZ / 10)
#define VB_STATS_INTERVAL	DIV_ROUND_UP(HZ, 100)
#define VB_STALL_RETRY		HZ
#define VB_STALL_MS		1000
#define VB_PACE			HZ
#define VB_ENLIST_DELAY		HZ
#define VB_ENLIST_STEP		VB_PAGES(SZ_64M)	/* at a time */

#define VB_BACKOFF_MIN_MS	200
#define VB_BACKOFF_MAX_MS	30000
#define VB_HOLD_OFF_MIN		(5 * HZ)
#define VB_HOLD_OFF_MAX		(300 * HZ)

/*
 * Free memory with the host before it has answered: half of what there is, or
 * this if that is more. For how long a host is watched after each answer, and
 * how far into a round. The first nudge meanwhile.
 */
#define VB_HINT_BURST		VB_PAGES(SZ_128M)
#define VB_HINT_WATCH_US	5000
#define VB_HINT_WATCH		HZ
#define VB_HINT_NUDGE_US	250
#define VB_HINT_CMDS		4
#define VB_HINT_QUIET		(HZ / 50)

/* Hosts pause and take snapshots; the reset after this is the last resort. */
#define VB_REPORT_PATIENCE	(15 * HZ)

/* No suspend for so long after the host's wish or a step towards it. */
#define VB_AWAKE_MS		3000

#define VB_OOM_STEP_MIN		VB_PAGES(SZ_1M)
#define VB_OOM_STEP_MAX		VB_PAGES(SZ_64M)
#define VB_OOM_REPEAT		(10 * HZ)

/*
 * Parameters
 */

/* An integer parameter and what it may be */
struct vb_range {
	int value;
	int min;
	int max;
};

/* Context: may sleep. @val: from sysfs it ends with a newline */
static int vb_range_set(const char *val, const struct kernel_param *kp)
{
	struct vb_range *range = kp->arg;
	int value, rc;

	rc = kstrtoint(val, 0, &value);
	if (!rc && (value < range->min || value > range->max))
		rc = -ERANGE;
	if (rc)
		pr_err("%s=%.*s refused: allowed are %d to %d\n", kp->name,
		       (int)strcspn(val, "\n"), val, range->min, range->max);
	else
		WRITE_ONCE(range->value, value);
	return rc;
}

static int vb_range_get(char *buffer, const struct kernel_param *kp)
{
	const struct vb_range *range = kp->arg;

	return sysfs_emit(buffer, "%d\n", READ_ONCE(range->value));
}

static const struct kernel_param_ops vb_range_ops = {
	.set = vb_range_set,
	.get = vb_range_get,
};

static struct vb_range vb_oom_pages = { .value = 0, .max = SZ_1M };
module_param_cb(oom_pages, &vb_range_ops, &vb_oom_pages, 0644);
__MODULE_PARM_TYPE(oom_pages, "int");
MODULE_PARM_DESC(oom_pages, "4 KiB pages to give back each time the guest runs out of memory, 0 to 1048576 (default 0: 256, growing while that repeats)");

static struct vb_range vb_floor_mib = { .value = -1, .min = -1, .max = SZ_1M };
module_param_cb(floor, &vb_range_ops, &vb_floor_mib, 0644);
__MODULE_PARM_TYPE(floor, "int");
MODULE_PARM_DESC(floor, "MiB of available memory that inflation leaves to the guest, 0 to 1048576 (default -1: by its size, 64 KiB times the square root of its RAM in KiB)");

static struct vb_range vb_pfns_per_buffer = {
	.value = 256, .min = 16, .max = 4096
};
module_param_cb(pfns_per_buffer, &vb_range_ops, &vb_pfns_per_buffer, 0444);
__MODULE_PARM_TYPE(pfns_per_buffer, "int");
MODULE_PARM_DESC(pfns_per_buffer, "4 KiB pages per buffer, 16 to 4096 (default 256; more only on QEMU: 512 for hugetlb memory. Other hosts ignore or never answer larger buffers)");

static struct vb_range vb_hint_order = {
	.value = -1, .min = -1, .max = VB_MAX_ORDER
};
module_param_cb(hint_order, &vb_range_ops, &vb_hint_order, 0644);
__MODULE_PARM_TYPE(hint_order, "int");
MODULE_PARM_DESC(hint_order, "smallest blocks of free page hinting, 2^order guest pages (default -1: 2 MiB)");

static struct vb_range vb_report_order = { .value = 0, .max = VB_MAX_ORDER };
module_param_cb(report_order, &vb_range_ops, &vb_report_order, 0444);
__MODULE_PARM_TYPE(report_order, "int");
MODULE_PARM_DESC(report_order, "smallest blocks of free page reporting, 2^order guest pages (default 0: 2 MiB)");

/* A parameter that is one of some words */
struct vb_choice {
	const char * const *words;	/* up to NULL */
	const char *allowed;		/* as a sentence has them */
	unsigned int value;		/* index */
};

static int vb_choice_set(const char *val, const struct kernel_param *kp)
{
	struct vb_choice *choice = kp->arg;
	int value = __sysfs_match_string(choice->words, -1, val);

	if (value < 0) {
		pr_err("%s=%s refused: allowed are %s\n", kp->name, val,
		       choice->allowed);
		return value;
	}
	choice->value = value;
	return 0;
}

static int vb_choice_get(char *buffer, const struct kernel_param *kp)
{
	const struct vb_choice *choice = kp->arg;

	return sysfs_emit(buffer, "%s\n", choice->words[choice->value]);
}

static const struct kernel_param_ops vb_choice_ops = {
	.set = vb_choice_set,
	.get = vb_choice_get,
};

#define VB_STATS_SPEC		1

static struct vb_choice vb_stats_set = {
	.words = (const char * const []){ "all", "spec", NULL },
	.allowed = "spec and all",
};
module_param_cb(stats, &vb_choice_ops, &vb_stats_set, 0444);
__MODULE_PARM_TYPE(stats, "string");
MODULE_PARM_DESC(stats, "statistics for the host: all (default, tags 0 to 15) or spec (0 to 9: Firecracker before 1.14 and kvmtool break on more)");

#define VB_DEFLATE_SHRINKER	1

static struct vb_choice vb_deflate_mode = {
	.words = (const char * const []){ "oom", "shrinker", NULL },
	.allowed = "oom and shrinker",
};
module_param_cb(deflate_mode, &vb_choice_ops, &vb_deflate_mode, 0444);
__MODULE_PARM_TYPE(deflate_mode, "string");
MODULE_PARM_DESC(deflate_mode, "with DEFLATE_ON_OOM the guest takes pages back: oom (default, when reclaim has failed) or shrinker (as a part of reclaim, and on OOM)");

/*
 * Types
 */

struct vb;

/*
 * PFNs, the pages behind them, and the token of the virtqueue. Owned by its
 * queue's pool, by whoever fills it, or by the device.
 */
struct vb_buf {
	struct list_head node;		/* in the pool */
	struct list_head runs;		/* pages that wait for the host */
	struct page *moved;		/* or the one page of a migration */
	unsigned int nr_pages;
	__virtio32 *pfns;		/* shared with the device: write only */
};

/* A command on the hintq: 4 bytes (B30), the device's while in flight */
struct vb_cmd {
	__virtio32 id;
	bool in_flight;
};

/* One direction: its ring and its pool of buffers; no pool for free pages */
struct vb_queue {
	struct virtqueue *vq;
	spinlock_t lock;		/* the ring and the fields to @wait */
	struct list_head free;
	unsigned int nr_bufs;
	unsigned int nr_free;
	unsigned int reserve;		/* so many are left to the OOM path */
	unsigned int group;		/* so many go to the host at a time */
	unsigned int in_flight;
	unsigned int unkicked;		/* added since the last kick */
	bool silent;			/* waited for in vain, nothing used since */
	unsigned long nr_used;
	unsigned long nr_kicks;
	wait_queue_head_t wait;		/* the host used a buffer */
	unsigned int longest_wait;	/* ms; statistics, unlocked */

	/* Takes what the host used, in the context of whoever reaps it. */
	void (*used)(struct vb *vb, struct vb_buf *buf);
};

/* What sizing does or waits for; one setter, vb_set_state() */
enum vb_state {
	VB_IDLE,	/* the balloon has the size that the host asked for */
	VB_INFLATING,
	VB_DEFLATING,
	VB_FLOOR,	/* more would leave the guest too little; back-off */
	VB_NO_MEMORY,	/* no page to be had; back-off */
	VB_HOLD_OFF,	/* pages went back on OOM or to reclaim; a pause */
	VB_STALLED,	/* the host does not use our buffers; asking again */
	VB_BROKEN,	/* the device died and was reset; it has no page */
	VB_NR_STATES
};

static const struct {
	const char *name;
	const char *why;
} vb_states[VB_NR_STATES] = {
	[VB_IDLE]	= { "idle", "target reached" },
	[VB_INFLATING]	= { "inflating", "below target" },
	[VB_DEFLATING]	= { "deflating", "above target" },
	[VB_FLOOR]	= { "floor", "the guest needs what it has left" },
	[VB_NO_MEMORY]	= { "no-memory", "the guest has no page to give" },
	[VB_HOLD_OFF]	= { "hold-off", "the guest was just short of memory" },
	[VB_STALLED]	= { "stalled", "the host does not answer" },
	[VB_BROKEN]	= { "broken", "the device failed; all pages are back" },
};

enum vb_phase {
	VB_RUNNING,	/* works may be queued, waits may last */
	VB_STOPPING,	/* no work is queued, every wait ends */
	VB_CLOSING,	/* works are gone; the last pages are returned */
};

/*
 * Queues in the order of the specification. Devices number them densely over
 * what they offer, so a queue is set up if and only if its feature is.
 */
enum vb_queue_nr {
	VB_Q_INFLATE,
	VB_Q_DEFLATE,
	VB_Q_STATS,
	VB_Q_HINT,
	VB_Q_REPORT,
	VB_NR_QUEUES
};

struct vb {
	struct virtio_device *vdev;
	struct balloon_dev_info info;	/* held pages on mm's list; mm's lock */
	struct list_head runs;		/* held pages that mm has not yet */
	struct list_head spares;	/* pages for which mm moved held ones */
	unsigned long nr_spares;
	spinlock_t runs_lock;		/* the three above; @hinted, @nr_hinted */
	struct vb_queue inflateq;
	struct vb_queue deflateq;
	bool must_tell;			/* MUST_TELL_HOST */
	bool oom;			/* DEFLATE_ON_OOM */
	bool little_endian;
	unsigned long buf_pages;	/* guest pages a buffer */

	spinlock_t gate;		/* @phase against queueing; irq */
	enum vb_phase phase;
	bool broken;			/* the device needs a reset */
	int check_status;		/* the configuration changed */
	struct mutex reset_lock;
	bool was_reset;			/* no page is the device's any more */

	struct workqueue_struct *wq;
	struct delayed_work sizing;
	struct delayed_work publish;
	struct delayed_work enlist;

	atomic_long_t offered;		/* pages on the inflateq */
	atomic_long_t held;		/* pages `actual` counts */
	bool collecting;		/* some are in buffers, to be announced */
	atomic_long_t away;		/* offered, held or returning pages */
	atomic_long_t returned;		/* pages freed after deflating, ever */

	/* Sizing work only; the status file reads them. */
	enum vb_state state;
	struct ratelimit_state log_limit;
	u32 num_pages;			/* the host's wish, 4 KiB pages */
	unsigned long target;		/* and what the guest makes of it */
	unsigned int retries;		/* of a back-off */
	unsigned int logged;		/* bits: states logged at this target */
	bool paced;			/* OOM since the last target */
	struct task_struct *taker;	/* who takes pages for the balloon */

	/* OOM notifier and shrinker; a new target resets the hold-off. */
	struct notifier_block oom_nb;
	unsigned long oom_step;
	unsigned long oom_count;
	atomic_long_t shrunk;		/* pages, by the shrinker, ever */
	unsigned long hold_off;		/* jiffies; 0: none */
	u64 oom_last;			/* jiffies64, if nothing else is said */
	u64 hold_until;

	/* Publish work writes them. */
	bool unpublished;		/* `actual` may be somebody else's */
	u32 published;			/* 4 KiB pages */
	u64 published_at;
	unsigned long nr_published;

	atomic_long_t migrated;		/* pages, ever */
	bool eager;			/* memory is going offline */

	struct notifier_block reboot_nb;
	struct notifier_block pm_nb;
	bool hibernating;		/* the image needs all memory */
	bool emptying;			/* so sizing takes no more */

	struct vb_queue hintq;
	struct delayed_work hint;
	struct vb_cmd cmds[VB_HINT_CMDS];
	int check_hint;			/* the configuration changed */
	unsigned long hint_news;	/* when; jiffies */
	/* Hint work only, see there */
	u32 hint_num_pages;
	u32 hint_wanted;
	u32 hint_begun;
	bool hint_open;
	unsigned int hint_now;		/* order that there still is */
	unsigned long hint_left;	/* blocks of that to take */
	unsigned long hint_burst;	/* pages at a time */
	ktime_t hint_since;		/* when the host last used something */
	unsigned long hint_watch;	/* until when to watch it; jiffies */
	unsigned long nr_rounds;
	bool hint_pressed;		/* the guest needs its memory */
	atomic_long_t hinting;		/* pages that the host has not used */
	atomic_long_t hints;		/* pages, ever */
	struct list_head hinted;	/* blocks it has used; runs_lock */
	unsigned long nr_hinted;	/* their pages; runs_lock */

	struct vb_queue reportq;
	struct page_reporting_dev_info reporter;
	struct list_head reporters;	/* these: vb_reporters_lock */
	bool reporting;
	int report_error;
	unsigned long nr_reports;	/* mm's worker only */
	unsigned long reported;		/* pages, ever */

	bool poison;			/* PAGE_POISON */

	struct shrinker *shrinker;
	struct notifier_block memory_nb;

	struct virtqueue *statsq;
	struct workqueue_struct *stats_wq;
	struct delayed_work stats_work;
	u64 stats_at;
	unsigned long nr_stats;
	struct virtio_balloon_stat *stats;	/* the statsq's one buffer */
	unsigned long *events;		/* room for all_vm_events() */

	struct dentry *debugfs;
};

/*
 * Policy: pure functions, no device. Pages are guest pages, times jiffies.
 */

/**
 * vb_target() - what the host asks for
 * @num_pages: its wish, 4 KiB pages
 * @total: all the memory the guest has
 *
 * Rounded up, so that `actual` reaches @num_pages on large guest pages too.
 */
static unsigned long vb_target(u32 num_pages, unsigned long total)
{
	return min_t(u64, ((u64)num_pages + VB_PPP - 1) / VB_PPP, total);
}

/**
 * vb_floor() - available memory that inflation leaves to the guest
 * @total: all the memory the guest has
 * @mib: the parameter, MiB, negative for the default
 *
 * The default grows with the square root, as the kernel's own reserves do:
 * 32 MiB of 256 MiB, 64 MiB of 1 GiB, 512 MiB of 64 GiB.
 */
static unsigned long vb_floor(unsigned long total, int mib)
{
	if (mib >= 0)
		return (unsigned long)mib << (20 - PAGE_SHIFT);
	return (64 * int_sqrt(VB_KIB(total))) >> (PAGE_SHIFT - 10);
}

/**
 * vb_room() - pages one step may take
 * @need: pages missing to the target
 * @available: as MemAvailable in /proc/meminfo
 * @floor: see vb_floor()
 * @paced: the guest ran out of memory at this target before
 *
 * After an OOM the way back is slow and ends at twice the floor: what the
 * guest needed once it will need again.
 *
 * Return: 0 if the floor is reached.
 */
static unsigned long vb_room(unsigned long need, unsigned long available,
			     unsigned long floor, bool paced)
{
	unsigned long room;

	if (paced)
		floor *= 2;
	room = available > floor ? available - floor : 0;
	if (room < VB_MIN_STEP && room < need)
		return 0;
	if (paced)
		room = max(room / 8, VB_MIN_STEP);
	return min3(need, room, VB_STEP);
}

/* Milliseconds to the @retry'th new attempt: 200, 400 .. 30000 */
static unsigned int vb_backoff_ms(unsigned int retry)
{
	return min_t(unsigned int, VB_BACKOFF_MIN_MS << min(retry, 10U),
		     VB_BACKOFF_MAX_MS);
}

/**
 * vb_hold_off_next() - how long not to inflate after an OOM
 * @hold_off: the last hold-off, 0 if none
 * @since: since that ended, negative if it has not
 *
 * Doubles if the guest ran out of memory soon after inflation went on.
 */
static unsigned long vb_hold_off_next(unsigned long hold_off, s64 since)
{
	if (!hold_off || since > (s64)hold_off)
		return VB_HOLD_OFF_MIN;
	if (since < 0)
		return hold_off;
	return min_t(unsigned long, 2 * hold_off, VB_HOLD_OFF_MAX);
}

/**
 * vb_oom_step_next() - pages to give back on an OOM
 * @step: what was asked of the last one, 0 if none
 * @since: since then
 * @param: the parameter, 4 KiB pages, 0 for the default
 */
static unsigned long vb_oom_step_next(unsigned long step, u64 since, int param)
{
	if (param)
		return DIV_ROUND_UP((unsigned int)param, VB_PPP);
	if (!step || since > VB_OOM_REPEAT)
		return VB_OOM_STEP_MIN;
	return min(4 * step, VB_OOM_STEP_MAX);
}

/* Jiffies until @due; 0 if that has passed. 32 bits would come around. */
static unsigned long vb_until(u64 due)
{
	u64 now = get_jiffies_64();

	return due > now ? due - now : 0;
}

/* All the memory of the guest: what mm manages and what we took out of that. */
static unsigned long vb_total(struct vb *vb)
{
	return totalram_pages() +
	       (vb->oom ? 0 : atomic_long_read(&vb->held));
}

static unsigned long vb_floor_now(struct vb *vb)
{
	return vb_floor(vb_total(vb), READ_ONCE(vb_floor_mib.value));
}

/*
 * Queues and their buffers
 */

/* Context: any, while the queues exist. */
static bool vb_is_broken(struct vb *vb)
{
	return READ_ONCE(vb->broken) || virtqueue_is_broken(vb->inflateq.vq) ||
	       virtqueue_is_broken(vb->deflateq.vq) ||
	       (vb->hintq.vq && virtqueue_is_broken(vb->hintq.vq)) ||
	       (vb->reportq.vq && virtqueue_is_broken(vb->reportq.vq));
}

/*
 * Queues @work unless the driver stops. Context: any, irq too. Without a delay
 * a pending work is pulled forward; with one it stays where it is.
 */
static void vb_queue_work(struct vb *vb, struct workqueue_struct *wq,
			  struct delayed_work *work, unsigned long delay)
{
	unsigned long flags;

	spin_lock_irqsave(&vb->gate, flags);
	if (vb->phase == VB_RUNNING) {
		if (delay)
			queue_delayed_work(wq, work, delay);
		else
			mod_delayed_work(wq, work, 0);
	}
	spin_unlock_irqrestore(&vb->gate, flags);
}

static void vb_set_phase(struct vb *vb, enum vb_phase phase)
{
	unsigned long flags;

	spin_lock_irqsave(&vb->gate, flags);
	WRITE_ONCE(vb->phase, phase);
	spin_unlock_irqrestore(&vb->gate, flags);
}

static void vb_queue_sizing(struct vb *vb, unsigned long delay)
{
	vb_queue_work(vb, vb->wq, &vb->sizing, delay);
}

static void vb_queue_hint(struct vb *vb)
{
	if (vb->hintq.vq)
		vb_queue_work(vb, vb->wq, &vb->hint, 0);
}

/*
 * The last resort: after a reset no page is the device's, whatever it answered.
 * A function that was pulled out reads as all ones, and would never finish.
 * Context: process, may sleep.
 */
static void vb_reset(struct vb *vb)
{
	struct virtio_device *vdev = vb->vdev;

	mutex_lock(&vb->reset_lock);
	if (!vb->was_reset) {
		WRITE_ONCE(vb->broken, true);
		virtio_break_device(vdev);
		if (vdev->config->get_status(vdev) != 0xff)
			virtio_reset_device(vdev);
		WRITE_ONCE(vb->was_reset, true);
		wake_up_all(&vb->reportq.wait);
		/* They take back what the device had. */
		vb_queue_sizing(vb, 0);
		vb_queue_hint(vb);
	}
	mutex_unlock(&vb->reset_lock);
}

/* The callback of inflateq and deflateq. Context: irq */
static void vb_queue_used(struct virtqueue *vq)
{
	struct vb *vb = vq->vdev->priv;
	bool inflate = vq == vb->inflateq.vq;

	wake_up(inflate ? &vb->inflateq.wait : &vb->deflateq.wait);
}

/* A buffer from the pool, or NULL; leaves @keep of them there. */
static struct vb_buf *vb_buf_get(struct vb_queue *q, unsigned int keep)
{
	struct vb_buf *buf = NULL;

	spin_lock(&q->lock);
	if (q->nr_free > keep) {
		buf = list_first_entry(&q->free, struct vb_buf, node);
		list_del(&buf->node);
		q->nr_free--;
	}
	spin_unlock(&q->lock);
	return buf;
}

static void vb_buf_put(struct vb_queue *q, struct vb_buf *buf)
{
	buf->nr_pages = 0;
	buf->moved = NULL;
	spin_lock(&q->lock);
	list_add(&buf->node, &q->free);
	q->nr_free++;
	spin_unlock(&q->lock);
}

/* Appends the PFNs of @nr pages; the caller knows that there is room. */
static void vb_buf_add(struct vb *vb, struct vb_buf *buf, struct page *page,
		       unsigned int nr)
{
	__virtio32 *to = buf->pfns + buf->nr_pages * VB_PPP;
	u32 pfn = page_to_pfn(page) * VB_PPP;
	unsigned int i;

	for (i = 0; i < nr * VB_PPP; i++)
		to[i] = __cpu_to_virtio32(vb->little_endian, pfn + i);
	buf->nr_pages += nr;
}

/* Of a buffer with pages, for tracing */
static unsigned long vb_first_pfn(struct list_head *runs)
{
	return page_to_pfn(list_first_entry(runs, struct page, lru));
}

/* Tells the host about all buffers since the last kick. */
static void vb_kick(struct vb_queue *q)
{
	bool notify = false;

	spin_lock(&q->lock);
	if (q->unkicked) {
		notify = virtqueue_kick_prepare(q->vq);
		q->nr_kicks += notify;
		q->unkicked = 0;
	}
	spin_unlock(&q->lock);
	if (notify)
		virtqueue_notify(q->vq);
}

/*
 * Tells the host once more, whether it wanted to know or not: some look away
 * for a while and do not look again (QEMU's I/O thread as it goes to sleep,
 * StratoVirt after a snapshot).
 */
static void vb_nudge(struct vb_queue *q)
{
	virtqueue_notify(q->vq);
}

/*
 * Exposes memory to the device, which gives @token back with it: to read, or
 * to write if @in. Return: 0, -EIO if the device is broken, -ENOSPC if the ring
 * is full, -ENOMEM if the DMA layer has no room.
 */
static int vb_add(struct vb_queue *q, struct scatterlist *sg, bool in,
		  void *token)
{
	int rc;

	spin_lock(&q->lock);
	rc = virtqueue_add_sgs(q->vq, &sg, !in, in, token,
			       GFP_ATOMIC | __GFP_NOWARN);
	if (!rc) {
		q->in_flight++;
		q->unkicked++;
	}
	spin_unlock(&q->lock);
	return rc && virtqueue_is_broken(q->vq) ? -EIO : rc;
}

/**
 * vb_submit() - expose a buffer to the device
 * @q: its queue
 * @buf: filled; the device's from now on
 *
 * Return: 0, or as vb_add() and @buf is still the caller's. There always is
 * room in the ring: a pool is no larger.
 */
static int vb_submit(struct vb_queue *q, struct vb_buf *buf)
{
	unsigned int nr = buf->nr_pages * VB_PPP;
	struct scatterlist sg;
	int rc;

	sg_init_one(&sg, buf->pfns, nr * sizeof(*buf->pfns));
	rc = vb_add(q, &sg, false, buf);
	if (READ_ONCE(q->unkicked) >= q->group)
		vb_kick(q);
	return rc;
}

/*
 * What the host used next, by the token that it was added with, or NULL. B19:
 * its length says nothing.
 */
static void *vb_next_used(struct vb_queue *q)
{
	unsigned int len;
	void *token;

	spin_lock(&q->lock);
	token = virtqueue_get_buf(q->vq, &len);
	if (token) {
		q->in_flight--;
		q->nr_used++;
		q->silent = false;
	}
	spin_unlock(&q->lock);
	return token;
}

/* Takes back all that the host used by now; returns how many buffers. */
static unsigned int vb_reap(struct vb *vb, struct vb_queue *q)
{
	struct vb_buf *buf;
	unsigned int nr = 0;

	while ((buf = vb_next_used(q))) {
		q->used(vb, buf);
		vb_buf_put(q, buf);
		nr++;
	}
	if (nr)
		wake_up(&q->wait);
	return nr;
}

/* Why a wait must end before the host answers, or 0 */
static int vb_wait_ends(struct vb *vb)
{
	if (vb_is_broken(vb))
		return -EIO;
	return READ_ONCE(vb->phase) == VB_STOPPING ? -ECANCELED : 0;
}

static void vb_waited(struct vb *vb, struct vb_queue *q, unsigned long start,
		      int rc)
{
	unsigned int nr = q == &vb->inflateq ? VB_Q_INFLATE :
			  q == &vb->deflateq ? VB_Q_DEFLATE : VB_Q_REPORT;
	unsigned int ms = jiffies_to_msecs(jiffies - start);

	if (ms > q->longest_wait)
		q->longest_wait = ms;
	if (rc == -ETIMEDOUT && ms >= VB_STALL_MS)
		trace_virtio_balloon_stall(vb->vdev->index, nr, q->in_flight,
					   ms);
}

/*
 * Asks for an interrupt after most of the buffers in flight, where the device
 * can do that. Return: what virtqueue_poll() wants to know.
 */
static unsigned int vb_arm(struct vb_queue *q)
{
	unsigned int last;

	spin_lock(&q->lock);
	last = virtqueue_enable_cb_prepare(q->vq);
	virtqueue_enable_cb_delayed(q->vq);
	spin_unlock(&q->lock);
	return last;
}

static void vb_disarm(struct vb_queue *q)
{
	spin_lock(&q->lock);
	virtqueue_disable_cb(q->vq);
	spin_unlock(&q->lock);
}

/**
 * vb_wait() - wait until the host has used a buffer
 * @vb: the balloon
 * @q: the queue
 * @deadline: jiffies
 *
 * A device that broke wakes nobody, and another waiter may have disarmed the
 * queue: hence the slices. Context: process, may sleep.
 *
 * Return: 0 if there is something to reap, somebody else reaped it or nothing
 * is in flight yet, -ETIMEDOUT, -EIO if the device is broken, -ECANCELED if the
 * driver stops.
 */
static int vb_wait(struct vb *vb, struct vb_queue *q, unsigned long deadline)
{
	unsigned long start = jiffies, seen = READ_ONCE(q->nr_used);
	unsigned int last;
	int rc = 0;

	vb_kick(q);
	while (!rc && READ_ONCE(q->in_flight)) {
		last = vb_arm(q);
		wait_event_timeout(q->wait, virtqueue_poll(q->vq, last) ||
				   READ_ONCE(q->nr_used) != seen ||
				   vb_wait_ends(vb), VB_SLICE);
		rc = vb_wait_ends(vb);
		if (virtqueue_poll(q->vq, last) ||
		    READ_ONCE(q->nr_used) != seen)
			break;
		if (!rc && time_after_eq(jiffies, deadline))
			rc = -ETIMEDOUT;
		vb_nudge(q);
	}
	/* All buffers are in the hands of others, who do not get to run. */
	if (!rc && !READ_ONCE(q->in_flight) && time_after(jiffies, deadline))
		rc = -ETIMEDOUT;
	vb_disarm(q);
	vb_waited(vb, q, start, rc);
	return rc;
}

/*
 * Makes some progress: takes back what the host used, or waits until it or
 * somebody else does. Errors as vb_wait(), and -EAGAIN if there is progress, but
 * not in time.
 */
static int vb_reap_wait(struct vb *vb, struct vb_queue *q,
			unsigned long deadline)
{
	int rc = 0;

	if (vb_reap(vb, q))
		cond_resched();
	else
		rc = vb_wait(vb, q, deadline);
	if (!rc && time_after(jiffies, deadline)) {
		vb_reap(vb, q);
		rc = -EAGAIN;
	}
	return rc;
}

/* vb_buf_get() that waits; errors as vb_reap_wait(). */
static struct vb_buf *vb_buf_wait(struct vb *vb, struct vb_queue *q,
				  unsigned long deadline)
{
	struct vb_buf *buf = NULL;
	int rc = 0;

	while (!rc && !(buf = vb_buf_get(q, q->reserve)))
		rc = vb_reap_wait(vb, q, deadline);
	return buf ?: ERR_PTR(rc);
}

/* Until the host has used every buffer of @q; errors as vb_reap_wait(). */
static int vb_drain(struct vb *vb, struct vb_queue *q, unsigned long deadline)
{
	int rc = 0;

	while (READ_ONCE(q->in_flight) && !rc)
		rc = vb_reap_wait(vb, q, deadline);
	return READ_ONCE(q->in_flight) ? rc : 0;
}

/*
 * Lets the queue run empty, before each group of buffers: QEMU takes them until
 * there is none, and does nothing else meanwhile, for the guest's disks or its
 * user. A host that keeps a buffer is not waited for, one that uses none only
 * once, and none for long if there is news. Context: sizing work; in teardown
 * it does not wait
 */
static void vb_pause(struct vb *vb, struct vb_queue *q)
{
	int rc = 0;

	vb_reap(vb, q);
	if (READ_ONCE(q->silent) || READ_ONCE(vb->phase) == VB_CLOSING)
		return;
	while (READ_ONCE(q->in_flight) && !rc) {
		rc = vb_reap_wait(vb, q, jiffies + VB_SLICE);
		if (delayed_work_pending(&vb->sizing))
			break;
	}
	spin_lock(&q->lock);
	q->silent = q->in_flight && rc == -ETIMEDOUT;
	spin_unlock(&q->lock);
}

/* A step that takes long, or that the host may no longer want, is cut short. */
static bool vb_step_ends(struct vb *vb, unsigned long deadline)
{
	return time_after(jiffies, deadline) ||
	       delayed_work_pending(&vb->sizing);
}

/*
 * Runs: neighbouring pages of one zone, from and to the allocator
 */

/* The block that is being dealt out to buffers */
struct vb_block {
	struct page *page;
	unsigned int nr;		/* pages left of it */
};

static unsigned long vb_run_pages(struct page *run)
{
	return vb_page_index(run);
}

static void vb_set_run_pages(struct page *run, unsigned long nr)
{
	vb_page_index(run) = nr;
}

/* struct pages need not be neighbours where their pages are. */
static struct page *vb_nth(struct page *run, unsigned long n)
{
	return pfn_to_page(page_to_pfn(run) + n);
}

static void vb_add_run(struct list_head *runs, struct page *run,
		       unsigned long nr)
{
	vb_set_run_pages(run, nr);
	list_add_tail(&run->lru, runs);
}

/* Makes runs of single pages in ascending order; empties @pages. */
static void vb_gather(struct list_head *pages, struct list_head *runs)
{
	struct page *page, *next, *run = NULL;
	unsigned long nr = 0;

	list_for_each_entry_safe(page, next, pages, lru) {
		if (run && page_to_pfn(page) == page_to_pfn(run) + nr &&
		    page_zone(page) == page_zone(run)) {
			vb_set_run_pages(run, ++nr);
			continue;
		}
		run = page;
		nr = 1;
		list_del(&run->lru);
		vb_add_run(runs, run, nr);
	}
	INIT_LIST_HEAD(pages);
}

/* Since 6.16 mm adds up its reserves anew each time, and does not lock that. */
static DEFINE_SPINLOCK(vb_managed_lock);

static void vb_adjust_run(struct page *run, long nr)
{
	spin_lock(&vb_managed_lock);
	adjust_managed_page_count(run, nr);
	spin_unlock(&vb_managed_lock);
}

/*
 * Without DEFLATE_ON_OOM the pages of the balloon are not the guest's:
 * MemTotal follows what is held.
 */
static void vb_adjust_managed(struct vb *vb, struct list_head *runs, long sign)
{
	struct page *run;

	if (vb->oom)
		return;
	list_for_each_entry(run, runs, lru)
		vb_adjust_run(run, sign * vb_run_pages(run));
}

/* Those that are in the balloon, but not on mm's list, which counts its own. */
static void vb_account(struct list_head *runs, long sign)
{
	struct page *run;

	list_for_each_entry(run, runs, lru)
		vb_balloon_account(run, sign * vb_run_pages(run));
}

/*
 * Frees the aligned block of @order at @page as one: the reverse of
 * split_page(). Fails if somebody, say a compaction scanner, holds a passing
 * reference to one of its pages, if one is bad, as mm keeps those out of the
 * free lists one by one, or if mm counts each page for who allocated it.
 */
static bool vb_free_block(struct page *page, unsigned int order)
{
	unsigned int i, nr = 1U << order;

	if (nr > 1 && (PageHWPoison(page) || vb_pages_are_tagged()))
		return false;
	for (i = 1; i < nr; i++) {
		if (PageHWPoison(page + i) || !page_ref_freeze(page + i, 1))
			break;
		vb_balloon_forget(page + i);
	}
	if (i == nr) {
		__free_pages(page, order);
		return true;
	}
	while (--i)
		page_ref_unfreeze(page + i, 1);
	return false;
}

/* Frees @nr pages of one zone from @pfn on, as the largest blocks they make. */
static void vb_free_run(unsigned long pfn, unsigned long nr)
{
	unsigned int i, order;
	struct page *page;

	while (nr) {
		page = pfn_to_page(pfn);
		order = min_t(unsigned int, ilog2(nr), VB_BLOCK_ORDER);
		if (pfn)
			order = min_t(unsigned int, order, __ffs(pfn));
		if (!vb_free_block(page, order))
			for (i = 0; i < 1U << order; i++)
				put_page(page + i);
		pfn += 1UL << order;
		nr -= 1UL << order;
	}
}

/* Frees pages that the balloon is done with; empties the list. */
static void vb_free_runs(struct list_head *runs)
{
	struct page *run, *next;
	unsigned long nr;

	list_for_each_entry_safe(run, next, runs, lru) {
		nr = vb_run_pages(run);
		vb_free_run(page_to_pfn(run), nr);
	}
	INIT_LIST_HEAD(runs);
}

/*
 * A page that migration left us, or NULL. Its migration may not yet have
 * unlocked it. Context: may sleep.
 */
static struct page *vb_take_spare(struct vb *vb)
{
	struct page *page;

	spin_lock(&vb->runs_lock);
	page = list_first_entry_or_null(&vb->spares, struct page, lru);
	if (page) {
		list_del(&page->lru);
		vb->nr_spares--;
	}
	spin_unlock(&vb->runs_lock);
	if (page) {
		lock_page(page);
		unlock_page(page);
	}
	return page;
}

static void vb_free_spares(struct vb *vb)
{
	struct page *page;

	while ((page = vb_take_spare(vb)))
		put_page(page);
}

/* Memory for the balloon: a block of *@order or what there is below that. */
static struct page *vb_alloc(unsigned int *order)
{
	const gfp_t one = VB_GFP | __GFP_NOMEMALLOC | __GFP_NORETRY |
			  __GFP_NOWARN;
	const gfp_t many = one & ~__GFP_RECLAIM;
	struct page *page = NULL;

	while (*order && !(page = alloc_pages(many, *order)))
		(*order)--;
	if (!page)
		page = alloc_pages(one, 0);
	if (page && *order)
		split_page(page, *order);
	return page;
}

/**
 * vb_take() - take pages for the balloon
 * @vb: the balloon
 * @block: gets them
 * @order: what to try first; what the ladder came down to
 *
 * What migration left comes first. Only single pages are worth reclaim, and
 * only once through. Context: may sleep.
 *
 * Return: 0, -ENOMEM, or -ERANGE if the pages lie above what the protocol can
 * name (16 TiB): another page's number must not be sent instead.
 */
static int vb_take(struct vb *vb, struct vb_block *block, unsigned int *order)
{
	unsigned int nr = 1;
	unsigned long pfn;

	block->page = vb_take_spare(vb);
	if (!block->page) {
		block->page = vb_alloc(order);
		nr = 1U << *order;
	}
	if (!block->page)
		return -ENOMEM;

	pfn = page_to_pfn(block->page);
	if ((u64)(pfn + nr) * VB_PPP > BIT_ULL(32)) {
		vb_free_run(pfn, nr);
		return -ERANGE;
	}
	block->nr = nr;
	return 0;
}

/*
 * Inflate
 */

/**
 * vb_fill() - fill a buffer with newly taken pages
 * @vb: the balloon
 * @buf: empty
 * @block: what the last block left over, and gets what this one leaves
 * @want: pages, in this buffer and the next ones
 *
 * Each buffer starts at the top of the ladder again: reclaim for single pages
 * may have made blocks. Return: 0 or as vb_take(), @buf then may have pages.
 */
static int vb_fill(struct vb *vb, struct vb_buf *buf, struct vb_block *block,
		   unsigned long want)
{
	unsigned long nr, room = min(want, vb->buf_pages);
	unsigned int order = VB_BLOCK_ORDER;
	int rc = 0;

	while (buf->nr_pages < room) {
		if (!block->nr) {
			order = min_t(unsigned int, order,
				      ilog2(want - buf->nr_pages));
			rc = vb_take(vb, block, &order);
			if (rc)
				break;
		}
		nr = min_t(unsigned long, block->nr, room - buf->nr_pages);
		vb_buf_add(vb, buf, block->page, nr);
		vb_add_run(&buf->runs, block->page, nr);
		block->page += nr;
		block->nr -= nr;
	}
	return rc;
}

/* Pages that were not offered after all */
static void vb_drop(struct vb *vb, struct vb_buf *buf)
{
	vb_free_runs(&buf->runs);
	vb_buf_put(&vb->inflateq, buf);
}

/* taken -> offered. Return: 0, or as vb_submit() with the pages free again. */
static int vb_offer(struct vb *vb, struct vb_buf *buf)
{
	unsigned int nr = buf->nr_pages;
	int rc;

	atomic_long_add(nr, &vb->away);
	atomic_long_add(nr, &vb->offered);
	trace_virtio_balloon_inflate(vb->vdev->index, vb_first_pfn(&buf->runs),
				     nr);
	rc = vb_submit(&vb->inflateq, buf);
	if (rc) {
		vb_drop(vb, buf);
		atomic_long_sub(nr, &vb->offered);
		atomic_long_sub(nr, &vb->away);
	}
	return rc;
}

static void vb_publish_soon(struct vb *vb)
{
	vb_queue_work(vb, vb->wq, &vb->publish,
		      vb_until(READ_ONCE(vb->published_at) +
			       VB_PUBLISH_INTERVAL) ?: 1);
}

/* offered -> held: the host used a buffer of the inflateq. */
static void vb_hold(struct vb *vb, struct vb_buf *buf)
{
	unsigned long nr = buf->nr_pages;

	trace_virtio_balloon_held(vb->vdev->index, vb_first_pfn(&buf->runs),
				  nr);
	vb_adjust_managed(vb, &buf->runs, -1);
	vb_account(&buf->runs, 1);
	atomic_long_add(nr, &vb->held);
	spin_lock(&vb->runs_lock);
	list_splice_init(&buf->runs, &vb->runs);
	spin_unlock(&vb->runs_lock);
	atomic_long_sub(nr, &vb->offered);
	vb_publish_soon(vb);
}

/* Up to @want held pages, the newest runs first; the last one may be cut. */
static unsigned int vb_take_runs(struct vb *vb, struct list_head *runs,
				 unsigned int want)
{
	unsigned int nr, left = want;
	struct page *run;

	spin_lock(&vb->runs_lock);
	while (left && !list_empty(&vb->runs)) {
		run = list_first_entry(&vb->runs, struct page, lru);
		nr = min_t(unsigned long, left, vb_run_pages(run));
		left -= nr;
		if (nr == vb_run_pages(run)) {
			list_move_tail(&run->lru, runs);
		} else {
			vb_set_run_pages(run, vb_run_pages(run) - nr);
			vb_add_run(runs, vb_nth(run, vb_run_pages(run)), nr);
		}
	}
	spin_unlock(&vb->runs_lock);
	return want - left;
}

/* Makes a list of the pages of a run, all links at once. */
static void vb_link(struct list_head *pages, struct page *run)
{
	unsigned long i, nr = vb_run_pages(run);
	struct list_head *lru, *prev = pages;

	for (i = 0; i < nr; i++) {
		lru = &vb_nth(run, i)->lru;
		lru->prev = prev;
		prev->next = lru;
		prev = lru;
	}
	prev->next = pages;
	pages->prev = prev;
}

/*
 * Hands a run to mm's list as single pages that can be migrated. Each costs as
 * much as all of inflating it, hence not while the host waits for memory, unless
 * mm waits for the pages.
 */
static void vb_enlist_run(struct vb *vb, struct page *run)
{
	LIST_HEAD(pages);

	vb_link(&pages, run);
	vb_balloon_account(run, -(long)vb_run_pages(run));
	balloon_page_list_enqueue(&vb->info, &pages);
}

/*
 * Hands one run over, the oldest; how many pages that were. None of a device
 * that is broken: mm may still look at pages which that refused.
 */
static unsigned long vb_enlist_one(struct vb *vb)
{
	struct page *run = NULL;
	unsigned long nr = 0;

	spin_lock(&vb->runs_lock);
	if (!list_empty(&vb->runs) && !vb_is_broken(vb)) {
		run = list_last_entry(&vb->runs, struct page, lru);
		list_del(&run->lru);
	}
	spin_unlock(&vb->runs_lock);
	if (run) {
		nr = vb_run_pages(run);
		vb_enlist_run(vb, run);
	}
	return nr;
}

/* Also if it inflates step by step: it pauses more than it takes then. */
static bool vb_rests(struct vb *vb)
{
	enum vb_state state = READ_ONCE(vb->state);

	if (state == VB_INFLATING)
		return READ_ONCE(vb->paced);
	return state != VB_DEFLATING && state != VB_BROKEN;
}

static bool vb_may_enlist(struct vb *vb)
{
	return vb_rests(vb) || READ_ONCE(vb->eager);
}

static void vb_enlist_later(struct vb *vb, unsigned long delay)
{
	vb_queue_work(vb, vb->wq, &vb->enlist, delay);
}

/* The sizing work queues this when it rests, or memory is to go; see above. */
static void vb_enlist_work(struct work_struct *work)
{
	struct vb *vb = container_of(to_delayed_work(work), struct vb, enlist);
	unsigned long nr, done = 0;

	do {
		nr = vb_may_enlist(vb) ? vb_enlist_one(vb) : 0;
		done += nr;
		cond_resched();
	} while (nr && done < VB_ENLIST_STEP);
	if (nr)
		vb_enlist_later(vb, READ_ONCE(vb->eager) ? 0 : 1);
}

static bool vb_holds_off(struct vb *vb)
{
	return READ_ONCE(vb->hold_off) && vb_until(READ_ONCE(vb->hold_until));
}

/*
 * Fills a group of buffers; it waits for the first only, as what is filled is
 * neither the guest's nor the host's. Not while the host works on the last one:
 * for each 4 KiB that it discards its kernel interrupts every CPU that runs a
 * part of the guest. Context: sizing work. Return: as vb_inflate(); the group
 * has what could be filled
 */
static int vb_fill_group(struct vb *vb, struct list_head *group,
			 struct vb_block *block, unsigned long want,
			 unsigned long deadline)
{
	struct vb_queue *q = &vb->inflateq;
	struct vb_buf *buf;
	unsigned int i;
	int rc = 0;

	for (i = 0; i < q->group && want && !rc; i++) {
		buf = i ? vb_buf_get(q, q->reserve) :
			  vb_buf_wait(vb, q, deadline);
		if (IS_ERR_OR_NULL(buf)) {
			rc = PTR_ERR_OR_ZERO(buf);
			break;
		}
		if (vb_holds_off(vb)) {		/* since it began to wait */
			vb_buf_put(q, buf);
			rc = -EBUSY;
			break;
		}
		rc = vb_fill(vb, buf, block, want);
		want -= buf->nr_pages;
		list_add_tail(&buf->node, group);
		cond_resched();
	}
	return rc;
}

/* Return: 0, or why what is filled is not to be offered any more */
static int vb_may_offer(struct vb *vb)
{
	return vb_holds_off(vb) ? -EBUSY :
	       READ_ONCE(vb->hibernating) ? -EAGAIN : vb_wait_ends(vb);
}

/*
 * Offers what is filled, or frees it if the guest needs memory by then. A page
 * that came back a moment ago may have been taken again: the host must hear of
 * its return first, which only the end of all deflation shows, as the two
 * queues have no order.
 */
static int vb_offer_group(struct vb *vb, struct list_head *group,
			  unsigned long *want, unsigned long deadline)
{
	struct vb_buf *buf, *next;
	unsigned int nr;
	int rc;

	rc = vb_may_offer(vb) ?: vb_drain(vb, &vb->deflateq, deadline) ?:
	     vb_may_offer(vb);
	list_for_each_entry_safe(buf, next, group, node) {
		list_del(&buf->node);
		nr = buf->nr_pages;
		if (rc || !nr) {
			vb_drop(vb, buf);
			continue;
		}
		rc = vb_offer(vb, buf);
		if (!rc)
			*want -= nr;
	}
	vb_kick(&vb->inflateq);
	vb_reap(vb, &vb->inflateq);
	return rc;
}

/**
 * vb_inflate() - offer pages to the host
 * @vb: the balloon
 * @want: guest pages; what is left of them
 *
 * Context: sizing work. Does not wait for the last group.
 *
 * Return: 0, -EAGAIN if it was cut short, -EBUSY if the guest ran out of memory
 * meanwhile, or as vb_take() and vb_reap_wait().
 */
static int vb_inflate(struct vb *vb, unsigned long *want)
{
	unsigned long deadline = jiffies + VB_PATIENCE;
	struct vb_block block = {};
	LIST_HEAD(group);
	int rc = 0, less;

	WRITE_ONCE(vb->taker, current);
	vb_pause(vb, &vb->inflateq);
	while (*want && !rc) {
		less = vb_holds_off(vb) ? -EBUSY :
		       vb_fill_group(vb, &group, &block, *want, deadline);
		rc = vb_offer_group(vb, &group, want, deadline) ?: less;
		if (!rc && *want)
			vb_pause(vb, &vb->inflateq);
		if (!rc && vb_step_ends(vb, deadline))
			rc = -EAGAIN;
	}
	WRITE_ONCE(vb->taker, NULL);
	if (block.nr)
		vb_free_run(page_to_pfn(block.page), block.nr);
	return rc;
}

/*
 * Deflate
 */

/* returning -> free */
static void vb_release(struct vb *vb, struct list_head *runs, unsigned int nr)
{
	if (!nr)
		return;
	vb_adjust_managed(vb, runs, 1);
	vb_free_runs(runs);
	atomic_long_add(nr, &vb->returned);
	atomic_long_sub(nr, &vb->away);
}

/*
 * The host used a buffer of the deflateq: with MUST_TELL_HOST its pages are
 * free now (B13), without they have been since it was offered.
 */
static void vb_returned(struct vb *vb, struct vb_buf *buf)
{
	if (buf->moved) {
		put_page(buf->moved);
		atomic_long_dec(&vb->away);
	} else if (!list_empty(&buf->runs)) {
		vb_release(vb, &buf->runs, buf->nr_pages);
	}
}

/*
 * Takes up to @want held pages off the lists. /proc/vmstat counts pages as they
 * come to mm's list and leave it; those that never came there count here.
 */
static unsigned int vb_unhold(struct vb *vb, struct list_head *runs,
			      unsigned int want)
{
	unsigned int nr = vb_take_runs(vb, runs, want);
	LIST_HEAD(pages);

	if (nr) {
		vb_account(runs, -1);
		count_vm_events(BALLOON_INFLATE, nr);
		count_vm_events(BALLOON_DEFLATE, nr);
	} else {
		nr = balloon_page_list_dequeue(&vb->info, &pages, want);
		vb_gather(&pages, runs);
	}
	return nr;
}

/*
 * The device refused: the pages stay held, the host never heard of it. They go
 * to mm's list anew, when nobody can take them for movable any more.
 */
static void vb_unhold_failed(struct vb *vb, struct list_head *runs,
			     unsigned int nr)
{
	struct page *run;
	unsigned long i;

	list_for_each_entry(run, runs, lru)
		for (i = 0; i < vb_run_pages(run); i++)
			vb_balloon_unlist(vb_nth(run, i));
	vb_account(runs, 1);
	atomic_long_add(nr, &vb->held);
	spin_lock(&vb->runs_lock);
	list_splice(runs, &vb->runs);
	spin_unlock(&vb->runs_lock);
}

/*
 * Puts up to @want held pages into an empty buffer of the deflateq, no more
 * than it has room for. Context: process and OOM; neither allocates nor sleeps.
 * Return: how many, 0 if the lists have none right now
 */
static unsigned int vb_collect(struct vb *vb, struct vb_buf *buf,
			       unsigned int want)
{
	struct page *run;

	vb_unhold(vb, &buf->runs, want);
	list_for_each_entry(run, &buf->runs, lru)
		vb_buf_add(vb, buf, run, vb_run_pages(run));
	return buf->nr_pages;
}

/**
 * vb_announce() - held -> returning: tell the host
 * @vb: the balloon
 * @buf: as vb_collect() filled it; not the caller's afterwards
 * @runs: gets the pages, if the host need not know before they are free
 *
 * Context: process and OOM; neither allocates nor sleeps.
 *
 * Return: pages announced, or as vb_submit() and they are held again.
 */
static long vb_announce(struct vb *vb, struct vb_buf *buf,
			struct list_head *runs)
{
	struct vb_queue *q = &vb->deflateq;
	unsigned int nr = buf->nr_pages;
	LIST_HEAD(returning);
	int rc;

	trace_virtio_balloon_deflate(vb->vdev->index, vb_first_pfn(&buf->runs),
				     nr);
	/* Once submitted, the buffer may come back at any time. */
	if (!vb->must_tell)
		list_splice_init(&buf->runs, &returning);
	atomic_long_sub(nr, &vb->held);
	rc = vb_submit(q, buf);
	if (rc) {
		list_splice_init(&buf->runs, &returning);
		vb_unhold_failed(vb, &returning, nr);
		vb_buf_put(q, buf);
		return rc;
	}
	list_splice_tail(&returning, runs);
	vb_publish_soon(vb);
	return nr;
}

/*
 * One buffer, and returning -> free where that is at once. Return: pages
 * announced, 0 if the lists have none, or as vb_announce()
 */
static long vb_return(struct vb *vb, struct vb_buf *buf, unsigned int want)
{
	LIST_HEAD(runs);
	long nr;

	if (!vb_collect(vb, buf, want)) {
		vb_buf_put(&vb->deflateq, buf);
		return 0;
	}
	nr = vb_announce(vb, buf, &runs);
	if (!list_empty(&runs))
		vb_release(vb, &runs, nr);
	return nr;
}

/*
 * Fills a group of buffers, while the host works on the last one; it waits for
 * the first only. Context: sizing work and teardown. Return: as vb_deflate();
 * the group has what could be collected
 */
static int vb_collect_group(struct vb *vb, struct list_head *group,
			    unsigned long want, unsigned long deadline)
{
	struct vb_queue *q = &vb->deflateq;
	struct vb_buf *buf;
	unsigned int i, nr;

	for (i = 0; i < q->group && want; i++) {
		buf = i ? vb_buf_get(q, q->reserve) :
			  vb_buf_wait(vb, q, deadline);
		if (IS_ERR_OR_NULL(buf))
			return PTR_ERR_OR_ZERO(buf);
		WRITE_ONCE(vb->collecting, true);
		nr = vb_collect(vb, buf, min(want, vb->buf_pages));
		if (!nr) {
			vb_buf_put(q, buf);
			return -ENODATA;
		}
		want -= nr;
		list_add_tail(&buf->node, group);
	}
	return 0;
}

/*
 * Announces what is collected when the host is done with the last group, and
 * frees it while the host works on it. Return: 0 if it announced any, or as
 * vb_announce()
 */
static int vb_announce_group(struct vb *vb, struct list_head *group,
			     unsigned long *want)
{
	struct vb_queue *q = &vb->deflateq;
	struct vb_buf *buf, *next;
	unsigned long done = 0;
	LIST_HEAD(runs);
	long nr;
	int rc = 0;

	if (!list_empty(group))
		vb_pause(vb, q);
	list_for_each_entry_safe(buf, next, group, node) {
		list_del(&buf->node);
		nr = vb_announce(vb, buf, &runs);
		if (nr > 0)
			done += nr;
		else
			rc = nr;
	}
	vb_kick(q);
	if (!list_empty(&runs))
		vb_release(vb, &runs, done);
	smp_store_release(&vb->collecting, false);	/* `returned` first */
	wake_up_all(&q->wait);
	vb_reap(vb, q);
	*want -= done;
	return done ? 0 : rc;
}

/**
 * vb_deflate() - give @want held pages back
 * @vb: the balloon
 * @want: guest pages
 * @deadline: jiffies, for waiting
 *
 * Context: sizing work and teardown. Does not wait for the last group.
 *
 * Return: 0, -EAGAIN if it was cut short, -ENODATA if mm has isolated the pages
 * that are left or the host has not confirmed them, or as vb_submit() and
 * vb_reap_wait().
 */
static int vb_deflate(struct vb *vb, unsigned long want,
		      unsigned long deadline)
{
	LIST_HEAD(group);
	int rc = 0, less;

	while (want && !rc) {
		less = vb_collect_group(vb, &group, want, deadline);
		rc = vb_announce_group(vb, &group, &want) ?: less;
		if (want && !rc && vb_step_ends(vb, deadline))
			rc = -EAGAIN;
		cond_resched();
	}
	return want ? rc : 0;
}

/*
 * Publishing `actual`
 */

/*
 * B17: `actual` follows every change of what is held; B18: not each on its
 * own. One writer at a time, so that the newest value is the last. Context:
 * process
 */
static void vb_publish(struct vb *vb, u32 actual)
{
	if (actual == vb->published && !vb->unpublished)
		return;
	virtio_cwrite_le(vb->vdev, struct virtio_balloon_config, actual,
			 &actual);
	trace_virtio_balloon_actual(vb->vdev->index, actual);
	vb->unpublished = false;
	vb->published = actual;
	WRITE_ONCE(vb->published_at, get_jiffies_64());
	vb->nr_published++;
}

static void vb_publish_work(struct work_struct *work)
{
	struct vb *vb = container_of(to_delayed_work(work), struct vb, publish);

	if (!vb_is_broken(vb))
		vb_publish(vb, atomic_long_read(&vb->held) * VB_PPP);
}

static void vb_publish_now(struct vb *vb)
{
	vb_queue_work(vb, vb->wq, &vb->publish, 0);
}

/*
 * After a reset
 */

/* The next token that the device still had when it was reset, or NULL */
static void *vb_next_unused(struct vb_queue *q)
{
	void *token;

	spin_lock(&q->lock);
	token = virtqueue_detach_unused_buf(q->vq);
	if (token)
		q->in_flight--;
	q->unkicked = 0;
	spin_unlock(&q->lock);
	return token;
}

/* What the device had when it was reset: offered pages or returning ones */
static void vb_reclaim_queue(struct vb *vb, struct vb_queue *q)
{
	struct vb_buf *buf;

	while ((buf = vb_next_unused(q))) {
		if (q == &vb->inflateq) {
			vb_free_runs(&buf->runs);
			atomic_long_sub(buf->nr_pages, &vb->offered);
			atomic_long_sub(buf->nr_pages, &vb->away);
		} else {
			vb_returned(vb, buf);
		}
		vb_buf_put(q, buf);
	}
}

/*
 * All pages of the balloon are the guest's, whatever the host answered. Those
 * that mm has isolated it puts back in its own time. Context: may sleep.
 */
static void vb_reclaim(struct vb *vb)
{
	LIST_HEAD(runs);
	unsigned int nr;

	vb_reclaim_queue(vb, &vb->inflateq);
	vb_reclaim_queue(vb, &vb->deflateq);
	vb_free_spares(vb);
	while (atomic_long_read(&vb->held)) {
		nr = vb_unhold(vb, &runs, vb->buf_pages);
		vb_release(vb, &runs, nr);
		atomic_long_sub(nr, &vb->held);
		if (!nr)
			msleep(VB_BACKOFF_MIN_MS);
		cond_resched();
	}
	wake_up_all(&vb->deflateq.wait);
}

/*
 * Free page hinting
 *
 * A round (B30 to B39): the host writes an id to the configuration; the driver
 * sends that id, blocks of free memory and STOP. What the host has used stays
 * with us, where nobody writes to it and the host need not copy it. It is free
 * again when the host says STOP or DONE or begins another round, or when the
 * guest needs memory. What the host has not used it may still discard (B36).
 */

static bool vb_is_cmd(struct vb *vb, void *token)
{
	return token >= (void *)vb->cmds &&
	       token < (void *)(vb->cmds + VB_HINT_CMDS);
}

/* The device is done with a block or a command. */
static void vb_hint_used(struct vb *vb, void *token)
{
	struct page *block = token;
	unsigned long nr;

	if (vb_is_cmd(vb, token)) {
		WRITE_ONCE(((struct vb_cmd *)token)->in_flight, false);
		return;
	}
	nr = 1UL << page_private(block);
	spin_lock(&vb->runs_lock);
	list_add_tail(&block->lru, &vb->hinted);
	vb->nr_hinted += nr;
	spin_unlock(&vb->runs_lock);
	atomic_long_sub(nr, &vb->hinting);
}

/* Takes back all that the host used by now; false if that is nothing. */
static bool vb_hint_reap(struct vb *vb)
{
	bool any = false;
	void *token;

	while ((token = vb_next_used(&vb->hintq))) {
		vb_hint_used(vb, token);
		any = true;
	}
	return any;
}

/*
 * Frees blocks that the host has used, at least @want pages of them. mm fills
 * them anew where it relies on what free pages hold (B37, B38). Context: any
 * process; does not sleep. Return: pages freed
 */
static unsigned long vb_hint_free(struct vb *vb, unsigned long want)
{
	unsigned long done = 0;
	struct page *block;
	unsigned int order;

	while (done < want) {
		spin_lock(&vb->runs_lock);
		block = list_first_entry_or_null(&vb->hinted, struct page, lru);
		if (block) {
			list_del(&block->lru);
			vb->nr_hinted -= 1UL << page_private(block);
		}
		spin_unlock(&vb->runs_lock);
		if (!block)
			break;
		order = page_private(block);
		set_page_private(block, 0);
		__free_pages(block, order);
		done += 1UL << order;
	}
	return done;
}

static void vb_hint_free_all(struct vb *vb)
{
	while (vb_hint_free(vb, VB_STEP))
		cond_resched();
}

/*
 * The guest needs its memory: frees at least @want pages if there are so many,
 * and lets the hint work take no more in this round. Context: any process,
 * OOM and reclaim too; does not sleep. Return: pages freed
 */
static unsigned long vb_hint_yield(struct vb *vb, unsigned long want)
{
	if (!vb->hintq.vq)
		return 0;
	WRITE_ONCE(vb->hint_pressed, true);
	vb_hint_reap(vb);
	return vb_hint_free(vb, want);
}

/*
 * Sends a command, each from memory of its own: the host may not yet have read
 * the last one. Return: 0, -ENOSPC if it must use something first, or as
 * vb_add()
 */
static int vb_hint_send(struct vb *vb, u32 id)
{
	struct vb_cmd *cmd = vb->cmds;
	struct scatterlist sg;
	int rc;

	while (READ_ONCE(cmd->in_flight))
		if (++cmd == vb->cmds + VB_HINT_CMDS)
			return -ENOSPC;
	cmd->id = cpu_to_virtio32(vb->vdev, id);
	sg_init_one(&sg, &cmd->id, sizeof(cmd->id));
	WRITE_ONCE(cmd->in_flight, true);
	rc = vb_add(&vb->hintq, &sg, false, cmd);
	if (rc)
		WRITE_ONCE(cmd->in_flight, false);
	else
		trace_virtio_balloon_hint_cmd(vb->vdev->index, id);
	return rc;
}

static unsigned int vb_hint_least(void)
{
	int order = READ_ONCE(vb_hint_order.value);

	return order < 0 ? VB_BLOCK_ORDER : order;
}

/* Free blocks of exactly that order in the guest, about */
static unsigned long vb_free_blocks(unsigned int order)
{
	struct zone *zones;
	unsigned long nr = 0;
	unsigned int i;
	int node;

	for_each_online_node(node) {
		zones = NODE_DATA(node)->node_zones;
		for (i = 0; i < MAX_NR_ZONES; i++)
			nr += READ_ONCE(zones[i].free_area[order].nr_free);
	}
	return nr;
}

/*
 * From the largest blocks to the least. Of the small ones an eighth of each
 * order is left: a guest with nothing but single pages free, however many,
 * would start to reclaim for want of larger blocks.
 */
static void vb_hint_descend(struct vb *vb, unsigned int order)
{
	unsigned long nr = vb_free_blocks(order);

	vb->hint_now = order;
	vb->hint_left = order < VB_BLOCK_ORDER ? nr - nr / 8 : ULONG_MAX;
}

/* Pages that are free in blocks of at least that order */
static long vb_free_in_blocks(unsigned int order)
{
	long nr = 0;

	for (; order <= VB_MAX_ORDER; order++)
		nr += vb_free_blocks(order) << order;
	return nr;
}

/*
 * Pages that hinting may take as blocks of vb->hint_now: the guest keeps a
 * reserve, really free. Part of it is in large blocks: with less than a tenth
 * of what is free in such, mm compacts all the time (5.9), and the host sends
 * what that moved once more.
 */
static unsigned long vb_hint_room(struct vb *vb)
{
	long free = global_zone_page_state(NR_FREE_PAGES) -
		    global_zone_page_state(NR_FREE_CMA_PAGES);
	long room = min(si_mem_available(), free) - (long)vb_floor_now(vb);
	long large;

	if (vb->hint_now >= VB_BLOCK_ORDER) {
		large = vb_free_in_blocks(VB_BLOCK_ORDER);
		room = min(room, large - max(free - large, 0L) / 6);
	}
	return max(room, 0L);
}

/* B31, B32: a round begins with its id, sent once. */
static void vb_hint_begin(struct vb *vb)
{
	if (vb_hint_send(vb, vb->hint_wanted))
		return;
	WRITE_ONCE(vb->hint_begun, vb->hint_wanted);
	WRITE_ONCE(vb->hint_open, true);
	WRITE_ONCE(vb->hint_pressed, false);
	vb_hint_descend(vb, clamp_t(unsigned int, ilog2(VB_HINT_BURST),
				    vb_hint_least(), VB_MAX_ORDER));
	vb->hint_burst = max(VB_HINT_BURST, vb_hint_room(vb) / 2);
	vb->hint_since = ktime_get();
	vb->hint_watch = jiffies + VB_HINT_WATCH;
	vb->nr_rounds++;
}

/* B35: a round ends with STOP, as soon as there is room for it. */
static void vb_hint_end(struct vb *vb)
{
	int rc = vb_hint_send(vb, VIRTIO_BALLOON_CMD_ID_STOP);

	if (!rc || rc == -EIO)
		WRITE_ONCE(vb->hint_open, false);
}

/*
 * The largest free block that there still is, or NULL. Movable, although it
 * cannot be moved: mm would turn whole page blocks into unmovable ones for
 * good. Free memory is taken, and none is made.
 */
static struct page *vb_hint_alloc(struct vb *vb)
{
	const gfp_t gfp = (GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM) |
			  __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN;
	unsigned int least = vb_hint_least();
	struct page *block = NULL;

	for (;;) {
		if (vb->hint_left && vb_hint_room(vb) >= 1UL << vb->hint_now)
			block = alloc_pages(gfp, vb->hint_now);
		if (block || vb->hint_now <= least)
			break;
		vb_hint_descend(vb, vb->hint_now - 1);
	}
	if (block) {
		set_page_private(block, vb->hint_now);
		vb->hint_left--;
	}
	return block;
}

/*
 * Lends the host one block, and leaves room for STOP. Return: 0, -EAGAIN if the
 * host must first use what it has or has changed its mind, -ENOMEM if there are
 * no more blocks, or -EIO
 */
static int vb_hint_block(struct vb *vb)
{
	struct vb_queue *q = &vb->hintq;
	struct scatterlist sg;
	struct page *block;
	unsigned long nr;
	int rc;

	if (READ_ONCE(vb->hint_pressed))
		return -ENOMEM;
	if (atomic_long_read(&vb->hinting) >= vb->hint_burst ||
	    READ_ONCE(vb->check_hint))
		return -EAGAIN;
	if (q->vq->num_free < 2)
		return READ_ONCE(q->in_flight) ? -EAGAIN : -ENOMEM;
	block = vb_hint_alloc(vb);
	if (!block)
		return -ENOMEM;

	nr = 1UL << page_private(block);
	sg_init_table(&sg, 1);
	sg_set_page(&sg, block, nr << PAGE_SHIFT, 0);
	atomic_long_add(nr, &vb->hinting);
	trace_virtio_balloon_hint(vb->vdev->index, page_to_pfn(block), nr);
	rc = vb_add(q, &sg, true, block);
	if (rc) {
		vb_hint_used(vb, block);
		return -EIO;
	}
	atomic_long_add(nr, &vb->hints);
	return 0;
}

/* For how long the host has used nothing; microseconds */
static s64 vb_hint_waits_us(struct vb *vb)
{
	return ktime_us_delta(ktime_get(), vb->hint_since);
}

/*
 * Watches the host until it uses something, as the moments are rare in which it
 * can take hints while it sends memory, and nudges it, as it may have looked
 * away when it had taken the last one. Context: hint work; busy for up to
 * VB_HINT_WATCH_US, but not in a round that takes longer than VB_HINT_WATCH: a
 * host that is so slow need not be watched. Return: whether it used something
 */
static bool vb_hint_watch(struct vb *vb)
{
	s64 nudge = VB_HINT_NUDGE_US, now;
	bool any = false;

	while ((now = vb_hint_waits_us(vb)) < VB_HINT_WATCH_US && !any &&
	       time_before(jiffies, vb->hint_watch) &&
	       !READ_ONCE(vb->check_hint) && !vb_wait_ends(vb)) {
		any = vb_hint_reap(vb);
		if (!any && now >= nudge) {
			vb_nudge(&vb->hintq);
			nudge = 2 * now;
		}
		cond_resched();
	}
	if (any)
		vb->hint_since = ktime_get();
	return any;
}

/*
 * Blocks until enough are in flight; the next look goes on. The host hears of
 * each at once, and of none while it is at it anyway.
 */
static void vb_hint_more(struct vb *vb)
{
	int rc;

	do {
		vb_kick(&vb->hintq);
		rc = vb_hint_block(vb);
		cond_resched();
	} while (!rc || (rc == -EAGAIN && vb_hint_watch(vb)));
	if (rc != -EAGAIN)
		vb_hint_end(vb);
}

/*
 * Looks again soon while the host has blocks, and ever less often if it uses
 * none: when it has had an eighth more of the time. By time, not by interrupt:
 * QEMU's I/O thread raises those of this queue without a lock, and a line
 * (INTx) so raised may stay raised for ever.
 */
static void vb_hint_poll(struct vb *vb, bool progress)
{
	bool due = vb->hint_wanted > VIRTIO_BALLOON_CMD_ID_DONE &&
		   vb->hint_wanted != vb->hint_begun;
	unsigned long delay;

	if (!atomic_long_read(&vb->hinting) && !vb->hint_open && !due &&
	    !READ_ONCE(vb->check_hint))
		return;
	if (!progress && READ_ONCE(vb->hintq.in_flight))
		vb_nudge(&vb->hintq);
	delay = clamp_t(s64, vb_hint_waits_us(vb) / 8, 1, USEC_PER_SEC);
	delay = usecs_to_jiffies(delay);
	if (READ_ONCE(vb->check_hint))
		delay = min_t(unsigned long, delay, VB_HINT_QUIET);
	vb_queue_work(vb, vb->wq, &vb->hint, delay);
}

/* After a reset: all blocks are ours. Context: hint work, or it is stopped */
static void vb_reclaim_hints(struct vb *vb)
{
	void *token;

	if (!vb->hintq.vq)
		return;
	while ((token = vb_next_unused(&vb->hintq)))
		vb_hint_used(vb, token);
	vb_hint_free_all(vb);
	wake_up_all(&vb->deflateq.wait);
	vb->hint_wanted = 0;
	WRITE_ONCE(vb->hint_begun, 0);
	WRITE_ONCE(vb->hint_open, false);
}

/*
 * What the host says, read when it has said its last word for a moment. QEMU
 * shows STOP also while it takes hints: often two words come at once, STOP and
 * the next id, and to read after the second what was begun after the first
 * would end the round. A new size is no reason to stop either. After STOP the
 * next word comes alone, and is taken at once: a migration begins, and soon the
 * host has no time for hints.
 */
static void vb_hint_read(struct vb *vb)
{
	u32 id, num_pages;
	bool resized;

	if ((vb->hint_wanted != VIRTIO_BALLOON_CMD_ID_STOP &&
	     time_before(jiffies, READ_ONCE(vb->hint_news) + VB_HINT_QUIET)) ||
	    !xchg(&vb->check_hint, 0) || vb_is_broken(vb))
		return;
	virtio_cread_le(vb->vdev, struct virtio_balloon_config, num_pages,
			&num_pages);
	virtio_cread_le(vb->vdev, struct virtio_balloon_config,
			free_page_hint_cmd_id, &id);
	resized = num_pages != vb->hint_num_pages;
	vb->hint_num_pages = num_pages;
	if (id != VIRTIO_BALLOON_CMD_ID_STOP || !resized)
		vb->hint_wanted = id;
}

/*
 * One step of the current round, or from one to the next: an open round whose
 * id the host no longer wants ends, what it took is freed, and only when the
 * host has used all of that the next one begins. An id that was begun once is
 * not begun again, however often the host repeats it.
 */
static void vb_hint_work(struct work_struct *work)
{
	struct vb *vb = container_of(to_delayed_work(work), struct vb, hint);
	bool stale, progress = vb_hint_reap(vb);

	if (READ_ONCE(vb->was_reset)) {
		vb_reclaim_hints(vb);
		return;
	}
	if (progress)
		vb->hint_since = ktime_get();
	if (READ_ONCE(vb->eager) && READ_ONCE(vb->hint_pressed))
		vb_hint_free_all(vb);
	vb_hint_read(vb);
	stale = vb->hint_wanted != vb->hint_begun;
	if (stale && vb->hint_open)
		vb_hint_end(vb);
	if (stale && !vb->hint_open) {
		vb_hint_free_all(vb);
		if (vb->hint_wanted > VIRTIO_BALLOON_CMD_ID_DONE &&
		    !atomic_long_read(&vb->hinting))
			vb_hint_begin(vb);
	}
	if (vb->hint_open && vb->hint_wanted == vb->hint_begun)
		vb_hint_more(vb);
	vb_kick(&vb->hintq);
	if (vb_is_broken(vb))
		vb_queue_sizing(vb, 0);	/* which resets the device */
	else
		vb_hint_poll(vb, progress);
}

/* The driver stops: an open round ends as it should. */
static void vb_hint_stop(struct vb *vb)
{
	if (!vb->hint_open)
		return;
	vb_hint_end(vb);
	vb_kick(&vb->hintq);
}

/*
 * Sizing
 */

/* Says once per target and state why the balloon is not what the host wants. */
static void vb_log_state(struct vb *vb, enum vb_state state)
{
	struct device *dev = &vb->vdev->dev;

	if (state < VB_FLOOR || vb->logged & BIT(state) ||
	    !__ratelimit(&vb->log_limit))
		return;
	vb->logged |= BIT(state);
	dev_printk(state >= VB_STALLED ? KERN_WARNING : KERN_INFO, dev,
		   "%s: %s; holding %llu KiB, the host asks for %llu KiB\n",
		   vb_states[state].name, vb_states[state].why,
		   VB_KIB(atomic_long_read(&vb->held)), VB_KIB(vb->target));
}

static void vb_set_state(struct vb *vb, enum vb_state state)
{
	if (state != vb->state && trace_virtio_balloon_state_enabled())
		trace_virtio_balloon_state(vb->vdev->index,
					   vb_states[vb->state].name,
					   vb_states[state].name,
					   si_mem_available(),
					   vb_floor_now(vb));
	WRITE_ONCE(vb->state, state);
	vb_log_state(vb, state);
}

/*
 * Keeps a suspend away for a moment, if the user has made the balloon a wakeup
 * source. Each step renews that; a balloon that rests or is stuck does not.
 */
static void vb_stay_awake(struct vb *vb)
{
	pm_wakeup_event(&vb->vdev->dev, VB_AWAKE_MS);
}

/* G2: a device that asks for a reset answers no more. */
static void vb_check_status(struct vb *vb)
{
	struct virtio_device *vdev = vb->vdev;

	if (!xchg(&vb->check_status, 0))
		return;
	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET)
		WRITE_ONCE(vb->broken, true);
}

/*
 * A step that begins now knows, and what steps before it took is free or counts
 * as away.
 */
static void vb_heed_hibernation(struct vb *vb)
{
	bool emptying = READ_ONCE(vb->hibernating);

	/* Pairs with vb_is_empty(). */
	smp_store_release(&vb->emptying, emptying);
	if (emptying)
		wake_up_all(&vb->deflateq.wait);
}

/*
 * Reads the host's wish, once a step. A new one starts with a clean slate; the
 * same one may mean another target when the guest's memory changed.
 */
static void vb_read_target(struct vb *vb)
{
	u32 num_pages;

	virtio_cread_le(vb->vdev, struct virtio_balloon_config, num_pages,
			&num_pages);
	WRITE_ONCE(vb->target, vb->emptying ? 0 :
		   vb_target(num_pages, vb_total(vb)));
	if (num_pages == vb->num_pages)
		return;
	trace_virtio_balloon_target(vb->vdev->index, vb->target,
				    atomic_long_read(&vb->held));
	vb->num_pages = num_pages;
	vb->retries = 0;
	vb->logged = 0;
	WRITE_ONCE(vb->paced, false);
	WRITE_ONCE(vb->hold_off, 0);
}

/*
 * Pages that the next step may take: those that migration left cost the guest
 * nothing.
 */
static unsigned long vb_step(struct vb *vb, unsigned long need)
{
	unsigned long room = vb_room(need, si_mem_available(),
				     vb_floor_now(vb), vb->paced);

	return max(room, min(need, READ_ONCE(vb->nr_spares)));
}

/*
 * Whether pages are held, or those that reclaim or OOM returned free, only when
 * somebody takes the host's answer, of which no interrupt tells
 */
static bool vb_awaits(struct vb *vb)
{
	return READ_ONCE(vb->inflateq.in_flight) ||
	       (vb->must_tell && READ_ONCE(vb->deflateq.in_flight));
}

static unsigned long vb_hold_off_delay(struct vb *vb)
{
	unsigned long delay = vb_until(READ_ONCE(vb->hold_until));

	return vb_awaits(vb) ? min_t(unsigned long, delay, VB_SLICE) : delay;
}

/* As far up as policy allows. Errors as vb_inflate(), -ENOSPC at the floor. */
static int vb_size_up(struct vb *vb, unsigned long need)
{
	unsigned long step, left;
	int rc;

	if (vb_holds_off(vb)) {
		vb_free_spares(vb);
		return -EBUSY;
	}
	if (READ_ONCE(vb->hold_off))
		WRITE_ONCE(vb->paced, true);
	step = vb_step(vb, need);
	if (!step)
		return vb_hint_yield(vb, VB_STEP) ? -EAGAIN : -ENOSPC;
	vb_set_state(vb, VB_INFLATING);
	left = step;
	rc = vb_inflate(vb, &left);
	if (left < step)
		vb->retries = 0;
	/* Reclaim gave something: it may give more while there is room. */
	if (rc == -ENOMEM && step - left >= VB_MIN_STEP)
		rc = 0;
	return rc ?: -EAGAIN;
}

static int vb_size_down(struct vb *vb, unsigned long excess)
{
	int rc;

	vb_set_state(vb, VB_DEFLATING);
	rc = vb_deflate(vb, min(excess, VB_STEP), jiffies + VB_PATIENCE);
	if (rc == -ENODATA && atomic_long_read(&vb->offered))
		rc = vb_wait(vb, &vb->inflateq, jiffies + VB_PATIENCE);
	return rc ?: -EAGAIN;
}

/**
 * vb_size() - one step towards the target
 * @vb: the balloon
 *
 * Return: 0 when the balloon has its size and the host has confirmed it,
 * -EAGAIN when there is more to do, otherwise what hinders it.
 */
static int vb_size(struct vb *vb)
{
	long need;
	int rc;

	if (vb_is_broken(vb))
		return -EIO;
	vb_reap(vb, &vb->inflateq);
	vb_reap(vb, &vb->deflateq);
	need = vb->target - atomic_long_read(&vb->held) -
	       atomic_long_read(&vb->offered);
	if (need > 0)
		return vb_size_up(vb, need);
	vb_free_spares(vb);
	if (need < 0)
		return vb_size_down(vb, -need);

	rc = vb_drain(vb, &vb->inflateq, jiffies + VB_PATIENCE);
	if (!rc)
		rc = vb_drain(vb, &vb->deflateq, jiffies + VB_PATIENCE);
	return rc;
}

/* What waits for sizing to rest; with @more to do it does so only if paced */
static void vb_step_ended(struct vb *vb, bool more)
{
	if (!more)
		vb_publish_now(vb);
	if (READ_ONCE(vb->eager))
		vb_enlist_later(vb, 0);
	else if (!more || vb->paced)
		vb_enlist_later(vb, VB_ENLIST_DELAY);
}

/*
 * What the result of a step means, and after how many jiffies the next one is
 * due: -1 if an event will tell.
 */
static enum vb_state vb_step_result(struct vb *vb, int rc, long *delay)
{
	*delay = -1;
	switch (rc) {
	case 0:
		return VB_IDLE;
	case -EAGAIN:	/* paced once the guest was in need */
		*delay = vb->paced && vb->state == VB_INFLATING ? VB_PACE : 0;
		return vb->state;
	case -ENODATA:	/* mm is migrating what is left: not for long */
		*delay = msecs_to_jiffies(VB_BACKOFF_MIN_MS);
		return VB_DEFLATING;
	case -ENOSPC:	/* memory that becomes available sends no event */
		*delay = msecs_to_jiffies(vb_backoff_ms(vb->retries++));
		return VB_FLOOR;
	case -ENOMEM:
	case -ERANGE:
		*delay = msecs_to_jiffies(vb_backoff_ms(vb->retries++));
		return VB_NO_MEMORY;
	case -EBUSY:
		*delay = vb_hold_off_delay(vb);
		return VB_HOLD_OFF;
	case -ETIMEDOUT:
		*delay = VB_STALL_RETRY;
		return VB_STALLED;
	default:
		return VB_BROKEN;
	}
}

/*
 * The sizing work: one step, then what its result means. It queues itself as
 * long as there is something to wait for that no interrupt announces.
 */
static void vb_sizing_work(struct work_struct *work)
{
	struct vb *vb = container_of(to_delayed_work(work), struct vb, sizing);
	enum vb_state state;
	long delay;
	int rc;

	vb_heed_hibernation(vb);
	vb_check_status(vb);
	if (!vb_is_broken(vb))
		vb_read_target(vb);
	rc = vb_size(vb);
	if (rc == -ECANCELED)		/* the driver stops */
		return;
	state = vb_step_result(vb, rc, &delay);
	if (state == VB_BROKEN) {
		vb_reset(vb);
		vb_reclaim(vb);
	}
	vb_set_state(vb, state);
	vb_step_ended(vb, rc == -EAGAIN);
	if (!delay && rc == -EAGAIN && !READ_ONCE(vb->hibernating))
		vb_stay_awake(vb);
	if (vb_awaits(vb))
		delay = min_t(long, delay, VB_STALL_RETRY);
	if (delay >= 0)
		vb_queue_sizing(vb, delay);
	wake_up_all(&vb->deflateq.wait);
}

/* Context: irq */
static void vb_config_changed(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;

	WRITE_ONCE(vb->check_status, 1);
	WRITE_ONCE(vb->hint_news, jiffies);
	WRITE_ONCE(vb->check_hint, 1);
	vb_stay_awake(vb);
	vb_queue_sizing(vb, 0);
	vb_queue_hint(vb);
}

/*
 * Memory pressure
 */

/* Inflation pauses, so as not to take back what the guest needs just now. */
static void vb_start_hold_off(struct vb *vb, unsigned long hold_off)
{
	WRITE_ONCE(vb->hold_until, get_jiffies_64() + hold_off);
	WRITE_ONCE(vb->hold_off, hold_off);
}

/*
 * One buffer, but for the last @keep ones; waits for the host if @wait.
 * Context: OOM and reclaim
 */
static struct vb_buf *vb_urgent_buf(struct vb *vb, unsigned int keep, bool wait)
{
	struct vb_queue *q = &vb->deflateq;
	unsigned long deadline = jiffies + VB_PATIENCE;
	struct vb_buf *buf;

	while (!(buf = vb_buf_get(q, keep))) {
		vb_kick(q);
		if (!vb_reap(vb, q) && (!wait || vb_wait(vb, q, deadline)))
			break;
		cond_resched();
	}
	return buf;
}

/*
 * Announces up to @want pages, and frees them if the host need not know first.
 * With all buffers in flight it stops at what it has, but not at nothing if the
 * guest is out of memory. Return: pages announced
 */
static unsigned long vb_urgent_deflate(struct vb *vb, unsigned long want,
				       bool oom)
{
	unsigned int keep = oom ? 0 : vb->deflateq.reserve;
	unsigned long done = 0;
	struct vb_buf *buf;
	long nr = 1;

	while (done < want && nr > 0) {
		buf = vb_urgent_buf(vb, keep, oom && !done);
		if (!buf)
			break;
		nr = vb_return(vb, buf, min(want - done, vb->buf_pages));
		done += max(nr, 0L);
	}
	vb_kick(&vb->deflateq);
	vb_reap(vb, &vb->deflateq);
	wake_up_all(&vb->deflateq.wait);
	return done;
}

/*
 * With MUST_TELL_HOST: until @want pages came back since @before, or enough.
 * Sizing may just be freeing what it took from the queue.
 */
static void vb_oom_wait(struct vb *vb, long before, unsigned long want)
{
	unsigned long deadline = jiffies + VB_PATIENCE;
	struct vb_queue *q = &vb->deflateq;
	atomic_long_t *back = &vb->returned;
	long enough = before + want;
	int rc = 0;

	while (!rc && atomic_long_read(back) < enough) {
		if (READ_ONCE(q->in_flight))
			rc = vb_reap_wait(vb, q, deadline);
		else if (!wait_event_timeout(q->wait,
					     atomic_long_read(back) >= enough,
					     VB_SLICE))
			rc = -ENODATA;
	}
}

/* Pages that the guest cannot use, of its balloon and for hints */
static unsigned long vb_kept(struct vb *vb)
{
	return atomic_long_read(&vb->away) + atomic_long_read(&vb->hinting) +
	       READ_ONCE(vb->nr_hinted);
}

/*
 * The device failed, and nobody noticed yet: sizing takes the pages back, and
 * the hint work its blocks, unless the driver stops. Return: how many came free
 * of those that were kept @before
 */
static unsigned long vb_oom_reclaim(struct vb *vb, unsigned long before)
{
	if (READ_ONCE(vb->phase) != VB_RUNNING)
		return 0;
	vb_queue_sizing(vb, 0);
	wait_event_timeout(vb->deflateq.wait, !vb_kept(vb), VB_PATIENCE);
	return before - min(before, vb_kept(vb));
}

static bool vb_collects(struct vb *vb)
{
	/* Pairs with vb_announce_group(): `returned` is what came free. */
	return smp_load_acquire(&vb->collecting);
}

/*
 * No page is to be had, as sizing has some: it cuts its pause short and
 * announces them. Return: 0 if it had none
 */
static unsigned long vb_oom_hurry(struct vb *vb)
{
	if (!vb_collects(vb) || READ_ONCE(vb->phase) != VB_RUNNING)
		return 0;
	vb_queue_sizing(vb, 0);
	wait_event_timeout(vb->deflateq.wait, !vb_collects(vb), VB_PATIENCE);
	return 1;
}

/*
 * The last pages may be announced, and with MUST_TELL_HOST not free yet. Return:
 * 0 if none are, or the host does not answer
 */
static unsigned long vb_oom_awaits(struct vb *vb)
{
	return READ_ONCE(vb->state) != VB_STALLED &&
	       READ_ONCE(vb->deflateq.in_flight);
}

/* Returns pages, @step of them if it can; how many came free. */
static unsigned long vb_oom_give(struct vb *vb, unsigned long step)
{
	long before = atomic_long_read(&vb->returned);
	unsigned long kept = vb_kept(vb), done, freed;

	if (!vb_is_broken(vb)) {
		done = vb_urgent_deflate(vb, step, true) ?:
		       vb_oom_hurry(vb) ?: vb_oom_awaits(vb);
		if (vb->must_tell)
			vb_oom_wait(vb, before, done);
	}
	freed = atomic_long_read(&vb->returned) - before;
	if (!freed && vb_is_broken(vb))
		freed = vb_oom_reclaim(vb, kept);
	return freed;
}

/* The balloon's part, with DEFLATE_ON_OOM; pages that came free */
static unsigned long vb_oom_shrink(struct vb *vb)
{
	u64 now = get_jiffies_64();
	unsigned long freed;

	vb->oom_step = vb_oom_step_next(vb->oom_step, now - vb->oom_last,
					READ_ONCE(vb_oom_pages.value));
	vb->oom_last = now;
	vb_start_hold_off(vb, vb_hold_off_next(READ_ONCE(vb->hold_off),
					       now - vb->hold_until));
	freed = vb_oom_give(vb, vb->oom_step);
	trace_virtio_balloon_oom(vb->vdev->index, vb->oom_step, freed);
	if (!vb->oom_count++)
		dev_info(&vb->vdev->dev,
			 "the guest is out of memory: giving pages back\n");
	vb_queue_sizing(vb, 0);
	return freed;
}

/**
 * vb_oom_notify() - reclaim has failed: pages go back before mm kills
 * @nb: in the balloon
 * @unused: always 0
 * @parm: unsigned long, guest pages that all notifiers freed
 *
 * Hinted blocks first: the host only looks at them. Context: under oom_lock, in
 * the task that needs memory. Allocates nothing, and no lock that it takes is
 * held for long. Waits for the host only with MUST_TELL_HOST or if no buffer is
 * left, and for sizing if that has the last pages or the device failed, for a
 * few seconds at most. What the sizing work frees meanwhile counts too: it is
 * just as good for the one who waits.
 */
static int vb_oom_notify(struct notifier_block *nb, unsigned long unused,
			 void *parm)
{
	struct vb *vb = container_of(nb, struct vb, oom_nb);
	unsigned long *total = parm;
	unsigned long freed = vb_hint_yield(vb, VB_OOM_STEP_MAX);

	if (!freed && (vb->oom || vb_is_broken(vb)))
		freed = vb_oom_shrink(vb);
	*total += freed;
	return NOTIFY_OK;
}

/*
 * Whether reclaim may have held pages. Not if it is the balloon that asks for
 * memory, itself or by way of kswapd: it would give what it has just taken.
 */
static bool vb_shrinks(struct vb *vb)
{
	struct task_struct *taker = READ_ONCE(vb->taker);

	if (!vb->oom || vb_deflate_mode.value != VB_DEFLATE_SHRINKER ||
	    vb_is_broken(vb))
		return false;
	return !taker || (taker != current && !current_is_kswapd());
}

/* Guest pages that the shrinker could free */
static unsigned long vb_shrink_count(struct shrinker *shrinker,
				     struct shrink_control *sc)
{
	struct vb *vb = vb_shrinker_private(shrinker);
	unsigned long pages = READ_ONCE(vb->nr_hinted);

	if (vb_shrinks(vb))
		pages += atomic_long_read(&vb->held);
	return pages;
}

/*
 * Frees sc->nr_to_scan guest pages: hinted blocks, then pages of the balloon,
 * which does not grow again for a while. Context: reclaim. Waits for nobody.
 */
static unsigned long vb_shrink_scan(struct shrinker *shrinker,
				    struct shrink_control *sc)
{
	struct vb *vb = vb_shrinker_private(shrinker);
	unsigned long nr, done = 0;

	if (READ_ONCE(vb->nr_hinted))
		done = vb_hint_yield(vb, sc->nr_to_scan);
	if (done < sc->nr_to_scan && vb_shrinks(vb)) {
		vb_start_hold_off(vb, READ_ONCE(vb->hold_off) ?:
				  VB_HOLD_OFF_MIN);
		nr = vb_urgent_deflate(vb, sc->nr_to_scan - done, false);
		atomic_long_add(nr, &vb->shrunk);
		done += nr;
		vb_queue_sizing(vb, 0);
	}
	return done ?: SHRINK_STOP;
}

/*
 * Memory is to go, and mm moves what is in it, over and over until nothing is
 * left: held pages must be on its list as soon as they are held, and hinted
 * blocks, which mm takes for movable, free. Context: process, may sleep.
 */
static int vb_memory_notify(struct notifier_block *nb, unsigned long action,
			    void *unused)
{
	struct vb *vb = container_of(nb, struct vb, memory_nb);

	switch (action) {
	case MEM_GOING_OFFLINE:
		WRITE_ONCE(vb->eager, true);
		vb_enlist_later(vb, 0);
		vb_hint_yield(vb, 0);
		vb_hint_free_all(vb);
		break;
	case MEM_OFFLINE:
	case MEM_CANCEL_OFFLINE:
		WRITE_ONCE(vb->eager, false);
		break;
	}
	return NOTIFY_OK;
}

/* 80: before anything that kills, after whatever frees without a trace */
#define VB_OOM_PRIORITY		80

/* Once more is no harm: a failed restore leaves nothing to stop. */
static void vb_pressure_stop(struct vb *vb)
{
	if (!vb->shrinker)
		return;
	unregister_memory_notifier(&vb->memory_nb);
	unregister_oom_notifier(&vb->oom_nb);
	vb_shrinker_unregister(vb->shrinker);
	vb->shrinker = NULL;
}

static int vb_pressure_start(struct vb *vb)
{
	struct shrinker *shrinker;
	int rc;

	shrinker = vb_shrinker_register(KBUILD_MODNAME, vb_shrink_count,
					vb_shrink_scan, vb->buf_pages, vb);
	if (IS_ERR(shrinker))
		return PTR_ERR(shrinker);
	vb->shrinker = shrinker;
	vb->oom_nb.notifier_call = vb_oom_notify;
	vb->oom_nb.priority = VB_OOM_PRIORITY;
	vb->memory_nb.notifier_call = vb_memory_notify;
	WRITE_ONCE(vb->eager, false);
	rc = register_oom_notifier(&vb->oom_nb);
	if (!rc)
		rc = register_memory_notifier(&vb->memory_nb);
	if (rc)
		vb_pressure_stop(vb);
	return rc;
}

/*
 * Page migration
 */

#ifdef VB_MIGRATION
/* Sizing soon offers what migration left, many pages with one buffer. */
static void vb_keep_spare(struct vb *vb, struct page *page)
{
	unsigned long flags;
	bool first;

	get_page(page);
	spin_lock(&vb->runs_lock);
	first = !vb->nr_spares++;
	list_add_tail(&page->lru, &vb->spares);
	spin_unlock(&vb->runs_lock);
	if (!first)
		return;
	spin_lock_irqsave(&vb->gate, flags);
	if (vb->phase == VB_RUNNING)
		mod_delayed_work(vb->wq, &vb->sizing,
				 READ_ONCE(vb->eager) ? 1 : VB_SLICE);
	spin_unlock_irqrestore(&vb->gate, flags);
}

/*
 * held -> returning -> free for one isolated page. Does not sleep. Return: what
 * tells mm that the page has left, or -EAGAIN if it has not
 */
static int vb_return_isolated(struct vb *vb, struct page *page)
{
	struct vb_queue *q = &vb->deflateq;
	struct vb_buf *buf;

	vb_reap(vb, q);
	buf = vb_buf_get(q, q->reserve);
	if (!buf)
		return -EAGAIN;
	vb_buf_add(vb, buf, page, 1);
	if (vb->must_tell) {
		get_page(page);
		buf->moved = page;
	}
	if (vb_submit(q, buf)) {
		if (vb->must_tell)
			put_page(page);
		vb_buf_put(q, buf);
		return -EAGAIN;
	}
	if (!vb->oom)
		vb_adjust_run(page, 1);
	if (!vb->must_tell)
		atomic_long_dec(&vb->away);
	atomic_long_dec(&vb->held);
	vb_kick(q);
	vb_publish_soon(vb);
	return vb_balloon_deflated(&vb->info, page);
}

/**
 * vb_migrate() - mm wants a held page out of its place
 * @info: in the balloon
 * @newpage: locked, the caller's
 * @page: locked, isolated, held
 * @mode: how patient the caller is
 *
 * The old page is deflated; the new one stays ours, and sizing offers it later.
 * To offer it here and now would mean a round trip to the host for each page,
 * and a host that does not answer would own a page that mm takes for its own.
 * Context: process, both pages locked. Does not sleep, so that removal can wait
 * for us.
 *
 * Return: as vb_return_isolated(); -EAGAIN if no buffer is free: the page stays
 * where it is.
 */
static int vb_migrate(struct balloon_dev_info *info, struct page *newpage,
		      struct page *page, enum migrate_mode mode)
{
	struct vb *vb = container_of(info, struct vb, info);
	int rc = -EAGAIN;

	rcu_read_lock();
	if (READ_ONCE(vb->phase) == VB_RUNNING && !vb_is_broken(vb))
		rc = vb_return_isolated(vb, page);
	if (rc != -EAGAIN) {
		trace_virtio_balloon_migrate(vb->vdev->index,
					     page_to_pfn(page), 1);
		atomic_long_inc(&vb->migrated);
		vb_keep_spare(vb, newpage);
	} else if (vb_is_broken(vb)) {
		vb_queue_sizing(vb, 0);		/* which resets the device */
	}
	rcu_read_unlock();
	return rc;
}
#endif

/*
 * Free page reporting
 *
 * mm takes free blocks out of its lists, shows them to us in a scatterlist and
 * frees them again when we return. It has room for one reporter.
 */

static DEFINE_MUTEX(vb_reporters_lock);
static LIST_HEAD(vb_reporters);

static struct vb_range vb_report_on = { .value = 1, .max = 1 };

/*
 * B46: until the host has used the report, or a reset has made sure that it
 * never will: mm must not get pages back that the device may still write to.
 * Counts the time in slices really waited for: a guest that was stopped has
 * waited for nothing. Return: 0, or -EIO after a reset
 */
static int vb_report_wait(struct vb *vb)
{
	unsigned long start = jiffies;
	struct vb_queue *q = &vb->reportq;
	unsigned int last, slices = VB_REPORT_PATIENCE / VB_SLICE;
	void *used;

	vb_kick(q);
	while (!(used = vb_next_used(q)) && !READ_ONCE(vb->was_reset)) {
		last = vb_arm(q);
		if (wait_event_timeout(q->wait, virtqueue_poll(q->vq, last) ||
				       READ_ONCE(vb->was_reset), VB_SLICE))
			continue;
		vb_nudge(q);
		if (!--slices)
			dev_err(&vb->vdev->dev,
				"free page reporting: no answer from the host, resetting the device\n");
		if (!slices || vb_is_broken(vb))
			vb_reset(vb);
	}
	vb_waited(vb, q, start, slices ? 0 : -ETIMEDOUT);
	return used ? 0 : -EIO;
}

/* One buffer of @nr blocks; the ring has room for them. */
static int vb_report_some(struct vb *vb, struct scatterlist *sg,
			  unsigned int nr)
{
	struct scatterlist *last = &sg[nr - 1];
	bool more = !sg_is_last(last);
	unsigned long bytes = 0;
	unsigned int i;
	int rc;

	for (i = 0; i < nr; i++)
		bytes += sg[i].length;
	sg_mark_end(last);
	rc = vb_add(&vb->reportq, sg, true, vb);
	if (more)
		sg_unmark_end(last);
	if (!rc)
		rc = vb_report_wait(vb);
	trace_virtio_balloon_report(vb->vdev->index, nr, VB_PAGES(bytes), rc);
	if (!rc) {
		vb->nr_reports++;
		vb->reported += VB_PAGES(bytes);
	}
	return rc;
}

/**
 * vb_report() - tell the host of free pages
 * @reporter: in the balloon
 * @sg: blocks that mm has isolated
 * @nents: how many
 *
 * Rings with less than mm's 32 entries take several rounds. Context: mm's
 * worker, may sleep; waits for the host, and rather resets the device than
 * leave it pages that mm has back.
 *
 * Return: 0, or an error: mm takes all of the blocks for not reported.
 */
static int vb_report(struct page_reporting_dev_info *reporter,
		     struct scatterlist *sg, unsigned int nents)
{
	struct vb *vb = container_of(reporter, struct vb, reporter);
	unsigned int nr, ring = virtqueue_get_vring_size(vb->reportq.vq);
	int rc = 0;

	if (READ_ONCE(vb->phase) != VB_RUNNING || vb_is_broken(vb))
		return -EIO;
	for (; nents && !rc; sg += nr, nents -= nr) {
		nr = min(nents, ring);
		rc = vb_report_some(vb, sg, nr);
	}
	return rc;
}

/* Context: irq */
static void vb_report_callback(struct virtqueue *vq)
{
	struct vb *vb = vq->vdev->priv;

	wake_up(&vb->reportq.wait);
}

/*
 * Does what the parameter says. To be refused costs this feature only. Context:
 * vb_reporters_lock
 */
static void vb_report_apply(struct vb *vb)
{
	unsigned int order = vb_report_order.value ?: VB_BLOCK_ORDER;
	unsigned int ring = virtqueue_get_vring_size(vb->reportq.vq);
	bool on = vb_report_on.value;

	if (!on)
		vb->report_error = 0;
	if (on == vb->reporting)
		return;
	if (!on) {
		vb_page_reporting_unregister(&vb->reporter);
		WRITE_ONCE(vb->reporting, false);
		return;
	}
	vb->reporter.report = vb_report;
	vb->report_error = vb_page_reporting_register(&vb->reporter, order,
						      ring);
	WRITE_ONCE(vb->reporting, !vb->report_error);
	if (vb->report_error)
		dev_warn(&vb->vdev->dev, "no free page reporting: %s (%d)\n",
			 vb->report_error == -EBUSY ?
			 "another device does it" : "mm refused",
			 vb->report_error);
}

static int vb_report_set(const char *val, const struct kernel_param *kp)
{
	int rc = vb_range_set(val, kp);
	struct vb *vb;

	mutex_lock(&vb_reporters_lock);
	if (!rc)
		list_for_each_entry(vb, &vb_reporters, reporters)
			vb_report_apply(vb);
	mutex_unlock(&vb_reporters_lock);
	return rc;
}

static const struct kernel_param_ops vb_report_ops = {
	.set = vb_report_set,
	.get = vb_range_get,
};
module_param_cb(report, &vb_report_ops, &vb_report_on, 0644);
__MODULE_PARM_TYPE(report, "int");
MODULE_PARM_DESC(report, "free page reporting, if the device offers it: 1 on (default), 0 off");

/* After DRIVER_OK (B47). */
static void vb_report_start(struct vb *vb)
{
	if (!vb->reportq.vq)
		return;
	mutex_lock(&vb_reporters_lock);
	list_add_tail(&vb->reporters, &vb_reporters);
	vb_report_apply(vb);
	mutex_unlock(&vb_reporters_lock);
}

/* After a reset, which ends a report that still waits. */
static void vb_report_stop(struct vb *vb)
{
	if (!vb->reportq.vq)
		return;
	mutex_lock(&vb_reporters_lock);
	list_del(&vb->reporters);
	if (vb->reporting)
		vb_page_reporting_unregister(&vb->reporter);
	vb->reporting = false;
	mutex_unlock(&vb_reporters_lock);
	while (vb_next_unused(&vb->reportq))
		;
}

/*
 * Page poison
 */

/* B42, B43: what free pages hold, before each DRIVER_OK and not after it. */
static void vb_write_poison(struct vb *vb)
{
	u32 fill;

	vb_free_pages_hold(&fill);
	virtio_cwrite_le(vb->vdev, struct virtio_balloon_config, poison_val,
			 &fill);
}

/*
 * B2: a guest that does not care what free pages hold does without PAGE_POISON.
 * B3: one that does must not report pages if the host may not know.
 */
static void vb_validate_poison(struct virtio_device *vdev)
{
	u32 fill;

	if (!vb_free_pages_hold(&fill)) {
		__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_PAGE_POISON);
		return;
	}
	if (virtio_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON) ||
	    !virtio_has_feature(vdev, VIRTIO_BALLOON_F_REPORTING))
		return;
	dev_info(&vdev->dev,
		 "no free page reporting: this guest fills free pages, and the device does not offer to preserve that\n");
	__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_REPORTING);
}

/*
 * Statistics
 */

/* Tag n is entry n: a subset is always the first ones (B28). */
static unsigned int vb_nr_stats(void)
{
	return vb_stats_set.value == VB_STATS_SPEC ?
	       VIRTIO_BALLOON_S_HTLB_PGFAIL + 1 : VIRTIO_BALLOON_S_NR;
}

static void vb_stat(struct vb *vb, u16 tag, u64 val)
{
	vb->stats[tag].tag = cpu_to_virtio16(vb->vdev, tag);
	vb->stats[tag].val = cpu_to_virtio64(vb->vdev, val);
}

static void vb_stat_pages(struct vb *vb, u16 tag, u64 pages)
{
	vb_stat(vb, tag, pages << PAGE_SHIFT);
}

static u64 vb_alloc_stalls(const unsigned long *events)
{
	u64 stalls = 0;
	int i;

	for (i = ALLOCSTALL_NORMAL - ZONE_NORMAL; i <= ALLOCSTALL_MOVABLE; i++)
		stalls += events[i];
	return stalls;
}

/* Those of the specification */
static void vb_fill_spec_stats(struct vb *vb, const unsigned long *ev)
{
	struct sysinfo i;

	si_meminfo(&i);
	vb_stat_pages(vb, VIRTIO_BALLOON_S_SWAP_IN, ev[PSWPIN]);
	vb_stat_pages(vb, VIRTIO_BALLOON_S_SWAP_OUT, ev[PSWPOUT]);
	vb_stat(vb, VIRTIO_BALLOON_S_MAJFLT, ev[PGMAJFAULT]);
	vb_stat(vb, VIRTIO_BALLOON_S_MINFLT, ev[PGFAULT] - ev[PGMAJFAULT]);
	vb_stat_pages(vb, VIRTIO_BALLOON_S_MEMFREE, i.freeram);
	vb_stat_pages(vb, VIRTIO_BALLOON_S_MEMTOT, i.totalram);
	vb_stat_pages(vb, VIRTIO_BALLOON_S_AVAIL, si_mem_available());
	vb_stat_pages(vb, VIRTIO_BALLOON_S_CACHES,
		      global_node_page_state(NR_FILE_PAGES));
	vb_stat(vb, VIRTIO_BALLOON_S_HTLB_PGALLOC,
		vb_hugetlb_event(ev, HTLB_BUDDY_PGALLOC));
	vb_stat(vb, VIRTIO_BALLOON_S_HTLB_PGFAIL,
		vb_hugetlb_event(ev, HTLB_BUDDY_PGALLOC_FAIL));
}

/* Linux's own */
static void vb_fill_linux_stats(struct vb *vb, const unsigned long *ev)
{
	vb_stat(vb, VIRTIO_BALLOON_S_OOM_KILL, ev[OOM_KILL]);
	vb_stat(vb, VIRTIO_BALLOON_S_ALLOC_STALL, vb_alloc_stalls(ev));
	vb_stat_pages(vb, VIRTIO_BALLOON_S_ASYNC_SCAN,
		      vb_async_event(ev, PGSCAN));
	vb_stat_pages(vb, VIRTIO_BALLOON_S_DIRECT_SCAN,
		      vb_direct_event(ev, PGSCAN));
	vb_stat_pages(vb, VIRTIO_BALLOON_S_ASYNC_RECLAIM,
		      vb_async_event(ev, PGSTEAL));
	vb_stat_pages(vb, VIRTIO_BALLOON_S_DIRECT_RECLAIM,
		      vb_direct_event(ev, PGSTEAL));
}

/* B24: every statistic, every time. Context: process; allocates nothing. */
static void vb_fill_stats(struct vb *vb)
{
	all_vm_events(vb->events);
	vb_fill_spec_stats(vb, vb->events);
	vb_fill_linux_stats(vb, vb->events);
}

/*
 * B21 to B24: the one buffer, complete, to the host. The caller owns it: it has
 * just been made or been used by the host.
 */
static int vb_offer_stats(struct vb *vb)
{
	struct scatterlist sg;

	vb_fill_stats(vb);
	sg_init_one(&sg, vb->stats, vb_nr_stats() * sizeof(*vb->stats));
	return virtqueue_add_outbuf(vb->statsq, &sg, 1, vb, GFP_KERNEL);
}

/*
 * Refills the buffer if the host has used it: an interrupt alone is no reason
 * to write to what may still be the device's (B21, G18).
 */
static void vb_stats_work(struct work_struct *work)
{
	struct vb *vb = container_of(to_delayed_work(work), struct vb,
				     stats_work);
	unsigned int len;

	if (!virtqueue_get_buf(vb->statsq, &len) || vb_offer_stats(vb))
		return;
	WRITE_ONCE(vb->stats_at, get_jiffies_64());
	vb->nr_stats++;
	virtqueue_kick(vb->statsq);
}

/* Context: irq. At most a hundred answers a second, however often it asks. */
static void vb_stats_used(struct virtqueue *vq)
{
	struct vb *vb = vq->vdev->priv;

	vb_queue_work(vb, vb->stats_wq, &vb->stats_work,
		      vb_until(READ_ONCE(vb->stats_at) + VB_STATS_INTERVAL));
}

/*
 * Status: /sys/kernel/debug/virtio_balloon/virtioN/status
 */

static struct dentry *vb_debugfs;

static void vb_show(struct seq_file *m, const char *key, unsigned long pages)
{
	seq_printf(m, "%s: %llu kB\n", key, VB_KIB(pages));
}

static void vb_show_queue(struct seq_file *m, const char *name,
			  struct vb_queue *q)
{
	seq_printf(m, "%s_in_flight: %u\n", name, READ_ONCE(q->in_flight));
	seq_printf(m, "%s_buffers: %lu\n", name, READ_ONCE(q->nr_used));
	seq_printf(m, "%s_kicks: %lu\n", name, READ_ONCE(q->nr_kicks));
}

static void vb_show_wait(struct seq_file *m, const char *name,
			 struct vb_queue *q)
{
	seq_printf(m, "%s_longest_wait: %u ms\n", name,
		   READ_ONCE(q->longest_wait));
}

static void vb_show_features(struct seq_file *m, struct vb *vb)
{
	seq_printf(m, "features:%s%s%s%s%s%s\n",
		   vb->must_tell ? " must-tell-host" : "",
		   vb->statsq ? " stats" : "",
		   vb->oom ? " deflate-on-oom" : "",
		   vb->hintq.vq ? " free-page-hint" : "",
		   vb->poison ? " page-poison" : "",
		   vb->reportq.vq ? " reporting" : "");
}

static void vb_show_hints(struct seq_file *m, struct vb *vb)
{
	if (!vb->hintq.vq)
		return;
	seq_printf(m, "hint_id: %u\n",
		   READ_ONCE(vb->hint_open) ? READ_ONCE(vb->hint_begun) : 0);
	seq_printf(m, "hint_rounds: %lu\n", READ_ONCE(vb->nr_rounds));
	vb_show(m, "hinting", atomic_long_read(&vb->hinting));
	vb_show(m, "hinted", READ_ONCE(vb->nr_hinted));
	vb_show(m, "hinted_total", atomic_long_read(&vb->hints));
	vb_show_queue(m, "hintq", &vb->hintq);
}

static void vb_show_reports(struct seq_file *m, struct vb *vb)
{
	u32 fill;

	if (vb->poison && vb_free_pages_hold(&fill))
		seq_printf(m, "poison: 0x%x\n", fill);
	else
		seq_puts(m, "poison: no\n");
	seq_printf(m, "reporting: %s\n",
		   !vb->reportq.vq ? "no" :
		   READ_ONCE(vb->reporting) ? "on" :
		   vb->report_error ? "refused" : "off");
	if (!vb->reportq.vq)
		return;
	seq_printf(m, "reports: %lu\n", READ_ONCE(vb->nr_reports));
	vb_show(m, "reported", READ_ONCE(vb->reported));
	vb_show_wait(m, "reportq", &vb->reportq);
}

static unsigned int vb_hold_off_ms(struct vb *vb)
{
	if (!vb_holds_off(vb))
		return 0;
	return jiffies_to_msecs(vb_until(READ_ONCE(vb->hold_until)));
}

/* Of numbers that may change meanwhile */
static unsigned long vb_returning(struct vb *vb)
{
	return max(0L, atomic_long_read(&vb->away) -
		   atomic_long_read(&vb->offered) -
		   atomic_long_read(&vb->held));
}

static int vb_status_show(struct seq_file *m, void *unused)
{
	struct vb *vb = m->private;
	enum vb_state state = READ_ONCE(vb->state);

	seq_printf(m, "state: %s\n", vb_states[state].name);
	seq_printf(m, "why: %s\n", vb_states[state].why);
	vb_show(m, "target", READ_ONCE(vb->target));
	vb_show(m, "held", atomic_long_read(&vb->held));
	vb_show(m, "offered", atomic_long_read(&vb->offered));
	vb_show(m, "returning", vb_returning(vb));
	vb_show(m, "spare", READ_ONCE(vb->nr_spares));
	vb_show(m, "actual", READ_ONCE(vb->published) / VB_PPP);
	vb_show(m, "floor", vb_floor_now(vb));
	vb_show(m, "available", si_mem_available());
	vb_show_features(m, vb);
	vb_show(m, "returned", atomic_long_read(&vb->returned));
	vb_show(m, "migrated", atomic_long_read(&vb->migrated));
	seq_printf(m, "oom: %lu\n", READ_ONCE(vb->oom_count));
	vb_show(m, "shrunk", atomic_long_read(&vb->shrunk));
	seq_printf(m, "hold_off: %u ms\n", vb_hold_off_ms(vb));
	seq_printf(m, "retries: %u\n", READ_ONCE(vb->retries));
	seq_printf(m, "actual_writes: %lu\n", READ_ONCE(vb->nr_published));
	seq_printf(m, "stats_answers: %lu\n", READ_ONCE(vb->nr_stats));
	vb_show_queue(m, "inflateq", &vb->inflateq);
	vb_show_wait(m, "inflateq", &vb->inflateq);
	vb_show_queue(m, "deflateq", &vb->deflateq);
	vb_show_wait(m, "deflateq", &vb->deflateq);
	vb_show_hints(m, vb);
	vb_show_reports(m, vb);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vb_status);

/*
 * Life cycle
 */

static void vb_free_queue(struct vb_queue *q)
{
	struct vb_buf *buf, *next;

	list_for_each_entry_safe(buf, next, &q->free, node) {
		kfree(buf->pfns);
		kfree(buf);
	}
	INIT_LIST_HEAD(&q->free);
	q->nr_free = 0;
	q->nr_bufs = 0;
}

static struct vb_buf *vb_new_buf(struct vb *vb)
{
	struct vb_buf *buf = kzalloc(sizeof(*buf), GFP_KERNEL);

	if (!buf)
		return NULL;
	INIT_LIST_HEAD(&buf->runs);
	buf->pfns = kmalloc_array(vb->buf_pages * VB_PPP, sizeof(*buf->pfns),
				  GFP_KERNEL);
	if (!buf->pfns) {
		kfree(buf);
		return NULL;
	}
	return buf;
}

/* Gives a queue its ring and its pool; a part of the pool is for OOM only. */
static int vb_fill_queue(struct vb *vb, struct vb_queue *q,
			 struct virtqueue *vq, bool reserve)
{
	unsigned int nr = min(virtqueue_get_vring_size(vq), VB_BUFFERS);
	struct vb_buf *buf;

	q->vq = vq;
	virtqueue_disable_cb(vq);
	for (q->nr_bufs = 0; q->nr_bufs < nr; q->nr_bufs++) {
		buf = vb_new_buf(vb);
		if (!buf)
			return -ENOMEM;
		vb_buf_put(q, buf);
	}
	q->reserve = reserve ? max(nr / 4, nr > 1 ? 1U : 0U) : 0;
	q->group = clamp_t(unsigned long, VB_GROUP / vb->buf_pages, 1,
			   max(nr / 2, 1U));
	q->silent = false;
	return 0;
}

static void vb_init_queue(struct vb_queue *q,
			  void (*used)(struct vb *vb, struct vb_buf *buf))
{
	spin_lock_init(&q->lock);
	INIT_LIST_HEAD(&q->free);
	init_waitqueue_head(&q->wait);
	q->used = used;
}

static const struct {
	const char *name;
	vq_callback_t *callback;
	int feature;			/* -1: always there */
} vb_queues[VB_NR_QUEUES] = {
	[VB_Q_INFLATE]	= { "inflate", vb_queue_used, -1 },
	[VB_Q_DEFLATE]	= { "deflate", vb_queue_used, -1 },
	[VB_Q_STATS]	= { "stats", vb_stats_used,
			    VIRTIO_BALLOON_F_STATS_VQ },
	[VB_Q_HINT]	= { "free_page_vq", NULL,
			    VIRTIO_BALLOON_F_FREE_PAGE_HINT },
	[VB_Q_REPORT]	= { "reporting_vq", vb_report_callback,
			    VIRTIO_BALLOON_F_REPORTING },
};

/*
 * Finds the rings of the first @nr queues. Absent ones have no name and take no
 * number, as the devices count.
 */
static int vb_find(struct virtio_device *vdev, unsigned int nr,
		   struct virtqueue **vqs)
{
	vq_callback_t *callbacks[VB_NR_QUEUES];
	const char *names[VB_NR_QUEUES];
	unsigned int i;

	for (i = 0; i < nr; i++) {
		bool there = vb_queues[i].feature < 0 ||
			     virtio_has_feature(vdev, vb_queues[i].feature);

		names[i] = there ? vb_queues[i].name : NULL;
		callbacks[i] = vb_queues[i].callback;
		vqs[i] = NULL;
	}
	return vb_find_vqs(vdev, nr, vqs, callbacks, names);
}

/*
 * A device may offer a queue that it does not have (D15): that costs the
 * feature, and those of the queues after it, not the balloon.
 */
static int vb_find_queues(struct vb *vb, struct virtqueue **vqs)
{
	unsigned int nr = VB_NR_QUEUES;
	int rc;

	memset(vqs, 0, VB_NR_QUEUES * sizeof(*vqs));
	rc = vb_find(vb->vdev, nr, vqs);
	while (rc && rc != -ENOMEM && nr > VB_Q_STATS) {
		vqs[--nr] = NULL;
		rc = vb_find(vb->vdev, nr, vqs);
	}
	if (!rc && nr < VB_NR_QUEUES)
		dev_warn(&vb->vdev->dev,
			 "no %s queue and none after it: the device lacks what it offers\n",
			 vb_queues[nr].name);
	return rc;
}

static void vb_del_queues(struct vb *vb)
{
	vb->vdev->config->del_vqs(vb->vdev);
	vb_free_queue(&vb->inflateq);
	vb_free_queue(&vb->deflateq);
	vb->inflateq.vq = NULL;
	vb->deflateq.vq = NULL;
	vb->statsq = NULL;
	vb->hintq.vq = NULL;
	vb->reportq.vq = NULL;
}

/*
 * Queues with their pools, and what comes before DRIVER_OK (B6): the first
 * statistics (B22) and the poison value.
 */
static int vb_init_queues(struct vb *vb)
{
	struct virtqueue *vqs[VB_NR_QUEUES];
	int rc;

	rc = vb_find_queues(vb, vqs);
	if (rc)
		return rc;
	rc = vb_fill_queue(vb, &vb->inflateq, vqs[VB_Q_INFLATE], false);
	if (!rc)
		rc = vb_fill_queue(vb, &vb->deflateq, vqs[VB_Q_DEFLATE], true);
	vb->statsq = vqs[VB_Q_STATS];
	if (!rc && vb->statsq)
		rc = vb_offer_stats(vb);
	vb->hintq.vq = vqs[VB_Q_HINT];
	vb->reportq.vq = vqs[VB_Q_REPORT];
	if (!rc && vb->poison)
		vb_write_poison(vb);
	if (rc) {	/* the device knows the rings by now */
		virtio_reset_device(vb->vdev);
		vb_del_queues(vb);
	}
	return rc;
}

/*
 * The device is ours: only now may it be notified (G11). It may have used the
 * statistics before that, which nobody has noticed yet.
 */
static void vb_start(struct vb *vb)
{
	virtio_device_ready(vb->vdev);
	if (vb->statsq)
		virtqueue_kick(vb->statsq);
	/* A driver before us may have left its `actual` behind. */
	vb->unpublished = true;
	WRITE_ONCE(vb->hint_news, jiffies);
	WRITE_ONCE(vb->check_hint, 1);
	WRITE_ONCE(vb->published_at, get_jiffies_64());
	WRITE_ONCE(vb->stats_at, vb->published_at);
	vb_set_phase(vb, VB_RUNNING);
	vb_queue_sizing(vb, 0);
	vb_queue_hint(vb);
	vb_publish_now(vb);
	if (vb->statsq)
		vb_queue_work(vb, vb->stats_wq, &vb->stats_work, 0);
	vb_report_start(vb);
}

/* Ends all that runs by itself. Waits end at once, works within a step. */
static void vb_stop(struct vb *vb)
{
	vb_set_phase(vb, VB_STOPPING);
	synchronize_rcu();	/* migration */
	wake_up_all(&vb->inflateq.wait);
	wake_up_all(&vb->deflateq.wait);
	cancel_delayed_work_sync(&vb->sizing);
	cancel_delayed_work_sync(&vb->publish);
	cancel_delayed_work_sync(&vb->enlist);
	cancel_delayed_work_sync(&vb->hint);
	cancel_delayed_work_sync(&vb->stats_work);
	vb_set_phase(vb, VB_CLOSING);
}

/*
 * One step of giving all pages back: what is offered may not be announced
 * before the host has used it. mm puts isolated pages back in its own time.
 * Return: as vb_reap_wait()
 */
static int vb_give_back_step(struct vb *vb)
{
	unsigned long deadline = jiffies + VB_LAST_PATIENCE;
	unsigned long held;
	int rc = vb_drain(vb, &vb->inflateq, deadline);

	held = atomic_long_read(&vb->held);
	if (!rc && held)
		rc = vb_deflate(vb, min_t(unsigned long, VB_STEP, held),
				deadline);
	else if (!rc)
		rc = vb_drain(vb, &vb->deflateq, deadline);
	if (rc == -ENODATA) {
		msleep(VB_BACKOFF_MIN_MS);
		rc = 0;
	}
	return rc;
}

static bool vb_has_all_back(struct vb *vb)
{
	return !atomic_long_read(&vb->held) &&
	       !READ_ONCE(vb->inflateq.in_flight) &&
	       !READ_ONCE(vb->deflateq.in_flight);
}

static unsigned long vb_answers(struct vb *vb)
{
	return READ_ONCE(vb->inflateq.nr_used) + READ_ONCE(vb->deflateq.nr_used);
}

/*
 * All pages back to the guest, announced (B12). Ends early if the host does not
 * answer, or is too slow for a minute in sum.
 */
static void vb_give_back(struct vb *vb)
{
	unsigned int slow = 0;
	unsigned long seen;
	int rc = 0;

	while (!rc && !vb_has_all_back(vb)) {
		seen = vb_answers(vb);
		rc = vb_give_back_step(vb);
		if (rc && vb_answers(vb) != seen && ++slow < VB_SLOW_STEPS)
			rc = 0;
	}
	if (rc && !vb->was_reset)
		dev_warn(&vb->vdev->dev,
			 "the host does not answer: taking back %llu KiB by a reset\n",
			 VB_KIB(atomic_long_read(&vb->held)));
	/* What the device still has, the reset that follows takes back. */
	if (!vb_is_broken(vb))
		vb_publish(vb, 0);
}

/*
 * Gives all pages back and lets go of the device. After a failed restore there
 * is nothing to give back, but a device that is half initialized.
 */
static void vb_quit(struct vb *vb)
{
	vb_stop(vb);
	if (vb->inflateq.vq) {
		vb_check_status(vb);
		vb_hint_stop(vb);
		vb_give_back(vb);
	}
	WRITE_ONCE(vb->was_reset, false);	/* it may have failed since (G2) */
	vb_reset(vb);
	if (vb->inflateq.vq) {
		vb_report_stop(vb);
		vb_reclaim(vb);
		vb_reclaim_hints(vb);
		vb_del_queues(vb);
	}
}

static void vb_free(struct vb *vb)
{
	if (vb->stats_wq)
		destroy_workqueue(vb->stats_wq);
	if (vb->wq)
		destroy_workqueue(vb->wq);
	vb_balloon_exit(&vb->info);
	kfree(vb->stats);
	kfree(vb->events);
	kfree(vb);
}

/* All that needs no device */
static struct vb *vb_new(struct virtio_device *vdev)
{
	const unsigned int flags = WQ_UNBOUND | WQ_FREEZABLE | WQ_MEM_RECLAIM;
	struct vb *vb = kzalloc(sizeof(*vb), GFP_KERNEL);
	int rc;

	if (!vb)
		return NULL;
	vb->vdev = vdev;
	vb->buf_pages = max(vb_pfns_per_buffer.value / VB_PPP, 1U);
	vb->phase = VB_STOPPING;
	spin_lock_init(&vb->gate);
	spin_lock_init(&vb->runs_lock);
	INIT_LIST_HEAD(&vb->runs);
	INIT_LIST_HEAD(&vb->spares);
	INIT_LIST_HEAD(&vb->hinted);
	mutex_init(&vb->reset_lock);
	ratelimit_state_init(&vb->log_limit, 60 * HZ, 10);
	ratelimit_set_flags(&vb->log_limit, RATELIMIT_MSG_ON_RELEASE);
	vb_init_queue(&vb->inflateq, vb_hold);
	vb_init_queue(&vb->deflateq, vb_returned);
	vb_init_queue(&vb->hintq, NULL);
	vb_init_queue(&vb->reportq, NULL);
	INIT_DELAYED_WORK(&vb->sizing, vb_sizing_work);
	INIT_DELAYED_WORK(&vb->publish, vb_publish_work);
	INIT_DELAYED_WORK(&vb->enlist, vb_enlist_work);
	INIT_DELAYED_WORK(&vb->hint, vb_hint_work);
	INIT_DELAYED_WORK(&vb->stats_work, vb_stats_work);
	rc = vb_balloon_init(&vb->info);
#ifdef VB_MIGRATION
	vb->info.migratepage = vb_migrate;
#endif
	vb->wq = alloc_workqueue("virtio_balloon", flags, 0);
	vb->stats_wq = alloc_workqueue("virtio_balloon_stats",
				       flags | WQ_HIGHPRI, 0);
	vb->stats = kcalloc(VIRTIO_BALLOON_S_NR, sizeof(*vb->stats),
			    GFP_KERNEL);
	vb->events = kcalloc(NR_VM_EVENT_ITEMS, sizeof(*vb->events),
			     GFP_KERNEL);
	if (rc || !vb->wq || !vb->stats_wq || !vb->stats || !vb->events) {
		vb_free(vb);
		return NULL;
	}
	return vb;
}

/*
 * Before features are settled: what must not be accepted. A guest whose memory
 * is encrypted cannot lend it: what comes back is neither shared nor accepted
 * again. PFNs are guest-physical, nothing that an IOMMU could translate; some
 * devices insist on that, others only offer it.
 */
static int vb_validate(struct virtio_device *vdev)
{
	if (vb_is_encrypted()) {
		dev_err(&vdev->dev,
			"refused: the memory of this guest is encrypted, and a balloon would not get it back\n");
		return -EOPNOTSUPP;
	}
	if (virtio_has_feature(vdev, VIRTIO_F_ACCESS_PLATFORM)) {
		dev_info(&vdev->dev,
			 "ACCESS_PLATFORM declined: a balloon names physical pages, which no IOMMU translates\n");
		__virtio_clear_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
	}
	vb_validate_poison(vdev);
	return 0;
}

/* How long hibernation waits for memory that its image would profit from. */
#define VB_PM_PATIENCE		(10 * HZ)

/*
 * No page is the host's any more, waits for its word (B13) or is on its way to
 * mm, and none follows; or the driver stops.
 */
static bool vb_is_empty(struct vb *vb)
{
	if (READ_ONCE(vb->phase) != VB_RUNNING)
		return true;
	/* Pairs with vb_heed_hibernation(). */
	return smp_load_acquire(&vb->emptying) && !READ_ONCE(vb->nr_spares) &&
	       !atomic_long_read(&vb->away);
}

/*
 * Hibernation makes room for its image before it suspends devices: the balloon
 * is empty from then on, until all is over. Context: process, may sleep.
 */
static int vb_pm_notify(struct notifier_block *nb, unsigned long action,
			void *unused)
{
	struct vb *vb = container_of(nb, struct vb, pm_nb);

	switch (action) {
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		WRITE_ONCE(vb->emptying, false);
		WRITE_ONCE(vb->hibernating, true);
		vb_queue_sizing(vb, 0);
		wait_event_timeout(vb->deflateq.wait, vb_is_empty(vb),
				   VB_PM_PATIENCE);
		break;
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		WRITE_ONCE(vb->hibernating, false);
		vb_queue_sizing(vb, 0);
		break;
	}
	return NOTIFY_OK;
}

/*
 * The machine goes down, or another kernel starts: nothing may be under way when
 * the device is reset, and nothing may take what is the next kernel's memory.
 * The pages stay where they are. A notifier, as some kernels reset devices
 * without asking their drivers, and some do not reset them.
 */
static int vb_reboot_notify(struct notifier_block *nb, unsigned long action,
			    void *unused)
{
	struct vb *vb = container_of(nb, struct vb, reboot_nb);

	vb_stop(vb);
	if (vb->inflateq.vq)
		vb_reset(vb);
	return NOTIFY_OK;
}

static int vb_probe(struct virtio_device *vdev)
{
	struct vb *vb;
	int rc;

	if (!vdev->config->get) {
		dev_err(&vdev->dev, "the device has no configuration space\n");
		return -EINVAL;
	}
	vb = vb_new(vdev);
	if (!vb)
		return -ENOMEM;
	vdev->priv = vb;
	vb->must_tell = virtio_has_feature(vdev,
					   VIRTIO_BALLOON_F_MUST_TELL_HOST);
	vb->oom = virtio_has_feature(vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	vb->poison = virtio_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON);
	vb->little_endian = virtio_is_little_endian(vdev);

	rc = vb_init_queues(vb);
	if (rc)
		goto free;
	rc = vb_pressure_start(vb);
	if (rc)
		goto del_queues;
	vb->debugfs = debugfs_create_dir(dev_name(&vdev->dev), vb_debugfs);
	debugfs_create_file("status", 0444, vb->debugfs, vb, &vb_status_fops);
	device_set_wakeup_capable(&vdev->dev, true);
	vb_start(vb);
	vb->pm_nb.notifier_call = vb_pm_notify;
	vb->reboot_nb.notifier_call = vb_reboot_notify;
	register_pm_notifier(&vb->pm_nb);	/* these cannot fail */
	register_reboot_notifier(&vb->reboot_nb);
	return 0;

del_queues:
	virtio_reset_device(vdev);
	vb_del_queues(vb);
free:
	vb_free(vb);
	return rc;
}

static void vb_remove(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;

	unregister_reboot_notifier(&vb->reboot_nb);
	unregister_pm_notifier(&vb->pm_nb);
	debugfs_remove_recursive(vb->debugfs);
	vb_pressure_stop(vb);
	vb_quit(vb);
	device_init_wakeup(&vdev->dev, false);
	vb_free(vb);
}

/*
 * Hibernation and S3 power the device off, and the user may reset its function:
 * the pages come back first.
 */
static int __maybe_unused vb_freeze(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;

	vb_pressure_stop(vb);
	vb_quit(vb);
	return 0;
}

/* Inflates to the host's wish again. */
static int __maybe_unused vb_restore(struct virtio_device *vdev)
{
	struct vb *vb = vdev->priv;
	int rc;

	vb->broken = false;
	vb->was_reset = false;
	rc = vb_init_queues(vb);
	if (rc)
		return rc;
	rc = vb_pressure_start(vb);
	if (rc)
		goto del_queues;
	vb_start(vb);
	return 0;

del_queues:
	virtio_reset_device(vdev);
	vb_del_queues(vb);
	return rc;
}

static const struct virtio_device_id vb_ids[] = {
	{ VIRTIO_ID_BALLOON, VIRTIO_DEV_ANY_ID },
	{ }
};
MODULE_DEVICE_TABLE(virtio, vb_ids);

/* The last one is of legacy devices only (G3, G22). */
static const unsigned int vb_features[] = {
	VIRTIO_BALLOON_F_MUST_TELL_HOST,
	VIRTIO_BALLOON_F_STATS_VQ,
	VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
	VIRTIO_BALLOON_F_FREE_PAGE_HINT,
	VIRTIO_BALLOON_F_PAGE_POISON,
	VIRTIO_BALLOON_F_REPORTING,
	VIRTIO_F_ANY_LAYOUT,
};

static struct virtio_driver vb_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.id_table = vb_ids,
	.feature_table = vb_features,
	.feature_table_size = ARRAY_SIZE(vb_features) - 1,
	.feature_table_legacy = vb_features,
	.feature_table_size_legacy = ARRAY_SIZE(vb_features),
	.validate = vb_validate,
	.probe = vb_probe,
	.remove = vb_remove,
	.config_changed = vb_config_changed,
	VB_SLEEP_OPS(vb_freeze, vb_restore)
	VB_RESET_OPS(vb_freeze, vb_restore)
};

static int __init vb_init(void)
{
	int rc;

	vb_debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	rc = register_virtio_driver(&vb_driver);
	if (rc)
		debugfs_remove_recursive(vb_debugfs);
	return rc;
}
module_init(vb_init);

static void __exit vb_exit(void)
{
	unregister_virtio_driver(&vb_driver);
	debugfs_remove_recursive(vb_debugfs);
}
module_exit(vb_exit);

MODULE_DESCRIPTION("Virtio memory balloon driver");
MODULE_AUTHOR("The virtio-balloon authors");
MODULE_VERSION("1.0");
MODULE_LICENSE("GPL");
