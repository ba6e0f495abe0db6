/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_REPORTING_H
#define COMPAT_REPORTING_H

#include <linux/errno.h>
#include <linux/page_reporting.h>

/* <linux/page_reporting.h> has no empty functions for kernels without it. */
#ifdef CONFIG_PAGE_REPORTING
#define vb_page_reporting_register(prdev)	page_reporting_register(prdev)
#define vb_page_reporting_unregister(prdev)	page_reporting_unregister(prdev)
#else
static inline int vb_page_reporting_register(struct page_reporting_dev_info *p)
{
	return -EOPNOTSUPP;
}

static inline void
vb_page_reporting_unregister(struct page_reporting_dev_info *p)
{
}
#endif

#endif /* COMPAT_REPORTING_H */
