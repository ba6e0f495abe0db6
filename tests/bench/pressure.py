# SPDX-License-Identifier: GPL-2.0-only
"""Guests that need the memory which the host wants."""

import contextlib
import pathlib
import re
import tempfile
import time

import experiment
from disturb import samples
from experiment import (MORE, NEITHER, NONE, OURS, SHRINKER, STOCK, Case,
                        Experiment, Metric)
from guest import KIB, MIB, PAGE, GuestError, GuestLog, GuestTimeout
from moves import follow


# Page cache

# Seconds that the kernel may take to count what was moved
PATIENCE = 20


@contextlib.contextmanager
def disk(size):
    """QEMU's arguments for a disk of SIZE bytes; it is all holes."""
    with tempfile.TemporaryDirectory(prefix='vb-disk-') as folder:
        path = pathlib.Path(folder) / 'disk'
        with open(path, 'wb') as file:
            file.truncate(size)
        yield ('-drive', f'file={path},format=raw,if=none,id=disk',
               '-device', 'virtio-blk-pci,drive=disk')


def standstill(points, end):
    """The longest time without a change, in points of moves.follow()."""
    times = [seconds for seconds, _ in points] + [end]
    return max(late - early for early, late in zip(times, times[1:]))


def moved(arm, running, before, size):
    """Pages (to the host, from it) since BEFORE, when the balloon has SIZE.

    The kernel counts what comes to its list of movable pages and leaves it,
    which in a guest without idle time is later. Who still moves pages is
    not waited for. A page that mm moved is one to the host and one from it;
    the kernel's own driver does not count them.
    """
    end = time.monotonic() + PATIENCE
    while True:
        now = running.vmstat()
        inflated, deflated, migrated = (
            now[name] - before[name] for name in
            ('balloon_inflate', 'balloon_deflate', 'balloon_migrate'))
        if inflated - deflated == size // PAGE or time.monotonic() > end:
            break
        time.sleep(1)
    more = migrated if arm is STOCK else 0
    return inflated + more, deflated + more


def inflate(arm, running, size, limit):
    """Figures of an attempt that may fail."""
    before = running.vmstat()
    start, old = time.monotonic(), running.actual()
    running.balloon(size)
    points, _ = follow(running, size, start, limit)
    seconds = time.monotonic() - start
    after = running.vmstat()
    reads = (after['pgpgin'] - before['pgpgin']) * KIB / MIB / seconds
    reached = old - points[-1][1]
    inflated, deflated = moved(arm, running, before, reached)
    return {'time to the target': seconds, 'file read meanwhile': reads,
            'longest standstill': standstill(points, seconds),
            'reached': reached / MIB,
            'pages to the host': inflated, 'pages from the host': deflated}


def measure_cache(arm, mem, cache, target, limit):
    """Inflate a guest that reads a file larger than its memory all the time.

    CACHE MiB is the size of that file, TARGET what the guest is to keep.
    """
    with disk(cache * MIB) as extra, experiment.boot(
            arm, mem, smp=2, extra=extra, modules=('virtio_blk',),
            deflate_on_oom=True, append=experiment.plain()) as running:
        # Once nobody has the disk open, its cache is gone.
        job = running.spawn('exec 3</dev/vda; while cat /dev/vda >/dev/null;'
                            'do echo read; done')
        job.wait_output('read', timeout=200)
        figures = inflate(arm, running, target * MIB, limit)
        figures['OOM kills'] = running.vmstat()['oom_kill']
        job.kill()
    return figures


CACHE_METRICS = (Metric('time to the target', 's'),
                 Metric('longest standstill', 's'),
                 Metric('file read meanwhile', 'MiB/s', MORE),
                 Metric('reached', 'MiB', MORE, worst=True),
                 Metric('pages to the host', ''),
                 Metric('pages from the host', ''),
                 Metric('OOM kills', '', worst=True))


# A full balloon

# Seconds between two looks, each of which takes a little of the guest's CPU
SELDOM = 1


def measure_full(arm, mem, target, need, smp=1):
    """A program writes NEED MiB in a guest ballooned to TARGET MiB.

    The host has not backed that memory yet in any case: what that costs is
    no matter of the balloon.
    """
    with experiment.boot(arm, mem, smp=smp, deflate_on_oom=True,
                         append=experiment.plain(),
                         allow_oom=True) as running:
        if arm.driver:
            running.balloon_to(target * MIB)
        job = running.spawn(f'hog {need}')
        job.wait(200, SELDOM)
        took = re.search(r'ready ([\d.]+)', job.output())
        kills = running.vmstat()['oom_kill']
    return {'OOM kills': kills, **({'writing': float(took[1]) / 1e3}
                                   if took else {})}


def full_cases(mem, target, need):
    """One and two CPUs."""
    return tuple(Case(f'{need} MiB in {mem[:-1]} GiB, {smp} CPU'
                      + 's' * (smp > 1),
                      {'mem': mem, 'target': target, 'need': need,
                       'smp': smp}) for smp in (1, 2))


FULL_METRICS = (Metric('writing', 's', goals=(('stock', 1),
                                              ('none', 1 / 1.05))),
                Metric('OOM kills', '', worst=True))


def measure_again(arm, mem, target, need, seconds):
    """A program takes NEED MiB and frees them, over and over."""
    with experiment.boot(arm, mem, deflate_on_oom=True,
                         append=experiment.plain(),
                         allow_oom=True) as running:
        if arm.driver:
            running.balloon_to(target * MIB)
        before = running.vmstat()
        job = running.spawn(f'probe loop {need} {seconds}')
        time.sleep(seconds)
        failed = job.wait(100, SELDOM)
        after = running.vmstat()
        turns = [value for _, value in samples(job.output())]
    moved = sum(after[name] - before[name] for name in
                ('balloon_inflate', 'balloon_deflate'))
    return {'turns': len(turns) / seconds, 'pages moved': moved,
            'OOM kills': after['oom_kill'], 'failed': int(bool(failed))}


AGAIN_METRICS = (Metric('turns', 'per s', MORE),
                 Metric('pages moved', ''),
                 Metric('OOM kills', '', worst=True),
                 Metric('failed', '', worst=True))


# Livelock

def busy(running, seconds):
    """Busy part of the guest's CPUs, in per cent."""
    running.guest_cpu()
    running.sh(f'sleep {seconds}', timeout=10 * seconds)
    return running.guest_cpu() * 100


def until_ready(running, mib, limit, keeps):
    """Seconds until a program has MIB MiB; the limit if it does not get it.

    It keeps them for KEEPS seconds.
    """
    start = time.monotonic()
    job = running.spawn(f'hog -r {mib} {keeps}')
    try:
        job.wait_output('ready', timeout=limit)
    except GuestTimeout:
        return limit
    except GuestError:
        if job.poll() is None:
            raise
        return limit        # it was killed
    return time.monotonic() - start


def measure_livelock(arm, mem, need, settle, watch, limit):
    """The host asks for all but 32 MiB, and gives back what is needed.

    A guest that is dead or hangs is a figure, too.
    """
    figures = {'lives': 0}
    try:
        with experiment.boot(arm, mem, deflate_on_oom=True,
                             append=experiment.plain(),
                             allow_oom=True) as running:
            figures |= under_siege(running, need, settle, watch, limit)
    except GuestLog:
        raise
    except GuestError as error:
        if 'reached' not in figures:
            raise
        figures['why'] = str(error)[:200]
    return figures


def under_siege(running, need, settle, watch, limit):
    """Figures of a guest of which too much is asked."""
    figures = {}
    running.balloon(32 * MIB)
    time.sleep(settle)
    figures['reached'] = (running.size - running.actual()) / MIB
    try:
        figures['busy'] = busy(running, watch)
        took = until_ready(running, need, limit, 10 * watch)
        figures |= {'program has its memory': took,
                    'program got it': int(took < limit),
                    'busy, with the program': busy(running, watch),
                    'OOM kills': running.vmstat()['oom_kill'], 'lives': 1}
    except GuestError as error:
        figures |= {'why': str(error)[:200], 'lives': 0}
    return figures


LIVELOCK_METRICS = (Metric('reached', 'MiB', NEITHER),
                    Metric('busy', '% of the CPU'),
                    Metric('busy, with the program', '% of the CPU'),
                    Metric('program has its memory', 's'),
                    Metric('program got it', '', MORE, worst=True),
                    Metric('OOM kills', '', worst=True),
                    Metric('lives', '', MORE, worst=True))


# Storms

# All at once, whatever the guest is busy with
STORM = '''read begin _ </proc/uptime; all=; failed=0
for _ in $(seq {programs}); do hog -r {each} 1 & all="$all $!"; done
for one in $all; do wait $one || failed=$((failed + 1)); done
read end _ </proc/uptime
echo "from $begin to $end, failed: $failed"'''


def measure_storm(arm, mem, target, programs, each, smp):
    """Several programs want, together, nearly all of RAM at once."""
    with experiment.boot(arm, mem, smp=smp, deflate_on_oom=True,
                         append=experiment.plain(),
                         allow_oom=True) as running:
        if arm.driver:
            running.balloon_to(target * MIB)
        job = running.spawn(STORM.format(programs=programs, each=each))
        job.wait(250, SELDOM)
        begin, end, failed = re.search(
            r'^from (\S+) to (\S+), failed: (\d+)', job.output(),
            re.M).groups()
        kills = running.vmstat()['oom_kill']
    return {'all have ended': float(end) - float(begin), 'OOM kills': kills,
            'programs that failed': int(failed)}


STORM_CASES = tuple(
    Case(f'1 GiB, 4 programs, {smp} CPU' + 's' * (smp > 1),
         {'mem': '1G', 'target': 256, 'programs': 4, 'each': 190,
          'smp': smp}) for smp in (1, 2))

EXPERIMENTS = (
    Experiment(
        'cache', 'inflating a guest that reads a file larger than its memory '
        'all the time',
        measure_cache, CACHE_METRICS,
        (Case('2 GiB to 512 MiB, 2 CPUs', {
            'mem': '2G', 'cache': 3072, 'target': 512, 'limit': 120}),),
        (Case('1 GiB to 512 MiB, 2 CPUs', {
            'mem': '1G', 'cache': 1536, 'target': 512, 'limit': 20}),),
        arms=(STOCK, OURS, SHRINKER),
        shown=('time to the target', 'longest standstill',
               'pages to the host'),
        notes='Scaled from the experiment because of which the kernel gave '
        'up its shrinker: 542 s with it, 63 s with the OOM notifier. Time is '
        'limited; `reached` is how far it came. Pages come from the host '
        'where mm moves some of the balloon to make larger blocks, and as '
        'many go there. What is read of the file meanwhile is in the time to '
        'the target only, which is not the same for all.'),
    Experiment(
        'full', 'a program that needs more memory than the balloon has left',
        measure_full, FULL_METRICS, full_cases('2G', 512, 900),
        full_cases('1G', 256, 500)[:1], arms=(NONE, STOCK, OURS, SHRINKER),
        shown=('writing',)),
    Experiment(
        'again', 'a program that takes more memory than the balloon has left, '
        'and frees it, over and over',
        measure_again, AGAIN_METRICS,
        (Case('900 MiB in 2 GiB, 40 s', {'mem': '2G', 'target': 512,
                                         'need': 900, 'seconds': 40}),),
        (Case('500 MiB in 1 GiB, 10 s', {'mem': '1G', 'target': 256,
                                         'need': 500, 'seconds': 10}),),
        arms=(NONE, STOCK, OURS, SHRINKER), shown=('turns', 'pages moved'),
        notes='With `deflate-on-oom`. Whoever takes the memory back as soon '
        'as it is free moves pages all the time.'),
    Experiment(
        'livelock', 'the host asks for all but 32 MiB, with deflate-on-oom',
        measure_livelock, LIVELOCK_METRICS,
        (Case('1 GiB', {'mem': '1G', 'need': 300, 'settle': 15, 'watch': 40,
                        'limit': 120}),),
        (Case('1 GiB', {'mem': '1G', 'need': 300, 'settle': 8, 'watch': 3,
                        'limit': 30}),),
        arms=(STOCK, OURS, SHRINKER),
        shown=('busy, with the program', 'program has its memory'),
        notes='`reached` is how far the balloon came. This driver stops at '
        'its floor, which is the point. Then a program takes 300 MiB out of '
        'the balloon and keeps them, and the host still asks for them: users '
        'of Firecracker saw the driver of older kernels take all of a CPU for '
        'that; that of 6.1 does not.'),
    Experiment(
        'storm', 'four programs at once want what the balloon has',
        measure_storm,
        (Metric('all have ended', 's'),
         Metric('OOM kills', '', worst=True),
         Metric('programs that failed', '', worst=True)),
        STORM_CASES, STORM_CASES[:1], arms=(NONE, STOCK, OURS, SHRINKER),
        shown=('all have ended',)),
)
