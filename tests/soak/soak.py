#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Hours of everything at random in one guest; see scripts/soak --help."""

import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parent.parent / 'scripts'
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / 'guest'))

LOOK_EVERY = 25    # actions


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog='scripts/soak', allow_abbrev=False,
        description='Boots a guest with a debug kernel and does everything at '
        'random with it and its balloon: sizes, programs that need memory, '
        'files, compaction, migrations to nowhere with hints, reporting, '
        'statistics, pauses, suspend, the driver loaded anew with other '
        f'parameters, the device plugged in anew. After {LOOK_EVERY} actions '
        'it looks whether all memory is there, all programs found theirs '
        'intact and the kernel is content. Ends with what it did, and one '
        'line: N passed, N failed, of these looks.')
    add = parser.add_argument
    add('--minutes', type=float, default=120, metavar='N',
        help='how long (default: 120)')
    add('--seed', type=int, default=int(time.time()), metavar='N',
        help='of what is random (default: the time)')
    add('--kernel', choices=('debug', 'plain'), default='debug',
        help='the one with all checks on (default), or Debian\'s')
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error(f'--minutes {options.minutes:g} is not more than 0')
    return options


def provide(kernel):
    """Have scripts/prepare make what guests need; ours use it."""
    debug = kernel == 'debug'
    subprocess.run([SCRIPTS / 'prepare', *(['--debug-kernel'] if debug else
                                           [])], check=True)
    if debug:
        text = subprocess.run([SCRIPTS / 'prepare', '--env', kernel],
                              check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        os.environ.update(f'VB_{line}'.split('=', 1)
                          for line in text.splitlines())


def soak(options, life):
    """Live until the time is up."""
    end = time.monotonic() + options.minutes * 60
    with life.guest():
        while time.monotonic() < end:
            for _ in range(LOOK_EVERY):
                life.act()
            life.look()
        life.look_back()


def main():
    """What the options say; the exit status."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    provide(options.kernel)
    import life    # which needs what is provided
    print(f'soak: seed {options.seed}, {options.minutes:g} minutes',
          flush=True)
    start, failed = time.monotonic(), 1
    one = life.Life(random.Random(options.seed))
    try:
        soak(options, one)
        failed = 0
    except Exception as error:
        print(f'soak: FAILED at {one.last}: {error!r}', *one.did, one.junk,
              sep='\n')
    finally:
        print(f'\n{(time.monotonic() - start) / 60:.0f} minutes, seed '
              f'{options.seed}: {one.told()}\n\n{one.good} passed, '
              f'{failed} failed')
    return failed


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
