"""Before quantizing: the same function with weights that are easier to quantize.

Folding removes what quantized arithmetic has no room for; equalization gives the channels of a
layer like ranges, so that one scale for all of them does not drown the small ones.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.dataflow import Step, flows

# A batch norm and the layers whose output channels it can be folded into.
_FOLDS = {
    nn.BatchNorm1d: (nn.Linear, nn.Conv1d),
    nn.BatchNorm2d: (nn.Conv2d,),
    nn.BatchNorm3d: (nn.Conv3d,),
}

# What may stand between two equalized layers: f(s · x) = s · f(x) for every s > 0.
_HOMOGENEOUS = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Dropout)
_HOMOGENEOUS_FUNCTIONS = (F.relu, torch.relu, "relu")
# The layers, and what moves or picks values within a channel of theirs.
_EQUALIZED = {
    nn.Linear: (),
    nn.Conv1d: (nn.ZeroPad1d, nn.MaxPool1d, nn.AvgPool1d),
    nn.Conv2d: (nn.ZeroPad2d, nn.MaxPool2d, nn.AvgPool2d),
}
# A channel so much smaller than the largest of its layer counts as dead.
_DEAD = 1e-6


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy of `model` whose batch norms are part of the layer before, where that is exact.

    In eval mode a batch norm is y = (x - mean) * factor + shift a channel, with
    factor = gamma / sqrt(variance + eps). A convolution or linear layer before it takes the factor
    into its weights and the rest into its bias, and nn.Identity takes its place. Computed in
    float64, so the outputs agree to float precision; `model` itself is not modified.

    Left as they are: a batch norm whose input something else reads too, layers that run more than
    once or carry hooks, and batch norms without running statistics. After a Linear, a BatchNorm1d
    is taken to see (n, features). A forward pass that torch.fx cannot trace: see `dataflow.flows`.
    Raises ValueError when a batch norm is in training mode: its output then depends on the batch.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> fold_batch_norm(net)[1]
    Identity()
    """
    norms = {n: m for n, m in model.named_modules() if type(m) in _FOLDS}
    live = [name for name, norm in norms.items() if norm.training and norm.track_running_stats]
    if live:
        raise ValueError(
            f"the batch norm {live[0]!r} is in training mode, where its output depends on the "
            "batch; call model.eval() first"
        )
    model = copy.deepcopy(model)
    if not norms:
        return model
    for name, steps in flows(model).items():
        layer = model.get_submodule(name)
        if steps and is_plain(layer) and _folds_into(steps[0], layer):
            _fold(layer, steps[0].action)
            model.set_submodule(steps[0].name, nn.Identity())
    return model


def is_plain(module: nn.Module) -> bool:
    """Tell whether nothing but its own class decides what `module` computes: no hooks.

    >>> is_plain(nn.Linear(2, 2))
    True
    """
    return not (module._forward_hooks or module._forward_pre_hooks)


def _folds_into(step: Step, layer: nn.Module) -> bool:
    # Exact types: a subclass may compute something else (parametrized weights, for one).
    norm = step.action
    return (
        type(layer) in _FOLDS.get(type(norm), ())
        and is_plain(norm)
        and norm.running_mean is not None
    )


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Put the batch norm's factor and shift into the weights and the bias of `layer`."""
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.detach().double()
    shift = -norm.running_mean.double() * factor
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    if layer.bias is not None:
        shift = shift + layer.bias.detach().double() * factor
    set_parameters(layer, layer.weight.detach().double() * _column(factor, layer.weight), shift)


def set_parameters(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Give `layer` new parameters in its own dtype; others that share the old ones keep them.

    >>> layer = nn.Linear(1, 1)
    >>> set_parameters(layer, layer.weight.double(), None)
    >>> layer.weight.dtype, layer.bias
    (torch.float32, None)
    """
    dtype, trained = layer.weight.dtype, layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=trained)
    layer.bias = None if bias is None else nn.Parameter(bias.to(dtype), requires_grad=trained)


def _column(values: Tensor, weight: Tensor) -> Tensor:
    """One value a row of `weight`, shaped to broadcast."""
    return values.reshape(-1, *[1] * (weight.ndim - 1))


def equalize(model: nn.Module, *, tolerance: float = 1e-3, max_sweeps: int = 100) -> nn.Module:
    """Return a copy of `model` in which consecutive layers share out their channels' ranges.

    Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721): dividing channel c of one layer
    by s and multiplying what the next layer does with it by s changes nothing after a ReLU. With
    s = sqrt(r1 / r2), where r1 and r2 are the largest magnitudes of the channel in the two layers,
    both become sqrt(r1 · r2). Repeated over all chains of Linear → Linear, Conv1d → Conv1d and
    Conv2d → Conv2d (grouped and depthwise too) until no scale changes by more than `tolerance`, or
    for `max_sweeps`.

    Between the two may stand ReLU, LeakyReLU, ReLU6, Identity, dropout, padding with zeros and
    pooling. A ReLU6 becomes a `ClampChannels` whose limit is divided by s as well, so that the
    function stays what it was to float precision. Channels that are zero in either layer, values
    that two layers read and layers that run twice are left alone. Batch norms are folded first:
    `fold_batch_norm`, which also raises the ValueErrors.

    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[8.0], [0.5]]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[0.5, 8.0]]))
    >>> better = equalize(net)
    >>> better[0].weight.flatten().tolist(), better[2].weight.flatten().tolist()
    ([2.0, 2.0], [2.0, 2.0])
    """
    model = fold_batch_norm(model)
    chains = _chains(model)
    scaled = {name: _Scaled(model.get_submodule(name)) for chain in chains for name in chain[:2]}
    for _ in range(max_sweeps):
        changes = [_balance(scaled[chain.first], scaled[chain.second]) for chain in chains]
        if max(changes, default=0.0) <= tolerance:
            break
    for chain in chains:
        for step in chain.between:
            if type(step.action) is nn.ReLU6:
                limit = scaled[chain.first].limit(6.0)
                model.set_submodule(step.name, ClampChannels(limit))
    for layer in scaled.values():
        layer.finish()
    return model


class ClampChannels(nn.Module):
    """ReLU6 whose upper limit is another one in each channel: clamp(x, 0, limit).

    limit: broadcasts to x, e.g. (channels, 1, 1) after a Conv2d. What becomes of a ReLU6 when
    `equalize` scales the channels that enter it.

    >>> ClampChannels(torch.tensor([3.0, 6.0]))(torch.tensor([[9.0, 9.0]]))
    tensor([[3., 6.]])
    """

    def __init__(self, limit: Tensor) -> None:
        """Keep `limit` as a buffer: it is stored and moved with the model, and not trained."""
        super().__init__()
        self.register_buffer("limit", limit)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that `limit` broadcasts to → the same shape."""
        return torch.minimum(x.relu(), self.limit)


class _Chain(NamedTuple):
    """Two layers by name, and the steps between them."""

    first: str
    second: str
    between: list[Step]


def _chains(model: nn.Module) -> list[_Chain]:
    """Find the pairs of layers between which scales can move."""
    chains = []
    for name, steps in flows(model).items():
        kind = type(model.get_submodule(name))
        if kind not in _EQUALIZED or not is_plain(model.get_submodule(name)):
            continue
        allowed = (*_HOMOGENEOUS, nn.ReLU6, *_EQUALIZED[kind])
        for index, step in enumerate(steps):
            module = isinstance(step.action, nn.Module)
            if not (is_plain(step.action) if module else step.action in _HOMOGENEOUS_FUNCTIONS):
                break
            if type(step.action) is kind:
                chains.append(_Chain(name, step.name, steps[:index]))
            if module and type(step.action) not in allowed:
                break
    return chains


class _Scaled:
    """A layer on its way to weights w · columns / rows: its channels' magnitudes, as a matrix.

    Only the final weights are rounded to the layer's dtype; until then all is float64.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.groups = getattr(layer, "groups", 1)
        # (groups, output channels of one, input channels of one): what the kernel holds at most.
        self.magnitudes = self._grouped(layer.weight).abs().amax(3)
        self.rows = torch.ones_like(self.magnitudes[:, :, :1])
        self.columns = torch.ones_like(self.magnitudes[:, :1, :])

    def _grouped(self, weight: Tensor) -> Tensor:
        outputs, inputs = weight.shape[:2]
        shape = (self.groups, outputs // self.groups, inputs, -1)
        return weight.detach().double().reshape(shape)

    def ranges(self, dim: int) -> Tensor:
        """Largest magnitude a channel: of its outputs (dim 2) or of its inputs (dim 1), flat."""
        return (self.magnitudes * self.columns / self.rows).amax(dim).flatten()

    def limit(self, value: float) -> Tensor:
        """`value` in the units of the scaled outputs, shaped to broadcast to them."""
        limit = value / self.rows.reshape(-1, *[1] * (self.layer.weight.ndim - 2))
        return limit.to(self.layer.weight.dtype)

    def finish(self) -> None:
        """Write the scaled weights and bias into the layer."""
        layer = self.layer
        weight = self._grouped(layer.weight)
        weight = weight * self.columns.unsqueeze(3) / self.rows.unsqueeze(3)
        bias = None if layer.bias is None else layer.bias.detach().double() / self.rows.flatten()
        set_parameters(layer, weight.reshape(layer.weight.shape), bias)


def _balance(first: _Scaled, second: _Scaled) -> float:
    """Move scales from `first` to `second` until their ranges agree; return the largest change."""
    outgoing, incoming = first.ranges(2), second.ranges(1)
    alive = (outgoing > _DEAD * outgoing.max()) & (incoming > _DEAD * incoming.max())
    scale = torch.where(alive, (outgoing / incoming).sqrt(), 1.0)
    first.rows *= scale.reshape(first.rows.shape)
    second.columns *= scale.reshape(second.columns.shape)
    return scale.log().abs().max().item()
