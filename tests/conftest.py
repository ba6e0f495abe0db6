# SPDX-License-Identifier: GPL-2.0-only
"""What all tests share: time limits, what is shown, the counts."""

import os
import pathlib
import signal

import pytest

TIME_LIMIT = 300
# What fails where all is late, as on a busy machine
LATE = ('AssertionError', 'GuestTimeout', 'TestTimeout')
COMPLAINT = 'the log of the guest has'
MOST_AGAIN = 3


class TestTimeout(Exception):
    """A test took longer than its time limit."""


def _terminated(_signal, _frame):
    raise KeyboardInterrupt


def pytest_configure(config):
    signal.signal(signal.SIGTERM, _terminated)    # clean up then, too
    config.addinivalue_line(
        'markers', f'time_limit(seconds): fails after that, not {TIME_LIMIT}')


# Time limits: each phase of a test has its own, so that a hanging teardown
# is found as well.

def _limited(item):
    marker = item.get_closest_marker('time_limit')
    seconds = marker.args[0] if marker else TIME_LIMIT

    def expired(_signal, _frame):
        raise TestTimeout(f'not done after {seconds} s')

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    yield from _limited(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    yield from _limited(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from _limited(item)


# What is shown: a short line a test, and the counts for scripts/test.

def pytest_report_teststatus(report, config):
    if report.when == 'call' and report.outcome in ('passed', 'failed') \
            and not hasattr(report, 'wasxfail'):
        word = f'{report.outcome.upper()} {report.duration:.1f} s'
        return report.outcome, report.outcome[0].upper(), word
    return None


def _counts(config):
    """Numbers of passed, failed and skipped tests."""
    stats = config.pluginmanager.get_plugin('terminalreporter').stats

    def count(*names):
        return sum(len(stats.get(name, ())) for name in names)

    return (count('passed', 'xpassed'), count('failed', 'error'),
            count('skipped', 'xfailed'))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Tell what may be a matter of time from what is not."""
    report = (yield).get_result()
    if report.failed:
        report.may_be_late = (
            call.excinfo.type.__name__ in LATE
            and COMPLAINT not in report.longreprtext + report.capstdout)


def _late(config):
    """Names of the tests that may have been late, if no others failed."""
    stats = config.pluginmanager.get_plugin('terminalreporter').stats
    failed = stats.get('failed', []) + stats.get('error', [])
    names = dict.fromkeys(report.nodeid for report in failed)
    good = len(names) == len(failed) <= MOST_AGAIN and all(
        getattr(report, 'may_be_late', False) for report in failed)
    return list(names) if good else []


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """That nothing ran is no success. Write what scripts/test needs."""
    passed, failed, skipped = _counts(session.config)
    if not session.config.option.collectonly and not passed + failed:
        session.exitstatus = exitstatus or pytest.ExitCode.NO_TESTS_COLLECTED
    path = os.environ.get('VB_COUNTS')
    if path:
        line = f'{passed} passed, {failed} failed'
        line += f', {skipped} skipped' if skipped else ''
        pathlib.Path(path).write_text(line + '\n')
        pathlib.Path(path + '.late').write_text(
            ''.join(f'{name}\n' for name in _late(session.config)))
