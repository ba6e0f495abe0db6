# SPDX-License-Identifier: GPL-2.0-only
"""The size of the balloon: what the host asks for is what it gets, exactly.

RESIDENT memory is backed by the host from the start, as if the guest had
touched it all, so that QEMU's RSS tells what the host really got: a held page
is not resident, hence RSS <= RAM - held, without any tolerance.
"""

import contextlib
import os
import random
import re
import subprocess
import time

import pytest

import guest
from guest import (GIB, KIB, MIB, PAGE, CommandFailed, GuestFault, boot,
                   wait_for)

RESIDENT = 'memory-backend-ram,prealloc=on'
INFLATE, DEFLATE = 0, 1

# What the guest's own doing may change of its free memory meanwhile.
NOISE = 2 * MIB


def seeded():
    """A random generator; VB_SEED repeats a run."""
    seed = int(os.environ.get('VB_SEED', random.randrange(1 << 32)))
    print(f'VB_SEED={seed}')
    return random.Random(seed)


def held_after(view, held=()):
    """The PFNs that the host has after VIEW's stream, HELD before.

    Whoever gives the host a page twice, or takes back what the host has not
    got (B12, B16), is told so.
    """
    held = set(held)
    for queue, pfns in view.buffers:
        pages = set(pfns)
        if len(pages) != len(pfns):
            raise GuestFault('a PFN twice in one buffer')
        if queue == INFLATE:
            if held & pages:
                raise GuestFault('inflated although the host has it')
            held |= pages
        else:
            if queue != DEFLATE or not pages <= held:
                raise GuestFault('deflated although the host has not got it')
            held -= pages
    return held


def free(running):
    """Bytes that are free in the guest: MemFree and the lists of the CPUs.

    Those lists are free memory too, and grow to some 10 MiB.
    """
    zones = running.sh('cat /proc/zoneinfo')
    return running.page * sum(map(int, re.findall(
        r'(?:pages free| count:) +(\d+)', zones)))


def wait_free(running, size):
    """Wait until SIZE bytes are free in the guest, give or take NOISE.

    `actual` says the target a moment before sizing is idle: the rest of its
    last block is not yet free then. Programs that end are slow, too.
    """
    wait_state(running, 'idle')
    wait_for(lambda: free(running), lambda now: abs(now - size) <= NOISE, 10,
             f'{size} bytes to be free')


def wait_counted(running, size):
    """Wait until /proc/vmstat counts SIZE bytes as in a balloon.

    The driver hands pages to mm a second after sizing has come to rest.
    """
    def count():
        stat = running.vmstat()
        return stat['balloon_inflate'] - stat['balloon_deflate']

    wait_for(count, lambda pages: pages * running.page == size, 30,
             f'balloon pages of {size} bytes')


def wait_meminfo(running, size):
    """The same in /proc/meminfo, where it is since 6.16.

    The lag is that of the CPUs' own counters.
    """
    if 'Balloon' in running.meminfo():
        wait_for(lambda: running.meminfo()['Balloon'],
                 lambda now: now == size // KIB, 10,
                 f'"Balloon:" to be {size // KIB} kB')


def wait_state(running, state, timeout=60):
    """Wait until the driver says that it is in STATE; its status."""
    return wait_for(running.status, lambda now: now['state'] == state,
                    timeout, f'state {state}')


@pytest.fixture(scope='module')
def _plain(request):
    with boot(mem='2G', mem_backend=RESIDENT,
              driver=request.config.getoption('--driver')) as running:
        yield running


@pytest.fixture
def plain(_plain):
    """A 2 GiB guest with an empty balloon, shared by the tests."""
    _plain.balloon_to(_plain.size)
    yield _plain
    _plain.judge()


@pytest.fixture(scope='module')
def _traced(request):
    with boot(mem='2G', trace=True,
              driver=request.config.getoption('--driver')) as running:
        yield running


@pytest.fixture
def traced(_traced):
    """A 2 GiB guest with an empty balloon and QEMU's trace, shared."""
    _traced.balloon_to(_traced.size)
    yield _traced
    _traced.judge()


# The target is met exactly, and the host gets the memory

def test_random_targets_are_exact(plain):
    """B7, B8, N01: 15 random targets: `actual`, RSS, free memory follow."""
    rng = seeded()
    wait_state(plain, 'idle')
    for _ in range(15):
        target = rng.randrange(512 * MIB, plain.size + 1, PAGE)
        should = free(plain) + target - plain.actual()
        plain.balloon_to(target)
        assert plain.rss() <= target
        wait_free(plain, should)


def test_fixed_ratios_are_exact(plain):
    """N02: 0.5, 0.75 and 0.8 of RAM, up and down, and all of it."""
    for percent in (50, 75, 80, 100, 50, 100):
        target = plain.size * percent // 100 // PAGE * PAGE
        plain.balloon_to(target)
        assert plain.rss() <= target


@pytest.mark.parametrize('more', [1 * MIB, 1 * GIB])
def test_a_target_above_the_ram_changes_nothing(plain, more):
    """N11: there is no more to have than all."""
    before = free(plain)
    plain.balloon(plain.size + more)
    assert plain.wait_settled(0.3) == plain.size
    wait_free(plain, before)


def test_the_smallest_target_leaves_a_guest_that_lives(plain):
    """N11, N12: 1 byte asks for all pages but one.

    The driver stops at its floor, says why, once, and hands all back.
    """
    plain.sh('dmesg -c')
    plain.balloon(1)
    status = wait_state(plain, 'floor')
    floor, available = (int(status[key].split()[0])
                        for key in ('floor', 'available'))
    # What the CPUs have in their lists does not count as available, and
    # 1 MiB is not worth a step.
    lists = free(plain) // KIB - plain.free()
    assert available + lists >= floor - NOISE // KIB
    assert available <= floor + KIB + NOISE // KIB
    plain.sh('ls -lR /sys/kernel/slab >/dev/null')
    time.sleep(1.5)    # for some more attempts, which must not log
    lines = re.findall(r'virtio_balloon virtio\d+: .*', plain.dmesg())
    assert len(lines) == 1
    assert f'floor: {status["why"]}; ' in lines[0]
    plain.balloon_to(plain.size)
    assert wait_state(plain, 'idle')['held'] == '0 kB'


def test_a_target_from_before_the_boot_is_met(driver):
    """N04: set while paused, it waits for the driver.

    A guest that never took a page back has given the host exactly what it
    holds: RSS is RAM - held to the byte.
    """
    with boot(mem='512M', paused=True, mem_backend=RESIDENT,
              driver=driver) as running:
        running.balloon(300 * MIB)
        assert running.wait_settled(0.3) == running.rss() == running.size
        running.cont()
        running.wait_up()
        running.wait_actual(300 * MIB)
        assert running.rss() == 300 * MIB
        running.balloon_to(running.size)
        running.touch(300 * MIB)
        assert running.rss() > 450 * MIB


def test_a_pause_amid_sizing_does_no_harm(plain):
    """N05: stop and cont while it inflates and while it deflates."""
    rng = seeded()
    for target in (768 * MIB, plain.size, 640 * MIB):
        plain.balloon(target)
        for _ in range(6):
            time.sleep(rng.uniform(0, 0.1))
            plain.stop()
            paused = plain.actual()
            time.sleep(rng.uniform(0, 0.2))
            assert plain.actual() == paused
            plain.cont()
        plain.wait_actual(target)
        assert wait_state(plain, 'idle')['held'] == \
            f'{(plain.size - target) // KIB} kB'
        assert plain.rss() <= target


def test_a_target_that_keeps_changing_ends_exact_and_idle(plain):
    """D3: a new one each 50 ms, 20 times; the last counts, then it rests."""
    rng = seeded()
    for _ in range(20):
        target = rng.randrange(640 * MIB, plain.size, PAGE)
        plain.balloon(target)
        time.sleep(0.05)
    plain.wait_actual(target)
    before = wait_state(plain, 'idle')
    time.sleep(1)
    after = plain.status()
    for counter in ('actual_writes', 'inflateq_kicks', 'deflateq_kicks'):
        assert after[counter] == before[counter]
    assert plain.actual() == target


def test_no_memory_is_lost(plain):
    """Inflating and deflating is free of charge: free memory returns.

    Cycles of 1 GiB that leaked a page in a thousand would show. mm's own
    count of balloon pages is right at either end.
    """
    before = free(plain)
    plain.balloon_to(1 * GIB)
    wait_counted(plain, plain.size - 1 * GIB)
    for target in (plain.size, 1 * GIB, plain.size, 1 * GIB, plain.size):
        plain.balloon_to(target)
    wait_counted(plain, 0)
    wait_free(plain, before)


# MemTotal

SQUEEZES = (151552, 32768, 4)    # KiB: libvirt's, QEMU's (2.5), a page


@pytest.mark.core
def test_memtotal_drops_by_what_is_held(plain):
    """N15: without DEFLATE_ON_OOM, to the KiB, and it comes back."""
    total = plain.meminfo()['MemTotal']
    for squeeze in SQUEEZES:
        plain.balloon_to(plain.size - squeeze * KIB)
        assert total - plain.meminfo()['MemTotal'] == squeeze
        plain.balloon_to(plain.size)
        assert plain.meminfo()['MemTotal'] == total


def test_memtotal_is_constant_with_deflate_on_oom(driver):
    """N15: the pages are the guest's own then, only lent."""
    with boot(driver=driver, deflate_on_oom=True) as running:
        total = running.meminfo()['MemTotal']
        for squeeze in SQUEEZES:
            running.balloon_to(running.size - squeeze * KIB)
            assert running.meminfo()['MemTotal'] == total
        running.balloon_to(running.size)
        assert running.meminfo()['MemTotal'] == total


@pytest.mark.core
@pytest.mark.kernel('6.16')
def test_meminfo_counts_the_balloon(plain):
    """At once, and mm's list and ours add up all the time."""
    for taken in (512 * MIB, 256 * MIB, 256 * MIB + PAGE):
        plain.balloon_to(plain.size - taken)
        wait_meminfo(plain, taken)
        wait_counted(plain, taken)
        wait_meminfo(plain, taken)
    plain.balloon_to(plain.size)
    wait_meminfo(plain, 0)


# What the host sees on its queues

def device_order(trace):
    """'ok' for each DRIVER_OK and 'use' for each use before it, of balloons.

    A use is a kick or a write to the configuration.
    """
    trace.view()
    balloons = {vdev for vdev, _ in trace.vqs.values()} - {trace.console}
    ready, order = False, []
    for line in trace.text().splitlines():
        words = line.split()
        if 'virtio_set_status' in line and words[-3] in balloons:
            if not ready and int(words[-1]) & 4:
                order.append('ok')
            ready = bool(int(words[-1]) & 4)
        elif 'virtio_balloon_set_config' in line or (
                'virtio_queue_notify' in line and balloons & set(words)):
            order += [] if ready else ['use']
    return order


def test_the_device_is_not_used_before_driver_ok(traced):
    """G11, B6: no kick and no configuration write before DRIVER_OK."""
    assert device_order(traced.trace) == ['ok']


def test_a_gib_is_inflated_in_order_and_in_few_steps(traced):
    """Ascending PFNs in blocks, 256 a buffer, many buffers a kick.

    The bounds are 2 MiB blocks with some slack (512 of them make 1 GiB), two
    buffers a block with eight a kick, and an `actual` for each 32 MiB (B18);
    on a machine that is busy with other things, one for each 100 ms.
    """
    traced.trace.mark()
    seconds = traced.balloon_to(1 * GIB)
    view = traced.trace.view()
    sizes = {len(buffer.pfns) for buffer in view.buffers}
    assert len(held_after(view)) == 1 * GIB // PAGE
    assert sizes == {256}
    assert all(buffer.pfns == sorted(buffer.pfns) for buffer in view.buffers)
    assert len(view.runs(INFLATE)) <= 600
    assert view.kicks[INFLATE] <= 128
    assert len(view.config_writes) <= max(40, 10 * seconds + 2)
    assert view.config_writes[-1] == 1 * GIB // PAGE


def test_each_page_comes_back_once(traced):
    """B12: deflating announces each page, and none that is not held."""
    rng = seeded()
    traced.trace.mark()
    held = set()
    for _ in range(4):
        target = rng.randrange(GIB, traced.size, PAGE)
        traced.balloon_to(target)
        held = held_after(traced.trace.view())
        assert len(held) == (traced.size - target) // PAGE
    traced.balloon_to(traced.size)
    view = traced.trace.view()
    assert not held_after(view)
    assert max(len(buffer.pfns) for buffer in view.buffers) <= 256
    assert view.config_writes[-1] == 0


def test_a_flapping_target_keeps_the_order(traced):
    """B12, B16, D3: up and down faster than the host can follow.

    A page that goes back and forth does so in an order that the host sees.
    """
    rng = seeded()
    traced.trace.mark()
    for _ in range(40):
        target = traced.size - rng.randrange(0, 128 * MIB, PAGE)
        traced.balloon(target)
        time.sleep(rng.uniform(0, 0.03))
    traced.wait_actual(target)
    wait_state(traced, 'idle')
    held = held_after(traced.trace.view())
    assert len(held) == (traced.size - target) // PAGE
    assert traced.actual() == target


def test_larger_buffers_are_to_be_had(traced):
    """3.5: 512 PFNs a buffer are a parameter; each is a whole 2 MiB block."""
    traced.unload()
    traced.load('ours', 'pfns_per_buffer=512')
    traced.trace.mark()
    traced.balloon_to(traced.size - 256 * MIB)
    buffers = traced.trace.view().buffers
    traced.balloon_to(traced.size)
    assert {len(buffer.pfns) for buffer in buffers} == {512}
    assert {buffer.pfns[0] % 512 for buffer in buffers} == {0}
    assert all(buffer.pfns[-1] - buffer.pfns[0] == 511 for buffer in buffers)
    traced.unload()
    traced.load('ours')


# Compaction and huge pages

def fragment(running, mib):
    """Leave holes of MIB in sum, between pages of /dev/shm/b.

    Two CPUs write a file each at the same time, and one of the files goes.
    """
    fill = f'dd if=/dev/zero bs=64k count={mib * 16} 2>/dev/null'
    running.sh(f'{fill} of=/dev/shm/a & {fill} of=/dev/shm/b; wait;'
               'rm /dev/shm/a', timeout=120)


def free_blocks(running):
    """Free blocks of 2 MiB in the guest."""
    order = (2 * MIB // running.page).bit_length() - 1
    return sum(int(count) << more
               for line in running.sh('cat /proc/buddyinfo').splitlines()
               for more, count in enumerate(line.split()[4 + order:]))


def whole(running):
    """The part of the guest's free memory that is in blocks of 2 MiB."""
    return free_blocks(running) * 2048 / running.free()


def compact(running):
    running.sh('echo 1 >/proc/sys/vm/compact_memory')


@pytest.mark.parametrize('oom', [
    pytest.param(False, marks=pytest.mark.core),
    pytest.param(True, marks=pytest.mark.thorough)])
def test_compaction_moves_the_balloon_out_of_the_way(oom, driver):
    """A full balloon in the holes: mm may move it, its size stays.

    Blocks of 2 MiB form out of what is free, and nr_hugepages gets all that
    it asks for within that. MemTotal is exact all the time.
    """
    with boot('512M', smp=2, driver=driver, deflate_on_oom=oom) as running:
        total = running.meminfo()['MemTotal']
        fragment(running, 120)
        target = running.size - running.available() * KIB + 80 * MIB
        running.balloon_to(target)
        wait_counted(running, running.size - target)
        running.sh('rm /dev/shm/b')
        for _ in range(5):
            compact(running)
            if whole(running) > 0.75:
                break
        assert running.vmstat()['balloon_migrate'] > 0
        assert whole(running) > 0.6
        wait_counted(running, running.size - target)
        running.wait_actual(target)
        held = 0 if oom else (running.size - target) // KIB
        assert running.meminfo()['MemTotal'] == total - held
        want = running.free() * 3 // 4 // 2048
        running.sh(f'echo {want} >/proc/sys/vm/nr_hugepages')
        assert running.meminfo()['HugePages_Total'] == want
        assert running.wait_settled() == target
        running.sh('echo 0 >/proc/sys/vm/nr_hugepages')
        wait_meminfo(running, running.size - target)
        running.balloon_to(running.size)
        assert running.meminfo()['MemTotal'] == total
        wait_meminfo(running, 0)


def test_compaction_and_sizing_at_once(driver):
    """B12, B16 hold, and no page is lost, while mm moves held pages."""
    rng = seeded()
    with boot('512M', smp=2, driver=driver, trace=True) as running:
        total = running.meminfo()['MemTotal']
        fragment(running, 120)
        job = running.spawn('while :; do '
                            'echo 1 >/proc/sys/vm/compact_memory; done')
        for number in range(10):
            taken = rng.randrange(32 * MIB, 192 * MIB, PAGE)
            running.balloon(running.size - taken)
            time.sleep(rng.choice((rng.uniform(0.1, 0.5), 2)))
            if number == 4:
                running.sh('rm /dev/shm/b')
        job.kill('KILL')
        wait_counted(running, taken)
        running.wait_actual(running.size - taken)
        assert running.wait_settled() == running.size - taken
        assert running.vmstat()['balloon_migrate'] > 0
        assert len(held_after(running.trace.view())) == taken // PAGE
        running.balloon_to(running.size)
        assert running.meminfo()['MemTotal'] == total
        assert not held_after(running.trace.view())


# Suspend

def test_the_wakeup_source_is_held_only_while_the_balloon_moves(plain):
    """A user may let the host's wish end a suspend. A balloon that cannot
    reach its target must not keep the guest awake for that.
    """
    power = f'/sys/bus/virtio/devices/{plain.devices()[0]}/power'

    def read(name):
        return int(plain.sh(f'cat {power}/wakeup_{name}'))

    plain.sh(f'echo enabled >{power}/wakeup')
    woken = read('active_count')
    plain.balloon(32 * MIB)
    wait_for(lambda: read('active_count'), lambda count: count > woken, 10,
             'the wakeup source to be held')
    wait_state(plain, 'floor')
    wait_for(lambda: read('active'), lambda active: not active, 30,
             'the wakeup source to be let go')
    assert plain.actual() > 32 * MIB
    plain.balloon_to(plain.size)
    plain.sh(f'echo disabled >{power}/wakeup')


# Tracepoints and parameters

TRACING = '/sys/kernel/tracing'


@contextlib.contextmanager
def guest_trace(running):
    """The driver's tracepoints are on; a function that yields the events."""
    enable = f'{TRACING}/events/virtio_balloon/enable'

    def events():
        text = running.sh(f'cat {TRACING}/trace')
        return [(name, dict(re.findall(r'(\w+)=(\w+)', rest)), rest)
                for name, rest in re.findall(
                    r' virtio_balloon_(\w+): (.*)', text)]

    running.sh(f'echo >{TRACING}/trace; echo 1 >{enable}')
    yield events
    running.sh(f'echo 0 >{enable}')


@pytest.mark.core
def test_each_step_has_a_tracepoint(plain):
    """One 64 MiB breath: each event is there, and its figures add up."""
    pages = 64 * MIB // PAGE
    with guest_trace(plain) as events:
        plain.balloon_to(plain.size - 64 * MIB)
        wait_state(plain, 'idle')
        plain.balloon_to(plain.size)
        wait_state(plain, 'idle')
        seen = events()

    def of(name, key):
        return [int(fields[key], 0) for event, fields, _ in seen
                if event == name]

    assert list(zip(of('target', 'target'), of('target', 'held'))) == [
        (pages, 0), (0, pages)]
    for name in ('inflate', 'held', 'deflate'):
        assert sum(of(name, 'pages')) == pages
    assert sorted(of('inflate', 'pfn')) == sorted(of('held', 'pfn'))
    assert of('actual', 'actual')[-1] == 0 and pages in of('actual', 'actual')
    states = [re.search(r'(\w+) -> (\w+)', rest).groups()
              for event, _, rest in seen if event == 'state']
    assert states == [('idle', 'inflating'), ('inflating', 'idle'),
                      ('idle', 'deflating'), ('deflating', 'idle')]
    assert all(0 < floor < available < plain.size // PAGE for floor, available
               in zip(of('state', 'floor'), of('state', 'available')))


def test_the_floor_can_be_changed_at_run_time(plain):
    """More of it stops inflation, less lets it go on, nonsense is refused."""
    floor = '/sys/module/virtio_balloon/parameters/floor'
    plain.sh(f'echo 1024 >{floor}')
    plain.balloon(512 * MIB)
    status = wait_state(plain, 'floor')
    assert status['floor'] == f'{1024 * 1024} kB'
    assert plain.available() >= 992 * KIB    # as above
    for bad in ('-2', '1048577', 'x', ''):
        plain.sh('dmesg -c')
        with pytest.raises(CommandFailed):
            plain.sh(f'echo {bad} >{floor}')
        assert f'virtio_balloon: floor={bad} refused: allowed are ' \
            '-1 to 1048576' in plain.dmesg()
    assert plain.sh(f'cat {floor}') == '1024\n'
    plain.sh(f'echo -1 >{floor}')
    plain.wait_actual(512 * MIB)
    wait_state(plain, 'idle')


UNITS = {
    'oom_pages': '4 KiB pages', 'floor': 'MiB',
    'pfns_per_buffer': '4 KiB pages', 'stats': 'statistics',
    'hint_order': '2^order guest pages', 'report_order': '2^order guest pages',
    'report': '1 on', 'deflate_mode': 'DEFLATE_ON_OOM',
}


def test_modinfo_tells_units_and_defaults():
    """What a user can set, he can look up."""
    lines = subprocess.run(
        ['modinfo', '-p', guest.balloon_modules()['ours']], check=True,
        text=True, stdout=subprocess.PIPE).stdout.splitlines()
    texts = dict(line.split(':', 1) for line in lines)
    assert texts.keys() >= UNITS.keys()
    for name, text in texts.items():
        assert 'default' in text
        assert UNITS.get(name, '') in text
        assert re.search(r'\((int|uint|bool|string|charp)\)$', text)


@pytest.fixture
def unloaded(plain):
    """The shared guest without a balloon driver."""
    plain.unload()
    yield plain
    plain.load('ours')


@pytest.mark.parametrize('param, allowed', [
    ('oom_pages=-1', '0 to 1048576'), ('oom_pages=9999999', '0 to 1048576'),
    ('floor=-2', '-1 to 1048576'), ('floor=99999999999', '-1 to 1048576'),
    ('pfns_per_buffer=15', '16 to 4096'),
    ('pfns_per_buffer=4097', '16 to 4096'), ('stats=foo', 'spec and all'),
    ('hint_order=-2', '-1 to 10'), ('hint_order=11', '-1 to 10'),
    ('report=2', '0 to 1'), ('report_order=-1', '0 to 10'),
    ('report_order=11', '0 to 10'), ('deflate_mode=none', 'oom and shrinker'),
])
def test_a_bad_parameter_is_refused_with_a_reason(unloaded, param, allowed):
    """The module does not load, and the log says what would be right."""
    unloaded.sh('dmesg -c')
    with pytest.raises(CommandFailed):
        unloaded.load('ours', param)
    assert f'virtio_balloon: {param} refused: allowed are {allowed}' \
        in unloaded.dmesg()
    assert 'virtio_balloon' not in unloaded.sh('cat /proc/modules')


@pytest.mark.parametrize('params', [
    'oom_pages=0 floor=-1 pfns_per_buffer=16 stats=spec hint_order=-1 '
    'report=0 report_order=0 deflate_mode=oom',
    'oom_pages=1048576 floor=0 pfns_per_buffer=4096 stats=all hint_order=10 '
    'report=1 report_order=10 deflate_mode=shrinker',
])
def test_the_limits_of_the_parameters_work(unloaded, params):
    """All that is allowed loads, reads back and sizes exactly."""
    unloaded.load('ours', params)
    for param in params.split():
        name, value = param.split('=')
        assert unloaded.sh('cat /sys/module/virtio_balloon/parameters/'
                           + name) == value + '\n'
    unloaded.balloon_to(1 * GIB + PAGE)
    unloaded.balloon_to(unloaded.size)
    unloaded.unload()
