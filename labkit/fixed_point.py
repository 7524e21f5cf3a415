"""Multiplying by a real number with integers alone: a 32-bit multiplier and a shift.

    m ≈ multiplier / 2^31 · 2^shift        with 2^30 <= multiplier < 2^31

This is how gemmlowp and TensorFlow Lite bring an int32 accumulator to 8 bits on hardware without
floating point (Jacob et al. 2018, section 2.2; ``quantization_util.h`` and ``fixedpoint.h`` there).
The product is rounded twice, and the two steps break ties differently: the multiplication towards
plus infinity, the shift away from zero. An engine that multiplies in float and rounds half to even
(ONNX) gives another code now and then.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from labkit.checks import describe

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
FRACTION_BITS = 31
MOST_SHIFT = 30

__all__ = [
    "INT32_MAX",
    "INT32_MIN",
    "apply_multiplier",
    "doubling_high_mul",
    "multiplier_value",
    "quantize_multiplier",
    "quantize_multipliers",
    "rounding_shift",
]


def quantize_multiplier(m: float) -> tuple[int, int]:
    """Return (multiplier, shift), two integers with m ≈ multiplier / 2^31 · 2^shift.

    The multiplier has its top bit at 2^30, so that all 31 bits carry digits of m: the relative
    error is at most 2^-31. m = 0, and an m below 2^-32 that no shift reaches, give (0, 0); a
    negative m has a negative multiplier. Raises ValueError for an m that is not finite or is 2^30
    or more. Source: TensorFlow Lite, QuantizeMultiplier.

    >>> quantize_multiplier(0.75), quantize_multiplier(0.001)
    ((1610612736, 0), (1099511628, -9))
    """
    m = float(m)
    if not math.isfinite(m):
        raise ValueError(f"the multiplier must be a finite number, got {m}")
    mantissa, shift = math.frexp(m)
    multiplier = _half_away(Fraction(mantissa) * 2**FRACTION_BITS)
    if abs(multiplier) == 2**FRACTION_BITS:
        # Rounded up to 1.0, which needs one bit more than there is.
        multiplier, shift = multiplier // 2, shift + 1
    if shift > MOST_SHIFT:
        raise ValueError(
            f"a multiplier must be below 2^{MOST_SHIFT} to fit 32-bit arithmetic, got {m:g}; "
            "is the output scale far too small?"
        )
    return (multiplier, shift) if shift >= -FRACTION_BITS else (0, 0)


def quantize_multipliers(m: Tensor) -> tuple[Tensor, Tensor]:
    """Return `quantize_multiplier` of every number in m, as two int64 tensors of its shape.

    >>> quantize_multipliers(torch.tensor([0.5, 2.0]))
    (tensor([1073741824, 1073741824]), tensor([0, 2]))
    """
    pairs = [quantize_multiplier(value) for value in m.flatten().tolist()]
    table = torch.tensor(pairs, dtype=torch.int64).reshape(*m.shape, 2)
    return table[..., 0], table[..., 1]


def multiplier_value(multiplier: int, shift: int) -> Fraction:
    """Return the number that (multiplier, shift) stands for, exactly.

    >>> multiplier_value(1610612736, 0)
    Fraction(3, 4)
    """
    return Fraction(multiplier, 2**FRACTION_BITS) * Fraction(2) ** shift


def doubling_high_mul(a: Tensor, b: Tensor | int) -> Tensor:
    """Return round(a · b / 2^31) as int64, halves towards plus infinity, -2^31 · -2^31 saturated.

    a, b: integer tensors, or an int, of numbers in the int32 range (ValueError otherwise). It is
    called doubling because the upper half of the 64-bit product would be a · b / 2^32. Source:
    gemmlowp, SaturatingRoundingDoublingHighMul.

    >>> doubling_high_mul(torch.tensor([3, -3]), 2**30)
    tensor([ 2, -1])
    """
    a, b = as_int32("a", a), as_int32("b", b)
    # Adding half and shifting right (which rounds down) puts halves up, also below zero.
    return ((a * b + 2 ** (FRACTION_BITS - 1)) >> FRACTION_BITS).clamp_(max=INT32_MAX)


def rounding_shift(x: Tensor, exponent: Tensor | int) -> Tensor:
    """Return round(x / 2^exponent) as int64, halves away from zero.

    x: integers in the int32 range; exponent: 0..31, broadcast to x. Raises ValueError otherwise.
    Source: gemmlowp, RoundingDivideByPOT.

    >>> rounding_shift(torch.tensor([3, -3, 5]), 1)
    tensor([ 2, -2,  3])
    """
    x, exponent = as_int32("x", x), as_int32("exponent", exponent)
    if exponent.numel() and not 0 <= int(exponent.min()) <= int(exponent.max()) <= FRACTION_BITS:
        raise ValueError(
            f"the exponent must be from 0 to {FRACTION_BITS}, got {int(exponent.min())} to "
            f"{int(exponent.max())}"
        )
    half = (torch.ones_like(exponent) << exponent) >> 1
    return x.sign() * ((x.abs() + half) >> exponent)


def apply_multiplier(x: Tensor, multiplier: Tensor | int, shift: Tensor | int) -> Tensor:
    """Return x · multiplier / 2^31 · 2^shift, rounded to integers (int64 in the int32 range).

    x: integers in the int32 range, any shape; multiplier and shift as from `quantize_multiplier`,
    broadcast to x. A positive shift is applied before the multiplication and saturates, a negative
    one after it, with a second rounding. Raises ValueError for numbers beyond int32 and shifts
    outside -31..30. Source: TensorFlow Lite, MultiplyByQuantizedMultiplier (double rounding).

    >>> apply_multiplier(torch.tensor([10000, -10000]), *quantize_multiplier(0.00097656))
    tensor([ 10, -10])
    """
    x, shift = as_int32("x", x), as_int32("shift", shift)
    if shift.numel() and not -FRACTION_BITS <= int(shift.min()) <= int(shift.max()) <= MOST_SHIFT:
        raise ValueError(
            f"the shift must be from -{FRACTION_BITS} to {MOST_SHIFT}, got {int(shift.min())} to "
            f"{int(shift.max())}"
        )
    # 2^31 · 2^30 still fits 64 bits; TensorFlow Lite would wrap around here.
    shifted = (x << shift.clamp(min=0)).clamp_(INT32_MIN, INT32_MAX)
    return rounding_shift(doubling_high_mul(shifted, multiplier), (-shift).clamp_(min=0))


def as_int32(name: str, values: Tensor | int) -> Tensor:
    """Return integers as int64 after checking that int32 could hold them; ValueError otherwise.

    >>> as_int32("x", 7)
    tensor(7)
    """
    x = torch.as_tensor(values)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"{name} must hold integers, got {describe(x)}")
    x = x.to(torch.int64)
    if x.numel() and not INT32_MIN <= int(x.min()) <= int(x.max()) <= INT32_MAX:
        raise ValueError(
            f"{name} must fit 32-bit integers ({INT32_MIN} to {INT32_MAX}), got {int(x.min())} to "
            f"{int(x.max())}"
        )
    return x


def _half_away(x: Fraction) -> int:
    """Round to the nearest integer, halves away from zero, exactly."""
    magnitude = math.floor(abs(x) + Fraction(1, 2))
    return magnitude if x >= 0 else -magnitude
