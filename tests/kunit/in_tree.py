# SPDX-License-Identifier: GPL-2.0-only
"""Driver and tests in a kernel's tree, run by the kernel's own kunit.py."""

import filecmp
import os
import pathlib
import re
import shutil
import subprocess
import sys

from kernels import INIT, TOP, CannotRun, Group, source_files

DRIVERS = pathlib.PurePath('drivers/virtio')
# Of README, "In a kernel tree": ours -> there, the first that fits.
PLACES = (('include/compat/', DRIVERS / 'compat'),
          ('include/', pathlib.PurePath('include')),
          ('tests/kunit/', DRIVERS / 'tests/kunit'),
          ('virtio_balloon.c', DRIVERS / 'virtio_balloon.c'))
MAKEFILE = '''
obj-$(CONFIG_VIRTIO_BALLOON) += virtio_balloon.o
CFLAGS_virtio_balloon.o := -I$(srctree)/$(src)
obj-$(CONFIG_VIRTIO_BALLOON_KUNIT_TEST) += tests/kunit/
'''
COUNTS = re.compile(r'Testing complete\. .*tests: (.*)')
# Waiting takes no time; the other words are those of scripts/kunit.
KERNEL_ARGUMENTS = ('time-travel=inf-cpu', 'page_poison=1', 'kasan_multi_shot')


def place_of(name):
    """Where a file of ours goes in the tree, or None."""
    text = str(name)
    if name.name == INIT.name:
        return None
    for start, place in PLACES:
        if text.startswith(start):
            rest = text[len(start):]
            return place / rest if rest else place
    return None


def write(path, text):
    """Give PATH a new file, as the one that is there is the source's own."""
    if not path.exists() or path.read_text(encoding='utf-8') != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text, encoding='utf-8')


def make_tree(source, tree):
    """The kernel's tree with our files; what did not change stays."""
    if not tree.exists():
        new = tree.with_name('tree.new')
        shutil.rmtree(new, ignore_errors=True)
        subprocess.run(['cp', '-al', source, new], check=True)
        new.rename(tree)
    theirs = source / DRIVERS
    wanted = {place_of(name): TOP / name for name in source_files(TOP)
              if place_of(name)}
    wanted[DRIVERS / 'tests/kunit/.kunitconfig'] = \
        TOP / 'tests/kunit/.kunitconfig'
    for place, ours in wanted.items():
        if not (tree / place).exists() or \
                not filecmp.cmp(ours, tree / place, shallow=False):
            write(tree / place, ours.read_text(encoding='utf-8'))
    for path in (tree / DRIVERS / 'tests/kunit').iterdir():
        if path.relative_to(tree) not in wanted:
            path.unlink()
    write(tree / DRIVERS / 'Makefile',
          (theirs / 'Makefile').read_text(encoding='utf-8') + MAKEFILE)
    write(tree / DRIVERS / 'Kconfig', kconfig(
        (theirs / 'Kconfig').read_text(encoding='utf-8')))


def kconfig(theirs):
    """Their Kconfig, with our entries in the place of theirs."""
    ours = (TOP / 'Kconfig').read_text(encoding='utf-8')
    ours = ours[ours.index('config '):] + '\n'
    new, count = re.subn(r'^config VIRTIO_BALLOON\n(?:[ \t].*\n|\n)*',
                         lambda _: ours, theirs, flags=re.M)
    if count != 1:
        raise CannotRun('no VIRTIO_BALLOON in the kernel\'s Kconfig')
    return new


def run(env, place, glob):
    """Run kunit.py; numbers of passed, failed and skipped tests."""
    tree = place / 'tree'
    make_tree(pathlib.Path(env['SOURCE']), tree)
    command = [sys.executable, 'tools/testing/kunit/kunit.py', 'run',
               f'--kunitconfig={DRIVERS}/tests/kunit',
               f'--build_dir={place / "build"}', f'--jobs={os.cpu_count()}',
               *(f'--kernel_args={word}' for word in KERNEL_ARGUMENTS), glob]
    counts = {}
    with Group(command, cwd=tree) as process:
        for line in process.stdout:
            print(line, end='', flush=True)
            if match := COUNTS.search(re.sub(r'\x1b\[[\d;]*m', '', line)):
                counts = {what: int(number) for what, number in
                          re.findall(r'(\w+): (\d+)', match[1])}
        process.wait()
    failed = sum(counts.get(what, 0)
                 for what in ('failed', 'crashed', 'errors'))
    return (counts.get('passed', 0),
            failed or int(process.returncode != 0), counts.get('skipped', 0))
