# SPDX-License-Identifier: GPL-2.0-only
"""What scripts/kunit makes of cases that fail; nothing is booted."""

import argparse
import importlib.util
import pathlib
import re
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# Not the run.py of the benchmarks
_spec = importlib.util.spec_from_file_location('kunit_run', HERE / 'run.py')
run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(run)

SPLAT = 'BUG: KASAN: slab-use-after-free in vb_quit+0x1/0x2'


def log(cases, splat=''):
    """The log of a run of a suite with these cases: name -> ok or not ok."""
    whole = 'not ok' if 'not ok' in cases.values() else 'ok'
    return [run.ktap.START, 'KTAP version 1', '1..1', '    # Subtest: suite',
            f'    1..{len(cases)}', *([splat] if splat else ()),
            *(f'    {how} {number} {name}'
              for number, (name, how) in enumerate(cases.items(), 1)),
            f'{whole} 1 suite', run.ktap.LOADED, run.ktap.END]


def results_of(lines):
    """What they say."""
    results = run.ktap.Results()
    for line in lines:
        results.feed(line)
    return results, list(lines)


@pytest.fixture(name='runs')
def made_up_runs(monkeypatch, tmp_path):
    """runs(log, ...): what booting prints each time; the exit status, and what
    was asked for.
    """
    def all_of(*logs, kernel='debug'):
        left, asked = list(logs), []

        def boot(options, env, tmp):
            del env, tmp
            asked.append((options.suite, options.case))
            options.log = tmp_path / 'kernel.log'
            return results_of(left.pop(0))

        monkeypatch.setattr(run, 'run', boot)
        options = argparse.Namespace(kernel=kernel, mutant=None, suite='*',
                                     case='*')
        status = run.run_and_report(options, {})
        assert not left
        return status, asked
    return all_of


def test_a_late_case_is_run_again_alone(runs, capsys):
    status, asked = runs(log({'a': 'ok', 'b': 'not ok'}), log({'b': 'ok'}))
    assert status == 0 and asked == [('*', '*'), ('suite', 'b')]
    out = capsys.readouterr().out
    assert 'LATE suite.b' in out and out.endswith('\n2 passed, 0 failed\n')


def test_a_case_that_fails_again_has_failed(runs, capsys):
    assert runs(log({'a': 'ok', 'b': 'not ok'}),
                log({'b': 'not ok'}))[0] == 1
    out = capsys.readouterr().out
    assert 'FAILED suite.b' in out and out.endswith('\n1 passed, 1 failed\n')


EXPECTED = ['    # b: EXPECTATION FAILED at tests/kunit/x_test.c:7',
            '    Expected nr == 1ULL, but', '        nr == 2']


@pytest.mark.parametrize('again, what', [('ok', 'LATE'), ('not ok', 'FAILED')])
def test_what_was_expected_of_it_stands_with_its_name(runs, capsys, again,
                                                      what):
    first = log({'a': 'ok', 'b': 'not ok'})
    at = first.index('    not ok 2 b')
    first[at:at] = EXPECTED + ['virtio_balloon virtio1: stalled']
    runs(first, log({'b': again}))
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(f'{what} suite.b')
    assert lines[at + 1:at + 4] == EXPECTED
    assert not any('stalled' in line for line in lines)


@pytest.mark.parametrize('logs', [
    [log({'a': 'not ok'}, SPLAT)],
    [log({'a': 'not ok'}), log({'a': 'ok'}, SPLAT)],
    [log({'a': 'not ok'}), log({'a': 'ok'})[:-1]],
    [log({'a': 'not ok'})[:-2]],
    [log({str(number): 'not ok' for number in range(run.MOST_AGAIN + 1)})]],
    ids=['splat', 'splat later', 'no end later', 'no end', 'too many'])
def test_what_is_no_matter_of_time_stays(runs, capsys, logs):
    assert runs(*logs)[0] == 1
    assert re.search('^(FAILED|ERROR|LOG) ', capsys.readouterr().out, re.M)


def test_where_waiting_takes_no_time_nothing_is_late(runs):
    assert runs(log({'a': 'not ok'}), kernel='uml')[0] == 1


def test_the_slowest_is_who_was_slow(monkeypatch):
    """The kernel prints a result when the next test starts."""
    now = [0]
    monkeypatch.setattr(run.ktap.time, 'monotonic', lambda: now[0])
    results = run.ktap.Results()
    for took, line in ((0, run.ktap.START), (0, '    # Subtest: suite'),
                       (5, '    # a: starts'), (1, '    ok 1 a'),
                       (0, '    # b: starts'), (2, '        ok 1 small'),
                       (0, '    # b: starts'), (7, '        ok 2 large'),
                       (0, '    ok 2 b')):
        now[0] += took
        results.feed(line)
    assert results.slowest(2) == ['9.0 s suite.b', '1.0 s suite.a']
