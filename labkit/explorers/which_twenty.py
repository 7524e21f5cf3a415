"""Which 20 % of a network get more bits: one random choice after another, and the sensitive parts.

Two networks, each cut into some fifty parts that have a width of their own: the document's digits
network by groups of eight neurons, and ImageNet's MobileNetV2 by layers. What a part minds is
measured on one set of images, and every choice is shown on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, choice, int_slider
from labkit.explorers.parts import NETWORKS, Network, network
from labkit.explorers.scene import Axis, Bars, Mark, Plot, Points, Readout, Rule, Scene, Steps
from labkit.mixed import allocate_bits
from labkit.threads import one_thread

SHARE = 0.2
DRAWS = 60
WAYS = {
    "random": "a random draw",
    "sensitive": "the most sensitive",
    "insensitive": "the least sensitive",
}
_BINS = 44


@dataclass(frozen=True)
class State:
    """Which network, how the 20 % are chosen, and which random draw (1 to 60) is shown.

    >>> State().way
    'random'
    """

    draw: int = 1
    way: str = "random"
    network: str = "digits"


@cache
@one_thread()
def damage(name: str) -> np.ndarray:
    """What the low width costs each part by itself, the others in float, on the first images.

    (parts,), a loss; a negative one means that rounding happened to help.

    >>> damage("digits").shape
    (50,)
    """
    net = network(name)
    whole = net.loss({})
    return np.array([net.loss({part: net.low}) - whole for part in net.parts])


@cache
def chosen(name: str, way: str, draw: int = 1) -> frozenset[str]:
    """The parts that get the higher width; together at most 20 % of the weights.

    "sensitive": those that spare most damage in sum, exact; "insensitive": in the order of the
    damage for each weight, the least first; "random": in a random order; each taken if it fits.
    Raises ValueError for another way.

    >>> chosen("digits", "random", 1) == chosen("digits", "random", 2)
    False
    """
    net = network(name)
    weights = np.array(list(net.parts.values()))
    budget = int(SHARE * weights.sum())
    if way == "sensitive":
        # Option 0, the low width, costs the damage; option 1 spares it and takes weights.
        cost = np.stack([damage(name), 0 * damage(name)], axis=1)
        use = np.stack([0 * weights, weights], axis=1)
        picked = allocate_bits(cost, [("weights", use, budget)]) == 1
        return frozenset(part for part, yes in zip(net.parts, picked, strict=True) if yes)
    if way == "insensitive":
        order = (damage(name) / weights).argsort()
    elif way == "random":
        order = np.random.default_rng(draw).permutation(len(weights))
    else:
        raise ValueError(f"got way {way!r}; use one of {', '.join(WAYS)}")
    taken, left = set(), budget
    for at in order:
        if weights[at] <= left:
            taken.add(list(net.parts)[at])
            left -= weights[at]
    return frozenset(taken)


@cache
@one_thread()
def quality(name: str, parts: frozenset[str]) -> float:
    """Quality on the second set of images when these parts have the higher width, the others not.

    In percent of right answers, or as the cosine of the features: see `Network.unit`.

    >>> quality("digits", chosen("digits", "sensitive")) > quality("digits", frozenset())
    True
    """
    net = network(name)
    return net.quality({part: net.high if part in parts else net.low for part in net.parts})


@cache
def draws(name: str) -> tuple[float, ...]:
    """The quality of each of the random choices.

    >>> len(draws("digits"))
    60
    """
    return tuple(quality(name, chosen(name, "random", n)) for n in range(1, DRAWS + 1))


def beaten(name: str, value: float) -> int:
    """How many of the random choices are worse than this quality.

    >>> beaten("digits", 100.0), beaten("digits", 0.0)
    (60, 0)
    """
    return sum(value > other for other in draws(name))


def controls() -> dict[str, Any]:
    """The draw, the way to choose, and the network; only networks that are installed."""
    return {
        "draw": int_slider("random draw", 1, DRAWS, tooltip="Another 20 %, drawn at random"),
        "way": choice("more bits for", [(words, way) for way, words in WAYS.items()]),
        "network": choice(
            "network", [(title, name) for name, title in NETWORKS.items() if network(name)]
        ),
    }


def scene(state: State) -> Scene:
    """Draw what each part minds, the chosen ones marked, and where the choice stands.

    >>> scene(State(way="sensitive")).readout("better than random").unit
    'of 60'
    """
    net = network(state.network)
    parts = chosen(state.network, state.way, state.draw)
    value = quality(state.network, parts)
    share = sum(net.parts[part] for part in parts) / sum(net.parts.values())
    how = f"random draw {state.draw}" if state.way == "random" else WAYS[state.way]
    return Scene(
        f"{net.title}: {net.high} bits for {how}, {net.low} for the rest",
        [_parts(net, state.network, parts), _histogram(net, state, value)],
        readouts=[
            Readout(net.measure, net.shown(value), net.unit, "measured", "quantized"),
            Readout("better than random", beaten(state.network, value), f"of {DRAWS}", "measured"),
            Readout(f"parts in {net.high} bits", len(parts), f"of {len(net.parts)}", "chosen"),
            Readout("of all weights", f"{100 * share:.1f}", "%", "computed"),
        ],
        formulas=_lines(net, state, parts),
        description=(
            "Above, the damage of each part by itself, chosen parts in orange; below, a histogram "
            "of the quality of random choices and the place of this one."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(draw=7).state.draw
    7
    """
    state = State(**fields)
    draws(state.network), damage(state.network)
    return Panel(state, controls(), scene, slow=True)


def _lines(net: Network, state: State, parts: frozenset[str]) -> list[str]:
    found = draws(state.network)
    low, middle, high = (
        f"{net.shown(x)} {net.unit}".strip() for x in (min(found), np.median(found), max(found))
    )
    lines = [f"{DRAWS} random choices: {low} to {high}, half of them below {middle}"]
    best = chosen(state.network, "sensitive")
    widths = [
        {part: net.high if part in some else net.low for part in net.parts}
        for some in (parts, best)
    ]
    return [*lines, net.compared(*widths) if parts != best else net.interval(widths[0])]


def _parts(net: Network, name: str, parts: frozenset[str]) -> Plot:
    """The damage at the low width, as the root, so that small ones show."""
    marks: list[Mark] = []
    losses = damage(name).clip(min=0)
    for role, label, mine in (
        ("quantized", f"{net.high} bits", True),
        ("range", f"{net.low} bits", False),
    ):
        at = [i for i, part in enumerate(net.parts) if (part in parts) == mine]
        tips = [
            f"{part}: {net.parts[part]:,} weights\nloss {short(float(damage(name)[i]), 2)}"
            for i, part in enumerate(net.parts)
            if i in at
        ]
        marks.append(Bars(at, np.sqrt(losses[at] / losses.max()), 0.8, role, label, tips=tips))
    x = Axis(net.axis, -1, len(net.parts))
    y = Axis(f"damage alone at {net.low} bits (root, worst = 1)", 0, 1.05)
    return Plot(marks, x, y, height=210)


def _histogram(net: Network, state: State, value: float) -> Plot:
    found = draws(state.network)
    edges = np.linspace(net.least, net.most, _BINS + 1)
    counts, _ = np.histogram(found, edges)
    none, every = (quality(state.network, frozenset(p)) for p in ((), tuple(net.parts)))
    best = quality(state.network, chosen(state.network, "sensitive"))
    marks: list[Mark] = [
        Steps(edges, counts, "range", f"{DRAWS} random choices", fill=True),
        Rule(none, f"all {net.low} bits", "error"),
        Rule(every, f"all {net.high} bits", "float"),
        Points([value], [0.6], "quantized", "this choice", 8),
    ]
    if state.way != "random":
        marks.append(Rule(best, "the most sensitive", "good"))
    x = Axis(net.measure, net.least, net.most, unit=net.unit)
    return Plot(marks, x, Axis("choices", 0, 9), height=220, label_rows=2)
