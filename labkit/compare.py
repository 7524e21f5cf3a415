"""Two models on the same samples: is one better, and how far apart are their outputs?

Both answer the same questions, so only those count on which one is right and the other wrong. That
resolves differences far smaller than the interval of either accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor
from torch.nn import functional

from labkit.checks import check_whole
from labkit.errors import decibels
from labkit.evaluate import right_answers

Model = Callable[[Tensor], Tensor]
# Halving an interval of width 2 this often leaves less than a float can tell apart.
_HALVINGS = 60


@dataclass(frozen=True)
class Comparison:
    """Accuracy of a second model minus that of a first, on the same `n` samples.

    `only_first` and `only_second` count the samples that just this model gets right. `difference`,
    `low` and `high` (its interval) are proportions in -1..1; `p_value` is that of `mcnemar`.

    >>> print(Comparison.of(only_first=12, only_second=9, n=1000))
    -0.3 points [-1.3, +0.7] on 1000 samples, p = 0.66: not resolved (measured)
    """

    n: int
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p_value: float
    confidence: float

    @classmethod
    def of(cls, only_first: int, only_second: int, n: int, confidence: float = 0.95) -> Comparison:
        """Return the comparison of two models from their counts; ValueError for impossible ones.

        >>> Comparison.of(30, 10, 1000).resolved
        True
        """
        low, high = paired_interval(only_first, only_second, n, confidence)
        return cls(
            n,
            only_first,
            only_second,
            (only_second - only_first) / n,
            low,
            high,
            mcnemar(only_first, only_second),
            confidence,
        )

    @property
    def resolved(self) -> bool:
        """Whether these samples tell the models apart: 0 outside the interval, and the test too."""
        return not self.low <= 0 <= self.high and self.p_value < 1 - self.confidence

    def __str__(self) -> str:
        """The difference in points with its interval, n, p and the verdict."""
        difference, low, high = (_points(x) for x in (self.difference, self.low, self.high))
        p = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.2g}"
        verdict = "resolved" if self.resolved else "not resolved"
        return f"{difference} points [{low}, {high}] on {self.n} samples, {p}: {verdict} (measured)"


def compare_models(
    first: Model,
    second: Model,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 500,
    confidence: float = 0.95,
) -> Comparison:
    """Return accuracy(second) - accuracy(first) on the same images, with a paired interval.

    Arguments and errors as in `labkit.evaluate.right_answers`.

    >>> import torch
    >>> images, labels = torch.eye(3), torch.tensor([0, 1, 1])
    >>> compare_models(torch.nn.Identity(), lambda x: -x, images, labels).difference
    -0.66...
    """
    right = [
        right_answers(model, images, labels, batch_size=batch_size) for model in (first, second)
    ]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Comparison.of(only_first, only_second, len(images), confidence)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact McNemar test: could chance alone split them so unevenly?

    If both models are equally good, each sample on which they differ falls to either side with
    probability 1/2. The p-value is the chance of a split at least as uneven as this one, in either
    direction; 1 where they never differ. Sources: McNemar 1947; the exact form, Cochran 1950.
    Raises ValueError for negative counts.

    >>> mcnemar(0, 5), mcnemar(5, 5)
    (0.0625, 1.0)
    """
    fewer, more = sorted((_count("only_first", only_first), _count("only_second", only_second)))
    total = fewer + more
    # Whole numbers, exact however large: C(n, 0) + ... + C(n, fewer).
    term = ways = 1
    for k in range(fewer):
        term = term * (total - k) // (k + 1)
        ways += term
    return min(1.0, 2 * ways / 2**total)


def paired_interval(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return (low, high) for the true difference second - first of two paired proportions.

    Tango's score interval: all differences D that a score test does not reject. It stays inside
    -1..1, is honest where the models never differ, and holds 0 exactly when McNemar's statistic
    (c - b)² / (c + b) is at most z². Source: T. Tango, Statistics in Medicine 17 (1998) 891.
    Raises ValueError for impossible counts and a confidence outside 0..1.

    >>> [round(end, 3) for end in paired_interval(7, 1, 21)]
    [-0.517, -0.026]
    """
    b, c = _count("only_first", only_first), _count("only_second", only_second)
    if check_whole("n", n) < 1 or b + c > n:
        raise ValueError(
            f"got n={n}, only_first={b} and only_second={c}; needs n >= 1 and at least their sum"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence {confidence}; needs a number between 0 and 1, e.g. 0.95")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    estimate = (c - b) / n

    def end(edge: float) -> float:
        inside, outside = estimate, edge
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            accepted = abs(_tango_score(b, c, n, middle)) <= z
            inside, outside = (middle, outside) if accepted else (inside, middle)
        return inside

    return end(-1.0), end(1.0)


def _tango_score(b: int, c: int, n: int, difference: float) -> float:
    """How many standard errors the counts are from a true difference; 1998, equation 6."""
    # The likeliest probability of "only the first is right", if the difference is this one.
    p = (2 * n + b - c) * difference - b - c
    q = -b * difference * (1 - difference)
    likeliest = (math.sqrt(max(0.0, p * p - 8 * n * q)) - p) / (4 * n)
    variance = n * (2 * likeliest + difference * (1 - difference))
    distance = c - b - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def cosine(first: Tensor, second: Tensor) -> float:
    """Return the mean over samples of the cosine between two models' outputs: 1 is no change.

    Both (n, ...), of the same shape; what follows the first dimension is one vector a sample. A
    vector of zeros agrees with another of zeros (1) and with nothing else (0). Raises ValueError
    for shapes that differ, no values, and values that are not finite.

    >>> import torch
    >>> cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [-1.0, 1.0]]))
    0.5
    """
    first, second = _pair(first, second)
    a, b = (x.reshape(len(x), -1) if x.ndim else x.reshape(1, 1) for x in (first, second))
    # At equal length, so that tiny and huge vectors keep their direction.
    a, b = (x / x.abs().amax(1, keepdim=True).clamp(min=1e-300) for x in (a, b))
    likeness = functional.cosine_similarity(a, b, dim=1)
    both_zero = (a == 0).all(1) & (b == 0).all(1)
    return likeness.masked_fill(both_zero, 1.0).mean().item()


def sqnr(reference: Tensor, other: Tensor) -> float:
    """Return how far `other` is from `reference`, in dB: 10 log10(Σ reference² / Σ error²).

    Infinite where they are equal; about 6 dB a bit. Any shape, the same for both; ValueError as in
    `cosine`.

    >>> import torch
    >>> round(sqnr(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])), 6)
    20.0
    """
    reference, other = _pair(reference, other)
    return decibels(reference.square().sum().item(), (other - reference).square().sum().item())


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape or first.numel() == 0:
        raise ValueError(
            f"needs outputs of the same shape with at least one value, got {tuple(first.shape)} "
            f"and {tuple(second.shape)}"
        )
    first, second = (x.detach().cpu().double() for x in (first, second))
    for x in (first, second):
        if not bool(x.isfinite().all()):
            raise ValueError("the outputs hold NaN or infinity; comparing them means nothing")
    return first, second


def _count(name: str, value: int) -> int:
    if check_whole(name, value) < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return int(value)


def _points(share: float) -> str:
    """+0.3, and 0.0 without a sign."""
    shown = f"{100 * share:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown
