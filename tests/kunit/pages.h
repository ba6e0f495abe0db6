/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a guest does with its memory, next to the balloon. Pages are 4 KiB, as
 * in fake_host.h, unless a name says otherwise.
 */
#ifndef PAGES_H
#define PAGES_H

#include <linux/types.h>

struct fh;

/* Free pages in blocks of 2 MiB or more */
unsigned long pages_in_blocks(void);

/*
 * Takes up to @max free pages, with no reclaim, writes to them and frees them.
 * None may be the host's. Return: how many there were
 */
unsigned long pages_use(struct fh *host, unsigned long max);

/*
 * The same for pages that are to be zero. Return: how many of them the host
 * once had; all that are not zero are complaints.
 */
unsigned long pages_use_zeroed(struct fh *host, unsigned long max);

/*
 * Free pages that the host once had must hold @fill. Return: how many there are
 */
unsigned long pages_check_fill(struct fh *host, u32 fill);

/* Uses and frees large blocks, so that mm has something new to report. */
void pages_churn(unsigned int mib);

#endif /* PAGES_H */
