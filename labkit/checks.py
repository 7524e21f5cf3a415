"""Checks of what a caller passes in: each says what was got and what would work."""

from __future__ import annotations

import torch
from torch import Tensor


def check_bits(bits: int) -> None:
    """Raise ValueError unless `bits` is a whole number from 2 to 8.

    >>> check_bits(4)
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
        raise ValueError(f"bits must be a whole number from 2 to 8, got {bits!r}")


def check_tensor(x: Tensor) -> None:
    """Raise ValueError unless `x` is a real floating-point tensor.

    >>> check_tensor(torch.zeros(3))
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(
            f"x must be a floating-point torch tensor, got {describe(x)}; "
            "convert it first, e.g. torch.as_tensor(x, dtype=torch.float32)"
        )


def describe(x: object) -> str:
    """Name what was passed in, for an error message.

    >>> describe(torch.zeros(1)), describe([1])
    ('a tensor of torch.float32', 'list')
    """
    return f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"{type(x).__name__}"


def check_finite(x: Tensor) -> None:
    """Raise ValueError when `x` holds NaN or an infinity.

    >>> check_finite(torch.ones(3))
    """
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            "the values must be finite, got NaN or infinity; remove them first, e.g. "
            "x[x.isfinite()]"
        )


def check_axis(x: Tensor, axis: int) -> int:
    """Return `axis` counted from the front, or raise ValueError when `x` does not have it.

    >>> check_axis(torch.zeros(2, 3), -1)
    1
    """
    if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"axis {axis!r} does not exist in x of shape {tuple(x.shape)}; "
            f"it has the axes {list(range(x.ndim))}"
        )
    return axis % x.ndim
