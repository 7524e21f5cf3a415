"""Accuracy and its interval, against scipy and by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import nn

from labkit.evaluate import Accuracy, accuracy, quality_text, wilson_interval


@given(st.integers(1, 20_000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy(n, share, confidence):
    successes = round(share * n)
    wanted = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, n, confidence)
    assert math.isclose(low, wanted.low, rel_tol=1e-9, abs_tol=1e-12)
    assert math.isclose(high, wanted.high, rel_tol=1e-9, abs_tol=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


def test_wilson_by_hand():
    # All right: the interval is [n / (n + z²), 1] with z = 1.959964.
    low, high = wilson_interval(100, 100)
    assert high == 1.0 and math.isclose(low, 100 / (100 + 1.959963984540054**2))
    assert wilson_interval(0, 100) == (0.0, pytest.approx(1 - low))


@pytest.mark.parametrize(
    ("successes", "n", "confidence"),
    [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0), (1, 5, 1), (1, 5, 95), (1, 5, math.nan)],
)
def test_wilson_refuses_nonsense(successes, n, confidence):
    with pytest.raises(ValueError, match=r"got .* needs"):
        wilson_interval(successes, n, confidence)


def test_the_report_reads_well():
    report = Accuracy.of(941, 1000)
    assert str(report) == "94.1 % [92.5, 95.4] of 1000 (measured)"
    assert report.low < report.value < report.high
    with pytest.raises(AttributeError):
        report.correct = 5


def test_accuracy_counts_right_answers_in_any_batch_size():
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.5, 0.6]])
    labels = torch.tensor([1, 0, 0, 0, 0])
    for batch_size in (1, 2, 5, 100):
        report = accuracy(lambda x: x, scores, labels, batch_size=batch_size)
        assert (report.correct, report.n, report.value) == (3, 5, 0.6)


def test_accuracy_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.9), nn.Linear(2, 2)).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)
    accuracy(model, images, labels)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(RuntimeError):
        accuracy(model, torch.ones(4, 3), labels)
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_accuracy_refuses_what_means_nothing():
    with pytest.raises(ValueError, match="at least one image"):
        accuracy(nn.Identity(), torch.ones(0, 2), torch.ones(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(3,\).*one label for each"):
        accuracy(nn.Identity(), torch.ones(2, 2), torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="NaN"):
        accuracy(nn.Identity(), torch.full((2, 2), math.nan), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("quality", "text"),
    [
        (None, "not measured"),
        (2 / 3, "0.6667"),
        (torch.tensor(0.5).item(), "0.5"),
        (Accuracy.of(941, 1000), "94.1 % [92.5, 95.4] of 1000 (measured)"),
    ],
)
def test_a_quality_reads_the_same_everywhere(quality, text):
    assert quality_text(quality) == text
