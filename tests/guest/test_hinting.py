# SPDX-License-Identifier: GPL-2.0-only
"""Free page hinting: what is free need not be migrated.

QEMU asks for hints during precopy only. A migration that starts SLOW has
hardly sent anything when the guest's hints are complete, so that what is sent
then, FAST, is what hinting left, whatever the speed of the machine. Most of
them go NOWHERE, and the guest goes on afterwards.
"""

import contextlib
import itertools
import re
import time

import pytest

from guest import KIB, MIB, Guest, balloon_modules, boot, wait_for
from test_against_stock import PLAIN, show
from test_lifecycle import SPARE
from test_sizing import free, free_blocks, guest_trace, seeded

__all__ = ['show']    # a fixture

NOWHERE = 'exec:cat >/dev/null'
SLOW, FAST = 1 * MIB, 1 << 36    # bytes a second
HINT = 3                         # the free page queue, with a statsq before it
TRACED = ('virtio_queue_notify', 'virtqueue_pop')

# What the guest's own doing may change of its free memory meanwhile.
NOISE = 4 * MIB


def boot_hinting(mem, driver, **options):
    """Boot a guest that QEMU can ask for hints."""
    return boot(mem, driver=driver, free_page_hint=True,
                **{'trace': TRACED, **PLAIN, **options})


def buffers(running):
    """What QEMU took off the free page queue since the mark, in order.

    'command' for an output buffer, 'block' for an input buffer.
    """
    running.trace.view()    # finds out about the queues
    queues = {vq for vq, (vdev, number) in running.trace.vqs.items()
              if number == HINT and vdev != running.trace.console}
    return ['block' if inputs == '1' else 'command' for vq, inputs in
            re.findall(r'virtqueue_pop vq (\S+) elem \S+ in_num (\d)',
                       running.trace.text()) if vq in queues]


def rounds(running):
    """Blocks in each of the rounds of hinting since the mark.

    Each must be a command, blocks, a command (B31, B32, B35); the last round
    may still be going on, and is left out then.
    """
    groups = [(kind, len(list(group)))
              for kind, group in itertools.groupby(buffers(running))]
    counts, opened = [], False
    for kind, number in groups:
        if kind == 'block':
            assert opened, 'a block before any command'
            counts[-1] += number
            continue
        for _ in range(number):
            opened = not opened
            counts += [0] if opened else []
    return counts[:-1] if opened else counts


def wait_round(running, timeout=60):
    """Wait until the guest has ended a round; blocks of the last one."""
    return wait_for(lambda: rounds(running), bool, timeout,
                    'a round of hinting')[-1]


def migration(running):
    """What QEMU says of the last migration."""
    return running.qmp('query-migrate')


def wait_migration(running, status, timeout=120):
    """Wait for the end of a migration."""
    return wait_for(lambda: migration(running),
                    lambda now: now['status'] == status, timeout,
                    f'migration to be {status}')


def start(running, uri=NOWHERE, speed=SLOW):
    """Start to migrate."""
    running.trace.mark()
    running.qmp('migrate-set-parameters', max_bandwidth=speed)
    running.qmp('migrate', uri=uri)


def finish(running):
    """Let it come to its end; bytes of RAM that were sent."""
    running.qmp('migrate-set-parameters', max_bandwidth=FAST)
    return wait_migration(running, 'completed')['ram']['transferred']


def cancel(running):
    """Let it come to nothing."""
    running.qmp('migrate_cancel')
    wait_migration(running, 'cancelled')


def start_and_hint(running):
    """Start to migrate, and wait for all of the guest's hints; blocks."""
    start(running)
    return wait_round(running)


@contextlib.contextmanager
def hinted(running):
    """A migration that goes on, with all the guest's hints given."""
    yield start_and_hint(running)
    if migration(running)['status'] == 'active':
        finish(running)
        running.cont()


def kib(text):
    """KiB in '123 kB'."""
    return int(text.split()[0])


def kept(running):
    """Bytes that the host knows to be free and the driver keeps."""
    return kib(running.status()['hinted']) * KIB


def wait_no_hints(running):
    """Wait until the driver has let go of all blocks, and of the round."""
    if running.config.driver == 'ours':
        wait_for(running.status, lambda now: (now['hinted'], now['hinting'],
                                              now['hint_id'])
                 == ('0 kB', '0 kB', '0'), 30, 'no block to be kept')


def wait_returned(running, before):
    """Wait until the guest has BEFORE bytes free again (B39)."""
    wait_no_hints(running)
    wait_for(lambda: free(running), lambda now: now >= before - NOISE, 30,
             f'{before} bytes to be free')


def blocks_by_type(running):
    """Pageblocks of each type: name -> number, all zones together."""
    text = running.sh('cat /proc/pagetypeinfo')
    head, *lines = text[text.index('Number of blocks type'):].splitlines()
    names = head.split()[4:]
    return {name: sum(int(line.split()[4 + index]) for line in lines
                      if line.startswith('Node'))
            for index, name in enumerate(names)}


# What a migration costs, and what it leaves behind

def measure(driver, append='init_on_alloc=0'):
    """Figures of migrating 2 GiB, 1.5 of them used once and free again."""
    with boot_hinting('2G', driver, append=append) as running:
        assert 3 in running.features()
        running.sh('hog -r 1500', timeout=200)
        figures = {'free before': free(running),
                   'available before': running.available(),
                   'types before': blocks_by_type(running)}
        if driver == 'ours':
            figures['floor'] = kib(running.status()['floor'])
        figures['blocks'] = start_and_hint(running)
        figures['available amid'] = running.available()
        figures['free amid'] = free(running)
        figures['sent'] = finish(running)
        running.cont()
        wait_returned(running, figures['free before'])
        figures['free after'] = free(running)
        figures['types after'] = blocks_by_type(running)
        running.unload()
        start(running, speed=FAST)
        figures['sent without'] = finish(running)
        running.cont()
    return figures


@pytest.fixture(scope='module')
def figures(request, show):
    """measure(), of the driver to test."""
    return measured(request.config.getoption('--driver'), show)


def measured(driver, show):
    """measure(), shown."""
    values = measure(driver)
    show(f'{driver}:\n' + '\n'.join(f'  {name:18}{value}' for name, value
                                    in values.items()))
    return values


def test_what_is_free_is_hardly_sent(figures):
    """B33: a tenth at most of what is sent without the driver's hints."""
    assert figures['sent without'] > 1500 * MIB
    assert figures['sent'] <= figures['sent without'] / 10


def test_a_migration_costs_no_memory(figures):
    """B39, N24: what was hinted is free again."""
    assert figures['free after'] >= figures['free before'] - NOISE


def test_a_migration_changes_no_type_of_a_pageblock(figures):
    """Movable memory that becomes unmovable would be lost for huge pages."""
    assert figures['types after']['Movable'] \
        >= figures['types before']['Movable'] - 2


def test_hinting_leaves_the_guest_its_reserve(figures):
    """With everything hinted, as much is available as the floor says."""
    assert figures['available amid'] >= 0.95 * figures['floor']
    # And that there is no more shows that everything was hinted.
    assert figures['available amid'] <= 1.5 * figures['floor'] + 16 * KIB


def test_the_kernels_driver_spoils_the_memory_it_hints(show):
    """The contrast: it leaves nothing to the guest meanwhile, and little of
    its movable memory afterwards.
    """
    if 'stock' not in balloon_modules():
        pytest.skip('this kernel has no balloon module')
    figures = measured('stock', show)
    assert figures['sent'] <= figures['sent without'] / 5
    assert figures['available amid'] < 16 * KIB
    assert figures['types after']['Movable'] \
        < figures['types before']['Movable'] / 4


# The order of things

@pytest.fixture(scope='module')
def _plain(request):
    with boot_hinting('1G', request.config.getoption('--driver'),
                      smp=2) as running:
        running.touch(700 * MIB)
        yield running


@pytest.fixture
def plain(_plain):
    """A 1 GiB guest with a balloon that hints, shared by the tests."""
    _plain.balloon_to(_plain.size)
    wait_no_hints(_plain)
    yield _plain
    if migration(_plain).get('status') == 'active':
        cancel(_plain)
    _plain.balloon_to(_plain.size)
    _plain.judge()


@pytest.mark.core
def test_a_round_is_an_id_then_blocks_then_stop(plain):
    """B31, B32, B35: in the guest's trace and, as far as it shows, QEMU's.

    No page is in two blocks, none is smaller than 2 MiB, and the large ones
    come first.
    """
    before = plain.status()
    with guest_trace(plain) as events, hinted(plain) as blocks:
        seen = [(event, {key: int(value, 0) for key, value in fields.items()})
                for event, fields, _ in events() if event.startswith('hint')]
        status = wait_for(plain.status, lambda now: now['hinting'] == '0 kB',
                          10, 'the host to be done')
        (first, start_of), *middle, (last, end_of) = seen
        assert (first, last) == ('hint_cmd', 'hint_cmd')
        assert start_of['id'] >= 2 and end_of['id'] == 0
        assert {event for event, _ in middle} == {'hint'}
        assert len(middle) == blocks > 100
        sizes = [fields['pages'] for _, fields in middle]
        assert sizes == sorted(sizes, reverse=True) and sizes[-1] >= 512
        pages = {pfn for _, fields in middle for pfn in
                 range(fields['pfn'], fields['pfn'] + fields['pages'])}
        assert len(pages) == sum(sizes)
        assert int(status['hint_rounds']) == int(before['hint_rounds']) + 1
        assert kib(status['hinted_total']) - kib(before['hinted_total']) \
            == kib(status['hinted']) == sum(sizes) * 4
        assert kept(plain) >= 600 * MIB


def test_a_cancelled_migration_leaves_nothing_behind(plain):
    """Four times, at random moments and once with all hinted; then a whole
    one works as ever.
    """
    rng = seeded()
    before, types = free(plain), blocks_by_type(plain)
    for number in range(4):
        if number == 1:
            start_and_hint(plain)
        else:
            start(plain)
            wait_for(lambda: buffers(plain), bool, 30, 'hints', 0)
            time.sleep(rng.uniform(0, 0.02))
        cancel(plain)
        wait_returned(plain, before)
        rounds(plain)
    start_and_hint(plain)
    assert finish(plain) < 200 * MIB
    plain.cont()
    wait_returned(plain, before)
    assert blocks_by_type(plain)['Movable'] >= types['Movable'] - 2


def test_no_block_is_lost_however_often_the_host_changes_its_mind(plain):
    """B34: 40 rounds, cut off at any moment, and all blocks come back.

    QEMU's I/O thread does not look at the queue again before it sleeps: a
    block that is given just then waits for the driver to say so once more.
    """
    rng = seeded()
    before = free(plain)
    for _ in range(40):
        start(plain)
        count = rng.choice((0, 1, 20, 50))
        wait_for(lambda: len(buffers(plain)), lambda now, count=count:
                 now > count, 20, 'hints', 0.001)
        cancel(plain)
        wait_returned(plain, before)


def test_a_new_size_is_no_reason_to_stop(plain):
    """QEMU shows STOP while it takes hints, whatever it has to tell."""
    with hinted(plain):
        before = kept(plain)
        plain.balloon_to(plain.size - 16 * MIB)
        plain.sh('sleep 0.2')    # longer than the driver thinks about it
        assert kept(plain) >= before - 64 * MIB > 500 * MIB


def test_sizing_goes_on_amid_a_migration(plain):
    """The host's wish for memory comes before its wish for hints: when both
    begin at once, and when all is hinted. No block is lost.
    """
    before = free(plain)
    plain.balloon(384 * MIB)
    start(plain)
    plain.wait_actual(384 * MIB, 20)
    assert migration(plain)['status'] == 'active'
    plain.balloon_to(plain.size)
    cancel(plain)
    wait_returned(plain, before)

    with hinted(plain):
        for target in (512 * MIB, 768 * MIB, 384 * MIB, plain.size):
            plain.balloon_to(target)
        assert migration(plain)['status'] == 'active'
    wait_returned(plain, before)


def suspend_devices(running):
    """The part of suspending that resets the device."""
    running.sh('echo devices >/sys/power/pm_test; echo mem >/sys/power/state')


LEAVINGS = {
    'module': (Guest.unload,
               lambda running: running.load(running.config.driver)),
    'device': (Guest.unbind, Guest.bind),
    'suspend': (suspend_devices, lambda running: None),
}


@pytest.mark.parametrize('what', LEAVINGS)
def test_the_driver_goes_amid_a_migration(plain, what):
    """With all hinted, and amid a round: all blocks are the guest's again.

    The device forgets the round when it is reset: nothing is hinted until
    the next one, which works.
    """
    go, come = LEAVINGS[what]
    rng = seeded()
    before = free(plain)
    plain.sh('echo 1 >/sys/module/suspend/parameters/pm_test_delay',
             check=False)
    for whole in (True, False):
        start(plain)
        if whole:
            wait_round(plain)
        else:
            time.sleep(rng.uniform(0, 0.2))
        go(plain)
        assert free(plain) >= before - SPARE
        come(plain)
        finish(plain)
        plain.cont()
        wait_returned(plain, before)
    with hinted(plain) as blocks:
        assert blocks > 10
    wait_returned(plain, before)


# A guest that needs its memory itself

@pytest.mark.parametrize('oom', [
    pytest.param(False, marks=pytest.mark.thorough), True])
def test_a_program_gets_the_memory_that_was_hinted(driver, oom):
    """B36, N13: it asks for far more than is free. The driver gives back
    what the host has seen, and nobody is killed for it.
    """
    with boot_hinting('1G', driver, deflate_on_oom=oom) as running:
        before = free(running)
        with hinted(running):
            all_hinted = free(running)
            assert all_hinted < 200 * MIB
            job = running.spawn('hog -r 600 -1')
            job.wait_output('ready', timeout=100)
            if driver == 'ours':
                assert kept(running) < before - 500 * MIB
            assert migration(running)['status'] == 'active'
            running.sh('killall hog')
            job.check_intact()
            running.check_nobody_killed()
        wait_returned(running, before)


@pytest.mark.parametrize('append', [
    'init_on_alloc=0', 'page_poison=1',
    pytest.param('init_on_free=1', marks=pytest.mark.thorough)])
def test_what_is_used_again_is_migrated(driver, append):
    """B37, B38, N24: memory that is hinted, given back and written to amid a
    migration arrives; so does what was never hinted, and the rest is good
    for use.
    """
    options = {'mem': '512M', 'driver': driver, 'append': append}
    with boot_hinting(**options) as source, \
            boot_hinting(**options, incoming=True) as target:
        source.sh('hog -r 350')
        job = source.spawn('hog -r 60 -1')
        job.wait_output('ready')
        before = free(source)
        uri = f'unix:{source.directory}/migration'
        target.qmp('migrate-incoming', uri=uri)
        start(source, uri)
        wait_round(source)
        late = source.spawn('hog -r 200 -1')
        late.wait_output('ready')
        finish(source)
        wait_for(target.running, bool, 30, 'the migrated guest to run')
        job.guest = late.guest = target
        target.sh('killall hog')
        job.check_intact()
        late.check_intact()
        wait_returned(target, before)
        assert target.sh('hog -r 350').startswith('ready')
        target.check_nobody_killed()


def test_memory_that_was_plugged_in_is_hinted(driver):
    """A DIMM that can be pulled out again: nobody who wants memory that
    stays where it is gets any of that. It can be taken offline even while
    its blocks are hinted.
    """
    memory = '/sys/devices/system/memory'
    with boot_hinting('512M,slots=2,maxmem=2G', driver) as running:
        total = running.meminfo()['MemTotal']
        running.sh(f'echo online_movable >{memory}/auto_online_blocks')
        running.qmp('object-add', qom_type='memory-backend-ram', id='dimm',
                    size=512 * MIB)
        running.qmp('device_add', driver='pc-dimm', id='dimm0', memdev='dimm')
        wait_for(lambda: running.meminfo()['MemTotal'],
                 lambda now: now == total + 512 * KIB, 30, 'the DIMM')
        before = free(running)
        with hinted(running):
            assert before - free(running) >= 750 * MIB
            block, = running.sh(f'grep -lx Movable {memory}/memory*/'
                                'valid_zones | tail -n1').split()
            state = block.replace('valid_zones', 'state')
            running.sh(f'timeout 20 sh -c "echo offline >{state}"')
            running.sh(f'echo online_movable >{state}')
        wait_returned(running, before)
        assert running.sh('hog 800').startswith('ready')


def make_holes(running, mib):
    """Leave holes of a page or so, MIB in sum, between pages of a file."""
    running.sh(f'dd if=/dev/zero bs=1M count={mib} | tee /dev/shm/a '
               '>/dev/shm/b; rm /dev/shm/a', timeout=120)


def test_smaller_blocks_can_be_hinted(driver):
    """hint_order, at run time: a fragmented guest has few large blocks."""
    order = '/sys/module/virtio_balloon/parameters/hint_order'
    with boot_hinting('512M', driver, smp=2) as running:
        before = free(running)
        make_holes(running, 120)
        sizes = {}
        for value in (10, 9, 0):
            running.sh(f'echo {value} >{order}')
            with hinted(running):
                sizes[value] = kept(running)
                cancel(running)
        assert sizes[9] >= sizes[10] > 0
        assert sizes[0] >= sizes[9] + 60 * MIB
        running.sh('rm /dev/shm/b')
        wait_returned(running, before)


def test_mm_has_no_reason_to_compact(driver):
    """With less than a tenth of what is free in large blocks mm compacts, and
    the host sends what was moved once more. So some of them stay.
    """
    with boot_hinting('512M', driver, smp=2) as running:
        make_holes(running, 120)
        with hinted(running):
            assert kept(running) > 32 * MIB
            assert free_blocks(running) * 2 * MIB > 0.1 * free(running)
