"""What each quantized layer looks like in an ONNX graph: its own codes, and integer arithmetic.

A layer of `labkit.layers` is replaced by a module that holds the same codes in the order ONNX wants
and whose forward writes ONNX operators while torch traces it. Which form is chosen:

    static        QuantizeLinear → DequantizeLinear → MatMul or Conv ← DequantizeLinear ← codes
    dynamic       range at run time → MatMulInteger or ConvInteger ← codes → times both scales
    weight-only   MatMulNBits ← packed codes, one scale a block
    the rest      Gather, Conv or MatMul in float ← codes (embeddings; grids no kernel knows)

Nothing here chooses a scale or rounds a weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.layers import QuantEmbedding, QuantLayer, QuantLinear, rows
from labkit.onnx_inputs import OnnxLayer, symbolic
from labkit.onnx_parts import (
    block_size,
    centred_codes,
    convolution,
    dequantized,
    hold_codes,
    output_shape,
    packed_blocks,
    per_output,
    share_zero_point,
)

ONNX_FLOAT = 1


def onnx_layer(layer: QuantLayer, accuracy_level: int = 4, fused: bool = False) -> nn.Module:
    """Return the module that writes `layer` into an ONNX graph; see the head of this file.

    `accuracy_level` and `fused` as in `labkit.onnx_export.export_onnx`.

    >>> from labkit.qparams import choose_qparams
    >>> linear = nn.Linear(32, 4)
    >>> grid = choose_qparams(linear.weight, 4, symmetric=True, signed=True, axis=0)
    >>> type(onnx_layer(QuantLinear.from_float(linear, 4, grid))).__name__
    '_BlockLinear'
    """
    if isinstance(layer, QuantEmbedding):
        return _Embedding(layer)
    quantizer = layer.input_quantizer
    integer = quantizer is not None and per_output(layer)
    if not isinstance(layer, QuantLinear):
        # The integer convolutions know one zero point for all channels.
        if not integer or len(layer.qparams.zero_point.unique()) > 1:
            return _FloatConv(layer)
        return _StaticConv(layer) if quantizer.mode == "static" else _DynamicConv(layer)
    if integer:
        if quantizer.mode == "dynamic":
            return _DynamicLinear(layer)
        # The operator has no form for signed inputs with unsigned weights.
        fused = fused and (layer.signed or quantizer.qparams.quant_min >= 0)
        return (_FusedLinear if fused else _StaticLinear)(layer)
    return _BlockLinear(layer, accuracy_level) if block_size(layer) else _FloatLinear(layer)


class _StaticLinear(OnnxLayer):
    """Codes in, codes inside: fused to MatMulIntegerToFloat, exact to the rounding of one float."""

    def __init__(self, layer: QuantLinear) -> None:
        super().__init__(layer)
        hold_codes(self, layer, transpose=True)
        # Subtracted, because ONNX Runtime turns MatMul + Add into Gemm, whose integer kernel rounds
        # the bias, and which stays in float where no quantized layer follows.
        self.register_buffer("minus_bias", None if self.bias is None else -self.bias)
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.matmul(self.simulated(x), dequantized(self, axis=1))
        return y if self.minus_bias is None else y - self.minus_bias


class _FusedLinear(OnnxLayer):
    """What ONNX Runtime makes of the layer above, written at once, with the bias inside."""

    def __init__(self, layer: QuantLinear) -> None:
        super().__init__(layer)
        hold_codes(self, layer, transpose=True)
        share_zero_point(self)
        if self.bias is None:
            self.bias = torch.zeros(self.codes.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        q = self.static_codes(x)
        return _multiply_codes(self, q, self.input_scale, self.input_zero_point, self.bias)


class _DynamicLinear(OnnxLayer):
    """MatMulInteger between codes, then one multiplication by both scales."""

    def __init__(self, layer: QuantLinear) -> None:
        super().__init__(layer)
        hold_codes(self, layer, transpose=True)
        share_zero_point(self)
        if self.per_token:
            sums = centred_codes(layer).sum(1).to(torch.float32) * self.scale
            # Two rows: what a token's zero point takes off, and the bias.
            bias = torch.zeros_like(sums) if self.bias is None else self.bias
            self.register_buffer("sums_and_bias", torch.stack([sums, bias]))
            self.register_buffer("one", torch.ones(()))
            self.register_buffer("no_shift", torch.zeros((), dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        q, scale, zero_point = self.dynamic_codes(x)
        if zero_point.ndim > 0:
            # The operator knows one zero point for its whole input. With one a token, the cross
            # term is taken off by hand: s Σ (q − z) w + bias = s Σ q w + (−s z Σ w + bias).
            sums = _multiply_codes(self, q, self.one, self.no_shift)
            factors = torch.cat([-scale * zero_point.to(torch.float32), torch.ones_like(scale)], -1)
            return sums * scale + torch.matmul(factors, self.sums_and_bias)
        shape = (*x.shape[:-1], self.codes.shape[1])
        parts = (q, self.codes, zero_point, self.zero_point)
        y = _as_float(symbolic("MatMulInteger", parts, dtype=torch.int32, shape=shape))
        y = y * (scale * self.scale)
        return y if self.bias is None else y + self.bias


class _BlockLinear(OnnxLayer):
    """MatMulNBits: packed codes of 2, 4 or 8 bits, one scale (and zero point) a block."""

    def __init__(self, layer: QuantLinear, accuracy_level: int) -> None:
        super().__init__(layer)
        packed, scale, zero_points, self.attributes = packed_blocks(layer)
        self.attributes["accuracy_level"] = accuracy_level
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_points", zero_points)

    def forward(self, x: Tensor) -> Tensor:
        parts = (self.simulated(x), self.packed, self.scale)
        y = symbolic(
            "com.microsoft::MatMulNBits",
            parts if self.zero_points is None else (*parts, self.zero_points),
            self.attributes,
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.attributes["N"]),
            version=1,
        )
        return y if self.bias is None else y + self.bias


class _StaticConv(OnnxLayer):
    """Codes in, codes inside: fused to QLinearConv where a quantized layer follows."""

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__(layer)
        hold_codes(self, layer)
        self.convolve = convolution(layer)
        self.register_buffer("bias_codes", None)
        if self.bias is not None:
            # The kernel adds the bias to its int32 sums, in units of both scales.
            step = (self.input_scale * self.scale).expand(len(self.bias)).contiguous()
            codes = (self.bias.double() / step.double()).round()
            if codes.abs().max() < 2**31:
                self.bias_codes = codes.to(torch.int32)
                self.register_buffer("bias_scale", step)
                self.register_buffer("bias_zero_point", torch.zeros_like(self.bias_codes))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias
        if self.bias_codes is not None:
            parts = (self.bias_codes, self.bias_scale, self.bias_zero_point)
            bias = symbolic(
                "DequantizeLinear", parts, {"axis": 0}, dtype=torch.float32, shape=bias.shape
            )
        return self.convolve(self.simulated(x), dequantized(self, axis=0), bias)


class _DynamicConv(OnnxLayer):
    """ConvInteger between codes, then one multiplication by both scales."""

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__(layer)
        hold_codes(self, layer)
        share_zero_point(self)
        # One number an output channel, in front of the image.
        channels = (-1,) + (1,) * len(layer.stride)
        self.scale = self.scale.reshape(channels) if self.scale.ndim else self.scale
        self.bias = None if self.bias is None else self.bias.reshape(channels)
        edges, self.padding_mode = layer._edges(), layer.padding_mode
        self.edges = edges if layer.padding_mode != "zeros" else None
        around = edges if self.edges is None else [0] * len(edges)
        self.attributes = {
            # Last dimension first in torch; all beginnings, then all ends in ONNX.
            "pads": around[-2::-2] + around[::-2],
            "strides": list(layer.stride),
            "dilations": list(layer.dilation),
            "group": layer.groups,
        }

    def forward(self, x: Tensor) -> Tensor:
        if self.edges is not None:
            x = functional.pad(x, self.edges, mode=self.padding_mode)
        q, scale, zero_point = self.dynamic_codes(x)
        y = symbolic(
            "ConvInteger",
            (q, self.codes, zero_point, self.zero_point),
            self.attributes,
            dtype=torch.int32,
            shape=output_shape(x.shape, self.codes.shape, self.attributes),
        )
        y = _as_float(y) * (scale * self.scale)
        return y if self.bias is None else y + self.bias


class _FloatWeight(OnnxLayer):
    """The codes are stored, and dequantized by ONNX Runtime when it loads the graph."""

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__(layer)
        grid = layer.qparams
        self.shape, self.view = layer.weight_shape, rows(layer.codes, grid).shape
        self.grouped = grid.group_size is not None
        self.register_buffer("codes", layer.codes)
        self.register_buffer("scale", grid.scale.clone())
        self.register_buffer("zero_point", grid.zero_point.to(self.codes.dtype))

    def weight(self) -> Tensor:
        codes, scale, zero_point = self.codes.reshape(self.view), self.scale, self.zero_point
        if self.grouped:
            codes = codes.reshape(*scale.shape, -1)
            scale, zero_point = scale[..., None], zero_point[..., None]
        steps = codes.to(torch.float32) - zero_point.to(torch.float32)
        return (steps * scale).reshape(self.shape)


class _FloatLinear(_FloatWeight):
    """MatMul in float, for grids that no kernel knows: groups of 20, a scale an input."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.simulated(x), self.weight(), self.bias)


class _FloatConv(_FloatWeight):
    """Conv in float: ONNX Runtime has no kernel for weight-only convolutions."""

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__(layer)
        self.convolve = convolution(layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(self.simulated(x), self.weight(), self.bias)


class _Embedding(_FloatWeight):
    """The codes of the rows that are asked for, then their scales: a byte a code."""

    def forward(self, indices: Tensor) -> Tensor:
        per_row = self.scale.ndim == 2 and self.scale.shape[0] == self.shape[0]
        scale, zero_point = (
            functional.embedding(indices, part) if per_row else part
            for part in (self.scale, self.zero_point)
        )
        codes = functional.embedding(indices, self.codes)
        steps = codes.to(torch.float32)
        if self.grouped:
            steps = steps.reshape(*scale.shape, -1)
            scale, zero_point = scale[..., None], zero_point[..., None]
        y = (steps - zero_point.to(torch.float32)) * scale
        return y.reshape(codes.shape)


def _as_float(y: Tensor) -> Tensor:
    return symbolic("Cast", (y,), {"to": ONNX_FLOAT}, dtype=torch.float32, shape=y.shape)


def _multiply_codes(
    module: nn.Module, q: Tensor, scale: Tensor, zero_point: Tensor, *bias: Tensor
) -> Tensor:
    """Write ONNX Runtime's own operator: integer products and sums, scaled once, plus the bias."""
    return symbolic(
        "com.microsoft::MatMulIntegerToFloat",
        (q, module.codes, scale, module.scale, zero_point, module.zero_point, *bias),
        dtype=torch.float32,
        shape=(*q.shape[:-1], module.codes.shape[1]),
        version=1,
    )
