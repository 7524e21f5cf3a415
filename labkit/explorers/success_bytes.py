"""Success in closed loop against the bytes of the policy, with intervals: every way of the lab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from labkit.evaluate import Accuracy
from labkit.explorers import robot_runs
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.robot_films import width_name
from labkit.explorers.robot_runs import Robot, nbytes, play_all, played
from labkit.explorers.scene import Axis, Line, Mark, Plot, Points, Readout, Rule, Scene, Text
from labkit.threads import one_thread
from labkit.vla.controls import random_actions
from labkit.vla.env import MISSIONS
from labkit.vla.rollout import Rollout, compare, held_out, roll_out, success

WIDTHS = (8, 6, 4, 3, 2)
WAYS = {
    "channel": ("rounded, a scale a channel", "quantized"),
    "tensor": ("rounded, a scale a tensor", "code6"),
    "mixed": ("a width a layer, learned rounding", "code3"),
    "trained": ("trained with the rounding", "good"),
}
"""How the policy was made small → what it is called, its colour."""
OFFERED = {"tensor": WIDTHS, "channel": WIDTHS, "mixed": (3,), "trained": (3, 2)}
"""Which widths there are; "mixed" is a width for each layer, no more bytes than 3 bits for all."""


@dataclass(frozen=True)
class State:
    """Bits and way of the marked policy; which mission counts, one of MISSIONS or "all".

    >>> State().way
    'tensor'
    """

    bits: int = 3
    way: str = "tensor"
    mission: str = "all"


@cache
@one_thread()
def at_random() -> tuple[Rollout, ...]:
    """Let random actions play the same episodes."""
    return tuple(roll_out(random_actions(), held_out(robot_runs.EPISODES), stop_loops=False))


def on(rollouts: Sequence[Rollout], mission: str) -> tuple[Rollout, ...]:
    """Return the episodes of one mission, or all of them."""
    return tuple(r for r in rollouts if mission in ("all", r.mission))


def controls() -> dict[str, Any]:
    """Width, way and mission."""
    ways = [(words, way) for way, (words, _) in WAYS.items()]
    missions = [("all three", "all"), *((mission, mission) for mission in MISSIONS)]
    return {
        "bits": steps_slider("bits", WIDTHS),
        "way": choice("how", ways, buttons=False, tooltip="How the policy was made small"),
        "mission": choice("mission", missions, tooltip="Which episodes count"),
    }


def scene(state: State) -> Scene:
    """Draw success over bytes, and the three missions apart, beside float and chance."""
    marked = Robot(state.bits, state.way)
    shown, floats = (on(played(which), state.mission) for which in (marked, Robot()))
    here, size = success(shown), nbytes(marked)
    chance = success(on(at_random(), state.mission))
    words, role = WAYS[state.way]
    what = "at most the bytes of " if state.way == "mixed" else ""
    return Scene(
        f"The robot in {what}{width_name(state.bits)}, {words}",
        [[_sizes(state), _missions(state)]],
        readouts=[
            Readout("success", f"{100 * here.value:.1f}", "%", "measured", role),
            Readout(
                "95 % interval", f"{100 * here.low:.0f} – {100 * here.high:.0f}", "%", "computed"
            ),
            Readout("size", round(size / 1000), "kB", "measured"),
            Readout("smaller", f"{nbytes() / size:.1f}", "×", "computed"),
            Readout("random actions", f"{100 * chance.value:.0f}", "%", "measured", "range"),
        ],
        formulas=[f"against float: {compare(floats, shown)}".replace("samples", "episodes")],
        description=(
            "Left, success in percent over kilobytes for every policy, the chosen one marked with "
            "its interval; right, its success in each mission beside float and random actions."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`. Plays everything once, now."""
    play_all([Robot(), *(Robot(bits, way) for way in OFFERED for bits in OFFERED[way])])
    at_random()
    return Panel(
        State(**fields),
        controls(),
        scene,
        limits=lambda state: {"bits": {"options": OFFERED[state.way]}},
    )


def _sizes(state: State) -> Plot:
    """Every policy as a point, its interval as a line."""
    marks: list[Mark] = []
    chance = 100 * success(on(at_random(), state.mission)).value
    marks.append(Rule(chance, "", "range", axis="y"))
    # Below its line, where no grid line is; at 0 there is no room.
    below = 16 if chance > 10 else -6
    marks.append(Text(1780, chance, "random actions", "range", "end", dy=below))
    for way, (words, role) in WAYS.items():
        widths = OFFERED[way]
        sizes = [nbytes(Robot(bits, way)) / 1000 for bits in widths]
        found = [success(on(played(Robot(bits, way)), state.mission)) for bits in widths]
        if len(widths) > 2:
            marks.append(Line(sizes, [100 * f.value for f in found], role, width=1.5))
        marks += [_interval(x, f, role) for x, f in zip(sizes, found, strict=True)]
        tips = [f"{bits} bits, {words}\n{f}" for bits, f in zip(widths, found, strict=True)]
        values = [100 * f.value for f in found]
        marks.append(Points(sizes, values, role, way, 4, way == "tensor", tips))
        if way == state.way:
            at = widths.index(state.bits)
            marks.append(_interval(sizes[at], found[at], role, 4))
            marks.append(Points([sizes[at]], [values[at]], role, size=8))
    whole, size = success(on(played(), state.mission)), nbytes() / 1000
    marks.append(_interval(size, whole, "float"))
    marks.append(Points([size], [100 * whole.value], "float", "float", 6, tips=[f"float\n{whole}"]))
    ticks = (100, 150, 200, 300, 400, 600, 1000, 1500)
    x = Axis("size of the policy", 100, 1800, "kB", "log", ticks, [str(t) for t in ticks])
    return Plot(marks, x, Axis("success", -2, 103, "%"), "success over size", 330, 1.95)


def _missions(state: State) -> Plot:
    """The marked policy in each mission: beside float and chance."""
    marks: list[Mark] = []
    rows = (
        ("random", at_random(), "range", -0.22),
        ("float", played(), "float", 0.22),
        ("this one", played(Robot(state.bits, state.way)), WAYS[state.way][1], 0.0),
    )
    for name, rollouts, role, offset in rows:
        found = [success(on(rollouts, mission)) for mission in MISSIONS]
        heights = [2 - i + offset for i in range(len(MISSIONS))]
        marks += [
            Line([100 * f.low, 100 * f.high], [y, y], role, width=3)
            for f, y in zip(found, heights, strict=True)
        ]
        tips = [f"{mission}, {name}\n{f}" for mission, f in zip(MISSIONS, found, strict=True)]
        marks.append(Points([100 * f.value for f in found], heights, role, name, 6, tips=tips))
    y = Axis("", -0.6, 2.6, ticks=[2, 1, 0], labels=MISSIONS)
    x = Axis("success", -2, 103, "%")
    return Plot(marks, x, y, "mission by mission", 330, grid="x")


def _interval(x: float, found: Accuracy, role: str, width: float = 1.5) -> Line:
    return Line([x, x], [100 * found.low, 100 * found.high], role, width=width)
