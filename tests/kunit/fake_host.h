/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A virtio balloon device made of software: its own configuration space and
 * real rings, so that the driver under test is the one that guests load. What
 * it does with a buffer is a policy for each queue, which tests change at any
 * time. It never forgets whose a page is: see enum fh_owner.
 *
 * Pages are 4 KiB, the unit of the protocol, unless a name says otherwise.
 */
#ifndef FAKE_HOST_H
#define FAKE_HOST_H

#include <kunit/test.h>
#include <linux/hrtimer.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/workqueue.h>

#define FH_PPP		((u32)(PAGE_SIZE >> VIRTIO_BALLOON_PFN_SHIFT))
#define FH_MIB		256U			/* pages in a MiB */
#define FH_PFNS		BIT(20)			/* of the ledger: 4 GiB */
#define FH_BIT(name)	BIT_ULL(VIRTIO_BALLOON_F_##name)
#define FH_ALL_FEATURES	(FH_BIT(MUST_TELL_HOST) | FH_BIT(STATS_VQ) | \
			 FH_BIT(DEFLATE_ON_OOM) | FH_BIT(FREE_PAGE_HINT) | \
			 FH_BIT(PAGE_POISON) | FH_BIT(REPORTING))

/* In the order of the specification */
enum fh_queue_nr {
	FH_INFLATE,
	FH_DEFLATE,
	FH_STATS,
	FH_HINT,
	FH_REPORT,
	FH_QUEUES
};

/* Where the device works */
enum fh_thread {
	FH_SYNC,	/* in the driver's notification, as a trapped access */
	FH_WORK,	/* in a thread of its own */
	FH_IRQ,		/* in a hard interrupt, as do its own interrupts */
};

/* What it does with the buffers of one queue; all zero: uses them at once */
struct fh_policy {
	bool deaf;		/* does not look at the ring when notified */
	bool hold;		/* looks, and keeps the buffers */
	bool reverse;		/* uses the newest first */
	bool mute;		/* raises no interrupt */
	bool duplicate;		/* uses a buffer twice */
	bool bad_id;		/* uses one that does not exist */
	bool stale_id;		/* uses one that is not in flight */
	bool scribble;		/* writes to memory that is only to be read */
	unsigned int batch;	/* uses them only when it has so many */
	bool fail;		/* cannot be notified */
	unsigned int drop;	/* loses so many notifications, then none */
	u32 used_len;
};

/*
 * Whose a page is, as the device sees it. Only the guest's may be used, moved
 * or shown again; the others hold a pattern, and whoever writes to them is
 * found by fh_check(), at the latest when the page comes back.
 */
enum fh_owner {
	FH_GUEST,
	FH_OFFERED,	/* on the inflateq, not used (B15, B16) */
	FH_OWNED,	/* inflated */
	FH_RETURNING,	/* on the deflateq, not used; the guest's without B13 */
	FH_HINTING,	/* on the hintq, not used (B36) */
	FH_REPORTED,	/* on the reporting queue, not used (B46) */
	FH_OWNERS
};

enum fh_event_type {
	FH_EV_STATUS,		/* a: as written */
	FH_EV_FEATURES,		/* b: as accepted */
	FH_EV_FIND,		/* q: a queue was set up; a: its size */
	FH_EV_DEL,		/* all queues are gone */
	FH_EV_RESET,
	FH_EV_READ,		/* a: offset, b: length */
	FH_EV_WRITE,		/* a: offset, b: value */
	FH_EV_NOTIFY,		/* q */
	FH_EV_SEEN,		/* q; a: bytes, b: first pfn or command */
	FH_EV_USED,		/* q; a: bytes, b: as SEEN */
};

struct fh_event {
	enum fh_event_type type;
	enum fh_queue_nr q;
	u32 a;
	u64 b;
	unsigned long when;	/* jiffies */
};

/* A buffer that the device has fetched and not used */
struct fh_elem {
	u16 head;
	bool in;		/* device-writable */
	u32 bytes;
	u32 cmd;		/* hintq: a command, of 4 bytes */
	u64 sum;		/* of @data, which must not change (G13) */
	void *data;		/* the driver's memory, the first part of it */
	unsigned int nr;	/* entries of @pfns */
	u32 *pfns;		/* a copy, or pairs of first and number */
};

struct fh_queue {
	struct fh *host;
	enum fh_queue_nr nr;
	unsigned int size;		/* of the ring; 0: there is none */
	struct virtqueue *vq;
	const struct vring *vring;
	bool live;			/* DRIVER_OK, and no reset since */
	u16 last_avail;
	u16 used_idx;
	struct fh_elem *elems;		/* @fetched of them, oldest first */
	u32 *pfns;			/* theirs */
	unsigned int fetched;
	struct fh_policy policy;
	u64 nr_notified;
	u64 nr_seen;			/* buffers */
	u64 nr_used;
	u64 nr_irqs;
	u64 nr_pages;			/* seen */
	unsigned int most;		/* fetched at a time */
	unsigned int least;		/* pages of the smallest part seen */
	unsigned int widest;		/* parts of the longest buffer seen */
};

#define FH_EVENTS	8192
#define FH_MAX_PFNS	4096
#define FH_CONFIG	64
#define FH_COMPLAINTS	6
#define FH_PATIENCE	(100 * HZ)

struct fh_vdev {
	struct virtio_device vdev;
	struct fh *host;
	struct completion released;
};

struct fh {
	struct kunit *test;
	struct fh_vdev *dev;		/* while it is plugged */
	struct device *parent;
	enum fh_thread thread;

	/* Set before fh_plug(), kept from plug to plug. */
	u64 features;			/* offered; VERSION_1 included */
	u64 refused;			/* FEATURES_OK fails with any of them */
	u64 needed;			/* and without all of these */
	unsigned int sizes[FH_QUEUES];
	unsigned int max_pfns;		/* a buffer, as Firecracker has it */
	unsigned int config_len;	/* an access beyond is a complaint */
	bool no_config;			/* has no way to read it */
	bool reset_keeps;		/* config; false: target and actual 0 */
	bool gone;			/* pulled out: reads as ones */
	bool keep_poison;		/* PAGE_POISON: reports are left alone */
	bool hint_hides;		/* as QEMU: STOP while it takes an id */

	/*
	 * Hears of what the driver does, with no lock held: of READ, FIND, NOTIFY
	 * and RESET before the host acts, of STATUS and WRITE after it. @arg: the
	 * queue of NOTIFY, a of the others.
	 */
	void (*hook)(struct fh *host, enum fh_event_type type, u32 arg);
	void *hook_data;
	u32 generation;			/* another one each time it is read */

	spinlock_t lock;		/* all below, rings and ledger */
	spinlock_t irq_lock;		/* interrupts against del_vqs */
	u8 status;
	u64 accepted;
	u8 config[FH_CONFIG];
	struct fh_queue queues[FH_QUEUES];
	u8 *owner;			/* by pfn: enum fh_owner */
	unsigned long nr_pfns;
	unsigned long *shown;		/* by pfn: it was, once */
	unsigned long nr[FH_OWNERS];	/* pages of each but the guest's */
	u64 nr_writes[FH_CONFIG];	/* of the configuration, by offset */
	u32 hint_begun;			/* the id that the driver sent last */
	bool hint_open;			/* no STOP since */
	unsigned long nr_commands;	/* of the hintq, ever */
	unsigned long lied;		/* queues: it lost sight since then */

	spinlock_t event_lock;
	struct fh_event *events;
	unsigned long nr_events;	/* ever; the last FH_EVENTS are kept */
	unsigned long complaints;
	char complaint[FH_COMPLAINTS][120];

	struct workqueue_struct *wq;
	struct work_struct work;
	struct hrtimer timer;
	bool config_irq;		/* for the timer to raise */
};

struct fh *fh_new(struct kunit *test, u64 features);
void fh_free(struct fh *host);
int fh_plug(struct fh *host);
void fh_unplug(struct fh *host);
bool fh_bound(struct fh *host);
int fh_bind(struct fh *host);
void fh_unbind(struct fh *host);

/* The host's side of the configuration; each raises an interrupt. */
void fh_target(struct fh *host, u32 pages);
void fh_hint(struct fh *host, u32 id);
void fh_fail(struct fh *host);
void fh_pull(struct fh *host);
void fh_config_irq(struct fh *host);
u32 fh_field(struct fh *host, unsigned int offset);
void fh_set_field(struct fh *host, unsigned int offset, u32 value);
#define fh_actual(host) \
	fh_field(host, offsetof(struct virtio_balloon_config, actual))
#define fh_poison(host) \
	fh_field(host, offsetof(struct virtio_balloon_config, poison_val))

/* Rings */
void fh_run(struct fh *host);
unsigned int fh_release(struct fh *host, enum fh_queue_nr q, unsigned int nr);
void fh_irq(struct fh *host, enum fh_queue_nr q);
void fh_callback(struct fh *host, enum fh_queue_nr q);
void fh_policy(struct fh *host, enum fh_queue_nr q, struct fh_policy policy);
unsigned int fh_fetched(struct fh *host, enum fh_queue_nr q);

/* What it knows */
void fh_check(struct fh *host);
void fh_complain(struct fh *host, const char *fmt, ...) __printf(2, 3);
enum fh_owner fh_owner_of(struct fh *host, u32 pfn);
bool fh_untouched(u32 pfn);
bool fh_is_filled(u32 pfn, u32 fill);
bool fh_watched(struct fh *host, enum fh_owner owner);
unsigned long fh_lost(struct fh *host);
unsigned long fh_count(struct fh *host, enum fh_owner owner);
unsigned long fh_count_events(struct fh *host, enum fh_event_type type, int q,
			      int a);
long fh_find_event(struct fh *host, unsigned long from,
		   enum fh_event_type type, int q, int a);
const struct fh_event *fh_event_at(struct fh *host, unsigned long n);

/* Until the balloon has that size and `actual` says so */
bool fh_settles(struct fh *host, u32 pages);

/* Free memory with a host that answers nothing, once it gets no more; 4 KiB */
unsigned long fh_lent(struct fh *host);

/* Waits for anything; false if it does not come to pass. */
#define fh_until(cond) ({						\
	unsigned long __end = jiffies + FH_PATIENCE;			\
	bool __ok;							\
									\
	while (!(__ok = !!(cond)) && time_before(jiffies, __end))	\
		fh_doze();						\
	__ok || !!(cond);						\
})
void fh_doze(void);

/* Unplugs, lets the test fail for all complaints, frees. */
void fh_end(struct fh *host);

/* A host in test->priv for suites: .init and .exit of most */
int fh_suite_init(struct kunit *test);
void fh_suite_exit(struct kunit *test);

#endif /* FAKE_HOST_H */
