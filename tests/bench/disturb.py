# SPDX-License-Identifier: GPL-2.0-only
"""What a program in the guest loses while the balloon moves."""

import dataclasses
import time

import experiment
from experiment import MORE, NONE, OURS, STOCK, Case, Experiment, Metric
from guest import GIB, GuestTimeout
from moves import follow, rest
from sizing import touch

# Of the program: 48 MiB are no cache's
STREAM_MIB = 48
# What each of its figures is of
BLOCK_MB = 3.145728
# Seconds before the balloon moves, and after each time it did
PEACE = 3
# How long a move may take
LIMIT = 120


@dataclasses.dataclass
class Watched:
    """What a program in the guest saw of moves of the balloon.

    .samples  (when it ended, value)
    .points   (when, bytes held), whenever that was seen to change
    .spans    of each move: (begin, end, end of what the driver put off)
    .gib      that were moved in all spans together

    All times are seconds from the begin of the first move.
    """

    samples: list
    points: list
    spans: list
    gib: float

    def moving(self, when):
        """Whether the balloon moved then."""
        return any(begin < when <= end for begin, end, _ in self.spans)

    def at_peace(self, when):
        """Whether nothing was done for the balloon then."""
        return not any(begin < when <= rested
                       for begin, _, rested in self.spans)

    def seconds(self):
        """How long it moved."""
        return sum(end - begin for begin, end, _ in self.spans)

    def busy(self):
        """The same with what the driver put off."""
        return sum(rested - begin for begin, _, rested in self.spans)

    def values(self, wanted):
        """What was seen at times that are WANTED, a method of this class."""
        return [value for when, value in self.samples if wanted(when)]


def samples(output):
    """(milliseconds, value) of what the probe printed."""
    return [tuple(map(float, line.split()))
            for line in output.splitlines() if line[:1].isdigit()]


def percentile(values, percent, weights=None):
    """The value that PERCENT of VALUES are below, by their weights."""
    weights = weights or [1] * len(values)
    left = sum(weights) * percent / 100
    for value, weight in sorted(zip(values, weights)):
        left -= weight
        if left < 0:
            break
    return value


def clock(running):
    """What to add to the guest's seconds for our own."""
    before = time.monotonic()
    uptime = float(running.sh('cat /proc/uptime').split()[0])
    return (before + time.monotonic()) / 2 - uptime


def go(running, size, watched, origin):
    """Move the balloon; nothing moves if there is none."""
    begin = time.monotonic()
    old = running.actual()
    running.balloon(size)
    points, _ = follow(running, size, begin, LIMIT)
    if points[-1][1] != size:
        raise GuestTimeout(f'{points[-1][1]} bytes after {LIMIT} s, not '
                           f'{size}')
    watched.points += [(begin - origin + when, running.size - actual)
                       for when, actual in points]
    rest(abs(size - old))
    watched.spans.append((begin - origin, begin - origin + points[-1][0],
                          time.monotonic() - origin))
    watched.gib += abs(size - old) / GIB


def watch(running, command, sizes):
    """Have the probe run while the balloon goes to SIZES.

    Without a balloon it is watched as long as without a move.
    """
    touch(running)
    watched, offset = Watched([], [], [], 0), clock(running)
    job = running.spawn(f'probe {command}')
    job.wait_output('start')
    time.sleep(PEACE)
    origin = time.monotonic()
    for size in sizes:
        go(running, size, watched, origin)
        time.sleep(PEACE)
    if not sizes:
        watched.spans.append((0, PEACE, PEACE))
        time.sleep(2 * PEACE)
    job.kill()
    job.wait()
    watched.samples = [(ms / 1e3 + offset - origin, value)
                       for ms, value in samples(job.output())]
    return watched


def usual_speed(watched):
    """Of a program that adds arrays, when nothing disturbs it."""
    calm = watched.values(watched.at_peace)
    return percentile(calm, 50, [1 / speed for speed in calm])


def stream_figures(watched):
    """Of a program that adds arrays; speeds by the time that they lasted."""
    usual = usual_speed(watched)
    moving = watched.values(watched.moving)
    lasted = [1 / speed for speed in moving]
    figures = {f'speed, {name}':
               percentile(moving, percent, lasted) / usual * 100
               for name, percent in (('median', 50), ('1st percentile', 1))}
    if watched.gib:
        done = sum(not watched.at_peace(when) for when, _ in watched.samples)
        lost = watched.busy() - done * BLOCK_MB / usual
        figures |= {'work lost': lost / watched.gib,
                    'moving': watched.seconds() / watched.gib}
    return figures


def every_turn(late):
    """Microseconds of each millisecond that was waited for.

    A sleeper that wakes up three milliseconds late has missed three turns.
    """
    return [one - missed for one in late
            for missed in range(0, int(one) + 1, 1000)]


def timer_figures(watched):
    """Of a program that sleeps."""
    late = every_turn(watched.values(watched.moving))
    return {'timer late, median': percentile(late, 50),
            'timer late, 99th percentile': percentile(late, 99),
            'timer late, 99.9th percentile': percentile(late, 99.9),
            'timer late, most': max(late)}


def measure(arm, mem, smp=1, qemu=None):
    """A loop over memory, then a timer, each while the balloon moves."""
    with experiment.boot(arm, mem, smp=smp, qemu=qemu,
                         append=experiment.plain()) as running:
        sizes = (running.size // 4, running.size) if arm.driver else ()
        stream = watch(running, f'stream {STREAM_MIB}', sizes)
        timer = watch(running, 'timer', sizes)
    return stream_figures(stream) | timer_figures(timer)


METRICS = (Metric('moving', 's/GiB'),
           Metric('work lost', 's/GiB'),
           Metric('speed, median', '% of undisturbed', MORE),
           Metric('speed, 1st percentile', '% of undisturbed', MORE),
           Metric('timer late, median', 'us'),
           Metric('timer late, 99th percentile', 'us'),
           Metric('timer late, 99.9th percentile', 'us'),
           Metric('timer late, most', 'us'))

CASES = tuple(
    Case(f'{smp} CPU{"s" * (smp > 1)}, '
         + ('newer QEMU' if qemu else "Debian's QEMU"),
         {'mem': '2G', 'smp': smp, 'qemu': qemu})
    for qemu in (None, 'new') for smp in (1, 2))
QUICK = (Case("1 CPU, Debian's QEMU", {'mem': '2G'}),)

EXPERIMENTS = (
    Experiment(
        'disturb', 'a program that streams through memory, and one that '
        'sleeps a millisecond at a time, while the balloon moves',
        measure, METRICS, CASES, QUICK, arms=(NONE, STOCK, OURS),
        shown=('moving', 'work lost', 'speed, 1st percentile',
               'timer late, 99th percentile'),
        notes='The host asks for three quarters of 2 GiB, and gives them '
        'back; what is told is of that time only. Work lost is what the '
        'program did not do of what it could have done undisturbed, for each '
        'GiB that was moved, and with what the driver puts off until later. '
        'Percentiles are of the time, so they say how '
        'bad the worst moments are, not how many: a device that always has '
        'work leaves a program less of each second than one that waits for '
        'its driver most of the time, for fewer seconds. A timer of the guest '
        'waits while QEMU works on a group of 8 MiB; why groups are no '
        'smaller is in `design.md`, "The queue runs empty".'),
)
