"""Grids that are not uniform: lists of levels, and the nearest level to each value.

A grid is nothing but a sorted list of numbers. A k-means codebook puts them where the data are, NF4
where a Gaussian has its quantiles, a small float so that their spacing grows with their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.special import ndtri


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
        return int(torch.frexp(torch.tensor(self.largest)).exponent) - 1


# E4M3 spends one pattern on NaN and none on infinity, E5M2 follows IEEE 754 (Micikevicius et al.
# 2022); the 6- and 4-bit floats have neither (OCP MX specification 1.0, section 5.3).
FLOAT_FORMATS = {
    "e4m3": FloatFormat(4, 3, 448.0),
    "e5m2": FloatFormat(5, 2, 57344.0),
    "e3m2": FloatFormat(3, 2, 28.0),
    "e2m3": FloatFormat(2, 3, 7.5),
    "e2m1": FloatFormat(2, 1, 6.0),
}


@lru_cache
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
    return torch.tensor(levels)


def float_codes(x: Tensor, element: str) -> Tensor:
    """Return the bit patterns (uint8) of the small floats nearest to `x`, ties to the even pattern.

    A magnitude beyond the largest number saturates there.

    >>> float_codes(torch.tensor([0.6, -5.0, 100.0]), "e2m1")
    tensor([ 1, 14,  7], dtype=torch.uint8)
    """
    form, levels = FLOAT_FORMATS[element], float_levels(element).to(x.device)
    magnitude = x.abs()
    pattern = nearest(magnitude, levels).long()
    # nearest() takes the lower level at a tie; move up when the lower pattern is odd.
    above = (pattern + 1).clamp(max=len(levels) - 1)
    tie = (magnitude.double() * 2 == levels[pattern].double() + levels[above].double()) & (
        above > pattern
    )
    pattern += tie & (pattern % 2 == 1)
    sign = torch.signbit(x).long() << (form.bits - 1)
    return (pattern | sign).to(torch.uint8)


def float_values(codes: Tensor, element: str) -> Tensor:
    """Return the float32 numbers that bit patterns of `float_codes` stand for.

    >>> float_values(torch.tensor([1, 14, 7], dtype=torch.uint8), "e2m1")
    tensor([ 0.5000, -4.0000,  6.0000])
    """
    form, levels = FLOAT_FORMATS[element], float_levels(element).to(codes.device)
    codes = codes.long()
    sign_bit = 1 << (form.bits - 1)
    values = levels[codes & (sign_bit - 1)]
    return torch.where(codes >= sign_bit, -values, values)


@lru_cache
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
    levels = torch.cat([-ndtri(negative).flip(0), torch.zeros(1), ndtri(positive)])
    return (levels / levels.max()).to(torch.float32)


def nearest(x: Tensor, levels: Tensor) -> Tensor:
    """Return for each value the index (uint8) of the nearest of at most 256 sorted levels.

    Exactly half-way, the lower level wins.

    >>> nearest(torch.tensor([0.2, 0.5, 0.51]), torch.tensor([0.0, 1.0]))
    tensor([0, 0, 1], dtype=torch.uint8)
    """
    # In float64 the midpoints of float32 levels are exact.
    midpoints = (levels[1:].double() + levels[:-1].double()) / 2
    return torch.bucketize(x.contiguous().double(), midpoints).to(torch.uint8)
