"""The progressive schedule beside the direct way: six epochs that end at 2 bits, spent two ways.

The document asks for 8 bits first, then 4, then 2. The direct way spends the same epochs at 2 bits.
Both train the 784-256-128-10 network on 1000 images in the same order; activations stay float.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import nn

from labkit.compare import Comparison
from labkit.data import load_mnist
from labkit.evaluate import Accuracy, right_answers
from labkit.explorers.panel import Panel, choice
from labkit.explorers.scene import Axis, Band, Mark, Plot, Readout, Rule, Scene
from labkit.explorers.training_runs import Parts, in_float
from labkit.explorers.training_view import (
    GRANULARITIES,
    STEP_RULES,
    curve,
    percent,
    share_axis,
    stretched,
)
from labkit.qat_schedule import train_progressively
from labkit.qparams import choose_qparams
from labkit.selection import quantizable_layers
from labkit.threads import one_thread
from labkit.zoo import mnist_mlp

WIDTHS, EPOCHS, PARTS, IMAGES = (8, 4, 2), 6, 2, 1000
SHARES = {"even": (2, 2, 2), "late": (1, 1, 4)}
"""Epochs at 8, 4 and 2 bits."""


@dataclass(frozen=True)
class State:
    """How the epochs are shared out, and where steps come from.

    >>> State().share
    'even'
    """

    share: str = "even"
    granularity: str = "tensor"
    step_rule: str = "range"


@dataclass(frozen=True)
class Way:
    """One training: points (epochs, quality) and which test images it reads right in the end.

    >>> Way(((1.0, Accuracy.of(1, 2)),), (True, False)).quality.value
    0.5
    """

    points: tuple[tuple[float, Accuracy], ...]
    right: tuple[bool, ...]

    @property
    def quality(self) -> Accuracy:
        """What the quantized network gives in the end."""
        return Accuracy.of(sum(self.right), len(self.right))


@cache
def way(share: str, granularity: str, step_rule: str) -> Way:
    """Train six epochs; `share` is a key of `SHARES`, or "direct" for 2 bits all the time."""
    mnist, model, points, seen = load_mnist(), mnist_mlp(), [], []

    def validate(model: nn.Module) -> Accuracy:
        seen.append(right_answers(model, mnist.test_images, mnist.test_labels))
        return Accuracy.of(int(seen[-1].sum()), len(seen[-1]))

    axis = 0 if granularity == "channel" else None
    with one_thread():
        train_progressively(
            model,
            WIDTHS[-1:] if share == "direct" else WIDTHS,
            train_loader=Parts(mnist.train_images[:IMAGES], mnist.train_labels[:IMAGES], PARTS),
            num_epochs=[PARTS * n for n in ((EPOCHS,) if share == "direct" else SHARES[share])],
            choose=lambda bits: dict.fromkeys(
                quantizable_layers(model),
                partial(choose_qparams, bits=bits, symmetric=True, signed=True, axis=axis),
            ),
            step_rule=step_rule,
            activation_bits=None,
            validate=validate,
            after_epoch=lambda record: points.append(record.quality),
        )
    at = [(i + 1) / PARTS for i in range(len(points))]
    return Way(tuple(zip(at, points, strict=True)), tuple(seen[-1].tolist()))


def compared(first: Way, second: Way) -> Comparison:
    """Return second minus first, on the same images.

    >>> compared(Way((), (True, True)), Way((), (True, False))).difference
    -0.5
    """
    a, b = torch.tensor(first.right), torch.tensor(second.right)
    return Comparison.of(int((a & ~b).sum()), int((b & ~a).sum()), len(a))


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['share', 'granularity', 'step_rule']
    """
    shares = [(" + ".join(map(str, epochs)), name) for name, epochs in SHARES.items()]
    return {
        "share": choice("epochs at 8, 4, 2 bits", shares),
        "granularity": choice("one step", [(w, n) for n, w in GRANULARITIES.items()]),
        "step_rule": choice("step", [(w, n) for n, w in STEP_RULES.items()]),
    }


def scene(state: State) -> Scene:
    """Train what has not been trained yet, and draw both ways."""
    if state.share not in SHARES:
        raise ValueError(f"got share {state.share!r}; use one of {', '.join(SHARES)}")
    direct = way("direct", state.granularity, state.step_rule)
    stages = way(state.share, state.granularity, state.step_rule)
    difference = compared(direct, stages)
    return Scene(
        f"Six epochs that end at 2 bits: {GRANULARITIES[state.granularity]}, "
        f"step {STEP_RULES[state.step_rule]}",
        [_plot(state, direct, stages)],
        readouts=[
            Readout("8 → 4 → 2 bits", percent(stages.quality), "", "measured", "quantized"),
            Readout("2 bits all the time", percent(direct.quality), "", "measured", "code3"),
            Readout(
                "the schedule gains",
                f"{100 * difference.difference:+.1f}".replace("-", "−"),
                "points",
                "measured",
            ),
            Readout(
                "that is", "resolved" if difference.resolved else "not resolved", "", "computed"
            ),
        ],
        formulas=[f"8 → 4 → 2 against 2 all the time: {difference}".replace("-", "−")],
        description="Right answers over six epochs, for the schedule and for 2 bits all the time.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts."""
    return Panel(State(**fields), controls(), scene, slow=True)


def _plot(state: State, direct: Way, stages: Way) -> Plot:
    first, second, _ = SHARES[state.share]
    marks: list[Mark] = [
        Band(0, first, "8 bits"),
        Band(first + second, EPOCHS, "2 bits"),
        Rule(first, "4 bits", "range"),
        Rule(first + second, "", "range"),
        Rule(stretched(in_float().value), "", "float", axis="y"),
        *curve(direct, "code3", "2 bits all the time", 2, 3),
        *curve(stages, "quantized", "8 → 4 → 2 bits", 3, 4),
    ]
    ticks = range(EPOCHS + 1)
    x = Axis("epochs of training", 0, EPOCHS + 0.1, ticks=ticks, labels=ticks)
    title = "Right answers on 1000 test images; dashed: float"
    return Plot(marks, x, share_axis(), title, 330, label_rows=1)
