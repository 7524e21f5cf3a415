"""Granularity: which values share one scale, and how to walk through them.

Per tensor, per axis (channel) and per group differ only in the shape of the scale. Large tensors
are walked through in blocks that fit the CPU's cache, because several simple passes over a cached
block are faster than one pass after another over main memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from labkit.checks import check_axis, check_whole

if TYPE_CHECKING:
    from labkit.qparams import QParams

# Elements handled at once on a CPU: 4 MiB of float32 stay in the outer cache between the passes. A
# smaller block is as fast on an idle machine, but slower when other programs hold a core.
BLOCK_ELEMENTS = 2**20


def split_groups(x: Tensor, group_size: int) -> Tensor:
    """View the last dimension of `x` as (groups, group_size), or say why that cannot be.

    >>> import torch
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


def blocks(x: Tensor, out: Tensor, qparams: QParams) -> Iterator[tuple]:
    """Walk through `x` and `out` (contiguous, same shape) in blocks that fit the cache.

    Yields (x block, out block, scale, zero_point) where the parameters broadcast to the block and
    are floats, ready for arithmetic. Raises ValueError when they do not fit the shape of `x`.

    >>> import torch
    >>> from labkit.affine import QParams
    >>> x = torch.arange(6.0).reshape(2, 3)
    >>> [(b.shape, s.item()) for b, _, s, _ in blocks(x, x.clone(), QParams(0.5, 0, 0, 255))]
    [(torch.Size([6]), 0.5)]
    """
    scale, zero_point = (
        qparams.scale.to(x.device),
        qparams.zero_point.to(x.device, qparams.scale.dtype),
    )
    if qparams.group_size is not None:
        groups = split_groups(x, qparams.group_size)
        if groups.shape[:-1] != scale.shape:
            raise ValueError(
                f"x of shape {tuple(x.shape)} has groups of shape {tuple(groups.shape[:-1])}, "
                f"but the scale has shape {tuple(scale.shape)}"
            )
        x = groups.reshape(-1, qparams.group_size)
        out = out.view(x.shape)
        scale, zero_point = scale.reshape(-1, 1), zero_point.reshape(-1, 1)
    elif scale.numel() == 1:
        x, out = x.reshape(-1), out.view(-1)
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    else:
        scale, zero_point = (_along_axis(p, x, qparams.axis) for p in (scale, zero_point))
    # Without a value there is no block, whatever the number of rows.
    rows = x.shape[0] if x.numel() else 0
    on_cpu = x.device.type == "cpu"
    step = max(1, BLOCK_ELEMENTS * rows // max(1, x.numel())) if on_cpu else max(1, rows)
    for start in range(0, rows, step):
        block = slice(start, start + step)
        per_row = scale.ndim > 0 and scale.shape[0] > 1
        yield (
            x[block],
            out[block],
            scale[block] if per_row else scale,
            zero_point[block] if per_row else zero_point,
        )


def _along_axis(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """Give `parameter` as many dimensions as `x`; a plain list of channels runs along the axis."""
    shape = [1] * (x.ndim - parameter.ndim) + list(parameter.shape)
    if axis is not None:
        axis = check_axis(x, axis)
        if parameter.ndim == 1:
            shape = [parameter.numel() if d == axis else 1 for d in range(x.ndim)]
    fits = len(shape) == x.ndim and all(
        size == 1 or (size == x.shape[d] and axis in (None, d)) for d, size in enumerate(shape)
    )
    if not fits:
        along = "" if axis is None else f" along axis {axis}"
        raise ValueError(
            f"parameters of shape {tuple(parameter.shape)} do not broadcast{along} to x of shape "
            f"{tuple(x.shape)}; choose them from a tensor of the same shape"
        )
    return parameter.reshape(shape)
