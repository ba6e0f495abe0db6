# SPDX-License-Identifier: GPL-2.0-only
"""What an experiment is: arms that take turns, cases, figures."""

import collections
import dataclasses
import pathlib

import guest

PROBE = pathlib.Path(__file__).resolve().parent / 'probe.c'

# Who is measured: .driver and .params are boot()'s.
Arm = collections.namedtuple('Arm', 'name driver params label')
STOCK = Arm('stock', 'stock', '', "the kernel's own")
OURS = Arm('ours', 'ours', '', 'this driver')
NONE = Arm('none', None, '', 'no balloon')
OFF = Arm('off', 'ours', '', 'without the feature')
SHRINKER = Arm('shrinker', 'ours', 'deflate_mode=shrinker',
               'this driver, deflate_mode=shrinker')
PAIR = (STOCK, OURS)

# What is measured in: .options are arguments of the experiment's measure(),
# .size is where it is on the x axis of a plot, if that has one.
Case = collections.namedtuple('Case', 'label options size', defaults=[None])

LESS, MORE, NEITHER = 'less', 'more', ''


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure: its name in what measure() returns, and what is better.

    GOALS: 'ours' has to be so many times better than the arm of that name.
    MOST: more than that is too much. WORST: the worst round counts, not the
    median; of what should never happen.
    """

    name: str
    unit: str
    better: str = LESS
    goals: tuple = (('stock', 1.0),)
    most: float = None
    worst: bool = False


@dataclasses.dataclass(frozen=True)
class Experiment:
    """measure(arm, **options of a case) returns figures by their names.

    What it returns beyond METRICS is kept, but is in no table. QUICK are the
    cases of --quick. NEEDS() says what is missing here, if anything is. PLOT
    is 'bars' or 'lines' of the metrics named in SHOWN, or draws by itself.
    """

    name: str
    about: str
    measure: collections.abc.Callable
    metrics: tuple
    cases: tuple
    quick: tuple
    arms: tuple = PAIR
    plot: object = 'bars'
    shown: tuple = ()
    needs: collections.abc.Callable = str
    notes: str = ''


def boot(arm, mem, **options):
    """Boot a guest for ARM, with the probe in it."""
    return guest.boot(mem, driver=arm.driver, params=arm.params,
                      programs=(PROBE,), **options)


def plain(init_on_alloc=0):
    """The kernel's command line. Debian's default is 1."""
    return f'init_on_alloc={init_on_alloc}'
