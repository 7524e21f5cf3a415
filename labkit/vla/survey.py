"""What is measured of the robot before anything is planned, kept in ``data/robot_survey.npz``.

    python -m labkit.vla.survey     # measures again and stores: some minutes on two cores

The features of every layer, plans that were drawn at random, and the plans that are predicted best
for their size. Success is counted in rooms of its own: neither those of training nor
those that judge a plan in the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from labkit.data import record, verified
from labkit.divergence import MinusDivergence
from labkit.evaluate import Accuracy
from labkit.features import ModelFeatures, encode_model
from labkit.layer_times import LayerTimes
from labkit.mixed import widths_of
from labkit.prediction import Prediction, best_plans, random_plans
from labkit.quantize import quantize_model
from labkit.remake import to_npz
from labkit.sensitivity import Sensitivity
from labkit.vla.batches import calibration_batches
from labkit.vla.evaluate import roll_out_many
from labkit.vla.rollout import held_out, success
from labkit.vla.zoo import robot

NAME = "robot_survey.npz"
COMMAND = "python -m labkit.vla.survey"
BITS = (2, 3, 4, 6, 8)
STEPS = 256
"""Steps of the expert that the divergence of each layer is measured on."""
RANDOM, BEST = 60, 30
"""How many plans are drawn at random, and how many are the best for their size."""
EPISODES, FIRST_SEED = 150, 5_000
"""Rooms that every plan is measured in: the missions in turn, seeds from FIRST_SEED."""


@dataclass(frozen=True, eq=False)
class Plans:
    """Choices of widths and what they came to.

    `choices` (plans, layers): columns of the features; `right` (plans,): successes of `EPISODES`.
    """

    choices: np.ndarray
    right: np.ndarray

    def success(self, i: int) -> Accuracy:
        """Return the measured success of plan `i`, with its interval."""
        return Accuracy.of(int(self.right[i]), EPISODES)


@dataclass(frozen=True, eq=False)
class Survey:
    """The features, and measured plans: `random`, `best` (by growing size), `uniform` (one width
    for all layers, in the order of `BITS`). `features.quality` is the float robot's in these rooms;
    times are not among them, as they are those of a machine.
    """

    features: ModelFeatures
    random: Plans
    best: Plans
    uniform: Plans

    def predicted(self, choices: Iterable) -> np.ndarray:
        """Return the sum of what the layers cost alone, of each choice (plans, layers)."""
        layers = np.arange(len(self.features.layers))
        return np.array([self.features.loss[layers, choice].sum() for choice in choices])

    def prediction(self, best: bool = True) -> Prediction:
        """Return the random plans, and the best ones where `best`, predicted beside measured."""
        plans = (self.random, self.best) if best else (self.random,)
        right = np.concatenate([part.right for part in plans])
        sums = self.predicted(np.concatenate([part.choices for part in plans]))
        return Prediction.of(sums, (self.features.quality.correct - right) / EPISODES)


def rooms() -> list[tuple[str, int]]:
    """Return the (mission, seed) pairs that the survey plays.

    >>> rooms()[0]
    ('go to', 5000)
    """
    return held_out(EPISODES, first_seed=FIRST_SEED)


@cache
def survey() -> Survey:
    """Return what is stored; raises as `labkit.data.verified`.

    >>> len(survey().random.choices) >= 50
    True
    """
    with np.load(verified(NAME), allow_pickle=False) as stored:
        return _from_arrays({name: stored[name] for name in stored.files})


def measure(*, n_jobs: int = 1, progress: bool = False) -> Survey:
    """Measure all of it on `robot()`; `n_jobs` processes share the plans."""
    policy = robot()
    finer = MinusDivergence(policy, calibration_batches(STEPS))
    one = tuple(x[:1] for x in calibration_batches(1)[0])
    features = encode_model(
        policy,
        evaluate=lambda model: Accuracy.of(_right({"it": model})[0], EPISODES),
        proxy=finer,
        example=one,
        bits=BITS,
        n_jobs=n_jobs,
        progress=progress,
        timed=False,
    )
    every = {
        "random": random_plans(features, RANDOM),
        "best": best_plans(features, BEST),
        "uniform": np.tile(np.arange(len(BITS))[:, None], len(features.layers)),
    }
    choices = np.concatenate(list(every.values()))
    models = {
        str(i): quantize_model(policy, bits=widths_of(features.sensitivity, choice))[0]
        for i, choice in enumerate(choices)
    }
    right = np.array(_right(models, n_jobs, progress))
    parts = np.split(right, np.cumsum([len(part) for part in every.values()])[:-1])
    return Survey(features, *(Plans(c, r) for c, r in zip(every.values(), parts, strict=True)))


def store(found: Survey, folder: Path | None = None) -> Path:
    """Write a survey into the data folder, with its entry in the manifest."""
    return record(NAME, to_npz(_to_arrays(found)), COMMAND, folder)


def _right(models: Mapping, n_jobs: int = 1, progress: bool = False) -> list[int]:
    """How many episodes each model fulfils."""
    played = roll_out_many(models, rooms(), n_jobs=n_jobs, progress=progress)
    return [success(rollouts).correct for rollouts in played.values()]


def _to_arrays(found: Survey) -> dict[str, np.ndarray]:
    features, table = found.features, found.features.sensitivity
    arrays = {
        "layers": np.array(table.layers),
        "kinds": np.array(features.kinds),
        "parameters": features.parameters,
        "macs": features.macs,
        "bits": np.array(table.bits),
        "quality": table.quality,
        "baseline": np.array(table.baseline),
        "bytes": table.bytes,
        "other_bytes": np.array(table.other_bytes),
        "original_bytes": np.array(features.original_bytes),
        "right": np.array(features.quality.correct),
    }
    for name in ("random", "best", "uniform"):
        plans = getattr(found, name)
        arrays |= {f"{name}_choices": plans.choices.astype(np.int8), f"{name}_right": plans.right}
    return arrays


def _from_arrays(arrays: Mapping[str, np.ndarray]) -> Survey:
    layers, bits = tuple(arrays["layers"].tolist()), tuple(arrays["bits"].tolist())
    table = Sensitivity(
        layers,
        bits,
        arrays["quality"],
        arrays["baseline"].item(),
        arrays["bytes"],
        arrays["other_bytes"].item(),
    )
    features = ModelFeatures(
        tuple(arrays["kinds"].tolist()),
        tuple(name.partition(".")[0] for name in layers),
        arrays["parameters"],
        arrays["macs"],
        table,
        LayerTimes.untimed(len(layers), len(bits)),
        Accuracy.of(arrays["right"].item(), EPISODES),
        arrays["original_bytes"].item(),
    )
    plans = (
        Plans(arrays[f"{name}_choices"].astype(int), arrays[f"{name}_right"])
        for name in ("random", "best", "uniform")
    )
    return Survey(features, *plans)


if __name__ == "__main__":
    print(store(measure(n_jobs=2, progress=True)))
    sys.exit(0)
