"""Five observers on one layer: every position, by formulas of the test's own."""

import numpy as np
import pytest
import torch

from labkit.explorers import ranges
from labkit.explorers.entering import LAYERS, OBSERVER_WORDS, answers, calibration, later
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Band, Line, Points, Rule


@pytest.fixture(scope="module")
def positions():
    return list(sweep(ranges.scene, ranges.State(), ranges.controls()))


def test_every_position_is_there(positions):
    assert len(positions) == len(LAYERS) * 7 * len(OBSERVER_WORDS)


def levels_of(state):
    qparams = ranges.chosen(state.layer, state.bits, state.observer).qparams
    return torch.arange(2**state.bits) * qparams.scale


def test_range_ends_at_the_last_level_and_zero_is_the_first(positions):
    for state, scene in positions:
        qparams = ranges.chosen(state.layer, state.bits, state.observer).qparams
        assert qparams.zero_point == 0
        end = scene.readout("range ends at").value
        assert end == pytest.approx(levels_of(state)[-1].item(), rel=1e-6)
        (band,) = scene.marks(Band)
        assert (band.low, band.high) == (0, end)


def test_signal_to_noise_is_that_of_the_nearest_level(positions):
    for state, scene in positions:
        if state.layer == "conv4":
            continue
        x, levels = later(state.layer).double(), levels_of(state).double()
        nearest = ((x / levels[1]).round().clamp(0, len(levels) - 1)) * levels[1]
        expected = 10 * torch.log10(x.square().mean() / (nearest - x).square().mean())
        assert scene.readout("signal to noise").value == pytest.approx(expected.item(), abs=0.01)


def test_clipped_values_lie_beyond_the_end(positions):
    for state, scene in positions:
        x = later(state.layer)
        beyond = int((x.double() > scene.readout("range ends at").value).sum())
        assert scene.readout(f"clipped of {x.numel():,}").value == f"{beyond:,}"


def test_min_max_ends_at_the_largest_value_of_calibration(positions):
    for state, scene in positions:
        if state.observer == "minmax":
            largest = calibration(state.layer).max().item()
            assert scene.readout("range ends at").value == pytest.approx(largest)


def test_no_observer_has_a_smaller_error_in_calibration_than_mse(positions):
    lowest = {}
    for state, scene in positions:
        errors = [m.y[0] for m in scene.marks(Points) if m.role == "ink"]
        lowest.setdefault((state.layer, state.bits), {})[state.observer] = errors[0]
    for by_observer in lowest.values():
        # Its histogram lies within a bin of the values.
        assert by_observer["mse"] <= 1.02 * min(by_observer.values())


def test_the_answers_are_shown_with_interval_and_comparison(positions):
    for state, scene in positions:
        right = ranges.chosen(state.layer, state.bits, state.observer).right
        assert scene.readout("test images read right").value == f"{right.sum().item() / 10:.1f} %"
        difference = (right.sum() - answers(state.layer, None).sum()).item() / 10
        assert f"{difference:+.1f} points" in scene.formulas[1]
        assert "resolved" in scene.formulas[1]


def test_one_row_an_observer_the_chosen_one_in_orange(positions):
    for state, scene in positions:
        bars = [mark for mark in scene.marks(Line) if mark.width == 7]
        assert len(bars) == 2 * len(OBSERVER_WORDS)
        row = list(OBSERVER_WORDS).index(state.observer)
        assert [bar.role == "quantized" for bar in bars[:5]] == [i == row for i in range(5)]


def test_the_axes_stand_still(positions):
    for layer in LAYERS:
        axes = {
            (plot.x, plot.y)
            for state, scene in positions
            if state.layer == layer
            for row in scene.rows
            for plot in row
        }
        assert len(axes) == 4


def test_errors_split_by_hand():
    ends, rounding, clipping = ranges.errors("fc2", 2)
    x = calibration("fc2").double()
    at = 20
    step = ends[at] / 3
    back = (x / step).round().clamp(0, 3) * step
    squared, outside = (back - x).square(), x > 3 * np.float32(step)
    assert rounding[at] == pytest.approx((squared * ~outside).mean().item(), rel=1e-4)
    assert clipping[at] == pytest.approx((squared * outside).mean().item(), rel=1e-4)


def test_rules_show_all_five_ends():
    scene = ranges.scene(ranges.State())
    rules = {rule.at for rule in scene.marks(Rule) if rule.axis == "x"}
    ends = {ranges.chosen("fc2", 4, name).end for name in OBSERVER_WORDS}
    assert ends <= rules
