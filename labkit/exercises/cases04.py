"""How the exercises of notebook 04 are judged: cases with results from numpy, in float64.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from labkit.exercises.core import Case

SIGNED_MAX = "You took the largest weight, not the largest *magnitude*: a negative one counts too."
ALL_LEVELS = "The largest code of b signed bits is 2^(b−1) − 1; 2^b − 1 is for codes without sign."
HALF_LEVELS = "2^(b−1) is one too many: symmetric codes end at 2^(b−1) − 1."
AFFINE = "That is an affine scale, (max − min)/(2^b − 1); a symmetric one is max|w|/(2^(b−1) − 1)."
BY_INPUT = "Those are scales of the *inputs*: an output channel is weight[c], so reduce the rest."
ONE_SCALE = "That is one scale for the whole tensor; each channel has its own."
KEPT = "Return one axis, (out,): your result still has the axes that were reduced."
LAST_ONLY = "You reduced the last axis only: a channel of a kernel is everything behind axis 0."
NOT_DIVIDED = "That is the largest magnitude; divide it by the largest code, 2^(b−1) − 1."
CARET = "In Python a power is written **: 2 ^ 3 is something else (1), 2 ** 3 is 8."
BRACKETS = "Put brackets round 2 ** (bits - 1) - 1: now you divide first, then subtract 1."
ZERO = "A channel of zeros gets scale 1: dividing by a scale of 0 would make NaN."
SCALE_GENERAL = "scale[c] = max |weight[c]| / (2^(b−1) − 1), over everything behind the first axis."


def scale_cases() -> Iterator[Case]:
    """Cases of exercise 4.1: a scale for every channel."""
    yield _scale_case([[0.4, -1.3, 0.2], [0.7, 0.1, -0.3]], 4)
    kernel = np.arange(1, 25).reshape(2, 3, 2, 2) * np.where(np.arange(24) % 5, 1, -1).reshape(
        2, 3, 2, 2
    )
    yield _scale_case(kernel / 10, 3)
    yield _scale_case([[0.0, 0.0], [0.5, -0.1]], 8, ZERO)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        for bits in range(2, 9):
            yield _scale_case(draw.normal(0, 1, (5, 4, 3)).astype(np.float32), bits)


def _scale_case(weight, bits: int, message: str = SCALE_GENERAL) -> Case:
    """Right result and mistakes, written out in numpy."""
    w = np.asarray(weight, dtype=np.float32).astype(float)
    rows, top = w.reshape(len(w), -1), 2 ** (bits - 1) - 1
    largest = np.abs(rows).max(1)
    right = np.where(largest > 0, largest / top, 1.0)
    others = tuple(axis for axis in range(w.ndim) if axis != 1)
    mistakes = {
        ZERO: largest / top,
        SIGNED_MAX: rows.max(1) / top,
        ALL_LEVELS: largest / (2**bits - 1),
        HALF_LEVELS: largest / 2 ** (bits - 1),
        AFFINE: (rows.max(1) - rows.min(1)) / (2**bits - 1),
        BY_INPUT: np.abs(w).max(others) / top,
        ONE_SCALE: largest.max() / top,
        KEPT: right.reshape(-1, *[1] * (w.ndim - 1)),
        LAST_ONLY: np.abs(w).max(-1) / top,
        NOT_DIVIDED: largest,
        BRACKETS: largest / 2 ** (bits - 1) - 1,
        CARET: _over(largest, 2 ^ (bits - 1) - 1),
    }
    return _case((torch.from_numpy(w).float(), bits), right, message, mistakes)


COLUMNS = "Your groups run down the columns; neighbours of one group stand in the same row."
WHOLE_ROW = "You used one scale for a whole row; each group of group_size weights has its own."
WHOLE = "You used one scale for the whole tensor; each group of group_size weights has its own."
CODES = "You returned codes; multiply them by the scale of their group."
TRUNCATED = "You cut the fraction off; round to the nearest code."
FLOORED = "You rounded down; round to the nearest code."
GROUP_SIGNED = "You took the largest weight of a group, not the largest *magnitude*."
GROUP_AFFINE = "That is an affine grid, from min to max; a symmetric one needs only max|w|."
COUNT = "You cut a row into group_size parts; each group has group_size *weights*."
APART = "The weights of your groups stand apart; a group is group_size *neighbours* in a row."
UNCHANGED = "You returned the weights as they were: each has to move to the grid of its group."
FLAT = "Return the shape of weight, not that of the groups."
GROUP_GENERAL = (
    "For every group of group_size neighbours in a row: s = max|w| / (2^(b−1) − 1), then "
    "round(w / s) · s, in the shape of weight."
)


def group_cases() -> Iterator[Case]:
    """Cases of exercise 4.2: a scale for every group."""
    # Small enough to be shown whole when an answer is wrong.
    first = [[0.9, -0.35, 0.2, 0.14, 0.5, 0.33], [0.57, -0.61, 0.1, -2.9, 2.7, 1.3]]
    yield _group_case([*first, [1.1, -0.8, 0.3, -0.1, 0.25, 0.06]], 3, 3)
    yield _group_case([[-0.9, 0.35, -0.6, 0.3]], 4, 4, GROUP_GENERAL)
    yield _group_case(
        [[0.3, -0.7]], 2, 1, "A group of one weight loses nothing but float precision."
    )
    for seed in range(3):
        draw = np.random.default_rng(seed)
        for bits in (2, 4, 8):
            yield _group_case(draw.normal(0, 1, (6, 32)).astype(np.float32), bits, 8)


def _group_case(weight, bits: int, size: int, message: str = GROUP_GENERAL) -> Case:
    w = np.asarray(weight, dtype=np.float32)
    top = 2 ** (bits - 1) - 1

    def grid(parts: np.ndarray, last: int = top, signed: bool = False) -> tuple:
        # In float32, as the answer will be: a tie must fall the same way.
        largest = (parts if signed else np.abs(parts)).max(1, keepdims=True)
        scale = (largest / np.float32(last)).astype(np.float32)
        return parts / scale, scale.astype(float), last

    def back(parts: np.ndarray, rounding=np.rint, **how) -> np.ndarray:
        steps, scale, last = grid(parts, **how)
        return np.clip(rounding(steps), -last, last) * scale

    groups = w.reshape(-1, size)
    apart = np.swapaxes(w.reshape(len(w), size, -1), 1, 2).reshape(-1, size)
    low = groups.min(1, keepdims=True).astype(float)
    step = np.maximum((groups.max(1, keepdims=True) - low) / (2**bits - 1), 1e-12)
    loose = np.abs(groups).max(1, keepdims=True) / np.float32(2 ** (bits - 1)) - 1
    right = back(groups)
    mistakes = {
        WHOLE_ROW: back(w),
        WHOLE: back(w.reshape(1, -1)).reshape(w.shape),
        CODES: np.rint(grid(groups)[0]).reshape(w.shape),
        TRUNCATED: back(groups, np.trunc).reshape(w.shape),
        ALL_LEVELS: back(groups, last=2**bits - 1).reshape(w.shape),
        HALF_LEVELS: back(groups, last=2 ** (bits - 1)).reshape(w.shape),
        FLAT: right,
        FLOORED: back(groups, np.floor).reshape(w.shape),
        GROUP_SIGNED: back(groups, signed=True).reshape(w.shape),
        GROUP_AFFINE: (low + np.rint((groups - low) / step) * step).reshape(w.shape),
        COUNT: back(w.reshape(len(w) * size, -1)).reshape(w.shape),
        APART: np.swapaxes(back(apart).reshape(len(w), -1, size), 1, 2).reshape(w.shape),
        UNCHANGED: w,
        BRACKETS: (np.rint(groups / loose) * loose).reshape(w.shape),
    }
    if w.size % size == 0 and len(w) % size == 0:
        mistakes[COLUMNS] = back(np.ascontiguousarray(w.T).reshape(-1, size)).reshape(w.T.shape).T
    arguments = (torch.from_numpy(w), bits, size)
    return _case(arguments, right.reshape(w.shape), message, mistakes, 1e-5)


WEIGHTS = "You counted weights; count channels of which every weight becomes 0."
DEAD_BEFORE = "A channel that was all zero before has lost nothing: do not count it."
WHOLE_STEP = "A weight need not reach a whole step: rounding sends it to 0 only below half a step."
ANY_ZERO = "You counted channels in which *some* weight becomes 0; *every* weight has to."
NONE_LOST = "You found none, as if each channel had a scale of its own: use one for the tensor."
MASK = "Return how many there are, one number: count what you marked."
LOST_FLOORED = "You rounded down: a small negative weight became −1. Round to the nearest code."
LOST_SIGNED = "A negative weight counts too: take the largest *magnitude*."
LEFT = "You counted the channels that are left; count those that are lost."
TIE = "A weight of exactly half a step rounds to the even code, and that is 0: it is lost."
LOST_GENERAL = (
    "s = max|w| / (2^(b−1) − 1) over the tensor; a channel is lost when it holds a weight other "
    "than 0 and every round(w / s) is 0."
)


def lost_cases() -> Iterator[Case]:
    """Cases of exercise 4.3: channels that are lost."""
    rows = [[7.0, 1.0], [0.4, -0.3], [0.0, 0.0], [0.8, 0.2], [0.9, 0.7], [0.1, -0.45], [3.0, 0.2]]
    yield _lost_case([*rows, [0.2, 0.6], [0.49, 0.3], [2.0, -5.0], [0.1, 0.05], [0.3, 0.55]], 4)
    yield _lost_case([[7.0, -2.0], [0.5, 0.25], [3.0, 0.0]], 4, TIE)
    signs = _lost_case([[1.0, -7.0], [0.4, -0.3], [-2.0, -0.1], [0.2, -0.1]], 4, LOST_SIGNED)
    # Its counts say nothing else: who ignored no sign was judged by the cases before.
    yield replace(signs, looks_like={})
    yield _lost_case(np.ones((3, 2, 2, 2)), 2, "Nothing is lost where all channels are alike.")
    for seed in range(3):
        draw = np.random.default_rng(seed)
        w = draw.normal(0, 1, (40, 3, 3, 3)) * 10 ** draw.uniform(-4, 0, (40, 1, 1, 1))
        for bits in (2, 3, 5, 8):
            yield _lost_case(w, bits)


def _lost_case(weight, bits: int, message: str = LOST_GENERAL) -> Case:
    w = np.asarray(weight, dtype=np.float32).astype(float)
    rows, top = w.reshape(len(w), -1), 2 ** (bits - 1) - 1
    steps = rows / (np.abs(rows).max() / top)
    codes = np.rint(steps)
    had, silent = rows.any(1), ~codes.any(1)
    right = int((had & silent).sum())
    mistakes = {
        TIE: int((had & (np.abs(steps) < 0.5).all(1)).sum()),
        DEAD_BEFORE: int(silent.sum()),
        WHOLE_STEP: int((had & (np.abs(steps) < 1).all(1)).sum()),
        ANY_ZERO: int((codes == 0).any(1).sum()),
        WEIGHTS: int((codes == 0).sum()),
        LEFT: int((~silent).sum()),
        ALL_LEVELS: int((had & ~np.rint(rows / (np.abs(rows).max() / (2**bits - 1))).any(1)).sum()),
        NONE_LOST: 0,
        MASK: had & silent,
        LOST_FLOORED: int((had & ~np.floor(steps).any(1)).sum()),
        HALF_LEVELS: int((had & ~np.rint(steps * 2 ** (bits - 1) / top).any(1)).sum()),
    }
    return _case((torch.from_numpy(w).float(), bits), right, message, mistakes)


INVERSE = "Your s goes the wrong way: the first layer is *divided* by s = sqrt(r1 / r2)."
NO_BIAS = "You forgot the bias: what enters the ReLU is w1·x + b1, so b1 is divided by s too."
BIAS_TIMES = "You multiplied the bias by s; it belongs to the first layer and is divided by s."
NO_ROOT = "You left out the square root: with s = r1 / r2 the two ranges only change places."
PRODUCT = "sqrt(r1 · r2) is the range that both get; the factor to divide by is s = sqrt(r1 / r2)."
ONLY_FIRST = (
    "You changed the first layer only; the second has to undo it: multiply its columns by s."
)
BOTH = "You divided both layers by s; then the function changes. The second is multiplied."
MEANS = "Ranges are the largest magnitudes, not means of them."
DEAD = "A channel that is zero in one of the layers has no ratio: leave it alone, s = 1."
ROWS = "You multiplied the rows of w2 by s; channel c of the second layer is *column* c: w2 * s."
ONE_FACTOR = "You used one s for the whole layers; every hidden channel has its own."
SPREAD = "The range is the largest magnitude here, not max − min: a symmetric grid needs no more."
NO_SECOND = "You changed the second layer only; the first is divided by s, its bias too."
INVERSE_NO_BIAS = "Your s goes the wrong way (divide w1 by it), and the bias b1 belongs to w1."
EQUAL_GENERAL = (
    "r1 = max|w1| of each row, r2 = max|w2| of each column, s = sqrt(r1 / r2), 1 where either is "
    "0; return w1 / s row by row, b1 / s, w2 · s column by column."
)


def equalize_cases() -> Iterator[Case]:
    """Cases of exercise 4.4: ranges of two layers shared out."""
    w1 = [[4.0, -9.0], [0.5, 0.1], [0.3, -0.2]]
    yield _equalize_case(w1, [2.0, -0.5, 0.1], [[0.25, 8.0, 1.2], [0.1, -6.0, -0.4], [0.2, 1.0, 0]])
    dead = [[0.0, 0.0], [2.0, 1.0], [1.0, -3.0]]
    yield _equalize_case(dead, [1.0, 0.0, 2.0], [[3.0, 0.0, 1.0], [-1.0, 0.0, 0.5]], DEAD)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        w1 = draw.normal(0, 1, (8, 5)) * 10 ** draw.uniform(-2, 2, (8, 1))
        yield _equalize_case(w1, draw.normal(0, 1, 8), draw.normal(0, 1, (6, 8)))


def _equalize_case(w1, b1, w2, message: str = EQUAL_GENERAL) -> Case:
    a, b, c = (np.asarray(v, dtype=np.float32).astype(float) for v in (w1, b1, w2))
    r1, r2 = np.abs(a).max(1), np.abs(c).max(0)

    def moved(s: np.ndarray) -> tuple:
        return a / s[:, None], b / s, c * s

    with np.errstate(all="ignore"):
        alive = (r1 > 0) & (r2 > 0)
        s = np.sqrt(np.where(alive, r1 / r2, 1.0))
        right = moved(s)
        plain = np.sqrt(a.max(1) / c.max(0))
        mistakes = {
            INVERSE: moved(1 / s),
            NO_BIAS: (right[0], b, right[2]),
            BIAS_TIMES: (right[0], b * s, right[2]),
            NO_ROOT: moved(s * s),
            PRODUCT: moved(np.where(alive, np.sqrt(r1 * r2), 1.0)),
            ONLY_FIRST: (right[0], right[1], c),
            BOTH: (right[0], right[1], c / s),
            MEANS: moved(np.sqrt(np.abs(a).mean(1) / np.abs(c).mean(0))),
            SIGNED_MAX: moved(plain),
            DEAD: moved(np.sqrt(r1 / r2)),
            ONE_FACTOR: moved(np.full_like(s, np.sqrt(r1.max() / r2.max()))),
            SPREAD: moved(np.sqrt(np.ptp(a, 1) / np.ptp(c, 0))),
            NO_SECOND: (a, b, right[2]),
            INVERSE_NO_BIAS: (a * s[:, None], b, c / s),
        }
        if len(c) == len(s):
            mistakes[ROWS] = (right[0], right[1], c * s[:, None])
    arguments = tuple(torch.from_numpy(v).float() for v in (a, b, c))
    return _case(arguments, right, message, mistakes, 1e-5)


def _case(arguments, right, message, mistakes, tolerance=1e-6) -> Case:
    """Make a case, leaving out the mistakes that change nothing here."""
    looks_like = {said: wrong for said, wrong in mistakes.items() if not _equal(wrong, right)}
    return Case(arguments, right, message, looks_like, tolerance)


def _over(a: np.ndarray, b: float) -> np.ndarray:
    """As torch divides, by 0 too."""
    with np.errstate(all="ignore"):
        return a / np.float64(b)


def _equal(a, b) -> bool:
    if isinstance(a, tuple):
        return all(map(_equal, a, b))
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=1e-5, atol=0))
