# SPDX-License-Identifier: GPL-2.0-only
"""What scripts/prepare provides, and a cache for what is made of it."""

import contextlib
import os
import pathlib
import subprocess
import tempfile

from base import TOP

ENV_NAMES = ('CACHE', 'KREL', 'VMLINUZ', 'KDIR', 'MODDIR', 'MODULE', 'STOCK',
             'QEMU_NEW')
# What else scripts/arch gives: Debian's name of the guest's architecture, a
# compiler and a busybox for it.
ARCH = os.environ.get('VB_ARCH', 'amd64')
COMPILER = os.environ.get('VB_CC', 'gcc')
BUSYBOX = os.environ.get('VB_BUSYBOX', 'busybox')
_environment = {}


def environment():
    """What scripts/prepare provides, by the names of its --env lines.

    VB_<NAME> in the process environment wins, so that another kernel or
    another build of the driver can be tested: VB_MODULE=... scripts/test.
    """
    if not _environment:
        given = {name: os.environ['VB_' + name] for name in ENV_NAMES
                 if 'VB_' + name in os.environ}
        if len(given) < len(ENV_NAMES):
            _environment.update(_ask_prepare())
        _environment.update(given)
    return _environment


def _ask_prepare():
    done = subprocess.run([TOP / 'scripts/prepare', '--env'], text=True,
                          stdout=subprocess.PIPE, check=True)
    pairs = (line.split('=', 1) for line in done.stdout.splitlines()
             if '=' in line)
    return {name: value.strip('\'"') for name, value in pairs}


def new_qemu():
    """Path of the newer QEMU, or None if it is not provided."""
    path = environment().get('QEMU_NEW')
    return path if path and os.access(path, os.X_OK) else None


def balloon_modules():
    """Which balloon modules there are: 'ours', 'stock' -> path."""
    paths = {'ours': environment().get('MODULE'),
             'stock': environment().get('STOCK')}
    return {which: path for which, path in paths.items()
            if path and os.path.exists(path)}


def pass_on_nice(pid):
    """Make a session as nice as we are, or the scheduler favours it.

    With CONFIG_SCHED_AUTOGROUP sessions compete as a whole.
    """
    with contextlib.suppress(OSError):
        pathlib.Path(f'/proc/{pid}/autogroup').write_text(str(os.nice(0)))


def cache_folder():
    """The folder for what publish() makes; it exists."""
    path = pathlib.Path(environment()['CACHE']) / 'initramfs'
    path.mkdir(parents=True, exist_ok=True)
    return path


def publish(path, write):
    """Create PATH with write(temporary path), whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix='.new-')
    os.close(handle)
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def prune(directory, pattern, keep):
    """Remove all but the KEEP most recently used files."""
    def age(path):
        try:
            return path.stat().st_mtime
        except FileNotFoundError:    # another run's doing
            return 0
    for path in sorted(directory.glob(pattern), key=age)[:-keep]:
        path.unlink(missing_ok=True)
