"""Five observers watch the same real layer: where does each end the range, and what is left?

The observers see what enters a layer for 100 training images, ten at a time. All figures of quality
are those of the 1000 test images, which no observer has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import Tensor

from labkit.affine import QParams, qparams_from_range, representable_range
from labkit.errors import quantization_error
from labkit.explorers.drawing.text import short
from labkit.explorers.entering import (
    LAYERS,
    OBSERVER_WORDS,
    against_float,
    answers,
    calibration,
    counts_in,
    later,
    read_right,
    watch,
)
from labkit.explorers.panel import Panel, bits_slider, choice
from labkit.explorers.scene import (
    Axis,
    Band,
    Line,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Stems,
    Steps,
)

IMAGES, BATCH = 100, 10
POSITIONS = np.geomspace(0.1, 1.1, 40)
LOWEST_MSE = 1e-5
_TICKS = (1, 10, 100, 1e3, 1e4, 1e5)
_COUNTS = Axis(
    "how many (log scale)",
    0.5,
    4e5,
    scale="log",
    ticks=_TICKS,
    labels=tuple(f"{int(t):,}" for t in _TICKS),
)


@dataclass(frozen=True)
class State:
    """Which layer, how many bits, and who chooses the range.

    >>> State().observer
    'minmax'
    """

    layer: str = "fc2"
    bits: int = 4
    observer: str = "minmax"


@dataclass(frozen=True, eq=False)
class Chosen:
    """One observer's grid and what it does to the test images: end, dB, values clipped, answers."""

    qparams: QParams
    end: float
    sqnr_db: float
    clipped: int
    right: Tensor


@cache
def chosen(layer: str, bits: int, observer: str) -> Chosen:
    """Return what the observer chose after 100 training images, measured on the test images.

    >>> round(chosen("fc2", 4, "minmax").end, 2)
    6.17
    """
    qparams = watch(observer, bits, calibration(layer, IMAGES).split(BATCH)).qparams()
    end, x = representable_range(qparams)[1].item(), later(layer)
    return Chosen(
        qparams,
        end,
        quantization_error(x, qparams).sqnr_db,
        int((x > end).sum()),
        answers(layer, qparams),
    )


@cache
def errors(layer: str, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (ends, rounding, clipping) on the calibration images, arrays of one length.

    >>> ends, rounding, clipping = errors("fc2", 2)
    >>> bool(rounding[0] < rounding[-1]) and bool(clipping[0] > clipping[-1])
    True
    """
    x = calibration(layer, IMAGES)
    ends = POSITIONS * x.max().item()
    reports = [quantization_error(x, qparams_from_range(0.0, end, bits)) for end in ends]
    rounding, clipping = (
        np.array([getattr(report, part) for report in reports])
        for part in ("rounding_mse", "clipping_mse")
    )
    return ends, rounding, clipping


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['layer', 'bits', 'observer']
    """
    return {
        "layer": choice(
            "what enters",
            [(layer.words, name) for name, layer in LAYERS.items()],
            buttons=False,
            tooltip="The layer whose input is quantized",
        ),
        "bits": bits_slider(),
        "observer": choice(
            "observer",
            [(words, name) for name, words in OBSERVER_WORDS.items()],
            buttons=True,
            tooltip="Who chooses where the range ends",
        ),
    }


def scene(state: State) -> Scene:
    """Draw the activations with the chosen range, the errors over its end, and all five ends.

    >>> scene(State()).readout("range ends at").value > 6
    True
    """
    now, x = chosen(state.layer, state.bits, state.observer), later(state.layer)
    value_axis = Axis("value that enters", 0, _reach(state.layer))
    return Scene(
        f"What enters {LAYERS[state.layer].words}, on {2**state.bits} levels",
        [
            # The other observers' ends are thin lines among the values.
            [_values_plot(state, now, value_axis), _errors_plot(state, now)],
            [_ends_plot(state, value_axis), _left_plot(state)],
        ],
        readouts=[
            read_right(now.right),
            Readout("signal to noise", now.sqnr_db, "dB", "measured", "error", 3),
            Readout("range ends at", now.end, "", "computed", "quantized", 3),
            Readout(f"clipped of {x.numel():,}", f"{now.clipped:,}", "", "measured", "range"),
        ],
        formulas=[
            f"s = {short(now.end)} / (2^{state.bits} − 1) = {short(now.qparams.scale.item())}      "
            f"largest value in calibration {short(calibration(state.layer).max().item(), 3)}, "
            f"in the test {short(x.max().item(), 3)}",
            against_float(now.right, answers(state.layer, None)),
        ],
        description=(
            "Four plots: the activations and the chosen range; rounding and clipping error over "
            "the end of the range; where each of five observers ends it; what is left for each."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(bits=3).state.bits
    3
    """
    return Panel(State(**fields), controls(), scene)


def _reach(layer: str) -> float:
    return float(np.ceil(1.12 * later(layer).max().item()))


@cache
def _histogram(layer: str) -> Steps:
    edges = np.linspace(0, _reach(layer), 121)
    heights = counts_in(calibration(layer, IMAGES), edges)
    return Steps(
        edges, heights, "float", f"{IMAGES} images", fill=True, baseline=_COUNTS.low, width=1.2
    )


def _values_plot(state: State, now: Chosen, axis: Axis) -> Plot:
    levels = np.arange(2**state.bits) * now.qparams.scale.item()
    marks = [
        Band(0, now.end, "range"),
        _histogram(state.layer),
        Stems(levels, np.full(len(levels), 0.85), "quantized", "levels", baseline=0.5, size=0),
        *(
            Rule(chosen(state.layer, state.bits, o).end, "", "range", width=1)
            for o in OBSERVER_WORDS
        ),
        Rule(now.end, "", "quantized", dashed=False),
    ]
    return Plot(
        marks, axis, _COUNTS, "What they saw; dashed: where the others end", 235, label_rows=1
    )


@cache
def _lines(layer: str, bits: int) -> list[Line]:
    ends, rounding, clipping = errors(layer, bits)
    lines = [
        Line(ends, rounding, "error", "rounding"),
        Line(ends, rounding + clipping, "ink", "sum", 3),
    ]
    seen = clipping > LOWEST_MSE
    return [Line(ends[seen], clipping[seen], "range", "clipping"), *lines]


def _errors_plot(state: State, now: Chosen) -> Plot:
    found = quantization_error(calibration(state.layer, IMAGES), now.qparams)
    marks = [
        *_lines(state.layer, state.bits),
        Rule(now.end, "", "quantized", dashed=False),
        Points([now.end], [found.rounding_mse], "error", size=5),
        Points([now.end], [found.mse], "ink", size=7),
    ]
    x = Axis("where the range ends", 0, _reach(state.layer))
    y = Axis("MSE", LOWEST_MSE, 20, scale="log", ticks=(1e-4, 1e-3, 1e-2, 0.1, 1, 10))
    return Plot(marks, x, y, "Rounding against clipping", 235)


def _rows() -> Axis:
    count = len(OBSERVER_WORDS)
    ticks = tuple(range(count, 0, -1))
    return Axis("", 0.4, count + 0.6, ticks=ticks, labels=tuple(OBSERVER_WORDS.values()))


def _bars(state: State, values: list[float]) -> list:
    """One thick line a row, from 0 to its value, the chosen observer's in orange."""
    marks = []
    for row, (name, value) in enumerate(zip(OBSERVER_WORDS, values, strict=True)):
        y, role = len(OBSERVER_WORDS) - row, "quantized" if name == state.observer else "range"
        marks.append(Line([0, max(value, 1e-9)], [y, y], role, width=7))
    return marks


def _ends_plot(state: State, axis: Axis) -> Plot:
    ends = [chosen(state.layer, state.bits, name).end for name in OBSERVER_WORDS]
    largest = later(state.layer).max().item()
    marks = [*_bars(state, ends), Rule(largest, "largest of the test images", "float")]
    return Plot(marks, axis, _rows(), "Where each observer ends the range", 190, label_rows=1)


def _left_plot(state: State) -> Plot:
    left = [chosen(state.layer, state.bits, name).sqnr_db for name in OBSERVER_WORDS]
    x = Axis("signal to noise on the test images", 0, 55, unit="dB")
    return Plot(_bars(state, left), x, _rows(), "What is left", 190, label_rows=1)
