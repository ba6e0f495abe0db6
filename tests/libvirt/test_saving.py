# SPDX-License-Identifier: GPL-2.0-only
"""Domains that are saved, and go on later; and that move to another host."""

import pytest

from base import KIB, MIB
from domain import domain
from host import SHARED, host as another

SIZE = 640 * MIB


@pytest.fixture(scope='module', name='other')
def other_host(host):
    """A second host, with its own libvirtd."""
    with another('two.test', first=host) as running:
        yield running


@pytest.fixture(scope='module', name='running')
def one_gib_domain(host):
    """A domain of 1 GiB that has written to most of it, with statistics."""
    with domain(host, period=1) as running:
        running.full = running.total()
        running.file = running.sh(
            'dd if=/dev/urandom of=/run/file bs=1M count=32 2>/dev/null; '
            'md5sum /run/file')
        running.touch(700 * MIB)
        yield running


def check_goes_on(running):
    """As if nothing had been: sizes, statistics, the driver itself."""
    assert running.virsh('domstate').strip() == 'running'
    running.wait_size(SIZE)
    taken = running.size - SIZE
    assert running.total() == running.full - taken
    assert running.wait_update()['available'] * KIB == running.total()
    assert running.status()['held'] == f'{taken // KIB} kB'
    running.setmem_to(SIZE - 128 * MIB)
    assert running.total() == running.full - taken - 128 * MIB
    running.setmem_to(running.size)
    assert running.total() == running.full
    assert running.sh('md5sum /run/file') == running.file


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
def test_saved(running, way, amid):
    """The balloon is where it was. Amid: it has not got there yet, and gets
    there afterwards.
    """
    if amid:
        running.setmem(SIZE)
    else:
        running.setmem_to(SIZE)
    way(running)
    check_goes_on(running)


def migrate(running, to, *options):
    """Move the running domain to a host; it is that host's only, then."""
    to.path(running.folder).mkdir()
    running.virsh('migrate', '--live', '--persistent', '--undefinesource',
                  *options, to.uri, f'unix://{SHARED}/migration',
                  timeout=120)
    running.arrive(to)


def test_migrated(running, host, other):
    """There, where virsh talks to both libvirtds; and back, where one of them
    talks to the other.

    The guest does nothing meanwhile: QEMU 7.2 without KVM breaks one that is
    busy, with any driver.
    """
    for to, options in ((other, ()), (host, ('--p2p',))):
        running.setmem_to(SIZE)
        migrate(running, to, *options)
        check_goes_on(running)
