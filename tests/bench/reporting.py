# SPDX-License-Identifier: GPL-2.0-only
"""What free page reporting gives the host, and costs the guest."""

import statistics
import time

import experiment
from disturb import samples
from experiment import (MORE, NEITHER, OFF, OURS, STOCK, Case, Experiment,
                        Metric)
from guest import MIB, wait_for
from test_reporting import reported_back, use


def seconds_until(running, rss, limit=60):
    """How long RSS takes to fall to RSS bytes."""
    start = time.monotonic()
    wait_for(running.rss, lambda now: now <= rss, limit,
             f'an RSS of {rss // MIB} MiB', 0.05)
    return time.monotonic() - start


def measure_back(arm, mem, mib, times):
    """A program ends, and the host gets nine tenths of its memory back."""
    with experiment.boot(arm, mem, append=experiment.plain(),
                         free_page_reporting=True) as running:
        reported_back(running)
        seconds, costs = [], []
        for _ in range(times):
            used, cpu = use(running, mib), running.cpu()
            seconds.append(seconds_until(running, used - mib * MIB * 9 // 10))
            reported_back(running)
            costs.append([new - old for new, old in zip(running.cpu(), cpu)])
    return {'until RSS is back': statistics.median(seconds),
            'guest CPU': statistics.median(cost[0] for cost in costs),
            'host CPU': statistics.median(sum(cost[1:]) for cost in costs)}


def measure_loop(arm, mem, mib, seconds):
    """A program that takes memory and frees it, over and over."""
    with experiment.boot(arm, mem, append=experiment.plain(),
                         free_page_reporting=arm is not OFF) as running:
        running.touch(mib * MIB)
        cpu = running.cpu()
        job = running.spawn(f'probe loop {mib} {seconds}')
        time.sleep(seconds)
        job.wait(60)
        used = [new - old for new, old in zip(running.cpu(), cpu)]
        turns = [value for _, value in samples(job.output())]
        rss = running.rss()
    return {'turns': len(turns) / seconds,
            'a turn, median': statistics.median(turns),
            'a turn, most': max(turns),
            'CPU a turn': sum(used) / len(turns) * 1e3,
            'RSS at the end': rss / MIB}


EXPERIMENTS = (
    Experiment(
        'back', 'free page reporting: until the host has the memory of a '
        'program that has ended',
        measure_back, (Metric('until RSS is back', 's'),
                       Metric('guest CPU', 's'), Metric('host CPU', 's')),
        (Case('1 of 2 GiB, 5 times', {'mem': '2G', 'mib': 1024,
                                      'times': 5}),),
        (Case('512 MiB of 1 GiB', {'mem': '1G', 'mib': 512, 'times': 1}),),
        shown=('until RSS is back', 'guest CPU'),
        notes='Nine tenths of it. mm waits two seconds before it reports. '
        'CPU is counted in steps of 10 ms.'),
    Experiment(
        'loop', 'free page reporting: a program that takes memory and frees '
        'it in a loop',
        measure_loop, (Metric('turns', 'per s', MORE),
                       Metric('a turn, median', 'ms'),
                       Metric('a turn, most', 'ms'),
                       Metric('CPU a turn', 'ms'),
                       Metric('RSS at the end', 'MiB', NEITHER)),
        (Case('256 MiB of 2 GiB, 30 s', {'mem': '2G', 'mib': 256,
                                         'seconds': 30}),
         Case('1 of 2 GiB, 30 s', {'mem': '2G', 'mib': 1024,
                                   'seconds': 30})),
        (Case('256 MiB of 1 GiB, 6 s', {'mem': '1G', 'mib': 256,
                                        'seconds': 6}),),
        arms=(OFF, STOCK, OURS),
        shown=('turns', 'a turn, median', 'a turn, most')),
)
