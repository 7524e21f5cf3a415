"""Typical wrong answers to the exercises of notebook 08, written as a learner would write them."""

from __future__ import annotations

import torch

from labkit.affine import QParams, fake_quantize
from labkit.exercises.core import Wrong


def _codes(w, scale):
    return torch.round(w / scale)


def _inside(w, scale, low, high):
    return (_codes(w, scale) >= low) & (_codes(w, scale) <= high)


def _float_range(g, w, scale, low, high):
    return g * ((w >= low * scale) & (w <= high * scale))


def _strict(g, w, scale, low, high):
    codes = _codes(w, scale)
    return g * ((codes > low) & (codes < high))


def _in_place(g, w, scale, low, high):
    g[~_inside(w, scale, low, high)] = 0
    return g


STRAIGHT = (
    Wrong("passes everything", lambda g, w, s, low, high: g, "let every gradient pass"),
    Wrong("the true slope", lambda g, w, s, low, high: torch.zeros_like(g), "true slope"),
    Wrong("compares the weight", _float_range, "compare the rounded code"),
    Wrong("leaves the ends out", _strict, "left out the end codes"),
    Wrong(
        "the other way round",
        lambda g, w, s, low, high: g * ~_inside(w, s, low, high),
        "other way round",
    ),
    Wrong(
        "times the scale",
        lambda g, w, s, low, high: g * _inside(w, s, low, high) * s,
        "not multiply by the scale",
    ),
    Wrong(
        "one limit for both ends",
        lambda g, w, s, low, high: g * (_codes(w, s).abs() <= high),
        "begins at quant_min",
    ),
    Wrong(
        "rounds the weights",
        lambda g, w, s, low, high: _codes(w, s).clamp(low, high) * s,
        "gradient of the weights",
    ),
    Wrong("changes its input", _in_place, "in place"),
)


def _step(w, x, y, scale, rate, *, sign=-1.0, reduce=torch.mean, factor=1.0):
    w = w.clone().requires_grad_()
    loss = factor * reduce((x @ _rounded(w, scale) - y) ** 2)
    loss.backward()
    return (w + sign * rate * w.grad).detach()


def _rounded(w, scale):
    return fake_quantize(w, QParams(scale, 0, -2, 1))


def _lost(w, x, y, scale, rate):
    return _rounded(w, scale) + _step(w, x, y, scale, rate) - w


def _float_loss(w, x, y, scale, rate):
    w = w.clone().requires_grad_()
    ((x @ w - y) ** 2).mean().backward()
    return (w - rate * w.grad).detach()


def _plain_round(w, x, y, scale, rate):
    w = w.clone().requires_grad_()
    rounded = torch.round(w / scale).clamp(-2, 1) * scale
    ((x @ rounded - y) ** 2).mean().backward()
    return (w - rate * w.grad).detach()


def _unclipped(w, x, y, scale, rate):
    rounded = _rounded(w, scale).requires_grad_()
    ((x @ rounded - y) ** 2).mean().backward()
    return w - rate * rounded.grad


TRAINING = (
    Wrong("moves the rounded weights", _lost, "update the float"),
    Wrong("loss of the float weights", _float_loss, "loss is that of the float"),
    Wrong("uphill", lambda *a: _step(*a, sign=1.0), "uphill"),
    Wrong("sums the errors", lambda *a: _step(*a, reduce=torch.sum), "mean over the images"),
    Wrong("plain rounding", _plain_round, "have not moved"),
    Wrong("moves clipped weights", _unclipped, "clipped has gradient 0"),
    Wrong("rounds what it returns", lambda *a: _rounded(_step(*a), a[3]), "returned rounded"),
    Wrong("loses the 2", lambda *a: _step(*a, factor=0.5), "factor 2"),
)


def _first(mean, most=lambda bits: 2 ** (bits - 1) - 1, power=0.5, factor=2.0):
    return lambda w, bits: factor * mean(w) / most(bits) ** power


def _rows(w):
    return w.abs().mean(1)


FIRST = (
    Wrong("one for all", _first(lambda w: w.abs().mean()), "one for each row"),
    Wrong("down the columns", _first(lambda w: w.abs().mean(0)), "dim=1"),
    Wrong("without the sizes", _first(lambda w: w.mean(1)), "|w|"),
    Wrong("from the largest", _first(lambda w: w.abs().amax(1)), "largest"),
    Wrong("without the root", _first(_rows, power=1), "square root"),
    Wrong("without the 2", _first(_rows, factor=1.0), "factor 2"),
    Wrong("unsigned codes", _first(_rows, lambda bits: 2**bits - 1), "2^b − 1"),
    Wrong("one code more", _first(_rows, lambda bits: 2 ** (bits - 1)), "lowest code"),
    Wrong("keeps the dimension", _first(lambda w: w.abs().mean(1, keepdim=True)), "shape (out,)"),
)


def _sum(slope, divide=lambda n, high: (n * high) ** 0.5):
    def answer(g, w, scale, low, high):
        v = w / scale
        codes = torch.round(v).clamp(low, high)
        inside = torch.round(v) == codes
        return (g * slope(v, codes, inside, scale, high)).sum() / divide(w.numel(), high)

    return answer


def _slope(v, codes, inside, scale, high):
    return torch.where(inside, codes - v, codes)


def _each(g, w, scale, low, high):
    v = w / scale
    codes = torch.round(v).clamp(low, high)
    slope = torch.where(torch.round(v) == codes, codes - v, codes)
    return g * slope / (w.numel() * high) ** 0.5


STEP = (
    Wrong("without the gradient scale", _sum(_slope, lambda n, high: 1), "gradient scale"),
    Wrong("holds the codes", _sum(lambda v, codes, *_: codes), "held the codes"),
    Wrong(
        "the other sign",
        _sum(lambda v, codes, inside, *_: torch.where(inside, v - codes, codes)),
        "sign is turned",
    ),
    Wrong(
        "drops clipped weights",
        _sum(lambda v, codes, inside, *_: inside * (codes - v)),
        "clipped weights count",
    ),
    Wrong(
        "quant_max at both ends",
        _sum(lambda v, codes, inside, scale, high: torch.where(inside, codes - v, high)),
        "quant_min, not quant_max",
    ),
    Wrong("the mean", _sum(_slope, lambda n, high: n), "took the mean"),
    Wrong("without quant_max", _sum(_slope, lambda n, high: n**0.5), "left out quant_max"),
    Wrong("without the root", _sum(_slope, lambda n, high: n * high), "square root"),
    Wrong(
        "the error itself",
        _sum(lambda v, codes, inside, scale, high: (codes - v) * scale),
        "divided by s",
    ),
    Wrong("one for each weight", _each, "step is shared"),
)
