"""A quantized model that runs many times unpacks its weights once: same outputs, less time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from labkit.layers import QuantLayer


@contextmanager
def unpacked(model: object) -> Iterator[None]:
    """Let the quantized layers of `model` keep their dequantized float32 weight inside the block.

    What they compute is the same to the last bit, but they do not unpack it at every call; so their
    codes must not be changed inside. A float model, or something that is no module, has none.

    >>> from labkit.layers import QuantLinear
    >>> layer = QuantLinear.from_float(nn.Linear(4, 2))
    >>> with unpacked(layer):
    ...     layer.weight is layer.weight
    True
    >>> layer.weight is layer.weight
    False
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    layers = [module for module in modules if isinstance(module, QuantLayer)]
    before = [layer.kept for layer in layers]
    try:
        for layer in layers:
            layer.kept = layer.weight_as(torch.float32)
        yield
    finally:
        for layer, kept in zip(layers, before, strict=True):
            layer.kept = kept
