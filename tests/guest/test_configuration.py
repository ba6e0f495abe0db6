# SPDX-License-Identifier: GPL-2.0-only
"""What the driver reads and writes in the device's configuration, and when.

QEMU's trace shows each access of the modern interface: its region has a page
of its own, so that an address ends in the offset.
"""

import collections
import re
import subprocess

import pytest

from guest import MIB, Config, boot, wait_for
from test_hinting import hinted
from test_sizing import DEFLATE, INFLATE, device_order, held_after

TRACED = ('memory_region_ops_*', 'virtio_set_status')
ACCESS = re.compile(
    r"memory_region_ops_(read|write) .* addr (0x\w+) value (0x\w+) size (\d+) "
    r"name 'virtio-pci-(device|notify|common)-virtio-balloon'")
NUM_PAGES, ACTUAL, HINT_ID, POISON = range(0, 16, 4)
STATUS = 20          # offset of the device status in the common configuration
DRIVER_OK = 4

# One access; what: 'read', 'write', 'notify' or 'status'
Access = collections.namedtuple('Access', 'what offset value size')


def accesses(running):
    """Accesses to the balloon since the mark, in order."""
    seen = []
    for line in running.trace.text().splitlines():
        match = ACCESS.match(line)
        if not match:
            continue
        what, address, value, size, region = match.groups()
        access = Access(what, int(address, 16) & 0xfff, int(value, 16),
                        int(size))
        if region == 'device':
            seen.append(access)
        elif region == 'notify' and what == 'write':
            seen.append(access._replace(what='notify'))
        elif (what, access.offset) == ('write', STATUS):
            seen.append(access._replace(what='status'))
    return seen


def fields(seen, *whats):
    """Offsets of the fields that were accessed in one of these ways."""
    return {access.offset for access in seen if access.what in whats}


def exercise(running):
    """Use the balloon, and take it down in each way there is."""
    running.trace.mark()
    running.load(running.config.driver)
    running.balloon_to(running.size - 64 * MIB)
    running.unbind()
    running.bind()
    running.wait_actual(running.size - 64 * MIB)
    running.sh('echo devices >/sys/power/pm_test; echo mem >/sys/power/state')
    running.balloon_to(running.size)
    running.unload()
    return accesses(running)


@pytest.fixture(name='small')
def device_with_eight_bytes(driver):
    """A guest whose device has the first two fields only, no driver yet."""
    with boot('512M', driver=None, page_poison=False, trace=TRACED,
              append='suspend.pm_test_delay=0') as running:
        running.config.driver = driver
        yield running


def test_fields_that_are_not_there_are_not_touched(small):
    """B4, B17, G8, G10: only num_pages is read, only `actual` is written,
    whole and aligned; what the driver wrote is never read back (D5).
    """
    seen = exercise(small)
    assert fields(seen, 'read') == {NUM_PAGES}
    assert fields(seen, 'write') == {ACTUAL}
    assert {access.size for access in seen
            if access.what in ('read', 'write')} == {4}


def without_ioeventfd():
    """Properties of a balloon that is not notified past QEMU's trace.

    QEMU before 10.0 never does that, and does not know the property.
    """
    known = subprocess.run(
        [Config().qemu_path, '-device', 'virtio-balloon-pci,help'],
        check=True, text=True, stdout=subprocess.PIPE).stdout
    return {'ioeventfd': False} if 'ioeventfd=' in known else {}


@pytest.mark.parametrize('append, value', [
    ('page_poison=1', 0xaaaaaaaa), ('init_on_free=1', 0)])
def test_the_poison_value_is_told_before_each_driver_ok(driver, append, value):
    """B42, B43, B6: after probing, binding and resuming, once, and not while
    DRIVER_OK is set. The one id that the host wrote is read only (B4).
    """
    with boot('512M', driver=None, free_page_hint=True, trace=TRACED,
              props=without_ioeventfd(),
              append=f'{append} suspend.pm_test_delay=0') as running:
        running.config.driver = driver
        seen = exercise(running)
    assert fields(seen, 'write') == {ACTUAL, POISON}
    assert fields(seen, 'read') <= {NUM_PAGES, HINT_ID}
    assert 'notify' in {access.what for access in seen}
    ready, told, starts = False, 0, 0
    for access in seen:
        if access.what == 'status':
            starts += access.value & DRIVER_OK and not ready
            assert not access.value & DRIVER_OK or ready or told == 1
            ready = bool(access.value & DRIVER_OK)
            told = told if access.value else 0
        elif access.what == 'notify':
            assert ready, 'a queue was notified too early'
        elif (access.what, access.offset) == ('write', POISON):
            assert not ready and access.value == value
            told += 1
    assert starts == 3


def test_no_queue_is_used_before_driver_ok(driver):
    """B6, B47, G11: with all queues there are, while memory is reported."""
    with boot('512M', driver=None, free_page_hint=True, trace=True,
              free_page_reporting=True) as running:
        running.trace.mark()
        running.load(driver)
        running.balloon_to(384 * MIB)
        running.sh('hog 200')
        wait_for(lambda: running.trace.view().kicks,
                 lambda kicks: {INFLATE, 4} <= set(kicks), 30, 'a report')
        running.unload()
        running.load(driver)
        running.balloon_to(running.size)
        assert device_order(running.trace) == ['ok', 'ok']


def test_commands_of_hinting_have_four_bytes(driver):
    """B30: for the device to read, in one descriptor; the last one is STOP."""
    path = '/machine/peripheral/balloon0/virtio-backend'
    with boot('512M', driver=driver, free_page_hint=True,
              trace=('virtio_queue_notify', 'virtqueue_pop')) as running:
        def element(index):
            return running.qmp('x-query-virtio-queue-element', path=path,
                               queue=3, index=index)

        with hinted(running):
            last = element(0)['avail']['idx'] - 1
            part, = element(last)['descs']
            assert part['len'] == 4 and 'write' not in part['flags']
            running.qmp('pmemsave', val=part['addr'], size=4,
                        filename=str(running.directory / 'stop'))
            assert (running.directory / 'stop').read_bytes() == bytes(4)
            block, = element(last - 1)['descs']
            assert block['flags'] == ['write'] and block['len'] >= 2 * MIB


def test_a_legacy_device_gets_what_a_modern_one_gets(driver):
    """B5, B29: little-endian fields, whatever is not negotiated.

    Not B20: the kernel writes the fields of a legacy device byte by byte.
    """
    with boot('512M', driver=driver, disable_modern=True, trace=True,
              disable_legacy='off') as running:
        assert 32 not in running.features()
        running.balloon_to(400 * MIB)
        assert len(held_after(running.trace.view())) * 4096 == 112 * MIB
        running.balloon_to(running.size)
        view = running.trace.view()
        assert not held_after(view) and view.pfns(DEFLATE)
        running.stats_interval(1)
        assert running.wait_stats()['stat-total-memory'] > 400 * MIB
