/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest around the driver: parameters and other files, threads, memory that
 * a test takes for itself, and what mm thinks of a page. Pages are guest pages.
 */
#ifndef GUEST_H
#define GUEST_H

#include <linux/completion.h>
#include <linux/mm.h>

struct fh;
struct kunit;

/* The host of a suite, with its device plugged in and the driver at rest */
struct fh *guest_plug(struct kunit *test, u64 features);

/* Jiffies, in which nothing is waited for */
void guest_sleep(unsigned long jiffies);

/*
 * Tests are run by a kernel thread, which since 7.0 sees no file system: paths
 * are those of the process that calls guest_enter(), until guest_leave().
 */
void guest_enter(void);
void guest_leave(void);
struct file *guest_open(const char *path, int flags);

/* Writes to a file of sysfs or procfs, as a shell would. */
int guest_write(const char *path, const char *text);

/* Reads one to its end, or until @size is full; how much, or an error. */
ssize_t guest_read(const char *path, char *text, size_t size);

/* The driver's parameters; guest_reset() sets back those of run time. */
int guest_set(const char *name, const char *value);
bool guest_has(const char *name, const char *value);
void guest_reset(void);

/* A call in a thread of its own */
struct guest_call {
	unsigned long (*fn)(void *arg);
	void *arg;
	unsigned long result;
	unsigned long took;		/* jiffies */
	struct completion done;
};

int guest_call(struct guest_call *call, unsigned long (*fn)(void *arg),
	       void *arg);
unsigned long guest_return(struct guest_call *call);

/* Memory of the test's own: pieces of @order, as many as @max and there are */
unsigned long guest_hoard(struct list_head *pieces, unsigned int order,
			  unsigned long max);
void guest_unhoard(struct list_head *pieces);

/* Takes that much of what is free, writes to it, and frees it again. */
void guest_use_memory(unsigned int mib);

/* The order of the free block that has this page, or -1 */
int guest_free_order(unsigned long pfn);
long guest_free_pages(void);

#endif /* GUEST_H */
