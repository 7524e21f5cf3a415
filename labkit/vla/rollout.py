"""Closed loop: the policy acts, the room answers, and small errors add up or do not.

All episodes run side by side, one step of the room after one batch of the policy. The policy
remembers nothing, so a room that it has seen before in the same episode it will see for ever: the
episode stops there and has failed. Two policies are compared on the same episodes, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from labkit.compare import Comparison
from labkit.evaluate import Accuracy
from labkit.unpacked import unpacked
from labkit.vla.env import (
    FIRST_HELD_OUT_SEED,
    FIRST_TRAINING_SEED,
    FIRST_VALIDATION_SEED,
    MISSIONS,
    Episode,
    pictures,
    tokens,
)

Actor = Callable[[Tensor, Tensor], Tensor]
"""Pictures (n, 3, 64, 64) in 0..1 and words (n, 10) → one number an action (n, 5)."""


@dataclass(frozen=True, eq=False)
class Rollout:
    """What happened in one episode: `rooms` (steps + 1, 8, 8) of tiles, `actions` (steps,).

    `end` is "success", "loop" (a room seen before), "time" (the limit of steps) or "failure" (the
    mission can no longer succeed).
    """

    mission: str
    seed: int
    sentence: str
    rooms: np.ndarray
    actions: np.ndarray
    end: str

    @property
    def success(self) -> bool:
        """Whether the mission was fulfilled."""
        return self.end == "success"


def held_out(
    count: int, missions: Sequence[str] = MISSIONS, first_seed: int = FIRST_HELD_OUT_SEED
) -> list[tuple[str, int]]:
    """Return `count` (mission, seed) pairs that training never sees, missions in turn.

    Choose nothing by them: rooms that settle how a policy is trained flatter it. For that there is
    `validation`. ValueError for a count below 1 and for seeds that training may use.

    >>> held_out(4)
    [('go to', 200000), ('pick up', 200000), ('put next to', 200000), ('go to', 200001)]
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    last = first_seed + (count - 1) // len(missions)
    if not 0 <= first_seed <= last < FIRST_TRAINING_SEED:
        raise ValueError(
            f"held-out seeds are 0 to {FIRST_TRAINING_SEED - 1:,}, got {first_seed:,} to {last:,}"
        )
    return [(missions[i % len(missions)], first_seed + i // len(missions)) for i in range(count)]


def validation(count: int) -> list[tuple[str, int]]:
    """Return `count` pairs to choose by: neither trained in nor held out; raises as `held_out`.

    >>> validation(1)
    [('go to', 50000)]
    """
    return held_out(count, first_seed=FIRST_VALIDATION_SEED)


def roll_out(
    policy: Actor,
    episodes: Iterable[tuple[str, int]],
    *,
    rewrite: Callable[[str], str] | None = None,
    stop_loops: bool = True,
) -> list[Rollout]:
    """Let `policy` play each (mission, seed) to its end; return what happened, in order.

    A module runs in eval mode and is left in the mode it was in. `rewrite` changes the sentence
    that the policy reads, not the mission that counts. `stop_loops=False` is for whatever may act
    otherwise in a room that it has seen before, such as random actions. Raises ValueError for no
    episodes, and for actions that are not numbers.

    >>> always_left = lambda pictures, words: torch.eye(5)[0].expand(len(words), 5)
    >>> [r.end for r in roll_out(always_left, [("put next to", 0)])]
    ['loop']
    """
    games = [Episode(mission, seed) for mission, seed in episodes]
    if not games:
        raise ValueError("there are no episodes to play; give (mission, seed) pairs")
    sentences = [rewrite(game.mission) if rewrite else game.mission for game in games]
    words = torch.from_numpy(np.stack([tokens(sentence) for sentence in sentences]))
    rooms = [[game.tiles()] for game in games]
    actions: list[list[int]] = [[] for _ in games]
    ends = [""] * len(games)
    seen = [{first.tobytes()} for (first,) in rooms]
    playing = list(range(len(games)))
    with _at_work(policy):
        while playing:
            now = torch.from_numpy(pictures([rooms[i][-1] for i in playing]))
            scores = policy(now.permute(0, 3, 1, 2).float() / 255, words[playing])
            if not torch.isfinite(scores).all():
                raise ValueError("the policy answered with NaN or infinity")
            for i, action in zip(playing, scores.argmax(1).tolist(), strict=True):
                games[i].step(action)
                actions[i].append(action)
                rooms[i].append(games[i].tiles())
                room = rooms[i][-1].tobytes() if stop_loops else b""
                ends[i] = _end(games[i], room, seen[i])
            playing = [i for i in playing if not ends[i]]
    return [
        Rollout(game.kind, game.seed, sentence, np.stack(room), np.array(did, np.uint8), end)
        for game, sentence, room, did, end in zip(
            games, sentences, rooms, actions, ends, strict=True
        )
    ]


def success(rollouts: Sequence[Rollout]) -> Accuracy:
    """Return the share of successful episodes with its Wilson interval; ValueError for none."""
    return Accuracy.of(sum(r.success for r in rollouts), len(rollouts))


def compare(first: Sequence[Rollout], second: Sequence[Rollout]) -> Comparison:
    """Return success(second) - success(first) on the same episodes, with a paired interval.

    Raises ValueError when they are not the same episodes in the same order.
    """
    _check_paired(first, second)
    only_first = sum(a.success and not b.success for a, b in zip(first, second, strict=True))
    only_second = sum(b.success and not a.success for a, b in zip(first, second, strict=True))
    return Comparison.of(only_first, only_second, len(first))


def departure(first: Rollout, second: Rollout) -> int | None:
    """Return the first step at which two policies acted differently; None where they never did.

    Until then both stood in the same rooms. Raises ValueError for different episodes.
    """
    _check_paired([first], [second])
    for step, (a, b) in enumerate(zip(first.actions, second.actions, strict=False)):
        if a != b:
            return step
    return None


def agreement(policy: Actor, rollouts: Sequence[Rollout]) -> float:
    """Return how often `policy` does what was done, in the rooms where it was done: 0 to 1.

    This is what a test on recorded data measures. It never leaves the recorded path, and so it
    does not see where one wrong action leads.
    """
    rooms = np.concatenate([r.rooms[:-1] for r in rollouts])
    words = np.concatenate([np.tile(tokens(r.sentence), (len(r.actions), 1)) for r in rollouts])
    done = torch.from_numpy(np.concatenate([r.actions for r in rollouts]).astype(np.int64))
    now, same = torch.from_numpy(pictures(rooms)), 0
    with _at_work(policy):
        for part in torch.arange(len(done)).split(500):
            seen = now[part].permute(0, 3, 1, 2).float() / 255
            answer = policy(seen, torch.from_numpy(words[part.numpy()])).argmax(1)
            same += int((answer == done[part]).sum())
    return same / len(done)


def _end(game: Episode, room: bytes, seen: set[bytes]) -> str:
    if game.done:
        return "success" if game.success else "time" if game.steps >= game.limit else "failure"
    if room in seen:
        return "loop"
    if room:
        seen.add(room)
    return ""


@contextmanager
def _at_work(policy: Actor) -> Iterator[None]:
    """Eval mode, no gradients, weights unpacked once; afterwards the policy is as it was."""
    modules = list(policy.modules()) if isinstance(policy, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.no_grad(), unpacked(policy):
            yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training


def _check_paired(first: Sequence[Rollout], second: Sequence[Rollout]) -> None:
    if [(r.mission, r.seed) for r in first] != [(r.mission, r.seed) for r in second]:
        raise ValueError("only the same episodes in the same order can be compared")
