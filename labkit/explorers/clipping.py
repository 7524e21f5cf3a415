"""Where should the range end? Rounding error against clipping error, on real values.

The grid has 2^bits levels from -clip to clip (from 0 for values that are never negative). A narrow
grid rounds finely and clips much, a wide one clips nothing and rounds coarsely. The point on the
curves is measured with `labkit.errors.quantization_error` at every step of a slider.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from labkit.errors import ErrorReport
from labkit.explorers.clip_curve import HIGH, LOW, STEP, Curve, Measured, curve, measure, span
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, bits_slider, choice, float_slider
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
    Text,
)
from labkit.explorers.values import SETS, Values, values

BINS, REACH, TOP = 60, 1.5, 3.5
TIPS_UP_TO = 5
FLOOR = 1e-5
_COUNTS = Axis(
    "how many (log scale)",
    0.5,
    4e5,
    scale="log",
    ticks=(1, 10, 100, 1e3, 1e4, 1e5),
    labels=("1", "10", "100", "1,000", "10,000", "100,000"),
)
# The uniform model in units of the step: one step wide, so that its height is 1.
_MODEL = Line(
    (-REACH, -0.5, -0.5, 0.5, 0.5, REACH), (0, 0, 1, 1, 0, 0), "ink", "model", 1.8, dashed=True
)


@dataclass(frozen=True)
class State:
    """Which values, how many bits, where the grid ends (in σ), and whether 0 has a code.

    >>> State().bits
    3
    """

    data: str = "normal"
    bits: int = 3
    clip: float = 4.6
    grid: str = "half"


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['data', 'bits', 'clip', 'grid']
    """
    return {
        "data": choice(
            "values", [(words, name) for name, words in SETS.items()], tooltip="What is quantized"
        ),
        "bits": bits_slider(),
        "clip": float_slider(
            "range ends at (σ)",
            LOW,
            HIGH,
            step=STEP,
            tooltip="Where the grid ends, in standard deviations; values beyond it clip",
        ),
        "grid": choice(
            "grid",
            [("no code for 0", "half"), ("0 has a code", "zero")],
            tooltip="0 half-way between two levels, or all levels half a step lower: one is at 0",
        ),
    }


def scene(state: State) -> Scene:
    """Draw the values on their grid, their errors, and both errors over the clip position.

    >>> scene(State(bits=2)).readout("mean squared error").unit
    'σ²'
    """
    data, seen = values(state.data), measure(state.data, state.bits, state.clip, state.grid)
    shape, report = curve(state.data, state.bits, state.grid), seen.report
    count = len(data.x)
    step = (12 * report.predicted_mse) ** 0.5
    outside = int(seen.outside.sum())
    words = SETS[state.data]
    return Scene(
        f"{words[0].upper()}{words[1:]}: {count:,} values on {2**state.bits} levels",
        [
            [_values_plot(state, seen), _curves_plot(state, data, report, shape)],
            _error_plot(seen, step, count),
        ],
        readouts=[
            Readout("mean squared error", report.mse, "σ²", "measured", "error"),
            Readout("of it rounding", report.rounding_mse, "σ²", "measured", "error"),
            Readout("of it clipping", report.clipping_mse, "σ²", "measured", "range"),
            Readout("step s", step, "σ", "computed"),
            Readout("prediction s²/12", report.predicted_mse, "σ²", "computed"),
        ],
        formulas=[
            # Always two lines, or the cells below would jump while a slider moves.
            f"s = {span(seen.levels)} / (2^{state.bits} − 1) = {short(step)} σ      "
            f"{outside:,} of {count:,} values outside",
            f"lowest sum: range to {short(shape.best)} σ gives {short(shape.lowest)} σ²      "
            f"range to the largest value: {short(shape.at(data.amax))} σ²",
        ],
        description=(
            "Three plots: values and codes; rounding error, clipping error and their sum over the "
            "place where the range ends; the error of each value in steps."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(bits=4).state.bits
    4
    """
    return Panel(State(**fields), controls(), scene, limits=_limits)


def _limits(state: State) -> dict:
    # Levels from 0 upwards have a code for 0 anyway: there is no choice to make.
    return {"grid": {"disabled": values(state.data).one_sided}}


def _values_plot(state: State, seen: Measured) -> Plot:
    levels, counts = seen.levels, seen.counts
    used = counts > 0
    tips = ()
    if state.bits <= TIPS_UP_TO:
        pairs = zip(levels[used], counts[used], strict=True)
        tips = [f"level {short(float(v))} σ\n{n:,} values" for v, n in pairs]
    size = max(1.2, 5 - 0.55 * state.bits)
    marks = [
        Band(levels[0], levels[-1], "grid"),
        _histogram(state.data),
        Stems(levels, np.full(len(levels), 0.75), "quantized", baseline=0.5, size=0),
        Stems(levels[used], counts[used], label="codes", baseline=0.5, size=size, tips=tips),
    ]
    axis = Axis("value", -HIGH, HIGH, unit="σ", ticks=range(-10, 11, 5))
    return Plot(marks, axis, _COUNTS, "What goes in, where it lands", 250, label_rows=1)


def _error_plot(seen: Measured, step: float, count: int) -> Plot:
    steps, share = seen.error / step, count * 2 * REACH / BINS
    clipped = torch.histc(steps[seen.outside], BINS, -REACH, REACH).double().numpy() / share
    rounded = torch.histc(steps, BINS, -REACH, REACH).double().numpy() / share - clipped
    edges = np.linspace(-REACH, REACH, BINS + 1)
    marks = [
        Steps(edges, clipped.clip(max=TOP), "range", "clipped", fill=True, width=1.2),
        Steps(edges, rounded.clip(0, TOP), "error", "rounded", fill=True, width=1.2),
        _MODEL,
    ]
    highest = max(rounded.max(), clipped.max())
    if highest > TOP:
        role = "error" if rounded.max() == highest else "range"
        beside = edges[int((rounded if role == "error" else clipped).argmax()) + 1] + 0.02
        words = f"↑ up to {short(float(highest), 2)}"
        marks.append(Text(beside, TOP, words, role, anchor="start", dy=11))
    x = Axis("error of each value", -REACH, REACH, unit="steps s")
    return Plot(marks, x, Axis("density", 0, TOP, ticks=(0, 1, 2, 3)), height=160)


def _curves_plot(state: State, data: Values, report: ErrorReport, shape: Curve) -> Plot:
    marks = [
        *_lines(state.data, state.bits, state.grid),
        Rule(shape.best, f"lowest {short(shape.best)} σ", "good"),
        Rule(min(data.amax, HIGH), f"largest {short(data.amax, 3)} σ", "float"),
        Rule(state.clip, "", "quantized", dashed=False),
        Points([shape.best], [shape.lowest], "good", size=7, hollow=True),
        Points([state.clip], [report.rounding_mse], "error", size=5),
        Points([state.clip], [report.mse], "ink", size=7),
    ]
    if report.clipping_mse > FLOOR:
        marks.insert(-1, Points([state.clip], [report.clipping_mse], "range", size=5))
    x = Axis("where the range ends", 0, HIGH, unit="σ", ticks=range(0, 11, 2))
    y = Axis("MSE", FLOOR, 20, unit="σ²", scale="log", ticks=(1e-4, 1e-3, 1e-2, 0.1, 1, 10))
    return Plot(marks, x, y, "Rounding against clipping", 250, 1.3, label_rows=2)


@cache
def _histogram(data: str) -> Steps:
    # Bars without a value are drawn at the foot of the logarithmic axis.
    edges = np.linspace(-HIGH, HIGH, 201)
    heights = np.histogram(values(data).ordered, edges)[0].clip(min=_COUNTS.low)
    return Steps(edges, heights, "float", "values", fill=True, baseline=_COUNTS.low, width=1.2)


@cache
def _lines(data: str, bits: int, grid: str) -> list[Line]:
    # Every other position is enough for the eye, and half the text.
    shape = curve(data, bits, grid)
    clips, rounding, clipping = (row[::2] for row in (shape.clips, shape.rounding, shape.clipping))
    seen = clipping > FLOOR
    step = (clips if values(data).one_sided else 2 * clips) / (2**bits - 1)
    lines = [
        Line(clips, rounding, "error", "rounding"),
        Line(clips, rounding + clipping, "ink", "sum", 3),
        Line(clips, step**2 / 12, "muted", "s²/12", 1.5, dashed=True),
    ]
    if seen.sum() > 1:
        lines.insert(0, Line(clips[seen], clipping[seen], "range", "clipping"))
    return lines
