"""Grids that are not uniform: lists of levels, and the nearest level to each value.

A grid is nothing but a sorted list of numbers. A k-means codebook puts them where the data are, NF4
where a Gaussian has its quantiles, a small float so that their spacing grows with their size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtri

from labkit.granularity import BLOCK_ELEMENTS


@dataclass(frozen=True)
class FloatFormat:
    """A small float: 1 sign bit, `exponent` and `mantissa` bits, and its largest finite number.

    >>> FLOAT_FORMATS["e2m1"].bits, FLOAT_FORMATS["e2m1"].largest_exponent
    (4, 2)
    """

    exponent: int
    mantissa: int
    largest: float

    @property
    def bits(self) -> int:
        """Bits of one number, sign included."""
        return 1 + self.exponent + self.mantissa

    @property
    def largest_exponent(self) -> int:
        """The power of two of the largest number."""
        return math.frexp(self.largest)[1] - 1


# E4M3 spends one pattern on NaN and none on infinity, E5M2 follows IEEE 754 (Micikevicius et al.
# 2022); the 6- and 4-bit floats have neither (OCP MX specification 1.0, section 5.3).
FLOAT_FORMATS = {
    "e4m3": FloatFormat(4, 3, 448.0),
    "e5m2": FloatFormat(5, 2, 57344.0),
    "e3m2": FloatFormat(3, 2, 28.0),
    "e2m3": FloatFormat(2, 3, 7.5),
    "e2m1": FloatFormat(2, 1, 6.0),
}


def float_levels(element: str) -> Tensor:
    """Return the non-negative numbers of a small float, in the order of their bit patterns.

    With bias 2^(exponent bits - 1) - 1, an exponent field e > 0 and a mantissa field f stand for
    (1 + f / 2^m) · 2^(e - bias); e = 0 for the subnormal f / 2^m · 2^(1 - bias).

    >>> float_levels("e2m1")
    tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000, 3.0000, 4.0000, 6.0000])
    """
    form = FLOAT_FORMATS[element]
    bias = 2 ** (form.exponent - 1) - 1
    levels = []
    for pattern in range(2 ** (form.exponent + form.mantissa)):
        field, fraction = divmod(pattern, 2**form.mantissa)
        fraction /= 2**form.mantissa
        value = (1 + fraction) * 2.0 ** (field - bias) if field else fraction * 2.0 ** (1 - bias)
        if value <= form.largest:
            levels.append(value)
    return torch.tensor(levels, dtype=torch.float32)


def float_codes(x: Tensor, element: str) -> Tensor:
    """Return the bit patterns (uint8) of the small floats nearest to `x`, ties to the even pattern.

    `x` is float32 or narrower; a magnitude beyond the largest number saturates there.

    >>> float_codes(torch.tensor([0.6, -5.0, 100.0]), "e2m1")
    tensor([ 1, 14,  7], dtype=torch.uint8)
    """
    ends = _midpoints(float_levels(element))
    # At a tie the lower level wins. Where its pattern is odd, its cell must end just before.
    ends[1::2] = torch.nextafter(ends[1::2], torch.full_like(ends[1::2], -torch.inf))
    sign = torch.signbit(x).to(torch.uint8) << (FLOAT_FORMATS[element].bits - 1)
    return _cells(x.abs(), ends).bitwise_or_(sign)


def float_values(codes: Tensor, element: str) -> Tensor:
    """Return the float32 numbers that bit patterns of `float_codes` stand for.

    Raises ValueError for a pattern that stands for no finite number: NaN in E4M3, NaN and the
    infinities in E5M2.

    >>> float_values(torch.tensor([1, 14, 7], dtype=torch.uint8), "e2m1")
    tensor([ 0.5000, -4.0000,  6.0000])
    """
    levels = float_levels(element)
    table = torch.full((2, 2 ** (FLOAT_FORMATS[element].bits - 1)), torch.nan, dtype=torch.float32)
    table[:, : len(levels)] = torch.stack([levels, -levels])
    values = table.to(codes.device).view(-1)[codes.int()]
    bad = values.isnan()
    if bool(bad.any()):
        raise ValueError(
            f"the {element} patterns {codes[bad].unique().tolist()} stand for no finite number; "
            f"without their sign, patterns end at {len(levels) - 1}"
        )
    return values


def nf4_levels() -> Tensor:
    """Return the 16 levels of NormalFloat 4, from -1 to 1 with an exact 0.

    Eight positive levels at evenly spaced quantiles from 1/2 to δ, seven negative ones likewise,
    divided by the largest; δ = (1 - 1/32 + 1 - 1/30) / 2 keeps the outermost quantile finite.
    Source: Dettmers et al. 2023 (QLoRA), section 3 and appendix E.

    >>> nf4_levels()[[0, 7, 8, 15]]
    tensor([-1.0000,  0.0000,  0.0796,  1.0000])
    """
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    positive = torch.linspace(0.5, outermost, 9, dtype=torch.float64)[1:]
    negative = torch.linspace(0.5, outermost, 8, dtype=torch.float64)[1:]
    levels = torch.cat(
        [-ndtri(negative).flip(0), torch.zeros(1, dtype=torch.float64), ndtri(positive)]
    )
    return (levels / levels.max()).to(torch.float32)


def nearest(x: Tensor, levels: Tensor) -> Tensor:
    """Return for each value the index (uint8) of the nearest of at most 256 sorted levels.

    Exactly half-way, the lower level wins.

    >>> nearest(torch.tensor([0.2, 0.5, 0.51]), torch.tensor([0.0, 1.0]))
    tensor([0, 0, 1], dtype=torch.uint8)
    """
    return _cells(x, _midpoints(levels))


def _midpoints(levels: Tensor) -> Tensor:
    # In float64 the midpoints of float32 levels are exact.
    return (levels[1:].double() + levels[:-1].double()) / 2


def _cells(x: Tensor, ends: Tensor) -> Tensor:
    """Index (uint8) of the cell that each value lies in; a cell includes its upper end."""
    cells = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    ends = ends.to(x.device)
    # Block by block, because both the float64 copies and bucketize's indices are wide.
    blocks = x.reshape(-1).split(BLOCK_ELEMENTS), cells.view(-1).split(BLOCK_ELEMENTS)
    for values, out in zip(*blocks, strict=True):
        out.copy_(torch.bucketize(values.double(), ends, out_int32=True))
    return cells
