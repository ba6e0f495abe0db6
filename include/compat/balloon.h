/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_BALLOON_H
#define COMPAT_BALLOON_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 0, 0)
#error "virtio_balloon: kernels before 6.0 are not supported yet"
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
/* NR_BALLOON_PAGES (6.16), page types of movable pages (6.17) */
#error "virtio_balloon: kernels 6.16 and later are not supported yet"
#endif

#include <linux/balloon_compaction.h>
#include <linux/vmstat.h>

/*
 * Held pages are movable only where mm can ask the balloon to migrate them;
 * elsewhere they must not sit in movable memory.
 */
#define VB_GFP	balloon_mapping_gfp_mask()

#ifdef CONFIG_BALLOON_COMPACTION
#define VB_MIGRATION 1

/*
 * An isolated page leaves the balloon for good. Context: the page is locked by
 * the caller of migratepage. balloon_page_finalize() has another name in some
 * of these kernels.
 */
static inline void vb_balloon_remove(struct balloon_dev_info *info,
				     struct page *page)
{
	unsigned long flags;

	spin_lock_irqsave(&info->pages_lock, flags);
	info->isolated_pages--;
	__count_vm_event(BALLOON_MIGRATE);
	__count_vm_event(BALLOON_DEFLATE);
	spin_unlock_irqrestore(&info->pages_lock, flags);
	__ClearPageMovable(page);
	set_page_private(page, 0);
	__ClearPageOffline(page);
}
#endif

/*
 * A page that leaves the balloon keeps the mark of a movable page in ->mapping
 * (so that a racing isolation sees it); the allocator clears that in the head
 * of a block only. Context: nobody else has a reference.
 */
static inline void vb_balloon_forget(struct page *page)
{
	page->mapping = NULL;
}

#endif /* COMPAT_BALLOON_H */
