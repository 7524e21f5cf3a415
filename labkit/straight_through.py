"""The backward step of fake quantization: what a gradient at the rounded values says of the rest.

    x' = (clamp(round(x / s) + z, quant_min, quant_max) - z) · s
    dx'/dx     1 where the rounded code is inside the code range, 0 where it clips
    dx'/ds     round(x / s) - x / s inside, x' / s where it clips

Rounding counts as the identity in both (Bengio et al. 2013). The codes are computed anew: to have
kept them would have cost more, in memory and in time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.granularity import blocks, work_dtype
from labkit.qparams import QParams


def passed_back(
    gradient: Tensor, x: Tensor, grid: QParams, *, of_steps: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the gradient of x and, where asked for, that of the steps (None otherwise).

    `gradient` is that of the result and has the shape of x. The gradient of a step is the sum over
    all that share it, shaped like the scale; the grid is one without a `group_size` then. Both in
    one walk through the blocks of x: each is in the cache for all that is done to it.

    >>> x, grid = torch.tensor([0.3, 9.0]), QParams(0.5, 2, 0, 3)
    >>> passed_back(torch.ones(2), x, grid, of_steps=True)
    (tensor([1., 0.]), tensor(1.4000))
    """
    work, sums, space = work_dtype(x.dtype), [], None
    x, arrived = x.detach().to(work), gradient.to(work).contiguous()
    for_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    # Codes are whole, so the ends lie between them. A mask of bools would cost ten times as much.
    ends = grid.quant_min - 0.5, grid.quant_max + 0.5
    for (values, arriving, out), scale, zero_point in blocks(grid, x, arrived, for_x):
        codes = torch.div(values, scale, out=out).round_()
        if not grid.centred:
            codes.add_(zero_point)
        if of_steps:
            # One work space for all blocks: memory that is new each time costs more than a pass.
            space = torch.empty_like(values) if space is None else space[: len(values)]
            rounded = torch.clamp(codes, grid.quant_min, grid.quant_max, out=space)
            rounded = (rounded if grid.centred else rounded.sub_(zero_point)).mul_(scale)
        torch.ops.aten.hardtanh_backward.grad_input(arriving, codes, *ends, grad_input=out)
        if of_steps:
            # gradient · x' - (gradient of x) · x, and as all of it is linear in the step: / step
            parts = rounded.mul_(arriving).addcmul_(out, values, value=-1)
            sums.append(parts.sum_to_size(scale.shape))
    for_x = for_x.to(gradient.dtype)
    if not of_steps or not sums:
        return for_x, torch.zeros_like(grid.scale) if of_steps else None
    a_step_a_row = grid.scale.ndim > 0 and grid.scale.shape[0] > 1
    total = torch.cat(sums) if a_step_a_row else sum(sums[1:], sums[0])
    return for_x, total.reshape(grid.scale.shape) / grid.scale
