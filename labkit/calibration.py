"""Calibration: run real inputs through a model and watch what enters each layer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from labkit.activations import ActivationQuantizer


def calibrate(
    model: nn.Module, quantizers: Mapping[str, ActivationQuantizer], data: Iterable
) -> dict[str, ActivationQuantizer]:
    """Run `data` through the model and return a static quantizer for each observing one.

    `quantizers`: layer name → quantizer in the mode "observe" that is shown all that enters that
    layer. `data` yields batches, see `arguments_of`; only one batch is held at a time. The model
    computes in float and without gradients, in the mode it is in, and keeps no hooks. Raises
    ValueError for no data, and naming the layer for values that are not finite and for a layer that
    nothing reached.

    >>> from labkit.activations import ActivationQuantizer
    >>> class Widest:
    ...     def observe(self, x):
    ...         self.x = x
    ...     def qparams(self):
    ...         return choose_qparams(self.x)
    >>> from labkit.qparams import choose_qparams
    >>> net = nn.Sequential(nn.Linear(2, 2))
    >>> watching = ActivationQuantizer(8, "observe", observer=Widest())
    >>> calibrate(net, {"0": watching}, [torch.tensor([[0.0, 2.55]])])["0"].scale
    tensor(0.0100)
    """
    watches = {name: _Watch(name, quantizer) for name, quantizer in quantizers.items()}
    handles = []
    count = 0
    try:
        for name, watch in watches.items():
            layer = model.get_submodule(name)
            handles.append(layer.register_forward_pre_hook(watch, with_kwargs=True))
        with torch.no_grad():
            for batch in [data] if isinstance(data, Tensor) else data:
                arguments, named = arguments_of(model, batch)
                model(*arguments, **named)
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    if count == 0:
        raise ValueError(
            "the calibration data held no batches; give a list of input batches, or a generator "
            "that has not been used up"
        )
    missed = [name for name, watch in watches.items() if not watch.reached]
    if missed:
        raise ValueError(
            f"no calibration input reached the layers {', '.join(missed)}: "
            "exclude them, or calibrate with data that uses them"
        )
    return {name: quantizer.frozen() for name, quantizer in quantizers.items()}


def arguments_of(model: nn.Module, batch: object) -> tuple[tuple, dict]:
    """Return what to call the model with: (positional, by name).

    A tensor is one input, a dict holds inputs by name. Of a tuple or list, the model gets as many
    as its `forward` takes, so that the labels of a loader are left aside.

    >>> arguments_of(nn.Linear(2, 2), ["images", "labels"])
    (('images',), {})
    """
    if isinstance(batch, Mapping):
        return (), dict(batch)
    if not isinstance(batch, tuple | list):
        return (batch,), {}
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return tuple(batch), {}
    takes = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for kind in kinds
    )
    return tuple(batch[:takes]), {}


class _Watch:
    """A forward pre-hook that shows a quantizer what enters one layer."""

    def __init__(self, name: str, quantizer: ActivationQuantizer) -> None:
        self.name, self.quantizer, self.reached = name, quantizer, False

    def __call__(self, layer: nn.Module, arguments: tuple, named: dict) -> None:
        x = next(_tensors(arguments, named), None)
        if x is None:
            given = ", ".join(type(value).__name__ for value in (*arguments, *named.values()))
            raise ValueError(f"what enters the layer {self.name!r} is no tensor, got {given}")
        try:
            self.quantizer(x)
        except ValueError as error:
            raise ValueError(f"what enters the layer {self.name!r}: {error}") from None
        self.reached = True


def _tensors(arguments: tuple, named: dict) -> Iterator[Tensor]:
    yield from (x for x in (*arguments, *named.values()) if isinstance(x, Tensor))
