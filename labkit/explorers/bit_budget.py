"""The bit-budget game: a width for each layer, so many bytes and no more; then ask the solver.

While you play, the accuracy is that of the practice images. The test images are opened with the
solver: they give the score, so that nobody chooses by the images that judge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

from labkit.explorers.bit_choices import (
    COLOURS,
    LAYERS,
    WIDTHS,
    Widths,
    bytes_of,
    measured,
    read,
    sizes,
    words,
)
from labkit.explorers.panel import Panel, choice, steps_slider, switch
from labkit.explorers.scene import (
    Axis,
    Bars,
    Cells,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Steps,
    Text,
)
from labkit.mixed import allocate_bits, allocate_uniformly, pareto_front, widths_of

BUDGETS = (9_700, 10_000, 10_600)
MOST_BYTES = 16_000
_RIGHT = 13_250
_LEAST_PERCENT = 20


@dataclass(frozen=True)
class State:
    """Bits of the five layers, the budget in bytes, and whether the solver has been asked.

    >>> State().widths
    (2, 2, 2, 2, 2)
    """

    conv1: int = 2
    depthwise: int = 2
    pointwise: int = 2
    conv4: int = 2
    fc: int = 2
    budget: int = 10_000
    ask: bool = False

    @property
    def widths(self) -> Widths:
        """The five widths in the order of the layers."""
        return tuple(getattr(self, name) for name in LAYERS)


@cache
def solver(budget: int) -> Widths:
    """The widths whose measured losses, one layer at a time, have the smallest sum: exact.

    >>> bytes_of(solver(10_000)) <= 10_000
    True
    """
    table = measured()
    chosen = allocate_bits(table.loss, [("bytes", table.bytes, budget - table.other_bytes)])
    return tuple(widths_of(table, chosen).values())


@cache
def uniform(budget: int) -> Widths:
    """The best single width that fits the budget.

    >>> uniform(10_000)
    (2, 2, 2, 2, 2)
    """
    table = measured()
    chosen = allocate_uniformly(table.loss, [("bytes", table.bytes, budget - table.other_bytes)])
    return tuple(widths_of(table, chosen).values())


def score(widths: Widths, budget: int) -> int:
    """Points on the test images: 0 is the best single width, 100 the solver, beyond it more.

    Nothing is given for a network that is over the budget.

    >>> score(solver(10_000), 10_000), score((8, 8, 8, 8, 8), 10_000)
    (100, 0)
    """
    if bytes_of(widths) > budget:
        return 0
    least, most = (read(way(budget), "test").percent for way in (uniform, solver))
    return round(100 * (read(widths, "test").percent - least) / (most - least))


@cache
def front() -> tuple[Widths, ...]:
    """Every choice that no other beats in bytes and in the sum of measured losses, by bytes.

    >>> front()[0]
    (2, 2, 2, 2, 2)
    """
    table = measured()
    points = pareto_front(table.loss, table.bytes)
    return tuple(tuple(widths_of(table, point.choice).values()) for point in points)


def controls() -> dict[str, Any]:
    """A slider for each layer, the budget, and the switch that asks the solver."""
    counts = {"conv1": 144, "depthwise": 144, "pointwise": 512, "conv4": 18_432, "fc": 5_760}
    sliders = {
        name: steps_slider(
            f"{name}: {count:,} weights", WIDTHS, tooltip=f"Bits of each weight of {name}"
        )
        for name, count in counts.items()
    }
    return {
        **sliders,
        "budget": choice("budget in bytes", [(f"{budget:,}", budget) for budget in BUDGETS]),
        "ask": switch("ask the solver", tooltip="Its widths, the test images, and your score"),
    }


def scene(state: State) -> Scene:
    """Draw the budget, the bits of each layer, and where the choice stands among the best.

    >>> scene(State(conv4=8)).readout("too many").value
    '12,744'
    """
    nbytes, now = bytes_of(state.widths), read(state.widths)
    left = state.budget - nbytes
    over = left < 0
    test, points = "?", "?"
    if state.ask:
        test = f"{read(state.widths, 'test').percent:.1f}"
        points = str(score(state.widths, state.budget))
    return Scene(
        f"Spend {state.budget:,} bytes on five layers",
        [_bar(state), [_field(state), _bits(state)]],
        readouts=[
            Readout("practice images", f"{now.percent:.1f}", "%", "measured", "quantized"),
            Readout("spent", f"{nbytes:,}", "bytes", "measured"),
            Readout(
                "too many" if over else "left",
                f"{abs(left):,}",
                "bytes",
                "computed",
                "bad" if over else "good",
            ),
            Readout("test images", test, "%" if state.ask else "", "measured"),
            Readout("score", points, "", "computed"),
        ],
        formulas=_lines(state),
        description=(
            "Above, the bytes of each layer and the budget; below, accuracy over bytes with the "
            "best choices as a line, and the bits of each layer."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(fc=3).state.fc
    3
    """
    # In the order of their first layers, whose results are then used again.
    for widths in sorted(front()):
        read(widths)
    return Panel(State(**fields), controls(), scene)


def _lines(state: State) -> list[str]:
    plain = uniform(state.budget)
    now = read(state.widths)
    lines = [
        f"you, {words(state.widths)}: {now.accuracy}",
        f"{plain[0]} bits everywhere, {bytes_of(plain):,} bytes: {read(plain).accuracy}",
    ]
    if not state.ask:
        return [
            *lines,
            "the solver knows the practice images, as you do; the test images give the score:",
            "0 for the same bits everywhere, 100 for the solver's choice, more for a better one",
        ]
    best = solver(state.budget)
    yours, its = read(state.widths, "test"), read(best, "test")
    score_line = (
        "over the budget: no score"
        if bytes_of(state.widths) > state.budget
        else f"test images, you − solver: {yours.against(its)}".removesuffix(" (measured)")
    )
    return [
        *lines,
        f"solver, {words(best)}, {bytes_of(best):,} bytes: {read(best).percent:.1f} % in practice, "
        f"{its.percent:.1f} % in the test",
        score_line,
    ]


def _bar(state: State) -> Plot:
    """What each part of the network takes, end to end, and where the budget ends."""
    table, other = sizes()
    parts = [("norms, biases", other, "range")]
    parts += [
        (name, table[name, width], COLOURS[i])
        for i, (name, width) in enumerate(zip(LAYERS, state.widths, strict=True))
    ]
    marks: list[Mark] = []
    start = 0
    for name, nbytes, role in parts:
        # A name that does not fit its box would only be a blot.
        label = name if nbytes > 1_300 else ""
        tip = f"{name}: {nbytes:,} bytes"
        marks.append(Cells([start], [0], [label], role, nbytes, 1, 13, tips=[tip], strong=True))
        start += nbytes
    over = start > state.budget
    role = "bad" if over else "good"
    marks.append(Rule(state.budget, f"budget {state.budget:,}", role, width=3))
    x = Axis("bytes of the file, header aside", 0, MOST_BYTES)
    return Plot(marks, x, Axis("", -0.1, 1.1, show=False), height=115, grid="none", label_rows=1)


def _field(state: State) -> Plot:
    """Accuracy over bytes: the best choices, the uniform widths, you, and the solver when asked."""
    choices = front()
    x, y = _places(choices)
    tips = [f"{words(c)}\n{bytes_of(c):,} bytes\n{read(c).accuracy}" for c in choices]
    marks: list[Mark] = [
        Rule(state.budget, role="range"),
        Steps([*x, _RIGHT + 1], list(accumulate(y, max)), "good", width=1.5),
        # Before the solver has been asked, its choices must not be read off.
        Points(x, y, "good", "front", 3, tips=tips if state.ask else ()),
    ]
    same = [(width,) * len(LAYERS) for width in WIDTHS]
    x, y = _places(same)
    tips = [f"{c[0]} bits everywhere\n{bytes_of(c):,} bytes\n{read(c).accuracy}" for c in same]
    marks.append(Points(x, y, "range", "same bits", 6, True, tips))
    if state.ask:
        marks.append(Points(*_places([solver(state.budget)]), "good", "solver", 8, True))
    (x,), y = _places([state.widths])
    # Beyond the picture you stand at its edge.
    marks.append(Points([min(x, _RIGHT)], y, "quantized", "you", 7, tips=[words(state.widths)]))
    ticks = range(9_000, 13_001, 1_000)
    across = Axis("bytes", 8_750, _RIGHT, "kB", ticks=ticks, labels=[str(t // 1000) for t in ticks])
    up = Axis("practice", _LEAST_PERCENT, 103, "%", ticks=(20, 40, 60, 80, 100))
    return Plot(marks, across, up, height=230, weight=1.5)


def _places(choices: Iterable[Widths]) -> tuple[list[int], list[float]]:
    choices = list(choices)
    return [bytes_of(c) for c in choices], [read(c).percent for c in choices]


def _bits(state: State) -> Plot:
    places = range(len(LAYERS))
    marks: list[Mark] = []
    for at, width in zip(places, state.widths, strict=True):
        marks.append(Bars([at], [width], 0.6, COLOURS[at]))
        marks.append(Text(at, 0, str(width), bold=True, dy=-8))
    if state.ask:
        marks.append(Points(places, solver(state.budget), "good", "solver", 7, True))
    names = ("conv1", "depth.", "point.", "conv4", "fc")
    x = Axis("layer", -0.6, 4.6, ticks=places, labels=names)
    return Plot(marks, x, Axis("bits", 0, 8.8, ticks=WIDTHS), height=230)
