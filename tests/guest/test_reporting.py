# SPDX-License-Identifier: GPL-2.0-only
"""Free page reporting and page poison: the host gets what is free, unasked.

mm reports blocks of 2 MiB that are free, two seconds after the first of them
became so. QEMU discards them, so that its RSS falls, unless the guest poisons
its pages with something else than zeros: then it only answers.
"""

import itertools
import time

import pytest

from guest import KIB, MIB, PAGE, CommandFailed, boot, fits, wait_for
from test_hinting import TRACED, hinted, kib, wait_returned
from test_lifecycle import SPARE
from test_sizing import free, free_blocks, guest_trace, seeded
from test_transports import check_stats

DEFLATE_ON_OOM, HINT, POISON, REPORTING = 2, 3, 4, 5
REPORT = '/sys/module/virtio_balloon/parameters/report'
# How long free memory may stay with the guest (N23), on a busy machine
SOON = 30


def reported_back(running, before=0):
    """Wait until RSS is BEFORE bytes again, give or take a tenth (N23).

    Or what is not in free blocks of 2 MiB, if that is more. mm does not
    report anything of a zone as small as the first 16 MiB.
    """
    def good(now):
        kept = running.size - free_blocks(running) * 2 * MIB
        return now <= max(before, kept) * 1.1 + 16 * MIB

    wait_for(running.rss, good, SOON, f'an RSS of {before // MIB} MiB', 0.2)
    return running.rss()


def use(running, mib):
    """Write to MIB MiB, read them back, and free them; RSS while used."""
    job = running.spawn(f'hog -r {mib} -1')
    job.wait_output('ready', timeout=100)
    rss = running.rss()
    running.sh('killall hog')
    job.check_intact()
    return rss


def reports(running):
    """How many reports there were."""
    return int(running.status()['reports'])


def stays(running, rss, seconds=6):
    """RSS is the same after SECONDS, as nothing was discarded."""
    time.sleep(seconds)    # mm waits 2 s, and takes its time
    assert running.rss() >= rss - 16 * MIB


@pytest.fixture(scope='module')
def _plain(request):
    with boot('1G', smp=2, driver=request.config.getoption('--driver'),
              free_page_reporting=True) as running:
        yield running


@pytest.fixture
def plain(_plain):
    """A 1 GiB guest that reports, shared by the tests."""
    yield _plain
    _plain.balloon_to(_plain.size)
    _plain.judge()


@pytest.fixture
def switched(plain):
    """The same; it reports in the end, whatever a test did to `report`."""
    yield plain
    plain.sh(f'echo 1 >{REPORT}')


# What is free goes to the host

@pytest.mark.core
def test_what_was_used_comes_back(plain):
    """N23, B48: three quarters of RAM, twice; the counters tell it."""
    before, old = reported_back(plain), plain.status()
    for number in (1, 2):
        assert use(plain, fits(768)) >= before + fits(600) * MIB
        reported_back(plain, before)
        new = plain.status()
        assert kib(new['reported']) - kib(old['reported']) \
            >= number * fits(600) * KIB
        # A report has 32 blocks at most, and a block 4 MiB.
        assert int(new['reports']) - int(old['reports']) >= number * 4
    assert new['reporting'] == 'on'
    assert REPORTING in plain.features()


def test_an_idle_guest_stays_small(plain):
    """B49: nobody touches what was reported, or reports it again."""
    use(plain, 300)
    reported_back(plain)
    plain.sh('sleep 3')    # for the last reports
    rss, count = plain.rss(), reports(plain)
    plain.sh('sleep 8')
    assert plain.rss() <= rss + 16 * MIB
    assert reports(plain) <= count + 2


def test_reporting_can_be_switched_off_and_on(switched):
    """report=0 keeps from the host what is free; report=1 gives it all."""
    before = reported_back(switched)
    switched.sh(f'echo 0 >{REPORT}')
    assert switched.status()['reporting'] == 'off'
    count, rss = reports(switched), use(switched, 600)
    stays(switched, rss)
    assert reports(switched) == count
    switched.sh(f'echo 1 >{REPORT}')
    reported_back(switched, before)
    assert switched.status()['reporting'] == 'on'
    for _ in range(20):
        switched.sh(f'echo 0 >{REPORT}; echo 1 >{REPORT}')
    for bad in ('x', '2', '-1', ''):
        with pytest.raises(CommandFailed):
            switched.sh(f'echo {bad} >{REPORT}')
    assert switched.sh(f'cat {REPORT}') == '1\n'
    use(switched, 600)
    reported_back(switched, before)


def test_a_report_has_a_tracepoint(plain):
    """Blocks of 2 MiB at least (B48), 32 at most; the sums are right."""
    reported_back(plain)
    old = plain.status()
    with guest_trace(plain) as events:
        use(plain, 300)
        reported_back(plain)
        plain.sh('sleep 3')    # for the last reports
        new = plain.status()
        seen = [(int(fields['blocks']), int(fields['pages']), fields['error'])
                for event, fields, _ in events() if event == 'report']
    blocks, pages, errors = zip(*seen)
    assert set(errors) == {'0'} and 1 <= min(blocks) <= max(blocks) <= 32
    assert all(number >= 512 * count for count, number, _ in seen)
    assert len(seen) == int(new['reports']) - int(old['reports'])
    assert sum(pages) * 4 == kib(new['reported']) - kib(old['reported'])


def test_reports_do_not_disturb_sizing(plain):
    """Random targets, a program that writes and verifies, and reports, all
    at once; then the sizes and the free memory are exact.
    """
    rng = seeded()
    before, count = free(plain), reports(plain)
    job = plain.spawn('while hog -r 150; do sleep 0.5; done')
    end = time.monotonic() + 12
    while time.monotonic() < end:
        target = rng.randrange(512 * MIB, plain.size, PAGE)
        plain.balloon(target)
        time.sleep(rng.uniform(0.1, 1.5))
    plain.wait_actual(target)
    assert job.poll() is None, job.output()
    job.kill()
    job.wait()
    assert reports(plain) > count
    plain.balloon_to(plain.size)
    wait_for(lambda: free(plain), lambda now: now >= before - SPARE, 10,
             'all memory to be free')


def test_the_driver_goes_amid_reports(plain):
    """Six times by rmmod and unbind, when the first report was just seen; no
    memory is lost, and it works when the driver is back.
    """
    use(plain, 300)
    reported_back(plain)
    before = free(plain)
    for number in range(6):
        plain.sh('hog 600')
        count = reports(plain)
        wait_for(lambda: reports(plain), lambda now: now > count, 30,
                 'a report', 0)
        if number % 2:
            plain.unload()
            plain.load(plain.config.driver)
        else:
            plain.unbind()
            plain.bind()
    assert free(plain) >= before - SPARE
    use(plain, 600)
    reported_back(plain)


def test_smaller_blocks_can_be_reported(driver):
    """report_order=4: blocks of 64 KiB count; and report=0 waits for a 1."""
    with boot('512M', driver=driver, params='report=0 report_order=4',
              free_page_reporting=True) as running:
        assert running.status()['reporting'] == 'off'
        with guest_trace(running) as events:
            running.sh(f'echo 1 >{REPORT}')
            reported = wait_for(
                lambda: [int(fields['pages']) / int(fields['blocks']) for
                         event, fields, _ in events() if event == 'report'],
                lambda sizes: sizes and min(sizes) < 512, SOON,
                'a report of small blocks')
        assert min(reported) >= 16
        use(running, 350)
        reported_back(running)


# Pages with contents

# kernel command line -> what its free pages hold, None: anything
CONTENTS = {'init_on_alloc=0': None, 'init_on_free=1': 0,
            'page_poison=1': 0xaaaaaaaa}


def check_poison(running, value, offered):
    """That what is negotiated, and done, fits to VALUE of free pages."""
    bits = running.features() & {POISON, REPORTING}
    if value is None:
        assert bits == {REPORTING}
    elif offered:
        assert bits == {POISON, REPORTING}
    else:
        assert not bits
    if running.config.driver == 'ours':
        status = running.status()
        assert status['poison'] == (f'{value:#x}' if POISON in bits else 'no')
        assert (status['reporting'] == 'on') == (REPORTING in bits)
    return REPORTING in bits and not value


@pytest.mark.parametrize('append', [
    append if append == 'page_poison=1' else
    pytest.param(append, marks=pytest.mark.thorough) for append in CONTENTS])
def test_free_pages_keep_what_the_guest_relies_on(driver, append):
    """B2, B3, B41, B45: with and without PAGE_POISON on offer.

    The kernel verifies its poison whenever it hands out a page, and hog what
    it wrote; what the balloon or a report took away has to be right again.
    """
    with boot('512M', driver=driver, append=append, hotplug=True) as running:
        running.hotplug_del()
        for offered in (True, False):
            running.hotplug_add(free_page_reporting=True, page_poison=offered)
            falls = check_poison(running, CONTENTS[append], offered)
            rss = use(running, 350)
            if falls:
                assert reported_back(running) < rss - 250 * MIB
            else:
                stays(running, rss, 5)
            running.balloon_to(256 * MIB)
            assert running.rss() <= 256 * MIB
            running.balloon_to(running.size)
            use(running, 350)
            running.hotplug_del()


# Suspend

def wake_up_and_use(running):
    """Suspend to RAM, which resets the device, and use memory again.

    RSS as long as that is in use.
    """
    use(running, 350)
    running.suspend()
    return use(running, 350)


def test_reports_go_on_after_suspend(driver):
    """S3 resets QEMU's device; mm must not be left without an answer."""
    with boot('512M', driver=driver, suspend=True,
              free_page_reporting=True) as running:
        running.balloon_to(480 * MIB)
        rss = wake_up_and_use(running)
        assert reported_back(running) < rss - 250 * MIB
        running.wait_actual(480 * MIB)
        use(running, 350)
        reported_back(running)


def test_poison_is_told_again_after_suspend(driver):
    """B42: the reset made QEMU forget it. Would it then discard what the
    guest reports, the kernel would find zeros where its poison was.
    """
    with boot('512M', driver=driver, suspend=True, append='page_poison=1',
              free_page_reporting=True) as running:
        assert running.features() >= {POISON, REPORTING}
        rss = wake_up_and_use(running)
        stays(running, rss)
        use(running, 350)


# Everything at once

def check_report(running):
    """What is free goes to the host."""
    rss = use(running, 300)
    assert reported_back(running) < rss - 200 * MIB


def check_hint(running):
    """The host is told what is free when it asks."""
    before = free(running)
    with hinted(running) as blocks:
        assert blocks > 20
    wait_returned(running, before)


def check_all(running):
    """Everything that is negotiated works; the queues it is about."""
    running.balloon_to(384 * MIB)
    check_stats(running)
    running.balloon_to(running.size)
    bits = running.features() & {HINT, REPORTING}
    if REPORTING in bits:
        check_report(running)
    if HINT in bits:
        check_hint(running)
    return bits


def test_each_queue_works_whatever_else_is_there(driver):
    """3.2: the number of a queue depends on what the device offers."""
    with boot('512M', smp=2, hotplug=True, driver=driver,
              trace=TRACED) as running:
        running.hotplug_del()
        for hint, report in itertools.product((False, True), repeat=2):
            running.hotplug_add(free_page_hint=hint,
                                free_page_reporting=report)
            assert check_all(running) == {
                bit for bit, on in ((HINT, hint), (REPORTING, report)) if on}
            running.hotplug_del()


DEVICES = {
    'packed': {'packed': True},
    'legacy': {'disable_modern': True, 'disable_legacy': 'off'},
    'mmio': {'machine': 'microvm'},
}


@pytest.mark.parametrize('name', [
    name if name == 'legacy' else
    pytest.param(name, marks=pytest.mark.thorough) for name in DEVICES])
def test_hinting_and_reporting_on_other_devices(driver, name):
    """N27: rings, interfaces and transports."""
    with boot('512M', driver=driver, free_page_hint=True, trace=TRACED,
              free_page_reporting=True, **DEVICES[name]) as running:
        assert check_all(running) == {HINT, REPORTING}


@pytest.mark.new_qemu
def test_hinting_and_reporting_on_the_newer_qemu(driver):
    """N27: with an interrupt for each queue."""
    with boot('512M', driver=driver, free_page_hint=True, trace=TRACED,
              free_page_reporting=True, qemu='new', vectors=8,
              ioeventfd=False) as running:
        assert check_all(running) == {HINT, REPORTING}


def test_all_that_is_offered_is_accepted(driver):
    """QEMU's own view: every feature but MUST_TELL_HOST, which it has not."""
    with boot('512M', driver=driver, free_page_hint=True, packed=True,
              free_page_reporting=True, deflate_on_oom=True,
              append='init_on_free=1') as running:
        status = running.qmp('x-query-virtio-status', path='/machine/'
                             'peripheral/balloon0/virtio-backend')
        have = running.features()
        offered, accepted = (
            {name.split(':')[0] for name in status[side]['dev-features']}
            for side in ('host-features', 'guest-features'))
        assert len(offered) >= 5 and accepted == offered
        assert have >= {1, DEFLATE_ON_OOM, HINT, POISON, REPORTING}
        if driver == 'ours':
            assert set(running.status()['features'].split()) == {
                'stats', 'deflate-on-oom', 'free-page-hint', 'page-poison',
                'reporting'}
