# SPDX-License-Identifier: GPL-2.0-only
"""What the host has left of its huge pages, and the guest of its blocks."""

import contextlib
import os
import pathlib

import experiment
import plots
from experiment import (MORE, NEITHER, OURS, STOCK, Arm, Case, Experiment,
                        Metric)
from guest import KIB, MIB, PAGE, GuestError, parse_size
from moves import rest
from sizing import touch
from test_sizing import free_blocks

OURS_512 = Arm('ours 512', 'ours', 'pfns_per_buffer=512',
               'this driver, pfns_per_buffer=512')
POOL = pathlib.Path('/proc/sys/vm/nr_hugepages')
HUGE = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def orders(running):
    """Free blocks of each order, all zones together."""
    lines = running.sh('cat /proc/buddyinfo').splitlines()
    return [sum(column) for column in
            zip(*(map(int, line.split()[4:]) for line in lines))]


def state(running, when):
    """Huge pages and blocks by now."""
    return {f'host huge pages, {when}': running.huge() / MIB,
            f'guest blocks of 2 MiB, {when}': free_blocks(running),
            f'orders, {when}': orders(running)}


def make_holes(running, mib, kib):
    """Have a program keep memory with holes of KIB, MIB in sum; its job."""
    job = running.spawn(f'probe holes {mib} {kib}')
    job.wait_output('start', timeout=200)
    return job


def measure(arm, mem, holes, target, use):
    """All of RAM touched, HOLES MiB of holes in it, and TARGET to stay.

    Then program and balloon go, and another program uses USE MiB.
    """
    with experiment.boot(arm, mem, append=experiment.plain()) as running:
        touch(running)
        job = make_holes(running, holes, PAGE // KIB) if holes else None
        figures = state(running, 'before')
        running.balloon_to(target * MIB)
        rest(running.size - target * MIB)
        figures |= state(running, 'inflated')
        if job:
            job.kill()
            job.wait()
        running.balloon_to(running.size)
        rest(running.size - target * MIB)
        figures |= state(running, 'deflated')
        running.touch(use * MIB)
        return figures | state(running, 'used again')


WHENS = ('before', 'inflated', 'deflated', 'used again')
METRICS = (
    *(Metric(f'host huge pages, {when}', 'MiB',
             NEITHER if when == 'before' else MORE) for when in WHENS),
    # The blocks that are in the balloon are what the host gains.
    *(Metric(f'guest blocks of 2 MiB, {when}', '',
             NEITHER if when in WHENS[:2] else MORE) for when in WHENS))
CASES = (
    Case('1 GiB, 200 MiB of it in holes of a page',
         {'mem': '1G', 'holes': 200, 'target': 600, 'use': 800}),
    Case('1 GiB, 350 MiB of it in holes of a page',
         {'mem': '1G', 'holes': 350, 'target': 600, 'use': 800}),
    Case('2 GiB, all in blocks',
         {'mem': '2G', 'holes': 0, 'target': 1024, 'use': 1700}))


def groups(axes, arms, names, values):
    """Bars, grouped by NAMES: values(arm) has one for each."""
    width = 0.8 / len(arms)
    for index, arm in enumerate(arms):
        shift = (index - (len(arms) - 1) / 2) * width
        axes.bar([place + shift for place in range(len(names))], values(arm),
                 width * 0.92, color=plots.colour(arm, arms),
                 label=arm.label)
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.set_ylabel('MiB')


def by_order(case, arm, when):
    """Free MiB of each order; of the first round that came so far."""
    counts = case['figures'][arm.name].get(f'orders, {when}', [[0] * 11])[0]
    return [(count << order) * PAGE / MIB
            for order, count in enumerate(counts)]


def plot(result):
    """For each case what the host has, and what the guest has free."""
    arms, cases = result.arms(), result.cases
    figure, grid = plots.pyplot.subplots(
        len(cases), 2, figsize=(9, 2.8 * len(cases) + 0.4), squeeze=False)
    for (host, free), case in zip(grid, cases):
        groups(host, arms, WHENS, lambda arm, case=case: [
            result.median(case, arm.name, f'host huge pages, {when}') or 0
            for when in WHENS])
        host.set_title(f"{case['label']}:\nthe host's huge pages",
                       fontsize=9)
        names = [f'{4 << order}K' if order < 8 else f'{1 << order - 8}M'
                 for order in
                 range(len(by_order(case, arms[0], 'used again')))]
        groups(free, arms, names, lambda arm, case=case: by_order(
            case, arm, 'used again'))
        free.set_title("the guest's free memory, in blocks of;\n"
                       'deflated and used again', fontsize=9)
    figure.legend(*grid[0][0].get_legend_handles_labels(),
                  loc='lower center', ncols=len(arms))
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def no_thp():
    """Why the host has no transparent huge pages, if that is so."""
    if HUGE.exists() and '[never]' not in HUGE.read_text():
        return ''
    return 'this host has no transparent huge pages: see ' + str(HUGE)


# hugetlb

@contextlib.contextmanager
def pool(size):
    """SIZE bytes more of huge pages in the host's pool."""
    before = int(POOL.read_text())
    want = before + size // (2 * MIB)
    try:
        POOL.write_text(str(want))
        have = int(POOL.read_text())
        if have < want:
            raise GuestError(
                f'the host has only {have} of {want} huge pages')
        yield
    finally:
        POOL.write_text(str(before))


def free_pool():
    """Bytes that are free in the host's pool."""
    text = pathlib.Path('/proc/meminfo').read_text()
    values = dict(line.split(':') for line in text.splitlines())
    return (int(values['HugePages_Free'])
            * int(values['Hugepagesize'].split()[0]) * KIB)


def measure_hugetlb(arm, mem, target):
    """What comes back to the host's pool of huge pages."""
    options = {'append': experiment.plain(), 'mem_backend':
               'memory-backend-memfd,hugetlb=on,hugetlbsize=2M,prealloc=on'}
    with pool(parse_size(mem)), \
            experiment.boot(arm, mem, **options) as running:
        before = free_pool()
        running.balloon_to(target * MIB)
        back = free_pool() - before
        asked = running.size - target * MIB
    return {'asked for': asked / MIB, 'back in the pool': back / MIB}


def no_hugetlb():
    """Why there is no guest in hugetlb memory, if that is so."""
    if os.access(POOL, os.W_OK):
        return ''
    return f'not allowed to write to {POOL}: needs root'


EXPERIMENTS = (
    Experiment(
        'thp', "the host's transparent huge pages, and the guest's free "
        'blocks, after the balloon was inflated and deflated',
        measure, METRICS, CASES, CASES[:1],
        plot=plot, needs=no_thp,
        notes='A program frees every second one of its pages and keeps the '
        'others until the balloon is inflated. Published of another driver, '
        '1 GiB: 911360 kB before, 88064 kB after, and 616448 kB with pages '
        'taken in blocks; after deflating and 800 MB used again, 65536 and '
        '907264 kB. QEMU discards 4 KiB at a time, which leaves tables of '
        'small pages behind: what is used again comes in small pages there, '
        'until khugepaged joins them. With 350 MiB in holes there are not '
        'enough blocks for what the host wants, 424 MiB. Blocks that the '
        'guest has left while the balloon is inflated are no merit: each of '
        'them is a huge page that the host did not get.'),
    Experiment(
        'hugetlb', 'a guest in hugetlb memory: what the host gets back of it',
        measure_hugetlb,
        (Metric('asked for', 'MiB', NEITHER),
         Metric('back in the pool', 'MiB', MORE)),
        (Case('1 GiB', {'mem': '1G', 'target': 512}),),
        (Case('1 GiB', {'mem': '1G', 'target': 512}),),
        arms=(STOCK, OURS, OURS_512), shown=('back in the pool',),
        needs=no_hugetlb,
        notes='QEMU gives a page of 2 MiB back only if one buffer names all '
        'of it: `pfns_per_buffer=512`.'),
)
