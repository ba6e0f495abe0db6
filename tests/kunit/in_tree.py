# SPDX-License-Identifier: GPL-2.0-only
"""Driver and tests in a kernel's tree, run by the kernel's own kunit.py."""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys

import ktap
from kernels import TOP, CannotRun, Group

DRIVERS = pathlib.PurePath('drivers/virtio')
CONFIG = TOP / 'tests/kunit/.kunitconfig'
COUNTS = re.compile(r'Testing complete\. .*tests: (.*)')
# Waiting takes no time; the other words are those of scripts/kunit.
KERNEL_ARGUMENTS = ('time-travel=inf-cpu', 'page_poison=1', 'kasan_multi_shot')


def make_tree(source, tree):
    """The kernel's tree with our files; what did not change stays."""
    if not tree.exists():
        new = tree.with_name('tree.new')
        shutil.rmtree(new, ignore_errors=True)
        subprocess.run(['cp', '-al', source, new], check=True)
        new.rename(tree)
    if subprocess.run([TOP / 'scripts/into-tree', tree],
                      check=False).returncode:
        raise CannotRun('scripts/into-tree failed')
    shutil.copyfile(CONFIG, tree / DRIVERS / 'tests/kunit' / CONFIG.name)


def complaints(log):
    """Lines of the file LOG in which the kernel complains, once tests run.

    Before them User Mode Linux does, of PCI that it has no device for.
    """
    if not log.exists():
        return []
    lines = map(ktap.clean, log.read_text(errors='replace').splitlines())
    lines = itertools.dropwhile(lambda line: not ktap.KTAP.match(line), lines)
    return sum(ktap.complaints(lines, True), [])


def run(env, place, glob, timeout):
    """Run kunit.py, TIMEOUT seconds at most.

    Returns the numbers of passed, failed and skipped tests.
    """
    tree = place / 'tree'
    make_tree(pathlib.Path(env['SOURCE']), tree)
    command = [sys.executable, 'tools/testing/kunit/kunit.py', 'run',
               f'--kunitconfig={DRIVERS}/tests/kunit',
               f'--build_dir={place / "build"}', f'--jobs={os.cpu_count()}',
               f'--timeout={timeout:.0f}',
               *(f'--kernel_args={word}' for word in KERNEL_ARGUMENTS), glob]
    counts, log = {}, place / 'build/test.log'
    log.unlink(missing_ok=True)
    with Group(command, cwd=tree) as process:
        for line in process.stdout:
            print(line, end='', flush=True)
            if match := COUNTS.search(re.sub(r'\x1b\[[\d;]*m', '', line)):
                counts = {what: int(number) for what, number in
                          re.findall(r'(\w+): (\d+)', match[1])}
        process.wait()
    failed = sum(counts.get(what, 0)
                 for what in ('failed', 'crashed', 'errors'))
    lines = complaints(log)
    for line in lines[:ktap.SHOWN]:
        print(f'LOG {line}')
    return (counts.get('passed', 0),
            (failed or int(process.returncode != 0)) + bool(lines),
            counts.get('skipped', 0))
