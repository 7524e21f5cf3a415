"""Where NaN or an infinity arose on the way through a model: for the message when one is found.

The model runs once more on the batch with a look at what every layer returns, so that ordinary runs
pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from labkit.inputs import Inputs, call


def where_not_finite(model: nn.Module, inputs: Inputs) -> str | None:
    """Say where the first number that is not finite arises; None when the output is finite.

    In the mode the model is in, and without gradients. A layer within another is named before it;
    what a layer computes besides the layers in it is its own.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> _ = model[0].weight.data.fill_(torch.inf)
    >>> where_not_finite(model, torch.ones(1, 2))
    "in the output of layer '0'"
    """
    if not _is_finite(inputs):
        return "in the inputs of the batch"
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(layer: nn.Module, arguments: tuple, output: object) -> None:
            if not _is_finite(output):
                found.append(
                    f"in the output of layer {name!r}" if name else "outside of its layers"
                )

        return hook

    with torch.no_grad(), ExitStack() as stack:
        for name, layer in model.named_modules():
            stack.callback(layer.register_forward_hook(look(name)).remove)
        call(model, inputs)
    return found[0] if found else None


def _is_finite(value: object) -> bool:
    """Whether all numbers are; also in a tuple, a list or a dict of tensors."""
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return True
    return all(map(_is_finite, value))
