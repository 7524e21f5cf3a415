"""The fusion: a model, a device and a wish become one allocation problem.

    least   Σ cost(layer, width)            the predicted loss
    where   Σ bytes(layer, width)   ≤ the bytes that are left for layers
            Σ seconds(layer, width) ≤ the seconds that are left for layers

Where nothing limits bytes or seconds, the loss is what is limited and the bytes are made few:

    least   Σ bytes(layer, width)
    where   Σ cost(layer, width)    ≤ the largest sum that can be trusted with this loss
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labkit.constraints import Constraints
from labkit.features import ModelFeatures
from labkit.mixed import allocate_bits, widths_of
from labkit.prediction import RISK, Prediction, number
from labkit.requirement import Requirement


@dataclass(frozen=True)
class Limits:
    """What must hold in the end: of device and wish the tighter; None where neither asks.

    `bytes`: the file as it is written. `loss`: quality lost against float. `constraints` and
    `requirement` are asked for the seconds, which may be a share of those of the float model.

    >>> Limits.of(Constraints(memory_bytes=50), Requirement(max_bytes=40), 100, 0.9).bytes
    40
    """

    bytes: int | None
    loss: float | None
    constraints: Constraints
    requirement: Requirement

    @classmethod
    def of(
        cls,
        constraints: Constraints,
        requirement: Requirement,
        original_bytes: int,
        quality: float | None,
    ) -> Limits:
        """`quality` of the float model, None where it is not measured; ValueError if it must be."""
        wants_quality = requirement.max_loss is not None or requirement.min_quality is not None
        if wants_quality and quality is None:
            raise ValueError(
                "the request limits the loss of quality, which has to be measured; give evaluate, "
                "a function of a model that returns its quality"
            )
        size = least(constraints.bytes_limit(), requirement.bytes_limit(original_bytes))
        loss = None if quality is None else requirement.loss_limit(quality)
        return cls(None if size is None else math.floor(size), loss, constraints, requirement)

    def seconds(self, float_seconds: float) -> float | None:
        """Return the most seconds of one call when the float model takes `float_seconds`."""
        return least(
            self.constraints.seconds_limit(float_seconds),
            self.requirement.seconds_limit(float_seconds),
        )

    @property
    def timed(self) -> bool:
        """Whether anything limits the time."""
        return self.seconds(1.0) is not None

    @property
    def names(self) -> tuple[str, ...]:
        """What is limited, of "bytes", "seconds" and "loss"."""
        given = (self.bytes is not None, self.timed, self.loss is not None)
        return tuple(
            n for n, there in zip(("bytes", "seconds", "loss"), given, strict=True) if there
        )


@dataclass(frozen=True, eq=False)
class Fused:
    """One allocation problem, as `labkit.mixed.allocate_bits` takes it.

    `cost` (layers, options) is made least, and called `minimised`; `limits` are (name, use, budget)
    with use as cost. `columns` are the widths that may be chosen, as columns of the features.
    """

    features: ModelFeatures
    minimised: str
    cost: np.ndarray
    limits: tuple[tuple[str, np.ndarray, float], ...]
    columns: tuple[int, ...]

    def solve(self) -> np.ndarray:
        """Return the best choice, a column of the features a layer; ValueError as allocate_bits."""
        chosen = allocate_bits(self.cost, self.limits)
        return np.asarray(self.columns)[chosen]

    def blocking(self) -> tuple[str, ...]:
        """Return the limits that cannot be kept: each that fails alone, else all of them."""
        alone = tuple(n for n, use, budget in self.limits if use.min(axis=1).sum() > budget)
        return alone or tuple(name for name, _, _ in self.limits)

    def least_of(self, name: str) -> np.ndarray:
        """Return the choice that uses least of this limit; of equals that with the least cost."""
        use = {n: use for n, use, _ in self.limits}[name]
        best = np.lexsort((self.cost, use), axis=1)[:, 0]
        return np.asarray(self.columns)[best]

    def fastest(self) -> np.ndarray:
        """Return the choice that is predicted to take least time within the bytes."""
        size = [limit for limit in self.limits if limit[0] == "bytes"]
        seconds = {n: use for n, use, _ in self.limits}["seconds"]
        return np.asarray(self.columns)[allocate_bits(seconds, size)]

    def widths(self, choice: np.ndarray) -> dict[str, int]:
        """Return {layer: bits} of a choice."""
        return widths_of(self.features.sensitivity, choice)


def fuse(
    features: ModelFeatures,
    constraints: Constraints,
    requirement: Requirement,
    *,
    prediction: Prediction | None = None,
    tighter: float = 1.0,
    risk: float = RISK,
    fixed_bytes: int | None = None,
    float_seconds: float | None = None,
    correction: float = 1.0,
) -> Fused:
    """Return the allocation problem of this model, device and wish.

    prediction: measured plans, see `labkit.prediction`; they say which sum of costs can be trusted
    with a loss, so that at most a share `risk` misses, and `tighter` below 1 shrinks that sum.
    Without it the sum is taken at its word. fixed_bytes: bytes of the file beside the layers, by
    default those of the tensors that stay float. float_seconds: what shares of time are shares of,
    by default the features' own. correction: predicted divided by measured seconds of a plan that
    was measured. Features that were not timed leave the seconds to the verification. Raises
    ValueError for a request that limits nothing, and for a width that the features do not hold.
    """
    columns = _columns(features, requirement)
    cost, size, seconds = (t[:, columns] for t in (features.loss, features.bytes, features.seconds))
    limits = Limits.of(constraints, requirement, features.original_bytes, number(features.quality))
    if not limits.names and requirement.bits is None:
        raise ValueError(
            "nothing is asked: limit the bytes, the time or the loss of quality, e.g. "
            '{"memory": "6 MB"} or "at most 3 points worse"'
        )
    held = []
    if limits.bytes is not None:
        fixed = features.other_bytes if fixed_bytes is None else fixed_bytes
        held.append(("bytes", size, limits.bytes - fixed))
    if limits.timed and math.isfinite(features.float_seconds):
        whole = features.float_seconds if float_seconds is None else float_seconds
        budget = limits.seconds(whole) * correction - features.other_seconds
        held.append(("seconds", seconds, budget))
    if held or limits.timed or limits.loss is None:
        return Fused(features, "predicted loss", cost, tuple(held), columns)
    most = limits.loss if prediction is None else prediction.most(limits.loss, risk)
    if math.isinf(most):
        # No plan that was checked is safe enough: take what is predicted to lose least.
        most = cost.min(axis=1).sum()
    most = max(tighter * most, cost.min(axis=1).sum())
    return Fused(features, "bytes", size.astype(float), (("loss", cost, most),), columns)


def _columns(features: ModelFeatures, requirement: Requirement) -> tuple[int, ...]:
    if requirement.bits is None:
        return tuple(range(len(features.bits)))
    if requirement.bits not in features.bits:
        raise ValueError(
            f"{requirement.bits} bits are asked for, and the model was measured at "
            f"{', '.join(map(str, features.bits))}; give bits that hold it"
        )
    return (features.bits.index(requirement.bits),)


def least(*limits: float | None) -> float | None:
    """Return the smallest of the limits that are given, None where none is.

    >>> least(None, 3, 2)
    2
    """
    return min((x for x in limits if x is not None), default=None)
