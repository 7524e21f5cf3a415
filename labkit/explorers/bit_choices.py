"""A digits network with a width of its own for each layer: bytes, accuracy, what each layer minds.

Shared by the panels of notebook 09. The network is the small CNN, its weights quantized per channel
by `quantize_model`. Widths are chosen on PRACTICE training images, and judged on the test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.compare import Comparison
from labkit.data import load_mnist
from labkit.evaluate import Accuracy
from labkit.hessian import hessian_sensitivity
from labkit.quantize import quantize_model
from labkit.sensitivity import Sensitivity, measure_sensitivity
from labkit.threads import one_thread
from labkit.zoo import MnistCNN, mnist_cnn

LAYERS = ("conv1", "depthwise", "pointwise", "conv4", "fc")
# Of the eight colours, five that cannot be taken for each other.
COLOURS = ("code0", "code1", "code2", "code3", "code6")
WIDTHS = (2, 3, 4, 6, 8)
PRACTICE = 500
IMAGES = {"practice": f"{PRACTICE} practice images", "test": "1000 test images"}
# Vectors of random signs, and images, that the Hessian's diagonal is estimated from.
_PROBES, _PROBED = 8, 200
# So few that what flows between two layers stays in the processor's cache: four times as fast.
_AT_ONCE = 50

Widths = tuple[int | None, ...]
"""Bits of the five layers, in the order of LAYERS; None for a layer in float."""


IN_FLOAT: Widths = (None,) * len(LAYERS)


@dataclass(frozen=True)
class Read:
    """Which images a network reads correctly.

    >>> read((8, 8, 8, 8, 8)).accuracy.n
    500
    """

    right: tuple[bool, ...]

    @property
    def accuracy(self) -> Accuracy:
        """The share of right answers, with its interval."""
        return Accuracy.of(sum(self.right), len(self.right))

    @property
    def percent(self) -> float:
        """Accuracy in percent."""
        return 100 * sum(self.right) / len(self.right)

    def against(self, other: Read) -> Comparison:
        """Accuracy of this one minus that of `other` on the same images."""
        pairs = list(zip(other.right, self.right, strict=True))
        return Comparison.of(pairs.count((True, False)), pairs.count((False, True)), len(pairs))


@lru_cache(maxsize=4096)
@one_thread()
def read(widths: Widths = IN_FLOAT, images: str = "practice") -> Read:
    """Let the network with these widths read a set of images; asked again, it is free.

    images: a key of IMAGES. Raises ValueError for other widths than five of WIDTHS or None.

    >>> round(read().percent)
    100
    """
    if len(widths) != len(LAYERS) or set(widths) - {*WIDTHS, None}:
        raise ValueError(f"got widths {widths}; give {len(LAYERS)} of {WIDTHS}, one a layer")
    return Read(tuple((_after(widths, images).argmax(1) == _digits(images)[1]).tolist()))


def only(name: str, width: int) -> Widths:
    """The widths where one layer alone is quantized.

    >>> only("fc", 2)
    (None, None, None, None, 2)
    """
    return tuple(width if layer == name else None for layer in LAYERS)


@cache
@one_thread()
def measured() -> Sensitivity:
    """What each layer costs by itself, in loss on the practice images, the others in float.

    >>> measured().layers == LAYERS
    True
    """
    x, y = _digits("practice")

    def minus_loss(model: nn.Module) -> float:
        with torch.no_grad():
            scores = torch.cat([model(part) for part in x.split(_AT_ONCE)])
        return -F.cross_entropy(scores.double(), y).item()

    return measure_sensitivity(_network(), minus_loss, WIDTHS)


@cache
@one_thread()
def predicted() -> Sensitivity:
    """The fast stand-in: the diagonal of the Hessian times the squared rounding errors, halved.

    >>> predicted().quality.shape
    (5, 5)
    """
    x, y = _digits("practice")
    batch = [(x[:_PROBED], y[:_PROBED])]
    return hessian_sensitivity(_network(), batch, F.cross_entropy, WIDTHS, samples=_PROBES)


@cache
def sizes() -> tuple[dict[tuple[str, int], int], int]:
    """Bytes of each (layer, width) with its scales, and of everything else: norms and biases.

    >>> sizes()[0]["conv1", 2]
    100
    """
    found, other = {}, 0
    for width in WIDTHS:
        _, report = quantize_model(_network(), bits=width)
        own = {row.name: row.bytes for row in report.layers if row.name in LAYERS}
        found |= {(name, width): nbytes for name, nbytes in own.items()}
        other = report.quantized_bytes - sum(own.values())
    return found, other


def bytes_of(widths: Widths) -> int:
    """Bytes of the whole network: what its packed file holds besides the header.

    >>> bytes_of((2, 2, 2, 2, 2))
    8920
    """
    table, other = sizes()
    return other + sum(table[pair] for pair in zip(LAYERS, widths, strict=True))


def words(widths: Widths) -> str:
    """The widths as they are said: 3-3-3-2-3.

    >>> words((3, 3, 3, 2, 3))
    '3-3-3-2-3'
    """
    return "-".join(map(str, widths))


@cache
def _network() -> MnistCNN:
    return mnist_cnn()


@cache
def _digits(images: str) -> tuple[Tensor, Tensor]:
    if images not in IMAGES:
        raise ValueError(f"got images {images!r}; use one of {', '.join(IMAGES)}")
    mnist = load_mnist()
    x, y = mnist.test_images, mnist.test_labels
    if images == "practice":
        x, y = mnist.train_images[:PRACTICE], mnist.train_labels[:PRACTICE]
    return x.to(memory_format=torch.channels_last), y


@cache
def _weight(name: str, width: int | None) -> Tensor:
    if width is None:
        return _network().get_submodule(name).weight.detach()
    quantized, _ = quantize_model(_network(), bits={name: width})
    return quantized.get_submodule(name).weight


# The first layers take most of the time, and stay the same while a later one is changed.
@lru_cache(maxsize=24)
def _after(widths: tuple[int | None, ...], images: str) -> Tensor:
    """What the layers that have a width here make of the images."""
    *before, width = widths
    entering = _after(tuple(before), images) if before else _digits(images)[0]
    name = LAYERS[len(before)]
    with torch.no_grad():
        parts = [_layer(name, _weight(name, width), part) for part in entering.split(_AT_ONCE)]
    return torch.cat(parts)


def _layer(name: str, weight: Tensor, x: Tensor) -> Tensor:
    """A layer with these weights, and what follows it: batch norm, ReLU, pooling."""
    net = _network()
    if name == "fc":
        return F.linear(x.flatten(1), weight, net.fc.bias)
    layer, follow = net.get_submodule(name), _FOLLOW[name]
    x = F.conv2d(x, weight, None, padding=layer.padding, groups=layer.groups)
    for part in follow:
        x = net.get_submodule(part)(x)
    return x


_FOLLOW = {
    "conv1": ("bn1", "relu1", "pool1"),
    "depthwise": ("bn2", "relu2"),
    "pointwise": ("bn3", "relu3", "pool3"),
    "conv4": ("bn4", "relu4", "pool4"),
}
