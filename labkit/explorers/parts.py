"""Two networks in some fifty parts, each part in float or at one of two widths.

Per channel every row of a weight is quantized by itself, so that some rows of a layer may have
another width than their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.compare import Comparison
from labkit.data import load_mnist
from labkit.evaluate import Accuracy
from labkit.explorers import real_network
from labkit.pictures import natural_noise, photograph
from labkit.quantize import quantize_model
from labkit.real_models import normalize
from labkit.zoo import mnist_mlp

NETWORKS = {"digits": "digits, 4 and 2 bits", "mobilenet": "MobileNetV2, 8 and 4 bits"}
NEURONS = 8
PRACTICE = 500
# A quarter of the side it was trained on, for speed; the features change, the story does not.
_SIZE = 64

Widths = Mapping[str, int]
"""Part → bits; a part that is not named stays in float."""


@dataclass(frozen=True, eq=False)
class Network:
    """A network in parts: {part: weights}, two widths, and how good it is with them.

    `run(widths, first)` returns its outputs on the first set of images, on which is chosen, or on
    the second, on which is shown. `least` to `most` is the range of qualities worth drawing.

    >>> net = network("digits")
    >>> net.shown(net.quality({})), net.loss({"fc3 8…9": net.low}) > net.loss({})
    ('93.4', True)
    """

    title: str
    parts: dict[str, int]
    high: int
    low: int
    measure: str
    unit: str
    least: float
    most: float
    axis: str
    run: Callable[[Widths, bool], Tensor]
    labels: tuple[Tensor, Tensor] | None = None

    def loss(self, widths: Widths) -> float:
        """On the first set: cross-entropy, or 1 - cosine with the float network's features."""
        outputs = self.run(widths, True)
        if self.labels:
            return F.cross_entropy(outputs, self.labels[0]).item()
        return 1 - F.cosine_similarity(outputs, self.run({}, True)).mean().item()

    def quality(self, widths: Widths) -> float:
        """On the second set: percent of right answers, or the mean cosine of the features."""
        if self.labels:
            return 100 * self._right(widths).double().mean().item()
        return F.cosine_similarity(self.run(widths, False), self.run({}, False)).mean().item()

    def shown(self, value: float) -> str:
        """A quality as it is printed."""
        return f"{value:.1f}" if self.labels else f"{value:.2f}"

    def interval(self, widths: Widths) -> str:
        """Say a quality with its interval and n."""
        if not self.labels:
            return f"this choice: {self.quality(widths):.2f}; eight pictures, so no interval"
        right = self._right(widths)
        return f"this choice: {Accuracy.of(int(right.sum()), len(right))}"

    def compared(self, widths: Widths, best: Widths) -> str:
        """Say how much better the most sensitive parts are than this choice."""
        if not self.labels:
            gain = self.quality(best) - self.quality(widths)
            return f"most sensitive − this choice: {gain:+.2f}; eight pictures, so no interval"
        here, there = self._right(widths), self._right(best)
        only = int((here & ~there).sum()), int((there & ~here).sum())
        found = str(Comparison.of(*only, len(here))).removesuffix(" (measured)")
        return f"most sensitive − this choice: {found}"

    def _right(self, widths: Widths) -> Tensor:
        return self.run(widths, False).argmax(1) == self.labels[1]


@cache
def network(name: str) -> Network | None:
    """Return one of NETWORKS in parts, None when it is not installed; ValueError for another.

    >>> len(network("digits").parts)
    50
    """
    if name not in NETWORKS:
        raise ValueError(f"got network {name!r}; use one of {', '.join(NETWORKS)}")
    if name == "mobilenet":
        return _mobilenet() if real_network.is_here() else None
    return _digits()


def _digits() -> Network:
    """The document's 784-256-128-10 network, eight neurons a part."""
    net, mnist = mnist_mlp(), load_mnist()
    x = mnist.train_images[:PRACTICE].flatten(1), mnist.test_images.flatten(1)
    labels = mnist.train_labels[:PRACTICE], mnist.test_labels
    layers = dict(net.named_children())
    layers = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    stored = _weights(net, layers, (2, 4))
    places = {
        f"{name} {start}…{min(start + NEURONS, len(layer.weight)) - 1}": (name, start)
        for name, layer in layers.items()
        for start in range(0, len(layer.weight), NEURONS)
    }
    sizes = {
        part: stored[name, None][start : start + NEURONS].numel()
        for part, (name, start) in places.items()
    }

    def run(widths: Widths, first: bool) -> Tensor:
        weights = {name: stored[name, None].clone() for name in layers}
        for part, width in widths.items():
            name, start = places[part]
            rows = slice(start, start + NEURONS)
            weights[name][rows] = stored[name, width][rows]
        with torch.no_grad():
            y = x[0 if first else 1]
            for name, layer in layers.items():
                y = F.linear(y if name == "fc1" else y.relu(), weights[name], layer.bias)
            return y

    title = "The document's digits network"
    axis = "eight neurons of fc1 (0 to 31), of fc2 (32 to 47), of fc3"
    return Network(title, sizes, 4, 2, "right answers", "%", 62, 96, axis, run, labels)


def _mobilenet() -> Network:
    """ImageNet's MobileNetV2, batch norms folded, a layer a part."""
    net = deepcopy(real_network.network("folded"))
    layers = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    stored = _weights(net, layers, (4, 8))
    pictures = (
        normalize(natural_noise(8, _SIZE, seed=1), real_network.NAME),
        normalize(photograph(_SIZE), real_network.NAME),
    )
    kept: dict[bool, Tensor] = {}

    def run(widths: Widths, first: bool) -> Tensor:
        if not widths and first in kept:
            return kept[first]
        for name, layer in layers.items():
            layer.weight.data = stored[name, widths.get(name)]
        outputs = real_network.run(net, pictures[0 if first else 1])
        if not widths:
            kept[first] = outputs
        return outputs

    sizes = {name: stored[name, None].numel() for name in layers}
    axis = "layer, in the order of the computation"
    title = "ImageNet's MobileNetV2"
    return Network(title, sizes, 8, 4, "feature cosine", "", 0.4, 1.0, axis, run)


def _weights(
    net: nn.Module, layers: Mapping[str, nn.Module], widths: tuple[int, ...]
) -> dict[tuple[str, int | None], Tensor]:
    """The weights of each layer in float (None) and at each width, as floats."""
    found = {(name, None): layer.weight.detach() for name, layer in layers.items()}
    for width in widths:
        quantized, _ = quantize_model(net, bits=width)
        found |= {(name, width): quantized.get_submodule(name).weight for name in layers}
    return found
