# SPDX-License-Identifier: GPL-2.0-only
"""Page sizes and byte orders: scripts/arch runs this on those that there are.

The host counts pages of 4 KiB. A guest whose pages are larger holds its next
multiple of what the host asks for, and stays there.
"""

import time

import pytest

from guest import KIB, MIB, PAGE, Config, boot
from test_reporting import reported_back, use
from test_sizing import INFLATE, RESIDENT, free, held_after, wait_state

pytestmark = [pytest.mark.core, pytest.mark.pages]

# In pages of 4 KiB: about a guest's page of 4, 16 and 64 KiB, about a buffer,
# about a block, and far from everything; up and down.
SIZES = (1, 3, 4, 5, 15, 16, 17, 1, 0, 255, 257, 511, 513, 4097, 254, 33333,
         7, 40001)
# By transport
LEGACY = {'pci': {'disable_modern': True, 'disable_legacy': 'off'},
          'ccw': {'max_revision': 0}}
VERSION_1 = 32
REST = 3    # seconds
NOISE = 8 * MIB


@pytest.fixture(scope='module')
def _traced(request):
    with boot('512M', trace=True, mem_backend=RESIDENT,
              driver=request.config.getoption('--driver')) as running:
        yield running


@pytest.fixture
def traced(_traced):
    """A guest with an empty balloon and QEMU's trace, shared."""
    _traced.balloon_to(_traced.size)
    wait_state(_traced, 'idle')
    _traced.trace.mark()
    yield _traced
    _traced.judge()


def rounded(running, count):
    """Bytes in whole pages of the guest for COUNT pages of 4 KiB."""
    return -(-count * PAGE // running.page) * running.page


def ask(running, count):
    """Ask for COUNT pages of 4 KiB; the bytes that the balloon has then."""
    taken = rounded(running, count)
    running.balloon(running.size - count * PAGE)
    running.wait_actual(running.size - taken)
    return taken


def whole_pages(running, pfns):
    """Assert that PFNS, of 4 KiB, are whole pages of the guest."""
    each = running.page // PAGE
    first = {pfn - pfn % each for pfn in pfns}
    assert pfns == {pfn + i for pfn in first for i in range(each)}


def check_statistics(running):
    """Assert that QEMU makes of them what the guest's own files say."""
    running.stats_interval(1)
    stats, info = running.wait_stats(2), running.meminfo()
    running.stats_interval(0)
    assert stats['stat-total-memory'] == info['MemTotal'] * KIB
    for name, kib in (('free', info['MemFree']),
                      ('available', info['MemAvailable'])):
        assert abs(stats[f'stat-{name}-memory'] - kib * KIB) <= NOISE
    assert 0 < stats['stat-minor-faults'] < 1e8
    assert 0 <= stats['stat-disk-caches'] < info['MemTotal'] * KIB


def test_every_size_is_reached_to_the_page(traced):
    """N15, B17: `actual`, MemTotal and the host agree, to the KiB."""
    total, before = traced.meminfo()['MemTotal'], free(traced)
    for count in SIZES:
        taken = ask(traced, count)
        assert total - traced.meminfo()['MemTotal'] == taken // KIB
        held = held_after(traced.trace.view())
        assert len(held) == taken // PAGE
        whole_pages(traced, held)
        assert wait_state(traced, 'idle')['held'] == f'{taken // KIB} kB'
    traced.balloon_to(traced.size)
    assert traced.meminfo()['MemTotal'] == total
    assert not held_after(traced.trace.view())
    assert abs(free(traced) - before) <= NOISE


@pytest.mark.parametrize('count', [1, 17, 20011])
def test_nothing_moves_at_rest(traced, count):
    """B7, B8: no page to or fro for the rest of a page, nor a word of it."""
    taken = ask(traced, count)
    wait_state(traced, 'idle')
    traced.trace.mark()
    time.sleep(REST)
    view = traced.trace.view()
    assert not view.pfns() and not view.config_writes
    # Of the queues for sizing
    assert view.kicks[0] == view.kicks[1] == 0
    assert traced.actual() == traced.size - taken


def test_the_host_gets_the_memory_that_is_meant(traced):
    """N01: pages in use keep what is in them, and the balloon's are gone.

    The host discards what is in the RAM that it has a PFN of; wrong PFNs
    would be another's pages, or nowhere.
    """
    job = traced.spawn('hog -r 96 -1')
    job.wait_output('ready', timeout=100)
    ask(traced, 160 * MIB // PAGE + 1)
    assert traced.rss() <= traced.size - 160 * MIB
    traced.sh('killall hog')
    job.check_intact()
    assert len(traced.trace.view().pfns(INFLATE)) >= 160 * MIB // PAGE


def test_statistics_are_in_the_hosts_byte_order(traced):
    """B24: little-endian ones, whatever the guest's is."""
    check_statistics(traced)


def test_the_configuration_is_little_endian(traced):
    """B5: what the driver reads and writes of the configuration space."""
    ask(traced, 0x1234)
    view = traced.trace.view()
    assert view.config_writes[-1] == rounded(traced, 0x1234) // PAGE
    assert {pages for pages, _ in view.config_reads} >= {0x1234}


def test_a_legacy_device_has_the_guests_byte_order(driver):
    """B5, B29: PFNs and statistics, and not the configuration space."""
    with boot('512M', trace=True, driver=driver,
              props=LEGACY[Config().transport]) as running:
        assert VERSION_1 not in running.features()
        for count in (20011, 17):
            taken = ask(running, count)
            view = running.trace.view()
            assert view.config_writes[-1] == taken // PAGE
            held = held_after(view)
            assert len(held) == taken // PAGE
            whole_pages(running, held)
        check_statistics(running)


def test_free_pages_are_reported(driver):
    """N23: a block is 2 MiB, of whatever pages, and its address is right."""
    with boot('512M', driver=driver, free_page_reporting=True) as running:
        before = reported_back(running)
        assert use(running, 128) >= before + 100 * MIB
        reported_back(running, before)
