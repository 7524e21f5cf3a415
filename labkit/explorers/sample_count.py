"""How many calibration images are enough? The same observer on 1 to 1000 of them.

Six times, another random order of the training images is shown to an observer, and its range is
taken after 1, 3, 10, … 1000 images. Everything is then measured on the 1000 test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from labkit.affine import representable_range
from labkit.errors import quantization_error
from labkit.explorers.entering import (
    OBSERVER_WORDS,
    accuracy_of,
    answers,
    calibration,
    later,
    watch,
)
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.scene import Axis, Band, Line, Plot, Points, Readout, Rule, Scene

LAYER, IMAGES, BATCH = "fc2", 4000, 10
COUNTS = (1, 3, 10, 30, 100, 300, 1000)
DRAWS = 6
BITS = (8, 4)


@dataclass(frozen=True)
class State:
    """How many calibration images, bits, and who chooses the range.

    >>> State().images
    100
    """

    images: int = 100
    bits: int = 8
    observer: str = "minmax"


@dataclass(frozen=True, eq=False)
class Draws:
    """Arrays (draws, counts): end of the range, SQNR in dB, images read right, values clipped."""

    end: np.ndarray
    sqnr: np.ndarray
    right: np.ndarray
    clipped: np.ndarray


@cache
def draws(observer: str, bits: int) -> Draws:
    """Return what the observer chose after each number of images, in each random order.

    >>> draws("minmax", 8).end.shape
    (6, 7)
    """
    x, test = calibration(LAYER, IMAGES), later(LAYER)
    found = np.empty((4, DRAWS, len(COUNTS)))
    for draw in range(DRAWS):
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(draw))
        watching, seen = watch(observer, bits, ()), 0
        for place, count in enumerate(COUNTS):
            for batch in x[order[seen:count]].split(BATCH):
                watching.observe(batch)
            seen, qparams = count, watching.qparams()
            end = representable_range(qparams)[1].item()
            found[:, draw, place] = (
                end,
                quantization_error(test, qparams).sqnr_db,
                answers(LAYER, qparams).sum().item(),
                (test > end).sum().item(),
            )
    return Draws(*found)


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['images', 'bits', 'observer']
    """
    return {
        "images": steps_slider(
            "calibration images", COUNTS, tooltip="How many images the observer may see"
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
    """Draw end, signal to noise and accuracy over the number of images, a thin line each order.

    >>> scene(State()).readout("range ends at").value
    '4.34 … 5.21'
    """
    found, at = draws(state.observer, state.bits), COUNTS.index(state.images)
    base, words = accuracy_of(answers(LAYER, None)), OBSERVER_WORDS[state.observer]
    largest = later(LAYER).max().item()
    right, clipped, end = found.right[:, at], found.clipped[:, at], found.end[:, at]
    share = 100 * clipped / later(LAYER).numel()
    end_axis = Axis("end", 0, 10, ticks=range(0, 11, 2))
    return Scene(
        f"{words[0].upper()}{words[1:]} after {state.images:,} images, {state.bits} bits",
        [
            [
                _plot(state, found.end, end_axis, "Where the range ends", largest),
                _plot(state, found.sqnr, Axis("SQNR", 0, 50, unit="dB"), "What is left"),
            ],
            _accuracy_plot(state, found),
        ],
        readouts=[
            Readout(
                "test images read right",
                f"{right.min() / 10:.1f} … {right.max() / 10:.1f} %",
                "",
                "measured",
                "quantized",
            ),
            Readout("range ends at", f"{end.min():.2f} … {end.max():.2f}", "", "computed"),
            Readout(
                "test values clipped",
                f"{share.min():.3f} … {share.max():.3f} %",
                "",
                "measured",
                "range",
            ),
        ],
        formulas=[
            f"smallest … largest of {DRAWS} random draws of the calibration images",
            f"float: {base}",
        ],
        description=(
            "Three plots over the number of calibration images, with a line for each random "
            "draw: the end of the range, the signal-to-noise ratio, the accuracy."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(images=3).state.images
    3
    """
    # The first look at an observer takes up to a few seconds; each later one none.
    return Panel(State(**fields), controls(), scene, slow=True)


def _plot(state: State, values: np.ndarray, y: Axis, title: str, rule: float = 0.0) -> Plot:
    at = COUNTS.index(state.images)
    marks: list = [Line(COUNTS, row, "float", width=1.3) for row in values]
    if rule:
        marks.append(Rule(rule, "largest of the test images", "range", axis="y"))
    marks.append(Rule(state.images, "", "quantized", dashed=False))
    marks.append(Points(np.full(DRAWS, state.images), values[:, at], "quantized", size=5))
    return Plot(marks, _count_axis(), y, title, 240)


def _accuracy_plot(state: State, found: Draws) -> Plot:
    base = accuracy_of(answers(LAYER, None))
    plot = _plot(
        state,
        found.right / 10,
        Axis("read right", 88, 97, unit="%", ticks=range(88, 98, 2)),
        "Accuracy with what enters fc2 quantized (band: float, 95 % interval)",
    )
    band = Band(100 * base.low, 100 * base.high, "", "float", axis="y")
    return Plot([band, *plot.marks], plot.x, plot.y, plot.title, 220)


def _count_axis() -> Axis:
    labels = [f"{count:,}" for count in COUNTS]
    return Axis("calibration images", 0.9, 1100, scale="log", ticks=COUNTS, labels=labels)
