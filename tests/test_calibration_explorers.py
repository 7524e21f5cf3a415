"""A stray value, the number of images, wrong pictures: every position of the three panels."""

import pytest
import torch

from labkit.explorers import preprocessing, sample_count, stray
from labkit.explorers.entering import OBSERVER_WORDS, answers, calibration, later
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Bars, Image, Line, Points


def accuracy(scene):
    return float(scene.readout("test images read right").value.removesuffix(" %"))


@pytest.fixture(scope="module")
def strays():
    return list(sweep(stray.scene, stray.State(), stray.controls()))


def test_a_stray_value_moves_min_max_in_proportion(strays):
    largest = calibration("fc2").max().item()
    for state, scene in strays:
        if state.observer == "minmax":
            expected = state.size * largest
            assert scene.readout("range ends at").value == pytest.approx(expected, rel=1e-5)


def test_a_stray_value_leaves_the_percentile_where_it_was(strays):
    ends = [
        scene.readout("range ends at").value
        for state, scene in strays
        if state.observer == "percentile"
    ]
    assert max(ends) < 1.05 * min(ends)


def test_the_moving_average_goes_a_hundredth_of_the_way():
    largest = calibration("fc2").max().item()
    grown = stray.outcome(100, 8, "moving_average")[0] - stray.outcome(50, 8, "moving_average")[0]
    # Five batches came with or after the stray one; four more pull it back by a hundredth each.
    assert grown == pytest.approx(50 * largest * 0.01 * 0.99**4, rel=1e-3)


def test_codes_in_use_and_lost_values_are_counted_on_the_test_images(strays):
    x = later("fc2")
    for state, scene in strays:
        codes = (x / stray.grid(state.size, state.bits, state.observer).scale).round()
        codes = codes.clamp(max=2**state.bits - 1)
        used = f"{len(codes.unique())} of {2**state.bits}"
        assert scene.readout("codes in use").value == used
        lost = 100 * ((codes == 0) & (x > 0)).sum().item() / (x > 0).sum().item()
        assert scene.readout("of those above 0, lost").value == pytest.approx(lost)


def test_every_stray_picture_has_a_line_for_each_observer_and_a_dot_on_it(strays):
    for state, scene in strays:
        assert len(list(scene.marks(Line))) == 3 * len(OBSERVER_WORDS)
        for dot in scene.marks(Points):
            assert dot.x == (state.size,)
        right = stray.outcome(state.size, state.bits, state.observer)[2]
        assert accuracy(scene) == pytest.approx(100 * right.double().mean().item(), abs=0.051)


def test_the_story_of_the_stray_value():
    # What the notebook says: spare bits, collapse, and an MSE that follows.
    assert stray.outcome(20, 8, "minmax")[2].sum() > 920
    assert stray.outcome(200, 8, "minmax")[2].sum() < 700
    assert stray.outcome(20, 4, "mse")[2].sum() > 900
    assert stray.outcome(50, 4, "mse")[2].sum() < 200
    assert stray.outcome(200, 4, "percentile")[2].sum() > 920


@pytest.fixture(scope="module")
def counts():
    return list(sweep(sample_count.scene, sample_count.State(), sample_count.controls()))


def test_each_draw_is_the_largest_of_its_own_images():
    x = calibration("fc2", 4000)
    found = sample_count.draws("minmax", 8).end
    for draw in range(sample_count.DRAWS):
        order = torch.randperm(4000, generator=torch.Generator().manual_seed(draw))
        for place, count in enumerate(sample_count.COUNTS):
            largest = x[order[:count]].max().item()
            assert found[draw, place] == pytest.approx(largest, rel=1e-6)


def test_readouts_span_the_draws(counts):
    test = later("fc2")
    for state, scene in counts:
        draws = sample_count.draws(state.observer, state.bits)
        at = sample_count.COUNTS.index(state.images)
        low, high = map(float, scene.readout("range ends at").value.split(" … "))
        assert (low, high) == pytest.approx(
            (draws.end[:, at].min(), draws.end[:, at].max()), abs=0.0051
        )
        beyond = [(test > end).sum().item() for end in draws.end[:, at]]
        assert draws.clipped[:, at] == pytest.approx(beyond, abs=1)
        lines = list(scene.marks(Line))
        assert len(lines) == 3 * sample_count.DRAWS


def test_more_images_agree_more():
    spread = {}
    for name in ("percentile", "mse"):
        ends = sample_count.draws(name, 4).end
        spread[name] = ends.max(0) - ends.min(0)
        assert spread[name][-1] < spread[name][0] / 3


def test_accuracy_stays_within_the_interval_of_float_from_one_image_on():
    base = answers("fc2", None).sum().item()
    for name in OBSERVER_WORDS:
        assert abs(sample_count.draws(name, 8).right - base).max() < 15


@pytest.fixture(scope="module")
def pictures():
    controls = preprocessing.controls() | {"bits": preprocessing.bits_slider("bits", 7, 8)}
    return list(sweep(preprocessing.scene, preprocessing.State(), controls))


def test_wrong_scales_are_fatal_and_other_pictures_are_not(pictures):
    for state, scene in pictures:
        if state.kind in ("bytes", "twice"):
            assert accuracy(scene) < 50
        elif state.kind in ("right", "inverted", "noise"):
            assert accuracy(scene) > 92


def test_the_range_grows_with_the_pictures():
    def end(kind):
        return preprocessing.calibrated(kind, 8, "minmax")[0].scale.item()

    # A ReLU network with small biases is nearly proportional to its input.
    assert end("bytes") == pytest.approx(255 * end("right"), rel=0.05)
    assert end("twice") < end("dark") < end("right")


def test_one_bar_a_preparation_and_its_picture(pictures):
    for _, scene in pictures:
        bars = list(scene.marks(Bars))
        assert len(bars) == len(preprocessing.KINDS)
        (chosen,) = [bar for bar in bars if bar.role == "quantized"]
        assert chosen.heights[0] == pytest.approx(accuracy(scene), abs=0.051)
        (image,) = scene.marks(Image)
        assert image.shape == (28, 28)
        assert "resolved" in scene.formulas[1]


def test_blank_pictures_still_calibrate_by_the_biases():
    qparams, right = preprocessing.calibrated("blank", 8, "minmax")
    assert 0 < qparams.scale.item() * 255 < 0.5
    assert 500 < right.sum() < 700
