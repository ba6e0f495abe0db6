# SPDX-License-Identifier: GPL-2.0-only
"""The initramfs: busybox, the agent, hog and kernel modules."""

import functools
import hashlib
import lzma
import os
import pathlib
import shutil
import subprocess

from base import HERE, GuestError
from provided import (BUSYBOX, COMPILER, balloon_modules, cache_folder,
                      environment, prune, publish)

MODULES = ('virtio_pci', 'virtio_console')
MODULES_IF_ANY = ('virtio_mmio',)


def _cpio_entry(name, mode, data=b'', inode=0, rdev=(0, 0)):
    """One entry of a cpio archive in the "newc" format."""
    path = name.encode() + b'\0'
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(path), 0)
    head = b'070701' + b''.join(b'%08X' % field for field in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _cpio(entries):
    """A whole archive. Its length keeps what is appended to it aligned."""
    parts = [_cpio_entry(*entry, inode=number, rdev=rdev)
             for number, (*entry, rdev) in enumerate(entries, 1)]
    archive = b''.join(parts) + _cpio_entry('TRAILER!!!', 0)
    return archive + bytes(-len(archive) % 512)


def _directory(name):
    return name, 0o040755, b'', (0, 0)


def _program(name, data):
    return name, 0o100755, data, (0, 0)


def _symlink(name, target):
    return name, 0o120777, target.encode(), (0, 0)


def _parents(names):
    return sorted({str(parent) for name in names
                   for parent in pathlib.PurePath(name).parents} - {'.'})


def _module_name(path):
    name = pathlib.PurePath(path).name.split('.ko')[0]
    return name.replace('-', '_')


def read_module(path):
    """The bytes of a kernel module, decompressed."""
    data = pathlib.Path(path).read_bytes()
    if str(path).endswith('.xz'):
        return lzma.decompress(data)
    if str(path).endswith('.zst'):
        return subprocess.run(['zstd', '-dcq', path], check=True,
                              stdout=subprocess.PIPE).stdout
    return data


def _dependencies(moddir):
    """modules.dep: name -> paths of what it needs and, last, of itself."""
    table = {}
    for line in (moddir / 'modules.dep').read_text().splitlines():
        path, _, needs = line.partition(':')
        table[_module_name(path)] = [*reversed(needs.split()), path]
    return table


def module_files(names, optional=()):
    """Paths of modules, in the order to load them; built-in ones: none."""
    moddir = pathlib.Path(environment()['MODDIR'])
    table = _dependencies(moddir)
    builtin = {_module_name(line) for line in
               (moddir / 'modules.builtin').read_text().split()}
    paths = {}
    for name in (*names, *optional):
        if name in table:
            paths.update(dict.fromkeys(table[name]))
        elif name in names and name not in builtin:
            raise GuestError(f'kernel in {moddir} has no module {name}')
    return [moddir / path for path in paths]


def _compiled(source):
    """The bytes of a program of the guest; it is compiled once."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    path = cache_folder() / f'{source.stem}-{digest}'
    if not path.exists():
        publish(path, lambda out: subprocess.run(
            [COMPILER, '-static', '-O2', '-o', out, source], check=True))
    return path.read_bytes()


@functools.cache
def _busybox():
    path = shutil.which(BUSYBOX)
    if not path:
        raise GuestError('no busybox: install busybox-static')
    # Debian's has the same applets on all architectures.
    applets = subprocess.run(['busybox', '--list'], text=True, check=True,
                             stdout=subprocess.PIPE).stdout.split()
    links = [_symlink(f'bin/{name}', 'busybox')
             for name in applets if name != 'busybox']
    return [_program('bin/busybox', pathlib.Path(path).read_bytes()), *links]


def _base_archive(modules, programs):
    """All of the initramfs but the balloon modules."""
    files = [*_busybox(), _program('init', (HERE / 'agent.sh').read_bytes())]
    files += [_program(f'bin/{source.stem}', _compiled(source))
              for source in (HERE / 'hog.c', *programs)]
    paths = module_files((*MODULES, *modules), MODULES_IF_ANY)
    # The balloon module itself is not loaded, but what it needs is.
    needs = [path for path in module_files((), ('virtio_balloon',))
             if _module_name(path) != 'virtio_balloon']
    order = dict.fromkeys([*needs, *paths])
    names = [_module_name(path) + '.ko' for path in order]
    files += [_program(f'modules/{name}', read_module(path))
              for name, path in zip(names, order)]
    files.append(_program('modules/order',
                          ''.join(f'{name}\n' for name in names).encode()))
    directories = [_directory(name) for name in
                   (*_parents(file[0] for file in files),
                    'dev', 'proc', 'run', 'sys', 'tmp', 'root', 'etc')]
    console = ('dev/console', 0o020600, b'', (5, 1))
    return _cpio([*directories, console, *files])


def _driver_archive():
    """The balloon modules there are, as /ours/... and /stock/..."""
    files = [_program(f'{which}/virtio_balloon.ko', read_module(path))
             for which, path in balloon_modules().items()]
    return _cpio([*map(_directory, _parents(file[0] for file in files)),
                  *files])


def _with_room_behind(archive):
    """ARCHIVE, padded so that 3.5 KiB of its last page stay free.

    QEMU loads it as high in memory as a whole page allows, but the firmware
    of a microvm has put the ACPI tables (less than 1 KiB) at the very end: a
    guest whose tables the archive overwrites does not find its devices.
    """
    return archive + bytes(-(len(archive) - 512) % 4096)


def initramfs(modules=(), programs=()):
    """Path of an initramfs with what the guest needs.

    MODULES are kernel modules on top, PROGRAMS the sources, in C, of programs.
    """
    archive = _with_room_behind(_base_archive(modules, programs)
                                + _driver_archive())
    digest = hashlib.sha256(archive).hexdigest()[:16]
    path = cache_folder() / f'{environment()["KREL"]}-{digest}.cpio'
    try:
        os.utime(path)
    except FileNotFoundError:
        publish(path, lambda out: pathlib.Path(out).write_bytes(archive))
        prune(path.parent, '*.cpio', 12)
    return path
