"""One value far away: what it does to the grid of all the others.

A hundred thousand normal values, one of them moved to `distance` σ. The range reaches either to the
largest value, or to the place with the smallest mean squared error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from labkit.affine import QParams, fake_quantize, qparams_from_range
from labkit.errors import decibels, quantization_error
from labkit.explorers.clip_curve import levels_of, span
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, bits_slider, choice, int_slider
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
from labkit.explorers.values import values

NEAR, FAR = 5, 50
_TICKS = (1, 10, 100, 1e3, 1e4, 1e5)
_COUNTS = Axis(
    "how many (log scale)",
    0.5,
    4e5,
    scale="log",
    ticks=_TICKS,
    labels=tuple(f"{int(t):,}" for t in _TICKS),
)
_RANGES = {"minmax": "to the largest value", "best": "to the smallest MSE"}


@dataclass(frozen=True)
class State:
    """Bits, place of the outlier in σ, and the rule for the range.

    >>> State().distance
    50
    """

    bits: int = 4
    distance: int = 50
    ends: str = "minmax"


@cache
def crowd() -> torch.Tensor:
    """Return everyone else: 99,999 normal values, (n,) float32, σ = 1.

    >>> crowd().shape
    torch.Size([99999])
    """
    return values("normal").x[1:]


@cache
def choose(bits: int, distance: int, ends: str) -> QParams:
    """Return the grid for the crowd and one value at `distance`.

    "minmax" reaches from the smallest to the largest value. "best" searches the upper end with the
    smallest mean squared error of all 100,000 values, outlier included.

    >>> choose(4, 50, "minmax").scale.item() > 3
    True
    """
    low, high = crowd().min().item(), max(crowd().max().item(), distance)
    if ends == "minmax":
        return qparams_from_range(low, high, bits)
    if ends != "best":
        raise ValueError(f"ends must be 'minmax' or 'best', got {ends!r}")
    scale = torch.arange(0.02, 1.0005, 0.005, dtype=torch.float64)
    grids = qparams_from_range(torch.clamp(-high * scale, min=low), high * scale, bits)
    levels = levels_of(grids)
    others = sum(values("normal").split(levels))
    far = np.abs(levels - distance).min(1) ** 2 / len(values("normal").x)
    at = int(np.argmin(others + far))
    return QParams(grids.scale[at], grids.zero_point[at], grids.quant_min, grids.quant_max)


@cache
def crowd_sqnr(bits: int, ends: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (distances, SQNR in dB of everyone else) for every position of the outlier.

    >>> distances, sqnr = crowd_sqnr(4, "minmax")
    >>> bool(sqnr[0] > sqnr[-1])
    True
    """
    distances = np.arange(NEAR, FAR + 1)
    levels = np.stack([levels_of(choose(bits, int(d), ends)) for d in distances])
    errors = sum(values("normal").split(levels))
    power = values("normal").power
    return distances, np.array([decibels(power, error) for error in errors])


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['distance', 'bits', 'ends']
    """
    return {
        "distance": int_slider(
            "outlier at (σ)", NEAR, FAR, tooltip="Where the one far value lies, in σ of the others"
        ),
        "bits": bits_slider(),
        "ends": choice(
            "range", [(words, name) for name, words in _RANGES.items()], tooltip="Where it ends"
        ),
    }


def scene(state: State) -> Scene:
    """Draw the crowd, the outlier, the levels, and what is left of the crowd's signal.

    >>> scene(State(bits=4, distance=50)).readout("codes they use").value
    '3 of 16'
    """
    grid = choose(state.bits, state.distance, state.ends)
    others = crowd()
    report = quantization_error(others, grid)
    levels = levels_of(grid)
    codes = (fake_quantize(others, grid) / grid.scale).round_().long() + grid.zero_point
    counts = np.bincount(codes.numpy(), minlength=2**state.bits)
    used = int((counts > 0).sum())
    zeros = counts[grid.zero_point.item()] / counts.sum()
    return Scene(
        f"One value at {state.distance} σ, {len(others):,} normal values, {2**state.bits} levels",
        [_line_plot(state, levels, counts), _loss_plot(state, report.sqnr_db)],
        readouts=[
            Readout("signal to noise of the others", report.sqnr_db, "dB", "measured", "error", 3),
            Readout("codes they use", f"{used} of {2**state.bits}", "", "measured", "quantized"),
            Readout("became exactly 0", 100 * zeros, "%", "measured", digits=3),
            Readout("MSE of the others", report.mse, "σ²", "measured", "error"),
        ],
        formulas=[f"s = {span(levels)} / (2^{state.bits} − 1) = {short(grid.scale.item())} σ"],
        description=(
            "Above, a number line with the crowd near 0, the outlier and the grid's levels; below, "
            "the signal-to-noise ratio of the crowd over the place of the outlier."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(distance=9).state.distance
    9
    """
    return Panel(State(**fields), controls(), scene)


def _line_plot(state: State, levels: np.ndarray, counts: np.ndarray) -> Plot:
    used = counts > 0
    tips = ()
    if state.bits <= 5:
        pairs = zip(levels[used], counts[used], strict=True)
        tips = [f"level {short(float(v))} σ\n{n:,} values" for v, n in pairs]
    size = max(1.2, 5 - 0.55 * state.bits)
    marks = [
        Band(levels[0], levels[-1], "grid"),
        _histogram(),
        Stems(levels, np.full(len(levels), 0.9), "quantized", baseline=0.5, size=0),
        Stems(levels[used], counts[used], label="codes", baseline=0.5, size=size, tips=tips),
        Points([state.distance], [1], "error", "the outlier", size=6),
    ]
    axis = Axis("value", -8, 56, unit="σ")
    return Plot(marks, axis, _COUNTS, "Where the levels go", 250, label_rows=1)


def _loss_plot(state: State, now: float) -> Plot:
    marks = [Rule(state.distance, "", "quantized", dashed=False)]
    for ends, role in (("minmax", "error"), ("best", "good")):
        marks.append(_loss_line(state.bits, ends, role))
    marks.append(Points([state.distance], [now], "ink", "measured now", size=7))
    x, y = (
        Axis("where the outlier lies", 0, FAR + 5, unit="σ"),
        Axis("SQNR", 0, 45, unit="dB", ticks=range(0, 41, 10)),
    )
    return Plot(marks, x, y, "What is left for the others", 220)


@cache
def _loss_line(bits: int, ends: str, role: str) -> Line:
    return Line(*crowd_sqnr(bits, ends), role, f"range {_RANGES[ends]}")


@cache
def _histogram() -> Steps:
    edges = np.arange(-8, 8.01, 0.25)
    heights = np.histogram(crowd().numpy(), edges)[0].clip(min=_COUNTS.low)
    return Steps(edges, heights, "float", "the others", fill=True, baseline=_COUNTS.low, width=1.2)
