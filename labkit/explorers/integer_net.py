"""The statically quantized MNIST network whose integers the panels of notebook 07 show.

Two choices decide which zero points occur. Pixels: 0 to 1 as they are, so that code 0 is black and
the zero point 0; or standardized, (x - mean) / deviation, as most recipes do, so that black is
below 0 and the zero point is not. Weights: symmetric (zero point 0) or affine. Standardizing is
folded into the first layer, so that all variants compute the same function.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from labkit.data import Mnist, load_mnist
from labkit.evaluate import Accuracy
from labkit.explorers.scene import Readout
from labkit.integer import CrossTerms, cross_terms
from labkit.integer_model import Stage, integer_stages
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp

MEAN, DEVIATION = 0.1307, 0.3081
PIXELS = {"plain": "0 to 1", "standard": "standardized"}
WEIGHTS = {"symmetric": "symmetric", "affine": "affine"}
CALIBRATION_IMAGES = 500


@cache
def mnist() -> Mnist:
    """Return the bundled digits, loaded once.

    >>> len(mnist().test_images)
    1000
    """
    return load_mnist()


def prepared(images: Tensor, pixels: str) -> Tensor:
    """Return images as the network with these pixels wants them.

    >>> prepared(torch.zeros(1), "standard")
    tensor([-0.4242])
    """
    _check("pixels", pixels, PIXELS)
    return images if pixels == "plain" else (images - MEAN) / DEVIATION


@cache
def network(pixels: str = "plain", weights: str = "symmetric") -> nn.Module:
    """Return the 784-256-128-10 network, static, 8 bits, weights per channel.

    >>> network("standard").fc1.input_quantizer.qparams.zero_point
    tensor(33, dtype=torch.int32)
    """
    _check("weights", weights, WEIGHTS)
    model = mnist_mlp().double()
    if pixels == "standard":
        with torch.no_grad():
            model.fc1.bias += model.fc1.weight.sum(1) * MEAN
            model.fc1.weight *= DEVIATION
    return _quantized(model, pixels, symmetric=weights == "symmetric")


@cache
def convolutional() -> nn.Module:
    """Return the small convolutional network, static, 8 bits, weights symmetric per channel.

    >>> convolutional().conv1.bits
    8
    """
    return _quantized(mnist_cnn().double(), "plain", symmetric=True)


def _quantized(model: nn.Module, pixels: str, symmetric: bool) -> nn.Module:
    # Calibrated in double precision: float32 sums differ a little between machines, and with them
    # scales, and with those a code here and there.
    images = mnist().train_images[:CALIBRATION_IMAGES].double()
    calibration = [prepared(images, pixels)]
    quantized = quantize_model(model, "static", calibration_data=calibration, symmetric=symmetric)[
        0
    ]
    return quantized.float()


@cache
def stages(pixels: str = "plain", weights: str = "symmetric") -> tuple[Stage, ...]:
    """Return the network's integer layers.

    >>> [stage.name for stage in stages()]
    ['fc1', 'fc2', 'fc3']
    """
    return tuple(integer_stages(network(pixels, weights))[1])


@cache
def image_codes(pixels: str = "plain") -> Tensor:
    """Return the codes of the 1000 test images, (1000, 784).

    >>> image_codes().shape
    torch.Size([1000, 784])
    """
    images = prepared(mnist().test_images, pixels).flatten(1)
    return network(pixels).fc1.input_quantizer.codes(images)


@cache
def first_terms(pixels: str = "plain", weights: str = "symmetric") -> CrossTerms:
    """Return the four sums of the first layer for all test images, (1000, 256).

    >>> first_terms().total.shape
    torch.Size([1000, 256])
    """
    stage = stages(pixels, weights)[0]
    return cross_terms(image_codes(pixels), stage.x_qparams, stage.layer.codes, stage.w_qparams)


@cache
def digit_images() -> tuple[int, ...]:
    """Return the number of the first test image of every digit 0 to 9.

    >>> mnist().test_labels[list(digit_images())].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    labels = mnist().test_labels
    return tuple(int((labels == digit).nonzero()[0]) for digit in range(10))


def graded(scores: Tensor) -> Accuracy:
    """Return how often the largest score of the 1000 test images is at the label.

    >>> graded(torch.nn.functional.one_hot(mnist().test_labels)).correct
    1000
    """
    right = scores.argmax(1) == mnist().test_labels
    return Accuracy.of(int(right.sum()), len(right))


def quality_readouts(quality: Accuracy, role: str = "ink") -> list[Readout]:
    """Return the accuracy and its interval as two readouts.

    >>> [r.value for r in quality_readouts(Accuracy.of(9, 10))]
    ['90.0', '59.6–98.2']
    """
    interval = f"{100 * quality.low:.1f}–{100 * quality.high:.1f}"
    return [
        Readout("digits read", f"{100 * quality.value:.1f}", "%", "measured", role),
        Readout(f"95 %, n = {quality.n}", interval, "%", "measured"),
    ]


def grouped(value: int) -> str:
    """Return a whole number with its thousands apart and a true minus sign.

    >>> grouped(-12345)
    '−12,345'
    """
    return f"{value:,}".replace("-", "−")


def _check(name: str, value: str, known: dict[str, str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
