"""Exercises of notebook 09: bytes, sensitivity, curvature, the best choice, the front."""

from __future__ import annotations

import math

from torch import Tensor

from labkit.exercises import cases09, wrong09
from labkit.exercises.core import Exercise


def mixed_bytes(weights: list[int], bits: list[int], channels: list[int]) -> int:
    """Bytes of all layers: each layer's codes in whole bytes, 4 bytes for each channel's scale."""
    codes = [math.ceil(n * width / 8) for n, width in zip(weights, bits, strict=True)]
    return sum(codes) + 4 * sum(channels)


def one_at_a_time(quality, layers: list[str], widths: list[int]) -> list[list[float]]:
    """Loss of quality when one layer alone is quantized: a row a layer, a column a width."""
    whole = quality({})
    return [[whole - quality({layer: width}) for width in widths] for layer in layers]


def predicted_rise(weight: Tensor, quantized: Tensor, curvature: Tensor) -> float:
    """Rise of the loss to second order; curvature: the Hessian's diagonal; all of one shape."""
    return 0.5 * (curvature * (weight - quantized) ** 2).sum().item()


def best_choice(cost: list[list[float]], use: list[list[int]], budget: int) -> list[int]:
    """Option of each layer, (layers,), of the smallest total cost with a total use ≤ budget."""
    from itertools import product

    def total(table: list, picked: tuple[int, ...]) -> float:
        return sum(row[option] for row, option in zip(table, picked, strict=True))

    every = product(range(len(cost[0])), repeat=len(cost))
    fitting = [picked for picked in every if total(use, picked) <= budget]
    return list(min(fitting, key=lambda picked: total(cost, picked)))


def efficient(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Of (bytes, loss) points those that no other beats, the fewest bytes first."""
    kept, least = [], math.inf
    for nbytes, loss in sorted(points):
        if loss < least:
            kept.append((nbytes, loss))
            least = loss
    return kept


EXERCISES = (
    Exercise(
        id="9.1",
        title="The bytes of a mixed network",
        difficulty=1,
        minutes=5,
        hints=(
            "What does a layer store besides its codes, and when is a byte only partly filled?",
            "Each layer by itself: weights × bits, in whole bytes, rounded up. Then 4 bytes for "
            "each channel.",
            "sum(math.ceil(n * b / 8) for n, b in zip(weights, bits)) + 4 * sum(channels)",
        ),
        cases=cases09.bytes_cases,
        solution=mixed_bytes,
        praise="With that you can check any promise of a size, the document's 6 MB among them.",
        wrong=wrong09.BYTES,
    ),
    Exercise(
        id="9.2",
        title="One layer at a time",
        difficulty=1,
        minutes=6,
        hints=(
            "What is the dict when nothing is quantized? And when one layer is?",
            "quality({}) is the float network. For each layer and width: a dict of one entry.",
            "[[quality({}) - quality({layer: width}) for width in widths] for layer in layers]",
        ),
        cases=cases09.sensitivity_cases,
        solution=one_at_a_time,
        praise="Layers × widths runs, where trying every combination takes widths ** layers.",
        wrong=wrong09.SENSITIVITY,
    ),
    Exercise(
        id="9.3",
        title="Predict it from the curvature",
        difficulty=2,
        minutes=6,
        hints=(
            "At a minimum the slope is 0. Which term of the Taylor series comes next?",
            "½ eᵀ H e with e = w − Q(w). What remains of it when only H's diagonal is known?",
            "0.5 * (curvature * (weight - quantized) ** 2).sum().item()",
        ),
        cases=cases09.hessian_cases,
        solution=predicted_rise,
        praise="One Hessian serves all layers and widths. Beware where the error is not small.",
        wrong=wrong09.HESSIAN,
    ),
    Exercise(
        id="9.4",
        title="Spend it best",
        difficulty=3,
        minutes=12,
        hints=(
            "How many combinations are there for 4 layers with 3 options each? Few enough to try.",
            "itertools.product(range(options), repeat=layers) gives all of them. Keep those that "
            "fit, take the one with the smallest total cost.",
            "total = lambda table, p: sum(row[option] for row, option in zip(table, p)); keep the "
            "combinations p with total(use, p) <= budget; min(kept, key=lambda p: total(cost, p))",
        ),
        cases=cases09.choice_cases,
        solution=best_choice,
        praise="Exact, but 7 widths and 52 layers are 10⁴⁴ combinations: allocate_bits needs a "
        "solver that does not try them.",
        wrong=wrong09.CHOICE,
    ),
    Exercise(
        id="9.5",
        title="The front",
        difficulty=2,
        minutes=8,
        hints=(
            "Go through the points from the fewest bytes up. When is the next one worth its bytes?",
            "Only if its loss is below every loss so far. Sorting puts equal bytes in the order of "
            "their loss.",
            "kept, least = [], math.inf; for nbytes, loss in sorted(points): if loss < least: keep "
            "it and set least = loss",
        ),
        cases=cases09.front_cases,
        solution=efficient,
        praise="Everything that is not on it can be improved for nothing.",
        wrong=wrong09.FRONT,
    ),
)
