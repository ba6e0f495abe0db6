# SPDX-License-Identifier: GPL-2.0-only
"""What scripts/bench makes of figures; nothing is booted."""

import dataclasses
import json
import math

import pytest

import disturb
import pressure
import results
import run
import show
import tables
from experiment import (LESS, MORE, NEITHER, OURS, STOCK, Arm, Case,
                        Experiment, Metric)
from guest import GIB, TOP, GuestError

TIME, SPEED = Metric('time', 's'), Metric('speed', 'MB/s', MORE)
SIZE = Metric('size', 'MiB', NEITHER)
KILLS = Metric('kills', '', worst=True)


def made(stock, ours, metric=TIME):
    """A Result with one case: these figures of one metric."""
    what = Experiment('test', 'a test', None, (metric,),
                      (Case('case', {'mem': '1M'}),), ())
    result = results.Result(what)
    result.data['cases'].append({'label': 'case', 'size': 1, 'figures': {
        'stock': {metric.name: stock}, 'ours': {metric.name: ours}}})
    return result


@pytest.mark.parametrize('metric, stock, ours, better', [
    (TIME, [4, 3, 9], [2, 1, 7], 2), (SPEED, [4], [2], 0.5),
    (TIME, [0], [0], 1), (TIME, [1], [0], math.inf), (SIZE, [1], [2], None),
    (TIME, [], [1], None),
    (KILLS, [1, 1, 2], [0, 0, 4], 0.5),
    (KILLS, [0, 0, 1], [0, 0, 0], math.inf),
    (Metric('lives', '', MORE, worst=True), [1, 1, 1], [1, 1, 0], 0)])
def test_medians_are_compared(metric, stock, ours, better):
    result = made(stock, ours, metric)
    assert result.times_better(result.cases[0], metric) == better


@pytest.mark.parametrize('metric, stock, ours, missed', [
    (TIME, [10, 11, 12], [11, 12, 13], 0),      # not to be told apart
    (TIME, [1, 2, 3], [2, 3, 4], 1),
    (TIME, [100], [101], 0),
    (TIME, [1, 2, 3], [4, 5, 6], 1),
    (SPEED, [1], [2], 0),
    (Metric('fast', 's', LESS, (('stock', 2),)), [3], [2], 1),
    (Metric('fast', 's', LESS, (('stock', 2),)), [4], [2], 0),
    (Metric('close', 'x', LESS, (), 1.15), [9], [1.2], 1),
    (Metric('close', 'x', LESS, (), 1.15), [9], [1.1], 0)])
def test_what_is_worse_is_named(metric, stock, ours, missed):
    result = made(stock, ours, metric)
    found = list(result.missed())
    assert len(found) == missed
    assert all(one.case == 'case' and one.metric == metric.name
               for one in found)
    assert ('missed: ' in tables.summary(result)) == bool(missed)


def test_what_is_worse_has_a_line_for_all_cases():
    result = made([1], [4])
    result.data['cases'] *= 2
    assert tables.not_reached(result) == [
        '- time, should be 1x against stock: 0.25x (case); '
        '0.25x (case)']


@pytest.mark.parametrize('stock, ours, noise', [
    ([1, 2, 3], [2, 3, 4], True), ([1, 2, 3], [4, 5, 6], False)])
def test_what_may_be_noise_is_marked(stock, ours, noise):
    line, = tables.not_reached(made(stock, ours))
    assert (', rounds overlap' in line) == noise


def test_a_plot_has_the_last_of_what_is_seen_at_a_time():
    assert show.thinned([(0, 0), (0.01, GIB), (5, GIB)]) == [
        [0.01, 1], [5, 1]]


@pytest.mark.parametrize('value, text', [
    (0, '0'), (None, '-'), (1234.5, '1234'), (12.34, '12.3'),
    (0.01234, '0.0123'), (1, '1.00')])
def test_numbers_have_three_digits(value, text):
    assert tables.number(value) == text


def test_a_table_has_all_arms_and_the_ratio():
    text = tables.document({'test': made([4.0], [2.0])})
    assert '| time, s | 4.00 / 2.00 (2.0x) |' in text
    assert 'scripts/bench test --rounds 0 --arms' in text


def test_a_table_says_which_rounds_count():
    result = made([1, 3, 1], [2], KILLS)
    result.data['rounds'] = 3
    assert '| kills, worst | 3.00 / 2.00 (of 1) (1.5x) |' in \
        tables.table(result)


def test_a_section_says_what_time_was_missing():
    result = made([1], [2])
    assert 'kept' not in tables.section(result)
    result.data['stolen'] = 0.0123
    assert 'host kept 1.2% of' in tables.section(result)


def test_a_table_of_sizes_says_what_size_costs():
    result = made([2.0], [1.0])
    larger = made([3.0], [1.1]).cases[0]
    result.cases.append({**larger, 'label': 'large'})
    result.what = dataclasses.replace(result.what, plot='lines')
    assert tables.table(result).splitlines()[-1].endswith('| 1.5 / 1.1 |')


def test_arms_take_turns_and_one_may_fail(tmp_path):
    """What was measured in between is kept."""
    turns = []

    def measure(arm, mem):
        turns.append((arm.name, mem))
        if len(turns) == 3:
            raise GuestError('no')
        return {'time': 1.23456789}

    arms = STOCK, Arm('ours', 'ours', '', OURS.label)
    what = Experiment('test', 'a test', measure, (TIME,),
                      (Case('case', {'mem': '1M'}),), (), arms)
    result = results.Result(what)
    result.run(2, False, lambda text: None,
               lambda: results.save(result, tmp_path))
    assert turns == [('stock', '1M'), ('ours', '1M')] * 2
    data = json.loads((tmp_path / 'performance/test.json').read_text())
    assert data['cases'][0]['figures'] == {'stock': {'time': [1.2346]},
                                           'ours': {'time': [1.2346] * 2}}
    assert len(data['errors']) == 1 and 'no' in data['errors'][0]
    assert 0 <= data['stolen'] < 1
    assert results.load([what], tmp_path)['test'].data == data


def test_a_guest_that_is_too_large_is_left_out():
    assert 'GiB available' in results.missing(Case('case', {'mem': '99T'}))


def test_samples_and_what_is_made_of_them():
    assert disturb.samples('start 1\n1.5 20\n2 30.5\n') == [
        (1.5, 20), (2, 30.5)]
    assert disturb.percentile(range(100), 1) == 1
    assert disturb.percentile([5], 99) == 5
    assert disturb.percentile([1, 2, 3], 50, [10, 1, 1]) == 1
    assert disturb.every_turn([2500.0, 10.0]) == [2500, 1500, 500, 10]
    assert pressure.standstill([(0, 9), (1, 8), (5, 7)], 7) == 4


def test_what_is_seen_while_nothing_moves_does_not_count():
    """Half of the speed for half a second, for a quarter of a GiB.

    And again for what the driver put off, which is work lost, too.
    """
    block = disturb.BLOCK_MB
    calm = [(when / 4, 4 * block) for when in (*range(-8, 1), *range(5, 9))]
    slow = [(0.5, 2 * block), (1, 2 * block)]
    seen = disturb.Watched(calm + slow, [], [(0, 0.5, 1)], 0.25)
    assert disturb.stream_figures(seen) == {
        'speed, median': 50, 'speed, 1st percentile': 50, 'work lost': 2,
        'moving': 2}


@pytest.mark.parametrize('words', [
    ['nonsense'], ['--rounds', '0'], ['--rounds', 'x'], ['--nonsense'],
    ['--out', '/proc/no/such/folder'], ['--arms', 'nobody', 'size']])
def test_wrong_arguments_are_refused(monkeypatch, capsys, words):
    monkeypatch.setattr('sys.argv', ['bench', *words])
    monkeypatch.setattr(run, 'prepare', lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        run.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith('bench: ')


def test_experiments_are_complete():
    """Each has cases, quick ones too, and shows what it measures."""
    known = run.experiments()
    for name, what in known.items():
        names = {metric.name for metric in what.metrics}
        assert what.name == name and what.cases and what.quick
        assert names and set(what.shown) <= names
        assert callable(what.plot) or what.shown


def test_the_documentation_is_what_was_measured():
    """What docs/ has of figures, plots and tables belongs together."""
    docs = TOP / 'docs'
    kept = results.load(run.experiments().values(), docs)
    assert kept
    assert (docs / 'performance.md').read_text() == tables.document(kept)
    for result in kept.values():
        assert not result.data['quick'] and not result.data['errors']
        assert '+ changes' not in result.data['meta']['commit']
        assert (docs / results.FOLDER / f'{result.what.name}.svg').exists()
