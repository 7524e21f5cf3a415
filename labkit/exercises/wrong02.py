"""Typical wrong answers to the exercises of notebook 02, written as a learner would write them."""

from __future__ import annotations

import math

import torch

from labkit.affine import qparams_from_range
from labkit.errors import quantization_error
from labkit.exercises.core import Wrong


def _back(q, scale, zero_point):
    return (q.int() - zero_point) * scale


def _signed(x, q, scale, zero_point):
    error = x - _back(q, scale, zero_point)
    return error, (error**2).mean().item()


def _mean_first(x, q, scale, zero_point):
    error = x - _back(q, scale, zero_point)
    return error.abs(), error.mean().item() ** 2


def _no_square(x, q, scale, zero_point):
    error = (x - _back(q, scale, zero_point)).abs()
    return error, error.mean().item()


def _sum(x, q, scale, zero_point):
    error = (x - _back(q, scale, zero_point)).abs()
    return error, (error**2).sum().item()


def _unbiased(x, q, scale, zero_point):
    error = x - _back(q, scale, zero_point)
    return error.abs(), error.var().item()


def _root(x, q, scale, zero_point):
    error = (x - _back(q, scale, zero_point)).abs()
    return error, (error**2).mean().sqrt().item()


def _spread(x, q, scale, zero_point):
    error = x - _back(q, scale, zero_point)
    return error.abs(), error.var(unbiased=False).item()


def _no_zero_point(x, q, scale, zero_point):
    error = (x - q * scale).abs()
    return error, (error**2).mean().item()


def _wraps(x, q, scale, zero_point):
    error = (x - (q - zero_point) * scale).abs()
    return error, (error**2).mean().item()


def _in_codes(x, q, scale, zero_point):
    error = (x / scale + zero_point - q).abs()
    return error, (error**2).mean().item()


def _half(x, q, scale, zero_point):
    error = (x - _back(q, scale, zero_point).to(x.dtype)).abs()
    return error, (error**2).mean().item()


ERROR = (
    Wrong("keeps the sign", _signed, "never negative"),
    Wrong("averages before squaring", _mean_first, "square first"),
    Wrong("forgets to square", _no_square, "squared"),
    Wrong("adds instead of averaging", _sum, "divide by how many"),
    Wrong("takes the root", _root, "RMS"),
    Wrong("takes the variance", _spread, "constant offset"),
    Wrong("takes torch's var()", _unbiased, "var()"),
    Wrong("forgets the zero point", _no_zero_point, "forgot the zero point"),
    Wrong("lets uint8 wrap", _wraps, "wrapped around"),
    Wrong("measures in codes", _in_codes, "error in codes"),
    Wrong("squares in half precision", _half, "Half precision"),
)


def _by_code(x, x_back, low, high):
    squared, clipped = (x - x_back) ** 2, (x_back <= low) | (x_back >= high)
    return squared[~clipped].sum().item() / x.numel(), squared[clipped].sum().item() / x.numel()


def _own_means(x, x_back, low, high):
    squared, outside = (x - x_back) ** 2, (x < low) | (x > high)
    return squared[~outside].mean().item(), squared[outside].mean().item()


def _patched_means(x, x_back, low, high):
    # Learned from the NaN, but still divides each part by its own number.
    parts = _own_means(x, x_back, low, high)
    return tuple(0.0 if math.isnan(part) else part for part in parts)


def _upper(x, x_back, low, high):
    squared = (x - x_back) ** 2
    return (squared * (x <= high)).mean().item(), (squared * (x > high)).mean().item()


def _lower(x, x_back, low, high):
    squared = (x - x_back) ** 2
    return (squared * (x >= low)).mean().item(), (squared * (x < low)).mean().item()


def _twice(x, x_back, low, high):
    squared, outside = (x - x_back) ** 2, (x < low) | (x > high)
    return squared.mean().item(), (squared * outside).mean().item()


def _swapped(x, x_back, low, high):
    squared, outside = (x - x_back) ** 2, (x < low) | (x > high)
    return (squared * outside).mean().item(), (squared * ~outside).mean().item()


def _mirrored(x, x_back, low, high):
    squared, outside = (x - x_back) ** 2, x.abs() > high
    return (squared * ~outside).mean().item(), (squared * outside).mean().item()


def _sizes(x, x_back, low, high):
    error, outside = (x - x_back).abs(), (x < low) | (x > high)
    return (error * ~outside).mean().item(), (error * outside).mean().item()


SPLIT = (
    Wrong("judges by the code at the end", _by_code, "where a value landed"),
    Wrong("divides each part by its own number", _own_means, "number of all values"),
    Wrong("replaces the NaN by 0", _patched_means, "number of all values"),
    Wrong("forgets the lower end", _upper, "below low"),
    Wrong("forgets the upper end", _lower, "above high"),
    Wrong("counts clipped values twice", _twice, "counted twice"),
    Wrong("swaps the parts", _swapped, "swapped"),
    Wrong("assumes a symmetric range", _mirrored, "need not be symmetric"),
    Wrong("averages sizes", _sizes, "means of squares"),
)


def _ratio(x, x_back):
    return (x.double() ** 2).mean().item() / ((x.double() - x_back.double()) ** 2).mean().item()


def _peak(x, x_back):
    noise = ((x.double() - x_back.double()) ** 2).mean()
    return (10 * torch.log10((x.double() ** 2).max() / noise)).item()


def _centered(x, x_back):
    noise = ((x.double() - x_back.double()) ** 2).mean()
    return (10 * torch.log10(x.double().var(unbiased=False) / noise)).item()


def _from_back(x, x_back):
    noise = ((x.double() - x_back.double()) ** 2).mean()
    return (10 * torch.log10((x_back.double() ** 2).mean() / noise)).item()


def _amplitudes(x, x_back):
    noise = (x.double() - x_back.double()).abs().mean()
    return (10 * torch.log10(x.double().abs().mean() / noise)).item()


def _in_half(x, x_back):
    return (10 * torch.log10((x**2).mean() / ((x - x_back) ** 2).mean())).item()


def _finite(x, x_back):
    if (x == x_back).all():
        return math.inf
    return 10 * math.log10(_ratio(x, x_back))


def _zeros_first(x, x_back):
    return _finite(x, x_back) if x.any() else -math.inf


def _guarded(threshold=0.0, added=0.0):
    """Build an answer that calls noise up to a threshold none, or adds a little to it."""

    def answer(x, x_back):
        signal = (x.double() ** 2).mean().item()
        noise = ((x.double() - x_back.double()) ** 2).mean().item()
        if noise <= threshold:
            return math.inf
        return 10 * math.log10(signal / (noise + added)) if signal > 0 else -math.inf

    return answer


SQNR = (
    Wrong("takes 20 log10", lambda x, x_back: 20 * math.log10(_ratio(x, x_back)), "amplitudes"),
    Wrong("turns the ratio", lambda x, x_back: -10 * math.log10(_ratio(x, x_back)), "upside down"),
    Wrong("takes the natural log", lambda x, x_back: 10 * math.log(_ratio(x, x_back)), "natural"),
    Wrong("stays in bels", lambda x, x_back: math.log10(_ratio(x, x_back)), "bels"),
    Wrong("forgets the logarithm", _ratio, "plain ratio"),
    Wrong("divides by zero", lambda x, x_back: 10 * math.log10(_ratio(x, x_back)), "math.inf"),
    Wrong("takes the peak", _peak, "PSNR"),
    Wrong("takes the variance", _centered, "variance"),
    Wrong("takes the signal after quantizing", _from_back, "original x"),
    Wrong("compares absolute values", _amplitudes, "mean absolute"),
    Wrong("computes in half precision", _in_half, "Half precision"),
    Wrong("takes zeros for all noise", _zeros_first, "zeros lost nothing"),
    Wrong("takes the logarithm of 0", _finite, "no signal"),
    Wrong("calls small noise none", _guarded(threshold=1e-6), "a small noise is noise"),
    Wrong("adds an epsilon to the noise", _guarded(added=1e-12), "nothing is added"),
)


def _step(minimum, maximum, bits):
    return (maximum - minimum) / (2**bits - 1)


PREDICTED = (
    Wrong("does not square", lambda minimum, maximum, bits: _step(minimum, maximum, bits) / 12,
          "Square the step"),
    Wrong("divides by 6", lambda minimum, maximum, bits: _step(minimum, maximum, bits) ** 2 / 6,
          "12, not 6"),
    Wrong("takes the worst case",
          lambda minimum, maximum, bits: (_step(minimum, maximum, bits) / 2) ** 2, "largest"),
    Wrong("lets rounding err by a whole step",
          lambda minimum, maximum, bits: _step(minimum, maximum, bits) ** 2 / 3, "half a step"),
    Wrong("counts levels as steps",
          lambda minimum, maximum, bits: ((maximum - minimum) / 2**bits) ** 2 / 12, "2^b − 1"),
    Wrong("forgets the negative side",
          lambda minimum, maximum, bits: _step(0, maximum, bits) ** 2 / 12, "negative side"),
    Wrong("gives the RMS error",
          lambda minimum, maximum, bits: _step(minimum, maximum, bits) / math.sqrt(12), "RMS"),
    Wrong("writes ^ for a power",
          lambda minimum, maximum, bits: ((maximum - minimum) / (2 ^ bits - 1)) ** 2 / 12,
          "2**bits"),
)  # fmt: skip


def _report(x, clip, bits):
    grid = qparams_from_range(-clip, clip, bits, symmetric=True, signed=True)
    return quantization_error(x, grid)


def _minmax(x, bits, candidates):
    # The candidate nearest to the largest absolute value.
    return min(candidates, key=lambda c: abs(c - x.abs().max().item()))


def _rounding_only(x, bits, candidates):
    return min(candidates, key=lambda c: _report(x, c, bits).rounding_mse)


def _clipping_only(x, bits, candidates):
    return min(candidates, key=lambda c: _report(x, c, bits).clipping_mse)


def _largest(x, bits, candidates):
    return min(candidates, key=lambda c: _report(x, c, bits).max_abs)


def _absolute(x, bits, candidates):
    def error(clip):
        scale = clip / (2 ** (bits - 1) - 1)
        back = (x / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale
        return (x - back).abs().mean().item()

    return min(candidates, key=error)


def _one_side(x, bits, candidates):
    return min(candidates, key=lambda c: quantization_error(x, qparams_from_range(0, c, bits)).mse)


def _backwards(x, bits, candidates):
    return max(candidates, key=lambda c: _report(x, c, bits).mse)


def _the_error(x, bits, candidates):
    return min(_report(x, c, bits).mse for c in candidates)


def _the_place(x, bits, candidates):
    errors = [_report(x, c, bits).mse for c in candidates]
    return errors.index(min(errors))


CLIP = (
    Wrong("takes min-max", _minmax, "min-max"),
    Wrong("looks at the rounding alone", _rounding_only, "rounding alone"),
    Wrong("looks at the clipping alone", _clipping_only, "largest value"),
    Wrong("minimizes the largest error", _largest, "*largest* error"),
    Wrong("minimizes absolute errors", _absolute, "mean absolute"),
    Wrong("forgets the negative side", _one_side, "from −c to c"),
    Wrong("keeps the worst", _backwards, "largest error; keep the smallest"),
    Wrong("returns the error", _the_error, "smallest error; return the candidate"),
    Wrong("returns the place", _the_place, "place in the list"),
)
