"""Multiplier and shift, against TensorFlow Lite's own examples and exact fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from labkit.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    apply_multiplier,
    doubling_high_mul,
    multiplier_value,
    quantize_multiplier,
    quantize_multipliers,
    rounding_shift,
)

int32 = st.integers(INT32_MIN, INT32_MAX)
HALF = Fraction(1, 2)

# Published in TensorFlow Lite's quantization_util_test.cc: m → (multiplier, shift).
TFLITE_MULTIPLIERS = [
    (0.25, 1073741824, -1),
    (0.50 - 5e-9, 2147483627, -1),
    (0.50 - 1e-10, 1073741824, 0),
    (0.50, 1073741824, 0),
    (0.75, 1610612736, 0),
    (1 - 1e-9, 2147483646, 0),
    (1 + 1e-11, 1073741824, 1),
    (1.25, 1342177280, 1),
    (1.50, 1610612736, 1),
    (1.75, 1879048192, 1),
    (2 - 1e-9, 2147483647, 1),
    (2 - 1e-11, 1073741824, 2),
    (2, 1073741824, 2),
    (2.0**-31, 1073741824, -30),
    (2.0**-32, 1073741824, -31),
    (math.ldexp(float(torch.tensor(0.99)), -32), 0, 0),
    (2.0**-33, 0, 0),
    (0.0, 0, 0),
    (-4.0, -1073741824, 3),
    (-0.125, -1073741824, -2),
    (4.0, 1073741824, 3),
]

# From the same file: x, m → round(x·m).
TFLITE_PRODUCTS = [
    (0, 0.1, 0),
    (1, 0.0, 0),
    (10000, 0.00097656, 10),
    (-10000, 0.00097656, -10),
    (INT32_MIN, 0.00001, -21475),
    (INT32_MAX, 0.00001, 21475),
    (10000, -0.00097656, -10),
    (-10000, -0.00097656, 10),
    (INT32_MIN, -0.00001, 21475),
    (INT32_MAX, -0.00001, -21475),
]


def half_up(x: Fraction) -> int:
    return math.floor(x + HALF)


def half_away(x: Fraction) -> int:
    return half_up(x) if x >= 0 else -half_up(-x)


@pytest.mark.parametrize(("m", "multiplier", "shift"), TFLITE_MULTIPLIERS)
def test_multipliers_are_those_that_tensorflow_lite_publishes(m, multiplier, shift):
    assert quantize_multiplier(m) == (multiplier, shift)


@pytest.mark.parametrize(("x", "m", "product"), TFLITE_PRODUCTS)
def test_products_are_those_that_tensorflow_lite_publishes(x, m, product):
    assert apply_multiplier(torch.tensor(x), *quantize_multiplier(m)).item() == product


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_numbers_give_what_tensorflow_lite_publishes(sign):
    expected = half_away(Fraction(INT32_MAX * INT32_MAX, 2**34))
    assert apply_multiplier(torch.tensor(sign * INT32_MAX), INT32_MAX, -3).item() == sign * expected


@given(st.floats(2.0**-32, 2.0**29, exclude_max=True))
def test_the_relative_error_of_a_multiplier_is_at_most_two_to_the_minus_31(m):
    multiplier, shift = quantize_multiplier(m)
    assert 2**30 <= multiplier < 2**31
    assert abs(multiplier_value(multiplier, shift) / Fraction(m) - 1) <= Fraction(1, 2**31)


def test_many_multipliers_at_once_are_those_one_by_one():
    m = torch.tensor([[m for m, _, _ in TFLITE_MULTIPLIERS]], dtype=torch.float64)
    multipliers, shifts = quantize_multipliers(m)
    assert multipliers.tolist() == [[multiplier for _, multiplier, _ in TFLITE_MULTIPLIERS]]
    assert shifts.tolist() == [[shift for _, _, shift in TFLITE_MULTIPLIERS]]


@given(int32, int32)
@example(INT32_MIN, INT32_MIN)
@example(INT32_MIN, INT32_MAX)
@example(3, 2**30)
@example(-3, 2**30)
def test_the_doubling_high_product_rounds_halves_up_and_saturates(a, b):
    expected = min(half_up(Fraction(a * b, 2**31)), INT32_MAX)
    assert doubling_high_mul(torch.tensor(a), b).item() == expected


@given(int32, st.integers(0, 31))
@example(-1, 1)
@example(INT32_MIN, 31)
@example(INT32_MAX, 31)
@example(INT32_MIN, 0)
def test_the_rounding_shift_rounds_halves_away_from_zero(x, exponent):
    expected = half_away(Fraction(x, 2**exponent))
    assert rounding_shift(torch.tensor(x), exponent).item() == expected


@given(int32, st.floats(2.0**-31, 2.0**10))
def test_a_product_is_within_one_of_the_exact_one_or_saturated(x, m):
    multiplier, shift = quantize_multiplier(m)
    exact = x * multiplier_value(multiplier, shift)
    got = apply_multiplier(torch.tensor(x), multiplier, shift).item()
    if shift <= 0:
        assert abs(got - exact) < 1
    elif abs(exact) < 2**30:
        assert abs(got - exact) <= HALF
    else:
        # Saturated before the multiplication: still at least 2^30, far beyond any 8-bit code.
        assert abs(got) >= 2**30 and (got > 0) == (exact > 0)


def test_two_roundings_can_differ_from_one():
    # 10 · 0.24999 = 2.4999 is nearest to 2. But 10 · 0.99996 is rounded first, to 10, and then
    # 10 / 2^2 = 2.5 goes away from zero.
    multiplier, shift = quantize_multiplier(0.24999)
    assert half_away(10 * multiplier_value(multiplier, shift)) == 2
    assert doubling_high_mul(torch.tensor(10), multiplier).item() == 10
    assert apply_multiplier(torch.tensor(10), multiplier, shift).item() == 3


def test_a_column_of_shifts_goes_with_its_column_of_multipliers():
    multipliers, shifts = quantize_multipliers(torch.tensor([0.5, 0.001, 3.0]).double())
    x = torch.tensor([[1000, 1000, 1000], [-7, -7, -7]])
    assert apply_multiplier(x, multipliers, shifts).tolist() == [[500, 1, 3000], [-3, 0, -21]]


@pytest.mark.parametrize(
    ("m", "words"),
    [(math.nan, "finite"), (math.inf, "finite"), (2.0**30, "output scale far too small")],
)
def test_a_multiplier_that_cannot_be_is_refused(m, words):
    with pytest.raises(ValueError, match=words):
        quantize_multiplier(m)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: doubling_high_mul(torch.tensor(0.5), 1), "a must hold integers"),
        (lambda: doubling_high_mul(torch.tensor(1), 2**31), "b must fit 32-bit"),
        (lambda: rounding_shift(torch.tensor(1), 32), "exponent must be from 0 to 31"),
        (lambda: apply_multiplier(torch.tensor(2**31), 1, 0), "x must fit 32-bit"),
        (lambda: apply_multiplier(torch.tensor(1), 2**30, -32), "shift must be from -31 to 30"),
    ],
)
def test_numbers_beyond_32_bits_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
