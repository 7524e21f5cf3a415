"""Calibration: watch batches go by, then choose the range of a grid from what was seen.

A weight is known; an activation is known only through samples. An observer sees a sample a batch
at a time and keeps a summary of fixed size, so that its memory does not grow with the sample. How
the range is chosen differs; everything else is the same and stands here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from labkit.checks import check_axis, check_bits, check_finite, check_tensor
from labkit.qparams import FLOAT32, QParams, check_rule, qparams_from_range


class Observer:
    """What all observers share: check a batch, summarize it, turn the chosen range into a grid.

    `axis` asks for one range per slice of that axis (per channel). A subclass defines `_update`,
    which takes in a checked batch, and `range`.

    >>> from labkit.observers import MinMaxObserver
    >>> observer = MinMaxObserver(bits=2, symmetric=True, signed=True)
    >>> observer.observe(torch.tensor([-1.0, 3.0]))
    >>> observer.qparams().scale
    tensor(3.)
    """

    def __init__(
        self,
        bits: int = 8,
        *,
        symmetric: bool = False,
        signed: bool = False,
        axis: int | None = None,
        scale_rule: str = "restricted",
    ) -> None:
        """Remember the grid that is wanted; raise ValueError when it cannot be."""
        self.bits = check_bits(bits)
        check_rule(scale_rule)
        self.symmetric, self.signed, self.scale_rule = bool(symmetric), bool(signed), scale_rule
        self.axis = axis
        # The shape of the parameters, known from the first batch on.
        self._shape: tuple[int, ...] | None = None

    def observe(self, x: Tensor) -> None:
        """Take in a batch: a floating-point tensor of any shape, with the same axis each time.

        Raises ValueError for an empty or non-finite batch and for one whose axis differs from the
        batches before; nothing is taken in then.
        """
        check_tensor(x)
        if x.numel() == 0:
            raise ValueError(f"an empty batch shows nothing; got shape {tuple(x.shape)}")
        x, shape = x.detach(), self._parameter_shape(x)
        # One row a channel; the reshape copies nothing where the channels come first or are one.
        rows = x.reshape(1, -1) if self.axis is None else x.movedim(self.axis, 0).flatten(1)
        if rows.ndim == 1:
            rows = rows[:, None]
        low, high = _ends(rows)
        smallest, largest = low.min(), high.max()
        # NaN and infinities pass through to the ends, and NaN fails every comparison.
        if not -FLOAT32.max <= smallest <= largest <= FLOAT32.max:
            check_finite(x)
            raise ValueError(
                f"the values must fit in float32 (at most {FLOAT32.max:.3g}), because scales are "
                f"stored as float32; got a range of {smallest:.3g} to {largest:.3g}"
            )
        self._update(rows, low, high)
        self._shape = shape

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the chosen ends (minimum, maximum), float64, broadcastable to a batch.

        Raises ValueError when nothing was observed.
        """
        low, high = self._shaped_range()
        return torch.as_tensor(low), torch.as_tensor(high)

    def qparams(self) -> QParams:
        """Return scale and zero point for the chosen range, see `qparams_from_range`.

        Raises ValueError when nothing was observed.
        """
        axis = None if self.axis is None else self.axis % max(1, len(self._shape or ()))
        return self._grid(*self._shaped_range(), axis)

    def _shaped_range(self) -> tuple[np.ndarray, np.ndarray]:
        if self._shape is None:
            raise ValueError(
                f"{type(self).__name__} has seen no data; call observe(batch) at least once, e.g. "
                "on 100 samples of the training data"
            )
        low, high = self._range()
        return low.reshape(self._shape), high.reshape(self._shape)

    def _grid(self, low: np.ndarray, high: np.ndarray, axis: int | None = None) -> QParams:
        return qparams_from_range(
            low,
            high,
            self.bits,
            symmetric=self.symmetric,
            signed=self.signed,
            axis=axis,
            scale_rule=self.scale_rule,
        )

    def _update(self, rows: Tensor, low: np.ndarray, high: np.ndarray) -> None:
        """Take in `rows` (channels, values) with the smallest and largest value of each."""
        raise NotImplementedError

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the chosen ends in float64, one per channel."""
        raise NotImplementedError

    def _parameter_shape(self, x: Tensor) -> tuple[int, ...]:
        if self.axis is None:
            return ()
        axis = check_axis(x, self.axis)
        shape = tuple(size if d == axis else 1 for d, size in enumerate(x.shape))
        if self._shape not in (None, shape):
            raise ValueError(
                f"axis {self.axis} of the earlier batches gave ranges of shape {self._shape}, but "
                f"a batch of shape {tuple(x.shape)} gives {shape}; observe the same layer, along "
                "an axis that is not the batch"
            )
        return shape


def _ends(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of each row, in float64."""
    # These are few numbers, and numpy is quicker at them than torch; most so at a single one.
    if len(rows) == 1:
        low, high = torch.aminmax(rows)
        return np.float64(low.item()), np.float64(high.item())
    # Along a dimension, aminmax takes ten times as long as these.
    low, high = rows.amin(1), rows.amax(1)
    return low.cpu().double().numpy(), high.cpu().double().numpy()


def check_fraction(name: str, value: float, largest: float) -> float:
    """Return `value` as a float, or raise ValueError unless 0 < value <= `largest`.

    >>> check_fraction("percentile", 99.9, 100.0)
    99.9
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= largest:
        raise ValueError(f"{name} must be a number above 0 and at most {largest:g}, got {value!r}")
    return float(value)
