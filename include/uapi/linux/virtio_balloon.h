/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wire format of the virtio memory balloon device (VIRTIO 1.4, 5.5), complete
 * on every kernel this driver builds for. Section 5.5 of the specification
 * numbers the features, the configuration fields and the statistics 0 to 9;
 * statistics 10 to 15 are Linux's own (6.12).
 */
#ifndef _LINUX_VIRTIO_BALLOON_H
#define _LINUX_VIRTIO_BALLOON_H

#include <linux/types.h>
#include <linux/virtio_types.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_config.h>

/* Feature bits */
#define VIRTIO_BALLOON_F_MUST_TELL_HOST	0
#define VIRTIO_BALLOON_F_STATS_VQ	1
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM	2
#define VIRTIO_BALLOON_F_FREE_PAGE_HINT	3
#define VIRTIO_BALLOON_F_PAGE_POISON	4
#define VIRTIO_BALLOON_F_REPORTING	5

/* Pages on the wire are 4 KiB, whatever the guest's own page size is. */
#define VIRTIO_BALLOON_PFN_SHIFT 12

#define VIRTIO_BALLOON_CMD_ID_STOP	0
#define VIRTIO_BALLOON_CMD_ID_DONE	1

/* Little-endian also on the legacy interface (VIRTIO 1.4, 5.5.4.0.0.1). */
struct virtio_balloon_config {
	__le32 num_pages;		/* the device's wish, 4 KiB pages */
	__le32 actual;			/* what the balloon holds, 4 KiB pages */
	union {				/* with FREE_PAGE_HINT, read-only */
		__le32 free_page_hint_cmd_id;
		__le32 free_page_report_cmd_id;	/* its first name */
	};
	__le32 poison_val;		/* with PAGE_POISON */
};

/* Statistics: sizes in bytes, events since boot */
#define VIRTIO_BALLOON_S_SWAP_IN	0
#define VIRTIO_BALLOON_S_SWAP_OUT	1
#define VIRTIO_BALLOON_S_MAJFLT		2
#define VIRTIO_BALLOON_S_MINFLT		3
#define VIRTIO_BALLOON_S_MEMFREE	4
#define VIRTIO_BALLOON_S_MEMTOT		5
#define VIRTIO_BALLOON_S_AVAIL		6
#define VIRTIO_BALLOON_S_CACHES		7
#define VIRTIO_BALLOON_S_HTLB_PGALLOC	8
#define VIRTIO_BALLOON_S_HTLB_PGFAIL	9
#define VIRTIO_BALLOON_S_OOM_KILL	10
#define VIRTIO_BALLOON_S_ALLOC_STALL	11
#define VIRTIO_BALLOON_S_ASYNC_SCAN	12
#define VIRTIO_BALLOON_S_DIRECT_SCAN	13
#define VIRTIO_BALLOON_S_ASYNC_RECLAIM	14
#define VIRTIO_BALLOON_S_DIRECT_RECLAIM	15
#define VIRTIO_BALLOON_S_NR		16

/* What QEMU, libvirt and the like call them, in the order of their tags */
#define VIRTIO_BALLOON_S_NAMES_WITH_PREFIX(prefix) { \
	prefix "swap-in", prefix "swap-out", \
	prefix "major-faults", prefix "minor-faults", \
	prefix "free-memory", prefix "total-memory", \
	prefix "available-memory", prefix "disk-caches", \
	prefix "hugetlb-allocations", prefix "hugetlb-failures", \
	prefix "oom-kills", prefix "alloc-stalls", \
	prefix "async-scans", prefix "direct-scans", \
	prefix "async-reclaims", prefix "direct-reclaims" \
}

#define VIRTIO_BALLOON_S_NAMES VIRTIO_BALLOON_S_NAMES_WITH_PREFIX("")

/* 10 bytes: devices expect no padding (B25). */
struct virtio_balloon_stat {
	__virtio16 tag;
	__virtio64 val;
} __attribute__((packed));

#endif /* _LINUX_VIRTIO_BALLOON_H */
