"""Honest bits per weight: what scales and zero points cost, and what they buy.

Every figure is counted or measured on what `labkit.formats` really stores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from labkit.errors import decibels
from labkit.explorers.bytes_view import layer
from labkit.explorers.drawing.text import short
from labkit.explorers.panel import Panel, bits_slider, choice, steps_slider, switch
from labkit.explorers.scene import Axis, Band, Bars, Line, Plot, Points, Readout, Scene, Text
from labkit.formats import Encoded, Format, Uniform

WIDTHS = range(2, 9)
WHOLE = 0
GROUPS = (16, 32, 64, 128, 256, 784, WHOLE)
GROUP_NAMES = ("16", "32", "64", "128", "256", "784 (row)", "all")
DATA = (("trained layer", "layer"), ("normal", "normal"), ("with outliers", "outliers"))


@dataclass(frozen=True)
class State:
    """Bits of a code, weights that share a scale (0: all of them), symmetric or not, which data.

    >>> State().group
    32
    """

    bits: int = 4
    group: int = 32
    symmetric: bool = False
    data: str = "layer"


@dataclass(frozen=True)
class Measured:
    """What one format does to one tensor: bytes by part, bits per weight, errors.

    >>> measure(Uniform(4, 32), "layer").parts["scale"]
    25088
    """

    parts: dict[str, int]
    bits_per_weight: float
    mse: float
    signal: float

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored."""
        return sum(self.parts.values())

    @property
    def relative(self) -> float:
        """Root of the mean squared error, in per cent of the root of the mean square."""
        return 100 * math.sqrt(self.mse / self.signal)

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantization-noise ratio in decibels."""
        return decibels(self.signal, self.mse)


@cache
def weights(data: str = "layer") -> Tensor:
    """Return 200,704 numbers as one row: the trained layer, normal noise, or noise with outliers.

    The noise is as strong as the layer's weights; every thousandth outlier is eight times larger.

    >>> weights("normal").shape == weights("layer").shape
    True
    """
    if data == "layer":
        return layer()
    noise = torch.randn(layer().shape, generator=torch.Generator().manual_seed(0)) * layer().std()
    if data == "outliers":
        noise[::1000] *= 8
    return noise


@cache
def encoded(format: Format, data: str) -> Encoded:
    """Return what `format` stores of the data; made once.

    >>> encoded(Uniform(8), "layer").nbytes
    200709
    """
    return format.encode(weights(data))


@cache
def measure(format: Format, data: str) -> Measured:
    """Store the data, read them back, count the bytes and measure the error; done once.

    >>> measure(Uniform(4, 32), "layer").bits_per_weight
    5.125
    """
    x, stored = weights(data).double(), encoded(format, data)
    return Measured(
        {name: t.numel() * t.element_size() for name, t in stored.tensors.items()},
        stored.bits_per_weight,
        (stored.decode().double() - x).square().mean().item(),
        x.square().mean().item(),
    )


def uniform(bits: int, group: int, symmetric: bool = False) -> Uniform:
    """Return the uniform format with `group` weights a scale, 0 for one scale in all.

    >>> uniform(4, 0)
    Uniform(bits=4, group_size=None, symmetric=False)
    """
    return Uniform(bits, group or None, symmetric)


def controls() -> dict:
    """Return the panel's controls.

    >>> list(controls())
    ['bits', 'group', 'symmetric', 'data']
    """
    return {
        "bits": bits_slider(),
        "group": steps_slider(
            "group size",
            list(zip(GROUP_NAMES, GROUPS, strict=True)),
            tooltip="How many weights share a scale and a zero point",
        ),
        "symmetric": switch("symmetric", tooltip="No zero point is stored"),
        "data": choice("weights", list(DATA)),
    }


def scene(state: State) -> Scene:
    """Draw what is stored per weight, and the error that it buys.

    >>> scene(State()).readout("bits per weight").value
    '5.125'
    """
    now = measure(uniform(state.bits, state.group, state.symmetric), state.data)
    how = f"group size {state.group}" if state.group else "one scale for the whole tensor"
    return Scene(
        f"“{state.bits}-bit” with {how} is {_bpw(now)} bits per weight",
        [[_stack(state), _curve(state)]],
        readouts=[
            Readout("bits per weight", _bpw(now), "", "measured", "quantized"),
            Readout("relative error", now.relative, "%", "measured", "error", 3),
            Readout("signal to noise", f"{now.sqnr_db:.2f}", "dB", "measured"),
            Readout("stored", f"{now.nbytes:,}", "bytes", "measured"),
        ],
        formulas=[_formula(state)],
        description="Stacked bars of bits per weight for each group size, and error against bits.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(group=64).state.group
    64
    """
    return Panel(State(**fields), controls(), scene)


def _bpw(measured: Measured) -> str:
    return f"{measured.bits_per_weight:.4f}".rstrip("0").rstrip(".")


def _formula(state: State) -> str:
    zero = 0 if state.symmetric else state.bits
    count = state.group or weights(state.data).numel()
    total = state.bits + (32 + zero) / count
    return (
        f"bits + (scale 32 + zero point {zero}) / group size"
        f" = {state.bits} + {32 + zero}/{count:,} = {short(total, 6)} bits per weight"
    )


def _stack(state: State) -> Plot:
    """One bar for each group size: codes, scales, zero points, in bits per weight."""
    count = weights(state.data).numel()
    here = GROUPS.index(state.group)
    marks: list = [Band(here - 0.5, here + 0.5)]
    named = {"codes": "quantized", "scale": "code3", "zero_point": "code2"}
    for i, group in enumerate(GROUPS):
        now = measure(uniform(state.bits, group, state.symmetric), state.data)
        base = 0.0
        for part, size in ((p, now.parts[p]) for p in named if p in now.parts):
            top = base + 8 * size / count
            name = part.replace("_", " ")
            tip = (
                f"group size {GROUP_NAMES[i]}\n{name}: {size:,} bytes"
                f" = {8 * size / count:.4f} bits per weight"
            )
            label = name if i == 0 else ""
            marks.append(Bars([i], [top], 0.7, named[part], label, base, [tip]))
            base = top
        marks.append(Text(i, base, _bpw(now), bold=i == here, size=11, dy=-7))
    names = (*map(str, GROUPS[:-2]), "row", "all")
    return Plot(
        marks,
        Axis("group size", -0.6, 6.6, ticks=range(7), labels=names),
        Axis("bits per weight", 0, 11.5),
        height=320,
    )


def _curve(state: State) -> Plot:
    """Error against bits per weight: one line a bit width, one point a group size."""
    marks: list = []
    for bits in WIDTHS:
        row = [measure(uniform(bits, g, state.symmetric), state.data) for g in GROUPS]
        x, y = [m.bits_per_weight for m in row], [m.relative for m in row]
        mine = bits == state.bits
        role = "quantized" if mine else "range"
        marks.append(Line(x, y, role, f"{bits} bits" if mine else "", 2 if mine else 1))
        tips = [
            f"{bits} bits, group size {name}\n{m.bits_per_weight:.4f} bits per weight, "
            f"error {m.relative:.3g} %"
            for name, m in zip(GROUP_NAMES, row, strict=True)
        ]
        marks.append(Points(x, y, role, size=4 if mine else 2.5, tips=tips))
    now = measure(uniform(state.bits, state.group, state.symmetric), state.data)
    marks.append(Points([now.bits_per_weight], [now.relative], "error", "here", 8, hollow=True))
    return Plot(
        marks,
        Axis("bits per weight, everything counted", 1.8, 10.8, ticks=range(2, 11)),
        Axis("relative error", 0.1, 200, unit="%", scale="log"),
        height=320,
        grid="both",
    )
