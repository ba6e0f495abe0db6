// SPDX-License-Identifier: GPL-2.0-only
/* See pages.h. */

#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/string.h>

#include <compat/mm.h>

#include "fake_host.h"
#include "guest.h"
#include "pages.h"

#define PAGES_GFP	((GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM) | \
			 __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN)
#define PAGES_BLOCK	((unsigned int)ilog2(SZ_2M >> PAGE_SHIFT))

static unsigned long zone_blocks(const struct zone *zone)
{
	unsigned long nr = 0;
	unsigned int order;

	for (order = PAGES_BLOCK; order <= VB_MAX_ORDER; order++)
		nr += READ_ONCE(zone->free_area[order].nr_free) << order;
	return nr * FH_PPP;
}

unsigned long pages_in_blocks(void)
{
	unsigned long nr = 0;
	unsigned int i;
	int node;

	for_each_online_node(node)
		for (i = 0; i < MAX_NR_ZONES; i++)
			nr += zone_blocks(NODE_DATA(node)->node_zones + i);
	return nr;
}

static void check_owner(struct fh *host, struct page *page)
{
	u32 pfn = page_to_pfn(page) * FH_PPP;

	if (!fh_watched(host, fh_owner_of(host, pfn)))
		return;
	/* It may have been announced, and nobody looked. */
	fh_fetched(host, FH_DEFLATE);
	if (fh_watched(host, fh_owner_of(host, pfn)))
		fh_complain(host, "guest: got pfn %x, which is the host's",
			    pfn);
}

/* Takes pages until there are @max guest pages or no more are free. */
static unsigned long take(struct fh *host, struct list_head *list,
			  unsigned long max, gfp_t gfp)
{
	unsigned long nr = 0;
	struct page *page;

	while (nr < max) {
		page = alloc_page(gfp);
		if (!page)
			break;
		check_owner(host, page);
		list_add(&page->lru, list);
		nr++;
		cond_resched();
	}
	return nr;
}

static void put(struct list_head *list)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, list, lru) {
		memset(page_address(page), 0x55, PAGE_SIZE);
		put_page(page);
		cond_resched();
	}
}

unsigned long pages_use(struct fh *host, unsigned long max)
{
	unsigned long nr;
	LIST_HEAD(list);

	nr = take(host, &list, max / FH_PPP, PAGES_GFP);
	put(&list);
	return nr * FH_PPP;
}

unsigned long pages_use_zeroed(struct fh *host, unsigned long max)
{
	unsigned long nr = 0;
	struct page *page;
	LIST_HEAD(list);

	take(host, &list, max / FH_PPP, PAGES_GFP | __GFP_ZERO);
	list_for_each_entry(page, &list, lru) {
		nr += test_bit(page_to_pfn(page) * FH_PPP, host->shown);
		if (memchr_inv(page_address(page), 0, PAGE_SIZE))
			fh_complain(host, "guest: pfn %lx is not zero",
				    page_to_pfn(page) * FH_PPP);
	}
	put(&list);
	return nr * FH_PPP;
}

unsigned long pages_check_fill(struct fh *host, u32 fill)
{
	unsigned long pfn, nr = 0;

	for_each_set_bit(pfn, host->shown, FH_PFNS) {
		if (guest_free_order(pfn / FH_PPP) < 0)
			continue;
		nr++;
		if (!fh_is_filled(pfn, fill) &&
		    guest_free_order(pfn / FH_PPP) >= 0)
			fh_complain(host, "guest: free pfn %lx does not hold %x",
				    pfn, fill);
	}
	return nr;
}

void pages_churn(unsigned int mib)
{
	unsigned int i, nr = mib / 2;
	struct page *block;
	LIST_HEAD(list);

	for (i = 0; i < nr; i++) {
		block = alloc_pages(PAGES_GFP, PAGES_BLOCK);
		if (!block)
			break;
		list_add(&block->lru, &list);
	}
	while ((block = list_first_entry_or_null(&list, struct page, lru))) {
		list_del(&block->lru);
		memset(page_address(block), 0x55, PAGE_SIZE);
		__free_pages(block, PAGES_BLOCK);
	}
}
