"""Exercise 3.5 of notebook 03: the numbers that the patterns of a 4-bit float stand for."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import torch
from torch import Tensor

from labkit.exercises.core import Case, Exercise, Wrong

# The magnitudes that the patterns 000 … 111 stand for: OCP MX specification 1.0, table 5.
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NO_SUBNORMAL = "Exponent field 0 has no leading 1: patterns 0 and 1 stand for 0 and 0.5."
BIAS_LOW = "Twice too large: the bias is wrong. With 2 exponent bits it is 2^(2-1) - 1 = 1."
BIAS_HIGH = "Half too small: the bias is wrong. With 2 exponent bits it is 2^(2-1) - 1 = 1."
NAN_TOP = "E2M1 has neither NaN nor infinity: pattern 7 is the number 6."
INFINITE_TOP = "No pattern is infinite. E2M1 has neither NaN nor infinity: pattern 7 is 6."
MANTISSA = "One mantissa bit counts a half: 1 + f/2."
COMPLEMENT = "The sign bit only changes the sign; small floats are no two's complement."
SIGN_LOST = "Patterns 8 … 15 are negative: the top bit is the sign."
SWAPPED = "You swapped the fields. From the top: sign, two exponent bits, one mantissa bit."


def fp4_values(patterns: Tensor) -> Tensor:
    """Read FP4 E2M1 patterns as numbers."""
    patterns = patterns.to(torch.int64)
    sign, exponent, mantissa = patterns >> 3, (patterns >> 1) & 3, patterns & 1
    normal = (1 + mantissa / 2) * 2.0 ** (exponent - 1)
    magnitude = torch.where(exponent == 0, mantissa / 2, normal)
    return torch.where(sign == 1, -magnitude, magnitude)


def _fp4_cases() -> Iterator[Case]:
    def case(patterns: list[int], message: str, looks_like: dict | None = None) -> Case:
        expected = [E2M1[p] if p < 8 else -E2M1[p - 8] for p in patterns]
        argument = torch.tensor(patterns, dtype=torch.uint8)
        return Case((argument,), torch.tensor(expected), message, looks_like or {})

    yield case(
        [4, 6],
        "Patterns 4 and 6 have an empty mantissa: they are powers of two.",
        {
            BIAS_LOW: torch.tensor([4.0, 8.0]),
            BIAS_HIGH: torch.tensor([1.0, 2.0]),
            SWAPPED: torch.tensor([1.0, 1.5]),
        },
    )
    yield case(
        [3, 5],
        "Patterns 3 and 5 have the mantissa bit set.",
        {MANTISSA: torch.tensor([1.25, 2.5])},
    )
    yield case(
        [0, 1],
        "The two smallest patterns are special.",
        {NO_SUBNORMAL: torch.tensor([0.5, 0.75])},
    )
    yield case(
        [7, 6],
        "The two largest patterns.",
        {NAN_TOP: torch.tensor([math.nan, 4.0]), INFINITE_TOP: torch.tensor([math.inf, 4.0])},
    )
    yield case(
        [10, 15],
        "The top bit is the sign.",
        {
            SIGN_LOST: torch.tensor([1.0, 6.0]),
            COMPLEMENT: torch.tensor([-4.0, -0.5]),
        },
    )
    yield case(list(range(16)), "Every pattern once.")
    for seed in range(3):
        generator = random.Random(seed)
        yield case([generator.randrange(16) for _ in range(50)], "A longer row went wrong.")


def _fp4(patterns: Tensor, bias: int = 1, step: float = 0.5, subnormal: bool = True) -> Tensor:
    values = []
    for p in patterns.tolist():
        e, f = p % 8 // 2, p % 2
        value = (1 + step * f) * 2.0 ** (e - bias) if e or not subnormal else f * 2.0**-bias
        values.append(-value if p > 7 else value)
    return torch.tensor(values)


def _fp4_no_subnormal(patterns: Tensor) -> Tensor:
    return _fp4(patterns, subnormal=False)


def _fp4_bias_zero(patterns: Tensor) -> Tensor:
    return _fp4(patterns, bias=0)


def _fp4_bias_two(patterns: Tensor) -> Tensor:
    return _fp4(patterns, bias=2)


def _fp4_quarter(patterns: Tensor) -> Tensor:
    return _fp4(patterns, step=0.25)


def _fp4_nan(patterns: Tensor) -> Tensor:
    return torch.where(patterns % 8 == 7, torch.nan, _fp4(patterns))


def _fp4_infinity(patterns: Tensor) -> Tensor:
    values = _fp4(patterns)
    values[patterns == 7], values[patterns == 15] = math.inf, -math.inf
    return values


def _fp4_complement(patterns: Tensor) -> Tensor:
    signed = [p - 16 if p > 7 else p for p in patterns.tolist()]
    magnitude = _fp4(torch.tensor([abs(p) % 8 for p in signed]))
    return torch.tensor(
        [-m if p < 0 else m for p, m in zip(signed, magnitude.tolist(), strict=True)]
    )


def _fp4_unsigned(patterns: Tensor) -> Tensor:
    return _fp4(patterns % 8)


def _fp4_swapped(patterns: Tensor) -> Tensor:
    values = []
    for p in patterns.tolist():
        e, f = p % 8 // 4, p % 4
        value = (1 + f / 4) * 2.0 ** (e - 1) if e else f / 4
        values.append(-value if p > 7 else value)
    return torch.tensor(values)


EXERCISES = (
    Exercise(
        id="3.5",
        title="Read a 4-bit float",
        difficulty=3,
        minutes=10,
        hints=(
            "Cut the four bits: s e e m. What are the fields of pattern 5 = 0101?",
            "Field e > 0: (1 + m/2) · 2^(e - 1). Field e = 0: m/2, no leading 1. Then the sign.",
            "sign, exponent, mantissa = p >> 3, (p >> 1) & 3, p & 1; torch.where on exponent == 0; "
            "torch.where on sign == 1",
        ),
        cases=_fp4_cases,
        solution=fp4_values,
        praise="right: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. That is all FP4 can say.",
        wrong=(
            Wrong("subnormals forgotten", _fp4_no_subnormal, "no leading 1"),
            Wrong("bias 0", _fp4_bias_zero, "twice too large"),
            Wrong("bias 2", _fp4_bias_two, "half too small"),
            Wrong("mantissa bit counts a quarter", _fp4_quarter, "counts a half"),
            Wrong("NaN for the top pattern", _fp4_nan, "neither NaN nor infinity"),
            Wrong("infinity for the top pattern", _fp4_infinity, "no pattern is infinite"),
            Wrong("two's complement", _fp4_complement, "two's complement"),
            Wrong("sign forgotten", _fp4_unsigned, "top bit is the sign"),
            Wrong("fields swapped", _fp4_swapped, "swapped the fields"),
        ),
    ),
)
