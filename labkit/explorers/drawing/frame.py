"""Where things go: places of readouts and plots in a picture, ticks, and values → pixels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from labkit.explorers.drawing import text
from labkit.explorers.drawing.numbers import numbers
from labkit.explorers.scene import Axis, Band, Plot, Readout, Rule, Scene

MARGIN = 22.0
GAP = 34.0
FONT = 13.0
TITLE = 17.0
LABEL_ROW = 19.0
FORMULA_ROW = 22.0
READOUT_ROW = 92.0
_HIDDEN = Axis("", 0.0, 1.0, show=False)
_FAR = 1e5


@dataclass(frozen=True)
class Frame:
    """The data area of one plot, in pixels of the picture, and its axes.

    ``top`` is where the y axis ends; ``head`` pixels above it are kept free for labels of rules and
    bands.

    >>> frame = Frame(Plot(()), Axis("x", 0, 10), Axis("y", 0, 1), 100, 50, 200, 80, 0, 40)
    >>> frame.px(5), frame.py(1)
    (200.0, 50.0)
    """

    plot: Plot
    x: Axis
    y: Axis
    left: float
    top: float
    width: float
    height: float
    head: float
    outer_top: float

    @property
    def right(self) -> float:
        """Right end of the x axis."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Lower end of the y axis."""
        return self.top + self.height

    def px(self, value: float) -> float:
        """Pixel column of a value on the x axis."""
        return self.left + self.width * fraction(self.x, value)

    def py(self, value: float) -> float:
        """Pixel row of a value on the y axis."""
        return self.bottom - self.height * fraction(self.y, value)

    def columns(self, values: Sequence[float]) -> list[str]:
        """Pixel columns of many values, as text: `px` all at once.

        >>> Frame(Plot(()), Axis("x", 0, 10), Axis("y", 0, 1), 0, 0, 50, 9, 0, 0).columns([1, 2])
        ['5', '10']
        """
        return numbers(self.left + self.width * _fractions(self.x, values))

    def rows(self, values: Sequence[float]) -> list[str]:
        """Pixel rows of many values, as text: `py` all at once."""
        return numbers(self.bottom - self.height * _fractions(self.y, values))


def _fractions(axis: Axis, values: Sequence[float]) -> np.ndarray:
    """`fraction` of many values at once."""
    along = np.asarray(values, dtype=float)
    low, high = axis.low, axis.high
    if axis.scale == "log":
        along = np.log(np.maximum(along, low))
        low, high = math.log(low), math.log(high)
    return np.clip((along - low) / (high - low), -_FAR, _FAR)


def fraction(axis: Axis, value: float) -> float:
    """How far along the axis a value stands: 0 at ``low``, 1 at ``high``; may lie outside.

    >>> fraction(Axis("f", 1, 100, scale="log"), 10)
    0.5
    """
    if axis.scale == "log":
        low = math.log(axis.low)
        part = (math.log(max(value, axis.low)) - low) / (math.log(axis.high) - low)
    else:
        part = (value - axis.low) / (axis.high - axis.low)
    return min(max(part, -_FAR), _FAR)


@lru_cache(maxsize=512)
def ticks(axis: Axis, room: float) -> tuple[tuple[float, str], ...]:
    """Positions and labels of an axis' ticks for ``room`` pixels, about one in 80.

    >>> ticks(Axis("x", 0, 1), 200)
    ((0.0, '0'), (0.5, '0.5'), (1.0, '1'))
    """
    if axis.ticks is not None:
        labels = axis.labels or [text.short(value) for value in axis.ticks]
        return tuple((v, str(s)) for v, s in zip(axis.ticks, labels, strict=True))
    # Imported here: the first import of matplotlib costs 0.3 s.
    from matplotlib.ticker import LogLocator, MaxNLocator

    count = max(2, min(10, int(room // 80)))
    if axis.scale == "log":
        decades = math.log10(axis.high / axis.low)
        subs = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
        values = LogLocator(subs=subs, numticks=count + 1).tick_values(axis.low, axis.high)
    else:
        values = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(axis.low, axis.high)
    slack = 1e-9 * (axis.high - axis.low)
    inside = [float(v) for v in values if axis.low - slack <= v <= axis.high + slack]
    # A step of 0.1 makes 0.30000000000000004 and 1e-17; rounding to the step's digits cleans that.
    if axis.scale == "log" and decades > 2:
        return tuple((value, _power(value, axis)) for value in inside)
    return tuple((value, text.short(_clean(value, inside))) for value in inside)


def _power(value: float, axis: Axis) -> str:
    # One way of writing along the whole axis: 0.01 beside 10⁻⁴ reads badly.
    if axis.low >= 1e-3 and axis.high <= 1e5:
        return text.short(value)
    exponent = round(math.log10(value))
    return f"10{text.superscript(exponent)}"


def _clean(value: float, values: Sequence[float]) -> float:
    step = min((abs(b - a) for a, b in pairwise(values)), default=1.0)
    return round(value, 3 - math.floor(math.log10(step)))


def row_height(plots: Sequence[Plot]) -> float:
    """Height of a row of plots: its tallest.

    >>> row_height([Plot((), height=200), Plot((), height=260)])
    260
    """
    return max(plot.height for plot in plots)


def title_lines(scene: Scene) -> tuple[str, ...]:
    """The scene's title, wrapped to its width.

    >>> title_lines(Scene("Short"))
    ('Short',)
    """
    return text.wrap(scene.title, scene.width - 2 * MARGIN, TITLE, bold=True)


def readout_rows(scene: Scene) -> tuple[tuple[Readout, ...], ...]:
    """Readouts in rows of at most five.

    >>> [len(row) for row in readout_rows(Scene("t", readouts=[Readout("a", 1)] * 7))]
    [4, 3]
    """
    items = tuple(scene.readouts)
    rows = math.ceil(len(items) / 5)
    size = math.ceil(len(items) / rows) if rows else 1
    return tuple(items[i : i + size] for i in range(0, len(items), size))


def formula_lines(scene: Scene) -> tuple[str, ...]:
    """Formulas wrapped to the picture's width (set in a fixed-width font of 14 pixels).

    >>> formula_lines(Scene("t", formulas=["q = 3"]))
    ('q = 3',)
    """
    columns = int((scene.width - 2 * MARGIN - 28) / 8.5)
    lines: list[str] = []
    for formula in "\n".join(scene.formulas).split("\n") if scene.formulas else ():
        lines.extend(textwrap.wrap(formula, columns, subsequent_indent="    ") or [""])
    return tuple(lines)


def top_of_plots(scene: Scene) -> float:
    """Where the first row of plots starts.

    >>> top_of_plots(Scene("t")) < top_of_plots(Scene("t", readouts=[Readout("a", 1)]))
    True
    """
    titles = len(title_lines(scene)) * 24 if scene.title else 0
    return 14.0 + titles + len(readout_rows(scene)) * READOUT_ROW + 8


def picture_height(scene: Scene) -> float:
    """Height of the whole picture in pixels.

    >>> picture_height(Scene("t", [Plot((), height=200)])) > 200
    True
    """
    rows = sum(row_height(row) + 10 for row in scene.rows)
    lines = len(formula_lines(scene))
    return top_of_plots(scene) + rows + (lines * FORMULA_ROW + 30 if lines else 4)


def frames(scene: Scene) -> tuple[Frame, ...]:
    """The data area of every plot, row by row.

    >>> [round(f.left) for f in frames(Scene("t", [[Plot(()), Plot(())]]))]
    [22, 457]
    """
    found: list[Frame] = []
    top = top_of_plots(scene)
    for row in scene.rows:
        room = scene.width - 2 * MARGIN - GAP * (len(row) - 1)
        left = MARGIN
        total = sum(plot.weight for plot in row)
        for plot in row:
            share = room * plot.weight / total
            found.append(_frame(plot, left, top, share))
            left += share + GAP
        top += row_height(row) + 10
    return tuple(found)


def has_key_row(plot: Plot) -> bool:
    """Whether the plot has a line above it: the y axis' caption and the legend.

    >>> has_key_row(Plot((), y=Axis("count", 0, 1)))
    True
    """
    named = any(getattr(m, "label", "") and not isinstance(m, Band | Rule) for m in plot.marks)
    return named or bool(plot.y and plot.y.show and plot.y.label)


def _frame(plot: Plot, left: float, top: float, width: float) -> Frame:
    x, y = plot.x or _HIDDEN, plot.y or _HIDDEN
    above = (24.0 if plot.title else 4.0) + (28.0 if has_key_row(plot) else 0.0)
    below = (22.0 + (20.0 if x.label else 0.0)) if x.show else 6.0
    labels = [m for m in plot.marks if isinstance(m, Band | Rule) and m.axis == "x" and m.label]
    rows = min(len(labels), 3) if plot.label_rows is None else plot.label_rows
    head = rows * LABEL_ROW + (4 if rows else 0)
    height = max(plot.height - above - below - head, 20.0)
    gutter = 0.0
    if y.show:
        gutter = 12 + max((text.width(s, FONT) for _, s in ticks(y, height * 1.8)), default=0.0)
    # The last x tick label is centred on the right end and needs half its width.
    spare = text.width(ticks(x, width)[-1][1], FONT) / 2 if x.show and ticks(x, width) else 0.0
    inner = max(width - gutter - max(spare - 10, 0), 20.0)
    return Frame(plot, x, y, left + gutter, top + above + head, inner, height, head, top)
