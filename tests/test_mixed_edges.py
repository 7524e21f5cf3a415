"""Allocation at its edges: one option, equal costs, and limits that only fractions could keep."""

import numpy as np
import pytest

from labkit.mixed import allocate_bits, allocate_greedily


@pytest.mark.parametrize("allocate", [allocate_bits, allocate_greedily])
def test_one_layer_with_one_option(allocate):
    assert allocate([[7]], [([[1]], 1)]).tolist() == [0]


@pytest.mark.parametrize("allocate", [allocate_bits, allocate_greedily])
def test_equal_costs_leave_any_choice_that_fits(allocate):
    use = np.tile([1, 2, 3, 4], (5, 1))
    choice = allocate(np.zeros((5, 4)), [(use, 10)])
    assert use[np.arange(5), choice].sum() <= 10


def test_a_budget_of_zero_admits_what_uses_nothing():
    assert allocate_bits([[1, 2], [3, 4]], [([[1, 0], [0, 1]], 0)]).tolist() == [1, 0]


def test_limits_that_only_half_an_option_could_keep_are_named_though_all_cost_the_same():
    limits = [("a", [[0, 1]], 0.5), ("b", [[1, 0]], 0.5)]
    with pytest.raises(ValueError, match="the limits 'a' and 'b' cannot be kept together"):
        allocate_bits([[0, 0]], limits)


@pytest.mark.parametrize(
    ("limits", "ties", "words"),
    [
        ([], [0, 1], "ties must be groups of layer numbers"),
        ([], None, "ties must be groups of layer numbers"),
        (None, (), "limits must be a list"),
    ],
)
def test_what_is_no_list_of_limits_or_groups_is_refused(limits, ties, words):
    with pytest.raises(ValueError, match=words):
        allocate_bits([[1, 2], [3, 4]], limits, ties=ties)
