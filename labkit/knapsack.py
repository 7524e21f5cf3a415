"""The exact optimum of an allocation problem: a multiple-choice knapsack, solved by HiGHS.

Most problems are solved sooner by a search near their linear bound (`labkit.near_bound`); what that
gives up goes to HiGHS, which computes with tolerances, 1e-6 in every limit and in the cost. Three
things make its answer exact: numbers are scaled to about 2²⁰ first, an answer that breaks a limit
after all is forbidden and the next best asked for, and options that alone cost more than a whole
answer are dropped, so that one huge number cannot hide the differences between small ones.
"""

from __future__ import annotations

import math

import numpy as np

from labkit.budget import Problem
from labkit.near_bound import search
from labkit.silence import silence

# Near the largest coefficients that HiGHS likes; its tolerance is then 1e-12 of the leeway.
_EXPONENT = 20
_OPTIMAL, _INFEASIBLE = 0, 2


def solve(problem: Problem) -> np.ndarray | None:
    """Return the cheapest choice that keeps every limit, an option a row; None where none does.

    The cost lies at most 1e-10 of the optimum's own spread above it: Σ (cost - least of the row).

    >>> solve(Problem.of([[3, 1]], [([[1, 2]], 1)]))
    array([0])
    """
    least = [limit.use.argmin(axis=1) for limit in problem.limits]
    if not all(limit.fits(choice) for limit, choice in zip(problem.limits, least, strict=True)):
        return None
    choice = search(problem)
    if choice is not None:
        return choice
    allowed = np.ones(problem.cost.shape, dtype=bool)
    for limit in problem.limits:
        allowed &= limit.excess <= limit.leeway
    if not allowed.any(axis=1).all():
        return None
    while True:
        cheapest = np.where(allowed, problem.cost, np.inf).min(axis=1, keepdims=True)
        dear = problem.cost - cheapest
        choice = _best_of(allowed, dear, problem)
        if choice is None:
            return None
        total = math.fsum(dear[np.arange(len(dear)), choice])
        if total <= 0 or dear[allowed].max() <= 64 * total:
            return choice
        allowed &= dear <= 2 * total


def _best_of(allowed: np.ndarray, dear: np.ndarray, problem: Problem) -> np.ndarray | None:
    """Ask HiGHS until its answer keeps every limit in the given numbers, too."""
    # Imported here: it takes longer than the rest of labkit, and a first picture must not wait.
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    rows, options = np.nonzero(allowed)
    one_each = sparse.csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for limit in problem.limits:
        leeway, excess = limit.leeway, limit.excess[rows, options]
        if leeway < math.inf and excess.max() > 0:
            shift = _shift(leeway or excess.max())
            constraints.append(
                LinearConstraint(np.ldexp(excess, shift)[None], -np.inf, np.ldexp(leeway, shift))
            )
    cost = dear[rows, options]
    cost = np.ldexp(cost, _shift(cost.max()))
    while True:
        # scipy 1.17's HiGHS prints a line from C, whatever it is told to show.
        with silence():
            found = milp(
                cost,
                integrality=np.ones(len(cost)),
                bounds=Bounds(0, 1),
                constraints=constraints,
                options={"mip_rel_gap": 0},
            )
        if found.status == _INFEASIBLE:
            return None
        if found.status != _OPTIMAL:
            raise RuntimeError(f"HiGHS found no optimum: {found.message}")
        taken = np.flatnonzero(found.x > 0.5)
        choice = options[taken]
        if problem.fits(choice):
            return choice
        one = sparse.csr_array((np.ones(len(taken)), (np.zeros_like(taken), taken)), (1, len(rows)))
        constraints.append(LinearConstraint(one, -np.inf, len(taken) - 1))


def _shift(largest: float) -> int:
    """The power of two that brings the largest number to the scale; exact, unlike a division."""
    return _EXPONENT - math.frexp(largest)[1] if largest > 0 else 0
