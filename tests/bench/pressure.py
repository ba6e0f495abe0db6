# SPDX-License-Identifier: GPL-2.0-only
"""Guests that need the memory which the host wants."""

import contextlib
import pathlib
import re
import tempfile
import time

import experiment
from experiment import (MORE, NONE, OURS, SHRINKER, STOCK, Case, Experiment,
                        Metric)
from guest import MIB, CommandFailed, GuestError, GuestTimeout
from moves import REST, follow


# Page cache

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


def inflate(running, size, limit):
    """Figures of an attempt that may fail."""
    before = running.vmstat()
    start, old = time.monotonic(), running.actual()
    running.balloon(size)
    points, _ = follow(running, size, start, limit)
    seconds = time.monotonic() - start
    time.sleep(REST)
    after = running.vmstat()
    return {'time to the target': seconds,
            'longest standstill': standstill(points, seconds),
            'reached': (old - points[-1][1]) / MIB,
            **{f'pages {name}': after['balloon_' + word]
               - before['balloon_' + word]
               for name, word in (('to the host', 'inflate'),
                                  ('from the host', 'deflate'))}}


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
        figures = inflate(running, target * MIB, limit)
        figures['OOM kills'] = running.vmstat()['oom_kill']
        job.kill()
    return figures


CACHE_METRICS = (Metric('time to the target', 's'),
                 Metric('longest standstill', 's'),
                 Metric('reached', 'MiB', MORE),
                 Metric('pages to the host', ''),
                 Metric('pages from the host', ''),
                 Metric('OOM kills', ''))


# A full balloon

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
        job.wait(200)
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
                Metric('OOM kills', ''))


# Livelock

def busy(running, seconds):
    """Busy part of the guest's CPUs, in per cent."""
    running.guest_cpu()
    running.sh(f'sleep {seconds}', timeout=10 * seconds)
    return running.guest_cpu() * 100


def until_ready(running, mib, limit):
    """Seconds until a program has MIB MiB; the limit if it does not."""
    start = time.monotonic()
    job = running.spawn(f'hog -r {mib} 1')
    with contextlib.suppress(GuestTimeout):
        job.wait_output('ready', timeout=limit)
        return time.monotonic() - start
    return limit


def measure_livelock(arm, mem, need, settle, watch, limit):
    """The host asks for all but 32 MiB, and gives back what is needed."""
    figures = {'lives': 0}
    with contextlib.suppress(GuestError), experiment.boot(
            arm, mem, deflate_on_oom=True, append=experiment.plain(),
            allow_oom=True) as running:
        try:
            running.balloon(32 * MIB)
            time.sleep(settle)
            figures['busy'] = busy(running, watch)
            figures['program has its memory'] = until_ready(running, need,
                                                            limit)
            figures['OOM kills'] = running.vmstat()['oom_kill']
            figures['lives'] = 1
        except (CommandFailed, GuestTimeout) as error:
            figures['why'] = str(error)[:200]
    return figures


LIVELOCK_METRICS = (Metric('busy', '% of the CPU'),
                    Metric('program has its memory', 's'),
                    Metric('OOM kills', ''), Metric('lives', '', MORE))


# Storms

def measure_storm(arm, mem, target, programs, each, smp):
    """Several programs want, together, nearly all of RAM at once."""
    with experiment.boot(arm, mem, smp=smp, deflate_on_oom=True,
                         append=experiment.plain(),
                         allow_oom=True) as running:
        if arm.driver:
            running.balloon_to(target * MIB)
        start = time.monotonic()
        jobs = [running.spawn(f'hog -r {each} 1') for _ in range(programs)]
        statuses = [job.wait(timeout=250) for job in jobs]
        seconds = time.monotonic() - start
        kills = running.vmstat()['oom_kill']
    return {'all have ended': seconds, 'OOM kills': kills,
            'programs that failed': sum(map(bool, statuses))}


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
        'limited; `reached` is how far it came.'),
    Experiment(
        'full', 'a program that needs more memory than the balloon has left',
        measure_full, FULL_METRICS, full_cases('2G', 512, 900),
        full_cases('1G', 256, 500)[:1], arms=(NONE, STOCK, OURS, SHRINKER),
        shown=('writing',)),
    Experiment(
        'livelock', 'the host asks for all but 32 MiB, with deflate-on-oom',
        measure_livelock, LIVELOCK_METRICS,
        (Case('1 GiB', {'mem': '1G', 'need': 300, 'settle': 15, 'watch': 10,
                        'limit': 120}),),
        (Case('1 GiB', {'mem': '1G', 'need': 300, 'settle': 8, 'watch': 3,
                        'limit': 30}),),
        shown=('busy', 'program has its memory')),
    Experiment(
        'storm', 'four programs at once want what the balloon has',
        measure_storm,
        (Metric('all have ended', 's'), Metric('OOM kills', ''),
         Metric('programs that failed', '')),
        STORM_CASES, STORM_CASES[:1], arms=(NONE, STOCK, OURS),
        shown=('all have ended',)),
)
