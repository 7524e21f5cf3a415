"""Quantization error: what it is, what it is made of, and what theory says it should be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.special import ndtr

from labkit.affine import fake_quantize
from labkit.checks import check_bits, check_tensor
from labkit.granularity import blocks
from labkit.qparams import QParams


@dataclass(frozen=True)
class ErrorReport:
    """The error of one tensor on one grid; all figures are computed in float64.

    mse = rounding_mse + clipping_mse, in squared units of x. `sqnr_db` is the
    signal-to-quantization-noise ratio in decibels (infinite without an error), `max_abs` the
    largest error, `predicted_mse` the value scale²/12 that uniform rounding noise would have.

    >>> ErrorReport(0.5, 0.3, 0.2, 10.0, 1.0, 0.4).mse
    0.5
    """

    mse: float
    rounding_mse: float
    clipping_mse: float
    sqnr_db: float
    max_abs: float
    predicted_mse: float


def quantization_error(x: Tensor, qparams: QParams) -> ErrorReport:
    """Quantize `x`, come back, and split the mean squared error into rounding and clipping.

    An element's error is clipping when x lies outside the representable range and rounding
    otherwise, so the two add up to the whole. Raises ValueError for an empty or non-finite tensor.
    Source of the prediction: Widrow & Kollár 2008, chapter 1 (uniform noise, step²/12).

    >>> import torch
    >>> report = quantization_error(torch.tensor([0.25, 2.0]), QParams(1.0, 0, 0, 1))
    >>> report.rounding_mse, report.clipping_mse
    (0.03125, 0.5)
    """
    check_tensor(x)
    if x.numel() == 0:
        raise ValueError(f"an empty tensor has no error; got shape {tuple(x.shape)}")
    x = x.detach()
    rounding = clipping = signal = largest = 0.0
    for (value, restored), scale, zero_point in blocks(qparams, x, fake_quantize(x, qparams)):
        # Not every device knows float64.
        value, restored, scale, zero_point = (
            part.cpu().double() for part in (value, restored, scale, zero_point)
        )
        outside = value < (qparams.quant_min - zero_point) * scale
        outside |= value > (qparams.quant_max - zero_point) * scale
        # In place, as fresh memory for each step would cost more than the arithmetic.
        error = restored.sub_(value)
        largest = max(largest, *(end.abs().item() for end in error.aminmax()))
        squared = error.square_()
        # Selected, not multiplied by 0: a square may be infinite.
        clipping += squared[outside].sum().item()
        rounding += squared.masked_fill_(outside, 0.0).sum().item()
        signal += torch.dot(value.reshape(-1), value.reshape(-1)).item()
    rounding_mse, clipping_mse = rounding / x.numel(), clipping / x.numel()
    mse = rounding_mse + clipping_mse
    return ErrorReport(
        mse=mse,
        rounding_mse=rounding_mse,
        clipping_mse=clipping_mse,
        sqnr_db=decibels(signal / x.numel(), mse),
        max_abs=largest,
        predicted_mse=(qparams.scale.double().square() / 12).mean().item(),
    )


def decibels(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise) in dB; infinite when there is no noise.

    >>> decibels(100.0, 1.0)
    20.0
    """
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def uniform_sqnr_db(bits: int) -> float:
    """Return the SQNR in dB of full-scale uniform data on 2^bits equal cells: 20 log10(2) · bits.

    Each bit halves the step and so adds 6.02 dB. Source: Bennett 1948.

    >>> round(uniform_sqnr_db(8), 2)
    48.16
    """
    check_bits(bits)
    return 20 * math.log10(2) * bits


def gaussian_mse(step: float, levels: int) -> float:
    """Return the mean squared error of a unit Gaussian on a uniform grid, in closed form.

    The grid has an even number of `levels`, `step` apart and symmetric about 0 (mid-rise), and the
    outer cells reach to infinity, so that the figure holds rounding *and* clipping. Raises
    ValueError for a step that is not positive or an odd number of levels. Source: Max 1960, eq. 5.

    >>> round(gaussian_mse(0.9957, 4), 4)
    0.1188
    """
    if not (step > 0 and math.isfinite(step)):
        raise ValueError(f"step must be positive and finite, got {step}")
    if levels < 2 or levels % 2:
        raise ValueError(f"levels must be even and at least 2, got {levels}")
    left = torch.arange(levels // 2, dtype=torch.float64) * step
    right, value = left + step, left + step / 2
    right[-1] = math.inf
    # ∫ (x - v)² φ(x) dx over a cell, from ∫ φ = Φ, ∫ x φ = -φ and ∫ x² φ = Φ - x φ.
    probability = ndtr(right) - ndtr(left)
    edges = (left - 2 * value) * _density(left) - (right - 2 * value) * _density(right)
    # At infinity the density wins over any factor: 0, which floats would call NaN.
    edges[-1] = (left[-1] - 2 * value[-1]) * _density(left[-1])
    return float(2 * ((1 + value.square()) * probability + edges).sum())


@lru_cache
def optimal_gaussian_step(bits: int) -> tuple[float, float]:
    """Return (step, mse) of the uniform grid with 2^bits levels that suits a unit Gaussian best.

    Source: Max 1960, table II (0.9957 and 0.1188 for 4 levels).

    >>> [round(v, 4) for v in optimal_gaussian_step(3)]
    [0.586, 0.0374]
    """
    # Imported here: it takes longer than the rest of labkit, and a first picture must not wait.
    from scipy.optimize import minimize_scalar

    check_bits(bits)
    levels = 2**bits
    best = minimize_scalar(
        lambda step: gaussian_mse(step, levels),
        bounds=(1e-3, 3.0),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(best.x), float(best.fun)


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
