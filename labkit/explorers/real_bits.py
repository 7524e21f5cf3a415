"""Bits, granularity and equalization of a real network, and what it still recognizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from labkit.explorers import real_network as net
from labkit.explorers.panel import Panel, bits_slider, choice, switch
from labkit.explorers.scene import (
    Axis,
    Cells,
    Image,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Scene,
    Text,
)
from labkit.pictures import photograph

WIDTHS = range(4, 9)
GRANULARITIES = {"tensor": "per tensor", "channel": "per channel"}
_COLOURS = {"tensor": "code3", "channel": "code2"}
_ROWS, _COLUMNS, _THUMB = 2, 4, 56
_HEIGHT = 300


@dataclass(frozen=True)
class State:
    """Bits (4 to 8), granularity of the weights, equalized or not.

    >>> State().equalized
    False
    """

    bits: int = 8
    granularity: str = "tensor"
    equalized: bool = False

    @property
    def variant(self) -> str:
        """The network's name in `real_network.VARIANTS`."""
        return "equalized" if self.equalized else "folded"


def controls() -> dict[str, Any]:
    """One control for each field of the state."""
    return {
        "bits": bits_slider("bits", WIDTHS[0], WIDTHS[-1]),
        "granularity": choice("one scale", [(w, name) for name, w in GRANULARITIES.items()]),
        "equalized": switch("equalize first", tooltip="Share out the ranges between layers"),
    }


def scene(state: State) -> Scene:
    """Draw the cosine over bits, and the eight pictures with what the network takes them for."""
    if state.granularity not in GRANULARITIES:
        raise ValueError(f"got granularity {state.granularity!r}; use tensor or channel")
    now = net.see(state.variant, state.bits, state.granularity)
    how = f"{GRANULARITIES[state.granularity]}{', equalized' if state.equalized else ''}"
    return Scene(
        f"MobileNetV2: weights in {state.bits} bits, {how}",
        [[_curves(state), _wall(now)]],
        readouts=[
            Readout("feature cosine", f"{now.cosine:.2f}", "", "measured", "quantized"),
            Readout("pictures recognized", f"{now.recognized} of {len(now.found)}", "", "measured"),
            Readout("worst picture", f"{min(now.cosines):.2f}", "", "measured", "error"),
            Readout("file", f"{now.nbytes / 1e6:.2f}", "MB", "computed"),
        ],
        description=(
            "Left, the cosine between quantized and float features over bits; right, the eight "
            "pictures, each with its cosine and the picture that its features are nearest to."
        ),
    )


def explorer(**fields: Any) -> Panel | net.Absent:
    """Return the live panel, or one line that says how to get the network."""
    return Panel(State(**fields), controls(), scene) if net.is_here() else net.Absent()


def _curves(state: State) -> Plot:
    marks: list[Mark] = []
    for name, words in GRANULARITIES.items():
        for variant in net.VARIANTS:
            row = [net.see(variant, bits, name) for bits in WIDTHS]
            y = [seen.cosine for seen in row]
            even = variant == "equalized"
            mine = (name, variant) == (state.granularity, state.variant)
            label = f"{words}{', equalized' if even else ''}"
            tips = [
                f"{bits} bits {label}\ncosine {seen.cosine:.3f}, {seen.recognized} of 8 recognized"
                for bits, seen in zip(WIDTHS, row, strict=True)
            ]
            width = 3 if mine else 1.5
            marks.append(Line(WIDTHS, y, _COLOURS[name], "" if even else label, width, even))
            marks.append(Points(WIDTHS, y, _COLOURS[name], size=3, hollow=even, tips=tips))
    now = net.see(state.variant, state.bits, state.granularity)
    marks.append(Points([state.bits], [now.cosine], "quantized", size=7))
    marks.append(Text(4, 0.06, "dashed: equalized first", "muted", "start"))
    x = Axis("bits per weight", 3.8, 8.2, ticks=list(WIDTHS))
    return Plot(marks, x, Axis("feature cosine", 0, 1.04), height=_HEIGHT, weight=1.1)


def _wall(now: net.Seen) -> Plot:
    """The pictures in two rows, numbered, with the verdict below each."""
    marks: list[Mark] = [*_rows_of_pictures()]
    for i, (cosine, found) in enumerate(zip(now.cosines, now.found, strict=True)):
        x, y = i % _COLUMNS, _ROWS - 1 - i // _COLUMNS
        said = f"{i + 1}: {cosine:.2f}" + ("" if found == i else f", like {found + 1}")
        tip = (
            f"picture {i + 1}: cosine {cosine:.3f}\nits features are nearest to picture {found + 1}"
        )
        role = "good" if found == i else "bad"
        look = {"width": 0.98, "height": 0.17, "size": 11, "strong": True}
        marks.append(Cells([x + 0.01], [y + 0.08], [said], role, tips=[tip], **look))
    x, y = Axis("", 0, _COLUMNS, show=False), Axis("", 0, _ROWS, show=False)
    return Plot(marks, x, y, title="Whose features are they nearest to?", height=_HEIGHT)


@cache
def _rows_of_pictures() -> tuple[Image, ...]:
    """One image for each row of four; the strip below is left for words."""
    thumbs = photograph(_THUMB)
    return tuple(
        Image(
            torch.cat([*thumbs[row * _COLUMNS : (row + 1) * _COLUMNS]], dim=2).permute(1, 2, 0),
            *(0, _COLUMNS, _ROWS - 1 - row + 0.27, _ROWS - row),
        )
        for row in range(_ROWS)
    )
