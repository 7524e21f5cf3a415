"""Quantization error: exact split, closed forms, published tables."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from labkit.affine import fake_quantize
from labkit.errors import (
    gaussian_mse,
    optimal_gaussian_step,
    quantization_error,
    uniform_sqnr_db,
)
from labkit.qparams import QParams, choose_qparams


@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=1),
    st.floats(0.01, 100),
    st.sampled_from(range(2, 9)),
)
def test_rounding_and_clipping_add_up_to_the_whole(values, scale, bits):
    x = torch.tensor(values)
    qparams = QParams(scale, 1, 0, 2**bits - 1)
    report = quantization_error(x, qparams)
    whole = (fake_quantize(x, qparams).double() - x.double()).square().mean().item()
    assert report.rounding_mse + report.clipping_mse == report.mse
    assert report.mse == pytest.approx(whole, rel=1e-12)


def test_split_by_hand():
    # The grid is 0, 1, 2, 3; -0.5 and 5 lie outside, 1.25 inside.
    report = quantization_error(torch.tensor([-0.5, 5.0, 1.25, 2.0]), QParams(1.0, 0, 0, 3))
    assert report.clipping_mse == (0.25 + 4) / 4
    assert report.rounding_mse == 0.0625 / 4
    assert report.max_abs == 2.0
    assert report.predicted_mse == 1 / 12
    assert report.sqnr_db == pytest.approx(10 * math.log10((0.25 + 25 + 1.5625 + 4) / 4.3125))


@pytest.mark.parametrize("bits", range(2, 9))
def test_full_scale_uniform_data_gain_six_decibels_a_bit(bits):
    # 2^bits cells of equal width, filled evenly: the case of the closed form.
    levels = 2**bits
    x = (torch.arange(levels * 1000, dtype=torch.float64) + 0.5) / 1000 - levels / 2
    # The grid of cell centres is symmetric about 0, so it needs half a step of shift.
    qparams = QParams(1.0, levels // 2, 0, levels - 1)
    noise = quantization_error(x - 0.5, qparams).mse
    signal = x.square().mean().item()
    assert 10 * math.log10(signal / noise) == pytest.approx(uniform_sqnr_db(bits), abs=1e-3)
    assert uniform_sqnr_db(bits) == pytest.approx(6.0206 * bits, abs=1e-3)


def test_uniform_noise_prediction_holds_for_uniform_data():
    x = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for bits in (4, 6, 8):
        report = quantization_error(x, choose_qparams(x, bits))
        assert report.mse == pytest.approx(report.predicted_mse, rel=0.05)


def test_error_is_proportional_to_the_scale():
    x = torch.rand(50_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    qparams = choose_qparams(x, 6)
    doubled = choose_qparams(2 * x, 6)
    one, two = quantization_error(x, qparams), quantization_error(2 * x, doubled)
    assert two.max_abs == 2 * one.max_abs
    assert two.mse == pytest.approx(4 * one.mse, rel=1e-12)


@pytest.mark.parametrize(
    ("bits", "step", "mse"),
    # Max 1960, table II; 8 bits from Hui & Neuhoff 2001, table I.
    [(2, 0.9957, 0.1188), (3, 0.5860, 0.03744), (4, 0.3352, 0.01154), (5, 0.1881, 0.003495)],
)
def test_max_1960(bits, step, mse):
    found_step, found_mse = optimal_gaussian_step(bits)
    assert found_step == pytest.approx(step, abs=6e-5)
    assert found_mse == pytest.approx(mse, rel=4e-4)


@pytest.mark.parametrize(("step", "levels"), [(0.3, 4), (1.0, 4), (0.2, 16), (0.05, 256)])
def test_gaussian_mse_is_the_integral(step, levels):
    total = 0.0
    for cell in range(levels):
        value = (cell - levels / 2 + 0.5) * step
        left = -math.inf if cell == 0 else value - step / 2
        right = math.inf if cell == levels - 1 else value + step / 2
        total += quad(
            lambda x, v=value: (x - v) ** 2 * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
            left,
            right,
        )[0]
    assert gaussian_mse(step, levels) == pytest.approx(total, rel=1e-7)


@pytest.mark.parametrize("options", [{"axis": 0}, {"axis": 1}, {"group_size": 4}])
def test_granularity_is_the_mean_over_the_parts(options):
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(1)) * 3
    qparams = choose_qparams(x, 3, symmetric=True, scale_rule="full", **options)
    report = quantization_error(x, qparams)
    parts = {"axis=0": x, "axis=1": x.t()}.get(f"axis={options.get('axis')}", x.reshape(-1, 4))
    alone = [
        quantization_error(part, choose_qparams(part, 3, symmetric=True, scale_rule="full"))
        for part in parts
    ]
    for name in ("mse", "rounding_mse", "clipping_mse", "predicted_mse"):
        mean = sum(getattr(one, name) for one in alone) / len(alone)
        assert getattr(report, name) == pytest.approx(mean, rel=1e-9)
    assert report.clipping_mse > 0


def test_no_error_is_infinite_decibels():
    report = quantization_error(torch.tensor([0.0, 1.0]), QParams(1.0, 0, 0, 3))
    assert (report.mse, report.sqnr_db) == (0.0, math.inf)


def test_an_infinite_square_does_not_become_nan():
    report = quantization_error(torch.tensor([1e200], dtype=torch.float64), QParams(1.0, 0, 0, 3))
    assert (report.mse, report.clipping_mse, report.rounding_mse) == (math.inf, math.inf, 0.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: quantization_error(torch.empty(0), QParams(1.0, 0, 0, 3)), "empty"),
        (lambda: quantization_error(torch.tensor([math.nan]), QParams(1.0, 0, 0, 3)), "finite"),
        (lambda: gaussian_mse(0.0, 4), "positive"),
        (lambda: gaussian_mse(1.0, 5), "even"),
        (lambda: optimal_gaussian_step(1), "from 2 to 8"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
