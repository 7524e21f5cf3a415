"""Where to cut: the ends of a range, chosen from a histogram by squared error or by divergence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from labkit.qparams import QParams

# The first looks at pairs of ends take this many bins together.
COARSE = 16
# A fan of 28 factors from 1 down to 1/200; then 5 around the best one, each time closer.
FACTORS = np.geomspace(1.0, 1 / 200, 28)
COARSE_FANS, FINE_FANS = (
    [np.geomspace(ratio, 1 / ratio, 5) for ratio in ratios]
    for ratios in ((1.2, 1.1), (1.05, 1.02, 1.01))
)
# What stands in for an empty bin, because a logarithm of 0 would reject every candidate.
SMOOTHING = 1e-4


def expected_error(
    left: np.ndarray, right: np.ndarray, counts: np.ndarray, qparams: QParams
) -> np.ndarray:
    """Return the mean squared error on each of several grids, of counts spread evenly in bins.

    `left`, `right` and `counts` are arrays (bins); scale and zero point are 1-d, one per grid. The
    answer, one figure a grid, holds rounding and clipping and is exact for this density: with
    u = x / scale and n the cell that u falls into, an antiderivative of (u - n)² is
    n / 12 + (u - n)³ / 3, which is continuous from cell to cell and holds beyond the last one too.

    >>> grid = QParams(torch.tensor([1.0]), torch.tensor([0]), 0, 3)
    >>> expected_error(np.array([-0.5]), np.array([3.5]), np.array([9]), grid).round(4)
    array([0.0833])
    """
    edges, weights = np.stack((left, right)), counts / counts.sum() / (right - left)
    errors = []
    for scale, zero_point in zip(qparams.scale.tolist(), qparams.zero_point.tolist(), strict=True):
        u = edges / scale
        cell = np.clip(np.rint(u), qparams.quant_min - zero_point, qparams.quant_max - zero_point)
        integral = cell / 12 + (u - cell) ** 3 / 3
        errors.append(scale**3 * np.dot(integral[1] - integral[0], weights))
    return np.array(errors)


def least_error_range(
    edges: np.ndarray,
    counts: np.ndarray,
    low: float,
    high: float,
    grid: Callable[[torch.Tensor, torch.Tensor], QParams],
    two_sided: bool,
) -> tuple[float, float]:
    """Return the ends (low, high) within the given ones whose grid has the least expected error.

    `grid` turns 1-d tensors of ends into scales and zero points. Both ends shrink by factors, each
    by its own when `two_sided`: all pairs of a wide fan on a coarse histogram, then narrower fans
    around the best pair, at last in steps of half a percent on the fine one.

    >>> from labkit.qparams import qparams_from_range
    >>> edges, counts = np.linspace(0, 8, 65), np.array([100] * 8 + [0] * 55 + [1])
    >>> low, high = least_error_range(edges, counts, 0.0, 8.0, qparams_from_range, False)
    >>> low, bool(1 < high < 8)
    (0.0, True)
    """
    filled = np.flatnonzero(counts)
    fine = edges[filled], edges[filled + 1], counts[filled]
    # Coarse bins keep the place of their counts roughly: enough to find the valley.
    starts = np.flatnonzero(np.diff(filled // COARSE, prepend=-1))
    last = np.append(starts[1:], len(filled)) - 1
    coarse = fine[0][starts], fine[1][last], np.add.reduceat(fine[2], starts)

    def best(histogram: tuple, lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
        if two_sided:
            lows, highs = (pair.ravel() for pair in np.meshgrid(lows, highs))
        errors = expected_error(*histogram, grid(torch.from_numpy(lows), torch.from_numpy(highs)))
        choice = errors.argmin()
        return float(lows[choice]), float(highs[choice])

    ends = best(coarse, low * FACTORS, high * FACTORS)
    for histogram, fans in ((coarse, COARSE_FANS), (fine, FINE_FANS)):
        for fan in fans:
            ends = best(histogram, np.maximum(low, ends[0] * fan), np.minimum(high, ends[1] * fan))
    return ends


def entropy_bins(counts: np.ndarray, levels: int) -> tuple[int, int]:
    """Return the bins [start, end) to keep, so that the grid tells least apart from the original.

    `counts` are bins symmetric about 0. Each candidate keeps the middle ones, from `levels` up to
    all of them. p is what is kept, with everything beyond it counted into its outermost bins; q is
    the same bins merged into `levels` and spread out again over those that p fills. The candidate
    of the least Kullback-Leibler divergence Σ p log(p / q) wins. Source: Migacz 2017, in the
    form of ONNX Runtime's HistogramCollector, its whole numbers and float32 included:
    the candidates lie so close together that either decides between them.

    >>> entropy_bins(np.array([0, 0, 1, 9, 9, 1, 0, 0]), levels=4)
    (2, 7)
    """
    centre = len(counts) // 2
    below = np.concatenate(([0], np.cumsum(counts)))
    divergences = []
    candidates = [
        (centre - half, min(centre + half + 1, len(counts)))
        for half in range(levels // 2, centre + 1)
    ]
    for start, end in candidates:
        kept = counts[start:end]
        p = kept.copy()
        p[0] += below[start]
        p[-1] += below[-1] - below[end]
        merged = len(kept) // levels
        inside = levels * merged
        sums = kept[:inside].reshape(levels, merged).sum(1)
        # What does not divide joins the last level, but is not spread out again.
        sums[-1] += kept[inside:].sum()
        filled = (p[:inside] != 0).reshape(levels, merged).sum(1)
        q = np.zeros_like(p)
        q[:inside] = np.repeat(np.where(filled > 0, sums // np.maximum(filled, 1), 0), merged)
        divergences.append(_divergence(p, q))
    return candidates[int(np.argmin(divergences))]


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Σ p log(p / q) of two histograms, each smoothed and brought to the sum 1."""
    smoothed = []
    for counts in (p, q):
        empty = np.count_nonzero(counts == 0)
        if empty == len(counts):
            return np.inf
        # At most half a count, where nearly every bin is empty: never below 0.
        taken = min(SMOOTHING * empty / (len(counts) - empty), 0.5)
        smooth = np.where(counts == 0, SMOOTHING, counts - taken).astype(np.float32)
        smoothed.append(smooth / smooth.sum())
    return float(np.sum(smoothed[0] * np.log(smoothed[0] / smoothed[1])))
