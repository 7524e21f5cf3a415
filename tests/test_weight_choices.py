"""Accuracy of the network in few bits: every position, against a quantizer of the test's own."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from labkit.data import load_mnist
from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Bars, Line, Points
from labkit.explorers.weight_choices import (
    GRANULARITIES,
    GROUP,
    LAYERS,
    State,
    controls,
    explorer,
    in_float,
    measure,
    scene,
)
from labkit.zoo import mnist_mlp

SHAPES = {"fc1": (256, 784), "fc2": (128, 256), "fc3": (10, 128)}


def counted(bits, granularity, layers, zero_point):
    """Bytes: codes, float32 scales, packed zero points, float32 biases, layers left in float."""
    total = 0
    for name, (rows, columns) in SHAPES.items():
        total += 4 * rows
        if layers not in ("all", name):
            total += 4 * rows * columns
            continue
        scales = {"tensor": 1, "channel": rows, "group": rows * columns // GROUP}[granularity]
        total += math.ceil(rows * columns * bits / 8) + 4 * scales
        total += math.ceil(scales * bits / 8) if zero_point else 0
    return total


def by_hand(bits, granularity, layers, zero_point):
    """How many of the 1000 digits a numpy network with numpy's own rounding reads correctly."""
    mnist, model = load_mnist(), mnist_mlp()
    x = mnist.test_images.flatten(1).double().numpy()
    for name, (rows, _) in SHAPES.items():
        layer = getattr(model, name)
        w = layer.weight.detach().double().numpy()
        if layers in ("all", name):
            shape = {"tensor": (1, -1), "channel": (rows, -1), "group": (-1, GROUP)}[granularity]
            parts = w.reshape(shape)
            if zero_point:
                low = np.minimum(parts.min(1, keepdims=True), 0)
                high = np.maximum(parts.max(1, keepdims=True), 0)
                s = (high - low) / (2**bits - 1)
                z = np.rint(-low / s)
                s = s.astype(np.float32).astype(float)
                kept = (np.clip(np.rint(parts / s) + z, 0, 2**bits - 1) - z) * s
            else:
                top = 2 ** (bits - 1) - 1
                s = np.abs(parts).max(1, keepdims=True) / top
                s = s.astype(np.float32).astype(float)
                kept = np.clip(np.rint(parts / s), -top, top) * s
            w = kept.reshape(w.shape)
        x = x @ w.T + layer.bias.detach().double().numpy()
        x = x if name == "fc3" else np.maximum(x, 0)
    return int((x.argmax(1) == mnist.test_labels.numpy()).sum())


def test_every_position_shows_what_was_measured():
    height = picture_height(scene(State()))
    for state, picture in sweep(scene, State(), controls()):
        # The page must not jump under the slider.
        assert picture_height(picture) == height
        now = measure(state.bits, state.granularity, state.layers, state.zero_point)
        expected = counted(state.bits, state.granularity, state.layers, state.zero_point)
        assert now.nbytes == expected
        assert picture.readout("file").value == f"{expected / 1000:.1f}"
        assert picture.readout("accuracy").value == f"{100 * now.accuracy.correct / 1000:.1f}"
        dot = next(p for p in picture.marks(Points) if p.role == "quantized")
        assert dot.x == (state.bits,) and dot.y == (100 * now.accuracy.value,)
        change = (now.accuracy.correct - in_float().accuracy.correct) / 10
        said = picture.formulas[1].removeprefix("against float: ").split()[0]
        assert float(said) == pytest.approx(change, abs=1e-9)
        heights = [bar.heights[0] for bar in picture.marks(Bars)]
        alone = [
            measure(state.bits, state.granularity, scope, state.zero_point).percent
            for scope in (*LAYERS, "all")
        ]
        assert heights == alone
        # Its interval is Wilson's, drawn through the dot.
        ends = binomtest(now.accuracy.correct, 1000).proportion_ci(method="wilson")
        drawn = [line.y for line in picture.marks(Line) if line.x == (state.bits,) * 2]
        assert drawn[0] == pytest.approx((100 * ends.low, 100 * ends.high))


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("zero_point", [False, True])
def test_the_accuracy_is_that_of_numpy(bits, granularity, zero_point):
    for layers in ("all", "fc2"):
        found = measure(bits, granularity, layers, zero_point).accuracy.correct
        # A weight exactly between two codes may fall the other way.
        assert abs(found - by_hand(bits, granularity, layers, zero_point)) <= 2


def test_what_the_notebook_says():
    assert measure(2, "tensor").percent == pytest.approx(15.9, abs=0.3)
    assert measure(2, "channel").percent == pytest.approx(67.9, abs=0.3)
    assert measure(2, "group").percent == pytest.approx(92.3, abs=0.3)
    assert measure(2, "tensor", zero_point=True).percent == pytest.approx(80.2, abs=0.3)
    assert measure(2, "channel", zero_point=True).percent == pytest.approx(92.6, abs=0.3)
    assert in_float().accuracy.correct == pytest.approx(934, abs=2)
    # From 4 bits on no granularity can be told from float: the intervals hold its accuracy.
    for bits in range(4, 9):
        for granularity in GRANULARITIES:
            now = measure(bits, granularity).accuracy
            assert now.low < in_float().accuracy.value < now.high
    alone = {name: measure(2, "tensor", name).percent for name in LAYERS}
    assert alone["fc1"] < alone["fc2"] < alone["fc3"]
    # Groups of 16 at 2 bits take as much as 4 bits per channel: 2 + 32/16.
    assert measure(2, "group").bits_per_weight == 4.0
    assert measure(4, "channel").bits_per_weight < 4.06


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'row'"):
        measure(4, "row")
    with pytest.raises(ValueError, match="'fc4'"):
        measure(4, "tensor", "fc4")


def test_it_is_a_panel():
    assert isinstance(explorer(bits=3), Panel)
