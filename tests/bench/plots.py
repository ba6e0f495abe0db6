# SPDX-License-Identifier: GPL-2.0-only
"""Results as pictures: NAME.svg and NAME.png."""

import statistics
import textwrap

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as pyplot    # noqa: E402
from matplotlib.patches import Patch    # noqa: E402

# Told apart by everybody, and in print
COLOURS = {'none': '#bbbbbb', 'off': '#bbbbbb', 'stock': '#d98032',
           'ours': '#1f6fb4'}
OTHERS = ('#63a5d8', '#0b3c66')
STYLE = {'svg.hashsalt': 'virtio-balloon', 'font.size': 9,
         'axes.spines.top': False, 'axes.spines.right': False,
         'axes.grid': True, 'axes.grid.axis': 'y', 'grid.alpha': 0.3,
         'axes.axisbelow': True, 'legend.frameon': False}
COLUMNS = 3


def colour(arm, arms):
    """Of an arm, the same in all plots."""
    others = [one.name for one in arms if one.name not in COLOURS]
    return COLOURS.get(arm.name) or OTHERS[others.index(arm.name)
                                           % len(OTHERS)]


def spread(values):
    """The median's distances to the least and to the largest value."""
    middle = statistics.median(values)
    return middle - min(values), max(values) - middle


def bars(axes, result, metric):
    """A group for each case, a bar for each arm, its spread on top."""
    arms = result.arms()
    width = 0.8 / len(arms)
    for index, arm in enumerate(arms):
        places, heights, errors = [], [], []
        for place, case in enumerate(result.cases):
            values = result.values(case, arm.name, metric.name)
            if values:
                places.append(place + (index - (len(arms) - 1) / 2) * width)
                heights.append(result.median(case, arm.name, metric.name))
                errors.append(spread(values))
        axes.bar(places, heights, width * 0.92, label=arm.label,
                 color=colour(arm, arms), yerr=list(zip(*errors)) or None,
                 error_kw={'elinewidth': 1, 'ecolor': '#333333'})
    axes.set_xticks(range(len(result.cases)))
    many = len(result.cases) > 4
    axes.set_xticklabels([textwrap.fill(case['label'], 9 if many else 14)
                          for case in result.cases],
                         fontsize=6 if many else 7)


def lines(axes, result, metric):
    """A line for each arm, over the sizes of the cases."""
    arms = result.arms()
    for arm in arms:
        points = [(case['size'], result.median(case, arm.name, metric.name),
                   spread(result.values(case, arm.name, metric.name)))
                  for case in result.cases
                  if result.values(case, arm.name, metric.name)]
        sizes, medians, errors = zip(*points) if points else ((), (), ())
        axes.errorbar(sizes, medians, yerr=list(zip(*errors)) or None,
                      marker='o', markersize=4, capsize=2, label=arm.label,
                      color=colour(arm, arms))
    axes.set_xscale('log', base=2)
    sizes = [case['size'] for case in result.cases]
    axes.set_xticks(sizes, [f'{size} GiB' for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)


KINDS = {'bars': bars, 'lines': lines}


def panels(result):
    """A figure with a panel for each metric that is to be shown."""
    metrics = [metric for metric in result.metrics()
               if metric.name in result.what.shown]
    columns = 2 if len(metrics) == 4 else min(COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    wide = max(4.5 if columns == 1 else 3.4,
               0.75 * len(result.cases) * len(result.arms()) / 2)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(min(wide, 5) * columns, 2.8 * rows + 0.5),
        squeeze=False)
    for axes, metric in zip(grid.flat, metrics):
        KINDS[result.what.plot](axes, result, metric)
        axes.set_title(metric.name, fontsize=9)
        axes.set_ylabel(metric.unit)
    for axes in list(grid.flat)[len(metrics):]:
        axes.set_visible(False)
    arms = result.arms()
    across = 2 * columns    # as many labels as fit
    figure.legend([Patch(color=colour(arm, arms)) for arm in arms],
                  [arm.label for arm in arms], loc='lower center',
                  ncols=min(across, len(arms)))
    figure.suptitle(textwrap.fill(result.what.about, 40 * columns))
    figure.tight_layout(rect=(0, 0.06 * -(-len(arms) // across), 1, 1))
    return figure


def draw(result, out):
    """Write the plots of a result that has figures."""
    if not result.metrics():
        return
    with matplotlib.rc_context(STYLE):
        plot = result.what.plot
        figure = plot(result) if callable(plot) else panels(result)
        figure.savefig(out / f'{result.what.name}.svg',
                       metadata={'Date': None})
        figure.savefig(out / f'{result.what.name}.png', dpi=130,
                       metadata={'Software': None})
        pyplot.close(figure)
