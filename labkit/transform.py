"""Before quantizing: the same function with weights that are easier to quantize."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from labkit.dataflow import Step, flows

# A batch norm and the layers whose output channels it can be folded into.
_FOLDS = {
    nn.BatchNorm1d: (nn.Linear, nn.Conv1d),
    nn.BatchNorm2d: (nn.Conv2d,),
    nn.BatchNorm3d: (nn.Conv3d,),
}


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
