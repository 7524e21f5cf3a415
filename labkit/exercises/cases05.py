"""How the exercises of notebook 05 are judged: cases with results from numpy, in float64.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from labkit.exercises.core import Case

FROM_ZERO = "You started from 0; start from the range of the first batch, or it is pulled to 0."
PLAIN_MEAN = "You averaged all batches alike; each new batch moves the ends by `constant` only."
OLD_WEIGHT = (
    "You gave the weight `constant` to the old ends; the new batch gets it: "
    "end + constant · (batch − end)."
)
MIN_MAX = "That is min-max: the widest of all batches. A moving average forgets."
LAST = "That is the range of the last batch alone; the earlier ones count too."
ONE_END = "Follow both ends by the same rule: low with the minima, high with the maxima."
AVERAGE_GENERAL = (
    "Start with the first batch's minimum and maximum; then, for each further batch, "
    "end ← end + constant · (end of the batch − end)."
)


def average_cases() -> Iterator[Case]:
    """Cases of exercise 5.1: the moving average."""
    first = [[-1.0, 0.5, 3.0], [-4.0, 2.0, 1.0], [-2.0, 0.0, 8.0]]
    yield _average_case(first, 0.25, AVERAGE_GENERAL)
    yield _average_case([[-1.0, 2.0]], 0.25, "With one batch, its own ends are the answer.")
    yield _average_case(first, 1.0, "With constant 1 the last batch is all that counts.")
    for seed in range(3):
        draw = np.random.default_rng(seed)
        batches = [draw.normal(draw.normal(), 2, 50).tolist() for _ in range(8)]
        yield _average_case(batches, 0.1, AVERAGE_GENERAL)


def _follow(lows, highs, constant, start=None) -> tuple[float, float]:
    low, high = (lows[0], highs[0]) if start is None else start
    for a, b in zip(lows if start else lows[1:], highs if start else highs[1:], strict=True):
        low, high = low + constant * (a - low), high + constant * (b - high)
    return low, high


def _average_case(batches, constant, message) -> Case:
    tensors = [torch.tensor(batch) for batch in batches]
    lows, highs = ([getattr(t, end)().item() for t in tensors] for end in ("min", "max"))
    right = _follow(lows, highs, constant)
    mistakes = {
        FROM_ZERO: _follow(lows, highs, constant, (0.0, 0.0)),
        PLAIN_MEAN: (float(np.mean(lows)), float(np.mean(highs))),
        OLD_WEIGHT: _follow(lows, highs, 1 - constant),
        MIN_MAX: (min(lows), max(highs)),
        LAST: (lows[-1], highs[-1]),
        ONE_END: (min(lows), right[1]),
    }
    return Case((tensors, constant), right, message, _others(mistakes, right), tolerance=1e-5)


TWICE = "You cut 100 − percentile at *each* end; give up half of it at each."
ONE_SIDE = "You cut the upper end only; half of what is given up belongs to each end."
MAGNITUDE = "You took a percentile of |x|: that is the symmetric range. Each end has its own here."
AS_SHARE = "`percentile` is in percent and torch.quantile takes shares: 99 means 0.99."
SIGMAS = "You assumed a bell curve (mean ± k σ); sort the values that are there instead."
TURNED = "The two ends are swapped: (low, high)."
PERCENTILE_GENERAL = (
    "Half of the given-up share lies below low, half above high, with torch.quantile "
    "(linear between two values), in double. " + AS_SHARE
)


def percentile_cases() -> Iterator[Case]:
    """Cases of exercise 5.2: the percentile range."""
    yield _percentile_case(np.arange(-20, 81) * 1.0, 90.0, PERCENTILE_GENERAL)
    yield _percentile_case([3.0, -1.0, 2.0], 100.0, "At 100 percent nothing is cut: min and max.")
    yield _percentile_case([5.0], 99.0, "A single value is both ends.")
    for seed in range(3):
        x = np.random.default_rng(seed).gamma(2.0, 1.5, (30, 40)) - 1
        yield _percentile_case(x, 99.0, PERCENTILE_GENERAL)


def _percentile_case(x, percentile, message) -> Case:
    x = torch.as_tensor(np.asarray(x)).float()
    values, cut = x.double().numpy(), (100 - percentile) / 200

    def ends(*shares: float) -> tuple[float, ...]:
        return tuple(float(np.quantile(values, share)) for share in shares)

    right = ends(cut, 1 - cut)
    magnitude = float(np.quantile(np.abs(values), 1 - 2 * cut))
    k = 1.6448536269514722 if percentile == 90 else 2.5758293035489004
    spread = k * values.std()
    mistakes = {
        TWICE: ends(2 * cut, 1 - 2 * cut),
        ONE_SIDE: ends(0, 1 - 2 * cut),
        MAGNITUDE: (-magnitude, magnitude),
        SIGMAS: (float(values.mean() - spread), float(values.mean() + spread)),
        TURNED: right[::-1],
    }
    return Case((x, percentile), right, message, _others(mistakes, right), tolerance=1e-5)


LEFT = (
    "You merged the right pairs but put them at the left: the range grows on both sides of 0, so "
    "they belong in the middle, with empty bins at both ends."
)
DROPPED = "You dropped every second bin: no count may be lost. Add neighbours."
HALVED = "You averaged neighbours; counts are added, or half of the values are lost."
SHIFTED = (
    "You paired bins across 0: the middle edge lies between bins n/2 − 1 and n/2, so pair "
    "(0, 1), (2, 3), …"
)
SPREAD = "You doubled the number of bins; the memory must not grow: as many bins as before."
CUT = "You cut the outer bins off to make room: no count may be lost. Merge neighbours instead."
WIDEN_GENERAL = (
    "Add the counts of bins (0, 1), (2, 3), …; put these n/2 sums in the middle, "
    "with n/4 empty bins on both sides."
)


def widen_cases() -> Iterator[Case]:
    """Cases of exercise 5.3: twice the range, as many bins."""
    yield _widen_case([1, 2, 3, 4, 5, 6, 7, 9], WIDEN_GENERAL)
    yield _widen_case([3, 0, 0, 2], "Four bins: one empty bin on each side, two sums between.")
    yield _widen_case([0] * 8, "An empty histogram stays empty.")
    for seed in range(3):
        counts = np.random.default_rng(seed).integers(0, 1000, 64)
        yield _widen_case(counts, WIDEN_GENERAL)


def _widen_case(counts, message) -> Case:
    counts = np.asarray(counts, dtype=np.int64)
    pairs, quarter = counts.reshape(-1, 2).sum(1), len(counts) // 4

    def middle(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.pad(values, quarter))

    right = middle(pairs)
    across = np.convolve(np.pad(counts, 1), [1, 1], "valid")[::2]
    mistakes = {
        LEFT: torch.from_numpy(np.pad(pairs, (0, 2 * quarter))),
        DROPPED: middle(counts[::2]),
        HALVED: middle(pairs // 2),
        SHIFTED: torch.from_numpy(np.pad(across, quarter)[: len(counts)]),
        SPREAD: torch.from_numpy(np.pad(counts, 2 * quarter)),
        CUT: middle(counts[quarter:-quarter]),
    }
    looks_like = {said: r for said, r in mistakes.items() if not torch.equal(r, right)}
    return Case((torch.from_numpy(counts),), right, message, looks_like, dtype="integer")


SWAPPED = "You summed q · log(q / p); the true distribution p weighs the terms: p · log(p / q)."
RAW = "Make both add up to 1 first: p and q are counts, and their totals may differ."
BITS = "That is in bits (log2); the natural logarithm is asked."
NOT_A_NUMBER = "0 · log 0 counts as 0: leave the bins out where p is 0."
FINITE = (
    "Where q is 0 and p is not, the divergence is infinite: q calls impossible what happens. "
    "Do not leave that bin out."
)
DISTANCE = "You summed |p − q|; the divergence is Σ p · log(p / q)."
SIGN = "The sign is turned: Σ p · log(p / q) is never negative."
KL_GENERAL = "P = p / Σp, Q = q / Σq, then Σ P · log(P / Q) over the bins where P > 0."


def divergence_cases() -> Iterator[Case]:
    """Cases of exercise 5.4: the Kullback-Leibler divergence."""
    yield _divergence_case([8, 4, 2, 2], [3, 3, 3, 1], KL_GENERAL)
    yield _divergence_case([5, 0, 5], [4, 2, 4], NOT_A_NUMBER, NOT_A_NUMBER)
    yield _divergence_case([2, 1, 3], [2, 1, 3], "Equal distributions: the divergence is 0.")
    infinite = torch.tensor([4.0, 3.0, 3.0]), torch.tensor([5.0, 5.0, 0.0])
    half = float(0.4 * math.log(0.4 / 0.5) + 0.3 * math.log(0.3 / 0.5))
    yield Case(infinite, math.inf, FINITE, {FINITE: half})
    for seed in range(3):
        p, q = np.random.default_rng(seed).integers(1, 100, (2, 40))
        yield _divergence_case(p, q, KL_GENERAL)


def _divergence_case(p, q, message, undefined="") -> Case:
    p, q = (np.asarray(counts, dtype=np.float64) for counts in (p, q))
    share, other = p / p.sum(), q / q.sum()
    with np.errstate(all="ignore"):

        def divergence(a: np.ndarray, b: np.ndarray) -> float:
            return float(np.where(a > 0, a * np.log(a / b), 0.0).sum())

        right = divergence(share, other)
        mistakes = {
            SWAPPED: divergence(other, share),
            RAW: divergence(p, q),
            BITS: right / math.log(2),
            DISTANCE: float(np.abs(share - other).sum()),
            SIGN: -right,
        }
    if undefined:
        mistakes[undefined] = math.nan
    arguments = torch.from_numpy(p).float(), torch.from_numpy(q).float()
    return Case(arguments, right, message, _others(mistakes, right), tolerance=1e-4)


def _others(mistakes: dict, right: object) -> dict:
    """Leave out the mistakes that happen to be right here."""
    return {
        said: result
        for said, result in mistakes.items()
        if not np.allclose(result, right, rtol=1e-3, atol=1e-9)
    }
