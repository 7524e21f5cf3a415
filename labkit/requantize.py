"""From 32 bits back to 8: the scale of the accumulator, the bias at that scale, the way down.

The accumulator of a layer counts in steps of s_x s_w, its output in steps of s_y. Between them lies
one real number a channel, m = s_x s_w / s_y, usually far below 1. Engines differ in how they
multiply by it and round, and so in a code now and then.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.affine import code_dtype
from labkit.checks import check_finite, describe
from labkit.fixed_point import INT32_MAX, INT32_MIN, apply_multiplier, quantize_multipliers
from labkit.qparams import QParams

ROUNDINGS = ("fixed_point", "float")


def quantize_bias(bias: Tensor, x_qparams: QParams, w_qparams: QParams) -> Tensor:
    """Return the bias (out,) as int32 codes at scale s_x s_w and zero point 0: ready to be added.

    Rounded half to even in float64. With 32 bits at so fine a step, nothing of an ordinary bias is
    lost; one that does not fit 32 bits raises ValueError, as do values that are not finite.

    >>> grid = QParams(0.5, 0, 0, 255)
    >>> quantize_bias(torch.tensor([1.0, -0.3]), grid, QParams(0.25, 0, -128, 127))
    tensor([ 8, -2], dtype=torch.int32)
    """
    if not isinstance(bias, Tensor) or not bias.is_floating_point() or bias.ndim != 1:
        raise ValueError(f"the bias must be a float tensor of one dimension, got {describe(bias)}")
    check_finite(bias)
    scale = accumulator_scale(x_qparams, w_qparams)
    if scale.numel() not in (1, bias.numel()):
        raise ValueError(f"got {bias.numel()} biases and {scale.numel()} weight scales")
    codes = torch.round(bias.detach().double() / scale)
    if codes.numel() and not INT32_MIN <= codes.min() <= codes.max() <= INT32_MAX:
        raise ValueError(
            f"a bias of {bias.abs().max():g} at the scale s_x·s_w = {scale.min():g} does not fit "
            "32 bits; its weights are far smaller than its bias: keep this layer in float"
        )
    return codes.to(torch.int32)


def accumulator_scale(x_qparams: QParams, w_qparams: QParams) -> Tensor:
    """Return s_x s_w in float64, 0-d or one per output channel: the step of the accumulator.

    >>> accumulator_scale(QParams(0.5, 0, 0, 255), QParams(0.25, 0, -128, 127))
    tensor(0.1250, dtype=torch.float64)
    """
    s_w = w_qparams.scale.double()
    return x_qparams.scale.double() * (s_w.reshape(()) if s_w.numel() == 1 else s_w.flatten())


def output_multiplier(
    x_qparams: QParams, w_qparams: QParams, y_qparams: QParams, requantize: str = "fixed_point"
) -> Tensor:
    """Return m = s_x s_w / s_y in float64, 0-d or one per output channel.

    "fixed_point" computes it in float64, as TensorFlow Lite; "float" in float32, as ONNX Runtime.

    >>> output_multiplier(QParams(0.5, 0, 0, 255), QParams(0.25, 0, -128, 127),
    ...                   QParams(2.0, 0, 0, 255))
    tensor(0.0625, dtype=torch.float64)
    """
    check_rounding(requantize)
    if requantize == "fixed_point":
        return accumulator_scale(x_qparams, w_qparams) / y_qparams.scale.double()
    s_w = w_qparams.scale.reshape(()) if w_qparams.scale.numel() == 1 else w_qparams.scale.flatten()
    return (x_qparams.scale * s_w / y_qparams.scale).double()


def requantize_accumulator(
    accumulator: Tensor, m: Tensor, y_qparams: QParams, requantize: str = "fixed_point"
) -> Tensor:
    """Return the codes clamp(round(accumulator · m) + z_y): from 32 bits down to 8.

    accumulator: int32, any shape; m from `output_multiplier`, float64, broadcast to it.
    `requantize` says how to multiply and round, because engines differ there:

    * "fixed_point": `quantize_multiplier`, as TensorFlow Lite: integers only, two roundings, in
      the last of which halves go away from zero (see `labkit.fixed_point`).
    * "float": multiply by m in float32 and round half to even, as ONNX Runtime's QLinearConv and
      QLinearMatMul. (A float32 holds the accumulator exactly up to 2^24 only.)

    >>> grid = QParams(1.0, 100, 0, 255)
    >>> x, m = torch.tensor([-10, 10, 9000]), torch.tensor(0.25, dtype=torch.float64)
    >>> requantize_accumulator(x, m, grid).tolist()
    [97, 103, 255]
    >>> requantize_accumulator(x, m, grid, "float").tolist()
    [98, 102, 255]
    """
    check_rounding(requantize)
    if requantize == "float":
        steps = torch.round(accumulator.to(torch.float32) * m.to(torch.float32))
        # Clamped while it is still a float: a cast of something larger would wrap.
        steps = steps.clamp_(INT32_MIN // 2, INT32_MAX // 2).to(torch.int64)
    else:
        steps = apply_multiplier(accumulator, *quantize_multipliers(m))
    codes = (steps + int(y_qparams.zero_point)).clamp_(y_qparams.quant_min, y_qparams.quant_max)
    return codes.to(code_dtype(y_qparams))


def check_rounding(requantize: str) -> None:
    """Raise ValueError unless `requantize` names a way to requantize.

    >>> check_rounding("float")
    """
    if requantize not in ROUNDINGS:
        raise ValueError(f"requantize must be one of {', '.join(ROUNDINGS)}; got {requantize!r}")
