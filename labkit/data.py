"""Bundled data: files under ``data/``, each checked against its recorded sha256 before use.

``data/manifest.json`` records, for every bundled file, its sha256, its size in bytes and the
command that makes it again. A file that is missing, truncated or altered is refused by name,
with the command that repairs it; nothing is ever downloaded. ``data/README.md`` is the data card.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from labkit.atomic import replace_file

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
MANIFEST = "manifest.json"


class DamagedFileError(ValueError):
    """A bundled file is not the one that the manifest records.

    >>> issubclass(DamagedFileError, ValueError)
    True
    """


class Mnist(NamedTuple):
    """5000 handwritten digits, split once and for all into 4000 for training and 1000 for testing.

    Images are float32 of shape (n, 1, 28, 28) in 0..1 (pixel / 255); labels are int64 of shape (n,)
    in 0..9. Both parts hold the ten digits equally often and are shuffled.

    >>> Mnist._fields
    ('train_images', 'train_labels', 'test_images', 'test_labels')
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load_mnist(folder: Path | None = None) -> Mnist:
    """Load the bundled MNIST digits; fresh tensors at every call, so they may be changed freely.

    Raises FileNotFoundError (missing) or DamagedFileError (truncated, altered), see `verified`.
    Source: MNIST (LeCun, Cortes, Burges), see ``data/README.md``.

    >>> mnist = load_mnist()
    >>> mnist.test_images.shape, mnist.test_images.dtype
    (torch.Size([1000, 1, 28, 28]), torch.float32)
    >>> mnist.train_labels.bincount().tolist()
    [400, 400, 400, 400, 400, 400, 400, 400, 400, 400]
    """
    with np.load(verified("mnist_5k.npz", folder), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in Mnist._fields}
    return Mnist(
        _as_images(arrays["train_images"]),
        torch.from_numpy(arrays["train_labels"]).to(torch.int64),
        _as_images(arrays["test_images"]),
        torch.from_numpy(arrays["test_labels"]).to(torch.int64),
    )


def verified(name: str, folder: Path | None = None) -> Path:
    """Return the path of the bundled file `name` after checking its size and sha256.

    `folder` is the data folder, by default the one beside the package. Raises FileNotFoundError
    when the file (or the whole folder) is missing, DamagedFileError when its bytes are not those
    recorded, ValueError for a name that is not bundled. Each message names the repair.

    >>> verified("mnist_5k.npz").name
    'mnist_5k.npz'
    >>> verified("imagenet.npz")
    Traceback (most recent call last):
    ...
    ValueError: 'imagenet.npz' is not a bundled file; data/manifest.json lists: ...
    """
    folder = DATA_FOLDER if folder is None else Path(folder)
    entries = read_manifest(folder)
    if name not in entries:
        listed = ", ".join(sorted(entries))
        raise ValueError(f"{name!r} is not a bundled file; data/{MANIFEST} lists: {listed}")
    entry, path = entries[name], folder / name
    remedy = (
        f"Restore it with `git checkout -- data/{name}` in the project's folder, "
        f"or make it again with `{entry['remake']}`."
    )
    if not path.is_file():
        raise FileNotFoundError(f"The bundled file {path} is missing. {remedy}")
    content = path.read_bytes()
    if len(content) != entry["bytes"]:
        what = "truncated" if len(content) < entry["bytes"] else "altered"
        raise DamagedFileError(
            f"{path} is {what}: it has {len(content)} bytes instead of {entry['bytes']}. {remedy}"
        )
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry["sha256"]:
        raise DamagedFileError(
            f"{path} is altered: its sha256 is {digest[:12]}… instead of "
            f"{entry['sha256'][:12]}…. {remedy}"
        )
    return path


def read_manifest(folder: Path | None = None) -> dict[str, dict]:
    """Return the manifest: file name → sha256, bytes, remake (a command) and measured facts.

    Raises FileNotFoundError when labkit was installed without its data folder, DamagedFileError
    when the manifest is not readable JSON.

    >>> sorted(read_manifest()["mnist_5k.npz"])
    ['bytes', 'content_sha256', 'remake', 'sha256']
    """
    folder = DATA_FOLDER if folder is None else Path(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no data folder at {folder}: labkit was installed without its data. "
            "Install it from a clone of the project with `pip install -e .`, or `python lab.py`."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing. Restore it with `git checkout -- data/{MANIFEST}`."
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not all({"sha256", "bytes", "remake"} <= entry.keys() for entry in entries.values()):
            raise KeyError("sha256, bytes, remake")
    except (ValueError, KeyError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} is damaged ({error}). Restore it with `git checkout -- data/{MANIFEST}`."
        ) from error
    return entries


def record(name: str, content: bytes, remake: str, folder: Path | None = None, **facts) -> Path:
    """Write `content` as the bundled file `name` and its entry (with `facts`) into the manifest.

    Both are replaced whole or not at all. Returns the file's path.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = record("a.bin", b"abc", "python make_a.py", folder)
    ...     verified("a.bin", folder) == path
    True
    """
    folder = DATA_FOLDER if folder is None else Path(folder)
    entries = read_manifest(folder) if (folder / MANIFEST).exists() else {}
    digest = hashlib.sha256(content).hexdigest()
    entries[name] = {"sha256": digest, "bytes": len(content), "remake": remake, **facts}
    text = json.dumps(dict(sorted(entries.items())), indent=2) + "\n"
    replace_file(folder / name, content)
    replace_file(folder / MANIFEST, text.encode())
    return folder / name


def _as_images(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (n, 28, 28) → float32 (n, 1, 28, 28) in 0..1."""
    return torch.from_numpy(pixels).unsqueeze(1).to(torch.float32).div_(255)
