"""Rounding and clipping error of one set of values, as the end of the grid moves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from labkit.affine import QParams, fake_quantize, qparams_from_range, representable_range
from labkit.errors import ErrorReport, quantization_error
from labkit.explorers.drawing.text import short
from labkit.explorers.values import values

LOW, HIGH, STEP = 0.2, 10.0, 0.05
CLIPS = np.round(np.arange(LOW, HIGH + STEP / 2, STEP), 2)
"""Places where the grid may end, in σ: the positions of the clip slider."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Rounding and clipping error at every clip position: arrays of one length, in σ².

    `best` is the position of the lowest sum, `lowest` that sum.

    >>> curve("uniform", 2, "half").best
    1.3
    """

    clips: np.ndarray
    rounding: np.ndarray
    clipping: np.ndarray
    best: float
    lowest: float

    def at(self, clip: float) -> float:
        """Return the sum at the position nearest to `clip`."""
        nearest = int(np.abs(self.clips - clip).argmin())
        return float(self.rounding[nearest] + self.clipping[nearest])


@dataclass(frozen=True, eq=False)
class Measured:
    """What one grid did to a set: the report, each value's error, the count per code.

    `error` and `outside` are (n,); `levels` and `counts` are (levels,).

    >>> measure("fc3", 2, 2.0).counts.shape
    (4,)
    """

    report: ErrorReport
    error: torch.Tensor
    outside: torch.Tensor
    levels: np.ndarray
    counts: np.ndarray


def make_grid(
    data: str, bits: int, clip: float | torch.Tensor, grid: str = "half"
) -> tuple[QParams, torch.Tensor]:
    """Return (parameters, shift): the level of code q is (q - zero_point) · scale + shift, in σ.

    With grid "half" the levels run exactly from -clip to clip and 0 lies half-way between two of
    them (Max 1960). With "zero" they move down by half a step, so that 0 has a code, as everywhere
    in labkit. A set without negative values gets levels from 0 to clip either way.

    >>> parameters, shift = make_grid("normal", 2, 3.0)
    >>> parameters.scale.item(), shift.item()
    (2.0, 1.0)
    """
    if grid not in ("zero", "half"):
        raise ValueError(f"grid must be 'zero' or 'half', got {grid!r}")
    clip = torch.as_tensor(clip, dtype=torch.float64)
    if values(data).one_sided:
        parameters, share = qparams_from_range(torch.zeros_like(clip), clip, bits), 0.0
    else:
        parameters = qparams_from_range(-clip, clip, bits, symmetric=True, scale_rule="full")
        share = 0.5 if grid == "half" else 0.0
    return parameters, parameters.scale.double() * share


def levels_of(parameters: QParams, shift: torch.Tensor | float = 0.0) -> np.ndarray:
    """Return the values that codes stand for: (levels,), or (grids, levels) for several scales.

    >>> levels_of(*make_grid("normal", 2, 3.0)).tolist()
    [-3.0, -1.0, 1.0, 3.0]
    """
    codes = torch.arange(parameters.quant_min, parameters.quant_max + 1, dtype=torch.float64)
    steps = codes - parameters.zero_point.double()[..., None]
    return (
        steps * parameters.scale.double()[..., None] + torch.as_tensor(shift)[..., None]
    ).numpy()


def span(levels: np.ndarray) -> str:
    """Return the width of a grid as arithmetic: last level minus first.

    >>> span(np.array([-3.0, -1.0, 1.0, 3.0]))
    '(3 − (−3))'
    """
    low, high = short(float(levels[0])), short(float(levels[-1]))
    return f"({high} − ({low}))" if levels[0] < 0 else f"({high} − {low})"


@cache
def curve(data: str, bits: int, grid: str = "half") -> Curve:
    """Return both errors of the whole set at every position of the clip slider.

    >>> shape = curve("normal", 4)
    >>> bool(shape.rounding[0] < shape.rounding[-1]), float(shape.clipping[-1])
    (True, 0.0)
    """
    levels = levels_of(*make_grid(data, bits, torch.from_numpy(CLIPS), grid))
    rounding, clipping = values(data).split(levels)
    lowest = int(np.argmin(rounding + clipping))
    best = float(CLIPS[lowest])
    return Curve(CLIPS, rounding, clipping, best, float((rounding + clipping)[lowest]))


@cache
def lowest(data: str, bits: int, grid: str = "half") -> tuple[float, float]:
    """Return (clip, mse) of the lowest sum, searched between the positions of the slider too.

    >>> [round(value, 2) for value in lowest("normal", 2)]
    [1.49, 0.12]
    """
    near = curve(data, bits, grid).best
    clips = np.linspace(max(near - STEP, STEP), near + STEP, 401)
    total = sum(
        values(data).split(levels_of(*make_grid(data, bits, torch.from_numpy(clips), grid)))
    )
    at = int(np.argmin(total))
    return float(clips[at]), float(total[at])


def measure(data: str, bits: int, clip: float, grid: str = "half") -> Measured:
    """Quantize every value of the set and look at what came back.

    >>> measure("normal", 4, 2.5).counts.sum()
    np.int64(100000)
    """
    x = values(data).x
    parameters, shift = make_grid(data, bits, clip, grid)
    moved = x - shift.float()
    report = quantization_error(moved, parameters)
    back = fake_quantize(moved, parameters)
    low, high = (end.item() for end in representable_range(parameters))
    # Every value is now on a level, so that dividing by the step gives the code exactly.
    codes = (back / parameters.scale).round_().add_(parameters.zero_point).to(torch.int64)
    return Measured(
        report,
        back - moved,
        (moved < low) | (moved > high),
        levels_of(parameters, shift),
        np.bincount(codes.numpy(), minlength=2**bits),
    )
