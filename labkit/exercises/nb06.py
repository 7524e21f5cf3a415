"""Exercises of notebook 06: a grid a token, folding a batch norm, predicting the latency."""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.exercises import cases06, wrong06
from labkit.exercises.core import Exercise


def token_grids(x: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each row of x (tokens, features): 8 bits, unsigned."""
    low = x.double().amin(dim=1).clamp(max=0)
    high = x.double().amax(dim=1).clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, 1.0)
    return scale, torch.round(-low / scale).to(torch.int32)


def fold(
    weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Weight (out, in, height, width) and bias (out,) of a convolution that does both."""
    factor = gamma / torch.sqrt(var + eps)
    return weight * factor.reshape(-1, 1, 1, 1), (bias - mean) * factor + beta


def predicted_seconds(
    weights: int, bits: int, rows: int, overhead: float, bandwidth: float, speed: float
) -> float:
    """Seconds of one call of a linear layer: the call, then the slower of reading and computing."""
    reading = weights * bits / 8 / bandwidth
    computing = weights * rows / speed
    return overhead + max(reading, computing)


EXERCISES = (
    Exercise(
        id="6.1",
        title="A grid for every token",
        difficulty=2,
        minutes=8,
        hints=(
            "Which numbers share a grid: a row, a column, or all of them?",
            "One minimum and one maximum a row, each widened to hold 0; 256 codes have 255 steps.",
            "low = x.double().amin(dim=1).clamp(max=0), high likewise; scale = (high - low) / 255, "
            "1 where that is 0; zero point = round(-low / scale).",
        ),
        cases=cases06.token_cases,
        solution=token_grids,
        praise="That is what a dynamic layer does at every call, for every token. No calibration.",
        wrong=wrong06.TOKENS,
    ),
    Exercise(
        id="6.2",
        title="Fold a batch norm",
        difficulty=2,
        minutes=10,
        hints=(
            "Write the batch norm of a convolution's output as factor × output + something.",
            "factor = gamma / sqrt(var + eps), one number an output channel. What happens to the "
            "bias inside?",
            "weight * factor.reshape(-1, 1, 1, 1), and (bias - mean) * factor + beta",
        ),
        cases=cases06.fold_cases,
        solution=fold,
        praise="One layer less, the same numbers, and only now the range that will be quantized.",
        wrong=wrong06.FOLD,
    ),
    Exercise(
        id="6.3",
        title="Predict the latency",
        difficulty=2,
        minutes=8,
        hints=(
            "What takes time even for a layer of 1 × 1? What grows with the bits, what with the "
            "rows?",
            "The weights are read once, however many rows share them; every row multiplies with "
            "each of them. Reading and computing go on at the same time: the slower one counts.",
            "overhead + max(weights * bits / 8 / bandwidth, weights * rows / speed)",
        ),
        cases=cases06.latency_cases,
        solution=predicted_seconds,
        praise="Three terms tell when fewer bits help: not below the overhead, and not once the "
        "arithmetic is slower than the reading.",
        wrong=wrong06.LATENCY,
    ),
)
