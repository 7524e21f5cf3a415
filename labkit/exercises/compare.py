"""Comparing an answer's result with the right one, and showing both in a few words.

A learner's function may return anything at all. Nothing here raises because of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# What a float may be where exactly 0 is expected: no relative tolerance helps there.
NEAR_ZERO = 1e-12
# How many elements of a tensor are written out.
SHORT = 24
INTEGER = "integer"
INTEGER_TYPES = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
NUMBERS = (bool, int, float, complex, np.generic, np.ndarray, torch.Tensor)


def same(result: Any, expected: Any, tolerance: float) -> bool:
    """Compare two results: floats within `tolerance`, all else exactly.

    `tolerance` is relative to the expected number. Tensors, arrays and lists must have the same
    shape; their types may differ (see `is_stored_as`), but a number is no truth value, and a
    complex number no real one.

    >>> same((1, 0.1 + 0.2), (1, 0.3), 1e-9), same(1e-9, 2e-9, 1e-6), same(1000000, 1000001, 1e-6)
    (True, False, False)
    """
    try:
        return _same(result, expected, tolerance)
    except Exception:  # noqa: BLE001 - what cannot be compared is not the right result
        return False


def is_stored_as(value: Any, wanted: str) -> bool:
    """Whether a tensor has the type `wanted`, such as "uint8"; "integer" is any integer type.

    >>> is_stored_as(torch.tensor([1]), "integer"), is_stored_as(torch.tensor([1]), "uint8")
    (True, False)
    """
    name = type_name(value)
    return name in INTEGER_TYPES if wanted == INTEGER else name == wanted


def type_name(value: Any) -> str:
    """Name the type of a tensor's elements, or that of any other value.

    >>> type_name(torch.zeros(2)), type_name([0.0])
    ('float32', 'list')
    """
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return str(value.dtype).removeprefix("torch.")
    return type(value).__name__


def show(value: Any) -> str:
    """Show a value in a few words: short tensors and arrays whole, long ones by their shape.

    >>> show((torch.tensor([0.1]), 1 / 3)), show(torch.zeros(4, 8))
    ('([0.1] (float32), 0.3333333)', 'a tensor of shape (4, 8)')
    """
    try:
        return _in_words(value)
    except Exception:  # noqa: BLE001 - a learner's object may fail to show itself
        return f"a value of type {type(value).__name__} that cannot be shown"


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, (tuple, list)) or isinstance(b, (tuple, list)):
        # Item by item, so that the expected result bounds how deep a result is looked into.
        left, right = _items(a), _items(b)
        return len(left) == len(right) and all(
            _same(x, y, tolerance) for x, y in zip(left, right, strict=True)
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k], tolerance) for k in b)
    # Whole numbers of Python have no largest one; those of numpy do.
    if type(a) is int and type(b) is int:
        return a == b
    if isinstance(a, NUMBERS) and isinstance(b, NUMBERS):
        return np.shape(a) == np.shape(b) and _close(_array(a), _array(b), tolerance)
    return type(a) is type(b) and bool(a == b)


def _close(x: np.ndarray, y: np.ndarray, tolerance: float) -> bool:
    kinds = {x.dtype.kind, y.dtype.kind}
    if kinds <= {"i", "u"}:
        return np.array_equal(x, y)
    if len(kinds) > 1 and kinds & {"b", "c"}:
        return False
    with np.errstate(all="ignore"):
        near = np.isclose(x, y, rtol=tolerance, atol=0.0, equal_nan=True)
        return bool(np.all(near | ((y == 0) & (np.abs(x) <= NEAR_ZERO))))


def _items(value: Any) -> list:
    if isinstance(value, (tuple, list, np.ndarray, torch.Tensor)):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no items")


def _array(value: Any) -> np.ndarray:
    """Return numbers as an array of truth values, integers, float64 or complex128."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.is_complex():
            value = value.to(torch.complex128)
        elif value.is_floating_point():
            value = value.double()
        return value.numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"not an array of numbers: {array.dtype}")
    return array.astype(float) if array.dtype.kind == "f" else array


def _in_words(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        if value.numel() > SHORT:
            return f"a tensor of shape {tuple(value.shape)}"
        return f"{_rounded(value.tolist())} ({type_name(value)})"
    if isinstance(value, (np.ndarray, np.generic)):
        # Without its type: an oracle's float64 is not what an answer has to return.
        large = value.size > SHORT
        return f"an array of shape {value.shape}" if large else str(_rounded(value.tolist()))
    if isinstance(value, (tuple, list)):
        if len(value) > 8:
            return f"{type(value).__name__} of {len(value)}"
        inside = ", ".join(_in_words(item) for item in value)
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    text = str(_rounded(value)) if isinstance(value, float) else repr(value)
    return text if len(text) < 120 else text[:117] + "…"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value
