"""Exact and greedy at every budget: sums and answers by the test's own count."""

from itertools import pairwise, product

import pytest

from labkit.explorers.bit_choices import LAYERS, WIDTHS, bytes_of, measured, read
from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.front import (
    BUDGETS,
    State,
    controls,
    explorer,
    greedy,
    predicted_loss,
    scene,
    solver,
)
from labkit.explorers.panel import Panel
from labkit.explorers.scene import Cells, Steps


def test_the_control_offers_every_budget():
    slider = controls()["budget"]
    assert tuple(range(slider.min, slider.max + 1, slider.step)) == tuple(BUDGETS)


def test_every_budget_is_kept_and_exact_is_the_least_of_all():
    table = measured().loss
    every = [
        (bytes_of(widths), sum(table[i, WIDTHS.index(w)] for i, w in enumerate(widths)))
        for widths in product(WIDTHS, repeat=len(LAYERS))
    ]
    for budget in BUDGETS:
        least = min(loss for nbytes, loss in every if nbytes <= budget)
        assert bytes_of(solver(budget)) <= budget and bytes_of(greedy(budget)) <= budget
        assert predicted_loss(solver(budget)) == pytest.approx(least, abs=1e-9)
        assert predicted_loss(greedy(budget)) >= least - 1e-9


def test_every_position_shows_both_choices():
    height = picture_height(scene(State()))
    for budget in BUDGETS:
        picture = scene(State(budget))
        # The page must not jump under the slider.
        assert picture_height(picture) == height
        for name, widths in (("exact", solver(budget)), ("greedy", greedy(budget))):
            assert picture.readout(f"sum, {name}").value == f"{predicted_loss(widths):.3f}"
            right = sum(read(widths, "test").right)
            assert picture.readout(f"{name}, test").value == f"{right / 10:.1f}"
        shown = [
            place
            for mark in picture.marks(Cells)
            for place in zip(mark.y, mark.x, mark.labels, strict=True)
        ]
        for y, widths in ((1.0, solver(budget)), (0.0, greedy(budget))):
            row = [label for at, _, label in sorted(shown) if at == y]
            assert row == [f"{width} bits" for width in widths]


def test_the_front_falls_and_greedy_never_lies_below_it():
    stairs = {mark.label: mark for mark in scene(State()).marks(Steps)}
    heights = stairs["exact"].heights
    assert all(after < before for before, after in pairwise(heights))
    for budget, loss in zip(BUDGETS, stairs["greedy"].heights, strict=True):
        below = sum(edge <= budget for edge in stairs["exact"].edges[:-1])
        assert loss >= heights[below - 1] - 1e-9


def test_what_the_notebook_says():
    for budget, exact, other in ((9_700, 85.7, 76.9), (10_600, 95.8, 92.8), (9_000, 37.5, 76.8)):
        assert read(solver(budget), "test").percent == pytest.approx(exact, abs=0.3)
        assert read(greedy(budget), "test").percent == pytest.approx(other, abs=0.3)
        assert read(solver(budget), "test").against(read(greedy(budget), "test")).resolved
    assert 10_600 - bytes_of(greedy(10_600)) == 524
    assert bytes_of((3, 3, 3, 3, 3)) == 12_044


def test_it_is_a_panel():
    assert isinstance(explorer(budget=9_700), Panel)
