"""Grids: small floats against ml_dtypes, NF4 against its published table."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.grids import (
    FLOAT_FORMATS,
    float_codes,
    float_levels,
    float_values,
    nearest,
    nf4_levels,
)

ORACLES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}


@pytest.mark.parametrize("element", ORACLES)
def test_every_bit_pattern_stands_for_the_same_number(element):
    magnitudes = len(float_levels(element))
    codes = torch.arange(magnitudes, dtype=torch.uint8)
    oracle = np.arange(magnitudes, dtype=np.uint8).view(ORACLES[element]).astype(np.float32)
    assert np.array_equal(float_values(codes, element).numpy(), oracle)
    assert float_levels(element)[-1] == FLOAT_FORMATS[element].largest
    assert float_levels(element)[-1] == float(ml_dtypes.finfo(ORACLES[element]).max)


@pytest.mark.parametrize("element", ORACLES)
def test_rounding_to_nearest_even_equals_ml_dtypes(element):
    form = FLOAT_FORMATS[element]
    generator = torch.Generator().manual_seed(0)
    levels = float_levels(element)
    ties = (levels[1:] + levels[:-1]) / 2
    x = torch.cat(
        [
            torch.randn(5000, generator=generator),
            torch.randn(5000, generator=generator) * form.largest / 4,
            ties,
            -ties,
            levels,
            torch.tensor([0.0, -0.0, 1e-30, -1e-30]),
        ]
    ).clamp(-form.largest, form.largest)
    oracle = x.numpy().astype(ORACLES[element])
    codes = float_codes(x, element)
    assert np.array_equal(codes.numpy(), oracle.view(np.uint8))
    assert np.array_equal(float_values(codes, element).numpy(), oracle.astype(np.float32))


@pytest.mark.parametrize("element", ORACLES)
def test_beyond_the_largest_number_saturates(element):
    largest = FLOAT_FORMATS[element].largest
    x = torch.tensor([10 * largest, -10 * largest, 3e38])
    values = float_values(float_codes(x, element), element)
    assert values.tolist() == [largest, -largest, largest]


def test_nf4_levels_are_the_published_ones():
    # Dettmers et al. 2023, appendix E.
    published = [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ]
    assert nf4_levels().tolist() == pytest.approx(published, abs=2e-7)


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=1),
    st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=16, unique=True),
)
def test_nearest_is_nearest(values, levels):
    x, grid = torch.tensor(values), torch.tensor(sorted(levels))
    chosen = grid[nearest(x, grid).long()].double()
    distance = (x.double()[:, None] - grid.double()).abs().amin(1)
    assert torch.equal((x.double() - chosen).abs(), distance)


def test_a_tie_between_neighbours_goes_to_the_even_pattern():
    # Midpoints of the patterns 0|1, 1|2 and 2|3 of E2M1, and the float32 numbers beside the second.
    x = torch.tensor([0.25, 0.75, 1.25, 0.75 - 2**-24, 0.75 + 2**-23])
    assert float_codes(x, "e2m1").tolist() == [0, 2, 2, 1, 2]


@pytest.mark.parametrize(
    ("element", "pattern"), [("e4m3", 127), ("e4m3", 255), ("e5m2", 124), ("e5m2", 253)]
)
def test_patterns_without_a_finite_number_are_named(element, pattern):
    assert not np.isfinite(np.array(pattern, np.uint8).view(ORACLES[element]).astype(np.float32))
    with pytest.raises(ValueError, match=rf"{element} patterns \[{pattern}\]"):
        float_values(torch.tensor([1, pattern], dtype=torch.uint8), element)


@pytest.mark.parametrize("levels", [nf4_levels, lambda: float_levels("e2m1")])
def test_tables_are_fresh_and_float32(levels):
    before = levels().tolist()
    levels().mul_(2)
    torch.set_default_dtype(torch.float16)
    try:
        assert levels().dtype == torch.float32
        assert levels().tolist() == before
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("element", ORACLES)
def test_codes_and_values_do_not_follow_the_default_dtype(element):
    x = torch.linspace(-8, 8, 100)
    codes = float_codes(x, element)
    values = float_values(codes, element)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(float_codes(x, element), codes)
        assert float_values(codes, element).dtype == torch.float32
        assert torch.equal(float_values(codes, element), values)
    finally:
        torch.set_default_dtype(torch.float32)


def test_blocks_leave_no_seam():
    x = torch.linspace(-8, 8, 2**20 + 5)
    codes = float_codes(x, "e3m2")
    assert torch.equal(codes[-100:], float_codes(x[-100:], "e3m2"))
    assert torch.equal(codes.view(-1, 9)[:, 3], float_codes(x.view(-1, 9)[:, 3], "e3m2"))
