"""Scale and zero point: the affine map between floats and small integers.

    q  = clamp(round(x / scale) + zero_point, quant_min, quant_max)      quantize
    x' = (q - zero_point) * scale                                        dequantize

Divide, round half to even, add the zero point, saturate: the order of ONNX QuantizeLinear.
(`torch.fake_quantize_per_tensor_affine` multiplies by 1 / scale instead, and so differs on exact
half-way points.) How scale and zero point are chosen stands in `labkit.qparams`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.checks import FLOAT_TYPES, check_finite, check_tensor, describe
from labkit.granularity import blocks, work_dtype
from labkit.qparams import QParams, choose_qparams, code_range, qparams_from_range
from labkit.straight_through import passed_back

__all__ = [
    "QParams",
    "choose_qparams",
    "code_range",
    "dequantize",
    "fake_quantize",
    "qparams_from_range",
    "quantize",
    "representable_range",
]


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Return the integer codes of `x`, same shape, in the smallest integer type that holds them.

    q = clamp(round_half_even(x / scale) + zero_point, quant_min, quant_max). Raises ValueError when
    `x` is not finite or its shape does not fit the parameters.

    >>> quantize(torch.tensor([-1.0, 0.0, 0.3, 9.0]), QParams(0.5, 2, 0, 3))
    tensor([0, 2, 3, 3], dtype=torch.uint8)
    """
    check_tensor(x)
    x = x.detach()
    codes = torch.empty(x.shape, dtype=code_dtype(qparams), device=x.device)
    for (values, out), scale, zero_point in blocks(qparams, x, codes):
        out.copy_(_codes(values, scale, zero_point, qparams)[0])
    return codes


def dequantize(q: Tensor, qparams: QParams, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the values (q - zero_point) * scale that the codes `q` stand for, as `dtype`.

    A value beyond the largest finite number of `dtype` saturates there. Raises ValueError when `q`
    is not an integer tensor, holds a code outside the code range, or has a shape that does not fit
    the parameters, and for a `dtype` that holds no fractions.

    >>> dequantize(torch.tensor([0, 2, 3]), QParams(0.5, 2, 0, 3))
    tensor([-1.0000,  0.0000,  0.5000])
    """
    if not isinstance(q, Tensor) or q.is_floating_point() or q.is_complex():
        raise ValueError(f"codes must be an integer tensor, got {describe(q)}")
    if dtype not in FLOAT_TYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, FLOAT_TYPES))}; got {dtype}")
    values = torch.empty(q.shape, dtype=dtype, device=q.device)
    limit = _saturation(qparams, dtype)
    for (codes, out), scale, zero_point in blocks(qparams, q, values):
        steps = codes.to(work_dtype(dtype), copy=True)
        if (
            steps.numel()
            and not qparams.quant_min <= steps.min() <= steps.max() <= qparams.quant_max
        ):
            raise ValueError(
                f"codes must lie in {qparams.quant_min}..{qparams.quant_max}, "
                f"got {steps.min():.0f} to {steps.max():.0f}"
            )
        steps.sub_(zero_point).mul_(scale)
        out.copy_(steps if limit is None else steps.clamp_(-limit, limit))
    return values


def fake_quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Return dequantize(quantize(x)) in the dtype of `x`: what is left of `x` in its codes.

    Differentiable by the straight-through estimator (Bengio et al. 2013), as torch defines it: the
    gradient passes unchanged where the rounded code lies inside the code range, and is 0 where it
    clips. Raises ValueError as `quantize` does.

    >>> x = torch.tensor([0.3, 9.0], requires_grad=True)
    >>> y = fake_quantize(x, QParams(0.5, 2, 0, 3))
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist()
    ([0.5, 0.5], [1.0, 0.0])
    """
    check_tensor(x)
    return _FakeQuantize.apply(x, qparams)[0]


def representable_range(qparams: QParams) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value the grid can hold, in float64, shaped like the scale.

    >>> [end.item() for end in representable_range(QParams(0.5, 2, 0, 3))]
    [-1.0, 0.5]
    """
    scale, zero_point = qparams.scale.double(), qparams.zero_point.double()
    return (qparams.quant_min - zero_point) * scale, (qparams.quant_max - zero_point) * scale


def on_grid(x: Tensor, qparams: QParams) -> tuple[Tensor, bool]:
    """Return what is left of `x` in its codes, and whether any of it clipped; no gradient.

    >>> on_grid(torch.tensor([0.3, 9.0]), QParams(0.5, 2, 0, 3))
    (tensor([0.5000, 0.5000]), True)
    """
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    limit, clipped = _saturation(qparams, x.dtype), False
    for (values, out), scale, zero_point in blocks(qparams, x.detach(), y):
        # Where the dtype allows, the result is its own work space: no other large tensor.
        space = out if out.dtype == work_dtype(out.dtype) else None
        steps, clips = _codes(values, scale, zero_point, qparams, space)
        clipped |= clips
        if not qparams.centred:
            steps.sub_(zero_point)
        steps.mul_(scale)
        if limit is not None:
            steps.clamp_(-limit, limit)
        if steps is not out:
            out.copy_(steps)
    return y, clipped


class _FakeQuantize(torch.autograd.Function):
    """The rounding forward, the straight-through gradient backward."""

    @staticmethod
    def forward(x: Tensor, qparams: QParams) -> tuple[Tensor, bool]:
        return on_grid(x, qparams)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        (x, qparams), (_, clipped) = inputs, output
        # Where nothing clips, every gradient passes and x need not be kept.
        ctx.qparams = qparams if clipped else None
        if clipped:
            ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, gradient: Tensor, _: None):
        if ctx.qparams is None:
            return gradient, None
        (x,) = ctx.saved_tensors
        return passed_back(gradient, x, ctx.qparams)[0], None


def _codes(
    values: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    qparams: QParams,
    out: Tensor | None = None,
) -> tuple[Tensor, bool]:
    """The codes of a block as floats, in range, and whether any clipped; checked to be finite."""
    values = values.to(work_dtype(values.dtype))
    steps = torch.div(values, scale, out=out).round_().add_(zero_point)
    low, high = (end.item() for end in torch.aminmax(steps))
    # NaN and infinities pass through to the ends. A finite value may overflow here, too, and clips.
    if not (math.isfinite(low) and math.isfinite(high)):
        check_finite(values)
    clips = low < qparams.quant_min or high > qparams.quant_max
    return steps.clamp_(qparams.quant_min, qparams.quant_max) if clips else steps, clips


def code_dtype(qparams: QParams) -> torch.dtype:
    """Return the smallest integer type that holds every code of the grid.

    >>> code_dtype(QParams(0.5, 0, -8, 7))
    torch.int8
    """
    for dtype in (torch.uint8, torch.int8, torch.int16):
        info = torch.iinfo(dtype)
        if info.min <= qparams.quant_min and qparams.quant_max <= info.max:
            return dtype
    return torch.int32


def _saturation(qparams: QParams, dtype: torch.dtype) -> float | None:
    """Return the largest finite value of `dtype` when a code could stand for more, else None."""
    span = qparams.largest_step * (qparams.quant_max - qparams.quant_min)
    return torch.finfo(dtype).max if span > torch.finfo(dtype).max else None
