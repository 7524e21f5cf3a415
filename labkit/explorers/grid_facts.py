"""What a grid does to a tensor and to one value of it: numbers and lines of arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from labkit.affine import dequantize, quantize, representable_range
from labkit.errors import quantization_error
from labkit.explorers.drawing.text import short
from labkit.explorers.sample_tensors import Sample, sample
from labkit.qparams import QParams, choose_qparams


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid on its tensor: one entry for each code in `codes`, `levels` (x') and `heights`.

    `heights` is how densely the values crowd at a level, on the scale of the tensor's histogram.

    >>> grid("example1", 8).zero_point
    128
    """

    qparams: QParams
    scheme: str
    scale_rule: str
    codes: tuple[int, ...]
    levels: tuple[float, ...]
    heights: tuple[float, ...]
    low: float
    high: float
    max_error: float

    @property
    def scale(self) -> float:
        """The scale s as a number."""
        return self.qparams.scale.item()

    @property
    def zero_point(self) -> int:
        """The zero point z as a number."""
        return self.qparams.zero_point.item()


@lru_cache(maxsize=256)
def grid(
    tensor: str,
    bits: int,
    scheme: str = "affine",
    signed: bool = False,
    scale_rule: str = "restricted",
) -> Grid:
    """Return the grid that labkit chooses for a sample tensor; the same arguments cost nothing.

    >>> grid("away", 2).levels[0]
    0.0
    """
    data = sample(tensor)
    qparams = choose_qparams(
        data.values, bits, symmetric=scheme == "symmetric", signed=signed, scale_rule=scale_rule
    )
    codes = torch.arange(qparams.quant_min, qparams.quant_max + 1)
    used = quantize(data.values, qparams).long().view(-1) - qparams.quant_min
    counts = torch.bincount(used, minlength=len(codes)).double()
    # Values in a cell ÷ its width: the same scale as the histogram. A spike stays in the picture.
    heights = (counts * data.area / qparams.scale.double()).clamp(max=1.0)
    low, high = (end.item() for end in representable_range(qparams))
    return Grid(
        qparams,
        scheme,
        scale_rule,
        tuple(codes.tolist()),
        tuple(dequantize(codes, qparams, torch.float64).tolist()),
        tuple(heights.tolist()),
        low,
        high,
        quantization_error(data.values, qparams).max_abs,
    )


@dataclass(frozen=True)
class Followed:
    """One value on its way: x, x / s as a float32 division, its code q, and x' that comes back.

    >>> Followed(0.5, 1.2, 1, 0.25).error
    0.25
    """

    x: float
    steps: float
    q: int
    back: float

    @property
    def error(self) -> float:
        """E = |x − x'|."""
        return abs(self.x - self.back)


def follow(x: float, on: Grid) -> Followed:
    """Take one value through the arithmetic of a grid.

    >>> follow(1.0, grid("example1", 8)).q
    255
    """
    # A slider hands over 9e-15 where it shows 0.
    x = round(float(x), 6)
    value = torch.tensor([x])
    q = quantize(value, on.qparams)
    back = dequantize(q, on.qparams).item()
    return Followed(x, (value / on.qparams.scale).item(), q.item(), back)


def choosing(data: Sample, on: Grid) -> list[str]:
    """Say how s and z came about, with the numbers put in.

    >>> choosing(sample("example1"), grid("example1", 8))[1]
    'z  = round(−min / s) = round(127.5) = 128'
    """
    low, high = min(data.low, 0.0), max(data.high, 0.0)
    top, half = len(on.codes) - 1, len(on.codes) // 2
    amax, s = max(-low, high), short(on.scale)
    if amax == 0:
        return [
            f"s  = {s}, for want of a range: every value is 0, and any step will do",
            f"z  = {short(on.zero_point)}",
        ]
    if on.scheme == "symmetric":
        how = {
            "restricted": f"amax / (2^(b−1) − 1) = {short(amax)} / {half - 1}",
            "full": f"amax / ((2^b − 1) / 2) = {short(amax)} / {top / 2}",
            "no_clip": f"max(−min / 2^(b−1), max / (2^(b−1) − 1)) = "
            f"max({short(-low)} / {half}, {short(high)} / {half - 1})",
        }[on.scale_rule]
        return [f"s  = {how} = {s}", f"z  = {on.zero_point}, fixed: the middle of the codes"]
    note = "" if (low, high) == (data.low, data.high) else "   range widened to contain 0"
    # As labkit computes it: one division of exact numbers keeps the tie of a symmetric range.
    below = -low * top / (high - low)
    signed = on.codes[0] < 0
    shift = f"{short(on.codes[0])} + " if signed else ""
    formula = "qmin − min / s" if signed else "−min / s"
    return [
        f"s  = (max − min) / (2^b − 1) = ({short(high)} − {term(low)}) / {top} = {s}{note}",
        f"z  = round({formula}) = round({shift}{short(below, 6)}) = {short(on.zero_point)}",
    ]


def arithmetic(on: Grid, value: Followed) -> list[str]:
    """Say how x becomes q, x' and E, with the numbers put in.

    >>> on = grid("example1", 8)
    >>> arithmetic(on, follow(0.5, on))[1]
    "x' = (q − z) · s = (192 − 128) · 0.007843 = 0.502"
    """
    low, high, z = short(on.codes[0]), short(on.codes[-1]), term(on.zero_point)
    rounded, sign = round(value.steps), "−" if on.zero_point < 0 else "+"
    # Beside a half-way point the last digits decide; show them there.
    beside_a_tie = abs(abs(value.steps - rounded) - 0.5) < 1e-3
    steps = short(value.steps, 8 if beside_a_tie else 5)
    return [
        f"q  = clamp(round(x / s) + z) = clamp(round({steps}) {sign} {abs(on.zero_point)}, "
        f"{low}, {high}) = clamp({short(rounded + on.zero_point)}) = {short(value.q)}",
        f"x' = (q − z) · s = ({short(value.q)} − {z}) · {short(on.scale)} = {short(value.back)}",
        f"E  = |x − x'| = |{short(value.x)} − {term(value.back)}| = {short(value.error)}",
    ]


def term(value: float) -> str:
    """A number inside a formula: in parentheses when negative.

    >>> term(-2), term(3)
    ('(−2)', '3')
    """
    return f"({short(value)})" if value < 0 else short(value)
