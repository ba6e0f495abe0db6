# SPDX-License-Identifier: GPL-2.0-only
"""Domains that are saved, and go on later; and that move to another host."""

import pytest

from base import MIB
from domain import domain
from host import SHARED, host as another

SIZE = 640 * MIB


@pytest.fixture(scope='module', name='other')
def other_host(host):
    """A second host, with its own libvirtd."""
    with another('two.test', first=host) as running:
        yield running


def check_goes_on(running, full):
    """As if nothing had been: sizes, statistics, the driver itself."""
    running.wait_size(SIZE)
    assert running.total() == full - (running.size - SIZE)
    assert running.wait_update()['available'] * 1024 == running.total()
    assert running.status()['held'] == f'{(running.size - SIZE) // 1024} kB'
    running.setmem_to(SIZE // 2)
    assert running.total() == full - (running.size - SIZE // 2)
    running.setmem_to(running.size)
    assert running.total() == full
    running.setmem_to(SIZE)


def keep_file(running):
    """Have something in memory; its checksum."""
    return running.sh('head -c 32M /dev/urandom >/run/file; '
                      'md5sum /run/file')


def save_and_restore(running):
    """With a file that the user names."""
    path = f'{SHARED}/saved'
    running.virsh('save', path, timeout=120)
    assert running.virsh('domstate').strip() == 'shut off'
    running.resume_from('restore', path)


def managed_save_and_start(running):
    """With a file that libvirt knows of."""
    running.virsh('managedsave', timeout=120)
    assert running.virsh('domstate').strip() == 'shut off'
    running.resume_from('start', running.name)


@pytest.mark.parametrize('amid', [False, True])
@pytest.mark.parametrize('way', [save_and_restore, managed_save_and_start])
def test_saved(host, way, amid):
    """The balloon is where it was. Amid: it has not got there yet, and gets
    there afterwards.
    """
    with domain(host, period=1) as running:
        full, file = running.total(), keep_file(running)
        running.touch(700 * MIB)
        if amid:
            running.setmem(SIZE)
        else:
            running.setmem_to(SIZE)
        way(running)
        check_goes_on(running, full)
        assert running.sh('md5sum /run/file') == file


def migrate(running, to, *options):
    """Move the running domain to a host; it is that host's only, then."""
    to.path(running.folder).mkdir()
    running.virsh('migrate', '--live', '--persistent', '--undefinesource',
                  *options, to.uri, f'unix://{SHARED}/migration',
                  timeout=120)
    running.arrive(to)


@pytest.mark.parametrize('options', [[], ['--p2p']])
def test_migrated(host, other, options):
    """There and back: virsh, or one libvirtd, talks to the other libvirtd.

    The guest does nothing meanwhile: QEMU 7.2 without KVM breaks one that is
    busy, with any driver.
    """
    with domain(host, period=1) as running:
        full, file = running.total(), keep_file(running)
        running.setmem_to(SIZE)
        for to in (other, host):
            migrate(running, to, *options)
            assert running.virsh('domstate').strip() == 'running'
            check_goes_on(running, full)
        assert running.sh('md5sum /run/file') == file
