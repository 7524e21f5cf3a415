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
