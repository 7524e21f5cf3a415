"""A tensor and its grid: the levels on the number line, the staircase, the arithmetic of one value.

Blue is what the floats are, orange what is left of them, red-brown the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from labkit.explorers.drawing.text import short
from labkit.explorers.grid_facts import Followed, Grid, arithmetic, choosing, follow, grid, term
from labkit.explorers.panel import Panel, bits_slider, choice, float_slider
from labkit.explorers.sample_tensors import NAMES, Sample, sample
from labkit.explorers.scene import (
    Axis,
    Band,
    Hits,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Stems,
    Steps,
    Text,
)
from labkit.packing import packed_bytes
from labkit.qparams import SCALE_RULES

ALL = ("tensor", "bits", "x", "scheme", "signed", "scale_rule")
_PIXELS = 900
_MOST_HEADS = 64
# Controls, plots and arithmetic together are to fit a laptop's window.
_TALL, _LOW = 202, 178
# Room below the line of the histogram, for the codes.
_BELOW = 0.33


@dataclass(frozen=True)
class State:
    """Which tensor, which grid, and the value `x` that is followed through the arithmetic.

    >>> State().bits
    4
    """

    tensor: str = "fc1"
    bits: int = 4
    scheme: str = "affine"
    signed: bool = False
    scale_rule: str = "restricted"
    x: float = 0.05


def controls() -> dict:
    """Every control of the explorer.

    >>> list(controls()) == list(ALL)
    True
    """
    return {
        "tensor": choice(
            "tensor", [(words, name) for name, words in NAMES.items()], tooltip="What is quantized"
        ),
        "bits": bits_slider(tooltip="Bits of a code: 2 to the power of it levels"),
        "x": float_slider(
            "follow the value x", -1.4, 1.4, shown=".3f", tooltip="See its arithmetic, step by step"
        ),
        "scheme": choice(
            "scheme",
            ["affine", "symmetric"],
            tooltip="affine: the grid fits min and max; symmetric: it is centered on zero",
        ),
        "signed": choice("codes", [("unsigned", False), ("signed", True)], tooltip="0… or −…"),
        "scale_rule": choice("scale rule", list(SCALE_RULES), tooltip="Only when symmetric"),
    }


def limits(state: State) -> dict:
    """What the controls may offer: x stays on the picture, a rule needs the symmetric scheme.

    >>> limits(State(tensor="relu6"))["x"]["max"]
    8.4
    """
    data = sample(state.tensor)
    reach = round(data.reach / data.step) * data.step
    return {
        "x": {"min": -reach, "max": reach, "step": data.step},
        "scale_rule": {"disabled": state.scheme == "affine"},
    }


def explorer(show: Sequence[str] = ALL, **fields: object) -> Panel:
    """Return the panel; `show` names the controls wanted, `fields` the state it starts from.

    >>> list(explorer(["bits"], bits=3).controls)
    ['bits']
    """
    wanted = {name: control for name, control in controls().items() if name in show}
    return Panel(
        State(**fields),  # type: ignore[arg-type]
        wanted,
        scene,
        limits=lambda state: {k: v for k, v in limits(state).items() if k in wanted},
    )


def scene(state: State) -> Scene:
    """Draw the state.

    >>> scene(State(tensor="example1", bits=8, x=0.5)).readout("zero point z").value
    128
    """
    data = sample(state.tensor)
    # The rule makes no difference to an affine grid, so all rules share one.
    rule = state.scale_rule if state.scheme == "symmetric" else "restricted"
    on = grid(state.tensor, state.bits, state.scheme, state.signed, rule)
    value = follow(state.x, on)
    before, after = 4 * data.count, packed_bytes(data.count, state.bits)
    return Scene(
        f"{data.title[0].upper()}{data.title[1:]}, on {len(on.codes)} levels: "
        f"{before:,} → {after:,} bytes",
        [
            _number_line(data, on, value),
            [_staircase(data, on, value), _microscope(on, value)],
        ],
        [
            Readout("scale s (one step)", on.scale, role="quantized"),
            Readout("zero point z", on.zero_point, role="quantized"),
            Readout("largest error", on.max_error, kind="measured", role="error", digits=3),
            Readout("size of the codes", f"{short(before / after, 3)}×", "smaller"),
        ],
        [*choosing(data, on), *arithmetic(on, value)],
        "Histogram of a tensor with the levels of its grid, the staircase from x to x', "
        "and one value under the microscope.",
    )


def _number_line(data: Sample, on: Grid, value: Followed) -> Plot:
    return Plot(
        [*_levels(data, on), Rule(value.x, f"x = {short(value.x)}", "float", dashed=False)],
        Axis(f"value of x · gray: {_reach(on)}", -data.reach, data.reach),
        Axis("density (highest bar = 1)", -_BELOW, 1.05, ticks=(0, 0.5, 1)),
        height=_TALL,
        grid="none",
        label_rows=2,
    )


@lru_cache(maxsize=64)
def _levels(data: Sample, on: Grid) -> tuple[Mark, ...]:
    """What stays while x moves: histogram, levels, codes."""
    seen = [i for i, level in enumerate(on.levels) if abs(level) <= data.reach]
    levels, tall = [on.levels[i] for i in seen], [on.heights[i] for i in seen]
    few = len(seen) <= _MOST_HEADS
    # Tips of 256 levels would lie on top of each other; there the staircase has them.
    tips = [f"code {short(on.codes[i])}\n{_back(on, i)}" for i in seen] if few else ()
    size, width = (4.5, 2.0) if few else (0, 1.4)
    return (
        Band(on.low, on.high),
        Steps(data.edges, data.density, "float", "float values x", fill=True, width=1.5),
        Rule(0.0, f"zero is code {short(on.zero_point)}", "ink", width=1),
        Stems(levels, [-0.07] * len(levels), size=0),
        Stems(levels, tall, "quantized", "levels x'", size=size, width=width, tips=tips),
        *_code_labels(on, seen, data.reach),
        *_out_of_sight(on, data.reach),
    )


def _reach(on: Grid) -> str:
    return f"the codes reach from {short(on.low)} to {short(on.high)}"


def _out_of_sight(on: Grid, reach: float) -> list[Text]:
    """How many levels lie off the picture, in a row above the codes and the line."""
    left = sum(level < -reach for level in on.levels)
    right = sum(level > reach for level in on.levels)
    words = [(-reach, "start", f"← {left} more, unused"), (reach, "end", f"{right} more, unused →")]
    return [
        Text(x, 0.3, text, "quantized", anchor, 12, dy=4)
        for (x, anchor, text), count in zip(words, (left, right), strict=True)
        if count
    ]


def _back(on: Grid, i: int) -> str:
    """The arithmetic from a code to its level."""
    code, z = short(on.codes[i]), term(on.zero_point)
    return f"x' = ({code} − {z}) × {short(on.scale)} = {short(on.levels[i])}"


def _code_labels(on: Grid, seen: Sequence[int], reach: float) -> list[Text]:
    """Codes below the line, counted from the zero point, as many as there is room for."""
    spacing = on.scale / (2 * reach) * _PIXELS
    every = 1
    while every * spacing < 30:
        every *= 2
    return [
        Text(on.levels[i], -0.6 * _BELOW, short(on.codes[i]), "quantized", size=12, dy=4)
        for i in seen
        if (on.codes[i] - on.zero_point) % every == 0
    ]


def _staircase(data: Sample, on: Grid, value: Followed) -> Plot:
    reach = data.reach
    return Plot(
        [
            *_stairs(data, on),
            Line([value.x, value.x], [value.x, value.back], "error", "error E", 3),
            Points([value.x], [value.x], "float", size=5),
            Points([value.x], [value.back], "quantized", size=5),
        ],
        Axis("value of x", -reach, reach),
        Axis("Staircase: point at a step", -reach, reach),
        height=_LOW,
        weight=1.15,
        grid="both",
    )


@lru_cache(maxsize=64)
def _stairs(data: Sample, on: Grid) -> tuple[Mark, ...]:
    """What stays while x moves: each code's cell, cut where a value is half-way to the next."""
    reach, levels = data.reach, on.levels
    middle = [(a + b) / 2 for a, b in pairwise(levels)]
    cuts = [min(max(cut, -reach), reach) for cut in (-reach, *middle, reach)]
    seen = [i for i in range(len(levels)) if cuts[i] < cuts[i + 1]]
    edges, heights = [*(cuts[i] for i in seen), cuts[seen[-1] + 1]], [levels[i] for i in seen]
    tips = [
        f"x from {short(cuts[i])} to {short(cuts[i + 1])}\n"
        f"→ code q = {short(on.codes[i])}\n→ {_back(on, i)}"
        for i in seen
    ]
    centres = [(a + b) / 2 for a, b in pairwise(edges)]
    return (
        Band(on.low, on.high),
        Line([-reach, reach], [-reach, reach], "float", "x", 1.5, dashed=True),
        Steps(edges, heights, "quantized", "x'", width=2.5),
        Hits(edges[:-1], edges[1:], centres, heights, tips),
    )


def _microscope(on: Grid, value: Followed) -> Plot:
    """The followed value between its neighbors, measured in codes."""
    at = value.steps + on.zero_point
    shown = min(max(at, value.q - 1.55), value.q + 1.55)
    near = [value.q + d for d in (-1, 0, 1)]
    exist = [q for q in near if on.codes[0] <= q <= on.codes[-1]]
    home = f"everything here becomes code {short(value.q)}"
    arrow = "← x" if at < shown else "x →" if at > shown else "x"
    marks: list[Mark] = [
        Band(value.q - 0.5, value.q + 0.5, home, "quantized"),
        Stems(exist, [0.62] * len(exist), size=6, width=2.5),
        Line([shown, value.q], [0.3, 0.3], "error", width=5),
        Points([shown], [0.3], "float", size=8),
        Text(shown, 0.3, arrow, "float", size=15, bold=True, dy=-12),
        Text(value.q, 0.06, f"E = {short(value.error, 3)}", "error", size=15, bold=True),
    ]
    for q in near:
        words, role = "no such\ncode", "muted"
        if q in exist:
            # Four digits: the level −1.004 must not read −1.
            words, role = f"x' = {short(on.levels[q - on.codes[0]])}", "quantized"
        marks.append(Text(q, 0.62, words, role, dy=-14))
    return Plot(
        marks,
        Axis("x / s + z, in codes", value.q - 1.6, value.q + 1.6, ticks=near),
        Axis("", 0, 1, show=False),
        "x under the microscope",
        height=_LOW,
        grid="none",
        label_rows=1,
    )
