# SPDX-License-Identifier: GPL-2.0-only
"""How fast the balloon moves, and what that costs."""

import statistics

import experiment
from experiment import LESS, NEITHER, Case, Experiment, Metric
from guest import GIB, KIB, PAGE
from moves import move
from test_sizing import DEFLATE, INFLATE

WAYS = ('inflate', 'deflate')
STATES = ('untouched', 'touched', 'repeated')
# How often, so that the shortest moves last long enough to be measured
AT_LEAST = 3 * GIB
# What the driver is to be, compared with the kernel's own
GOALS = {'inflate touched': 2, 'inflate repeated': 3, 'deflate untouched': 2,
         'deflate touched': 2, 'deflate repeated': 2}
LESS_CPU = 5
# ... and with the time that the device itself works
CLOSE_TO_LIMIT = 1.15


def touch(running):
    """Have the host back what the guest can get."""
    running.touch(running.available() * KIB * 19 // 20)


def figures_of(name, moves):
    """Figures of moves that did the same, all of them together."""
    gib = sum(one.size for one in moves) / GIB
    figures = {name: sum(one.seconds for one in moves) / gib,
               f'{name}, guest CPU': sum(one.guest for one in moves) / gib,
               f'{name}, vCPU threads': sum(one.vcpus for one in moves) / gib,
               f'{name}, host CPU': sum(one.host for one in moves) / gib,
               f'{name}, longest answer of QEMU':
               max(one.answer for one in moves) * 1e3}
    firsts = [one.first for one in moves if one.first is not None]
    if firsts:
        figures[f'{name}, first GiB'] = statistics.median(firsts)
    return figures


def limit_of(name, moves):
    """With a device in QEMU's main thread: how long for its CPU time."""
    return {f'{name}, wall / device CPU': sum(one.seconds for one in moves)
            / sum(one.device for one in moves)}


def measure(arm, mem, init_on_alloc=0, smp=1, qemu=None):
    """Three quarters of RAM to the host and back, in three states."""
    figures = {}
    with experiment.boot(arm, mem, smp=smp, qemu=qemu,
                         append=experiment.plain(init_on_alloc)) as running:
        small = running.size // 4
        for state in STATES:
            if state == 'touched':
                touch(running)
            times = (-(-AT_LEAST // (running.size - small))
                     if state == 'repeated' else 1)
            pairs = [(move(running, small), move(running, running.size))
                     for _ in range(times)]
            for way, moves in zip(WAYS, zip(*pairs)):
                figures |= figures_of(f'{way} {state}', moves)
                if qemu:
                    figures |= limit_of(f'{way} {state}', moves)
    return figures


def metrics():
    """All that measure() returns."""
    names = [f'{way} {state}' for way in WAYS for state in STATES]
    return (*(Metric(name, 's/GiB', goals=(('stock', GOALS.get(name, 1)),))
              for name in names),
            *(Metric(f'{name}, guest CPU', 's/GiB',
                     goals=(('stock', LESS_CPU),)) for name in names),
            *(Metric(f'{name}, vCPU threads', 's/GiB') for name in names),
            *(Metric(f'{name}, host CPU', 's/GiB') for name in names),
            *(Metric(f'{name}, first GiB', 's') for name in names),
            *(Metric(f'{name}, wall / device CPU', 'x', most=CLOSE_TO_LIMIT)
              for name in names),
            *(Metric(f'{name}, longest answer of QEMU', 'ms')
              for name in names))


SIZES = tuple(Case(f'{size} GiB', {'mem': f'{size}G'}, size)
              for size in (1, 2, 4, 8, 16))


def variants(mem):
    """init_on_alloc, CPUs, QEMU."""
    return tuple(
        Case(f'init={init}, {smp} CPU{"s" * (smp > 1)}, '
             + ('newer QEMU' if qemu else "Debian's QEMU"),
             {'mem': mem, 'init_on_alloc': init, 'smp': smp, 'qemu': qemu})
        for qemu in (None, 'new') for smp in (1, 2) for init in (0, 1))


SHOWN = ('inflate touched', 'inflate repeated', 'deflate touched',
         'inflate touched, guest CPU', 'inflate repeated, guest CPU',
         'deflate touched, guest CPU')


# What the device sees

def counts(view, queue, size):
    """Figures of one direction, for each GiB of SIZE."""
    each = size / GIB
    return {'kicks': view.kicks[queue] / each,
            'interrupts': view.interrupts[queue] / each,
            'buffers': sum(buffer.queue == queue
                           for buffer in view.buffers) / each,
            'runs of PFNs': len(view.runs(queue)) / each,
            'configuration reads': len(view.config_reads) / each,
            'configuration writes': len(view.config_writes) / each}


def measure_device(arm, mem, qemu=None, **props):
    """From QEMU's trace: half of RAM to the host, and back."""
    figures = {}
    with experiment.boot(arm, mem, trace=True, qemu=qemu, props=props,
                         append=experiment.plain()) as running:
        for way, queue, size in (('inflate', INFLATE, running.size // 2),
                                 ('deflate', DEFLATE, running.size)):
            running.trace.mark()
            running.balloon_to(size)
            running.sh('sleep 1.5')
            view = running.trace.view()
            assert len(view.pfns(queue)) == running.size // 2 // PAGE
            figures |= {f'{way}, {name}': value for name, value in counts(
                view, queue, running.size // 2).items()}
    return figures


DEVICE_CASES = (Case("2 GiB, Debian's QEMU", {'mem': '2G'}),
                Case('2 GiB, newer QEMU without ioeventfd', {
                    'mem': '2G', 'qemu': 'new', 'ioeventfd': False}),
                Case('2 GiB, newer QEMU', {'mem': '2G', 'qemu': 'new'}))
COUNTED = ('kicks', 'interrupts', 'buffers', 'runs of PFNs',
           'configuration reads', 'configuration writes')

EXPERIMENTS = (
    Experiment(
        'size', 'inflating and deflating three quarters of guests of 1 to 16 '
        'GiB: untouched by the guest so far, touched, and again',
        measure, metrics(), SIZES, SIZES[:1], plot='lines', shown=SHOWN,
        notes='`init_on_alloc=0`, one CPU, Debian\'s QEMU. The cost of a GiB '
        'should not depend on the size of the guest. Guest CPU is what the '
        'guest\'s threads ran in user mode, in steps of 10 ms a move; vCPU '
        'threads is all of them, with the host\'s work for the device, which '
        'this QEMU does there. QEMU answers others between two groups of '
        'buffers: less often if it is given more at a time.'),
    Experiment(
        'variants', 'the same with 4 GiB: init_on_alloc, one and two CPUs, '
        'two versions of QEMU',
        measure, metrics(), variants('4G'),
        variants('1G')[:1] + variants('1G')[-2:-1], shown=SHOWN,
        notes='`init` is `init_on_alloc`, Debian\'s default being 1: mm fills '
        'what a balloon takes with zeroes, whatever its driver asks for '
        '(`post_alloc_hook()`), which without acceleration is most of all '
        'that inflating costs. The newer QEMU\'s device works in '
        'its main thread: wall time over that thread\'s CPU time is 1 if the '
        'device never waits for the guest. That thread also says 250 times a '
        'second what `actual` is. This driver makes it wait on purpose, with '
        'each group of 8 MiB: see `design.md`, "The queue runs empty".'),
    Experiment(
        'device', 'what the device sees of a GiB: kicks, interrupts, '
        'configuration accesses, runs of PFNs',
        measure_device,
        tuple(Metric(f'{way}, {name}', 'per GiB',
                     NEITHER if name == 'buffers' else LESS)
              for way in WAYS for name in COUNTED),
        DEVICE_CASES, (Case("1 GiB, Debian's QEMU", {'mem': '1G'}),),
        shown=tuple(f'inflate, {name}' for name in COUNTED
                    if name != 'buffers'),
        notes='Of a guest that has used little of its memory so far. Without '
        'ioeventfd, and with Debian\'s QEMU, the device does its work while '
        'the guest kicks it: the guest finds the answer there and needs no '
        'interrupt. The newer QEMU\'s has a thread of its own.'),
)
