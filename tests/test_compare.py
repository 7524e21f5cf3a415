"""Comparing two models: exact tests and intervals, against scipy, R's published values, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, chi2
from torch import nn

from labkit.compare import Comparison, compare_models, cosine, mcnemar, paired_interval, sqnr
from labkit.data import load_mnist
from labkit.evaluate import accuracy
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp

counts = st.integers(0, 400)


@given(counts, counts)
def test_mcnemar_is_the_exact_binomial_test(b, c):
    wanted = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_of_large_counts_approaches_chi_square():
    b, c = 50_400, 49_600
    corrected = (abs(b - c) - 1) ** 2 / (b + c)
    assert mcnemar(b, c) == pytest.approx(chi2.sf(corrected, 1), rel=1e-3)


@pytest.mark.parametrize(
    ("b", "c", "n", "confidence", "low", "high"),
    [
        # Fagerland, Lydersen, Laake 2013 (data of Bentur 2009), as R's ratesci gives it.
        (7, 1, 21, 0.95, -0.517, -0.026),
        # R's PropCIs, scoreci.mp(25, 28, 618, 0.90).
        (25, 28, 618, 0.90, -0.0148, 0.0247),
    ],
)
def test_the_interval_is_that_of_published_examples(b, c, n, confidence, low, high):
    ends = paired_interval(b, c, n, confidence)
    assert ends == pytest.approx((low, high), abs=6e-4 if n == 21 else 6e-5)


def test_models_that_never_differ_leave_room_for_what_was_not_seen():
    # By hand: n D² = z² D (1 - D), so that the ends are ± z² / (n + z²).
    z2 = chi2.ppf(0.95, 1)
    assert paired_interval(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))


def test_the_ends_are_where_the_likelihood_says():
    """At each end, the score test with a maximized likelihood gives exactly z."""
    z = math.sqrt(chi2.ppf(0.95, 1))
    for b, c, n in [(12, 9, 1000), (3, 0, 50), (40, 2, 60), (1, 30, 31)]:
        for end in paired_interval(b, c, n):

            def cost(p, end=end, b=b, c=c, n=n):
                same = 1 - 2 * p - end
                parts = [(b, p), (c, p + end), (n - b - c, same)]
                return -sum(k * math.log(max(q, 1e-300)) for k, q in parts if k)

            ends = (max(0.0, -end), (1 - end) / 2)
            options = {"xatol": 1e-12}
            p = minimize_scalar(cost, bounds=ends, method="bounded", options=options).x
            variance = n * (2 * p + end * (1 - end))
            assert abs(c - b - n * end) / math.sqrt(variance) == pytest.approx(z, rel=2e-3)


@st.composite
def tables(draw):
    n = draw(st.integers(1, 2000))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


@given(tables())
def test_the_interval_holds_the_estimate_and_mirrors(table):
    b, c, n = table
    low, high = paired_interval(b, c, n)
    assert -1 <= low <= (c - b) / n <= high <= 1
    mirrored = paired_interval(c, b, n)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


@given(tables())
def test_zero_lies_inside_exactly_when_mcnemars_statistic_is_small(table):
    b, c, n = table
    statistic = (c - b) ** 2 / (b + c) if b + c else 0.0
    low, high = paired_interval(b, c, n)
    if abs(statistic - chi2.ppf(0.95, 1)) > 1e-6:
        assert (low <= 0 <= high) == (statistic < chi2.ppf(0.95, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 5), "only_first must not be negative, got -1"),
        ((1, 2.5, 5), "only_second must be a whole number"),
        ((3, 3, 5), "got n=5, only_first=3 and only_second=3; needs n >= 1"),
        ((0, 0, 0), "got n=0"),
        ((0, 0, 5, 95), "got confidence 95"),
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Comparison.of(*arguments)


def test_it_says_in_words_what_is_not_resolved():
    assert str(Comparison.of(1, 31, 1000)) == (
        "+3.0 points [+2.1, +4.3] on 1000 samples, p < 0.001: resolved (measured)"
    )
    assert str(Comparison.of(0, 0, 1000)) == (
        "0.0 points [-0.4, +0.4] on 1000 samples, p = 1: not resolved (measured)"
    )


def test_a_few_samples_resolve_only_what_the_exact_test_confirms():
    # 5 to 0: the interval leaves 0 out, but one split in 16 is as uneven by chance.
    comparison = Comparison.of(0, 5, 100)
    assert comparison.low > 0 and comparison.p_value == 0.0625
    assert not comparison.resolved


def test_two_models_are_compared_sample_by_sample():
    torch.manual_seed(0)
    first, second = nn.Linear(5, 3), nn.Linear(5, 3)
    images, labels = torch.randn(200, 5), torch.randint(0, 3, (200,))
    comparison = compare_models(first, second, images, labels, batch_size=7)
    right = [model(images).argmax(1) == labels for model in (first, second)]
    assert comparison.only_first == sum(a and not b for a, b in zip(*right, strict=True))
    assert comparison.only_second == sum(b and not a for a, b in zip(*right, strict=True))
    values = [accuracy(model, images, labels).value for model in (first, second)]
    assert comparison.difference == pytest.approx(values[1] - values[0])


@pytest.mark.parametrize("build", [mnist_mlp, mnist_cnn])
def test_mnist_at_eight_bits_is_not_told_from_float_and_channels_rescue_two_bits(build):
    mnist, model = load_mnist(), build()
    test = mnist.test_images, mnist.test_labels
    static, _ = quantize_model(model, "static", calibration_data=[mnist.train_images[:200]])
    change = compare_models(model, static, *test)
    assert abs(change.difference) <= 0.005 and not change.resolved
    tensor, channel = (
        quantize_model(model, bits=2, granularity=granularity)[0]
        for granularity in ("tensor", "channel")
    )
    assert compare_models(model, tensor, *test).high < -0.5
    assert compare_models(tensor, channel, *test).low > 0.15


def test_cosine_is_the_mean_over_samples():
    torch.manual_seed(0)
    first, second = torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    by_hand = [
        (a.flatten() @ b.flatten() / (a.norm() * b.norm())).item()
        for a, b in zip(first.double(), second.double(), strict=True)
    ]
    assert cosine(first, second) == pytest.approx(sum(by_hand) / 4)


def test_cosine_of_zeros_and_of_extreme_lengths():
    zero, one = torch.zeros(1, 3), torch.ones(1, 3)
    assert cosine(zero, zero) == 1 and cosine(zero, one) == 0
    assert cosine(one * 1e-38, one * 1e38) == pytest.approx(1)
    assert cosine(one, -one) == pytest.approx(-1)


def test_sqnr_is_ten_times_the_logarithm_of_the_power_ratio():
    torch.manual_seed(0)
    x = torch.randn(1000)
    noise = torch.randn(1000)
    noise *= 0.01 * x.norm() / noise.norm()
    assert sqnr(x, x + noise) == pytest.approx(40, abs=1e-3)
    assert sqnr(x, x) == math.inf and sqnr(torch.zeros(2), torch.ones(2)) == -math.inf


@pytest.mark.parametrize("measure", [cosine, sqnr])
def test_outputs_that_cannot_be_compared_are_refused(measure):
    with pytest.raises(ValueError, match=r"same shape .* got \(2, 3\) and \(3, 2\)"):
        measure(torch.ones(2, 3), torch.ones(3, 2))
    with pytest.raises(ValueError, match="at least one value"):
        measure(torch.ones(0, 3), torch.ones(0, 3))
    with pytest.raises(ValueError, match="NaN or infinity"):
        measure(torch.ones(2), torch.tensor([1.0, math.nan]))
