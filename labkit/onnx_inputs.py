"""What enters a quantized layer, in ONNX operators: as codes, or as codes and back to float."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labkit.layers import QuantLayer
from labkit.onnx_parts import hold_grid

symbolic = torch.onnx.ops.symbolic


class OnnxLayer(nn.Module):
    """Base of the layers in `labkit.onnx_layers`: the bias, and the input as codes.

    >>> from labkit.layers import QuantLinear
    >>> from labkit.qparams import choose_qparams
    >>> linear = nn.Linear(4, 2)
    >>> grid = choose_qparams(linear.weight, 8)
    >>> OnnxLayer(QuantLinear.from_float(linear, 8, grid)).mode is None
    True
    """

    def __init__(self, layer: QuantLayer) -> None:
        """Take the bias and the input's grid from the quantized layer."""
        super().__init__()
        bias = getattr(layer, "bias", None)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        quantizer = layer.input_quantizer
        self.mode = None if quantizer is None else quantizer.mode
        if quantizer is not None:
            self.bits, self.per_token = quantizer.bits, quantizer.per_token
            hold_grid(self, quantizer.qparams)

    def simulated(self, x: Tensor) -> Tensor:
        """The input as codes and back to float; a kernel that follows may take the codes."""
        if self.mode is None:
            return x
        if self.mode == "dynamic":
            q, scale, zero_point = self.dynamic_codes(x)
            return (q.to(torch.float32) - zero_point.to(torch.float32)) * scale
        parts = (self.static_codes(x), self.input_scale, self.input_zero_point)
        return symbolic("DequantizeLinear", parts, dtype=torch.float32, shape=x.shape)

    def static_codes(self, x: Tensor) -> Tensor:
        """Codes of the input on the grid that calibration chose."""
        parts = (x, self.input_scale, self.input_zero_point)
        q = symbolic("QuantizeLinear", parts, dtype=parts[2].dtype, shape=x.shape)
        return q if self.input_range in ((0, 255), (-128, 127)) else q.clamp(*self.input_range)

    def dynamic_codes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, scale and zero point of this very input; a row each where x has tokens."""
        per_token = self.per_token and x.ndim >= 3
        if self.bits == 8 and not per_token:
            return torch.onnx.ops.symbolic_multi_out(
                "DynamicQuantizeLinear",
                (x,),
                dtypes=(torch.uint8, torch.float32, torch.uint8),
                shapes=(x.shape, (), ()),
            )
        axes = (-1,) if per_token else tuple(range(x.ndim))
        low = x.amin(axes, keepdim=per_token).clamp(max=0)
        high = x.amax(axes, keepdim=per_token).clamp(min=0)
        top = 2**self.bits - 1
        scale = (high - low) / top
        scale = torch.where(scale > 0, scale, 1.0)
        zero_point = (-low / scale).round().clamp(0, top).to(torch.uint8)
        # One operator on a list of tokens, where arithmetic on x would take five passes over it.
        tokens = x.reshape(-1, x.shape[-1]) if per_token else x
        parts = (tokens, scale.flatten() if per_token else scale)
        parts += (zero_point.flatten() if per_token else zero_point,)
        axis = {"axis": 0} if per_token else {}
        q = symbolic("QuantizeLinear", parts, axis, dtype=torch.uint8, shape=tokens.shape)
        q = q.reshape(x.shape)
        return q if self.bits == 8 else q.clamp(max=top), scale, zero_point
