"""The three symmetric scale rules on one picture: who reaches how far, and who clips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from labkit.affine import dequantize, representable_range
from labkit.errors import quantization_error
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, bits_slider, choice
from labkit.explorers.sample_tensors import NAMES, Sample, sample
from labkit.explorers.scene import Axis, Band, Mark, Plot, Readout, Rule, Scene, Stems, Steps, Text
from labkit.qparams import SCALE_RULES, choose_qparams

_PIXELS = 900
_FORMULAS = {
    "restricted": "amax / (2^(b−1) − 1)",
    "full": "amax / ((2^b − 1) / 2)",
    "no_clip": "max(−min / 2^(b−1), max / (2^(b−1) − 1))",
}


@dataclass(frozen=True)
class State:
    """Which tensor, how many bits, signed or unsigned codes.

    >>> State().signed
    True
    """

    tensor: str = "fc1"
    bits: int = 3
    signed: bool = True


@dataclass(frozen=True)
class Ruled:
    """The grid that one rule gives: its codes, levels, and what it does to the tensor.

    >>> ruled(State(tensor="example1", bits=8), "full").high < 1
    True
    """

    rule: str
    scale: float
    codes: tuple[int, ...]
    levels: tuple[float, ...]
    low: float
    high: float
    clipped: int
    mse: float


def controls() -> dict:
    """Every control of the explorer.

    >>> list(controls())
    ['tensor', 'bits', 'signed']
    """
    # A tensor of zeros has no range that a rule could divide.
    tensors = [(words, name) for name, words in NAMES.items() if name != "zero"]
    return {
        "tensor": choice("tensor", tensors, tooltip="What is quantized"),
        "bits": bits_slider(tooltip="Bits of a code: 2 to the power of it levels"),
        "signed": choice("codes", [("unsigned", False), ("signed", True)], tooltip="0… or −…"),
    }


def explorer(**fields: object) -> Panel:
    """Return the panel; `fields` is the state it starts from.

    >>> explorer(bits=4).scene.readout("restricted: amax / s").value
    7.0
    """
    return Panel(State(**fields), controls(), scene)  # type: ignore[arg-type]


@lru_cache(maxsize=256)
def ruled(state: State, rule: str) -> Ruled:
    """Quantize the tensor of `state` with the symmetric scale of `rule`."""
    data = sample(state.tensor)
    qparams = choose_qparams(
        data.values, state.bits, symmetric=True, signed=state.signed, scale_rule=rule
    )
    codes = torch.arange(qparams.quant_min, qparams.quant_max + 1)
    low, high = representable_range(qparams)
    # The stored scale is rounded to float32: a reach that misses by that much clips nothing.
    slack = 1e-6 * qparams.scale.double()
    outside = (data.values < low - slack) | (data.values > high + slack)
    return Ruled(
        rule,
        qparams.scale.item(),
        tuple(codes.tolist()),
        tuple(dequantize(codes, qparams, torch.float64).tolist()),
        low.item(),
        high.item(),
        int(outside.sum()),
        quantization_error(data.values, qparams).mse,
    )


def scene(state: State) -> Scene:
    """Draw the three rules above each other.

    >>> scene(State(tensor="example1", bits=8)).readout("full: amax / s").value
    127.5
    """
    data = sample(state.tensor)
    every = [ruled(state, rule) for rule in SCALE_RULES]
    amax = max(-data.low, data.high)
    best = min(every, key=lambda r: r.mse)
    tie = sum(r.mse <= best.mse * (1 + 1e-9) for r in every) > 1
    return Scene(
        f"{data.title[0].upper()}{data.title[1:]}: three symmetric scales, {state.bits} bits",
        [_line(data, grid, last=grid is every[-1]) for grid in every],
        [
            *(
                Readout(f"{r.rule}: amax / s", round(amax / r.scale, 4), role="quantized")
                for r in every
            ),
            Readout("smallest squared error", "a tie" if tie else best.rule, kind="measured"),
        ],
        [f"{r.rule:<11} s = {_FORMULAS[r.rule]} = {short(r.scale)}" for r in every],
        "The levels of three symmetric grids over the histogram of the same tensor.",
    )


def _line(data: Sample, grid: Ruled, *, last: bool) -> Plot:
    seen = [i for i, level in enumerate(grid.levels) if abs(level) <= data.reach]
    spacing, every = grid.scale / (2 * data.reach) * _PIXELS, 1
    while every * spacing < 30:
        every *= 2
    middle = grid.codes[len(grid.codes) // 2]
    marks: list[Mark] = [
        Band(grid.low, grid.high),
        Steps(data.edges, data.density, "float", fill=True, width=1.2),
        Stems(
            [grid.levels[i] for i in seen],
            [0.45] * len(seen),
            baseline=-0.08,
            size=4 if len(seen) <= 64 else 0,
        ),
        Rule(data.low, "min", "ink", width=1),
        Rule(data.high, "max", "ink", width=1),
        *(
            Text(grid.levels[i], -0.3, short(grid.codes[i]), "quantized", size=12, dy=4)
            for i in seen
            if (grid.codes[i] - middle) % every == 0
        ),
    ]
    if grid.clipped and data.high > grid.high:
        marks.insert(1, Band(grid.high, data.high, role="error"))
    if grid.clipped and data.low < grid.low:
        marks.insert(1, Band(data.low, grid.low, role="error"))
    clips = (
        f"clips {grid.clipped:,} of {data.values.numel():,}" if grid.clipped else "clips nothing"
    )
    return Plot(
        marks,
        Axis("value of x" if last else "", -data.reach, data.reach),
        Axis("", -0.45, 1.05, show=False),
        f"{grid.rule}: reaches {short(grid.low, 3)} to {short(grid.high, 3)}, {clips}, "
        f"mean squared error {short(grid.mse, 3)}",
        height=160 if last else 132,
        grid="none",
        label_rows=1,
    )
