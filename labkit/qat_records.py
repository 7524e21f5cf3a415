"""What training under quantization reports: while it runs, and at its end."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.evaluate import Accuracy
from labkit.qparams import QParams


@dataclass(frozen=True)
class BatchRecord:
    """One batch that was learned from: `epoch` and `batch` count from 1, `loss` is before the step.

    `batches` is how many an epoch has, None where the loader does not know.

    >>> BatchRecord(epoch=1, batch=3, batches=80, loss=0.5).batch
    3
    """

    epoch: int
    batch: int
    batches: int | None
    loss: float


@dataclass(frozen=True)
class EpochRecord:
    """One run through the data: the mean loss of a sample, and what `validate` said after it.

    >>> EpochRecord(epoch=1, loss=0.5).quality is None
    True
    """

    epoch: int
    loss: float
    quality: Accuracy | float | None = None


@dataclass(frozen=True)
class Trained:
    """How training under quantization went, and the grids that it was trained for.

    Quantizing the weights with `weight_grids` and the inputs of the layers with `input_grids` gives
    the model that was trained. Both go by the name of the layer; `input_grids` is empty where
    activations stayed float. `history` has a record for each epoch that was completed. `ended` is
    "finished", "early stop" (of `patience`) or "stopped" (by `stop`).

    >>> Trained({}, {}, (), "stopped").ended
    'stopped'
    """

    weight_grids: dict[str, QParams]
    input_grids: dict[str, QParams]
    history: tuple[EpochRecord, ...]
    ended: str
