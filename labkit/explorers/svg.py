"""A scene as SVG text: pure Python, the same text for the same scene.

`render` is the entry: ``theme="auto"`` follows the page that shows the picture through CSS
variables, ``"light"`` and ``"dark"`` have concrete colours. `live` is the picture for a page, with
tooltips on hover and on keyboard focus by CSS alone. `still` turns any rendered picture into one
that a rasterizer reads.
"""

from __future__ import annotations

import zlib
from html import escape

from labkit.explorers.drawing import text
from labkit.explorers.drawing.axes import axes, headings, rule_labels
from labkit.explorers.drawing.draw import draw, tag, words
from labkit.explorers.drawing.frame import (
    FONT,
    FORMULA_ROW,
    MARGIN,
    READOUT_ROW,
    TITLE,
    Frame,
    formula_lines,
    frames,
    picture_height,
    readout_rows,
    row_height,
    title_lines,
    top_of_plots,
)
from labkit.explorers.drawing.hover import CSS, over, overlay
from labkit.explorers.drawing.numbers import num
from labkit.explorers.drawing.palette import concrete, theme_css, variable
from labkit.explorers.scene import Band, Hits, Points, Readout, Rule, Scene, Stems, Text

_FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
_MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"


def render(scene: Scene, theme: str = "auto") -> str:
    """SVG text of a scene for ``theme`` "auto", "light" or "dark".

    Raises ``ValueError`` for another theme.

    >>> from labkit.explorers.scene import Axis, Line, Plot, Scene
    >>> plot = Plot([Line([0, 1], [0, 1])], Axis("x", 0, 1), Axis("y", 0, 1))
    >>> render(Scene("A line", [plot])).startswith("<svg")
    True
    """
    if theme not in ("auto", "light", "dark"):
        raise ValueError(f"got theme {theme!r}; choose 'auto', 'light' or 'dark'")
    body: list[str] = []
    _titles(scene, body)
    for frame in frames(scene):
        _plot(frame, body)
    _formulas(scene, body)
    height = picture_height(scene)
    drawn = "".join(body)
    picture = _open(scene, height, zlib.crc32(drawn.encode())) + drawn + "</svg>"
    return (
        picture.replace("/*theme*/", theme_css())
        if theme == "auto"
        else light_or_dark(picture, theme)
    )


def light_or_dark(picture: str, theme: str) -> str:
    """A rendered picture with concrete colours in place of the theme's variables.

    >>> from labkit.explorers.scene import Scene
    >>> auto = render(Scene("t"))
    >>> light_or_dark(auto, "dark") == render(Scene("t"), "dark")
    True
    """
    picture = picture.replace(theme_css(), "").replace("/*theme*/", "")
    return concrete(picture, theme)


def still(picture: str, theme: str = "light") -> str:
    """A rendered picture for a rasterizer: concrete colours, no style sheet.

    >>> from labkit.explorers.scene import Scene
    >>> "var(" in still(render(Scene("t")))
    False
    """
    return bare(light_or_dark(picture, theme))


def live(picture: str, scene: Scene) -> str:
    """A scene's rendered picture with its tooltips, as HTML for a page that has `style_sheet`.

    >>> from labkit.explorers.scene import Scene
    >>> live(render(Scene("t")), Scene("t")).startswith('<div class="ql-view"')
    True
    """
    return over(bare(picture), overlay(scene), scene.width)


def bare(picture: str) -> str:
    """A rendered picture without its style sheet, for a page that already has `style_sheet`.

    >>> from labkit.explorers.scene import Scene
    >>> "<style>" in bare(render(Scene("t")))
    False
    """
    before, _, rest = picture.partition("<style>")
    return before + rest.partition("</style>")[2] if rest else before


def style_sheet() -> str:
    """The style element of a page with live pictures: colours of its theme, and tooltips.

    >>> style_sheet().startswith("<style>")
    True
    """
    return f"<style>{theme_css()}{CSS}</style>"


def _open(scene: Scene, height: float, key: int) -> str:
    size = f'width="{num(scene.width)}" height="{num(height)}"'
    described = scene.description or scene.words()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ql" {size} '
        f'viewBox="0 0 {num(scene.width)} {num(height)}" role="group" '
        f'aria-labelledby="ql-t{key:08x} ql-d{key:08x}" font-family="{_FONTS}" '
        f'font-size="{num(FONT)}" fill="{variable("ink")}" '
        'style="max-width:100%;height:auto;display:block;line-height:normal">'
        f'<title id="ql-t{key:08x}">{escape(scene.title)}</title>'
        f'<desc id="ql-d{key:08x}">{escape(described)}</desc>'
        "<style>/*theme*/</style>"
    )


def _titles(scene: Scene, body: list[str]) -> None:
    y = 14.0
    for line in title_lines(scene) if scene.title else ():
        y += 24
        body.append(words(MARGIN, y - 6, line, size=TITLE, bold=True))
    for number, row in enumerate(readout_rows(scene)):
        first = 1.5 if number == 0 and len(row) > 1 else 1.0
        room = scene.width - 2 * MARGIN
        share = min(room / (len(row) - 1 + first), 330)
        x = MARGIN
        for i, readout in enumerate(row):
            large = number == 0 and i == 0
            body.append(_readout(readout, x, y, share * (first if i == 0 else 1.0) - 20, large))
            x += share * (first if i == 0 else 1.0)
        y += READOUT_ROW


def _readout(readout: Readout, x: float, y: float, room: float, large: bool) -> str:
    value = text.short(readout.value, readout.digits)
    size = 42.0 if large else 28.0
    shown_unit = text.fit(readout.unit, room / 2, 16)
    unit_room = text.width(" " + shown_unit, 16) if shown_unit else 0.0
    while size > 16 and text.width(value, size, bold=True) + unit_room > room:
        size -= 2
    value = text.fit(value, room - unit_room, size, bold=True)
    unit = (
        tag("tspan", escape(shown_unit), dx=6, font_size=16, font_weight=400)
        if readout.unit
        else ""
    )
    number = tag(
        "text",
        escape(value) + unit,
        x=float(x),
        y=float(y + 62),
        font_size=size,
        font_weight=700,
        fill=variable(readout.role),
    )
    return (
        words(x, y + 20, text.fit(readout.label, room), role="muted")
        + number
        + words(x, y + 82, readout.kind, role="muted")
    )


def _plot(frame: Frame, body: list[str]) -> None:
    headings(frame, body)
    axes(frame, body)
    top = frame.top - frame.head
    group: list[str] = []
    loose = False
    for mark in frame.plot.marks:
        # Discs and words may overlap the plot's edge a little; everything else ends there.
        wants = isinstance(mark, Points | Stems | Text)
        if wants != loose and group:
            body.append(_clip(frame, top, group, loose))
            group = []
        loose = wants
        if not isinstance(mark, Hits):
            group.append(draw(mark, frame))
    if group:
        body.append(_clip(frame, top, group, loose))
    if any(isinstance(mark, Band | Rule) for mark in frame.plot.marks):
        body.append(rule_labels(frame))


def _clip(frame: Frame, top: float, group: list[str], loose: bool) -> str:
    extra = 9.0 if loose else 0.0
    box = (
        num(frame.left - extra),
        num(top - extra),
        num(frame.width + 2 * extra),
        num(frame.bottom - top + 2 * extra),
    )
    x, y, w, h = box
    return (
        f'<svg x="{x}" y="{y}" width="{w}" height="{h}" viewBox="{x} {y} {w} {h}" '
        f'overflow="hidden">{"".join(group)}</svg>'
    )


def _formulas(scene: Scene, body: list[str]) -> None:
    lines = formula_lines(scene)
    if not lines:
        return
    top = top_of_plots(scene) + sum(row_height(row) + 10 for row in scene.rows) + 2
    height = len(lines) * FORMULA_ROW + 14
    width = scene.width - 2 * MARGIN
    body.append(
        tag("rect", x=MARGIN, y=top, width=width, height=height, rx=6, fill=variable("soft"))
    )
    rows = "".join(
        words(MARGIN + 14, top + 22 + i * FORMULA_ROW, line, size=14)
        for i, line in enumerate(lines)
    )
    body.append(tag("g", rows, font_family=_MONO).replace("<text ", '<text xml:space="preserve" '))
