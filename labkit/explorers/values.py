"""Sets of values for the explorers of notebook 02: distributions, trained weights, activations.

Every set is divided by its standard deviation σ, so that all of them share axes: a value of 2 means
2σ. The sorted values and their running sums are kept too. They give the exact squared error of all
values on *any* grid from its few cell borders, which makes whole curves affordable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from labkit.data import load_mnist
from labkit.zoo import mnist_mlp

COUNT = 100_000
"""How many values are drawn from a distribution."""

IMAGES = 400
"""How many test images the activations come from."""

# Outliers lie 5 to 9 standard deviations of the normal values away, on both sides.
SETS: dict[str, str] = {
    "uniform": "uniform",
    "normal": "normal",
    "laplace": "Laplace",
    "bimodal": "bimodal: two normals",
    "outliers": "normal, 1 in 1000 far outside",
    "fc1": "trained weights of fc1",
    "fc2": "trained weights of fc2",
    "fc3": "trained weights of fc3",
    "relu": "outputs of fc1 after ReLU",
}
"""Name → what it is, in words."""


@dataclass(frozen=True, eq=False)
class Values:
    """One set: `x` (n,) float32 in units of its own standard deviation `sigma`.

    `sigma` is in the units of the raw data. `one_sided` says that no value is negative. `ordered`
    (n,) and the running sums `total`, `squares` (n + 1,) are float64.

    >>> values("uniform").x.shape, values("uniform").one_sided
    (torch.Size([100000]), False)
    """

    name: str
    x: Tensor
    sigma: float
    one_sided: bool
    amax: float
    power: float
    ordered: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    def split(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (rounding_mse, clipping_mse) of the whole set on each of several grids.

        levels: (grids, levels), ascending; each value goes to the nearest level, and counts as
        clipped when it lies beyond the outermost ones. Both results: (grids,), in σ².

        >>> rounding, clipping = values("normal").split(np.array([[-1.0, 0.0, 1.0]]))
        >>> bool(rounding[0] < 0.1 < clipping[0] + rounding[0])
        True
        """
        middle = (levels[:, 1:] + levels[:, :-1]) / 2
        inside = np.concatenate([levels[:, :1], middle, levels[:, -1:]], axis=1)
        at = np.searchsorted(self.ordered, inside)
        n, total = np.diff(at), np.diff(self.total[at])
        # Σ (x - v)² = Σ x² - 2 v Σ x + n v², cell by cell.
        cells = np.diff(self.squares[at]) - 2 * levels * total + n * levels**2
        first, last = at[:, 0], at[:, -1]
        low, high = levels[:, 0], levels[:, -1]
        below = self.squares[first] - 2 * low * self.total[first] + first * low**2
        count = len(self.ordered)
        above = self.squares[-1] - self.squares[last] + (count - last) * high**2
        above -= 2 * high * (self.total[-1] - self.total[last])
        clipping = np.where(first > 0, below, 0) + np.where(last < count, above, 0)
        return cells.sum(1).clip(min=0) / count, clipping.clip(min=0) / count


@cache
def values(name: str) -> Values:
    """Return the set of that name, made once; ValueError lists the names for an unknown one.

    >>> round(values("laplace").x.std().item(), 3)
    1.0
    """
    if name not in SETS:
        raise ValueError(f"no set of values {name!r}; there are {', '.join(SETS)}")
    raw = _raw(name).flatten()
    sigma = raw.double().std().item()
    x = (raw.double() / sigma).float()
    ordered = x.double().sort().values.numpy()
    total, squares = (np.concatenate([[0], np.cumsum(ordered**p)]) for p in (1, 2))
    return Values(
        name,
        x,
        sigma,
        one_sided=bool(ordered[0] >= 0),
        amax=float(np.abs(ordered[[0, -1]]).max()),
        power=float(squares[-1] / len(ordered)),
        ordered=ordered,
        total=total,
        squares=squares,
    )


def _raw(name: str) -> Tensor:
    if name in ("fc1", "fc2", "fc3"):
        return getattr(mnist_mlp(), name).weight.detach()
    if name == "relu":
        model = mnist_mlp()
        with torch.no_grad():
            return model.relu1(model.fc1(load_mnist().test_images[:IMAGES].flatten(1)))
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(COUNT, generator=generator)
    uniform = torch.rand(COUNT, generator=generator) - 0.5
    return {
        "uniform": lambda: uniform,
        "normal": lambda: normal,
        "laplace": lambda: -uniform.sign() * torch.log1p(-2 * uniform.abs()),
        "bimodal": lambda: uniform.sign() + 0.3 * normal,
        "outliers": lambda: torch.where(
            torch.arange(COUNT) % 1000 == 0, uniform.sign() * 5 + 8 * uniform, normal
        ),
    }[name]()
