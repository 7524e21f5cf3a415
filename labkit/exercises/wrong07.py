"""Typical wrong answers to the exercises of notebook 07, written as a learner would write them."""

from __future__ import annotations

import math

import torch

from labkit.exercises.core import Wrong
from labkit.fixed_point import doubling_high_mul
from labkit.fixed_point import rounding_shift as shift_right


def _parts(x, w, z_x, z_w):
    x, w = x.long(), w.long()
    sums = (x * w).sum().item(), z_w * x.sum().item(), z_x * w.sum().item()
    return (*sums, len(x) * z_x * z_w)


def _with_total(signs):
    """Build an answer whose four sums are right and whose total has these signs."""

    def answer(x, w, z_x, z_w):
        parts = _parts(x, w, z_x, z_w)
        return (*parts, sum(sign * part for sign, part in zip(signs, parts, strict=True)))

    return answer


def _one_byte(x, w, z_x, z_w):
    _, x_term, w_term, constant = _parts(x, w, z_x, z_w)
    product = int((x.to(torch.int8) * w).sum(dtype=torch.int8))
    return product, x_term, w_term, constant, product - x_term - w_term + constant


def _once(x, w, z_x, z_w):
    product, x_term, w_term, _ = _parts(x, w, z_x, z_w)
    return product, x_term, w_term, z_x * z_w, product - x_term - w_term + z_x * z_w


def _crossed(x, w, z_x, z_w):
    product, _, _, constant = _parts(x, w, z_x, z_w)
    x_term, w_term = z_x * x.long().sum().item(), z_w * w.long().sum().item()
    return product, x_term, w_term, constant, product - x_term - w_term + constant


def _order(x, w, z_x, z_w):
    product, x_term, w_term, constant = _parts(x, w, z_x, z_w)
    return product, w_term, x_term, constant, product - x_term - w_term + constant


SUMS = (
    Wrong("keeps 8 bits", _one_byte, "wrapped around"),
    Wrong("forgets every zero point", _with_total((1, 0, 0, 0)), "bare"),
    Wrong("forgets z_w Σ q_x", _with_total((1, 0, -1, 1)), "forgets z_w Σ q_x"),
    Wrong("forgets z_x Σ q_w", _with_total((1, -1, 0, 1)), "forgets z_x Σ q_w"),
    Wrong("forgets the constant", _with_total((1, -1, -1, 0)), "subtracted twice"),
    Wrong("subtracts the constant", _with_total((1, -1, -1, -1)), "is positive"),
    Wrong("adds the zero points", _with_total((1, 1, 1, 1)), "*subtracted* from the code"),
    Wrong("takes the constant once", _once, "once for each of the K"),
    Wrong("crosses the zero points", _crossed, "crossed"),
    Wrong("swaps the mixed sums", _order, "swapped"),
)


def _ratio(bias, s_x, s_w):
    return bias.double() / (s_x * s_w.double())


BIAS = (
    Wrong("divides by s_w alone",
          lambda bias, s_x, s_w: (bias / s_w).round().int(), "s_w alone"),
    Wrong("divides by s_x alone",
          lambda bias, s_x, s_w: (bias / s_x).round().int(), "s_x alone"),
    Wrong("multiplies by the scale",
          lambda bias, s_x, s_w: (bias * s_x * s_w).round().int(), "*divided*"),
    Wrong("rounds down",
          lambda bias, s_x, s_w: _ratio(bias, s_x, s_w).floor().int(), "cut the fraction off"),
    Wrong("casts without rounding",
          lambda bias, s_x, s_w: _ratio(bias, s_x, s_w).int(), "cut the fraction off"),
    Wrong("clamps to 8 bits",
          lambda bias, s_x, s_w: _ratio(bias, s_x, s_w).round().clamp(-128, 127).int(), "8 bits"),
    Wrong("takes the largest scale for all",
          lambda bias, s_x, s_w: (bias / (s_x * s_w.max())).round().int(), "own s_w"),
    Wrong("takes the first scale for all",
          lambda bias, s_x, s_w: (bias / (s_x * s_w[0])).round().int(), "own s_w"),
    Wrong("keeps the ratio", _ratio, "whole numbers"),
    Wrong("returns floats",
          lambda bias, s_x, s_w: _ratio(bias, s_x, s_w).round(), "return a tensor of int32"),
)  # fmt: skip


def _nearest(x):
    return math.floor(x + 0.5)


def _overflows(m):
    mantissa, shift = math.frexp(m)
    return _nearest(mantissa * 2**31), shift


def _floored(m):
    mantissa, shift = math.frexp(m)
    return int(mantissa * 2**31), shift


def _other_sign(m):
    multiplier, shift = _overflows(m)
    return multiplier, -shift


def _too_wide(m):
    mantissa, shift = math.frexp(m)
    return _nearest(mantissa * 2**32), shift


def _one_to_two(m):
    # A mantissa between 1 and 2, as the exponent of a float has it.
    exponent = math.floor(math.log2(m))
    multiplier, shift = _overflows(m)
    return multiplier, exponent if exponent != shift else shift - 1


def _half_multiplier(m):
    mantissa, shift = math.frexp(m)
    return _nearest(mantissa * 2**30), shift


def _thirty_bits(m):
    mantissa, shift = math.frexp(m)
    return _nearest(mantissa * 2**30), shift + 1


MULTIPLIER = (
    Wrong("cuts the mantissa off", _floored, "cut the mantissa off"),
    Wrong("turns the shift", _other_sign, "wrong sign"),
    Wrong("takes 32 bits", _too_wide, "needs 32 bits"),
    Wrong("takes a mantissa from 1 to 2", _one_to_two, "off by one"),
    Wrong("halves the multiplier", _half_multiplier, "off by one"),
    Wrong("gives one bit away", _thirty_bits, "given away"),
    Wrong("does not normalize", lambda m: (_nearest(m * 2**31), 0), "shift at 0"),
    Wrong("overflows near a power of two", _overflows, "halve the multiplier"),
)


def _truncated(x, n):
    return int(x / 2**n)


def _towards(x, n):
    size = math.ceil(abs(x) / 2**n - 0.5)
    return size if x >= 0 else -size


SHIFT = (
    Wrong("shifts without rounding", lambda x, n: x >> n, ">> alone"),
    Wrong("truncates", _truncated, "towards 0"),
    Wrong("rounds half to even", lambda x, n: round(x / 2**n), "even"),
    Wrong("rounds half up", lambda x, n: (x + ((1 << n) >> 1)) >> n, "away from zero"),
    Wrong("rounds half towards zero", _towards, "went towards zero"),
    Wrong("shifts one bit less",
          lambda x, n: (1 if x >= 0 else -1) * ((abs(x) + (1 << n >> 2)) >> n - 1), "one bit less"),
    Wrong("shifts to the left", lambda x, n: x << n, "to the left"),
    Wrong("loses the sign", lambda x, n: (abs(x) + ((1 << n) >> 1)) >> n, "sign is lost"),
    Wrong("adds half a step to an unshifted number",
          lambda x, n: (1 if x >= 0 else -1) * ((abs(x) + (1 << n - 1 if n else 1)) >> n),
          "n = 0"),
)  # fmt: skip


def _steps(accumulator, multiplier, shift):
    high = doubling_high_mul(torch.tensor(accumulator), multiplier)
    return shift_right(high, -shift).item()


def _clamp(code):
    return max(0, min(code, 255))


def _shifted_by(more):
    """Build an answer that shifts by so many bits more."""

    def answer(accumulator, multiplier, shift, z_y):
        high = doubling_high_mul(torch.tensor(accumulator), multiplier)
        right = -shift + more
        steps = shift_right(high, right).item() if right >= 0 else 2 * high.item()
        return _clamp(steps + z_y)

    return answer


def _no_shift(accumulator, multiplier, shift, z_y):
    return _clamp(doubling_high_mul(torch.tensor(accumulator), multiplier).item() + z_y)


def _zero_first(accumulator, multiplier, shift, z_y):
    return _clamp(_steps(accumulator + z_y, multiplier, shift))


def _one_rounding(accumulator, multiplier, shift, z_y):
    product, n = accumulator * multiplier, 31 - shift
    size = (abs(product) + (1 << n - 1)) >> n
    return _clamp((size if product >= 0 else -size) + z_y)


def _cut_high(accumulator, multiplier, shift, z_y):
    return _clamp(shift_right(torch.tensor(accumulator * multiplier >> 31), -shift).item() + z_y)


CODE = (
    Wrong(
        "clamps before the zero point", lambda a, m, s, z: _clamp(_steps(a, m, s)) + z, "clamp last"
    ),
    Wrong("forgets the zero point", lambda a, m, s, z: _clamp(_steps(a, m, s)), "forgot the zero"),
    Wrong("subtracts the zero point", lambda a, m, s, z: _clamp(_steps(a, m, s) - z), "*added*"),
    Wrong("does not clamp", lambda a, m, s, z: _steps(a, m, s) + z, "out of 0 … 255"),
    Wrong("wraps around", lambda a, m, s, z: (_steps(a, m, s) + z) % 256, "wrapped around"),
    Wrong("shifts one bit too few", _shifted_by(-1), "one bit too few"),
    Wrong("shifts one bit too many", _shifted_by(1), "one bit too many"),
    Wrong("forgets the shift", _no_shift, "forgot the shift"),
    Wrong("adds the zero point first", _zero_first, "before the multiplication"),
    Wrong("rounds once", _one_rounding, "rounds twice"),
    Wrong("cuts the product off", _cut_high, "cut the product off"),
)
