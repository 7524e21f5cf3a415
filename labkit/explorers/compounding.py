"""Agreement against success: how rare wrong actions are, and how many episodes they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, steps_slider
from labkit.explorers.robot_films import width_name
from labkit.explorers.robot_runs import Robot, play_all, played, policy
from labkit.explorers.scene import Axis, Bars, Line, Mark, Plot, Points, Readout, Scene
from labkit.threads import one_thread
from labkit.vla.rollout import agreement, departure, success

WIDTHS = (8, 6, 4, 3, 2)
STEPS = 20
"""First other actions are counted step by step up to here; later ones in the last bar."""
# Disagreement is drawn on a logarithmic axis, where 0 has no place.
_LEAST = 2e-4
FOLLOWED = ("arrived all the same", "failed")


@dataclass(frozen=True)
class State:
    """Bits of a weight, on a scale a tensor.

    >>> State().bits
    3
    """

    bits: int = 3


@cache
@one_thread()
def agreement_of(bits: int) -> float:
    """Return how often the robot of these bits does what the float robot did, in the same rooms."""
    return agreement(policy(Robot(bits)), played())


@cache
def departures(bits: int) -> tuple[tuple[int, bool], ...]:
    """Return, for each episode with another action: (its first step from 0, success after all)."""
    pairs = zip(played(), played(Robot(bits)), strict=True)
    found = ((departure(one, other), other.success) for one, other in pairs)
    return tuple((step, arrived) for step, arrived in found if step is not None)


def fatal(agreed: float) -> float:
    """Return the success in 0..1 if float's were all right and every other action ended it.

    The mean over the float robot's episodes of agreement ** steps.
    """
    return float(np.mean([agreed ** len(r.actions) if r.success else 0 for r in played()]))


def controls() -> dict[str, Any]:
    """Width."""
    return {"bits": steps_slider("bits", WIDTHS)}


def scene(state: State) -> Scene:
    """Draw success over disagreement for all widths, and the departures of one."""
    agreed, parted = agreement_of(state.bits), departures(state.bits)
    here, whole = success(played(Robot(state.bits))), success(played())
    arrived = sum(after for _, after in parted)
    steps = np.mean([len(r.actions) for r in played()])
    return Scene(
        f"{width_name(state.bits)}: another action in {short(100 * (1 - agreed), 2)} %, "
        f"success {_beside(100 * (here.value - whole.value))}",
        [[_curve(state), _histogram(state)]],
        readouts=[
            Readout("same action", f"{100 * agreed:.1f}", "%", "measured"),
            Readout("success", f"{100 * here.value:.1f}", "%", "measured", "quantized"),
            Readout("float's success", f"{100 * whole.value:.1f}", "%", "measured", "float"),
            Readout("other action in", f"{len(parted)} of {here.n}", "", "measured"),
            Readout("of these, arrived", f"{arrived} of {len(parted)}", "", "measured", "good"),
        ],
        formulas=[
            f"{steps:.1f} actions an episode; if each other action were the end: "
            f"{100 * fatal(agreed):.0f} % success (computed)"
        ],
        description=(
            "Left, success over the share of other actions for every width, beside the curve if "
            "every other action were the end; right, at which step the first other action came."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`. Plays what was not played yet."""
    play_all([Robot(), *map(Robot, WIDTHS)])
    for bits in WIDTHS:
        agreement_of(bits)
    return Panel(State(**fields), controls(), scene)


def _beside(points: float) -> str:
    """A difference in points, in words.

    >>> _beside(-4.67), _beside(0.0)
    ('4.7 points lower', 'the same')
    """
    if abs(points) < 0.05:
        return "the same"
    return f"{abs(points):.1f} points {'higher' if points > 0 else 'lower'}"


def _curve(state: State) -> Plot:
    """Every width as a point; the curve is what would be if nothing could be mended."""
    wrong = np.geomspace(_LEAST, 1, 80)
    marks: list[Mark] = [
        Line(wrong, [100 * fatal(1 - w) for w in wrong], "range", "if each were the end", 2, True)
    ]
    for bits in WIDTHS:
        found, x = success(played(Robot(bits))), max(1 - agreement_of(bits), _LEAST)
        size, width = (8, 4) if bits == state.bits else (5, 1.5)
        label = "measured" if bits == WIDTHS[0] else ""
        tip = f"{width_name(bits)}: {100 * (1 - agreement_of(bits)):.2g} % other actions\n{found}"
        marks.append(Line([x, x], [100 * found.low, 100 * found.high], "quantized", width=width))
        marks.append(Points([x], [100 * found.value], "quantized", label, size, tips=[tip]))
    ticks = (0.0002, 0.001, 0.01, 0.1, 1)
    labels = ["0", "0.1 %", "1 %", "10 %", "100 %"]
    x = Axis(
        "other actions than float's, in the same rooms", _LEAST, 1.05, "", "log", ticks, labels
    )
    return Plot(marks, x, Axis("success", -2, 103, "%"), "agreement does not tell success", 310)


def _histogram(state: State) -> Plot:
    """At which step the first other action came, and what followed."""
    parted = departures(state.bits)
    counts = [
        Counter(min(step, STEPS) for step, after in parted if after == arrived)
        for arrived in (True, False)
    ]
    steps = range(STEPS + 1)
    marks: list[Mark] = []
    base = np.zeros(STEPS + 1)
    for role, words, count in zip(("good", "error"), FOLLOWED, counts, strict=True):
        heights = np.array([count[step] for step in steps], float)
        tips = [f"step {s + 1}{' or later' if s == STEPS else ''}: {int(h)} {words}"
                for s, h in zip(steps, heights, strict=True)]  # fmt: skip
        for step in steps:
            if heights[step]:
                at = [step + 1], [base[step] + heights[step]]
                marks.append(Bars(*at, 0.8, role, baseline=base[step], tips=[tips[step]]))
        marks.append(Bars([-9], [1], 0.8, role, words))
        base += heights
    ticks = [1, 5, 10, 15, STEPS + 1]
    labels = [*map(str, ticks[:-1]), "later"]
    x = Axis("step of the first other action", 0.2, STEPS + 1.8, ticks=ticks, labels=labels)
    return Plot(marks, x, Axis("episodes", 0, _tallest()), "where they part", 310)


@cache
def _tallest() -> float:
    """One scale for all widths but 2 bits, which part at once and would flatten the others."""
    most = max(
        Counter(min(step, STEPS) for step, _ in departures(bits)).most_common(1)[0][1]
        for bits in WIDTHS
        if departures(bits) and bits > 2
    )
    return 10 * (most // 10 + 1)
