"""Typical wrong answers to the exercises of notebook 09, written as a learner would write them."""

from __future__ import annotations

import math
from itertools import product

from labkit.exercises.core import Wrong


def _codes(weights, bits):
    return [math.ceil(n * b / 8) for n, b in zip(weights, bits, strict=True)]


def _rounds_once(weights, bits, channels):
    return math.ceil(sum(n * b for n, b in zip(weights, bits, strict=True)) / 8) + 4 * sum(channels)


def _floors(weights, bits, channels):
    return sum(n * b // 8 for n, b in zip(weights, bits, strict=True)) + 4 * sum(channels)


def _bits_as_bytes(weights, bits, channels):
    return sum(n * b for n, b in zip(weights, bits, strict=True)) + 4 * sum(channels)


def _averages(weights, bits, channels):
    return math.ceil(sum(weights) * sum(bits) / len(bits) / 8) + 4 * sum(channels)


BYTES = (
    Wrong("forgets the scales", lambda w, b, c: sum(_codes(w, b)), "codes only"),
    Wrong("a scale a layer", lambda w, b, c: sum(_codes(w, b)) + 4 * len(w), "one scale a layer"),
    Wrong("half-size scales", lambda w, b, c: sum(_codes(w, b)) + 2 * sum(c), "4 bytes, not 2"),
    Wrong("bits as bytes", _bits_as_bytes, "8 of them make a byte"),
    Wrong("cuts partly filled bytes", _floors, "round up"),
    Wrong("rounds once", _rounds_once, "once for all layers"),
    Wrong("averages the widths", _averages, "mean width"),
)


def _one_at_a_time(bits_of, combine=lambda whole, now: whole - now):
    def answer(quality, layers, widths):
        whole = quality({})
        return [
            [combine(whole, quality(bits_of(layers, i, width))) for width in widths]
            for i in range(len(layers))
        ]

    return answer


def _transposed(quality, layers, widths):
    return [[quality({}) - quality({layer: width}) for layer in layers] for width in widths]


def _against_widest(quality, layers, widths):
    return [
        [quality({layer: max(widths)}) - quality({layer: width}) for width in widths]
        for layer in layers
    ]


def _own(layers, i, width):
    return {layers[i]: width}


def _others_low(quality, layers, widths):
    low = dict.fromkeys(layers, min(widths))
    return [[quality({}) - quality({**low, layer: width}) for width in widths] for layer in layers]


SENSITIVITY = (
    Wrong("the sign", _one_at_a_time(_own, lambda whole, now: now - whole), "sign"),
    Wrong("no baseline", _one_at_a_time(_own, lambda whole, now: now), "qualities themselves"),
    Wrong(
        "all at once",
        _one_at_a_time(lambda layers, i, width: dict.fromkeys(layers, width)),
        "all layers at once",
    ),
    Wrong(
        "one after the other",
        _one_at_a_time(lambda layers, i, width: dict.fromkeys(layers[: i + 1], width)),
        "layers before it",
    ),
    Wrong("rows and columns", _transposed, "the other way round"),
    Wrong("against the widest", _against_widest, "widest width"),
    Wrong("the others low", _others_low, "other layers at the smallest"),
)


HESSIAN = (
    Wrong("no half", lambda w, q, h: (h * (w - q) ** 2).sum().item(), "½"),
    Wrong("no square", lambda w, q, h: 0.5 * (h * (w - q)).sum().item(), "squared"),
    Wrong("magnitudes", lambda w, q, h: 0.5 * (h * (w - q).abs()).sum().item(), "magnitude"),
    Wrong("squares the weights", lambda w, q, h: 0.5 * (h * w**2).sum().item(), "their error"),
    Wrong("the mean", lambda w, q, h: 0.5 * (h * (w - q) ** 2).mean().item(), "mean; the loss"),
    Wrong(
        "one curvature",
        lambda w, q, h: 0.5 * (h.mean() * ((w - q) ** 2).sum()).item(),
        "mean curvature",
    ),
    Wrong(
        "squares the sum",
        lambda w, q, h: 0.5 * ((h * (w - q)).sum() ** 2).item(),
        "squared the sum",
    ),
)


def _sum(table, picked):
    return sum(row[option] for row, option in zip(table, picked, strict=True))


def _try_all(allowed, key=lambda cost, use, picked: _sum(cost, picked)):
    def answer(cost, use, budget):
        every = product(range(len(cost[0])), repeat=len(cost))
        kept = [picked for picked in every if allowed(picked, use, budget)]
        return list(min(kept, key=lambda picked: key(cost, use, picked), default=(0,) * len(cost)))

    return answer


def _greedy(cost, use, budget):
    picked = [0] * len(cost)
    while True:
        moves = []
        for i, now in enumerate(picked):
            for option in range(now + 1, len(cost[0])):
                more = use[i][option] - use[i][now]
                gain = cost[i][now] - cost[i][option]
                if more > 0 and gain > 0 and _sum(use, picked) + more <= budget:
                    moves.append((gain / more, -i, option))
        if not moves:
            return picked
        _, i, option = max(moves)
        picked[-i] = option


def _fits(picked, use, budget):
    return _sum(use, picked) <= budget


def _in_shares(picked, use, budget):
    return all(row[option] <= budget / len(use) for row, option in zip(use, picked, strict=True))


CHOICE = (
    Wrong("greedy", _greedy, "greedy"),
    Wrong("ignores the budget", _try_all(lambda *_: True), "at most the budget"),
    Wrong("below the budget", _try_all(lambda p, u, b: _sum(u, p) < b), "exactly the budget"),
    Wrong(
        "the same for all",
        _try_all(lambda p, u, b: _fits(p, u, b) and len(set(p)) == 1),
        "same option",
    ),
    Wrong("uses least", _try_all(_fits, lambda c, u, p: _sum(u, p)), "uses least"),
    Wrong("equal shares", _try_all(_in_shares), "equal share"),
    Wrong("the largest cost", _try_all(_fits, lambda c, u, p: -_sum(c, p)), "as large as possible"),
)


def _beats(one, other):
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def _strict(points):
    points = sorted(set(points))
    return [p for p in points if not any(o[0] < p[0] and o[1] < p[1] for o in points)]


def _other_way(points):
    points = sorted(set(points))
    return [p for p in points if not any(_beats(p, o) for o in points)]


def _ends(points):
    return [min(points), min(points, key=lambda p: (p[1], p[0]))]


def _unsorted(points):
    return [p for p in dict.fromkeys(points) if not any(_beats(o, p) for o in points)]


def _twice(points):
    return [p for p in sorted(points) if not any(_beats(o, p) for o in points)]


def _corners(points):
    kept = []
    for p in sorted({p for p in points if not any(_beats(o, p) for o in points)}):
        while len(kept) > 1 and _slope(kept[-2], kept[-1]) >= _slope(kept[-2], p):
            kept.pop()
        kept.append(p)
    return kept


def _slope(one, other):
    return (other[1] - one[1]) / (other[0] - one[0])


FRONT = (
    Wrong("keeps ties", _strict, "equals in one number"),
    Wrong("the convex hull", _corners, "convex hull"),
    Wrong("the largest", _other_way, "kept the largest"),
    Wrong("the two ends", _ends, "those between"),
    Wrong("not sorted", _unsorted, "sort them"),
    Wrong("equal points twice", _twice, "equal points"),
)
