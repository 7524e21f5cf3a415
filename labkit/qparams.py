"""Choosing scale and zero point: from a range of floats to a grid of integers.

One grid serves the whole tensor, one slice of an axis (a channel), or one group of neighbours along
the last dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from labkit.checks import (
    as_float64,
    check_axis,
    check_bits,
    check_finite,
    check_tensor,
    check_whole,
)
from labkit.granularity import split_groups

SCALE_RULES = ("restricted", "full", "no_clip")
FLOAT32 = torch.finfo(torch.float32)
# Float32 arithmetic on codes stays exact far beyond the 16 bits that any format here asks for.
MOST_LEVELS = 2**16


@dataclass(frozen=True, eq=False)
class QParams:
    """The parameters of a uniform grid: a float32 scale and an integer zero point.

    `scale` and `zero_point` are 0-d per tensor, broadcastable to x for an `axis`, and of shape
    (*x.shape[:-1], x.shape[-1] // group_size) for a `group_size`. Codes run from `quant_min` to
    `quant_max`. Raises ValueError for a scale that is not positive and finite, a zero point that is
    no integer or lies outside the code range, or shapes that do not match.

    >>> QParams(0.5, 10, 0, 255).zero_point
    tensor(10, dtype=torch.int32)
    """

    scale: Tensor
    zero_point: Tensor
    quant_min: int
    quant_max: int
    axis: int | None = None
    group_size: int | None = None
    # The largest scale, and whether 0 is the zero point of all: to know it spares work at each use.
    largest_step: float = field(init=False, repr=False)
    centred: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Store the numbers as float32 and int32, or say what is wrong with them."""
        quant_min, quant_max = (
            check_whole(name, getattr(self, name)) for name in ("quant_min", "quant_max")
        )
        if not quant_min < quant_max <= quant_min + MOST_LEVELS - 1:
            raise ValueError(
                "quant_min must be below quant_max, with at most 65536 codes, e.g. 0 and 255; "
                f"got {quant_min} and {quant_max}"
            )
        _check_granularity(self.axis, self.group_size)
        scale, zero_point = _stored_floats(self.scale), _stored_integers(self.zero_point)
        zero_point = zero_point.to(scale.device)
        if scale.shape != zero_point.shape:
            raise ValueError(
                f"scale has shape {tuple(scale.shape)} and zero_point {tuple(zero_point.shape)}; "
                "they must be the same"
            )
        largest_step = _largest_step(scale, self.scale)
        smallest, largest = _ends(zero_point, quant_min)
        if not quant_min <= smallest <= largest <= quant_max:
            raise ValueError(
                f"zero_point must lie in the code range {quant_min}..{quant_max}, "
                f"got {self.zero_point}"
            )
        for name, value in (
            ("quant_min", quant_min),
            ("quant_max", quant_max),
            ("scale", scale),
            ("zero_point", zero_point.to(torch.int32)),
            ("largest_step", largest_step),
            ("centred", smallest == largest == 0),
        ):
            object.__setattr__(self, name, value)

    def with_scale(self, scale: Tensor) -> QParams:
        """Return the same grid with other steps: float32, in the shape of those it has.

        At every step of a training nothing else changes. ValueError unless positive and finite.

        >>> QParams(0.5, 2, 0, 3).with_scale(torch.tensor(0.25)).scale
        tensor(0.2500)
        """
        grid = object.__new__(QParams)
        vars(grid).update(vars(self), scale=scale, largest_step=_largest_step(scale, scale))
        return grid


def code_range(bits: int, signed: bool = False) -> tuple[int, int]:
    """Return (quant_min, quant_max) of two's-complement or unsigned codes of 2 to 8 bits.

    >>> code_range(8), code_range(4, signed=True)
    ((0, 255), (-8, 7))
    """
    bits = check_bits(bits)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def choose_qparams(
    x: Tensor,
    bits: int = 8,
    *,
    symmetric: bool = False,
    signed: bool = False,
    axis: int | None = None,
    group_size: int | None = None,
    scale_rule: str = "restricted",
) -> QParams:
    """Choose scale and zero point so that the grid covers the range of `x`.

    Give `axis` for one scale per slice of that axis (per channel), `group_size` for one scale per
    group of neighbours along the last dimension, neither for one scale per tensor. `x` is a
    floating-point tensor of any shape and device. See `qparams_from_range` for the formulas.
    Raises ValueError for an empty, non-finite or integer tensor and for options that do not fit.

    The source document's Example 1, weights in [-1, 1] at 8 bits:

    >>> example = choose_qparams(torch.tensor([-1.0, 1.0]), bits=8)
    >>> round(example.scale.item(), 5), example.zero_point.item()
    (0.00784, 128)
    """
    check_bits(bits)
    check_rule(scale_rule)
    check_tensor(x)
    if x.numel() == 0:
        raise ValueError(f"an empty tensor has no range; got shape {tuple(x.shape)}")
    _check_granularity(axis, group_size)
    x = x.detach()
    if group_size is not None:
        groups = split_groups(x, group_size)
        minimum, maximum = groups.amin(-1), groups.amax(-1)
    elif axis is not None:
        axis = check_axis(x, axis)
        others = [d for d in range(x.ndim) if d != axis]
        # amin over no dimensions at all would reduce over every one of them.
        minimum = x.amin(others, keepdim=True) if others else x
        maximum = x.amax(others, keepdim=True) if others else x
    else:
        minimum, maximum = x.amin(), x.amax()
    return qparams_from_range(
        minimum,
        maximum,
        bits,
        symmetric=symmetric,
        signed=signed,
        axis=axis,
        group_size=group_size,
        scale_rule=scale_rule,
    )


def qparams_from_range(
    minimum: Tensor | float,
    maximum: Tensor | float,
    bits: int = 8,
    *,
    symmetric: bool = False,
    signed: bool = False,
    axis: int | None = None,
    group_size: int | None = None,
    scale_rule: str = "restricted",
) -> QParams:
    """Turn a range (or one range per channel or group) into scale and zero point.

    The range is widened to contain 0, so that 0 has a code of its own. Then, in float64:

    * affine: scale = (max - min) / (quant_max - quant_min) and
      zero_point = round(quant_min - min / scale)
    * symmetric: zero_point is 0 (signed) or the middle code (unsigned), and with
      amax = max(-min, max) the scale follows the rule:
      "restricted" amax / (2^(b-1) - 1), no value clips;
      "full" amax / ((quant_max - quant_min) / 2), a finer step that clips the peak by half a step;
      "no_clip" max(-min / 2^(b-1), max / (2^(b-1) - 1)), the finest step that clips neither side.

    A range of width 0 at 0 gets scale 1. Raises ValueError for a range that is not finite in
    float32 or that is upside down. Sources: the document, 4.2.3; Jacob et al. 2018, section 2.1.

    >>> qparams_from_range(-1.0, 3.0, bits=2, symmetric=True, signed=True).scale
    tensor(3.)
    """
    bits = check_bits(bits)
    quant_min, quant_max = code_range(bits, signed)
    check_rule(scale_rule)
    _check_granularity(axis, group_size)
    device = maximum.device if isinstance(maximum, Tensor) else None
    # These are few numbers: numpy is quicker at them than torch, and knows float64 for any device.
    low, high = _in_numpy("minimum", minimum), _in_numpy("maximum", maximum)
    if low.shape != high.shape:
        raise ValueError(
            f"minimum has shape {low.shape} and maximum {high.shape}; they must be the same"
        )
    # NaN fails every comparison, so that one look is enough where all is well.
    if not ((low >= -FLOAT32.max) & (low <= high) & (high <= FLOAT32.max)).all():
        _refuse_range(torch.from_numpy(low), torch.from_numpy(high))
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)

    if symmetric:
        amax, half = np.maximum(-low, high), 2 ** (bits - 1)
        if scale_rule == "restricted":
            scale = amax / (half - 1)
        elif scale_rule == "full":
            scale = amax / ((quant_max - quant_min) / 2)
        else:
            scale = np.maximum(-low / half, high / (half - 1))
        zero_point = np.full(scale.shape, 0 if signed else half)
    else:
        scale = (high - low) / (quant_max - quant_min)
        # -low / scale, but with one division of exact numbers: dividing by the rounded scale would
        # miss the tie of a symmetric range now and then. A range of width 0 is at 0.
        width = np.where(scale > 0, high - low, np.inf)
        below_zero = -low * (quant_max - quant_min) / width
        zero_point = np.rint(quant_min + below_zero).clip(quant_min, quant_max)
    return _chosen(
        _stored(scale),
        zero_point.astype(np.int32),
        (quant_min, quant_max),
        axis,
        group_size,
        device,
    )


def _in_numpy(name: str, value: object) -> np.ndarray:
    """Numbers as float64 in numpy; those of an observer are that already."""
    if isinstance(value, np.ndarray | np.float64) and value.dtype == np.float64:
        return value
    return as_float64(name, value).cpu().numpy()


def _chosen(
    scale: np.ndarray,
    zero_point: np.ndarray,
    ends: tuple[int, int],
    axis: int | None,
    group_size: int | None,
    device: torch.device | None,
) -> QParams:
    """The grid of numbers that were computed here: a training need not check them at every step."""
    grid = object.__new__(QParams)
    vars(grid).update(
        scale=torch.from_numpy(np.asarray(scale)).to(device),
        zero_point=torch.from_numpy(np.asarray(zero_point)).to(device),
        quant_min=ends[0],
        quant_max=ends[1],
        axis=axis,
        group_size=group_size,
        largest_step=float(scale.max()) if scale.size else 1.0,
        centred=not zero_point.any(),
    )
    return grid


def _stored_floats(scale: object) -> Tensor:
    """A copy as float32."""
    if isinstance(scale, Tensor) and scale.dtype == torch.float32:
        return scale.detach().clone()
    return as_float64("scale", scale).to(torch.float32)


def _stored_integers(zero_point: object) -> Tensor:
    """A copy that holds whole numbers, of a type that holds those that were given."""
    if isinstance(zero_point, Tensor) and zero_point.dtype == torch.int32:
        return zero_point.detach().clone()
    numbers = as_float64("zero_point", zero_point)
    if not torch.equal(numbers, numbers.round()):
        raise ValueError(f"zero_point must be an integer, got {zero_point}")
    return numbers


def _largest_step(scale: Tensor, given: object) -> float:
    """The largest scale; ValueError unless all are positive and finite."""
    # By the smallest and the largest, as this runs at every step of a training; NaN is neither.
    smallest, largest = _ends(scale, 1.0)
    if not 0 < smallest <= largest < math.inf:
        raise ValueError(f"scale must be positive and finite in float32, got {given}")
    return largest


def _ends(x: Tensor, of_none: float) -> tuple[float, float]:
    """The smallest and the largest value; of an empty tensor as given."""
    if x.numel() == 0:
        return of_none, of_none
    low, high = torch.aminmax(x)
    return low.item(), high.item()


def _refuse_range(low: Tensor, high: Tensor) -> None:
    """Say what is wrong with a range."""
    check_finite(low)
    check_finite(high)
    if bool((torch.maximum(low.abs(), high.abs()) > FLOAT32.max).any()):
        raise ValueError(
            f"the values must fit in float32 (at most {FLOAT32.max:.3g}), because scales are "
            f"stored as float32; got a range of {low.min():.3g} to {high.max():.3g}"
        )
    raise ValueError(f"the minimum must not exceed the maximum, got {low} and {high}")


def _check_granularity(axis: int | None, group_size: int | None) -> None:
    if axis is not None and group_size is not None:
        raise ValueError(f"got both axis={axis} and group_size={group_size}; give one of them")
    if axis is not None:
        check_whole("axis", axis)
    if group_size is not None and check_whole("group_size", group_size) < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")


def check_rule(scale_rule: str) -> None:
    """Raise ValueError unless `scale_rule` names a symmetric scale rule.

    >>> check_rule("full")
    """
    if scale_rule not in SCALE_RULES:
        raise ValueError(f"scale_rule must be one of {', '.join(SCALE_RULES)}; got {scale_rule!r}")


def stored_scale(scale: Tensor) -> Tensor:
    """Return a float64 scale as the float32 that is stored: positive, and 1 where it is 0.

    A range of width 0 has no step of its own, and any step serves it. Where float32 is subnormal
    (below 1.2e-38) it has few digits left, so the scale is never rounded down there: that could
    clip, or give 0. The grid is a little coarser than wanted instead.

    >>> stored_scale(torch.tensor([0.5, 0.0], dtype=torch.float64))
    tensor([0.5000, 1.0000])
    """
    return torch.from_numpy(np.asarray(_stored(scale.cpu().numpy()))).to(scale.device)


def _stored(scale: np.ndarray) -> np.ndarray:
    """What `stored_scale` describes, in numpy: it runs at every step of a training."""
    rounded = scale.astype(np.float32)
    if rounded.size and rounded.min() >= FLOAT32.tiny:
        return rounded
    up = np.nextafter(rounded, np.float32(math.inf))
    rounded = np.where((rounded < FLOAT32.tiny) & (rounded < scale), up, rounded)
    return np.where(rounded > 0, rounded, np.float32(1))
