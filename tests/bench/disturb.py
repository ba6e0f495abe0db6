# SPDX-License-Identifier: GPL-2.0-only
"""What a program in the guest loses while the balloon moves."""

import statistics
import time

import experiment
from experiment import (MORE, NONE, OURS, STOCK, Case, Experiment, Metric)
from sizing import touch

# Of the program: 48 MiB are no cache's
STREAM_MIB = 48


def samples(output):
    """(milliseconds, value) of what the probe printed."""
    return [tuple(map(float, line.split()))
            for line in output.splitlines() if line[:1].isdigit()]


def percentile(values, percent):
    """The value that PERCENT of VALUES are below."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def shuttle(running, small, period, moves):
    """Move the balloon every PERIOD seconds, whoever is how fast."""
    start = time.monotonic()
    for number in range(moves):
        running.balloon(running.size if number % 2 else small)
        time.sleep(max(start + (number + 1) * period - time.monotonic(), 0))


def watched(running, command, schedule):
    """What the probe saw of a schedule: (small, period, moves)."""
    _, period, moves = schedule
    job = running.spawn(f'probe {command} {period * moves + 0.5}')
    job.wait_output('start')
    shuttle(running, *schedule)
    job.wait(period * moves + 60)
    return samples(job.output())


def measure(arm, mem, period, moves, smp=1, qemu=None):
    """A loop over memory, then a timer, each while the balloon moves."""
    with experiment.boot(arm, mem, smp=smp, qemu=qemu,
                         append=experiment.plain()) as running:
        touch(running)
        schedule = running.size // 4, period, moves
        stream = watched(running, f'stream {STREAM_MIB}', schedule)
        timer = [late for _, late in watched(running, 'timer', schedule)]
        if arm.driver:
            running.wait_actual(running.size)
    speeds = [speed for _, speed in stream]
    seconds = (stream[-1][0] - stream[0][0]) / 1e3
    return {'speed, whole': len(stream) * 3.145728 / seconds,
            'speed, median': statistics.median(speeds),
            'speed, 1st percentile': percentile(speeds, 1),
            'timer late, median': statistics.median(timer),
            'timer late, 99th percentile': percentile(timer, 99),
            'timer late, 99.9th percentile': percentile(timer, 99.9),
            'timer late, most': max(timer)}


METRICS = (Metric('speed, whole', 'MB/s', MORE),
           Metric('speed, median', 'MB/s', MORE),
           Metric('speed, 1st percentile', 'MB/s', MORE),
           Metric('timer late, median', 'us'),
           Metric('timer late, 99th percentile', 'us'),
           Metric('timer late, 99.9th percentile', 'us'),
           Metric('timer late, most', 'us'))

CASES = tuple(
    Case(f'{smp} CPU{"s" * (smp > 1)}, '
         + ('newer QEMU' if qemu else "Debian's QEMU"),
         {'mem': '4G', 'period': 4, 'moves': 6, 'smp': smp, 'qemu': qemu})
    for qemu in (None, 'new') for smp in (1, 2))
QUICK = (Case("1 CPU, Debian's QEMU", {'mem': '1G', 'period': 2, 'moves': 2}),)

EXPERIMENTS = (
    Experiment(
        'disturb', 'a program that streams through memory, and one that '
        'sleeps a millisecond at a time, while the balloon moves',
        measure, METRICS, CASES, QUICK, arms=(NONE, STOCK, OURS),
        shown=('speed, whole', 'speed, 1st percentile',
               'timer late, 99th percentile', 'timer late, most'),
        notes='The host asks for three quarters of 4 GiB, or gives them '
        'back, every four seconds, whichever driver is how fast. Without a '
        'balloon nothing moves.'),
)
