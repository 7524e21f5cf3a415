"""Exercises of notebook 07: four sums, the bias, the multiplier, the rounding shift, the code."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.exercises import cases07, cases07_fixed_point, wrong07
from labkit.exercises.core import Exercise


def four_sums(x: Tensor, w: Tensor, z_x: int, z_w: int) -> tuple[int, int, int, int, int]:
    """(Σ q_x q_w, z_w Σ q_x, z_x Σ q_w, K z_x z_w, their total with the right signs)."""
    x, w = x.long(), w.long()
    product = (x * w).sum().item()
    x_term, w_term = z_w * x.sum().item(), z_x * w.sum().item()
    constant = len(x) * z_x * z_w
    return product, x_term, w_term, constant, product - x_term - w_term + constant


def bias_codes(bias: Tensor, s_x: float, s_w: Tensor) -> Tensor:
    """Bias (out,) → int32 codes at scale s_x s_w, one scale a channel; zero point 0."""
    codes = torch.round(bias.double() / (s_x * s_w.double()))
    return codes.to(torch.int32)


def fixed_point(m: float) -> tuple[int, int]:
    """(multiplier, shift) with m ≈ multiplier / 2^31 · 2^shift, 2^30 ≤ multiplier < 2^31."""
    mantissa, shift = math.frexp(m)
    multiplier = math.floor(mantissa * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    return multiplier, shift


def rounding_shift(x: int, n: int) -> int:
    """x / 2^n, rounded to the nearest integer, halves away from zero."""
    half = (1 << n) >> 1
    size = (abs(x) + half) >> n
    return size if x >= 0 else -size


def to_code(accumulator: int, multiplier: int, shift: int, z_y: int) -> int:
    """The code 0 … 255 of an int32 accumulator, by multiplier and shift ≤ 0."""
    from labkit.fixed_point import doubling_high_mul, rounding_shift

    high = doubling_high_mul(torch.tensor(accumulator), multiplier)
    steps = rounding_shift(high, -shift).item()
    return max(0, min(steps + z_y, 255))


EXERCISES = (
    Exercise(
        id="7.1",
        title="Four sums",
        difficulty=2,
        minutes=8,
        hints=(
            "Multiply out (q_x − z_x)(q_w − z_w). Which of the four parts depend on k, which do "
            "not, and how often does the last one occur?",
            "Codes are 8 bits wide: 200 · 100 does not fit. Widen both tensors before anything.",
            "x, w = x.long(), w.long(); the product is (x * w).sum().item(); the total is "
            "product − z_w Σ q_x − z_x Σ q_w + K z_x z_w.",
        ),
        cases=cases07.sums_cases,
        solution=four_sums,
        praise="Two of these four are known before the first pixel arrives. Which, and where would "
        "you put them?",
        wrong=wrong07.SUMS,
    ),
    Exercise(
        id="7.2",
        title="The bias at the accumulator's scale",
        difficulty=1,
        minutes=5,
        hints=(
            "In which unit does the accumulator count? The bias must come in the same one.",
            "One step of the accumulator is worth s_x · s_w: every channel has its own.",
            "torch.round(bias.double() / (s_x * s_w.double())).to(torch.int32)",
        ),
        cases=cases07.bias_cases,
        solution=bias_codes,
        praise="No zero point, no clamp to 8 bits: 32 bits at so fine a step lose next to nothing.",
        wrong=wrong07.BIAS,
    ),
    Exercise(
        id="7.3",
        title="A real number as two integers",
        difficulty=2,
        minutes=8,
        hints=(
            "Which power of two brings m into ½ ≤ mantissa < 1? Python's math has it ready.",
            "math.frexp(m) gives (mantissa, shift); the multiplier is the mantissa in steps of "
            "2^−31, rounded. What if it rounds up to 2^31?",
            "multiplier = math.floor(mantissa * 2**31 + 0.5); if multiplier == 2**31: halve it "
            "and add 1 to the shift.",
        ),
        cases=cases07_fixed_point.multiplier_cases,
        solution=fixed_point,
        praise="That is QuantizeMultiplier of TensorFlow Lite, digit for digit: the cases are its "
        "own.",
        wrong=wrong07.MULTIPLIER,
    ),
    Exercise(
        id="7.4",
        title="Shift and round",
        difficulty=2,
        minutes=6,
        hints=(
            "What does >> do with −3 >> 1? Where should −1.5 go?",
            "Halves away from zero is symmetric: round the size |x|, then give back the sign.",
            "(abs(x) + half) >> n with half = (1 << n) >> 1, then the sign of x.",
        ),
        cases=cases07_fixed_point.shift_cases,
        solution=rounding_shift,
        praise="Symmetric around 0, so that it does not push all sums one way.",
        wrong=wrong07.SHIFT,
    ),
    Exercise(
        id="7.5",
        title="From the accumulator to the code",
        difficulty=3,
        minutes=10,
        hints=(
            "Four steps: multiply, shift, zero point, clamp. In which order?",
            "labkit.fixed_point has doubling_high_mul (which divides by 2^31 and rounds) and "
            "rounding_shift. The shift is negative: it says how far to shift to the right.",
            "high = doubling_high_mul(torch.tensor(accumulator), multiplier); steps = "
            "rounding_shift(high, -shift).item(); then add z_y, and clamp to 0 … 255.",
        ),
        cases=cases07_fixed_point.code_cases,
        solution=to_code,
        praise="An 8-bit layer, and not one float in it.",
        wrong=wrong07.CODE,
    ),
)
