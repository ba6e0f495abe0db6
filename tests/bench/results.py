# SPDX-License-Identifier: GPL-2.0-only
"""Figures of an experiment: taking them, keeping them, comparing them."""

import collections
import contextlib
import functools
import io
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

import experiment
from guest import (GIB, MIB, TOP, Config, can_use_kvm, environment,
                   parse_size)

# Figures that differ by less are the same.
LEVEL = 0.98
# The same of those whose rounds cannot be told from each other
NOISE = 0.9
# What QEMU needs beside the guest's RAM
BESIDE = 512 * MIB
# Where figures and plots are, beside performance.md
FOLDER = 'performance'
# What decides how the driver and its measurement behave
MEASURED = ('virtio_balloon.c', 'include', 'Kbuild', 'tests/bench',
            'tests/guest')


def output(*command):
    """What COMMAND prints, or '' if there is no such thing."""
    try:
        return subprocess.run(command, text=True, check=False, cwd=TOP,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.strip()
    except OSError:
        return ''


def version(qemu):
    """Of a QEMU, as it says it."""
    return output(qemu, '--version').partition('\n')[0].removeprefix(
        'QEMU emulator version ')


def commit():
    """What of the project was measured."""
    changed = output('git', 'status', '--porcelain', '--untracked-files=no',
                     '--', *MEASURED)
    return output('git', 'rev-parse', 'HEAD') + (' + changes' if changed
                                                 else '')


@functools.cache
def metadata():
    """Where figures are from; nothing of it changes from run to run."""
    cpuinfo = pathlib.Path('/proc/cpuinfo').read_text()
    model = re.search(r'^model name\s*: (.*)', cpuinfo, re.M)
    new = environment().get('QEMU_NEW')
    return {
        'commit': commit(),
        'guest kernel': environment()['KREL'],
        'QEMU': version(Config().qemu_path),
        'newer QEMU': version(new) if new else 'none',
        'acceleration': 'KVM' if can_use_kvm() else 'none (TCG)',
        'host kernel': os.uname().release.split('-')[0],
        'CPU': model[1] if model else os.uname().machine,
        'CPUs': os.cpu_count(),
        'memory, GiB': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf(
            'SC_PHYS_PAGES') / GIB, 1),
    }


def available():
    """Bytes that this machine has available."""
    text = pathlib.Path('/proc/meminfo').read_text()
    return int(re.search(r'MemAvailable: +(\d+)', text)[1]) << 10


def processor_time():
    """Of all CPUs, since this machine booted: (all, what its host took)."""
    with open('/proc/stat', encoding='ascii') as file:
        ticks = list(map(int, file.readline().split()[1:9]))
    return sum(ticks), ticks[7]


def missing(case):
    """Why a case cannot be run here; '' if it can."""
    if case.options.get('qemu') == 'new' and \
            not environment().get('QEMU_NEW'):
        return 'there is no newer QEMU: scripts/prepare --new-qemu'
    need = parse_size(case.options['mem']) + BESIDE
    if available() < need:
        return (f'it needs {need / GIB:.1f} GiB, and this machine has '
                f'{available() / GIB:.1f} GiB available')
    return ''


Missed = collections.namedtuple('Missed', 'case metric figure goal')


class Result:
    """All figures of one experiment; what is kept of it is .data."""

    def __init__(self, what, data=None):
        self.what = what
        self.data = {'experiment': what.name, 'about': what.about,
                     'rounds': 0, 'quick': False, 'seconds': 0, 'arms': [],
                     'meta': metadata(), 'cases': [], 'left out': [],
                     'errors': [], **(data or {})}

    # Taking figures

    def run(self, rounds, quick, say, save):
        """The arms take turns, ROUNDS times a case."""
        start, before = time.monotonic(), processor_time()
        self.data.update(rounds=rounds, quick=quick,
                         arms=[arm.name for arm in self.what.arms])
        for case in self.what.quick if quick else self.what.cases:
            reason = missing(case)
            if reason:
                self.data['left out'].append(f'{case.label}: {reason}')
                say(f'{self.what.name}: {case.label}: left out, as {reason}')
                continue
            self.data['cases'].append(
                {'label': case.label, 'size': case.size,
                 'figures': {arm.name: {} for arm in self.what.arms}})
            for number in range(rounds):
                self._round(case, number, say)
                self._took(start, before)
                save()
        self._took(start, before)
        save()

    def _took(self, start, before):
        total, stolen = (now - then
                         for now, then in zip(processor_time(), before))
        self.data.update(seconds=round(time.monotonic() - start),
                         stolen=rounded(stolen / max(total, 1)))

    def _round(self, case, number, say):
        for arm in self.what.arms:
            start, log = time.monotonic(), io.StringIO()
            try:
                # The guest's, which boot() prints when something is wrong
                with contextlib.redirect_stdout(log):
                    found = self.what.measure(arm, **case.options)
            except Exception as error:    # hours of others go on
                self._fail(f'{case.label}, {arm.name}: '
                           f'{type(error).__name__}: {error}', say)
                say(log.getvalue())
                continue
            figures = self.data['cases'][-1]['figures'][arm.name]
            for name, value in found.items():
                figures.setdefault(name, []).append(rounded(value))
            say(f'{self.what.name}: {case.label}, round {number + 1}, '
                f'{arm.name}: {time.monotonic() - start:.0f} s')

    def _fail(self, text, say):
        # What follows names files of this machine.
        self.data['errors'].append(text.partition('\n')[0][:300])
        say(f'{self.what.name}: {text}')

    # Comparing them

    @property
    def cases(self):
        """The cases that there are figures of."""
        return self.data['cases']

    def arms(self):
        """Those arms that there are figures of."""
        return [arm for arm in self.what.arms
                if any(case['figures'].get(arm.name) for case in self.cases)]

    def metrics(self):
        """Those metrics that there are figures of."""
        return [metric for metric in self.what.metrics
                if any(metric.name in figures for case in self.cases
                       for figures in case['figures'].values())]

    @staticmethod
    def values(case, arm, name):
        """Figures of all rounds; [] if there are none."""
        return case['figures'].get(arm, {}).get(name, [])

    @classmethod
    def median(cls, case, arm, name):
        """Of all rounds, or None."""
        values = cls.values(case, arm, name)
        return statistics.median(values) if values else None

    @classmethod
    def figure(cls, case, arm, metric):
        """What counts of all rounds: the median, or the worst; or None."""
        values = cls.values(case, arm, metric.name)
        if not values:
            return None
        if not metric.worst:
            return statistics.median(values)
        return max(values) if metric.better == experiment.LESS else min(values)

    @classmethod
    def times_better(cls, case, metric, against='stock', arm='ours'):
        """How many times better ARM is than AGAINST; None: not to be said."""
        mine = cls.figure(case, arm, metric)
        other = cls.figure(case, against, metric)
        if None in (mine, other) or metric.better == experiment.NEITHER:
            return None
        if metric.better == experiment.LESS:
            mine, other = other, mine
        if mine == other:
            return 1.0
        return mine / other if other > 0 else float('inf')

    @classmethod
    def overlap(cls, case, metric, against, arm='ours'):
        """Whether the rounds of two arms cannot be told from each other."""
        mine, other = (cls.values(case, name, metric.name)
                       for name in (arm, against))
        return min(mine) <= max(other) and min(other) <= max(mine)

    def missed(self):
        """What 'ours' is not as good in as it should be, a Missed each."""
        for case in self.cases:
            for metric in self.metrics():
                for figure, goal in (*self._worse(case, metric),
                                     *self._too_much(case, metric)):
                    yield Missed(case['label'], metric.name, figure, goal)

    def _worse(self, case, metric):
        for against, goal in metric.goals:
            times = self.times_better(case, metric, against)
            if times is None or times >= goal:
                continue
            noise = goal == 1 and self.overlap(case, metric, against)
            if goal == 1 and times >= (NOISE if noise else LEVEL):
                continue
            yield (f'{times:.3g}x' + ', rounds overlap' * noise,
                   f'{goal:.3g}x against {against}')

    def _too_much(self, case, metric):
        value = self.figure(case, 'ours', metric)
        if None not in (value, metric.most) and value > metric.most:
            yield f'{value:.2f}', f'{metric.most} at most'


def rounded(value):
    """VALUE with the digits that mean something."""
    if isinstance(value, float):
        return float(f'{value:.5g}')
    return value


def file_of(name, out):
    """Where OUT has an experiment's figures."""
    return out / FOLDER / f'{name}.json'


def save(result, out):
    """Its figures, for load()."""
    path = file_of(result.what.name, out)
    path.parent.mkdir(exist_ok=True)
    write(path, result.data)


def write(path, data):
    """DATA as JSON, a line for each list of numbers; whole or not at all."""
    new = path.with_name(path.name + '.new')
    new.write_text(re.sub(
        r'\[([-+.,e\d\s]+)\]', lambda found: f'[{" ".join(found[1].split())}]',
        json.dumps(data, indent=1)) + '\n')
    new.replace(path)


def load(experiments, out):
    """What OUT has of EXPERIMENTS: name -> Result."""
    return {what.name: Result(what, json.loads(path.read_text()))
            for what in experiments
            if (path := file_of(what.name, out)).exists()}
