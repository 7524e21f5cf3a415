"""A histogram of fixed size that watches batches of any range go by.

Keeping the values themselves would need memory that grows with every batch. This keeps counts. When
a batch goes beyond the end, every two neighbouring bins become one, until it fits: no count is
lost, and no count crosses an edge.

The width of a bin is always a power of two and an edge always lies at 0. The edges are therefore
decided by the largest magnitude alone, and the counts are the same in whichever order and in
whichever batches the values came.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.checks import check_whole

# Far below what a float32 scale can resolve: smaller magnitudes share the bins beside 0.
SMALLEST_EXPONENT = -200


class Histogram:
    """Counts of values, one row of `bins` equal bins per channel, over -2^e up to 2^e.

    `counts` is an int64 tensor (channels, bins); `zeros` (channels) counts exact zeros, which are
    kept apart from the bins, because they are frequent after a ReLU and have no error on any grid.
    `minimum` and `maximum` are the exact ends, float64. Raises ValueError unless `bins` is a power
    of two from 2 up.

    >>> histogram = Histogram(bins=4)
    >>> histogram.add(torch.tensor([[-1.0, 0.5, 0.0]]))
    >>> histogram.add(torch.tensor([[3.0]]))
    >>> histogram.edges(), histogram.counts[0], histogram.zeros.item()
    (tensor([-4., -2.,  0.,  2.,  4.], dtype=torch.float64), tensor([0, 1, 1, 1]), 1)
    """

    def __init__(self, bins: int = 2**14, channels: int = 1) -> None:
        """Make an empty histogram."""
        if check_whole("bins", bins) < 2 or bins & (bins - 1):
            raise ValueError(f"bins must be a power of two, e.g. 2048, got {bins}")
        if check_whole("channels", channels) < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.counts = torch.zeros(channels, bins, dtype=torch.int64)
        self.zeros = torch.zeros(channels, dtype=torch.int64)
        self.minimum = torch.full((channels,), math.inf, dtype=torch.float64)
        self.maximum = torch.full((channels,), -math.inf, dtype=torch.float64)
        self._exponent = torch.full((channels,), SMALLEST_EXPONENT)

    @property
    def bins(self) -> int:
        """The number of bins of one channel."""
        return self.counts.shape[1]

    def add(self, rows: Tensor) -> None:
        """Count the values of `rows` (channels, values), which must be finite.

        Raises ValueError for another shape or a value that is not finite; nothing is counted then.
        """
        if rows.ndim != 2 or rows.shape[0] != self.counts.shape[0] or rows.shape[1] == 0:
            raise ValueError(
                f"rows must have the shape ({self.counts.shape[0]}, values), got "
                f"{tuple(rows.shape)}"
            )
        rows = rows.detach().cpu().double()
        low, high = torch.aminmax(rows, dim=1)
        if not bool((low.isfinite() & high.isfinite()).all()):
            raise ValueError(f"the values must be finite, got a range of {low} to {high}")
        # frexp: amax < 2^e, so that even the largest value lies left of the last edge.
        exponent = torch.frexp(torch.maximum(-low, high)).exponent
        self._widen(torch.maximum(exponent.to(self._exponent.dtype), self._exponent))
        index = (rows / self.widths()[:, None]).floor_().to(torch.int64)
        index += torch.arange(self.bins // 2, self.counts.numel(), self.bins)[:, None]
        self.counts += torch.bincount(index.flatten(), minlength=self.counts.numel()).view_as(
            self.counts
        )
        zeros = (rows == 0).sum(1)
        self.counts[:, self.bins // 2] -= zeros
        self.zeros += zeros
        self.minimum = torch.minimum(self.minimum, low)
        self.maximum = torch.maximum(self.maximum, high)

    def widths(self) -> Tensor:
        """Return the width of a bin, one per channel, float64: a power of two."""
        return torch.ldexp(torch.full_like(self.maximum, 2.0 / self.bins), self._exponent)

    def edges(self, channel: int = 0) -> Tensor:
        """Return the bins + 1 edges of a channel, float64; counts[i] lies in edges[i]..edges[i+1].

        A value on an edge is counted above it.
        """
        steps = torch.arange(-(self.bins // 2), self.bins // 2 + 1, dtype=torch.float64)
        return steps * self.widths()[channel]

    def resampled(self, edges: Tensor, channel: int = 0, *, zeros: bool = True) -> Tensor:
        """Return the counts between other, rising `edges`: those inside a bin lie evenly in it.

        Exact zeros count too, unless `zeros` is False. A value on an edge counts above it, on the
        last edge below it, as numpy has it. The counts are whole numbers, exact where the edges are
        edges of this histogram.

        >>> histogram = Histogram(bins=8)
        >>> histogram.add(torch.tensor([[0.5, 1.5, 2.5, 3.5]]))
        >>> histogram.resampled(torch.tensor([0.0, 2.0, 4.0]))
        tensor([2, 2])
        """
        counts = self.counts[channel].clone()
        if zeros:
            counts[self.bins // 2] += self.zeros[channel]
        below = torch.cat((torch.zeros(1), counts.cumsum(0))).double()
        position = (edges.double() / self.widths()[channel] + self.bins // 2).clamp(0, self.bins)
        left = position.floor().clamp(max=self.bins - 1).to(torch.int64)
        cumulated = torch.lerp(below[left], below[left + 1], position - left)
        # Nothing lies beyond the ends, so their bins must not be spread beyond them.
        cumulated[edges > self.maximum[channel]] = below[-1]
        cumulated[edges <= self.minimum[channel]] = 0
        if edges[-1] == self.maximum[channel]:
            cumulated[-1] = below[-1]
        return cumulated.round().diff().to(torch.int64)

    def _widen(self, exponent: Tensor) -> None:
        """Merge neighbouring bins until each channel reaches up to 2^exponent."""
        centre = self.bins // 2
        offsets = torch.arange(-centre, centre)
        for channel in (exponent > self._exponent).nonzero().flatten().tolist():
            # An arithmetic shift is a floor division by a power of two, also below 0.
            doublings = min(int(exponent[channel] - self._exponent[channel]), 62)
            counts = torch.zeros_like(self.counts[channel])
            counts.index_add_(0, (offsets >> doublings) + centre, self.counts[channel])
            self.counts[channel] = counts
        self._exponent = exponent
