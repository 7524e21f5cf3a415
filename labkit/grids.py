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


def kmeans_levels(x: Tensor, bits: int, iterations: int = 1000) -> Tensor:
    """Return 2^bits sorted float32 levels that fit the values of `x`: k-means on a line.

    Lloyd's iteration: each level moves to the mean of the values nearest to it, until none moves or
    `iterations` have passed. It starts from levels as dense as the cube root of the values'
    density, which is optimal for many levels, so the same data give the same levels. Values fewer
    than the levels are kept exactly. Sources: Lloyd 1982; Panter & Dite 1951 for the start.

    >>> kmeans_levels(torch.tensor([0.0, 0.1, 1.0, 1.1, 5.0, 9.0]), bits=2)
    tensor([0.0500, 1.0500, 5.0000, 9.0000])
    """
    values = x.detach().double().reshape(-1).sort().values
    count = 2**bits
    distinct = values.unique()
    if len(distinct) <= count:
        # The last value fills the table up; nothing else would find a use.
        return distinct[torch.arange(count).clamp(max=len(distinct) - 1)].to(torch.float32)
    levels = _dense_start(values, count)
    # Sums over a run of sorted values are differences of the running sum.
    running = torch.cat([values.new_zeros(1), values.cumsum(0)])
    for _ in range(iterations):
        edges = torch.searchsorted(values, (levels[1:] + levels[:-1]) / 2, right=True)
        edges = torch.cat([edges.new_zeros(1), edges, edges.new_full((1,), len(values))])
        size = edges.diff()
        mean = running[edges].diff() / size.clamp(min=1)
        # An empty cluster keeps its level.
        moved = torch.where(size > 0, mean, levels)
        if torch.equal(moved, levels):
            break
        levels = moved
    return levels.to(torch.float32)


def _dense_start(values: Tensor, count: int) -> Tensor:
    """Levels whose density is the cube root of the density of the sorted `values`."""
    bins = 16 * count
    low, high = values[0].item(), values[-1].item()
    # Scaled to 0..1 first, because a histogram of the largest floats would overflow.
    unit = (values - low) / (high - low)
    share = torch.histc(unit, bins, 0, 1).pow(1 / 3).cumsum(0)
    wanted = (torch.arange(count, dtype=share.dtype, device=share.device) + 0.5) / count
    bin_of_level = torch.searchsorted(share / share[-1], wanted)
    return low + (bin_of_level + 0.5) / bins * (high - low)
