"""Train the robot: it imitates BabyAI's expert, points at what the mission names, and plans.

    python -m labkit.vla.train --seed 0      # 1 and 2 are bundled too

The loss is that of `labkit.vla.pupil`. First on small batches, where a step costs least and steps
are what counts; then on larger ones, as what is left to learn are fine distinctions: after the
first stage the robot still dithers now and then, one step to the left, one to the right, and each
further step makes that rarer.

Progress is shown, and kept under ``data/cache`` every few hundred steps: a training that was
interrupted goes on from there, and ends bit for bit where it would have ended otherwise. In the end
the policy plays held-out episodes, and replaces the checkpoint under ``data/`` and its entry in the
manifest. The settings were chosen in other rooms, those of `labkit.vla.rollout.validation`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as tensors_to_bytes
from tqdm.auto import tqdm

from labkit import data
from labkit.data import read_manifest, record
from labkit.evaluate import Accuracy
from labkit.qat_checkpoint import Progress, fingerprint, read_checkpoint, write_checkpoint
from labkit.qat_records import EpochRecord
from labkit.vla.batches import FILE, bundled_demos
from labkit.vla.demos import Demos
from labkit.vla.experience import chosen
from labkit.vla.policy import Policy
from labkit.vla.pupil import Pupil, imitation_loss, lesson
from labkit.vla.rollout import held_out, roll_out, success
from labkit.vla.zoo import SEEDS, checkpoint_name
from labkit.zoo import seeded

EPISODES = 3000
"""Held-out episodes that judge a robot: a success of 98 % is known to within half a point."""


@dataclass(frozen=True)
class Recipe:
    """One stage of training: AdamW, one rise and fall of the learning rate.

    `batch_size`: divisible by the eight views that every batch shows.

    >>> Recipe().seed
    0
    """

    seed: int = 0
    steps: int = 5000
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    map_weight: float = 5.0
    max_norm: float = 1.0
    steps_between_saves: int = 250

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: a tenth of the way up, then down.

        >>> Recipe(steps=1000).rate(0), Recipe(steps=1000).rate(100), Recipe(steps=1000).rate(1000)
        (0.0, 0.002, 0.0)
        """
        rise = self.steps / 10
        place = step / rise - 1 if step < rise else (step - rise) / (self.steps - rise)
        return self.learning_rate * (1 + math.cos(math.pi * place)) / 2


STAGES = (Recipe(steps=4000), Recipe(steps=3000, batch_size=128, learning_rate=1e-3))


def train(
    pupil: Pupil,
    demos: Demos,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    progress: bool = False,
    stop: Callable[[int], bool] | None = None,
) -> tuple[EpochRecord, ...]:
    """Train `pupil` in place; return the mean loss of every `steps_between_saves` steps.

    `checkpoint`: a file to go on from when it exists, and to keep the state in. `stop`: is told how
    many steps are done after each save; True ends the training there. It ends in eval mode.
    Raises ValueError for a recipe that cannot work, for a file of another training, and when the
    loss is no longer finite.
    """
    _check(recipe)
    chosen(demos, recipe.batch_size, recipe.seed, 0)
    optimizer = torch.optim.AdamW(pupil.parameters(), weight_decay=recipe.weight_decay)
    done = Progress()
    start = fingerprint(pupil, {**asdict(recipe), "steps_of_the_expert": len(demos)})
    if checkpoint is not None and checkpoint.exists():
        done = read_checkpoint(checkpoint, start, pupil, optimizer, [])
    pupil.train()
    first = len(done.history) * recipe.steps_between_saves
    bar = tqdm(
        total=recipe.steps, initial=first, desc=f"robot, seed {recipe.seed}", disable=not progress
    )
    with bar:
        while first < recipe.steps:
            last = min(first + recipe.steps_between_saves, recipe.steps)
            losses, right = [], []
            for step in range(first, last):
                loss, share = _step(pupil, optimizer, demos, recipe, step)
                losses.append(loss)
                right.append(share)
                bar.update()
            bar.set_postfix_str(f"loss {np.mean(losses):.4f}, right {100 * np.mean(right):.1f} %")
            done.history.append(EpochRecord(len(done.history) + 1, float(np.mean(losses))))
            if checkpoint is not None:
                write_checkpoint(checkpoint, start, pupil, optimizer, [], done)
            first = last
            if stop is not None and stop(first):
                break
    pupil.eval()
    return tuple(done.history)


def retrain(
    seed: int,
    folder: Path | None = None,
    *,
    stages: Sequence[Recipe] = STAGES,
    episodes: int = EPISODES,
    progress: bool = True,
) -> Accuracy:
    """Train the robot, replace its checkpoint and manifest entry; return its held-out success.

    `folder` is the data folder, by default the one beside the package. The stages follow each other
    with this seed. Raises ValueError for a seed that is not among `SEEDS`, and as `train`.

    >>> retrain(7)
    Traceback (most recent call last):
    ...
    ValueError: the bundled robots have seeds 0, 1, 2; got 7
    """
    name, command = checkpoint_name(seed), f"{COMMAND} --seed {seed}"
    folder = data.DATA_FOLDER if folder is None else Path(folder)
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    pupil, stages = seeded(Pupil, seed), [replace(stage, seed=seed) for stage in stages]
    kept = [folder / "cache" / f"training_{place}_of_{name}" for place in range(len(stages))]
    for stage, path in zip(stages, kept, strict=True):
        train(pupil, bundled_demos(), stage, checkpoint=path, progress=progress)
    policy = Policy().eval()
    policy.load_state_dict(pupil.learned())
    quality = success(roll_out(policy, held_out(episodes)))
    facts = {
        "architecture": Policy.__name__,
        "command": command,
        "data_sha256": read_manifest()[FILE]["content_sha256"],
        "torch": torch.__version__.split("+")[0],
        "seed": seed,
        "stages": [asdict(stage) for stage in stages],
    }
    # One metadata entry: safetensors may write several in any order, and the sha256 would change.
    content = tensors_to_bytes(
        {key: value.contiguous() for key, value in policy.state_dict().items()},
        metadata={"training": json.dumps(facts, sort_keys=True)},
    )
    record(
        name,
        content,
        command,
        folder,
        held_out_success=quality.correct,
        held_out_episodes=quality.n,
    )
    for path in kept:
        path.unlink()
    return quality


def main(arguments: list[str] | None = None) -> int:
    """Run the command of this module; returns the exit status.

    >>> main(["--seed", "7"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train the bundled robots again.")
    parser.add_argument("--seed", type=int, choices=SEEDS, default=0)
    seed = parser.parse_args(arguments).seed
    # Sums in one thread are always added in the same order.
    torch.set_num_threads(1)
    start = time.process_time()
    try:
        quality = retrain(seed)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    seconds = time.process_time() - start
    print(f"robot, seed {seed}: success {quality}, {seconds:.0f} s of one core in this run")
    return 0


COMMAND = "python -m labkit.vla.train"


def _step(
    pupil: Pupil, optimizer: torch.optim.Optimizer, demos: Demos, recipe: Recipe, step: int
) -> tuple[float, float]:
    """Take one step; return the loss, and the share of actions that were right."""
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step)
    inputs, asked = lesson(chosen(demos, recipe.batch_size, recipe.seed, step))
    answer = pupil(*inputs)
    loss = imitation_loss(answer, asked, recipe.map_weight)
    if not math.isfinite(loss.item()):
        raise ValueError(
            f"the loss became {loss.item()} in step {step + 1}; "
            f"try a learning rate below {recipe.learning_rate}"
        )
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(pupil.parameters(), recipe.max_norm)
    optimizer.step()
    logits, actions = answer[0], asked[0]
    right = actions.gather(1, logits.argmax(1, keepdim=True))
    return loss.item(), right.float().mean().item()


def _check(recipe: Recipe) -> None:
    if min(recipe.steps, recipe.steps_between_saves) < 1 or not recipe.learning_rate > 0:
        raise ValueError(
            f"got steps={recipe.steps}, steps_between_saves={recipe.steps_between_saves} and "
            f"learning_rate={recipe.learning_rate}; needs at least 1, at least 1, and more than 0"
        )


if __name__ == "__main__":
    sys.exit(main())
