"""The robot in closed loop, as the panels of notebook 10 need it: played once, then remembered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

from torch import nn

from labkit.explorers.robot_films import FLOAT
from labkit.quantize import quantize_model
from labkit.selection import quantizable_layers
from labkit.threads import one_thread
from labkit.vla.rollout import Rollout, held_out, roll_out
from labkit.vla.zoo import robot

PARTS = ("vision", "language", "fusion", "action_head")
EPISODES = 300
"""Held-out episodes that a success is measured on, the three missions in turn."""


@cache
def policy(bits: int = FLOAT, granularity: str = "channel", seed: int = 0) -> nn.Module:
    """Return the robot with the weights of every layer in `bits`; FLOAT is the robot as it is.

    >>> policy(3).action_head.out.weight[0].unique().numel() <= 7
    True
    """
    if bits == FLOAT:
        return robot(seed)
    return quantize_model(robot(seed), bits=bits, granularity=granularity)[0]


@cache
def nbytes(bits: int = FLOAT, granularity: str = "channel") -> int:
    """Return the bytes of the whole policy: codes, scales, and what stays in float.

    >>> nbytes(8) < nbytes() / 3.5
    True
    """
    _, report = quantize_model(robot(), bits=min(bits, 8), granularity=granularity)
    return report.original_bytes if bits == FLOAT else report.quantized_bytes


@cache
def only(part: str, bits: int, seed: int = 0) -> nn.Module:
    """Return the robot with one of `PARTS` in `bits` and the others in float.

    >>> only("language", 2).vision.mix.weight.equal(policy().vision.mix.weight)
    True
    """
    names = [name for name in quantizable_layers(robot(seed)) if name.startswith(f"{part}.")]
    return quantize_model(robot(seed), bits=dict.fromkeys(names, bits))[0]


@lru_cache(maxsize=128)
def played(
    bits: int = FLOAT, granularity: str = "channel", seed: int = 0, episodes: int = EPISODES
) -> tuple[Rollout, ...]:
    """Let the robot of these bits play the first held-out episodes; asked again, it is free.

    >>> [r.mission for r in played(episodes=3)]
    ['go to', 'pick up', 'put next to']
    """
    return play(policy(bits, granularity, seed), held_out(episodes))


@one_thread()
def play(model: nn.Module, episodes: Sequence[tuple[str, int]]) -> tuple[Rollout, ...]:
    """Let a policy play these (mission, seed) pairs, in one thread: the batches are small."""
    return tuple(roll_out(model, episodes))
