# SPDX-License-Identifier: GPL-2.0-only
"""What <memballoon> can be told, and what comes of it."""

import pytest

from base import KIB, MIB, wait_for
from domain import domain
from host import VirshError

NEED = 700    # MiB that a program wants


def oom_kills(running):
    """Programs that the guest's kernel has killed for want of memory."""
    return running.vmstat()['oom_kill']


def check_program_gets_memory(running):
    """It needs what the balloon has, and libvirt sees what it got."""
    before = running.used()
    assert running.available() < (NEED - 100) * KIB
    assert running.spawn(f'hog {NEED}').wait(timeout=200) == 0
    assert oom_kills(running) == 0
    wait_for(running.used, lambda now: now > before + 100 * MIB, 5,
             'libvirt to see what the program got')


@pytest.mark.parametrize('model, packed', [
    ('virtio', False), ('virtio-non-transitional', True)])
def test_with_autodeflate_the_memory_stays_the_guests(host, model, packed):
    """DEFLATE_ON_OOM: MemTotal is what it was, and a program that needs it
    gets it. Neither changes what libvirt says the guest has.
    """
    with domain(host, model=model, packed=packed,
                attributes={'autodeflate': 'on'}) as running:
        assert 2 in running.features()
        assert (34 in running.features()) == packed
        total = running.total()
        running.setmem_to(384 * MIB)
        assert running.total() == total
        check_program_gets_memory(running)
        assert running.total() == total
        running.setmem_to(running.size)
        assert running.total() == total


@pytest.mark.parametrize('model, attributes', [
    ('virtio-non-transitional', {'autodeflate': 'off'}),
    ('virtio-transitional', {})])
def test_without_autodeflate_it_is_the_hosts(host, model, attributes):
    """MemTotal drops by exactly what the host gets."""
    with domain(host, model=model, attributes=attributes) as running:
        assert 2 not in running.features()
        total = running.total()
        running.setmem_to(384 * MIB)
        assert running.total() == total - 640 * MIB
        running.setmem_to(running.size)
        assert running.total() == total


def rss(running):
    """Bytes that QEMU's process has of the host, as libvirt says."""
    return running.dommemstat()['rss'] * KIB


@pytest.mark.parametrize('value', ['on', 'off'])
def test_free_page_reporting(host, value):
    """What a program has used and freed goes back by itself, or not at all.
    The balloon's size has nothing to do with it.
    """
    with domain(host, attributes={'freePageReporting': value}) as running:
        assert (5 in running.features()) == (value == 'on')
        running.touch(NEED * MIB)
        if value == 'on':
            wait_for(lambda: rss(running), lambda now: now < 500 * MIB, 60,
                     'QEMU to have become small')
        else:
            running.sh('sleep 6')
            assert rss(running) > NEED * MIB
        assert running.actual() == running.size
        total = running.total()
        running.setmem_to(512 * MIB)
        assert running.total() == total - 512 * MIB


def test_half_from_the_start(host):
    """<currentMemory> is what the host wants before there is a driver."""
    with domain(host, current=512 * MIB) as running:
        running.wait_size(512 * MIB)
        total = running.total()
        running.setmem_to(running.size)
        assert running.total() == total + 512 * MIB


def test_a_domain_without_balloon(host):
    """The module loads all the same, and can be unloaded."""
    with domain(host, model='none') as running:
        assert running.devices() == []
        assert 'virtio_balloon' in running.sh('lsmod')
        total = running.total()
        with pytest.raises(VirshError, match='balloon'):
            running.setmem(512 * MIB)
        assert 'actual' not in running.dommemstat()
        assert running.used() == running.size
        assert running.total() == total
        running.unload()
        running.load()
