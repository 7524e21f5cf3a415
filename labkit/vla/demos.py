"""What the robot learns from: BabyAI's own expert at work, as pictures, words and actions.

The expert plans a shortest path and is told where everything stands: without that its answer would
depend on what it has looked at before, which no single picture shows. Each step is one example. Its
*targets* are the cells of the things that the mission speaks of, so that the policy can be asked to
point at them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np
from minigrid.utils.baby_ai_bot import BabyAIBot

from labkit.vla.env import ACTIONS, FLAVOURS, SIZE, Episode, tokens


@dataclass(frozen=True, eq=False)
class Demos:
    """Steps of the expert: `rooms` (n, 8, 8) uint8 tiles, `words` (n, 10) uint8, `actions` (n,)
    uint8, `targets` (n, 2, 8, 8) bool, `episodes` (n,) int32.

    The first target is the thing to go to, pick up or move, the second what it shall stand next to.
    """

    rooms: np.ndarray
    words: np.ndarray
    actions: np.ndarray
    targets: np.ndarray
    episodes: np.ndarray

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.actions)

    def __getitem__(self, rows: np.ndarray | slice) -> Demos:
        """Return the chosen steps."""
        return Demos(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def joined(parts: Iterable[Demos]) -> Demos:
        """Return all steps of several sets, in order."""
        parts = list(parts)
        names = [field.name for field in fields(Demos)]
        return Demos(*(np.concatenate([getattr(part, n) for part in parts]) for n in names))


def demonstrate(episode: Episode) -> Demos | None:
    """Let the expert play `episode` to its end; None where it does not succeed.

    >>> demos = demonstrate(Episode("go to", seed=3))
    >>> demos.rooms.shape[1:], demos.targets.shape[1:]
    ((8, 8), (2, 8, 8))
    """
    bot = BabyAIBot(episode.world)
    words, rooms, actions, targets = tokens(episode.mission), [], [], []
    action = None
    while not episode.done:
        bot.vis_mask[:] = True
        action = int(bot.replan(action))
        if action >= len(ACTIONS):
            return None
        rooms.append(episode.tiles())
        actions.append(action)
        targets.append(_targets(episode))
        episode.step(action)
    if not episode.success:
        return None
    n = len(actions)
    return Demos(
        np.stack(rooms),
        np.tile(words.astype(np.uint8), (n, 1)),
        np.array(actions, np.uint8),
        np.stack(targets),
        np.full(n, episode.seed, np.int32),
    )


def collect(
    mission: str, seeds: Iterable[int], after_episode: Callable[[int], None] | None = None
) -> Demos:
    """Return the expert's steps on the rooms of `seeds`, without those where it fails.

    ValueError when it succeeds in none of them.

    >>> len(np.unique(collect("pick up", range(3)).episodes))
    3
    """
    parts = []
    for seed in seeds:
        played = demonstrate(Episode(mission, seed))
        if played is not None:
            parts.append(played)
        if after_episode is not None:
            after_episode(seed)
    if not parts:
        raise ValueError(f"the expert succeeded in no {mission!r} episode of these seeds")
    return Demos.joined(parts)


def _targets(episode: Episode) -> np.ndarray:
    """Where the things of the mission are now; a carried one is where the robot is."""
    instruction = episode.world.instrs
    named = [getattr(instruction, name, None) for name in ("desc_move", "desc_fixed", "desc")]
    marks = np.zeros((2, SIZE, SIZE), bool)
    for mark, description in zip(marks, [d for d in named if d is not None], strict=False):
        for thing in description.obj_set:
            carried = thing is episode.world.carrying
            x, y = episode.world.agent_pos if carried else thing.cur_pos
            mark[int(y), int(x)] = True
    return marks


def turned(demos: Demos, quarter_turns: int, mirrored: bool) -> Demos:
    """Return the same steps in rooms turned clockwise by quarter turns, and mirrored before.

    In the mirror left becomes right, and so do the two actions.

    >>> demos = collect("go to", [3])
    >>> same = turned(turned(demos, 1, False), 3, False)
    >>> bool((same.rooms == demos.rooms).all())
    True
    """
    rooms, targets, actions = demos.rooms, demos.targets, demos.actions
    things, robots = rooms % FLAVOURS, rooms // FLAVOURS
    if mirrored:
        things, robots, targets = things[..., ::-1], robots[..., ::-1], targets[..., ::-1]
        # Directions 0 to 3 are right, down, left, up; robots hold 1 + direction, 0 for none.
        robots = np.array([0, 3, 2, 1, 4], np.uint8)[robots]
        actions = np.array([1, 0, 2, 3, 4], np.uint8)[actions]
    turns = quarter_turns % 4
    if turns:
        things, robots = (np.rot90(a, -turns, axes=(1, 2)) for a in (things, robots))
        targets = np.rot90(targets, -turns, axes=(2, 3))
        robots = np.where(robots > 0, (robots - 1 + turns) % 4 + 1, 0).astype(np.uint8)
    return Demos(things + FLAVOURS * robots, demos.words, actions, targets.copy(), demos.episodes)
