"""Finding the optimum of an allocation problem close to a bound that cannot be beaten.

With a price λ on every limit, each row can be judged alone: an option's reduced cost is how much
worse cost + λ · use is than the best of its row. A choice whose reduced costs add up to R costs at
least bound + R (Lagrange; the best prices are the dual of the linear program). So all choices that
may beat a known one have a small R, and if they are few, they can be listed. Rows whose other
options are too far away have no say: usually that leaves a few dozen of hundreds.
Sources: Balas and Zemel 1980 for the core; Sinha and Zoltners 1979 for the multiple choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from labkit.budget import Limit, Problem

# Half a list of partial choices longer than this takes HiGHS less time.
_LONGEST = 20_000
_GROWTH = 1.4


def search(problem: Problem) -> np.ndarray | None:
    """Return the cheapest choice that keeps every limit, an option a row; None when giving up.

    It gives up where too many choices lie near the bound, and where it finds nothing that fits.
    What it returns is the optimum, up to the rounding of sums of floats: the bound holds for any
    prices, so that it does not depend on how exactly the linear program was solved.

    >>> search(Problem.of([[3, 1], [2, 0]], [([[1, 2], [1, 3]], 4)]))
    array([1, 0])
    """
    limits = [x for x in problem.limits if x.leeway < math.inf and x.excess.max() > 0]
    cost = problem.cost - problem.cost.min(axis=1, keepdims=True)
    prices = _prices(cost, limits)
    if prices is None:
        return None
    uses = np.array([limit.excess for limit in limits]).reshape(len(limits), *cost.shape)
    leeways = np.array([limit.leeway for limit in limits])
    priced = cost + np.tensordot(prices, uses, axes=1)
    best = priced.min(axis=1, keepdims=True)
    reduced, bound = priced - best, best.sum() - prices @ leeways
    # Sums of floats in another order may differ that much.
    rounding = 1e-13 * (cost.max(axis=1).sum() + prices @ leeways)
    # At first a few rows have a choice.
    distances = np.sort(reduced[reduced > 0])
    radius = max([2 * rounding, *distances[: 1 + len(reduced) // 20]])
    while True:
        found = _within(radius, reduced, cost, uses, leeways, prices)
        if found is None:
            return None
        totals, trace = found
        choices = map(trace, np.argsort(totals, kind="stable"))
        choice = next((choice for choice in choices if problem.fits(choice)), None)
        # Whatever is not listed costs more than bound + radius, or than something listed.
        if (
            choice is not None
            and cost[np.arange(len(cost)), choice].sum() - bound <= radius - rounding
        ):
            return choice
        # With costs that are all equal, everything is within 0.
        if choice is None and radius >= reduced.max(axis=1).sum() + prices @ leeways:
            return None
        radius = max([_GROWTH * radius, *distances[distances > radius][:1]])


def _prices(cost: np.ndarray, limits: list[Limit]) -> np.ndarray | None:
    """The dual values of the limits in the linear program; None where it has no solution."""
    if not limits:
        return np.zeros(0)
    # Imported here for the sake of a first picture, as in `labkit.knapsack`.
    from scipy import sparse
    from scipy.optimize import linprog

    rows, options = cost.shape
    # Scaled, as its solver computes with absolute tolerances.
    unit = cost.max() or 1.0
    leeways = [limit.leeway or limit.excess.max() for limit in limits]
    found = linprog(
        cost.ravel() / unit,
        A_ub=np.array([x.excess.ravel() / s for x, s in zip(limits, leeways, strict=True)]),
        b_ub=np.ones(len(limits)),
        A_eq=sparse.kron(sparse.eye_array(rows), np.ones((1, options)), format="csr"),
        b_eq=np.ones(rows),
        bounds=(0, 1),
    )
    if found.status != 0:
        return None
    return np.maximum(-found.ineqlin.marginals, 0) * unit / leeways


def _within(
    radius: float,
    reduced: np.ndarray,
    cost: np.ndarray,
    uses: np.ndarray,
    leeways: np.ndarray,
    prices: np.ndarray,
) -> tuple[np.ndarray, Callable[[int], np.ndarray]] | None:
    """List the choices that cost at most bound + radius and keep the leeways, beaten ones aside.

    Returns what they cost (n,), and a function that tells the choice behind one of these numbers.
    What a choice costs above the bound is the sum of its reduced costs and the price of the leeway
    that it leaves. None where the list grows too long.
    """
    near = reduced <= radius
    nearest = reduced.argmin(axis=1)
    is_open = near.sum(axis=1) > 1
    closed = np.flatnonzero(~is_open)
    # Those that decide most about the limits first: the others then cannot fill what is left.
    largest = np.where(near, uses, 0).max(axis=2)
    order = np.argsort(-(prices @ largest), kind="stable")
    order = order[is_open[order]]
    fillable = largest[:, order].sum(axis=1)
    sums = np.zeros(1)
    totals = np.full(1, cost[closed, nearest[closed]].sum())
    left = leeways[:, None] - uses[:, closed, nearest[closed]].sum(axis=1, keepdims=True)
    steps = []
    for row in order:
        options = np.flatnonzero(near[row])
        sums = (sums[:, None] + reduced[row, options]).ravel()
        left = (left[:, :, None] - uses[:, row][:, None, options]).reshape(len(uses), len(sums))
        fillable = fillable - largest[:, row]
        wasted = prices @ np.maximum(left - fillable[:, None], 0)
        kept = np.flatnonzero((sums + wasted <= radius) & (left >= 0).all(axis=0))
        totals = (totals[:, None] + cost[row, options]).ravel()
        kept = kept[_unbeaten(totals[kept], left[:, kept], fillable)]
        if len(kept) > _LONGEST:
            return None
        totals = totals[kept]
        sums, left = sums[kept], left[:, kept]
        before, option = np.divmod(kept, len(options))
        steps.append((row, before, options[option]))

    def trace(place: int) -> np.ndarray:
        choice = nearest.copy()
        for row, before, option in reversed(steps):
            choice[row] = option[place]
            place = before[place]
        return choice

    return totals, trace


def _unbeaten(totals: np.ndarray, left: np.ndarray, fillable: np.ndarray) -> np.ndarray:
    """Indices of the partial choices of which no other is as cheap with as much left.

    Only where it is quick to tell: among those for which all limits but one cannot be broken any
    more, whatever the rows to come take.
    """
    tight = left < fillable[:, None]
    count = tight.sum(axis=0)
    stay = count > 1
    for limit in range(len(left)):
        members = np.flatnonzero((count == 1) & tight[limit])
        order = members[np.lexsort((totals[members], -left[limit, members]))]
        cheapest_before = np.minimum.accumulate(totals[order])[:-1]
        stay[order[:1]] = True
        stay[order[1:][totals[order[1:]] < cheapest_before]] = True
    free = np.flatnonzero(count == 0)
    stay[free[np.argsort(totals[free], kind="stable")[:1]]] = True
    return np.flatnonzero(stay)
