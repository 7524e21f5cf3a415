"""The robots of notebook 10: how each was made small, its bytes, and what it did in closed loop.

All play the same held-out episodes. What was played once is remembered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from torch import nn

from labkit.explorers.robot_films import FLOAT
from labkit.quantize import quantize_model
from labkit.report import Report, stored_tensors
from labkit.selection import quantizable_layers
from labkit.threads import one_thread
from labkit.vla.evaluate import roll_out_many
from labkit.vla.mixed_bits import robot_mixed
from labkit.vla.rollout import Rollout, roll_out
from labkit.vla.zoo import robot, robot_quantized

PARTS = ("vision", "language", "fusion", "action_head")
BUNDLED = {
    ("mixed", 3): robot_mixed,
    ("trained", 3): partial(robot_quantized, "w3_qat"),
    ("trained", 2): partial(robot_quantized, "w2_qat"),
}
"""Way and bits of the robots that come as packed files."""
EPISODES = 300
"""Held-out episodes that a success is measured on, the three missions in turn."""
JOBS = min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Robot:
    """A policy of the lab: FLOAT or the bits of its weights, and how they came to be so few.

    `way`: rounded on a scale a "tensor" or a "channel"; "mixed", a width for each layer, in no more
    bytes than 3 bits for all of them; "trained" with the rounding, at 3 or 2 bits. `part`: one of
    `PARTS`, which alone is rounded; "" for all. `seed`: which of the three trained robots.

    >>> Robot(3).way
    'tensor'
    """

    bits: int = FLOAT
    way: str = "tensor"
    part: str = ""
    seed: int = 0


@cache
def policy(which: Robot = Robot()) -> nn.Module:
    """Return the policy itself, in eval mode; not to be changed.

    Raises ValueError for a robot that does not exist.

    >>> policy(Robot(3)).action_head.out.weight[0].unique().numel() <= 7
    True
    """
    if which.bits == FLOAT:
        return robot(which.seed)
    if (which.way, which.bits) in BUNDLED:
        return BUNDLED[which.way, which.bits]()
    return _quantized(which)[0]


@cache
def nbytes(which: Robot = Robot()) -> int:
    """Return the bytes of the whole policy: codes, scales, and what stays in float.

    >>> nbytes(Robot(8)) < nbytes() / 3.5
    True
    """
    if which.bits == FLOAT or (which.way, which.bits) in BUNDLED:
        tensors = stored_tensors(policy(which))[0].values()
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return _quantized(which)[1].quantized_bytes


def played(which: Robot = Robot(), episodes: int | None = None) -> tuple[Rollout, ...]:
    """Return what a robot did in the first `EPISODES`, or so many; asked again, it is free.

    >>> [r.mission for r in played(episodes=3)]
    ['go to', 'pick up', 'put next to']
    """
    episodes = EPISODES if episodes is None else episodes
    play_all([which], episodes)
    return _PLAYED[which, episodes]


def play_all(robots: Iterable[Robot], episodes: int | None = None) -> None:
    """Let all robots that have not yet done so play these episodes, on two cores if there are."""
    episodes = EPISODES if episodes is None else episodes
    waiting = [r for r in dict.fromkeys(robots) if (r, episodes) not in _PLAYED]
    policies = {r: policy(r) for r in waiting}
    if not policies:
        return
    # Starting a second process takes as long as two or three robots play.
    jobs = JOBS if len(policies) * episodes > 4 * EPISODES else 1
    for which, rollouts in roll_out_many(policies, episodes, n_jobs=jobs).items():
        _PLAYED[which, episodes] = tuple(rollouts)


@one_thread()
def play(which: Robot, episodes: Sequence[tuple[str, int]]) -> tuple[Rollout, ...]:
    """Let a robot play these (mission, seed) pairs now."""
    return tuple(roll_out(policy(which), episodes))


_PLAYED: dict[tuple[Robot, int], tuple[Rollout, ...]] = {}


@cache
def _quantized(which: Robot) -> tuple[nn.Module, Report]:
    if which.way not in ("channel", "tensor"):
        raise ValueError(f"there is no robot {which}; bundled are {', '.join(map(str, BUNDLED))}")
    model = robot(which.seed)
    bits: int | dict[str, int] = which.bits
    if which.part:
        names = [name for name in quantizable_layers(model) if name.startswith(f"{which.part}.")]
        bits = dict.fromkeys(names, which.bits)
    granularity = "tensor" if which.way == "tensor" else "channel"
    return quantize_model(model, bits=bits, granularity=granularity)
