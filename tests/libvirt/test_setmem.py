# SPDX-License-Identifier: GPL-2.0-only
"""`virsh setmem`: what the guest has, and what libvirt says it has."""

import re
import time

import pytest

from base import KIB, MIB
from domain import domain
from host import VirshError


@pytest.fixture(scope='module', name='running')
def one_gib_domain(host):
    """A domain of 1 GiB, whose balloon is as libvirt makes it by default."""
    with domain(host) as running:
        running.full = running.total()
        yield running


@pytest.fixture(autouse=True)
def restored(request):
    """Each test of the common domain leaves it as large as it was."""
    yield
    if 'running' in request.fixturenames:
        running = request.getfixturevalue('running')
        running.setmem_to(running.size)
        assert running.total() == running.full


def check_size(running, size):
    """Inside and outside agree on SIZE, to the page."""
    assert running.actual() == size
    assert running.used() == size
    assert running.total() == running.full - (running.size - size)


def test_half(running):
    """There and back again."""
    running.setmem_to(running.size // 2)
    check_size(running, running.size // 2)
    running.setmem_to(running.size)
    check_size(running, running.size)


def test_again_while_it_moves(running):
    """The last word counts. What has been written to before takes long."""
    running.touch(800 * MIB)
    sizes = [256 * MIB, 768 * MIB, 384 * MIB, 640 * MIB]
    output = running.host.virsh('; '.join(
        f'setmem {running.name} {size // KIB}k; dommemstat {running.name}'
        for size in sizes))
    seen = [int(size) * KIB for size in re.findall(r'^actual (\d+)$', output,
                                                   re.M)]
    assert len(seen) == len(sizes)
    assert seen[0] > sizes[0], 'it has not been moving'
    running.wait_size(sizes[-1])
    check_size(running, sizes[-1])


def test_more_than_there_is(running):
    """libvirt refuses, and the guest hears nothing of it."""
    running.setmem_to(700 * MIB)
    for size in (running.size + KIB, 2 * running.size):
        with pytest.raises(VirshError, match='cannot set memory higher than '
                           'max memory'):
            running.setmem(size)
    running.stays(running.actual)
    check_size(running, 700 * MIB)


def test_a_paused_domain(running):
    """It catches up."""
    running.virsh('suspend')
    running.setmem(running.size // 2)
    assert running.stays(running.actual) == running.size
    running.virsh('resume')
    running.wait_size(running.size // 2)
    check_size(running, running.size // 2)


def test_libvirtd_restarts_meanwhile(running):
    """The guest goes on, and the new libvirtd knows where it is."""
    running.setmem(running.size // 2)
    running.host.restart_libvirtd()
    running.wait_size(running.size // 2)
    check_size(running, running.size // 2)
    running.setmem_to(700 * MIB)
    check_size(running, 700 * MIB)


def test_without_the_driver(running):
    """When it goes it gives all back. Then nothing happens, and nothing hangs;
    the driver, when it comes, complies.
    """
    running.setmem_to(700 * MIB)
    running.unload()
    running.wait_size(running.size)
    assert running.total() == running.full
    start = time.monotonic()
    running.setmem(running.size // 2)
    running.dommemstat()
    assert time.monotonic() - start < 10
    running.stays(running.actual)
    check_size(running, running.size)
    running.load()
    running.wait_size(running.size // 2)
    check_size(running, running.size // 2)
