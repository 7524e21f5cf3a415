"""Attention with its four projections as layers of their own.

`nn.MultiheadAttention` keeps the weights of three projections in one parameter and reads the fourth
directly, so that nothing enters a layer that a quantizer could replace or watch. `SplitAttention`
computes the same with ordinary Linear layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.modules import replace_modules


class SplitAttention(nn.Module):
    """What `nn.MultiheadAttention` computes, by q_proj, k_proj, v_proj and out_proj.

    Takes and returns the same, to float precision. Made from a module without `bias_k`, `bias_v`
    and `add_zero_attn`, see `can_split`.

    >>> attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    >>> x = torch.ones(1, 3, 8)
    >>> torch.allclose(SplitAttention(attention)(x, x, x)[0], attention(x, x, x)[0], atol=1e-6)
    True
    """

    # Torch's encoder layer asks for these; None tells it that there is no joint projection.
    in_proj_weight = in_proj_bias = None

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        """Take over the weights and settings of `attention`."""
        super().__init__()
        self.num_heads, self.batch_first = attention.num_heads, attention.batch_first
        self.dropout = attention.dropout
        for name, layer in projections(attention).items():
            self.add_module(name, layer)
        self.training = attention.training

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments, shapes and results as in `nn.MultiheadAttention`."""
        if is_causal and attn_mask is None:
            raise ValueError("is_causal is only a hint: give the causal attn_mask itself, too")
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q = self._heads(self.q_proj(query))
        k, v = self._heads(self.k_proj(key)), self._heads(self.v_proj(value))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if attn_mask is not None:
            mask = _added(attn_mask, scores.dtype)
            scores = scores + (mask.view(-1, *scores.shape[1:]) if mask.dim() == 3 else mask)
        if key_padding_mask is not None:
            scores = scores + _added(key_padding_mask, scores.dtype)[:, None, None]
        weights = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        out = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        if average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            out, weights = out[0], weights[0]
        elif not self.batch_first:
            out = out.transpose(0, 1)
        return out, weights if need_weights else None

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, tokens, features) → (batch, heads, tokens, features of a head)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def can_split(module: nn.Module) -> bool:
    """Tell whether `SplitAttention` can stand for `module`.

    >>> can_split(nn.MultiheadAttention(8, 2))
    True
    """
    return (
        type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn
    )


def projections(attention: nn.MultiheadAttention) -> dict[str, nn.Linear]:
    """Return the four projections as Linear layers that share the memory of its weights.

    >>> list(projections(nn.MultiheadAttention(8, 2)))
    ['q_proj', 'k_proj', 'v_proj', 'out_proj']
    """
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    weights = (
        list(attention.in_proj_weight.chunk(3))
        if attention._qkv_same_embed_dim
        else [getattr(attention, f"{name}_weight") for name in names[:3]]
    )
    bias = attention.in_proj_bias
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    weights.append(attention.out_proj.weight)
    biases.append(attention.out_proj.bias)
    return {
        name: _linear(*parameters) for name, *parameters in zip(names, weights, biases, strict=True)
    }


def split_attention(model: nn.Module, names: list[str]) -> nn.Module:
    """Put a `SplitAttention` in place of the attention modules called `names`; return the model.

    Changes `model` itself. Torch's encoder has a fused kernel that reads the weights of all its
    layers and calls none of them; that is switched off.

    >>> split_attention(nn.Sequential(nn.MultiheadAttention(8, 2)), ["0"])[0].q_proj
    Linear(in_features=8, out_features=8, bias=True)
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    old = [model.get_submodule(name) for name in names]
    return replace_modules(model, {module: SplitAttention(module) for module in old})


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(*reversed(weight.shape), bias=bias is not None, device="meta")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            setattr(layer, name, nn.Parameter(value.detach(), requires_grad=value.requires_grad))
    return layer


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores: -inf where a boolean one is True."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
