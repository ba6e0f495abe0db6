#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Show that the tests find what is wrong; see scripts/canaries --help."""

import argparse
import contextlib
import io
import pathlib
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent /
                       'guest'))

import kernels    # noqa: E402
import mutants    # noqa: E402
import run    # noqa: E402

# Of one run: a mutant may hang.
TIMEOUTS = {'uml': '1200', 'debug': '900'}


def parse_arguments():
    """The options."""
    parser = argparse.ArgumentParser(
        prog='scripts/canaries', allow_abbrev=False,
        description='Breaks the driver in one place after the other and runs '
        'the tests that have to notice. A canary fails if they pass, or fail '
        'for another reason, or if the place is not in the driver any more. '
        'Ends with one line: N passed, N failed.')
    add = parser.add_argument
    add('names', nargs='*', metavar='NAME', help='only those')
    add('--kernel', choices=('uml', 'debug'), default='uml',
        help='only those for that kernel: User Mode Linux (default) or the '
        'x86-64 one with two processors, which finds what the other cannot')
    add('--all', action='store_true',
        help='also the mutants: mistakes that no detector of the kernel finds')
    add('--list', action='store_true', help='only tell the names')
    options = parser.parse_args()
    for name in options.names:
        if name not in mutants.BY_NAME:
            parser.error(f'there is no {name}, see --list')
    return options


def chosen(options):
    """The mutants to try, those of a suite together."""
    if options.names:
        return [mutants.BY_NAME[name] for name in options.names]
    every = mutants.CANARIES + (mutants.MUTANTS if options.all else [])
    return [mutant for mutant in every if mutant.kernel == options.kernel]


def attempt(suite, kernel, env, mutant=None):
    """Run the suite; whether it passed, and what was said."""
    words = ['--suite', suite, '--kernel', kernel, '--timeout',
             TIMEOUTS[kernel]]
    words += ['--mutant', mutant.name] if mutant else []
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            status = run.run_and_report(run.parse_arguments(words), env)
    except (kernels.CannotRun, mutants.DoesNotFit) as error:
        return False, f'{text.getvalue()}\n{error}'
    return status == 0, text.getvalue()


class Trial:
    """Runs the driver, sound and broken, and counts."""

    def __init__(self):
        self.passed = self.failed = 0
        self.envs = {}
        self.sound = {}    # (suite, kernel): what a sound driver says

    def env(self, kernel):
        """What scripts/prepare says of that kernel."""
        if kernel not in self.envs:
            self.envs[kernel] = kernels.prepare(kernel)
        return self.envs[kernel]

    def tell(self, good, name, text, start):
        """One line."""
        self.passed += good
        self.failed += not good
        seconds = f'{time.monotonic() - start:.0f} s'
        print(f'{"ok" if good else "FAILED":6}  {name}: {text} ({seconds})',
              flush=True)

    def try_sound(self, suite, kernel):
        """A suite that fails anyway tells nothing of a mutant."""
        start = time.monotonic()
        passed, text = attempt(suite, kernel, self.env(kernel))
        self.sound[suite, kernel] = text
        self.tell(passed, 'the driver as it is',
                  f'{suite}: {text.splitlines()[-1]}', start)
        if not passed:
            print(text)

    def try_mutant(self, mutant):
        """It has to be found, and for what it is."""
        where = mutant.suite, mutant.kernel
        if where not in self.sound:
            self.try_sound(*where)
        start = time.monotonic()
        passed, text = attempt(*where, self.env(mutant.kernel), mutant)
        found = re.search(f'.*({mutant.seen}).*', text)
        if passed:
            problem = f'{mutant.suite} passes'
        elif re.search(mutant.seen, self.sound[where]):
            problem = f'"{mutant.seen}" is seen without it, too'
        elif not found:
            problem = f'"{mutant.seen}" is not seen'
        else:
            line = found[0].strip().removeprefix('LOG ')
            self.tell(True, mutant.name, line, start)
            return
        self.tell(False, mutant.name, problem, start)
        print(text)


def main():
    """Try them; the exit status."""
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = chosen(options)
    if options.list:
        for mutant in wanted:
            print(f'{mutant.name:20} {mutant.kernel:6} {mutant.suite}')
        return 0
    trial = Trial()
    try:
        for mutant in wanted:
            trial.try_mutant(mutant)
    except kernels.CannotRun as error:
        print(f'canaries: {error}', file=sys.stderr)
        trial.failed += 1
    return run.finish(trial.passed, trial.failed)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
