"""Checks of what a caller passes in: each says what was got and what would work."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_whole(name: str, value: object) -> int:
    """Return `value` as an int, or raise ValueError when it is no whole number.

    numpy's integers are welcome; True and 4.0 are more likely a mistake.

    >>> check_whole("axis", -1)
    -1
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None


def check_bits(bits: int) -> int:
    """Return `bits` as an int, or raise ValueError unless it is a whole number from 2 to 8.

    >>> check_bits(4)
    4
    """
    if not 2 <= check_whole("bits", bits) <= 8:
        raise ValueError(f"bits must be a whole number from 2 to 8, got {bits!r}")
    return operator.index(bits)


def as_float64(name: str, value: object) -> Tensor:
    """Return numbers (a tensor, an array, a list or one number) as a new tensor of float64.

    >>> as_float64("scale", 0.1)
    tensor(0.1000, dtype=torch.float64)
    """
    try:
        # Not by way of torch's default type: a scale of 0.1 must not pass through bfloat16.
        given = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
        if given.is_complex() or isinstance(value, bool) or given.dtype == torch.bool:
            raise TypeError
        return given.detach().to(torch.float64, copy=True)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must hold real numbers, got {value!r}") from None


def check_tensor(x: Tensor) -> None:
    """Raise ValueError unless `x` is a dense tensor of 16-, 32- or 64-bit floats.

    >>> check_tensor(torch.zeros(3))
    """
    if not isinstance(x, Tensor) or x.dtype not in FLOAT_TYPES:
        raise ValueError(
            f"x must be a floating-point torch tensor, got {describe(x)}; "
            "convert it first, e.g. torch.as_tensor(x, dtype=torch.float32)"
        )
    if x.layout != torch.strided or x.is_meta or x.is_nested:
        raise ValueError(
            f"x must be an ordinary dense tensor that holds its values, got layout {x.layout} on "
            f"device {x.device}; convert it first, e.g. x.to_dense()"
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
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise ValueError(
            f"the values must be finite, got NaN or infinity in {bad} of {x.numel()}; remove them "
            "first, e.g. x[x.isfinite()]"
        )


def check_axis(x: Tensor, axis: int) -> int:
    """Return `axis` counted from the front, or raise ValueError when `x` does not have it.

    >>> check_axis(torch.zeros(2, 3), -1)
    1
    """
    if not -x.ndim <= check_whole("axis", axis) < x.ndim:
        raise ValueError(
            f"axis {axis!r} does not exist in x of shape {tuple(x.shape)}; "
            f"it has the axes {list(range(x.ndim))}"
        )
    return axis % x.ndim
