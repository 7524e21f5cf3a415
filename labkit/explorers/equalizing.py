"""Which layer of a real network is to blame, the ranges of its channels, and their equalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from labkit.explorers import real_network as net
from labkit.explorers.controls import steps_slider
from labkit.explorers.panel import Panel, switch
from labkit.explorers.scene import (
    Axis,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Scene,
    Stems,
)

BITS = 8
_STEPS = 2 ** (BITS - 1) - 1


@dataclass(frozen=True)
class State:
    """The layer, by its place in the computation (0 to 51), and equalized or not.

    >>> State().layer
    0
    """

    layer: int = 0
    equalized: bool = False


def controls() -> dict[str, Any]:
    """A slider over the layers, and the switch."""
    names = [(name, place) for place, name in enumerate(net.layers())]
    return {
        "layer": steps_slider("the only layer quantized", names, tooltip="All others stay float"),
        "equalized": switch("equalize first", tooltip="Share out the ranges between layers"),
    }


def scene(state: State) -> Scene:
    """Draw the blame of every layer, and the ranges of the chosen layer's channels."""
    name = list(net.layers())[state.layer]
    variant = "equalized" if state.equalized else "folded"
    cosines, ranges = net.blame(variant, BITS), net.ranges(variant, name)
    step = ranges.max().item() / _STEPS
    lost = int((ranges <= step / 2).sum())
    alive = ranges[ranges > 1e-6 * ranges.max()]
    spread = (alive.max() / alive.median()).item()
    return Scene(
        f"Only {name} in {BITS} bits per tensor{', equalized first' if state.equalized else ''}",
        [_blame(state, name), _ranges(state, name)],
        readouts=[
            Readout("feature cosine", f"{cosines[name]:.3f}", "", "measured", "quantized"),
            Readout("widest ÷ median", spread, "×", "computed", digits=3),
            Readout("channels that became 0", f"{lost} of {len(ranges)}", "", "measured", "error"),
            Readout("step s", step),
        ],
        description=(
            "Above, the feature cosine when only one layer is quantized; below, the largest weight "
            "of each channel of the chosen layer, before and after equalization."
        ),
    )


def explorer(**fields: Any) -> Panel | net.Absent:
    """Return the live panel, or one line that says how to get the network."""
    if not net.is_here():
        return net.Absent()
    # Seconds, once; now, so that no control has to wait for them.
    for variant in net.VARIANTS:
        net.blame(variant, BITS)
    return Panel(State(**fields), controls(), scene)


def _blame(state: State, name: str) -> Plot:
    marks: list[Mark] = []
    for variant, role in (("folded", "float"), ("equalized", "good")):
        if variant == "equalized" and not state.equalized:
            continue
        cosines = net.blame(variant, BITS)
        words = net.VARIANTS[variant]
        tips = [f"{layer}\n{words}: {cosine:.3f}" for layer, cosine in cosines.items()]
        places = range(len(cosines))
        marks.append(Stems(places, list(cosines.values()), role, words, 1.0, 3, tips=tips))
    shown = net.blame("equalized" if state.equalized else "folded", BITS)[name]
    marks.append(Points([state.layer], [shown], "quantized", size=7))
    x = Axis("layer, in the order of the computation", -1, len(net.layers()))
    return Plot(marks, x, Axis("feature cosine", 0.3, 1.04), height=225)


def _ranges(state: State, name: str) -> Plot:
    """Both networks' channels, in the order of the ranges as trained."""
    before, after = (net.ranges(variant, name) for variant in net.VARIANTS)
    order = before.argsort()
    marks = [*_curve(before[order], "float", "as trained")]
    if state.equalized:
        marks += _curve(after[order], "good", "equalized")
    x = Axis("channel, by its largest weight as trained", -0.5, len(order) - 0.5)
    y = Axis("largest weight", 1e-4, 200, scale="log", ticks=(1e-4, 1e-3, 0.01, 0.1, 1, 10, 100))
    return Plot(marks, x, y, height=250)


def _curve(ranges: Tensor, role: str, label: str) -> list[Mark]:
    places = np.arange(len(ranges))
    half = ranges.max().item() / _STEPS / 2
    size = 3 if len(ranges) <= 100 else 1.5
    return [
        Points(places, ranges.clamp(min=1e-4), role, label, size=size),
        Line([-0.5, len(ranges) - 0.5], [half, half], role, f"s / 2 {label}", 1.5, dashed=True),
    ]
