"""How the exercises of notebook 02 are judged: cases with results from numpy, in float64.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from labkit.exercises.core import Case

SIGNED = "E is a size and never negative: take |x − x'|."
TURNED = "You took x' − x with its sign; E is a size and never negative: |x − x'|."
MEAN_FIRST = "You averaged the signed errors before squaring, so that they cancel: square first."
NO_SQUARE = "You averaged |E| itself; the *squared* error is asked."
SUM = "You added the squares; divide by how many there are: the *mean* squared error is asked."
ROOT = "You took the root: that is the RMS error; the mean squared error is asked."
SPREAD = (
    "You took the variance of the error, which forgives a constant offset: average the squares."
)
SPREAD_TOO = (
    "You took torch's var(), which takes off the mean and divides by n − 1; a constant offset is "
    "an error too: average the squares."
)
NO_ZERO = "You forgot the zero point: x' = (q − zero_point) × scale."
WRAPS = (
    "q − zero_point wrapped around, because uint8 cannot hold a negative number: turn the codes "
    "into a wider integer or a float first."
)
IN_CODES = "You measured the error in codes, before multiplying by the scale; E is in units of x."
HALF = "Half precision overflows at 65,504: 300² is too much already. Convert to double first."
E_GENERAL = "x' = (q − zero_point) × scale, E = |x − x'|, and the mean of E² over all elements."


def error_cases() -> Iterator[Case]:
    """Cases of exercise 2.1: error and mean squared error."""
    yield _error_case(
        np.array([0.3, -1.2, 0.9, 0.05, -0.35]), np.array([3, 0, 3, 2, 1]), 0.5, 2, E_GENERAL
    )
    yield _error_case(
        np.array([300.0, -300.0, 40.0]),
        np.array([1, 1, 1]),
        600.0,
        1,
        HALF,
        torch.float16,
    )
    yield _error_case(np.array([0.25]), np.array([0]), 1.0, 0, "One element is a tensor too.")
    for seed in range(3):
        draw = np.random.default_rng(seed)
        x = draw.normal(0, 3, (40, 50)).astype(np.float32).astype(np.float64)
        scale, zero_point = 0.75, int(draw.integers(1, 15))
        q = np.clip(np.rint(x / scale) + zero_point, 0, 15)
        yield _error_case(x, q, scale, zero_point, E_GENERAL)


def _error_case(x, q, scale, zero_point, message, dtype=torch.float32) -> Case:
    """Right result and mistakes, written out in numpy."""
    error = x - (q - zero_point) * scale
    size, mse = np.abs(error), float(np.mean(error**2))
    no_zero = x - q * scale
    wrapped = x - ((q - zero_point) % 256) * scale
    mistakes = {
        SIGNED: (error, mse),
        TURNED: (-error, mse),
        MEAN_FIRST: (size, float(np.mean(error)) ** 2),
        NO_SQUARE: (size, float(np.mean(size))),
        SUM: (size, float(np.sum(error**2))),
        ROOT: (size, math.sqrt(mse)),
        SPREAD: (size, float(np.var(error))),
        SPREAD_TOO: (size, float(np.var(error, ddof=1)) if x.size > 1 else math.nan),
        NO_ZERO: (np.abs(no_zero), float(np.mean(no_zero**2))),
        WRAPS: (np.abs(wrapped), float(np.mean(wrapped**2))),
        IN_CODES: (size / scale, mse / scale**2),
        HALF: (size, math.inf),
    }
    arguments = (
        torch.from_numpy(x).to(dtype),
        torch.from_numpy(q.astype(np.uint8)),
        scale,
        zero_point,
    )
    looks_like = {
        said: wrong
        for said, wrong in mistakes.items()
        if not (np.isclose(wrong[1], mse) and np.allclose(wrong[0], size))
    }
    return Case(arguments, (size, mse), message, looks_like, tolerance=1e-5)


BY_CODE = (
    "You judged by where a value landed. A value just inside the range may round to the last level "
    "too: it clips only when x itself lies below low or above high."
)
OWN_MEANS = (
    "You divided each part by its own number of values, so the two do not add up to the MSE: "
    "divide both by the number of all values."
)
EMPTY = (
    "The mean of no values is NaN: divide by the number of all values, then a missing part is 0."
)
UPPER = "You forgot the values below low: they clip too."
LOWER = "You forgot the values above high: they clip too."
TWICE = "Your rounding part still holds the clipped values: they are counted twice."
SWAPPED = "The two parts are swapped: rounding first, clipping second."
MIRRORED = "The range need not be symmetric: compare with low and high, not |x| with high."
SIZES = "You averaged |x − x'|; both parts are means of squares."
SPLIT_GENERAL = (
    "Square the error of every value; share the squares between inside and outside [low, high]; "
    "divide both sums by the number of all values."
)


def split_cases() -> Iterator[Case]:
    """Cases of exercise 2.2: rounding and clipping."""
    yield _split_case([-3.0, -1.5, -0.9, 0.4, 1.9, 2.0, 2.4, 2.6, 5.0], 1.0, -1, 2, SPLIT_GENERAL)
    yield _split_case([-0.9, 0.3, 1.2], 1.0, -1, 2, "Nothing clips here: the clipping part is 0.")
    yield _split_case([9.0, 7.0], 1.0, -1, 2, "Everything clips here: the rounding part is 0.")
    for seed in range(3):
        x = np.random.default_rng(seed).normal(0, 2, 3000).astype(np.float32)
        yield _split_case(x, 0.5, -4, 3, SPLIT_GENERAL)


def _split_case(x, step, first, last, message) -> Case:
    """Values on the levels first·step … last·step, and what mistakes make of their errors."""
    x = np.asarray(x, dtype=np.float64)
    back = np.clip(np.rint(x / step), first, last) * step
    low, high = first * step, last * step
    squared = (x - back) ** 2
    outside = (x < low) | (x > high)

    def parts(out: np.ndarray, what: np.ndarray = squared) -> tuple[float, float]:
        return float(np.sum(what[~out]) / x.size), float(np.sum(what[out]) / x.size)

    right = parts(outside)
    own = tuple(float(squared[o].mean()) if o.any() else math.nan for o in (~outside, outside))
    mistakes = {
        BY_CODE: parts((back == low) | (back == high)),
        UPPER: parts(x > high),
        LOWER: parts(x < low),
        TWICE: (sum(right), right[1]),
        SWAPPED: right[::-1],
        MIRRORED: parts(np.abs(x) > high),
        SIZES: parts(outside, np.sqrt(squared)),
        (EMPTY if any(map(math.isnan, own)) else OWN_MEANS): own,
    }
    looks_like = {said: result for said, result in mistakes.items() if result != right}
    arguments = (torch.tensor(x).float(), torch.tensor(back).float(), float(low), float(high))
    return Case(arguments, right, message, looks_like, tolerance=1e-5)


TWENTY = "20 log10 is for amplitudes; mean squares are powers, so it is 10 log10."
UPSIDE_DOWN = "Your ratio is upside down: the signal goes above, the noise below."
NATURAL = "You took the natural logarithm; decibels use log10."
BELS = "That is in bels; a decibel is a tenth of it: multiply by 10."
NO_LOG = "That is the plain ratio; decibels are 10 log10 of it."
PEAK = "You took the peak max(x²) as the signal; that is PSNR. SQNR takes the mean of x²."
CENTERED = "You subtracted the mean of x (a variance); the signal is the mean of x² as it is."
FROM_BACK = "Take the power of the original x as the signal, not that of x'."
AMPLITUDES = "You compared mean absolute values; SQNR compares mean squares."
NO_NOISE = "Without any error the ratio is infinite: return math.inf instead of dividing by 0."
NOTHING_LOST = (
    "Zeros that come back as zeros lost nothing: look at the noise first, return math.inf."
)
NO_SIGNAL = "All noise and no signal: the logarithm of 0 has the limit −infinity, -math.inf."
SMALL_NOISE = (
    "A small noise is noise: only exactly 0 is infinitely good, and nothing is added to it."
)
SQNR_GENERAL = "SQNR = 10 log10( mean(x²) / mean((x − x')²) )."


def sqnr_cases() -> Iterator[Case]:
    """Cases of exercise 2.4: signal to noise in decibels."""
    yield _sqnr_case([3.0, -1.0, 2.0, 4.0], [2.5, -1.0, 2.5, 4.0], SQNR_GENERAL)
    large = torch.tensor([300.0, -280.0, 90.0], dtype=torch.float16)
    yield _sqnr_case(large, [256.0, -256.0, 128.0], HALF)
    same, zeros = torch.tensor([1.0, 2.0]), torch.zeros(3)
    yield Case((same, same.clone()), math.inf, NO_NOISE, {NO_NOISE: math.nan})
    yield Case((zeros, zeros.clone()), math.inf, NOTHING_LOST, {NOTHING_LOST: math.nan})
    yield Case((zeros, torch.full((3,), 0.5)), -math.inf, NO_SIGNAL, {NO_SIGNAL: math.inf})
    yield _sqnr_case([0.01, -0.02, 0.03], [0.01001, -0.02001, 0.03001], SMALL_NOISE, SMALL_NOISE)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(1, 2, 5000).astype(np.float32)
        yield _sqnr_case(x, np.rint(x), SQNR_GENERAL)


def _sqnr_case(x, back, message, infinite=HALF) -> Case:
    """Right result and mistakes in numpy; `infinite` is the mistake that ends at infinity."""
    x = torch.as_tensor(x)
    back = torch.as_tensor(back).to(x.dtype)
    a, b = x.double().numpy(), back.double().numpy()
    signal, noise = np.mean(a**2), np.mean((a - b) ** 2)
    right = 10 * math.log10(signal / noise)
    mistakes = {
        TWENTY: 2 * right,
        UPSIDE_DOWN: -right,
        NATURAL: 10 * math.log(signal / noise),
        BELS: right / 10,
        NO_LOG: float(signal / noise),
        PEAK: 10 * math.log10(np.max(a**2) / noise),
        CENTERED: 10 * math.log10(np.var(a) / noise),
        FROM_BACK: 10 * math.log10(np.mean(b**2) / noise),
        AMPLITUDES: 10 * math.log10(np.mean(np.abs(a)) / np.mean(np.abs(a - b))),
        infinite: math.inf,
    }
    return Case((x, back), right, message, mistakes, tolerance=1e-5)


NOT_SQUARED = "Square the step: a mean *squared* error has the unit of x²."
SIXTH = "The constant is 12, not 6: the mean of e² over [−s/2, s/2] is s²/12."
WORST = "(s/2)² is the largest squared error; the mean over all of [−s/2, s/2] is smaller."
WHOLE_STEP = "s²/3 would be the mean over [−s, s]; rounding errs by half a step at most."
CELLS = "2^b levels have only 2^b − 1 steps between them."
HALF_RANGE = "The range is maximum − minimum; you left the negative side out."
RMS = "s/√12 is the RMS error; the mean squared error is its square."
XOR = "In Python ^ is exclusive or; a power is written 2**bits."
PREDICTED_GENERAL = "s = (maximum − minimum) / (2^b − 1), and the prediction is s²/12."


def predicted_cases() -> Iterator[Case]:
    """Cases of exercise 2.3: the predicted mean squared error."""
    yield _predicted_case(-12.0, 33.0, 4)
    yield _predicted_case(-1.0, 1.0, 8)
    yield _predicted_case(0.0, 60.0, 2)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        for bits in range(2, 9):
            low, high = -float(draw.uniform(0, 50)), float(draw.uniform(1, 90))
            yield _predicted_case(low, high, bits)


def _predicted_case(low: float, high: float, bits: int) -> Case:
    span, steps = high - low, 2**bits - 1
    step = span / steps
    right = step * step / 12
    mistakes = {
        NOT_SQUARED: step / 12,
        SIXTH: step**2 / 6,
        WORST: step**2 / 4,
        WHOLE_STEP: step**2 / 3,
        CELLS: (span / 2**bits) ** 2 / 12,
        HALF_RANGE: (high / steps) ** 2 / 12,
        RMS: step / math.sqrt(12),
    }
    if bits != 3:
        mistakes[XOR] = (span / (2 ^ (bits - 1))) ** 2 / 12
    looks_like = {said: wrong for said, wrong in mistakes.items() if abs(wrong - right) > 1e-9}
    return Case((low, high, bits), right, PREDICTED_GENERAL, looks_like)


MINMAX = "That range reaches to the largest value: it is min-max. Search for the smallest MSE."
NO_CLIPPING = "That range clips nothing, but it rounds too coarsely. Search for the smallest MSE."
ROUNDING_ONLY = "You counted the rounding alone, so the narrowest range wins: take the whole error."
LARGEST = "You made the *largest* error small; the mean squared error is asked."
ABSOLUTE = "You compared mean absolute errors; the mean *squared* error is asked."
ONE_SIDE = "Your range starts at 0, so that all negative values clip: it goes from −c to c."
BACKWARDS = "You kept the candidate with the largest error; keep the smallest."
THE_ERROR = "You returned the smallest error; return the candidate that gives it."
THE_PLACE = "You returned the place in the list; return the candidate itself."
CLIP_GENERAL = (
    "For each c: qparams_from_range(-c, c, bits, symmetric=True, signed=True), then the mse of "
    "quantization_error; return the c with the smallest."
)


def clip_cases() -> Iterator[Case]:
    """Cases of exercise 2.5: the best clip by search."""
    draw = np.random.default_rng(7)
    x = np.concatenate([draw.normal(0, 1, 2000), draw.uniform(7, 9, 6) * [1, -1, 1, -1, 1, -1]])
    yield _clip_case(x, 4, np.arange(1, 40.01, 0.25))
    yield _clip_case(np.linspace(-1, 1, 801), 8, [0.25, 0.5, 0.75, 1.0, 1.5])
    yield _clip_case(draw.normal(0, 1, 500), 3, [2.0])
    for seed in range(3):
        x = np.random.default_rng(seed).laplace(0, 1, 2000)
        for bits in (2, 3, 5):
            yield _clip_case(x, bits, np.arange(0.25, 8.01, 0.25))


def _clip_case(x, bits, candidates) -> Case:
    x = np.asarray(x).astype(np.float32)
    clips = [float(c) for c in candidates]
    half = 2 ** (bits - 1)

    def error(clip: float, first: int = -half) -> np.ndarray:
        scale = np.float32(clip / (half - 1)) if first else np.float32(clip / (2 * half - 1))
        last = half - 1 if first else 2 * half - 1
        back = np.clip(np.rint(x / scale), first, last).astype(np.float64) * float(scale)
        return np.abs(x - back)

    def rounding(clip: float) -> float:
        scale = float(np.float32(clip / (half - 1)))
        inside = (x >= -half * scale) & (x <= (half - 1) * scale)
        return float(np.sum(error(clip)[inside] ** 2))

    mse = {clip: float(np.mean(error(clip) ** 2)) for clip in clips}
    right = min(clips, key=mse.get)
    mistakes = {
        THE_ERROR: mse[right],
        THE_PLACE: clips.index(right),
        ROUNDING_ONLY: min(clips, key=rounding),
        ONE_SIDE: min(clips, key=lambda c: float(np.mean(error(c, 0) ** 2))),
        ABSOLUTE: min(clips, key=lambda c: float(np.mean(error(c)))),
        LARGEST: min(clips, key=lambda c: float(np.max(error(c)))),
        MINMAX: min(clips, key=lambda c: abs(c - float(np.abs(x).max()))),
        NO_CLIPPING: min((c for c in clips if c >= np.abs(x).max()), default=clips[-1]),
        BACKWARDS: max(clips, key=mse.get),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((torch.from_numpy(x), bits, clips), right, CLIP_GENERAL, looks_like)
