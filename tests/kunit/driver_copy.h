/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The driver's text, to be included once by a file that wants its types and
 * static functions. Not a driver: it registers nothing, has no parameters and
 * (see Kbuild) no tracepoints. COPY_PAGE_SHIFT gives it another page size.
 */

/* All headers first: they are of this kernel, whatever the page size is. */
#include <kunit/test.h>
#include <linux/cc_platform.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/memory.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/poison.h>
#include <linux/ratelimit.h>
#include <linux/reboot.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/swap.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>

#include <compat/balloon.h>
#include <compat/mm.h>
#include <compat/reporting.h>
#include <compat/shrinker.h>
#include <compat/virtio.h>

#undef module_init
#undef module_exit
#undef module_param_cb
#undef __MODULE_PARM_TYPE
#undef MODULE_PARM_DESC
#undef MODULE_DEVICE_TABLE
#undef MODULE_DESCRIPTION
#undef MODULE_AUTHOR
#undef MODULE_LICENSE
#undef MODULE_VERSION
#undef pr_fmt

/* Keep what they name from being unused. */
#define module_init(fn)	static void *copy_init __maybe_unused = fn
#define module_exit(fn)	static void *copy_exit __maybe_unused = fn
#define module_param_cb(name, ops, arg, perm)				\
	static const void *copy_param_##name[] __maybe_unused = { ops, arg }
#define __MODULE_PARM_TYPE(name, type)		struct copy_nothing
#define MODULE_PARM_DESC(name, desc)		struct copy_nothing
#define MODULE_DEVICE_TABLE(type, name)		struct copy_nothing
#define MODULE_DESCRIPTION(desc)		struct copy_nothing
#define MODULE_AUTHOR(name)			struct copy_nothing
#define MODULE_LICENSE(name)			struct copy_nothing
#define MODULE_VERSION(version)			struct copy_nothing

#ifdef COPY_PAGE_SHIFT
#undef PAGE_SHIFT
#define PAGE_SHIFT COPY_PAGE_SHIFT
#endif

#include "../../virtio_balloon.c"
