"""Tooltips without a script: invisible boxes that lie over the picture, shown by CSS alone.

They are HTML, one element each, whose words the browser lays out when they are pointed at: as text
inside a picture of 16 or 32 levels they took a third of the time to read it and lay it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from labkit.explorers.drawing.blocks import Cells, Image
from labkit.explorers.drawing.draw import box
from labkit.explorers.drawing.frame import Frame, frames, picture_height
from labkit.explorers.drawing.marks import Bars, Hits, Points, Stems
from labkit.explorers.drawing.palette import variable
from labkit.explorers.scene import Scene

CSS = (
    ".ql-view{position:relative}.ql-hits{position:absolute;inset:0;pointer-events:none}"
    ".ql-h{position:absolute;pointer-events:auto;cursor:crosshair;outline:none}"
    ".ql-h:hover,.ql-h:focus{z-index:1}.ql-d{border-radius:50%}"
    # The ring, on what is pointed at.
    ".ql-h:hover::before,.ql-h:focus::before{content:'';position:absolute;left:var(--x,50%);"
    "top:var(--y,50%);width:14px;height:14px;margin:-7px;box-sizing:border-box;"
    f"pointer-events:none;border:2px solid {variable('ink')};border-radius:50%}}"
    ".ql-h:focus-visible::before{border-width:3.5px}"
    # The words, above it.
    ".ql-h:hover::after,.ql-h:focus::after{content:attr(aria-label);position:absolute;"
    "left:var(--x,50%);top:var(--y,50%);transform:translate(var(--f),var(--v,calc(-100% - 12px)));"
    "width:max-content;max-width:560px;white-space:pre-line;font-size:13px;line-height:18px;"
    f"padding:5px 9px;box-sizing:border-box;pointer-events:none;color:{variable('ink')};"
    f"background:{variable('paper')};border:1px solid {variable('muted')};border-radius:5px}}"
    ".ql-hits:hover .ql-h:focus:not(:hover)::before,"
    ".ql-hits:hover .ql-h:focus:not(:hover)::after{content:none}"
)
"""Style rules of the layer; every class begins with ``ql`` so that nothing leaks."""

_MOST_STOPS = 32
_LINE = 18
_COLUMNS = 75


@dataclass(frozen=True)
class Target:
    """Something to point at, in pixels of the picture: a box, the place (x, y) of its ring, words.

    ``disc``: the box is a circle around (x, y).

    >>> Target(0, 0, 18, 18, 9, 9, "here").disc
    False
    """

    left: float
    top: float
    width: float
    height: float
    x: float
    y: float
    tip: str
    disc: bool = False


def targets(frame: Frame) -> list[Target]:
    """Everything in a plot that has a tooltip.

    >>> from labkit.explorers.scene import Plot, Scene
    >>> dot = Points([0.5], [0.5], tips=["here"])
    >>> targets(frames(Scene("t", [Plot([dot])]))[0])[0].tip
    'here'
    """
    found = []
    for mark in frame.plot.marks:
        for i, tip in enumerate(getattr(mark, "tips", ())):
            target = _SHAPES[type(mark)](mark, i, frame, tip)
            beside = not frame.left - 2 <= target.x <= frame.right + 2
            beyond = target.disc and not frame.top - 2 <= target.y <= frame.bottom + 2
            if not beside and not beyond:
                found.append(target)
    return found


def overlay(scene: Scene) -> str:
    """HTML that lies over a scene's picture, with a tooltip for every mark that has one.

    Places are shares of the picture, so that both may be shown smaller. A keyboard user tabs
    through at most 32 of them, evenly chosen. Without tooltips it is empty.

    >>> from labkit.explorers.scene import Plot
    >>> overlay(Scene("t", [Plot([Points([0.5], [0.5], tips=["a\\nb"])])])).count("tabindex")
    1
    """
    found = [target for frame in frames(scene) for target in targets(frame)]
    if not found:
        return ""
    width, height = scene.width, picture_height(scene)
    every = max(1, -(-len(found) // _MOST_STOPS))
    parts = ['<div class="ql ql-hits">']
    for i, target in enumerate(found):
        stop = i % every == 0 or i == len(found) - 1
        focus = ' tabindex="0" role="img"' if stop else ""
        look = f'class="ql-h{" ql-d" * target.disc}" style="{_style(target, width, height)}"'
        parts.append(f'<span {look}{focus} aria-label="{escape(target.tip)}"></span>')
    return "".join(parts) + "</div>"


def over(picture: str, layer: str, width: float) -> str:
    """A picture ``width`` pixels wide with its `overlay` in one HTML element.

    >>> over("<svg/>", "", 880)
    '<div class="ql-view" style="max-width:880px"><svg/></div>'
    """
    return f'<div class="ql-view" style="max-width:{width:g}px">{picture}{layer}</div>'


def _style(target: Target, width: float, height: float) -> str:
    # The words are moved to the left by the share that their place is along the picture: at its
    # left end they begin there, at its right end they end there, and they never leave it.
    rules = [f"--f:{-100 * target.x / width:.0f}%"]
    lines = sum(1 + len(line) // _COLUMNS for line in target.tip.split("\n"))
    if target.y < lines * _LINE + 28:
        rules.append("--v:14px")
    if target.disc:
        # A circle keeps its size where the picture is shown smaller, for the finger.
        rules.append(f"left:{_share(target.x, width)};top:{_share(target.y, height)}")
        size, half = target.width, target.width / 2
        rules.append(f"width:{size:g}px;height:{size:g}px;margin:{-half:g}px")
        return ";".join(rules)
    rules.append(f"left:{_share(target.left, width)};top:{_share(target.top, height)}")
    rules.append(f"width:{_share(target.width, width)};height:{_share(target.height, height)}")
    rules.append(f"--x:{_share(target.x - target.left, target.width)}")
    rules.append(f"--y:{_share(target.y - target.top, target.height)}")
    return ";".join(rules)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%"


def _hit_strip(mark: Hits, i: int, frame: Frame, tip: str) -> Target:
    left = max(frame.px(mark.low[i]), frame.left)
    right = min(frame.px(mark.high[i]), frame.right)
    x = min(max(frame.px(mark.x[i]), left), right)
    return _box(left, frame.top, right - left, frame.height, x, frame.py(mark.y[i]), tip)


def _hit_disc(mark: Points | Stems, i: int, frame: Frame, tip: str) -> Target:
    x, y, radius = frame.px(mark.x[i]), frame.py(mark.y[i]), max(mark.size + 4, 9)
    return Target(x - radius, y - radius, 2 * radius, 2 * radius, x, y, tip, disc=True)


def _hit_bar(mark: Bars, i: int, frame: Frame, tip: str) -> Target:
    left, right = frame.px(mark.x[i] - mark.width / 2), frame.px(mark.x[i] + mark.width / 2)
    top = frame.py(mark.heights[i])
    return _box(left, frame.top, right - left, frame.height, (left + right) / 2, top, tip)


def _hit_cell(mark: Cells, i: int, frame: Frame, tip: str) -> Target:
    x, y = mark.x[i], mark.y[i]
    return _centred(box(frame, x, x + mark.width, y, y + mark.height), tip)


def _hit_image(mark: Image, i: int, frame: Frame, tip: str) -> Target:
    return _centred(box(frame, mark.x0, mark.x1, mark.y0, mark.y1), tip)


def _centred(place: tuple[float, float, float, float], tip: str) -> Target:
    left, top, width, height = place
    return _box(left, top, width, height, left + width / 2, top + height / 2, tip)


def _box(
    left: float, top: float, width: float, height: float, x: float, y: float, tip: str
) -> Target:
    return Target(left, top, max(width, 1), max(height, 1), x, y, tip)


_SHAPES: dict[type, Callable[..., Target]] = {
    Hits: _hit_strip,
    Points: _hit_disc,
    Stems: _hit_disc,
    Bars: _hit_bar,
    Cells: _hit_cell,
    Image: _hit_image,
}
