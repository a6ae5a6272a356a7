"""Charts: interactive ones for pages, and SVG."""

import io
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Okabe and Ito's palette, which colour-blind readers can distinguish
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999933')

# Scores to plot over the iterations, and the titles of their charts
VALIDATION = {'F1': 'F1 in validation, threshold as configured', 'F1@val': 'F1 in validation, best threshold',
              'AP': 'Average precision in validation'}


@dataclass
class Chart:
    """Chart of a page.

    Attributes:
        title: Heading of the chart.
        x: Label of the x axis.
        y: Label of the y axis.
        lines: Lines, from :meth:`line`.
        bands: Areas, from :meth:`band`.
        xlim: Limits of the x axis; default: those of the lines.
        ylim: Limits of the y axis, likewise.
        note: Remark below the chart.
        steps: Whether each value holds up to the next x, as in a histogram.
    """

    title: str
    x: str
    y: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    bands: list[dict[str, Any]] = field(default_factory=list)
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None
    note: str = ''
    steps: bool = False

    def line(self, label: str, number: int, x: Any, y: Any, dots: bool = False) -> None:
        """Add a line in the colour of a number, the x coordinates in ascending order."""
        self.lines.append(dict(label=label, number=number, dots=dots, x=_plain(x), y=_plain(y)))

    def band(self, label: str, number: int, x: Any, low: Any, high: Any) -> None:
        """Add an area between two lines."""
        self.bands.append(dict(label=label, number=number, x=_plain(x), low=_plain(low), high=_plain(high)))

    def svg(self) -> str:
        """Draw the chart: the ``<svg>`` element."""
        from matplotlib import rc_context
        from matplotlib.figure import Figure  # pyplot would look for a display

        figure = Figure(figsize=(5.6, 3.7), layout='constrained')
        axes = figure.subplots()
        for line in self.lines:
            number = line['number']
            axes.plot(line['x'], np.asarray(line['y'], float), label=_readable(line['label']),
                      color=COLOURS[number % len(COLOURS)], linestyle=('-', '--', ':')[number // len(COLOURS) % 3],
                      linewidth=1.5, marker='o' if line['dots'] else '', markersize=3)
        for band in self.bands:
            axes.fill_between(band['x'], band['low'], band['high'], color=COLOURS[band['number'] % len(COLOURS)],
                              alpha=0.15, linewidth=0)
        axes.set(title=_readable(self.title), xlabel=self.x, ylabel=self.y)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
        if any(line['label'] for line in self.lines):
            axes.legend(fontsize='small', frameon=False)
        stream = io.StringIO()
        # keep text as text: the reader's fonts have the letters that matplotlib's font may lack
        with rc_context({'svg.fonttype': 'none'}), warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Glyph .* missing from')
            figure.savefig(stream, format='svg', metadata=dict(Date=None))
        return stream.getvalue()[stream.getvalue().index('<svg'):]


def _plain(values: Any) -> list[float | None]:
    # JSON has no NaN
    return [float(f'{value:.6g}') if np.isfinite(value) else None for value in np.asarray(values, float)]


def _readable(label: str) -> str:
    # matplotlib reads $ as mathematics, and leaves labels that begin with _ out of legends
    return label.replace('$', r'\$').replace('_', '\N{ZERO WIDTH SPACE}_', label.startswith('_'))
