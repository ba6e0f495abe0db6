# SPDX-License-Identifier: GPL-2.0-only
"""scripts/into-tree: a kernel tree with the driver in it builds.

Only drivers/virtio of it, as objects, for two architectures: the whole kernel
would take minutes. The tree is made of hard links, so that it costs nothing,
and whatever writes to a file instead of replacing it is found. The driver also
builds for kernels without what it would use of them.
"""

import filecmp
import os
import re
import shutil
import subprocess

import pytest

from chroot import TOP, cache, run

INTO_TREE = TOP / 'scripts/into-tree'
SOURCE = cache().parent / 'source/current'
WRITTEN = ('drivers/virtio', 'include/uapi/linux/virtio_balloon.h',
           'include/trace/events/virtio_balloon.h')
OURS = re.compile(r'.*drivers/virtio/(?:virtio_balloon|compat|tests).*'
                  r' warning: .*')
FRAGMENT = '''
CONFIG_64BIT=y
CONFIG_MODULES=y
CONFIG_SMP=y
CONFIG_PCI=y
CONFIG_VIRTIO_MENU=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_UML=y
CONFIG_COMPACTION=y
CONFIG_SYSFS=y
CONFIG_DEBUG_FS=y
CONFIG_FTRACE=y
CONFIG_UNWINDER_FRAME_POINTER=y
CONFIG_KUNIT=y
CONFIG_VIRTIO_BALLOON=%s
CONFIG_VIRTIO_BALLOON_KUNIT_TEST=%s
'''

pytestmark = pytest.mark.time_limit(600)


@pytest.fixture(scope='module')
def source():
    """A kernel's source: scripts/kunit may be about to fetch it, too."""
    run(TOP / 'scripts/prepare', '--uml')
    return SOURCE.resolve()


@pytest.fixture
def tree(source):
    """The same, beside the cache's own, as links cannot leave it."""
    path = source.parent / f'.into-tree.{os.getpid()}'
    subprocess.run(['cp', '-al', source, path], check=True)
    yield path
    shutil.rmtree(path)


def contents(top):
    """Name and text of each file below what is written."""
    files = (file for name in WRITTEN
             for file in [top / name, *(top / name).rglob('*')])
    return {file.relative_to(top): file.read_bytes()
            for file in files if file.is_file()}


def test_twice_is_once_and_nothing_else_changes(source, tree):
    """A second run changes nothing, and no run the original's files."""
    before = contents(source)
    run(INTO_TREE, tree)
    once = contents(tree)
    run(INTO_TREE, tree)
    assert contents(tree) == once
    assert contents(source) == before
    assert set(before) <= set(once)
    assert filecmp.cmp(TOP / 'virtio_balloon.c',
                       tree / 'drivers/virtio/virtio_balloon.c', False)
    # What the driver no longer has goes, too.
    (tree / 'drivers/virtio/compat/old.h').touch()
    run(INTO_TREE, tree)
    assert contents(tree) == once


def test_programs_find_what_they_did(tree):
    """The wire format loses no name, and stays if it lacks none."""
    path = tree / 'include/uapi/linux/virtio_balloon.h'
    # Without parameters of macros, VIRTIO_BALLOON_S_NAMES_prefix
    name = re.compile(r'\b(?:VIRTIO_BALLOON_[A-Z_]+|free_page_[a-z_]+)\b')
    before = path.read_text()
    run(INTO_TREE, tree)
    assert set(name.findall(before)) <= set(name.findall(path.read_text()))

    complete = f'{before}#define VIRTIO_BALLOON_S_DIRECT_RECLAIM 15\n'
    path.unlink()
    path.write_text(complete)
    run(INTO_TREE, tree)
    assert path.read_text() == complete


def test_the_patch_does_the_same(tree, tmp_path):
    """--patch prints it, changes nothing, and is empty in the end."""
    before = contents(tree)
    patch = tmp_path / 'patch'
    patch.write_text(run(INTO_TREE, '--patch', tree))
    assert contents(tree) == before
    run('git', 'apply', '--whitespace=error', patch, cwd=tree,
        env={**os.environ, 'GIT_CEILING_DIRECTORIES': str(tree.parent)})
    assert run(INTO_TREE, '--patch', tree) == ''


@pytest.mark.parametrize('arch', ('x86_64', 'um'))
def test_it_builds(tree, tmp_path, arch):
    """As =y, as =m, and not at all; without a warning."""
    run(INTO_TREE, tree)
    folder = tmp_path / 'drivers/virtio'
    for value in ('y', 'm', 'n'):
        (tmp_path / 'fragment').write_text(FRAGMENT % (value, value))
        make = ('make', '-C', tree, f'ARCH={arch}', f'O={tmp_path}', '-j2')
        run(*make, f'KCONFIG_ALLCONFIG={tmp_path}/fragment', 'allnoconfig')
        config = (tmp_path / '.config').read_text().splitlines()
        for name in ('VIRTIO_BALLOON', 'VIRTIO_BALLOON_KUNIT_TEST'):
            assert (f'CONFIG_{name}={value}' in config) == (value != 'n')
        for name in ('virtio_balloon.o', 'tests/kunit/main.o'):
            (folder / name).unlink(missing_ok=True)
        log = run(*make, 'W=1', 'drivers/virtio/')
        assert OURS.findall(log) == []
        for name in ('virtio_balloon.o', 'tests/kunit/main.o'):
            assert (folder / name).exists() == (value != 'n')


# What a kernel may be without -> functions that the driver uses if it is there
PARTS = {
    'BALLOON_COMPACTION': '__ClearPageMovable',
    'COMPACTION': '__ClearPageMovable',
    'VIRTIO_BALLOON': 'page_reporting_register',    # it selects that
    'DEBUG_FS': 'debugfs_create_file',
    'VM_EVENT_COUNTERS': 'all_vm_events',
    'SUSPEND': 'register_pm_notifier',
}
# VMware's driver selects mm's part as well, which ours cannot be without.
KERNEL = '''
CONFIG_64BIT=y
CONFIG_EXPERT=y
CONFIG_MODULES=y
CONFIG_SMP=y
CONFIG_PCI=y
CONFIG_VIRTIO_MENU=y
CONFIG_VIRTIO_PCI=y
CONFIG_HYPERVISOR_GUEST=y
CONFIG_VMWARE_VMCI=y
CONFIG_VMWARE_BALLOON=y
CONFIG_SYSFS=y
CONFIG_UNWINDER_FRAME_POINTER=y
'''


def module_for(without, source, folder):
    """Build the driver for a kernel without that: the functions it wants."""
    (folder / 'fragment').write_text(KERNEL + ''.join(
        f'CONFIG_{name}={"n" if name in without else "y"}\n'
        for name in PARTS))
    make = ('make', '-C', source, 'ARCH=x86_64', f'O={folder}/build', '-j2')
    run(*make, f'KCONFIG_ALLCONFIG={folder}/fragment', 'allnoconfig')
    config = (folder / 'build/.config').read_text()
    for name in PARTS:
        assert without or f'CONFIG_{name}=y\n' in config
        assert name not in without or f'CONFIG_{name}=' not in config
    run(*make, 'modules_prepare')
    for name in ('Kbuild', 'virtio_balloon.c'):
        shutil.copy(TOP / name, folder)
    shutil.copytree(TOP / 'include', folder / 'include')
    # Nothing is exported: the kernel itself is not built.
    log = run(*make, 'W=1', f'M={folder}', 'KBUILD_MODPOST_WARN=1')
    assert re.findall(r'.*\.[ch]:\d.* warning: .*', log) == []
    return run('nm', '--undefined-only', '--just-symbols',
               folder / 'virtio_balloon.ko').split()


@pytest.mark.parametrize('without', [(), *((name,) for name in PARTS),
                                     tuple(PARTS)],
                         ids=lambda without: ' '.join(without) or 'nothing')
def test_it_builds_for_kernels_without(source, without, tmp_path):
    """What a kernel lacks is not used, all else is; without a warning."""
    wanted = module_for(without, source, tmp_path)
    if not without:
        assert set(PARTS.values()) <= set(wanted)
    for name in without:
        assert PARTS[name] not in wanted
