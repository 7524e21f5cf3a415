"""Typical wrong answers to the exercises of notebook 01: each departs in a single place."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.exercises.core import Wrong


def _with_range(
    steps=lambda bits: 2**bits - 1, widen=True, point=lambda v: round(v), store=lambda s: s
):
    """Build a wrong answer that departs from the right one in a single place."""

    def answer(low, high, bits):
        low, high = (min(low, 0.0), max(high, 0.0)) if widen else (low, high)
        if low == high:
            return 1.0, 0
        scale = store((high - low) / steps(bits))
        return scale, point(-low / scale)

    return answer


def _in_float32(low, high, bits):
    low, high = torch.tensor(min(low, 0.0)), torch.tensor(max(high, 0.0))
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale.item(), int(torch.round(-low / scale))


def _zero_divided(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)


def _constant_first(low, high, bits):
    return (1.0, 0) if low == high else _zero_divided(low, high, bits)


def _size_of_constant(low, high, bits):
    if low == high:
        return abs(high) / (2**bits - 1) or 1.0, 0
    return _zero_divided(low, high, bits)


def _narrow_is_none(low, high, bits):
    low, high = min(low, 0.0), max(high, 0.0)
    return (1.0, 0) if high - low < 1e-6 else _zero_divided(low, high, bits)


def _floored_scale(low, high, bits):
    # As the observers of PyTorch do, with the smallest step of float32 next to 1.
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 1.0, 0
    scale = max((high - low) / (2**bits - 1), torch.finfo(torch.float32).eps)
    return scale, round(-low / scale)


def _half(scale: float) -> float:
    return torch.tensor(scale, dtype=torch.float16).item()


RANGE = (
    Wrong("2^b steps", _with_range(steps=lambda b: 2**b), "2^b − 1 steps"),
    Wrong("sign of min", _with_range(point=lambda v: round(-v)), "sign of min"),
    Wrong("truncates z", _with_range(point=int), "cut off"),
    Wrong("real zero point", _with_range(point=lambda v: v), "whole number"),
    Wrong("half up", _with_range(point=lambda v: int(v + 0.5)), "half to even"),
    Wrong("not widened", _with_range(widen=False), "contains zero"),
    Wrong(
        "not widened but clamped",
        _with_range(widen=False, point=lambda v: max(round(v), 0)),
        "contains zero",
    ),
    Wrong("divides by zero", _zero_divided, "all zero"),
    Wrong("float32 arithmetic", _in_float32, "float32"),
    Wrong("half precision scale", _with_range(store=_half), "half precision"),
    Wrong("rounded scale", _with_range(store=lambda s: round(s, 5)), "0.00784"),
    Wrong("constant before widening", _constant_first, "after widening"),
    Wrong("constant by its size", _size_of_constant, "the last code"),
    Wrong("narrow taken for zero", _narrow_is_none, "9e-7 is not 0"),
    Wrong("scale with a floor", _floored_scale, "no floor"),
    Wrong("scale with an epsilon", _with_range(store=lambda s: s + 1e-9), "add nothing"),
)


def _with_codes(steps=lambda x, s: torch.round(x / s), finish=None):
    """Build a wrong answer: `steps` from x and s, `finish` from steps, z and the bounds."""
    finish = finish or (lambda v, z, low, high: (v + z).clamp(low, high))
    return lambda x, s, z, low, high: finish(steps(x, s), z, low, high).to(torch.int32)


def _byte(v: Tensor) -> Tensor:
    return v.to(torch.int32).to(torch.uint8)


def _unsigned_type(v: Tensor, z: int, low: int, high: int) -> Tensor:
    return _byte((v + z).clamp(low, high))


def _right_codes(x, s, z, low, high):
    return (torch.round(x / s) + z).clamp(low, high)


def _casts_early(dtype: torch.dtype):
    return _with_codes(lambda x, s: torch.round(x / s).to(dtype))


def _at_least_one_dimension(x, *grid):
    return _right_codes(torch.atleast_1d(x), *grid).to(torch.int32)


def _row_by_row(x, s, z, low, high):
    return torch.stack([_right_codes(row, s, z, low, high).to(torch.int32) for row in x])


QUANTIZE = (
    Wrong("floor", _with_codes(lambda x, s: torch.floor(x / s)), "floor"),
    Wrong("truncates", _with_codes(lambda x, s: (x / s).to(torch.int32)), "truncation"),
    Wrong("multiplies", _with_codes(lambda x, s: torch.round(x * s)), "you multiplied"),
    Wrong("no zero point", _with_codes(finish=lambda v, z, a, b: v.clamp(a, b)), "is missing"),
    Wrong(
        "cast before zero point",
        _with_codes(lambda x, s: _byte(torch.round(x / s)).to(torch.int32)),
        "before adding the zero point",
    ),
    Wrong("swapped bounds", _with_codes(finish=lambda v, z, a, b: (v + z).clamp(b, a)), "swapped"),
    Wrong("no clamp", _with_codes(finish=lambda v, z, a, b: v + z), "no clamp"),
    Wrong("wraps", _with_codes(finish=lambda v, z, a, b: _byte(v + z)), "wrapped"),
    Wrong(
        "clamp after cast",
        _with_codes(finish=lambda v, z, a, b: _byte(v + z).to(torch.int32).clamp(a, b)),
        "after the cast",
    ),
    Wrong(
        "clamp before zero point",
        _with_codes(finish=lambda v, z, a, b: v.clamp(a, b) + z),
        "clamp last",
    ),
    Wrong("half up", _with_codes(lambda x, s: torch.floor(x / s + 0.5)), "not up"),
    Wrong(
        "half away from zero",
        _with_codes(lambda x, s: x.sign() * torch.floor(x.abs() / s + 0.5)),
        "not away from zero",
    ),
    Wrong(
        "rounds after adding",
        lambda x, s, z, a, b: torch.round(x / s + z).clamp(a, b).to(torch.int32),
        "add z afterwards",
    ),
    Wrong(
        "unsigned only",
        _with_codes(finish=lambda v, z, a, b: (v + z).clamp(0, b)),
        "signed codes",
    ),
    Wrong("uint8 for signed codes", _with_codes(finish=_unsigned_type), "no negative codes"),
    Wrong("reciprocal", _with_codes(lambda x, s: torch.round(x * (1 / s))), "reciprocal"),
    Wrong("int8 before the clamp", _casts_early(torch.int8), "cast to int8 before the clamp"),
    Wrong("int16 before the clamp", _casts_early(torch.int16), "cast to int16 before the clamp"),
    Wrong("int32 before the clamp", _casts_early(torch.int32), "cast to int32 before the clamp"),
    Wrong("int64 before the clamp", _casts_early(torch.int64), "cast to int64 before the clamp"),
    Wrong("goes through the rows", _row_by_row, "any shape, also none"),
    Wrong("adds a dimension", _at_least_one_dimension, "keep its shape"),
    Wrong("float codes, no clamp", lambda x, s, z, a, b: torch.round(x / s) + z, "no clamp"),
    Wrong("float codes", _right_codes, "as float32; return a tensor of an integer type"),
    Wrong("complex codes", lambda *given: _right_codes(*given) + 0j, "q = clamp"),
)


def _with_trip(back, error=lambda d: d.abs()):
    def answer(q, x, scale, zero_point):
        values = back(q, scale, zero_point)
        return values, error(x - values)

    return answer


ROUND_TRIP = (
    Wrong("subtracts in uint8", _with_trip(lambda q, s, z: (q - z) * s), "251"),
    Wrong("multiplies first", _with_trip(lambda q, s, z: q.float() * s - z), "not after"),
    Wrong("adds z", _with_trip(lambda q, s, z: (q.float() + z) * s), "is added"),
    Wrong("forgets z", _with_trip(lambda q, s, z: q.float() * s), "is missing"),
    Wrong("divides", _with_trip(lambda q, s, z: (q.float() - z) / s), "you divided"),
    Wrong(
        "signed error",
        _with_trip(lambda q, s, z: (q.float() - z) * s, lambda d: d),
        "absolute value",
    ),
    Wrong(
        "squared error",
        _with_trip(lambda q, s, z: (q.float() - z) * s, lambda d: d.square()),
        "not squared",
    ),
    Wrong(
        "largest error only",
        _with_trip(lambda q, s, z: (q.float() - z) * s, lambda d: d.abs().max()),
        "one entry per value",
    ),
    Wrong(
        "casts to int8",
        _with_trip(lambda q, s, z: (q.to(torch.int8).float() - z) * s),
        "int8 ends at 127",
    ),
    Wrong(
        "half precision",
        _with_trip(lambda q, s, z: ((q.float() - z) * s).half()),
        "half precision",
    ),
)


def _with_rules(restricted=None, full=None, no_clip=None, amax=lambda x: x.abs().max().item()):
    """Build a wrong answer with one rule replaced; each is called with (x, amax, bits)."""
    rules = {
        "restricted": restricted or (lambda x, a, b: a / (2 ** (b - 1) - 1)),
        "full": full or (lambda x, a, b: a / ((2**b - 1) / 2)),
        "no_clip": no_clip
        or (
            lambda x, a, b: max(-x.min().item() / 2 ** (b - 1), x.max().item() / (2 ** (b - 1) - 1))
        ),
    }
    return lambda x, bits, rule: rules[rule](x, amax(x), bits) or 1.0


def _zero_scale(x, bits, rule):
    amax, half = x.abs().max().item(), 2 ** (bits - 1)
    each_side = max(-x.min().item() / half, x.max().item() / (half - 1))
    return {"restricted": amax / (half - 1), "full": amax / (half - 0.5)}.get(rule, each_side)


SYMMETRIC = (
    Wrong("128 for 127", _with_rules(lambda x, a, b: a / 2 ** (b - 1)), "not by 128"),
    Wrong("127.5 for 127", _with_rules(lambda x, a, b: a / ((2**b - 1) / 2)), "127.5 belongs"),
    Wrong("abs of max", _with_rules(amax=lambda x: abs(x.max().item())), "not |max(x)|"),
    Wrong(
        "affine scale",
        _with_rules(lambda x, a, b: (x.max() - x.min()).item() / (2**b - 1)),
        "affine scale",
    ),
    Wrong(
        "half precision",
        _with_rules(lambda x, a, b: _half(a / (2 ** (b - 1) - 1))),
        "half precision",
    ),
    Wrong("127 for 127.5", _with_rules(full=lambda x, a, b: a / (2 ** (b - 1) - 1)), "not by 127"),
    Wrong(
        "no_clip as restricted",
        _with_rules(no_clip=lambda x, a, b: a / (2 ** (b - 1) - 1)),
        "each side",
    ),
    Wrong(
        "sign of min",
        _with_rules(
            no_clip=lambda x, a, b: max(
                x.min().item() / 2 ** (b - 1), x.max().item() / (2 ** (b - 1) - 1)
            )
        ),
        "minus before min",
    ),
    Wrong("128 on both sides", _with_rules(no_clip=lambda x, a, b: a / 2 ** (b - 1)), "would clip"),
    Wrong("scale of zeros", _zero_scale, "all zero"),
)
