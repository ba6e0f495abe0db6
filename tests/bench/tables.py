# SPDX-License-Identifier: GPL-2.0-only
"""Results as text: Markdown for docs/performance.md, lines for a terminal."""

import math

from results import FOLDER

HEAD = """\
# Performance

What this driver does beside the kernel's own, measured by `scripts/bench`: it
boots the same kernel with either driver, in turn. This page, its plots and the
figures of each turn (`performance/*.json`) are what it wrote:

    scripts/bench --out docs            # all of it, which takes hours
    scripts/bench --out docs NAME...    # experiments of that name

All depends on the machine, which is named first. Where the acceleration is
none, all instructions of a guest are emulated, and those of its host are not:
the time of a guest weighs more there than with KVM. So take the ratios for a
hint of what your machine does, and measure there. Where "rounds overlap", more
of them may turn a figure round.
"""


def number(value):
    """VALUE with three digits that count."""
    if value is None:
        return '-'
    if value == 0:
        return '0'
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    return f'{value:.{digits}f}'


def times(value):
    """A ratio."""
    return f'{value:.2g}' if value < 1 else f'{value:.1f}'


def cell(result, case, metric):
    """The medians of all arms, and how many times better ours is."""
    figures = [result.figure(case, arm.name, metric) for arm in result.arms()]
    if not any(value is not None for value in figures):
        return ''
    text = ' / '.join(number(value) + of_fewer(result, case, arm, metric)
                      for value, arm in zip(figures, result.arms()))
    better = result.times_better(case, metric)
    told = better is not None and better != math.inf    # than nothing at all
    return f'{text} ({times(better)}x)' if told else text


def of_fewer(result, case, arm, metric):
    """How many rounds gave this figure, if not all did."""
    count = len(result.values(case, arm.name, metric.name))
    return f' (of {count})' if 0 < count < result.data['rounds'] else ''


def growth(result, metric):
    """What the largest case costs for each that the smallest does."""
    ends = result.cases[-1], result.cases[0]
    values = [[result.figure(case, arm.name, metric) for case in ends]
              for arm in result.arms()]
    return ' / '.join('-' if None in pair or not pair[1]
                      else times(pair[0] / pair[1]) for pair in values)


def table(result):
    """A row for each figure, a column for each case."""
    rows = [['', *(case['label'] for case in result.cases)]]
    for metric in result.metrics():
        unit = f', {metric.unit}' if metric.unit else ''
        rows.append([metric.name + unit + ', worst' * metric.worst,
                     *(cell(result, case, metric)
                       for case in result.cases)])
    if result.what.plot == 'lines' and len(result.cases) > 1:
        rows[0].append(f'{result.cases[-1]["label"]} to '
                       f'{result.cases[0]["label"]}')
        for row, metric in zip(rows[1:], result.metrics()):
            row.append(growth(result, metric))
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
    lines.insert(1, '| --- ' * len(rows[0]) + '|')
    return '\n'.join(lines)


def command(result):
    """What makes these figures."""
    words = ['scripts/bench', result.what.name,
             f'--rounds {result.data["rounds"]}']
    if result.data['quick']:
        words.append('--quick')
    if result.data['arms'] != [arm.name for arm in result.what.arms]:
        words.append('--arms ' + ','.join(result.data['arms']))
    return ' '.join(words)


def not_reached(result):
    """A line for each figure that some cases are not good enough in."""
    goals = {}
    for one in result.missed():
        goals.setdefault((one.metric, one.goal), []).append(
            f'{one.figure} ({one.case})')
    return [f'- {metric}, should be {goal}: {"; ".join(found)}'
            for (metric, goal), found in goals.items()]


def stolen(result):
    """What other machines on the same host took of this one's time."""
    share = result.data.get('stolen')
    return '' if share is None else (
        f' Meanwhile this machine\'s own host kept {share:.1%} of the time of '
        'its CPUs from it.')


def section(result):
    """Everything about one experiment."""
    arms = ' / '.join(arm.label for arm in result.arms())
    parts = [f'## {result.what.name}',
             result.what.about[0].upper() + result.what.about[1:] + '.',
             f'    {command(result)}',
             f'{arms} (times better than the kernel\'s own); medians of '
             f'{result.data["rounds"]}.{stolen(result)}', table(result),
             f'![{result.what.name}]({FOLDER}/{result.what.name}.svg)']
    if result.what.notes:
        parts.insert(2, result.what.notes)
    missed = not_reached(result)
    if missed:
        parts.append('Not as good as it should be:\n\n' + '\n'.join(missed))
    for title, key in (('Left out', 'left out'), ('Went wrong', 'errors')):
        if result.data[key]:
            parts.append(f'{title}:\n\n' + '\n'.join(
                f'- {line}' for line in result.data[key]))
    return '\n\n'.join(parts)


def machine(data):
    """Where the figures of one experiment are from."""
    return '; '.join(f'{key}: {value}' for key, value in data['meta'].items())


def document(results):
    """The part of docs/performance.md that is made by scripts/bench."""
    parts = [HEAD.rstrip()]
    for text in dict.fromkeys(machine(result.data)
                              for result in results.values()):
        names = [name for name, result in results.items()
                 if machine(result.data) == text]
        parts.append(f'Measured ({", ".join(names)}): {text}.')
    parts += [section(result) for result in results.values()]
    return '\n\n'.join(parts) + '\n'


def summary(result):
    """For a terminal."""
    width = max([len(metric.name) for metric in result.metrics()], default=0)
    lines = []
    for case in result.cases:
        arms = ' / '.join(arm.name for arm in result.arms())
        lines.append(f'{result.what.name}: {case["label"]}: {arms}')
        lines += [f'  {metric.name:{width}}  {cell(result, case, metric)} '
                  f'{metric.unit}' for metric in result.metrics()
                  if cell(result, case, metric)]
    lines += [f'  missed: {one.case}, {one.metric}: {one.figure}, should be '
              f'{one.goal}' for one in result.missed()]
    return '\n'.join(lines)
