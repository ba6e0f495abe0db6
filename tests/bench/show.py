# SPDX-License-Identifier: GPL-2.0-only
"""The one picture: a balloon moves, and a program tries to go on."""

import experiment
from disturb import STREAM_MIB, stream_figures, usual_speed, watch
from experiment import MORE, OURS, STOCK, Case, Experiment, Metric
from guest import GIB, new_qemu
from plots import COLOURS

BIN = 0.2                  # seconds, of what is drawn of the program


def binned(stream):
    """Means, over BIN each: (seconds, speed)."""
    bins = {}
    for when, speed in stream:
        bins.setdefault(when // BIN, []).append(speed)
    return [(number * BIN, len(speeds) / sum(1 / speed for speed in speeds))
            for number, speeds in sorted(bins.items())]


def thinned(points):
    """No more of them than can be seen: (seconds, bytes), in GiB."""
    last = {when // (BIN / 2): (when, held) for when, held in points}
    return [[round(when, 3), held / GIB] for when, held in last.values()]


def measure(arm, mem, smp):
    """Three quarters go, and come back."""
    with experiment.boot(arm, mem, smp=smp, append=experiment.plain(),
                         qemu=new_qemu() and 'new') as running:
        seen = watch(running, f'stream {STREAM_MIB}',
                     (running.size // 4, running.size))
    usual = usual_speed(seen)
    there, back = ((end - begin) / (seen.gib / 2)
                   for begin, end, _ in seen.spans)
    return stream_figures(seen) | {
        'inflating': there, 'deflating': back,
        'held': thinned(seen.points),
        'stream': [[round(when, 3), speed / usual * 100]
                   for when, speed in binned(seen.samples)
                   if when < seen.spans[-1][2] + 1]}


def steps(axes, series, arm):
    """What is held, as it changes."""
    axes.step(*zip((-1, 0), *series, (series[-1][0] + 1, series[-1][1])),
              where='post', color=COLOURS[arm.name], label=arm.label, lw=1.8)


def plot(result):
    """Both drivers in one picture."""
    import matplotlib.pyplot as pyplot    # after plots has chosen how
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(7.5, 5),
                                            sharex=True)
    case = result.cases[0]
    for arm in result.arms():
        values = case['figures'][arm.name]
        middle = sorted(range(len(values['moving'])),
                        key=values['moving'].__getitem__)[
                            len(values['moving']) // 2]
        steps(top, values['held'][middle], arm)
        bottom.plot(*zip(*values['stream'][middle]), lw=1.2,
                    color=COLOURS[arm.name], label=arm.label)
    top.set_ylabel('GiB in the balloon')
    top.set_title(case['label'], fontsize=9)
    top.legend(loc='upper right')
    bottom.set_ylabel('speed of a program\nin the guest, %')
    bottom.axhline(100, color='#999999', lw=0.8, ls=':')
    bottom.set_ylim(0)
    bottom.set_xlim(left=-1)
    bottom.set_xlabel('seconds since the host asked for it')
    figure.tight_layout()
    return figure


EXPERIMENTS = (
    Experiment(
        'show', 'the host takes three quarters of a guest, and gives them '
        'back, while a program streams through memory',
        measure, (Metric('inflating', 's/GiB'), Metric('deflating', 's/GiB'),
                  Metric('work lost', 's/GiB'),
                  Metric('speed, median', '% of undisturbed', MORE),
                  Metric('speed, 1st percentile', '% of undisturbed', MORE)),
        (Case('4 GiB, 2 CPUs: 3 GiB go, and come back',
              {'mem': '4G', 'smp': 2}),),
        (Case('2 GiB, 1 CPU: 1.5 GiB go, and come back',
              {'mem': '2G', 'smp': 1}),),
        arms=(STOCK, OURS), plot=plot,
        notes='With the newer QEMU, if there is one. The plot is of the '
        'median round; 100 % is the median speed while nothing moves. Work '
        'lost and percentiles are as in `disturb`. QEMU discards memory 4 KiB '
        'at a time, and for each piece its kernel interrupts every CPU that '
        'runs a part of the guest just then: traced once, a piece took 16 us '
        'here while the program ran, and 2 us while it did not.'),
)
