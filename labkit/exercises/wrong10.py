"""Typical wrong answers to the exercises of notebook 10, written as a learner would write them."""

from __future__ import annotations

from math import comb

from labkit.exercises.core import Wrong


def _differ(one, other):
    return [i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]


def _with_lengths(one, other):
    steps = _differ(one, other)
    if steps or len(one) == len(other):
        return (*steps, -1)[0]
    return min(len(one), len(other))


FIRST = (
    Wrong("from one", lambda a, b: _differ(a, b)[0] + 1, "from 0"),
    Wrong("the last", lambda a, b: _differ(a, b)[-1], "last step"),
    Wrong("how many", lambda a, b: len(_differ(a, b)), "how often"),
    Wrong("a longer list differs", _with_lengths, "longer is no other action"),
    Wrong("the end", lambda a, b: (*_differ(a, b), len(a))[0], "return -1"),
)


def _loop(known, *, first=(), before=0, extra=0, arrive_first=True):
    """A closed loop with a mistake in it."""

    def answer(act, world, room, limit):
        seen = [room] if not first else []
        for steps in range(1, limit + extra + 1):
            last, (room, arrived) = room, world(room, act(room))
            back = known(seen, last, room)
            if arrived and (arrive_first or not back):
                return "success", steps - before
            if back:
                return "loop", steps - before
            seen.append(room)
        return "time", limit + extra - before

    return answer


def _seen(seen, last, room):
    return room in seen


LOOP = (
    Wrong("forgets the first room", _loop(_seen, first=("none",)), "starts in counts"),
    Wrong("only the room before", _loop(lambda s, last, room: room == last), "room before only"),
    Wrong("never a loop", _loop(lambda *_: False), "goes in circles"),
    Wrong("a step less", _loop(_seen, before=1), "counts, too"),
    Wrong("a step too few", _loop(_seen, extra=-1), "no more and no less"),
    Wrong("the loop first", _loop(_seen, arrive_first=False), "has arrived"),
)


FATAL = (
    Wrong("one action", lambda a, steps: a, "one action"),
    Wrong("mean steps", lambda a, steps: a ** (sum(steps) / len(steps)), "mean number of steps"),
    Wrong("adds up", lambda a, s: sum(1 - n * (1 - a) for n in s) / len(s), "multiply"),
    Wrong("all steps", lambda a, steps: a ** sum(steps), "with each other"),
    Wrong("fails", lambda a, s: 1 - sum(a**n for n in s) / len(s), "share that fails"),
)


def _only(first, second):
    pairs = list(zip(first, second, strict=True))
    return pairs.count((True, False)), pairs.count((False, True))


def _tail(fewer, n):
    return sum(comb(n, k) for k in range(fewer + 1)) / 2**n


def _paired(points=lambda b, c, n: 100 * (c - b) / n, p=lambda b, c, n: _p(b, c)):
    def answer(first, second):
        b, c = _only(first, second)
        return points(b, c, len(first)), p(b, c, len(first))

    return answer


def _p(b, c):
    return min(1.0, 2 * _tail(min(b, c), b + c))


def _unpaired(first, second):
    b, c = _only(first, second)
    return 100 * (c - b) / len(first), _p(sum(first), sum(second))


PAIRED = (
    Wrong("the sign", _paired(lambda b, c, n: 100 * (b - c) / n), "second minus first"),
    Wrong("a share", _paired(lambda b, c, n: (c - b) / n), "in points"),
    Wrong(
        "of those that tell", _paired(lambda b, c, n: 100 * (c - b) / (b + c)), "by all episodes"
    ),
    Wrong("one side", _paired(p=lambda b, c, n: _tail(min(b, c), b + c)), "one side"),
    Wrong("above one", _paired(p=lambda b, c, n: 2 * _tail(min(b, c), b + c)), "at most 1"),
    Wrong(
        "all episodes", _paired(p=lambda b, c, n: min(1, 2 * _tail(min(b, c), n))), "all episodes"
    ),
    Wrong("unpaired", _unpaired, "different ones"),
)
