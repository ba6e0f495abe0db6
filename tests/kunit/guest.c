// SPDX-License-Identifier: GPL-2.0-only
/* See guest.h. */

#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/path.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include <compat/mm.h>

#include "fake_host.h"
#include "guest.h"
#include "suites.h"

#define PARAMETERS	"/sys/module/virtio_balloon/parameters/"

static struct path root;

void guest_enter(void)
{
	get_fs_root(current->fs, &root);
}

void guest_leave(void)
{
	path_put(&root);
	root = (struct path){ };
}

struct file *guest_open(const char *path, int flags)
{
	return root.mnt ? file_open_root(&root, path, flags, 0) :
	       filp_open(path, flags, 0);
}

struct fh *guest_plug(struct kunit *test, u64 features)
{
	struct fh *host = test->priv;
	const unsigned int actual =
		offsetof(struct virtio_balloon_config, actual);

	host->features |= features;
	KUNIT_ASSERT_EQ(test, fh_plug(host), 0);
	KUNIT_ASSERT_TRUE(test, fh_bound(host));
	KUNIT_ASSERT_TRUE(test, fh_until(host->nr_writes[actual]));
	guest_sleep(HZ / 20);
	return host;
}

void guest_sleep(unsigned long jiffies)
{
	schedule_timeout_uninterruptible(jiffies);
}

int guest_write(const char *path, const char *text)
{
	struct file *file = guest_open(path, O_WRONLY);
	loff_t pos = 0;
	ssize_t rc;

	if (IS_ERR(file))
		return PTR_ERR(file);
	rc = kernel_write(file, text, strlen(text), &pos);
	filp_close(file, NULL);
	return rc < 0 ? rc : 0;
}

#ifdef MODULE
static const struct kernel_param *built_in(const char *name)
{
	return NULL;
}
#else
/* Tests that are built in run before sysfs is mounted, but know all of it. */
static const struct kernel_param *built_in(const char *name)
{
	const struct kernel_param *kp;
	char whole[80];

	snprintf(whole, sizeof(whole), "virtio_balloon.%s", name);
	for (kp = __start___param; kp < __stop___param; kp++)
		if (!strcmp(kp->name, whole))
			return kp;
	return NULL;
}
#endif

static int built_in_set(const struct kernel_param *kp, const char *value)
{
	int rc = -EACCES;

	kernel_param_lock(THIS_MODULE);
	if (kp->perm & 0200)
		rc = kp->ops->set(value, kp);
	kernel_param_unlock(THIS_MODULE);
	return rc;
}

static bool built_in_has(const struct kernel_param *kp, const char *value)
{
	char *text = (char *)get_zeroed_page(GFP_KERNEL);
	bool same = false;

	if (text) {
		kernel_param_lock(THIS_MODULE);
		same = kp->ops->get(text, kp) > 0 && sysfs_streq(text, value);
		kernel_param_unlock(THIS_MODULE);
	}
	free_page((unsigned long)text);
	return same;
}

int guest_set(const char *name, const char *value)
{
	const struct kernel_param *kp = built_in(name);
	char path[80];

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	return kp ? built_in_set(kp, value) : guest_write(path, value);
}

ssize_t guest_read(const char *path, char *text, size_t size)
{
	struct file *file = guest_open(path, O_RDONLY);
	loff_t pos = 0;
	ssize_t len;

	if (IS_ERR(file))
		return PTR_ERR(file);
	do
		len = kernel_read(file, text + pos, size - 1 - pos, &pos);
	while (len > 0);
	filp_close(file, NULL);
	text[pos] = '\0';
	return len ?: pos;
}

static bool file_has(const char *path, const char *value)
{
	char text[32];

	return guest_read(path, text, sizeof(text)) >= 0 &&
	       sysfs_streq(text, value);
}

bool guest_has(const char *name, const char *value)
{
	const struct kernel_param *kp = built_in(name);
	char path[80];

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	return kp ? built_in_has(kp, value) : file_has(path, value);
}

void guest_reset(void)
{
	guest_set("floor", "-1");
	guest_set("oom_pages", "0");
	guest_set("hint_order", "-1");
}

static int guest_thread(void *data)
{
	struct guest_call *call = data;
	unsigned long start = jiffies;

	call->result = call->fn(call->arg);
	call->took = jiffies - start;
	kthread_complete_and_exit(&call->done, 0);
}

int guest_call(struct guest_call *call, unsigned long (*fn)(void *arg),
	       void *arg)
{
	call->fn = fn;
	call->arg = arg;
	init_completion(&call->done);
	return PTR_ERR_OR_ZERO(kthread_run(guest_thread, call, "guest_call"));
}

/* Waits for the end of it. */
unsigned long guest_return(struct guest_call *call)
{
	wait_for_completion(&call->done);
	return call->result;
}

unsigned long guest_hoard(struct list_head *pieces, unsigned int order,
			  unsigned long max)
{
	struct page *page;
	unsigned long nr;

	for (nr = 0; nr < max; nr++) {
		page = alloc_pages(__GFP_HIGHMEM | __GFP_MOVABLE |
				   __GFP_NOWARN | __GFP_NOMEMALLOC, order);
		if (!page)
			break;
		set_page_private(page, order);
		list_add(&page->lru, pieces);
	}
	return nr;
}

void guest_unhoard(struct list_head *pieces)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, pieces, lru) {
		unsigned int order = page_private(page);

		set_page_private(page, 0);
		__free_pages(page, order);
	}
	INIT_LIST_HEAD(pieces);
}

void guest_use_memory(unsigned int mib)
{
	struct page *page, *next;
	LIST_HEAD(pages);

	for (mib <<= 20 - PAGE_SHIFT; mib; mib--) {
		page = alloc_page(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
		if (!page)
			break;
		memset(page_address(page), 0x55, PAGE_SIZE);
		list_add(&page->lru, &pages);
	}
	list_for_each_entry_safe(page, next, &pages, lru)
		put_page(page);
}

int guest_free_order(unsigned long pfn)
{
	unsigned int order;
	struct page *head;

	for (order = 0; order <= VB_MAX_ORDER; order++) {
		head = pfn_to_page(pfn & ~((1UL << order) - 1));
		if (PageBuddy(head) && page_private(head) >= order)
			return page_private(head);
	}
	return -1;
}

long guest_free_pages(void)
{
	return global_zone_page_state(NR_FREE_PAGES);
}
