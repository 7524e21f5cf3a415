"""Five layers with a width each: the same answers and bytes as a whole quantized network."""

import numpy as np
import pytest
import torch

from labkit.data import load_mnist
from labkit.evaluate import right_answers
from labkit.explorers.bit_choices import (
    IN_FLOAT,
    LAYERS,
    PRACTICE,
    WIDTHS,
    bytes_of,
    measured,
    only,
    predicted,
    read,
    sizes,
    words,
)
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn

SHAPES = {
    "conv1": (16, 9),
    "depthwise": (16, 9),
    "pointwise": (32, 16),
    "conv4": (64, 288),
    "fc": (10, 576),
}
SOME = [(2, 2, 2, 2, 2), (3, 3, 3, 2, 3), (8, 6, 4, 3, 2), (2, 2, 3, 2, 2), (8, 8, 8, 8, 8)]


def counted(widths):
    """Codes in whole bytes and a float32 scale a channel; norms, their counters, and fc's bias."""
    layers = sum(
        -(-rows * columns * width // 8) + 4 * rows
        for (rows, columns), width in zip(SHAPES.values(), widths, strict=True)
    )
    norms = sum(4 * 4 * rows + 8 for name, (rows, _) in SHAPES.items() if name != "fc")
    return layers + norms + 4 * 10


@pytest.mark.parametrize("widths", SOME)
def test_the_answers_and_bytes_are_those_of_the_quantized_model(widths):
    mnist = load_mnist()
    bits = dict(zip(LAYERS, widths, strict=True))
    model, report = quantize_model(mnist_cnn(), bits=bits)
    for images, x, y in (
        ("practice", mnist.train_images[:PRACTICE], mnist.train_labels[:PRACTICE]),
        ("test", mnist.test_images, mnist.test_labels),
    ):
        right = right_answers(model, x, y)
        # A near tie between two digits may fall either way in another order of sums.
        assert abs(sum(read(widths, images).right) - int(right.sum())) <= 1
    assert bytes_of(widths) == report.quantized_bytes == counted(widths)


def test_in_float_it_is_the_network_itself():
    mnist = load_mnist()
    right = right_answers(mnist_cnn(), mnist.test_images, mnist.test_labels)
    assert abs(sum(read(IN_FLOAT, "test").right) - int(right.sum())) <= 1


def test_every_size_is_counted():
    table, other = sizes()
    assert set(table) == {(name, width) for name in LAYERS for width in WIDTHS}
    for (name, width), nbytes in table.items():
        rows, columns = SHAPES[name]
        # The report counts fc's bias with its layer.
        bias = 40 if name == "fc" else 0
        assert nbytes == -(-rows * columns * width // 8) + 4 * rows + bias
    assert other == counted((2,) * 5) - sum(table[name, 2] for name in LAYERS)


def test_the_measured_losses_are_torchs():
    mnist = load_mnist()
    x, y = mnist.train_images[:PRACTICE], mnist.train_labels[:PRACTICE]

    def loss(model):
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model(x), y).item()

    whole = loss(mnist_cnn())
    for name, width in (("fc", 2), ("pointwise", 2), ("conv1", 3)):
        model, _ = quantize_model(mnist_cnn(), bits={name: width})
        found = measured().loss[LAYERS.index(name), WIDTHS.index(width)]
        assert found == pytest.approx(loss(model) - whole, abs=1e-5)


def test_a_prediction_falls_with_every_bit():
    assert measured().bytes.shape == predicted().loss.shape
    assert (np.diff(predicted().loss, axis=1) < 0).all()


def test_only_one_layer_and_its_words():
    assert only("conv4", 3) == (None, None, None, 3, None)
    assert words((8, 6, 4, 3, 2)) == "8-6-4-3-2"


def test_a_comparison_counts_the_images_that_one_of_them_reads():
    one, other = read((2,) * 5, "test"), read((8,) * 5, "test")
    found = one.against(other)
    assert found.only_first == sum(b and not a for a, b in zip(one.right, other.right, strict=True))
    assert found.difference == pytest.approx((one.percent - other.percent) / 100)


@pytest.mark.parametrize("widths", [(2, 2, 2, 2), (2, 2, 2, 2, 5), (2, 2, 2, 2, 9)])
def test_other_widths_are_refused(widths):
    with pytest.raises(ValueError, match="give 5 of"):
        read(widths)


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="'training'"):
        read((2, 2, 2, 2, 2), "training")
