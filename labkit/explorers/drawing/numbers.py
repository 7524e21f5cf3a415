"""Pixel coordinates as short text: one decimal, no trailing zeros."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def num(value: float) -> str:
    """A pixel coordinate with one decimal, as short as possible.

    >>> num(3.0), num(-0.04), num(2.25)
    ('3', '0', '2.2')
    """
    rounded = f"{value:.1f}"
    rounded = rounded[:-2] if rounded.endswith(".0") else rounded
    return "0" if rounded == "-0" else rounded


def numbers(values: np.ndarray) -> list[str]:
    """`num` of many values: a long line has hundreds, and most tenths of a pixel come again.

    >>> numbers(np.array([3.0, -0.04, 2.26]))
    ['3', '0', '2.3']
    """
    return [_tenths(n) for n in np.rint(values * 10).astype(np.int64).tolist()]


@lru_cache(maxsize=65536)
def _tenths(count: int) -> str:
    return num(count / 10)
