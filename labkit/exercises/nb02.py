"""Exercises of notebook 02: the error, its two parts, its prediction, decibels, the best clip."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.exercises import cases02, wrong02
from labkit.exercises.core import Exercise


def error_and_mse(x: Tensor, q: Tensor, scale: float, zero_point: int) -> tuple[Tensor, float]:
    """E = |x − x'| like x, and the mean of E² over all elements."""
    x_back = (q.to(torch.int32) - zero_point).double() * scale
    error = (x.double() - x_back).abs()
    return error, error.square().mean().item()


def split_mse(x: Tensor, x_back: Tensor, low: float, high: float) -> tuple[float, float]:
    """(rounding, clipping): what values inside and outside [low, high] add to the MSE."""
    squared = (x.double() - x_back.double()).square()
    outside = (x < low) | (x > high)
    return (squared * ~outside).mean().item(), (squared * outside).mean().item()


def predicted_mse(minimum: float, maximum: float, bits: int) -> float:
    """s²/12 for a grid of 2^bits levels from minimum to maximum."""
    scale = (maximum - minimum) / (2**bits - 1)
    return scale**2 / 12


def sqnr_db(x: Tensor, x_back: Tensor) -> float:
    """Mean square of x over mean square of the error, in dB; math.inf without an error."""
    signal = x.double().square().mean().item()
    noise = (x.double() - x_back.double()).square().mean().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def best_clip(x: Tensor, bits: int, candidates: list[float]) -> float:
    """The candidate c whose symmetric grid from -c to c has the smallest MSE on x."""
    from labkit.affine import qparams_from_range
    from labkit.errors import quantization_error

    def mse(clip: float) -> float:
        qparams = qparams_from_range(-clip, clip, bits, symmetric=True, signed=True)
        return quantization_error(x, qparams).mse

    return min(candidates, key=mse)


EXERCISES = (
    Exercise(
        id="2.1",
        title="The error of a tensor",
        difficulty=1,
        minutes=5,
        hints=(
            "Which number does code q stand for? Notebook 01 has the formula.",
            "Codes are uint8: 0 − 1 is 255 there. Widen them before you subtract the zero point.",
            "x_back = (q.to(torch.int32) - zero_point) * scale; then |x − x_back|, and the mean of "
            "its squares, both in double.",
        ),
        cases=cases02.error_cases,
        solution=error_and_mse,
        praise="E says where it hurts, the mean of E² how much. All that follows builds on it.",
        wrong=wrong02.ERROR,
    ),
    Exercise(
        id="2.2",
        title="Rounding and clipping",
        difficulty=2,
        minutes=8,
        hints=(
            "When does a value clip: when x lies outside the range, or when x' lies at its end?",
            "Make a mask of the values outside [low, high], and divide both sums by all values.",
            "squared = (x - x_back)²; outside = (x < low) | (x > high); the mean of "
            "squared * ~outside, and of squared * outside.",
        ),
        cases=cases02.split_cases,
        solution=split_mse,
        praise="The two parts add up to the MSE exactly. Now you can see which one to fight.",
        wrong=wrong02.SPLIT,
    ),
    Exercise(
        id="2.3",
        title="The error before you measure it",
        difficulty=1,
        minutes=4,
        hints=(
            "How wide is one step of the grid? How far off can rounding be?",
            "The step is the document's s; the mean of e² over [−s/2, s/2] is an integral.",
            "scale = (maximum - minimum) / (2**bits - 1); then its square by twelve.",
        ),
        cases=cases02.predicted_cases,
        solution=predicted_mse,
        praise="One line, no data: and for fine grids it is right to a few percent, unless equal "
        "values pile up.",
        wrong=wrong02.PREDICTED,
    ),
    Exercise(
        id="2.4",
        title="Signal to noise in decibels",
        difficulty=1,
        minutes=5,
        hints=(
            "What is the signal, what is the noise, and which of them goes above?",
            "Both are mean squares, that is powers; a decibel is a tenth of a bel.",
            "10 * math.log10(mean(x²) / mean((x − x')²)), in double; math.inf for no error, and "
            "-math.inf for an error without a signal.",
        ),
        cases=cases02.sqnr_cases,
        solution=sqnr_db,
        praise="Every 6.02 dB is a bit. You can now read an SQNR as “so many bits good”.",
        wrong=wrong02.SQNR,
    ),
    Exercise(
        id="2.5",
        title="Search the best clip",
        difficulty=2,
        minutes=8,
        hints=(
            "What does the picture minimize: the rounding, the clipping, or their sum?",
            "Make a grid for each candidate, measure its mse, and keep the candidate with the "
            "smallest.",
            "min(candidates, key=mse) with def mse(clip): return quantization_error(x, "
            "qparams_from_range(-clip, clip, bits, symmetric=True, signed=True)).mse",
        ),
        cases=cases02.clip_cases,
        solution=best_clip,
        praise="That is the “MSE observer” of every quantization library. You wrote it.",
        wrong=wrong02.CLIP,
    ),
)
