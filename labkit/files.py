"""A quantized model as one file: packed codes, scales, and the recipe to put them in place.

The file is safetensors: 8 bytes with the length of a header, the header (JSON), then the tensors'
bytes without gaps. Loading it runs no code. The header's only metadata entry is the recipe, as
JSON: which layers are quantized and how, which batch norms were folded, a checksum. So the float
weights are not needed to load, only a model of the same structure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from torch import Tensor, nn

from labkit.atomic import replace_file
from labkit.recipe import rebuilt, recipe_of
from labkit.report import stored_tensors

FORMAT = "quantization-lab"
VERSION = 1
_ENTRY = "quantization"


def save(model: nn.Module, path: Path | str) -> None:
    """Write a quantized model to `path`: codes, scales, zero points, and all that stayed float.

    The same model gives the same bytes. The file is replaced whole or not at all. Its size is the
    `quantized_bytes` of the model's report plus `header_bytes(path)`. Raises ValueError for a model
    without quantized layers, and when `path` is something other than a file of `save`.

    >>> import tempfile
    >>> from labkit.quantize import quantize_model
    >>> model, report = quantize_model(nn.Linear(100, 10), bits=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "linear.safetensors")
    ...     save(model, path)
    ...     path.stat().st_size - header_bytes(path) == report.quantized_bytes
    True
    """
    path = Path(path)
    if path.exists():
        try:
            _read(path)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{path} exists and is not a readable file of labkit's save, so it is not "
                f"overwritten ({error}); choose another name, or remove it first"
            ) from None
    tensors, ties = stored_tensors(model)
    # Copies: tensors that share memory cannot be written side by side.
    tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    recipe = {"format": FORMAT, "version": VERSION, **recipe_of(model), "ties": ties}
    recipe["sha256"] = checksum(recipe, tensors)
    replace_file(path, bytes_from_tensors(tensors, metadata={_ENTRY: _json(recipe)}))


def load(path: Path | str, model: nn.Module) -> nn.Module:
    """Return the quantized model that `save` wrote, on the CPU and in eval mode.

    `model` is the float model in structure; its weights are ignored and it is not modified. So it
    may be untrained, or without weights at all: `with torch.device("meta"): model = Net()`. The
    result computes exactly what the saved model did. Raises FileNotFoundError for a missing file,
    ValueError for a file that is damaged, cut off, of another kind or from a newer version, and for
    a model of another structure; the message says what differs.

    >>> import tempfile
    >>> from labkit.quantize import quantize_model
    >>> quantized, _ = quantize_model(nn.Linear(100, 10), bits=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(quantized, Path(folder, "linear.safetensors"))
    ...     loaded = load(Path(folder, "linear.safetensors"), nn.Linear(100, 10, device="meta"))
    >>> torch.equal(loaded.weight, quantized.weight)
    True
    """
    path = Path(path)
    recipe, tensors = _read(path)
    try:
        return rebuilt(model, recipe, tensors)
    except ValueError as error:
        raise ValueError(f"{path} does not fit {type(model).__name__}: {error}") from None


def header_bytes(path: Path | str) -> int:
    """Return how many bytes of a safetensors file come before the tensors.

    These are the 8 bytes that hold the header's length, and the header.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a").write_bytes(bytes_from_tensors({}))
    ...     header_bytes(Path(folder, "a"))
    16
    """
    with open(path, "rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def read_recipe(path: Path | str) -> dict[str, Any]:
    """Return the recipe in a file of `save`; errors as in `load`.

    >>> read_recipe("absent")
    Traceback (most recent call last):
    ...
    FileNotFoundError: There is no file at absent.
    """
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the recipe and the tensors of a file, both checked against the checksum."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file at {path}.")
    content = path.read_bytes()
    try:
        tensors = tensors_from_bytes(content)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a safetensors file, or is cut off or damaged: {error}"
        ) from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    try:
        recipe = json.loads(header["__metadata__"][_ENTRY])
        version = recipe["version"]
        if recipe["format"] != FORMAT:
            raise KeyError
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError):
        raise ValueError(
            f"{path} is a safetensors file, but not one that labkit's save wrote: it has no recipe"
        ) from None
    if version != VERSION:
        raise ValueError(
            f"{path} has version {version} of the format, this labkit reads version {VERSION}; "
            "load it with the labkit that wrote it, or a newer one"
        )
    expected = recipe.pop("sha256", None)
    if checksum(recipe, tensors) != expected:
        raise ValueError(f"{path} is damaged: its checksum does not fit its content")
    return recipe, tensors


def checksum(recipe: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a sha256 over all that is stored, in an order of its own: name, dtype, shape, bytes.

    >>> checksum({}, {"a": torch.zeros(2)}) == checksum({}, {"a": torch.zeros(1, 2)})
    False
    """
    digest = hashlib.sha256(_json(recipe).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
