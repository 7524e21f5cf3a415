"""Other grids on the same number line: where each format puts its levels, and what that is worth.

All figures come from tensors that were really encoded and decoded; a grid is read off a format by
decoding every code that it has.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from labkit.explorers.formats_menu import (
    BLOCK_NAMES,
    BLOCKS,
    FAMILIES,
    MXS,
    State,
    grid,
    make,
    offered,
    rivals,
    settled,
)
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.scene import Axis, Line, Plot, Points, Readout, Scene, Stems, Steps
from labkit.explorers.storage import DATA, Measured, encoded, measure, weights
from labkit.formats import MX_SCALE_MODES, Format

SHOWN = 64
BINS = 121
END = 0.25
SMALLEST_GAP, LARGEST_GAP = 2e-4, 0.4


def controls() -> dict:
    """Return the panel's controls.

    >>> list(controls())
    ['family', 'bits', 'block', 'scale_mode', 'data']
    """
    return {
        "family": choice("format", list(FAMILIES), buttons=True),
        "bits": steps_slider("bits", tuple(range(2, 9)), tooltip="Bits of one code"),
        "block": steps_slider(
            "weights per scale", _named(BLOCKS), tooltip="How many weights share a scale"
        ),
        "scale_mode": choice(
            "MX scale mode", list(MX_SCALE_MODES), tooltip="How a block's power of two is chosen"
        ),
        "data": choice("weights", list(DATA)),
    }


def limits(state: State) -> dict:
    """Return what the controls may offer for the family chosen.

    >>> limits(State("NF4"))["bits"]["options"]
    (4,)
    """
    options = offered(state.family)
    shown = {**options, "block": _named(options["block"])}
    # What comes in one kind only is greyed out.
    return {
        name: {"options": shown[name], "disabled": len(shown[name]) == 1}
        for name in ("bits", "block", "scale_mode")
    }


def scene(state: State) -> Scene:
    """Draw the levels, the gaps between them, the stored bytes, and all formats compared.

    >>> scene(State("NF4", block=64)).readout("bits per weight").value
    '4.5'
    """
    state = settled(state)
    now = measure(make(state), state.data)
    levels, values, back = _block(make(state), state.data)
    size = f", {state.block} weights per scale" if state.block else ", one scale"
    if state.family == "k-means":
        size = ""
    name = (
        state.family
        if state.family not in ("uniform", "k-means")
        else (f"{state.family} {state.bits} bits")
    )
    if state.family in MXS:
        size += f", scale mode {state.scale_mode}"
    bits = f"{now.bits_per_weight:.4f}".rstrip("0").rstrip(".")
    return Scene(
        f"{name}{size}",
        # The comparison comes first: it stays in sight of the buttons on a small screen.
        [_compared(state, now), _number_line(state, levels, values, back), _gaps(levels)],
        readouts=[
            Readout("bits per weight", bits, "", "measured", "quantized"),
            Readout("signal to noise", f"{now.sqnr_db:.2f}", "dB", "measured"),
            Readout("relative error", now.relative, "%", "measured", "error", 3),
            Readout("levels of this grid", len(levels), "", "computed"),
        ],
        formulas=[_stored(now)],
        description="Every format's error against bits per weight; histogram of the weights with "
        "the levels of the grid of one block; half the gap between levels along the same axis.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(family="NF4").state.block
    64
    """
    return Panel(settled(State(**fields)), controls(), scene, limits=limits)


@cache
def _block(format: Format, data: str) -> tuple[Tensor, Tensor, Tensor]:
    """Levels, 32 values, and what they come back as, in the block of middling magnitude."""
    x = weights(data)
    size = getattr(format, "group_size", None) or getattr(format, "block_size", None)
    blocks = x.reshape(-1, size or SHOWN)
    order = blocks.abs().amax(-1).argsort(stable=True)
    index = int(order[len(order) // 2])
    here = slice(index * blocks.shape[1], index * blocks.shape[1] + min(SHOWN, blocks.shape[1]))
    return grid(format, data, index if size else 0), x[here], encoded(format, data).decode()[here]


@cache
def _histogram(data: str) -> tuple[Tensor, Tensor]:
    """Edges, and heights relative to the highest bin."""
    counts, edges = torch.histogram(weights(data), BINS, range=(-END, END))
    return edges, counts / counts.max()


def _number_line(state: State, levels: Tensor, values: Tensor, back: Tensor) -> Plot:
    """Histogram, levels above it, and the weights of one block on their way to a level."""
    edges, heights = _histogram(state.data)
    seen = levels[levels.abs() < END]
    tips = [f"level {v:.5f}" for v in seen] if len(seen) <= 32 else ()
    pairs = [f"weight {a:.5f}\nbecomes {b:.5f}" for a, b in zip(values, back, strict=True)]
    moves = [
        Line([a, b], [1.52, 1.34], "error", width=1)
        for a, b in zip(values.tolist(), back.tolist(), strict=True)
        if max(abs(a), abs(b)) < END
    ]
    marks = [
        Steps(edges, heights, "float", "weights", fill=True, width=1),
        Stems(seen, [1.32] * len(seen), "quantized", "levels", 1.08, 0, 1.5, tips),
        *moves,
        Points(values, [1.54] * len(values), "float", size=3, tips=pairs),
    ]
    share = Axis("share of weights", 0, 1.62, ticks=(0, 0.5, 1), labels=("0", "half", "peak"))
    # The weights along this axis are written under the next plot, which shares it.
    return Plot(marks, Axis("weight", -END, END, show=False), share, height=160)


def _gaps(levels: Tensor) -> Plot:
    """Half the gap between neighbouring levels: the largest rounding error at each place."""
    half = ((levels[1:] - levels[:-1]).double() / 2).clamp(SMALLEST_GAP, LARGEST_GAP)
    ends = levels.double().clamp(-END, END)
    seen = ends[1:] > ends[:-1]
    edges = torch.cat([ends[:-1][seen], ends[1:][seen][-1:]])
    return Plot(
        [Steps(edges, half[seen], "error")],
        Axis("weight", -END, END, ticks=(-0.2, -0.1, 0, 0.1, 0.2)),
        Axis(
            "half the gap between two levels",
            SMALLEST_GAP,
            LARGEST_GAP,
            scale="log",
            ticks=(1e-3, 1e-2, 1e-1),
            # As wide as the numbers of the plot above, so that both axes start in one place.
            labels=("10⁻³", "10⁻²", "10⁻¹"),
        ),
        height=180,
    )


def _compared(state: State, now: Measured) -> Plot:
    """Every format: relative error against bits per weight."""
    roles = ("range", "code2", "code3", "code5", "float")
    lines: dict[str, list[tuple[str, Measured]]] = {}
    for line, name, format in rivals():
        lines.setdefault(line, []).append((name, measure(format, state.data)))
    marks: list = []
    for role, (line, members) in zip(roles, lines.items(), strict=True):
        x, y = [m.bits_per_weight for _, m in members], [m.relative for _, m in members]
        if line in ("uniform", "uniform by 32", "k-means"):
            marks.append(Line(x, y, role, width=1))
        tips = [
            f"{name}\n{m.bits_per_weight:.3f} bits per weight, error {m.relative:.3g} %"
            for name, m in members
        ]
        marks.append(Points(x, y, role, line, 3.5, tips=tips))
    marks.append(Points([now.bits_per_weight], [now.relative], "quantized", "this one", 8))
    return Plot(
        marks,
        Axis("bits per weight, everything counted", 1.5, 10.8, ticks=range(2, 11)),
        Axis("relative error", 0.3, 150, unit="%", scale="log"),
        height=240,
        grid="both",
    )


def _stored(now: Measured) -> str:
    """What the file holds, part by part."""
    parts = " + ".join(f"{part.replace('_', ' ')} {size:,}" for part, size in now.parts.items())
    return f"{parts} = {now.nbytes:,} bytes for {weights().numel():,} weights"


def _named(blocks: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((BLOCK_NAMES[block], block) for block in blocks)
