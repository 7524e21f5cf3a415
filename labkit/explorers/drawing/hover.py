"""Tooltips without a script: invisible shapes on top of the picture, shown by CSS alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from labkit.explorers.drawing import text
from labkit.explorers.drawing.blocks import Cells, Image
from labkit.explorers.drawing.draw import box
from labkit.explorers.drawing.frame import Frame
from labkit.explorers.drawing.marks import Bars, Hits, Points, Stems
from labkit.explorers.drawing.numbers import num
from labkit.explorers.drawing.palette import variable

Target = tuple[str, float, float, str]
"""Something to point at: its invisible shape, where its tooltip points (x, y), its words."""

HITS = '<g class="ql-hits"'
"""How the layer of tooltips begins; it is the last element of a picture."""

CSS = (
    ".ql-h{outline:none;cursor:crosshair}.ql-h>rect,.ql-h>circle{fill-opacity:0}"
    ".ql-t{visibility:hidden;pointer-events:none}"
    ".ql-h:hover .ql-t,.ql-h:focus .ql-t{visibility:visible}"
    ".ql-hits:hover .ql-h:focus:not(:hover) .ql-t{visibility:hidden}"
    f".ql-t circle{{fill:none;stroke:{variable('ink')};stroke-width:2}}"
    ".ql-h:focus-visible .ql-t circle{stroke-width:3.5}"
    f".ql-t rect{{fill:{variable('paper')};stroke:{variable('muted')}}}"
)
"""Style rules of the layer; every class begins with ``ql`` so that nothing leaks."""

_MOST_STOPS = 32


def targets(frame: Frame) -> list[Target]:
    """Everything in a plot that has a tooltip.

    >>> from labkit.explorers.drawing.frame import frames
    >>> from labkit.explorers.scene import Plot, Scene
    >>> dot = Points([0.5], [0.5], tips=["here"])
    >>> targets(frames(Scene("t", [Plot([dot])]))[0])[0][3]
    'here'
    """
    found: list[Target] = []
    for mark in frame.plot.marks:
        tips = getattr(mark, "tips", ())
        for i, tip in enumerate(tips):
            shape, x, y = _SHAPES[type(mark)](mark, i, frame)
            inside = frame.left - 2 <= x <= frame.right + 2
            if inside:
                found.append((shape, x, y, tip))
    return found


def _hit_strip(mark: Hits, i: int, frame: Frame) -> tuple[str, float, float]:
    left = max(frame.px(mark.low[i]), frame.left)
    right = min(frame.px(mark.high[i]), frame.right)
    shape = _rect(left, frame.top, right - left, frame.height)
    return shape, min(max(frame.px(mark.x[i]), left), right), frame.py(mark.y[i])


def _hit_disc(mark: Points | Stems, i: int, frame: Frame) -> tuple[str, float, float]:
    x, y = frame.px(mark.x[i]), frame.py(mark.y[i])
    return f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(max(mark.size + 4, 9))}"/>', x, y


def _hit_bar(mark: Bars, i: int, frame: Frame) -> tuple[str, float, float]:
    left, right = frame.px(mark.x[i] - mark.width / 2), frame.px(mark.x[i] + mark.width / 2)
    top = frame.py(mark.heights[i])
    return _rect(left, frame.top, right - left, frame.height), (left + right) / 2, top


def _hit_cell(mark: Cells, i: int, frame: Frame) -> tuple[str, float, float]:
    x, y = mark.x[i], mark.y[i]
    left, top, width, height = box(frame, x, x + mark.width, y, y + mark.height)
    return _rect(left, top, width, height), left + width / 2, top + height / 2


def _hit_image(mark: Image, i: int, frame: Frame) -> tuple[str, float, float]:
    left, top, width, height = box(frame, mark.x0, mark.x1, mark.y0, mark.y1)
    return _rect(left, top, width, height), left + width / 2, top + height / 2


_SHAPES: dict[type, Callable[..., tuple[str, float, float]]] = {
    Hits: _hit_strip,
    Points: _hit_disc,
    Stems: _hit_disc,
    Bars: _hit_bar,
    Cells: _hit_cell,
    Image: _hit_image,
}


def tooltips(found: Sequence[Target], width: float, height: float) -> str:
    """The layer with every target and its tooltip, kept inside a picture of that size.

    A keyboard user tabs through at most 32 of them, evenly chosen.

    >>> tooltips([("<rect/>", 5, 5, "a\\nb", )], 100, 100).count("tabindex")
    1
    """
    if not found:
        return ""
    every = max(1, -(-len(found) // _MOST_STOPS))
    parts = [f"{HITS}>"]
    for i, (shape, x, y, tip) in enumerate(found):
        focus = ""
        if i % every == 0 or i == len(found) - 1:
            label = escape(tip.replace("\n", ", "))
            focus = f' tabindex="0" role="img" aria-label="{label}"'
        parts.append(f'<g class="ql-h"{focus}>{shape}{_tip(x, y, tip, width, height)}</g>')
    return "".join(parts) + "</g>"


def _tip(x: float, y: float, tip: str, width: float, height: float) -> str:
    lines = text.wrap(tip, min(width - 40, 560))
    wide = min(max(map(text.width, lines)) + 20, width - 8)
    high = len(lines) * 18 + 12
    left = round(min(max(x - wide / 2, 4), width - wide - 4))
    top = y - high - 12
    top = round(top if top >= 4 else min(y + 14, height - high - 4))
    rest = "".join(f'<tspan x="{left + 10}" dy="18">{escape(line)}</tspan>' for line in lines[1:])
    return (
        f'<g class="ql-t"><circle cx="{num(x)}" cy="{num(y)}" r="6"/>'
        f'<rect x="{left}" y="{top}" width="{wide:.0f}" height="{high}" rx="5"/>'
        f'<text x="{left + 10}" y="{top + 20}">{escape(lines[0])}{rest}</text></g>'
    )


def _rect(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect x="{num(x)}" y="{num(y)}" width="{num(max(width, 1))}" '
        f'height="{num(max(height, 1))}"/>'
    )
