"""The prediction: sums of what layers cost alone, read through plans that were measured."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from labkit.evaluate import Accuracy
from labkit.features import encode_model
from labkit.mixed import widths_of
from labkit.prediction import Prediction, best_plans, check_prediction, number, random_plans
from labkit.quantize import quantize_model

BITS = (2, 4, 8)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )


@pytest.fixture(scope="module")
def quality(net):
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(1))
    wanted = net(x).detach()
    return lambda model: -(model(x) - wanted).detach().square().mean().item()


@pytest.fixture(scope="module")
def features(net, quality):
    return encode_model(net, evaluate=quality, example=torch.zeros(1, 12), bits=BITS, rounds=3)


def test_what_is_measured_is_the_loss_of_each_plan_beside_its_sum(net, quality, features):
    choices = np.array([[0, 1, 2], [2, 2, 2], [0, 0, 0]])
    checked = check_prediction(net, features, quality, plans=choices)
    sums = [features.loss[range(3), choice].sum() for choice in choices]
    losses = [
        quality(net) - quality(quantize_model(net, bits=widths_of(features.sensitivity, c))[0])
        for c in choices
    ]
    order = np.argsort(sums)
    np.testing.assert_allclose(checked.predicted, np.array(sums)[order])
    np.testing.assert_allclose(checked.measured, np.array(losses)[order], atol=1e-7)


def test_the_best_predicted_plans_are_measured_with_the_random_ones(net, quality, features):
    assert len(check_prediction(net, features, quality, plans=8)) == 8 + 4


def test_the_same_seed_draws_the_same_plans_and_another_seed_others(features):
    first, again, other = (random_plans(features, 20, seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_random_plans_reach_from_the_finest_to_the_coarsest(features):
    means = random_plans(features, 200).mean(axis=1)
    assert means.min() < 0.4 and means.max() > 1.6


def test_the_best_plans_are_within_their_bytes_and_no_random_plan_beats_them(features):
    layers = np.arange(3)
    for best in best_plans(features, 5):
        cost, used = (t[layers, best].sum() for t in (features.loss, features.bytes))
        for other in random_plans(features, 100):
            if features.bytes[layers, other].sum() <= used:
                assert features.loss[layers, other].sum() >= cost - 1e-12


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    assert Prediction.of(a, b).rank_correlation == pytest.approx(spearmanr(a, b).statistic)


plans = st.lists(st.tuples(st.floats(0, 10), st.floats(-1, 1)), min_size=1, max_size=30)


@given(plans, st.floats(0, 10), st.floats(0, 10))
def test_a_larger_sum_never_stands_for_a_smaller_loss(pairs, one, two):
    checked = Prediction.of(*map(list, zip(*pairs, strict=True)))
    low, high = sorted((one, two))
    assert checked.loss(low) <= checked.loss(high) + 1e-12


@given(plans, st.floats(-1, 1))
def test_of_the_plans_up_to_the_trusted_sum_at_most_the_risk_misses(pairs, limit):
    checked = Prediction.of(*map(list, zip(*pairs, strict=True)))
    most = checked.most(limit, risk=0.1)
    below = checked.measured[checked.predicted < most]
    assert not len(below) or (below > limit).mean() <= 0.1 + 1e-12


def test_more_risk_trusts_a_larger_sum():
    predicted = np.arange(100.0)
    measured = (np.arange(100) % 10 == 9) * 1.0
    measured[60:] = 1
    checked = Prediction.of(predicted, measured)
    assert checked.most(0.5, risk=0.0) == 8
    assert checked.most(0.5, risk=0.1) == 58


def test_where_all_plans_miss_no_sum_is_trusted():
    assert Prediction.of([1.0, 2.0], [0.5, 0.6]).most(0.1) == -math.inf


def test_the_margin_is_what_is_kept_back():
    # The curve through the plans stays below 0.1 up to 4, but one in two misses after 2.
    checked = Prediction.of([1, 2, 3, 4], [0.0, 0.0, 0.2, 0.0])
    assert checked.most(0.1) == 2
    assert checked.margin(0.1) == pytest.approx(1 - 2 / 4)


def test_a_prediction_that_is_right_needs_no_margin():
    assert Prediction.of([0.01, 0.02, 0.03], [0.01, 0.02, 0.03]).margin(0.02) == 0


def test_a_quality_is_a_number_with_or_without_an_interval():
    assert number(Accuracy.of(3, 4)) == number(0.75) == 0.75


@pytest.mark.parametrize(
    "wrong", [([], []), ([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]])], ids=["none", "two", "table"]
)
def test_plans_without_both_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="for each plan"):
        Prediction.of(*wrong)


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        Prediction.of([1.0], [math.nan])


def test_no_plans_are_refused(features):
    with pytest.raises(ValueError, match="at least 1"):
        random_plans(features, 0)
    with pytest.raises(ValueError, match="at least 1"):
        best_plans(features, 0)
