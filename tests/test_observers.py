"""Observers: streaming equals all at once, closed-form optima, ONNX Runtime's calibrator."""

import contextlib
import gc
import io
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization.calibrate import HistogramCollector
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri

from labkit.affine import choose_qparams, fake_quantize, quantize
from labkit.errors import optimal_gaussian_step, quantization_error
from labkit.observers import (
    OBSERVERS,
    EntropyObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
    make_observer,
)

NAMES = list(OBSERVERS)
GRIDS = [
    {"symmetric": symmetric, "signed": signed} for symmetric in (False, True) for signed in (0, 1)
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def watched(name, *batches, **options):
    observer = make_observer(name, **options)
    for batch in batches:
        observer.observe(batch)
    return observer


# Streaming.


def uneven_batches(seed=0):
    """Batches of different sizes, dtypes and ranges: the widest comes neither first nor last."""
    scales = (0.1, 1.0, 30.0, 0.01, 3.0)
    return [normal(50 + 37 * i, 3, seed=seed + i) * scale for i, scale in enumerate(scales)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("name", ["minmax", "percentile", "mse", "entropy"])
def test_batches_give_what_all_data_at_once_give(name, axis, grid):
    batches = uneven_batches()
    streamed = watched(name, *batches, axis=axis, **grid).qparams()
    at_once = watched(name, torch.cat(batches[::-1]), axis=axis, **grid).qparams()
    assert torch.equal(streamed.scale, at_once.scale)
    assert torch.equal(streamed.zero_point, at_once.zero_point)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_min_max_equals_choosing_from_all_values(axis, grid):
    x = normal(4, 5, 6)
    expected = choose_qparams(x, 4, axis=axis, **grid)
    qparams = watched("minmax", x[..., :2], x[..., 2:], bits=4, **grid).qparams()
    if axis is not None:
        qparams = watched("minmax", x / 2, x, bits=4, axis=axis, **grid).qparams()
    assert torch.equal(qparams.scale, expected.scale)
    assert torch.equal(qparams.zero_point, expected.zero_point)
    assert qparams.axis == expected.axis


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30), st.floats(0.01, 1))
def test_moving_average_follows_its_formula(peaks, constant):
    observer = MovingAverageObserver(averaging_constant=constant)
    expected = peaks[0]
    for peak in peaks:
        observer.observe(torch.tensor([peak]))
        expected += constant * (peak - expected)
    low, high = observer.range()
    assert low == high == pytest.approx(expected)


def test_moving_average_equals_torchs():
    theirs = torch.ao.quantization.MovingAverageMinMaxObserver(averaging_constant=0.1)
    ours = MovingAverageObserver(averaging_constant=0.1)
    for batch in uneven_batches():
        theirs(batch)
        ours.observe(batch)
    assert [end.item() for end in ours.range()] == pytest.approx(
        [theirs.min_val.item(), theirs.max_val.item()]
    )


@pytest.mark.parametrize("name", NAMES)
def test_memory_after_1000_batches_is_that_after_10(name):
    x = normal(16, 16)
    observer = watched(name, x * 1e-3)
    tracemalloc.start()
    try:
        sizes = []
        for batch in range(1, 1001):
            observer.observe(x * (1 + batch / 100))
            if batch in (10, 1000):
                kept = vars(getattr(observer, "histogram", observer)).values()
                gc.collect()
                held = sum(value.nbytes for value in kept if hasattr(value, "nbytes"))
                sizes.append((held, tracemalloc.get_traced_memory()[0]))
    finally:
        tracemalloc.stop()
    (held, traced), (held_later, traced_later) = sizes
    assert held_later == held > 0
    # Python's own small objects: what torch and numpy hold is counted above.
    assert traced_later <= 1.05 * traced + 10_000


# Closed forms. E(step, zero point) of a grid that holds 0 = its own levels, for a known density.


def cells(step, lowest, highest):
    values = np.arange(lowest, highest + 1) * step
    edges = np.concatenate(([-np.inf], values[:-1] + step / 2, [np.inf]))
    return values, edges


def gaussian_error(step, lowest, highest):
    """∫ (x - v)² φ(x) dx = [(1 + v²) Φ - (x - 2 v) φ], cell by cell."""
    values, edges = cells(step, lowest, highest)
    finite = np.where(np.isfinite(edges), edges, 0.0)
    density = np.where(np.isfinite(edges), np.exp(-(finite**2) / 2) / math.sqrt(2 * math.pi), 0)

    def integral(side):
        return (1 + values**2) * ndtr(edges[side]) - (finite[side] - 2 * values) * density[side]

    return float(np.sum(integral(slice(1, None)) - integral(slice(None, -1))))


def laplace_error(step, lowest, highest):
    """∫ (x - v)² e^-x / 2 dx = -[(x - v)² + 2 (x - v) + 2] e^-x / 2, mirrored below 0."""
    values, edges = cells(step, lowest, highest)

    def tail(start, value):
        start = np.where(np.isfinite(start), start, 1e3)
        return ((start - value) ** 2 + 2 * (start - value) + 2) * np.exp(-start) / 2

    left, right = edges[:-1], edges[1:]
    above = tail(np.maximum(left, 0), values) - tail(np.maximum(right, 0), values)
    below = tail(np.maximum(-right, 0), -values) - tail(np.maximum(-left, 0), -values)
    return float(np.sum(above + below))


DENSITIES = {
    # name: closed-form error, inverse of the distribution function
    "gaussian": (gaussian_error, ndtri),
    "laplace": (
        laplace_error,
        lambda p: np.where(p < 0.5, np.log(2 * p), -np.log(2 * np.minimum(p, 1 - p))),
    ),
}


def least(error, zero_points, bits):
    def best(zero_point):
        ends = -zero_point, 2**bits - 1 - zero_point
        # Widths of the range from 1 to 40 standard deviations.
        steps = np.geomspace(1, 40, 60) / 2**bits
        near = steps[np.argmin([error(step, *ends) for step in steps])]
        bounds = (near / 1.1, near * 1.1)
        return minimize_scalar(
            error, args=ends, bounds=bounds, method="bounded", options={"xatol": 1e-9}
        ).fun

    return min(best(zero_point) for zero_point in zero_points)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("grid", [GRIDS[0], GRIDS[3]])
def test_mse_lands_within_one_percent_of_the_closed_form_optimum(bits, density, grid):
    error, inverse = DENSITIES[density]
    # Values evenly spaced in probability: the density itself, as good as sampled.
    x = torch.from_numpy(inverse((np.arange(400_000) + 0.5) / 400_000)).float()
    qparams = watched("mse", x, bits=bits, **grid).qparams()
    zero_point = qparams.zero_point.item() - qparams.quant_min
    found = error(qparams.scale.item(), -zero_point, 2**bits - 1 - zero_point)
    half = 2 ** (bits - 1)
    # The best zero point lies in the middle of symmetric data; a neighbour may serve as well.
    zero_points = [half] if grid["symmetric"] else {half - 1, half}
    assert found <= 1.01 * least(error, zero_points, bits)


@pytest.mark.parametrize("bits", [7, 8])
def test_with_many_levels_the_optimum_is_that_of_max(bits):
    # A grid that must hold 0 costs less and less against Max's mid-rise grid.
    _, published = optimal_gaussian_step(bits)
    error, _ = DENSITIES["gaussian"]
    assert least(error, [2 ** (bits - 1)], bits) == pytest.approx(published, rel=0.02)


def test_closed_forms_agree_with_sampling():
    for name, (error, inverse) in DENSITIES.items():
        x = inverse((np.arange(10**6) + 0.5) / 10**6)
        values, edges = cells(0.7, -2, 1)
        restored = values[np.searchsorted(edges, x) - 1]
        assert error(0.7, -2, 1) == pytest.approx(np.mean((x - restored) ** 2), rel=2e-3), name


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("kind", ["relu", "gelu", "shifted", "outlier", "two_humps"])
def test_mse_is_as_good_as_an_exhaustive_search(kind, bits, grid):
    z = normal(5_000)
    x = {
        "relu": z.relu(),
        "gelu": torch.nn.functional.gelu(3 * z),
        "shifted": z + 4,
        "outlier": torch.cat((z, torch.tensor([60.0]))),
        "two_humps": torch.where(z > 0, z + 5, z / 4 - 1),
    }[kind]
    found = quantization_error(x, watched("mse", x, bits=bits, **grid).qparams()).mse
    best = math.inf
    for low in np.linspace(0.05, 1, 20) if not grid["symmetric"] and x.min() < 0 else [1.0]:
        for high in np.geomspace(0.02, 1, 40):
            # A symmetric grid follows its larger magnitude.
            ends = [x.min() * (high if grid["symmetric"] else low), x.max() * high]
            candidate = choose_qparams(torch.tensor(ends), bits, **grid)
            best = min(best, quantization_error(x, candidate).mse)
    assert found <= 1.01 * best


def test_mse_clips_an_outlier_that_min_max_keeps():
    x = torch.cat((normal(100_000), torch.tensor([100.0])))
    errors = {
        name: quantization_error(x[:-1], watched(name, x, bits=4).qparams()).mse
        for name in ("minmax", "mse", "percentile", "entropy")
    }
    assert all(errors[name] < errors["minmax"] / 10 for name in ("mse", "percentile", "entropy"))


# ONNX Runtime's calibrator.


def onnxruntime_range(x, method, symmetric=False, bins=2048, levels=128, percentile=99.99):
    collector = HistogramCollector(method, symmetric, bins, levels, percentile, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": x.numpy()})
        low, high, *_ = collector.compute_collection_result()["x"]
    return float(low), float(high)


def samples(seed):
    # A number of values of which no percentage is whole: a tie would be decided by float noise.
    generator, n = np.random.default_rng(seed), 20_011
    for x in (
        generator.normal(size=n),
        generator.laplace(size=n) * 1e-3,
        np.maximum(generator.normal(size=n), 0) * 7,
        generator.gamma(2.0, size=n) - 1,
    ):
        yield torch.from_numpy(x.astype(np.float32))


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99, 99.999])
@pytest.mark.parametrize("symmetric", [False, True])
def test_percentile_agrees_with_onnxruntime_within_one_bin(symmetric, percentile):
    for x in samples(0):
        bin_width = 2 * x.abs().max().item() / 2048
        observer = watched("percentile", x, symmetric=symmetric, percentile=percentile)
        theirs = onnxruntime_range(x, "percentile", symmetric, percentile=percentile)
        for ours, their in zip(observer.range(), theirs, strict=True):
            assert ours.item() == pytest.approx(their, abs=bin_width * (1 + 1e-5))


@pytest.mark.parametrize(("bins", "levels", "seeds"), [(256, 128, 4), (512, 16, 2), (2048, 256, 1)])
def test_entropy_agrees_with_onnxruntime_within_one_bin_on_the_same_histogram(bins, levels, seeds):
    for seed in range(seeds):
        for x in samples(seed):
            # Scaled so that their histogram, which ends at the largest magnitude, has our edges.
            x = x * (4 / x.abs().max())
            observer = watched("entropy", x, bins=bins, levels=levels, count_zeros=True)
            theirs = onnxruntime_range(x, "entropy", bins=bins, levels=levels)
            for ours, their in zip(observer.range(), theirs, strict=True):
                assert ours.item() == pytest.approx(their, abs=8 / bins * (1 + 1e-5))


@pytest.mark.parametrize("bits", [4, 8])
def test_zeros_do_not_decide_where_entropy_cuts(bits):
    x = normal(20_000)
    with_zeros = torch.cat((x, torch.zeros(200_000)))
    alone, piled = (watched("entropy", data, bits=bits).range() for data in (x, with_zeros))
    assert alone == piled
    counted = watched("entropy", with_zeros, bits=bits, count_zeros=True).range()
    assert counted[1] < alone[1]


def test_entropy_agrees_with_onnxruntime_at_other_peaks_nearly_always():
    # The divergence is so jagged that a handful of counts on the other side of an edge may decide
    # for another candidate; so does asking ONNX Runtime for 2050 bins in place of 2048.
    agree = []
    for seed in range(5):
        for x in samples(seed):
            observer = watched("entropy", x, bins=256, levels=64, count_zeros=True)
            their = onnxruntime_range(x, "entropy", bins=256, levels=64)[1]
            bin_width = 2 * x.abs().max().item() / 256
            agree.append(abs(observer.range()[1].item() - their) <= bin_width * (1 + 1e-5))
    assert np.mean(agree) >= 0.9


@pytest.mark.parametrize("share", [50.0, 90.0, 99.9, 100.0])
def test_percentile_lies_within_one_bin_of_the_exact_quantile(share):
    for x in samples(1):
        observer = watched("percentile", x, percentile=share)
        outside = (100 - share) / 200
        exact = np.quantile(x.numpy(), [outside, 1 - outside], method="inverted_cdf")
        width = observer.histogram.widths().item()
        for ours, quantile in zip(observer.range(), exact, strict=True):
            assert ours.item() == pytest.approx(quantile, abs=1.01 * width)


# Edges.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("value", [5.0, -0.25, 3e38, 1e-30])
def test_a_constant_layer_comes_back(name, grid, value):
    x = torch.full((7, 3), value)
    restored = fake_quantize(x, watched(name, x, x, **grid).qparams())
    assert torch.allclose(restored, x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", GRIDS)
def test_all_zero_has_scale_one(name, grid):
    x = torch.zeros(5)
    qparams = watched(name, x, x, **grid).qparams()
    assert qparams.scale == 1
    assert bool((quantize(x, qparams) == qparams.zero_point).all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grid", GRIDS)
def test_a_dead_channel_beside_a_live_one(name, grid):
    x = normal(100, 3)
    x[:, 1] = 0
    qparams = watched(name, x, axis=1, **grid).qparams()
    assert qparams.scale.shape == (1, 3)
    assert qparams.scale[0, 1] == 1
    assert bool((qparams.scale[0, [0, 2]] < 0.1).all())


@pytest.mark.parametrize("name", NAMES)
def test_one_sided_data_spend_no_code_below_zero(name):
    qparams = watched(name, normal(10_000).relu()).qparams()
    assert qparams.zero_point == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_an_axis_gives_what_each_slice_alone_gives(name, axis):
    x = normal(3, 4, 5) * torch.arange(1, 4)[:, None, None]
    together = watched(name, x, axis=axis).qparams()
    for index, scale in enumerate(together.scale.flatten()):
        alone = watched(name, x.select(axis, index)).qparams()
        assert scale == alone.scale
    assert fake_quantize(x, together).shape == x.shape


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_seen_as_their_exact_values(name, dtype):
    x = normal(1000).to(dtype)
    other, single = watched(name, x).qparams(), watched(name, x.float()).qparams()
    if dtype != torch.float64:
        assert other.scale == single.scale
    assert other.scale == pytest.approx(single.scale.item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_float16_max_does_not_overflow(name):
    qparams = watched(name, torch.tensor([-65504.0, 65504.0], dtype=torch.float16)).qparams()
    assert torch.isfinite(qparams.scale)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_observed_is_an_error_that_says_what_to_do(name):
    with pytest.raises(ValueError, match=r"seen no data; call observe"):
        make_observer(name).qparams()
    with pytest.raises(ValueError, match="seen no data"):
        make_observer(name, axis=1).range()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (torch.tensor([9.0, math.nan]), "finite, got NaN or infinity in 1 of 2"),
        (torch.tensor([9.0, math.inf]), "finite"),
        (torch.tensor([-math.inf, 9.0]), "finite"),
        (torch.tensor([1e300], dtype=torch.float64), "fit in float32"),
        (torch.zeros(0, 3), r"empty batch shows nothing; got shape \(0, 3\)"),
        (torch.tensor([3, 4]), "floating-point"),
        ([9.0], "floating-point"),
    ],
)
def test_a_bad_batch_is_refused_and_changes_nothing(name, bad, words):
    good = normal(100)
    observer = watched(name, good)
    with pytest.raises(ValueError, match=words):
        observer.observe(bad)
    assert observer.qparams().scale == watched(name, good).qparams().scale
    fresh = make_observer(name)
    with pytest.raises(ValueError, match=words):
        fresh.observe(bad)
    with pytest.raises(ValueError, match="seen no data"):
        fresh.qparams()


@pytest.mark.parametrize("name", NAMES)
def test_an_axis_that_changes_its_size_is_refused(name):
    observer = watched(name, normal(8, 3), axis=1)
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(8, 4\)"):
        observer.observe(normal(8, 4))
    with pytest.raises(ValueError, match="axis 2 does not exist"):
        watched(name, normal(8, 3), axis=2)


def test_observing_changes_neither_the_batch_nor_its_gradients():
    x = normal(10).requires_grad_()
    before = x.detach().clone()
    watched("mse", x)
    assert torch.equal(x, before)
    assert x.grad is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options", [{"bits": 1}, {"bits": 9}, {"bits": 2.0}, {"scale_rule": "widest"}]
)
def test_grids_that_cannot_be_are_refused_at_once(name, options):
    with pytest.raises(ValueError, match=r"bits|scale_rule"):
        make_observer(name, **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PercentileObserver(percentile=0), "percentile"),
        (lambda: PercentileObserver(percentile=101), "percentile"),
        (lambda: PercentileObserver(percentile=math.nan), "percentile"),
        (lambda: MovingAverageObserver(averaging_constant=0), "averaging_constant"),
        (lambda: MovingAverageObserver(averaging_constant="much"), "averaging_constant"),
        (lambda: MSEObserver(resolution=1000), "power of two"),
        (lambda: EntropyObserver(bins=64), "at least as many bins as levels"),
        (lambda: EntropyObserver(bins=2047), "even"),
        (lambda: EntropyObserver(levels=0), "even"),
    ],
)
def test_options_that_cannot_be_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"minmax, moving_average, percentile, mse, entropy; got"):
        make_observer("max")
    with pytest.raises(ValueError, match="got None"):
        make_observer(None)


@pytest.mark.parametrize("name", NAMES)
def test_options_reach_the_class(name):
    observer = make_observer(name, bits=3, symmetric=True, signed=True, scale_rule="full")
    assert isinstance(observer, OBSERVERS[name])
    observer.observe(normal(1000))
    qparams = observer.qparams()
    assert (qparams.quant_min, qparams.quant_max, qparams.zero_point.item()) == (-4, 3, 0)


def test_entropy_sees_the_bits():
    x = normal(50_000)
    ends = [watched("entropy", x, bits=bits).range()[1].item() for bits in (2, 4, 8)]
    assert ends[0] < ends[1] < ends[2]


@pytest.mark.parametrize("observer", [MinMaxObserver(), MSEObserver()])
def test_keeping_a_histogram_costs_far_less_than_keeping_the_values(observer):
    values = normal(100, 10_000)
    for batch in values:
        observer.observe(batch)
    if isinstance(observer, HistogramObserver):
        assert observer.histogram.counts.nbytes < values.nbytes / 20


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_least_error_is_found_for_values_far_from_zero(sign, symmetric):
    # From 1000 to 1001: a grid of 256 steps from 0 reaches them only at its end.
    x = sign * torch.linspace(1000, 1001, 1000)
    observer = MSEObserver(symmetric=symmetric, signed=symmetric)
    observer.observe(x)
    plain = choose_qparams(x, symmetric=symmetric, signed=symmetric)
    errors = [(fake_quantize(x, grid) - x).square().mean() for grid in (observer.qparams(), plain)]
    assert errors[0] <= errors[1] * 1.01
