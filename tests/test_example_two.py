"""The document's Example 2: its digits, and the formula at every position."""

from fractions import Fraction

import pytest

from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.example_two import State, controls, explorer, scene, size
from labkit.explorers.panel import Panel, positions
from labkit.explorers.scene import Cells, Points
from labkit.quantize import quantize_model
from labkit.zoo_large import ten_million


def test_the_documents_digits():
    picture = scene(State())
    said = {readout.label: readout.words() for readout in picture.readouts}
    assert said["size"] == "size: 6.00 MB (computed)"
    assert said["compression"] == "compression: 6.67 × (computed)"
    assert said["critical"] == "critical: 2.00 MB (computed)"
    assert said["others"] == "others: 4.00 MB (computed)"
    assert picture.formulas[0].endswith("= 2,000,000 bytes")
    assert picture.formulas[1].endswith("= 4,000,000 bytes")


def test_every_position_follows_the_formula():
    height = picture_height(scene(State()))
    for values in positions(controls()):
        state = State(**values)
        picture = scene(state)
        assert picture_height(picture) == height
        share = Fraction(state.share, 100)
        average = share * state.critical_bits + (1 - share) * state.other_bits
        assert size(state).total == pytest.approx(float(average * 10_000_000 / 8))
        assert size(state).ratio == pytest.approx(float(32 / average))
        boxes = sum(box.width for box in picture.marks(Cells))
        assert boxes == pytest.approx(float(average) * 10 / 8)
        dot = next(picture.marks(Points))
        assert dot.y[0] == pytest.approx(boxes)


def test_the_real_file_takes_one_percent_more():
    bits = {"fc1": 8, "fc2": 4, "fc3": 4, "fc4": 8}
    _, report = quantize_model(ten_million(trained=False), bits=bits)
    channels = 2560 + 1792 + 1888 + 10
    weights = {"fc1": 784 * 2560, "fc2": 2560 * 1792, "fc3": 1792 * 1888, "fc4": 1888 * 10}
    codes = sum(count * bits[name] // 8 for name, count in weights.items())
    assert report.quantized_bytes == codes + 8 * channels == 6_061_328
    assert report.quantized_bytes / size(State()).total < 1.011


def test_it_is_a_panel():
    assert isinstance(explorer(share=0), Panel)
