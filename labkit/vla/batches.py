"""Batches for quantizing the policy, from the bundled demonstrations of BabyAI's expert.

    python -m labkit.vla.batches       # makes data/robot_demos.npz again, 90 s of one core

The expert's rooms are those of training: seeds from a million, so that no held-out episode is
among them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labkit.data import record, verified
from labkit.remake import digest_of, to_npz
from labkit.vla.demos import Demos
from labkit.vla.experience import chosen, shown, training_demos

FILE = "robot_demos.npz"
COMMAND = "python -m labkit.vla.batches"
EPISODES = 3000
"""Episodes of each mission in the bundled file."""


@cache
def bundled_demos() -> Demos:
    """Return the expert's steps in `EPISODES` rooms of each mission, read once; not to be changed.

    Raises FileNotFoundError or `labkit.data.DamagedFileError` as `labkit.data.verified`.

    >>> bundled_demos().rooms.shape[1:]
    (8, 8)
    """
    with np.load(verified(FILE), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored}
    for array in arrays.values():
        array.setflags(write=False)
    return Demos(**arrays)


def calibration_batches(
    count: int = 256, *, batch_size: int = 128, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Return `count` steps of the expert as batches of inputs: (pictures, words) each.

    Pictures are (n, 3, 64, 64) float in 0..1, words (n, 10) int64. Raises ValueError for a count or
    a batch size below 1, and for more steps than there are.

    >>> [(len(pictures), len(words)) for pictures, words in calibration_batches(200)]
    [(128, 128), (72, 72)]
    """
    demos = bundled_demos()
    if not 1 <= count <= len(demos) or batch_size < 1:
        raise ValueError(
            f"count must be 1 to {len(demos)} and batch_size at least 1, got {count} and "
            f"{batch_size}"
        )
    rows = np.random.default_rng(seed).choice(len(demos), count, replace=False)
    parts = np.split(rows, range(batch_size, count, batch_size))
    return [shown(demos[part])[:2] for part in parts]


class ImitationBatches:
    """What the expert did, in batches ((pictures, words), actions), others in every epoch.

    Rooms are turned and mirrored, as in training. Where the numbers come from is `generator`, which
    a checkpoint of training keeps.

    >>> batches = imitation_batches(3, batch_size=16)
    >>> [(len(pictures), len(actions)) for (pictures, words), actions in batches]
    [(16, 16), (16, 16), (16, 16)]
    """

    def __init__(self, demos: Demos, batches: int, batch_size: int, seed: int) -> None:
        """Check what is asked for; nothing is drawn yet."""
        if batches < 1:
            raise ValueError(f"an epoch needs at least one batch, got {batches}")
        chosen(demos, batch_size, seed, 0)
        self.demos, self.batches, self.batch_size = demos, batches, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Draw the batches of one epoch."""
        epoch = int(torch.randint(2**31, (), generator=self.generator))
        for step in range(self.batches):
            yield self.examples(chosen(self.demos, self.batch_size, epoch, step))

    def examples(self, steps: Demos) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return what is shown, and what is asked for."""
        pictures, words, actions = shown(steps)
        return (pictures, words), actions


def imitation_batches(
    batches: int = 100, *, batch_size: int = 128, seed: int = 0, demos: Demos | None = None
) -> ImitationBatches:
    """Return a loader for `quantize_model(method="qat")`: `batches` an epoch, drawn with `seed`.

    With the default loss, the model learns to do what the expert did. `demos`: the bundled ones, or
    others. Raises ValueError for less than one batch, and for a batch size that is no multiple of
    8: every batch shows the rooms from all sides alike.

    >>> len(imitation_batches(batches=7))
    7
    """
    return ImitationBatches(bundled_demos() if demos is None else demos, batches, batch_size, seed)


def remake_demos(episodes: int = EPISODES, folder: Path | None = None) -> Path:
    """Let the expert play `episodes` rooms of each mission; replace the file and its entry."""
    arrays = vars(training_demos(episodes))
    return record(FILE, to_npz(arrays), COMMAND, folder, content_sha256=digest_of(arrays))


if __name__ == "__main__":
    print(remake_demos())
    sys.exit(0)
