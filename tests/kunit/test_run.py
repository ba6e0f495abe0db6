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


def log(cases, splat='', skips=()):
    """The log of a run of a suite with these cases: name -> ok or not ok.

    SKIPS: name -> why it was skipped.
    """
    more = {name: f' # SKIP {why}' for name, why in dict(skips).items()}
    whole = 'not ok' if 'not ok' in cases.values() else 'ok'
    return [run.ktap.START, 'KTAP version 1', '1..1', '    # Subtest: suite',
            f'    1..{len(cases)}', *([splat] if splat else ()),
            *(f'    {how} {number} {name}{more.get(name, "")}'
              for number, (name, how) in enumerate(cases.items(), 1)),
            f'{whole} 1 suite', run.ktap.LOADED,
            *[run.ktap.SEARCHED] * 2, run.ktap.END]


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
    def all_of(*logs, kernel='debug', page_poison=False):
        left, asked = list(logs), []

        def boot(options, env, tmp):
            del env, tmp
            asked.append((options.suite, options.case))
            options.log = tmp_path / 'kernel.log'
            return results_of(left.pop(0))

        monkeypatch.setattr(run, 'run', boot)
        options = argparse.Namespace(kernel=kernel, mutant=None, suite='*',
                                     case='*', fuzz=None,
                                     page_poison=page_poison)
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


def log_of(file):
    """A log in which case a failed in that file, of what the host found."""
    lines = log({'a': 'not ok'})
    at = lines.index('    not ok 1 a')
    lines[at:at] = [f'    # a: EXPECTATION FAILED at tests/kunit/{file}:7',
                    '    pfn 1200 was written to while owned']
    return lines


@pytest.mark.parametrize('logs', [
    [log({'a': 'not ok'}, SPLAT)],
    [log({'a': 'not ok'}), log({'a': 'ok'}, SPLAT)],
    [log({'a': 'not ok'}), log({'a': 'ok'})[:-1]],
    [log({'a': 'not ok'})[:-2]],
    [log({str(number): 'not ok' for number in range(run.MOST_AGAIN + 1)})],
    [log_of('fake_host.c')],
    [log_of('fuzz_test.c')]],
    ids=['splat', 'splat later', 'no end later', 'no end', 'too many',
         'host', 'fuzz'])
def test_what_is_no_matter_of_time_stays(runs, capsys, logs):
    assert runs(*logs)[0] == 1
    assert re.search('^(FAILED|ERROR|LOG) ', capsys.readouterr().out, re.M)


def test_what_another_file_says_may_be_late(runs):
    assert runs(log_of('sizing_test.c'), log({'a': 'ok'}))[0] == 0


SLOW = 'waits too long where time is real'


@pytest.mark.parametrize('kernel, why, status', [
    ('debug', SLOW, 0), ('uml', SLOW, 1), ('uml-new', SLOW, 1),
    ('debug', 'no debugfs', 1), ('uml', 'no debugfs', 1),
    ('uml', 'needs deflate_mode=shrinker', 0), ('uml', '', 1)])
def test_a_case_is_skipped_where_it_may_be(runs, capsys, kernel, why, status):
    lines = log({'a': 'ok', 'b': 'ok'}, skips={'b': why})
    assert runs(lines, kernel=kernel)[0] == status
    out = capsys.readouterr().out
    assert f'SKIPPED suite.b: {why}\n' in out
    assert ('ERROR suite.b must not be skipped here' in out) == status
    assert out.endswith(f'\n1 passed, {status} failed, 1 skipped\n')


@pytest.mark.parametrize('why', run.FILLED + run.EMPTY)
def test_where_pages_are_poisoned_others_are_skipped(runs, why):
    lines = log({'a': 'ok', 'b': 'ok'}, skips={'b': why})
    for poison in False, True:
        status = runs(lines, page_poison=poison)[0]
        assert status == ((why in run.EMPTY) == poison)


def test_leaks_have_to_be_looked_for(runs, capsys):
    lines = log({'a': 'ok'})
    lines.remove(run.ktap.SEARCHED)
    assert runs(lines)[0] == 1
    assert 'ERROR looked for leaks 1 times' in capsys.readouterr().out


@pytest.mark.parametrize('at, found', [(0, False), (3, True)])
def test_in_a_tree_the_kernel_may_complain_at_boot(tmp_path, at, found):
    path = tmp_path / 'test.log'
    lines = ['Linux version 6.1', 'KTAP version 1', '1..1', 'ok 1 suite']
    lines[at:at] = [SPLAT]
    path.write_text('\n'.join(lines))
    assert (SPLAT in run.in_tree.complaints(path)) == found


def test_where_free_pages_are_zero_some_cases_look():
    assert run.parse_arguments(['--init-on-free']).case == run.FILLED_CASES
    assert run.parse_arguments(['--init-on-free', '--case', 'a']).case == 'a'
    for kernel in 'uml-new', 'debug':
        with pytest.raises(SystemExit):
            run.parse_arguments(['--init-on-free', '--kernel', kernel])


def test_where_free_pages_are_poisoned_some_cases_look():
    words = ['--page-poison', '--kernel', 'debug']
    assert run.parse_arguments(words).case == run.FILLED_CASES
    for kernel in 'uml', 'uml-new':
        with pytest.raises(SystemExit):
            run.parse_arguments(['--page-poison', '--kernel', kernel])


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
