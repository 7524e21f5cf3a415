"""What stands around a plot's data: titles, legend, grid, ticks, labels of rules and bands."""

from __future__ import annotations

from labkit.explorers.drawing import text
from labkit.explorers.drawing.draw import tag, words
from labkit.explorers.drawing.frame import FONT, LABEL_ROW, Frame, has_key_row, ticks
from labkit.explorers.drawing.numbers import num
from labkit.explorers.drawing.palette import variable
from labkit.explorers.scene import Band, Mark, Points, Rule


def headings(frame: Frame, body: list[str]) -> None:
    """Add the plot's title, the y axis' caption and the legend, which never overlap."""
    plot, y = frame.plot, frame.outer_top
    left = frame.left if not frame.y.show else frame.left - _gutter(frame)
    room = frame.right - left
    if plot.title:
        body.append(words(left, y + 14, text.fit(plot.title, room, 14, True), size=14, bold=True))
        y += 24
    if not has_key_row(plot):
        return
    caption = frame.y.caption if frame.y.show else ""
    used = text.width(caption) + 24 if caption else 0.0
    named = [m for m in plot.marks if getattr(m, "label", "") and not isinstance(m, Band | Rule)]
    x = frame.right
    share = (frame.right - left - used) / max(len(named), 1) - 36
    short = sum(text.width(mark.label) + 36 for mark in named) <= frame.right - left - used
    for mark in reversed(named):
        label = mark.label if short else text.fit(mark.label, max(share, 20))
        x -= text.width(label)
        body.append(words(x, y + 14, label))
        x -= 20
        body.append(_swatch(mark, x, y + 10))
        x -= 16
    if caption:
        body.append(words(left, y + 14, text.fit(caption, max(x - left, 40)), role="muted"))


def _swatch(mark: Mark, x: float, middle: float) -> str:
    """What stands for a mark in the legend: dashes, a disc or ring, otherwise a small block."""
    colour = variable(getattr(mark, "role", "ink"))
    if getattr(mark, "dashed", False):
        look = {"stroke": colour, "stroke_width": 2.5, "stroke_dasharray": "4 3"}
        return tag("path", d=f"M{num(x - 4)} {num(middle)}h18", **look)
    if isinstance(mark, Points):
        look = {"fill": colour}
        if mark.hollow:
            look = {"fill": variable("paper"), "stroke": colour, "stroke_width": 2}
        return tag("circle", cx=float(x + 7), cy=float(middle), r=4.5, **look)
    return tag("rect", x=x, y=middle - 4, width=14, height=8, rx=2, fill=colour)


def _gutter(frame: Frame) -> float:
    return 12 + max((text.width(s) for _, s in ticks(frame.y, frame.height * 1.8)), default=0.0)


def axes(frame: Frame, body: list[str]) -> None:
    """Add grid lines, ticks with their numbers and the x axis' caption."""
    grid: list[str] = []
    first = len(body)
    if frame.y.show:
        for value, label in ticks(frame.y, frame.height * 1.8):
            y = frame.py(value)
            if frame.plot.grid in ("y", "both"):
                grid.append(f"M{num(frame.left)} {num(y)}H{num(frame.right)}")
            body.append(words(frame.left - 8, y + 4.5, label, anchor="end", role="muted"))
    if frame.x.show:
        for value, label in ticks(frame.x, frame.width):
            x = frame.px(value)
            if frame.plot.grid in ("x", "both"):
                grid.append(f"M{num(x)} {num(frame.top)}V{num(frame.bottom)}")
            grid.append(f"M{num(x)} {num(frame.bottom)}v5")
            body.append(words(x, frame.bottom + 18, label, anchor="middle", role="muted"))
        caption = text.fit(frame.x.caption, frame.width)
        middle = frame.left + frame.width / 2
        if caption:
            body.append(words(middle, frame.bottom + 38, caption, anchor="middle", role="muted"))
        line = f"M{num(frame.left)} {num(frame.bottom)}H{num(frame.right)}"
        body.append(tag("path", d=line, stroke=variable("muted"), stroke_width=1))
    if grid:
        # Below the axis and everything else.
        lines = tag("path", d="".join(grid), stroke=variable("line"), stroke_width=1)
        body.insert(first, lines)


def rule_labels(frame: Frame) -> str:
    """Labels of rules and bands, moved apart where they would cover each other.

    >>> from labkit.explorers.drawing.frame import frames
    >>> from labkit.explorers.scene import Plot, Rule, Scene
    >>> rules = (Rule(0.5, "one"), Rule(0.52, "two"))
    >>> rule_labels(frames(Scene("t", [Plot(rules)]))[0]).count("<text")
    2
    """
    rows = max(round(frame.head / LABEL_ROW), 1)
    taken: list[list[tuple[float, float]]] = [[] for _ in range(rows)]
    lines, labels = [], []
    named = [k for k in frame.plot.marks if isinstance(k, Band | Rule) and k.label]
    # Bands first: their labels get the upper row, and a rule reaches up to its own label only.
    for mark in sorted((k for k in named if k.axis == "x"), key=_order):
        label = text.fit(mark.label, frame.width)
        size = text.width(label, FONT)
        left = _label_left(mark, frame, size)
        row = text.free_row(taken, left - 4, left + size + 4)
        if row == rows:
            row = min(range(rows), key=lambda r: max(end for _, end in taken[r]))
        taken[row].append((left - 4, left + size + 4))
        y = frame.top - frame.head + 13 + row * LABEL_ROW
        if not frame.left - 1 <= frame.px(_start(mark)) <= frame.right + 1:
            continue
        if isinstance(mark, Rule) and frame.head:
            x = num(frame.px(mark.at))
            look = {"stroke_dasharray": "6 4"} if mark.dashed else {}
            data = f"M{x} {num(frame.top)}V{num(y - 12)}"
            colour, width = variable(mark.role), float(mark.width)
            lines.append(tag("path", d=data, stroke=colour, stroke_width=width, **look))
        labels.append(words(left, y, label, role=mark.role, halo=True))
    parts = lines + labels
    levels: list[float] = []
    for mark in (k for k in named if k.axis == "y"):
        y = frame.py(mark.at) - 6 if isinstance(mark, Rule) else frame.py(mark.high) + 15
        while any(abs(y - other) < 15 for other in levels):
            y += 16
        levels.append(y)
        parts.append(
            words(
                frame.right - 4,
                y,
                text.fit(mark.label, frame.width - 8),
                anchor="end",
                role=mark.role,
                halo=True,
            )
        )
    return "".join(parts)


def _order(mark: Band | Rule) -> tuple[bool, float]:
    return isinstance(mark, Rule), _start(mark)


def _start(mark: Band | Rule) -> float:
    return mark.at if isinstance(mark, Rule) else (mark.low + mark.high) / 2


def _label_left(mark: Band | Rule, frame: Frame, size: float) -> float:
    if isinstance(mark, Rule):
        left = frame.px(mark.at) + 6
        left = left if left + size <= frame.right else frame.px(mark.at) - 6 - size
    else:
        low, high = max(frame.px(mark.low), frame.left), min(frame.px(mark.high), frame.right)
        left = (low + high - size) / 2
    return min(max(left, frame.left), max(frame.right - size, frame.left))
