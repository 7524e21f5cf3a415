"""A quantized model beside its float original, on the same data: what each layer should give.

Corrections go through the layers in the order in which they compute. Each layer sees what comes out
of the quantized layers before it, corrected already, and is compared with what the original gives
at the same place; so it also makes up for what the layers before it have lost.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

import torch
from torch import Tensor, nn

from labkit.attention import can_split, split_attention
from labkit.calibration import arguments_of
from labkit.checks import check_finite
from labkit.layers import QuantEmbedding, QuantLayer
from labkit.recipe import notes
from labkit.transform import fold_batch_norm


class Beside:
    """A copy of a quantized model, ready to be changed, and the float model it was made from.

    `layers`: name → (float layer, quantized layer of the copy), in the order in which they compute.
    Embeddings are left out: they look numbers up and have no sums to correct. `batches` are inputs
    as `labkit.calibration.calibrate` takes them; they are run once a layer, and kept for that.

    Raises ValueError where the two models do not belong together, for no batches, for a layer that
    no batch reaches and for values that are not finite; the message names the layer.

    >>> from labkit.quantize import quantize_model
    >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> list(Beside(quantize_model(net)[0], net, torch.ones(1, 4)).layers)
    ['0', '2']
    """

    def __init__(self, quantized: nn.Module, model: nn.Module, batches: Iterable) -> None:
        """Copy both models; find out in which order the first batch passes the layers."""
        for role, given in (("quantized", quantized), ("model", model)):
            if not isinstance(given, nn.Module):
                raise ValueError(f"{role} must be a torch.nn.Module, got {type(given).__name__}")
        self.quantized = copy.deepcopy(quantized).eval()
        self._original = _same_structure(model, notes(quantized))
        pairs = _pairs(self._original, self.quantized)
        self._batches = _listed(batches)
        # How often a batch passes each layer.
        self._calls = self._count_calls(pairs)
        self.layers = {name: pairs[name] for name in self._calls}

    def visits(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, each time data passes a layer: (what enters it, what should come out).

        The first in the quantized model as it is now, before the layer rounds it; the second in the
        float model.
        """
        original, layer = self.layers[name]
        for batch in self._batches:
            entering = self._seen(name, self.quantized, layer, batch, "what enters")
            leaving = self._seen(name, self._original, original, batch, "what the model gives at")
            yield from zip(entering, leaving, strict=True)

    def _seen(
        self, name: str, model: nn.Module, layer: nn.Module, batch: object, what: str
    ) -> list[Tensor]:
        """Run the model as far as `layer`; return what it showed there."""
        seen: list[Tensor] = []

        def look(layer: nn.Module, arguments: tuple, named: dict, output: Tensor) -> None:
            # Torch's layers take one input, by position or as input=x.
            (x,) = (*arguments, *named.values())
            seen.append(output if model is self._original else x)
            try:
                check_finite(seen[-1])
            except ValueError as error:
                raise ValueError(f"{what} the layer {name!r}: {error}") from None
            if len(seen) == self._calls[name]:
                raise _FarEnough

        handle = layer.register_forward_hook(look, with_kwargs=True)
        with suppress(_FarEnough):
            try:
                _run(model, batch)
            finally:
                handle.remove()
        if len(seen) != self._calls[name]:
            raise ValueError(
                f"one batch passed the layer {name!r} {len(seen)} times, the first one "
                f"{self._calls[name]} times; exclude layers that not every input takes alike"
            )
        return seen

    def _count_calls(self, pairs: dict[str, tuple[nn.Module, QuantLayer]]) -> Counter[str]:
        calls: Counter[str] = Counter()
        with ExitStack() as stack:
            for name, (_, layer) in pairs.items():

                def count(layer: nn.Module, arguments: tuple, *, name: str = name) -> None:
                    calls[name] += 1

                stack.callback(layer.register_forward_pre_hook(count).remove)
            _run(self.quantized, self._batches[0])
        missed = [name for name in pairs if name not in calls]
        if missed:
            raise ValueError(
                f"no input reached the layers {', '.join(missed)}: give batches that use them, or "
                "leave them float (exclude)"
            )
        return calls


class _FarEnough(Exception):
    """What was to be seen has been seen: the layers behind need not run."""


def _run(model: nn.Module, batch: object) -> None:
    arguments, named = arguments_of(model, batch)
    with torch.no_grad():
        model(*arguments, **named)


def _listed(batches: Iterable) -> list:
    """Return the batches as a list, since they are run more than once; a tensor is one."""
    if isinstance(batches, Tensor):
        return [batches]
    if not isinstance(batches, Iterable):
        raise ValueError(
            f"batches must be inputs, e.g. a list of tensors; got {type(batches).__name__}"
        )
    listed = list(batches)
    if not listed:
        raise ValueError(
            "there are no batches; give a list of inputs, or a generator that has not been used up"
        )
    return listed


def _same_structure(model: nn.Module, notes: dict) -> nn.Module:
    """Return a copy of the float model, changed as `quantize_model` changed it before rounding."""
    work = copy.deepcopy(model).eval()
    modules = dict(work.named_modules())
    for name in notes["attention"]:
        if name not in modules or not can_split(modules[name]):
            raise ValueError(
                f"the float model has no MultiheadAttention {name!r}, which the quantized one was "
                "made from; give the model that quantize_model got"
            )
    work = split_attention(work, notes["attention"])
    return fold_batch_norm(work) if notes["folded"] else work


def _pairs(model: nn.Module, quantized: nn.Module) -> dict[str, tuple[nn.Module, QuantLayer]]:
    layers = {n: m for n, m in quantized.named_modules() if isinstance(m, QuantLayer)}
    if not layers:
        raise ValueError(
            f"{type(quantized).__name__} has no quantized layers; call quantize_model first"
        )
    originals = dict(model.named_modules(remove_duplicate=False))
    for name, layer in layers.items():
        original = originals.get(name)
        if not isinstance(original, layer.float_class):
            found = "nothing" if original is None else f"a {type(original).__name__}"
            raise ValueError(
                f"the quantized model has a {type(layer).__name__} at {name!r}, the float model "
                f"{found}; give the model that quantize_model got"
            )
        for what in ("weight_shape", *layer.geometry):
            ours = getattr(layer, what)
            theirs = (
                tuple(original.weight.shape) if what == "weight_shape" else getattr(original, what)
            )
            if theirs != ours:
                raise ValueError(
                    f"layer {name!r} has the {what} {ours}, in the float model {theirs}; "
                    "give the model that quantize_model got"
                )
    return {
        name: (originals[name], layer)
        for name, layer in layers.items()
        if not isinstance(layer, QuantEmbedding)
    }
