"""Marks → SVG elements, in the pixels of a frame."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, singledispatch
from html import escape

import numpy as np

from labkit.explorers.drawing import marks as m
from labkit.explorers.drawing import png, text
from labkit.explorers.drawing.blocks import Cells, Image, Photo
from labkit.explorers.drawing.frame import FONT, Frame
from labkit.explorers.drawing.numbers import num
from labkit.explorers.drawing.palette import LIGHT, variable


def tag(name: str, body: str | None = None, **attributes: object) -> str:
    """One element; ``font_size`` becomes ``font-size``; floats are rounded, text is escaped.

    >>> tag("line", x1=0.25, stroke_width=2)
    '<line x1="0.2" stroke-width="2"/>'
    """
    parts = [name]
    for key, value in attributes.items():
        shown = num(value) if isinstance(value, float) else escape(str(value))
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{shown}"')
    return f"<{' '.join(parts)}/>" if body is None else f"<{' '.join(parts)}>{body}</{name}>"


# Most words of a picture stay where they are while a slider moves.
@lru_cache(maxsize=4096)
def words(
    x: float,
    y: float,
    content: str,
    *,
    anchor: str = "start",
    role: str = "ink",
    size: float = FONT,
    bold: bool = False,
    halo: bool = False,
) -> str:
    """A line of text; ``halo`` outlines it with the page's colour so that it reads on data.

    >>> "&lt;" in words(0, 0, "a < b")
    True
    """
    more: dict[str, object] = {}
    if anchor != "start":
        more["text_anchor"] = anchor
    if role != "ink":
        more["fill"] = variable(role)
    if size != FONT:
        more["font_size"] = size
    if bold:
        more["font_weight"] = 600
    if halo:
        more |= {"paint_order": "stroke", "stroke": variable("paper"), "stroke_width": 4}
        more["stroke_linejoin"] = "round"
    return tag("text", escape(content), x=float(x), y=float(y), **more)


@singledispatch
def draw(mark: m.Mark, frame: Frame) -> str:
    """The SVG of one mark; an unknown kind raises ``ValueError``."""
    raise ValueError(f"no way to draw a {type(mark).__name__}")


def path(columns: Iterable[str], rows: Iterable[str]) -> str:
    """Path data through pixel points, given as text.

    >>> path(["0", "1.5"], ["0", "2"])
    'M0 0L1.5 2'
    """
    return "M" + "L".join(f"{x} {y}" for x, y in zip(columns, rows, strict=True))


@draw.register
def _line(mark: m.Line, frame: Frame) -> str:
    data = path(frame.columns(mark.x), frame.rows(mark.y))
    return _stroke(data, mark.role, mark.width, mark.dashed)


@draw.register
def _steps(mark: m.Steps, frame: Frame) -> str:
    edges, heights = frame.columns(mark.edges), frame.rows(mark.heights)
    base = num(frame.py(mark.baseline))
    start, end, look = (base, f"V{base}", _FILLED) if mark.fill else (heights[0], "", {})
    data = f"M{edges[0]} {start}{_stairs(edges, heights, start)}{end}"
    return _stroke(data, mark.role, mark.width, mark.dashed, **look)


# The area's colour is set by `_stroke`; an open path is filled as if it were closed.
_FILLED = {"fill_opacity": 0.22}


def _stairs(edges: list[str], heights: list[str], start: str) -> str:
    """Path data along the steps from height `start`; a run of equal heights is one line.

    >>> _stairs(["0", "1", "2", "3"], ["5", "5", "2"], "9")
    'V5H2V2H3'
    """
    parts, now = [], start
    for edge, height in zip(edges, heights, strict=False):
        if height != now:
            parts.append(f"H{edge}V{height}" if parts or edge != edges[0] else f"V{height}")
            now = height
    return "".join(parts) + f"H{edges[-1]}"


@draw.register
def _bars(mark: m.Bars, frame: Frame) -> str:
    base = frame.py(mark.baseline)
    half = mark.width / 2
    parts = []
    for x, height in zip(mark.x, mark.heights, strict=True):
        left, right, end = frame.px(x - half), frame.px(x + half), frame.py(height)
        parts.append(f"M{num(left)} {num(base)}V{num(end)}H{num(right)}V{num(base)}Z")
    return tag("path", d="".join(parts), fill=variable(mark.role), fill_opacity=0.85)


@draw.register
def _points(mark: m.Points, frame: Frame) -> str:
    colour = variable(mark.role)
    look: dict[str, object] = {"fill": colour}
    if mark.hollow:
        look = {"fill": variable("paper"), "stroke": colour, "stroke_width": 2}
    discs = "".join(
        f'<circle cx="{x}" cy="{y}" r="{num(mark.size)}"/>'
        for x, y in zip(frame.columns(mark.x), frame.rows(mark.y), strict=True)
    )
    return tag("g", discs, **look)


@draw.register
def _stems(mark: m.Stems, frame: Frame) -> str:
    base = num(frame.py(mark.baseline))
    ends = list(zip(frame.columns(mark.x), frame.rows(mark.y), strict=True))
    stems = _stroke("".join(f"M{x} {base}V{y}" for x, y in ends), mark.role, mark.width, False)
    if mark.size <= 0:
        return stems
    # A disc is a line of no length with round ends: one element holds all of them.
    heads = "".join(f"M{x} {y}h0" for x, y in ends)
    return stems + _stroke(heads, mark.role, 2 * mark.size, False, stroke_linecap="round")


@draw.register
def _band(mark: m.Band, frame: Frame) -> str:
    top = frame.top - frame.head
    if mark.axis == "x":
        left, right = frame.px(mark.low), frame.px(mark.high)
        box = (left, top, right - left, frame.bottom - top)
    else:
        upper = frame.py(mark.high)
        box = (frame.left, upper, frame.width, frame.py(mark.low) - upper)
    x, y, width, height = map(float, box)
    return tag(
        "rect", x=x, y=y, width=width, height=height, fill=variable(mark.role), fill_opacity=0.12
    )


@draw.register
def _rule(mark: m.Rule, frame: Frame) -> str:
    if mark.axis == "x":
        x = num(frame.px(mark.at))
        data = f"M{x} {num(frame.bottom)}V{num(frame.top)}"
    else:
        data = f"M{num(frame.left)} {num(frame.py(mark.at))}H{num(frame.right)}"
    return _stroke(data, mark.role, mark.width, mark.dashed)


@draw.register
def _text(mark: m.Text, frame: Frame) -> str:
    x, y = frame.px(mark.x), frame.py(mark.y) + mark.dy
    room = {
        "start": frame.right - x,
        "end": x - frame.left,
        "middle": 2 * min(frame.right - x, x - frame.left),
    }[mark.anchor]
    lines = [
        text.fit(line, max(room + 24, 60), mark.size, mark.bold) for line in mark.text.split("\n")
    ]
    return "".join(
        words(
            x,
            y + i * mark.size * 1.35,
            line,
            anchor=mark.anchor,
            role=mark.role,
            size=mark.size,
            bold=mark.bold,
            halo=True,
        )
        for i, line in enumerate(lines)
    )


@draw.register
def _cells(mark: Cells, frame: Frame) -> str:
    parts = []
    # Ink on any role stays readable (4.5 : 1) on either page.
    opacity = 0.45 if mark.strong else 0.2
    for i, (x, y) in enumerate(zip(mark.x, mark.y, strict=True)):
        left, top, width, height = box(frame, x, x + mark.width, y, y + mark.height)
        colour = variable(mark.roles[i])
        parts.append(
            f'<rect x="{num(left + 1)}" y="{num(top + 1)}" width="{num(max(width - 2, 0.5))}" '
            f'height="{num(max(height - 2, 0.5))}" rx="3" fill="{colour}" '
            f'fill-opacity="{opacity}" stroke="{colour}"/>'
        )
        if mark.labels:
            label = text.fit(mark.labels[i], max(width + 4, mark.size), mark.size)
            middle = (left + width / 2, top + height / 2 + mark.size * 0.36)
            parts.append(words(*middle, label, anchor="middle", size=mark.size))
    return "".join(parts)


@draw.register
def _image(mark: Image, frame: Frame) -> str:
    aspect = "xMidYMid" if mark.square else "none"
    return _pixels(mark, frame, png.data_uri(_coloured(mark)), aspect, "pixelated")


@draw.register
def _photo(mark: Photo, frame: Frame) -> str:
    rendering = "pixelated" if mark.sharp else "auto"
    return _pixels(mark, frame, png.data_uri(mark.png), "xMidYMid", rendering)


def _pixels(mark: Image | Photo, frame: Frame, href: str, aspect: str, rendering: str) -> str:
    left, top, width, height = box(frame, mark.x0, mark.x1, mark.y0, mark.y1)
    return tag(
        "image",
        x=left,
        y=top,
        width=width,
        height=height,
        preserveAspectRatio=aspect,
        style=f"image-rendering:{rendering}",
        href=href,
    )


@draw.register
def _hits(mark: m.Hits, frame: Frame) -> str:
    return ""


def box(
    frame: Frame, x0: float, x1: float, y0: float, y1: float
) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels of a box in axis units.

    >>> from labkit.explorers.drawing.frame import frames
    >>> from labkit.explorers.scene import Plot, Scene
    >>> box(frames(Scene("t", [Plot(())]))[0], 0, 1, 0, 1)[2]
    836.0
    """
    left, right = sorted((frame.px(x0), frame.px(x1)))
    top, bottom = sorted((frame.py(y0), frame.py(y1)))
    return left, top, right - left, bottom - top


def _stroke(data: str, role: str, width: float, dashed: bool, **more: object) -> str:
    more |= {"stroke_dasharray": "6 4"} if dashed else {}
    return tag(
        "path",
        d=data,
        fill=variable(role) if "fill_opacity" in more else "none",
        stroke=variable(role),
        stroke_width=float(width),
        stroke_linejoin="round",
        **more,
    )


def _coloured(mark: Image) -> np.ndarray:
    pixels = np.asarray(mark.pixels)
    if mark.colours == "grey" or pixels.ndim == 3:
        part = (pixels - mark.low) / (mark.high - mark.low)
        return np.round(np.clip(part, 0, 1) * 255).astype(np.uint8)
    # Colour stays and transparency carries the value: right on a light and on a dark page.
    up, down = ("quantized", "quantized") if mark.colours == "heat" else ("float", "quantized")
    rgb = np.where(pixels[..., None] >= 0, _rgb(up), _rgb(down))
    size = np.abs(pixels) / mark.high if mark.colours == "signed" else pixels - mark.low
    size = size / (mark.high - mark.low) if mark.colours == "heat" else size
    alpha = np.clip(size, 0, 1)[..., None] * 255
    return np.round(np.concatenate([rgb, alpha], axis=-1)).astype(np.uint8)


def _rgb(role: str) -> np.ndarray:
    return np.array([int(LIGHT[role][i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)
