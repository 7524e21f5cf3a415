"""Plans predicted and measured, and how much margin that asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.explorers.panel import Panel, choice, float_slider, switch
from labkit.explorers.scene import Axis, Band, Line, Mark, Plot, Points, Readout, Rule, Scene
from labkit.prediction import Prediction
from labkit.vla.survey import EPISODES, Plans, survey

RISKS = (0.0, 0.1, 0.3)
_LEAST, _MOST = 1e-4, 30


@dataclass(frozen=True)
class State:
    """Points that may be lost, the share of trusted plans that may miss it, and whether the plans
    that the solver picks are measured too.

    >>> State().risk
    0.1
    """

    points: float = 3.0
    risk: float = 0.1
    best: bool = False


def losses(plans: Plans) -> np.ndarray:
    """Return the points of success that plans lost, as measured.

    >>> losses(survey().random).shape
    (60,)
    """
    return 100 * (survey().features.quality.correct - plans.right) / EPISODES


def trusted(prediction: Prediction, state: State) -> float:
    """Return the largest sum of costs that is trusted with the limit; -inf for none."""
    return prediction.most(state.points / 100, state.risk)


def controls() -> dict[str, Any]:
    """The limit, the risk, and the switch that measures the solver's plans."""
    shares = [(f"{100 * risk:.0f} %", risk) for risk in RISKS]
    return {
        "points": float_slider("success lost, at most", 0.5, 20, step=0.5, shown=".1f"),
        "risk": choice("of trusted may miss", shares),
        "best": switch("the solver's plans too", tooltip="The least sum for each of many sizes"),
    }


def scene(state: State) -> Scene:
    """Draw measured loss over predicted sum, and up to where a limit is trusted.

    >>> scene(State()).readout("plans").value
    60
    """
    known = survey()
    prediction = known.prediction(best=state.best)
    most = trusted(prediction, state)
    inside = prediction.predicted <= most
    missed = int((100 * prediction.measured[inside] > state.points + 1e-9).sum())
    return Scene(
        "Plans of the robot: predicted and measured",
        [_plot(state, prediction, most)],
        readouts=[
            Readout("rank correlation", f"{prediction.rank_correlation:.2f}", "", "computed"),
            Readout("plans", len(prediction), "", "measured"),
            Readout("trusted", int(inside.sum()), "", "computed", "good"),
            Readout("of these missed", missed, "", "measured", "bad" if missed else "good"),
            Readout("sum trusted", _sum(most), "nats", "computed"),
        ],
        formulas=[_line(state)],
        description="Measured loss of success over the predicted sum of costs, a dot a plan.",
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(points=1.0).state.points
    1.0
    """
    return Panel(State(**fields), controls(), scene)


def _sum(most: float) -> str:
    return "none" if math.isinf(most) else f"{most:.3f}"


def _share(state: State) -> str:
    return f"{100 * state.risk:.0f} %"


def _line(state: State) -> str:
    known = survey()
    drawn = trusted(known.prediction(best=False), state)
    if not state.best:
        return f"drawn at random; trusted up to {_sum(drawn)} nats if {_share(state)} may miss"
    sums, lost = known.predicted(known.best.choices), losses(known.best)
    fooled = int((lost[sums <= drawn] > state.points + 1e-9).sum())
    return (
        f"random plans alone, if {_share(state)} may miss: {_sum(drawn)} nats; below, "
        f"{fooled} of {int((sums <= drawn).sum())} of the solver's miss"
    )


def _plot(state: State, prediction: Prediction, most: float) -> Plot:
    known = survey()
    marks: list[Mark] = []
    if most > _LEAST:
        marks.append(Band(_LEAST, most, "trusted", "good"))
    sums = prediction.predicted
    curve = [100 * prediction.loss(total) for total in sums]
    marks += [
        Line(sums.clip(_LEAST), curve, "range", "what a sum stands for", 2),
        Rule(state.points, "the loss you allow", "bad", axis="y"),
    ]
    sums, lost = known.predicted(known.random.choices).clip(_LEAST), losses(known.random)
    for kept, role, label in ((True, "good", "keeps the limit"), (False, "bad", "misses it")):
        at = np.flatnonzero((lost <= state.points + 1e-9) == kept)
        if len(at):
            tips = [f"sum {sums[i]:.3g} nats\n{known.random.success(i)}" for i in at]
            marks.append(Points(sums[at], lost[at], role, label, 5, not kept, tips))
    if state.best:
        at = known.predicted(known.best.choices).clip(_LEAST), losses(known.best)
        tips = [f"sum {s:.3g} nats\n{known.best.success(i)}" for i, s in enumerate(at[0])]
        marks.append(Points(*at, "quantized", "the solver's", 4.5, tips=tips))
    x = Axis("sum of what the layers cost alone", _LEAST, _MOST, "nats", scale="log")
    return Plot(marks, x, Axis("success lost", -5, 102, "points"), height=340, label_rows=1)
