/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests need of kernels after 6.1, where it has changed. What the
 * driver needs is in include/compat.
 */
#ifndef COMPAT_H
#define COMPAT_H

#include <kunit/test.h>
#include <linux/hrtimer.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/version.h>
#include <linux/virtio_config.h>
#include <linux/vmstat.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#include <linux/hex.h>
#endif

#include <compat/balloon.h>

/* What a bus is told of the queues that it is to find: in one array since 6.11 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define COMPAT_QUEUES		struct virtqueue_info info[]
#define compat_callback(i)	(info[i].callback)
#define compat_name(i)		(info[i].name)
#else
#define COMPAT_QUEUES		vq_callback_t *callbacks[], \
				const char * const names[], const bool *ctx
#define compat_callback(i)	(callbacks[i])
#define compat_name(i)		(names[i])
#endif

static inline void
compat_timer(struct hrtimer *timer,
	     enum hrtimer_restart (*fn)(struct hrtimer *timer))
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(timer, fn, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
#else
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	timer->function = fn;
#endif
}

/* Since 6.14 KUnit can be told to register suites only. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
#define compat_run_suites(suites, nr)	__kunit_test_suites_init(suites, nr, true)
#else
#define compat_run_suites(suites, nr)	__kunit_test_suites_init(suites, nr)
#endif

/* What makes parameters knows its test since 6.18. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
#define COMPAT_GENERATOR	struct kunit *test, const void *prev, char *desc
#else
#define COMPAT_GENERATOR	const void *prev, char *desc
#endif

/*
 * As if mm had scanned or reclaimed @nr pages. @events: those of the test;
 * since 7.1 it is a node that counts, all along. Return: the sum
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0)
#define compat_reclaim(events, item, nr) ({				\
	mod_node_page_state(NODE_DATA(first_online_node), item, nr);	\
	(u64)global_node_page_state(item);				\
})
#else
#define compat_reclaim(events, item, nr)	((u64)((events)[item] = (nr)))
#endif

/* What newer rings can do, and the fake host cannot */
#ifdef VIRTIO_F_IN_ORDER
#define COMPAT_IN_ORDER		BIT_ULL(VIRTIO_F_IN_ORDER)
#else
#define COMPAT_IN_ORDER		0
#endif
#ifdef VIRTIO_F_NOTIFICATION_DATA
#define COMPAT_NOTIFICATION	BIT_ULL(VIRTIO_F_NOTIFICATION_DATA)
#else
#define COMPAT_NOTIFICATION	0
#endif

/*
 * Pages on mm's list as compaction has them: isolated, then moved or put back.
 * The page is locked, and the caller has a reference.
 */
#if defined(VB_MIGRATION) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)

static inline struct page *compat_first(struct balloon_dev_info *info)
{
	struct page *page;

	spin_lock_irq(&info->pages_lock);
	page = list_first_entry_or_null(&info->pages, struct page, lru);
	if (page && !get_page_unless_zero(page))
		page = NULL;
	spin_unlock_irq(&info->pages_lock);
	return page;
}

static inline bool compat_isolate(struct balloon_dev_info *info,
				  struct page *page)
{
	if (!PageMovable(page) || PageIsolated(page) ||
	    !page_movable_ops(page)->isolate_page(page, 0))
		return false;
	SetPageIsolated(page);
	return true;
}

static inline void compat_putback(struct balloon_dev_info *info,
				  struct page *page)
{
	page_movable_ops(page)->putback_page(page);
	ClearPageIsolated(page);
}

static inline int compat_move(struct balloon_dev_info *info,
			      struct page *newpage, struct page *page)
{
	int rc = page_movable_ops(page)->migrate_page(newpage, page,
						      MIGRATE_ASYNC);

	if (!rc)
		ClearPageIsolated(page);
	return rc;
}

#elif defined(VB_MIGRATION) && defined(VB_BALLOON_CORE)

/*
 * A module cannot call what mm does with such a page, nor take its lock. So
 * this does the same once more, and the lock is that there is one processor.
 */
static_assert(!IS_ENABLED(CONFIG_SMP));

static inline struct page *compat_first(struct balloon_dev_info *info)
{
	struct page *page;

	local_irq_disable();
	page = list_first_entry_or_null(&info->pages, struct page, lru);
	if (page && !get_page_unless_zero(page))
		page = NULL;
	local_irq_enable();
	return page;
}

static inline bool compat_isolate(struct balloon_dev_info *info,
				  struct page *page)
{
	bool listed;

	if (!PageOffline(page) || !PageMovableOps(page) ||
	    PageMovableOpsIsolated(page))
		return false;
	local_irq_disable();
	listed = page_private(page) == (unsigned long)info;
	if (listed) {
		list_del(&page->lru);
		info->isolated_pages++;
	}
	local_irq_enable();
	if (listed)
		SetPageMovableOpsIsolated(page);
	return listed;
}

static inline void compat_putback(struct balloon_dev_info *info,
				  struct page *page)
{
	local_irq_disable();
	list_add(&page->lru, &info->pages);
	info->isolated_pages--;
	local_irq_enable();
	ClearPageMovableOpsIsolated(page);
}

/* That mm is to hold the new page is what our driver never says. */
static inline int compat_move(struct balloon_dev_info *info,
			      struct page *newpage, struct page *page)
{
	int rc = info->migratepage(info, newpage, page, MIGRATE_ASYNC);

	if (WARN_ON_ONCE(!rc))
		return -EINVAL;
	if (rc != -ENOENT)
		return rc;
	local_irq_disable();
	__count_vm_event(BALLOON_DEFLATE);
	info->isolated_pages--;
	set_page_private(page, 0);
	local_irq_enable();
	put_page(page);
	ClearPageMovableOpsIsolated(page);
	return 0;
}

#elif defined(VB_MIGRATION)
#error "the tests cannot migrate pages of kernels from 6.17 to 6.19"
#endif

#endif /* COMPAT_H */
