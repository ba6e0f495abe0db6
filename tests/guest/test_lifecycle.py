# SPDX-License-Identifier: GPL-2.0-only
"""Coming and going: of the driver, of the device and of the guest.

Whatever goes, the host is told about each page that it no longer has (B12),
`actual` says so (B17), and the guest has its memory back.
"""

import re
import time

import pytest

from guest import (KIB, MIB, PAGE, Guest, QmpError, boot, can_use_kvm,
                   wait_for)
from test_sizing import (DEFLATE, INFLATE, device_order, free, held_after,
                         seeded, wait_counted, wait_state)

# What a driver that is loaded for the first time, or a device that is plugged,
# may cost for good: slabs, sysfs and the like.
SPARE = 4 * MIB

# Seconds; an emulated CPU may need more beside others.
REINFLATE = 5 if can_use_kvm() else 30


@pytest.fixture(scope='module')
def _traced(request):
    with boot(trace=True,
              driver=request.config.getoption('--driver')) as running:
        yield running


@pytest.fixture
def traced(_traced):
    """A 1 GiB guest with an empty balloon and QEMU's trace, shared."""
    _traced.balloon_to(_traced.size)
    _traced.trace.mark()
    yield _traced
    _traced.judge()


def remove_function(running):
    """Remove the balloon's PCI function, as far as the guest can tell."""
    name = running.wait_device()
    running.sh(f'echo 1 >/sys/bus/virtio/devices/{name}/../remove')


def rescan(running):
    """Find it again."""
    running.sh('echo 1 >/sys/bus/pci/rescan')


WAYS = {
    'module': (Guest.unload, Guest.load),
    'device': (Guest.unbind, Guest.bind),
    'function': (remove_function, rescan),
}


def start_inflating(running, target):
    """Ask for TARGET, and return while the balloon grows to that."""
    before = running.actual()
    running.balloon(target)
    wait_for(running.actual, lambda now: now < before, 10,
             'the balloon to grow', 0.005)


def amid_an_inflate(running, taken):
    """Whether some, but not all, of TAKEN bytes went to the host.

    With KVM that may be all before anybody sees that it has begun.
    """
    pages = len(running.trace.view().pfns(INFLATE))
    print(f'pages that were inflated: {pages}')
    return 0 < pages and (pages < taken // PAGE or can_use_kvm())


def all_is_back(running, before):
    """The host has no page, knows that, and the guest has BEFORE bytes."""
    view = running.trace.view()
    assert not held_after(view)
    assert view.config_writes[-1:] in ([0], [])
    assert running.actual() == running.size
    assert free(running) >= before - SPARE


# The driver

@pytest.mark.core
@pytest.mark.parametrize('what', [
    pytest.param('module', marks=pytest.mark.pages),
    pytest.param('device', marks=pytest.mark.pages), 'function'])
def test_the_driver_goes_and_comes_at_size(traced, what):
    """N08: it leaves nothing behind, and re-inflates by itself.

    The target is the host's, who did not change it.
    """
    go, come = WAYS[what]
    total = traced.meminfo()['MemTotal']
    before = free(traced)
    target = traced.size - 256 * MIB
    traced.balloon_to(target)
    wait_counted(traced, 256 * MIB)
    go(traced)
    all_is_back(traced, before)
    assert traced.meminfo()['MemTotal'] == total
    assert traced.sh('ls /sys/kernel/debug/virtio_balloon 2>/dev/null',
                     check=False) == ''
    traced.trace.mark()
    come(traced)
    traced.wait_actual(target, REINFLATE)
    assert device_order(traced.trace) == ['ok']
    assert len(held_after(traced.trace.view())) == 256 * MIB // PAGE


def test_drivers_take_turns(traced):
    """A drop-in: ours and the kernel's own one after the other, at size."""
    before, target = free(traced), traced.size - 128 * MIB
    for driver in ('stock', 'ours', 'stock', 'ours'):
        traced.balloon_to(target)
        traced.unload()
        all_is_back(traced, before)
        traced.load(driver)
    traced.wait_actual(target)


def test_the_driver_goes_amid_an_inflate(traced):
    """Twelve times at random moments, by rmmod, unbind and PCI removal.

    Buffers in flight are waited for (B16), and nothing is left anywhere. The
    figures at the end make sure that it was amid an inflate.
    """
    rng = seeded()
    target = traced.size - 512 * MIB
    duration = traced.balloon_to(target)
    traced.balloon_to(traced.size)
    before = free(traced)
    amounts = []
    for go, come in 4 * list(WAYS.values()):
        traced.trace.mark()
        traced.balloon(target)
        time.sleep(rng.uniform(0, duration))
        go(traced)
        all_is_back(traced, before)
        amounts.append(len(traced.trace.view().pfns(INFLATE)))
        traced.balloon(traced.size)
        come(traced)
        traced.wait_actual(traced.size)
    print(f'pages that were inflated: {amounts}')
    assert sum(0 < amount < 512 * MIB // PAGE for amount in amounts) >= 3


def end_hogs(running, hog):
    """Let the hogs verify their memory and end; that it was intact."""
    running.sh('killall hog')
    hog.check_intact()


def test_the_driver_goes_under_memory_pressure(driver):
    """It needs no memory to go, and the program's memory is intact."""
    with boot('512M', driver=driver, trace=True) as running:
        before = free(running)
        running.balloon_to(256 * MIB)
        mib = free(running) // MIB - 72
        hog = running.spawn(f'hog -r {mib} -1')
        hog.wait_output('ready')
        for _ in range(3):
            running.unload()
            assert running.actual() == running.size
            assert not held_after(running.trace.view())
            running.load('ours')
            wait_for(lambda: running.actual() < running.size - 64 * MIB,
                     bool, 30, 'the balloon to grow')
        end_hogs(running, hog)
        running.unload()
        all_is_back(running, before)


def test_the_driver_goes_after_the_guest_was_out_of_memory(driver):
    """Hold-off or not: nothing is left after rmmod, nothing was killed."""
    with boot('512M', driver=driver, trace=True,
              deflate_on_oom=True) as running:
        before = free(running)
        running.balloon_to(192 * MIB)
        hog = running.spawn('hog -n 256 -1')
        hog.wait_output('ready')
        assert int(running.status()['oom']) > 0
        assert running.actual() > 192 * MIB
        running.unload()
        assert not held_after(running.trace.view())
        assert running.actual() == running.size
        end_hogs(running, hog)
        running.check_nobody_killed()
        all_is_back(running, before)
        running.load('ours')
        running.wait_actual(192 * MIB)


# The device

def test_the_device_comes_and_goes(driver):
    """N09: 20 cycles of plugging it, sizing and pulling it out."""
    with boot('512M', driver=driver, hotplug=True) as running:
        running.wait_device()
        running.hotplug_del()
        before = free(running)
        for number in range(20):
            running.hotplug_add(deflate_on_oom=number % 2 == 1)
            running.wait_device()
            running.balloon_to(384 * MIB + number * PAGE)
            running.hotplug_del()
            wait_for(running.devices, lambda names: not names, 10, 'no device')
        assert free(running) >= before - SPARE
        assert running.sh('ls /sys/kernel/debug/virtio_balloon') == ''
        assert running.meminfo()['MemTotal'] * KIB > 400 * MIB


def test_the_device_goes_amid_an_inflate(driver):
    """N09: five times at random moments; all memory returns each time.

    That the status file is being read all the time does no harm.
    """
    rng = seeded()
    with boot(driver=driver, hotplug=True, trace=True) as running:
        running.wait_device()
        before = free(running)
        reader = running.spawn(
            'while :; do cat /sys/kernel/debug/virtio_balloon/*/status; done')
        for _ in range(5):
            running.trace.mark()
            running.balloon(512 * MIB)
            time.sleep(rng.uniform(0, 1.5))
            running.hotplug_del()
            assert not held_after(running.trace.view())
            assert free(running) >= before - SPARE
            running.hotplug_add()
            running.wait_device()
            running.balloon_to(running.size)
        reader.kill('KILL')


def tear_out(running):
    """Pull the device out, without a word to the guest, which never notices.

    QEMU does that when the guest switches the slot off: Power Controller and
    Power Indicator in the Slot Control register of the root port.
    """
    name = running.wait_device()
    running.sh(f"""
        cd -P /sys/bus/virtio/devices/{name}/../..
        [ $(hexdump -s 84 -n 1 -e '1/1 "%d"' config) = 16 ] || exit 9
        printf '\\361\\007' | dd of=config bs=2 seek=54 conv=notrunc
    """)
    with pytest.raises(QmpError, match='No balloon device'):
        running.actual()


@pytest.mark.parametrize('amid, go', [
    (False, Guest.unload), (True, remove_function)])
def test_the_device_is_torn_out(amid, go, driver):
    """D17: what is gone answers nothing, and is not waited for too long.

    The guest has its memory back all the same once the driver goes.
    """
    native = ('-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off')
    with boot(driver=driver, hotplug=True, trace=True,
              extra=native) as running:
        before = free(running)
        running.balloon_to(768 * MIB)
        running.trace.mark()
        if amid:
            start_inflating(running, 384 * MIB)
        tear_out(running)
        assert amid_an_inflate(running, 384 * MIB) == amid
        go(running)
        assert free(running) >= before - SPARE
        assert running.meminfo()['MemTotal'] * KIB > 950 * MIB


@pytest.mark.core
@pytest.mark.kernel('6.16')
@pytest.mark.parametrize('amid', [False, True])
def test_the_user_resets_the_function(amid, driver):
    """All pages come back before, and as many go to the host after.

    Older kernels do not tell the driver.
    """
    with boot(driver=driver, hotplug=True, trace=True) as running:
        name = running.wait_device()
        total = running.meminfo()['MemTotal']
        before, taken = free(running), 384 * MIB
        running.balloon(running.size - taken)
        if amid:
            wait_for(running.actual, lambda now: now < running.size, 10,
                     'the balloon to grow', 0)
        else:
            running.wait_actual(running.size - taken)
        running.sh(f'echo 1 >/sys/bus/virtio/devices/{name}/../reset')
        running.wait_actual(running.size - taken)
        view = running.trace.view()
        assert len(view.pfns(DEFLATE)) == len(view.pfns(INFLATE)) - \
            taken // PAGE > 0
        assert len(held_after(view)) == taken // PAGE
        assert running.meminfo()['MemTotal'] == total - taken // KIB
        running.balloon_to(running.size)
        assert running.meminfo()['MemTotal'] == total
        assert free(running) >= before - SPARE


def test_a_device_that_wants_an_iommu_is_refused(driver):
    """G21: PFNs are physical. Probing fails with a reason, that is all.

    That the device insists is said by the kernel, why by the driver.
    """
    with boot('512M', driver=driver, iommu_platform=True,
              disable_legacy=True) as running:
        assert re.search(r'virtio_balloon virtio\d+: virtio: device refuses',
                         running.dmesg())
        if driver == 'ours':
            assert 'ACCESS_PLATFORM declined' in running.dmesg()
        running.balloon(256 * MIB)
        assert running.wait_settled(0.3) == running.size
        running.unload()
        running.load(driver)
        running.unload()


def break_device(running):
    """Make QEMU's device fail as a device does that finds its ring broken.

    Through the I/O ports of a transitional device, behind the driver's back,
    the inflateq moves to the BIOS, where no ring makes sense.
    """
    name = running.devices()[0]
    ports = f'/sys/bus/virtio/devices/{name}/../resource0'
    write = f'dd of={ports} conv=notrunc count=1 2>/dev/null'
    running.sh(f"""
        printf '\\0\\0' | {write} bs=2 seek=7
        printf '\\360\\0\\0\\0' | {write} bs=4 seek=2
        printf '\\0\\0' | {write} bs=2 seek=8
    """)


@pytest.mark.parametrize('amid', [False, True])
def test_a_device_that_fails_costs_no_page_and_no_hang(amid, driver):
    """G2, D17: NEEDS_RESET at size and amid an inflate.

    The driver says so once, resets the device, after which no page is the
    host's any more, and rests. All works again after insmod.
    """
    with boot('512M', driver=driver, trace=True) as running:
        before = free(running)
        running.balloon_to(384 * MIB)
        running.trace.mark()
        if amid:
            start_inflating(running, 192 * MIB)
        break_device(running)
        assert amid_an_inflate(running, 192 * MIB) == amid
        running.balloon(320 * MIB)
        wait_state(running, 'broken')
        wait_for(lambda: free(running), lambda now: now >= before - SPARE, 10,
                 'its pages to be back')
        log = running.dmesg()
        assert len(re.findall(r'virtio\d+: broken: ', log)) == 1
        running.unload()
        assert free(running) >= before - SPARE
        running.load('ours')
        running.wait_actual(320 * MIB)
        running.balloon_to(running.size)


# The guest

def no_deflates(trace):
    """That no page came back since the mark."""
    assert not trace.view().pfns(DEFLATE)


@pytest.mark.parametrize('how', [
    pytest.param('reset', marks=pytest.mark.thorough),
    pytest.param('reboot', marks=pytest.mark.core)])
def test_a_guest_that_starts_anew_inflates_anew(traced, how):
    """N07: at size and amid an inflate, and nothing is deflated for it.

    QEMU keeps `actual` over a reset, so the guest is asked what it holds.
    """
    traced.balloon_to(traced.size - 256 * MIB)
    for taken in (256 * MIB, 600 * MIB):
        traced.balloon(traced.size - taken)
        time.sleep(0.3)
        traced.trace.mark()
        getattr(traced, how)()
        wait_counted(traced, taken)
        wait_state(traced, 'idle')
        no_deflates(traced.trace)
        assert traced.actual() == traced.size - taken


def test_a_shutdown_is_not_put_off(driver):
    """N07: amid an inflate; the pages are of no use any more."""
    with boot('512M', driver=driver, trace=True) as running:
        start_inflating(running, 160 * MIB)
        running.shutdown()
        assert amid_an_inflate(running, 352 * MIB)
        no_deflates(running.trace)


def test_a_stale_actual_is_corrected(driver):
    """B17, N30: QEMU keeps `actual` over a reset, and nobody held a page.

    Loaded fresh with nothing to do, the driver must write it all the same.
    """
    with boot('512M', driver=None) as running:
        running.load(driver)
        running.balloon_to(256 * MIB)
        running.reset()
        running.balloon(running.size)
        assert running.actual() == 256 * MIB
        running.load(driver)
        running.wait_actual(running.size, 10)
