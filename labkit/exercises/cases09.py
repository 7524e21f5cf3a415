"""How the exercises of notebook 09 are judged: numpy's packing, HiGHS, and labkit's own front.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch

from labkit.exercises.core import Case
from labkit.mixed import allocate_bits, allocate_greedily, pareto_front

NO_SCALES = "You counted the codes only: every channel also stores a scale of 4 bytes."
ONE_SCALE = "You counted one scale a layer; there is one for each channel."
HALF_SCALES = "A scale is a 32-bit float: 4 bytes, not 2."
NOT_BYTES = "Those are bits: 8 of them make a byte."
FLOORED = "You cut a byte that is only partly filled; it takes a whole one: round up."
ONCE = "You rounded up once for all layers; each layer's codes start at a byte of their own."
AVERAGED = "You multiplied by the mean width; each width belongs to the weights of its own layer."
BYTES_GENERAL = "For each layer: weights × bits / 8 rounded up, and 4 bytes for each channel."


def bytes_cases() -> Iterator[Case]:
    """Cases of exercise 9.1: the bytes of a network with a width of its own for each layer."""
    yield _bytes_case([5, 35], [3, 7], [2, 3])
    # The document's Example 2, all of its scales left out: 2 MB and 4 MB.
    yield _bytes_case([2_000_000, 8_000_000], [8, 4], [0, 0])
    yield _bytes_case([1], [2], [1])
    for seed in range(3):
        draw = np.random.default_rng(seed)
        layers = int(draw.integers(2, 6))
        yield _bytes_case(
            draw.integers(1, 400, layers).tolist(),
            draw.integers(2, 9, layers).tolist(),
            draw.integers(1, 9, layers).tolist(),
        )


def _bytes_case(weights: list[int], bits: list[int], channels: list[int]) -> Case:
    pairs = list(zip(weights, bits, strict=True))
    codes = [len(np.packbits(np.zeros(n * width, np.uint8))) for n, width in pairs]
    total_bits = sum(n * width for n, width in pairs)
    scales = 4 * sum(channels)
    mean = sum(weights) * sum(bits) / len(bits)
    mistakes = {
        NO_SCALES: sum(codes),
        ONE_SCALE: sum(codes) + 4 * len(weights),
        HALF_SCALES: sum(codes) + scales // 2,
        NOT_BYTES: total_bits + scales,
        FLOORED: sum(n * width // 8 for n, width in pairs) + scales,
        ONCE: -(-total_bits // 8) + scales,
        AVERAGED: int(-(-mean // 8)) + scales,
    }
    return Case((weights, bits, channels), sum(codes) + scales, BYTES_GENERAL, mistakes)


SIGN = "The sign is turned round: a loss is what the float network has more than the quantized one."
NO_BASELINE = "You returned the qualities themselves; subtract each from the float network's."
ALL_AT_ONCE = "You quantized all layers at once; one at a time, the others stay out of the dict."
ADDING_UP = "You kept the layers before it quantized; start from float for each layer anew."
TRANSPOSED = "A row for each layer, a column for each width: yours are the other way round."
AGAINST_WIDEST = "You compared with the widest width; compare with the float network, quality({})."
OTHERS_LOW = "You kept the other layers at the smallest width; they stay in float."
SENSITIVITY_GENERAL = "loss[i][j] = quality({}) − quality({layers[i]: widths[j]})."


class Quality:
    """A network to measure: the quality for {layer: bits}, layers that are not named in float.

    Two quantized layers hurt more together than one by one, as in a real network.

    >>> quality = Quality({"a": 8.0, "b": 2.0})
    >>> quality({}), quality({"a": 2})
    (90.0, 88.0)
    """

    def __init__(self, weights: dict[str, float]) -> None:
        """`weights`: how sensitive each layer is."""
        self.weights = weights

    def __call__(self, bits: dict[str, int]) -> float:
        """Quality in percent."""
        each = [self.weights[name] / 2 ** (width) for name, width in bits.items()]
        return 90.0 - sum(each) - 3 * float(np.prod(each)) * (len(each) > 1)

    def __repr__(self) -> str:
        """What an exercise's message shows."""
        return "quality"


def sensitivity_cases() -> Iterator[Case]:
    """Cases of exercise 9.2: one layer at a time."""
    yield _sensitivity_case({"conv": 40.0, "fc": 10.0}, [2, 4, 8])
    yield _sensitivity_case({"only": 7.0}, [3])
    yield _sensitivity_case({"a": 1.0, "b": 30.0, "c": 12.0}, [8, 2])


def _sensitivity_case(weights: dict[str, float], widths: list[int]) -> Case:
    quality, layers = Quality(weights), list(weights)
    whole = quality({})

    def table(bits_of, baseline=lambda layer: whole) -> list[list[float]]:
        return [[baseline(n) - quality(bits_of(n, b)) for b in widths] for n in layers]

    right = table(lambda n, b: {n: b})
    least = min(widths)
    mistakes = {
        SIGN: [[-value for value in row] for row in right],
        NO_BASELINE: [[whole - value for value in row] for row in right],
        ALL_AT_ONCE: table(lambda n, b: dict.fromkeys(layers, b)),
        ADDING_UP: table(lambda n, b: dict.fromkeys(layers[: layers.index(n) + 1], b)),
        TRANSPOSED: [list(column) for column in zip(*right, strict=True)],
        AGAINST_WIDEST: table(lambda n, b: {n: b}, lambda n: quality({n: max(widths)})),
        OTHERS_LOW: table(lambda n, b: {**dict.fromkeys(layers, least), n: b}),
    }
    looks_like = {
        said: wrong for said, wrong in mistakes.items() if not np.array_equal(wrong, right)
    }
    return Case((quality, layers, widths), right, SENSITIVITY_GENERAL, looks_like, tolerance=1e-9)


NO_HALF = "The factor ½ of the second-order term is missing."
NO_SQUARE = "The error enters squared: a loss at its minimum rises to both sides."
ABSOLUTE = "You took the error's magnitude; second order means its square."
WEIGHTS = "You squared the weights; it is their error, w − Q(w), that is squared."
MEAN = "You took the mean; the loss rises by the sum over all weights."
TRACE = "You used the mean curvature for all weights; here every weight has its own."
OUTSIDE = "You squared the sum; each weight's error is squared by itself, then added."
HESSIAN_GENERAL = "½ Σ H (w − Q(w))²: one curvature, one error a weight."


def hessian_cases() -> Iterator[Case]:
    """Cases of exercise 9.3: the curvature times the squared error."""
    yield _hessian_case([0.9, -0.3, 0.4], [1.0, -0.5, 0.5], [4.0, 1.0, 2.0])
    yield _hessian_case([0.5, 0.25], [0.5, 0.25], [9.0, 9.0])
    for seed in range(3):
        draw = np.random.default_rng(seed)
        w = draw.normal(size=(4, 6))
        yield _hessian_case(w, np.round(4 * w) / 4, draw.uniform(-0.1, 3, (4, 6)))


def _hessian_case(weight, quantized, curvature) -> Case:
    w, q, h = (np.asarray(values, dtype=float) for values in (weight, quantized, curvature))
    # The second-order term as a quadratic form, with the diagonal written out as a matrix.
    e = (w - q).ravel()
    right = 0.5 * float(e @ np.diag(h.ravel()) @ e)
    mistakes = {
        NO_HALF: 2 * right,
        NO_SQUARE: 0.5 * float((h * (w - q)).sum()),
        ABSOLUTE: 0.5 * float((h * np.abs(w - q)).sum()),
        WEIGHTS: 0.5 * float((h * w**2).sum()),
        MEAN: right / w.size,
        TRACE: 0.5 * float(h.mean() * ((w - q) ** 2).sum()),
        OUTSIDE: 0.5 * float((h * (w - q)).sum() ** 2),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if not np.isclose(wrong, right)}
    arguments = tuple(torch.from_numpy(values) for values in (w, q, h))
    return Case(arguments, right, HESSIAN_GENERAL, looks_like, tolerance=1e-6)


GREEDY = (
    "That is the greedy choice: best step by step, and stuck where two steps had to be given up "
    "for a better third. Try every combination."
)
OVER = "You looked at the cost alone; the uses must add up to at most the budget."
BELOW = "You wanted less than the budget; exactly the budget is allowed too."
SAME = "You gave all layers the same option; each layer may have its own."
CHEAPEST = "You took what uses least; use the budget to make the cost small."
EQUAL_SHARES = "You gave each layer an equal share of the budget; only the sum is limited."
WORST = "You made the cost as large as possible; it is a loss, so make it small."
CHOICE_GENERAL = "Of all combinations whose uses fit the budget, the one with the smallest cost."


def choice_cases() -> Iterator[Case]:
    """Cases of exercise 9.4: the best option for each layer under a budget."""
    cost = [[9.0, 4.0, 1.0], [8.0, 2.5, 8.5], [6.0, 3.2, 0.3]]
    use = [[2, 4, 8], [2, 5, 8], [2, 4, 8]]
    yield _choice_case(cost, use, 13)
    yield _choice_case([[5.0, 1.0]], [[1, 3]], 2)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        layers = int(draw.integers(2, 5))
        cost = -np.sort(-draw.uniform(0, 9, (layers, 3)), axis=1)
        use = np.sort(draw.integers(1, 30, (layers, 3)), axis=1)
        budget = int(draw.integers(use.min(1).sum(), use.max(1).sum() + 1))
        yield _choice_case(cost.tolist(), use.tolist(), budget)


def _choice_case(cost: list, use: list, budget: int) -> Case:
    costs, uses = np.array(cost), np.array(use)
    layers, options = costs.shape
    right = allocate_bits(costs, [(uses, budget)]).tolist()
    every = list(product(range(options), repeat=layers))

    def total(table: np.ndarray, picked) -> float:
        return float(table[np.arange(layers), list(picked)].sum())

    def best(allowed, key=lambda picked: total(costs, picked)) -> list[int] | None:
        return list(min(allowed, key=key)) if allowed else None

    fitting = [picked for picked in every if total(uses, picked) <= budget]
    share = budget / layers
    mistakes = {
        GREEDY: allocate_greedily(costs, [(uses, budget)]).tolist(),
        OVER: best(every),
        BELOW: best([picked for picked in fitting if total(uses, picked) < budget]),
        SAME: best([picked for picked in fitting if len(set(picked)) == 1]),
        CHEAPEST: best(fitting, lambda picked: total(uses, picked)),
        EQUAL_SHARES: best(
            [p for p in fitting if all(uses[i, option] <= share for i, option in enumerate(p))]
        ),
        WORST: best(fitting, lambda picked: -total(costs, picked)),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong not in (None, right)}
    return Case((cost, use, budget), right, CHOICE_GENERAL, looks_like)


KEPT_TIES = (
    "You kept a point that another one equals in one number and beats in the other; that is beaten."
)
CORNERS = "You kept the corners of the convex hull only; a point inside a dent is efficient too."
OTHER_WAY = "Fewer bytes and less loss are better; you kept the largest."
ONLY_BEST = "You kept the points with the fewest bytes and the least loss; those between count too."
UNSORTED = "The right points, but sort them: the fewest bytes first."
TWICE = "Two equal points are one point of the front."
FRONT_GENERAL = (
    "Keep a point unless another one has at most its bytes and at most its loss, and less of one."
)


def front_cases() -> Iterator[Case]:
    """Cases of exercise 9.5: the points that no other point beats."""
    beaten = [(3, 7.0), (6, 5.5), (7, 7.0), (9, 3.0)]
    yield _front_case([(8, 1.0), (2, 9.0), (5, 5.5), (3, 6.0), *beaten, (6, 5.0), (2, 9.0)])
    yield _front_case([(3, 1.0)])
    for seed in range(3):
        draw = np.random.default_rng(seed)
        sizes = draw.integers(1, 20, 30).tolist()
        yield _front_case(
            list(zip(sizes, np.round(draw.uniform(0, 5, 30), 1).tolist(), strict=True))
        )


def _front_case(points: list[tuple[int, float]]) -> Case:
    sizes, losses = [[p[0] for p in points]], [[p[1] for p in points]]
    right = [(int(point.use), point.cost) for point in pareto_front(losses, sizes)]
    ordered = sorted(set(points))
    strict = [p for p in ordered if not any(o[0] < p[0] and o[1] < p[1] for o in ordered)]
    largest = [
        p for p in ordered
        if not any(o != p and o[0] >= p[0] and o[1] >= p[1] for o in ordered)
    ]  # fmt: skip
    mistakes = {
        KEPT_TIES: strict,
        CORNERS: _hull(right),
        OTHER_WAY: largest,
        ONLY_BEST: [right[0], right[-1]],
        UNSORTED: [p for p in dict.fromkeys(points) if p in right],
        TWICE: [p for p in sorted(points) if p in right],
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((points,), right, FRONT_GENERAL, looks_like, tolerance=1e-9)


def _hull(front: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The lower convex hull of a front."""
    kept: list[tuple[int, float]] = []
    for x, y in front:
        while len(kept) > 1:
            (x0, y0), (x1, y1) = kept[-2:]
            if (x1 - x0) * (y - y0) > (x - x0) * (y1 - y0):
                break
            kept.pop()
        kept.append((x, y))
    return kept
