# SPDX-License-Identifier: GPL-2.0-only
"""The same driver on every form of the device that QEMU has (N27).

Each one inflates, deflates, answers for statistics and survives rmmod. And
that the form was in force, not just asked for, is checked first.
"""

import itertools

import pytest

from guest import MIB, boot, wait_for
from test_lifecycle import REINFLATE
from test_sizing import RESIDENT

MODERN, LEGACY = '0x1045', '0x1002'
DEFLATE_ON_OOM, INDIRECT_DESC, EVENT_IDX, VERSION_1, RING_PACKED = \
    2, 28, 29, 32, 34


class Facts:
    """What the guest sees of the balloon's device."""

    def __init__(self, running):
        name = running.wait_device()
        directory = f'/sys/bus/virtio/devices/{name}'
        self.bus_driver = running.sh(
            f'basename $(readlink -f {directory}/../driver)').strip()
        self.pci_id = running.sh(
            f'cat {directory}/../device 2>/dev/null || true').strip()
        bits = running.sh(f'cat {directory}/features')
        self.bits = {number for number, bit in enumerate(bits) if bit == '1'}
        self.irqs = [word for word in running.sh('cat /proc/interrupts')
                     .replace(',', ' ').split() if word.startswith(name)]
        self.cpus = int(running.sh('nproc'))

    def has_msi(self):
        """Whether queues have interrupts of their own."""
        return any('-' in irq for irq in self.irqs)


# name -> boot()'s arguments, what must hold of the Facts
VARIANTS = {
    # Debian's QEMU gives a balloon one interrupt for all, without MSI-X.
    'transitional': ({}, lambda facts:
                     facts.pci_id == LEGACY and facts.bits >= {
                         VERSION_1, EVENT_IDX, INDIRECT_DESC}
                     and RING_PACKED not in facts.bits
                     and len(facts.irqs) == 1 and not facts.has_msi()),
    'modern, no event idx': (
        {'disable_legacy': True, 'event_idx': False}, lambda facts:
        facts.pci_id == MODERN and VERSION_1 in facts.bits
        and EVENT_IDX not in facts.bits),
    'modern, no indirect': (
        {'disable_legacy': True, 'indirect_desc': False}, lambda facts:
        facts.pci_id == MODERN and INDIRECT_DESC not in facts.bits),
    'legacy': ({'disable_modern': True, 'disable_legacy': 'off'},
               lambda facts:
               facts.pci_id == LEGACY and VERSION_1 not in facts.bits),
    'legacy, bare': ({'disable_modern': True, 'disable_legacy': 'off',
                      'event_idx': False, 'indirect_desc': False,
                      'page_poison': False}, lambda facts:
                     not facts.bits & {EVENT_IDX, INDIRECT_DESC, VERSION_1}),
    'packed': ({'packed': True}, lambda facts: RING_PACKED in facts.bits),
    'packed, bare': ({'packed': True, 'event_idx': False,
                      'indirect_desc': False}, lambda facts:
                     RING_PACKED in facts.bits
                     and not facts.bits & {EVENT_IDX, INDIRECT_DESC}),
    'two CPUs': ({'smp': 2, 'deflate_on_oom': True}, lambda facts:
                 facts.cpus == 2 and DEFLATE_ON_OOM in facts.bits),
    'small': ({'mem': '256M'}, lambda facts: True),
    'shared memory': ({'mem_backend':
                       'memory-backend-memfd,share=on,prealloc=on'},
                      lambda facts: True),
    'mmio': ({'machine': 'microvm'}, lambda facts:
             facts.bus_driver == 'virtio-mmio' and VERSION_1 in facts.bits),
    'mmio, legacy': ({'machine': 'microvm', 'extra': (
        '-global', 'virtio-mmio.force-legacy=on')}, lambda facts:
        facts.bus_driver == 'virtio-mmio' and VERSION_1 not in facts.bits),
}

NEW_VARIANTS = {
    'a vector a queue': ({'vectors': 8}, lambda facts:
                         facts.has_msi() and len(facts.irqs) > 2),
    'no vectors': ({'vectors': 0}, lambda facts: not facts.has_msi()),
    'two vectors': ({'vectors': 2}, lambda facts:
                    facts.has_msi() and len(facts.irqs) == 2),
    'packed': ({'packed': True}, lambda facts: RING_PACKED in facts.bits),
}


def check_stats(running):
    """Statistics of this guest arrive: unasked (N20) and when polled."""
    wait_for(running.stats, lambda stats: stats['last-update'], 10,
             'the first statistics')
    running.stats_interval(1)
    stats = running.wait_stats()
    assert 0 < stats['stat-free-memory'] < stats['stat-total-memory'] \
        <= running.size
    running.stats_interval(0)


def check_balloon(running):
    """All that a balloon is for, once.

    The memory is resident from the start (see test_sizing), so that RSS is
    RAM - held to the byte as long as the guest took nothing back.
    """
    target = running.size - 128 * MIB
    running.balloon_to(target)
    assert running.rss() == target
    check_stats(running)
    running.unload()
    assert running.actual() == running.size
    running.load(running.config.driver)
    running.wait_actual(target, REINFLATE)
    assert running.rss() <= target
    running.balloon_to(running.size)


@pytest.mark.parametrize('name', VARIANTS)
def test_variants_of_the_device(name, driver):
    """N27: transports, rings, interrupts and sizes of guests."""
    options, in_force = VARIANTS[name]
    options = {'mem': '512M', 'mem_backend': RESIDENT, **options}
    with boot(driver=driver, **options) as running:
        facts = Facts(running)
        assert in_force(facts), vars(facts)
        check_balloon(running)


@pytest.mark.new_qemu
@pytest.mark.parametrize('name', NEW_VARIANTS)
def test_variants_of_the_newer_device(name, driver):
    """N27: the newer QEMU has MSI-X: vectors for each queue or for all."""
    options, in_force = NEW_VARIANTS[name]
    with boot('512M', qemu='new', mem_backend=RESIDENT, driver=driver,
              **options) as running:
        facts = Facts(running)
        assert in_force(facts), vars(facts)
        check_balloon(running)


FEATURES = ('deflate_on_oom', 'free_page_hint', 'free_page_reporting',
            'page_poison')


def check_status(running, features):
    """The driver hints and reports if the device offers that."""
    status = running.status()
    assert ('hinting' in status) == features['free_page_hint']
    assert status['reporting'] == (
        'on' if features['free_page_reporting'] else 'no')


def test_queues_match_whatever_the_device_offers(driver):
    """3.2: QEMU numbers queues by what it offers, not by what we take.

    All 16 combinations, in turn on one port. A driver that got the numbers
    wrong would inflate nothing or have no statistics. That it has the queues
    of hints and reports is looked up; test_reporting.py puts them to use.
    """
    with boot('512M', hotplug=True, driver=driver) as running:
        running.hotplug_del()
        for values in itertools.product((False, True), repeat=4):
            features = dict(zip(FEATURES, values))
            running.hotplug_add(**features)
            bits = Facts(running).bits
            print(f'{features}: {sorted(bits)}')
            assert (DEFLATE_ON_OOM in bits) == features['deflate_on_oom']
            if driver == 'ours':
                check_status(running, features)
            running.balloon_to(384 * MIB)
            check_stats(running)
            running.balloon_to(running.size)
            running.hotplug_del()
