"""Calibrated on the wrong pictures: what it does to the ranges, and what it costs.

The network was trained on pixels from 0 to 1 and is always tested on such. Only the 100 pictures
that calibrate it are prepared differently. Weights have 8 bits, what enters each layer has `bits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from labkit.affine import quantize, representable_range
from labkit.evaluate import right_answers
from labkit.explorers.drawing.text import short
from labkit.explorers.entering import (
    OBSERVER_WORDS,
    against_float,
    digits,
    entering,
    later,
    network,
    read_right,
)
from labkit.explorers.panel import Panel, bits_slider, choice
from labkit.explorers.scene import (
    Axis,
    Bars,
    Image,
    Line,
    Plot,
    Readout,
    Rule,
    Scene,
    Steps,
    Text,
)
from labkit.qparams import QParams
from labkit.quantize import quantize_model

LAYER, IMAGES, BATCH = "fc2", 100, 10


def _noise(images: Tensor) -> Tensor:
    return torch.rand(images.shape, generator=torch.Generator().manual_seed(0))


KINDS: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "right": ("as in training: 0 … 1", lambda x: x),
    "bytes": ("not divided by 255: 0 … 255", lambda x: 255 * x),
    "twice": ("divided by 255 twice: 0 … 0.004", lambda x: x / 255),
    "dark": ("a tenth as bright: 0 … 0.1", lambda x: x / 10),
    "inverted": ("inverted: 1 − x", lambda x: 1 - x),
    "standard": ("standardized: (x − 0.13) / 0.31", lambda x: (x - 0.1307) / 0.3081),
    "noise": ("random noise, 0 … 1", _noise),
    "blank": ("blank: all 0", torch.zeros_like),
}


@dataclass(frozen=True)
class State:
    """How the calibration pictures were prepared, bits of what enters a layer, who chooses.

    >>> State().kind
    'right'
    """

    kind: str = "right"
    bits: int = 8
    observer: str = "minmax"


@cache
def pictures(kind: str) -> Tensor:
    """Return the 100 calibration pictures, prepared in one of the ways of `KINDS`.

    >>> pictures("bytes").max().item()
    255.0
    """
    return KINDS[kind][1](digits().train_images[:IMAGES])


@cache
def calibrated(kind: str, bits: int, observer: str) -> tuple[QParams, Tensor]:
    """Return the grid of what enters fc2, and the right answers of the whole static network.

    >>> calibrated("right", 8, "minmax")[1].sum().item() > 900
    True
    """
    quantized, _ = quantize_model(
        network(LAYER),
        "static",
        bits=8,
        activation_bits=bits,
        calibration_data=pictures(kind).split(BATCH),
        observer=observer,
    )
    right = right_answers(quantized, digits().test_images, digits().test_labels)
    return quantized.fc2.input_quantizer.qparams, right


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['kind', 'bits', 'observer']
    """
    return {
        "kind": choice(
            "calibration pictures",
            [(words, name) for name, (words, _) in KINDS.items()],
            tooltip="How the pictures that calibrate are prepared",
        ),
        "bits": bits_slider("bits of activations", 4),
        "observer": choice(
            "observer",
            [(words, name) for name, words in OBSERVER_WORDS.items()],
            buttons=True,
            tooltip="Who chooses where the range ends",
        ),
    }


def scene(state: State) -> Scene:
    """Draw a picture, the two distributions with the range, and the cost of each preparation.

    >>> scene(State("bytes")).readout("codes in use").value
    '2 of 256'
    """
    qparams, right = calibrated(state.kind, state.bits, state.observer)
    end, x = representable_range(qparams)[1].item(), later(LAYER)
    used = len(quantize(x, qparams).unique())
    clipped = 100 * (x > end).double().mean().item()
    return Scene(
        f"Calibration pictures: {KINDS[state.kind][0]}",
        [
            [_picture_plot(state), _values_plot(state, end)],
            _cost_plot(state),
        ],
        readouts=[
            read_right(right),
            Readout("range of fc2 ends at", end, "", "computed", "quantized", 3),
            Readout("codes in use", f"{used} of {2**state.bits}", "", "measured"),
            Readout("test values clipped", clipped, "%", "measured", "range", 2),
        ],
        formulas=[
            f"fc2: s = {short(qparams.scale.item(), 3)}, largest test value {x.max().item():.2f}",
            against_float(right, _float_answers()),
        ],
        description=(
            "Three plots: a picture used for calibration; what enters fc2 in calibration and "
            "later, with the range; the accuracy for each way to prepare the pictures."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(kind="noise").state.kind
    'noise'
    """
    return Panel(State(**fields), controls(), scene)


@cache
def _float_answers() -> Tensor:
    return right_answers(network(LAYER), digits().test_images, digits().test_labels)


def _picture_plot(state: State) -> Plot:
    # Gray levels relative to what training used: everything above 1 is white.
    shown = Image(pictures(state.kind)[0, 0].clamp(0, 1).numpy(), 0, 1, 0, 1, low=0, high=1)
    return Plot([shown], title="One of the pictures", height=230)


EDGES = np.geomspace(0.003, 3000, 91)


@cache
def _shares(kind: str) -> np.ndarray:
    """Percent of the values above 0 in each bin: calibration of a kind, or "test"."""
    x = later(LAYER) if kind == "test" else entering(LAYER, pictures(kind))
    return 100 * np.histogram(x.numpy(), EDGES)[0] / max(1, int((x > 0).sum()))


def _values_plot(state: State, end: float) -> Plot:
    marks = [
        Steps(EDGES, _shares("test"), "float", "the test", fill=True, width=1.2),
        Steps(EDGES, _shares(state.kind), "quantized", "calibration", width=2.2),
        Rule(min(end, EDGES[-1]), "range ends", "quantized", dashed=False),
    ]
    x = Axis("value that enters fc2 (log scale)", EDGES[0], EDGES[-1], scale="log")
    y = Axis("share of those above 0", 0, 15, unit="%", ticks=(0, 5, 10, 15))
    return Plot(marks, x, y, "What enters fc2", 230, 2.6, label_rows=1)


def _cost_plot(state: State) -> Plot:
    names, base = list(KINDS), 100 * _float_answers().double().mean().item()
    marks: list = []
    for place, name in enumerate(names):
        share = 100 * calibrated(name, state.bits, state.observer)[1].double().mean().item()
        role = "quantized" if name == state.kind else "range"
        # Words just below the dashed line would cross it.
        height = base if base - 12 < share < base else share
        marks.append(Bars([place], [share], 0.6, role))
        marks.append(Text(place, height, f"{share:.1f}", "ink", dy=-5))
    marks.append(Line([-0.5, len(names) - 0.5], [base, base], "float", "float", 1.5, dashed=True))
    labels = ("right", "× 255", "÷ 255", "÷ 10", "inverted", "standardized", "noise", "blank")
    x = Axis("", -0.5, len(names) - 0.5, ticks=range(len(names)), labels=labels)
    y = Axis("read right", 0, 108, unit="%", ticks=range(0, 101, 25))
    return Plot(marks, x, y, "Accuracy of the static network, by preparation", 220)
