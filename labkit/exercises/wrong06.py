"""Typical wrong answers to the exercises of notebook 06, written as a learner would write them."""

from __future__ import annotations

import torch

from labkit.exercises.core import Wrong


def _grid(low, high, steps=255):
    scale = (high - low) / steps
    return scale, torch.round(-low / scale).int()


def _ends(x, dim=1):
    return x.amin(dim).clamp(max=0), x.amax(dim).clamp(min=0)


def _one_grid(x):
    scale, zero_point = _grid(x.min().clamp(max=0), x.max().clamp(min=0))
    return scale.repeat(len(x)), zero_point.repeat(len(x))


def _no_sign(x):
    low, high = _ends(x)
    scale = (high - low) / 255
    return scale, torch.round(low / scale).int()


def _floored(x):
    low, high = _ends(x)
    scale = (high - low) / 255
    return scale, (-low / scale).int()


def _symmetric(x):
    scale = x.abs().amax(1) / 127
    return scale, torch.zeros(len(x), dtype=torch.int32)


def _kept(x):
    low, high = x.amin(1, keepdim=True).clamp(max=0), x.amax(1, keepdim=True).clamp(min=0)
    return _grid(low, high)


TOKENS = (
    Wrong("one grid for all", _one_grid, "one grid for all tokens"),
    Wrong("a grid a column", lambda x: _grid(*_ends(x, 0)), "wrong dimension"),
    Wrong("a range without zero", lambda x: _grid(x.amin(1), x.amax(1)), "contain 0"),
    Wrong("256 steps", lambda x: _grid(*_ends(x), 256), "255 steps"),
    Wrong("the sign of the zero point", _no_sign, "−low / scale"),
    Wrong("cuts the zero point off", _floored, "cut the zero point off"),
    Wrong("a symmetric grid", _symmetric, "symmetric grid"),
    Wrong("keeps the dimension", _kept, "shape (tokens,)"),
    Wrong("divides by zero", lambda x: _grid(*_ends(x)), "token of zeros"),
)


def _fold(weight, bias, gamma, beta, mean, factor):
    return weight * factor.reshape(-1, 1, 1, 1), (bias - mean) * factor + beta


def _no_eps(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, bias, gamma, beta, mean, gamma / var.sqrt())


def _no_root(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, bias, gamma, beta, mean, gamma / (var + eps))


def _other_axis(weight, bias, gamma, beta, mean, var, eps):
    factor = gamma / (var + eps).sqrt()
    return weight * factor.reshape(1, -1, 1, 1), (bias - mean) * factor + beta


def _bias_unscaled(weight, bias, gamma, beta, mean, var, eps):
    factor = gamma / (var + eps).sqrt()
    return weight * factor.reshape(-1, 1, 1, 1), bias - mean * factor + beta


def _no_mean(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, bias, gamma, beta, 0, gamma / (var + eps).sqrt())


def _plus_mean(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, bias, gamma, beta, -mean, gamma / (var + eps).sqrt())


def _no_beta(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, bias, gamma, 0, mean, gamma / (var + eps).sqrt())


def _beta_scaled(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, bias + beta, gamma, 0, mean, gamma / (var + eps).sqrt())


def _no_bias(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, 0, gamma, beta, mean, gamma / (var + eps).sqrt())


def _no_gamma(weight, bias, gamma, beta, mean, var, eps):
    return _fold(weight, bias, gamma, beta, mean, 1 / (var + eps).sqrt())


FOLD = (
    Wrong("forgets eps", _no_eps, "left out eps"),
    Wrong("divides by the variance", _no_root, "square root"),
    Wrong("scales the inputs", _other_axis, "output channel"),
    Wrong("leaves the bias unscaled", _bias_unscaled, "multiplied by the factor"),
    Wrong("forgets the mean", _no_mean, "forgot the running mean"),
    Wrong("adds the mean", _plus_mean, "added the running mean"),
    Wrong("forgets beta", _no_beta, "forgot beta"),
    Wrong("scales beta", _beta_scaled, "scaled beta"),
    Wrong("drops the bias", _no_bias, "own bias"),
    Wrong("forgets gamma", _no_gamma, "forgot gamma"),
)


def _latency(join, nbytes, products):
    def answer(weights, bits, rows, overhead, bandwidth, speed):
        reading = nbytes(weights, bits, rows) / bandwidth
        return join(overhead, reading, products(weights, rows) / speed)

    return answer


def _usual(overhead, reading, computing):
    return overhead + max(reading, computing)


def _bytes(weights, bits, rows):
    return weights * bits / 8


def _products(weights, rows):
    return weights * rows


LATENCY = (
    Wrong("adds", _latency(lambda o, r, c: o + r + c, _bytes, _products), "added reading"),
    Wrong(
        "takes the quicker", _latency(lambda o, r, c: o + min(r, c), _bytes, _products), "slower"
    ),
    Wrong("forgets the call", _latency(lambda o, r, c: max(r, c), _bytes, _products), "overhead"),
    Wrong("hides the call", _latency(max, _bytes, _products), "does not hide"),
    Wrong("bits as bytes", _latency(_usual, lambda w, b, r: w * b, _products), "8 bits"),
    Wrong("reads for each row", _latency(_usual, lambda w, b, r: w * b / 8 * r, _products), "once"),
    Wrong("computes one row", _latency(_usual, _bytes, lambda w, r: w), "every row"),
    Wrong("always 4 bytes", _latency(_usual, lambda w, b, r: 4 * w, _products), "fewer bits"),
)
