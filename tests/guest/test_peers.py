# SPDX-License-Identifier: GPL-2.0-only
"""What others test their balloons with, as often and as long as they do.

Tests of the other files do the same with smaller numbers; these take minutes,
so only scripts/test --all runs them. They are after tests of avocado-vt
(tp-qemu) for QEMU's balloon.
"""

import pathlib
import re
import signal
import time

import pytest

from guest import GIB, KIB, MIB, PAGE, boot, wait_for
from test_lifecycle import SPARE
from test_power import (AFTER_ANSWER, go_on_as, use_swap, wait_hibernated,
                        with_swap)
from test_reporting import reports, use
from test_sizing import DEFLATE, free, held_after, seeded, wait_counted

pytestmark = [pytest.mark.thorough, pytest.mark.time_limit(3600)]

# Seconds; theirs
REACHED = 600
STORM = 360
# A guest of 2 GiB with 200 MiB of files can do without so much.
LARGE = 1520 * MIB


def load(running):
    """Programs that keep CPUs, file system and memory busy, as stress does.

    Each goes on until it fails, as one does whose memory was changed.
    """
    return [running.spawn(f'while {command}; do :; done') for command in (
        ':', ':', 'dd if=/dev/zero of=/run/file bs=64k count=256 && sync',
        'hog -r 32', 'hog -r 32')]


def unload(running, jobs):
    """None of them has ended; now they do."""
    assert all(job.poll() is None for job in jobs)
    for job in jobs:
        job.kill('KILL')
    running.sh('rm -f /run/file')


def look(running, held):
    """The PFNs that the host has, HELD at the last look; the trace begins
    anew, as it would grow to gigabytes.
    """
    running.stop()
    held = held_after(running.trace.view(), held)
    running.trace.forget()
    running.cont()
    return held


def test_a_thousand_targets_under_load(driver):
    """N03: random targets, each of them exact, whatever else goes on."""
    rng = seeded()
    # It is slow to have an emulated CPU write zeros to all that is inflated.
    with boot(smp=2, driver=driver, trace=True,
              append='init_on_alloc=0') as running:
        before = free(running)
        jobs = load(running)
        slowest, held = 0, ()
        for number in range(1, 1001):
            target = rng.randrange(512 * MIB, running.size + 1, PAGE)
            slowest = max(slowest, running.balloon_to(target, REACHED))
            if number % 50 == 0:
                held = look(running, held)
        print(f'the slowest took {slowest:.1f} s')
        unload(running, jobs)
        assert len(look(running, held)) == \
            (running.size - running.actual()) // PAGE
        running.balloon_to(running.size)
        wait_counted(running, 0)
        running.sh('echo 3 >/proc/sys/vm/drop_caches')
        wait_for(lambda: free(running), lambda now: now >= before - SPARE, 30,
                 'all memory to be back')


def test_a_storm_of_stop_and_cont(driver):
    """N05: six minutes of it, with the balloon on its way."""
    rng = seeded()
    with boot(smp=2, driver=driver, trace=True) as running:
        end, target = time.monotonic() + STORM, running.size
        while time.monotonic() < end:
            if rng.random() < 0.5:
                target = rng.randrange(512 * MIB, running.size + 1, PAGE)
                running.balloon(target)
                time.sleep(rng.uniform(0, 0.3))
            running.stop()
            time.sleep(rng.uniform(0, 0.5))
            running.cont()
            time.sleep(rng.choice((0, 0.01, 0.1, 1)))
        running.wait_actual(target)
        assert len(held_after(running.trace.view())) == \
            (running.size - target) // PAGE


def test_a_hundred_plugs(driver):
    """N09: plugged, sized at random and pulled out in time."""
    rng = seeded()
    with boot('512M', driver=driver, hotplug=True, trace=True) as running:
        running.wait_device()
        running.hotplug_del()
        before = free(running)
        for number in range(100):
            running.trace.mark()
            running.hotplug_add(deflate_on_oom=number % 2 == 1)
            running.wait_device()
            running.balloon_to(rng.randrange(288 * MIB, running.size, PAGE))
            running.hotplug_del(timeout=30)
            assert not held_after(running.trace.view())
            wait_for(running.devices, lambda names: not names, 10,
                     'no device')
        wait_counted(running, 0)
        assert free(running) >= before - SPARE


def take_ratio(running, percent):
    """Leave that much to the guest; the size in bytes."""
    target = running.size * percent // 100 // PAGE * PAGE
    running.balloon_to(target)
    wait_counted(running, running.size - target)
    running.trace.mark()
    return target


def check_all_came_back(running, target):
    """Since take_ratio() each page that the host had was announced, once."""
    assert len(running.trace.view().pfns(DEFLATE)) == \
        (running.size - target) // PAGE


def suspend_at(running, *ratios):
    """Suspend to RAM with the balloon at each of them."""
    for percent in ratios:
        target = take_ratio(running, percent)
        running.suspend()
        check_all_came_back(running, target)
        running.wait_actual(target)


def test_ratios_with_sleep_in_between(driver, tmp_path):
    """N02, N06: half, S3, three quarters, S4, four fifths, S3, half."""
    options = {'smp': 2, 'suspend': True, 'trace': True,
               **with_swap(tmp_path)}
    with boot(driver=driver, **options) as first:
        use_swap(first)
        total, before = first.meminfo()['MemTotal'], free(first)
        suspend_at(first, 50)
        target = take_ratio(first, 75)
        first.spawn(f'{AFTER_ANSWER}; echo disk >/sys/power/state')
        wait_hibernated(first)
        check_all_came_back(first, target)
    with boot(driver=None, **options) as second:
        second.balloon(target)
        go_on_as(second)
        second.wait_actual(target)
        suspend_at(second, 80, 50)
        second.balloon_to(second.size)
        wait_for(lambda: second.meminfo()['MemTotal'],
                 lambda now: now == total, 30, 'MemTotal')
        assert free(second) >= before - SPARE


def pause(running):
    """The machine stands still, and its clock with it."""
    running.stop()
    time.sleep(60)
    running.cont()


def freeze(running):
    """QEMU gets no time, and the guest sees that time has passed.

    More than the driver waits for anything, and less than after which the
    guest's kernel complains of its CPUs.
    """
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(18)
    running.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize('stall', [pause, freeze])
def test_a_host_that_stands_still(stall, driver):
    """N31: with the balloon on its way, either way; all goes on."""
    with boot(smp=2, driver=driver, trace=True,
              free_page_reporting=True) as running:
        before = free(running)
        for target in (320 * MIB, running.size):
            old = running.actual()
            running.balloon(target)
            wait_for(running.actual, lambda now: now != old, 30,
                     'the balloon to move', 0.005)
            assert running.actual() != target
            stall(running)
            running.wait_actual(target)
            wait_counted(running, running.size - target)
            assert len(held_after(running.trace.view())) == \
                (running.size - target) // PAGE
        assert running.status()['state'] == 'idle'
        assert 'broken' not in running.dmesg()
        reported = reports(running)
        use(running, 256)
        wait_for(lambda: reports(running), lambda now: now > reported, 30,
                 'free pages to be reported')
        assert free(running) >= before - SPARE


def test_eight_gib(driver):
    """N16, N17, N28: the host has them, and the guest again; no stall.

    That is what boot() finds in the guest's log.
    """
    here = int(re.search(r'MemAvailable: +(\d+)', pathlib.Path(
        '/proc/meminfo').read_text())[1]) * KIB
    if here < 11 * GIB:
        pytest.skip(f'needs 11 GiB of memory, {here // MIB} MiB are there')
    with boot('10G', driver=driver, append='init_on_alloc=0') as running:
        running.touch(9 * GIB)
        before, small = free(running), 2 * GIB
        assert running.rss() > 9 * GIB
        running.balloon_to(small, REACHED)
        assert running.rss() <= small
        assert before - free(running) >= 8 * GIB * 85 // 100
        running.balloon_to(running.size, REACHED)
        assert running.rss() <= small + SPARE
        wait_for(lambda: free(running), lambda now: now >= before - SPARE, 30,
                 'all memory to be back')
        running.touch(9 * GIB)
        assert running.rss() > 9 * GIB


def blocks(running, order):
    """Free blocks of that order, in all zones."""
    return sum(int(line.split()[4 + order]) for line in
               running.sh('cat /proc/buddyinfo').splitlines())


def test_a_guest_in_fragments(driver):
    """N26: of 102400 files of a page each other one is deleted.

    avocado-vt expects that a balloon of a GiB takes the single pages that are
    free then. This one takes blocks while there are any, as each of them is a
    huge page of the host, and single pages for the rest. Nothing is lost, and
    the files are as they were.
    """
    with boot('2G', driver=driver, params='floor=32',
              trace=True) as running:
        singles = blocks(running, 0)
        running.sh('mkdir /run/files; mount -t tmpfs -o nr_inodes=0 none '
                   '/run/files; cd /run/files; seq 102400 | '
                   'while read n; do echo $n >$n; done', timeout=300)
        running.sh('cd /run/files; seq 1 2 102400 | xargs rm', timeout=300)
        before, fragments = free(running), blocks(running, 0)
        running.balloon_to(running.size - GIB)
        assert blocks(running, 0) > (fragments + singles) // 2
        running.balloon_to(running.size - LARGE, REACHED)
        left = blocks(running, 0)
        print(f'single pages: {singles}, {fragments}, {left}')
        assert left < fragments * 3 // 4
        assert len(held_after(running.trace.view())) == LARGE // PAGE
        running.balloon_to(running.size)
        assert free(running) >= before - SPARE
        assert running.sh('cd /run/files; cat * | sort -n | md5sum') == \
            running.sh('seq 2 2 102400 | md5sum')
