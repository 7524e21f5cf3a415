"""A checkpoint of training: everything that decides how it goes on, in one safetensors file.

The state of the model, of its grids and of the optimizer, the best state so far, and the state of
the random numbers: torch's own and that of the loader. So training that was interrupted ends bit
for bit where it would have ended otherwise. Reading the file runs no code.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from torch import Tensor, nn

from labkit.atomic import replace_file
from labkit.evaluate import Accuracy
from labkit.files import checksum
from labkit.qat_records import EpochRecord
from labkit.qparams import QParams

VERSION = 1
_ENTRY = "training"


@dataclass
class Progress:
    """How far training has come, and the best state so far where one is kept.

    >>> progress = Progress()
    >>> progress.note(EpochRecord(1, 0.5, quality=0.9), nn.Linear(1, 1))
    >>> progress.note(EpochRecord(2, 0.4, quality=0.8), nn.Linear(1, 1))
    >>> progress.stale
    1
    """

    history: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Any] | None = None
    stale: int = 0

    def note(self, record: EpochRecord, trained: nn.Module) -> None:
        """Add an epoch; keep a copy of the state when its quality is the best so far.

        Raises ValueError for a quality that is no number: nothing is better or worse than that.
        """
        if record.quality is not None and math.isnan(_value(record.quality)):
            raise ValueError(
                f"validate returned {record.quality} after epoch {record.epoch}; it must give a "
                "number, larger is better"
            )
        before = [_value(r.quality) for r in self.history if r.quality is not None]
        self.history.append(record)
        if record.quality is None:
            return
        if before and _value(record.quality) <= max(before):
            self.stale += 1
        else:
            self.best, self.stale = copy.deepcopy(trained.state_dict()), 0


def check_place(path: Path) -> None:
    """Raise ValueError unless a checkpoint can be written at `path`: not only after an epoch.

    >>> check_place(Path("nowhere", "training.safetensors"))
    Traceback (most recent call last):
    ...
    ValueError: a checkpoint cannot be written to nowhere/training.safetensors: ...
    """
    if path.is_dir():
        problem = "that is a folder; name a file"
    elif not path.parent.is_dir():
        problem = f"there is no folder {path.parent}; make it first"
    elif not os.access(path.parent, os.W_OK):
        problem = f"the folder {path.parent} is read-only"
    else:
        return
    raise ValueError(f"a checkpoint cannot be written to {path}: {problem}")


def fingerprint(
    trained: nn.Module, facts: Mapping[str, Any], grids: Iterable[QParams] = ()
) -> dict[str, Any]:
    """Return the recipe of a training: `facts`, and a checksum of the state that it starts from.

    `grids`: of the weights at the start; the state holds none that follow from the weights.

    >>> fingerprint(nn.Linear(1, 1), {"num_epochs": 3})["num_epochs"]
    3
    """
    digest = hashlib.sha256()
    for grid in grids:
        form = grid.quant_min, grid.quant_max, grid.axis, grid.group_size
        digest.update(f"{form} {grid.scale.tolist()} {grid.zero_point.tolist()}".encode())
    for name, tensor in _tensors(trained.state_dict()).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return {"version": VERSION, **facts, "start": digest.hexdigest()}


def write_checkpoint(
    path: Path,
    recipe: Mapping[str, Any],
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable,
    progress: Progress,
) -> None:
    """Put everything into the file, whole or not at all.

    Raises ValueError for a module whose state holds something other than tensors.
    """
    tensors = {f"model.{n}": t for n, t in _tensors(trained.state_dict()).items()}
    if progress.best is not None:
        tensors |= {f"best.{n}": t for n, t in _tensors(progress.best).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    tensors["random"] = torch.get_rng_state()
    for index, generator in enumerate(_generators(loader)):
        tensors[f"generator.{index}"] = generator.get_state()
    facts = {
        "recipe": recipe,
        "history": [asdict(record) for record in progress.history],
        "stale": progress.stale,
    }
    # Copies: tensors that share memory cannot be written side by side.
    tensors = {n: tensor.detach().cpu().contiguous().clone() for n, tensor in tensors.items()}
    facts["sha256"] = checksum(facts, tensors)
    metadata = {_ENTRY: json.dumps(facts, sort_keys=True)}
    replace_file(path, bytes_from_tensors(tensors, metadata=metadata))


def read_checkpoint(
    path: Path,
    recipe: Mapping[str, Any],
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable,
) -> Progress:
    """Put everything back from the file, and return how far the training had come.

    Raises ValueError, and changes nothing, for a file that is no checkpoint, and for one that was
    written with another recipe; the message names what differs.
    """
    facts, tensors = _read(path)
    _check_recipe(path, facts["recipe"], recipe)
    generators = list(_generators(loader))
    stored = sum(name.startswith("generator.") for name in tensors)
    if stored != len(generators):
        raise ValueError(
            f"{path} was written with a loader of {stored} random generators, this one has "
            f"{len(generators)}; give the same kind of loader"
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    trained.load_state_dict(part("model."))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part("optimizer.").items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    torch.set_rng_state(tensors["random"])
    for index, generator in enumerate(generators):
        generator.set_state(tensors[f"generator.{index}"])
    history = [_record(values) for values in facts["history"]]
    return Progress(history, part("best.") or None, facts["stale"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    content = path.read_bytes()
    try:
        tensors = tensors_from_bytes(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header["__metadata__"][_ENTRY])
        expected = facts.pop("sha256")
        if facts["recipe"]["version"] != VERSION or checksum(facts, tensors) != expected:
            raise KeyError
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        raise ValueError(
            f"{path} is not a checkpoint of train_quantized, or is damaged; give another path, or "
            "remove the file to start anew"
        ) from None
    return facts, tensors


def _check_recipe(path: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(wanted))
    different = [
        f"{key} was {stored.get(key)!r} and is {wanted.get(key)!r}"
        for key in sorted(stored.keys() | wanted.keys())
        if key != "start" and stored.get(key) != wanted.get(key)
    ]
    if not different and stored["start"] != wanted["start"]:
        different = ["the model or its grids start from other numbers"]
    if different:
        raise ValueError(
            f"{path} belongs to another training: {'; '.join(different)}. Train as before to go "
            "on, or give another path, or remove the file to start anew"
        )


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}; only tensors can be stored")
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _generators(loader: Any) -> Iterator[torch.Generator]:
    """The random generators that decide the order of a DataLoader's batches, each once."""
    sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), sampler, getattr(sampler, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in owners)
    yield from dict.fromkeys(g for g in found if isinstance(g, torch.Generator))


def _record(values: dict[str, Any]) -> EpochRecord:
    quality = values["quality"]
    if isinstance(quality, dict):
        quality = Accuracy(**quality)
    return EpochRecord(values["epoch"], values["loss"], quality)


def _value(quality: Accuracy | float) -> float:
    return quality.value if isinstance(quality, Accuracy) else quality
