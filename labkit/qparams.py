"""Choosing scale and zero point: from a range of floats to a grid of integers.

One grid serves the whole tensor, one slice of an axis (a channel), or one group of neighbours along
the last dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.checks import check_axis, check_bits, check_finite, check_tensor
from labkit.granularity import split_groups

SCALE_RULES = ("restricted", "full", "no_clip")
FLOAT32 = torch.finfo(torch.float32)


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

    def __post_init__(self) -> None:
        """Store the numbers as float32 and int32, or say what is wrong with them."""
        scale = torch.as_tensor(self.scale).detach().to(torch.float32)
        zero_point = torch.as_tensor(self.zero_point, device=scale.device).detach()
        if self.quant_min >= self.quant_max:
            raise ValueError(
                f"quant_min must be below quant_max, e.g. 0 and 255; "
                f"got {self.quant_min} and {self.quant_max}"
            )
        if self.axis is not None and self.group_size is not None:
            raise ValueError(
                f"got both axis={self.axis} and group_size={self.group_size}; give one of them"
            )
        if scale.shape != zero_point.shape:
            raise ValueError(
                f"scale has shape {tuple(scale.shape)} and zero_point {tuple(zero_point.shape)}; "
                "they must be the same"
            )
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise ValueError(f"scale must be positive and finite in float32, got {self.scale}")
        if not bool((zero_point == zero_point.round()).all()):
            raise ValueError(f"zero_point must be an integer, got {self.zero_point}")
        if not bool(((zero_point >= self.quant_min) & (zero_point <= self.quant_max)).all()):
            raise ValueError(
                f"zero_point must lie in the code range {self.quant_min}..{self.quant_max}, "
                f"got {self.zero_point}"
            )
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero_point.to(torch.int32))


def code_range(bits: int, signed: bool = False) -> tuple[int, int]:
    """Return (quant_min, quant_max) of two's-complement or unsigned codes of 2 to 8 bits.

    >>> code_range(8), code_range(4, signed=True)
    ((0, 255), (-8, 7))
    """
    check_bits(bits)
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
    _check_rule(scale_rule)
    check_tensor(x)
    if x.numel() == 0:
        raise ValueError(f"an empty tensor has no range; got shape {tuple(x.shape)}")
    if axis is not None and group_size is not None:
        raise ValueError(f"got both axis={axis} and group_size={group_size}; give one of them")
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
    quant_min, quant_max = code_range(bits, signed)
    _check_rule(scale_rule)
    low, high = (torch.as_tensor(v).detach().to(torch.float64) for v in (minimum, maximum))
    check_finite(low)
    check_finite(high)
    if bool((torch.maximum(low.abs(), high.abs()) > FLOAT32.max).any()):
        raise ValueError(
            f"the values must fit in float32 (at most {FLOAT32.max:.3g}), because scales are "
            f"stored as float32; got a range of {low.min():.3g} to {high.max():.3g}"
        )
    if bool((low > high).any()):
        raise ValueError(f"the minimum must not exceed the maximum, got {minimum} and {maximum}")
    low, high = low.clamp(max=0), high.clamp(min=0)

    if symmetric:
        amax, half = torch.maximum(-low, high), 2 ** (bits - 1)
        scale = {
            "restricted": amax / (half - 1),
            "full": amax / ((quant_max - quant_min) / 2),
            "no_clip": torch.maximum(-low / half, high / (half - 1)),
        }[scale_rule]
        zero_point = torch.full_like(scale, 0 if signed else half)
    else:
        scale = (high - low) / (quant_max - quant_min)
        steps_below_zero = torch.where(scale > 0, -low / scale, 0.0)
        zero_point = (quant_min + steps_below_zero).round().clamp(quant_min, quant_max)
    return QParams(
        stored_scale(scale), zero_point.to(torch.int32), quant_min, quant_max, axis, group_size
    )


def _check_rule(scale_rule: str) -> None:
    if scale_rule not in SCALE_RULES:
        raise ValueError(f"scale_rule must be one of {', '.join(SCALE_RULES)}; got {scale_rule!r}")


def stored_scale(scale: Tensor) -> Tensor:
    """Return a float64 scale as the float32 that is stored: positive, and 1 where it is 0.

    A range of width 0 has no step of its own, and any step serves it. Where float32 is subnormal
    the scale is never rounded down: that could clip, or give 0.

    >>> stored_scale(torch.tensor([0.5, 0.0], dtype=torch.float64))
    tensor([0.5000, 1.0000])
    """
    rounded = scale.to(torch.float32)
    up = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    rounded = torch.where((rounded < FLOAT32.tiny) & (rounded.double() < scale), up, rounded)
    return torch.where(rounded > 0, rounded, 1.0)
