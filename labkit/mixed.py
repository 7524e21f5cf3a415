"""Spending bits where they count: which width each layer gets under limits on bytes, seconds, …

A layer's options are its widths; each costs some quality and uses some of every budget, and costs
and uses of a model are the sums over its layers. `allocate_bits` finds the cheapest choice that
keeps all limits, exactly; greedy and uniform are there to compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from labkit.budget import Limit, Problem
from labkit.knapsack import solve
from labkit.pareto import FrontPoint, pareto_front
from labkit.sensitivity import Sensitivity, measure_sensitivity

__all__ = [
    "FrontPoint",
    "Sensitivity",
    "allocate_bits",
    "allocate_greedily",
    "allocate_uniformly",
    "bytes_of",
    "measure_sensitivity",
    "pareto_front",
    "widths_of",
]


def allocate_bits(
    cost: ArrayLike, limits: Iterable[Sequence], *, ties: Iterable[Sequence[int]] = ()
) -> np.ndarray:
    """Return the option of each layer that costs least in sum and keeps every limit: the optimum.

    cost: (layers, options), e.g. the loss of quality at each width, any sign and size. limits: any
    number of (use, budget) or (name, use, budget), where `use` is shaped as `cost` and the chosen
    ones may add up to at most `budget`; names are for messages. ties: groups of layer numbers that
    must take the same option. Returns an integer array (layers,).

    Whole numbers are held exactly, others up to the rounding of a float sum. Of several optima
    always the same one is returned. Raises ValueError for tables that are empty, not finite or of
    other shapes, for ties out of range or overlapping, and where nothing fits: it names the limit,
    or the limits that cannot be kept together, and the least that would do.

    >>> cost = [[9, 4, 1], [5, 2, 0]]
    >>> used = [[2, 4, 8], [1, 2, 4]]
    >>> allocate_bits(cost, [("bytes", used, 6)])
    array([1, 1])
    >>> allocate_bits(cost, [("bytes", used, 2)])
    Traceback (most recent call last):
    ...
    ValueError: the limit 'bytes' cannot be kept: its budget is 2, the least possible is 3
    """
    problem = Problem.of(cost, limits, ties)
    choice = solve(problem)
    if choice is None:
        raise ValueError(_why_nothing_fits(problem))
    return choice[problem.row]


def allocate_greedily(
    cost: ArrayLike, limits: Iterable[Sequence], *, ties: Iterable[Sequence[int]] = ()
) -> np.ndarray:
    """Start with what uses least, then upgrade where a byte buys most, until nothing more fits.

    The usual heuristic, as a contrast; arguments and errors as in `allocate_bits`. With several
    limits, "a byte" is the share of each budget's leeway, added up; then it may also find no start
    where there is one.

    Two bytes are left: one of them gains 6 in the first layer, both together 10 in the second.

    >>> cost, size = [[6, 0], [10, 0]], [[1, 2], [1, 3]]
    >>> allocate_greedily(cost, [(size, 4)]), allocate_bits(cost, [(size, 4)])
    (array([1, 0]), array([0, 1]))
    """
    problem = Problem.of(cost, limits, ties)
    _check_each(problem)
    weight = _leeway_share(problem)
    rows = np.arange(len(problem.cost))
    # Of options that use equally little, the cheapest.
    choice = np.lexsort((problem.cost, weight), axis=1)[:, 0]
    if not problem.fits(choice):
        if solve(problem) is None:
            raise ValueError(_why_nothing_fits(problem))
        raise ValueError(
            "the choice that uses least, all limits together, keeps not all of them, and greedy "
            "has no other start; allocate_bits finds one"
        )
    while True:
        gain = problem.cost[rows, choice][:, None] - problem.cost
        extra = weight - weight[rows, choice][:, None]
        rate = np.full(gain.shape, -np.inf)
        np.divide(gain, extra, out=rate, where=(gain > 0) & (extra > 0))
        rate[(gain > 0) & (extra <= 0)] = np.inf
        for move in np.argsort(-rate, axis=None, kind="stable"):
            row, option = np.unravel_index(move, rate.shape)
            if rate[row, option] == -np.inf:
                return choice[problem.row]
            upgraded = choice.copy()
            upgraded[row] = option
            if problem.fits(upgraded):
                choice = upgraded
                break
        else:
            return choice[problem.row]


def allocate_uniformly(cost: ArrayLike, limits: Iterable[Sequence]) -> np.ndarray:
    """Return the one option that, given to every layer, costs least and keeps every limit.

    Arguments and errors as in `allocate_bits`. Of equal ones the first.

    >>> allocate_uniformly([[9, 4, 1], [5, 2, 0]], [([[2, 4, 8], [1, 2, 4]], 9)])
    array([1, 1])
    """
    problem = Problem.of(cost, limits)
    layers, options = problem.cost.shape
    choices = [np.full(layers, option) for option in range(options)]
    for limit in problem.limits:
        if not any(limit.fits(choice) for choice in choices):
            least = min(limit.total(choice) for choice in choices)
            raise ValueError(_cannot(limit, least, "with one option for all layers "))
    fitting = [choice for choice in choices if problem.fits(choice)]
    if not fitting:
        names = " and ".join(limit.name for limit in problem.limits)
        raise ValueError(f"no single option for all layers keeps the limits {names} together")
    return min(fitting, key=problem.total)


def widths_of(sensitivity: Sensitivity, choice: ArrayLike) -> dict[str, int]:
    """Return {layer: bits} of a choice, as `labkit.quantize.quantize_model` takes it.

    >>> table = Sensitivity(("a", "b"), (2, 8), np.zeros((2, 2)), 1.0, np.ones((2, 2)))
    >>> widths_of(table, [1, 0])
    {'a': 8, 'b': 2}
    """
    options = _checked_choice(sensitivity, choice)
    return {
        name: sensitivity.bits[option]
        for name, option in zip(sensitivity.layers, options, strict=True)
    }


def bytes_of(sensitivity: Sensitivity, choice: ArrayLike) -> int:
    """Return the bytes of the whole model under a choice, what `Report.quantized_bytes` says.

    Layers that share a weight share its codes at one width only: tie them (`allocate_bits`).

    >>> table = Sensitivity(("a", "b"), (2, 8), np.zeros((2, 2)), 1.0, np.array([[1, 4], [2, 8]]))
    >>> bytes_of(table, [1, 0])
    6
    """
    options = _checked_choice(sensitivity, choice)
    chosen = sensitivity.bytes[np.arange(len(options)), options]
    return int(chosen.sum()) + sensitivity.other_bytes


def _checked_choice(sensitivity: Sensitivity, choice: ArrayLike) -> np.ndarray:
    options = np.asarray(choice)
    layers, widths = sensitivity.quality.shape
    whole = options.dtype.kind in "iu" and options.shape == (layers,)
    if not whole or not ((options >= 0) & (options < widths)).all():
        raise ValueError(
            f"a choice must hold {layers} whole numbers from 0 to {widths - 1}, an option a layer; "
            f"got {choice!r}"
        )
    return options


def _leeway_share(problem: Problem) -> np.ndarray:
    """What each option uses beyond the least of its layer, in shares of the leeway, added up."""
    weight = np.zeros(problem.cost.shape)
    for limit in problem.limits:
        excess = limit.use - limit.use.min(axis=1, keepdims=True)
        leeway = limit.budget - limit.least
        # Without leeway any excess is too much; what the ratio is then makes no difference.
        weight += excess / (leeway if leeway > 0 else excess.max() or 1.0)
    return weight


def _check_each(problem: Problem) -> None:
    """Raise ValueError for a limit that cannot be kept even by itself."""
    for limit in problem.limits:
        if not limit.fits(limit.use.argmin(axis=1)):
            raise ValueError(_cannot(limit, limit.least))


def _why_nothing_fits(problem: Problem) -> str:
    """Name the limits that exclude each other: without any one of them, the rest can be kept."""
    for limit in problem.limits:
        if not limit.fits(limit.use.argmin(axis=1)):
            return _cannot(limit, limit.least)
    blocking = list(problem.limits)
    for limit in problem.limits:
        others = [other for other in blocking if other is not limit]
        if solve(Problem(problem.cost, tuple(others), problem.row)) is None:
            blocking = others
    parts = []
    for limit in blocking:
        others = tuple(other for other in blocking if other is not limit)
        choice = solve(Problem(limit.use, others, problem.row))
        parts.append(
            f"{limit.name} needs at least {_number(limit.total(choice))} instead of its budget of "
            f"{_number(limit.budget)} when the others keep theirs"
        )
    names = " and ".join(limit.name for limit in blocking)
    return f"the limits {names} cannot be kept together: {'; or '.join(parts)}"


def _cannot(limit: Limit, least: float, how: str = "") -> str:
    return (
        f"the limit {limit.name} cannot be kept: its budget is {_number(limit.budget)}, "
        f"the least possible {how}is {_number(least)}"
    )


def _number(value: float) -> str:
    """A budget that is copied from a message must do, so no digit is dropped."""
    return f"{value:.0f}" if math.isfinite(value) and value == int(value) else repr(float(value))
