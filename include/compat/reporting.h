/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_REPORTING_H
#define COMPAT_REPORTING_H

#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/page_reporting.h>
#include <linux/version.h>

/*
 * <linux/page_reporting.h> has no empty functions for kernels without it.
 * @order: smallest blocks; before 5.14 mm takes page blocks. It is not 0, which
 * means "default" or, since 7.2, "single pages". @ring: room for blocks; before
 * 7.2 mm shows up to PAGE_REPORTING_CAPACITY at a time, whatever there is.
 */
#ifdef CONFIG_PAGE_REPORTING
static inline int
vb_page_reporting_register(struct page_reporting_dev_info *prdev,
			   unsigned int order, unsigned int ring)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 14, 0)
	prdev->order = order;
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 2, 0)
	prdev->capacity = min(ring, (unsigned int)PAGE_REPORTING_CAPACITY);
#endif
	return page_reporting_register(prdev);
}

#define vb_page_reporting_unregister(prdev)	page_reporting_unregister(prdev)
#else
static inline int
vb_page_reporting_register(struct page_reporting_dev_info *prdev,
			   unsigned int order, unsigned int ring)
{
	return -EOPNOTSUPP;
}

static inline void
vb_page_reporting_unregister(struct page_reporting_dev_info *prdev)
{
}
#endif

#endif /* COMPAT_REPORTING_H */
