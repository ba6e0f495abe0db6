# SPDX-License-Identifier: GPL-2.0-only
"""The balloon of a guest that needs its memory itself.

Two questions, over and over: does the guest live, and does the driver stop
trying. With DEFLATE_ON_OOM also: does the guest get its memory back.
"""

import math
import re
import time

import pytest

from guest import GIB, KIB, MIB, PAGE, boot, fits, wait_for

IMPOSSIBLE = 32 * MIB
PARAMETERS = '/sys/module/virtio_balloon/parameters'
TRACING = '/sys/kernel/tracing'


def held(running):
    """Bytes in the balloon, as the host has been told."""
    return running.size - running.actual()


def oom_kills(running):
    """Programs that the guest's kernel has killed for want of memory."""
    return running.vmstat()['oom_kill']


def busy(running, seconds):
    """Busy fraction of the guest's CPUs in SECONDS: the least of three times.

    A guest that rests looks busy where its host is: its ticks come late. One
    that does not rest never looks as if it did.
    """
    least = 1.0
    for _ in range(3):
        running.guest_cpu()
        running.sh(f'sleep {seconds}', timeout=seconds + 60)
        least = min(least, running.guest_cpu())
        if least < 0.05:
            break
    return least


def log_of_driver(running):
    """What the driver has logged about its device."""
    return re.findall(r'virtio_balloon virtio\d+: (.*)', running.dmesg())


def trace_oom(running):
    """Trace what the driver gives back each time memory runs out."""
    running.sh(f'cd {TRACING}; echo >trace;'
               'echo 1 >events/virtio_balloon/virtio_balloon_oom/enable')


def oom_rounds(running):
    """What trace_oom() saw: (pages wanted, pages given), oldest first."""
    text = running.sh(f'cat {TRACING}/trace')
    return [(int(step), int(freed)) for step, freed in re.findall(
        r'virtio_balloon_oom: virtio\d+ step=(\d+) freed=(\d+)', text)]


def settle_at_floor(running, quiet=4):
    """Wait for the driver to give up on a target that cannot be reached.

    Amid a hold-off nothing moves, either.
    """
    wait_for(lambda: running.status()['state'], lambda now: now == 'floor',
             150, 'the floor')
    running.wait_settled(quiet=quiet, timeout=150)
    status = running.status()
    assert status['state'] == 'floor' and status['why']
    return status


# With DEFLATE_ON_OOM

@pytest.mark.parametrize('mem, smp, target, need', [
    pytest.param('1G', 1, 256 * MIB, 500, marks=pytest.mark.core),
    pytest.param('2G', 2, 384 * MIB, 1300, marks=pytest.mark.thorough)])
def test_a_program_gets_its_memory_from_the_balloon(mem, smp, target, need):
    """N13, B11: NEED MiB are more than there is. `actual` tells the host what
    went back (B17), and once the program has ended the balloon grows again by
    itself, but not at once.
    """
    need = fits(need)
    with boot(mem=mem, smp=smp, deflate_on_oom=True) as running:
        target = running.size - fits(running.size - target) // PAGE * PAGE
        running.balloon_to(target)
        assert running.available() < (need - 100) * KIB
        job = running.spawn(f'hog -r {need} 1')
        job.wait_output('ready', timeout=200)
        status = running.status()
        assert status['state'] == 'hold-off'
        # 5 s; twice that where it ended before the program had its memory
        assert 0 < int(status['hold_off'].split()[0]) <= 5000 * 2 ** 3
        job.check_intact(timeout=200)
        running.check_nobody_killed()
        after = running.wait_settled(quiet=0.3)
        assert after - target >= 100 * MIB
        wait_for(running.actual, lambda now: now <= (target + after) // 2,
                 60, 'the balloon to grow again')


def test_each_time_memory_runs_out_more_goes_back():
    """Without oom_pages: 1 MiB at first, then four times as much each time,
    up to 64 MiB; with it: exactly that. What goes back is free for the guest,
    all of it, and off the host's account.
    """
    with boot(deflate_on_oom=True) as running:
        running.balloon_to(256 * MIB)
        trace_oom(running)
        running.spawn('hog 500').check_intact()
        steps = [256, 1024, 4096] + [16384] * 20
        rounds = oom_rounds(running)
        assert rounds == [(step, step) for step in steps][:len(rounds)]
        assert len(rounds) > 4

        running.sh(f'echo 2048 >{PARAMETERS}/oom_pages')
        running.balloon_to(257 * MIB)
        trace_oom(running)
        running.spawn('hog 500').check_intact()
        rounds = oom_rounds(running)
        assert set(rounds) == {(2048, 2048)}
        assert running.wait_settled(quiet=0.3) \
            == 257 * MIB + len(rounds) * 2048 * PAGE
        running.check_nobody_killed()


@pytest.mark.parametrize('smp', [
    pytest.param(1, marks=pytest.mark.thorough), 2])
def test_an_oom_storm_kills_nobody(smp):
    """Four programs run out of memory at once. They fit into RAM, if only all
    of the balloon is given back where needed.
    """
    with boot(smp=smp, deflate_on_oom=True) as running:
        running.balloon_to(256 * MIB)
        jobs = [running.spawn('hog -r 190 3') for _ in range(4)]
        for job in jobs:
            job.check_intact(timeout=250)
        running.check_nobody_killed()


def test_asking_for_the_oom_killer_shrinks_the_balloon():
    """As cloud-hypervisor tests it. The kernel kills in any case then."""
    with boot(deflate_on_oom=True, allow_oom=True) as running:
        running.balloon_to(512 * MIB)
        victim = running.spawn('hog 20 -1')
        victim.wait_output('ready')
        running.sh('echo f >/proc/sysrq-trigger')
        assert victim.wait() != 0
        assert running.wait_settled() > 512 * MIB


def test_an_impossible_target_is_no_livelock():
    """N14, Firecracker #4324: inflating and giving back must not chase each
    other for ever. Programs get memory then as well.
    """
    with boot(deflate_on_oom=True) as running:
        running.balloon(IMPOSSIBLE)
        settle_at_floor(running)
        assert busy(running, 10) < 0.05
        running.spawn('hog -r 300 1').check_intact(timeout=200)
        running.check_nobody_killed()
        settle_at_floor(running, quiet=4)
        assert busy(running, 5) < 0.05


def test_no_floor_is_survivable():
    """floor=0 with DEFLATE_ON_OOM: all there is goes to the host, and comes
    back when needed.
    """
    with boot(deflate_on_oom=True, params='floor=0') as running:
        running.balloon(IMPOSSIBLE)
        settle_at_floor(running)
        assert running.available() < 8 * KIB
        running.spawn('hog -r 300').check_intact(timeout=200)
        running.check_nobody_killed()


@pytest.mark.core
def test_reclaim_takes_pages_out_of_the_balloon_if_it_may():
    """deflate_mode=shrinker: a program gets what it needs before memory runs
    out. The balloon stays away for a while, then it grows again.
    """
    with boot(deflate_on_oom=True, params='deflate_mode=shrinker') as running:
        running.balloon_to(400 * MIB)
        job = running.spawn(f'hog -r {fits(500)} -1')
        wait_for(lambda: running.status()['state'],
                 lambda state: state == 'hold-off', 60, 'a hold-off')
        job.wait_output('ready', 200)
        after = running.wait_settled(quiet=0.3)
        assert after >= 500 * MIB
        status = running.status()
        assert int(status['shrunk'].split()[0]) >= 100 * KIB
        assert status['oom'] == '0'
        job.kill()
        job.check_intact(200)
        running.check_nobody_killed()
        wait_for(running.actual, lambda now: now < after - 50 * MIB, 60,
                 'the balloon to grow again')


def test_reclaim_takes_nothing_without_deflate_on_oom():
    """B10: deflate_mode=shrinker is for devices that allow it."""
    with boot(allow_oom=True, params='deflate_mode=shrinker') as running:
        running.balloon_to(256 * MIB)
        assert running.spawn('hog 500 1').wait(timeout=200) != 0
        assert running.wait_settled() == 256 * MIB
        assert running.status()['shrunk'] == '0 kB'


# Without DEFLATE_ON_OOM

def test_without_deflate_on_oom_the_host_keeps_its_pages():
    """N13, B10: the OOM killer acts; the guest lives, the balloon stays."""
    with boot(allow_oom=True) as running:
        running.balloon_to(256 * MIB)
        assert running.spawn('hog 500 1').wait(timeout=200) != 0
        assert oom_kills(running) > 0
        assert running.wait_settled() == 256 * MIB
        status = running.status()
        assert status['state'] == 'idle' and status['oom'] == '0'


@pytest.mark.time_limit(600)
@pytest.mark.parametrize('mem, quiet', [
    ('256M', 3), pytest.param('64G', 8, marks=pytest.mark.thorough)])
def test_the_floor_keeps_a_guest_of_any_size_alive(mem, quiet):
    """N12: the host asks for all but 16 MiB, and nothing would come back. The
    floor is 64 KiB times the square root of the guest's memory in KiB.
    """
    with boot(mem=mem, append='init_on_alloc=0',
              mem_backend='memory-backend-ram,reserve=off') as running:
        floor = 64 * math.isqrt(running.meminfo()['MemTotal'])
        running.balloon(16 * MIB)
        status = settle_at_floor(running, quiet)
        assert status['floor'] == f'{floor} kB'
        assert 0.9 * floor < running.available() < 1.1 * floor
        assert busy(running, quiet) < 0.05
        assert running.sh('echo alive', timeout=10) == 'alive\n'
        running.check_nobody_killed()


@pytest.fixture(scope='module', name='stuck')
def one_gib_guest():
    """A guest of 1 GiB for stick()."""
    with boot(trace=('virtio_balloon_get_config',)) as running:
        yield running


def stick(running):
    """Bring the guest to its floor, where the driver can only wait."""
    running.balloon(IMPOSSIBLE)
    return settle_at_floor(running)


def attempts(running):
    """How often the driver has looked at the target since the last mark."""
    return running.trace.names()['virtio_balloon_get_config']


def test_at_the_floor_the_driver_is_quiet(stuck):
    """N12, in the minute after it got there: no CPU time worth naming, no
    more log lines, and rare attempts: one each 30 s in the end.
    """
    stick(stuck)
    log = log_of_driver(stuck)
    assert len(log) == 1 and log[0].startswith('floor: ')
    assert busy(stuck, 20) < 0.05
    stuck.trace.mark()
    time.sleep(40)
    assert 1 <= attempts(stuck) <= 2
    assert log_of_driver(stuck) == log
    assert stuck.status()['state'] == 'floor'
    stuck.check_nobody_killed()


def test_a_new_target_is_heard_at_the_floor(stuck):
    """However long the next attempt is put off, the host need not wait."""
    stick(stuck)
    assert stuck.balloon_to(512 * MIB) < 5
    assert stuck.status()['state'] == 'idle'


def test_what_cannot_be_reclaimed_is_not_taken(stuck):
    """A tmpfs is page cache, but nowhere to be put; programs are in use."""
    stuck.balloon_to(GIB)
    job = stuck.spawn('hog -r 200 -1')
    job.wait_output('ready')
    stuck.sh('dd if=/dev/urandom of=/run/file bs=1M count=200')
    before = stuck.sh('md5sum /run/file')
    stick(stuck)
    assert stuck.actual() > 600 * MIB
    assert stuck.sh('md5sum /run/file') == before
    assert job.poll() is None
    job.kill()
    stuck.sh('rm /run/file')
    stuck.check_nobody_killed()


def test_the_parameter_sets_the_floor():
    """floor=200 leaves 200 MiB, whatever the host asks for, and can be moved
    in a running guest; what it then allows is taken at the next attempt. The
    log has one line for all of that, as the target is the same.
    """
    with boot(params='floor=200') as running:
        running.balloon(IMPOSSIBLE)
        settle_at_floor(running)
        assert 196 * KIB < running.available() < 210 * KIB
        running.sh(f'echo 100 >{PARAMETERS}/floor')
        running.wait_actual(running.actual() - 100 * MIB, timeout=60,
                            tolerance=4 * MIB)
        settle_at_floor(running)
        assert 96 * KIB < running.available() < 110 * KIB
        assert len(log_of_driver(running)) == 1


# Page cache

def test_page_cache_is_given_to_the_host(tmp_path):
    """The guest's free memory is less than what the host asks for; its page
    cache is not needed, and counts as available.
    """
    disk = tmp_path / 'disk'
    with open(disk, 'wb') as file:
        file.truncate(700 * MIB)
    with boot(modules=('virtio_blk',), extra=(
            '-drive', f'file={disk},format=raw,if=none,id=disk',
            '-device', 'virtio-blk-pci,drive=disk')) as running:
        # Once nobody has the disk open, its cache is gone anyway.
        job = running.spawn('exec 3</dev/vda; dd bs=1M of=/dev/null <&3;'
                            'echo done; sleep 1000')
        job.wait_output('done')
        before = running.meminfo()
        assert before['Buffers'] + before['Cached'] > 600 * KIB
        assert before['MemFree'] < 300 * KIB
        running.balloon_to(384 * MIB)
        after = running.meminfo()
        assert after['Buffers'] + after['Cached'] < 300 * KIB
        running.check_nobody_killed()
