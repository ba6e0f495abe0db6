/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef COMPAT_BALLOON_H
#define COMPAT_BALLOON_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 10, 0)
#error "virtio_balloon: kernels before 5.10 are not supported"
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(7, 4, 0)
#error "virtio_balloon: kernels after 7.3 are not supported yet"
#endif

/*
 * mm's list of held pages has four forms:
 *
 *   before 6.0   the pages belong to an inode of the driver's
 *   before 6.17  mm has the operations; a page that leaves the list is an
 *		  ordinary page again
 *   before 7.0   it is of type offline, and looks movable, until it is free
 *   7.0          <linux/balloon.h>: mm does the bookkeeping of migration
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 0, 0)
#define VB_BALLOON_CORE	1
#include <linux/balloon.h>
#else
#include <linux/balloon_compaction.h>
#endif
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/vmstat.h>

/*
 * Held pages are movable only where mm can ask the balloon to migrate them;
 * elsewhere they must not sit in movable memory. 7.0 renamed the option.
 */
#if defined(CONFIG_BALLOON_COMPACTION) || defined(CONFIG_BALLOON_MIGRATION)
#define VB_MIGRATION	1
#define VB_GFP		GFP_HIGHUSER_MOVABLE
#else
#define VB_GFP		GFP_HIGHUSER
#endif

/*
 * vb_balloon_init() and _exit() enclose all other calls for a list. No page is
 * held at its end.
 */
#if defined(VB_MIGRATION) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 0, 0)
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

static inline int vb_balloon_fs_init(struct fs_context *fc)
{
	return init_pseudo(fc, BALLOON_KVM_MAGIC) ? 0 : -ENOMEM;
}

/* Without an owner: it is gone before the module is, but must not keep it. */
static struct file_system_type vb_balloon_fs = {
	.name = KBUILD_MODNAME,
	.init_fs_context = vb_balloon_fs_init,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *vb_balloon_mount;
static int vb_balloon_mounts;

static inline int vb_balloon_init(struct balloon_dev_info *info)
{
	struct inode *inode;
	int rc;

	balloon_devinfo_init(info);
	rc = simple_pin_fs(&vb_balloon_fs, &vb_balloon_mount,
			   &vb_balloon_mounts);
	if (rc)
		return rc;
	inode = alloc_anon_inode(vb_balloon_mount->mnt_sb);
	if (IS_ERR(inode)) {
		simple_release_fs(&vb_balloon_mount, &vb_balloon_mounts);
		return PTR_ERR(inode);
	}
	inode->i_mapping->a_ops = &balloon_aops;
	info->inode = inode;
	return 0;
}

static inline void vb_balloon_exit(struct balloon_dev_info *info)
{
	if (!info->inode)
		return;
	iput(info->inode);
	simple_release_fs(&vb_balloon_mount, &vb_balloon_mounts);
}
#else
static inline int vb_balloon_init(struct balloon_dev_info *info)
{
	balloon_devinfo_init(info);
	return 0;
}

static inline void vb_balloon_exit(struct balloon_dev_info *info)
{
	/* Since 7.0 mm counts down after it has asked the driver. */
	while (READ_ONCE(info->isolated_pages))
		msleep(20);
}
#endif

/*
 * "Balloon:" in /proc/meminfo, since 6.16: mm counts what is on its list, the
 * driver what it holds besides.
 */
static inline void vb_balloon_account(struct page *page, long nr)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
	mod_node_page_state(page_pgdat(page), NR_BALLOON_PAGES, nr);
#endif
}

#ifdef VB_MIGRATION
#ifdef VB_BALLOON_CORE
/*
 * An isolated page has been deflated, and none inflated in its place. mm drops
 * the balloon's reference, but forgets to count. Return: what tells mm
 */
static inline int vb_balloon_deflated(struct balloon_dev_info *info,
				      struct page *page)
{
	vb_balloon_account(page, -1);
	count_vm_event(BALLOON_MIGRATE);
	return -ENOENT;
}
#else
/*
 * The same, where the driver does it all; balloon_page_finalize() has another
 * name in some of these kernels. Context: the page is locked by the caller of
 * migratepage.
 */
static inline int vb_balloon_deflated(struct balloon_dev_info *info,
				      struct page *page)
{
	unsigned long flags;

	spin_lock_irqsave(&info->pages_lock, flags);
	info->isolated_pages--;
	__count_vm_event(BALLOON_MIGRATE);
	__count_vm_event(BALLOON_DEFLATE);
	vb_balloon_account(page, -1);
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
	spin_unlock_irqrestore(&info->pages_lock, flags);
	__ClearPageMovable(page);
	set_page_private(page, 0);
	__ClearPageOffline(page);
#else
	set_page_private(page, 0);
	spin_unlock_irqrestore(&info->pages_lock, flags);
#endif
	put_page(page);
	return 0;
}
#endif
#endif

/*
 * A page that left mm's list keeps a mark (so that a racing isolation sees it)
 * of being movable: up to 6.16 in ->mapping, then in its type. The allocator
 * clears that in the head of a block only. Context: nobody else has a
 * reference.
 */
static inline void vb_balloon_forget(struct page *page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
	page->mapping = NULL;
#else
	__ClearPageOffline(page);
#endif
}

/*
 * The same for pages that stay held and may go to mm's list anew, which up to
 * 6.16 insists on their lock: nobody must take them for movable before.
 */
static inline void vb_balloon_unlist(struct page *page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
	page->mapping = NULL;
#endif
}

#endif /* COMPAT_BALLOON_H */
