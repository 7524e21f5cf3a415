"""Quantization-aware training: the model learns while it computes with quantized numbers.

    forward    w' = fake_quantize(w, grid)           what the quantized model will compute with
    backward   dL/dw = dL/dw' where the code is inside the code range, else 0     straight-through

The float weights stay behind the quantized ones and move by small steps; a code changes when its
weight has crossed half a step of the grid. Where the grids come from stands in `labkit.qat_grids`.

`quantize_model` folds batch norm before training, so that the weight that is trained is the weight
that will be stored. A batch norm that is still there is frozen: its running mean and variance are
what the stored model will use, and batches of jumping codes would only blur them.
Sources: Bengio et al. 2013 (straight-through estimator); Jacob et al. 2018, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from labkit.checks import check_bits, check_whole
from labkit.evaluate import Accuracy, measured
from labkit.inputs import Inputs, call, count
from labkit.not_finite import where_not_finite
from labkit.qat_checkpoint import (
    Progress,
    check_place,
    fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from labkit.qat_grids import STEP_RULES, Chooser, Grids, fake_quantized
from labkit.qat_records import BatchRecord, EpochRecord, Trained
from labkit.qparams import QParams

__all__ = ["STEP_RULES", "BatchRecord", "EpochRecord", "Trained", "train_quantized"]


def train_quantized(
    model: nn.Module,
    choose: Mapping[str, Chooser],
    train_loader: Iterable[tuple[Inputs, Tensor]],
    num_epochs: int,
    *,
    step_rule: str = "range",
    activation_bits: int | None = 8,
    learning_rate: float = 2e-3,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    max_norm: float | None = None,
    validate: Callable[[nn.Module], Accuracy | float] | None = None,
    patience: int | None = None,
    checkpoint: Path | str | None = None,
    stop: Callable[[], bool] | None = None,
    after_batch: Callable[[BatchRecord], object] | None = None,
    after_epoch: Callable[[EpochRecord], object] | None = None,
) -> Trained:
    """Train `model` in place under quantization; return the grids it was trained for, and how.

    `choose`: layer name → function from that layer's weight to its `QParams`. What enters those
    layers is quantized too, with `activation_bits` (None: it stays float). `step_rule`: where the
    grids come from, "range" or "learned", see `labkit.qat_grids`. `train_loader` yields (inputs,
    targets), several inputs in a tuple or by name in a dict, and is run through once an epoch.
    Adam; the learning rate falls to 0 along half a cosine. The model ends in eval mode with
    ordinary float weights; quantizing them on the grids that are returned gives exactly the model
    that was trained.

    * max_norm: gradients together longer than this are shortened to it.
    * validate: gives the quality, larger is better, of the model with its quantized numbers, in
      eval mode, after each epoch. With `patience`, so many epochs without a better one end the
      training, and whatever ended it, the best state is restored.
    * checkpoint: a safetensors file, written after each epoch. When it exists, training goes on
      from there and ends bit for bit where it would have without an interruption, given the same
      model, data and loss on the same machine.
    * stop: asked after each batch; True ends the training there.
    * after_batch, after_epoch: are told how it goes; counts start from 1.

    Raises ValueError for a layer that does not exist or was never reached, no epochs, no batches,
    options that cannot work, a checkpoint of another training, and a loss that is no longer finite:
    it names the layer where the first such number arose, or the loss function.

    >>> from labkit.qparams import choose_qparams
    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> batches = [(torch.eye(4), torch.tensor([0, 1, 0, 1]))]
    >>> trained = train_quantized(model, {"0": lambda w: choose_qparams(w, 2)}, batches, 3)
    >>> trained.ended, trained.weight_grids["0"].quant_max, trained.input_grids["0"].quant_max
    ('finished', 3, 255)
    """
    _check(model, choose, num_epochs, step_rule, activation_bits, learning_rate, max_norm)
    _check_functions(
        loss=loss, validate=validate, stop=stop, after_batch=after_batch, after_epoch=after_epoch
    )
    _check_patience(validate, patience)
    check_loader(train_loader, num_epochs)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        check_place(path)
    with fake_quantized(model, choose, activation_bits, step_rule) as grids:
        try:
            training = _Training(model, grids, train_loader, num_epochs, loss, learning_rate)
            training.max_norm, training.stop, training.after_batch = max_norm, stop, after_batch
            progress = Progress()
            if path is not None:
                facts = _facts(choose, num_epochs, step_rule, activation_bits, learning_rate)
                facts["max_norm"] = None if max_norm is None else float(max_norm)
                facts["patience"] = None if patience is None else int(patience)
                recipe = fingerprint(training.trained, facts, _weight_grids(model, grids).values())
                if path.exists():
                    progress = read_checkpoint(
                        path, recipe, training.trained, training.optimizer, train_loader
                    )
            ended = "finished"
            while len(progress.history) < num_epochs:
                if patience is not None and progress.stale >= patience:
                    ended = "early stop"
                    break
                mean = training.epoch(len(progress.history) + 1)
                if mean is None:
                    ended = "stopped"
                    break
                # The grids too: what is validated must not move the ranges that were trained for.
                training.trained.eval()
                record = EpochRecord(len(progress.history) + 1, mean, measured(validate, model))
                progress.note(record, training.trained)
                if after_epoch is not None:
                    after_epoch(record)
                if path is not None:
                    write_checkpoint(
                        path, recipe, training.trained, training.optimizer, train_loader, progress
                    )
            if patience is not None and progress.best is not None:
                training.trained.load_state_dict(progress.best)
        finally:
            model.eval()
        weights = _weight_grids(model, grids)
        inputs = {name: grid.qparams() for name, grid in grids.inputs.items()}
    return Trained(weights, inputs, tuple(progress.history), ended)


def check_loader(train_loader: Iterable, runs: int) -> None:
    """Raise ValueError for data that cannot be run through as often as it has to be.

    >>> check_loader(iter([]), 2)
    Traceback (most recent call last):
    ...
    ValueError: train_loader is run through 2 times, and a list_iterator is used up after the ...
    """
    if runs > 1 and isinstance(train_loader, Iterator):
        raise ValueError(
            f"train_loader is run through {runs} times, and a {type(train_loader).__name__} is "
            "used up after the first; give a list of batches or a DataLoader"
        )


def _weight_grids(model: nn.Module, grids: Grids) -> dict[str, QParams]:
    """The grids that the weights have now, by layer."""
    return {
        name: grid.qparams(model.get_submodule(name).parametrizations.weight.original)
        for name, grid in grids.weights.items()
    }


class _Training:
    """What one epoch needs: the model with its grids, the optimizer and the data."""

    stop = after_batch = max_norm = None

    def __init__(
        self,
        model: nn.Module,
        grids: Grids,
        train_loader: Iterable,
        num_epochs: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        learning_rate: float,
    ) -> None:
        self.model, self.grids, self.loader, self.loss = model, grids, train_loader, loss
        self.num_epochs, self.learning_rate = num_epochs, learning_rate
        # The grids of the weights are a part of the model already.
        self.trained = nn.ModuleList((model, nn.ModuleList(grids.inputs.values())))
        # Fused: one walk through memory a step instead of ten, and no room for what lies between.
        self.optimizer = torch.optim.Adam(self.trained.parameters(), learning_rate, fused=True)
        self.batches = len(train_loader) if hasattr(train_loader, "__len__") else None

    def epoch(self, number: int) -> float | None:
        """Run through the data once; return the mean loss of a sample, None when stopped."""
        self.trained.train()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        total, samples = 0.0, 0
        for batch, (inputs, targets) in enumerate(self.loader, start=1):
            # Without a length the rate falls from epoch to epoch.
            share = 0.0 if self.batches is None else (batch - 1) / self.batches
            self._set_rate((number - 1 + share) / self.num_epochs)
            value = self._step(inputs, targets)
            total += value * count(inputs)
            samples += count(inputs)
            if self.after_batch is not None:
                self.after_batch(BatchRecord(number, batch, self.batches, value))
            if self.stop is not None and self.stop():
                self._check_reached()
                return None
        if samples == 0:
            raise ValueError(
                "train_loader held no batches in an epoch; give a list or a DataLoader, "
                "not a generator that is used up after the first epoch"
            )
        self._check_reached()
        return total / samples

    def _step(self, inputs: Inputs, targets: Tensor) -> float:
        # A weight that several layers read is quantized once.
        with parametrize.cached():
            loss = self.loss(call(self.model, inputs), targets)
        value = loss.item()
        if not math.isfinite(value):
            self._refuse(value, inputs)
        self.optimizer.zero_grad()
        loss.backward()
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(self.trained.parameters(), self.max_norm)
        self.optimizer.step()
        return value

    def _refuse(self, value: float, inputs: Inputs) -> None:
        place = where_not_finite(self.model, inputs)
        if place is None:
            cause = "the model's output is finite: look at the loss function and the targets"
        else:
            cause = f"the first number that is not finite arose {place}: look there"
        raise ValueError(
            f"the loss became {value}; {cause}, or try a learning rate below {self.learning_rate}"
        )

    def _set_rate(self, progress: float) -> None:
        rate = self.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _check_reached(self) -> None:
        missed = [name for name, grid in self.grids.inputs.items() if not grid.reached]
        if missed:
            raise ValueError(f"no input reached the layers {', '.join(missed)}: exclude them")


def _check(
    model: nn.Module,
    choose: Mapping[str, Chooser],
    num_epochs: int,
    step_rule: str,
    activation_bits: int | None,
    learning_rate: float,
    max_norm: float | None,
) -> None:
    layers = dict(model.named_modules())
    unknown = sorted(choose.keys() - layers.keys())
    if unknown:
        around = unknown[0].rpartition(".")[0]
        if isinstance(layers.get(around), nn.MultiheadAttention):
            raise ValueError(
                f"{unknown[0]!r} is no layer of its own while {around!r} is a MultiheadAttention: "
                f"split it first, labkit.attention.split_attention(model, [{around!r}])"
            )
        names = ", ".join(filter(None, layers))
        raise ValueError(f"the model has no layer {', '.join(unknown)}; it has {names}")
    if check_whole("num_epochs", num_epochs) < 1 or not 0 < learning_rate < math.inf:
        raise ValueError(
            f"got num_epochs={num_epochs} and learning_rate={learning_rate}; "
            "needs at least 1 epoch and a learning rate above 0, e.g. 2e-3"
        )
    if step_rule not in STEP_RULES:
        raise ValueError(f"step_rule must be one of {', '.join(STEP_RULES)}; got {step_rule!r}")
    if step_rule == "range" and not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            "no parameter of the model can be trained; call model.requires_grad_(True) first"
        )
    if activation_bits is not None:
        check_bits(activation_bits)
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, or None; got {max_norm}")


def _check_functions(*, loss: object, **optional: object) -> None:
    if not callable(loss):
        raise ValueError(
            f"loss must be a function, e.g. torch.nn.functional.cross_entropy; got {loss!r}"
        )
    for name, function in optional.items():
        if not (function is None or callable(function)):
            raise ValueError(f"{name} must be a function, or None; got {function!r}")


def _check_patience(validate: object, patience: int | None) -> None:
    if patience is None:
        return
    if check_whole("patience", patience) < 1 or validate is None:
        raise ValueError(
            f"patience counts epochs without a better quality: it needs to be at least 1, and a "
            f"validate function of the model; got patience={patience}, validate={validate}"
        )


def _facts(
    choose: Mapping[str, Chooser],
    num_epochs: int,
    step_rule: str,
    activation_bits: int | None,
    learning_rate: float,
) -> dict[str, object]:
    return {
        "layers": sorted(choose),
        "num_epochs": int(num_epochs),
        "step_rule": step_rule,
        "activation_bits": None if activation_bits is None else int(activation_bits),
        "learning_rate": float(learning_rate),
    }
