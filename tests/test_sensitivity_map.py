"""The two maps at every position: numbers of torch's own, ranks of scipy's."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from labkit.explorers.bit_choices import IN_FLOAT, LAYERS, WIDTHS, measured, only, predicted, read
from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Image, Points
from labkit.explorers.sensitivity_map import (
    QUALITIES,
    State,
    agreement,
    controls,
    damage,
    explorer,
    scene,
)


def test_points_are_images_that_are_no_longer_read():
    for i, name in enumerate(LAYERS):
        for j, width in enumerate(WIDTHS):
            lost = sum(read(IN_FLOAT).right) - sum(read(only(name, width)).right)
            assert damage("points")[i, j] == pytest.approx(lost / 5)
    assert (damage("loss") == measured().loss).all()


def test_every_position_shows_both_maps():
    heights = set()
    for state, picture in sweep(scene, State(), controls()):
        heights.add(picture_height(picture))
        column = WIDTHS.index(state.bits)
        for image, table in zip(
            picture.marks(Image), (damage(state.quality), predicted().loss), strict=True
        ):
            pixels = np.array(image.pixels)
            assert pixels.shape == (5, 5) and pixels.max() == 1 and pixels.min() >= 0
            assert pixels == pytest.approx(np.sqrt(np.clip(table / table.max(), 0, None)))
        marked = {p.label: p.x[0] for p in picture.marks(Points) if p.label}
        expected = dict(zip(LAYERS, predicted().loss[:, column], strict=True))
        assert marked == pytest.approx(expected)
        for plot in picture.rows[1]:
            for mark in plot.marks:
                if isinstance(mark, Points):
                    assert all(plot.y.low <= y <= plot.y.high for y in mark.y)
        seen = damage(state.quality)[:, column]
        said = picture.readout("in this column").value
        if np.ptp(seen) == 0:
            assert said == "no order"
        else:
            expected = spearmanr(seen, predicted().loss[:, column]).statistic
            assert float(said.replace("−", "-")) == pytest.approx(expected, abs=0.051)
            worst = LAYERS[int(seen.argmax())]
            assert picture.readout("worst, measured").value == worst
    # The page must not jump under the slider.
    assert len(heights) == 1


def test_the_correlation_of_the_whole_map_is_scipys():
    for quality in QUALITIES:
        expected = spearmanr(damage(quality).ravel(), predicted().loss.ravel()).statistic
        assert agreement(quality) == pytest.approx(expected)


def test_what_the_notebook_says():
    assert (damage("points")[:, 1:] == 0).all()
    assert agreement("loss") == pytest.approx(0.91, abs=0.03)
    assert agreement("loss", 2) < 0.2
    assert agreement("loss", 3) > 0.5 and agreement("loss", 4) > 0.5
    assert LAYERS[int(damage("loss")[:, 0].argmax())] == "fc"
    assert LAYERS[int(predicted().loss[:, 0].argmax())] == "conv1"


def test_another_quality_is_refused():
    with pytest.raises(ValueError, match="'speed'"):
        damage("speed")


def test_it_is_a_panel():
    assert isinstance(explorer(bits=3), Panel)
