"""Tensors to put on the number line: really trained layers, and ranges that make a point.

The made-up ones are seeded and hold their two ends exactly, so that their range is what their name
says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

BINS = 140
"""Bins of the histogram over the whole axis."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A tensor, and what does not change while a slider moves: its range, axis and histogram.

    `reach`: the axis runs from -reach to reach, with room for every scale rule from 3 bits up.
    `edges` and `density` are its histogram, the highest bin at 1; `area` is what one value in a
    unit cell would measure on that scale. `step` suits a slider over its values.

    >>> sample("example1").count, sample("example1").low, sample("example1").high
    (1000000, -1.0, 1.0)
    """

    name: str
    title: str
    values: Tensor
    low: float
    high: float
    reach: float
    step: float
    edges: tuple[float, ...]
    density: tuple[float, ...]
    area: float

    @property
    def count(self) -> int:
        """Number of values."""
        return self.values.numel()


NAMES: dict[str, str] = {
    "fc1": "layer fc1: 200,704 trained weights",
    "fc2": "layer fc2: 32,768 trained weights",
    "fc3": "layer fc3: 1,280 trained weights",
    "example1": "Example 1: 1000 × 1000 in [−1, 1]",
    "relu6": "after ReLU6: [0, 6], one-sided",
    "away": "away from zero: [0.5, 2]",
    "asymmetric": "asymmetric: [−0.3, 1]",
    "constant": "constant: every value 0.7",
    "zero": "all zero",
}
"""Every tensor by name, with the words that a drop-down shows."""


@cache
def sample(name: str) -> Sample:
    """Return a tensor by name; ValueError lists the names.

    >>> sample("relu6").low, sample("relu6").high
    (0.0, 6.0)
    """
    if name not in NAMES:
        raise ValueError(f"got tensor {name!r}; choose one of {', '.join(NAMES)}")
    values = _values(name)
    low, high = values.min().item(), values.max().item()
    largest = max(-low, high) or 1.0
    reach = 1.4 * largest
    counts = torch.histc(values.double(), BINS, -reach, reach)
    edges = torch.linspace(-reach, reach, BINS + 1, dtype=torch.float64)
    width = 2 * reach / BINS
    return Sample(
        name,
        NAMES[name],
        values,
        low,
        high,
        reach,
        10.0 ** (math.floor(math.log10(largest)) - 2),
        tuple(edges.tolist()),
        tuple((counts / counts.max()).tolist()),
        width / counts.max().item(),
    )


def _values(name: str) -> Tensor:
    if name.startswith("fc"):
        from labkit.zoo import mnist_mlp

        return getattr(mnist_mlp(), name).weight.detach()
    random = torch.Generator().manual_seed(1)
    if name == "example1":
        bell = torch.randn(1000, 1000, generator=random)
        return _with_ends(bell / bell.abs().max(), -1.0, 1.0)
    if name == "relu6":
        bell = torch.randn(20_000, generator=random) * 1.7 + 2.6
        return _with_ends(bell.clamp(0, 6), 0.0, 6.0)
    if name == "away":
        return _with_ends(0.5 + 1.5 * _hump(random), 0.5, 2.0)
    if name == "asymmetric":
        return _with_ends(-0.3 + 1.3 * _hump(random), -0.3, 1.0)
    return torch.full((1000,), 0.7 if name == "constant" else 0.0)


def _hump(random: torch.Generator) -> Tensor:
    """20,000 values in 0..1 that lean to the left (a beta distribution, as an order statistic)."""
    return torch.rand(20_000, 4, generator=random).sort(dim=1).values[:, 1]


def _with_ends(values: Tensor, low: float, high: float) -> Tensor:
    values.view(-1)[0], values.view(-1)[1] = low, high
    return values
