"""How wide the accumulator must be: the worst case, real sums, and what wrapping around does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from labkit.evaluate import Accuracy
from labkit.explorers.drawing.text import superscript
from labkit.explorers.integer_net import (
    first_terms,
    graded,
    image_codes,
    quality_readouts,
    stages,
)
from labkit.explorers.panel import Panel, choice, int_slider
from labkit.explorers.scene import Axis, Band, Line, Mark, Plot, Points, Readout, Rule, Scene
from labkit.requantize import accumulator_scale, output_multiplier, requantize_accumulator

WIDTHS = range(8, 33)
LAYERS = ("fc1", "fc2", "fc3")
LARGEST_PRODUCT = 255 * 128
MOST = 100_000
_TICKS = range(7, 32, 4)


@dataclass(frozen=True)
class State:
    """Bits of the accumulator, and the layer whose sums are shown.

    >>> State().bits
    16
    """

    bits: int = 16
    layer: str = "fc1"


@dataclass(frozen=True, eq=False)
class Growth:
    """How a layer's sums grow, over 1000 digits and every neuron.

    `largest` and `typical` (the median): magnitude after 1, 2, … K products.
    """

    largest: Tensor
    typical: Tensor
    final: Tensor  # magnitudes of the finished sums


@dataclass(frozen=True)
class Wrapped:
    """What accumulators of so many bits do: sums of the layer that wrap, and the whole network."""

    wrapped: dict[str, float]  # share of the finished sums, by layer
    quality: Accuracy


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['bits', 'layer']
    """
    return {
        "bits": int_slider("accumulator bits", 8, 32, tooltip="Two's complement, wraps around"),
        "layer": choice("sums of", list(LAYERS), tooltip="784, 256 and 128 products a sum"),
    }


def wrap(sums: Tensor, bits: int) -> Tensor:
    """Return what a register of so many bits holds of the sums.

    >>> wrap(torch.tensor([127, 128, -129]), 8).tolist()
    [127, -128, 127]
    """
    half = 2 ** (bits - 1)
    return (sums + half) % (2 * half) - half


@cache
def entering() -> dict[str, Tensor]:
    """Return the codes that enter each layer, for the 1000 test images.

    >>> {name: tuple(codes.shape) for name, codes in entering().items()}
    {'fc1': (1000, 784), 'fc2': (1000, 256), 'fc3': (1000, 128)}
    """
    codes, found = image_codes(), {}
    for stage in stages():
        found[stage.name] = codes
        codes = stage(codes)
    return found


@cache
def growth(layer: str) -> Growth:
    """Add up one product after another in every neuron and for every fourth image.

    >>> growth("fc3").largest.shape
    torch.Size([128])
    """
    stage = next(stage for stage in stages() if stage.name == layer)
    x = entering()[layer].to(torch.int32)[::4]
    w = stage.layer.codes.to(torch.int32)
    sums = torch.zeros(len(x), len(w), dtype=torch.int32)
    largest, typical = [], []
    for k in range(x.shape[1]):
        sums += x[:, k, None] * w[:, k]
        size = sums.abs()
        largest.append(size.max())
        typical.append(size.flatten()[::7].median())
    return Growth(torch.stack(largest), torch.stack(typical), sums.abs().flatten())


@cache
def wrapped(bits: int) -> Wrapped:
    """Run the whole network with accumulators of `bits` bits that wrap around.

    >>> wrapped(32).wrapped
    {'fc1': 0.0, 'fc2': 0.0, 'fc3': 0.0}
    """
    codes, shares = image_codes(), {}
    for stage in stages():
        # The first layer's sums do not depend on the width: computed once.
        plain = first_terms().total if stage.name == "fc1" else stage.accumulators(codes).long()
        sums = plain + stage.bias
        kept = wrap(sums, bits)
        shares[stage.name] = float((kept != sums).double().mean())
        if stage.y_qparams is None:
            scores = kept * accumulator_scale(stage.x_qparams, stage.w_qparams)
            return Wrapped(shares, graded(scores))
        m = output_multiplier(stage.x_qparams, stage.w_qparams, stage.y_qparams)
        codes = requantize_accumulator(kept.clamp(min=0), m, stage.y_qparams)
    raise ValueError("the last layer must have no output grid")


def always_fit(bits: int) -> int:
    """Return how many products of 0…255 by −128…127 an accumulator holds whatever they are.

    >>> always_fit(16), always_fit(32)
    (1, 65793)
    """
    return (2 ** (bits - 1)) // LARGEST_PRODUCT


def scene(state: State) -> Scene:
    """Draw how sums grow with the products, the accumulator's limit, and the accuracy.

    >>> scene(State(bits=32)).readout("sums that wrap").value
    '0'
    """
    now, grown = wrapped(state.bits), growth(state.layer)
    limit = 2 ** (state.bits - 1) - 1
    over = (grown.largest > limit).nonzero()
    first = str(int(over[0]) + 1) if len(over) else "never"
    share, fit = 100 * now.wrapped[state.layer], always_fit(state.bits)
    return Scene(
        f"Accumulators of {state.bits} bits: up to {limit:,}",
        [[_growth(state, grown), _quality(state)]],
        readouts=[
            Readout("products always fit", f"{fit:,}", "", "computed", "range"),
            Readout("first overflow after", first, "", "measured", "float"),
            Readout("sums that wrap", f"{share:.3g}", "%", "measured", "error"),
            *quality_readouts(now.quality, "quantized"),
        ],
        formulas=[
            f"worst product: 255 × (−128) = −{LARGEST_PRODUCT:,};   "
            f"2^{state.bits - 1} / {LARGEST_PRODUCT:,}: {fit:,} of them fit",
        ],
        description="Magnitude of sums over the number of products: worst case, largest measured, "
        "typical; the accumulator's limit; accuracy over accumulator bits.",
    )  # fmt: skip


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(bits=24).state.bits
    24
    """
    return Panel(State(**fields), controls(), scene)


def _growth(state: State, grown: Growth) -> Plot:
    count = torch.arange(1, len(grown.largest) + 1)
    limit = 2.0 ** (state.bits - 1)
    marks: list[Mark] = [
        Band(limit, 2.0**34, "", "error", "y"),
        Rule(limit, "", "error", "y", dashed=False),
        Line([1, MOST], [LARGEST_PRODUCT, MOST * LARGEST_PRODUCT], "range", "worst case"),
        Line(count, grown.largest.clamp(min=1), "float", "largest measured"),
        Line(count, grown.typical.clamp(min=1), "quantized", "typical"),
        Points([len(count)], [float(grown.largest[-1])], "float", size=5),
    ]
    return Plot(
        marks,
        Axis("products added", 1, MOST, scale="log"),
        Axis("sum", 2.0**6, 2.0**32, scale="log", ticks=[2.0**b for b in _TICKS],
             labels=[f"2{superscript(b)}" for b in _TICKS]),
        height=340,
        weight=0.6,
    )  # fmt: skip


def _quality(state: State) -> Plot:
    found = [wrapped(bits).quality for bits in WIDTHS]
    tips = [f"{bits} bits\n{q}" for bits, q in zip(WIDTHS, found, strict=True)]
    here = found[state.bits - WIDTHS[0]]
    values = [100 * q.value for q in found]
    marks: list[Mark] = [
        Line(WIDTHS, values, "range"),
        Points(WIDTHS, values, "range", size=3, tips=tips),
        Line([state.bits] * 2, [100 * here.low, 100 * here.high], "quantized", width=3),
        Points([state.bits], [100 * here.value], "quantized", size=7),
    ]
    return Plot(
        marks,
        Axis("accumulator bits", 7.5, 32.5, ticks=(8, 12, 16, 20, 24, 28, 32)),
        Axis("digits read", 0, 100, unit="%", ticks=range(0, 101, 20)),
        height=340,
        weight=0.4,
    )


@cache
def saturating_pairs() -> tuple[float, Accuracy]:
    """Run fc1 as x86 processors without VNNI do: two products at a time, saturated at 16 bits.

    Returns (share of the pairs that saturate, accuracy of the whole network). The instruction is
    VPMADDUBSW (unsigned times signed bytes, adjacent products added with 16-bit saturation).

    >>> saturating_pairs()[0] < 0.01
    True
    """
    first, *rest = stages()
    x, w = entering()["fc1"].to(torch.int32), first.layer.codes.to(torch.int32)
    sums, saturated = torch.zeros(len(x), len(w), dtype=torch.int32), 0
    for k in range(0, x.shape[1], 2):
        pair = x[:, k, None] * w[:, k] + x[:, k + 1, None] * w[:, k + 1]
        kept = pair.clamp(-(2**15), 2**15 - 1)
        saturated += int((kept != pair).sum())
        sums += kept
    m = output_multiplier(first.x_qparams, first.w_qparams, first.y_qparams)
    codes = requantize_accumulator((sums + first.bias).clamp(min=0), m, first.y_qparams)
    for stage in rest:
        codes = stage(codes)
    scores = codes * accumulator_scale(rest[-1].x_qparams, rest[-1].w_qparams)
    return saturated / (sums.numel() * x.shape[1] / 2), graded(scores)
