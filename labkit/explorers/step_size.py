"""The step of a grid: what the loss says about it, and in which direction LSQ would change it.

One layer of the trained 784-256-128-10 network is rounded, one step for the whole layer, and the
network reads 300 training images. The loss over the step is measured; two slopes are drawn at the
slider: the learned-step rule of `labkit.lsq` without its gradient scale, and what is left of it
when one forgets that a larger step also moves the codes. Slopes are taken over the logarithm of
the step: the change of the loss when the step grows by a factor e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, relu

from labkit.data import load_mnist
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, bits_slider, choice, steps_slider
from labkit.explorers.scene import (
    Axis,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Stems,
    Steps,
)
from labkit.lsq import initial_step, learned_step
from labkit.qparams import code_range
from labkit.zoo import mnist_mlp

LAYERS = ("fc1", "fc2", "fc3")
IMAGES = 300
FACTORS = tuple(round(10 ** ((i - 20) / 16), 3) for i in range(24))
"""Steps that are tried, as multiples of the step that the range asks for."""
_REACH = {"fc1": 0.25, "fc2": 0.33, "fc3": 0.25}


@dataclass(frozen=True)
class State:
    """Which layer, how many bits, and which of `FACTORS` the step is.

    >>> FACTORS[State().at]
    1.0
    """

    layer: str = "fc1"
    bits: int = 2
    at: int = 20


@cache
def curve(layer: str, bits: int) -> tuple[tuple[float, float], ...]:
    """Return (loss, mean squared error of the weights) at each of `FACTORS`.

    >>> len(curve("fc3", 4)) == len(FACTORS)
    True
    """
    found, weight = [], _weights()[layer][0]
    for factor in FACTORS:
        step = torch.tensor(factor * range_step(layer, bits))
        rounded = learned_step(weight, step, *code_range(bits, signed=True))
        found.append((_loss(layer, rounded).item(), (rounded - weight).square().mean().item()))
    return tuple(found)


@cache
def slopes(layer: str, bits: int, at: int) -> tuple[float, float]:
    """Return LSQ's slope of the loss at FACTORS[at], and the slope with all codes held.

    Both over the logarithm of the step.

    >>> learned, held = slopes("fc1", 2, FACTORS.index(1.0))
    >>> learned > 0 > held
    True
    """
    quant_min, quant_max = code_range(bits, signed=True)
    weight = _weights()[layer][0]
    step = torch.tensor(FACTORS[at] * range_step(layer, bits), requires_grad=True)
    rounded = learned_step(weight, step, quant_min, quant_max)
    gradient, to_step = torch.autograd.grad(_loss(layer, rounded), (rounded, step))
    # LSQ's gradient scale belongs to the optimizer, not to the slope: it is divided out.
    scaled = math.sqrt(weight.numel() * quant_max) * to_step.item()
    # With the codes q held, x' = q s, so that dx'/d ln s = x' itself.
    return scaled * step.item(), (gradient * rounded.detach()).sum().item()


@cache
def range_step(layer: str, bits: int) -> float:
    """Return amax / (2^(bits-1) - 1), the step that reaches the largest weight.

    >>> round(range_step("fc1", 2), 3)
    0.233
    """
    return _weights()[layer][0].abs().max().item() / code_range(bits, signed=True)[1]


@cache
def first_step(layer: str, bits: int) -> float:
    """Return LSQ's first step, 2 · mean |w| / sqrt(Qp), as a multiple of the range's.

    >>> round(first_step("fc1", 2), 2)
    0.28
    """
    step = initial_step(_weights()[layer][0], code_range(bits, signed=True)[1])
    return step.item() / range_step(layer, bits)


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['layer', 'bits', 'at']
    """
    shown = [(f"{factor:.2f} × the range's", at) for at, factor in enumerate(FACTORS)]
    return {
        "layer": choice("layer that is rounded", LAYERS),
        "bits": bits_slider("bits", 2, 4),
        "at": steps_slider("step", shown, tooltip="The distance between two levels"),
    }


def scene(state: State) -> Scene:
    """Draw loss and error over the step, two slopes, and the levels on the layer's weights.

    >>> scene(State(at=0)).readout("LSQ says").value
    'grow'
    """
    every, at = curve(state.layer, state.bits), state.at
    learned, held = slopes(state.layer, state.bits, at)
    step = FACTORS[at] * range_step(state.layer, state.bits)
    says = {True: "grow", False: "shrink"}
    return Scene(
        f"Layer {state.layer} in {state.bits} bits, step {short(step, 3)}",
        [[_losses(state, every, learned, held), _errors(state, every)], _levels(state, step)],
        readouts=[
            Readout(f"loss of {IMAGES} images", f"{every[at][0]:.2f}", "", "measured", digits=3),
            Readout("LSQ says", says[learned < 0], "", "computed", "good"),
            Readout("with the codes held", says[held < 0], "", "computed", "error"),
            Readout("step", step, "", "chosen", "quantized", 3),
        ],
        formulas=[
            "LSQ:        dŵ/ds = round(w/s) − w/s inside the range; at its ends the end code",
            "codes held: dŵ/ds = round(w/s)",
        ],
        description=(
            "The loss over the step with two tangents, the squared error of the weights over the "
            "step, and the levels on the histogram of the weights."
        ),
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(layer="fc3").state.layer
    'fc3'
    """
    return Panel(State(**fields), controls(), scene)


@cache
def _weights() -> dict[str, tuple[Tensor, Tensor]]:
    net = mnist_mlp()
    return {
        name: (net.get_submodule(name).weight.detach(), net.get_submodule(name).bias.detach())
        for name in LAYERS
    }


@cache
def _entering(layer: str) -> Tensor:
    """What enters the layer, in float, for the first training images."""
    if layer == LAYERS[0]:
        return load_mnist().train_images[:IMAGES].flatten(1)
    before = LAYERS[LAYERS.index(layer) - 1]
    return relu(linear(_entering(before), *_weights()[before]))


@cache
def _labels() -> Tensor:
    return load_mnist().train_labels[:IMAGES]


def _loss(layer: str, weight: Tensor) -> Tensor:
    x = linear(_entering(layer), weight, _weights()[layer][1])
    for name in LAYERS[LAYERS.index(layer) + 1 :]:
        x = linear(relu(x), *_weights()[name])
    return cross_entropy(x, _labels())


def _x() -> Axis:
    ticks = (0.06, 0.1, 0.2, 0.5, 1.0)
    return Axis("step ÷ the range's step", 0.052, 1.9, scale="log", ticks=ticks, labels=ticks)


def _tangent(x: float, y: float, slope: float, role: str, label: str, dashed: bool) -> Line:
    """A tangent over a logarithmic x and a logarithmic y, of a fixed width."""
    ends = [x * math.exp(by) for by in (-0.45, 0.45)]
    heights = [y * math.exp(by * slope / y) for by in (-0.45, 0.45)]
    return Line(ends, heights, role, label, 3.5, dashed)


def _losses(state: State, every: tuple, learned: float, held: float) -> Plot:
    x, loss = FACTORS[state.at], every[state.at][0]
    marks: list[Mark] = [
        *_named_steps(state, every),
        Line(FACTORS, [loss for loss, _ in every], "ink", "measured", 2),
        _tangent(x, loss, held, "error", "codes held", True),
        _tangent(x, loss, learned, "good", "LSQ", False),
        Points([x], [loss], "quantized", size=7),
    ]
    y = Axis(
        "loss", 0.02, 8, scale="log", ticks=(0.03, 0.1, 0.3, 1, 3), labels=(0.03, 0.1, 0.3, 1, 3)
    )
    return Plot(marks, _x(), y, "Loss over the step, and its slopes", 300, 1.5, label_rows=3)


def _named_steps(state: State, every: tuple) -> list[Mark]:
    least = min(range(len(FACTORS)), key=lambda at: every[at][1])
    return [
        Rule(1.0, "range", "range"),
        Rule(FACTORS[least], "least error", "range"),
        Rule(first_step(state.layer, state.bits), "LSQ's start", "good"),
    ]


def _errors(state: State, every: tuple) -> Plot:
    errors = [error for _, error in every]
    marks: list[Mark] = [
        Line(FACTORS, errors, "error", width=2),
        Points([FACTORS[state.at]], [errors[state.at]], "quantized", size=7),
    ]
    y = Axis("mean squared error", 1e-5, 1e-2, scale="log")
    return Plot(marks, _x(), y, "Error of the weights", 300, 1.0, label_rows=3)


def _levels(state: State, step: float) -> Plot:
    weight, reach = _weights()[state.layer][0], _REACH[state.layer]
    counts = torch.histc(weight, 80, -reach, reach)
    edges = torch.linspace(-reach, reach, 81)
    quant_min, quant_max = code_range(state.bits, signed=True)
    seen = [code * step for code in range(quant_min, quant_max + 1) if abs(code * step) <= reach]
    marks: list[Mark] = [
        Steps(edges, counts / counts.max(), "float", "weights", fill=True, width=1.2),
        Stems(seen, [1.05] * len(seen), label="levels", size=4),
    ]
    x = Axis(f"weight of {state.layer}", -reach, reach)
    return Plot(marks, x, Axis("", 0, 1.15, show=False), height=150, grid="none")
