"""What a model is called with: one tensor, several in a tuple, or several by name in a dict."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""A batch of inputs, without the targets."""


def call(model: nn.Module, inputs: Inputs) -> Tensor:
    """Run `model` on one batch of inputs; a tuple or list holds as many as it takes.

    >>> import torch
    >>> call(nn.Bilinear(2, 3, 1), (torch.ones(4, 2), torch.ones(4, 3))).shape
    torch.Size([4, 1])
    """
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def count(inputs: Inputs) -> int:
    """Return the number of samples in a batch; ValueError for inputs of different numbers.

    >>> import torch
    >>> count((torch.ones(4, 2), torch.ones(4, 3)))
    4
    """
    if isinstance(inputs, Tensor):
        return len(inputs)
    parts = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    counts = {len(part) for part in parts}
    if len(counts) != 1:
        shapes = ", ".join(str(tuple(part.shape)) for part in parts) or "none"
        raise ValueError(f"inputs must hold equally many samples, got the shapes {shapes}")
    return counts.pop()
