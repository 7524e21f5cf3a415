"""The bit-budget game at every position: bytes, budget, score, and what the solver shows when."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from labkit.explorers import bit_budget
from labkit.explorers.bit_budget import (
    BUDGETS,
    State,
    controls,
    explorer,
    front,
    scene,
    score,
    solver,
    uniform,
)
from labkit.explorers.bit_choices import LAYERS, WIDTHS, Read, bytes_of, measured, read
from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Bars, Cells, Points

EVERY = list(product(WIDTHS, repeat=len(LAYERS)))


def added_up(widths):
    table = measured().loss
    return sum(table[i, WIDTHS.index(width)] for i, width in enumerate(widths))


@pytest.fixture(scope="module")
def ends():
    """A game with the ends of each slider only: 2 ** 5 networks, really measured."""
    made = controls()
    for name in LAYERS:
        made[name].options = [("2", 2), ("8", 8)]
    return list(sweep(scene, State(), made))


def test_every_end_of_every_slider_shows_what_was_measured(ends):
    height = picture_height(scene(State()))
    for state, picture in ends:
        # The page must not jump under the slider.
        assert picture_height(picture) == height
        widths = tuple(getattr(state, name) for name in LAYERS)
        spent = bytes_of(widths)
        assert picture.readout("spent").value == f"{spent:,}"
        assert picture.readout("practice images").value == f"{sum(read(widths).right) / 5:.1f}"
        over = spent > state.budget
        label, other = ("too many", "left") if over else ("left", "too many")
        assert picture.readout(label).value == f"{abs(state.budget - spent):,}"
        assert other not in [readout.label for readout in picture.readouts]
        boxes = list(picture.marks(Cells))
        assert sum(box.width for box in boxes) == spent
        bars = [bar.heights[0] for bar in picture.marks(Bars)]
        assert bars == list(widths)


def test_nothing_of_the_solver_or_the_test_images_shows_before_it_is_asked(ends):
    for state, picture in ends:
        labels = [mark.label for mark in picture.marks(Points)]
        shown = picture.readout("test images").value
        assert (shown == "?") == (not state.ask)
        assert ("solver" in labels) == state.ask
        dots = next(mark for mark in picture.marks(Points) if mark.label == "front")
        assert bool(dots.tips) == state.ask
        if state.ask:
            right = sum(read(state.widths, "test").right)
            assert shown == f"{right / 10:.1f}"


def test_between_the_ends_the_pictures_hold_too(monkeypatch):
    def more_bits_read_more(widths, images="practice"):
        return Read((True,) * sum(widths) + (False,) * (40 - sum(widths)))

    monkeypatch.setattr(bit_budget, "read", more_bits_read_more)
    # 5 ** 5 = 3125 positions of the sliders; 9 has no divisor in common with 5, so every width of
    # every layer comes in turn.
    for widths in EVERY[::9]:
        picture = scene(replace(State(ask=True), **dict(zip(LAYERS, widths, strict=True))))
        assert picture.readout("practice images").value == f"{sum(widths) / 0.4:.1f}"
        assert sum(box.width for box in picture.marks(Cells)) == bytes_of(widths)
        field = picture.rows[1][0]
        (you,) = (m for m in field.marks if getattr(m, "label", "") == "you")
        assert field.x.low < you.x[0] <= field.x.high
        assert field.y.low <= you.y[0] <= field.y.high


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_solver_is_the_best_of_all_3125(budget):
    fitting = [widths for widths in EVERY if bytes_of(widths) <= budget]
    assert solver(budget) in fitting
    assert added_up(solver(budget)) == pytest.approx(min(map(added_up, fitting)), abs=1e-9)
    same = [widths for widths in fitting if len(set(widths)) == 1]
    assert uniform(budget) == min(same, key=added_up)


def test_the_front_is_what_no_choice_beats():
    points = np.array([(bytes_of(widths), added_up(widths)) for widths in EVERY])
    drawn = np.array([(bytes_of(widths), added_up(widths)) for widths in front()])
    for nbytes, loss in drawn:
        better = (points[:, 0] <= nbytes) & (points[:, 1] < loss - 1e-12)
        assert not better.any()
    # Complete: every other choice is at least matched by a point of it.
    for nbytes, loss in points[::11]:
        assert ((drawn[:, 0] <= nbytes) & (drawn[:, 1] <= loss + 1e-12)).any()


def test_the_score_is_a_share_of_the_way_from_uniform_to_the_solver():
    for budget in BUDGETS:
        assert score(solver(budget), budget) == 100
        assert score(uniform(budget), budget) == 0
        least, most = (sum(read(way(budget), "test").right) for way in (uniform, solver))
        # The scale means something only where the solver is clearly better.
        assert most - least > 100
        mine = (3, 3, 3, 2, 2)
        share = (sum(read(mine, "test").right) - least) / (most - least)
        assert score(mine, budget) == round(100 * share)
    assert score((8, 8, 8, 8, 8), 10_000) == 0


def test_what_the_notebook_says():
    for widths, practice, test in (
        ((2, 2, 2, 2, 2), 61.8, 59.6),
        ((2, 2, 2, 2, 3), 90.4, 88.7),
        ((3, 3, 3, 2, 3), 96.2, 94.6),
        ((3, 3, 3, 2, 2), 75.2, 73.6),
        ((2, 2, 3, 2, 2), 37.6, 37.5),
    ):
        assert read(widths).percent == pytest.approx(practice, abs=0.3)
        assert read(widths, "test").percent == pytest.approx(test, abs=0.3)
    assert score((3, 3, 3, 2, 3), 10_000) == pytest.approx(108, abs=2)
    fitting = [widths for widths in front() if bytes_of(widths) <= 10_000]
    best = max(fitting, key=lambda widths: read(widths).percent)
    won = read(best, "test").against(read(solver(10_000), "test"))
    assert won.resolved and won.difference == pytest.approx(0.016, abs=0.004)
    # Two practice images decide between the best two of the front, and decide wrongly.
    assert (3, 3, 3, 2, 3) in front()
    assert not read(best).against(read((3, 3, 3, 2, 3))).resolved
    assert read(best, "test").percent < read((3, 3, 3, 2, 3), "test").percent


def test_it_is_a_panel():
    panel = explorer(fc=3)
    assert isinstance(panel, Panel)
    panel.set(ask=True)
    assert not panel.error
