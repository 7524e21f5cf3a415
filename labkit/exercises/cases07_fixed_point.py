"""How exercises 7.3 to 7.5 are judged: multiplier, rounding shift and code, from exact fractions.

The first cases of each exercise give every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from labkit.exercises.core import Case

HALF = Fraction(1, 2)


def half_away(x: Fraction) -> int:
    """Return the nearest whole number, halves away from zero.

    >>> half_away(Fraction(-3, 2))
    -2
    """
    size = math.floor(abs(x) + HALF)
    return size if x >= 0 else -size


def half_up(x: Fraction) -> int:
    """Return the nearest whole number, halves towards plus infinity.

    >>> half_up(Fraction(-3, 2))
    -1
    """
    return math.floor(x + HALF)


FLOORED = "You cut the mantissa off; round it to the nearest multiplier."
SHIFT_SIGN = "Your shift has the wrong sign: m ≈ multiplier / 2^31 · 2^shift, negative for small m."
OFF_BY_ONE = (
    "Your mantissa lies in [1, 2): the multiplier is half of what 31 bits hold, or the shift is "
    "off by one. ½ ≤ mantissa < 1 uses every bit."
)
TOO_WIDE = "That multiplier needs 32 bits without a sign, and an int32 has 31: scale by 2^31."
ONE_BIT_LESS = "You scaled by 2^30: the lowest bit of the multiplier is given away."
OVERFLOW = (
    "This mantissa rounds up to 2^31, which does not fit an int32: then halve the multiplier and "
    "add 1 to the shift."
)
NO_NORMAL = "You kept the shift at 0: a small m then has few bits of multiplier left."
MULTIPLIER_GENERAL = "mantissa, shift = math.frexp(m); the multiplier is round(mantissa · 2^31)."

# TensorFlow Lite's own examples (quantization_util_test.cc).
_TFLITE = (
    (0.25, 1073741824, -1),
    (0.50 - 5e-9, 2147483627, -1),
    (0.75, 1610612736, 0),
    (1 - 1e-9, 2147483646, 0),
    (1.25, 1342177280, 1),
    (2.0, 1073741824, 2),
)


def multiplier_cases() -> Iterator[Case]:
    """Cases of exercise 7.3: multiplier and shift."""
    yield _multiplier_case(0.0123)
    yield _multiplier_case(0.0004567)
    for m, multiplier, shift in _TFLITE:
        case = _multiplier_case(m)
        yield Case((m,), (multiplier, shift), MULTIPLIER_GENERAL, case.looks_like)
    yield _multiplier_case(0.5 - 1e-10)
    for seed in range(3):
        for exponent in (-20, -9, -3, 2):
            draw = np.random.default_rng(seed)
            yield _multiplier_case(float(draw.uniform(0.5, 1)) * 2.0**exponent)


def _multiplier_case(m: float) -> Case:
    mantissa, shift = math.frexp(m)
    exact = Fraction(mantissa) * 2**31
    rounded = half_away(exact)
    over = rounded == 2**31
    right = (2**30, shift + 1) if over else (rounded, shift)
    mistakes = {
        OVERFLOW: (rounded, shift),
        FLOORED: (math.floor(exact), shift),
        SHIFT_SIGN: (right[0], -right[1]),
        TOO_WIDE: (half_away(exact * 2), shift),
        OFF_BY_ONE: (half_away(exact / 2), shift),
        f"{OFF_BY_ONE} (Yours: the shift.)": (right[0], right[1] - 1),
        f"{OFF_BY_ONE} (Yours: the shift, upwards.)": (right[0], right[1] + 1),
        ONE_BIT_LESS: (half_away(exact / 2), shift + 1),
        NO_NORMAL: (half_away(Fraction(m) * 2**31), 0),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((m,), right, MULTIPLIER_GENERAL, looks_like)


DOWN = ">> alone rounds down, always: every result is up to one too small. Add half first."
TRUNCATED = "You cut the fraction off towards 0; round to the nearest."
EVEN = (
    "On a half you rounded to the even neighbour, as Python's round and ONNX do; here halves go "
    "away from zero."
)
UP = "Adding half and shifting sends −1.5 to −1; halves go *away from zero*, to −2."
TOWARDS = "On a half you went towards zero; halves go away from zero."
ONE_LESS = "You shifted by one bit less than n."
LEFT = "You shifted to the left; x / 2^n is a shift to the right."
SIGN = "The sign is lost: give it back after rounding the size."
NONE = "For n = 0 nothing is shifted, and nothing is to be added."
SHIFT_GENERAL = "Round |x| / 2^n to the nearest, halves up, then give back the sign of x."


def shift_cases() -> Iterator[Case]:
    """Cases of exercise 7.4: rounding shifts."""
    # −2.75, 2.75, 5.5, 2.5, −5.5: each parts one more way to round from the right one.
    for x in (-11, 11, 22, 10, -22, 9, -9):
        yield _shift_case(x, 2)
    yield _shift_case(7, 0, NONE)
    yield _shift_case(-(2**31), 31)
    for seed in range(40):
        draw = np.random.default_rng(seed)
        yield _shift_case(int(draw.integers(-(2**31), 2**31)), int(draw.integers(1, 20)))


def _shift_case(x: int, n: int, message: str = SHIFT_GENERAL) -> Case:
    exact = Fraction(x, 2**n)
    right = half_away(exact)
    toward = math.ceil(abs(exact) - HALF)
    mistakes = {
        UP: half_up(exact),
        EVEN: round(exact),
        TOWARDS: toward if x >= 0 else -toward,
        DOWN: math.floor(exact),
        TRUNCATED: math.trunc(exact),
        ONE_LESS: half_away(exact * 2),
        LEFT: x << n,
        SIGN: abs(right),
    }
    if n == 0:
        mistakes = {NONE: x + 1}
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((x, n), right, message, looks_like)


EARLY = (
    "You clamped before adding the zero point: codes below z_y can then never occur, and 255 is "
    "exceeded. Add first, clamp last."
)
NO_ZERO_POINT = "You forgot the zero point z_y."
MINUS_ZERO = "Towards a code, the zero point is *added*: q = round(y / s_y) + z_y."
NO_CLAMP = "The code is out of 0 … 255: clamp it; a cast to 8 bits would wrap around."
WRAPS = "The code wrapped around, as a cast to 8 bits does; clamp before you cast."
SHORT = "You shifted by one bit too few."
FAR = "You shifted by one bit too many: the division by 2^31 is already done."
NO_SHIFT = "You forgot the shift: dividing by 2^31 gives the mantissa's part only."
ZERO_FIRST = (
    "You added z_y to the accumulator, before the multiplication; its unit is s_y: add it after."
)
ONE_ROUNDING = (
    "You rounded once, the whole product; TensorFlow Lite rounds twice, after 2^31 and after the "
    "shift, and this value comes out differently."
)
FLOORED_HIGH = "You cut the product off at 2^31 without rounding it."
CODE_GENERAL = (
    "doubling_high_mul, then rounding_shift by −shift, then + z_y, then clamp to 0 … 255."
)


def code_cases() -> Iterator[Case]:
    """Cases of exercise 7.5: from an accumulator to a code."""
    yield _code_case(9_123, 1_394_758_518, -7, 41)
    yield _code_case(-9_951, 1_394_758_518, -7, 141)
    yield _code_case(-2_345, 1_394_758_518, -7, 41)
    yield _code_case(-9_345, 1_394_758_518, -7, 141)
    yield _code_case(90_000, 1_394_758_518, -7, 41)
    yield _code_case(-90_000, 1_394_758_518, -7, 41)
    yield _code_case(406_771, 1_394_758_518, -12, 3)  # 64.49992: twice rounded it is 65
    yield _code_case(5, 2**30, 0, 7)
    for seed in range(20):
        draw = np.random.default_rng(seed)
        yield _code_case(
            int(draw.integers(-20_000, 40_000)),
            int(draw.integers(2**30, 2**31)),
            -int(draw.integers(5, 9)),
            int(draw.integers(0, 200)),
        )


def _code_case(accumulator: int, multiplier: int, shift: int, z_y: int) -> Case:
    def clamp(code: int) -> int:
        return max(0, min(code, 255))

    exact = Fraction(accumulator * multiplier, 2**31)
    high = half_up(exact)

    def steps(value: int, right: int = -shift) -> int:
        return half_away(Fraction(value) / Fraction(2) ** right)

    right = clamp(steps(high) + z_y)
    mistakes = {
        EARLY: clamp(steps(high)) + z_y,
        NO_ZERO_POINT: clamp(steps(high)),
        MINUS_ZERO: clamp(steps(high) - z_y),
        NO_CLAMP: steps(high) + z_y,
        WRAPS: (steps(high) + z_y) % 256,
        SHORT: clamp(steps(high, -shift - 1) + z_y),
        FAR: clamp(steps(high, -shift + 1) + z_y),
        NO_SHIFT: clamp(high + z_y),
        ZERO_FIRST: clamp(steps(half_up(Fraction((accumulator + z_y) * multiplier, 2**31)))),
        ONE_ROUNDING: clamp(half_away(exact * Fraction(2) ** shift) + z_y),
        FLOORED_HIGH: clamp(steps(math.floor(exact)) + z_y),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((accumulator, multiplier, shift, z_y), right, CODE_GENERAL, looks_like)
