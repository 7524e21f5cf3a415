"""The robot's world: one room of MiniGrid, seen from above, and a mission in words.

A room has 8 × 8 cells, walls included. What stands in each cell is one number, its *tile*, and the
camera's picture is those tiles looked up in a table of 8 × 8 pixel images. So a room is stored in
64 bytes, and thousands of pictures are made in one step. What the robot carries is drawn in its own
cell, as in MiniGrid's own view. Missions and rules are BabyAI's; nothing is random but the seed.
Source: Chevalier-Boisvert et al. 2019 (BabyAI) and 2023 (MiniGrid).
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache

import numpy as np

# MiniGrid draws with pygame only in a window of its own, which the lab never opens.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
from minigrid.core.grid import Grid
from minigrid.core.world_object import Ball, Box, Key, Wall, WorldObj
from minigrid.envs.babyai.core.levelgen import LevelGen
from minigrid.envs.babyai.goto import GoToLocal
from minigrid.envs.babyai.putnext import PutNextLocal

MISSIONS = ("go to", "pick up", "put next to")
"""The three kinds of missions."""

ACTIONS = ("left", "right", "forward", "pick up", "drop")
"""What the robot can do, in MiniGrid's order; the doors and switches of its other rooms are not
here."""

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("ball", "box", "key")
SIZE, PIXELS = 8, 8
"""Cells along a side of the room, and pixels along a side of a cell: pictures are 64 × 64."""

WORDS = ("", "go", "to", "pick", "up", "put", "next", "the", "a", "object", *COLOURS, *KINDS)
"""The vocabulary; number 0 fills missions up to `LENGTH` words."""

LENGTH = 10

FIRST_TRAINING_SEED = 1_000_000
"""Policies learn in the rooms of these seeds and of larger ones, and in no others."""

FIRST_VALIDATION_SEED = 50_000
"""Rooms from here on settled how policies are trained: what they say of a policy flatters it."""

FIRST_HELD_OUT_SEED = 200_000
"""Rooms from here on judge a policy when it is done. No policy was ever chosen by them."""

EMPTY, WALL = 0, 1
_THINGS = [(kind, colour) for kind in KINDS for colour in COLOURS]
_NUMBER = {thing: 2 + i for i, thing in enumerate(_THINGS)}
FLAVOURS = 2 + len(_THINGS)
"""Tiles without the robot; tile + FLAVOURS · (1 + direction) is the same with the robot in it."""


class _Quick:
    """Leaves out MiniGrid's own view of the room, which nobody looks at here."""

    def gen_obs(self) -> dict:
        return {}


class _GoTo(_Quick, GoToLocal):
    pass


class _PutNext(_Quick, PutNextLocal):
    pass


class _PickUp(_Quick, LevelGen):
    """BabyAI's PickupLoc without "in front of you" and the like, which refer to the first pose."""

    def __init__(self, **options: object) -> None:
        super().__init__(
            num_rows=1,
            num_cols=1,
            num_dists=8,
            locked_room_prob=0,
            locations=False,
            unblocking=False,
            action_kinds=["pickup"],
            instr_kinds=["action"],
            **options,
        )


_ROOMS = dict(zip(MISSIONS, (_GoTo, _PickUp, _PutNext), strict=True))


class Episode:
    """One room with one mission, from its first pose until success or the limit of steps.

    `world` is MiniGrid's environment, `mission` the sentence, `done` and `success` how it stands.
    Raises ValueError for a mission that is not in `MISSIONS`.

    >>> episode = Episode("go to", seed=3)
    >>> episode.tiles().shape, episode.done
    ((8, 8), False)
    """

    def __init__(self, mission: str, seed: int) -> None:
        """Make the room of this seed."""
        if mission not in _ROOMS:
            raise ValueError(f"mission must be one of {', '.join(MISSIONS)}; got {mission!r}")
        self.kind, self.seed = mission, int(seed)
        # MiniGrid prints each room that it throws away while it looks for a valid one.
        with redirect_stdout(io.StringIO()):
            self.world = _ROOMS[mission]()
            self.world.reset(seed=self.seed)
        self.mission: str = self.world.mission
        self.steps, self.done, self.success = 0, False, False

    @property
    def limit(self) -> int:
        """How many steps BabyAI gives for this mission."""
        return self.world.max_steps

    def tiles(self) -> np.ndarray:
        """What stands in each cell: (rows, columns) uint8."""
        world = self.world
        numbers = [_tile(cell) for cell in world.grid.grid]
        room = np.array(numbers, np.uint8).reshape(SIZE, SIZE)
        x, y = map(int, world.agent_pos)
        room[y, x] = _tile(world.carrying) + FLAVOURS * (1 + int(world.agent_dir))
        return room

    def step(self, action: int) -> None:
        """Do `action`, a number in `ACTIONS`; ValueError for another one or after the end."""
        if self.done or not 0 <= action < len(ACTIONS):
            raise ValueError(
                f"the episode is over after {self.steps} steps"
                if self.done
                else f"action must be 0 to {len(ACTIONS) - 1}, got {action}"
            )
        _, reward, ended, too_long, _ = self.world.step(int(action))
        self.steps += 1
        self.success = bool(ended and reward > 0)
        self.done = bool(ended or too_long)


def _tile(thing: WorldObj | None) -> int:
    if thing is None:
        return EMPTY
    return WALL if thing.type == "wall" else _NUMBER[thing.type, thing.color]


def tokens(mission: str) -> np.ndarray:
    """Return the words of a mission as numbers: (LENGTH,) int64, filled up with 0.

    Raises ValueError for a word that the robot does not know, or a sentence that is too long.

    >>> tokens("go to the red ball")[:6].tolist()
    [1, 2, 7, 10, 16, 0]
    """
    words = mission.split()
    unknown = [word for word in words if word not in WORDS[1:]]
    if unknown or len(words) > LENGTH:
        raise ValueError(
            f"the robot does not know {', '.join(unknown)}; it knows {', '.join(WORDS[1:])}"
            if unknown
            else f"a mission has at most {LENGTH} words, got {len(words)}"
        )
    numbers = [WORDS.index(word) for word in words]
    return np.array(numbers + [0] * (LENGTH - len(words)), np.int64)


@cache
def tile_images(pixels: int = PIXELS) -> np.ndarray:
    """Return the picture of every tile: (tiles, pixels, pixels, 3) uint8, drawn by MiniGrid itself.

    >>> tile_images().shape
    (100, 8, 8, 3)
    """
    kinds = {"ball": Ball, "box": Box, "key": Key}
    things = [None, Wall(), *(kinds[kind](colour) for kind, colour in _THINGS)]
    robots = (None, 0, 1, 2, 3)
    images = [Grid.render_tile(t, agent_dir=r, tile_size=pixels) for r in robots for t in things]
    return np.stack(images).astype(np.uint8)


def pictures(rooms: Sequence[np.ndarray] | np.ndarray, pixels: int = PIXELS) -> np.ndarray:
    """Return what the camera sees: rooms (n, 8, 8) of tiles → (n, 64, 64, 3) uint8.

    More `pixels` a side of a cell draw the same room larger, for people to look at. Raises
    ValueError for another shape or a tile that does not exist.

    >>> pictures(Episode("go to", seed=3).tiles()[None]).shape
    (1, 64, 64, 3)
    """
    rooms = np.asarray(rooms)
    images = tile_images(pixels)
    if rooms.ndim != 3 or rooms.shape[1:] != (SIZE, SIZE):
        raise ValueError(f"rooms must have shape (n, {SIZE}, {SIZE}), got {rooms.shape}")
    if rooms.size and int(rooms.max()) >= len(images):
        raise ValueError(f"tiles are numbered 0 to {len(images) - 1}, got {int(rooms.max())}")
    parts = images[rooms].transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(len(rooms), SIZE * pixels, SIZE * pixels, 3)
