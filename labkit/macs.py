"""Multiply-adds of a model, counted while an example runs through it."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from labkit.attention import can_split, split_attention
from labkit.selection import quantizable_layers


def count_macs(model: nn.Module, example: Tensor | tuple[Tensor, ...]) -> dict[str, int]:
    """Return {layer name: multiply-adds of one call} of every quantizable layer.

    >>> count_macs(nn.Sequential(nn.Linear(4, 2)), torch.zeros(3, 4))
    {'0': 24}
    """
    attention = [name for name, module in model.named_modules() if can_split(module)]
    work = split_attention(copy.deepcopy(model).eval(), attention)
    counts = dict.fromkeys(quantizable_layers(model), 0)
    handles = []

    def counter(name: str):
        def hook(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
            if not isinstance(layer, nn.Embedding):
                # Every output value sums as many products as a row of the weight has values.
                counts[name] += output.numel() * math.prod(layer.weight.shape[1:])

        return hook

    for name in counts:
        handles.append(work.get_submodule(name).register_forward_hook(counter(name)))
    inputs = example if isinstance(example, tuple) else (example,)
    with torch.no_grad():
        work(*inputs)
    return counts
