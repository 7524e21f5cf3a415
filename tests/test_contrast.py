"""Words on coloured boxes stay readable on a light and on a dark page."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from labkit.explorers import scene as s
from labkit.explorers.drawing.palette import DARK, LIGHT, ROLES
from labkit.explorers.svg import render


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_on_strong_boxes_are_readable(theme):
    colours = DARK if theme == "dark" else LIGHT
    axes = s.Axis("", 0, 1, show=False), s.Axis("", 0, 1, show=False)

    def contrast(role, *boxes):
        """Of ink on these boxes, one on the other."""
        marks = [s.Cells([0], [0], ["7"], role, strong=strong) for strong in boxes]
        seen = np.array(rgb(colours["paper"]))
        picture = ElementTree.fromstring(render(s.Scene("t", [s.Plot(marks, *axes)]), theme))
        for box in (e for e in picture.iter() if e.tag.endswith("}rect")):
            if box.get("fill") == colours[role] and box.get("fill-opacity"):
                opacity = float(box.get("fill-opacity"))
                seen = opacity * np.array(rgb(colours[role])) + (1 - opacity) * seen
                boxes = boxes[1:]
        assert not boxes
        own, ink = luminance_of(seen), luminance_of(np.array(rgb(colours["ink"])))
        return (max(own, ink) + 0.05) / (min(own, ink) + 0.05)

    for role in set(ROLES) - {"paper", "ink", "line", "soft"}:
        assert contrast(role, True) >= 4.5, role
        assert contrast(role, False) >= 4.5, role
    # A digit that is read wrongly: a label's box on a strong one.
    assert contrast("bad", True, False) >= 4.5


def rgb(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def luminance_of(colour):
    """Relative luminance (WCAG 2) of red, green and blue in 0..1."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
