"""Which part of the robot minds fewer bits: success when one part alone is rounded, a heat map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from labkit.evaluate import Accuracy
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.robot_runs import PARTS, Robot, play_all, played, policy
from labkit.explorers.scene import Axis, Image, Line, Mark, Plot, Points, Readout, Scene, Text
from labkit.selection import quantizable_layers
from labkit.vla.rollout import compare, success
from labkit.vla.zoo import SEEDS

WIDTHS = (2, 3, 4)
EPISODES = 60
"""Episodes of each cell: few, so the intervals are wide."""


@dataclass(frozen=True)
class State:
    """The part and the width that are marked, and which of the trained robots.

    >>> State().part
    'fusion'
    """

    bits: int = 3
    part: str = "fusion"
    seed: int = 0


def cell(part: str, bits: int, seed: int = 0) -> Accuracy:
    """Return the success when only this part is rounded to `bits`; "" rounds all parts."""
    return success(played(Robot(bits, part=part, seed=seed), EPISODES))


@cache
def shares() -> dict[str, float]:
    """Return how much of all weights each part holds, in percent.

    >>> round(sum(shares().values()))
    100
    """
    layers = quantizable_layers(policy())
    weights = {name: layer.weight.numel() for name, layer in layers.items()}
    return {
        part: 100
        * sum(n for name, n in weights.items() if name.startswith(f"{part}."))
        / sum(weights.values())
        for part in PARTS
    }


def worst(bits: int, seed: int) -> str:
    """Return the part that, rounded alone, leaves least success; all those that tie."""
    found = {part: cell(part, bits, seed).correct for part in PARTS}
    least = min(found.values())
    return " and ".join(part for part in PARTS if found[part] == least)


def controls() -> dict[str, Any]:
    """Width, part and training seed."""
    seeds = [(f"seed {seed}", seed) for seed in SEEDS]
    return {
        "bits": steps_slider("bits", WIDTHS, tooltip="The column that is marked"),
        "part": choice("part", PARTS, tooltip="The row that is marked"),
        "seed": choice("robot", seeds, tooltip="Trained three times, from other random numbers"),
    }


def scene(state: State) -> Scene:
    """Draw the map, and the column with its intervals."""
    here = cell(state.part, state.bits, state.seed)
    whole = cell("", state.bits, state.seed)
    pair = [
        played(Robot(seed=state.seed), EPISODES),
        played(Robot(state.bits, part=state.part, seed=state.seed), EPISODES),
    ]
    return Scene(
        f"Only {state.part} in {state.bits} bits, the rest in float (robot of seed {state.seed})",
        [[_map(state), _column(state)]],
        readouts=[
            Readout("success", f"{100 * here.value:.0f}", "%", "measured", "quantized"),
            Readout(
                "95 % interval", f"{100 * here.low:.0f} – {100 * here.high:.0f}", "%", "computed"
            ),
            Readout("of all weights", f"{shares()[state.part]:.0f}", "%", "computed"),
            Readout(f"all parts in {state.bits}", f"{100 * whole.value:.0f}", "%", "measured"),
            Readout("worst part", worst(state.bits, state.seed), "", "measured", "error"),
        ],
        formulas=[
            f"against float: {compare(*pair)}".replace("samples", "episodes"),
            f"{state.part} in {state.bits} bits, robots of seeds {_listed(SEEDS)}: "
            f"{_listed(_shown(cell(state.part, state.bits, seed)) for seed in SEEDS)} (measured)",
        ],
        description=(
            "Left, a heat map of parts by bits with the success in percent; right, the marked "
            "column with intervals, beside the float robot and the one with all parts rounded."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`. Plays every cell once, now."""
    play_all(
        (Robot(bits, part=p, seed=s) for s in SEEDS for p in PARTS for bits in WIDTHS), EPISODES
    )
    play_all((Robot(bits, seed=s) for s in SEEDS for bits in (*WIDTHS, Robot().bits)), EPISODES)
    return Panel(State(**fields), controls(), scene)


def _shown(found: Accuracy) -> str:
    return f"{100 * found.value:.0f} %"


def _listed(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))


def _map(state: State) -> Plot:
    """Success that is missing, as heat."""
    found = [[cell(part, bits, state.seed) for bits in WIDTHS] for part in PARTS]
    rows, columns = len(PARTS), len(WIDTHS)
    tips = [
        f"{part} at {bits} bits\n{found[i][j]}"
        for i, part in enumerate(PARTS)
        for j, bits in enumerate(WIDTHS)
    ]
    heat = [[1 - f.value for f in row] for row in found]
    marks: list[Mark] = [Image(heat, 0, columns, 0, rows, 0, 1.4, "heat", square=False, tips=tips)]
    j, y = WIDTHS.index(state.bits), rows - 1 - PARTS.index(state.part)
    marks.append(Line([j, j + 1, j + 1, j, j], [y, y, y + 1, y + 1, y], "ink", width=2.5))
    for i, row in enumerate(found):
        for j, f in enumerate(row):
            marks.append(Text(j + 0.5, rows - 0.5 - i, _shown(f), size=15, bold=True, dy=5))
    labels = [f"{part} ({shares()[part]:.0f} %)" for part in PARTS]
    y_axis = Axis("", 0, rows, ticks=[rows - 0.5 - i for i in range(rows)], labels=labels)
    x = Axis("bits", 0, columns, ticks=[j + 0.5 for j in range(columns)], labels=WIDTHS)
    return Plot(marks, x, y_axis, "success, one part rounded", 290, 1.25, grid="none")


def _column(state: State) -> Plot:
    """The marked width: every part with its interval, and all parts together."""
    rows = [("float", success(played(Robot(seed=state.seed), EPISODES)), "float")]
    rows += [(part, cell(part, state.bits, state.seed), "quantized") for part in PARTS]
    rows += [("all parts", cell("", state.bits, state.seed), "error")]
    marks: list[Mark] = []
    for i, (name, found, role) in enumerate(rows):
        y = len(rows) - 1 - i
        marks.append(Line([100 * found.low, 100 * found.high], [y, y], role, width=3))
        size = 9 if name == state.part else 6
        marks.append(Points([100 * found.value], [y], role, size=size, tips=[f"{name}\n{found}"]))
    names = [name for name, _, _ in rows]
    y_axis = Axis("", -0.6, len(rows) - 0.4, ticks=range(len(rows))[::-1], labels=names)
    x = Axis("success", -3, 103, "%")
    return Plot(marks, x, y_axis, f"at {state.bits} bits, of {EPISODES} episodes", 290, grid="x")
