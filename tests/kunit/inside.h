/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is inside of the driver: its counters, and the ways in that mm and the
 * power management have, called as they would call them. Pages are guest pages.
 */
#ifndef INSIDE_H
#define INSIDE_H

#include <linux/types.h>

struct virtio_device;

/* A look at the counters; not atomic as a whole */
struct inside {
	const char *state;
	u32 num_pages;			/* as read last */
	unsigned long target;
	long offered;
	long held;
	long returning;
	long returned;
	unsigned long spares;
	unsigned long runs;		/* pages that mm's list has not yet */
	bool heard;			/* what the host said of hints */
	long hinting;
	unsigned long hinted;
	unsigned long rounds;
	unsigned long shrunk;
	unsigned long oom_count;
	unsigned long oom_step;
	unsigned long hold_off;		/* jiffies */
	unsigned int retries;
	unsigned long migrated;
	unsigned long nr_published;
	unsigned long nr_stats;
	unsigned long nr_reports;
	unsigned long reported;
	int report_error;
	bool reporting;
	bool said;			/* why it stands still, in the log */
	bool broken;
	bool was_reset;
	bool wakeup;
	/* Of inflateq and deflateq together */
	unsigned int buffers;
	unsigned int pooled;
	unsigned int in_flight;
};

struct inside inside(struct virtio_device *vdev);
/* Pages offered or held; negative if the device is lost, or put to sleep. */
long inside_lent(struct virtio_device *vdev);
bool inside_is(struct virtio_device *vdev, const char *state);
unsigned long inside_floor(struct virtio_device *vdev);

/* As mm does when reclaim has failed; returns what came free. */
unsigned long inside_oom(struct virtio_device *vdev);
/* As if that many jiffies had passed since the last OOM */
void inside_later(struct virtio_device *vdev, unsigned long jiffies);
unsigned long inside_shrink_count(struct virtio_device *vdev);
unsigned long inside_shrink(struct virtio_device *vdev, unsigned long nr);
void inside_memory(struct virtio_device *vdev, unsigned long action);
void inside_pm(struct virtio_device *vdev, unsigned long action);
/* The machine goes down, or starts another kernel. */
void inside_reboot(struct virtio_device *vdev);

/*
 * As compaction does: isolates the page that is next on mm's list. Then either
 * migrates it, or puts it back. NULL if mm's list is empty.
 */
struct page *inside_isolate(struct virtio_device *vdev);
int inside_migrate(struct virtio_device *vdev, struct page *page);
void inside_putback(struct virtio_device *vdev, struct page *page);

#endif /* INSIDE_H */
