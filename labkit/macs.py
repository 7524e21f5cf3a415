"""Multiply-adds of a model, and what enters its layers: seen while an example runs through it."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from labkit.attention import can_split, split_attention
from labkit.selection import quantizable_layers


def count_macs(model: nn.Module, example: Tensor | tuple[Tensor, ...]) -> dict[str, int]:
    """Return {layer name: multiply-adds of one call} of every quantizable layer.

    example: one input, or a tuple of them. A layer used twice counts twice, one that is not reached
    counts 0, and so does an embedding, which multiplies nothing. Raises ValueError for an example
    that the model does not take.

    >>> count_macs(nn.Sequential(nn.Linear(4, 2)), torch.zeros(3, 4))
    {'0': 24}
    """
    calls = layer_calls(model, example)
    return {name: sum(call.macs for call in seen) for name, (_, seen) in calls.items()}


class LayerCall:
    """One call of a layer: what entered it, and the multiply-adds it took."""

    def __init__(self, layer: nn.Module, x: Tensor, output: Tensor) -> None:
        """Every output value sums as many products as one row of the weight has values."""
        self.x = x.detach()
        embeds = isinstance(layer, nn.Embedding)
        self.macs = 0 if embeds else output.numel() * math.prod(layer.weight.shape[1:])


def layer_calls(
    model: nn.Module, example: Tensor | tuple[Tensor, ...]
) -> dict[str, tuple[nn.Module, list[LayerCall]]]:
    """Return {name: (layer, its calls)} of every quantizable layer; the model is not modified.

    The layers belong to a copy of the model in which attention is split as `quantize_model` splits
    it. Raises ValueError as `count_macs`.

    >>> layer, calls = layer_calls(nn.Sequential(nn.Linear(4, 2)), torch.zeros(3, 4))["0"]
    >>> calls[0].x.shape
    torch.Size([3, 4])
    """
    attention = [name for name, module in model.named_modules() if can_split(module)]
    work = split_attention(copy.deepcopy(model).eval(), attention)
    found = {name: (work.get_submodule(name), []) for name in quantizable_layers(model)}
    inputs = example if isinstance(example, tuple) else (example,)
    handles = [layer.register_forward_hook(_note(calls)) for layer, calls in found.values()]
    try:
        with torch.no_grad():
            work(*inputs)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        given = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in inputs]
        raise ValueError(
            f"{type(model).__name__} does not take the example of shape {given}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


def _note(calls: list[LayerCall]):
    def hook(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        calls.append(LayerCall(layer, inputs[0], output))

    return hook
