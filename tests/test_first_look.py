"""The hook of notebook 00: every slider position against the same thing done in numpy."""

import math
from functools import cache

import numpy as np
import pytest
from safetensors.numpy import load_file

from labkit import choose_qparams, pack, quantize
from labkit.data import load_mnist, verified
from labkit.explorers import first_look
from labkit.explorers.panel import positions
from labkit.explorers.scene import Axis, Cells, Image, Points, Text
from labkit.explorers.svg import render
from labkit.zoo import mnist_mlp

STATES = [first_look.State(**values) for values in positions(first_look.controls())]
EVERY_STATE = pytest.mark.parametrize("state", STATES, ids=lambda s: f"{s.bits}-{s.granularity}")
scene_at = cache(first_look.scene)
WEIGHTS = 784 * 256 + 256 * 128 + 128 * 10
NEURONS = 256 + 128 + 10


def quantized(weight, bits, per_channel):
    """Symmetric quantization written out in numpy, float32 scale as everywhere in the lab."""
    size = np.abs(weight).max(axis=1, keepdims=True) if per_channel else np.abs(weight).max()
    scale = (size.astype(np.float64) / (2 ** (bits - 1) - 1)).astype(np.float32)
    return np.clip(np.rint(weight / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def answers(bits, per_channel):
    """What the network says about the 1000 test digits, in float64 numpy."""
    stored = load_file(verified("mnist_mlp.safetensors"))
    values = load_mnist().test_images.numpy().reshape(1000, 784).astype(np.float64)
    for name in ("fc1", "fc2", "fc3"):
        weight = stored[f"{name}.weight"]
        weight = quantized(weight, bits, per_channel) if bits < 32 else weight
        values = values @ weight.T.astype(np.float64) + stored[f"{name}.bias"]
        values = np.maximum(values, 0) if name != "fc3" else values
    return values.argmax(axis=1)


def test_every_position_is_swept():
    assert len(STATES) == 8 * 2


@EVERY_STATE
def test_the_accuracy_is_that_of_numpy_with_its_wilson_interval(state):
    scene = scene_at(state)
    expected = answers(state.bits, state.granularity == "channel")
    measured = first_look.measure(state.bits, state.granularity)
    assert measured.answers == tuple(expected)
    p = (expected == load_mnist().test_labels.numpy()).mean()
    assert scene.readout("digits read correctly").value == f"{100 * p:.1f}"
    # The interval's ends are where the score test just fails: |p - q| = z sqrt(q (1 - q) / n).
    for q in (measured.accuracy.low, measured.accuracy.high):
        assert abs(p - q) == pytest.approx(1.959964 * math.sqrt(q * (1 - q) / 1000), rel=1e-4)
    low, high = scene.readout("95 % interval, n = 1000").value.split(" – ")
    assert float(low) == pytest.approx(100 * measured.accuracy.low, abs=0.051)
    assert float(high) == pytest.approx(100 * measured.accuracy.high, abs=0.051)


@EVERY_STATE
def test_every_byte_is_counted(state):
    scene = scene_at(state)
    scales = NEURONS if state.granularity == "channel" else 3
    expected = WEIGHTS * 4 if state.bits == 32 else WEIGHTS * state.bits // 8 + scales * 4
    expected += NEURONS * 4
    assert scene.readout("size").value == expected
    ratio = (WEIGHTS + NEURONS) * 4 / expected
    assert float(scene.readout("compression").value) == pytest.approx(ratio, abs=0.005)
    # The line of arithmetic says the same number as it computes.
    total, sum_ = scene.formulas[0].split(" bytes = ")
    for word in ("weights", "codes", "bits", "scales", "biases", ","):
        sum_ = sum_.replace(word, "")
    assert eval(sum_.replace("×", "*").replace("÷", "/")) == expected == int(total.replace(",", ""))


@EVERY_STATE
def test_the_wall_shows_what_the_network_says(state):
    scene = scene_at(state)
    said = first_look.measure(state.bits, state.granularity).answers
    labels = load_mnist().test_labels.tolist()
    images = load_mnist().test_images[:, 0].numpy()
    place = {image.tobytes(): index for index, image in enumerate(images)}
    pictures = list(scene.marks(Image))
    assert len(pictures) == 60
    shown = {
        (int(x), int(y)): (label, role)
        for cells in scene.marks(Cells)
        if cells.labels
        for x, y, label, role in zip(cells.x, cells.y, cells.labels, cells.roles, strict=True)
    }
    assert len(shown) == 60
    right = 0
    for picture in pictures:
        index = place[np.array(picture.pixels, np.float32).tobytes()]
        column, row = int(picture.x0), int(picture.y0)
        assert labels[index] == column
        is_right = said[index] == labels[index]
        right += is_right
        expected = (str(said[index]), "good") if is_right else (f"✗ {said[index]}", "bad")
        assert shown[column, row] == expected
    assert f"{right} of these 60" in scene.rows[0][0].title


@EVERY_STATE
def test_the_curve_marks_the_chosen_point_and_axes_stay(state):
    scene = scene_at(state)
    curve, axes = scene.rows[0][1], scene_at(STATES[0]).rows[0][1]
    now = [mark for mark in curve.marks if isinstance(mark, Points)][-1]
    assert now.y[0] == 100 * first_look.measure(state.bits, state.granularity).accuracy.value
    assert now.role == ("float" if state.bits == 32 else "quantized")
    assert now.x[0] == (state.bits if state.bits < 32 else curve.x.ticks[-1])
    assert (curve.x, curve.y) == (axes.x, axes.y)
    assert isinstance(curve.y, Axis)
    assert render(scene).startswith("<svg")


@EVERY_STATE
def test_the_curve_gives_nothing_away(state):
    curve = scene_at(state).rows[0][1]
    reached = [bits for bits in first_look.WIDTHS if bits >= state.bits]
    drawn = [tuple(mark.x) for mark in curve.marks if isinstance(mark, Points) and len(mark.tips)]
    # The float network is always there; the other way only after switching to it.
    curves = 1 if state.granularity == "tensor" else 2
    assert drawn == [tuple(reached)] * (curves if reached else 0) + [(curve.x.ticks[-1],)]
    names = [mark.text for mark in curve.marks if isinstance(mark, Text)]
    wanted = ["one scale per layer", "one scale per neuron"][:curves]
    assert names == (wanted if state.bits == 2 else [])


def test_what_the_notebook_says():
    accuracy = {
        (bits, name): first_look.measure(bits, name).accuracy.value
        for bits in (*first_look.WIDTHS, 32)
        for name in first_look.GRANULARITIES
    }
    assert accuracy[32, "tensor"] == 0.934
    # Down to 3 bits nothing that 1000 digits resolve; at 2 bits most of it is gone.
    low = first_look.measure(32).accuracy.low
    assert all(value > low for (bits, _), value in accuracy.items() if bits >= 3)
    assert round(accuracy[2, "tensor"], 2) == 0.16
    assert round(accuracy[2, "channel"], 2) == 0.68
    assert first_look.measure(2).nbytes < first_look.measure(2, "channel").nbytes
    said = first_look.measure(2).answers
    assert max(range(10), key=said.count) == 5
    assert said.count(5) > 600


def test_the_bytes_are_those_of_really_packed_codes():
    net = mnist_mlp()
    packed = 0
    for layer in (net.fc1, net.fc2, net.fc3):
        qparams = choose_qparams(layer.weight, bits=3, symmetric=True, signed=True)
        packed += pack(quantize(layer.weight, qparams), 3).nbytes
        packed += qparams.scale.nbytes + layer.bias.nbytes
    assert first_look.measure(3).nbytes == packed


def test_a_wrong_granularity_is_named():
    with pytest.raises(ValueError, match=r"'group'.*tensor, channel"):
        first_look.measure(4, "group")
