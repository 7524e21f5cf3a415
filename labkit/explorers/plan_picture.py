"""The plan as a picture: limits on the sheet of size and success, the best plan within them.

Before anything is made, a plan is a prediction. One button makes it: the robot is quantized so and
plays; what comes of it stays on the sheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import numpy as np

from labkit.evaluate import Accuracy
from labkit.explorers.panel import Panel, choice, float_slider, int_slider
from labkit.explorers.robot_plans import Choice, file_size, make, plan, predicted
from labkit.explorers.scene import (
    Axis,
    Band,
    Bars,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
)
from labkit.requirement import Requirement
from labkit.vla.survey import BITS, EPISODES, Plans, survey

LIMITS = {"size": "the size", "loss": "the loss", "both": "both"}
PARTS = {"vision": "code0", "language": "code2", "fusion": "code3", "action_head": "code5"}
"""Parts of the robot and their colours."""
SMALLEST, LARGEST = 155, 400
MEASURED = "success, measured"
_LEFT, _RIGHT = 150, 450


@dataclass(frozen=True)
class State:
    """What is limited, the most kB of the file, the most points of success that may be lost.

    >>> State().kilobytes
    190
    """

    limited: str = "size"
    kilobytes: int = 190
    points: float = 3.0

    @property
    def requirement(self) -> Requirement:
        """The limits that count."""
        return Requirement(
            max_bytes=None if self.limited == "loss" else 1000 * self.kilobytes,
            max_loss=None if self.limited == "size" else self.points / 100,
        )


def controls() -> dict[str, Any]:
    """What is limited, and both limits."""
    return {
        "limited": choice("limited is", [(words, name) for name, words in LIMITS.items()]),
        "kilobytes": int_slider("file, at most kB", SMALLEST, LARGEST, step=5),
        "points": float_slider(
            "success lost, at most", 0.5, 20, step=0.5, shown=".1f", tooltip="In points"
        ),
    }


def counting(state: State) -> dict[str, dict[str, bool]]:
    """A limit that does not count cannot be moved.

    >>> counting(State("loss"))
    {'kilobytes': {'disabled': True}, 'points': {'disabled': False}}
    """
    return {
        "kilobytes": {"disabled": state.limited == "loss"},
        "points": {"disabled": state.limited == "size"},
    }


def scene(state: State, made: Mapping[Choice, Accuracy] | None = None) -> Scene:
    """Draw the sheet of size and success with limits and plan, and the plan's widths below.

    `made` are the plans that were made so far, and the success that was measured.

    >>> scene(State("size", 400)).readout("float robot").kind
    'measured'
    """
    made = made or {}
    chosen = plan(state.requirement)
    result = made.get(chosen)
    measured = "press Make" if result is None else f"{100 * result.value:.1f} %"
    foreseen = "–" if chosen is None else f"{predicted(chosen):.1f} %"
    size = "none fits" if chosen is None else f"{file_size(chosen) / 1000:.1f} kB"
    return Scene(
        _title(state),
        [_sheet(state, chosen, made), _widths(chosen)],
        readouts=[
            Readout("the plan's file", size, "", "computed", "quantized"),
            Readout("success, predicted", foreseen, "", "computed", "quantized"),
            Readout(MEASURED, measured, "", "measured", "quantized"),
            Readout("float robot", f"{_float():.1f} %", "", "measured", "float"),
        ],
        formulas=[_verdict(state, chosen, result)],
        description=(
            "Success over bytes: plans drawn at random, the same width for all, the best plan for "
            "each size, the limits and the plan; below, the width of each layer."
        ),
    )


class PlanPanel(Panel):
    """The panel with its Make button; what was made stays on the sheet."""

    def __init__(self, state: State, make_now: bool = False) -> None:
        """Build the widget; `make_now` makes the first plan before the panel is shown."""
        self.made: dict[Choice, Accuracy] = {}
        if make_now:
            self._add(plan(state.requirement))
        super().__init__(state, controls(), lambda state: scene(state, self.made), limits=counting)
        self._button = widgets.Button(description="Make it, let it play", icon="play")
        self._button.button_style, self._button.layout.width = "success", "200px"
        self._button.layout.margin = "6px 0 0 188px"
        self._button.tooltip = f"Quantize the robot so and let it play {EPISODES} rooms"
        self._button.on_click(lambda _: self.make())
        at = len(self.controls)
        self.children = (*self.children[:at], self._button, *self.children[at:])

    def make(self) -> None:
        """Make the plan that the sliders show, and measure it."""
        self._button.disabled = True
        try:
            self._add(plan(self.state.requirement))
        finally:
            self._button.disabled = False
        self._repaint()

    def words(self, digits: int = 3) -> str:
        """State and readouts as text, without what was measured now: it differs elsewhere."""
        lines = super().words(digits).splitlines()
        return "\n".join(line for line in lines if not line.startswith(MEASURED))

    def _add(self, chosen: Choice | None) -> None:
        if chosen is not None and chosen not in self.made:
            self.made[chosen] = make(chosen)


def explorer(make_now: bool = False, **fields: Any) -> PlanPanel:
    """Return the live panel; `fields` are those of `State`; `make_now` makes the first plan.

    >>> explorer(kilobytes=250).state.kilobytes
    250
    """
    return PlanPanel(State(**fields), make_now)


def _float() -> float:
    return 100 * survey().features.quality.value


def _title(state: State) -> str:
    size = f"a file of at most {state.kilobytes} kB"
    loss = f"at most {state.points:g} points of success lost"
    if state.limited == "both":
        return f"{size[0].upper()}{size[1:]}, {loss}"
    return (
        f"{size[0].upper()}{size[1:]}, as good as can be"
        if state.limited == "size"
        else (f"{loss[0].upper()}{loss[1:]}, as small as can be")
    )


def _verdict(state: State, chosen: Choice | None, result: Accuracy | None) -> str:
    """The plan beside the limits, in a sentence."""
    if chosen is None:
        least = file_size((0,) * len(survey().features.layers)) / 1000
        return f"no widths keep the size: 2 bits everywhere take {least:.1f} kB"
    if result is not None:
        lost = _float() - 100 * result.value
        if state.limited == "size":
            return f"made: {result}, {lost:.1f} points lost, on which there is no limit"
        kept = lost <= state.points + 1e-9
        return f"made: {result}, {lost:.1f} points lost: {'kept' if kept else 'missed'}"
    lost = _float() - predicted(chosen)
    said = f"{lost:.1f} points lost by prediction"
    if state.limited == "size" or lost <= state.points:
        return said
    return f"{said}, too many: better rounding has to help, or training"


def _sheet(state: State, chosen: Choice | None, made: Mapping[Choice, Accuracy]) -> Plot:
    known = survey()
    marks: list[Mark] = []
    if state.limited != "loss":
        marks.append(Band(state.kilobytes, _RIGHT, "too large", "bad"))
    if state.limited != "size":
        marks.append(Band(0, _float() - state.points, role="bad", axis="y"))
    marks += [
        Rule(_float(), role="float", axis="y"),
        _measured(known.random, "range", "random", 3),
        _measured(known.uniform, "range", "one width", 6, hollow=True),
        _measured(known.best, "good", "best sum", 3.5),
        Line(
            [file_size(tuple(c)) / 1000 for c in known.best.choices],
            [predicted(tuple(c)) for c in known.best.choices],
            "good",
            "predicted",
            1.5,
            dashed=True,
        ),
    ]
    if chosen is not None:
        # Below what was made: the question is whether that lies in the ring.
        at = [file_size(chosen) / 1000], [predicted(chosen)]
        marks.append(Points(*at, "quantized", "the plan", 10, True))
    for done, success in made.items():
        x = file_size(done) / 1000
        marks.append(Line([x, x], [100 * success.low, 100 * success.high], "quantized", width=2))
    if made:
        x = [file_size(done) / 1000 for done in made]
        y = [100 * success.value for success in made.values()]
        tips = [f"{place:.1f} kB\n{s}" for place, s in zip(x, made.values(), strict=True)]
        marks.append(Points(x, y, "quantized", "made", 6, tips=tips))
    x = Axis("file", _LEFT, _RIGHT, "kB")
    return Plot(marks, x, Axis("success", 0, 103, "%"), height=330, label_rows=1)


def _measured(plans: Plans, role: str, label: str, size: float, hollow: bool = False) -> Points:
    """Plans as they were measured when the survey was made."""
    x = [file_size(tuple(c)) / 1000 for c in plans.choices]
    tips = [f"{kb:.1f} kB\n{plans.success(i)}" for i, kb in enumerate(x)]
    y = [100 * plans.success(i).value for i in range(len(x))]
    return Points(x, y, role, label, size, hollow, tips)


def _widths(chosen: Choice | None) -> Plot:
    """The width of each layer, a colour for each part."""
    features = survey().features
    marks: list[Mark] = []
    for part, role in PARTS.items():
        at = [i for i, name in enumerate(features.parts) if name == part]
        bits = [0 if chosen is None else BITS[chosen[i]] for i in at]
        tips = [f"{features.layers[i]}: {b} bits" for i, b in zip(at, bits, strict=True)]
        marks.append(Bars(at, bits, 0.8, role, tips=tips))
    middles = [np.mean([i for i, p in enumerate(features.parts) if p == part]) for part in PARTS]
    x = Axis("layer", -0.7, len(features.layers) - 0.3, ticks=middles, labels=list(PARTS))
    return Plot(marks, x, Axis("bits", 0, 8.8, ticks=(2, 4, 6, 8)), height=150)
