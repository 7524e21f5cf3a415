"""One stray value among the activations of a real layer: whom does it fool?

Of the 25,600 values that enter fc2 for 100 calibration images, one is replaced by a multiple of the
largest: a broken pixel, a rare token. The observers see it, the 1000 test images do not have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from labkit.affine import QParams, quantize, representable_range
from labkit.errors import quantization_error
from labkit.explorers.drawing.text import short
from labkit.explorers.entering import (
    OBSERVER_WORDS,
    accuracy_of,
    against_float,
    answers,
    calibration,
    later,
    read_right,
    watch,
)
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.scene import Axis, Band, Line, Plot, Points, Readout, Rule, Scene

LAYER, BATCH = "fc2", 10
SIZES = (1, 2, 3, 5, 10, 20, 50, 100, 200)
BITS = (8, 6, 4)
ROLES = dict(zip(OBSERVER_WORDS, ("error", "code7", "code3", "good", "float"), strict=True))
"""One colour an observer: there are five lines in each plot."""


@dataclass(frozen=True)
class State:
    """How many times the largest value the stray is, bits, and who chooses the range.

    >>> State().size
    20
    """

    size: int = 20
    bits: int = 8
    observer: str = "minmax"


@cache
def grid(size: int, bits: int, observer: str) -> QParams:
    """Return what the observer chooses when one value is `size` times the largest.

    >>> bool(grid(20, 8, "minmax").scale > 10 * grid(20, 8, "percentile").scale)
    True
    """
    x = calibration(LAYER).clone()
    # In the middle of the sample, so that a moving average meets it on its way.
    x[len(x) // 2, 0] = size * x.max()
    return watch(observer, bits, x.split(BATCH)).qparams()


@cache
def outcome(size: int, bits: int, observer: str) -> tuple[float, float, torch.Tensor]:
    """Return (end of the range, SQNR in dB, right answers) on the test images.

    >>> outcome(1, 8, "minmax")[2].sum().item()
    934
    """
    qparams = grid(size, bits, observer)
    sqnr = quantization_error(later(LAYER), qparams).sqnr_db
    return representable_range(qparams)[1].item(), sqnr, answers(LAYER, qparams)


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['size', 'bits', 'observer']
    """
    return {
        "size": steps_slider(
            "stray value (× largest)",
            SIZES,
            tooltip="How many times the largest ordinary value the stray one is",
        ),
        "bits": choice("bits", BITS, tooltip="How many bits a code has"),
        "observer": choice(
            "observer",
            [(words, name) for name, words in OBSERVER_WORDS.items()],
            buttons=True,
            tooltip="Who chooses where the range ends",
        ),
    }


def scene(state: State) -> Scene:
    """Draw where each observer ends, and what is left of signal and accuracy, over the size.

    >>> scene(State(observer="percentile")).readout("range ends at").value < 7
    True
    """
    end, _, right = outcome(state.size, state.bits, state.observer)
    x, qparams = later(LAYER), grid(state.size, state.bits, state.observer)
    codes = quantize(x, qparams)
    used = len(codes.unique())
    lost = ((codes == qparams.zero_point) & (x > 0)).sum().item() / (x > 0).sum().item()
    largest = calibration(LAYER).max().item()
    return Scene(
        f"One of 25,600 values is {state.size} × the largest, {state.bits} bits",
        [
            [
                _plot(state, 0, Axis("end", 2, 2000, scale="log"), "Where the range ends"),
                _plot(state, 1, Axis("SQNR", 0, 50, unit="dB"), "What is left for the others"),
            ],
            _accuracy_plot(state),
        ],
        readouts=[
            read_right(right),
            Readout("range ends at", end, "", "computed", "quantized", 3),
            Readout("codes in use", f"{used} of {2**state.bits}", "", "measured"),
            Readout("of those above 0, lost", 100 * lost, "%", "measured", "error", 2),
        ],
        formulas=[
            f"stray value {state.size} × {short(largest, 3)} = {short(state.size * largest, 3)}"
            f"      s = {short(qparams.scale.item(), 3)}",
            against_float(right, answers(LAYER, None)),
        ],
        description=(
            "Three plots over the size of the stray value, with a line for each of five "
            "observers: the end of the range, the signal-to-noise ratio, the accuracy."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(size=5).state.size
    5
    """
    return Panel(State(**fields), controls(), scene)


def _size_axis() -> Axis:
    return Axis(
        "stray value, × the largest", 0.9, 230, scale="log", ticks=SIZES, labels=map(str, SIZES)
    )


def _lines(state: State, values: dict[str, list[float]], labels: bool) -> list:
    """A line an observer, the chosen one thick, and a dot at the slider."""
    at = SIZES.index(state.size)
    marks: list = []
    for name in values:
        thick, words = name == state.observer, OBSERVER_WORDS[name] if labels else ""
        # Dashed, because MSE often runs along another line.
        width, dashed = 3.5 if thick else 1.8, name == "mse"
        marks.append(Line(SIZES, values[name], ROLES[name], words, width, dashed=dashed))
    marks.append(Rule(state.size, "", "quantized", dashed=False))
    marks.append(Points([state.size], [values[state.observer][at]], "quantized", size=7))
    return marks


def _plot(state: State, part: int, y: Axis, title: str) -> Plot:
    values = {
        name: [outcome(size, state.bits, name)[part] for size in SIZES] for name in OBSERVER_WORDS
    }
    return Plot(_lines(state, values, False), _size_axis(), y, title, 240)


def _accuracy_plot(state: State) -> Plot:
    values = {
        name: [100 * outcome(size, state.bits, name)[2].double().mean().item() for size in SIZES]
        for name in OBSERVER_WORDS
    }
    base = accuracy_of(answers(LAYER, None))
    band = Band(100 * base.low, 100 * base.high, "", "float", axis="y")
    y = Axis("read right", 0, 100, unit="%", ticks=range(0, 101, 20))
    title = "Accuracy with what enters fc2 quantized (band: float, 95 % interval)"
    return Plot([band, *_lines(state, values, True)], _size_axis(), y, title, 230)
