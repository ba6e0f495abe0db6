/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_MM_H
#define COMPAT_MM_H

#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/poison.h>
#include <linux/string.h>
#include <linux/version.h>
#include <linux/vmstat.h>

/* MAX_ORDER was exclusive up to 6.3 and inclusive up to 6.7. */
#ifdef MAX_PAGE_ORDER
#define VB_MAX_ORDER	MAX_PAGE_ORDER
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define VB_MAX_ORDER	MAX_ORDER
#else
#define VB_MAX_ORDER	(MAX_ORDER - 1)
#endif

/*
 * A word of struct page that is the owner's alone: mm looks at ->private of
 * pages that were on the balloon's list once. Its name there was ->index.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0)
#define vb_page_index(page)	(((struct folio *)(page))->index)
#else
#define vb_page_index(page)	((page)->index)
#endif

/*
 * Whether mm notes of each page which code allocated it (memory allocation
 * profiling, since 6.10). split_page() gives each page such a note, and a block
 * that is freed takes back that of its first page only.
 */
#ifndef CONFIG_MEM_ALLOC_PROFILING
#define vb_pages_are_tagged()	false
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#include <linux/alloc_tag.h>
#define vb_pages_are_tagged()	mem_alloc_profiling_enabled()
#else
#define vb_pages_are_tagged()	true
#endif

/*
 * Pages scanned and reclaimed since boot. 7.1 moved them from the vm events to
 * the node statistics, and khugepaged has its own since 6.3; all are enum
 * constants. @events: what all_vm_events() filled.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0)
#define vb_reclaim_event(events, item)	((u64)global_node_page_state(item))
#else
#define vb_reclaim_event(events, item)	((u64)(events)[item])
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define vb_async_event(events, item) \
	(vb_reclaim_event(events, item##_KSWAPD) + \
	 vb_reclaim_event(events, item##_KHUGEPAGED))
#else
#define vb_async_event(events, item)	vb_reclaim_event(events, item##_KSWAPD)
#endif
#define vb_direct_event(events, item)	vb_reclaim_event(events, item##_DIRECT)

/*
 * Whether this guest relies on what free pages hold, and four bytes of that:
 * zeroes, or what finds those who write to them.
 */
static inline bool vb_free_pages_hold(u32 *fill)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
	bool poisoned = page_poisoning_enabled_static();
#else
	bool poisoned = page_poisoning_enabled();
#endif

	memset(fill, poisoned ? PAGE_POISON : 0, sizeof(*fill));
	return poisoned || want_init_on_free();
}

/* Without hugetlbfs there is nothing to count, and no name for it. */
#ifdef CONFIG_HUGETLB_PAGE
#define vb_hugetlb_event(events, item)	((events)[item])
#else
#define vb_hugetlb_event(events, item)	0
#endif

#endif /* COMPAT_MM_H */
