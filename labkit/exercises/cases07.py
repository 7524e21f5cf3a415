"""How exercises 7.1 and 7.2 are judged: sums and bias, from Python's whole numbers and fractions.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import torch

from labkit.exercises.cases07_fixed_point import half_away
from labkit.exercises.core import Case

ONE_BYTE = (
    "A product of two 8-bit codes needs 16 bits, their sum up to 32; yours was kept in 8 bits and "
    "wrapped around: x.long(), w.long() first."
)
NO_CORRECTION = "The total is the bare Σ q_x q_w: subtract and add what the zero points contribute."
NO_X = "The total forgets z_w Σ q_x. It is 0 only for symmetric weights."
NO_W = "The total forgets z_x Σ q_w. It is 0 only when the input's zero point is."
NO_CONSTANT = "The total forgets the constant K z_x z_w, which was subtracted twice."
MINUS_CONSTANT = (
    "(−z_x)(−z_w) is positive: the constant K z_x z_w is added, and the two others are subtracted."
)
PLUS = "x = s (q − z): the zero point is *subtracted* from the code; both mixed terms are negative."
ONCE = "z_x z_w occurs once for each of the K products: the constant is K z_x z_w."
CROSSED = "The zero points are crossed: z_w belongs to Σ q_x, and z_x to Σ q_w."
ORDER = "The two mixed sums are swapped: second z_w Σ q_x, third z_x Σ q_w."
SUMS_GENERAL = (
    "Return five whole numbers: Σ q_x q_w, z_w Σ q_x, z_x Σ q_w, K z_x z_w, and the first minus "
    "the second minus the third plus the fourth."
)


def sums_cases() -> Iterator[Case]:
    """Cases of exercise 7.1: four sums and their total."""
    yield _sums_case([200, 3, 90, 17, 255], [100, -7, 55, -128, 9], 13, 5)
    yield _sums_case([5, 250, 128], [1, 2, 3], 0, 0)
    yield _sums_case([7, 7, 7, 7], [4, -4, 9, 1], 7, 0)
    yield _sums_case([255], [-128], 255, 127)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        count = int(draw.integers(100, 900))
        x, w = draw.integers(0, 256, count), draw.integers(-128, 128, count)
        yield _sums_case(
            x.tolist(), w.tolist(), int(draw.integers(1, 256)), int(draw.integers(1, 100))
        )


def _sums_case(x: list[int], w: list[int], z_x: int, z_w: int) -> Case:
    k = len(x)
    product = sum(a * b for a, b in zip(x, w, strict=True))
    x_term, w_term, constant = z_w * sum(x), z_x * sum(w), k * z_x * z_w
    parts = (product, x_term, w_term, constant)
    right = (*parts, sum((a - z_x) * (b - z_w) for a, b in zip(x, w, strict=True)))
    small = _wrapped(sum(_wrapped(a * b) for a, b in zip(x, w, strict=True)))
    crossed = (product, z_x * sum(x), z_w * sum(w), constant)
    mistakes = {
        NO_CORRECTION: (*parts, product),
        NO_X: (*parts, product - w_term + constant),
        NO_W: (*parts, product - x_term + constant),
        NO_CONSTANT: (*parts, product - x_term - w_term),
        MINUS_CONSTANT: (*parts, product - x_term - w_term - constant),
        PLUS: (*parts, product + x_term + w_term + constant),
        ONCE: (product, x_term, w_term, z_x * z_w, product - x_term - w_term + z_x * z_w),
        CROSSED: (*crossed, crossed[0] - crossed[1] - crossed[2] + constant),
        ORDER: (product, w_term, x_term, constant, right[-1]),
        ONE_BYTE: (small, x_term, w_term, constant, small - x_term - w_term + constant),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    arguments = (torch.tensor(x, dtype=torch.uint8), torch.tensor(w, dtype=torch.int8), z_x, z_w)
    return Case(arguments, right, SUMS_GENERAL, looks_like)


def _wrapped(value: int) -> int:
    return (value + 128) % 256 - 128


ONLY_W = "The accumulator counts in steps of s_x·s_w; you divided by s_w alone."
ONLY_X = "The accumulator counts in steps of s_x·s_w; you divided by s_x alone."
TIMES = "You multiplied by the scale; a code is the value *divided* by the scale."
FLOOR = "You cut the fraction off; round to the nearest code."
EIGHT = "The bias was clamped to 8 bits; the accumulator is 32 bits wide, and so is the bias."
ONE_SCALE = "Every channel has its own s_w; you took one for all."
FLOAT_BIAS = "The bias must be whole numbers; you returned the ratio as it is."
BIAS_GENERAL = "round(bias / (s_x · s_w)), channel by channel, as int32."


def bias_cases() -> Iterator[Case]:
    """Cases of exercise 7.2: bias codes."""
    yield _bias_case([0.3717, -1.25, 0.0913], 0.03, [0.004, 0.0101, 0.0023])
    yield _bias_case([0.0, 40.0], 0.5, [0.25, 0.001])
    for seed in range(3):
        draw = np.random.default_rng(seed)
        yield _bias_case(
            draw.normal(0, 1, 12).tolist(),
            float(draw.uniform(0.001, 0.05)),
            draw.uniform(0.0005, 0.02, 12).tolist(),
        )


def _bias_case(bias: list[float], s_x: float, s_w: list[float]) -> Case:
    # As the learner gets them: float32.
    b, w = (np.asarray(v, np.float32).astype(np.float64) for v in (bias, s_w))
    exact = [
        Fraction(float(v)) / (Fraction(s_x) * Fraction(float(s))) for v, s in zip(b, w, strict=True)
    ]
    right = np.array([half_away(v) for v in exact])
    mistakes = {
        ONLY_W: np.rint(b / w),
        ONLY_X: np.rint(b / s_x),
        TIMES: np.rint(b * s_x * w),
        FLOOR: np.floor(b / (s_x * w)),
        f"{FLOOR} (towards 0 is cut off, too.)": np.trunc(b / (s_x * w)),
        EIGHT: np.clip(right, -128, 127),
        ONE_SCALE: np.rint(b / (s_x * w.max())),
        f"{ONE_SCALE} (The first one.)": np.rint(b / (s_x * w[0])),
        FLOAT_BIAS: b / (s_x * w),
    }
    looks_like = {
        said: torch.tensor(wrong if said == FLOAT_BIAS else wrong.astype(np.int64))
        for said, wrong in mistakes.items()
        if not np.array_equal(wrong, right)
    }
    arguments = (torch.tensor(bias), s_x, torch.tensor(s_w))
    return Case(arguments, torch.tensor(right), BIAS_GENERAL, looks_like, 1e-5, "int32")
