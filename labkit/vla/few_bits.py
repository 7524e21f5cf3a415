"""The robot at 3 and at 2 bits: trained with quantization, on what the expert does.

    python -m labkit.vla.few_bits        # both; or w3_qat, or w2_qat

Starts from `robot(0)`. Weights on one grid a channel whose steps are learned, activations in float;
batch norm is folded before. The loss is that of `labkit.vla.pupil`, on the demonstrations of the
float robot. Resumable as its training. The packed models and their entries in the manifest are
replaced under ``data/``.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from labkit import data
from labkit.data import record
from labkit.evaluate import Accuracy
from labkit.files import load, save
from labkit.quantize import quantize_model
from labkit.vla.batches import ImitationBatches, bundled_demos
from labkit.vla.demos import Demos
from labkit.vla.policy import Policy
from labkit.vla.pupil import Asked, Pupil, imitation_loss, lesson
from labkit.vla.rollout import held_out, roll_out, success
from labkit.vla.train import EPISODES
from labkit.vla.zoo import QUANTIZED, robot
from labkit.zoo import seeded

COMMAND = "python -m labkit.vla.few_bits"


@dataclass(frozen=True)
class Recipe:
    """How a robot of few bits is trained: Adam, the rate falls to 0 along half a cosine.

    An epoch is `steps_between_saves` batches.

    >>> RECIPES["w2_qat"].bits
    2
    """

    bits: int
    epochs: int
    learning_rate: float = 2e-3
    batch_size: int = 64
    steps_between_saves: int = 250
    map_weight: float = 5.0
    max_norm: float = 1.0
    seed: int = 0


RECIPES = {
    "w3_qat": Recipe(bits=3, epochs=24, learning_rate=1e-3),
    "w2_qat": Recipe(bits=2, epochs=24),
}


class Lessons(ImitationBatches):
    """Batches of ((pictures, words), asked), see `labkit.vla.pupil.lesson`."""

    def examples(self, steps: Demos) -> tuple[tuple[Tensor, Tensor], Asked]:
        """Return what is shown and what is asked for."""
        return lesson(steps)


def retrain(
    name: str,
    recipe: Recipe | None = None,
    folder: Path | None = None,
    *,
    episodes: int = EPISODES,
    progress: bool = True,
) -> tuple[nn.Module, Accuracy]:
    """Train a robot of few bits, replace its file and manifest entry; return it and its success.

    `recipe`: by default the model's own; `folder`: the data folder, by default the one beside the
    package. Raises ValueError for an unknown name.

    >>> retrain("w9")
    Traceback (most recent call last):
    ...
    ValueError: there is no recipe for 'w9'; there are: w2_qat, w3_qat
    """
    if name not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        raise ValueError(f"there is no recipe for {name!r}; there are: {known}")
    recipe = RECIPES[name] if recipe is None else recipe
    folder = data.DATA_FOLDER if folder is None else Path(folder)
    pupil = seeded(Pupil, recipe.seed)
    pupil.load_state_dict({**pupil.state_dict(), **robot(0).state_dict()})
    batches = Lessons(bundled_demos(), recipe.steps_between_saves, recipe.batch_size, recipe.seed)
    kept = folder / "cache" / f"robot_{name}_training.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
    total = recipe.epochs * recipe.steps_between_saves
    with tqdm(total=total, desc=f"robot, {recipe.bits} bits", disable=not progress) as bar:
        model, _ = quantize_model(
            pupil,
            "qat",
            bits=recipe.bits,
            exclude=["ways"],
            activation_bits=None,
            train_loader=batches,
            num_epochs=recipe.epochs,
            training={
                "step_rule": "learned",
                "learning_rate": recipe.learning_rate,
                "max_norm": recipe.max_norm,
                "loss": partial(imitation_loss, map_weight=recipe.map_weight),
                "checkpoint": kept,
                "after_batch": lambda done: bar.update(),
                "after_epoch": lambda done: bar.set_postfix_str(f"loss {done.loss:.4f}"),
            },
        )
    written = folder / "cache" / f"robot_{name}.safetensors"
    # Only the lessons needed it.
    del model.ways
    save(model, written)
    model = load(written, Policy())
    quality = success(roll_out(model, held_out(episodes)))
    record(
        f"robot_{name}.safetensors",
        written.read_bytes(),
        f"{COMMAND} {name}",
        folder,
        held_out_success=quality.correct,
        held_out_episodes=quality.n,
        training={**asdict(recipe), "torch": torch.__version__.split("+")[0]},
    )
    written.unlink()
    kept.unlink()
    return model, quality


def main(arguments: list[str] | None = None) -> int:
    """Run the command of this module; returns the exit status.

    >>> main(["w9"])
    Traceback (most recent call last):
    ...
    SystemExit: 2
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train the robots of few bits.")
    parser.add_argument("model", nargs="?", choices=[*QUANTIZED, "all"], default="all")
    given = parser.parse_args(arguments).model
    # Sums in one thread are always added in the same order.
    torch.set_num_threads(1)
    try:
        for name in QUANTIZED if given == "all" else [given]:
            start = time.process_time()
            _, quality = retrain(name)
            seconds = time.process_time() - start
            print(f"robot_{name}: success {quality}, {seconds:.0f} s of one core in this run")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
