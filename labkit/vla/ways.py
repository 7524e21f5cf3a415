"""The shortest ways through a room: what an expert would do wherever the robot might stand.

    steps to go    0 where the robot faces what it shall reach,
                   else 1 + the least of what left, right and forward lead to

Of several moves that lead one step nearer either is right. The expert takes one of them by a habit
that no turned or mirrored picture shows, so it is not asked for: any of them will do. Where the
expert itself takes a longer way, which is less than one step in two hundred, its own move counts.

From one demonstration the robot so learns what to do from every cell of the room, not only where
the expert happened to stand: that is where planning is learned, and a step of training says some
hundred times as much. Source: Bellman 1957 (dynamic programming); Tamar et al. 2016 (value
iteration networks), for the idea that a network has to learn the plan, not the move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labkit.vla.demos import Demos
from labkit.vla.env import FLAVOURS, WALL, WORDS

MOVES = 3
"""Left, right and forward: the first of `labkit.vla.env.ACTIONS`."""

FAR = 99
_RIGHT_DOWN_LEFT_UP = ((0, 1), (1, 0), (0, -1), (-1, 0))
_PUT = WORDS.index("put")


@dataclass(frozen=True, eq=False)
class Ways:
    """What is right in `n` rooms.

    `actions` (n, 5) bool: what may be done where the robot stands, the expert's own action among
    it. `moves` (n, 3, 4, 8, 8) bool: which moves lead nearer for a robot that faced right, down,
    left or up in each cell. `known` (n, 4, 8, 8) bool: where that is asked: in free cells from
    which there is a way, and is still one to go.
    """

    actions: np.ndarray
    moves: np.ndarray
    known: np.ndarray


def shortest_ways(demos: Demos) -> Ways:
    """Return what is right in the rooms of `demos`, and everywhere in them.

    >>> from labkit.vla.demos import collect
    >>> demos = collect("go to", [3])
    >>> ways = shortest_ways(demos)
    >>> bool(ways.actions[np.arange(len(demos)), demos.actions].all())
    True
    """
    n, each = len(demos), np.arange(len(demos))
    things, robots = demos.rooms % FLAVOURS, demos.rooms // FLAVOURS
    y, x = np.divmod(robots.reshape(n, -1).argmax(1), robots.shape[-1])
    facing = robots[each, y, x].astype(int) - 1
    carrying = things[each, y, x] > WALL
    standing = things.copy()
    standing[each, y, x] = 0
    free = standing == 0
    steps = _steps_to_go(_goals(demos, free, carrying), free)
    moves = np.stack(
        [
            np.roll(steps, 1, axis=1) == steps - 1,
            np.roll(steps, -1, axis=1) == steps - 1,
            _forward(steps, free) == steps - 1,
        ],
        axis=1,
    )
    known = (steps > 0) & (steps < FAR) & free[:, None]
    actions = np.zeros((n, 5), bool)
    here = moves[each, :, facing, y, x] & known[each, facing, y, x][:, None]
    nearer = (demos.actions < MOVES) & here[each, np.minimum(demos.actions, MOVES - 1)]
    actions[:, :MOVES] = here & nearer[:, None]
    actions[each, demos.actions] = True
    return Ways(actions, moves, known)


def _goals(demos: Demos, free: np.ndarray, carrying: np.ndarray) -> np.ndarray:
    """Where the robot faces the thing, or a free cell beside it: (n, 4, 8, 8) bool."""
    put = ((demos.words[:, 0] == _PUT) & carrying)[:, None, None]
    beside = np.any([_ahead(demos.targets[:, 1], way) for way in range(4)], axis=0)
    goal = np.where(put, beside & free, demos.targets[:, 0])
    return np.stack([_ahead(goal, way) & free for way in range(4)], axis=1)


def _steps_to_go(goals: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Goals and free cells → actions until a goal: (n, 4, 8, 8), `FAR` where there is no way."""
    steps = np.where(goals, 0, FAR).astype(np.int8)
    while True:
        left, right = np.roll(steps, 1, axis=1), np.roll(steps, -1, axis=1)
        nearest = np.minimum(np.minimum(left, right), _forward(steps, free))
        better = np.minimum(steps, nearest + 1)
        if (better == steps).all():
            return steps
        steps = better


def _forward(steps: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The steps to go after one step forward; `FAR` where the way is blocked."""
    after = [np.where(_ahead(free, way), _ahead(steps[:, way], way), FAR) for way in range(4)]
    return np.stack(after, axis=1).astype(steps.dtype)


def _ahead(cells: np.ndarray, way: int) -> np.ndarray:
    """What is in front of each cell (…, 8, 8); rooms have walls all around, so none is outside."""
    down, right = _RIGHT_DOWN_LEFT_UP[way]
    return np.roll(cells, (-down, -right), axis=(-2, -1))
