"""Typical wrong answers to the exercises of notebook 04, written as a learner would write them."""

from __future__ import annotations

import torch

from labkit.exercises.core import Wrong


def _top(bits):
    return 2 ** (bits - 1) - 1


def _guarded(scale):
    return torch.where(scale > 0, scale, 1.0)


def _largest(weight):
    return weight.flatten(1).abs().amax(1)


def _by_input(weight, bits):
    others = [axis for axis in range(weight.ndim) if axis != 1]
    return _guarded(weight.abs().amax(others) / _top(bits))


def _affine(weight, bits):
    rows = weight.flatten(1)
    return _guarded((rows.amax(1) - rows.amin(1)) / (2**bits - 1))


SCALES = (
    Wrong("takes the signed maximum",
          lambda weight, bits: _guarded(weight.flatten(1).amax(1) / _top(bits)), "magnitude"),
    Wrong("divides by 2^b − 1",
          lambda weight, bits: _guarded(_largest(weight) / (2**bits - 1)), "without sign"),
    Wrong("divides by 2^(b−1)",
          lambda weight, bits: _guarded(_largest(weight) / 2 ** (bits - 1)), "one too many"),
    Wrong("takes an affine scale", _affine, "affine scale"),
    Wrong("takes a scale for each input", _by_input, "inputs"),
    Wrong("takes one scale for all",
          lambda weight, bits: weight.abs().max() / _top(bits), "whole tensor"),
    Wrong("keeps the reduced axes",
          lambda weight, bits: _guarded(_largest(weight) / _top(bits))[:, None], "axes"),
    Wrong("reduces the last axis only",
          lambda weight, bits: _guarded(weight.abs().amax(-1) / _top(bits)), "last axis only"),
    Wrong("gives a zero channel the scale 0",
          lambda weight, bits: _largest(weight) / _top(bits), "channel of zeros"),
    Wrong("forgets to divide", lambda weight, bits: _guarded(_largest(weight)), "divide it"),
    Wrong("writes ^ for a power",
          lambda weight, bits: _guarded(_largest(weight) / (2 ^ (bits - 1) - 1)), "written **"),
    Wrong("forgets the brackets",
          lambda weight, bits: _largest(weight) / 2 ** (bits - 1) - 1, "brackets"),
)  # fmt: skip


def _round(groups, bits, scale=None, rounding=torch.round, last=None):
    last = last or _top(bits)
    scale = groups.abs().amax(1, keepdim=True) / last if scale is None else scale
    return rounding(groups / scale).clamp(-last, last) * scale


def _down_columns(weight, bits, group_size):
    return _round(weight.T.reshape(-1, group_size), bits).reshape(weight.T.shape).T


def _whole_tensor(weight, bits, group_size):
    return _round(weight, bits, weight.abs().max() / _top(bits))


def _codes(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    scale = groups.abs().amax(1, keepdim=True) / _top(bits)
    return (groups / scale).round().reshape(weight.shape)


def _grouped(**how):
    def answer(weight, bits, group_size):
        return _round(weight.reshape(-1, group_size), bits, **how).reshape(weight.shape)

    return answer


def _all_levels(weight, bits, group_size):
    return _grouped(last=2**bits - 1)(weight, bits, group_size)


def _half_levels(weight, bits, group_size):
    return _grouped(last=2 ** (bits - 1))(weight, bits, group_size)


def _apart(weight, bits, group_size):
    apart = weight.reshape(len(weight), group_size, -1).transpose(1, 2)
    kept = _round(apart.reshape(-1, group_size), bits).reshape(apart.shape)
    return kept.transpose(1, 2).reshape(weight.shape)


def _counted(weight, bits, group_size):
    parts = weight.reshape(len(weight) * group_size, -1)
    return _round(parts, bits).reshape(weight.shape)


def _signed(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    scale = groups.amax(1, keepdim=True) / _top(bits)
    return ((groups / scale).round() * scale).reshape(weight.shape)


def _floored(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    scale = groups.abs().amax(1, keepdim=True) / _top(bits)
    return ((groups / scale).floor() * scale).reshape(weight.shape)


def _affine_groups(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scale = (high - low) / (2**bits - 1)
    return (low + ((groups - low) / scale).round() * scale).reshape(weight.shape)


def _without_brackets(weight, bits, group_size):
    groups = weight.reshape(-1, group_size)
    scale = groups.abs().amax(1, keepdim=True) / 2 ** (bits - 1) - 1
    return ((groups / scale).round() * scale).reshape(weight.shape)


GROUPS = (
    Wrong("groups down the columns", _down_columns, "down the columns"),
    Wrong("takes one scale a row",
          lambda weight, bits, group_size: _round(weight, bits), "whole row"),
    Wrong("takes one scale for all", _whole_tensor, "whole tensor"),
    Wrong("returns codes", _codes, "returned codes"),
    Wrong("cuts instead of rounding", _grouped(rounding=torch.trunc), "cut the fraction"),
    Wrong("uses 2^b − 1 levels", _all_levels, "without sign"),
    Wrong("uses 2^(b−1) as the last code", _half_levels, "one too many"),
    Wrong("forgets to reshape back",
          lambda weight, bits, group_size: _round(weight.reshape(-1, group_size), bits),
          "shape of weight"),
    Wrong("rounds down", _floored, "rounded down"),
    Wrong("takes the signed maximum", _signed, "magnitude"),
    Wrong("takes an affine grid", _affine_groups, "affine grid"),
    Wrong("makes group_size groups", _counted, "group_size parts"),
    Wrong("takes weights that stand apart", _apart, "neighbours"),
    Wrong("forgets the brackets", _without_brackets, "brackets"),
    Wrong("does nothing", lambda weight, bits, group_size: weight.clone(), "as they were"),
)  # fmt: skip


def _steps(weight, bits):
    return (weight / (weight.abs().max() / _top(bits))).flatten(1)


def _had(weight):
    return weight.flatten(1).any(1)


def _own_scale(weight, bits):
    rows = weight.flatten(1)
    scale = _guarded(rows.abs().amax(1, keepdim=True) / _top(bits))
    return int((_had(weight) & ~(rows / scale).round().any(1)).sum())


def _finer(weight, bits):
    codes = (weight / (weight.abs().max() / (2**bits - 1))).round().flatten(1)
    return int((_had(weight) & ~codes.any(1)).sum())


def _lost(weight, scale, rounding=torch.round):
    return _had(weight) & ~rounding(weight / scale).flatten(1).any(1)


LOST = (
    Wrong("counts weights",
          lambda weight, bits: int((_steps(weight, bits).round() == 0).sum()), "counted weights"),
    Wrong("counts channels that were zero before",
          lambda weight, bits: int((~_steps(weight, bits).round().any(1)).sum()), "zero before"),
    Wrong("asks for a whole step",
          lambda weight, bits: int((_had(weight) & (_steps(weight, bits).abs() < 1).all(1)).sum()),
          "whole step"),
    Wrong("asks for less than half a step",
          lambda weight, bits: int(
              (_had(weight) & (_steps(weight, bits).abs() < 0.5).all(1)).sum()), "even code"),
    Wrong("counts channels with any zero",
          lambda weight, bits: int((_steps(weight, bits).round() == 0).any(1).sum()), "*some*"),
    Wrong("counts what is left",
          lambda weight, bits: int(_steps(weight, bits).round().any(1).sum()), "that are left"),
    Wrong("gives each channel its scale", _own_scale, "of its own"),
    Wrong("uses 2^b − 1 levels", _finer, "without sign"),
    Wrong("uses 2^(b−1) as the last code",
          lambda weight, bits: int(_lost(weight, weight.abs().max() / 2 ** (bits - 1)).sum()),
          "one too many"),
    Wrong("returns which, not how many",
          lambda weight, bits: _lost(weight, weight.abs().max() / _top(bits)), "how many"),
    Wrong("rounds down",
          lambda weight, bits: int(
              _lost(weight, weight.abs().max() / _top(bits), torch.floor).sum()), "rounded down"),
    Wrong("takes the signed maximum",
          lambda weight, bits: int(_lost(weight, weight.max() / _top(bits)).sum()), "magnitude"),
    Wrong("compares signed weights with half a step",
          lambda weight, bits: int(
              (_had(weight) & (_steps(weight, bits) <= 0.5).all(1)).sum()), "magnitude"),
)  # fmt: skip


def _factors(w1, w2):
    r1, r2 = w1.abs().amax(1), w2.abs().amax(0)
    return torch.where((r1 > 0) & (r2 > 0), (r1 / r2).sqrt(), 1.0)


def _moved(w1, b1, w2, s):
    return w1 / s[:, None], b1 / s, w2 * s


def _no_bias(w1, b1, w2):
    s = _factors(w1, w2)
    return w1 / s[:, None], b1, w2 * s


def _bias_times(w1, b1, w2):
    s = _factors(w1, w2)
    return w1 / s[:, None], b1 * s, w2 * s


def _only_first(w1, b1, w2):
    s = _factors(w1, w2)
    return w1 / s[:, None], b1 / s, w2


def _both(w1, b1, w2):
    s = _factors(w1, w2)
    return w1 / s[:, None], b1 / s, w2 / s


def _product(w1, b1, w2):
    return _moved(w1, b1, w2, (w1.abs().amax(1) * w2.abs().amax(0)).sqrt())


def _means(w1, b1, w2):
    return _moved(w1, b1, w2, (w1.abs().mean(1) / w2.abs().mean(0)).sqrt())


def _rows_of_second(w1, b1, w2):
    s = _factors(w1, w2)
    return w1 / s[:, None], b1 / s, w2 * s[:, None]


def _spreads(w1, w2):
    return (w1.amax(1) - w1.amin(1)) / (w2.amax(0) - w2.amin(0))


EQUALIZE = (
    Wrong("turns s round", lambda w1, b1, w2: _moved(w1, b1, w2, 1 / _factors(w1, w2)),
          "wrong way"),
    Wrong("forgets the bias", _no_bias, "forgot the bias"),
    Wrong("multiplies the bias", _bias_times, "multiplied the bias"),
    Wrong("forgets the root", lambda w1, b1, w2: _moved(w1, b1, w2, _factors(w1, w2) ** 2),
          "square root"),
    Wrong("divides by the common range", _product, "range that both get"),
    Wrong("changes the first layer only", _only_first, "first layer only"),
    Wrong("divides both layers", _both, "divided both"),
    Wrong("takes means for ranges", _means, "not means"),
    Wrong("takes signed maxima",
          lambda w1, b1, w2: _moved(w1, b1, w2, (w1.amax(1) / w2.amax(0)).sqrt()), "magnitude"),
    Wrong("divides by a dead channel",
          lambda w1, b1, w2: _moved(w1, b1, w2, (w1.abs().amax(1) / w2.abs().amax(0)).sqrt()),
          "leave it alone"),
    Wrong("multiplies the rows of the second layer", _rows_of_second, "*column*"),
    Wrong("uses one factor",
          lambda w1, b1, w2: _moved(w1, b1, w2, (w1.abs().max() / w2.abs().max()).sqrt().repeat(
              len(b1))), "has its own"),
    Wrong("takes max − min", lambda w1, b1, w2: _moved(w1, b1, w2, _spreads(w1, w2).sqrt()),
          "max − min"),
    Wrong("changes the second layer only",
          lambda w1, b1, w2: (w1, b1, w2 * _factors(w1, w2)), "second layer only"),
    Wrong("turns s round and forgets the bias",
          lambda w1, b1, w2: (w1 * _factors(w1, w2)[:, None], b1, w2 / _factors(w1, w2)),
          "bias b1 belongs"),
)  # fmt: skip
