"""k-means on a line: a table of levels fitted to given values.

On a line the best table can be computed: clusters are runs of the sorted values, and dynamic
programming finds the best way to cut a row into runs. For many values the row is first cut into a
few hundred pieces, greedily; Lloyd's iteration then moves the ends of the runs inside the pieces.
Nothing is drawn by chance: same values, same levels.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from labkit.checks import check_bits, check_finite

# Four times as many make 256 levels err about 3 % less, fewer levels not at all; and take longer.
PIECES = 512


def kmeans_levels(x: Tensor, bits: int, iterations: int = 100) -> Tensor:
    """Return 2^bits sorted float32 levels that fit the values of `x` with the least squared error.

    The best table there is for up to 512 different values, for more a table close to it: each level
    is moved to the mean of the values nearest to it (Lloyd 1982), until none moves or `iterations`
    have passed. Values fewer than the levels are kept exactly. Raises ValueError for an empty `x`,
    for values that are not finite in float32, and for `bits` outside 2..8.

    >>> kmeans_levels(torch.tensor([0.0, 0.1, 1.0, 1.1, 5.0, 9.0]), bits=2)
    tensor([0.0500, 1.0500, 5.0000, 9.0000])
    """
    count = 2 ** check_bits(bits)
    if x.numel() == 0:
        raise ValueError(f"levels need values to fit; got an empty x of shape {tuple(x.shape)}")
    # On the CPU, where every device finds the same levels.
    values = x.detach().to("cpu", torch.float32).reshape(-1)
    check_finite(values)
    values = values.double().sort().values
    distinct = values.unique_consecutive()
    if len(distinct) <= count:
        # The last value fills the table up; nothing else would find a use.
        levels = distinct[torch.arange(count).clamp(max=len(distinct) - 1)]
    else:
        edges = _cut(values)
        pieces = edges.diff()
        starts = _best_runs(_means(values, pieces), pieces.double(), count)
        levels = _means(values, torch.cat([edges[starts], edges[-1:]]).diff())
        levels = _lloyd(values, levels, iterations)
    return levels.to(x.device, torch.float32)


def _means(values: Tensor, lengths: Tensor) -> Tensor:
    # Each run is summed by itself: in differences of one running sum, an outlier of 1e30 would
    # swallow the digits of all that follow.
    return torch.segment_reduce(values, "mean", lengths=lengths, unsafe=True)


def _lloyd(values: Tensor, levels: Tensor, iterations: int) -> Tensor:
    ends = torch.tensor([0]), torch.tensor([len(values)])
    for _ in range(iterations):
        midpoints = (levels[1:] + levels[:-1]) / 2
        edges = torch.searchsorted(values, midpoints, right=True)
        size = edges.diff(prepend=ends[0], append=ends[1])
        # An empty cluster keeps its level.
        moved = torch.where(size > 0, _means(values, size), levels)
        if torch.equal(moved, levels):
            break
        levels = moved
    return levels


def _cut(values: Tensor) -> Tensor:
    """Edges of at most PIECES runs of the sorted `values`: cut in two wherever that saves most."""
    runs = [_best_cut(values, 0, len(values))]
    while len(runs) < PIECES and runs[0][0] < 0:
        _, start, cut, stop = heapq.heappop(runs)
        heapq.heappush(runs, _best_cut(values, start, cut))
        heapq.heappush(runs, _best_cut(values, cut, stop))
    return torch.tensor([*sorted(start for _, start, _, _ in runs), len(values)])


def _best_cut(values: Tensor, start: int, stop: int) -> tuple[float, int, int, int]:
    """Where to cut the run values[start:stop], as (-saving, start, cut, stop).

    Parts of n and m values whose means lie d apart save n m / (n + m) · d² of the squared error.
    """
    if values[start] == values[stop - 1]:
        return 0.0, start, stop, stop
    # Counted from the first value, so that many equal large values leave no rounding error.
    run = values[start:stop] - values[start]
    total = run.cumsum(0)
    left = torch.arange(1, len(run), dtype=torch.float64)
    right = len(run) - left
    apart = (total[-1] - total[:-1]) / right - total[:-1] / left
    saving, cut = (left * right / len(run) * apart.square()).max(0)
    return -saving.item(), start, start + 1 + int(cut), stop


def _best_runs(mean: Tensor, size: Tensor, count: int) -> Tensor:
    """Index of the first piece of each of the `count` runs of pieces that err least.

    The best k runs up to piece j are the best k - 1 runs up to some piece i - 1, and one run from i
    to j. Source: Wang & Song 2011, Ckmeans.1d.dp.
    """
    apart = (mean - mean[:, None]).triu()
    weight = size.expand_as(apart).triu()
    moment = (weight * apart).cumsum(1)
    # cost[j, i]: squared error of the run from i to j; what is inside the pieces never changes.
    cost = (weight * apart.square()).cumsum(1) - moment.square() / weight.cumsum(1).clamp(min=1)
    cost = cost.masked_fill(torch.ones_like(cost).tril(-1).bool(), torch.inf).T.contiguous()
    best, choices = cost[:, 0], []
    for _ in range(count - 1):
        best, choice = (cost[:, 1:] + best[:-1]).min(1)
        choices.append(choice + 1)
    starts, end = [], -1
    for choice in reversed(choices):
        starts.append(int(choice[end]))
        end = starts[-1] - 1
    return torch.tensor([0, *reversed(starts)])
