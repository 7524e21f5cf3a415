"""Size against quality: the complete front, greedy beside it, and what both are worth measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from labkit.explorers.bit_budget import front, solver
from labkit.explorers.bit_choices import (
    LAYERS,
    WIDTHS,
    Widths,
    bytes_of,
    measured,
    read,
    words,
)
from labkit.explorers.panel import Panel, int_slider
from labkit.explorers.scene import (
    Axis,
    Cells,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Steps,
    Text,
)
from labkit.mixed import allocate_greedily, widths_of

SMALLEST, LARGEST, STEP = 9_000, 13_000, 100
BUDGETS = range(SMALLEST, LARGEST + 1, STEP)


@dataclass(frozen=True)
class State:
    """The budget in bytes.

    >>> State().budget
    10000
    """

    budget: int = 10_000


@cache
def greedy(budget: int) -> Widths:
    """Widths by upgrading, again and again, where a byte spares most loss.

    >>> bytes_of(greedy(10_000)) <= 10_000
    True
    """
    table = measured()
    limit = ("bytes", table.bytes, budget - table.other_bytes)
    return tuple(widths_of(table, allocate_greedily(table.loss, [limit])).values())


def predicted_loss(widths: Widths) -> float:
    """The sum of what the layers cost one at a time: what both methods make small.

    >>> predicted_loss((8, 8, 8, 8, 8)) < 0.001
    True
    """
    table = measured().loss
    return float(sum(table[i, WIDTHS.index(width)] for i, width in enumerate(widths)))


def controls() -> dict[str, Any]:
    """The budget."""
    return {"budget": int_slider("budget in bytes", SMALLEST, LARGEST, step=STEP)}


def scene(state: State) -> Scene:
    """Draw predicted loss and measured accuracy over the budget, and the two choices at it.

    >>> scene(State(9_000)).readout("exact, test").value
    '37.5'
    """
    exact, other = solver(state.budget), greedy(state.budget)
    here, there = read(exact, "test"), read(other, "test")
    difference = str(here.against(there)).removesuffix(" (measured)")
    return Scene(
        f"{state.budget:,} bytes, spent exactly and greedily",
        [[_predicted(state), _measured(state)], _table(state)],
        readouts=[
            Readout("sum, exact", f"{predicted_loss(exact):.3f}", "", "computed", "good"),
            Readout("sum, greedy", f"{predicted_loss(other):.3f}", "", "computed", "error"),
            Readout("exact, test", f"{here.percent:.1f}", "%", "measured", "good"),
            Readout("greedy, test", f"{there.percent:.1f}", "%", "measured", "error"),
        ],
        formulas=[
            f"left of {state.budget:,} bytes: exact {state.budget - bytes_of(exact):,}, "
            f"greedy {state.budget - bytes_of(other):,}",
            f"exact − greedy: {difference}",
        ],
        description=(
            "Left, the sum of losses over bytes: the front, greedy and single widths; right, their "
            "accuracy on the test images; below, the widths of both choices."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(budget=9_700).state.budget
    9700
    """
    for widths in sorted({way(budget) for way in (solver, greedy) for budget in BUDGETS}):
        read(widths, "test")
    return Panel(State(**fields), controls(), scene)


_BYTES = Axis(
    "budget", SMALLEST - 150, LARGEST + 100, "kB", ticks=range(9_000, 13_001, 1_000),
    labels=["9", "10", "11", "12", "13"],
)  # fmt: skip


def _predicted(state: State) -> Plot:
    """The whole front as a staircase: what a byte more buys."""
    points = front()
    edges = [*map(bytes_of, points), LARGEST + STEP]
    losses = np.clip([predicted_loss(widths) for widths in points], 1e-4, None)
    near = [i for i, edge in enumerate(edges[:-1]) if edge <= LARGEST]
    edges = [edges[i] for i in near] + [LARGEST + STEP]
    budgets = [b - STEP / 2 for b in BUDGETS] + [LARGEST + STEP / 2]
    marks: list[Mark] = [
        Rule(state.budget, role="range"),
        Steps(budgets, [predicted_loss(greedy(b)) for b in BUDGETS], "error", "greedy", width=2),
        Steps(edges, [losses[i] for i in near], "good", "exact", width=2),
        *_same_bits(lambda widths: predicted_loss(widths)),
        Points([state.budget], [predicted_loss(greedy(state.budget))], "error", size=6),
        Points([state.budget], [predicted_loss(solver(state.budget))], "good", size=6),
    ]
    y = Axis("sum of losses", 0.003, 1, scale="log")
    return Plot(marks, _BYTES, y, "one layer at a time, added up (computed)", height=290)


def _measured(state: State) -> Plot:
    """What the choices at each budget read correctly."""
    marks: list[Mark] = [Rule(state.budget, role="range")]
    for way, role, label in ((greedy, "error", "greedy"), (solver, "good", "exact")):
        percents = [read(way(budget), "test").percent for budget in BUDGETS]
        marks.append(Line(BUDGETS, percents, role, label))
        tips = [f"{b:,} bytes: {words(way(b))}\n{read(way(b), 'test').accuracy}" for b in BUDGETS]
        marks.append(Points(BUDGETS, percents, role, size=2.5, tips=tips))
        now = read(way(state.budget), "test").accuracy
        at = [state.budget + (25 if way is greedy else -25)] * 2
        marks.append(Line(at, [100 * now.low, 100 * now.high], role, width=3))
        marks.append(Points([state.budget], [100 * now.value], role, size=6))
    marks += _same_bits(lambda widths: read(widths, "test").percent)
    y = Axis("right answers", 30, 102, "%")
    return Plot(marks, _BYTES, y, "all together, on 1000 test images (measured)", height=290)


def _same_bits(height: Any) -> list[Mark]:
    same = [(width,) * len(LAYERS) for width in WIDTHS]
    same = [widths for widths in same if bytes_of(widths) <= LARGEST]
    x, y = [bytes_of(widths) for widths in same], [height(widths) for widths in same]
    return [Points(x, y, "range", "same", 6, True, [f"{w[0]} bits everywhere" for w in same])]


def _table(state: State) -> Plot:
    """The widths of both, layer by layer, those that differ drawn strong."""
    rows = {"exact": solver(state.budget), "greedy": greedy(state.budget)}
    marks: list[Mark] = []
    for i, name in enumerate(LAYERS):
        marks.append(Text(i + 0.5, 2.3, name, "muted"))
    differ = [len(set(pair)) > 1 for pair in zip(*rows.values(), strict=True)]
    for row, (name, widths) in enumerate(rows.items()):
        y = 1 - row
        marks.append(Text(-0.1, y + 0.45, name, "ink", "end", bold=True, dy=5))
        role = "good" if name == "exact" else "error"
        for strong in (False, True):
            at = [i for i in range(len(LAYERS)) if differ[i] == strong]
            if at:
                labels = [f"{widths[i]} bits" for i in at]
                places = [i + 0.04 for i in at], [y] * len(at)
                marks.append(Cells(*places, labels, role, 0.92, 0.9, strong=strong))
    x, y = Axis("", -0.8, 5.1, show=False), Axis("", 0, 2.7, show=False)
    return Plot(marks, x, y, height=100, grid="none")
