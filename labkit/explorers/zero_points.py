"""The four sums of the zero points in a real layer, and what a network reads without one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from labkit.evaluate import Accuracy
from labkit.explorers.integer_net import (
    PIXELS,
    WEIGHTS,
    digit_images,
    first_terms,
    graded,
    grouped,
    quality_readouts,
    stages,
)
from labkit.explorers.panel import Panel, choice, int_slider
from labkit.explorers.scene import Axis, Bars, Line, Mark, Plot, Points, Readout, Rule, Scene, Text
from labkit.requantize import accumulator_scale, output_multiplier, requantize_accumulator

TERMS = {
    "product": "Σ q_x q_w",
    "x_term": "− z_w Σ q_x",
    "w_term": "− z_x Σ q_w",
    "constant": "+ K z_x z_w",
}
SIGNS = {"product": 1, "x_term": -1, "w_term": -1, "constant": 1}
FORGET = {"": "nothing", **{name: TERMS[name] for name in ("x_term", "w_term", "constant")}}


@dataclass(frozen=True)
class State:
    """Which zero points there are, which neuron sees which digit, and what the engine forgets.

    `forget` is "" or one of "x_term", "w_term", "constant".

    >>> State().forget
    ''
    """

    pixels: str = "standard"
    weights: str = "affine"
    neuron: int = 130
    digit: int = 3
    forget: str = ""


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['forget', 'pixels', 'weights', 'neuron', 'digit']
    """
    return {
        "forget": choice(
            "the engine forgets",
            [(words, name) for name, words in FORGET.items()],
            tooltip="Leave one of the four sums out, in the first layer",
        ),
        "pixels": choice(
            "pixels",
            [(words, name) for name, words in PIXELS.items()],
            tooltip="Standardized pixels go below 0, so that z_x is not 0",
        ),
        "weights": choice(
            "weights",
            [(words, name) for name, words in WEIGHTS.items()],
            tooltip="Affine weights have a z_w that is not 0",
        ),
        "neuron": int_slider("neuron", 0, 255, tooltip="Which of the 256 outputs of fc1"),
        "digit": int_slider("digit", 0, 9, tooltip="What the network looks at"),
    }


def four(state: State) -> dict[str, int]:
    """Return the four sums of the chosen neuron with their signs: they add up to the total.

    >>> sorted(four(State()))
    ['constant', 'product', 'w_term', 'x_term']
    """
    terms = first_terms(state.pixels, state.weights)
    image, shape = digit_images()[state.digit], terms.product.shape
    found = {}
    for name, sign in SIGNS.items():
        term = torch.as_tensor(getattr(terms, name))
        found[name] = sign * int(term.expand(shape)[image, state.neuron])
    return found


def accumulators(pixels: str, weights: str, forget: str) -> Tensor:
    """Return the first layer's sums for every test image with one of the four left out.

    >>> accumulators("plain", "symmetric", "").shape
    torch.Size([1000, 256])
    """
    terms = first_terms(pixels, weights)
    return terms.total - (SIGNS[forget] * getattr(terms, forget) if forget else 0)


@cache
def quality(pixels: str, weights: str, forget: str) -> Accuracy:
    """Return the accuracy of the whole integer network whose first layer forgets one sum.

    >>> quality("plain", "symmetric", "x_term") == quality("plain", "symmetric", "")
    True
    """
    first, *rest = stages(pixels, weights)
    sums = (accumulators(pixels, weights, forget) + first.bias).clamp(min=0)
    m = output_multiplier(first.x_qparams, first.w_qparams, first.y_qparams)
    # What a wrong sum reaches may be more than 32 bits hold, never more than 33.
    codes = requantize_accumulator(sums.clamp(max=2**31 - 1), m, first.y_qparams)
    for stage in rest:
        codes = stage(codes)
    return graded(codes * accumulator_scale(rest[-1].x_qparams, rest[-1].w_qparams))


def scene(state: State) -> Scene:
    """Draw the four sums and their total, and the accuracy with each of them forgotten.

    >>> scene(State(forget="x_term")).readout("z_x").value
    33
    """
    first = stages(state.pixels, state.weights)[0]
    z_x = int(first.x_qparams.zero_point)
    z_w = int(first.w_qparams.zero_point.flatten()[state.neuron])
    parts = four(state)
    kept = {name: value for name, value in parts.items() if name != state.forget}
    total, right = sum(kept.values()), sum(parts.values())
    measured = quality(state.pixels, state.weights, state.forget)
    return Scene(
        f"Neuron {state.neuron} looks at a {state.digit}: four sums and their total",
        [[_bars(state, parts, total, right), _qualities(state)]],
        readouts=[
            Readout("total", grouped(total), "", "computed", "quantized"),
            Readout("z_x", z_x, "", "computed"),
            Readout("z_w", z_w, "", "computed"),
            *quality_readouts(measured),
        ],
        formulas=[
            "Σ (q_x − z_x)(q_w − z_w) = Σ q_x q_w − z_w Σ q_x − z_x Σ q_w + K z_x z_w,   K = 784",
            " ".join(_signed(value, i) for i, value in enumerate(parts.values()))
            + f" = {grouped(right)}"
            + (f";  without {TERMS[state.forget]}: {grouped(total)}" if state.forget else ""),
        ],
        description="Bars of the four sums and their total; the accuracy of the network with each "
        "sum forgotten.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(forget="constant").state.forget
    'constant'
    """
    return Panel(State(**fields), controls(), scene)


def reach(pixels: str, weights: str) -> float:
    """Return where the axis of the sums ends, in millions: one for all neurons and digits.

    >>> reach("plain", "symmetric") < reach("standard", "affine")
    True
    """
    terms = first_terms(pixels, weights)
    images = list(digit_images())
    sums = [
        torch.as_tensor(getattr(terms, name)).expand(terms.product.shape)[images] for name in SIGNS
    ]
    most = max(float(s.abs().max()) for s in (*sums, terms.total[images]))
    return _round_up(1.15 * most / 1e6)


def _round_up(value: float) -> float:
    return next(end for end in (1, 2, 5, 10, 15, 20, 30, 50) if end >= value)


def _bars(state: State, parts: dict[str, int], total: int, right: int) -> Plot:
    end = reach(state.pixels, state.weights)
    marks: list[Mark] = [Rule(0, "", "ink", "y", dashed=False, width=1)]
    for i, (name, value) in enumerate(parts.items()):
        role = "range" if name == state.forget else ("float" if i == 0 else "code3")
        marks.append(Bars([i], [value / 1e6], 0.6, role))
        marks.append(_number(i, value, "forgotten" if name == state.forget else ""))
    marks.append(Bars([4], [total / 1e6], 0.6, "error" if total != right else "quantized"))
    marks.append(_number(4, total))
    return Plot(
        marks,
        Axis("", -0.5, 4.5, ticks=range(5), labels=(*TERMS.values(), "total")),
        Axis("sum", -end, end, unit="millions"),
        height=330,
        weight=0.6,
    )


def _number(at: int, value: int, word: str = "") -> Text:
    shown = grouped(value)
    if value >= 0:
        return Text(at, value / 1e6, word or shown, dy=-8, size=12)
    return Text(at, value / 1e6, word or shown, dy=18, size=12)


def _qualities(state: State) -> Plot:
    marks: list[Mark] = []
    for i, name in enumerate(FORGET):
        q = quality(state.pixels, state.weights, name)
        role = "quantized" if name == state.forget else "range"
        marks.append(Line([i, i], [100 * q.low, 100 * q.high], role, width=3))
        tip = f"forgets {FORGET[name]}\n{q}"
        marks.append(Points([i], [100 * q.value], role, size=6, tips=[tip]))
    words = ("nothing", "z_w Σ", "z_x Σ", "K z z")
    return Plot(
        marks,
        Axis("forgotten in fc1", -0.6, 3.6, ticks=range(4), labels=words),
        Axis("digits read", 0, 100, unit="%", ticks=range(0, 101, 20)),
        height=330,
        weight=0.4,
    )


def _signed(value: int, place: int) -> str:
    if place == 0:
        return grouped(value)
    return f"{'−' if value < 0 else '+'} {abs(value):,}"
