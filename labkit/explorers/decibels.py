"""Decibels per bit: the signal-to-quantization-noise ratio over the bit width.

Every distribution has σ = 1. Either all grids end at the same place, or each where its own mean
squared error is smallest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labkit.errors import decibels, uniform_sqnr_db
from labkit.explorers.clip_curve import HIGH, curve, lowest
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, choice, float_slider
from labkit.explorers.scene import Axis, Line, Plot, Points, Readout, Scene
from labkit.explorers.values import SETS, values

BITS = np.arange(2, 9)
SHOWN = {"laplace": "code3", "normal": "float", "uniform": "code2", "fc1": "quantized"}
"""Distribution → colour."""
_SHORT = {"fc1": "weights of fc1"}


@dataclass(frozen=True)
class State:
    """Where all grids end, in σ, or "best" for each its own place.

    >>> State().ends
    'same'
    """

    clip: float = 4.0
    ends: str = "same"


def sqnr(data: str, bits: int, state: State) -> float:
    """Return the SQNR in dB of a whole set, measured over every value on the grid without a code
    for 0.

    >>> round(sqnr("uniform", 8, State(ends="best")), 1)
    48.2
    """
    if state.ends not in ("same", "best"):
        raise ValueError(f"ends must be 'same' or 'best', got {state.ends!r}")
    best = state.ends == "best"
    error = lowest(data, bits)[1] if best else curve(data, bits).at(state.clip)
    return decibels(values(data).power, error)


def predicted_db(bits: float, clip: float) -> float:
    """Return what rounding alone would leave of a signal of power 1: -10 log10(s²/12), in dB.

    With s = 2 clip / (2^b - 1) that is 20 log10(2^b - 1) + 4.77 - 20 log10(clip): 6 dB a bit, and
    an offset that depends on how many σ the range reaches (the loading).

    >>> round(predicted_db(8, 4.0) - predicted_db(7, 4.0), 2)
    6.05
    """
    step = 2 * clip / (2**bits - 1)
    return decibels(1.0, step**2 / 12)


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['clip', 'ends']
    """
    return {
        "clip": float_slider(
            "all ranges end at (σ)", 0.5, HIGH, step=0.1, tooltip="How many σ the grid reaches"
        ),
        "ends": choice(
            "range",
            [("the same for all", "same"), ("the best for each", "best")],
            tooltip="One place for all, or for each set the place of its smallest error",
        ),
    }


def scene(state: State) -> Scene:
    """Draw the measured SQNR over the bits for four sets, and the prediction.

    >>> scene(State(ends="best")).readout("uniform: 8th bit").unit
    'dB'
    """
    best = state.ends == "best"
    rows = {data: [sqnr(data, int(b), state) for b in BITS] for data in SHOWN}
    if best:
        predicted, name = [uniform_sqnr_db(int(b)) for b in BITS], "prediction 6.02 b"
        line = "prediction: 20 log10(2) · b = 6.02 b   (full-scale uniform values, no overload)"
    else:
        predicted, name = [predicted_db(int(b), state.clip) for b in BITS], "prediction s²/12"
        offset = 20 * math.log10(math.sqrt(3) / state.clip)
        line = (
            f"prediction: 20 log10(2^b − 1) + 20 log10(√3 / {short(state.clip)}) "
            f"= 20 log10(2^b − 1) {'+' if offset >= 0 else '−'} {abs(offset):.2f} dB"
        )
    # Broad and below: what is measured hides it only in part.
    marks = [Line(BITS, predicted, "muted", name, 6, dashed=True)]
    for data, role in SHOWN.items():
        name_of = _SHORT.get(data, SETS[data])
        tips = [f"{name_of}, {b} bits\n{v:.2f} dB" for b, v in zip(BITS, rows[data], strict=True)]
        marks += [Line(BITS, rows[data], role, name_of), Points(BITS, rows[data], role, tips=tips)]
    x = Axis("bits", 1.8, 8.2, ticks=tuple(BITS))
    y = Axis("SQNR", -15, 60, unit="dB", ticks=range(-10, 61, 10))
    title = "each range at its best" if best else f"every range ends at {short(state.clip)} σ"
    gain = {data: row[-1] - row[-2] for data, row in rows.items()}
    return Scene(
        f"What a bit buys: {title}",
        [Plot(marks, x, y, height=380, grid="both")],
        readouts=[
            Readout(
                f"{data if data in _SHORT else SETS[data]}: 8th bit",
                gain[data],
                "dB",
                "measured",
                role,
                3,
            )
            for data, role in SHOWN.items()
        ]
        + [
            Readout("predicted: 8th bit", predicted[-1] - predicted[-2], "dB", "computed", digits=3)
        ],
        formulas=[line],
        description="Lines of signal-to-noise ratio over bits for four sets, and the prediction.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(clip=2.0).state.clip
    2.0
    """
    return Panel(State(**fields), controls(), scene, limits=_limits)


def _limits(state: State) -> dict:
    # Where each range ends at its own best place, there is no common place to choose.
    return {"clip": {"disabled": state.ends == "best"}}
