"""Allocation of bits, against trying every choice."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labkit import knapsack, near_bound
from labkit.budget import Problem
from labkit.mixed import (
    Sensitivity,
    allocate_bits,
    allocate_greedily,
    allocate_uniformly,
    bytes_of,
    widths_of,
)
from labkit.silence import c_flush


def every_choice(layers, options, ties=()):
    for choice in itertools.product(range(options), repeat=layers):
        if all(len({choice[layer] for layer in tie}) <= 1 for tie in ties):
            yield choice


def total(values, choice):
    return sum(row[option] for row, option in zip(np.asarray(values).tolist(), choice, strict=True))


def brute_force(cost, limits, ties=()):
    """The least cost of all choices that keep the limits; None without any."""
    fitting = [
        total(cost, choice)
        for choice in every_choice(*np.shape(cost), ties)
        if all(total(use, choice) <= budget for use, budget in limits)
    ]
    return min(fitting, default=None)


def whole_problem(rng, limits=2):
    layers, options = rng.integers(1, 5), rng.integers(1, 5)
    shape = (layers, options)
    cost = rng.integers(-20, 100, shape)
    uses = [rng.integers(-5, 50, shape) for _ in range(limits)]
    # Budgets that some choice just keeps, or narrowly misses.
    picks = rng.integers(0, options, layers)
    budgets = [int(use[np.arange(layers), picks].sum() + rng.integers(-3, 4)) for use in uses]
    return cost, list(zip(uses, budgets, strict=True))


@pytest.fixture(params=["near the bound first", "HiGHS alone"])
def way(request, monkeypatch):
    """Both ways to the optimum: small problems would never get to HiGHS."""
    if request.param == "HiGHS alone":
        monkeypatch.setattr(knapsack, "search", lambda problem: None)
    return request.param


def test_the_choice_is_the_best_of_all_on_hundreds_of_small_problems(way):
    rng = np.random.default_rng(0)
    solved = infeasible = 0
    for _ in range(300):
        cost, limits = whole_problem(rng, limits=rng.integers(0, 4))
        wanted = brute_force(cost, limits)
        if wanted is None:
            infeasible += 1
            with pytest.raises(ValueError, match="cannot be kept"):
                allocate_bits(cost, limits)
            continue
        solved += 1
        choice = allocate_bits(cost, limits)
        assert total(cost, choice) == wanted
        assert all(total(use, choice) <= budget for use, budget in limits)
    assert solved > 150 and infeasible > 15


def test_ties_are_kept_and_the_choice_is_the_best_among_those_that_do():
    rng = np.random.default_rng(1)
    for _ in range(100):
        cost, limits = whole_problem(rng)
        ties = [rng.permutation(len(cost))[: rng.integers(0, len(cost) + 1)].tolist()]
        wanted = brute_force(cost, limits, ties)
        if wanted is None:
            with pytest.raises(ValueError, match="cannot be kept"):
                allocate_bits(cost, limits, ties=ties)
            continue
        choice = allocate_bits(cost, limits, ties=ties)
        assert total(cost, choice) == wanted and len({choice[layer] for layer in ties[0]}) <= 1


@settings(max_examples=40)
@pytest.mark.parametrize("alone", [False, True])
@given(
    arrays(np.float64, (3, 4), elements=st.floats(-1, 1)),
    arrays(np.float64, (3, 4), elements=st.floats(0, 1)),
    st.integers(-300, 300),
    st.integers(-300, 300),
    st.floats(0, 1),
)
def test_any_scale_of_cost_and_use_gives_the_optimum(
    alone, cost, use, cost_scale, use_scale, share
):
    cost, use = np.ldexp(cost, cost_scale), np.ldexp(use, use_scale)
    budget = use.min(1).sum() + share * (use.max(1) - use.min(1)).sum()
    # Where rounding decides what fits, there are two right answers.
    sums = np.array([total(use, choice) for choice in every_choice(3, 4)])
    assume(not ((np.abs(sums - budget) <= 1e-15 * budget) & (sums > budget)).any())
    wanted = brute_force(cost, [(use, budget * (1 + 1e-15))])
    assume(wanted is not None)
    with pytest.MonkeyPatch.context() as patch:
        if alone:
            patch.setattr(knapsack, "search", lambda problem: None)
        choice = allocate_bits(cost, [(use, budget)])
    spread = wanted - cost.min(1).sum()
    tiny = 1e-15 * np.abs(cost).sum()
    assert wanted - tiny <= total(cost, choice) <= wanted + 1e-10 * spread + tiny
    assert total(use, choice) <= budget * (1 + 2e-15)


def test_one_huge_cost_does_not_hide_the_small_ones(way):
    # 1e15 marks what must not be taken; the others differ by a millionth of a millionth.
    cost = [[1e15, 3e-12, 1e-12], [1e15, 2e-12, 1e-12], [1e15, 5e-12, 1e-12]]
    use = [[1, 2, 3]] * 3
    # One layer may have the third option: the one that gains most.
    assert allocate_bits(cost, [(use, 7)]).tolist() == [1, 1, 2]


def test_whole_numbers_are_held_to_the_last_byte(way):
    rng = np.random.default_rng(3)
    for _ in range(20):
        sizes = rng.integers(10**9, 10**10, (4, 3))
        cost = rng.random((4, 3))
        exact = total(sizes, rng.integers(0, 3, 4))
        for budget in (exact, exact - 1):
            wanted = brute_force(cost, [(sizes, budget)])
            if wanted is not None:
                choice = allocate_bits(cost, [(sizes, budget)])
                assert total(sizes, choice) <= budget
                assert math.isclose(total(cost, choice), wanted, rel_tol=1e-12)


def test_seconds_that_add_up_on_paper_fit(way):
    # In floats 0.1 + 0.2 is more than 0.3.
    use = [[0.1, 0.9], [0.2, 0.9]]
    assert allocate_bits([[0, 9], [0, 9]], [(use, 0.3)]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="the least possible is"):
        allocate_bits([[0, 9], [0, 9]], [(use, 0.3 - 1e-12)])


def test_the_budget_of_any_choice_admits_that_choice(way):
    rng = np.random.default_rng(4)
    for _ in range(20):
        use = rng.random((12, 3))
        picks = rng.integers(0, 3, 12)
        cost = np.ones((12, 3))
        cost[np.arange(12), picks] = 0
        for budget in (use[np.arange(12), picks].sum(), total(use[::-1], picks[::-1])):
            assert allocate_bits(cost, [(use, budget)]).tolist() == picks.tolist()


def test_without_limits_each_layer_takes_its_cheapest_option(way):
    cost = np.random.default_rng(5).normal(size=(30, 6))
    for limits in ([], [(np.ones((30, 6)), math.inf)]):
        assert allocate_bits(cost, limits).tolist() == cost.argmin(1).tolist()


def test_the_same_choice_every_time_where_several_are_best(way):
    cost, use = np.zeros((6, 4)), np.tile([1, 2, 3, 4], (6, 1))
    first = allocate_bits(cost, [(use, 15)])
    assert all((allocate_bits(cost, [(use, 15)]) == first).all() for _ in range(3))
    assert first.dtype.kind == "i" and first.shape == (6,)


# --- what makes a problem impossible ---

COST = [[5, 1], [5, 1]]
SIZE, SECONDS = [[2, 8], [3, 9]], [[4.0, 1.0], [4.0, 1.5]]


def test_a_limit_too_tight_by_itself_is_named_with_the_least_that_would_do():
    message = "the limit 'bytes' cannot be kept: its budget is 4, the least possible is 5"
    with pytest.raises(ValueError, match=re.escape(message)):
        allocate_bits(COST, [("seconds", SECONDS, 100), ("bytes", SIZE, 4)])
    allocate_bits(COST, [("bytes", SIZE, 5)])
    with pytest.raises(ValueError, match=re.escape("the limit limits[1] cannot be kept")):
        allocate_bits(COST, [(SECONDS, 100), (SIZE, 4)])


def test_limits_that_exclude_each_other_are_named_and_the_others_are_not():
    limits = [("energy", SIZE, 1000), ("bytes", SIZE, 10), ("seconds", SECONDS, 5)]
    with pytest.raises(ValueError, match="cannot be kept together") as caught:
        allocate_bits(COST, limits)
    message = str(caught.value)
    assert "energy" not in message and "'bytes' and 'seconds'" in message
    # With 5 s, 11 bytes are needed: 8 + 3 take 1 + 4 s; with 10 bytes only 2 + 3 fit, 8 s.
    assert "'bytes' needs at least 11 instead of its budget of 10" in message
    assert "'seconds' needs at least 8 instead of its budget of 5" in message
    for name, budget in (("bytes", 11), ("seconds", 8)):
        repaired = [(n, use, budget if n == name else b) for n, use, b in limits]
        allocate_bits(COST, repaired)


def test_the_least_that_the_message_names_will_do():
    rng = np.random.default_rng(6)
    for _ in range(30):
        use = rng.random((5, 3))
        with pytest.raises(ValueError, match="cannot be kept") as caught:
            allocate_bits(rng.random((5, 3)), [("bytes", use, use.min(1).sum() - 0.1)])
        least = float(re.search(r"the least possible is (\S+)", str(caught.value))[1])
        allocate_bits(np.zeros((5, 3)), [("bytes", use, least)])


def test_three_limits_of_which_only_all_together_are_too_many():
    # Each option breaks one limit, any two of the limits can be kept.
    cost = [[0, 0, 0]]
    limits = [(name, np.roll([[1, 0, 0]], k, axis=1), 0) for k, name in enumerate("abc")]
    with pytest.raises(ValueError, match="the limits 'a' and 'b' and 'c' cannot be kept together"):
        allocate_bits(cost, limits)
    assert allocate_bits(cost, limits[:2]).tolist() == [2]


@pytest.mark.parametrize(
    ("cost", "limits", "ties", "words"),
    [
        ([], [], (), "cost must be (layers, options)"),
        ([[]], [], (), "at least one of each, got shape (1, 0)"),
        ([1, 2], [], (), "got shape (2,)"),
        ([[1, math.nan]], [], (), "got nan for layer 0, option 1"),
        ([[1, math.inf]], [], (), "got inf"),
        ([["a", "b"]], [], (), "a table of real numbers"),
        ([[1, 2], [3]], [], (), "as many options in each"),
        (COST, [(SIZE, 9, 9, 9)], (), "limits must be a list of (use, budget)"),
        (COST, (SIZE, 9), (), "limits[0]"),
        (COST, [([[1, 2]], 9)], (), "has shape (1, 2), the cost (2, 2)"),
        (COST, [("bytes", [[1, 2], [3, math.nan]], 9)], (), "the use in 'bytes' must hold finite"),
        (COST, [(SIZE, math.nan)], (), "the budget of limits[0] must be a number, got nan"),
        (COST, [(SIZE, "much")], (), "the budget of limits[0] must be a number"),
        (COST, [], [(0, 2)], "ties names layer 2; the layers are 0 to 1"),
        (COST, [], [(0, -1)], "ties names layer -1"),
        (COST, [], [(0, 1), (1,)], "ties names layer 1 twice"),
        (COST, [], [(0, 0.5)], "a layer in ties must be a whole number"),
    ],
)
def test_bad_input_is_refused_with_what_would_work(cost, limits, ties, words):
    for allocate in (allocate_bits, allocate_greedily):
        with pytest.raises(ValueError, match=re.escape(words)):
            allocate(cost, limits, ties=ties)


# --- the contrasts ---


def test_exact_equals_or_beats_greedy_in_every_case():
    rng = np.random.default_rng(7)
    better = compared = 0
    for _ in range(300):
        cost, limits = whole_problem(rng, limits=rng.integers(1, 3))
        try:
            greedy = allocate_greedily(cost, limits)
        except ValueError:
            continue
        compared += 1
        best = total(cost, allocate_bits(cost, limits))
        assert best <= total(cost, greedy)
        assert all(total(use, greedy) <= budget for use, budget in limits)
        better += best < total(cost, greedy)
    assert compared > 150 and better > 5


def test_greedy_is_misled_by_the_best_bargain():
    # One byte more for layer 0 gains 6, two bytes more for layer 1 gain 10: two bytes are left.
    cost, size = [[6, 0], [10, 0]], [[1, 2], [1, 3]]
    assert allocate_greedily(cost, [(size, 4)]).tolist() == [1, 0]
    assert allocate_bits(cost, [(size, 4)]).tolist() == [0, 1]


def test_greedy_upgrades_where_a_byte_buys_most():
    # Gains a byte: 4, 1 (layer 0), 2.5, 2 (layer 1).
    cost, size = [[5, 1, 0], [5, 2.5, 0.5]], [[1, 2, 3], [1, 2, 3]]
    chosen = [allocate_greedily(cost, [(size, b)]).tolist() for b in range(2, 7)]
    assert chosen == [[0, 0], [1, 0], [1, 1], [1, 2], [2, 2]]


def test_greedy_says_when_only_it_fails():
    # The second option takes the smaller share of its budget, but not twice.
    cost, first, second = np.zeros((2, 2)), [[0, 2.4]] * 2, [[2, 0]] * 2
    limits = [(first, 4), (second, 3)]
    assert sorted(allocate_bits(cost, limits)) == [0, 1]
    with pytest.raises(ValueError, match="allocate_bits finds one"):
        allocate_greedily(cost, limits)


def test_uniform_is_the_cheapest_single_option_that_fits():
    rng = np.random.default_rng(8)
    for _ in range(200):
        cost, limits = whole_problem(rng)
        layers, options = cost.shape
        choices = [[option] * layers for option in range(options)]
        fitting = [c for c in choices if all(total(use, c) <= budget for use, budget in limits)]
        if not fitting:
            with pytest.raises(ValueError, match=r"with one option for all|no single option"):
                allocate_uniformly(cost, limits)
            continue
        choice = allocate_uniformly(cost, limits).tolist()
        assert choice in fitting
        assert total(cost, choice) == min(total(cost, c) for c in fitting)
        assert total(cost, allocate_bits(cost, limits)) <= total(cost, choice)


def network_problem(seed, limits=2):
    """200 layers × 7 widths, under limits that leave half of what the widest would use."""
    rng = np.random.default_rng(seed)
    bits = np.arange(2, 9)
    uses = [rng.random((200, 1)) * bits * rng.uniform(0.9, 1.1, (200, 7)) for _ in range(limits)]
    cost = rng.random((200, 1)) * 4.0**-bits
    return cost, [(use, use.min(1).sum() + 0.5 * np.ptp(use, axis=1).sum()) for use in uses]


@pytest.mark.parametrize("decades", [1, 2, 3])
def test_two_hundred_layers_are_settled_near_the_bound(decades):
    # Sizes and costs of a network lie over decades; HiGHS takes a second and more for some.
    for seed in range(5):
        cost, limits = decades_problem(seed, decades)
        choice = near_bound.search(Problem.of(cost, limits))
        assert choice is not None
        assert all(total(use, choice) <= budget for use, budget in limits)
        assert total(cost, choice) <= total(cost, allocate_greedily(cost, limits))


def decades_problem(seed, decades):
    """200 layers × 7 widths of which bytes and seconds, and costs, lie over so many decades."""
    rng = np.random.default_rng(seed)
    bits, weights = np.arange(2, 9), 10 ** rng.uniform(6 - decades, 6, (200, 1))
    size = np.round(weights * bits / 8)
    seconds = weights * (0.3 + bits / 8 * rng.uniform(0.5, 1.5, (200, 1))) * 1e-9
    cost = 10 ** rng.uniform(-decades, 0, (200, 1)) * 4.0 ** (2 - bits)
    cost = cost * rng.uniform(0.8, 1.2, (200, 7))
    return cost, [(use, use.min(1).sum() + 0.3 * np.ptp(use, 1).sum()) for use in (size, seconds)]


@pytest.mark.parametrize("problem", [network_problem, decades_problem])
@pytest.mark.parametrize("seed", range(2))
def test_both_ways_agree_on_two_hundred_layers(problem, seed, monkeypatch):
    cost, limits = problem(seed, 2)
    near = allocate_bits(cost, limits)
    monkeypatch.setattr(knapsack, "search", lambda problem: None)
    assert math.isclose(total(cost, near), total(cost, allocate_bits(cost, limits)), rel_tol=1e-11)


@given(
    seed=st.integers(0, 10**6),
    limits=st.integers(0, 5),
    prices=st.lists(st.floats(0, 100), min_size=5, max_size=5),
    below=st.floats(0, 300),
)
def test_whatever_the_prices_every_choice_below_is_listed(seed, limits, prices, below):
    rng = np.random.default_rng(seed)
    shape = (4, 3)
    cost, uses = rng.uniform(0, 100, shape), rng.uniform(0, 10, (limits, *shape))
    leeways = rng.uniform(0, 40, limits)
    wanted = sorted(
        total(cost, choice)
        for choice in every_choice(*shape)
        if total(cost, choice) < below
        and all(total(use, choice) <= most for use, most in zip(uses, leeways, strict=True))
    )
    every = np.ones(shape, dtype=bool)
    totals, trace = near_bound._listed(
        every, below, None, cost, uses, leeways, np.array([prices[:limits], [0.0] * limits])
    )
    np.testing.assert_allclose(sorted(totals), wanted)
    for place, listed in enumerate(totals):
        assert math.isclose(total(cost, trace(place)), listed)


def test_too_long_a_list_is_given_up_and_solved_all_the_same(monkeypatch):
    # Cost and use in proportion: as many choices near the bound as there are sums.
    rng = np.random.default_rng(0)
    use = np.round(10 ** rng.uniform(3, 6, (12, 1))) * np.arange(2, 9)
    cost = use.max() - use
    limits = [(use, use.min(1).sum() + 0.3 * np.ptp(use, 1).sum())] * 2
    monkeypatch.setattr(near_bound, "_LONGEST", 20)
    assert near_bound.search(Problem.of(cost, limits)) is None
    choice = allocate_bits(cost, limits)
    assert total(use, choice) <= limits[0][1]


def test_layers_that_are_all_alike_are_no_trouble():
    # As many equal optima as ways to distribute the widths.
    cost, use = np.tile([9.0, 4.0, 1.0], (200, 1)), np.tile([1, 2, 3], (200, 1))
    # 137 upgrades, each of the first kind (gains 5) before any of the second (gains 3).
    choice = allocate_bits(cost, [("bytes", use, 337), ("seconds", use * 0.1, 40)])
    assert total(cost, choice) == 200 * 9 - 137 * 5


def test_nothing_is_printed_not_even_from_c(capfd, monkeypatch):
    # This problem makes HiGHS print a line of its own, past sys.stdout.
    monkeypatch.setattr(knapsack, "search", lambda problem: None)
    g = np.random.default_rng(0)
    bits, n = np.arange(2, 9), 10 ** g.uniform(3, 6, (200, 1))
    size = np.round(n * bits / 8)
    seconds = n * (0.3 + bits / 8 * g.uniform(0.5, 1.5, (200, 1))) * 1e-9
    seconds *= g.uniform(0.9, 1.1, (200, 7))
    cost = 10 ** g.uniform(-3, 0, (200, 1)) * 4.0 ** (2 - bits)
    cost *= g.uniform(0.8, 1.2, (200, 7))
    uses = (size, seconds)
    allocate_bits(cost, [(u, u.min(1).sum() + 0.3 * np.ptp(u, axis=1).sum()) for u in uses])
    flush = c_flush()
    if flush is not None:
        flush(None)
    assert capfd.readouterr().out == ""


# --- from a choice to widths and bytes ---

TABLE = Sensitivity(
    ("a", "b"), (2, 4, 8), np.zeros((2, 3)), 1.0, np.array([[1, 2, 4], [10, 20, 40]]), 100
)


def test_a_choice_becomes_widths_and_bytes():
    assert widths_of(TABLE, np.array([2, 0])) == {"a": 8, "b": 2}
    assert bytes_of(TABLE, [2, 0]) == 4 + 10 + 100


@pytest.mark.parametrize("choice", [[0], [0, 3], [-1, 0], [0.0, 1.0], [[0, 1]]])
def test_a_choice_that_does_not_belong_to_the_table_is_refused(choice):
    for use in (widths_of, bytes_of):
        with pytest.raises(ValueError, match="2 whole numbers from 0 to 2"):
            use(TABLE, choice)
