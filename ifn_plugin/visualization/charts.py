"""Charts as SVG."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

# Okabe and Ito's palette, which colour-blind readers can distinguish
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999933')

# Scores to plot over the iterations, and the titles of their charts
VALIDATION = {'F1': 'F1 in validation, threshold as configured', 'F1@val': 'F1 in validation, best threshold',
              'AP': 'Average precision in validation'}


def chart(title: str, x: str, y: str, lines: Sequence[tuple[str, Any, Any, dict]],
          bands: Sequence[tuple[Any, Any, Any, dict]] = (), **limits: Any) -> str:
    """Draw a chart.

    Args:
        title: Title of the chart.
        x: Label of the x axis.
        y: Label of the y axis.
        lines: For each line, its label in the legend (empty for none), x and y coordinates, and matplotlib's settings.
        bands: For each band, its x coordinates, lower and upper limits, and matplotlib's settings.
        limits: Further settings of matplotlib's axes, such as ``xlim``.

    Returns:
        The ``<svg>`` element.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # pyplot would look for a display

    def plain(label: str) -> str:
        # matplotlib reads $ as mathematics, and leaves labels that begin with _ out of legends
        return label.replace('$', r'\$').replace('_', '\N{ZERO WIDTH SPACE}_', label.startswith('_'))

    figure = Figure(figsize=(5.6, 3.7), layout='constrained')
    axes = figure.subplots()
    for label, xs, ys, style in lines:
        axes.plot(xs, ys, label=plain(label), **style)
    for xs, low, high, style in bands:
        axes.fill_between(xs, low, high, **style)
    axes.set(title=plain(title), xlabel=x, ylabel=y, **limits)
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    if any(label for label, *_ in lines):
        axes.legend(fontsize='small', frameon=False)
    stream = io.StringIO()
    # keep text as text: the reader's fonts have the letters that matplotlib's font may lack
    with rc_context({'svg.fonttype': 'none'}), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph .* missing from')
        figure.savefig(stream, format='svg', metadata=dict(Date=None))
    return stream.getvalue()[stream.getvalue().index('<svg'):]


def style_of(number: int, dots: bool = False) -> dict[str, Any]:
    """Return matplotlib's settings of a line, which distinguish it from the others.

    Args:
        number: Index of the line, from 0.
        dots: Whether to mark every point.
    """
    return dict(color=COLOURS[number % len(COLOURS)], linewidth=1.5, marker='o' if dots else '', markersize=3,
                linestyle=('-', '--', ':')[number // len(COLOURS) % 3])
