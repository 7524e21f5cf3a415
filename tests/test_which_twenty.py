"""Twenty percent of a network: same weights for every choice, and the measured ones are better."""

import numpy as np
import pytest
import torch

from labkit.data import load_mnist
from labkit.explorers import real_network, which_twenty
from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.panel import Panel
from labkit.explorers.parts import NEURONS, PRACTICE, network
from labkit.explorers.scene import Bars, Points
from labkit.explorers.which_twenty import (
    DRAWS,
    WAYS,
    State,
    beaten,
    chosen,
    controls,
    damage,
    draws,
    explorer,
    quality,
    scene,
)
from labkit.zoo import mnist_mlp

SHAPES = {"fc1": (256, 784), "fc2": (128, 256), "fc3": (10, 128)}
LAYERS = tuple(SHAPES)


def by_hand(high, images):
    """Scores of a numpy network whose rows have 4 bits where `high` says so, 2 bits elsewhere."""
    model, x = mnist_mlp(), images.flatten(1).double().numpy()
    for name, (rows, _) in SHAPES.items():
        layer = getattr(model, name)
        w = layer.weight.detach().double().numpy()
        top = np.where([f"{name} {row}" in high for row in range(rows)], 7, 1)[:, None]
        s = (np.abs(w).max(1, keepdims=True) / top).astype(np.float32).astype(float)
        w = np.clip(np.rint(w / s), -top, top) * s
        x = x @ w.T + layer.bias.detach().double().numpy()
        x = x if name == "fc3" else np.maximum(x, 0)
    return x


def neurons(parts):
    """Part "fc1 8…15" → "fc1 8", …, "fc1 15"."""
    found = set()
    for part in parts:
        name, span = part.split()
        first, last = map(int, span.split("…"))
        found |= {f"{name} {row}" for row in range(first, last + 1)}
    return found


def test_the_parts_are_the_whole_network():
    parts = network("digits").parts
    assert neurons(parts) == {
        f"{n} {row}" for n, (rows, _) in SHAPES.items() for row in range(rows)
    }
    assert sum(parts.values()) == sum(rows * columns for rows, columns in SHAPES.values())
    assert max(parts.values()) == NEURONS * 784


@pytest.mark.parametrize("way", WAYS)
def test_the_quality_is_that_of_a_network_put_together_by_hand(way):
    mnist = load_mnist()
    parts = chosen("digits", way, 3)
    scores = by_hand(neurons(parts), mnist.test_images)
    right = int((scores.argmax(1) == mnist.test_labels.numpy()).sum())
    assert quality("digits", parts) * 10 == pytest.approx(right, abs=2)


def test_the_damage_is_the_rise_of_the_loss_on_practice_images():
    mnist = load_mnist()
    x, y = mnist.train_images[:PRACTICE], mnist.train_labels[:PRACTICE]
    model = mnist_mlp()

    def loss():
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(x), y).item()

    before = loss()
    rows = model.fc3.weight.data[8:]
    step = rows.abs().amax(1, keepdim=True)
    rows.copy_((rows / step).round() * step)
    at = list(network("digits").parts).index("fc3 8…9")
    assert damage("digits")[at] == pytest.approx(loss() - before, abs=1e-5)


def test_every_choice_has_the_same_weights():
    parts = network("digits").parts
    whole = sum(parts.values())
    drawn = [chosen("digits", "random", n) for n in range(1, DRAWS + 1)]
    for some in (*drawn, chosen("digits", "sensitive"), chosen("digits", "insensitive")):
        share = sum(parts[part] for part in some) / whole
        assert 0.19 < share <= 0.2
    assert len(set(drawn)) == DRAWS


def test_the_sensitive_parts_spare_more_damage_than_any_draw():
    spared = dict(zip(network("digits").parts, damage("digits"), strict=True))
    best = sum(spared[part] for part in chosen("digits", "sensitive"))
    for n in range(1, DRAWS + 1):
        assert best >= sum(spared[part] for part in chosen("digits", "random", n))


def test_every_position_shows_what_was_measured():
    heights = set()
    for way in WAYS:
        for draw in range(1, DRAWS + 1) if way == "random" else [1]:
            state = State(draw, way)
            picture = scene(state)
            heights.add(picture_height(picture))
            parts = chosen("digits", way, draw)
            value = quality("digits", parts)
            assert picture.readout("right answers").value == f"{value:.1f}"
            worse = sum(other < value for other in draws("digits"))
            assert picture.readout("better than random").value == worse == beaten("digits", value)
            bars = {bar.label: bar for bar in picture.marks(Bars)}
            assert len(bars["4 bits"].x) == len(parts)
            assert len(bars["2 bits"].x) == 50 - len(parts)
            dot = next(mark for mark in picture.marks(Points) if mark.label == "this choice")
            assert dot.x == (value,)
            for row in picture.rows:
                for plot in row:
                    for mark in plot.marks:
                        if isinstance(mark, Bars):
                            assert all(0 <= h <= 1 for h in mark.heights)
    # The page must not jump under the slider.
    assert len(heights) == 1


def test_all_draws_are_inside_the_picture():
    net = network("digits")
    assert net.least < min(draws("digits")) and max(draws("digits")) < net.most


def test_what_the_notebook_says():
    found = draws("digits")
    assert min(found) == pytest.approx(67.5, abs=0.3)
    assert max(found) == pytest.approx(91.3, abs=0.3)
    assert np.median(found) == pytest.approx(83.4, abs=0.3)
    assert quality("digits", chosen("digits", "sensitive")) == pytest.approx(89.7, abs=0.3)
    assert quality("digits", chosen("digits", "insensitive")) == pytest.approx(67.3, abs=0.3)
    best = chosen("digits", "sensitive")
    counts = [sum(part.startswith(name) for part in best) for name in LAYERS]
    assert counts[2] == 2 and counts[1] >= 15 and counts[0] <= 3


def test_mobilenet_at_the_widths_of_example_two():
    if not real_network.is_here():
        pytest.skip("MobileNetV2 is not installed: `python lab.py models`")
    net = network("mobilenet")
    assert (net.high, net.low, len(net.parts)) == (8, 4, 52)
    with torch.no_grad():
        assert net.quality({}) == pytest.approx(1)
    best = quality("mobilenet", chosen("mobilenet", "sensitive"))
    some = [quality("mobilenet", chosen("mobilenet", "random", n)) for n in range(1, 9)]
    assert best > max(some)
    assert best > quality("mobilenet", frozenset()) + 0.3


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'resnet'"):
        network("resnet")
    with pytest.raises(ValueError, match="'best'"):
        chosen("digits", "best")


def test_a_network_that_is_not_installed_is_not_offered(monkeypatch):
    monkeypatch.setattr(which_twenty, "network", lambda name: name == "digits" or None)
    assert controls()["network"].options == (("digits, 4 and 2 bits", "digits"),)


def test_it_is_a_panel():
    panel = explorer(draw=2)
    assert isinstance(panel, Panel)
    panel.set(way="sensitive")
    assert not panel.error
