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

from labkit.checks import check_axis, check_tensor


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
    if scale.numel() == 0 or not 0 < scale.detach().amin() <= scale.detach().amax() < math.inf:
        raise ValueError(f"a step must be positive and finite, got {scale.detach()}")
    try:
        broadcasts = torch.broadcast_shapes(x.shape, scale.shape) == x.shape
    except RuntimeError:
        broadcasts = False
    if not broadcasts:
        raise ValueError(
            f"steps of shape {tuple(scale.shape)} do not broadcast to x of shape "
            f"{tuple(x.shape)}; give one step, or one a channel, e.g. of shape (channels, 1)"
        )
    shared = x.numel() // scale.numel() if elements is None else elements
    y, _ = _LearnedStep.apply(x, scale, zero_point, quant_min, quant_max, max(shared, 1))
    return y


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


class _LearnedStep(torch.autograd.Function):
    """Equations 1 to 3; every pass works in place on as few large tensors as there can be."""

    @staticmethod
    def forward(x, scale, zero_point, quant_min, quant_max, elements):
        y = (x / scale).round_().add_(zero_point)
        clamped = y.clamp(quant_min, quant_max)
        inside = clamped == y
        return torch.sub(clamped, zero_point, out=y).mul_(scale), inside

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, scale, zero_point, _, quant_max, elements = inputs
        y, inside = output
        ctx.mark_non_differentiable(inside)
        ctx.save_for_backward(x, scale, y, inside)
        positive = torch.as_tensor(quant_max - zero_point, dtype=scale.dtype).clamp(min=1)
        ctx.factor = (elements * positive).rsqrt()

    @staticmethod
    def backward(ctx, gradient, _):
        x, scale, y, inside = ctx.saved_tensors
        for_x = gradient * inside
        for_scale = None
        if ctx.needs_input_grad[1]:
            # Inside, x' / s - x / s; where x clips, only x' / s.
            change = (y - x * inside).mul_(gradient)
            for_scale = change.sum_to_size(scale.shape) / scale * ctx.factor
        return for_x if ctx.needs_input_grad[0] else None, for_scale, None, None, None, None
