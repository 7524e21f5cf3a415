"""Typical wrong answers to the exercises of notebook 05, written as a learner would write them."""

from __future__ import annotations

import torch

from labkit.exercises import cases05
from labkit.exercises.core import Wrong


def _ends(batch):
    return batch.min().item(), batch.max().item()


def _from_zero(batches, constant):
    low = high = 0.0
    for batch in batches:
        low = (1 - constant) * low + constant * batch.min().item()
        high = (1 - constant) * high + constant * batch.max().item()
    return low, high


def _plain_mean(batches, constant):
    lows, highs = zip(*map(_ends, batches), strict=True)
    return sum(lows) / len(lows), sum(highs) / len(highs)


def _old_weight(batches, constant):
    low, high = _ends(batches[0])
    for batch in batches[1:]:
        low = constant * low + (1 - constant) * batch.min().item()
        high = constant * high + (1 - constant) * batch.max().item()
    return low, high


def _min_max(batches, constant):
    return _ends(torch.cat(batches))


def _last(batches, constant):
    return _ends(batches[-1])


def _one_end(batches, constant):
    low, high = _ends(batches[0])
    for batch in batches[1:]:
        low = min(low, batch.min().item())
        high += constant * (batch.max().item() - high)
    return low, high


AVERAGE = (
    Wrong("starts from 0", _from_zero, cases05.FROM_ZERO),
    Wrong("averages all batches alike", _plain_mean, cases05.PLAIN_MEAN),
    Wrong("weighs the old ends with the constant", _old_weight, cases05.OLD_WEIGHT),
    Wrong("min-max", _min_max, cases05.MIN_MAX),
    Wrong("the last batch only", _last, cases05.LAST),
    Wrong("averages the upper end only", _one_end, cases05.ONE_END),
)


def _quantiles(x, *shares):
    return tuple(torch.quantile(x.double().flatten(), share).item() for share in shares)


def _twice(x, percentile):
    return _quantiles(x, 1 - percentile / 100, percentile / 100)


def _one_side(x, percentile):
    return x.min().item(), _quantiles(x, percentile / 100)[0]


def _magnitude(x, percentile):
    (end,) = _quantiles(x.abs(), percentile / 100)
    return -end, end


def _as_share(x, percentile):
    return _quantiles(x, (1 - percentile) / 2, 1 - (1 - percentile) / 2)


def _sigmas(x, percentile):
    k = torch.special.ndtri(torch.tensor(0.5 + percentile / 200).double()).item()
    mean, spread = x.double().mean().item(), x.double().std(unbiased=False).item()
    return mean - k * spread, mean + k * spread


def _turned(x, percentile):
    cut = (100 - percentile) / 200
    return _quantiles(x, 1 - cut, cut)


PERCENTILE = (
    Wrong("cuts the whole share at each end", _twice, cases05.TWICE),
    Wrong("cuts the upper end only", _one_side, cases05.ONE_SIDE),
    Wrong("percentile of the magnitude", _magnitude, cases05.MAGNITUDE),
    Wrong("takes percent for a share", _as_share, cases05.AS_SHARE),
    Wrong("assumes a bell curve", _sigmas, cases05.SIGMAS),
    Wrong("swaps the ends", _turned, cases05.TURNED),
)


def _pairs(counts):
    return counts[::2] + counts[1::2]


def _padded(middle, n):
    out = torch.zeros(n, dtype=middle.dtype)
    start = (n - len(middle)) // 2
    out[start : start + len(middle)] = middle
    return out


def _left(counts):
    out = torch.zeros_like(counts)
    out[: len(counts) // 2] = _pairs(counts)
    return out


def _dropped(counts):
    return _padded(counts[::2], len(counts))


def _halved(counts):
    return _padded(_pairs(counts) // 2, len(counts))


def _shifted(counts):
    wide = torch.cat((counts.new_zeros(1), counts, counts.new_zeros(1)))
    out, quarter = torch.zeros_like(counts), len(counts) // 4
    out[quarter : quarter + len(counts) // 2 + 1] = wide[::2] + wide[1::2]
    return out


def _spread(counts):
    return _padded(counts, 2 * len(counts))


def _cut(counts):
    quarter = len(counts) // 4
    return _padded(counts[quarter:-quarter], len(counts))


WIDEN = (
    Wrong("puts the sums at the left", _left, cases05.LEFT),
    Wrong("drops every second bin", _dropped, cases05.DROPPED),
    Wrong("averages neighbours", _halved, cases05.HALVED),
    Wrong("pairs across 0", _shifted, cases05.SHIFTED),
    Wrong("doubles the number of bins", _spread, cases05.SPREAD),
    Wrong("cuts the outer bins off", _cut, cases05.CUT),
)


def _share(counts):
    return counts.double() / counts.double().sum()


def _sum(p, q):
    kept = p > 0
    return (p[kept] * (p[kept] / q[kept]).log()).sum().item()


def _swapped(p, q):
    return _sum(_share(q), _share(p))


def _raw(p, q):
    return _sum(p.double(), q.double())


def _bits(p, q):
    return _sum(_share(p), _share(q)) / torch.tensor(2.0).double().log().item()


def _not_a_number(p, q):
    p, q = _share(p), _share(q)
    return (p * (p / q).log()).sum().item()


def _finite(p, q):
    p, q = _share(p), _share(q)
    kept = (p > 0) & (q > 0)
    return _sum(p[kept], q[kept])


def _distance(p, q):
    return (_share(p) - _share(q)).abs().sum().item()


def _sign(p, q):
    return -_sum(_share(p), _share(q))


DIVERGENCE = (
    Wrong("turns p and q around", _swapped, cases05.SWAPPED),
    Wrong("does not normalize", _raw, cases05.RAW),
    Wrong("log2", _bits, cases05.BITS),
    Wrong("0 log 0 is NaN", _not_a_number, cases05.NOT_A_NUMBER),
    Wrong("leaves out impossible bins", _finite, cases05.FINITE),
    Wrong("absolute differences", _distance, cases05.DISTANCE),
    Wrong("wrong sign", _sign, cases05.SIGN),
)
