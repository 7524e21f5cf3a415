"""The front of all efficient choices, against trying every choice."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labkit.mixed import allocate_bits, pareto_front


def brute_force(cost, use):
    """Every (cost, use) that no other choice beats."""
    points = {
        (
            sum(row[option] for row, option in zip(cost.tolist(), choice, strict=True)),
            sum(row[option] for row, option in zip(use.tolist(), choice, strict=True)),
        )
        for choice in itertools.product(range(cost.shape[1]), repeat=len(cost))
    }
    return sorted(
        (
            point
            for point in points
            if not any(
                other[0] <= point[0] and other[1] <= point[1] and other != point for other in points
            )
        ),
        key=lambda point: point[1],
    )


# Few different values, so that equal sums are frequent.
tables = st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        arrays(np.int64, shape, elements=st.integers(-3, 4)),
        arrays(np.int64, shape, elements=st.integers(-3, 4)),
    )
)


@settings(max_examples=200)
@given(tables)
def test_the_front_holds_every_efficient_point_and_no_other(given_tables):
    cost, use = given_tables
    assert [tuple(point) for point in pareto_front(cost, use)] == brute_force(cost, use)


def test_real_numbers_give_the_same_front():
    rng = np.random.default_rng(0)
    for _ in range(30):
        cost, use = rng.random((2, 5, 4))
        np.testing.assert_allclose(pareto_front(cost, use), brute_force(cost, use), rtol=1e-12)


def test_each_point_is_the_sum_of_its_choice():
    cost, use = np.random.default_rng(1).integers(0, 50, (2, 8, 5))
    layers = np.arange(8)
    for point in pareto_front(cost, use):
        assert point.cost == point[0] == cost[layers, point.choice].sum()
        assert point.use == point[1] == use[layers, point.choice].sum()


def test_the_front_agrees_with_the_exact_allocation_at_every_budget():
    cost, use = np.random.default_rng(2).integers(0, 30, (2, 6, 4))
    front = pareto_front(cost, use)
    for budget in range(int(front[0].use), int(front[-1].use) + 3):
        best = min(point.cost for point in front if point.use <= budget)
        choice = allocate_bits(cost, [(use, budget)])
        assert cost[np.arange(6), choice].sum() == best


def test_fifty_layers_of_whole_bytes_are_no_trouble():
    rng = np.random.default_rng(3)
    use = rng.integers(1, 40, (50, 1)) * np.arange(2, 9)
    cost = rng.random((50, 1)) * 4.0 ** -np.arange(2, 9)
    front = pareto_front(cost, use)
    costs, uses = np.array(front).T
    assert (np.diff(uses) > 0).all() and (np.diff(costs) < 0).all()
    assert uses[0] == use.min(1).sum() and len(front) <= use.max(1).sum()


@pytest.mark.parametrize(
    ("cost", "use", "words"),
    [
        ([[1, 2]], [[1, 2, 3]], "must have the same shape"),
        ([], [], "got shape (0,)"),
        ([[np.nan]], [[1]], "cost must hold finite numbers"),
        ([[1]], [[np.inf]], "use must hold finite numbers"),
    ],
)
def test_bad_tables_are_refused(cost, use, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        pareto_front(cost, use)
