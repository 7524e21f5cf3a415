"""Typical wrong answers to the exercises of notebook 11, written as a learner would write them."""

from __future__ import annotations

import math
from itertools import product

from labkit.exercises.core import Wrong


def _limits(chosen=min, share=lambda size, ratio: int(size / ratio), leave_out=()):
    def answer(memory, asked, ratio, float_bytes):
        limits = {"memory": memory, "asked": asked, "ratio": None}
        if ratio is not None:
            limits["ratio"] = share(float_bytes, ratio)
        given = [v for name, v in limits.items() if v is not None and name not in leave_out]
        return chosen(given) if given else float_bytes

    return answer


def _from_memory(memory, asked, ratio, float_bytes):
    limits = [memory, asked, None if None in (memory, ratio) else int(memory / ratio)]
    return min((limit for limit in limits if limit is not None), default=float_bytes)


LIMIT = (
    Wrong("the largest", _limits(max), "took the largest"),
    Wrong("multiplies", _limits(share=lambda size, ratio: int(size * ratio)), "divided by it"),
    Wrong("rounds up", _limits(share=lambda size, ratio: math.ceil(size / ratio)), "round down"),
    Wrong("no ratio", _limits(leave_out=("ratio",)), "ratio is missing"),
    Wrong("no memory", _limits(leave_out=("memory",)), "memory is missing"),
    Wrong("no wish", _limits(leave_out=("asked",)), "asked for are missing"),
    Wrong("the memory's share", _from_memory, "divided the memory"),
)


def _shares(sums, losses, max_loss, beyond=lambda loss, limit: loss > limit):
    """(S, misses up to S, plans up to S) for each sum, the smallest first."""
    for most in sorted(sums):
        lost = [loss for total, loss in zip(sums, losses, strict=True) if total <= most]
        yield most, sum(beyond(loss, max_loss) for loss in lost), len(lost)


def _first_miss(sums, losses, max_loss, risk):
    trusted = 0.0
    for total, loss in sorted(zip(sums, losses, strict=True)):
        if loss > max_loss:
            break
        trusted = total
    return trusted


def _of_all(sums, losses, max_loss, risk):
    kept = [s for s, missed, _ in _shares(sums, losses, max_loss) if missed / len(sums) <= risk]
    return max(kept, default=0.0)


def _below_risk(sums, losses, max_loss, risk):
    kept = [s for s, missed, count in _shares(sums, losses, max_loss) if missed / count < risk]
    return max(kept, default=0.0)


def _at_limit(sums, losses, max_loss, risk):
    rows = _shares(sums, losses, max_loss, lambda loss, limit: loss >= limit)
    return max((s for s, missed, count in rows if missed / count <= risk), default=0.0)


def _count(sums, losses, max_loss, risk):
    rows = _shares(sums, losses, max_loss)
    return max((count for _, missed, count in rows if missed / count <= risk), default=0)


def _unsorted(sums, losses, max_loss, risk):
    trusted, missed = 0.0, 0
    for i, (total, loss) in enumerate(zip(sums, losses, strict=True)):
        missed += loss > max_loss
        if missed / (i + 1) <= risk:
            trusted = max(trusted, total)
    return trusted


def _first_crossing(sums, losses, max_loss, risk):
    trusted = 0.0
    for s, missed, count in _shares(sums, losses, max_loss):
        if missed / count > risk:
            break
        trusted = s
    return trusted


def _only_kept(sums, losses, max_loss, risk):
    pairs = zip(sums, losses, strict=True)
    return max((total for total, loss in pairs if loss <= max_loss), default=0.0)


TRUST = (
    Wrong("stops at the first miss", _first_miss, "first miss"),
    Wrong("a share of all", _of_all, "divided by all plans"),
    Wrong("below the risk", _below_risk, "exactly the risk"),
    Wrong("the limit is a miss", _at_limit, "within the limit"),
    Wrong("how many", _count, "how many plans"),
    Wrong("in the order given", _unsorted, "order given"),
    Wrong("the first crossing", _first_crossing, "first exceeds"),
    Wrong("any that kept it", _only_kept, "whatever the others did"),
)


def _swapped(loss, low, high, limit):
    said = "kept" if loss <= limit else "missed"
    sure = low <= limit if said == "kept" else high > limit
    return f"surely {said}" if sure else said


def _strict(loss, low, high, limit):
    said = "kept" if loss < limit else "missed"
    return f"surely {said}" if high <= limit or low > limit else said


def _whole(loss, low, high, limit):
    if high <= limit or low > limit:
        return "surely kept" if high <= limit else "surely missed"
    return "missed"


def _turned(loss, low, high, limit):
    said = "kept" if loss > limit else "missed"
    return f"surely {said}" if high <= limit or low > limit else said


VERDICT = (
    Wrong(
        "the loss alone",
        lambda loss, low, high, limit: "kept" if loss <= limit else "missed",
        "the interval decides",
    ),
    Wrong("the other end", _swapped, "across the limit"),
    Wrong("strictly less", _strict, "exactly the limit"),
    Wrong("the whole interval", _whole, "whole interval to be within"),
    Wrong("turned round", _turned, "turned it round"),
)


def _total(table, picked):
    return sum(row[option] for row, option in zip(table, picked, strict=True))


def _each(losses, picked):
    return [row[option] for row, option in zip(losses, picked, strict=True)]


def _try_all(allowed):
    def answer(sizes, losses, max_loss):
        every = product(range(len(sizes[0])), repeat=len(sizes))
        fitting = [_total(sizes, p) for p in every if allowed(losses, p, max_loss)]
        return min(fitting, default=_total(sizes, (-1,) * len(sizes)))

    return answer


def _least_loss(sizes, losses, max_loss):
    every = product(range(len(sizes[0])), repeat=len(sizes))
    best = min(every, key=lambda p: (_total(losses, p), _total(sizes, p)))
    return _total(sizes, best)


def _choice(sizes, losses, max_loss):
    every = product(range(len(sizes[0])), repeat=len(sizes))
    fitting = [p for p in every if _total(losses, p) <= max_loss]
    return list(min(fitting, key=lambda p: _total(sizes, p)))


OFFER = (
    Wrong("the smallest loss", _least_loss, "smallest loss"),
    Wrong("ignores the loss", _try_all(lambda *_: True), "bytes alone"),
    Wrong(
        "each layer by itself", _try_all(lambda t, p, m: max(_each(t, p)) <= m), "every layer all"
    ),
    Wrong(
        "equal shares",
        _try_all(lambda t, p, m: max(_each(t, p)) <= m / len(t)),
        "equal share",
    ),
    Wrong(
        "the same for all",
        _try_all(lambda t, p, m: len(set(p)) == 1 and _total(t, p) <= m),
        "same option",
    ),
    Wrong("below the limit", _try_all(lambda t, p, m: _total(t, p) < m), "exactly max_loss"),
    Wrong("the choice", _choice, "return its bytes"),
)
