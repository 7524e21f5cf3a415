"""The observers: five answers to which range of what was seen deserves the codes.

Min-max and moving average keep two numbers a channel, the others a histogram of fixed size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from labkit.checks import check_whole
from labkit.histogram import Histogram
from labkit.observer import Observer, check_fraction
from labkit.thresholds import entropy_bins, least_error_range


class MinMaxObserver(Observer):
    """The smallest and the largest value seen: no value of the sample clips.

    One outlier stretches the grid for all. Source: Krishnamoorthi 2018, "Quantizing deep
    convolutional networks for efficient inference".

    >>> observer = MinMaxObserver(bits=8)
    >>> for batch in (torch.tensor([-1.0, 0.0]), torch.tensor([0.5, 1.0])):
    ...     observer.observe(batch)
    >>> observer.qparams().zero_point.item()
    128
    """

    def _update(self, rows: Tensor, low: np.ndarray, high: np.ndarray) -> None:
        seen = self._shape is not None
        self._low = np.minimum(self._low, low) if seen else low
        self._high = np.maximum(self._high, high) if seen else high

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        return self._low, self._high


class MovingAverageObserver(Observer):
    """An exponential moving average of each batch's smallest and largest value.

    end ← end + averaging_constant · (end of the batch - end), starting from the first batch. Made
    for training, where the range drifts; in a short calibration it stays near the first batch.
    Depends on the order of the batches. Source: Jacob et al. 2018, section 3.1.

    >>> observer = MovingAverageObserver(averaging_constant=0.5)
    >>> for peak in (1.0, 3.0):
    ...     observer.observe(torch.tensor([0.0, peak]))
    >>> observer.range()[1].item()
    2.0
    """

    def __init__(self, bits: int = 8, *, averaging_constant: float = 0.01, **grid: object) -> None:
        """Take the weight of a new batch, above 0 and up to 1, and the options of `Observer`."""
        super().__init__(bits, **grid)
        self.averaging_constant = check_fraction("averaging_constant", averaging_constant, 1.0)

    def _update(self, rows: Tensor, low: np.ndarray, high: np.ndarray) -> None:
        if self._shape is None:
            self._low, self._high = low, high
        else:
            self._low = self._low + self.averaging_constant * (low - self._low)
            self._high = self._high + self.averaging_constant * (high - self._high)

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        return self._low, self._high


class HistogramObserver(Observer):
    """What the observers that choose an end by counting share: a histogram of the sample.

    The ends never reach beyond the smallest and largest value seen, and a channel that holds only
    one value keeps it exactly. A subclass defines `_ends`.

    >>> observer = PercentileObserver(resolution=4)
    >>> observer.observe(torch.tensor([0.5, 1.5, 2.5, 9.0]))
    >>> observer.histogram.counts.sum().item()
    4
    """

    def __init__(self, bits: int = 8, *, resolution: int = 2**14, **grid: object) -> None:
        """Take the number of bins, a power of two, and the options of `Observer`."""
        super().__init__(bits, **grid)
        self.resolution = Histogram(resolution).bins
        self.histogram: Histogram | None = None

    def _update(self, rows: Tensor, low: np.ndarray, high: np.ndarray) -> None:
        if self.histogram is None:
            self.histogram = Histogram(self.resolution, rows.shape[0])
        self.histogram.add(rows)

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        lowest, highest = self.histogram.minimum.numpy(), self.histogram.maximum.numpy()
        ends = [
            (low, high) if low == high else self._ends(channel, low, high)
            for channel, (low, high) in enumerate(
                zip(lowest.tolist(), highest.tolist(), strict=True)
            )
        ]
        low, high = np.array(ends).T
        return low.clip(lowest, highest), high.clip(lowest, highest)

    def _ends(self, channel: int, low: float, high: float) -> tuple[float, float]:
        """Return the chosen ends of one channel, whose values run from `low` to `high`."""
        raise NotImplementedError


class PercentileObserver(HistogramObserver):
    """The ends that leave out a small share of the values, whatever their size.

    An affine grid gives up half of 100 - `percentile` percent at each end, a symmetric one all of
    it by magnitude, as in ONNX Runtime's calibrator. Source: Wu et al. 2020, "Integer quantization
    for deep learning inference", which compares it with min-max and entropy.

    >>> observer = PercentileObserver(percentile=90.0)
    >>> observer.observe(torch.arange(-50.0, 51.0))
    >>> [round(end.item(), 1) for end in observer.range()]
    [-45.0, 45.0]
    """

    def __init__(self, bits: int = 8, *, percentile: float = 99.99, **options: object) -> None:
        """Take the share to keep, in percent, and the options of `HistogramObserver`."""
        super().__init__(bits, **options)
        self.percentile = check_fraction("percentile", percentile, 100.0)

    def _ends(self, channel: int, low: float, high: float) -> tuple[float, float]:
        if self.percentile == 100:
            return low, high
        edges = self.histogram.edges(channel)
        counts = self.histogram.resampled(edges, channel)
        outside = (100.0 - self.percentile) / 100.0
        if self.symmetric:
            centre = self.histogram.bins // 2
            magnitudes = counts[centre:] + counts[:centre].flip(0)
            end = _quantile(edges[centre:], magnitudes, 1 - outside)
            return -end, end
        return tuple(_quantile(edges, counts, share) for share in (outside / 2, 1 - outside / 2))


class MSEObserver(HistogramObserver):
    """The ends whose grid has the least mean squared error on the sample, rounding and clipping.

    Both ends of an affine grid are searched, the one magnitude of a symmetric one. The least error
    of a layer is not always the least loss of a model. Source: Banner et al. 2019, "Post
    training 4-bit quantization", with the error of a histogram in place of their closed forms.

    >>> observer = MSEObserver(bits=2, signed=True)
    >>> observer.observe(torch.cat((torch.linspace(-1, 2, 1000), torch.tensor([30.0]))))
    >>> bool(1 < observer.range()[1] < 3)
    True
    """

    def _ends(self, channel: int, low: float, high: float) -> tuple[float, float]:
        # Zeros are on every grid; without them the search sees only what can be wrong.
        edges, counts = self.histogram.edges(channel).numpy(), self.histogram.counts[channel]
        # Every grid holds 0: data on one side of it leaves only the far end to be chosen.
        low, high = min(low, 0.0), max(high, 0.0)
        two_sided = not self.symmetric and low < 0 < high
        return least_error_range(edges, counts.numpy(), low, high, self._grid, two_sided)


class EntropyObserver(HistogramObserver):
    """The ends that keep most of the information: the least Kullback-Leibler divergence.

    The sample is seen in `bins` equal bins, symmetric about 0; candidates merge them into `levels`,
    by default one for each code (`entropy_bins` has the details). The divergence is a jagged
    function of the end, so another number of bins may move the result by several percent.

    Exact zeros are left out, as NVIDIA's toolkit leaves out the bin at 0: a ReLU piles them up,
    they are on every grid, and counting them may cut nearly everything else at few bits.
    `count_zeros=True` counts them, as ONNX Runtime does. Source: Migacz 2017, "8-bit inference
    with TensorRT", in the form of ONNX Runtime's calibrator.

    >>> observer = EntropyObserver(bits=4, symmetric=True)
    >>> observer.observe(torch.randn(4096, generator=torch.Generator().manual_seed(0)))
    >>> bool(1 < observer.range()[1] < 4)
    True
    """

    def __init__(
        self,
        bits: int = 8,
        *,
        bins: int = 2048,
        levels: int | None = None,
        count_zeros: bool = False,
        **options: object,
    ) -> None:
        """Take the bins and levels of the search and the options of `HistogramObserver`.

        Raises ValueError unless both are even and there are at least as many bins as levels.
        """
        # Finer than the search needs, because its bins end at the largest value, wherever it is.
        super().__init__(bits, **{"resolution": 2**16, **options})
        self.bins, self.count_zeros = check_whole("bins", bins), bool(count_zeros)
        self.levels = 2**self.bits if levels is None else check_whole("levels", levels)
        if not 2 <= self.levels <= self.bins or self.levels % 2 or self.bins % 2:
            raise ValueError(
                "bins and levels must be even, with at least as many bins as levels, e.g. 2048 "
                f"and 256; got {bins} and {self.levels}"
            )

    def _ends(self, channel: int, low: float, high: float) -> tuple[float, float]:
        amax = max(-low, high)
        edges = torch.linspace(-amax, amax, self.bins + 1, dtype=torch.float64)
        counts = self.histogram.resampled(edges, channel, zeros=self.count_zeros)
        start, end = entropy_bins(counts.numpy(), self.levels)
        return edges[start].item(), edges[end].item()


def _quantile(edges: Tensor, counts: Tensor, share: float) -> float:
    """Return the left edge of the bin in which the `share` of the counts is reached."""
    cumulated = counts.cumsum(0).double()
    # Never an empty bin: at least something of the first count is reached.
    wanted = max(share * cumulated[-1].item(), 0.5)
    return edges[int(torch.searchsorted(cumulated, wanted).clamp(max=len(counts) - 1))].item()


OBSERVERS = {
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageObserver,
    "percentile": PercentileObserver,
    "mse": MSEObserver,
    "entropy": EntropyObserver,
}


def make_observer(name: str, **options: object) -> Observer:
    """Return a new observer by its short name; `options` go to its class.

    Raises ValueError for a name that is not in `OBSERVERS`.

    >>> make_observer("minmax", bits=4).bits
    4
    """
    if not isinstance(name, str) or name not in OBSERVERS:
        raise ValueError(f"observer must be one of {', '.join(OBSERVERS)}; got {name!r}")
    return OBSERVERS[name](**options)
