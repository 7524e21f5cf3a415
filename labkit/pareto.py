"""The whole trade between two sums: every choice of options that no other choice beats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labkit.budget import table


class _Pair(NamedTuple):
    cost: float
    use: float


class FrontPoint(_Pair):
    """One efficient point: the pair (cost, use), and `choice`, an option a layer that gives it.

    >>> point = pareto_front([[1, 5]], [[8, 2]])[0]
    >>> cost, use = point
    >>> cost, use, point.choice
    (5.0, 2.0, array([1]))
    """

    choice: np.ndarray

    @classmethod
    def of(cls, cost: float, use: float, choice: np.ndarray) -> FrontPoint:
        """Return the pair with its choice, which takes no part in comparing and unpacking."""
        point = cls(cost, use)
        point.choice = choice
        return point


def pareto_front(cost: ArrayLike, use: ArrayLike) -> list[FrontPoint]:
    """Return every efficient (cost, use) point of the sums over layers, the smallest use first.

    cost, use: (layers, options), what each option adds to either sum, in any unit. A point is
    efficient when no choice is at most as large in both sums and smaller in one; choices with the
    same sums give one point. Along the list the use grows and the cost falls. Exact: layers are
    added one after the other, and what is beaten already cannot be part of anything efficient.

    How many points there are depends on the numbers: at most one for each different use, at worst
    options ** layers. Whole numbers with a common unit (bytes) keep it small. Source: Nemhauser and
    Ullmann, Management Science 15 (1969) 494. Raises ValueError for tables that are empty, not
    finite or of different shapes.

    >>> [(point.cost, point.use) for point in pareto_front([[9, 4, 1], [5, 0, 0]],
    ...                                                    [[2, 4, 8], [1, 2, 4]])]
    [(14.0, 3.0), (9.0, 4.0), (4.0, 6.0), (1.0, 10.0)]
    """
    cost, use = table("cost", cost), table("use", use)
    if cost.shape != use.shape:
        raise ValueError(
            f"cost and use must have the same shape (layers, options), got {cost.shape} and "
            f"{use.shape}"
        )
    costs, uses = np.zeros(1), np.zeros(1)
    steps = []
    for layer_cost, layer_use in zip(cost, use, strict=True):
        all_costs = (costs[:, None] + layer_cost).ravel()
        all_uses = (uses[:, None] + layer_use).ravel()
        kept = _efficient(all_costs, all_uses)
        costs, uses = all_costs[kept], all_uses[kept]
        # Which point of the step before, and which option of this layer.
        steps.append(np.divmod(kept, cost.shape[1]))
    choices = _trace(steps, len(costs))
    return [
        FrontPoint.of(*point) for point in zip(costs.tolist(), uses.tolist(), choices, strict=True)
    ]


def _efficient(costs: np.ndarray, uses: np.ndarray) -> np.ndarray:
    """Indices of the points that none beats, by growing use; of equal points the first."""
    order = np.lexsort((costs, uses))
    sorted_costs = costs[order]
    cheapest_before = np.concatenate([[np.inf], np.minimum.accumulate(sorted_costs)[:-1]])
    return order[sorted_costs < cheapest_before]


def _trace(steps: list[tuple[np.ndarray, np.ndarray]], points: int) -> np.ndarray:
    """Follow every point back through the layers; (points, layers)."""
    choices = np.empty((points, len(steps)), dtype=np.int64)
    place = np.arange(points)
    for layer in reversed(range(len(steps))):
        before, option = steps[layer]
        choices[:, layer] = option[place]
        place = before[place]
    return choices
