"""Finding the optimum of an allocation problem with bounds that no choice can go below.

With a price on every limit, each row can be judged alone: whatever is chosen, it adds at least the
least of cost + price · use over its options. So for any prices, choosing for the first rows only
costs in the end at least what it costs so far, plus these least sums of the rows to come, minus the
price of what is left to spend (Lagrange). The dual of the linear program has the prices that suit
a choice that spends as it does; one that has less left, or more, is bounded best by higher or lower
prices, so that many are tried, multiples of duals, and the highest bound counts.

Choices are made row by row, twice. The first time only the most promising are kept (a beam search),
which finds a good choice and nearly always the best. The second time everything is kept whose bound
is below that choice's cost: what then reaches the last row is better, and if nothing does, the
choice is the optimum.
Sources: Fisher 1981 for the bounds; Sinha and Zoltners 1979 for multiple choice; Lowerre 1976 for
the beam.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from labkit.budget import Problem

_BEAM = 64
# What so long a list cannot settle, HiGHS settles sooner.
_LONGEST = 10_000
# By how much prices are multiplied, for a number of limits that have one.
_MANY = np.array([1 / 8, 1 / 4, 1 / 2, 0.7, 1, 1.4, 2, 4, 8])
_MULTIPLES = {1: _MANY, 2: _MANY, 3: _MANY[[2, 4, 6]], 4: _MANY[[2, 4, 6]]}
# What of a limit is left to have other duals beside the problem's own.
_TIGHTER = 0.97
# A choice that is better by less than this share counts as equally good.
_SHARE = 1e-12
# So many partial choices are bounded at once: under hundreds of prices, more would fill memory.
_BLOCK = 4096


def search(problem: Problem) -> np.ndarray | None:
    """Return the cheapest choice that keeps every limit, an option a row; None when giving up.

    It gives up where too many choices lie near the bound, and where it finds nothing that fits.
    What it returns costs at most 1e-12 of the optimum's own spread more than the optimum, spread
    being Σ (cost - least of the row): the bounds hold for any prices, so that it does not depend on
    how exactly the linear program was solved.

    >>> search(Problem.of([[3, 1], [2, 0]], [([[1, 2], [1, 3]], 4)]))
    array([1, 0])
    """
    limits = [x for x in problem.limits if x.leeway < math.inf and x.excess.max() > 0]
    cost = problem.cost - problem.cost.min(axis=1, keepdims=True)
    uses = np.array([limit.excess for limit in limits]).reshape(len(limits), *cost.shape)
    leeways = np.array([limit.leeway for limit in limits])
    dual = _dual(cost, uses, leeways)
    if dual is None:
        return None
    prices = _prices(dual, cost, uses, leeways)
    priced = cost + np.tensordot(dual, uses, axes=1)
    at_least = priced.min(axis=1).sum()
    # Lowered by what rounding may do to the sums.
    bound = at_least - dual @ leeways - _rounding(len(cost)) * (at_least + dual @ leeways)
    # How much the bound rises when a row has to take an option.
    rise = priced - priced.min(axis=1, keepdims=True)
    choice, below = None, math.inf
    for beam in (_BEAM, None):
        listed = _listed(rise <= below - bound, below, beam, cost, uses, leeways, prices)
        if listed is None:
            return None
        totals, trace = listed
        choices = map(trace, np.argsort(totals, kind="stable"))
        better = next((choice for choice in choices if problem.fits(choice)), None)
        if better is not None:
            choice, below = better, cost[np.arange(len(cost)), better].sum()
    return choice


def _dual(cost: np.ndarray, uses: np.ndarray, leeways: np.ndarray) -> np.ndarray | None:
    """The dual values of the limits in the linear program; None where it has no solution."""
    if not len(leeways):
        return np.zeros(0)
    # Imported here for the sake of a first picture, as in `labkit.knapsack`.
    from scipy import sparse
    from scipy.optimize import linprog

    rows, options = cost.shape
    # Scaled, as its solver computes with absolute tolerances.
    unit = cost.max() or 1.0
    scales = np.where(leeways > 0, leeways, uses.max(axis=(1, 2)))
    found = linprog(
        cost.ravel() / unit,
        A_ub=uses.reshape(len(uses), -1) / scales[:, None],
        b_ub=leeways / scales,
        A_eq=sparse.kron(sparse.eye_array(rows), np.ones((1, options)), format="csr"),
        b_eq=np.ones(rows),
        bounds=(0, 1),
    )
    if found.status != 0:
        return None
    return np.maximum(-found.ineqlin.marginals, 0) * unit / scales


def _prices(
    dual: np.ndarray, cost: np.ndarray, uses: np.ndarray, leeways: np.ndarray
) -> np.ndarray:
    """Prices to bound with, (count, limits): none, and multiples of some duals, limit by limit."""
    # What is free when layers may be divided can be scarce when not: a price that is 0 or jumps
    # shows when there is a little less of one limit.
    tighter = leeways * np.where(np.eye(len(leeways)), _TIGHTER, 1)
    nearby = (_dual(cost, uses, less) for less in tighter)
    prices = [np.zeros(len(dual))]
    for middle in (dual, *(x for x in nearby if x is not None)):
        multiples = _MULTIPLES.get(np.count_nonzero(middle), np.ones(1))
        prices += itertools.product(*(multiples * x if x else [0.0] for x in middle))
    return np.array(prices)


def _listed(
    near: np.ndarray,
    below: float,
    beam: int | None,
    cost: np.ndarray,
    uses: np.ndarray,
    leeways: np.ndarray,
    prices: np.ndarray,
) -> tuple[np.ndarray, Callable[[int], np.ndarray]] | None:
    """List choices of near options, (rows, options), that keep the leeways and cost below a number.

    All of them, or with a beam those that are left when after each row only that many are kept.
    Returns what they cost, (n,), and a function that tells the choice behind one of these numbers;
    None where without a beam the list grows too long.
    """
    # Those that decide most about the limits first: the others then hardly change what is left.
    most = prices.max(axis=0) @ np.where(near, uses, 0).max(axis=2)
    order = np.argsort(-most, kind="stable")
    least = np.where(near, cost + np.tensordot(prices, uses, axes=1), np.inf).min(axis=2)[:, order]
    # What the rows from one on add at least; the last entry is that of none.
    ahead = np.zeros((len(prices), len(order) + 1))
    ahead[:, :-1] = np.cumsum(least[:, ::-1], axis=1)[:, ::-1]
    # Lowered as above, so that each stays a bound.
    ahead -= _rounding(len(order)) * (ahead[:, :1] + (prices @ leeways)[:, None])
    totals, left = np.zeros(1), leeways[:, None]
    steps = []
    for place, row in enumerate(order):
        options = np.flatnonzero(near[row])
        totals = (totals[:, None] + cost[row, options]).ravel()
        left = (left[:, :, None] - uses[:, row][:, None, options]).reshape(len(uses), len(totals))
        bounds = _bounds(totals, left, ahead[:, place + 1], prices)
        kept = np.flatnonzero((bounds < below * (1 - _SHARE)) & (left >= 0).all(axis=0))
        if beam is None and len(kept) > _LONGEST:
            return None
        if beam is not None and len(kept) > beam:
            kept = kept[np.argpartition(bounds[kept], beam)[:beam]]
        totals, left = totals[kept], left[:, kept]
        before, option = np.divmod(kept, len(options))
        steps.append((row, before, options[option]))

    def trace(place: int) -> np.ndarray:
        choice = np.zeros(len(order), dtype=np.intp)
        for row, before, option in reversed(steps):
            choice[row] = option[place]
            place = before[place]
        return choice

    return totals, trace


def _bounds(
    totals: np.ndarray, left: np.ndarray, ahead: np.ndarray, prices: np.ndarray
) -> np.ndarray:
    """What partial choices cost in the end at least: the highest bound under any of the prices."""
    bounds = np.empty_like(totals)
    for start in range(0, len(totals), _BLOCK):
        block = slice(start, start + _BLOCK)
        bounds[block] = totals[block] + (ahead[:, None] - prices @ left[:, block]).max(axis=0)
    return bounds


def _rounding(rows: int) -> float:
    """More than sums over so many rows are off in floats, relative to the sum of their sizes."""
    return 4 * (rows + 8) * float(np.finfo(np.float64).eps)
