"""ImageNet's MobileNetV2 under quantization, looked at through its features of eight pictures.

Its classifier is not in the package and ImageNet's pictures are not in the lab, so that there is no
accuracy. Instead: the cosine between the features (1280 numbers a picture) of the quantized network
and of the float one, and whether each picture's features are still nearest to its own.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.affine import choose_qparams, fake_quantize
from labkit.compare import cosine
from labkit.data import load_mnist
from labkit.mobilenet import MobileNet
from labkit.packing import packed_bytes
from labkit.pictures import natural_noise, photograph
from labkit.quantize import quantize_model
from labkit.real_models import WEIGHTS, is_installed, mobilenet_v2, normalize
from labkit.transform import equalize, fold_batch_norm

NAME = "mobilenet_v2"
# Half the side that it was trained on: a quarter of the time, and the same story.
SIZE = 128
VARIANTS = {"folded": "as trained", "equalized": "equalized"}
"""Batch norms are folded in both; in the second, consecutive layers share out their ranges."""
PICTURES = {
    "photograph": "parts of the photograph",
    "noise": "noise like nature's",
    "digits": "handwritten digits",
}


class Absent:
    """Stands where a panel would, when the network is not installed; shows one line.

    >>> print(Absent())
    MobileNetV2 is not installed: `python lab.py models` adds it (8 MB), then restart the kernel.
    """

    def __repr__(self) -> str:
        """Say what to do."""
        entry = WEIGHTS[NAME]
        return (
            f"{entry.title} is not installed: `python lab.py models` adds it "
            f"({entry.megabytes} MB), then restart the kernel."
        )


@dataclass(frozen=True)
class Seen:
    """What a quantized network sees: its cosine with float and the picture found, each picture.

    `found[i]` is the picture whose float features are nearest to the quantized features of picture
    i. `nbytes` is what the network takes to store.
    """

    cosines: tuple[float, ...]
    found: tuple[int, ...]
    nbytes: int

    @property
    def cosine(self) -> float:
        """The mean over the pictures."""
        return sum(self.cosines) / len(self.cosines)

    @property
    def recognized(self) -> int:
        """How many pictures are still nearest to themselves."""
        return sum(i == found for i, found in enumerate(self.found))


def is_here() -> bool:
    """Tell whether the network is installed.

    >>> is_here() in (True, False)
    True
    """
    return is_installed(NAME)


@cache
def network(variant: str) -> MobileNet:
    """Return the network as trained (batch norm folded) or equalized; not to be changed.

    Raises ValueError for another name, FileNotFoundError when it is not installed.
    """
    if variant not in VARIANTS:
        raise ValueError(f"got variant {variant!r}; use one of {', '.join(VARIANTS)}")
    return (fold_batch_norm if variant == "folded" else equalize)(mobilenet_v2())


@cache
def layers(variant: str = "folded") -> dict[str, nn.Conv2d]:
    """Return the 52 convolutions by name, in the order of the computation."""
    return {n: m for n, m in network(variant).named_modules() if isinstance(m, nn.Conv2d)}


@cache
def pictures() -> Tensor:
    """The eight pictures as the network wants them: (8, 3, 128, 128)."""
    return normalize(photograph(SIZE), NAME)


@cache
def see(variant: str, bits: int, granularity: str = "tensor") -> Seen:
    """Quantize the weights of every layer and look at the pictures; granularity as in labkit.

    Weights are symmetric codes, "tensor" or "channel"; activations and biases stay float. This is
    what `quantize_model` computes, on a scratch copy, without packing.
    """
    model = deepcopy(network(variant))
    nbytes = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach()
            layer.weight = nn.Parameter(_rounded(weight, bits, granularity), requires_grad=False)
            scales = len(weight) if granularity == "channel" else 1
            nbytes += packed_bytes(weight.numel(), bits) + 4 * scales - 4 * weight.numel()
    features = run(model)
    likeness = F.cosine_similarity(features[:, None], in_float()[None], dim=2)
    return Seen(tuple(likeness.diagonal().tolist()), tuple(likeness.argmax(1).tolist()), nbytes)


@cache
def blame(variant: str, bits: int = 8) -> dict[str, float]:
    """Return the mean cosine when only the weights of one layer are quantized, per tensor.

    Each layer's turn starts from the float network's values at its own block.
    """
    model = network(variant)
    stages = [("stem", model.stem), *((f"blocks.{i}", b) for i, b in enumerate(model.blocks))]
    stages.append(("head", model.head))
    found, entering = {}, pictures()
    for at, (prefix, stage) in enumerate(stages):
        for name in [n for n, m in stage.named_modules() if isinstance(m, nn.Conv2d)]:
            changed = deepcopy(stage)
            layer = changed.get_submodule(name)
            layer.weight.data = _rounded(layer.weight.detach(), bits, "tensor")
            with torch.no_grad():
                x = changed(entering)
                for _, later in stages[at + 1 :]:
                    x = later(x)
            cosines = F.cosine_similarity(x.mean((2, 3)), in_float())
            found[f"{prefix}.{name}"] = cosines.mean().item()
        with torch.no_grad():
            entering = stage(entering)
    return found


@cache
def ranges(variant: str, name: str) -> Tensor:
    """Return the largest magnitude of every output channel of a layer: (channels,)."""
    return layers(variant)[name].weight.detach().flatten(1).abs().amax(1)


@cache
def in_float() -> Tensor:
    """Features of the eight pictures as the network was trained: (8, 1280)."""
    return run(mobilenet_v2())


def run(model: nn.Module, images: Tensor | None = None) -> Tensor:
    """Return the features of the eight pictures, or of other normalized ones: (n, 1280)."""
    with torch.no_grad():
        return model(pictures() if images is None else images)


def full_size_pictures(name: str) -> Tensor:
    """Return eight pictures as the network wants them: (8, 3, 224, 224).

    name: a key of PICTURES; ValueError for another.
    """
    if name not in PICTURES:
        raise ValueError(f"got pictures {name!r}; use one of {', '.join(PICTURES)}")
    if name == "photograph":
        images = photograph()
    elif name == "noise":
        images = natural_noise(8)
    else:
        digits = load_mnist().test_images[:8]
        images = F.interpolate(digits, size=(224, 224), mode="bilinear").expand(-1, 3, -1, -1)
    return normalize(images, NAME)


@cache
def full_size(name: str) -> dict[str, float]:
    """Return the mean cosine at 8 bits on pictures of 224 × 224, by granularity and variant.

    name: a key of PICTURES; ValueError for another.
    """
    images = full_size_pictures(name)
    wanted, found = run(mobilenet_v2(), images), {}
    for variant, words in (("folded", ""), ("equalized", ", equalized")):
        for granularity in ("tensor", "channel"):
            model, _ = quantize_model(network(variant), bits=8, granularity=granularity)
            found[f"{granularity}{words}"] = cosine(wanted, run(model, images))
    return found


def _rounded(weight: Tensor, bits: int, granularity: str) -> Tensor:
    axis = 0 if granularity == "channel" else None
    return fake_quantize(
        weight, choose_qparams(weight, bits, symmetric=True, signed=True, axis=axis)
    )
