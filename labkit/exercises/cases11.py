"""How the exercises of notebook 11 are judged: by labkit's fusion, by counting, by HiGHS.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np

from labkit.constraints import Constraints
from labkit.exercises.core import Case
from labkit.fusion import Limits
from labkit.mixed import allocate_bits
from labkit.requirement import Requirement

LARGEST = "You took the largest; a model that keeps every limit keeps the smallest."
NO_RATIO = "The ratio is missing: it allows float_bytes / ratio."
NO_MEMORY = "The device's memory is missing: it is a limit like the others."
NO_WISH = "The bytes that were asked for are missing: they are a limit like the others."
MULTIPLIED = "You multiplied by the ratio; so many times smaller means divided by it."
ROUNDED_UP = "You rounded up: a byte more than allowed. Round down."
FROM_MEMORY = "You divided the memory by the ratio; it is the float model that is made smaller."
LIMIT_GENERAL = "Of memory, asked and float_bytes / ratio (rounded down), the smallest given."


def limit_cases() -> Iterator[Case]:
    """Cases of exercise 11.1: the most bytes that keep every limit."""
    yield _limit_case(700, 600, 1.5, 334)
    yield _limit_case(200, 600, 1.5, 334)
    yield _limit_case(500, 210, 1.5, 334)
    yield _limit_case(500, None, None, 1000)
    yield _limit_case(None, 600, None, 1000)
    yield _limit_case(None, None, 7.0, 1000)
    # The document's first case: 100 MB on the device, 40 MB of float, 75 % less.
    yield _limit_case(100_000_000, None, 4.0, 40_000_000)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        memory, asked = draw.integers(10, 5_000, 2).tolist()
        yield _limit_case(memory, asked, float(draw.uniform(1.2, 9)), int(draw.integers(99, 9_999)))


def _limit_case(memory: int | None, asked: int | None, ratio: float | None, size: int) -> Case:
    wish = Requirement(max_bytes=asked, min_ratio=ratio)
    right = Limits.of(Constraints(memory_bytes=memory), wish, size, None).bytes
    share = None if ratio is None else math.floor(size / ratio)
    product_ = None if ratio is None else math.floor(size * ratio)
    up = None if ratio is None else math.ceil(size / ratio)
    of_memory = None if ratio is None or memory is None else math.floor(memory / ratio)
    mistakes = {
        LARGEST: _of(max, memory, asked, share),
        ROUNDED_UP: _of(min, memory, asked, up),
        MULTIPLIED: _of(min, memory, asked, product_),
        NO_RATIO: _of(min, memory, asked),
        NO_MEMORY: _of(min, asked, share),
        NO_WISH: _of(min, memory, share),
        FROM_MEMORY: _of(min, memory, asked, of_memory),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong not in (None, right)}
    return Case((memory, asked, ratio, size), right, LIMIT_GENERAL, looks_like)


def _of(chosen, *limits: int | None) -> int | None:
    given = [limit for limit in limits if limit is not None]
    return chosen(given) if given else None


FIRST_MISS = "You stopped at the first miss; a share `risk` of the trusted plans may miss."
OF_ALL = "You divided by all plans; the share is one of the plans that are trusted."
BELOW_RISK = "Exactly the risk is allowed too: at most, not less than."
AT_LIMIT = "A loss of exactly max_loss is within the limit; you counted it as a miss."
COUNTED = "That is how many plans are trusted; return the sum up to which they are."
UNSORTED = "You went through the plans in the order given; count all plans with a sum of at most S."
FIRST_CROSSING = (
    "You stopped where the share first exceeds the risk; further on it may be small enough again, "
    "and the largest S is asked for."
)
ONLY_KEPT = "That is the largest sum of a plan that kept the limit, whatever the others did."
TRUST_GENERAL = (
    "For every S: the share of misses among plans with a sum ≤ S; the largest S that will do."
)


def trust_cases() -> Iterator[Case]:
    """Cases of exercise 11.2: the largest sum that can be trusted with a limit."""
    yield _trust_case([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.0, 9.0, 0.0, 0.0, 9.0, 9.0], 3.0, 0.5)
    yield _trust_case(
        [0.2, 1.2, 0.9, 1.0, 0.3, 0.6, 1.1, 0.1, 1.3, 0.4, 0.7, 0.8, 0.5],
        [2.0, 6.0, 4.0, 4.0, 3.0, 7.0, 2.0, 3.0, 3.0, 0.0, 0.0, 1.0, 5.0],
        3.0,
        0.25,
    )
    yield _trust_case([0.3, 0.1, 0.2, 0.4], [9.0, 1.0, 1.0, 9.0], 3.0, 0.0)
    yield _trust_case([0.1, 0.2], [9.0, 9.0], 3.0, 0.1)
    yield _trust_case([0.1, 0.2, 0.3], [0.0, 1.0, 2.0], 3.0, 0.1)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        sums = np.round(draw.uniform(0.01, 2, 20), 3)
        losses = np.round(9 * sums + draw.normal(0, 3, 20), 1)
        yield _trust_case(sums.tolist(), losses.tolist(), 6.0, (0.1, 0.2, 0.25, 0.3)[seed])


def _trust_case(sums: list[float], losses: list[float], max_loss: float, risk: float) -> Case:
    order = np.argsort(sums)
    s, missed = np.array(sums)[order], np.array(losses)[order] > max_loss
    counts = np.arange(1, len(s) + 1)
    shares = np.cumsum(missed) / counts

    def last(allowed: np.ndarray) -> float:
        return float(s[np.flatnonzero(allowed)[-1]]) if allowed.any() else 0.0

    def before_first(allowed: np.ndarray) -> float:
        until = int(np.argmin(np.append(allowed, False)))
        return float(s[until - 1]) if until else 0.0

    right = last(shares <= risk)
    strict = np.cumsum(np.array(losses)[order] >= max_loss) / counts
    as_given = np.cumsum(np.array(losses) > max_loss) / counts
    walked = np.flatnonzero(as_given <= risk)
    mistakes = {
        FIRST_MISS: before_first(~missed),
        OF_ALL: last(np.cumsum(missed) / len(s) <= risk),
        FIRST_CROSSING: before_first(shares <= risk),
        BELOW_RISK: last(shares < risk),
        AT_LIMIT: last(strict <= risk),
        COUNTED: int(np.flatnonzero(shares <= risk)[-1] + 1) if (shares <= risk).any() else 0,
        UNSORTED: float(max(np.array(sums)[walked])) if len(walked) else 0.0,
        ONLY_KEPT: last(~missed),
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((sums, losses, max_loss, risk), right, TRUST_GENERAL, looks_like)


NEVER_SURE = "You looked at the loss alone; the interval decides whether it is sure."
ALWAYS_SURE = "You said sure while the interval reaches across the limit."
WHOLE = "You asked the whole interval to be within the limit; kept is what the loss itself is."
STRICT = "A loss of exactly the limit is kept: at most, not less than."
TURNED = "You turned it round: a loss above the limit is missed."
VERDICT_GENERAL = "loss ≤ limit is kept; sure is when high ≤ limit or low > limit."


def verdict_cases() -> Iterator[Case]:
    """Cases of exercise 11.3: a measured loss with its interval, beside a limit."""
    for loss, low, high in (
        (0.01, -0.01, 0.025),
        (0.02, -0.01, 0.05),
        (0.04, 0.01, 0.07),
        (0.09, 0.05, 0.13),
        (0.03, 0.01, 0.06),
        (0.02, 0.01, 0.03),
        (-0.01, -0.03, 0.01),
    ):
        yield _verdict_case(loss, low, high, 0.03)


def _verdict_case(loss: float, low: float, high: float, limit: float) -> Case:
    word = "kept" if loss <= limit else "missed"
    within = np.array([low, high]) <= limit
    sure = "surely " if len(set(within.tolist())) == 1 else ""
    right = sure + word
    mistakes = {
        STRICT: f"{sure}missed" if loss == limit else right,
        WHOLE: right if sure or within.all() else "missed",
        TURNED: sure + {"kept": "missed", "missed": "kept"}[word],
        NEVER_SURE: word,
        ALWAYS_SURE: f"surely {word}",
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((loss, low, high, limit), right, VERDICT_GENERAL, looks_like)


LEAST_LOSS = "Those are the bytes of the smallest loss; the limit leaves room for fewer."
IGNORED = "You looked at the bytes alone; the losses must add up to at most max_loss."
EACH = "You allowed every layer all of max_loss; it is their sum that is limited."
IN_SHARES = "You gave each layer an equal share of max_loss; only the sum is limited."
UNIFORM = "You gave all layers the same option; each layer may have its own."
BELOW = "You wanted less than max_loss; exactly max_loss is allowed too."
PICKED = "That is the choice; return its bytes."
OFFER_GENERAL = "Of all combinations with a summed loss of at most max_loss, the fewest bytes."


def offer_cases() -> Iterator[Case]:
    """Cases of exercise 11.4: the fewest bytes that a loss leaves."""
    sizes = [[14, 27, 75], [13, 42, 45], [27, 60, 65]]
    losses = [[10.0, 9.0, 2.0], [9.0, 3.0, 0.0], [4.0, 1.0, 1.0]]
    yield _offer_case(sizes, losses, 9.0)
    yield _offer_case([[3, 8]], [[2.0, 0.0]], 2.0)
    yield _offer_case([[3, 8]], [[2.0, 0.0]], 1.0)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        layers = int(draw.integers(2, 5))
        sizes = np.sort(draw.integers(1, 99, (layers, 3)), axis=1)
        # Whole losses, so that a sum can be exactly the limit.
        losses = -np.sort(-draw.integers(0, 9, (layers, 3)), axis=1).astype(float)
        low, high = losses.min(1).sum(), losses.max(1).sum()
        yield _offer_case(sizes.tolist(), losses.tolist(), float(draw.integers(low, high + 1)))


def _offer_case(sizes: list, losses: list, max_loss: float) -> Case:
    size, loss = np.array(sizes), np.array(losses)
    layers, options = size.shape
    chosen = allocate_bits(size, [("loss", loss, max_loss)])

    def total(table: np.ndarray, picked) -> float:
        return table[np.arange(layers), list(picked)].sum()

    right = int(total(size, chosen))
    every = list(product(range(options), repeat=layers))

    def fewest(allowed) -> int | None:
        return int(min((total(size, p) for p in every if allowed(p)), default=-1))

    least = min(total(loss, p) for p in every)
    each = loss[np.arange(layers), :]
    mistakes = {
        LEAST_LOSS: fewest(lambda p: total(loss, p) == least),
        IGNORED: int(size.min(1).sum()),
        EACH: fewest(lambda p: (each[np.arange(layers), list(p)] <= max_loss).all()),
        IN_SHARES: fewest(lambda p: (each[np.arange(layers), list(p)] <= max_loss / layers).all()),
        UNIFORM: fewest(lambda p: len(set(p)) == 1 and total(loss, p) <= max_loss),
        BELOW: fewest(lambda p: total(loss, p) < max_loss),
        PICKED: [int(option) for option in chosen],
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong not in (right, -1)}
    return Case((sizes, losses, max_loss), right, OFFER_GENERAL, looks_like)
