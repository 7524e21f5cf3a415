"""The marks a plot can hold: lines, steps, bars, points, bands, rules, boxes, images, words.

Each is a frozen dataclass of plain numbers in the units of the axes. ``role`` is a colour by name
(`drawing.palette.ROLES`); ``label`` puts the mark into the plot's legend; ``tips`` gives
one tooltip for each element, shown at once when the pointer or the keyboard reaches it (``\\n``
starts a new line).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from labkit.explorers.drawing.palette import check_role

Numbers = Sequence[float]
"""A list, tuple, numpy array or torch tensor of finite numbers, one-dimensional."""


def freeze(target: object, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is being made.

    >>> rule = Rule(1.0)
    >>> freeze(rule, at=2.0)
    >>> rule.at
    2.0
    """
    names = {field.name for field in fields(target)}  # type: ignore[arg-type]
    for name in names & values.keys():
        object.__setattr__(target, name, values[name])


def numbers(owner: object, name: str, values: Any) -> tuple[float, ...]:
    """One row of finite numbers as a tuple of floats.

    ``ValueError`` names the mark and the field when there are none, or one is not finite.

    >>> numbers(Rule(0), "at", [1, 2])
    (1.0, 2.0)
    """
    who = f"{type(owner).__name__}.{name}"
    values = values.detach().cpu().tolist() if hasattr(values, "detach") else values
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{who}: got shape {array.shape}; give one row of numbers")
    if array.size == 0:
        raise ValueError(f"{who}: got no data; give at least one number or leave the mark out")
    if not np.isfinite(array).all():
        raise ValueError(f"{who}: got NaN or infinity; every number must be finite")
    return tuple(array.tolist())


class Mark:
    """Base of everything drawn inside a plot.

    >>> issubclass(Line, Mark)
    True
    """

    rows: ClassVar[tuple[str, ...]] = ()
    """Fields that hold one number for each element and must have the same length."""

    def __post_init__(self) -> None:
        """Check roles, turn arrays into tuples of floats, compare lengths."""
        name = type(self).__name__
        if hasattr(self, "role"):
            check_role(name, self.role)
        for row in self.rows:
            freeze(self, **{row: numbers(self, row, getattr(self, row))})
        lengths = {row: len(getattr(self, row)) for row in self.rows}
        for words in ("tips", "labels"):
            if len(getattr(self, words, ())) > 0:
                freeze(self, **{words: tuple(map(str, getattr(self, words)))})
                lengths[words] = len(getattr(self, words))
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{name}: lengths differ: {lengths}; give one for each element")


@dataclass(frozen=True)
class Line(Mark):
    """A line through points (x, y).

    >>> Line([0, 1], [2, 3]).y
    (2.0, 3.0)
    """

    x: Numbers
    y: Numbers
    role: str = "float"
    label: str = ""
    width: float = 2.0
    dashed: bool = False
    rows: ClassVar[tuple[str, ...]] = ("x", "y")


@dataclass(frozen=True)
class Steps(Mark):
    """A staircase: ``heights[i]`` holds from ``edges[i]`` to ``edges[i + 1]`` (one edge more).

    ``fill=True`` shades down to ``baseline`` (a histogram); ``fill=False`` draws only the stairs
    (a quantizer's transfer curve).

    >>> Steps([0, 1, 2], [5, 6]).heights
    (5.0, 6.0)
    """

    edges: Numbers
    heights: Numbers
    role: str = "float"
    label: str = ""
    fill: bool = False
    baseline: float = 0.0
    width: float = 2.0
    dashed: bool = False

    def __post_init__(self) -> None:
        """Check that there is one edge more than heights."""
        super().__post_init__()
        freeze(self, edges=numbers(self, "edges", self.edges))
        freeze(self, heights=numbers(self, "heights", self.heights))
        if len(self.edges) != len(self.heights) + 1:
            raise ValueError(
                f"Steps: got {len(self.edges)} edges and {len(self.heights)} heights; "
                "give one edge more than heights"
            )


@dataclass(frozen=True)
class Bars(Mark):
    """Bars centred on x from ``baseline`` to ``heights``; ``width`` in units of the x axis.

    >>> Bars([0, 1], [3, 4], width=0.8).width
    0.8
    """

    x: Numbers
    heights: Numbers
    width: float = 0.8
    role: str = "float"
    label: str = ""
    baseline: float = 0.0
    tips: Sequence[str] = ()
    rows: ClassVar[tuple[str, ...]] = ("x", "heights")


@dataclass(frozen=True)
class Points(Mark):
    """Discs at (x, y); ``size`` is the radius in pixels; ``hollow`` draws rings.

    >>> Points([0.5], [0.5], tips=["the middle"]).tips
    ('the middle',)
    """

    x: Numbers
    y: Numbers
    role: str = "float"
    label: str = ""
    size: float = 4.0
    hollow: bool = False
    tips: Sequence[str] = ()
    rows: ClassVar[tuple[str, ...]] = ("x", "y")


@dataclass(frozen=True)
class Stems(Mark):
    """Vertical stems from ``baseline`` to y with a head of radius ``size`` (0: bare ticks).

    Good for the levels of a grid on the number line.

    >>> Stems([0, 1], [1, 1], size=0).role
    'quantized'
    """

    x: Numbers
    y: Numbers
    role: str = "quantized"
    label: str = ""
    baseline: float = 0.0
    size: float = 4.0
    width: float = 1.5
    tips: Sequence[str] = ()
    rows: ClassVar[tuple[str, ...]] = ("x", "y")


@dataclass(frozen=True)
class Band(Mark):
    """A shaded range from ``low`` to ``high`` across the plot; ``axis`` is "x" or "y".

    >>> Band(-1, 1, "representable").label
    'representable'
    """

    low: float
    high: float
    label: str = ""
    role: str = "range"
    axis: str = "x"

    def __post_init__(self) -> None:
        """Check the limits."""
        super().__post_init__()
        low, high = numbers(self, "low and high", [self.low, self.high])
        if low > high:
            raise ValueError(f"Band {self.label!r}: got {low} to {high}; need low <= high")
        freeze(self, low=low, high=high)
        _check_axis(self)


@dataclass(frozen=True)
class Rule(Mark):
    """A line across the plot at one value: vertical (``axis="x"``) or horizontal ("y").

    >>> Rule(0.5, "clip").at
    0.5
    """

    at: float
    label: str = ""
    role: str = "range"
    axis: str = "x"
    dashed: bool = True
    width: float = 1.5

    def __post_init__(self) -> None:
        """Check the position."""
        super().__post_init__()
        freeze(self, at=numbers(self, "at", [self.at])[0])
        _check_axis(self)


@dataclass(frozen=True)
class Text(Mark):
    """Words at (x, y); ``anchor`` is "start", "middle" or "end"; ``dy`` moves down in pixels.

    >>> Text(0, 1, "here").anchor
    'middle'
    """

    x: float
    y: float
    text: str
    role: str = "ink"
    anchor: str = "middle"
    size: float = 13.0
    bold: bool = False
    dy: float = 0.0

    def __post_init__(self) -> None:
        """Check the position and the anchor."""
        super().__post_init__()
        x, y = numbers(self, "x and y", [self.x, self.y])
        freeze(self, x=x, y=y)
        if self.anchor not in ("start", "middle", "end"):
            raise ValueError(f"Text: got anchor {self.anchor!r}; use start, middle or end")


@dataclass(frozen=True)
class Hits(Mark):
    """Invisible strips from ``low`` to ``high`` along x that show a tooltip and a ring at (x, y).

    For "the arithmetic under the mouse": one strip for each code, as wide as its decision interval.

    >>> Hits([0, 1], [1, 2], [0.5, 1.5], [0, 1], tips=["code 0", "code 1"]).tips[1]
    'code 1'
    """

    low: Numbers
    high: Numbers
    x: Numbers
    y: Numbers
    tips: Sequence[str]
    role: str = "quantized"
    rows: ClassVar[tuple[str, ...]] = ("low", "high", "x", "y")

    def __post_init__(self) -> None:
        """A strip without a tooltip would do nothing."""
        super().__post_init__()
        if not self.tips:
            raise ValueError("Hits: got no tips; give one text for each strip")


def _check_axis(mark: Any) -> None:
    if mark.axis not in ("x", "y"):
        raise ValueError(f"{type(mark).__name__}: got axis {mark.axis!r}; use 'x' or 'y'")
