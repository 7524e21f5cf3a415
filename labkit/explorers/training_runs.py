"""One training under quantization, as the live panel runs it: watched, and stopped at any batch.

The trained 784-256-128-10 network goes on training for four epochs with its weights rounded.
Activations stay float. Its right answers on the 1000 test images are measured four times an epoch.
The control is the same network, trained as long on the same batches, with nothing rounded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from labkit.data import Mnist, load_mnist
from labkit.evaluate import Accuracy, accuracy
from labkit.qat import BatchRecord, EpochRecord, train_quantized
from labkit.quantize import quantize_model
from labkit.zoo import mnist_mlp

EPOCHS, PARTS, BATCH = 4, 4, 64
"""Epochs of a training, measurements in an epoch, images in a batch."""
_SMOOTH = 8


@dataclass(frozen=True)
class Setting:
    """What is trained: bits of a weight, one grid a "tensor" or "channel", which step rule.

    >>> Setting().step_rule
    'range'
    """

    bits: int = 2
    granularity: str = "tensor"
    step_rule: str = "range"


@dataclass(frozen=True)
class Run:
    """One training so far: measured points (epochs, quality) and (epochs, mean loss of a batch).

    `setting` is None for the control; `ended` is "" while it trains, then "finished" or "stopped".

    >>> Run(Setting()).quality is None
    True
    """

    setting: Setting | None
    points: tuple[tuple[float, Accuracy], ...] = ()
    losses: tuple[tuple[float, float], ...] = ()
    ended: str = ""

    @property
    def quality(self) -> Accuracy | None:
        """The last measurement; None before the first."""
        return self.points[-1][1] if self.points else None

    @property
    def epochs(self) -> float:
        """How far it has come."""
        return self.losses[-1][0] if self.losses else 0.0


class Parts:
    """The training images in shuffled batches, a part of them each time it is run through.

    An epoch is over after as many times as there are parts; then they are shuffled again. Seeded.

    >>> len(Parts(torch.zeros(400, 1), torch.zeros(400))), len(list(Parts(*torch.zeros(2, 400))))
    (2, 2)
    """

    def __init__(self, images: Tensor, labels: Tensor, parts: int = PARTS, seed: int = 0) -> None:
        """images: (n, ...), labels: (n,)."""
        self._size = -(-len(images) // parts)
        self._images, self._labels = images, labels
        self._random = torch.Generator().manual_seed(seed)
        self._left: list[Tensor] = []

    def __len__(self) -> int:
        """Batches in a part."""
        return -(-self._size // BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of the next part."""
        if not self._left:
            order = torch.randperm(len(self._images), generator=self._random)
            self._left = list(order.split(self._size))
        for chosen in self._left.pop(0).split(BATCH):
            yield self._images[chosen], self._labels[chosen]


class Watch:
    """Collects what a training reports into a `Run`; `tell` is called after each batch."""

    def __init__(self, setting: Setting | None, tell: Callable[[Run], object]) -> None:
        """Start with a run that has no points."""
        self.run, self._tell, self._recent = Run(setting), tell, []

    def batch(self, record: BatchRecord) -> None:
        """Note the loss of a batch, as the mean of the last eight."""
        self._recent = [*self._recent, record.loss][-_SMOOTH:]
        at = (record.epoch - 1 + record.batch / record.batches) / PARTS
        loss = (at, sum(self._recent) / len(self._recent))
        self.run = replace(self.run, losses=(*self.run.losses, loss))
        self._tell(self.run)

    def part(self, record: EpochRecord) -> None:
        """Note the quality after a part."""
        point = (record.epoch / PARTS, record.quality)
        self.run = replace(self.run, points=(*self.run.points, point))


def train(
    setting: Setting,
    *,
    tell: Callable[[Run], object] = lambda run: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[nn.Module, Run]:
    """Train the network as `setting` says; return the quantized network and the run.

    `tell(run so far)` is called after each batch; when `stop()` is true the training ends there,
    and the network is what it was trained to until then.
    """
    watch = Watch(setting, tell)
    quantized, _ = quantize_model(
        mnist_mlp(),
        "qat",
        bits=setting.bits,
        granularity=setting.granularity,
        activation_bits=None,
        train_loader=_parts(),
        num_epochs=EPOCHS * PARTS,
        training={
            "step_rule": setting.step_rule,
            "validate": quality_of,
            "stop": stop,
            "after_batch": watch.batch,
            "after_epoch": watch.part,
        },
    )
    return quantized, _ended(watch.run, quality_of(quantized))


def train_control(
    *, tell: Callable[[Run], object] = lambda run: None, stop: Callable[[], bool] = lambda: False
) -> Run:
    """Train the float network for as long, on the same batches; arguments as in `train`."""
    watch, model = Watch(None, tell), copy.deepcopy(mnist_mlp())
    train_quantized(
        model,
        {},
        _parts(),
        EPOCHS * PARTS,
        activation_bits=None,
        validate=quality_of,
        stop=stop,
        after_batch=watch.batch,
        after_epoch=watch.part,
    )
    return _ended(watch.run, quality_of(model))


def quality_of(model: nn.Module) -> Accuracy:
    """Measure the right answers on the 1000 test images."""
    return accuracy(model, _mnist().test_images, _mnist().test_labels)


@cache
def rounded_only(bits: int, granularity: str) -> Accuracy:
    """Return the quality of the network when its weights are rounded and nothing is trained.

    >>> 0.1 < rounded_only(2, "tensor").value < 0.25
    True
    """
    quantized, _ = quantize_model(mnist_mlp(), bits=bits, granularity=granularity)
    return quality_of(quantized)


@cache
def in_float() -> Accuracy:
    """Return the quality of the network as it is.

    >>> print(in_float())
    93.4 % [91.7, 94.8] of 1000 (measured)
    """
    return quality_of(mnist_mlp())


@cache
def _mnist() -> Mnist:
    return load_mnist()


def _parts() -> Parts:
    return Parts(_mnist().train_images, _mnist().train_labels)


def _ended(run: Run, quality: Accuracy) -> Run:
    """Close a run: what it has come to is measured once more, where it was stopped."""
    if run.points and run.points[-1][0] >= EPOCHS:
        return replace(run, ended="finished")
    return replace(run, points=(*run.points, (run.epochs, quality)), ended="stopped")
