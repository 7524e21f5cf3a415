"""Pictures: well-formed, the same each time, right to the pixel, readable by everybody."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import numpy as np
import pytest

from labkit.explorers import scene as s
from labkit.explorers.drawing import png, text
from labkit.explorers.drawing.frame import frames, ticks
from labkit.explorers.drawing.hover import overlay
from labkit.explorers.drawing.palette import DARK, LIGHT, ROLES, concrete
from labkit.explorers.svg import light_or_dark, live, render, still, style_sheet

NASTY = "<b>&\"'</b> ]]> größer ≥ λ"
UNIT = (s.Axis("x", 0, 10, "V"), s.Axis("y", 0, 1, "A"))


def everything(word="label", levels=8):
    """A scene that uses every mark."""
    edges = np.linspace(0, 10, levels + 1)
    heights = np.linspace(0.1, 0.9, levels)
    middle = (edges[1:] + edges[:-1]) / 2
    tips = [f"{word} {i}\nsecond line" for i in range(levels)]
    main = [
        s.Band(2, 8, word),
        s.Band(0.2, 0.4, word, axis="y"),
        s.Rule(5, word),
        s.Rule(0.5, word, axis="y"),
        s.Line([0, 10], [0, 1], label=word),
        s.Steps(edges, heights, label=word, fill=True),
        s.Bars(middle, heights, label=word, tips=tips),
        s.Points(middle, heights, label=word, tips=tips, hollow=True),
        s.Stems(middle, heights, label=word, tips=tips),
        s.Text(5, 0.5, word + "\nbelow"),
        s.Hits(edges[:-1], edges[1:], middle, heights, tips),
    ]
    boxes = [
        s.Cells(range(levels), [0] * levels, [word] * levels, tips=tips, roles="code3"),
        s.Image(np.eye(4), 0, 1, 0, 1, tips=[word]),
    ]
    small = s.Plot(boxes, s.Axis("", 0, levels, show=False), s.Axis("", 0, 1, show=False))
    return s.Scene(
        word,
        [s.Plot(main, *UNIT, title=word), [small, s.Plot((), *UNIT)]],
        [s.Readout(word, 1.5, word, role="error"), s.Readout("b", word), s.Readout("c", 3)],
        [word, "a  =  b"],
        description=word,
    )


def shapes(picture, kind):
    return [e for e in ElementTree.fromstring(picture).iter() if e.tag.endswith("}" + kind)]


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_well_formed_escaped_and_deterministic(theme):
    picture = render(everything(NASTY), theme)
    ElementTree.fromstring(picture)
    ElementTree.fromstring(still(picture))
    assert "<b>" not in picture
    assert picture == render(everything(NASTY), theme)
    assert "nan" not in re.sub(r"[A-Za-z]{2,}", lambda m: m[0] if m[0] == "nan" else "", picture)


def test_points_land_where_the_axes_say():
    plot = s.Plot([s.Points([0, 2.5, 10], [0, 0.25, 1])], *UNIT)
    scene = s.Scene("t", [plot])
    (frame,) = frames(scene)
    discs = shapes(render(scene, "light"), "circle")
    found = [(float(d.get("cx")), float(d.get("cy"))) for d in discs]
    expected = [
        (frame.left, frame.bottom),
        (frame.left + frame.width / 4, frame.bottom - frame.height / 4),
        (frame.right, frame.top),
    ]
    assert np.allclose(found, expected, atol=0.06)


def test_a_log_axis_puts_decades_at_equal_distances_and_zero_at_its_end():
    axis = s.Axis("f", 1e-4, 1, scale="log")
    scene = s.Scene("t", [s.Plot([s.Points([0, 1, 2], [0, 1e-2, 1])], s.Axis("x", 0, 2), axis)])
    (frame,) = frames(scene)
    assert frame.py(0) == frame.bottom
    assert frame.py(1e-2) == pytest.approx(frame.bottom - frame.height / 2)
    assert [label for _, label in ticks(axis, 400)] == ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]


def test_a_staircase_holds_each_height_between_its_edges():
    scene = s.Scene("t", [s.Plot([s.Steps([0, 5, 10], [0, 1])], *UNIT)])
    (frame,) = frames(scene)
    stairs = next(
        p.get("d")
        for p in shapes(render(scene, "light"), "path")
        if "V" in p.get("d") and p.get("stroke") == LIGHT["float"]
    )
    x, y = frame.left, frame.bottom
    middle, right, top = frame.px(5), frame.right, frame.top
    n = lambda v: f"{v:.1f}".removesuffix(".0")  # noqa: E731
    assert stairs == f"M{n(x)} {n(y)}H{n(middle)}V{n(top)}H{n(right)}"


def test_marks_beyond_the_limits_stay_inside_their_plot():
    far = s.Line([-1e30, 1e30], [-1e30, 1e30])
    picture = render(s.Scene("t", [s.Plot([far], *UNIT)]), "light")
    assert 'overflow="hidden"' in picture
    assert max(map(float, re.findall(r"[ML ](\d+(?:\.\d+)?)", picture))) < 1e9


def test_a_legend_shows_marks_as_they_are_drawn():
    x, y = [0, 10], [0, 1]
    plot = s.Plot(
        [
            s.Line(x, y, "range", "measured"),
            s.Line(x, y, "range", "computed", dashed=True),
            s.Points(x, y, "good", "best", hollow=True),
            s.Points(x, y, "error", "now"),
        ],
        *UNIT,
    )
    scene = s.Scene("t", [plot])
    picture = render(scene, "light")
    legend = frames(scene)[0].top - 4
    above = [e for e in shapes(picture, "circle") if float(e.get("cy")) < legend - 4]
    assert [(e.get("fill"), e.get("stroke")) for e in above] == [
        (LIGHT["error"], None),
        (LIGHT["paper"], LIGHT["good"]),
    ]
    (dashes,) = (e for e in shapes(picture, "path") if e.get("stroke-dasharray") == "4 3")
    assert dashes.get("stroke") == LIGHT["range"]
    (block,) = (e for e in shapes(picture, "rect") if e.get("height") == "8")
    assert block.get("fill") == LIGHT["range"]


def test_themes():
    auto, dark = render(everything()), render(everything(), "dark")
    assert "data-jp-theme-light" in auto and "prefers-color-scheme" in auto
    assert "var(--" not in dark and DARK["float"] in dark and LIGHT["float"] not in dark
    assert light_or_dark(auto, "dark") == dark
    assert still(auto, "dark") == still(dark)
    assert "<style" not in still(auto)
    with pytest.raises(ValueError, match="choose"):
        render(everything(), "blue")
    with pytest.raises(ValueError, match="choose"):
        concrete("", "blue")


def test_styles_do_not_leak():
    style = re.search(r"<style>(.*?)</style>", style_sheet())[1]
    for rule in re.findall(r"([^{}]+)\{", style):
        if not rule.startswith("@"):
            assert all(".ql" in part for part in rule.split(",")), rule


def test_accessible():
    root = ElementTree.fromstring(render(everything()))
    title, desc = root.find("{*}title"), root.find("{*}desc")
    assert root.get("role") == "group"
    assert root.get("aria-labelledby").split() == [title.get("id"), desc.get("id")]
    assert title.text == "label" and desc.text == "label"
    assert ".ql-h:focus::after" in style_sheet()
    other = ElementTree.fromstring(render(everything("another")))
    assert other.find("{*}title").get("id") != title.get("id")


def test_every_element_has_its_tooltip_on_the_picture():
    scene = everything(levels=256)
    spots = list(ElementTree.fromstring(overlay(scene)))
    assert len(spots) == 256 * 5 + 1
    assert all(spot.get("aria-label") for spot in spots)
    assert sum(spot.get("tabindex") == "0" for spot in spots) <= 33
    for spot in spots:
        style = dict(rule.split(":") for rule in spot.get("style").split(";"))
        left, top = (float(style[k].removesuffix("%")) for k in ("left", "top"))
        assert 0 <= left <= 100 and 0 <= top <= 100
        # The words leave the picture on neither side.
        assert -100 <= float(style["--f"].removesuffix("%")) <= 0


def test_the_words_stand_below_where_there_is_no_room_above():
    def styles(y):
        dot = s.Points([5], [y], tips=["one\ntwo"])
        return overlay(s.Scene("", [s.Plot([dot], *UNIT)]))

    assert "--v" in styles(1) and "--v" not in styles(0)


def test_a_disc_that_the_plot_does_not_show_has_no_tooltip():
    dots = s.Points([5, 5, 50], [0.5, 7, 0.5], tips=["shown", "above", "beside"])
    assert overlay(s.Scene("t", [s.Plot([dots], *UNIT)])).count("<span") == 1


def test_a_tooltip_keeps_every_character():
    nasty = "a < b & \"c\"\n'd'"
    mark = s.Points([5], [0.5], tips=[nasty])
    layer = overlay(s.Scene("t", [s.Plot([mark], *UNIT)]))
    (spot,) = ElementTree.fromstring(layer.replace("\n", "&#10;"))
    assert spot.get("aria-label") == nasty
    assert live(render(s.Scene("t")), s.Scene("t")).count("<div") == 1


def test_labels_of_close_rules_do_not_cover_each_other():
    rules = [s.Rule(5 + i / 100, f"rule number {i}") for i in range(3)]
    scene = s.Scene("t", [s.Plot([*rules, s.Band(2, 8, "the whole band")], *UNIT)])
    texts = [e for e in shapes(render(scene), "text") if "rule" in e.text or "band" in e.text]
    assert len(texts) == 4
    for a, b in combinations(texts[:3], 2):
        apart = abs(float(a.get("y")) - float(b.get("y"))) >= 15
        left, right = sorted((a, b), key=lambda e: float(e.get("x")))
        beside = float(left.get("x")) + text.width(left.text) <= float(right.get("x"))
        assert apart or beside


def test_long_words_are_cut_to_their_room():
    long = "an exceedingly long label that nobody would want to read " * 3
    scene = everything(long)
    for element in shapes(render(scene), "text"):
        if element.get("text-anchor") or not element.text or element.get("x") is None:
            continue
        size = float(element.get("font-size", 13))
        assert float(element.get("x")) + text.width(element.text, size) * 0.8 < scene.width + 5


def luminance(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear, float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_and_stay_apart_for_colour_blind_eyes(colours):
    paper = luminance(colours["paper"])[1]
    for role in set(ROLES) - {"paper", "line", "soft"}:
        own = luminance(colours[role])[1]
        contrast = (max(own, paper) + 0.05) / (min(own, paper) + 0.05)
        assert contrast >= (4.5 if role in ("ink", "muted") else 3.0), (role, contrast)
    # Viénot, Brettel, Mollon (1999): what a protanope and a deuteranope see, in linear RGB.
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for seen in (np.eye(3), protan, deutan):
        roles = ("float", "quantized", "error", "range")
        colour = {r: np.clip(seen @ luminance(colours[r])[0], 0, 1) ** (1 / 2.2) for r in roles}
        for a, b in combinations(roles, 2):
            assert np.abs(colour[a] - colour[b]).max() > 0.12, (a, b)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (28, 28), (4, 4, 3), (4, 4, 4)])
def test_png_round_trip(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    back = png.decode(png.encode(pixels))
    wanted = pixels if len(shape) == 3 else np.repeat(pixels[..., None], 3, axis=2)
    assert np.array_equal(back[..., : wanted.shape[2]], wanted)


def test_png_palette_keeps_few_colours_exact_and_many_close():
    few = np.zeros((20, 20, 4), np.uint8)
    few[5:, :, :] = (250, 128, 3, 255)
    assert np.array_equal(png.decode(png.encode_palette(few)), few)
    many = np.random.default_rng(0).integers(0, 32, (64, 64, 4), dtype=np.uint8)
    many[..., 3] = 255
    close = png.decode(png.encode_palette(many)).astype(int)
    assert np.abs(close - many).max() <= 12
    with pytest.raises(ValueError, match="give uint8"):
        png.encode(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="give uint8"):
        png.encode_palette(np.zeros((2, 2), np.uint8))


def test_image_pixels_reach_the_picture():
    scene = s.Scene("t", [s.Plot([s.Image([[0, 1], [0.5, 2]], 0, 1, 0, 1)])])
    (image,) = shapes(render(scene), "image")
    pixels = png.decode(base64.b64decode(image.get("href").partition(",")[2]))
    assert pixels[..., 0].tolist() == [[0, 255], [128, 255]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-0.0, "0"),
        (2 / 255, "0.007843"),
        (127.56, "127.6"),
        (-12, "−12"),
        (100_000, "100,000"),
        (123456.0, "123,456"),
        (1e-4, "0.0001"),
        (9.99996, "10"),
        (1e9, "10⁹"),
        (-3.2e-7, "−3.2×10⁻⁷"),
        (float("nan"), "not a number"),
        (float("-inf"), "−∞"),
        (True, "yes"),
        (np.float32(0.5), "0.5"),
        ("127.55", "127.55"),
    ],
)
def test_short_numbers(value, shown):
    assert text.short(value) == shown


def test_a_staircase_of_256_codes_is_small():
    levels = np.linspace(-1, 1, 256)
    edges = np.concatenate([[-1.1], (levels[1:] + levels[:-1]) / 2, [1.1]])
    tips = [f"code {i}\nx' = ({i} − 128) × 0.007843 = {v:.6f}" for i, v in enumerate(levels)]
    marks = [s.Steps(edges, levels), s.Hits(edges[:-1], edges[1:], levels, levels, tips)]
    scene = s.Scene("t", [s.Plot(marks, s.Axis("x", -1.1, 1.1), s.Axis("y", -1.1, 1.1))])
    picture = render(scene)
    assert len(picture.encode()) < 120_000
