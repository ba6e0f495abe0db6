/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One event for each transition in the life of a page, and one for each
 * decision about them. Pages are guest pages; dev is the N of virtioN.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM virtio_balloon

#if !defined(_TRACE_VIRTIO_BALLOON_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_VIRTIO_BALLOON_H

#include <linux/tracepoint.h>

/* The host's wish, each time it changed. */
TRACE_EVENT(virtio_balloon_target,
	TP_PROTO(int dev, unsigned long target, unsigned long held),
	TP_ARGS(dev, target, held),
	TP_STRUCT__entry(
		__field(int, dev)
		__field(unsigned long, target)
		__field(unsigned long, held)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->target = target;
		__entry->held = held;
	),
	TP_printk("virtio%d target=%lu held=%lu",
		  __entry->dev, __entry->target, __entry->held)
);

/* One buffer of pages changed its state. */
DECLARE_EVENT_CLASS(virtio_balloon_pages,
	TP_PROTO(int dev, unsigned long pfn, unsigned int pages),
	TP_ARGS(dev, pfn, pages),
	TP_STRUCT__entry(
		__field(int, dev)
		__field(unsigned long, pfn)
		__field(unsigned int, pages)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->pfn = pfn;
		__entry->pages = pages;
	),
	TP_printk("virtio%d pfn=0x%lx pages=%u",
		  __entry->dev, __entry->pfn, __entry->pages)
);

/* On the inflateq; @pfn is the buffer's first. */
DEFINE_EVENT(virtio_balloon_pages, virtio_balloon_inflate,
	TP_PROTO(int dev, unsigned long pfn, unsigned int pages),
	TP_ARGS(dev, pfn, pages)
);

/* Used by the host: held from now on. */
DEFINE_EVENT(virtio_balloon_pages, virtio_balloon_held,
	TP_PROTO(int dev, unsigned long pfn, unsigned int pages),
	TP_ARGS(dev, pfn, pages)
);

/* On the deflateq. */
DEFINE_EVENT(virtio_balloon_pages, virtio_balloon_deflate,
	TP_PROTO(int dev, unsigned long pfn, unsigned int pages),
	TP_ARGS(dev, pfn, pages)
);

/* A held page left its place for mm; @pfn is where it was. */
DEFINE_EVENT(virtio_balloon_pages, virtio_balloon_migrate,
	TP_PROTO(int dev, unsigned long pfn, unsigned int pages),
	TP_ARGS(dev, pfn, pages)
);

/* A free block that hinting lends to the host. */
DEFINE_EVENT(virtio_balloon_pages, virtio_balloon_hint,
	TP_PROTO(int dev, unsigned long pfn, unsigned int pages),
	TP_ARGS(dev, pfn, pages)
);

/* A command on the hintq: the id of a round at its begin, 0 at its end. */
TRACE_EVENT(virtio_balloon_hint_cmd,
	TP_PROTO(int dev, unsigned int id),
	TP_ARGS(dev, id),
	TP_STRUCT__entry(
		__field(int, dev)
		__field(unsigned int, id)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->id = id;
	),
	TP_printk("virtio%d id=%u", __entry->dev, __entry->id)
);

/* One buffer of free blocks was reported; @error if not. */
TRACE_EVENT(virtio_balloon_report,
	TP_PROTO(int dev, unsigned int blocks, unsigned long pages, int error),
	TP_ARGS(dev, blocks, pages, error),
	TP_STRUCT__entry(
		__field(int, dev)
		__field(unsigned int, blocks)
		__field(unsigned long, pages)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->blocks = blocks;
		__entry->pages = pages;
		__entry->error = error;
	),
	TP_printk("virtio%d blocks=%u pages=%lu error=%d", __entry->dev,
		  __entry->blocks, __entry->pages, __entry->error)
);

/* What the OOM notifier was to give back, and what the guest got. */
TRACE_EVENT(virtio_balloon_oom,
	TP_PROTO(int dev, unsigned long step, unsigned long freed),
	TP_ARGS(dev, step, freed),
	TP_STRUCT__entry(
		__field(int, dev)
		__field(unsigned long, step)
		__field(unsigned long, freed)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->step = step;
		__entry->freed = freed;
	),
	TP_printk("virtio%d step=%lu freed=%lu",
		  __entry->dev, __entry->step, __entry->freed)
);

/* Why sizing goes on or stands still: names as in the status file. */
TRACE_EVENT(virtio_balloon_state,
	TP_PROTO(int dev, const char *from, const char *to,
		 unsigned long available, unsigned long floor),
	TP_ARGS(dev, from, to, available, floor),
	TP_STRUCT__entry(
		__field(int, dev)
		__array(char, from, 16)
		__array(char, to, 16)
		__field(unsigned long, available)
		__field(unsigned long, floor)
	),
	TP_fast_assign(
		__entry->dev = dev;
		strscpy(__entry->from, from, sizeof(__entry->from));
		strscpy(__entry->to, to, sizeof(__entry->to));
		__entry->available = available;
		__entry->floor = floor;
	),
	TP_printk("virtio%d %s -> %s available=%lu floor=%lu",
		  __entry->dev, __entry->from, __entry->to,
		  __entry->available, __entry->floor)
);

/* `actual` was written, in 4 KiB pages. */
TRACE_EVENT(virtio_balloon_actual,
	TP_PROTO(int dev, unsigned int actual),
	TP_ARGS(dev, actual),
	TP_STRUCT__entry(
		__field(int, dev)
		__field(unsigned int, actual)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->actual = actual;
	),
	TP_printk("virtio%d actual=%u", __entry->dev, __entry->actual)
);

/* The host let a waiter stand for @ms and did not answer. */
TRACE_EVENT(virtio_balloon_stall,
	TP_PROTO(int dev, unsigned int queue, unsigned int in_flight,
		 unsigned int ms),
	TP_ARGS(dev, queue, in_flight, ms),
	TP_STRUCT__entry(
		__field(int, dev)
		__field(unsigned int, queue)
		__field(unsigned int, in_flight)
		__field(unsigned int, ms)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->queue = queue;
		__entry->in_flight = in_flight;
		__entry->ms = ms;
	),
	TP_printk("virtio%d queue=%s in_flight=%u waited=%u ms",
		  __entry->dev,
		  __print_symbolic(__entry->queue, { 0, "inflateq" },
				   { 1, "deflateq" }, { 4, "reportq" }),
		  __entry->in_flight, __entry->ms)
);

#endif /* _TRACE_VIRTIO_BALLOON_H */

#include <trace/define_trace.h>
