"""Exercises of notebook 05: a moving average, percentiles, a histogram that widens, divergence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.exercises import cases05, wrong05
from labkit.exercises.core import Exercise


def moving_average(batches: list[Tensor], constant: float) -> tuple[float, float]:
    """(low, high) after all batches; each new one moves the ends by `constant` of the way."""
    low, high = batches[0].min().item(), batches[0].max().item()
    for batch in batches[1:]:
        low += constant * (batch.min().item() - low)
        high += constant * (batch.max().item() - high)
    return low, high


def percentile_range(x: Tensor, percentile: float) -> tuple[float, float]:
    """(low, high) that keep `percentile` percent of x and give up half of the rest at each end."""
    cut = (100 - percentile) / 200
    values = x.double().flatten()
    return torch.quantile(values, cut).item(), torch.quantile(values, 1 - cut).item()


def double_range(counts: Tensor) -> Tensor:
    """Counts (n,) of equal bins from -T to T → counts (n,) of the same values from -2T to 2T."""
    pairs = counts[::2] + counts[1::2]
    empty = counts.new_zeros(len(counts) // 4)
    return torch.cat((empty, pairs, empty))


def divergence(p: Tensor, q: Tensor) -> float:
    """Σ P log(P / Q) of two histograms (n,), after each is brought to the sum 1."""
    p, q = p.double() / p.double().sum(), q.double() / q.double().sum()
    total = 0.0
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        if a > 0 and b == 0:
            return math.inf
        if a > 0:
            total += a * math.log(a / b)
    return total


EXERCISES = (
    Exercise(
        id="5.1",
        title="A range that forgets",
        difficulty=1,
        minutes=6,
        hints=(
            "What are the ends after the first batch? There is nothing to average yet.",
            "Move each end by a share of the way to the end of the new batch.",
            "low += constant * (batch.min().item() - low), the same for high with max, for every "
            "batch in batches[1:].",
        ),
        cases=cases05.average_cases,
        solution=moving_average,
        praise="That is the moving-average observer of torch and ONNX Runtime.",
        wrong=wrong05.AVERAGE,
    ),
    Exercise(
        id="5.2",
        title="All but the last percent",
        difficulty=1,
        minutes=6,
        hints=(
            "At 99 percent, which share lies below low, and which above high?",
            "torch.quantile takes shares from 0 to 1 and a flat tensor; cut = (100 − percentile) "
            "/ 200.",
            "torch.quantile(x.double().flatten(), cut).item(), and the same with 1 - cut.",
        ),
        cases=cases05.percentile_cases,
        solution=percentile_range,
        praise="No assumption about the shape of the data, and one stray value counts as one.",
        wrong=wrong05.PERCENTILE,
    ),
    Exercise(
        id="5.3",
        title="Twice the range, the same memory",
        difficulty=2,
        minutes=8,
        hints=(
            "A bin becomes twice as wide. Which old bins lie inside one new bin?",
            "Edge number n/2 is at 0 before and after. So the sums of neighbours go to the middle.",
            "pairs = counts[::2] + counts[1::2]; then torch.cat of n/4 zeros, pairs, n/4 zeros.",
        ),
        cases=cases05.widen_cases,
        solution=double_range,
        praise="No count lost, none across an edge: so a stream gives what all data at once give.",
        wrong=wrong05.WIDEN,
    ),
    Exercise(
        id="5.4",
        title="How much a grid tells apart",
        difficulty=2,
        minutes=8,
        hints=(
            "Counts are not shares yet. And what should a bin cost in which nothing ever happens?",
            "Where P is 0 the term is 0; where only Q is 0 the divergence is infinite.",
            "Divide each by its sum; add a * math.log(a / b) where a > 0; return math.inf when "
            "a > 0 and b == 0.",
        ),
        cases=cases05.divergence_cases,
        solution=divergence,
        praise="The entropy observer computes this for hundreds of ends and keeps the smallest.",
        wrong=wrong05.DIVERGENCE,
    ),
)
