"""Layers in integers alone: what an 8-bit engine computes between one code and the next.

With x = s_x (q_x - z_x) and w = s_w (q_w - z_w), a sum of K products is

    Σ x·w = s_x s_w · Σ (q_x - z_x)(q_w - z_w)
          = s_x s_w · (Σ q_x q_w  -  z_w Σ q_x  -  z_x Σ q_w  +  K z_x z_w)

Everything in the bracket is an integer and is kept in 32 bits: the accumulator. The bias joins it
as an integer at the same scale s_x s_w. What remains is one multiplication by m = s_x s_w / s_y,
then + z_y and a clamp: `labkit.requantize`. Source: Jacob et al. 2018, sections 2.2 to 2.4.

`labkit.integer_steps` computes the same with small loops and shows every number on the way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from labkit.accumulator import CrossTerms, accumulator_bound, contracted_terms
from labkit.affine import QParams
from labkit.fixed_point import INT32_MAX, as_int32, quantize_multiplier
from labkit.requantize import (
    ROUNDINGS,
    accumulator_scale,
    check_rounding,
    output_multiplier,
    quantize_bias,
    requantize_accumulator,
)

__all__ = [
    "CrossTerms",
    "accumulator_bound",
    "accumulator_scale",
    "cross_terms",
    "integer_conv2d",
    "integer_linear",
    "quantize_bias",
    "quantize_multiplier",
    "requantize_accumulator",
]


def integer_linear(
    x: Tensor,
    x_qparams: QParams,
    weight: Tensor,
    w_qparams: QParams,
    bias: Tensor | None = None,
    y_qparams: QParams | None = None,
    *,
    relu: bool = False,
    requantize: str = "fixed_point",
) -> Tensor:
    """Return the output codes of a linear layer, from codes, with integer arithmetic.

    x: codes (..., in); weight: codes (out, in); bias: int32 at scale s_x s_w (out,), see
    `quantize_bias`. x_qparams and y_qparams are per tensor, w_qparams per tensor or per channel
    (axis=0). Returns codes (..., out) on the grid y_qparams, or without y_qparams the int32
    accumulators. `relu`: nothing below zero, i.e. below the code z_y. `requantize`: see
    `requantize_accumulator`. Raises ValueError before any work for codes outside their range,
    shapes that do not fit, and weights whose accumulator could exceed 32 bits.

    >>> x_grid, w_grid = QParams(0.5, 10, 0, 255), QParams(0.25, 0, -128, 127)
    >>> x, weight = torch.tensor([[14, 8]]), torch.tensor([[3, -2]])
    >>> integer_linear(x, x_grid, weight, w_grid)  # (14-10)·3 + (8-10)·(-2)
    tensor([[16]], dtype=torch.int32)
    >>> integer_linear(x, x_grid, weight, w_grid, None, QParams(1.0, 100, 0, 255))  # + 2.0
    tensor([[102]], dtype=torch.uint8)
    """
    _check_linear(x, weight)
    _check_layer(x, x_qparams, weight, w_qparams, bias, y_qparams, requantize)

    terms = _linear_terms(x, x_qparams, weight, w_qparams)
    return _finish(terms, (-1,), x_qparams, w_qparams, bias, y_qparams, relu, requantize)


def cross_terms(x: Tensor, x_qparams: QParams, weight: Tensor, w_qparams: QParams) -> CrossTerms:
    """Return the four sums of a linear layer; arguments, shapes and errors as `integer_linear`.

    >>> terms = cross_terms(torch.tensor([[14, 8]]), QParams(0.5, 10, 0, 255),
    ...                     torch.tensor([[3, -2]]), QParams(0.25, 1, -128, 127))
    >>> [int(t) for t in (terms.product, terms.x_term, terms.w_term, terms.constant, terms.total)]
    [26, 22, 10, 20, 14]
    """
    _check_linear(x, weight)
    _check_layer(x, x_qparams, weight, w_qparams, None, None, ROUNDINGS[0])
    return _linear_terms(x, x_qparams, weight, w_qparams)


def integer_conv2d(
    x: Tensor,
    x_qparams: QParams,
    weight: Tensor,
    w_qparams: QParams,
    bias: Tensor | None = None,
    y_qparams: QParams | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | tuple[int, int, int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    relu: bool = False,
    requantize: str = "fixed_point",
) -> Tensor:
    """Return the output codes of a 2-d convolution, from codes, with integer arithmetic.

    x: codes (n, in, height, width); weight: codes (out, in / groups, kh, kw); everything else as
    in `integer_linear`, the geometry as in torch (`padding` may be "same" or "valid", or the four
    edges top, left, bottom, right as in ONNX). The border is padded with the code that stands for
    zero: the input's zero point, not 0.

    >>> x_grid, w_grid = QParams(0.5, 10, 0, 255), QParams(0.25, 0, -128, 127)
    >>> x, weight = torch.full((1, 1, 2, 2), 12), torch.ones(1, 1, 3, 3, dtype=torch.int8)
    >>> integer_conv2d(x, x_grid, weight, w_grid, padding=1).flatten()  # 4 times (12 - 10)
    tensor([8, 8, 8, 8], dtype=torch.int32)
    """
    if (
        weight.ndim != 4
        or x.ndim != 4
        or x.shape[1] != weight.shape[1] * groups
        or weight.shape[0] % groups
    ):
        raise ValueError(
            f"a convolution takes x (n, in, height, width) and a weight (out, in / groups, kh, kw) "
            f"with out divisible by groups; got {tuple(x.shape)}, {tuple(weight.shape)} and "
            f"groups={groups}"
        )
    _check_layer(x, x_qparams, weight, w_qparams, bias, y_qparams, requantize)
    dilations = (dilation, dilation) if isinstance(dilation, int) else tuple(dilation)
    top, left, bottom, right = edges(padding, tuple(weight.shape[2:]), dilations)
    zero = int(x_qparams.zero_point)
    padded = functional.pad(x.to(torch.int64), (left, right, top, bottom), value=zero)

    def contract(values: Tensor, weights: Tensor) -> Tensor:
        return functional.conv2d(values, weights, stride=stride, dilation=dilation, groups=groups)

    channels = (-1, 1, 1)
    terms = contracted_terms(padded, x_qparams, weight, w_qparams, contract, channels, groups)
    return _finish(terms, channels, x_qparams, w_qparams, bias, y_qparams, relu, requantize)


def edges(padding, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return how many rows and columns to add: top, left, bottom, right.

    >>> edges("same", (3, 2), (1, 1)), edges(1, (3, 3), (1, 1))
    ((1, 0, 1, 1), (1, 1, 1, 1))
    """
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        (top, left), (bottom, right) = zip(*((n // 2, n - n // 2) for n in total), strict=True)
        return top, left, bottom, right
    numbers = (padding,) if isinstance(padding, int) else tuple(padding)
    if len(numbers) not in (1, 2, 4) or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise ValueError(
            'padding must be "same", "valid", one number, (vertical, horizontal) or (top, left, '
            f"bottom, right), not below 0; got {padding!r}"
        )
    return tuple(numbers * (4 // len(numbers)))


def _check_linear(x: Tensor, weight: Tensor) -> None:
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"a linear layer takes x (..., in) and a weight (out, in); got {tuple(x.shape)} and "
            f"{tuple(weight.shape)}"
        )


def _linear_terms(x: Tensor, x_qparams: QParams, weight: Tensor, w_qparams: QParams) -> CrossTerms:
    def contract(values: Tensor, weights: Tensor) -> Tensor:
        return values @ weights.T

    return contracted_terms(x, x_qparams, weight, w_qparams, contract, (-1,), 1)


def _finish(
    terms: CrossTerms,
    channels: tuple[int, ...],
    x_qparams: QParams,
    w_qparams: QParams,
    bias: Tensor | None,
    y_qparams: QParams | None,
    relu: bool,
    requantize: str,
) -> Tensor:
    """Add the bias, rectify, requantize."""
    accumulator = terms.total
    if bias is not None:
        accumulator = accumulator + bias.long().reshape(channels)
    if relu:
        # 0 is where the accumulator stands for 0.0; after requantizing this is the code z_y.
        accumulator = accumulator.clamp(min=0)
    if y_qparams is None:
        return accumulator.to(torch.int32)
    m = output_multiplier(x_qparams, w_qparams, y_qparams, requantize)
    m = m if m.ndim == 0 else m.reshape(channels)
    return requantize_accumulator(accumulator, m, y_qparams, requantize)


def _check_layer(
    x: Tensor,
    x_qparams: QParams,
    weight: Tensor,
    w_qparams: QParams,
    bias: Tensor | None,
    y_qparams: QParams | None,
    requantize: str,
) -> None:
    """Raise ValueError for anything that would not fit, before any work is done."""
    check_rounding(requantize)
    for name, grid in (("x_qparams", x_qparams), ("y_qparams", y_qparams)):
        if grid is not None and grid.scale.numel() != 1:
            raise ValueError(
                f"{name} must be per tensor: a scale that changes along the sum cannot be taken "
                f"out of it; got {grid.scale.numel()} scales"
            )
    if w_qparams.group_size is not None or w_qparams.scale.numel() not in (1, len(weight)):
        raise ValueError(
            f"w_qparams must be per tensor or per output channel ({len(weight)} here), so that one "
            f"accumulator has one scale; got {w_qparams.scale.numel()} scales"
            + (f" in groups of {w_qparams.group_size}" if w_qparams.group_size else "")
        )
    for name, codes, grid in (("x", x, x_qparams), ("weight", weight, w_qparams)):
        low, high = grid.quant_min, grid.quant_max
        if codes.numel() == 0:
            raise ValueError(f"{name} is empty, of shape {tuple(codes.shape)}")
        as_int32(name, codes)
        if not low <= int(codes.min()) <= int(codes.max()) <= high:
            raise ValueError(
                f"the codes of {name} must lie in {low}..{high}, got {int(codes.min())} to "
                f"{int(codes.max())}"
            )
    if bias is not None:
        if bias.is_floating_point():
            raise ValueError("the bias must be int32 at scale s_x s_w; use quantize_bias(...)")
        if as_int32("bias", bias).shape != (len(weight),):
            raise ValueError(f"got a bias of shape {tuple(bias.shape)} for {len(weight)} outputs")
    bound = accumulator_bound(weight, w_qparams, x_qparams, bias)
    if int(bound.max()) > INT32_MAX:
        raise ValueError(
            f"the accumulator of output {int(bound.argmax())} could reach {int(bound.max())}, "
            f"beyond the {INT32_MAX} that 32 bits hold, and would wrap around; split the "
            f"{weight[0].numel()} products of an output into parts, or use fewer bits"
        )
