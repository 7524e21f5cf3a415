"""Granularity: which values share one scale, and how to walk through them.

Per tensor, per axis (channel) and per group differ only in the shape of the scale. Large tensors
are walked through in blocks that fit the CPU's cache, because several simple passes over a cached
block are faster than one pass after another over main memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labkit.checks import check_axis, check_whole

if TYPE_CHECKING:
    from labkit.qparams import QParams

# Elements handled at once on a CPU: 4 MiB of float32 stay in the outer cache between the passes. A
# smaller block is as fast on an idle machine, but slower when other programs hold a core.
BLOCK_ELEMENTS = 2**20


def split_groups(x: Tensor, group_size: int) -> Tensor:
    """View the last dimension of `x` as (groups, group_size), or say why that cannot be.

    >>> split_groups(torch.zeros(3, 8), 4).shape
    torch.Size([3, 2, 4])
    """
    if check_whole("group_size", group_size) < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    if x.ndim == 0 or x.shape[-1] % group_size:
        last = "no last dimension" if x.ndim == 0 else f"a last dimension of {x.shape[-1]}"
        raise ValueError(
            f"group_size {group_size} does not divide x of shape {tuple(x.shape)}: it has {last}; "
            "choose a divisor of it"
        )
    return x.reshape(*x.shape[:-1], x.shape[-1] // group_size, group_size)


def work_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision is computed in float32; float32 and float64 as they are.

    >>> work_dtype(torch.float16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def blocks(qparams: QParams, x: Tensor, *others: Tensor) -> Iterator[tuple]:
    """Walk through `x` and `others` (same shape, contiguous) in blocks for the cache.

    Yields ((x block, other blocks...), scale, zero_point) where the parameters broadcast to the
    blocks and are floats, ready for arithmetic. What is small comes in one block. Raises ValueError
    when they do not fit the shape of `x`.

    >>> from labkit.affine import QParams
    >>> x = torch.arange(6.0).reshape(2, 3)
    >>> [(x.shape, s.item()) for (x, _), s, _ in blocks(QParams(0.5, 0, 0, 255), x, x.clone())]
    [(torch.Size([2, 3]), 0.5)]
    """
    shape, scale, zero_point = _laid_out(x, qparams)
    small = x.numel() <= BLOCK_ELEMENTS or x.device.type != "cpu"
    # To view them anew takes as long as a pass through a small tensor.
    as_they_are = small and qparams.group_size is None
    tensors = (x, *others)
    if not as_they_are:
        tensors = (x.reshape(shape), *(other.view(shape) for other in others))
    if small:
        # Without a value there is no block, whatever the number of rows.
        if x.numel():
            yield tensors, scale, zero_point
        return
    rows = tensors[0].shape[0]
    step = max(1, BLOCK_ELEMENTS * rows // x.numel())
    per_row = scale.ndim > 0 and scale.shape[0] > 1
    for start in range(0, rows, step):
        block = slice(start, start + step)
        yield (
            tuple(tensor[block] for tensor in tensors),
            scale[block] if per_row else scale,
            zero_point[block] if per_row else zero_point,
        )


def _laid_out(x: Tensor, qparams: QParams) -> tuple[Sequence[int], Tensor, Tensor]:
    """The shape to view x in, and the parameters as floats that broadcast to it."""
    scale = qparams.scale.to(x.device)
    zero_point = qparams.zero_point.to(x.device, scale.dtype)
    if qparams.group_size is not None:
        groups = split_groups(x, qparams.group_size)
        if groups.shape[:-1] != scale.shape:
            raise ValueError(
                f"x of shape {tuple(x.shape)} has groups of shape {tuple(groups.shape[:-1])}, "
                f"but the scale has shape {tuple(scale.shape)}"
            )
        # Not -1 for their number: there may be none.
        shape = (scale.numel(), qparams.group_size)
        return shape, scale.reshape(-1, 1), zero_point.reshape(-1, 1)
    shape, viewed_as = x.shape, ()
    if scale.numel() == 1:
        shape = (x.numel(),)
    else:
        viewed_as = _along_axis(scale.shape, x, qparams.axis)
    # Most are laid out already, and at a small tensor a view takes as long as a pass.
    if scale.shape != viewed_as:
        scale, zero_point = scale.reshape(viewed_as), zero_point.reshape(viewed_as)
    return shape, scale, zero_point


def _along_axis(parameters: Sequence[int], x: Tensor, axis: int | None) -> tuple[int, ...]:
    """Give parameters as many dimensions as x; a plain list of channels runs along the axis."""
    shape = [1] * (x.ndim - len(parameters)) + list(parameters)
    if axis is not None:
        axis = check_axis(x, axis)
        if len(parameters) == 1:
            shape = [parameters[0] if d == axis else 1 for d in range(x.ndim)]
    fits = len(shape) == x.ndim and all(
        size == 1 or (size == x.shape[d] and axis in (None, d)) for d, size in enumerate(shape)
    )
    if not fits:
        along = "" if axis is None else f" along axis {axis}"
        raise ValueError(
            f"parameters of shape {tuple(parameters)} do not broadcast{along} to x of shape "
            f"{tuple(x.shape)}; choose them from a tensor of the same shape"
        )
    return tuple(shape)
