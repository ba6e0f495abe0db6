# SPDX-License-Identifier: GPL-2.0-only
"""`virsh dommemstat`: complete, true, and as often as libvirt wants it."""

import re
import time

import pytest

import guest
from base import KIB, MIB
from domain import domain

# libvirt's names of what it makes of the specification's statistics
FROM_GUEST = {
    'swap_in', 'swap_out', 'major_fault', 'minor_fault', 'unused',
    'available', 'usable', 'disk_caches', 'hugetlb_pgalloc', 'hugetlb_pgfail'}
ALL = FROM_GUEST | {'actual', 'last_update', 'rss'}

# What a guest that does nothing may change of its memory meanwhile
NOISE = 8 * MIB // KIB


@pytest.fixture(scope='module', name='running')
def one_gib_domain(host):
    """A domain that libvirt asks each second from the start."""
    with domain(host, period=1) as running:
        running.wait_update()
        yield running


def set_period(running, seconds):
    """How often libvirt lets QEMU ask; 0: not at all."""
    running.virsh('dommemstat', '--period', seconds, '--live')


def xml_period(running):
    """What the domain's description says of it."""
    match = re.search(r"<stats period='(\d+)'/>", running.virsh('dumpxml'))
    return int(match[1]) if match else 0


def keys_by_period(host, driver):
    """Names of the statistics: at first, each second, and no longer."""
    with domain(host, driver=driver) as running:
        guest.wait_for(lambda: running.dommemstat()['last_update'], bool, 30,
                       'the first statistics')
        seen = [set(running.dommemstat())]
        for period in (1, 0):
            set_period(running, period)
            if period:
                running.wait_update()
            seen.append(set(running.dommemstat()))
        return seen


@pytest.mark.skipif("'stock' not in guest.balloon_modules()",
                    reason='this kernel has no balloon module')
def test_the_names_are_those_of_the_kernels_driver(host):
    """And always the same, whether somebody asks or not."""
    ours = keys_by_period(host, 'ours')
    assert ours == [ALL] * 3
    assert ours == keys_by_period(host, 'stock')


def check_truth(running):
    """Compare with what the guest has to say; the statistics."""
    stats, info = running.wait_update(), running.meminfo()
    assert stats['available'] == info['MemTotal']
    for name, value in (('unused', info['MemFree']),
                        ('usable', info['MemAvailable']),
                        ('disk_caches', info['Cached'] + info['Buffers'])):
        assert abs(stats[name] - value) <= NOISE, name
    assert abs(stats['last_update'] - time.time()) <= 5
    assert 0 < stats['minor_fault'] <= running.vmstat()['pgfault']
    return stats


def test_they_are_true(running):
    """And each is there."""
    stats = check_truth(running)
    assert set(stats) == ALL
    assert stats['actual'] * KIB == running.size
    assert stats['rss'] > 100 * MIB // KIB


def test_they_follow_the_balloon(running):
    """By exactly what it has taken."""
    before = check_truth(running)
    running.setmem_to(running.size // 2)
    taken = running.size // 2 // KIB
    stats = check_truth(running)
    assert before['available'] - stats['available'] == taken
    assert before['actual'] - stats['actual'] == taken
    for name in ('unused', 'usable'):
        assert abs(before[name] - stats[name] - taken) <= NOISE
    running.setmem_to(running.size)
    assert check_truth(running)['available'] == before['available']


def test_the_period_can_be_changed(running):
    """Off, no update comes, and the old figures stay; on, they come again."""
    assert xml_period(running) == 1
    set_period(running, 0)
    assert xml_period(running) == 0
    time.sleep(1)
    running.stays(lambda: running.dommemstat()['last_update'], seconds=4)
    assert set(running.dommemstat()) == ALL
    set_period(running, 1)
    assert xml_period(running) == 1
    first = running.wait_update()['last_update']
    time.sleep(5)
    running.wait_update()
    assert 4 <= running.dommemstat()['last_update'] - first <= 8
    check_truth(running)
