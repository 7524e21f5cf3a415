"""How the exercises of notebook 06 are judged: numpy in float64, and torch's own folding.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_weights

from labkit.exercises.core import Case

ONE_GRID = "You made one grid for all tokens: take the minimum and maximum of each row."
COLUMNS = "You went along the wrong dimension: a token is a row, so reduce over dim=1."
NO_ZERO = (
    "The range need not contain 0 yet: widen it (minimum at most 0, maximum at least 0), so that 0 "
    "has a code."
)
STEPS_256 = "256 codes have 255 steps between them: divide the range by 255."
NO_SIGN = "The zero point is −low / scale: low is negative or 0, the zero point is 0 or positive."
FLOORED = "You cut the zero point off instead of rounding it to the nearest code."
SYMMETRIC = "That is a symmetric grid (amax / 127); these codes are unsigned and need low and high."
ALL_ZERO = "A token of zeros has a range of width 0: its scale is 1, so that nothing divides by 0."
KEPT = "One number a token: shape (tokens,), without a dimension of length 1 behind it."
TOKEN_GENERAL = (
    "For each row: low = min(row, 0), high = max(row, 0), scale = (high − low) / 255, zero point = "
    "round(−low / scale)."
)


def token_cases() -> Iterator[Case]:
    """Cases of exercise 6.1: a grid for every token."""
    yield _token_case(
        np.array([[-1.0, 2.0, 0.5, 3.0], [0.5, 4.0, 2.0, 7.0], [-9.1, 1, -4.0, -2.0]])
    )
    yield _token_case(np.array([[0.0, 0.0], [-1.0, 3.0]]), {ALL_ZERO: "nan"})
    yield _token_case(np.array([[-0.25], [5.0]]))
    for seed in range(3):
        draw = np.random.default_rng(seed)
        spread = draw.uniform(0.1, 20, (30, 1))
        yield _token_case(np.float32(draw.normal(0.3, 1, (30, 40)) * spread).astype(float))


def _token_case(x: np.ndarray, special: dict | None = None) -> Case:
    low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
    right = _grid(low, high)
    raw = x.min(1), x.max(1)
    amax = np.abs(x).max(1)
    count = len(x)
    columns = np.minimum(x.min(0), 0), np.maximum(x.max(0), 0)
    scale, zero_point = right
    mistakes = {
        ONE_GRID: tuple(np.full(count, part[0]) for part in _grid(low.min(None), high.max(None))),
        COLUMNS: _grid(*columns),
        NO_ZERO: _grid(*raw),
        STEPS_256: _grid(low, high, 256),
        NO_SIGN: (scale, -zero_point),
        FLOORED: (scale, np.floor(-low / scale)),
        SYMMETRIC: (amax / 127, np.zeros(count)),
        KEPT: (scale[:, None], zero_point[:, None]),
    }
    if special:
        with np.errstate(all="ignore"):
            empty = (high - low) / 255
            mistakes[ALL_ZERO] = (empty, np.round(-low / empty))
    looks_like = {
        said: tuple(torch.from_numpy(np.asarray(part, dtype=float)) for part in wrong)
        for said, wrong in mistakes.items()
    }
    expected = torch.from_numpy(scale), torch.from_numpy(zero_point.astype(np.int32))
    message = ALL_ZERO if special else TOKEN_GENERAL
    # Integers and floats that are whole count as the same zero point.
    return Case((torch.from_numpy(x).float(),), expected, message, looks_like, tolerance=1e-6)


def _grid(low, high, steps: int = 255) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.atleast_1d(low), np.atleast_1d(high)
    scale = (high - low) / steps
    scale = np.where(scale > 0, scale, 1.0)
    return scale, np.round(-low / scale)


NO_EPS = "You left out eps: gamma / sqrt(var + eps), or a channel that never varies divides by 0."
NO_ROOT = "You divided by the variance; a batch norm divides by its square root."
OTHER_AXIS = (
    "You scaled along the input channels: the factor belongs to the output channel, the first "
    "dimension; reshape it to (-1, 1, 1, 1)."
)
BIAS_UNSCALED = "The bias goes through the batch norm too: it must be multiplied by the factor."
NO_MEAN = "You forgot the running mean: it is subtracted before scaling."
PLUS_MEAN = "You added the running mean; a batch norm subtracts it."
NO_BETA = "You forgot beta, which is added at the end."
BETA_SCALED = "You scaled beta too: it is added after the scaling."
NO_BIAS = "You dropped the convolution's own bias: (bias − mean) × factor + beta."
NO_GAMMA = "You forgot gamma: factor = gamma / sqrt(var + eps)."
FOLD_GENERAL = (
    "factor = gamma / sqrt(var + eps); weight × factor along the first dimension; "
    "(bias − mean) × factor + beta."
)


def fold_cases() -> Iterator[Case]:
    """Cases of exercise 6.2: folding a batch norm into the convolution before it."""
    yield _fold_case(0, out=3, into=3, eps=0.5)
    yield _fold_case(1, out=4, into=4, eps=1e-3, kernel=(1, 3))
    yield _fold_case(2, out=2, into=1, eps=1e-5, still=True)
    for seed in range(3, 6):
        yield _fold_case(seed, out=8, into=5, eps=1e-5)


def _fold_case(
    seed: int, out: int, into: int, eps: float, kernel=(3, 3), still: bool = False
) -> Case:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, into, *kernel, generator=draw)
    bias, beta, mean = (torch.randn(out, generator=draw) for _ in range(3))
    gamma, var = (0.2 + 2 * torch.rand(out, generator=draw) for _ in range(2))
    if still:
        var[0] = 0.0
    right = fuse_conv_bn_weights(
        weight.double(),
        bias.double(),
        mean.double(),
        var.double(),
        eps,
        gamma.double(),
        beta.double(),
    )
    w, b, g, a, m, v = (t.double().numpy() for t in (weight, bias, gamma, beta, mean, var))

    def folded(factor, shift) -> tuple:
        return w * factor.reshape(-1, 1, 1, 1), shift

    factor = g / np.sqrt(v + eps)
    with np.errstate(all="ignore"):
        bare = g / np.sqrt(v)
    mistakes = {
        NO_EPS: folded(bare, (b - m) * bare + a),
        NO_ROOT: folded(g / (v + eps), (b - m) * g / (v + eps) + a),
        BIAS_UNSCALED: folded(factor, b - m * factor + a),
        NO_MEAN: folded(factor, b * factor + a),
        PLUS_MEAN: folded(factor, (b + m) * factor + a),
        NO_BETA: folded(factor, (b - m) * factor),
        BETA_SCALED: folded(factor, (b - m + a) * factor),
        NO_BIAS: folded(factor, a - m * factor),
        NO_GAMMA: folded(factor / g, (b - m) * factor / g + a),
    }
    if out == into:
        mistakes[OTHER_AXIS] = (w * factor.reshape(1, -1, 1, 1), (b - m) * factor + a)
    looks_like = {
        said: tuple(torch.from_numpy(np.asarray(part)) for part in wrong)
        for said, wrong in mistakes.items()
    }
    expected = tuple(part.detach() for part in right)
    arguments = (weight, bias, gamma, beta, mean, var, eps)
    return Case(arguments, expected, FOLD_GENERAL, looks_like, tolerance=2e-4)


ADDED = "You added reading and computing; they go on at the same time, so the slower one counts."
QUICKER = "You took the quicker of the two; the call waits for the slower one."
NO_OVERHEAD = "You forgot what every call costs, whatever the layer: add the overhead."
HIDDEN_OVERHEAD = "The overhead does not hide behind the work: add it to the larger of the two."
BITS_AS_BYTES = "A byte has 8 bits: weights × bits / 8 bytes are read."
READ_EACH_ROW = "The weights are read once for all rows: bytes do not grow with the rows."
ONE_ROW = "Every row multiplies with every weight: products = weights × rows."
NO_BITS = "Fewer bits are fewer bytes: weights × bits / 8, not 4 bytes a weight."
LATENCY_GENERAL = "overhead + max(weights × bits / 8 / bandwidth, weights × rows / speed)."


def latency_cases() -> Iterator[Case]:
    """Cases of exercise 6.3: three terms, two of them at the same time."""
    # Computing counts; reading counts; the call itself counts.
    yield _latency_case(2**21, 8, 3, 2e-3, 1e10, 5e9)
    yield _latency_case(2**17, 2, 2, 2e-5, 1e10, 5e10)
    yield _latency_case(256, 32, 1, 1e-5, 1e10, 1e11)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        weights, rows = int(draw.integers(64, 2**24)), int(draw.integers(1, 128))
        bits, overhead = int(draw.choice([2, 4, 8, 32])), float(draw.uniform(1e-6, 1e-4))
        bandwidth, speed = (float(rate) for rate in draw.uniform(1e9, 1e11, 2))
        yield _latency_case(weights, bits, rows, overhead, bandwidth, speed)


def _latency_case(weights, bits, rows, overhead, bandwidth, speed) -> Case:
    nbytes, products = weights * bits / 8, weights * rows
    reading, computing = nbytes / bandwidth, products / speed
    right = overhead + max(reading, computing)
    mistakes = {
        ADDED: overhead + reading + computing,
        QUICKER: overhead + min(reading, computing),
        NO_OVERHEAD: max(reading, computing),
        HIDDEN_OVERHEAD: max(overhead, reading, computing),
        BITS_AS_BYTES: overhead + max(8 * reading, computing),
        READ_EACH_ROW: overhead + max(rows * reading, computing),
        ONE_ROW: overhead + max(reading, weights / speed),
        NO_BITS: overhead + max(4 * weights / bandwidth, computing),
    }
    looks_like = {words: wrong for words, wrong in mistakes.items() if not np.isclose(wrong, right)}
    arguments = (weights, bits, rows, overhead, bandwidth, speed)
    return Case(arguments, right, LATENCY_GENERAL, looks_like, tolerance=1e-6)
