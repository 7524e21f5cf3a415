"""What enters a layer: the real activations that the explorers of calibration work on.

Four layers of the two trained networks. Calibration sees training images only; what comes later is
the 1000 test images. Each layer has a tail: the rest of its network, which turns the values that
enter into scores. So one can quantize what enters this layer, leave everything else in float, and
count the right answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from labkit.affine import QParams, fake_quantize
from labkit.compare import Comparison
from labkit.data import Mnist, load_mnist
from labkit.evaluate import Accuracy, right_answers
from labkit.explorers.scene import Readout
from labkit.observer import Observer
from labkit.observers import make_observer
from labkit.zoo import MnistCNN, MnistMLP, mnist_cnn, mnist_mlp


@dataclass(frozen=True)
class Layer:
    """One layer: in which network, under which name, and what comes after it.

    >>> LAYERS["fc2"].words
    'fc2 of the MLP: after ReLU'
    """

    words: str
    name: str
    model: Callable[[], nn.Module]
    tail: Callable[[nn.Module, Tensor], Tensor]


def _after_conv4(net: MnistCNN, x: Tensor) -> Tensor:
    return net.fc(net.pool4(net.relu4(net.bn4(net.conv4(x)))).flatten(1))


def _after_fc2(net: MnistMLP, x: Tensor) -> Tensor:
    return net.fc3(net.relu2(net.fc2(x)))


LAYERS = {
    "fc2": Layer("fc2 of the MLP: after ReLU", "fc2", mnist_mlp, _after_fc2),
    "fc3": Layer("fc3 of the MLP: after ReLU", "fc3", mnist_mlp, lambda net, x: net.fc3(x)),
    "conv4": Layer("conv4 of the CNN: after ReLU and pooling", "conv4", mnist_cnn, _after_conv4),
    "fc": Layer("fc of the CNN: after ReLU and pooling", "fc", mnist_cnn, lambda net, x: net.fc(x)),
}


OBSERVER_WORDS = {
    "minmax": "min-max",
    "moving_average": "moving average",
    "percentile": "percentile",
    "mse": "MSE",
    "entropy": "entropy",
}
"""The five observers, by the name that `make_observer` knows, in words."""


def watch(observer: str, bits: int, batches: Iterable[Tensor]) -> Observer:
    """Return a new observer that has seen the batches.

    >>> watch("minmax", 8, [torch.tensor([0.0, 2.0])]).range()[1].item()
    2.0
    """
    watching = make_observer(observer, bits=bits)
    for batch in batches:
        watching.observe(batch)
    return watching


@cache
def digits() -> Mnist:
    """Return the bundled digits, loaded once; do not change them.

    >>> digits().test_images.shape
    torch.Size([1000, 1, 28, 28])
    """
    return load_mnist()


@cache
def network(layer: str) -> nn.Module:
    """Return the trained network that holds the layer, loaded once; do not change it.

    >>> type(network("conv4")).__name__
    'MnistCNN'
    """
    return LAYERS[layer].model()


def entering(layer: str, images: Tensor) -> Tensor:
    """Return what enters the layer for `images` (n, 1, 28, 28): (n, ...), float32.

    >>> entering("fc2", digits().test_images[:3]).shape
    torch.Size([3, 256])
    """
    found, net = [], network(layer)
    hook = net.get_submodule(LAYERS[layer].name).register_forward_pre_hook(
        lambda _, arguments: found.append(arguments[0])
    )
    try:
        with torch.no_grad():
            for batch in images.split(500):
                net(batch)
    finally:
        hook.remove()
    return torch.cat(found)


@cache
def calibration(layer: str, images: int = 100) -> Tensor:
    """Return what enters the layer for the first training images: what an observer may see.

    >>> calibration("fc2").shape
    torch.Size([100, 256])
    """
    return entering(layer, digits().train_images[:images])


@cache
def later(layer: str) -> Tensor:
    """Return what enters the layer for the 1000 test images: what comes after calibration.

    >>> later("fc3").shape
    torch.Size([1000, 128])
    """
    return entering(layer, digits().test_images)


def answers(layer: str, qparams: QParams | None) -> Tensor:
    """Return which of the test images are read right with only this layer's input quantized.

    bool (1000,); `qparams` None is the float network.

    >>> answers("fc3", None).sum().item()
    934
    """
    net, tail = network(layer), LAYERS[layer].tail
    x = later(layer)
    x = x if qparams is None else fake_quantize(x, qparams)
    return right_answers(lambda batch: tail(net, batch), x, digits().test_labels)


def accuracy_of(right: Tensor) -> Accuracy:
    """Return accuracy and interval from the right answers.

    >>> print(accuracy_of(torch.tensor([True, False])))
    50.0 % [9.5, 90.5] of 2 (measured)
    """
    return Accuracy.of(int(right.sum()), len(right))


def read_right(right: Tensor) -> Readout:
    """Return the large number of a panel: the share read right, with its interval.

    >>> read_right(torch.tensor([True, False])).words()
    'test images read right: 50.0 % [9.5, 90.5] (measured)'
    """
    found = accuracy_of(right)
    interval = f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"
    share = f"{100 * found.value:.1f} %"
    return Readout("test images read right", share, interval, "measured", "quantized")


def against_float(right: Tensor, base: Tensor) -> str:
    """Say whether the answers `right` are worse than those of the float network, `base`.

    >>> against_float(torch.ones(9, dtype=torch.bool), torch.ones(9, dtype=torch.bool))[:23]
    'against float, 9 images'
    """
    found = Comparison.of(int((base & ~right).sum()), int((right & ~base).sum()), len(base))
    said = "" if found.resolved else "not "
    low, high = 100 * found.low, 100 * found.high
    return (
        f"against float, {found.n} images: {100 * found.difference:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}], {said}resolved"
    )


def counts_in(values: Tensor, edges: np.ndarray) -> np.ndarray:
    """Return how many values lie between the edges, at least a half, for a logarithmic axis.

    >>> counts_in(torch.tensor([0.2, 0.3, 1.5]), np.array([0.0, 1.0, 2.0, 3.0]))
    array([2. , 1. , 0.5])
    """
    return np.histogram(values.numpy(), edges)[0].clip(min=0.5)
