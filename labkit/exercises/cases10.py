"""How the exercises of notebook 10 are judged: numpy, scipy's binomial test, a walk on a map.

The first case of each exercise gives every known mistake another result, so that the message can
name the mistake; the later ones hold edges and random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from scipy.stats import binomtest

from labkit.exercises.core import Case

FROM_ONE = "Count the steps from 0, as the list does."
LAST = "That is the last step at which they differ; after the first one they see different rooms."
HOW_MANY = "You counted how often they differ; asked is when they do so first."
LENGTHS = "One list being longer is no other action: compare only steps that both have done."
NO_MINUS = "Where they never differ, return -1; a step that is not there would look like one."
FIRST_GENERAL = "The smallest step at which one[step] and other[step] differ; -1 if none does."


def first_cases() -> Iterator[Case]:
    """Cases of exercise 10.4: the first step at which two lists of actions differ."""
    yield _first_case([2, 0, 2, 1, 2, 2, 3], [2, 0, 1, 1, 0, 0, 1, 2])
    yield _first_case([0, 1, 3, 2, 2], [0, 1, 3])
    yield _first_case([0, 1], [0, 1])
    yield _first_case([4], [0, 4])
    for seed in range(4):
        draw = np.random.default_rng(seed)
        one = draw.integers(0, 5, 12)
        other = np.where(draw.random(12) < 0.2, draw.integers(0, 5, 12), one)
        yield _first_case(one[: draw.integers(5, 13)].tolist(), other.tolist())


def _first_case(one: list[int], other: list[int]) -> Case:
    shared = min(len(one), len(other))
    where = np.flatnonzero(np.array(one[:shared]) != np.array(other[:shared])).tolist()
    right = where[0] if where else -1
    mistakes = {
        LENGTHS: shared if not where and len(one) != len(other) else right,
        NO_MINUS: len(one) if not where else right,
        FROM_ONE: where[0] + 1 if where else right,
        LAST: where[-1] if where else right,
        HOW_MANY: len(where) if where else right,
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((one, other), right, FIRST_GENERAL, looks_like)


FIRST_ROOM = "The room it starts in counts as seen, too."
NEIGHBOURS = "You compared with the room before only; it may come back to a room after many steps."
ENDLESS = 'A room it has seen before means that it goes in circles: the end is "loop", not "time".'
ONE_LESS = "The step that ends the episode counts, too."
LIMIT = "It may do `limit` steps, no more and no less."
LOOP_FIRST = 'Ask first whether it has arrived: a mission fulfilled in a known room is a "success".'
LOOP_GENERAL = (
    'After each step: arrived is "success", a room seen before is "loop", otherwise go on; after '
    '`limit` steps "time".'
)


class World:
    """A map: room → room after the action of the policy; arriving happens on one of its ways.

    >>> World({0: 1, 1: 2}, arrive=(1, 2))
    world with the ways 0→1, 1→2, fulfilled on 1→2

    >>> World({0: 1, 1: 2}, arrive=(1, 2))(1, 0)
    (2, True)
    """

    def __init__(self, next_room: dict[int, int], arrive: tuple[int, int] | None = None) -> None:
        """`arrive`: the step (from room, to room) that fulfils the mission."""
        self.next_room, self.arrive = next_room, arrive

    def __call__(self, room: int, action: int) -> tuple[int, bool]:
        """Do the action: the next room, and whether the mission is fulfilled."""
        then = self.next_room[room] + action
        return then, (room, then) == self.arrive

    def __repr__(self) -> str:
        """What an exercise's message shows: every way, and the one that fulfils the mission."""
        ways = ", ".join(f"{room}→{then}" for room, then in self.next_room.items())
        arrives = "" if self.arrive is None else f", fulfilled on {self.arrive[0]}→{self.arrive[1]}"
        return f"world with the ways {ways}{arrives}"


class Act:
    """A policy that remembers nothing; it always does action 0.

    >>> Act()(7)
    0
    """

    def __call__(self, room: int) -> int:
        """Answer the room with an action."""
        return 0

    def __repr__(self) -> str:
        """What an exercise's message shows."""
        return "act"


def loop_cases() -> Iterator[Case]:
    """Cases of exercise 10.1: how an episode ends, and after how many steps."""
    ring = {0: 1, 1: 2, 2: 3, 3: 0}
    yield _loop_case(World({0: 1, 1: 1}), 0, 5)
    yield _loop_case(World({0: 1, 1: 2, 2: 3, 3: 1}), 0, 9)
    yield _loop_case(World(ring), 0, 9)
    yield _loop_case(World({n: n + 1 for n in range(9)}, arrive=(4, 5)), 0, 9)
    yield _loop_case(World(ring, arrive=(3, 0)), 0, 9)
    yield _loop_case(World({n: n + 1 for n in range(9)}), 0, 4)
    yield _loop_case(World({n: n + 1 for n in range(9)}, arrive=(3, 4)), 0, 4)
    yield _loop_case(World({0: 0}), 0, 3)
    for seed in range(4):
        draw = np.random.default_rng(seed)
        rooms = dict(enumerate(draw.permutation(12).tolist()))
        start = int(draw.integers(0, 12))
        yield _loop_case(World(rooms), start, int(draw.integers(2, 12)))


def _loop_case(world: World, room: int, limit: int) -> Case:
    # The whole way first, without asking when to stop: then where it arrives and where it returns.
    way = [room]
    while len(way) <= limit and way[-1] in world.next_room:
        way.append(world.next_room[way[-1]])
    hops = list(pairwise(way))
    arrives = next((i for i, hop in enumerate(hops, 1) if hop == world.arrive), None)
    returns = next((i for i in range(1, len(way)) if way[i] in way[:i]), None)
    late = next((i for i in range(1, len(way)) if way[i] in way[1:i]), None)
    still = next((i for i in range(1, len(way)) if way[i] == way[i - 1]), None)

    def ending(back: int | None, success_first: bool = True, most: int = limit) -> tuple[str, int]:
        ends = [("success", arrives), ("loop", back), ("time", most)]
        ends = ends if success_first else [ends[1], ends[0], ends[2]]
        return min(((said, i) for said, i in ends if i is not None and i <= most),
                   key=lambda end: end[1])  # fmt: skip

    right = ending(returns)
    mistakes = {
        NEIGHBOURS: ending(still),
        ENDLESS: ending(None),
        FIRST_ROOM: ending(late),
        LOOP_FIRST: ending(returns, success_first=False),
        ONE_LESS: (right[0], right[1] - 1) if right[0] != "time" else right,
        LIMIT: ("time", limit - 1) if right[1] == limit else right,
    }
    looks_like = {said: wrong for said, wrong in mistakes.items() if wrong != right}
    return Case((Act(), world, room, limit), right, LOOP_GENERAL, looks_like)


MEAN_STEPS = "You took the mean number of steps; take the mean of the chances, episode by episode."
ONE_STEP = "That is the chance of one action; every step of the episode has to agree."
ADDED = "You added up the chances of going wrong; chances of independent steps multiply."
PRODUCT = "You multiplied the episodes with each other; their mean is asked for."
WRONG_WAY = "That is the share that fails; asked is the share that succeeds."
FATAL_GENERAL = "The mean over the episodes of agreement ** steps."


def fatal_cases() -> Iterator[Case]:
    """Cases of exercise 10.3: agreement to the power of steps."""
    yield _fatal_case(0.95, [4, 10, 30])
    yield _fatal_case(1.0, [3, 8])
    yield _fatal_case(0.5, [0, 1])
    yield _fatal_case(0.99, [20])
    for seed in range(3):
        draw = np.random.default_rng(seed)
        yield _fatal_case(float(draw.uniform(0.8, 1)), draw.integers(1, 40, 9).tolist())


def _fatal_case(agreement: float, steps: list[int]) -> Case:
    n = np.array(steps, float)
    right = float(np.exp(n * np.log(agreement)).mean())
    mistakes = {
        ONE_STEP: agreement,
        MEAN_STEPS: float(agreement ** n.mean()),
        ADDED: float((1 - n * (1 - agreement)).mean()),
        PRODUCT: float(agreement ** n.sum()),
        WRONG_WAY: 1 - right,
    }
    looks_like = {said: w for said, w in mistakes.items() if not np.isclose(w, right)}
    return Case((agreement, steps), right, FATAL_GENERAL, looks_like, tolerance=1e-6)


SIGN = "The difference is second minus first: positive where the second is better."
SHARE = "The difference is in points: times 100."
OF_PAIRS = "Divide the difference by all episodes, not by those that tell the robots apart."
ONE_SIDED = "That is one side only: a split as uneven the other way is as surprising. Double it."
ABOVE_ONE = "A probability is at most 1: cut the doubled one there."
ALL_EPISODES = "You tossed the coin for all episodes; only those where just one succeeds tell."
UNPAIRED = "You compared the two numbers of successes as if the episodes were different ones."
PAIRED_GENERAL = (
    "100 (c − b) / episodes, and min(1, 2 · P(at most min(b, c) heads of b + c tosses))."
)


def paired_cases() -> Iterator[Case]:
    """Cases of exercise 10.2: the difference of two robots on the same episodes, and its p."""
    yield _paired_case(both=20, only_first=7, only_second=1, neither=2)
    yield _paired_case(both=5, only_first=2, only_second=2, neither=1)
    yield _paired_case(both=6, only_first=0, only_second=0, neither=2)
    yield _paired_case(both=0, only_first=0, only_second=6, neither=0)
    for seed in range(3):
        counts = np.random.default_rng(seed).integers(1, 9, 4).tolist()
        yield _paired_case(*counts)


def _paired_case(both: int, only_first: int, only_second: int, neither: int) -> Case:
    pairs = [(True, True)] * both + [(True, False)] * only_first
    pairs += [(False, True)] * only_second + [(False, False)] * neither
    order = np.random.default_rng(len(pairs)).permutation(len(pairs))
    first, second = ([pairs[i][side] for i in order] for side in (0, 1))
    n, told = len(pairs), only_first + only_second
    # scipy has no answer for no tosses; nothing is then more likely than what was seen.
    p = binomtest(only_first, told).pvalue if told else 1.0
    points = 100 * (only_second - only_first) / n
    fewer, more = sorted((only_first, only_second))
    one_side = binomtest(fewer, told, alternative="less").pvalue if told else 1.0
    wins = sorted((sum(first), sum(second)))
    mistakes = {
        SIGN: (-points, p),
        SHARE: (points / 100, p),
        OF_PAIRS: (100 * (only_second - only_first) / told if told else points, p),
        ABOVE_ONE: (points, 2 * one_side),
        ONE_SIDED: (points, one_side),
        ALL_EPISODES: (points, min(1.0, 2 * binomtest(fewer, n, alternative="less").pvalue)),
        UNPAIRED: (points, binomtest(wins[0], sum(wins)).pvalue if sum(wins) else 1.0),
    }
    if told and fewer == more:
        # The two-sided p is 1 here; only the doubled one is above it.
        mistakes.pop(ONE_SIDED)
    looks_like = {
        said: wrong for said, wrong in mistakes.items() if not np.allclose(wrong, (points, p))
    }
    shown = (
        f"lists of {n} episodes, {both} fulfilled by both, {only_first} only by the first (b), "
        f"{only_second} only by the second (c)"
    )
    return Case((first, second), (points, p), PAIRED_GENERAL, looks_like, shown=shown)
