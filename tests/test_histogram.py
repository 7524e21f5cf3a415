"""The streaming histogram: no count lost, no edge crossed, no memory gained."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.histogram import Histogram

finite = st.floats(-1e6, 1e6, width=32)
batches = st.lists(st.lists(finite, min_size=1, max_size=20), min_size=1, max_size=6)


def filled(*batches, bins=64):
    histogram = Histogram(bins=bins)
    for batch in batches:
        histogram.add(torch.as_tensor(batch, dtype=torch.float64).reshape(1, -1))
    return histogram


def same(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("counts", "zeros", "minimum", "maximum")
    ) and torch.equal(one.widths(), other.widths())


@given(batches)
def test_batches_in_any_order_equal_all_values_at_once(batches):
    at_once = filled([value for batch in batches for value in batch])
    assert same(filled(*batches), at_once)
    assert same(filled(*reversed(batches)), at_once)


@given(batches)
def test_counts_are_those_of_numpy_between_the_same_edges(batches):
    histogram = filled(*batches)
    values = np.concatenate(batches)
    # numpy closes the last bin at both ends; here no value ever reaches the last edge.
    expected, _ = np.histogram(values[values != 0], histogram.edges().numpy())
    assert histogram.counts[0].tolist() == expected.tolist()
    assert histogram.zeros.item() == (values == 0).sum()
    assert (histogram.minimum.item(), histogram.maximum.item()) == (values.min(), values.max())


def test_at_least_a_quarter_of_the_bins_is_used():
    for amax in (1.0, 1.999, 2.0, 1e-30, 3e38):
        histogram = filled([0.0, amax], bins=1024)
        assert amax < histogram.edges()[-1] <= 2 * amax
        assert histogram.counts[0, 768:].sum() == 1


def test_widening_by_a_huge_factor_loses_nothing():
    histogram = filled([-1e-30, 1e-30, 0.0], [3e38], [1.0])
    assert histogram.counts.sum() + histogram.zeros.sum() == 5


def test_channels_have_widths_of_their_own():
    histogram = Histogram(bins=16, channels=2)
    histogram.add(torch.tensor([[0.5, -0.25], [100.0, 0.0]]))
    assert histogram.widths().tolist() == [1 / 8, 128 / 8]
    assert histogram.counts.sum(1).tolist() == [2, 1]
    assert histogram.zeros.tolist() == [0, 1]
    assert histogram.edges(1)[-1] == 128


def test_float16_counts_as_its_exact_values():
    x = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0)).half()
    half, double = Histogram(), Histogram()
    half.add(x)
    double.add(x.double())
    assert same(half, double)


def test_resampling_on_its_own_edges_adds_the_zeros_only():
    histogram = filled([0.0, 0.0, 0.5, -0.5])
    counts = histogram.resampled(histogram.edges())
    assert torch.equal(counts - histogram.counts[0], 2 * (torch.arange(64) == 32))


@given(batches, st.integers(1, 50))
def test_resampling_loses_nothing_and_moves_nothing_by_more_than_a_bin(batches, cells):
    histogram = filled(*batches)
    values = np.concatenate(batches)
    amax = max(abs(values).max(), 1e-6)
    edges = torch.linspace(-amax, amax, 2 * cells + 1, dtype=torch.float64)
    counts = histogram.resampled(edges)
    assert counts.sum() == len(values)
    width = histogram.widths().item()
    below = counts.cumsum(0)
    for edge, count in zip(edges[1:-1], below[:-1], strict=True):
        certainly = (values < edge.item() - width).sum()
        possibly = (values <= edge.item() + width).sum()
        assert certainly <= count <= possibly


@pytest.mark.parametrize("bins", [0, 1, 3, 100, 2.0, True])
def test_bins_that_are_no_power_of_two_are_refused(bins):
    with pytest.raises(ValueError, match="bins"):
        Histogram(bins)


@pytest.mark.parametrize("channels", [0, -1, 1.5])
def test_channels_are_at_least_one(channels):
    with pytest.raises(ValueError, match="channels"):
        Histogram(channels=channels)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_nothing_is_counted(bad):
    histogram = filled([1.0])
    before = histogram.counts.clone()
    with pytest.raises(ValueError, match="finite"):
        histogram.add(torch.tensor([[2.0, bad]]))
    assert torch.equal(histogram.counts, before)
    assert histogram.maximum.item() == 1.0


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 0), (1, 2, 3)])
def test_rows_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(1, values\)"):
        Histogram().add(torch.zeros(shape))
