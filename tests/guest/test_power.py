# SPDX-License-Identifier: GPL-2.0-only
"""The balloon across suspend, hibernation, migration and memory hot-unplug.

Before the device loses its state each page goes back to the guest, announced
(B12, B17). Afterwards the balloon takes by itself what the host wants then,
no page is lost, and no program's memory has changed.
"""

import pytest

from guest import (KIB, MIB, PAGE, RESTORE_PMBASE, SAVE_PMBASE, boot,
                   environment, wait_for)
from test_lifecycle import SPARE, end_hogs
from test_sizing import (DEFLATE, INFLATE, free, held_after, seeded,
                         wait_counted)

TAKEN = 256 * MIB     # what the balloon takes from the guests, 1 GiB each

# For what a busy machine does slowly: writing or reading an image, for one.
PATIENCE = 120

# Let the answer of the agent get through before the guest sleeps.
AFTER_ANSWER = 'sleep 0.5'

# What the guest logs when it is awake again.
AWAKE = {'mem': 'PM: suspend exit',
         'disk': 'PM: hibernation: hibernation exit'}


def go_to_sleep(running, state, amid):
    """Let the guest sleep with TAKEN in the balloon, or AMID that; a job.

    Amid: as soon as MemTotal falls, which the guest watches for itself.
    """
    sleep = f'echo {state} >/sys/power/state'
    if not amid:
        running.balloon_to(running.size - TAKEN)
        wait_counted(running, TAKEN)
        return running.spawn(f'{AFTER_ANSWER}; {sleep}')
    total = running.meminfo()['MemTotal']
    job = running.spawn(f'while grep -q "MemTotal: *{total} kB"'
                        f' /proc/meminfo; do :; done; {sleep}')
    running.balloon(running.size - TAKEN)
    return job


def sleep(running, state, amid, asleep=lambda: None):
    """go_to_sleep(), call ASLEEP and wait; the exit status of the job.

    No command may be sent until the guest says that it is awake: it would
    get lost with the device that the agent listens to.
    """
    def count():
        return running.console().count(AWAKE[state])

    old = count()
    job = go_to_sleep(running, state, amid)
    asleep()
    wait_for(count, lambda now: now > old, PATIENCE, 'the guest to wake up')
    return job.wait(PATIENCE)


def check_given_back(running, state, amid):
    """All of TAKEN came back; AMID, what there was of that.

    Before a hibernation there may be all of it: the driver goes on while mm
    makes room for the image.
    """
    pages = len(running.trace.view().pfns(DEFLATE))
    print(f'pages that were given back: {pages}')
    if not amid:
        assert pages == TAKEN // PAGE
    elif state == 'disk':
        assert 0 < pages <= TAKEN // PAGE
    else:
        assert 0 < pages < TAKEN // PAGE


def check_size(running, taken, total):
    """The host has TAKEN, knows that, and MemTotal (TOTAL KiB) is less it."""
    running.wait_actual(running.size - taken)
    wait_counted(running, taken)
    assert running.actual() == running.size - taken
    assert running.meminfo()['MemTotal'] == total - taken // KIB
    assert len(held_after(running.trace.view())) == taken // PAGE


def check_nothing_lost(running, total, before):
    """Deflating to nothing leaves MemTotal and free memory as BEFORE."""
    running.balloon_to(running.size)
    wait_counted(running, 0)
    assert not held_after(running.trace.view())
    assert running.meminfo()['MemTotal'] == total
    # A kernel with all checks on has more to remember.
    spare = 4 * SPARE if 'debug' in environment()['KREL'] else SPARE
    assert free(running) >= before - spare


# pm_test: as much of a suspend as is asked for, and back

@pytest.fixture(scope='module')
def _dozer(request):
    with boot(trace=True, append='suspend.pm_test_delay=0',
              driver=request.config.getoption('--driver')) as running:
        yield running


@pytest.fixture
def dozer(_dozer):
    """A 1 GiB guest with QEMU's trace for tests of suspending, shared."""
    _dozer.balloon_to(_dozer.size)
    wait_counted(_dozer, 0)
    _dozer.trace.mark()
    yield _dozer
    _dozer.sh('echo none >/sys/power/pm_test')
    _dozer.judge()


# Of 'disk' only the level that goes furthest: the kernel waits 5 s at each.
LEVELS = [(state, level, amid)
          for state, level in (('mem', 'freezer'), ('mem', 'devices'),
                               ('mem', 'platform'), ('mem', 'core'),
                               ('disk', 'core'))
          for amid in (False, True)]
# Of the others some kernels' virtio_console does not come back, which is how
# these tests talk to the guest: 7.3's, for one, with any balloon driver.
LEVELS[0] = pytest.param(*LEVELS[0], marks=pytest.mark.core)


@pytest.mark.parametrize('state, level, amid', LEVELS)
def test_a_rehearsed_suspend_changes_nothing(dozer, state, level, amid):
    """N06, B12: at size and amid an inflate; the host asks for nothing.

    A frozen driver keeps its pages. All other levels suspend the device: it
    is reset, and comes back up, with no page.
    """
    total, before = dozer.meminfo()['MemTotal'], free(dozer)
    dozer.sh(f'echo {level} >/sys/power/pm_test')
    assert sleep(dozer, state, amid) == 0
    check_size(dozer, TAKEN, total)
    view = dozer.trace.view()
    if level == 'freezer':
        assert not view.statuses and not view.pfns(DEFLATE)
    else:
        assert 0 in view.statuses and view.statuses[-1] & 4    # DRIVER_OK
        assert 0 in view.config_writes
        check_given_back(dozer, state, amid)
    check_nothing_lost(dozer, total, before)


@pytest.mark.parametrize('amid', [False, True])
def test_a_hibernation_that_fails_changes_nothing(dozer, amid):
    """N06: there is no swap space. The image was made before that shows.

    So the device was suspended, came back so that the image could be
    written, and just goes on.
    """
    total, before = dozer.meminfo()['MemTotal'], free(dozer)
    assert sleep(dozer, 'disk', amid) != 0
    assert 'Image created' in dozer.dmesg()
    check_size(dozer, TAKEN, total)
    check_given_back(dozer, 'disk', amid)
    check_nothing_lost(dozer, total, before)


def test_a_guest_that_is_squeezed_can_hibernate(driver):
    """Its image needs room; the balloon gives it, and does not grow again
    before all is over. It was just growing.
    """
    with boot('512M', driver=driver, trace=True,
              append='suspend.pm_test_delay=0') as running:
        hog = running.spawn('hog -r 96 -1')
        hog.wait_output('ready')
        total = running.meminfo()['MemTotal']
        running.sh('echo core >/sys/power/pm_test')
        assert sleep(running, 'disk', amid=True) == 0
        check_size(running, TAKEN, total)
        end_hogs(running, hog)


# S3

@pytest.fixture(scope='module')
def _sleeper(request):
    with boot(trace=True, suspend=True,
              driver=request.config.getoption('--driver')) as running:
        running.sh(SAVE_PMBASE)
        yield running


@pytest.fixture
def sleeper(_sleeper):
    """A 1 GiB guest that QEMU can wake up, with QEMU's trace, shared."""
    _sleeper.sh(RESTORE_PMBASE)
    _sleeper.balloon_to(_sleeper.size)
    wait_counted(_sleeper, 0)
    _sleeper.trace.mark()
    yield _sleeper
    _sleeper.judge()


# What the host wants to have when the guest wakes up; before it was TAKEN.
WISHES = {'same': TAKEN, 'more': TAKEN + 64 * MIB + 3 * PAGE,
          'less': TAKEN - 64 * MIB - 3 * PAGE, 'nothing': 0}


@pytest.mark.parametrize('amid, wish', [
    (False, 'same'),
    pytest.param(False, 'more', marks=pytest.mark.thorough),
    pytest.param(False, 'nothing', marks=pytest.mark.thorough),
    pytest.param(True, 'same', marks=pytest.mark.thorough), (True, 'less')])
def test_suspend_to_ram(sleeper, amid, wish):
    """N06, B12: the balloon is empty while the guest sleeps.

    When it wakes up the host gets what it wants then, though nobody could
    tell the driver of a change (QEMU keeps num_pages over the wake-up).
    """
    total, before = sleeper.meminfo()['MemTotal'], free(sleeper)
    hog = sleeper.spawn('hog -r 64 -1')
    hog.wait_output('ready')
    since = len(sleeper.events)

    def asleep():
        sleeper.wait_event('SUSPEND', since, PATIENCE)
        check_given_back(sleeper, 'mem', amid)
        assert not held_after(sleeper.trace.view())
        assert sleeper.actual() == sleeper.size
        sleeper.balloon(sleeper.size - WISHES[wish])
        sleeper.qmp('system_wakeup')

    assert sleep(sleeper, 'mem', amid, asleep) == 0
    check_size(sleeper, WISHES[wish], total)
    end_hogs(sleeper, hog)
    check_nothing_lost(sleeper, total, before)


# S4

def with_swap(directory):
    """Options of boot() for guests that share 512 MiB of swap space."""
    disk = directory / 'disk'
    if not disk.exists():
        with open(disk, 'wb') as file:
            file.truncate(512 * MIB)
    return {'modules': ('virtio_blk',),
            'extra': ('-device', 'virtio-blk-pci,drive=disk', '-drive',
                      f'file={disk},format=raw,if=none,id=disk,cache=unsafe')}


def use_swap(running):
    """Let it have the swap space that nobody used yet."""
    running.sh('mkswap /dev/vda && swapon /dev/vda')


def wait_hibernated(running):
    """It powers itself off."""
    running.ended = True
    assert running.process.wait(PATIENCE) == 0


def go_on_as(running):
    """A guest that was just booted becomes the one that hibernated."""
    number = running.sh('cat /sys/block/vda/dev').strip()
    running.spawn(f'{AFTER_ANSWER}; echo {number} >/sys/power/resume')
    wait_for(running.console, lambda log: AWAKE['disk'] in log, PATIENCE,
             'the image to run')


@pytest.mark.parametrize('amid, wish', [
    pytest.param(False, 'same', marks=pytest.mark.thorough),
    (True, 'nothing')])
def test_hibernation(amid, wish, driver, tmp_path):
    """N06, B12: the guest goes on in another QEMU, with an empty balloon.

    So the pages came back before the image was made, once: not even while
    it is written does the driver inflate. The new host gets what it wants:
    what the old one had, or nothing although the guest inflated.
    """
    wanted = {'same': TAKEN, 'nothing': 0}[wish]
    options = {'trace': True, **with_swap(tmp_path)}
    with boot(driver=driver, **options) as first:
        use_swap(first)
        total, before = first.meminfo()['MemTotal'], free(first)
        hog = first.spawn('hog -r 96 -1')
        hog.wait_output('ready')
        first.trace.mark()
        go_to_sleep(first, 'disk', amid)
        wait_hibernated(first)
        assert not held_after(first.trace.view())
        check_given_back(first, 'disk', amid)
    with boot(driver=None, **options) as second:
        second.balloon(second.size - wanted)
        go_on_as(second)
        check_size(second, wanted, total)
        assert not second.trace.view().pfns(DEFLATE)
        hog.guest = second
        end_hogs(second, hog)
        check_nothing_lost(second, total, before)


# Live migration

def migrate(source, target, while_active, at_rest):
    """Guest.migrate() that calls one function while the guest still runs.

    It does so again and again; the other one once, when the guest is stopped
    and its devices are not yet saved.
    """
    source.qmp('migrate-set-capabilities', capabilities=[
        {'capability': 'pause-before-switchover', 'state': True}])
    uri = f'unix:{source.directory}/migration'
    target.qmp('migrate-incoming', uri=uri)
    source.qmp('migrate', uri=uri)

    def status():
        while_active()
        return source.qmp('query-migrate')['status']

    wait_for(status, lambda now: now == 'pre-switchover', PATIENCE,
             'the guest to stop', 0.02)
    at_rest()
    source.qmp('migrate-continue', state='pre-switchover')
    wait_for(lambda: source.qmp('query-migrate')['status'],
             lambda now: now == 'completed', PATIENCE, 'migration')
    wait_for(target.running, bool, PATIENCE, 'the migrated guest to run')


# QEMU 7.2 without KVM breaks a guest that is migrated while its CPU is busy,
# with any driver.
@pytest.mark.new_qemu
@pytest.mark.parametrize('amid', [
    pytest.param(False, marks=pytest.mark.thorough), True])
def test_live_migration(amid, driver):
    """N25: the driver notices nothing, and goes on where it was.

    Amid: the host changes its wish all the time, and once more when the
    guest is stopped. Statistics come to the new host, too.
    """
    rng = seeded()
    options = {'driver': driver, 'trace': True, 'qemu': 'new',
               'ioeventfd': False}
    with boot(**options) as source, \
            boot(incoming=True, **options) as target:
        total, before = source.meminfo()['MemTotal'], free(source)
        hog = source.spawn('hog -r 128 -1')
        hog.wait_output('ready')
        source.stats_interval(1)
        source.balloon_to(source.size - TAKEN)
        wait_counted(source, TAKEN)
        taken = TAKEN

        def wish():
            nonlocal taken
            if amid:
                taken = rng.randrange(64 * MIB, TAKEN, PAGE)
                source.balloon(source.size - taken)

        migrate(source, target, wish, wish)
        held = held_after(source.trace.view())
        target.wait_actual(target.size - taken)
        wait_counted(target, taken)
        assert target.actual() == target.size - taken
        assert target.meminfo()['MemTotal'] == total - taken // KIB
        moved = target.trace.view().pfns()
        assert bool(moved) == amid
        assert len(held_after(target.trace.view(), held)) == taken // PAGE
        target.stats_interval(1)
        assert target.wait_stats(2)['stat-total-memory'] == \
            target.meminfo()['MemTotal'] * KIB
        hog.guest = target
        end_hogs(target, hog)
        target.balloon_to(target.size - 2 * TAKEN // 3 // PAGE * PAGE)
        target.balloon_to(target.size)
        wait_counted(target, 0)
        assert not held_after(target.trace.view(), held)
        assert target.meminfo()['MemTotal'] == total
        assert free(target) >= before - SPARE


# Memory hot-unplug

DIMM = 256 * MIB
FIRST = 128 * MIB    # what is in the balloon before there is a DIMM


def plug(running):
    """Plug a DIMM, and wait until the guest uses it; its first PFN."""
    total = running.meminfo()['MemTotal']
    running.qmp('object-add', qom_type='memory-backend-ram', id='memory1',
                size=DIMM)
    running.qmp('device_add', driver='pc-dimm', id='dimm1', memdev='memory1')
    wait_for(lambda: running.meminfo()['MemTotal'],
             lambda now: now == total + DIMM // KIB, 60, 'memory of the DIMM')
    return running.qmp('query-memory-devices')[0]['data']['addr'] // PAGE


@pytest.mark.parametrize('amid', [
    pytest.param(False, marks=pytest.mark.thorough), True])
def test_memory_is_unplugged(amid, driver):
    """N10: a DIMM comes, with balloon pages in it, and goes.

    Neither changes what is held, and the host need not ask anew. mm moves
    the pages, as it cannot offline the DIMM otherwise; amid: those as well
    that are in flight when it starts.
    """
    with boot('1G,slots=1,maxmem=2G', driver=driver, trace=True,
              append='memhp_default_state=online_movable') \
            as running:
        total, before = running.meminfo()['MemTotal'], free(running)
        running.balloon_to(running.size - FIRST)
        dimm = plug(running)
        assert running.wait_settled() == running.size + DIMM - FIRST
        assert len(running.trace.view().pfns()) == FIRST // PAGE
        running.balloon(running.size + DIMM - TAKEN)
        if not amid:
            running.wait_actual(running.size + DIMM - TAKEN)
            wait_counted(running, TAKEN)
        since = len(running.events)
        running.qmp('device_del', id='dimm1')
        running.wait_event('DEVICE_DELETED', since, PATIENCE, device='dimm1')
        check_size(running, TAKEN, total)
        view = running.trace.view()
        assert max(held_after(view)) < dimm
        moved = sum(pfn >= dimm for pfn in view.pfns(DEFLATE))
        print(f'pages that left the DIMM: {moved}')
        assert moved > (0 if amid else (TAKEN - FIRST) // PAGE // 2)
        assert moved == sum(pfn >= dimm for pfn in view.pfns(INFLATE))
        assert running.vmstat()['balloon_migrate'] >= moved
        check_nothing_lost(running, total, before)
