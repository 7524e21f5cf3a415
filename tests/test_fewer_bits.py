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
    before, shown, stored, after, error = (mark.labels for mark in scene.marks(Cells))
    for i in range(8):
        code, value = int(codes[0, i]), weights[0, i]
        assert number(shown[i]) == code
        assert number(before[i]) == pytest.approx(value, abs=5.1e-5)
        # Two's complement: the first bit counts -2^(b-1).
        first, rest = stored[i][0], stored[i][1:]
        assert len(stored[i]) == bits
        assert int(rest, 2) - half * int(first) == code
        assert number(after[i]) == pytest.approx(code * step, abs=5.1e-5)
        assert number(error[i]) == pytest.approx(value - code * step, abs=5.1e-5)
        assert not error[i].startswith("−0.0000")
    left = scene.readout("different numbers left")
    assert (left.value, left.unit) == (len(np.unique(codes[0, :8])), "of 8")
    assert scene.readout("step of the grid").value == pytest.approx(step)
    largest = np.abs(weights[0, :8] - codes[0, :8] * step).max()
    assert scene.readout("largest error here").value == pytest.approx(largest, rel=1e-4)
    assert largest <= step / 2 * (1 + 1e-6)
    # From minus the largest weight to the largest; no weight has the lowest code.
    assert codes.min() > -half
    low, high = scene.readout("levels in use").value.split(" to ")
    assert number(high) == -number(low) == round(float(np.abs(weights).max()), 2)
    # The line below the table: the bits of the first negative code, read as a sum.
    pattern, sum_ = scene.formulas[0].split(": ")[1].split(" is ")
    unsigned, whole = sum_.split(" = ")[0].split(" − ")
    code = next(code for code in codes[0, :8] if code < 0)
    assert int(pattern, 2) == int(unsigned)
    assert int(whole) == 2**bits == 2 * half
    assert int(unsigned) - int(whole) == number(sum_.split(" = ")[1]) == code


@pytest.mark.parametrize("bits", BITS)
def test_every_weight_lands_on_the_nearest_level(bits):
    scene = scene_at(bits, "numbers")
    levels = np.array(next(scene.marks(Stems)).x)
    before, after = (np.array(mark.x) for mark in scene.marks(Points))
    assert len(levels) == 2**bits - 1
    nearest = levels[np.abs(levels[None] - before[:, None]).argmin(axis=1)]
    assert after == pytest.approx(nearest, abs=1e-7)


@pytest.mark.parametrize("bits", BITS)
def test_the_photograph_has_few_gray_levels_and_all_bytes(bits):
    scene = scene_at(bits, "photo")
    before, after = (np.array(mark.pixels) for mark in scene.marks(Image))
    assert before.shape == after.shape == (150, 128)
    assert 0 <= before.min() < 0.05
    assert before.max() > 0.9
    assert len(np.unique(after)) <= 2**bits == scene.readout("gray levels").value
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
    left = [scene_at(bits, "numbers").readout("different numbers left").value for bits in BITS]
    assert left == [3, 5, 7, 7, 7, 7, 7]
    at_8 = scene_at(8, "numbers")
    before, codes = (mark.labels for mark in list(at_8.marks(Cells))[:2])
    assert (before[0], before[2]) == ("0.0773", "0.0777")
    assert codes[0] == codes[2] == "45"
    assert at_8.formulas[0].endswith("11111101 is 253 − 256 = −3")


def test_a_wrong_subject_is_named():
    with pytest.raises(ValueError, match=r"'film'.*numbers, photo"):
        fewer_bits.scene(fewer_bits.State(subject="film"))
