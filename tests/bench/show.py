# SPDX-License-Identifier: GPL-2.0-only
"""The one picture: a balloon moves, and a program tries to go on."""

import statistics
import time

import experiment
from disturb import STREAM_MIB, percentile, samples
from experiment import (LESS, MORE, OURS, STOCK, Case, Experiment, Metric)
from guest import GIB, new_qemu
from moves import POLL
from plots import COLOURS
from sizing import touch

BIN = 0.1                  # seconds, of what is drawn of the program


def clock(running):
    """What to add to the guest's seconds for our own."""
    before = time.monotonic()
    uptime = float(running.sh('cat /proc/uptime').split()[0])
    return (before + time.monotonic()) / 2 - uptime


def watch(running, end):
    """Until END: (our time, bytes held), whenever that has changed."""
    points = []
    while time.monotonic() < end:
        held = running.size - running.actual()
        if not points or held != points[-1][1]:
            points.append((time.monotonic(), held))
        time.sleep(POLL)
    return points


def binned(stream, start, end):
    """Means, over BIN each: (seconds from START, GB/s)."""
    bins = {}
    for when, speed in stream:
        if start <= when < end:
            bins.setdefault(int((when - start) / BIN), []).append(speed)
    return [(number * BIN, len(speeds) / sum(1 / speed for speed in speeds)
             / 1e3) for number, speeds in sorted(bins.items())]


def measure(arm, mem, smp, lead, period):
    """LEAD seconds of peace, then three quarters go, and come back.

    Each has PERIOD seconds.
    """
    seconds = lead + 2 * period
    with experiment.boot(arm, mem, smp=smp, append=experiment.plain(),
                         qemu=new_qemu() and 'new') as running:
        touch(running)
        offset = clock(running)
        job = running.spawn(f'probe stream {STREAM_MIB} {seconds + 1}')
        job.wait_output('start')
        start = time.monotonic()
        points = watch(running, start + lead)
        running.balloon(running.size // 4)
        points += watch(running, start + lead + period)
        running.balloon(running.size)
        points += watch(running, start + seconds)
        job.wait(60)
        stream = [(ms / 1e3 + offset, speed)
                  for ms, speed in samples(job.output())]
    return figures(points, stream, start, lead, period)


def took(points, start, good):
    """Seconds from START until what is held is good, or no more is known."""
    return next((when - start for when, held in points
                 if when >= start and good(held)), points[-1][0] - start)


def figures(points, stream, start, lead, period):
    """What is drawn, and what can be said of it in numbers."""
    top = max(held for _, held in points)
    there, back = start + lead, start + lead + period
    calm = statistics.median(speed for when, speed in stream
                             if start <= when < there)
    moving = [speed for when, speed in stream
              if there <= when < back + period]
    return {'inflating': took(points, there, lambda held: held == top),
            'deflating': took(points, back, lambda held: not held),
            'speed, 1st percentile': percentile(moving, 1) / calm * 100,
            'held': [[round(when - there, 3), held / GIB]
                     for when, held in points],
            'speed': [[round(when - lead, 3), speed / calm * 1e5]
                      for when, speed in binned(stream, start,
                                                back + period)]}


def steps(axes, series, arm):
    """What is held, as it changes."""
    axes.step(*zip(*series, (series[-1][0] + 1, series[-1][1])),
              where='post', color=COLOURS[arm.name], label=arm.label, lw=1.8)


def plot(result):
    """Both drivers in one picture."""
    import matplotlib.pyplot as pyplot    # after plots has chosen how
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(7.5, 5),
                                            sharex=True)
    case = result.cases[0]
    for arm in result.arms():
        values = case['figures'][arm.name]
        middle = sorted(range(len(values['inflating'])),
                        key=values['inflating'].__getitem__)[
                            len(values['inflating']) // 2]
        steps(top, values['held'][middle], arm)
        bottom.plot(*zip(*values['speed'][middle]), lw=1.5,
                    color=COLOURS[arm.name], label=arm.label)
    top.set_ylabel('GiB in the balloon')
    top.set_title(case['label'], fontsize=9)
    top.legend(loc='upper right')
    bottom.set_ylabel('speed of a program\nin the guest, %')
    bottom.set_ylim(0, 120)
    bottom.set_xlabel('seconds since the host asked for it')
    figure.tight_layout()
    return figure


EXPERIMENTS = (
    Experiment(
        'show', 'the host takes three quarters of a guest, and gives them '
        'back, while a program streams through memory',
        measure, (Metric('inflating', 's', LESS), Metric('deflating', 's'),
                  Metric('speed, 1st percentile', '% of undisturbed', MORE)),
        (Case('4 GiB, 2 CPUs: 3 GiB go, and come back',
              {'mem': '4G', 'smp': 2, 'lead': 2, 'period': 6}),),
        (Case('1 GiB, 1 CPU: 768 MiB go, and come back',
              {'mem': '1G', 'smp': 1, 'lead': 1, 'period': 2}),),
        arms=(STOCK, OURS), plot=plot),
)
