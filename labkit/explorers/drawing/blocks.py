"""Marks made of boxes: labelled cells (bits, codes), small images (digits, heat maps), photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from labkit.explorers.drawing.marks import Mark, Numbers, freeze, numbers
from labkit.explorers.drawing.palette import check_role
from labkit.explorers.drawing.png import SIGNATURE


@dataclass(frozen=True)
class Cells(Mark):
    """Labelled boxes: lower left corner at (x, y), all of one width and height in axis units.

    ``roles`` is one colour for each box, or one for all. ``strong`` fills them more fully.
    ``size`` is the font's size in pixels.

    >>> Cells([0, 1], [0, 0], labels=["1", "0"], roles="code0").roles
    ('code0', 'code0')
    """

    x: Numbers
    y: Numbers
    labels: Sequence[str] = ()
    roles: Sequence[str] | str = "range"
    width: float = 1.0
    height: float = 1.0
    size: float = 14.0
    strong: bool = False
    tips: Sequence[str] = ()
    rows: ClassVar[tuple[str, ...]] = ("x", "y")

    def __post_init__(self) -> None:
        """Give every box its colour."""
        super().__post_init__()
        roles = (self.roles,) * len(self.x) if isinstance(self.roles, str) else tuple(self.roles)
        if len(roles) != len(self.x):
            raise ValueError(f"Cells: got {len(roles)} roles for {len(self.x)} boxes")
        for role in set(roles):
            check_role("Cells", role)
        freeze(self, roles=roles)


@dataclass(frozen=True)
class Image(Mark):
    """A small picture of ``pixels``, row 0 at the top, in the box from (x0, y0) to (x1, y1).

    Two-dimensional pixels run from ``low`` to ``high``. ``colours`` is "grey" (low is black, high
    is white), "heat" (transparent to orange) or "signed" (orange below zero, blue above, ``high``
    the full colour). Three-dimensional pixels (height, width, 3) are red, green and blue.
    ``square=True`` keeps pixels square and centres the image in its box.

    >>> Image([[0, 1], [1, 0]], 0, 1, 0, 1).shape
    (2, 2)
    """

    pixels: Any
    x0: float
    x1: float
    y0: float
    y1: float
    low: float = 0.0
    high: float = 1.0
    colours: str = "grey"
    square: bool = True
    tips: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the array and freeze it into nested tuples."""
        values = self.pixels.detach().cpu() if hasattr(self.pixels, "detach") else self.pixels
        array = np.asarray(values, dtype=np.float64)
        if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] != 3):
            raise ValueError(f"Image: got shape {array.shape}; give (rows, columns) or (…, …, 3)")
        if not np.isfinite(array).all():
            raise ValueError("Image.pixels: got NaN or infinity; every number must be finite")
        numbers(self, "x0, x1, y0, y1", [self.x0, self.x1, self.y0, self.y1])
        if self.colours not in ("grey", "heat", "signed"):
            raise ValueError(f"Image: got colours {self.colours!r}; use grey, heat or signed")
        if not self.low < self.high:
            raise ValueError(f"Image: got low {self.low} and high {self.high}; need low < high")
        freeze(self, pixels=_nested(array.tolist()), tips=tuple(map(str, self.tips)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns (and 3 for colour)."""
        return np.shape(self.pixels)


@dataclass(frozen=True)
class Photo(Mark):
    """A picture of many pixels as PNG bytes, in the box from (x0, y0) to (x1, y1), kept in shape.

    Bytes are compared and sent on as they are, where `Image` holds every pixel as a number. A
    camera's frame, for example. ``sharp`` shows pixels as squares. ValueError for other bytes.

    >>> from labkit.explorers.drawing.png import encode
    >>> Photo(encode(np.zeros((2, 2, 3), np.uint8)), 0, 1, 0, 1).png[1:4]
    b'PNG'
    """

    png: bytes
    x0: float
    x1: float
    y0: float
    y1: float
    sharp: bool = True

    def __post_init__(self) -> None:
        """Check that it is a PNG and that the box is finite."""
        super().__post_init__()
        numbers(self, "x0, x1, y0, y1", [self.x0, self.x1, self.y0, self.y1])
        if not (isinstance(self.png, bytes) and self.png.startswith(SIGNATURE)):
            raise ValueError("Photo: got other data; give PNG bytes, as drawing.png.encode does")


def _nested(values: Any) -> Any:
    return tuple(map(_nested, values)) if isinstance(values, list) else values
