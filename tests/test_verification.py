"""Verification: measured numbers beside their limits."""

import numpy as np
import pytest
import torch
from torch import nn

from labkit.constraints import Constraints
from labkit.evaluate import Accuracy
from labkit.files import header_bytes, save
from labkit.fusion import Limits
from labkit.latency import Latency, LatencyReport
from labkit.quantize import quantize_model
from labkit.requirement import Requirement
from labkit.verification import (
    FLOAT,
    FLOAT_ENGINE,
    QUANTIZED,
    Loss,
    check_bytes,
    check_loss,
    check_seconds,
    file_bytes,
    time_models,
)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe 1998, table II, method 10.
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_interval_is_newcombes(first, second, low, high):
    loss = Loss.of(Accuracy.of(*first), Accuracy.of(*second))
    assert (loss.low, loss.high) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_covers_the_true_difference_often_enough():
    rng = np.random.default_rng(0)
    n, p, q = 200, 0.95, 0.9
    inside = 0
    for a, b in zip(rng.binomial(n, p, 1000), rng.binomial(n, q, 1000), strict=True):
        loss = Loss.of(Accuracy.of(int(a), n), Accuracy.of(int(b), n))
        inside += loss.low <= p - q <= loss.high
    assert inside / 1000 > 0.93


def test_a_quality_without_interval_is_subtracted():
    loss = Loss.of(0.9, 0.75)
    assert loss.value == pytest.approx(0.15)
    assert loss.low is None and loss.text == "0.15"


def test_a_loss_is_kept_up_to_its_limit_and_missed_beyond():
    before = Accuracy.of(100, 100)
    assert check_loss(Loss.of(before, Accuracy.of(97, 100)), 0.03).kept
    assert not check_loss(Loss.of(before, Accuracy.of(96, 100)), 0.03).kept


def test_a_loss_is_surely_kept_when_its_whole_interval_is():
    before = Accuracy.of(9_900, 10_000)
    check = check_loss(Loss.of(before, Accuracy.of(9_890, 10_000)), 0.03)
    assert check.kept and check.sure and check.text.endswith("asked: kept")


def test_a_miss_beyond_doubt_says_so():
    check = check_loss(Loss.of(Accuracy.of(99, 100), Accuracy.of(50, 100)), 0.03)
    assert not check.kept and check.text.endswith("missed beyond doubt")


def test_a_model_that_became_better_keeps_a_limit_of_zero():
    assert check_loss(Loss.of(Accuracy.of(90, 100), Accuracy.of(91, 100)), 0.0).kept


def test_the_bytes_are_those_of_the_file(tmp_path):
    quantized, report = quantize_model(nn.Sequential(nn.Linear(20, 10)), bits=3)
    save(quantized, tmp_path / "q.safetensors")
    written = (tmp_path / "q.safetensors").stat().st_size
    assert file_bytes(quantized) == written
    assert written == report.quantized_bytes + header_bytes(tmp_path / "q.safetensors")


def test_a_file_may_have_as_many_bytes_as_asked_and_not_one_more():
    assert check_bytes(100, 100).kept
    assert not check_bytes(101, 100).kept


def times(quantized, before=1.0, spread=0.0):
    """A report of one run, with a spread of the ratio."""
    rows = [
        Latency(name, s, s * (1 - spread), s * (1 + spread), s / before, low, high)
        for name, s, low, high in (
            (FLOAT, before, 1, 1),
            (FLOAT_ENGINE, before / 2, 0.5, 0.5),
            (QUANTIZED, quantized, quantized / before - spread, quantized / before + spread),
        )
    ]
    return LatencyReport(tuple(rows), False, 30, 1, 0.0)


def limits(**asked):
    return Limits.of(Constraints(**asked), Requirement(), 100, None)


@pytest.mark.parametrize(("seconds", "kept"), [(0.4, True), (0.6, False)])
def test_a_share_of_time_is_one_of_the_float_model_in_pytorch(seconds, kept):
    check = check_seconds(times(seconds), limits(compute_share=0.5))
    assert check.kept is kept and check.limit == 0.5


@pytest.mark.parametrize(("seconds", "kept"), [(0.4, True), (0.6, False)])
def test_a_latency_is_counted_by_the_clock(seconds, kept):
    check = check_seconds(times(seconds, before=7.0), limits(latency_seconds=0.5))
    assert check.kept is kept


def test_a_time_whose_interval_reaches_over_the_limit_is_not_surely_kept():
    check = check_seconds(times(0.45, spread=0.1), limits(compute_share=0.5))
    assert check.kept and not check.sure and "not beyond doubt" in check.text


def test_the_share_of_the_engine_is_told_apart_from_that_of_the_bits():
    assert (
        "0.80 of its 500 ms on the same engine"
        in check_seconds(times(0.4), limits(compute_share=0.5)).text
    )


def test_three_models_are_timed_in_one_run():
    net = nn.Sequential(nn.Linear(32, 16)).train()
    quantized, _ = quantize_model(net, bits=8)
    found = time_models(net, quantized, torch.zeros(1, 32), rounds=3)
    assert [row.name for row in found.rows] == [FLOAT, FLOAT_ENGINE, QUANTIZED]
    assert net.training
