"""An allocation problem: what each option of each layer costs, what it uses, and the limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from labkit.checks import check_whole

# How far sums of floats in another order may lie apart, relative to the sum of their sizes: an
# option a layer, each addition rounded to half a unit in the last place.
_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class Limit:
    """Chosen options may use at most `budget` in sum; use: (layers, options), in the same unit.

    >>> limit = Limit("bytes", np.array([[2.0, 4.0], [1.0, 2.0]]), 5.0)
    >>> limit.least, limit.fits([1, 0]), limit.fits([1, 1])
    (3.0, True, False)
    """

    name: str
    use: np.ndarray
    budget: float

    def total(self, choice: ArrayLike) -> float:
        """What a choice, an option a layer, uses in sum."""
        return math.fsum(self._chosen(choice))

    def fits(self, choice: ArrayLike) -> bool:
        """Whether a choice keeps the limit, up to what rounding does to a sum of floats.

        Whole numbers are held exactly. Seconds that add up to the budget on paper still do, though
        0.1 + 0.2 is more than 0.3 in floats.
        """
        chosen = self._chosen(choice)
        rounding = len(chosen) * _EPS * math.fsum(np.abs(chosen))
        return bool(math.fsum(chosen) <= self.budget + rounding)

    @property
    def least(self) -> float:
        """The smallest possible sum, each layer on its own."""
        return self.total(self.use.argmin(axis=1))

    @property
    def excess(self) -> np.ndarray:
        """What each option uses beyond the least of its row: (rows, options)."""
        return self.use - self.use.min(axis=1, keepdims=True)

    @property
    def leeway(self) -> float:
        """What is left to spend when every row uses its least, and what rounding may hide."""
        rounding = len(self.use) * _EPS * np.abs(self.use).max(axis=1).sum()
        return max(self.budget - self.least, 0.0) + float(rounding)

    def _chosen(self, choice: ArrayLike) -> np.ndarray:
        return self.use[np.arange(len(self.use)), np.asarray(choice)]


@dataclass(frozen=True, eq=False)
class Problem:
    """Costs and limits with tied layers merged into one row each; `row` leads from layer to row.

    cost: (rows, options); row: (layers,) index of the row that decides about a layer.
    """

    cost: np.ndarray
    limits: tuple[Limit, ...]
    row: np.ndarray

    @classmethod
    def of(cls, cost: ArrayLike, limits: Iterable, ties: Iterable[Sequence[int]] = ()) -> Problem:
        """Return the problem that `labkit.mixed.allocate_bits` describes; ValueError as there.

        >>> Problem.of([[1, 2], [3, 4], [5, 6]], [], ties=[(0, 2)]).cost
        array([[6., 8.],
               [3., 4.]])
        """
        cost = table("cost", cost)
        if not isinstance(limits, Iterable):
            raise ValueError(
                "limits must be a list of (use, budget) or (name, use, budget); "
                f"got {type(limits).__name__}"
            )
        checked = [_limit(index, given, cost.shape) for index, given in enumerate(limits)]
        row = _rows(ties, len(cost))
        limits = tuple(Limit(x.name, _merged(x.use, row), x.budget) for x in checked)
        return cls(_merged(cost, row), limits, row)

    def total(self, choice: ArrayLike) -> float:
        """What a choice, an option a row, costs in sum."""
        return math.fsum(self.cost[np.arange(len(self.cost)), np.asarray(choice)])

    def fits(self, choice: ArrayLike) -> bool:
        """Whether a choice, an option a row, keeps every limit."""
        return all(limit.fits(choice) for limit in self.limits)


def table(name: str, values: ArrayLike) -> np.ndarray:
    """Return numbers as a float64 array (layers, options); ValueError naming what is wrong.

    >>> table("cost", [[1, 2]])
    array([[1., 2.]])
    """
    try:
        numbers = np.asarray(values)
        if numbers.dtype.kind not in "iuf":
            raise TypeError
        numbers = numbers.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be a table of real numbers, a row a layer and as many options in each"
        ) from None
    if numbers.ndim != 2 or numbers.size == 0:
        raise ValueError(
            f"{name} must be (layers, options) with at least one of each, got shape {numbers.shape}"
        )
    if not np.isfinite(numbers).all():
        layer, option = np.argwhere(~np.isfinite(numbers))[0]
        raise ValueError(
            f"{name} must hold finite numbers, got {numbers[layer, option]} for layer {layer}, "
            f"option {option}"
        )
    return numbers


def _limit(index: int, given: Sequence, shape: tuple[int, int]) -> Limit:
    """Check one limit, (use, budget) or (name, use, budget)."""
    if not isinstance(given, Sequence) or not 2 <= len(given) <= 3:
        raise ValueError(
            "limits must be a list of (use, budget) or (name, use, budget); "
            f"got {type(given).__name__} at {index}"
        )
    *named, use, budget = given
    name = repr(str(named[0])) if named else f"limits[{index}]"
    use = table(f"the use in {name}", use)
    if use.shape != shape:
        raise ValueError(f"the use in {name} has shape {use.shape}, the cost {shape}; make it that")
    try:
        budget = float(budget)
    except (TypeError, ValueError):
        budget = math.nan
    if math.isnan(budget):
        raise ValueError(f"the budget of {name} must be a number, got {given[-1]!r}")
    return Limit(name, use, budget)


def _rows(ties: Iterable[Sequence[int]], layers: int) -> np.ndarray:
    """Number the rows that are left when the layers of each tie become one, in order."""
    first = np.arange(layers)
    seen: set[int] = set()
    groups = list(ties) if isinstance(ties, Iterable) else [ties]
    if not all(isinstance(tie, Iterable) for tie in groups):
        raise ValueError(
            f"ties must be groups of layer numbers such as [(0, 2)], () for none; got {ties!r}"
        )
    for tie in groups:
        members = [check_whole("a layer in ties", layer) for layer in tie]
        for layer in members:
            if not 0 <= layer < layers:
                raise ValueError(f"ties names layer {layer}; the layers are 0 to {layers - 1}")
            if layer in seen:
                raise ValueError(
                    f"ties names layer {layer} twice; join what must agree into one group"
                )
            seen.add(layer)
        first[members] = min(members, default=0)
    return np.unique(first, return_inverse=True)[1]


def _merged(values: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Add up the layers of each row."""
    merged = np.zeros((row.max() + 1, values.shape[1]))
    np.add.at(merged, row, values)
    return merged
