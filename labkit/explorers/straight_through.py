"""The straight-through estimator as a picture: the slope of rounding, and the one we pretend.

A single weight is rounded to a grid from -1 to 1, symmetric because one code is left out. A loss
behind it wants the rounded weight to be `target`. The true slope is measured by moving the weight a
little; the straight-through one is what `labkit.affine.fake_quantize` hands back to autograd.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from labkit.affine import fake_quantize
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, bits_slider, float_slider
from labkit.explorers.scene import Axis, Band, Line, Mark, Plot, Points, Readout, Rule, Scene, Steps
from labkit.qparams import QParams, code_range

LOW, HIGH = -1.8, 1.8
"""Ends of the weight's slider and of every horizontal axis."""
NUDGE = 1e-6
RATE = 0.2
"""How far the drawn step goes: the learning rate times the slope."""


@dataclass(frozen=True)
class State:
    """The weight, what the loss wants of its rounded value, and the bits of a code.

    >>> State().bits
    3
    """

    weight: float = 0.42
    target: float = -0.5
    bits: int = 3


@dataclass(frozen=True)
class Slopes:
    """One weight, rounded: its value, the loss, and the slope of the loss both ways.

    `true` is None where the nudge crosses an edge: the loss jumps there and has no slope.

    >>> slopes(State()).true
    0.0
    """

    rounded: float
    loss: float
    true: float | None
    straight_through: float


@cache
def grid(bits: int) -> QParams:
    """Return the symmetric grid from -1 to 1: 2^bits - 1 levels.

    >>> grid(2).scale.item()
    1.0
    """
    _, quant_max = code_range(bits, signed=True)
    return QParams(1 / quant_max, 0, -quant_max, quant_max)


def edges(bits: int) -> list[float]:
    """Return where the rounded weight jumps, from left to right.

    >>> edges(2)
    [-0.5, 0.5]
    """
    qparams = grid(bits)
    codes = range(qparams.quant_min, qparams.quant_max)
    return [(code + 0.5) * qparams.scale.item() for code in codes]


def levels(bits: int) -> list[float]:
    """Return the values that the codes stand for.

    >>> levels(2)
    [-1.0, 0.0, 1.0]
    """
    qparams = grid(bits)
    codes = range(qparams.quant_min, qparams.quant_max + 1)
    return [code * qparams.scale.item() for code in codes]


def slopes(state: State) -> Slopes:
    """Round the weight and ask for both slopes of the loss (rounded - target)².

    >>> round(slopes(State(weight=0.4, target=0.0, bits=2)).straight_through, 3)
    0.0
    """
    weight = torch.tensor(state.weight, dtype=torch.float64, requires_grad=True)
    loss = _loss(weight, state)
    (gradient,) = torch.autograd.grad(loss, weight)
    left, right = (_loss(weight.detach() + by, state).item() for by in (-NUDGE, NUDGE))
    rounded = fake_quantize(weight.detach(), grid(state.bits)).item()
    # Further than any smooth slope here could carry it: the loss jumped.
    true = (right - left) / (2 * NUDGE) if abs(right - left) < 1e-3 else None
    return Slopes(rounded, loss.item(), true, gradient.item())


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['weight', 'target', 'bits']
    """
    return {
        "weight": float_slider("weight w", LOW, HIGH, tooltip="The float weight behind the code"),
        "target": float_slider("target t", -1, 1, tooltip="What the loss wants Q(w) to be"),
        "bits": bits_slider("bits", 2, 4),
    }


def scene(state: State) -> Scene:
    """Draw rounding and loss over the weight, and below each its two slopes.

    >>> scene(State(weight=-1.7, bits=3)).readout("straight-through slope").value
    '0'
    """
    now = slopes(state)
    true = "a jump" if now.true is None else _plain(now.true)
    sign = "−" if state.target >= 0 else "+"
    away = f"{short(now.rounded, 3)} {sign} {short(abs(state.target), 3)}"
    moves = -RATE * now.straight_through
    where = "stays" if not moves else f"goes {'right' if moves > 0 else 'left'}"
    return Scene(
        f"A weight of {short(state.weight, 3)} and the {2**state.bits - 1} levels of "
        f"{state.bits} bits",
        [
            [_rounding(state, now), _losses(state, now, moves)],
            [_rounding_slopes(state), _loss_slopes(state, now)],
        ],
        readouts=[
            Readout("rounded weight Q(w)", now.rounded, "", "computed", "quantized", 3),
            Readout("true slope", true, "", "measured", "error"),
            Readout("straight-through slope", _plain(now.straight_through), role="good"),
            Readout("the weight", where, "", "computed"),
        ],
        formulas=[
            f"loss = (Q(w) − t)² = ({away})² = {short(now.loss, 3)}",
            "straight through: dL/dw = "
            + (f"dL/dQ = 2 · ({away})" if _inside(state) else "0, outside the range"),
        ],
        description=(
            "Four plots over the weight: the staircase of rounding with the ramp that training "
            "pretends, the loss as stairs, and under each its true and straight-through slope."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(bits=2).state.bits
    2
    """
    return Panel(State(**fields), controls(), scene)


def _loss(weight: Tensor, state: State) -> Tensor:
    return (fake_quantize(weight, grid(state.bits)) - state.target) ** 2


def _ends(bits: int) -> tuple[float, float]:
    """Where the gradient stops passing: half a step beyond the outer levels."""
    every, half = levels(bits), grid(bits).scale.item() / 2
    return every[0] - half, every[-1] + half


def _inside(state: State) -> bool:
    low, high = _ends(state.bits)
    return low < state.weight < high


def _plain(value: float) -> str:
    return short(round(value, 6) + 0.0, 3)


def _x(label: str = "") -> Axis:
    return Axis(label, LOW, HIGH)


def _stairs(bits: int, heights: list[float], role: str, label: str) -> Steps:
    return Steps([LOW - 0.5, *edges(bits), HIGH + 0.5], heights, role, label)


def _rounding(state: State, now: Slopes) -> Plot:
    low, high = _ends(state.bits)
    marks: list[Mark] = [
        Band(max(low, LOW), min(high, HIGH)),
        _stairs(state.bits, levels(state.bits), "quantized", "Q(w)"),
        Line(
            [LOW, max(low, LOW), min(high, HIGH), HIGH],
            [max(low, LOW), max(low, LOW), min(high, HIGH), min(high, HIGH)],
            "good",
            "pretended",
            dashed=True,
        ),
        Points([state.weight], [now.rounded], "quantized", size=7),
    ]
    return Plot(marks, _x(), Axis("rounded weight", -1.7, 1.7), "Rounding", height=270)


def _losses(state: State, now: Slopes, moves: float) -> Plot:
    heights = [(level - state.target) ** 2 for level in levels(state.bits)]
    marks: list[Mark] = [
        _stairs(state.bits, heights, "ink", "loss"),
        Rule(state.target, "t", "range"),
        Points([state.weight], [now.loss], "quantized", size=7),
    ]
    if moves:
        end = min(max(state.weight + moves, LOW), HIGH)
        tip = max(min(0.07, abs(end - state.weight)), 0.02) * (1 if moves > 0 else -1)
        marks += [
            Line([state.weight, end], [now.loss] * 2, "good", "the step that training takes", 3.5),
            Line(
                [end - tip, end, end - tip],
                [now.loss + 0.18, now.loss, now.loss - 0.18],
                "good",
                width=3.5,
            ),
        ]
    return Plot(marks, _x(), Axis("loss", -0.3, 4.4), "A loss behind it", height=270, label_rows=1)


def _rounding_slopes(state: State) -> Plot:
    low, high = _ends(state.bits)
    marks: list[Mark] = [
        Steps([LOW - 0.5, low, high, HIGH + 0.5], [0, 1, 0], "good", "straight-through"),
        *_jumps(state.bits, [1.0] * len(edges(state.bits)), 1.7),
        Rule(state.weight, "", "quantized", dashed=False),
    ]
    return Plot(marks, _x("weight w"), Axis("slope of Q", -0.4, 1.9), height=190)


def _loss_slopes(state: State, now: Slopes) -> Plot:
    low, high = _ends(state.bits)
    every = levels(state.bits)
    slope = [2 * (level - state.target) for level in every]
    rises = [(b - state.target) ** 2 - (a - state.target) ** 2 for a, b in pairwise(every)]
    marks: list[Mark] = [
        Steps(
            [LOW - 0.5, low, *edges(state.bits), high, HIGH + 0.5],
            [0, *slope, 0],
            "good",
            "straight-through",
            width=2,
        ),
        *_jumps(state.bits, rises, 4.7),
        Points([state.weight], [now.straight_through], "good", size=6),
        Rule(state.weight, "", "quantized", dashed=False),
    ]
    return Plot(marks, _x("weight w"), Axis("slope of the loss", -5, 5), height=190)


def _jumps(bits: int, rises: list[float], tall: float) -> list[Mark]:
    """The true slope: zero, and at every edge a spike without end."""
    marks: list[Mark] = [Line([LOW, HIGH], [0, 0], "error", "true", 2.5)]
    for edge, rise in zip(edges(bits), rises, strict=True):
        # Steps are float32: two levels as far from the target differ in the eighth digit.
        if LOW < edge < HIGH and abs(rise) > 1e-6:
            end = tall if rise > 0 else -tall
            marks.append(Line([edge, edge], [0, end], "error", width=1.3))
    return marks
