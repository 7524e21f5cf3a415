"""One weight under gradient descent, behind a rounding: it walks, crosses an edge, and oscillates.

The grid has 3 bits and goes from -1 to 1; the loss is (Q(w) - target)². With the true slope nothing
moves. With the straight-through one the weight walks until its code is right, and then to and fro
between the two levels around the target, each as often as makes their mean the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch

from labkit.affine import fake_quantize
from labkit.explorers.panel import Panel, choice, float_slider, int_slider
from labkit.explorers.scene import Axis, Line, Mark, Plot, Points, Readout, Rule, Scene, Steps, Text
from labkit.explorers.straight_through import edges, grid, levels

BITS = 3
STEPS = 120
SETTLED = 60
"""The mean is taken over what follows this step."""
BACKWARD = {"straight": "straight-through", "true": "true slope"}
_LOW, _HIGH = -1.65, 1.65


@dataclass(frozen=True)
class State:
    """How the slope is taken, where the weight starts, what the loss wants, learning rate, steps.

    >>> State().backward
    'straight'
    """

    backward: str = "straight"
    start: float = -0.9
    target: float = 0.42
    rate: float = 0.1
    steps: int = STEPS


@lru_cache(maxsize=512)
def walk(
    backward: str, start: float, target: float, rate: float
) -> tuple[tuple[float, float], ...]:
    """Return (weight, rounded weight) before the first step and after each of 120.

    >>> walk("true", 0.5, -1.0, 0.1)[-1][0]
    0.5
    """
    if backward not in BACKWARD:
        raise ValueError(f"got backward {backward!r}; use one of {', '.join(BACKWARD)}")
    weight = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    path = []
    for _ in range(STEPS + 1):
        rounded = fake_quantize(weight, grid(BITS))
        path.append((weight.item(), rounded.item()))
        (gradient,) = torch.autograd.grad((rounded - target) ** 2, weight)
        if backward == "straight":
            with torch.no_grad():
                weight -= rate * gradient
    return tuple(path)


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['backward', 'start', 'target', 'rate', 'steps']
    """
    return {
        "backward": choice("slope used", [(words, name) for name, words in BACKWARD.items()]),
        "start": float_slider("weight at the start", -1.5, 1.5, step=0.05),
        "target": float_slider("target t", -1.3, 1.3, step=0.02, tooltip="What Q(w) should be"),
        "rate": float_slider("learning rate", 0.02, 0.3, step=0.02),
        "steps": int_slider("steps", 0, STEPS, tooltip="How many updates have been made"),
    }


def scene(state: State) -> Scene:
    """Draw the weight and its rounded value over the steps.

    >>> scene(State("true")).readout("code changed").value
    0
    """
    path = walk(state.backward, state.start, state.target, state.rate)[: state.steps + 1]
    weights, rounded = zip(*path, strict=True)
    changes = sum(a != b for a, b in pairwise(rounded))
    readouts = [
        Readout("weight w", weights[-1], "", "computed", "float", 3),
        Readout("rounded Q(w)", rounded[-1], "", "computed", "quantized", 3),
        Readout("code changed", changes, "times", "computed"),
    ]
    later = rounded[SETTLED:]
    if len(later) > 1:
        mean = sum(later) / len(later)
        readouts.append(Readout(f"mean from step {SETTLED}", mean, "", "computed", "quantized", 2))
    return Scene(
        f"{state.steps} steps of gradient descent on (Q(w) − t)², {BACKWARD[state.backward]}",
        [_plot(state, weights, rounded)],
        readouts=readouts,
        formulas=[
            "w ← w − learning rate · "
            + ("2 (Q(w) − t) inside the range" if state.backward == "straight" else "0")
        ],
        description="The float weight and its rounded value over the steps, with levels and edges.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(target=0.1).state.target
    0.1
    """
    return Panel(State(**fields), controls(), scene)


def _plot(state: State, weights: tuple, rounded: tuple) -> Plot:
    at = range(len(weights))
    marks: list[Mark] = [
        *(Rule(edge, "", "range", axis="y", width=0.8) for edge in edges(BITS)),
        Rule(state.target, "", "good", axis="y", dashed=False, width=2),
        Text(STEPS + 14, state.target, "target t", "good", "end", 12, True, -5),
        *(
            Text(-1, level, f"code {code}".replace("-", "−"), "quantized", "end", 12, dy=4)
            for code, level in enumerate(levels(BITS), 1 - 2 ** (BITS - 1))
        ),
        Steps([i - 0.5 for i in range(len(rounded) + 1)], rounded, "quantized", "rounded Q(w)"),
        Points([at[-1]], [weights[-1]], "float", size=6),
    ]
    if len(weights) > 1:
        marks.insert(-1, Line(at, weights, "float", "weight w", 2.5))
    y = Axis("weight; dashed: edges between codes", _LOW, _HIGH)
    return Plot(
        marks,
        Axis("step", -12, STEPS + 14, ticks=range(0, 121, 20), labels=range(0, 121, 20)),
        y,
        height=350,
        grid="none",
        label_rows=0,
    )
