// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fake host: see fake_host.h.
 *
 * fh.lock guards rings and ledger, fh.irq_lock the driver's callbacks against
 * the end of its queues; neither is held in the other. Driver code runs under
 * irq_lock only, as it does in an interrupt handler.
 */

#include <linux/delay.h>
#include <linux/kasan-checks.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "fake_host.h"

#define FH_PAGE		SZ_4K

static const char * const fh_queue_names[FH_QUEUES] = {
	"inflateq", "deflateq", "statsq", "hintq", "reportq"
};

static const char * const fh_owner_names[FH_OWNERS] = {
	"the guest's", "offered", "owned", "returning", "hinting", "reported"
};

static struct fh *to_host(struct virtio_device *vdev)
{
	return container_of(vdev, struct fh_vdev, vdev)->host;
}

/* Context: any */
static void fh_event(struct fh *host, enum fh_event_type type,
		     enum fh_queue_nr q, u32 a, u64 b)
{
	unsigned long flags;

	spin_lock_irqsave(&host->event_lock, flags);
	host->events[host->nr_events++ % FH_EVENTS] =
		(struct fh_event){ type, q, a, b, jiffies };
	spin_unlock_irqrestore(&host->event_lock, flags);
}

/* The driver did what it must not. Context: any */
void fh_complain(struct fh *host, const char *fmt, ...)
{
	va_list args;

	if (host->complaints < FH_COMPLAINTS) {
		va_start(args, fmt);
		vsnprintf(host->complaint[host->complaints],
			  sizeof(host->complaint[0]), fmt, args);
		va_end(args);
	}
	host->complaints++;
}

/* Whether it broke the rules so that pages may be anybody's now */
static bool fh_lied(struct fh *host)
{
	return host->lied & ~BIT(FH_STATS);
}

static void fh_hook(struct fh *host, enum fh_event_type type, u32 arg)
{
	void (*hook)(struct fh *host, enum fh_event_type type, u32 arg) =
		READ_ONCE(host->hook);

	if (hook)
		hook(host, type, arg);
}

/* Of the log, those that match; -1 matches all. */
static bool fh_matches(const struct fh_event *ev, enum fh_event_type type,
		       int q, int a)
{
	return ev->type == type && (q < 0 || ev->q == q) &&
	       (a < 0 || ev->a == a);
}

/* The first such event from number @from on, or -1 */
long fh_find_event(struct fh *host, unsigned long from,
		   enum fh_event_type type, int q, int a)
{
	unsigned long n = from;

	if (host->nr_events > FH_EVENTS)
		n = max(n, host->nr_events - FH_EVENTS);
	for (; n < host->nr_events; n++)
		if (fh_matches(&host->events[n % FH_EVENTS], type, q, a))
			return n;
	return -1;
}

/* Number @n of all that ever happened; only the last FH_EVENTS are there. */
const struct fh_event *fh_event_at(struct fh *host, unsigned long n)
{
	return &host->events[n % FH_EVENTS];
}

unsigned long fh_count_events(struct fh *host, enum fh_event_type type, int q,
			      int a)
{
	unsigned long nr = 0;
	long n = -1;

	while ((n = fh_find_event(host, n + 1, type, q, a)) >= 0)
		nr++;
	return nr;
}

/*
 * The ledger
 */

static u64 fh_word(u32 pfn)
{
	return 0x66616b65686f7374ULL ^ (pfn * 0x9e3779b97f4a7c15ULL);
}

static u64 *fh_page(u32 pfn)
{
	void *page = page_address(pfn_to_page(pfn / FH_PPP));

	return page + (pfn % FH_PPP) * FH_PAGE;
}

/*
 * Words of a page that the host writes and looks at: its ends, and one between
 * that is another one in each page.
 */
static unsigned int fh_place(u32 pfn, unsigned int i)
{
	const unsigned int last = FH_PAGE / sizeof(u64) - 1;

	return i == 0 ? 0 : i == 1 ? last : 1 + pfn * 201 % (last - 1);
}

#define FH_PLACES	3

static void fh_fill(u32 pfn)
{
	u64 *page = fh_page(pfn);
	unsigned int i;

	for (i = 0; i < FH_PLACES; i++)
		WRITE_ONCE(page[fh_place(pfn, i)], fh_word(pfn));
}

static bool fh_holds(u32 pfn, u64 word)
{
	const u64 *page = fh_page(pfn);
	unsigned int i;

	for (i = 0; i < FH_PLACES; i++)
		if (READ_ONCE(page[fh_place(pfn, i)]) != word)
			return false;
	return true;
}

/* Whether a page still is as the host left it */
bool fh_untouched(u32 pfn)
{
	return fh_holds(pfn, fh_word(pfn));
}

/* Whether all of a page, free or not, holds these four bytes over and over */
bool fh_is_filled(u32 pfn, u32 fill)
{
	const u32 *page = (const u32 *)fh_page(pfn);
	unsigned int i;

	for (i = 0; i < FH_PAGE / sizeof(*page); i++)
		if (READ_ONCE(page[i]) != fill)
			return false;
	return true;
}

static u64 fh_poison_word(struct fh *host)
{
	return (u64)fh_poison(host) << 32 | fh_poison(host);
}

/* What a page that is not the guest's must hold */
static u64 fh_expected(struct fh *host, u32 pfn, enum fh_owner owner)
{
	return owner == FH_REPORTED && host->keep_poison ?
	       fh_poison_word(host) : fh_word(pfn);
}

/* Without MUST_TELL_HOST the guest may use a page that it has announced. */
bool fh_watched(struct fh *host, enum fh_owner owner)
{
	if (owner == FH_RETURNING)
		return host->accepted & FH_BIT(MUST_TELL_HOST);
	return owner != FH_GUEST;
}

enum fh_owner fh_owner_of(struct fh *host, u32 pfn)
{
	return pfn < FH_PFNS ? host->owner[pfn] : FH_GUEST;
}

unsigned long fh_count(struct fh *host, enum fh_owner owner)
{
	return READ_ONCE(host->nr[owner]);
}

/* Of the pages of a block of free memory only the first has a reference. */
static bool fh_is_free(struct fh *host, u32 pfn)
{
	return host->owner[pfn] < FH_HINTING &&
	       !page_count(pfn_to_page(pfn / FH_PPP));
}

static void fh_check_page(struct fh *host, u32 pfn)
{
	enum fh_owner owner = host->owner[pfn];

	if (!fh_watched(host, owner) || fh_lied(host))
		return;
	if (fh_is_free(host, pfn))
		fh_complain(host, "pfn %x is free while %s", pfn,
			    fh_owner_names[owner]);
	else if (!fh_holds(pfn, fh_expected(host, pfn, owner)))
		fh_complain(host, "pfn %x was written to while %s", pfn,
			    fh_owner_names[owner]);
}

static void fh_own(struct fh *host, u32 pfn, enum fh_owner owner)
{
	host->nr[host->owner[pfn]]--;
	host->nr[owner]++;
	host->owner[pfn] = owner;
	host->nr_pfns = max_t(unsigned long, host->nr_pfns, pfn + 1);
}

/* B14: the guest need not wait for the answer before it uses a page again. */
static bool fh_is_reused(struct fh_queue *hq, u32 pfn, enum fh_owner from)
{
	return from == FH_GUEST && hq->nr != FH_INFLATE &&
	       hq->host->owner[pfn] == FH_RETURNING &&
	       !fh_watched(hq->host, FH_RETURNING);
}

/* The driver shows a page: is it of those it may show there? */
static void fh_show(struct fh_queue *hq, u32 pfn, enum fh_owner from,
		    enum fh_owner to)
{
	struct fh *host = hq->host;

	if (pfn >= FH_PFNS || !pfn_valid(pfn / FH_PPP)) {
		fh_complain(host, "%s: pfn %x is no page",
			    fh_queue_names[hq->nr], pfn);
		return;
	}
	if (host->owner[pfn] != from && !fh_lied(host) &&
	    !fh_is_reused(hq, pfn, from))
		fh_complain(host, "%s: pfn %x is %s, not %s",
			    fh_queue_names[hq->nr], pfn,
			    fh_owner_names[host->owner[pfn]],
			    fh_owner_names[from]);
	if (from != FH_GUEST && fh_watched(host, to))
		fh_check_page(host, pfn);
	fh_own(host, pfn, to);
	if (from != FH_GUEST)
		return;
	set_bit(pfn, host->shown);
	if (to != FH_REPORTED || !host->keep_poison)
		fh_fill(pfn);
	else if (!fh_holds(pfn, fh_poison_word(host)))
		fh_complain(host, "reported pfn %x does not hold 0x%x (B45)",
			    pfn, fh_poison(host));
}

/* The device is done with a page that it was shown. */
static void fh_done(struct fh *host, u32 pfn, enum fh_owner to)
{
	if (pfn >= FH_PFNS)
		return;
	fh_check_page(host, pfn);
	fh_own(host, pfn, to);
}

/* Kernels with stack traces keep a block of four pages in stock for them. */
static bool fh_is_stack_depot(struct page *page)
{
	unsigned int i;

	if (page_to_pfn(page) % 4 || page_private(page))
		return false;
	for (i = 1; i < 4; i++)
		if (page_count(page + i) || PageBuddy(page + i))
			return false;
	return true;
}

/*
 * How many of the pages that the host ever had are neither free nor in use:
 * there is a reference, and they still hold what the host wrote. Only without
 * a device: a balloon has such pages.
 */
unsigned long fh_lost(struct fh *host)
{
	unsigned long pfn, nr = 0;
	struct page *page;

	for_each_set_bit(pfn, host->shown, FH_PFNS) {
		page = pfn_to_page(pfn / FH_PPP);
		nr += page_count(page) && !PageSlab(page) &&
		      !PageCompound(page) && !fh_is_stack_depot(page) &&
		      fh_holds(pfn, fh_word(pfn));
	}
	return nr;
}

static void fh_forget_all(struct fh *host)
{
	memset(host->owner, FH_GUEST, host->nr_pfns);
	memset(host->nr, 0, sizeof(host->nr));
	host->nr_pfns = 0;
}

/*
 * Fetching: the driver's buffers as the device sees them
 */

static u16 fh_16(struct fh *host, __virtio16 val)
{
	return virtio16_to_cpu(&host->dev->vdev, val);
}

static u32 fh_32(struct fh *host, __virtio32 val)
{
	return virtio32_to_cpu(&host->dev->vdev, val);
}

static u64 fh_64(struct fh *host, __virtio64 val)
{
	return virtio64_to_cpu(&host->dev->vdev, val);
}

static void fh_see_pfns(struct fh_queue *hq, struct fh_elem *elem)
{
	struct fh *host = hq->host;
	__virtio32 *pfns = elem->data;
	bool inflate = hq->nr == FH_INFLATE;
	unsigned int i;

	elem->nr = elem->bytes / sizeof(u32);
	if (elem->in || elem->bytes % sizeof(u32) || !elem->nr ||
	    elem->nr > host->max_pfns) {
		fh_complain(host, "%s: a buffer of %u bytes",
			    fh_queue_names[hq->nr], elem->bytes);
		elem->nr = min(elem->nr, host->max_pfns);
	}
	for (i = 0; i < elem->nr; i++) {
		elem->pfns[i] = fh_32(host, pfns[i]);
		fh_show(hq, elem->pfns[i], inflate ? FH_GUEST : FH_OWNED,
			inflate ? FH_OFFERED : FH_RETURNING);
		if (hq->policy.scribble)
			pfns[i] = (__force __virtio32)0xdeadbeef;
	}
	hq->nr_pages += elem->nr;
}

static void fh_see_stats(struct fh_queue *hq, struct fh_elem *elem)
{
	if (elem->in || !elem->bytes ||
	    elem->bytes % sizeof(struct virtio_balloon_stat))
		fh_complain(hq->host, "statsq: a buffer of %u bytes (B25)",
			    elem->bytes);
	if (hq->fetched)
		fh_complain(hq->host, "statsq: more than one buffer (B21)");
	if (hq->policy.scribble)
		memset(elem->data, 0xff, elem->bytes);
}

static void fh_see_command(struct fh_queue *hq, struct fh_elem *elem)
{
	struct fh *host = hq->host;

	if (elem->bytes != sizeof(u32))
		fh_complain(host, "hintq: a command of %u bytes (B30)",
			    elem->bytes);
	elem->cmd = fh_32(host, *(__virtio32 *)elem->data);
	host->nr_commands++;
	if (hq->policy.scribble)
		memset(elem->data, 0xff, elem->bytes);
	if (elem->cmd == VIRTIO_BALLOON_CMD_ID_STOP) {
		if (!host->hint_open)
			fh_complain(host, "hintq: STOP without a round");
		host->hint_open = false;
		return;
	}
	if (host->hint_open)
		fh_complain(host, "hintq: id %x within the round of %x",
			    elem->cmd, host->hint_begun);
	if (elem->cmd == host->hint_begun)
		fh_complain(host, "hintq: id %x once more (B32)", elem->cmd);
	host->hint_begun = elem->cmd;
	host->hint_open = true;
	if (host->hint_hides)
		fh_set_field(host, offsetof(struct virtio_balloon_config,
					    free_page_hint_cmd_id),
			     VIRTIO_BALLOON_CMD_ID_STOP);
}

/* Free memory of the guest, in parts: pairs of first and number */
static void fh_see_part(struct fh_queue *hq, struct fh_elem *elem, u64 addr,
			u32 len)
{
	u32 i, pfn = addr / FH_PAGE, nr = len / FH_PAGE;

	if (addr % PAGE_SIZE || len % PAGE_SIZE || !len)
		fh_complain(hq->host, "%s: %u bytes at %llx",
			    fh_queue_names[hq->nr], len, addr);
	if (hq->nr == FH_HINT && !hq->host->hint_open)
		fh_complain(hq->host, "hintq: a block without a round (B31)");
	for (i = 0; i < nr; i++)
		fh_show(hq, pfn + i, FH_GUEST, hq->nr == FH_HINT ?
			FH_HINTING : FH_REPORTED);
	if (elem->nr + 2 <= FH_MAX_PFNS) {
		elem->pfns[elem->nr++] = pfn;
		elem->pfns[elem->nr++] = nr;
	}
	hq->nr_pages += nr;
	hq->least = min(hq->least, nr);
}

static const struct vring_desc *fh_table(struct fh *host,
					 const struct vring_desc *desc,
					 u32 *len)
{
	if (!(fh_16(host, desc->flags) & VRING_DESC_F_INDIRECT))
		return NULL;
	*len = fh_32(host, desc->len) / sizeof(*desc);
	return phys_to_virt(fh_64(host, desc->addr));
}

/* What the driver shares with the device: all but pages, which are ledgered */
static u64 fh_sum(const struct fh_elem *elem)
{
	const u8 *data = elem->data;
	u64 sum = 0;
	u32 i;

	for (i = 0; !elem->in && i < elem->bytes; i++)
		sum = sum * 31 + READ_ONCE(data[i]);
	return sum;
}

/* The driver's memory is the device's, unchanged, until it is used or reset. */
static void fh_check_elem(struct fh_queue *hq, const struct fh_elem *elem)
{
	if (hq->host->lied & BIT(hq->nr))
		return;
	/* A block has one reference, in its first page; mm's have none. */
	if (hq->nr == FH_HINT && elem->nr &&
	    !page_count(pfn_to_page(elem->pfns[0] / FH_PPP)))
		fh_complain(hq->host, "pfn %x is free while hinting",
			    elem->pfns[0]);
	if (elem->in)
		return;
	if (!__kasan_check_read(elem->data, elem->bytes))
		fh_complain(hq->host, "%s: freed while in flight (D19)",
			    fh_queue_names[hq->nr]);
	else if (fh_sum(elem) != elem->sum)
		fh_complain(hq->host, "%s: changed while in flight (G13)",
			    fh_queue_names[hq->nr]);
}

/* One buffer: its parts, and what they are on this queue */
static void fh_see(struct fh_queue *hq, struct fh_elem *elem)
{
	struct fh *host = hq->host;
	const struct vring_desc *table = hq->vring->desc, *desc, *indirect;
	u32 i = elem->head, parts = 0, len, size = hq->vring->num;
	u16 flags;

	elem->nr = 0;
	elem->bytes = 0;
	elem->cmd = 0;
	indirect = fh_table(host, &table[i], &size);
	if (indirect) {
		table = indirect;
		i = 0;
	}
	do {
		desc = &table[i];
		flags = fh_16(host, desc->flags);
		len = fh_32(host, desc->len);
		if (!parts) {
			elem->in = flags & VRING_DESC_F_WRITE;
			elem->data = phys_to_virt(fh_64(host, desc->addr));
		} else if (elem->in != !!(flags & VRING_DESC_F_WRITE)) {
			fh_complain(host, "%s: a mixed buffer",
				    fh_queue_names[hq->nr]);
		}
		elem->bytes += len;
		if (hq->nr >= FH_HINT && elem->in)
			fh_see_part(hq, elem, fh_64(host, desc->addr), len);
		i = fh_16(host, desc->next);
	} while (++parts < size && flags & VRING_DESC_F_NEXT);

	hq->widest = max(hq->widest, parts);
	if (parts > 1 && hq->nr != FH_REPORT)
		fh_complain(host, "%s: a chain of %u", fh_queue_names[hq->nr],
			    parts);
	if (hq->nr == FH_STATS)
		fh_see_stats(hq, elem);
	else if (hq->nr == FH_HINT && !elem->in)
		fh_see_command(hq, elem);
	else if (hq->nr == FH_REPORT && !elem->in)
		fh_complain(host, "reportq: a readable buffer");
	else if (hq->nr <= FH_DEFLATE)
		fh_see_pfns(hq, elem);
	elem->sum = fh_sum(elem);
}

static u64 fh_label(const struct fh_elem *elem)
{
	return elem->nr ? elem->pfns[0] : elem->cmd;
}

/* Takes what is new in the ring. Context: fh.lock */
static void fh_fetch(struct fh_queue *hq)
{
	struct fh *host = hq->host;
	const struct vring *vring = hq->vring;
	struct fh_elem *elem;

	if (!hq->live || host->lied & BIT(hq->nr))
		return;
	/* That a page is free may be news to a device that did not look. */
	if (hq->nr >= FH_HINT)
		fh_fetch(&host->queues[FH_DEFLATE]);
	while (hq->last_avail != fh_16(host, READ_ONCE(vring->avail->idx))) {
		virtio_rmb(true);
		if (hq->fetched == vring->num) {
			fh_complain(host, "%s: more buffers than the ring has",
				    fh_queue_names[hq->nr]);
			return;
		}
		elem = &hq->elems[hq->fetched];
		elem->head = fh_16(host, vring->avail->ring[hq->last_avail++ %
							    vring->num]);
		fh_see(hq, elem);
		hq->fetched++;
		hq->nr_seen++;
		hq->most = max(hq->most, hq->fetched);
		fh_event(host, FH_EV_SEEN, hq->nr, elem->bytes,
			 fh_label(elem));
		if (host->accepted & BIT_ULL(VIRTIO_RING_F_EVENT_IDX)) {
			vring_avail_event(vring) =
				cpu_to_virtio16(&host->dev->vdev,
						hq->last_avail);
			virtio_mb(true);
		}
	}
}

/*
 * Using them
 */

static void fh_use_pfns(struct fh_queue *hq, struct fh_elem *elem)
{
	bool inflate = hq->nr == FH_INFLATE;
	enum fh_owner from = inflate ? FH_OFFERED : FH_RETURNING;
	enum fh_owner to = inflate ? FH_OWNED : FH_GUEST;
	unsigned int i;

	for (i = 0; i < elem->nr; i++)
		if (fh_owner_of(hq->host, elem->pfns[i]) == from)
			fh_done(hq->host, elem->pfns[i], to);
}

static void fh_use_parts(struct fh_queue *hq, struct fh_elem *elem)
{
	unsigned int i, n;

	for (i = 0; i + 1 < elem->nr; i += 2)
		for (n = 0; n < elem->pfns[i + 1]; n++)
			fh_done(hq->host, elem->pfns[i] + n, FH_GUEST);
}

static void fh_push(struct fh_queue *hq, u32 id)
{
	struct virtio_device *vdev = &hq->host->dev->vdev;
	vring_used_t *used = hq->vring->used;
	vring_used_elem_t *to = &used->ring[hq->used_idx % hq->vring->num];

	to->id = cpu_to_virtio32(vdev, id);
	to->len = cpu_to_virtio32(vdev, hq->policy.used_len);
	virtio_wmb(true);
	WRITE_ONCE(used->idx, cpu_to_virtio16(vdev, ++hq->used_idx));
}

/* Uses buffer number @i of those fetched. Context: fh.lock */
static void fh_use(struct fh_queue *hq, unsigned int i)
{
	struct fh_elem elem = hq->elems[i];

	fh_check_elem(hq, &elem);
	if (hq->nr <= FH_DEFLATE)
		fh_use_pfns(hq, &elem);
	else if (elem.in)
		fh_use_parts(hq, &elem);
	fh_event(hq->host, FH_EV_USED, hq->nr, elem.bytes, fh_label(&elem));
	hq->fetched--;
	memmove(&hq->elems[i], &hq->elems[i + 1],
		(hq->fetched - i) * sizeof(elem));
	hq->elems[hq->fetched] = elem;
	hq->nr_used++;
	fh_push(hq, hq->policy.bad_id ? hq->vring->num + 5 :
		hq->policy.stale_id ? hq->vring->num - 1 : elem.head);
	if (hq->policy.duplicate)
		fh_push(hq, elem.head);
	if (hq->policy.bad_id || hq->policy.stale_id || hq->policy.duplicate)
		hq->host->lied |= BIT(hq->nr);
}

/* Whether the driver wants to hear of what was used since @old */
static bool fh_wanted(struct fh_queue *hq, u16 old)
{
	struct fh *host = hq->host;
	const struct vring *vring = hq->vring;

	virtio_mb(true);
	if (old == hq->used_idx || hq->policy.mute)
		return false;
	if (host->accepted & BIT_ULL(VIRTIO_RING_F_EVENT_IDX))
		return vring_need_event(fh_16(host, vring_used_event(vring)),
					hq->used_idx, old);
	return !(fh_16(host, vring->avail->flags) &
		 VRING_AVAIL_F_NO_INTERRUPT);
}

static void fh_raise(struct fh_queue *hq)
{
	unsigned long flags;

	spin_lock_irqsave(&hq->host->irq_lock, flags);
	if (hq->vq) {
		hq->nr_irqs++;
		vring_interrupt(0, hq->vq);
	}
	spin_unlock_irqrestore(&hq->host->irq_lock, flags);
}

/* Uses up to @nr buffers, and says so if the driver wants to know. */
static unsigned int fh_use_some(struct fh_queue *hq, unsigned int nr)
{
	unsigned long flags;
	unsigned int done = 0;
	bool raise = false;
	u16 old;

	spin_lock_irqsave(&hq->host->lock, flags);
	if (hq->live) {
		fh_fetch(hq);
		old = hq->used_idx;
		for (; hq->fetched && done < nr; done++)
			fh_use(hq, hq->policy.reverse ? hq->fetched - 1 : 0);
		raise = fh_wanted(hq, old);
	}
	spin_unlock_irqrestore(&hq->host->lock, flags);
	if (raise)
		fh_raise(hq);
	return done;
}

/* What the device does by itself with one queue */
static void fh_run_queue(struct fh_queue *hq)
{
	struct fh_policy *policy = &hq->policy;
	unsigned long flags;
	bool all;

	if (policy->deaf)
		return;
	spin_lock_irqsave(&hq->host->lock, flags);
	fh_fetch(hq);
	all = !policy->hold && hq->fetched >= policy->batch;
	spin_unlock_irqrestore(&hq->host->lock, flags);
	if (all)
		fh_use_some(hq, UINT_MAX);
}

/* Looks at all rings, as after a notification. */
void fh_run(struct fh *host)
{
	unsigned int i;

	for (i = 0; i < FH_QUEUES; i++)
		fh_run_queue(&host->queues[i]);
}

/* Uses up to @nr buffers that it holds, whatever the policy. */
unsigned int fh_release(struct fh *host, enum fh_queue_nr q, unsigned int nr)
{
	return fh_use_some(&host->queues[q], nr);
}

/* An interrupt for nothing, or for what a mute queue used. */
void fh_irq(struct fh *host, enum fh_queue_nr q)
{
	fh_raise(&host->queues[q]);
}

/* The driver's callback, with no regard to whether anything was used */
void fh_callback(struct fh *host, enum fh_queue_nr q)
{
	struct virtqueue *vq;
	unsigned long flags;

	spin_lock_irqsave(&host->irq_lock, flags);
	vq = host->queues[q].vq;
	if (vq && vq->callback)
		vq->callback(vq);
	spin_unlock_irqrestore(&host->irq_lock, flags);
}

/* A new policy, which applies to what is in the ring at once. */
void fh_policy(struct fh *host, enum fh_queue_nr q, struct fh_policy policy)
{
	host->queues[q].policy = policy;
	fh_run_queue(&host->queues[q]);
}

/* Buffers that the device has of that queue */
unsigned int fh_fetched(struct fh *host, enum fh_queue_nr q)
{
	struct fh_queue *hq = &host->queues[q];
	unsigned long flags;
	unsigned int nr;

	spin_lock_irqsave(&host->lock, flags);
	fh_fetch(hq);
	nr = hq->fetched;
	spin_unlock_irqrestore(&host->lock, flags);
	return nr;
}

/* The next page from @pfn on that is not the guest's */
static u32 fh_skip(struct fh *host, u32 pfn)
{
	const u8 *next = memchr_inv(host->owner + pfn, FH_GUEST,
				    host->nr_pfns - pfn);

	return next ? next - host->owner : host->nr_pfns;
}

/* Whether anybody wrote to a page that is not the guest's */
void fh_check(struct fh *host)
{
	unsigned long flags;
	u32 pfn;

	spin_lock_irqsave(&host->lock, flags);
	fh_fetch(&host->queues[FH_INFLATE]);
	for (pfn = 0; pfn < host->nr_pfns; pfn++) {
		if (host->owner[pfn] == FH_GUEST) {
			pfn = fh_skip(host, pfn) - 1;
			continue;
		}
		if (!fh_watched(host, host->owner[pfn]) ||
		    (fh_holds(pfn, fh_expected(host, pfn, host->owner[pfn])) &&
		     !fh_is_free(host, pfn)))
			continue;
		/* It may have been announced meanwhile. */
		fh_fetch(&host->queues[FH_DEFLATE]);
		fh_check_page(host, pfn);
	}
	spin_unlock_irqrestore(&host->lock, flags);
}

/*
 * When it works
 */

static void fh_raise_config(struct fh *host)
{
	unsigned long flags;

	spin_lock_irqsave(&host->irq_lock, flags);
	if (host->dev)
		virtio_config_changed(&host->dev->vdev);
	spin_unlock_irqrestore(&host->irq_lock, flags);
}

static void fh_work(struct work_struct *work)
{
	fh_run(container_of(work, struct fh, work));
}

static enum hrtimer_restart fh_timer(struct hrtimer *timer)
{
	struct fh *host = container_of(timer, struct fh, timer);

	if (xchg(&host->config_irq, false))
		fh_raise_config(host);
	fh_run(host);
	return HRTIMER_NORESTART;
}

static void fh_wake(struct fh *host, struct fh_queue *hq)
{
	switch (host->thread) {
	case FH_SYNC:
		if (hq)
			fh_run_queue(hq);
		break;
	case FH_WORK:
		queue_work(host->wq, &host->work);
		break;
	case FH_IRQ:
		hrtimer_start(&host->timer, 0, HRTIMER_MODE_REL_HARD);
		break;
	}
}

static bool fh_notify(struct virtqueue *vq)
{
	struct fh_queue *hq = vq->priv;
	struct fh *host = hq->host;

	hq->nr_notified++;
	fh_event(host, FH_EV_NOTIFY, hq->nr, 0, 0);
	fh_hook(host, FH_EV_NOTIFY, hq->nr);
	if (host->gone || hq->policy.fail)
		return false;
	if (!(host->status & VIRTIO_CONFIG_S_DRIVER_OK))
		fh_complain(host, "%s: notified before DRIVER_OK (G11)",
			    fh_queue_names[hq->nr]);
	if (hq->policy.drop)
		hq->policy.drop--;
	else
		fh_wake(host, hq);
	return true;
}

void fh_config_irq(struct fh *host)
{
	if (host->thread != FH_IRQ) {
		fh_raise_config(host);
		return;
	}
	WRITE_ONCE(host->config_irq, true);
	fh_wake(host, NULL);
}

/*
 * Configuration
 */

u32 fh_field(struct fh *host, unsigned int offset)
{
	__le32 val;

	memcpy(&val, host->config + offset, sizeof(val));
	return le32_to_cpu(val);
}

void fh_set_field(struct fh *host, unsigned int offset, u32 value)
{
	__le32 val = cpu_to_le32(value);

	memcpy(host->config + offset, &val, sizeof(val));
}

void fh_target(struct fh *host, u32 pages)
{
	fh_set_field(host, offsetof(struct virtio_balloon_config, num_pages),
		     pages);
	fh_config_irq(host);
}

void fh_hint(struct fh *host, u32 id)
{
	fh_set_field(host, offsetof(struct virtio_balloon_config,
				    free_page_hint_cmd_id), id);
	fh_config_irq(host);
}

void fh_fail(struct fh *host)
{
	host->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	fh_config_irq(host);
}

/* Pulled out by surprise: no more DMA, and the guest will see soon enough. */
void fh_pull(struct fh *host)
{
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&host->lock, flags);
	host->gone = true;
	for (i = 0; i < FH_QUEUES; i++) {
		host->queues[i].live = false;
		host->queues[i].fetched = 0;
	}
	fh_forget_all(host);
	host->hint_open = false;
	host->hint_begun = 0;
	host->lied = 0;
	spin_unlock_irqrestore(&host->lock, flags);
}

/* B4, G8: fields that are there only with their feature */
static void fh_check_access(struct fh *host, unsigned int offset,
			    unsigned int len, bool write)
{
	static const struct {
		u64 feature;
		bool writable;
	} fields[] = { { 0, false }, { 0, true },
		       { FH_BIT(FREE_PAGE_HINT), false },
		       { FH_BIT(PAGE_POISON), true } };
	unsigned int i = offset / sizeof(u32);

	if (offset % sizeof(u32) || len != sizeof(u32) ||
	    offset + len > host->config_len || i >= ARRAY_SIZE(fields)) {
		fh_complain(host, "config: %u bytes at %u", len, offset);
		return;
	}
	if (fields[i].feature && !(host->accepted & fields[i].feature))
		fh_complain(host, "config: field %u without its feature (B4)",
			    offset);
	if (write && !fields[i].writable)
		fh_complain(host, "config: write to field %u", offset);
	if (write && i == 3 && host->status & VIRTIO_CONFIG_S_DRIVER_OK)
		fh_complain(host, "config: poison_val after DRIVER_OK (B43)");
	if (write && host->features & BIT_ULL(VIRTIO_F_VERSION_1) &&
	    !(host->status & VIRTIO_CONFIG_S_FEATURES_OK))
		fh_complain(host, "config: write before FEATURES_OK (G11)");
}

static void fh_get(struct virtio_device *vdev, unsigned int offset, void *buf,
		   unsigned int len)
{
	struct fh *host = to_host(vdev);

	fh_event(host, FH_EV_READ, 0, offset, len);
	fh_check_access(host, offset, len, false);
	fh_hook(host, FH_EV_READ, offset);
	memset(buf, 0xff, len);
	if (!host->gone && offset + len <= FH_CONFIG)
		memcpy(buf, host->config + offset, len);
}

static void fh_set(struct virtio_device *vdev, unsigned int offset,
		   const void *buf, unsigned int len)
{
	struct fh *host = to_host(vdev);

	fh_check_access(host, offset, len, true);
	if (host->gone || offset + len > FH_CONFIG)
		return;
	memcpy(host->config + offset, buf, len);
	host->nr_writes[offset]++;
	fh_event(host, FH_EV_WRITE, 0, offset, fh_field(host, offset));
	fh_hook(host, FH_EV_WRITE, offset);
}

static u8 fh_get_status(struct virtio_device *vdev)
{
	struct fh *host = to_host(vdev);

	return host->gone ? 0xff : host->status;
}

static bool fh_refuses(struct fh *host)
{
	return host->accepted & host->refused ||
	       (host->accepted & host->needed) != host->needed;
}

static void fh_set_status(struct virtio_device *vdev, u8 status)
{
	struct fh *host = to_host(vdev);
	unsigned long flags;
	unsigned int i;

	fh_event(host, FH_EV_STATUS, 0, status, 0);
	if (host->status & ~status & ~VIRTIO_CONFIG_S_NEEDS_RESET)
		fh_complain(host, "status: 0x%x after 0x%x (G1)", status,
			    host->status);
	if (status & VIRTIO_CONFIG_S_FEATURES_OK && fh_refuses(host))
		status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	spin_lock_irqsave(&host->lock, flags);
	host->status = status;
	if (status & VIRTIO_CONFIG_S_DRIVER_OK && !host->gone)
		for (i = 0; i < FH_QUEUES; i++)
			host->queues[i].live = host->queues[i].vq;
	spin_unlock_irqrestore(&host->lock, flags);
	if (status & VIRTIO_CONFIG_S_DRIVER_OK)
		fh_wake(host, NULL);
	fh_hook(host, FH_EV_STATUS, status);
}

/* The device has these until now: nobody else may. */
static void fh_check_reset(struct fh *host)
{
	unsigned int i, n;
	u32 pfn;

	for (i = 0; i < FH_QUEUES; i++)
		for (n = 0; n < host->queues[i].fetched; n++)
			fh_check_elem(&host->queues[i],
				      &host->queues[i].elems[n]);
	for (pfn = 0; pfn < host->nr_pfns && !fh_lied(host); pfn++) {
		if (host->owner[pfn] != FH_OFFERED &&
		    host->owner[pfn] != FH_OWNED)
			continue;
		/* It may have been announced, and nobody looked. */
		if (fh_is_free(host, pfn))
			fh_fetch(&host->queues[FH_DEFLATE]);
		if (fh_is_free(host, pfn) && host->owner[pfn] != FH_RETURNING)
			fh_complain(host, "pfn %x is free while %s", pfn,
				    fh_owner_names[host->owner[pfn]]);
	}
}

static void fh_reset(struct virtio_device *vdev)
{
	struct fh *host = to_host(vdev);
	unsigned long flags;
	unsigned int i;

	fh_hook(host, FH_EV_RESET, 0);
	spin_lock_irqsave(&host->lock, flags);
	fh_check_reset(host);
	fh_event(host, FH_EV_RESET, 0, host->nr[FH_OWNED],
		 host->nr[FH_OFFERED]);
	host->status = 0;
	host->hint_open = false;
	host->hint_begun = 0;
	host->lied = 0;
	for (i = 0; i < FH_QUEUES; i++) {
		host->queues[i].live = false;
		host->queues[i].fetched = 0;
	}
	fh_forget_all(host);
	if (!host->reset_keeps)
		memset(host->config, 0, 2 * sizeof(u32));
	spin_unlock_irqrestore(&host->lock, flags);
}

static u32 fh_generation(struct virtio_device *vdev)
{
	return ++to_host(vdev)->generation;
}

static u64 fh_get_features(struct virtio_device *vdev)
{
	return to_host(vdev)->features;
}

static int fh_finalize_features(struct virtio_device *vdev)
{
	struct fh *host = to_host(vdev);

	vring_transport_features(vdev);
	host->accepted = vdev->features;
	host->keep_poison = host->accepted & FH_BIT(PAGE_POISON);
	fh_event(host, FH_EV_FEATURES, 0, 0, host->accepted);
	if (host->accepted & ~host->features)
		fh_complain(host, "features: %llx of %llx (G3)",
			    host->accepted, host->features);
	if (host->status & VIRTIO_CONFIG_S_FEATURES_OK)
		fh_complain(host, "features after FEATURES_OK (G11)");
	return 0;
}

static const char *fh_bus_name(struct virtio_device *vdev)
{
	return "fake-host";
}

/*
 * Queues
 */

static void fh_del_vqs(struct virtio_device *vdev)
{
	struct fh *host = to_host(vdev);
	struct virtqueue *vq, *next;
	unsigned long flags;
	unsigned int i;

	if (host->status & VIRTIO_CONFIG_S_DRIVER_OK && !host->gone)
		fh_complain(host, "queues deleted before a reset (G13)");
	/* virtio's core warns of a status that is not 0 afterwards. */
	if (host->gone) {
		host->gone = false;
		host->status = 0;
		fh_forget_all(host);
	}
	spin_lock_irqsave(&host->irq_lock, flags);
	spin_lock(&host->lock);
	for (i = 0; i < FH_QUEUES; i++) {
		host->queues[i].live = false;
		host->queues[i].vq = NULL;
	}
	spin_unlock(&host->lock);
	spin_unlock_irqrestore(&host->irq_lock, flags);
	list_for_each_entry_safe(vq, next, &vdev->vqs, list)
		vring_del_virtqueue(vq);
	fh_event(host, FH_EV_DEL, 0, 0, 0);
}

static bool fh_offers_queue(struct fh *host, unsigned int nr)
{
	static const u64 feature[FH_QUEUES] = {
		[FH_STATS] = FH_BIT(STATS_VQ),
		[FH_HINT] = FH_BIT(FREE_PAGE_HINT),
		[FH_REPORT] = FH_BIT(REPORTING),
	};

	return !feature[nr] || host->features & feature[nr];
}

/* Devices number their queues densely over what they offer. */
static unsigned int fh_index(struct fh *host, unsigned int nr)
{
	unsigned int i, index = 0;

	for (i = 0; i < nr; i++)
		index += fh_offers_queue(host, i);
	return index;
}

static int fh_find_vq(struct fh *host, unsigned int nr, unsigned int index,
		      vq_callback_t *callback, const char *name)
{
	struct fh_queue *hq = &host->queues[nr];
	struct virtqueue *vq;

	if (nr >= FH_QUEUES || !fh_offers_queue(host, nr) || !hq->size)
		return -ENOENT;
	if (index != fh_index(host, nr))
		fh_complain(host, "%s: number %u, not %u", fh_queue_names[nr],
			    index, fh_index(host, nr));
	vq = vring_create_virtqueue(index, hq->size, PAGE_SIZE,
				    &host->dev->vdev, true, false, false,
				    fh_notify, callback, name);
	if (!vq)
		return -ENOMEM;
	vq->priv = hq;
	hq->vring = virtqueue_get_vring(vq);
	hq->last_avail = 0;
	hq->used_idx = 0;
	hq->fetched = 0;
	hq->vq = vq;
	fh_event(host, FH_EV_FIND, nr, hq->size, 0);
	return 0;
}

static int fh_find_vqs(struct virtio_device *vdev, unsigned int nr,
		       struct virtqueue *vqs[], COMPAT_QUEUES,
		       struct irq_affinity *desc)
{
	struct fh *host = to_host(vdev);
	unsigned int i, index = 0;
	int rc = 0;

	fh_hook(host, FH_EV_FIND, nr);
	for (i = 0; i < nr && !rc; i++) {
		vqs[i] = NULL;
		if (!compat_name(i))
			continue;
		rc = fh_find_vq(host, i, index++, compat_callback(i),
				compat_name(i));
		vqs[i] = rc ? NULL : host->queues[i].vq;
	}
	if (rc)
		fh_del_vqs(vdev);
	return rc;
}

static const struct virtio_config_ops fh_ops = {
	.get = fh_get,
	.set = fh_set,
	.generation = fh_generation,
	.get_status = fh_get_status,
	.set_status = fh_set_status,
	.reset = fh_reset,
	.find_vqs = fh_find_vqs,
	.del_vqs = fh_del_vqs,
	.get_features = fh_get_features,
	.finalize_features = fh_finalize_features,
	.bus_name = fh_bus_name,
};

/* For devices that cannot be asked anything */
static const struct virtio_config_ops fh_ops_no_config = {
	.get_status = fh_get_status,
	.set_status = fh_set_status,
	.reset = fh_reset,
	.find_vqs = fh_find_vqs,
	.del_vqs = fh_del_vqs,
	.get_features = fh_get_features,
	.finalize_features = fh_finalize_features,
	.bus_name = fh_bus_name,
};

/*
 * Plugging
 */

static void fh_dev_release(struct device *dev)
{
	struct fh_vdev *v = container_of(dev_to_virtio(dev), struct fh_vdev,
					 vdev);

	complete(&v->released);
}

/* The memory of a queue: nothing is allocated while the driver is probed. */
static int fh_alloc_queue(struct fh_queue *hq, unsigned int size,
			  unsigned int max_pfns)
{
	unsigned int i, each = max(max_pfns, 64U);

	hq->size = size;
	hq->elems = kvcalloc(size + 1, sizeof(*hq->elems),
			     GFP_KERNEL | __GFP_NOWARN);
	hq->pfns = kvcalloc((size + 1) * each, sizeof(u32),
			    GFP_KERNEL | __GFP_NOWARN);
	if (!hq->elems || !hq->pfns)
		return -ENOMEM;
	for (i = 0; i <= size; i++)
		hq->elems[i].pfns = hq->pfns + i * each;
	return 0;
}

static void fh_free_queues(struct fh *host)
{
	struct fh_queue *hq;

	for (hq = host->queues; hq < host->queues + FH_QUEUES; hq++) {
		kvfree(hq->pfns);
		kvfree(hq->elems);
		hq->pfns = NULL;
		hq->elems = NULL;
	}
}

static int fh_alloc_queues(struct fh *host)
{
	unsigned int i;
	int rc = 0;

	for (i = 0; i < FH_QUEUES && !rc; i++)
		rc = fh_alloc_queue(&host->queues[i], host->sizes[i],
				    host->max_pfns);
	if (rc)
		fh_free_queues(host);
	return rc;
}

/* Lets go of the device, as soon as everybody else has. */
static void fh_put_dev(struct fh *host)
{
	struct fh_vdev *dev = host->dev;
	unsigned long flags;

	wait_for_completion(&dev->released);
	spin_lock_irqsave(&host->irq_lock, flags);
	host->dev = NULL;
	spin_unlock_irqrestore(&host->irq_lock, flags);
	cancel_work_sync(&host->work);
	hrtimer_cancel(&host->timer);
	fh_free_queues(host);
	kfree(dev);
}

/**
 * fh_plug() - show the device to the guest
 * @host: the host
 *
 * Return: 0, also if the driver refused the device (see fh_bound()), or what
 * the virtio bus or memory say.
 */
int fh_plug(struct fh *host)
{
	struct fh_vdev *dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	int rc;

	if (!dev)
		return -ENOMEM;
	rc = fh_alloc_queues(host);
	if (rc) {
		kfree(dev);
		return rc;
	}
	init_completion(&dev->released);
	dev->host = host;
	dev->vdev.id.device = VIRTIO_ID_BALLOON;
	dev->vdev.config = host->no_config ? &fh_ops_no_config : &fh_ops;
	dev->vdev.dev.parent = host->parent;
	dev->vdev.dev.release = fh_dev_release;
	host->dev = dev;
	host->gone = false;
	rc = register_virtio_device(&dev->vdev);
	if (rc) {
		put_device(&dev->vdev.dev);
		fh_put_dev(host);
	}
	return rc;
}

/* Whether a driver works with it */
bool fh_bound(struct fh *host)
{
	return host->dev && host->dev->vdev.dev.driver &&
	       host->status & VIRTIO_CONFIG_S_DRIVER_OK;
}

/* The driver lets go of the device, which stays; and comes back. */
void fh_unbind(struct fh *host)
{
	device_release_driver(&host->dev->vdev.dev);
}

int fh_bind(struct fh *host)
{
	int rc = device_attach(&host->dev->vdev.dev);

	return rc < 0 ? rc : 0;
}

void fh_unplug(struct fh *host)
{
	unsigned int i;

	if (!host->dev)
		return;
	unregister_virtio_device(&host->dev->vdev);
	for (i = 0; i < FH_QUEUES; i++)
		if (host->queues[i].vq)
			fh_complain(host, "%s: never deleted",
				    fh_queue_names[i]);
	fh_put_dev(host);
}

/* NULL if there is no memory */
struct fh *fh_new(struct kunit *test, u64 features)
{
	static const unsigned int sizes[FH_QUEUES] = { 128, 128, 128, 256, 32 };
	static atomic_t number;
	char name[32];
	struct fh *host = kzalloc(sizeof(*host), GFP_KERNEL);
	unsigned int i;

	if (!host)
		return NULL;
	host->test = test;
	host->features = features | BIT_ULL(VIRTIO_F_VERSION_1);
	memcpy(host->sizes, sizes, sizeof(sizes));
	host->max_pfns = 256;
	host->config_len = sizeof(struct virtio_balloon_config);
	host->reset_keeps = true;
	spin_lock_init(&host->lock);
	spin_lock_init(&host->irq_lock);
	spin_lock_init(&host->event_lock);
	for (i = 0; i < FH_QUEUES; i++) {
		host->queues[i].host = host;
		host->queues[i].nr = i;
		host->queues[i].least = UINT_MAX;
	}
	INIT_WORK(&host->work, fh_work);
	compat_timer(&host->timer, fh_timer);
	host->owner = vzalloc(FH_PFNS);
	host->shown = vzalloc(FH_PFNS / BITS_PER_BYTE);
	host->events = vzalloc(FH_EVENTS * sizeof(*host->events));
	host->wq = alloc_workqueue("fake_host", WQ_UNBOUND, 0);
	/* No owner: the suites of a module may run before it has a kobject. */
	snprintf(name, sizeof(name), "fake-host%d", atomic_inc_return(&number));
	host->parent = __root_device_register(name, NULL);
	if (!host->owner || !host->shown || !host->events || !host->wq ||
	    IS_ERR(host->parent)) {
		fh_free(host);
		return NULL;
	}
	return host;
}

void fh_free(struct fh *host)
{
	fh_unplug(host);
	if (!IS_ERR_OR_NULL(host->parent))
		root_device_unregister(host->parent);
	if (host->wq)
		destroy_workqueue(host->wq);
	vfree(host->events);
	vfree(host->shown);
	vfree(host->owner);
	kfree(host);
}

/*
 * For tests
 */

void fh_doze(void)
{
	schedule_timeout_uninterruptible(max(HZ / 100, 1));
}

bool fh_settles(struct fh *host, u32 pages)
{
	return fh_until(fh_actual(host) == pages &&
			fh_count(host, FH_OWNED) == pages &&
			!fh_count(host, FH_OFFERED) &&
			!fh_count(host, FH_RETURNING));
}

unsigned long fh_lent(struct fh *host)
{
	unsigned long now = 0, before;
	int i;

	for (i = 0; i < 100; i++) {
		before = now;
		msleep(300);
		now = fh_count(host, FH_HINTING);
		if (now && now == before)
			break;
	}
	return now;
}

/*
 * The line is what makes the kernel print the result of the test before, which has
 * no end of line: times and names of tests that hang are right thereby.
 */
int fh_suite_init(struct kunit *test)
{
	kunit_info(test, "starts\n");
	test->priv = fh_new(test, 0);
	return test->priv ? 0 : -ENOMEM;
}

/* Every test ends with a device pulled out in peace, and no complaint. */
void fh_end(struct fh *host)
{
	struct kunit *test = host->test;
	unsigned int i;

	fh_check(host);
	fh_unplug(host);
	KUNIT_EXPECT_EQ_MSG(test, fh_lost(host), 0UL, "pages were lost");
	for (i = 0; i < min_t(unsigned long, host->complaints, FH_COMPLAINTS);
	     i++)
		KUNIT_FAIL(test, "%s", host->complaint[i]);
	if (i < host->complaints)
		KUNIT_FAIL(test, "%lu complaints more",
			   host->complaints - i);
	fh_free(host);
}

void fh_suite_exit(struct kunit *test)
{
	if (test->priv)
		fh_end(test->priv);
	test->priv = NULL;
}
