"""One neuron of a really trained layer adds up its products: 784 times 8 bits times 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from labkit.explorers.integer_net import digit_images, grouped, image_codes, stages
from labkit.explorers.panel import Panel, int_slider
from labkit.explorers.scene import (
    Axis,
    Cells,
    Image,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
)

PRODUCTS = 784
SIDE = 28
LOW, HIGH = -1_000_000, 1_000_000


@dataclass(frozen=True)
class State:
    """Which digit is seen, which neuron of fc1 adds, and how many products it has added.

    >>> State().products
    379
    """

    digit: int = 3
    neuron: int = 130
    products: int = 379


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['products', 'neuron', 'digit']
    """
    return {
        "products": int_slider("products added", 0, PRODUCTS, tooltip="Pixel by pixel, row by row"),
        "neuron": int_slider("neuron", 0, 255, tooltip="Which of the 256 outputs of fc1"),
        "digit": int_slider("digit", 0, 9, tooltip="What the network looks at"),
    }


@cache
def sums(digit: int, neuron: int) -> Tensor:
    """Return the sum after 0, 1, … 784 products, int64.

    >>> sums(3, 21).shape
    torch.Size([785])
    """
    x, w = codes(digit, neuron)
    return torch.cat([torch.zeros(1, dtype=torch.int64), (x * w).cumsum(0)])


def codes(digit: int, neuron: int) -> tuple[Tensor, Tensor]:
    """Return the codes of the image and of the neuron's weights, int64 (784,) each.

    >>> [int(c.max()) for c in codes(3, 21)][0]
    255
    """
    x = image_codes()[digit_images()[digit]]
    return x.to(torch.int64), stages()[0].layer.codes[neuron].to(torch.int64)


def bits_needed(value: int) -> int:
    """Return how many bits two's complement needs for a number.

    >>> [bits_needed(n) for n in (0, 1, -1, 127, 128, -128)]
    [1, 2, 1, 8, 9, 8]
    """
    return (value if value >= 0 else ~value).bit_length() + 1


def pattern(value: int, bits: int = 32) -> str:
    """Return a number in two's complement, high bit first.

    >>> pattern(-2, 4)
    '1110'
    """
    return format(value & (2**bits - 1), f"0{bits}b")


def scene(state: State) -> Scene:
    """Draw the sum so far, the pixel and the weight of the last product, and the sum's 32 bits.

    >>> scene(State(products=0)).readout("accumulator").value
    '0'
    """
    x, w = codes(state.digit, state.neuron)
    path = sums(state.digit, state.neuron)
    now, k = int(path[state.products]), state.products
    largest = int(path[: k + 1].abs().max())
    formulas = ["q_x is a code of 0 … 255, q_w one of −127 … 127; here both zero points are 0"]
    if k:
        q_x, q_w, before = int(x[k - 1]), int(w[k - 1]), int(path[k - 1])
        formulas.insert(
            0,
            f"product {k}:  {grouped(before)} + {q_x} × {_signed(q_w)} = "
            f"{grouped(before)} + {_signed(q_x * q_w)} = {grouped(now)}",
        )
    return Scene(
        f"Neuron {state.neuron} looks at a {state.digit}: {k} of {PRODUCTS} products",
        [[_seen(state, x, w), _sum(path, k)], _bits(now)],
        readouts=[
            Readout("accumulator", grouped(now), "", "computed", "quantized"),
            Readout("bits it needs", bits_needed(now)),
            Readout("most on the way", max(bits_needed(largest), bits_needed(-largest)), "bits"),
            Readout("after all 784", grouped(int(path[-1])), "", "computed"),
        ],
        formulas=formulas,
        description="The image and the neuron's weights with the current pixel marked; the running "
        "sum over the number of products; the 32 bits of the sum.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(digit=7).state.digit
    7
    """
    return Panel(State(**fields), controls(), scene)


def _seen(state: State, x: Tensor, w: Tensor) -> Plot:
    """The digit and, below it, the weights; the current pixel as a ring."""
    marks: list[Mark] = [
        Image(x.reshape(SIDE, SIDE), 0, SIDE, 30, 58, 0, 255),
        Image(w.reshape(SIDE, SIDE), 0, SIDE, 0, 28, 0, 127, "signed"),
    ]
    if state.products:
        row, column = divmod(state.products - 1, SIDE)
        places = [58 - row - 0.5, 28 - row - 0.5]
        marks.append(Points([column + 0.5] * 2, places, "error", size=5, hollow=True))
    return Plot(
        marks,
        Axis("column", 0, SIDE, show=False),
        Axis("row", -0.5, 58.5, show=False),
        title="image and weights",
        height=262,
        weight=0.36,
        grid="none",
    )


def _sum(path: Tensor, k: int) -> Plot:
    here = torch.arange(PRODUCTS + 1)
    marks: list[Mark] = [
        Line(here, path, "range", "to come", 1.2),
        Rule(0, "", "ink", "y", dashed=False, width=1),
    ]
    if k:
        marks.append(Line(here[: k + 1], path[: k + 1], "quantized", "added", 2.5))
    marks.append(Points([k], [int(path[k])], "quantized", size=6))
    return Plot(
        marks,
        Axis("products added", 0, PRODUCTS, ticks=(0, 196, 392, 588, 784)),
        Axis("sum", LOW, HIGH, ticks=range(LOW, HIGH + 1, 500_000)),
        height=262,
    )


def _bits(value: int) -> Plot:
    """The accumulator's 32 bits: the sign's copies pale, those that carry the number strong."""
    digits, needed = pattern(value), bits_needed(value)
    marks: list[Mark] = []
    for strong in (False, True):
        at = [i for i in range(32) if (i >= 32 - needed) == strong]
        if at:
            role = "quantized" if strong else "range"
            labels = [digits[i] for i in at]
            tips = [f"bit {31 - i}: worth {'−' if i == 0 else ''}2^{31 - i}" for i in at]
            marks.append(Cells(at, [0.0] * len(at), labels, role, 1, 1, 13, strong, tips))
    return Plot(
        marks,
        Axis("bit", 0, 32, ticks=(0.5, 8.5, 16.5, 24.5, 31.5), labels=(31, 23, 15, 7, 0)),
        Axis("", 0, 1, show=False),
        title="The 32-bit accumulator (two's complement; pale: copies of the sign)",
        height=96,
        grid="none",
    )


def _signed(value: int) -> str:
    return f"({grouped(value)})" if value < 0 else grouped(value)
