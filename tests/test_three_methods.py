"""Sizes and qualities at every slider position; times are drawn, and compared with nothing."""

import pytest
import torch

from labkit.data import load_mnist
from labkit.explorers import three_methods
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Bars
from labkit.explorers.three_methods import (
    METHODS,
    NAMES,
    State,
    controls,
    explorer,
    method,
    scene,
    timed_as,
)
from labkit.latency import Latency, LatencyReport
from labkit.zoo import mnist_mlp


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Times of no machine: twice as fast as float, and one far beyond the axis."""
    names = ("float", "static", "dynamic", *(f"weight_only {bits}" for bits in (2, 4, 8)))
    ratios = dict.fromkeys(names, 0.5) | {"float": 1.0, "dynamic": 40.0}
    rows = tuple(Latency(n, r * 5e-5, 0, 1, r, r, r) for n, r in ratios.items())
    monkeypatch.setattr(three_methods, "times", lambda batch: LatencyReport(rows, False, 9, 1, 0.0))


def counted(bits):
    """Bytes of packed codes, scales and biases of the weight-only network, layer by layer."""
    shapes = ((256, 784), (128, 256), (10, 128))
    return sum(-(-out * into * bits // 8) + 4 * out + 4 * out for out, into in shapes)


def test_every_position_counts_the_bytes():
    for state, picture in sweep(scene, State(), controls()):
        weight_only = counted(state.bits)
        # Static stores a scale and a zero point for the input of each of three layers.
        expected = {"weight-only": weight_only, "dynamic": weight_only, "static": weight_only + 24}
        for words, nbytes in expected.items():
            assert picture.readout(words).value == f"{nbytes:,}"
        assert picture.readout("float").value == "940,584"


def test_every_position_draws_three_plots_inside_their_axes():
    for _, picture in sweep(scene, State(), controls()):
        (row,) = picture.rows
        assert len(row) == 3
        for plot in row:
            for bars in (mark for mark in plot.marks if isinstance(mark, Bars)):
                assert all(0 <= height <= plot.y.high for height in bars.heights)


def test_no_time_is_a_readout():
    for _, picture in sweep(scene, State(), controls()):
        assert all("µs" not in readout.words() for readout in picture.readouts)
        assert all("µs" not in line for line in picture.formulas)


def test_the_float_quality_is_torchs():
    mnist = load_mnist()
    with torch.no_grad():
        right = (mnist_mlp()(mnist.test_images).argmax(1) == mnist.test_labels).sum()
    assert method("float", 8).quality.correct == int(right)


def test_two_bits_fall_alike_and_eight_do_not():
    for name in METHODS:
        assert method(name, 8).quality.value == pytest.approx(0.934, abs=0.005)
        assert method(name, 2).quality.value == pytest.approx(0.68, abs=0.03)


@pytest.mark.parametrize(
    ("bits", "stored"), [(2, 2), (3, 4), (4, 4), (5, 8), (6, 8), (7, 8), (8, 8)]
)
def test_a_weight_only_layer_is_timed_in_the_width_that_stores_it(bits, stored):
    assert timed_as("weight_only", bits) == f"weight_only {stored}"
    assert [timed_as(name, bits) for name in NAMES if name != "weight_only"] == [
        "float",
        "dynamic",
        "static",
    ]


def test_the_panel_moves():
    panel = explorer(bits=4)
    panel.set(bits=2, batch=32)
    assert not panel.error
    assert panel.scene.readout("static").value == f"{counted(2) + 24:,}"


def test_what_is_timed_are_the_engines_of_the_same_network():
    x = load_mnist().test_images[:50]
    with torch.no_grad():
        float_scores = mnist_mlp()(x)
    for name, engine in three_methods._engines().items():
        agree = (engine(x).argmax(1) == float_scores.argmax(1)).double().mean()
        assert agree >= (0.5 if name.endswith(" 2") else 0.95), name
