# SPDX-License-Identifier: GPL-2.0-only
"""Statistics: complete, true and in time, whatever else goes on.

The buffer itself is read out of the guest's memory while QEMU holds it, since
QEMU shows only those tags that it knows, and only the last of equal ones.
"""

import struct
import time

import pytest

from guest import (BALLOON_ID, KIB, MIB, PAGE, CommandFailed, QmpError, boot,
                   wait_for)

STATS = 2           # number of the queue
(SWAP_IN, SWAP_OUT, MAJFLT, MINFLT, MEMFREE, MEMTOT, AVAIL, CACHES,
 HTLB_PGALLOC, HTLB_PGFAIL, OOM_KILL, ALLOC_STALL, ASYNC_SCAN, DIRECT_SCAN,
 ASYNC_RECLAIM, DIRECT_RECLAIM) = ALL = range(16)
SPEC = range(10)

# QEMU's names of the ten that the specification has, and of the others
SPEC_NAMES = {
    'stat-swap-in', 'stat-swap-out', 'stat-major-faults', 'stat-minor-faults',
    'stat-free-memory', 'stat-total-memory', 'stat-available-memory',
    'stat-disk-caches', 'stat-htlb-pgalloc', 'stat-htlb-pgfail'}
LINUX_NAMES = {
    'stat-oom-kills', 'stat-alloc-stalls', 'stat-async-scans',
    'stat-direct-scans', 'stat-async-reclaims', 'stat-direct-reclaims'}

# What a guest that does nothing may change of its free memory meanwhile
NOISE = 8 * MIB


@pytest.fixture(scope='module', name='running')
def one_gib_guest():
    """A guest of 1 GiB that is asked only when a test says so."""
    with boot() as running:
        yield running


# The buffer

def query(running, what, **args):
    """What QEMU knows of the statistics queue."""
    path = f'/machine/peripheral/{BALLOON_ID}/virtio-backend'
    return running.qmp(f'x-query-virtio-queue-{what}', path=path, queue=STATS,
                       **args)


def indices(running):
    """(buffers offered ever, buffers returned ever)."""
    element = query(running, 'element', index=0)
    return element['avail']['idx'], element['used']['idx']


def settled(running):
    """indices(), once QEMU has a buffer.

    It may just have returned one, so that the driver is filling it anew. B21:
    never does it have two.
    """
    now = wait_for(lambda: indices(running), lambda now: now[0] != now[1], 10,
                   'a buffer to be there', 0.01)
    assert now[0] - now[1] == 1
    return now


def buffer(running):
    """The (tag, value) pairs of the buffer that QEMU holds, in its order."""
    offered, _ = settled(running)
    size = query(running, 'status')['vring-num']
    element = query(running, 'element', index=(offered - 1) % size)
    part, = element['descs']
    assert part['flags'] == []    # neither chained nor for the device to write
    path = running.directory / 'stats'
    running.qmp('pmemsave', val=part['addr'], size=part['len'],
                filename=str(path))
    return list(struct.iter_unpack('<HQ', path.read_bytes()))


def ask(running):
    """Have the buffer returned, and wait for the driver to offer it again."""
    running.stats_interval(0)
    before = settled(running)
    running.stats_interval(100)      # asks at once
    wait_for(lambda: indices(running),
             lambda now: now == (before[0] + 1, before[1] + 1), 10,
             f'an answer after {before}', 0.01)
    running.stats_interval(0)


def statistics(running):
    """Statistics as of now: tag -> value."""
    ask(running)
    return dict(buffer(running))


def tags(running):
    """The tags in the buffer, in its order."""
    return [tag for tag, _ in buffer(running)]


# Which ones

def test_all_tags_are_sent_by_default(running):
    """B24: one entry for each, 10 bytes each (B25)."""
    assert tags(running) == list(ALL)
    ask(running)
    assert tags(running) == list(ALL)


def test_the_tags_stay_the_same_for_ever(running):
    """N21, B23, B28: whatever the interval is, however often it is asked. At
    the same time: more often than the ring has entries, and B21: never is a
    second buffer there.
    """
    entries = query(running, 'status')['vring-num']
    for interval in (1, 2, 0, 1):
        running.stats_interval(interval)
        assert tags(running) == list(ALL)
    for _ in range(entries + 2):
        ask(running)
        assert tags(running) == list(ALL)


@pytest.mark.parametrize('params', ['stats=spec', 'stats=all'])
def test_the_parameter_restricts_them_to_the_specifications(params):
    """Firecracker before 1.14 and kvmtool break on more than these (D11)."""
    expected = list(SPEC if params == 'stats=spec' else ALL)
    with boot(params=params) as running:
        for _ in range(2):
            assert tags(running) == expected
            ask(running)
        assert set(running.stats()) == SPEC_NAMES | {'last-update'}
        assert running.sh('cat /sys/module/virtio_balloon/parameters/stats') \
            == params.split('=')[1] + '\n'


def test_a_wrong_parameter_is_refused():
    """And named in the log, with what is allowed."""
    with boot(driver=None) as running:
        with pytest.raises(CommandFailed):
            running.load(params='stats=some')
        assert 'stats=some refused: allowed are spec and all' \
            in running.dmesg()


@pytest.mark.new_qemu
def test_newer_qemu_has_a_name_for_each_of_them():
    """Newer than 7.2, which has names for the specification's only."""
    with boot(qemu='new') as running:
        names = set(running.stats())
        assert names == SPEC_NAMES | LINUX_NAMES | {'last-update'}


# Whether they are true

# tag -> names in /proc/vmstat whose sum it is, and their unit, None: a page.
# Names that a kernel does not have count nothing.
COUNTERS = {
    SWAP_IN: ('pswpin', None),
    SWAP_OUT: ('pswpout', None),
    MAJFLT: ('pgmajfault', 1),
    HTLB_PGALLOC: ('htlb_buddy_alloc_success', 1),
    HTLB_PGFAIL: ('htlb_buddy_alloc_fail', 1),
    OOM_KILL: ('oom_kill', 1),
    ALLOC_STALL: ('allocstall_dma allocstall_dma32 allocstall_normal '
                  'allocstall_movable', 1),
    ASYNC_SCAN: ('pgscan_kswapd pgscan_khugepaged', None),
    DIRECT_SCAN: ('pgscan_direct', None),
    ASYNC_RECLAIM: ('pgsteal_kswapd pgsteal_khugepaged', None),
    DIRECT_RECLAIM: ('pgsteal_direct', None),
}


def counters(running):
    """The statistics that only grow, from /proc/vmstat: tag -> value."""
    now = running.vmstat()
    values = {tag: sum(now.get(name, 0) for name in names.split())
              * (unit or running.page)
              for tag, (names, unit) in COUNTERS.items()}
    return {**values, MINFLT: now['pgfault'] - now['pgmajfault']}


def check_truth(running):
    """Assert that what the host is told is so (N19); it.

    Counters lie between what they were before and after, exactly; amounts are
    as in /proc/meminfo, but for what the guest does meanwhile.
    """
    before = counters(running)
    stats = statistics(running)
    after, info = counters(running), running.meminfo()
    for tag, low in before.items():
        assert low <= stats[tag] <= after[tag], f'tag {tag}'
    assert stats[MEMTOT] == info['MemTotal'] * KIB
    for tag, kib in ((MEMFREE, info['MemFree']),
                     (AVAIL, info['MemAvailable']),
                     (CACHES, info['Cached'] + info['Buffers']
                      + info['SwapCached'])):
        assert abs(stats[tag] - kib * KIB) <= NOISE, f'tag {tag}'
    return stats


@pytest.mark.core
@pytest.mark.pages
def test_they_are_true(running):
    """N19: at rest; with and after hugetlb allocations, of which 5 succeed."""
    idle = check_truth(running)
    if 'HugePages_Total' not in running.meminfo():
        return    # an emulated s390x has none
    running.sh('echo 5 >/proc/sys/vm/nr_hugepages')
    some = check_truth(running)
    running.sh('echo 5000 >/proc/sys/vm/nr_hugepages;'
               'echo 0 >/proc/sys/vm/nr_hugepages')
    many = check_truth(running)
    assert some[HTLB_PGALLOC] - idle[HTLB_PGALLOC] == 5
    assert some[HTLB_PGFAIL] == idle[HTLB_PGFAIL]
    assert many[HTLB_PGFAIL] > some[HTLB_PGFAIL]


def test_caches_grow_with_files(running):
    """32 MiB in /run, a tmpfs, are page cache."""
    before = check_truth(running)
    running.sh('dd if=/dev/zero of=/run/file bs=1M count=32')
    after = check_truth(running)
    running.sh('rm /run/file')
    grown = after[CACHES] - before[CACHES]
    assert 31 * MIB <= grown <= 33 * MIB


def test_touching_memory_shows_in_minor_faults(running):
    """32 MiB in pages of 4 KiB are that many faults, and not many more."""
    before = check_truth(running)[MINFLT]
    running.sh('hog -n 32')
    faults = check_truth(running)[MINFLT] - before
    assert 32 * MIB // PAGE <= faults <= 2 * 32 * MIB // PAGE


def test_they_follow_the_balloon(running):
    """What the balloon holds is neither free nor available, and without
    DEFLATE_ON_OOM not the guest's at all, by exactly that much.
    """
    empty = check_truth(running)
    running.balloon_to(running.size - 300 * MIB)
    full = check_truth(running)
    running.balloon_to(running.size)
    again = check_truth(running)
    assert empty[MEMTOT] - full[MEMTOT] == 300 * MIB
    assert again[MEMTOT] == empty[MEMTOT]
    for tag in (MEMFREE, AVAIL):
        assert abs(empty[tag] - full[tag] - 300 * MIB) <= NOISE
        assert abs(again[tag] - full[tag] - 300 * MIB) <= NOISE


def test_they_are_true_under_memory_pressure(tmp_path):
    """With DEFLATE_ON_OOM memory stays the guest's, and swap, reclaim and the
    OOM killer are busy: what the other tests leave at 0 is counted as well.
    """
    disk = tmp_path / 'disk'
    with open(disk, 'wb') as file:
        file.truncate(100 * MIB)
    with boot(deflate_on_oom=True, allow_oom=True, modules=('virtio_blk',),
              extra=('-drive', f'file={disk},format=raw,if=none,id=disk',
                     '-device', 'virtio-blk-pci,drive=disk')) as running:
        total = statistics(running)[MEMTOT]
        running.sh('mkswap /dev/vda && swapon /dev/vda')
        running.balloon_to(256 * MIB)
        # More than fits without swap space and the balloon's pages; too much
        assert running.spawn('hog 500 0 2').wait(timeout=200) == 0
        assert running.spawn('hog 1200').wait(timeout=200) != 0
        stats = check_truth(running)
        assert stats[MEMTOT] == total
        zero = [tag for tag in ALL if not stats[tag]]
        assert zero == [HTLB_PGALLOC, HTLB_PGFAIL]


# When they come

@pytest.mark.parametrize('interval', [0, 100])
def test_the_first_buffer_is_complete_and_comes_by_itself(interval):
    """N20, B22, B24: the host does not ask, or not before 100 s are over."""
    with boot(driver=None) as running:
        running.stats_interval(interval)
        assert running.stats() == {'last-update': 0}
        start = int(time.time())
        running.load()
        wait_for(lambda: running.stats()['last-update'],
                 lambda when: when >= start, 5, 'statistics')
        assert indices(running) == (1, 0)
        stats, info = running.stats(), running.meminfo()
        assert SPEC_NAMES < set(stats)
        assert stats['stat-total-memory'] == info['MemTotal'] * KIB
        free = info['MemFree'] * KIB
        assert abs(stats['stat-free-memory'] - free) <= NOISE
        assert 0 < stats['stat-minor-faults'] < running.vmstat()['pgfault']


def answers(running, seconds, during):
    """How often the host, asking each second, was answered in SECONDS.

    DURING is called over and over meanwhile.
    """
    running.stats_interval(1)
    start = indices(running)[1]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        during()
    count = indices(running)[1] - start
    running.stats_interval(0)
    return count


def test_bad_intervals_are_refused_and_harm_nothing(running):
    """N22; that is QEMU's job, but the next ones are ours."""
    for value, why in ((-1, 'must be greater than zero'),
                       (4294967296, 'is too big')):
        with pytest.raises(QmpError, match=f'timer value {why}'):
            running.stats_interval(value)
    assert answers(running, 4, lambda: time.sleep(0.1)) >= 3
    running.stats_interval(21474836)
    running.stats_interval(0)
    check_truth(running)


def test_they_come_each_second_while_sizes_change(running):
    """Sizing and statistics share nothing that one could wait for."""
    def resize():
        running.balloon_to(384 * MIB)
        running.balloon_to(running.size)
    assert answers(running, 8, resize) >= 6


def test_they_come_each_second_at_the_floor(running):
    """A target that is never reached must not keep them waiting."""
    running.balloon(32 * MIB)
    running.wait_settled(quiet=3)
    assert running.status()['state'] == 'floor'
    assert answers(running, 8, lambda: time.sleep(0.1)) >= 6
    assert check_truth(running)[AVAIL] < 80 * MIB
    running.balloon_to(running.size)


@pytest.mark.parametrize('smp', [
    pytest.param(1, marks=pytest.mark.thorough), 2])
def test_they_come_each_second_while_memory_runs_out(smp):
    """An answer allocates nothing."""
    with boot(deflate_on_oom=True, smp=smp) as running:
        running.balloon_to(256 * MIB)
        jobs = [running.spawn('while :; do hog -r 230 0.2; done')
                for _ in range(3)]
        try:
            assert answers(running, 10, lambda: time.sleep(0.1)) >= 7
            assert int(running.status()['oom']) > 0
        finally:
            for job in jobs:
                job.kill()
        running.check_nobody_killed()


def test_a_host_that_asks_without_end_gets_no_more_than_100_a_second(running):
    """D10: each change of the interval from 0 asks. The guest stays idle."""
    start, begin = indices(running)[1], time.monotonic()
    running.guest_cpu()
    while time.monotonic() - begin < 3:
        running.stats_interval(1)
        running.stats_interval(0)
    elapsed = time.monotonic() - begin
    count = (indices(running)[1] - start) / elapsed
    assert running.guest_cpu() < 0.5
    assert 20 <= count <= 110
    check_truth(running)


def test_they_work_again_after_the_driver_was_away(running):
    """B22 once more: the driver's new buffer is not mistaken for its last."""
    running.unload()
    running.load()
    assert indices(running) == (1, 0)
    assert answers(running, 4, lambda: time.sleep(0.1)) >= 3
    assert tags(running) == list(ALL)
    check_truth(running)
