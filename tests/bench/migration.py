# SPDX-License-Identifier: GPL-2.0-only
"""What hints of free pages save a migration, and cost the guest."""

import re
import time

import experiment
from experiment import (MORE, NEITHER, OFF, OURS, STOCK, Arm, Case,
                        Experiment, Metric)
from guest import KIB, MIB, GuestError
from hugepages import make_holes
from test_hinting import blocks_by_type, start, wait_migration
from test_sizing import free, free_blocks

OURS_64K = Arm('ours 64K', 'ours', 'hint_order=4',
               'this driver, hint_order=4')
# KiB: holes of blocks that hint_order=4 finds, as they are nowhere aligned
HOLE = 256
# Seconds in which a driver is to have its blocks back
SETTLED = 5
# Megabits a second, in bytes
MBIT = 10 ** 6 // 8


def prepare(running, use, holes):
    """Memory that was used and is free again, in one piece or in holes."""
    if holes:
        make_holes(running, holes, HOLE)
    else:
        running.sh(f'hog -r {use}', timeout=200)


def lowest(job):
    """What the probe saw, in MiB."""
    job.kill()
    job.wait()
    found = re.search(r'low (\d+)', job.output())
    if not found:
        raise GuestError('the program that looks for it was killed')
    return int(found[1]) / KIB


def measure(arm, mem, mbit, use=0, holes=0):
    """Migrate to nowhere, at the speed of a network, and go on."""
    with experiment.boot(arm, mem, append=experiment.plain(),
                         free_page_hint=arm is not OFF) as running:
        prepare(running, use, holes)
        before = {'movable blocks, before': blocks_by_type(running)['Movable'],
                  'free, before': free(running) / MIB}
        job = running.spawn('probe low')
        job.wait_output('start')
        start(running, speed=mbit * MBIT)
        end = wait_migration(running, 'completed', 300)
        running.cont()
        figures = {'lowest MemAvailable': lowest(job)}
        time.sleep(SETTLED)
        return before | figures | {
            'sent': end['ram']['transferred'] / MIB,
            'time': end['total-time'] / 1e3,
            'downtime': end['downtime'],
            'movable blocks, after': blocks_by_type(running)['Movable'],
            'free blocks of 2 MiB, after': free_blocks(running),
            'free, after': free(running) / MIB}


# Less, and not just about as much
LESS_THAN_STOCK = (('stock', 1.001),)
METRICS = (Metric('sent', 'MiB', goals=LESS_THAN_STOCK), Metric('time', 's'),
           Metric('downtime', 'ms'),
           Metric('lowest MemAvailable', 'MiB', MORE),
           Metric('movable blocks, before', '', NEITHER),
           Metric('movable blocks, after', '', MORE,
                  (('stock', 1.0), ('off', 1.0))),
           Metric('free blocks of 2 MiB, after', '', MORE),
           Metric('free, before', 'MiB', NEITHER),
           Metric('free, after', 'MiB', MORE))
SPEEDS = ((1000, '1 Gbit/s'), (10000, '10 Gbit/s'))
CASES = tuple(Case(f'{text}, {name}', {'mem': '2G', 'mbit': mbit, **options})
              for mbit, text in SPEEDS for name, options in (
                  ('1.5 GiB used once', {'use': 1500}),
                  ('700 MiB in holes of 256 KiB', {'holes': 700})))
QUICK = (Case('10 Gbit/s, 700 MiB used once',
              {'mem': '1G', 'mbit': 10000, 'use': 700}),
         Case('10 Gbit/s, 300 MiB in holes of 256 KiB',
              {'mem': '1G', 'mbit': 10000, 'holes': 300}))

EXPERIMENTS = (
    Experiment(
        'migration', 'live migration of 2 GiB with hints of free pages: '
        'memory that was used and is free again, in blocks or in holes',
        measure, METRICS, CASES, QUICK, arms=(OFF, STOCK, OURS, OURS_64K),
        shown=('sent', 'time', 'lowest MemAvailable',
               'movable blocks, after'),
        notes='`after` is five seconds after the migration, when the guest '
        'goes on here. With the kernel\'s own driver a guest with holes has '
        'more blocks then: it lends all of them, so mm compacts meanwhile, '
        'and what that moved is sent once more.'),
)
