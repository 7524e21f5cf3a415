"""The exact solution of an allocation problem, by HiGHS."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from labkit.budget import Problem

_SCALE = 2.0**20


def solve(problem: Problem) -> np.ndarray | None:
    """Return the cheapest choice that keeps every limit, an option a row; None where none does.

    >>> solve(Problem.of([[3, 1]], [([[1, 2]], 1)]))
    array([0])
    """
    rows, options = problem.cost.shape
    c = problem.cost - problem.cost.min(axis=1, keepdims=True)
    c = c * (_SCALE / (c.max() or 1.0))
    one_each = sparse.kron(sparse.eye(rows), np.ones((1, options)), format="csr")
    constraints = [LinearConstraint(one_each, 1, 1)]
    for limit in problem.limits:
        excess = limit.use - limit.use.min(axis=1, keepdims=True)
        leeway = limit.budget - limit.least
        if not np.isfinite(leeway) and leeway > 0:
            continue
        if not limit.fits(limit.use.argmin(axis=1)):
            return None
        leeway = max(leeway, 0.0)
        scale = _SCALE / (leeway or excess.max() or 1.0)
        constraints.append(
            LinearConstraint((excess * scale).reshape(1, -1), -np.inf, leeway * scale)
        )
    while True:
        found = milp(
            c.ravel(),
            integrality=np.ones(c.size),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0},
        )
        if found.status == 2:
            return None
        if found.status != 0:
            raise RuntimeError(f"HiGHS gave up: {found.message}")
        choice = found.x.reshape(rows, options).argmax(axis=1)
        if problem.fits(choice):
            return choice
        # Within the solver's tolerance, not within the limit: forbid this one choice.
        cut = sparse.csr_array(
            (np.ones(rows), (np.zeros(rows, int), np.arange(rows) * options + choice)),
            shape=(1, c.size),
        )
        constraints.append(LinearConstraint(cut, -np.inf, rows - 1))
