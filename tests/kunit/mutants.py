# SPDX-License-Identifier: GPL-2.0-only
"""Broken drivers: each must fail the tests that are named with it.

A mutant is the driver with one piece of its text replaced. The first ones are
the canaries: each shows that one kind of detector detects. The others are
mistakes that are easily made, one for each rule that they break.
"""

import dataclasses


@dataclasses.dataclass
class Mutant:
    """What is replaced by what, and what then must be seen where."""

    name: str
    old: str
    new: str
    suite: str
    seen: str    # regular expression, in the log or in a failure
    kernel: str = 'uml'


CANARIES = [
    Mutant('use_after_free',
           '\tkfree(vb->events);\n\tkfree(vb);\n',
           '\tkfree(vb->events);\n\tkfree(vb);\n\tvb->target++;\n',
           'virtio_balloon_smoke', r'KASAN: .*(use-after-free|slab-use)'),
    Mutant('sleep_in_atomic',
           '\tspin_lock(&vb->runs_lock);\n\twhile (left && !list_empty',
           '\tspin_lock(&vb->runs_lock);\n\tmsleep(1);\n'
           '\twhile (left && !list_empty',
           'virtio_balloon_smoke', r'scheduling while atomic|'
           r'sleeping function called from invalid context', 'debug'),
    Mutant('lock_order',
           '\tspin_lock(&vb->runs_lock);\n'
           '\tlist_splice_init(&buf->runs, &vb->runs);\n'
           '\tspin_unlock(&vb->runs_lock);\n',
           '\tspin_lock(&vb->runs_lock);\n'
           '\tspin_lock(&vb->inflateq.lock);\n'
           '\tlist_splice_init(&buf->runs, &vb->runs);\n'
           '\tspin_unlock(&vb->inflateq.lock);\n'
           '\tspin_unlock(&vb->runs_lock);\n'
           '\tspin_lock(&vb->inflateq.lock);\n'
           '\tspin_lock(&vb->runs_lock);\n'
           '\tspin_unlock(&vb->runs_lock);\n'
           '\tspin_unlock(&vb->inflateq.lock);\n',
           'virtio_balloon_smoke', r'possible circular locking'),
    Mutant('lock_in_interrupt',
           '\tbool inflate = vq == vb->inflateq.vq;\n\n',
           '\tbool inflate = vq == vb->inflateq.vq;\n\n'
           '\tspin_lock(&vb->inflateq.lock);\n'
           '\tspin_unlock(&vb->inflateq.lock);\n',
           'virtio_balloon_smoke', r'irq lock inversion|inconsistent lock'),
    Mutant('leaked_page',
           '\t\tnr = vb_run_pages(run);\n\t\tset_page_private(run, 0);\n'
           '\t\tvb_free_run(page_to_pfn(run), nr);\n',
           '\t\tnr = vb_run_pages(run);\n\t\tset_page_private(run, 0);\n'
           '\t\tvb_free_run(page_to_pfn(run), nr - 1);\n',
           'virtio_balloon_smoke', r'free again'),
    Mutant('leaked_memory',
           '\t\tkfree(buf->pfns);\n\t\tkfree(buf);\n\t}\n',
           '\t\tkfree(buf);\n\t}\n',
           'virtio_balloon_smoke', r'kmemleak|unreferenced object'),
    Mutant('used_before_ack',
           '\tif (!vb->must_tell)\n\t\tvb_release(vb, &runs, nr);\n',
           '\tif (vb->must_tell)\n'
           '\t\tlist_splice_init(&buf->runs, &runs);\n'
           '\tvb_release(vb, &runs, nr);\n',
           'virtio_balloon_smoke', r'was written to while returning'),
    Mutant('double_completion',
           '\t\tq->used(vb, buf);\n\t\tvb_buf_put(q, buf);\n',
           '\t\tq->used(vb, buf);\n\t\tvb_buf_put(q, buf);\n'
           '\t\tvb_buf_put(q, buf);\n',
           'virtio_balloon_smoke', r'list_add double add'),
]
