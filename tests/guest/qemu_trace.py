# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's trace: what driver and device do to each other."""

import collections
import os
import pathlib
import re

from base import PAGE

# A buffer: .queue number it came from, .pfns in stream order.
Buffer = collections.namedtuple('Buffer', 'queue pfns')

TRACE_LINE = re.compile(r'(?:\d+@\d+[.:]\d+:?\s*)?([a-z_]\w*) (.*)')
TRACE_VQ = re.compile(r'vdev (\S+)(?: n (\d+))? vq (\S+)')
TRACE_EVENTS = ('virtio_balloon_*', 'virtio_queue_notify', 'virtio_notify',
                'virtio_set_status', 'virtqueue_pop')
# Those that PFNs come from: inflateq and deflateq. The others are served in
# between, some by a thread of their own.
OF_PFNS = (0, 1)


class TraceView:
    """What the balloon did in one stretch of QEMU's trace.

    .kicks    Counter: queue number -> notifications by the driver; QEMU from
              10.0 on needs ioeventfd=False on the balloon to count each
    .interrupts  Counter: queue number -> interrupts from the device
    .buffers  Buffers in the order the device took them
    .config_reads   (num_pages, actual), one for each access
    .config_writes  values written to `actual`, in pages of 4 KiB
    .targets  targets in bytes that the monitor set
    .statuses values of the device status, as written by the driver
    """

    def __init__(self):
        self.kicks = collections.Counter()
        self.interrupts = collections.Counter()
        self.buffers = []
        self.config_reads, self.config_writes = [], []
        self.targets, self.statuses = [], []

    def pfns(self, queue=None):
        """PFNs in stream order, of one queue or of all."""
        return [pfn for buffer in self.buffers for pfn in buffer.pfns
                if queue in (None, buffer.queue)]

    def runs(self, queue=None):
        """Lengths of the runs of consecutive ascending PFNs, in order."""
        lengths, last = [], None
        for pfn in self.pfns(queue):
            if last is not None and pfn == last + 1:
                lengths[-1] += 1
            else:
                lengths.append(1)
            last = pfn
        return lengths


class Trace:
    """Parser of QEMU's log with TRACE_EVENTS.

    The trace names devices by pointers only. The control channel's device is
    the first one ever notified (boot() loads virtio_console before any
    balloon driver); a device whose notification the balloon's own events
    follow is a balloon. So what is known is kept from one call to the next.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.offset = 0            # of what has been learned from
        self.start = 0             # of the mark
        self.console = None
        self.vqs = {}              # vq pointer -> (vdev, queue number)

    def text(self):
        """The raw trace since the last mark."""
        return self._read(self.start)

    def _read(self, start):
        if not self.path.exists():
            return ''
        with open(self.path, 'rb') as file:
            file.seek(start)
            text = file.read().decode('latin-1')
        return text[:text.rfind('\n') + 1]    # whole lines only

    def mark(self):
        """Let view() and text() start here."""
        self._learn()
        self.start = self.offset

    def forget(self):
        """mark(), and what was before takes no space any more.

        QEMU goes on writing where it was. To be called when nothing happens.
        """
        self.mark()
        os.truncate(self.path, 0)

    def _learn(self):
        text = self._read(self.offset)
        for name, rest in self._events(text):
            if name == 'virtio_queue_notify':
                self._notified(rest)
        self.offset += len(text)

    @staticmethod
    def _events(text):
        for line in text.splitlines():
            match = TRACE_LINE.match(line)
            if match:
                yield match[1], match[2]

    def _notified(self, rest):
        vdev, number, vq = TRACE_VQ.match(rest).groups()
        if self.console is None:
            self.console = vdev
        self.vqs[vq] = vdev, int(number)
        return vdev, int(number)

    def view(self):
        """A TraceView of what came since the last mark."""
        self._learn()
        return _TraceReader(self).read(self._read(self.start))

    def names(self):
        """Counter of all events since the last mark, by name."""
        return collections.Counter(
            name for name, _ in self._events(self.text()))


class _TraceReader:
    """Fills one TraceView."""

    def __init__(self, trace):
        self.trace, self.view, self.queue = trace, TraceView(), None

    def read(self, text):
        for name, rest in self.trace._events(text):
            handler = getattr(self, '_' + name, None)
            if handler:
                handler(rest)
        self.view.buffers = [buffer for buffer in self.view.buffers
                             if buffer.pfns]
        return self.view

    def _of_balloon(self, vq):
        """Queue number if VQ is a balloon's, else None."""
        vdev, number = self.trace.vqs.get(vq, (None, None))
        return None if vdev in (None, self.trace.console) else number

    def _virtio_queue_notify(self, rest):
        queue = self._of_balloon(TRACE_VQ.match(rest)[3])
        if queue is not None:
            self.view.kicks[queue] += 1
        if queue in OF_PFNS:
            self.queue = queue

    def _virtio_notify(self, rest):
        queue = self._of_balloon(TRACE_VQ.match(rest)[3])
        if queue is not None:
            self.view.interrupts[queue] += 1

    def _virtqueue_pop(self, rest):
        queue = self._of_balloon(rest.split()[1])
        if queue in OF_PFNS:
            self.queue = queue
            self.view.buffers.append(Buffer(queue, []))

    def _virtio_balloon_handle_output(self, rest):
        pfn = int(rest.rsplit(None, 1)[1], 16) // PAGE
        buffers = self.view.buffers
        if not buffers or buffers[-1].queue != self.queue:
            buffers.append(Buffer(self.queue, []))
        buffers[-1].pfns.append(pfn)

    def _virtio_balloon_get_config(self, rest):
        pages, actual = map(int, re.findall(r': (-?\d+)', rest))
        self.view.config_reads.append((pages, actual))

    def _virtio_balloon_set_config(self, rest):
        self.view.config_writes.append(
            int(re.search(r'actual: (-?\d+)', rest)[1]))

    def _virtio_balloon_to_target(self, rest):
        self.view.targets.append(
            int(re.search(r'target: (0x[0-9a-f]+)', rest)[1], 16))

    def _virtio_set_status(self, rest):
        match = re.match(r'vdev (\S+) val (\d+)', rest)
        if match[1] != self.trace.console:
            self.view.statuses.append(int(match[2]))
