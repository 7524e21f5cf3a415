"""What a picture shows, as plain data: axes, marks, numbers and words, no drawing.

An explorer is a pure function from its state to a `Scene`. `labkit.explorers.svg.render` draws a
scene; a test reads it. Marks turn their arrays (numpy, torch, lists) into tuples of floats, so that
two scenes can be compared with ``==``. Empty or non-finite data raise ``ValueError`` naming the
mark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.explorers.drawing.blocks import Cells, Image, Photo
from labkit.explorers.drawing.marks import (
    Band,
    Bars,
    Hits,
    Line,
    Mark,
    Points,
    Rule,
    Stems,
    Steps,
    Text,
    freeze,
    numbers,
)
from labkit.explorers.drawing.palette import check_role
from labkit.explorers.drawing.text import short

KINDS = ("measured", "computed", "quoted", "chosen", "asked")
"""How a number came about: measured on this machine, computed by the code beside it, quoted from a
source, chosen by the person at the slider, or read from what somebody asks for."""


@dataclass(frozen=True)
class Axis:
    """One axis with fixed limits.

    ``low < high`` (both positive when ``scale="log"``). ``ticks`` places the ticks by hand and
    ``labels`` names them; ``show=False`` hides the axis but keeps the limits. Values at or below
    zero on a logarithmic axis are drawn at its lower end.

    >>> Axis("value", -1, 1, unit="V").caption
    'value (V)'
    """

    label: str
    low: float
    high: float
    unit: str = ""
    scale: str = "linear"
    ticks: Sequence[float] | None = None
    labels: Sequence[str] | None = None
    show: bool = True

    def __post_init__(self) -> None:
        """Check the limits."""
        low, high = float(self.low), float(self.high)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"Axis {self.label!r}: got limits {low} to {high}; need low < high")
        if self.scale not in ("linear", "log"):
            raise ValueError(f"Axis {self.label!r}: got scale {self.scale!r}; use linear or log")
        if self.scale == "log" and low <= 0:
            raise ValueError(f"Axis {self.label!r}: a log axis needs low > 0, got {low}")
        freeze(self, low=low, high=high)
        if self.ticks is not None:
            freeze(self, ticks=numbers(self, "ticks", self.ticks))
        if self.labels is not None:
            # Tuples, because places of ticks are looked up by axis.
            freeze(self, labels=tuple(map(str, self.labels)))
            if len(self.labels) != len(self.ticks or ()):
                raise ValueError(f"Axis {self.label!r}: give as many labels as ticks")

    @property
    def caption(self) -> str:
        """Label and unit as they stand on the axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Readout:
    """A number that matters, printed large.

    ``value`` is a number (shown with ``digits`` significant digits) or text shown as it is.
    ``kind`` is one of `KINDS`. The first readout of a scene is the largest.

    >>> Readout("signal to noise", 31.87654, "dB").words()
    'signal to noise: 31.9 dB (computed)'
    """

    label: str
    value: float | int | str
    unit: str = ""
    kind: str = "computed"
    role: str = "ink"
    digits: int = 4

    def __post_init__(self) -> None:
        """Check kind and role."""
        check_role(f"Readout {self.label!r}", self.role)
        if self.kind not in KINDS:
            raise ValueError(f"Readout {self.label!r}: got kind {self.kind!r}; use one of {KINDS}")

    def words(self, digits: int = 3) -> str:
        """The readout as text, rounded so that it is the same on every machine."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.label}: {short(self.value, digits)}{unit} ({self.kind})"


@dataclass(frozen=True)
class Plot:
    """Marks on a pair of axes; ``height`` in pixels includes title, axes and labels.

    An axis left out runs from 0 to 1 and is not shown. ``weight`` is the plot's share of the width
    in a row of several. ``grid`` is "x", "y", "both" or "none". Labels of vertical rules and bands
    stand in ``label_rows`` rows kept free above the data (default: as many as needed, at most 3).

    >>> Plot((Line([0, 1], [0, 1]),), Axis("x", 0, 1), Axis("y", 0, 1)).height
    300
    """

    marks: Sequence[Mark]
    x: Axis | None = None
    y: Axis | None = None
    title: str = ""
    height: float = 300
    weight: float = 1.0
    grid: str = "y"
    label_rows: int | None = None

    def __post_init__(self) -> None:
        """Freeze the marks and check the grid's name."""
        if self.grid not in ("x", "y", "both", "none"):
            raise ValueError(f"Plot: got grid {self.grid!r}; use x, y, both or none")
        if not (self.height >= 40 and self.weight > 0):
            raise ValueError("Plot: height must be at least 40 pixels and weight positive")
        freeze(self, marks=tuple(self.marks))


@dataclass(frozen=True)
class Scene:
    """A whole picture: large numbers, then rows of plots, then lines of arithmetic.

    ``plots`` is a sequence whose items are a plot (a row of its own) or a sequence of plots (side
    by side). ``description`` is read out by screen readers. ``formulas`` are lines of text below.

    >>> Scene("Error", readouts=[Readout("mse", 0.5)]).words()
    'Error. mse: 0.5 (computed).'
    """

    title: str
    plots: Sequence[Plot | Sequence[Plot]] = ()
    readouts: Sequence[Readout] = ()
    formulas: Sequence[str] = ()
    description: str = ""
    width: float = 880

    def __post_init__(self) -> None:
        """Freeze the parts."""
        rows = tuple(item if isinstance(item, Plot) else tuple(item) for item in self.plots)
        freeze(
            self, plots=rows, readouts=tuple(self.readouts), formulas=tuple(map(str, self.formulas))
        )
        if not self.width >= 320:
            raise ValueError(f"Scene: got width {self.width}; use at least 320 pixels")

    @property
    def rows(self) -> tuple[tuple[Plot, ...], ...]:
        """The plots as rows."""
        return tuple((item,) if isinstance(item, Plot) else item for item in self.plots)

    def words(self, digits: int = 3) -> str:
        """Title and readouts as one line of text, the same on every machine."""
        return " ".join(f"{part}." for part in (self.title, *map(self._say(digits), self.readouts)))

    def readout(self, label: str) -> Readout:
        """The readout with that label; ``ValueError`` lists the labels when there is none."""
        for item in self.readouts:
            if item.label == label:
                return item
        raise ValueError(f"no readout {label!r}; there are {[r.label for r in self.readouts]}")

    def marks(self, kind: type[Mark] = Mark) -> Iterator[Mark]:
        """Every mark of a kind, in drawing order: what a test asserts about."""
        for row in self.rows:
            for plot in row:
                yield from (mark for mark in plot.marks if isinstance(mark, kind))

    @staticmethod
    def _say(digits: int) -> Any:
        return lambda readout: readout.words(digits)


__all__ = [
    "KINDS",
    "Axis",
    "Band",
    "Bars",
    "Cells",
    "Hits",
    "Image",
    "Line",
    "Mark",
    "Photo",
    "Plot",
    "Points",
    "Readout",
    "Rule",
    "Scene",
    "Stems",
    "Steps",
    "Text",
]
