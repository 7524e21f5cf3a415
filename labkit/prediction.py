"""Is the prediction any good? Random plans, predicted and measured, and the margin that asks for.

A plan is predicted by adding up what its layers cost when quantized alone. That sum has no unit of
success, and layers that fail together cost more than the sum. So some plans are measured, and sums
are read through them: which loss a sum stands for, and up to which a limit is kept often enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression
from torch import nn
from tqdm import tqdm

from labkit.checks import check_whole
from labkit.evaluate import Accuracy, measured
from labkit.features import ModelFeatures
from labkit.hessian import rank_correlation
from labkit.mixed import allocate_bits, widths_of
from labkit.quantize import quantize_model
from labkit.threads import one_thread

# Of the plans that the planner trusts, at most this share may miss what is asked.
RISK = 0.1


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted sums and measured losses of the same plans, both (plans,), by growing sum.

    `loss(total)` is the loss that a sum stands for, `most(max_loss)` the largest sum to trust.

    >>> checked = Prediction.of([0.1, 0.2, 0.4, 0.8], [0.0, 0.01, 0.05, 0.3])
    >>> checked.rank_correlation, round(checked.loss(0.3), 3), checked.most(0.02)
    (1.0, 0.03, 0.2)
    """

    predicted: np.ndarray
    measured: np.ndarray

    @classmethod
    def of(cls, predicted: ArrayLike, measured: ArrayLike) -> Prediction:
        """Sort by the sum; ValueError for shapes that differ, no plans and values not finite."""
        predicted, measured = (np.asarray(x, dtype=np.float64) for x in (predicted, measured))
        if predicted.shape != measured.shape or predicted.ndim != 1 or not len(predicted):
            raise ValueError(
                "needs a predicted and a measured number for each plan, got shapes "
                f"{predicted.shape} and {measured.shape}"
            )
        if not (np.isfinite(predicted).all() and np.isfinite(measured).all()):
            raise ValueError("predicted and measured must be finite numbers")
        order = np.lexsort((measured, predicted))
        return cls(predicted[order], measured[order])

    def __len__(self) -> int:
        """Return how many plans were measured."""
        return len(self.predicted)

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of predicted and measured: 1 when the prediction orders all plans rightly."""
        return rank_correlation(self.predicted, self.measured)

    def loss(self, total: float) -> float:
        """Return the loss that this sum stands for, in units of the quality.

        The non-decreasing curve nearest to the measured plans (isotonic regression), straight
        between them and level beyond the ends.
        """
        curve = isotonic_regression(self.measured).x
        return float(np.interp(total, self.predicted, curve))

    def most(self, max_loss: float, risk: float = RISK) -> float:
        """Return the largest sum at which at most a share `risk` of plans loses over `max_loss`.

        The chance of a miss is the non-decreasing curve nearest to what happened (isotonic
        regression of missed or kept). -inf where even the smallest sum is no safe choice.
        """
        chance = isotonic_regression((self.measured > max_loss).astype(float)).x
        safe = np.flatnonzero(chance <= risk)
        return float(self.predicted[safe[-1]]) if len(safe) else -math.inf

    def margin(self, max_loss: float, risk: float = RISK) -> float:
        """Return the share of the sum that is kept back for what the prediction does not see.

        1 - most(max_loss) / the sum that stands for just `max_loss`: 0 is no margin.
        """
        curve = isotonic_regression(self.measured).x
        within = np.flatnonzero(curve <= max_loss)
        if not len(within) or self.predicted[within[-1]] <= 0:
            return 0.0
        most = max(self.most(max_loss, risk), 0.0)
        return float(np.clip(1 - most / self.predicted[within[-1]], 0.0, 1.0))


def random_plans(features: ModelFeatures, count: int, *, seed: int = 0) -> np.ndarray:
    """Return `count` random choices, an option a layer: (count, layers) integers.

    Each plan draws how it likes the widths first, and every layer draws by that; so there are
    careful and reckless plans, even and uneven ones. ValueError for a count below 1.
    """
    if check_whole("count", count) < 1:
        raise ValueError(f"count must be at least 1, e.g. 50; got {count}")
    random = np.random.default_rng(seed)
    layers, widths = features.loss.shape
    likes = random.dirichlet(np.full(widths, 0.5), size=count)
    return np.stack([random.choice(widths, layers, p=like) for like in likes])


def best_plans(features: ModelFeatures, count: int) -> np.ndarray:
    """Return `count` choices that are predicted to lose least for their bytes: (count, layers).

    Evenly spaced from the fewest bytes to the most. What a planner takes is always among the best
    predicted, and of many predictions the best are those that promise too much: a margin that was
    found on random plans alone would be too small. ValueError for a count below 1.
    """
    if check_whole("count", count) < 1:
        raise ValueError(f"count must be at least 1, e.g. 10; got {count}")
    fewest, most = features.bytes.min(1).sum(), features.bytes.max(1).sum()
    budgets = np.linspace(fewest, most, count + 1)[:-1] if count > 1 else [fewest]
    limits = [[("bytes", features.bytes, budget)] for budget in budgets]
    return np.stack([allocate_bits(features.loss, limit) for limit in limits])


def check_prediction(
    model: nn.Module,
    features: ModelFeatures,
    evaluate: Callable[[nn.Module], Accuracy | float],
    *,
    plans: int | ArrayLike = 50,
    seed: int = 0,
    n_jobs: int = 1,
    progress: bool = False,
    **options: Any,
) -> Prediction:
    """Quantize and measure plans, and return them beside what `features` predicts.

    plans: an array of choices (plans, layers), or how many random ones to draw with `seed`; half as
    many of `best_plans` are measured with them. options: as in `labkit.quantize.quantize_model`;
    those that the features were measured with. n_jobs processes of joblib share the work. Raises
    ValueError as `random_plans` and `quantize_model` do.
    """
    choices = np.asarray(plans)
    if choices.ndim == 0:
        best = best_plans(features, max(1, int(plans) // 2))
        choices = np.concatenate([random_plans(features, plans, seed=seed), best])
    # Imported here, as it is slow to import.
    from joblib import Parallel, delayed

    runs = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_quality)(model, evaluate, widths_of(features.sensitivity, choice), options)
        for choice in choices
    )
    hidden = None if progress else True
    bar = tqdm(runs, "random plans", len(choices), delay=2, leave=False, disable=hidden)
    losses = number(features.quality) - np.array(list(bar))
    layers = np.arange(len(features.layers))
    return Prediction.of([features.loss[layers, choice].sum() for choice in choices], losses)


def number(quality: Accuracy | float) -> float:
    """Return a quality as a number.

    >>> number(Accuracy.of(9, 10))
    0.9
    """
    return float(quality.value if isinstance(quality, Accuracy) else quality)


def _quality(
    model: nn.Module, evaluate: Callable, widths: Mapping[str, int], options: Mapping[str, Any]
) -> float:
    quantized, _ = quantize_model(model, bits=widths, **options)
    with one_thread():
        return number(measured(evaluate, quantized))
