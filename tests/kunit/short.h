/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Short names for what suites do all the time
 */
#ifndef SHORT_H
#define SHORT_H

#include <kunit/test.h>
#include <linux/mm.h>
#include <linux/sizes.h>

#include "fake_host.h"
#include "inside.h"
#include "suites.h"

static const struct fh_policy __maybe_unused holding = { .hold = true };
static const struct fh_policy __maybe_unused prompt;

static inline struct virtio_device *vdev_of(struct fh *host)
{
	return &host->dev->vdev;
}

static inline struct inside look(struct fh *host)
{
	return inside(vdev_of(host));
}

static inline bool in_state(struct fh *host, const char *state)
{
	return inside_is(vdev_of(host), state);
}

static inline u64 buffers(struct fh *host, enum fh_queue_nr q)
{
	return host->queues[q].nr_seen;
}

static inline bool round_is_over(struct fh *host, u32 id)
{
	return fh_until(host->hint_begun == id && !host->hint_open);
}

static inline void set_sizes(struct fh *host, unsigned int size)
{
	unsigned int q;

	for (q = 0; q < FH_QUEUES; q++)
		host->sizes[q] = size;
}

/* Whether this guest fills free pages, without which it has no PAGE_POISON */
static inline bool guest_fills(void)
{
	return page_poisoning_enabled_static() || want_init_on_free();
}

/* All that this guest can take part in; see B2 and B3 */
static inline u64 all_features(void)
{
	return guest_fills() ? FH_ALL_FEATURES :
	       FH_ALL_FEATURES & ~FH_BIT(PAGE_POISON);
}

/* Guest pages that others may take or free where they run meanwhile */
static inline long others(void)
{
	return time_travels() ? 0 : SZ_8M / PAGE_SIZE;
}

/* Guest pages that the rest of the guest may take or free in any case */
static inline long slack(void)
{
	return SZ_1M / PAGE_SIZE + others();
}

/* @pages: of 4 KiB */
static inline void resize(struct kunit *test, u32 pages)
{
	struct fh *host = test->priv;

	fh_target(host, pages);
	KUNIT_ASSERT_TRUE_MSG(test, fh_settles(host, pages),
			      "asked for %u, is %u", pages, fh_actual(host));
}

#endif /* SHORT_H */
