"""Films of the robot: the same episodes at every width, frame by frame, to be shown side by side.

Some are stored in ``data/robot_films.npz``, with the drawings of the room's tiles, so that notebook
00 can show them without playing:

    python -m labkit.explorers.robot_films     # plays them again and stores them
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from labkit.data import record, verified
from labkit.explorers.drawing.png import encode

NAME = "robot_films.npz"
COMMAND = "python -m labkit.explorers.robot_films"
FLOAT = 32
"""What stands for "not rounded" among the widths."""
WIDTHS = (FLOAT, 8, 7, 6, 5, 4, 3, 2)
COUNT, AMONG, LONG = 12, 60, 6
"""Films are of so many episodes: the first among so many held-out ones that take the float robot so
many steps or more. Shorter ones leave little to see."""
FLAVOURS = 20
"""A tile is FLAVOURS · (1 + the robot's direction) + what else stands there, see labkit.vla.env."""
VIEWS = {"drawn": 32, "camera": 8}
"""How a room is shown → pixels a side of a cell: drawn large for us, or as the policy gets it."""
ENDS = ("success", "loop", "time", "failure")


@dataclass(frozen=True, eq=False)
class Film:
    """One episode: the mission's sentence, `rooms` (steps + 1, 8, 8) of tiles, `actions` (steps,).

    `end` is one of `ENDS`, as in `labkit.vla.rollout.Rollout`.
    """

    sentence: str
    rooms: np.ndarray
    actions: np.ndarray
    end: str

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.actions)

    def at(self, step: int) -> np.ndarray:
        """Return the room after so many steps; after the end the last one."""
        return self.rooms[min(step, len(self))]

    def places(self, step: int) -> np.ndarray:
        """Return where the robot was until `step`: (steps + 1, 2) of column and row, from 0."""
        shown = self.rooms[: min(step, len(self)) + 1]
        _, rows, columns = np.nonzero(shown >= FLAVOURS)
        return np.stack([columns, rows], axis=1)


@dataclass(frozen=True, eq=False)
class Films:
    """Width → a film of each episode, and width → bytes of the policy."""

    films: Mapping[int, tuple[Film, ...]]
    nbytes: Mapping[int, int]

    def last(self, episode: int) -> int:
        """Return how many steps the longest film of an episode has."""
        return max(len(films[episode]) for films in self.films.values())


def width_name(bits: int) -> str:
    """Return how a width is called.

    >>> width_name(FLOAT), width_name(3)
    ('float', '3 bits')
    """
    return "float" if bits == FLOAT else f"{bits} bits"


def first_difference(one: Film, other: Film) -> int | None:
    """Return the first step (from 0) at which the actions differ; None where they never do."""
    for step, (a, b) in enumerate(zip(one.actions, other.actions, strict=False)):
        if a != b:
            return step
    return None


@cache
def stored() -> Films:
    """Return the bundled films; raises as `labkit.data.verified`.

    >>> stored().films[FLOAT][0].end
    'success'
    """
    arrays = _arrays()
    films, at = {}, 0
    for w, width in enumerate(WIDTHS):
        films[width] = ()
        for i, sentence in enumerate(arrays["sentences"].tolist()):
            steps = int(arrays["steps"][w, i])
            rooms = arrays["rooms"][at : at + steps + 1]
            # The last room has no action after it.
            actions = arrays["actions"][at : at + steps]
            end = ENDS[arrays["ends"][w, i]]
            films[width] += (Film(sentence, rooms, actions, end),)
            at += steps + 1
    return Films(films, dict(zip(WIDTHS, arrays["nbytes"].tolist(), strict=True)))


@cache
def played() -> Films:
    """Play the episodes now, at every width, and return the films."""
    # Imported here: whoever only shows stored films needs no world and no policy.
    from labkit.explorers import robot_runs as runs

    long = [r for r in runs.played(episodes=AMONG) if len(r.actions) >= LONG]
    episodes = [(r.mission, r.seed) for r in long[:COUNT]]
    films = {
        width: tuple(
            Film(r.sentence, r.rooms, r.actions, r.end)
            for r in runs.play(runs.Robot(width), episodes)
        )
        for width in WIDTHS
    }
    return Films(films, {width: runs.nbytes(runs.Robot(width)) for width in WIDTHS})


@lru_cache(maxsize=4096)
def frame(room: bytes, view: str = "drawn") -> bytes:
    """Return a room of 64 tiles (as bytes) as a PNG, in one of `VIEWS`.

    ValueError for another view.

    >>> frame(bytes(64))[1:4]
    b'PNG'
    """
    if view not in VIEWS:
        raise ValueError(f"got view {view!r}; use one of {', '.join(VIEWS)}")
    tiles = np.frombuffer(room, np.uint8).reshape(8, 8)
    parts = _arrays()[view][tiles].transpose(0, 2, 1, 3, 4)
    return encode(parts.reshape(8 * VIEWS[view], 8 * VIEWS[view], 3))


def store(folder: Path | None = None) -> Path:
    """Play the films and write them, with the drawings of all tiles, into the data folder."""
    from labkit.remake import to_npz
    from labkit.vla.env import tile_images

    films = played()
    rows = [film for width in WIDTHS for film in films.films[width]]
    shape = (len(WIDTHS), COUNT)
    arrays = {
        "sentences": np.array([film.sentence for film in rows[:COUNT]]),
        "rooms": np.concatenate([film.rooms for film in rows]),
        "actions": np.concatenate([[*film.actions, 0] for film in rows]).astype(np.uint8),
        "steps": np.array([len(film) for film in rows], np.uint16).reshape(shape),
        "ends": np.array([ENDS.index(film.end) for film in rows], np.uint8).reshape(shape),
        "nbytes": np.array([films.nbytes[width] for width in WIDTHS]),
        **{view: tile_images(pixels) for view, pixels in VIEWS.items()},
    }
    return record(NAME, to_npz(arrays), COMMAND, folder)


@cache
def _arrays() -> dict[str, np.ndarray]:
    with np.load(verified(NAME), allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


if __name__ == "__main__":
    path = store()
    print(f"{path}: {path.stat().st_size:,} bytes")
