#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Measure the driver beside the kernel's own; see scripts/bench --help."""

import argparse
import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parent.parent / 'scripts'
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE.parent / 'guest')]

OUT = 'bench.out'
ROUNDS = 3


class Parser(argparse.ArgumentParser):
    """One with the messages of the command that the user has called."""

    def error(self, message):
        """End with MESSAGE."""
        print(f'bench: {message}\nbench: scripts/bench --help shows what is '
              'allowed', file=sys.stderr)
        sys.exit(2)


def positive(text):
    """The argument of --rounds."""
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f'{text!r} is not from 1 to 100')
    return int(text)


def folder(text):
    """The argument of --out: a folder to write to, which is made."""
    path = pathlib.Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} cannot be made: {error.strerror}') from None
    if not os.access(path, os.W_OK):
        raise argparse.ArgumentTypeError(f'{text!r} cannot be written to')
    return path


def arguments():
    """The command line."""
    parser = Parser(
        prog='scripts/bench', allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Boots the same kernel with its own balloon driver and '
        'with this one, in turn,\nand measures both. Without NAME: all '
        'experiments, which takes hours. Prints medians,\nand writes to a '
        'folder: performance.md with tables, and performance/ with figures\n'
        'as JSON and with plots.',
        epilog='What is measured is this tree\'s driver, built for the '
        'newest kernel of this Debian\n(scripts/prepare). Nothing else '
        'should run on the machine: as root, guests go before\nothers; under '
        'nice they do not.\nExit status 0: all that this machine can '
        'measure was, and no goal was missed;\n3: some goal was.')
    add = parser.add_argument
    add('names', nargs='*', metavar='NAME', help='experiments, see --list')
    add('--list', action='store_true', help='list the experiments')
    add('--rounds', type=positive, metavar='N',
        help=f'how often each driver has its turn (default: {ROUNDS})')
    add('--arms', type=lambda text: text.split(','), metavar='A,B',
        help='only these of the arms that --list names')
    add('--out', type=folder, metavar='DIR',
        help=f'where results go (default: {OUT}); those of other experiments '
        'there stay')
    add('--quick', action='store_true', help='small guests, and one round: '
        'shows that it works, the figures say little')
    add('--draw', action='store_true', help='measure nothing, only make '
        'tables and plots of what is in DIR')
    return parser, parser.parse_args()


def prepare(*options):
    """Provide what guests need; scripts/prepare says what it does."""
    subprocess.run([SCRIPTS / 'prepare', *options], stdout=sys.stderr,
                   check=True)


def provide():
    """All that can be had; the newer QEMU is not to be had everywhere."""
    prepare()
    try:
        prepare('--new-qemu')
    except subprocess.CalledProcessError:
        say('going on without a newer QEMU')


def say(text):
    """Tell the user at once."""
    print(text, flush=True)


def go_first():
    """Put guests, which inherit it, before all others, if allowed to.

    Sessions compete as a whole where there is autogroup, see provided.py.
    """
    import provided
    try:
        if os.nice(0) == 0:
            os.nice(-15)
    except PermissionError:
        return
    provided.pass_on_nice(os.getpid())


def experiments():
    """All of them, by name; needs packages."""
    import disturb
    import hugepages
    import migration
    import pressure
    import reporting
    import show
    import sizing
    modules = (show, sizing, disturb, hugepages, pressure, migration,
               reporting)
    return {what.name: what for module in modules
            for what in module.EXPERIMENTS}


def chosen(parser, names, arms, known):
    """The experiments of that name, or all; with ARMS, if not None."""
    for name in names:
        if name not in known:
            parser.error(f'there is no experiment {name!r}, only '
                         + ', '.join(known))
    wanted = [with_arms(known[name], arms) for name in names or known]
    for what in wanted:
        if not what.arms:
            parser.error(f'{what.name} has none of the arms '
                         + ', '.join(arms))
    return wanted


def with_arms(what, arms):
    """An experiment with only those of its arms that ARMS names."""
    return dataclasses.replace(what, arms=tuple(
        arm for arm in what.arms if arms is None or arm.name in arms))


def describe(known):
    """--list"""
    for what in known.values():
        say(f'{what.name:12}{what.about}\n{"":12}'
            f'arms: {", ".join(arm.name for arm in what.arms)}; cases: '
            + '; '.join(case.label for case in what.cases))


def write(known, names, out):
    """Tables of all that OUT has, plots of what of that is in NAMES."""
    import plots
    import results
    import tables
    kept = results.load(known.values(), out)
    for name in set(names) & set(kept):
        plots.draw(kept[name], out / results.FOLDER)
    (out / 'performance.md').write_text(tables.document(kept))


def measure(options, known, wanted):
    """Run experiments; the exit status."""
    import results
    import tables
    failed = missed = False
    for what in wanted:
        reason = what.needs()
        if reason:
            say(f'{what.name}: left out, as {reason}')
            continue
        result = results.Result(what)
        result.run(options.rounds, options.quick, say,
                   lambda result=result: results.save(result, options.out))
        write(known, [what.name], options.out)
        say(f'{tables.summary(result)}\n{what.name}: '
            f'{result.data["seconds"]} s\n')
        failed |= bool(result.data['errors'])
        missed |= any(result.missed())
    return 1 if failed else 3 if missed else 0


def main():
    """Run the program; the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser, options = arguments()
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    try:
        prepare('--packages', 'python3-pytest', 'python3-matplotlib')
        known = experiments()
        wanted = chosen(parser, options.names, options.arms, known)
        if options.list:
            describe(known)
            return 0
        options.out = options.out or folder(OUT)
        if options.draw:
            write(known, known, options.out)
            return 0
        provide()
        go_first()
        return measure(options, known, wanted)
    except subprocess.CalledProcessError as error:
        say(f'bench: {shlex.join(map(str, error.cmd))} failed')
    except KeyboardInterrupt:
        say('\nbench: interrupted; what was measured is in '
            f'{options.out}')
    return 1


if __name__ == '__main__':
    sys.exit(main())
