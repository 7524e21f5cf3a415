"""The two analogies of notebook 00 at every slider position."""

from functools import cache

import numpy as np
import pytest

from labkit.explorers import fewer_bits
from labkit.explorers.panel import positions
from labkit.explorers.scene import Cells, Image, Points, Stems, Steps
from labkit.explorers.svg import render

BITS = range(2, 9)
scene_at = cache(lambda bits, subject: fewer_bits.scene(fewer_bits.State(bits, subject)))


def number(text):
    return float(text.replace("−", "-"))


def test_every_position_is_swept():
    found = {(at["bits"], at["subject"]) for at in positions(fewer_bits.controls())}
    assert found == {(bits, subject) for bits in BITS for subject in ("numbers", "photo")}


@pytest.mark.parametrize("bits", BITS)
def test_the_table_is_true(bits):
    scene = scene_at(bits, "numbers")
    weights = fewer_bits.weights().double().numpy()
    half = 2 ** (bits - 1)
    step = np.abs(weights).max() / (half - 1)
    codes = np.rint(weights / step)
    before, stored, after, error = (mark.labels for mark in scene.marks(Cells))
    for i in range(8):
        code, value = int(codes[0, i]), weights[0, i]
        assert number(before[i]) == pytest.approx(value, abs=5.1e-5)
        # Two's complement: the first bit counts -2^(b-1).
        first, rest = stored[i][0], stored[i][1:]
        assert len(stored[i]) == bits
        assert int(rest, 2) - half * int(first) == code
        assert number(after[i]) == pytest.approx(code * step, abs=5.1e-5)
        assert number(error[i]) == pytest.approx(value - code * step, abs=5.1e-5)
        assert not error[i].startswith("−0.0000")
    assert scene.readout("different weights left").value == len(np.unique(codes))
    assert scene.readout("step of the grid").value == pytest.approx(step)
    largest = np.abs(weights[0, :8] - codes[0, :8] * step).max()
    assert scene.readout("largest error here").value == pytest.approx(largest, rel=1e-4)
    assert largest <= step / 2 * (1 + 1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_every_weight_lands_on_the_nearest_level(bits):
    scene = scene_at(bits, "numbers")
    levels = np.array(next(scene.marks(Stems)).x)
    before, after = (np.array(mark.x) for mark in scene.marks(Points))
    assert len(levels) == 2**bits
    nearest = levels[np.abs(levels[None] - before[:, None]).argmin(axis=1)]
    assert after == pytest.approx(nearest, abs=1e-7)


@pytest.mark.parametrize("bits", BITS)
def test_the_photograph_has_few_grey_levels_and_all_bytes(bits):
    scene = scene_at(bits, "photo")
    before, after = (np.array(mark.pixels) for mark in scene.marks(Image))
    assert before.shape == after.shape == (150, 128)
    assert 0 <= before.min() < 0.05
    assert before.max() > 0.9
    assert len(np.unique(after)) <= 2**bits == scene.readout("grey levels").value
    step = before.max() / (2**bits - 1)
    assert np.abs(before - after).max() <= step / 2 * (1 + 1e-5)
    assert scene.readout("size").value == 150 * 128 * bits // 8
    assert scene.readout("as 32-bit floats").value == 150 * 128 * 4
    assert float(scene.readout("compression").value) == pytest.approx(32 / bits, abs=0.005)
    curve = next(scene.marks(Steps))
    assert any(np.array_equal(np.array(curve.heights), row) for row in after)


@pytest.mark.parametrize("subject", fewer_bits.SUBJECTS)
def test_axes_stay_fixed_and_hold_the_data(subject):
    scenes = [scene_at(bits, subject) for bits in BITS]
    axes = {tuple((plot.x, plot.y) for row in scene.rows for plot in row) for scene in scenes}
    assert len(axes) == 1
    for scene in scenes:
        assert render(scene).startswith("<svg")
        for plot in (plot for row in scene.rows for plot in row):
            for mark in plot.marks:
                if isinstance(mark, Points):
                    assert plot.x.low < min(mark.x) <= max(mark.x) < plot.x.high


def test_what_the_notebook_says():
    left = {
        bits: scene_at(bits, "numbers").readout("different weights left").value for bits in BITS
    }
    assert left[2] == 3
    assert left[8] > 150


def test_a_wrong_subject_is_named():
    with pytest.raises(ValueError, match=r"'film'.*numbers, photo"):
        fewer_bits.scene(fewer_bits.State(subject="film"))
