"""LSQ: the step of a grid is learned together with the weights (Esser et al. 2020).

    forward    x' = (clamp(round(x / s) + z, quant_min, quant_max) - z) · s
    dx'/dx     1 where the rounded code is inside the code range, 0 where it clips
    dx'/ds     round(x / s) - x / s inside, x' / s where it clips                    (equation 3)

Rounding counts as the identity in both, so that a small step pulls clipped values in and a large
one is pulled by the rounding it causes. The gradient of the step sums over all N elements that
share it, so it is scaled by 1 / sqrt(N · Qp) to the size of a weight's (section 2.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.affine import on_grid
from labkit.checks import check_axis, check_tensor
from labkit.qparams import QParams
from labkit.straight_through import passed_back


def learned_step(
    x: Tensor,
    scale: Tensor,
    quant_min: int,
    quant_max: int,
    zero_point: Tensor | int = 0,
    *,
    elements: int | None = None,
) -> Tensor:
    """Return x on the grid of `scale`, as `labkit.affine.fake_quantize`, and learn the scale too.

    x: floats of any shape. scale: positive, 0-d (per tensor) or broadcastable to x (per channel),
    in the units of x. zero_point: whole numbers, shaped like the scale, that are not learned.
    `elements` is N, by default how many elements of x share one scale; the paper counts activations
    without the batch. Raises ValueError for a scale that is not positive and finite, or that does
    not broadcast to x.

    >>> x, scale = torch.tensor([0.6, 9.0]), torch.tensor(0.5, requires_grad=True)
    >>> y = learned_step(x, scale, -2, 1)
    >>> y.sum().backward()
    >>> y.tolist(), round(scale.grad.item() * math.sqrt(2 * 1), 4)
    ([0.5, 0.5], 0.8)
    """
    check_tensor(x)
    grid = QParams(
        scale.detach(), torch.as_tensor(zero_point).expand(scale.shape), quant_min, quant_max
    )
    shared = x.numel() // max(1, scale.numel()) if elements is None else elements
    return on_learned_grid(x, scale, grid, gradient_share(grid, shared))


def on_learned_grid(x: Tensor, scale: Tensor, grid: QParams, share: Tensor) -> Tensor:
    """Return what `learned_step` returns, with less around it: for training.

    `grid` is the one of this scale; `share` is from `gradient_share`.

    >>> scale = torch.tensor(0.5, requires_grad=True)
    >>> on_learned_grid(torch.tensor([0.6]), scale, QParams(scale, 0, -2, 1), 1.0).tolist()
    [0.5]
    """
    return _OnGrid.apply(x, scale, grid, share)


def gradient_share(grid: QParams, elements: int) -> Tensor:
    """Return 1 / sqrt(N · Qp), by which the gradient of a step is scaled, shaped like the scale.

    N is how many elements share a step, Qp how many codes lie above the zero point, at least 1.

    >>> gradient_share(QParams(0.5, 0, -2, 1), 100)
    tensor(0.1000)
    """
    return (max(elements, 1) * (grid.quant_max - grid.zero_point).clamp(min=1)).rsqrt()


def straight_through(x: Tensor, grid: QParams) -> Tensor:
    """Return what `labkit.affine.fake_quantize` returns, with less around it: for training.

    >>> straight_through(torch.tensor([0.3, 9.0]), QParams(0.5, 2, 0, 3))
    tensor([0.5000, 0.5000])
    """
    check_tensor(x)
    return _OnGrid.apply(x, grid.scale, grid, None)


def initial_step(x: Tensor, quant_max: int, axis: int | None = None) -> Tensor:
    """Return the paper's first step, 2 · mean(|x|) / sqrt(quant_max), per tensor or along `axis`.

    0-d, or broadcastable to x with one step for each slice of the axis; 0 where x is all zero.
    Raises ValueError for an empty tensor and for a quant_max below 1.

    >>> initial_step(torch.tensor([[1.0, -1.0], [0.5, 0.5]]), quant_max=1, axis=0)
    tensor([[2.],
            [1.]])
    """
    check_tensor(x)
    if x.numel() == 0 or quant_max < 1:
        raise ValueError(
            f"needs values and a quant_max of at least 1, got shape {tuple(x.shape)} and "
            f"quant_max={quant_max}"
        )
    size = x.detach().abs()
    if axis is None:
        return 2 * size.mean() / math.sqrt(quant_max)
    others = [d for d in range(x.ndim) if d != check_axis(x, axis)]
    mean = size.mean(others, keepdim=True) if others else size
    return 2 * mean / math.sqrt(quant_max)


class _OnGrid(torch.autograd.Function):
    """Equations 1 to 3. With one forward for value and context: torch is much quicker at those."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, grid: QParams, share: Tensor | None) -> Tensor:
        y, clipped = on_grid(x, grid)
        ctx.grid, ctx.share = grid, share
        # Where nothing clips, every gradient passes and x need not be kept.
        ctx.save_for_backward(x if clipped or ctx.needs_input_grad[1] else None)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (x,), grid = ctx.saved_tensors, ctx.grid
        if x is None:
            return gradient, None, None, None
        for_x, for_step = passed_back(gradient, x, grid, of_steps=ctx.needs_input_grad[1])
        return for_x, None if for_step is None else for_step * ctx.share, None, None
