"""The same integer layer on a real engine: ONNX Runtime's QLinearConv with labkit's own codes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from labkit.integer_model import Stage
from labkit.layers import QuantLinear

__all__ = ["onnx_runtime_codes"]


def onnx_runtime_codes(stage: Stage, codes: Tensor) -> Tensor:
    """Return the output codes of a linear stage, (n, out), computed by ONNX Runtime.

    codes: uint8 (n, in). A linear layer is a convolution over 1 × 1 pixels, and QLinearConv takes
    an int32 bias and one scale a channel. The signed weight codes are passed as unsigned ones with
    zero point 128, which stands for the same numbers: with signed weights, x86 processors without
    VNNI add two products in 16 bits, and saturate. ReLU is the clamp at the zero point, which must
    be 0 then. Raises ValueError for a stage that this operator cannot express.

    >>> from labkit.quantize import quantize_model
    >>> from labkit.integer_model import run_integer, integer_stages
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> x = torch.linspace(-1, 1, 12).reshape(3, 4)
    >>> quantized, _ = quantize_model(net, "static", calibration_data=[x])
    >>> run, (_, stages) = run_integer(quantized, x, requantize="float"), integer_stages(quantized)
    >>> torch.equal(onnx_runtime_codes(stages[0], run.codes["0"]), run.codes["2"])
    True
    """
    _check(stage)
    weight = (stage.layer.codes.to(torch.int16) + 128).to(torch.uint8)[..., None, None]
    out = len(weight)
    x, w, y = stage.x_qparams, stage.w_qparams, stage.y_qparams
    constants = {
        "x_scale": x.scale.numpy(),
        "x_zero": _zero(x.zero_point),
        "w": weight.numpy(),
        "w_scale": w.scale.flatten().numpy(),
        "w_zero": np.full(w.scale.numel(), 128, np.uint8),
        "y_scale": y.scale.numpy(),
        "y_zero": _zero(y.zero_point),
        "bias": torch.zeros(out, dtype=torch.int32).numpy()
        if stage.bias is None
        else stage.bias.numpy(),
    }
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", ["x", *constants], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, weight.shape[1], 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [None, out, 1, 1])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {"x": codes[..., None, None].numpy()})
    return torch.from_numpy(result)[..., 0, 0]


def _zero(zero_point: Tensor) -> np.ndarray:
    return np.asarray(zero_point.item(), np.uint8)


def _check(stage: Stage) -> None:
    grids = (stage.x_qparams, stage.y_qparams)
    if not isinstance(stage.layer, QuantLinear) or stage.y_qparams is None:
        raise ValueError(f"{stage.name!r} is no linear layer with an output grid")
    if any((g.quant_min, g.quant_max) != (0, 255) for g in grids) or stage.layer.bits > 8:
        raise ValueError(f"{stage.name!r}: QLinearConv takes codes of 0 to 255 on both sides")
    if not stage.layer.signed or stage.w_qparams.zero_point.any():
        raise ValueError(f"{stage.name!r}: the weights must be symmetric, with zero point 0")
    if stage.relu and int(stage.y_qparams.zero_point):
        raise ValueError(
            f"{stage.name!r}: the output's zero point must be 0: QLinearConv has no ReLU"
        )
