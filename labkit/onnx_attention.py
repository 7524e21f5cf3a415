"""Attention as one ONNX operator, in place of two multiplications with transposes around them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class OneOperatorAttention(TorchFunctionMode):
    """While torch traces inside it, attention is written as ONNX Runtime's MultiHeadAttention.

    Attention is `functional.scaled_dot_product_attention` of float32 (n, heads, tokens, features)
    without a mask, dropout or another option; any other call stays torch's own. Source:
    onnxruntime, ContribOperators.md, com.microsoft.MultiHeadAttention.

    >>> x = torch.zeros(1, 2, 3, 4)
    >>> with OneOperatorAttention():
    ...     functional.scaled_dot_product_attention(x, x, x).shape
    torch.Size([1, 2, 3, 4])
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Replace attention, and let everything else through."""
        plain = function is functional.scaled_dot_product_attention and not kwargs
        if plain and len(args) == 3 and _fits(*args):
            return _attention(*args)
        return function(*args, **(kwargs or {}))


def _fits(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the operator knows these inputs: it neither broadcasts nor takes other floats."""
    parts = (query, key, value)
    return all(
        x.ndim == 4 and x.dtype == torch.float32 and x.shape[:2] == query.shape[:2] for x in parts
    )


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    # It takes and gives (n, tokens, heads × features): the transposes cancel those of the model.
    heads = query.shape[1]
    parts = [x.transpose(1, 2).flatten(2) for x in (query, key, value)]
    y = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        parts,
        {"num_heads": heads},
        dtype=torch.float32,
        shape=(*parts[0].shape[:2], parts[2].shape[2]),
        version=1,
    )
    return y.unflatten(-1, (heads, -1)).transpose(1, 2)
