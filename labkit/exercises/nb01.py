"""Exercises of notebook 01: scale and zero point, quantize, the round trip, symmetric scales."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.exercises import cases01, wrong01
from labkit.exercises.core import Exercise


def scale_and_zero_point(low: float, high: float, bits: int) -> tuple[float, int]:
    """s = (max − min) / (2^b − 1), z = round(−min / s), for the range widened to contain 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)


def quantize_tensor(
    x: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> Tensor:
    """q = clamp(round(x / s) + z, quant_min, quant_max), same shape as x."""
    steps = torch.round(x / scale)
    return torch.clamp(steps + zero_point, quant_min, quant_max).to(torch.int32)


def round_trip(q: Tensor, x: Tensor, scale: float, zero_point: int) -> tuple[Tensor, Tensor]:
    """x' = (q − z) · s and E = |x − x'|, both of the shape of x."""
    back = (q.to(torch.float32) - zero_point) * scale
    return back, (x - back).abs()


def symmetric_scale(x: Tensor, bits: int, rule: str) -> float:
    """Scale of a symmetric grid by the rule "restricted", "full" or "no_clip"."""
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    amax, half = max(-low, high), 2 ** (bits - 1)
    if amax == 0:
        return 1.0
    if rule == "restricted":
        return amax / (half - 1)
    if rule == "full":
        return amax / ((2**bits - 1) / 2)
    return max(-low / half, high / (half - 1))


EXERCISES = (
    Exercise(
        id="1.1",
        title="Scale and zero point from a range",
        difficulty=1,
        minutes=6,
        hints=(
            "How many steps lie between 2^b levels? And what if the range does not contain 0?",
            "Widen: low = min(low, 0), high = max(high, 0). Then s, then z = round(−low / s).",
            "scale = (high - low) / (2**bits - 1); return scale, round(-low / scale). "
            "One range has width 0: return 1.0, 0 there.",
        ),
        cases=cases01.ranges,
        solution=scale_and_zero_point,
        praise="right, down to the tie of Example 1.",
        wrong=wrong01.RANGE,
    ),
    Exercise(
        id="1.2",
        title="Quantize, and never wrap",
        difficulty=2,
        minutes=8,
        hints=(
            "In which order do divide, round, add and clamp come? What would a cast do to −3?",
            "torch.round rounds half to even. Clamp while the numbers are still floats.",
            "codes = torch.clamp(torch.round(x / scale) + zero_point, quant_min, quant_max); "
            "return codes.to(torch.int32)",
        ),
        cases=cases01.codes,
        solution=quantize_tensor,
        praise="right: divide, round, add, clamp, and only then cast.",
        wrong=wrong01.QUANTIZE,
    ),
    Exercise(
        id="1.3",
        title="There and back: x' and its error",
        difficulty=1,
        minutes=5,
        hints=(
            "q is a uint8 tensor. What does torch give for its code 3 minus 8?",
            "First q.to(torch.float32), then take off the zero point, then multiply by the scale.",
            "back = (q.to(torch.float32) - zero_point) * scale; return back, (x - back).abs()",
        ),
        cases=cases01.round_trips,
        solution=round_trip,
        praise="right, and nothing wrapped on the way.",
        wrong=wrong01.ROUND_TRIP,
    ),
    Exercise(
        id="1.4",
        title="Symmetric scales by three rules",
        difficulty=2,
        minutes=8,
        hints=(
            "Signed 8-bit codes run from −128 to 127. How many steps are on each side of 0?",
            "restricted: amax / 127. full: amax / 127.5. no_clip: the larger of −min / 128 and "
            "max / 127. Write them for any b, and return 1.0 for zeros.",
            "half = 2 ** (bits - 1): amax / (half - 1); amax / ((2**bits - 1) / 2); "
            "max(-low / half, high / (half - 1)), with low at most 0 and high at least 0.",
        ),
        cases=cases01.symmetric_scales,
        solution=symmetric_scale,
        praise="right: now you know why both 127 and 127.5 are found in the field.",
        wrong=wrong01.SYMMETRIC,
    ),
)
