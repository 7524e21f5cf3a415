"""What the robot is trained with: the expert's rooms, and batches that show them from all sides.

Seeds start from a million, so that no held-out episode is among them. The room looks the same from
all sides: every batch shows eight equal parts, turned by each quarter, in the mirror or not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from labkit.vla.demos import Demos, collect, turned
from labkit.vla.env import FIRST_TRAINING_SEED, MISSIONS, pictures

VIEWS = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


def training_demos(count: int, *, progress: bool = True) -> Demos:
    """Let the expert play `count` episodes of each mission, 10 ms each, and return its steps.

    Raises ValueError for a count below 1.

    >>> training_demos(0)
    Traceback (most recent call last):
    ...
    ValueError: count must be at least 1, got 0
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    seeds, total = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + count), count * len(MISSIONS)
    with tqdm(total=total, desc="watching the expert", disable=not progress) as bar:
        return Demos.joined(collect(m, seeds, lambda seed: bar.update()) for m in MISSIONS)


def chosen(demos: Demos, size: int, seed: int, step: int) -> Demos:
    """Return a batch of `size` steps, which follows from `seed` and `step` alone.

    Raises ValueError unless the size is a multiple of the eight views, and for no demos.
    """
    if size < 1 or size % len(VIEWS):
        raise ValueError(f"the batch size must be a multiple of {len(VIEWS)}, got {size}")
    if len(demos) == 0:
        raise ValueError("there are no demonstrations to learn from")
    shape = (len(VIEWS), size // len(VIEWS))
    rows = np.random.default_rng((seed, step)).integers(len(demos), size=shape)
    return Demos.joined(turned(demos[part], *view) for part, view in zip(rows, VIEWS, strict=True))


def shown(demos: Demos) -> tuple[Tensor, Tensor, Tensor]:
    """Return steps as the policy is shown them: pictures, words, and what the expert did.

    Pictures are (n, 3, 64, 64) float in 0..1, words (n, 10) int64, actions (n,) int64.
    """
    seen = torch.from_numpy(pictures(demos.rooms)).permute(0, 3, 1, 2).float() / 255
    words, actions = (torch.from_numpy(a.astype(np.int64)) for a in (demos.words, demos.actions))
    return seen, words, actions
