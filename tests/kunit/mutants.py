# SPDX-License-Identifier: GPL-2.0-only
"""Broken drivers: each must fail the tests that are named with it.

A mutant is the driver with one piece of its text replaced. The first ones are
the canaries: each shows that one kind of detector detects. The others are
mistakes that are easily made, one for each rule that they break.
"""

import dataclasses


class DoesNotFit(Exception):
    """The text to replace is not there, or more than once."""


@dataclasses.dataclass
class Mutant:
    """What is replaced by what, and what then must be seen where."""

    name: str
    old: str
    new: str
    suite: str
    seen: str    # regular expression, in what the run complains of
    kernel: str = 'uml'

    def apply(self, driver):
        """The text of the driver with the mistake in it."""
        times = driver.count(self.old)
        if times != 1:
            raise DoesNotFit(f'mutant {self.name}: the text that it replaces '
                             f'is in the driver {times} times, not once')
        return driver.replace(self.old, self.new)


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
           '\t\tnr = vb_run_pages(run);\n'
           '\t\tvb_free_run(page_to_pfn(run), nr);\n',
           '\t\tnr = vb_run_pages(run);\n'
           '\t\tvb_free_run(page_to_pfn(run), nr - 1);\n',
           'virtio_balloon_smoke', r'fh_lost\(host\) == [1-9]'),
    Mutant('leaked_memory',
           '\tkfree(vb->stats);\n\tkfree(vb->events);\n',
           '\tkfree(vb->stats);\n',
           'virtio_balloon_smoke', r'kmemleak: unreferenced object'),
    Mutant('used_before_ack',
           '\tif (!vb->must_tell)\n'
           '\t\tlist_splice_init(&buf->runs, &returning);\n',
           '\tlist_splice_init(&buf->runs, &returning);\n',
           'virtio_balloon_smoke', r'is free while (owned|returning)'),
    Mutant('held_page_written',
           '\tvb_account(&buf->runs, 1);\n',
           '\tvb_account(&buf->runs, 1);\n'
           '\tmemset(page_address(list_first_entry(&buf->runs, struct page,\n'
           '\t\t\t\t\t     lru)) + 8, 0, PAGE_SIZE - 16);\n',
           'virtio_balloon_smoke', r'was written to while owned'),
    Mutant('double_completion',
           '\t\tq->used(vb, buf);\n\t\tvb_buf_put(q, buf);\n',
           '\t\tq->used(vb, buf);\n\t\tvb_buf_put(q, buf);\n'
           '\t\tvb_buf_put(q, buf);\n',
           'virtio_balloon_smoke', r'list_add double add'),
]


def failed(case):
    """How a failed case looks in the log."""
    return fr'not ok \d+ {case}'


MUTANTS = [
    # Queues
    Mutant('offered_pages_counted',    # B15
           'vb_publish(vb, atomic_long_read(&vb->held) * VB_PPP);',
           'vb_publish(vb, (atomic_long_read(&vb->held) +\n'
           '\t\t\t\tatomic_long_read(&vb->offered)) * VB_PPP);',
           'virtio_balloon_spec_queues', failed('b15_')),
    Mutant('removed_unannounced',    # B12
           '\twhile (!rc && !vb_has_all_back(vb)) {\n',
           '\twhile (0 && !vb_has_all_back(vb)) {\n',
           'virtio_balloon_spec_queues', failed('b12_removal_announces_')),
    Mutant('stale_actual_believed',    # B17
           '\tif (actual == vb->published && !vb->unpublished)\n',
           '\tif (actual == vb->published)\n',
           'virtio_balloon_spec_queues', failed('b17_')),
    Mutant('used_length_believed',    # B19
           '\ttoken = virtqueue_get_buf(q->vq, &len);\n\tif (token) {\n',
           '\ttoken = virtqueue_get_buf(q->vq, &len);\n'
           '\tif (token && len > 0x10000)\n\t\ttoken = NULL;\n'
           '\tif (token) {\n',
           'virtio_balloon_spec_queues', failed('b19_')),
    Mutant('stats_changed_in_flight',    # B21
           '\tif (!virtqueue_get_buf(vb->statsq, &len) ||'
           ' vb_offer_stats(vb))\n\t\treturn;\n',
           '\tvirtqueue_get_buf(vb->statsq, &len);\n'
           '\tif (vb_offer_stats(vb))\n\t\treturn;\n',
           'virtio_balloon_spec_queues', failed('b21_')),
    # Free pages
    Mutant('hints_kept_after_done',    # B37
           '\tif (stale && !vb->hint_open) {\n\t\tvb_hint_free_all(vb);\n',
           '\tif (stale && !vb->hint_open) {\n',
           'virtio_balloon_spec_free_pages', failed('b3[79]_')),
    Mutant('report_ends_without_reset',    # B46
           '\t\tif (!slices || vb_is_broken(vb))\n\t\t\tvb_reset(vb);\n',
           '\t\tif (!slices || vb_is_broken(vb))\n\t\t\treturn -EIO;\n',
           'virtio_balloon_spec_free_pages', failed('b46_')),
    Mutant('round_never_ends',    # B35
           '\tif (rc != -EAGAIN)\n\t\tvb_hint_end(vb);\n', '',
           'virtio_balloon_spec_free_pages', failed('b35_')),
    # Life cycle
    Mutant('reclaimed_before_reset',    # G6
           '\tvb_reset(vb);\n\tif (vb->inflateq.vq) {\n'
           '\t\tvb_report_stop(vb);\n\t\tvb_reclaim(vb);\n',
           '\tif (vb->inflateq.vq)\n\t\tvb_reclaim(vb);\n\tvb_reset(vb);\n'
           '\tif (vb->inflateq.vq) {\n\t\tvb_report_stop(vb);\n',
           'virtio_balloon_spec_general', failed('g06_')),
    Mutant('notified_before_ready',    # G11
           '\tvirtio_device_ready(vb->vdev);\n\tif (vb->statsq)\n'
           '\t\tvirtqueue_kick(vb->statsq);\n',
           '\tif (vb->statsq)\n\t\tvirtqueue_kick(vb->statsq);\n'
           '\tvirtio_device_ready(vb->vdev);\n',
           'virtio_balloon_spec_general', failed('g11_')),
    Mutant('goes_on_when_it_reboots',
           '\tvb_stop(vb);\n\tif (vb->inflateq.vq)\n\t\tvb_reset(vb);\n'
           '\treturn NOTIFY_OK;\n',
           '\tvb_set_phase(vb, vb->phase);\n\treturn NOTIFY_OK;\n',
           'virtio_balloon_lifecycle', failed('nothing_goes_on_when_')),
    Mutant('hibernates_too_early',
           ' &&\n\t       !atomic_long_read(&vb->away);\n',
           ' &&\n\t       !atomic_long_read(&vb->held);\n',
           'virtio_balloon_lifecycle', failed('hibernation_finds_the_last_')),
    Mutant('hibernates_amid_a_step',
           '\treturn smp_load_acquire(&vb->emptying) && ',
           '\treturn ',
           'virtio_balloon_lifecycle', failed('hibernation_is_before_')),
    # Sizing
    Mutant('inflates_too_much',
           '\tneed = vb->target - atomic_long_read(&vb->held) -\n'
           '\t       atomic_long_read(&vb->offered);\n',
           '\tneed = vb->target - atomic_long_read(&vb->held);\n',
           'virtio_balloon_sizing', failed('b16_')),
    Mutant('offered_before_returned',    # B12
           'vb_may_offer(vb) ?: vb_drain(vb, &vb->deflateq, deadline) ?:\n',
           '',
           'virtio_balloon_sizing', failed('all_deflation_ends_')),
    Mutant('queue_never_empty',
           '\t\tif (!rc && *want)\n\t\t\tvb_pause(vb, &vb->inflateq);\n',
           '',
           'virtio_balloon_sizing', failed('each_group_finds_')),
    Mutant('announced_pages_wait',     # B14
           'buf = i ? vb_buf_get(q, q->reserve) :\n'
           '\t\t\t  vb_buf_wait(vb, q, deadline);\n'
           '\t\tif (IS_ERR_OR_NULL(buf))\n\t\t\treturn',
           'buf = vb_buf_wait(vb, q, deadline);\n'
           '\t\tif (IS_ERR_OR_NULL(buf))\n\t\t\treturn',
           'virtio_balloon_sizing', failed('what_is_announced_')),
    Mutant('step_without_end',
           '\treturn time_after(jiffies, deadline) ||\n'
           '\t       delayed_work_pending(&vb->sizing);\n',
           '\treturn false;\n',
           'virtio_balloon_sizing', failed('a_new_target_ends_')),
    Mutant('all_small_blocks_lent',
           'order < VB_BLOCK_ORDER ? nr - nr / 8 : ULONG_MAX',
           'nr ? ULONG_MAX : 0',
           'virtio_balloon_hint', failed('small_blocks_are_not_')),
    Mutant('deflateq_never_empty',
           '\tif (!list_empty(group))\n\t\tvb_pause(vb, q);\n', '',
           'virtio_balloon_sizing', failed('each_group_finds_')),
    Mutant('collected_pages_lost_to_oom',
           'vb_oom_hurry(vb) ?: ', '',
           'virtio_balloon_pressure', failed('the_last_pages_are_there')),
    Mutant('announced_pages_lost_to_oom',
           ' ?: vb_oom_awaits(vb);', ';',
           'virtio_balloon_pressure', failed('what_is_announced_is_')),
    Mutant('offline_waits_for_rest',
           'vb_rests(vb) || READ_ONCE(vb->eager);',
           'vb_rests(vb);',
           'virtio_balloon_migration', failed('memory_may_go_')),
    Mutant('offline_for_ever',
           '\tWRITE_ONCE(vb->eager, false);\n\trc = register_oom',
           '\trc = register_oom',
           'virtio_balloon_migration', failed('asleep_it_may_')),
    Mutant('late_hints_stay_offline',
           'if (READ_ONCE(vb->eager) && READ_ONCE(vb->hint_pressed))',
           'if (false)',
           'virtio_balloon_hint', failed('memory_that_goes_offline_')),
    Mutant('migration_hides_a_break',
           '\t} else if (vb_is_broken(vb)) {\n'
           '\t\tvb_queue_sizing(vb, 0);\t\t/* which resets the device */\n'
           '\t}\n\trcu_read_unlock();\n',
           '\t}\n\trcu_read_unlock();\n',
           'virtio_balloon_migration', failed('on_a_broken_device_')),
    Mutant('silent_host_not_asked',
           '\t\t\trc = -ETIMEDOUT;\n\t\tvb_nudge(q);\n',
           '\t\t\trc = -ETIMEDOUT;\n',
           'virtio_balloon_sizing', failed('a_lost_notification_')),
    # Pressure
    Mutant('oom_waits_for_no_buffer',
           'vb_urgent_buf(vb, keep, oom && !done)',
           'vb_urgent_buf(vb, keep, false)',
           'virtio_balloon_pressure', failed('without_a_buffer_it_waits_')),
    # Hinting, migration
    Mutant('hints_below_the_floor',
           'min(si_mem_available(), free) - (long)vb_floor_now(vb);',
           'min(si_mem_available(), free);',
           'virtio_balloon_hint', failed('all_but_the_floor_')),
    Mutant('migrated_page_not_managed',
           '\tif (!vb->oom)\n\t\tvb_adjust_run(page, 1);\n', '',
           'virtio_balloon_migration', failed('mem_total_stays_')),
    # What a random host looks at
    Mutant('counted_wrong',
           '\tvb_account(&buf->runs, 1);\n\tatomic_long_add(nr, &vb->held);',
           '\tvb_account(&buf->runs, 1);\n'
           '\tatomic_long_add(nr - (nr == 7), &vb->held);',
           'virtio_balloon_fuzz', r'\d+ according to the driver'),
    Mutant('published_wrong',
           'vb_publish(vb, atomic_long_read(&vb->held) * VB_PPP);',
           'vb_publish(vb, (atomic_long_read(&vb->held) & ~1UL) * VB_PPP);',
           'virtio_balloon_fuzz', r'`actual` is \d+, with|, actual \d+'),
    Mutant('tries_without_a_pause',
           '\t\t*delay = msecs_to_jiffies(vb_backoff_ms(vb->retries++));\n'
           '\t\treturn VB_FLOOR;\n',
           '\t\t*delay = 0;\n\t\treturn VB_FLOOR;\n',
           'virtio_balloon_fuzz', r'accesses to the device|does not end'),
    Mutant('leaves_without_a_word',
           '\twhile (!rc && !vb_has_all_back(vb)) {\n',
           '\twhile (0 && !vb_has_all_back(vb)) {\n',
           'virtio_balloon_fuzz', r'of the host\'s were not announced'),
    Mutant('mem_total_drifts',
           '\tif (!vb->oom)\n\t\tvb_adjust_run(page, 1);\n', '',
           'virtio_balloon_fuzz', r'the guest has \d+ pages, it had \d+'),
    # The other suites
    Mutant('first_word_believed',    # D12
           '#define VB_HINT_QUIET\t\t(HZ / 50)', '#define VB_HINT_QUIET\t\t0',
           'virtio_balloon_hostile', failed('d12_a_stop_taken_')),
    Mutant('failed_probe_leaves_queues',
           '\t\tvirtio_reset_device(vb->vdev);\n\t\tvb_del_queues(vb);\n'
           '\t}\n\treturn rc;\n',
           '\t\tvirtio_reset_device(vb->vdev);\n\t}\n\treturn rc;\n',
           'virtio_balloon_fault', r'never deleted'),
]

BY_NAME = {mutant.name: mutant for mutant in CANARIES + MUTANTS}
