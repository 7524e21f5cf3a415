"""Layers whose weights exist only as packed codes and scales.

A quantized layer simulates: it unpacks its codes, dequantizes them and calls the float function.
Its outputs are those of the quantized model to float precision, its bytes are the real ones, its
speed is not (that is `labkit.engine`).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.activations import ActivationQuantizer, Float32Scale
from labkit.affine import dequantize, quantize
from labkit.checks import check_bits
from labkit.packing import pack, unpack
from labkit.qparams import QParams, choose_qparams, code_range

__all__ = [
    "LAYERS",
    "ActivationQuantizer",
    "QuantConv1d",
    "QuantConv2d",
    "QuantEmbedding",
    "QuantLayer",
    "QuantLinear",
    "rows",
]


def rows(weight: Tensor, qparams: QParams) -> Tensor:
    """View a weight the way its grid is laid on it: groups run along (out, everything else).

    A convolution's groups run along in × height × width of one output channel, flattened. Per
    tensor and per channel grids fit the weight as it is.

    >>> rows(torch.zeros(4, 2, 3, 3), QParams(torch.ones(4, 2), torch.zeros(4, 2), 0, 3,
    ...      group_size=9)).shape
    torch.Size([4, 18])
    """
    return weight if qparams.group_size is None else weight.flatten(1)


class QuantLayer(Float32Scale):
    """Base of the quantized layers: packed weight codes, scales, and a float bias.

    Buffers: `packed` (uint8, the codes of `labkit.packing.pack`), `scale` (float32, shaped as in
    `QParams`), `zero_points` (packed like the codes; None where all are 0). `bias` is a float
    Parameter or None, `input_quantizer` an `ActivationQuantizer` or None. `bits` is the width of a
    code and `weight_shape` the shape of the weight. There is no float copy of the weight: `weight`
    dequantizes it anew each time it is read, for code that reads it directly.
    """

    # Where it stands in its model, for messages.
    name = ""
    # The torch layer it stands for, and what else decides its output; read by save and load.
    float_class: ClassVar[type[nn.Module]]
    geometry: ClassVar[tuple[str, ...]] = ()

    packed: Tensor
    zero_points: Tensor | None
    # The dequantized weight, while `labkit.unpacked` keeps it.
    kept: Tensor | None = None

    def __init__(
        self,
        module: nn.Module,
        codes: Tensor,
        bits: int,
        qparams: QParams,
        input_quantizer: ActivationQuantizer | None = None,
    ) -> None:
        """Take the geometry and the bias from the float `module`, the weight from `codes`."""
        super().__init__()
        self.bits = check_bits(bits)
        self.signed = qparams.quant_min < 0
        if (qparams.quant_min, qparams.quant_max) != code_range(bits, self.signed):
            raise ValueError(
                f"codes of {bits} bits run over {code_range(bits, self.signed)}, the given qparams "
                f"over {(qparams.quant_min, qparams.quant_max)}; choose them for {bits} bits"
            )
        if codes.shape != module.weight.shape:
            raise ValueError(
                f"the codes have shape {tuple(codes.shape)}, the weight of the layer "
                f"{tuple(module.weight.shape)}; they must be the same"
            )
        self.weight_shape = tuple(codes.shape)
        self.axis, self.group_size = qparams.axis, qparams.group_size
        zero_points = pack(qparams.zero_point, bits) if qparams.zero_point.any() else None
        self.register_buffer("packed", pack(codes, bits))
        self.register_buffer("scale", qparams.scale.clone())
        self.register_buffer("zero_points", zero_points)
        bias = getattr(module, "bias", None)
        self.register_parameter(
            "bias", None if bias is None else nn.Parameter(bias.detach().clone())
        )
        self.input_quantizer = input_quantizer
        for name in self.geometry:
            setattr(self, name, getattr(module, name))
        self.training = module.training

    @classmethod
    def from_float(
        cls,
        module: nn.Module,
        bits: int = 8,
        qparams: QParams | None = None,
        input_quantizer: ActivationQuantizer | None = None,
    ) -> QuantLayer:
        """Quantize the weight of a float layer; the layer itself is not modified.

        `qparams` belong to `rows(module.weight, qparams)`; without them each output channel (of a
        table: each row) gets a symmetric grid of its own. Raises ValueError for a weight that is
        not finite, and for qparams of another width or shape.
        """
        weight = module.weight.detach()
        if qparams is None:
            qparams = choose_qparams(weight, bits, symmetric=True, signed=True, axis=0)
        codes = quantize(rows(weight, qparams), qparams).view(weight.shape)
        return cls(module, codes, bits, qparams, input_quantizer)

    @classmethod
    def from_codes(
        cls,
        module: nn.Module,
        codes: Tensor,
        bits: int,
        qparams: QParams,
        input_quantizer: ActivationQuantizer | None = None,
    ) -> QuantLayer:
        """Make the layer from codes that some other method has chosen (GPTQ, a file, training).

        `module` gives the geometry and the bias; its weight is not read. Raises ValueError for
        codes outside the code range, and for shapes of codes, grid and weight that do not agree.
        """
        # Its checks are what is wanted: bits that are packed no longer tell a wrong code.
        dequantize(rows(codes, qparams), qparams)
        return cls(module, codes, bits, qparams, input_quantizer)

    @property
    def qparams(self) -> QParams:
        """Scale and zero point of `rows(weight, qparams)`, with the code range of `bits`."""
        shape = self.scale.shape
        zero_point = (
            torch.zeros(shape, dtype=torch.int32, device=self.scale.device)
            if self.zero_points is None
            else unpack(self.zero_points, self.bits, tuple(shape), self.signed)
        )
        grid = code_range(self.bits, self.signed)
        return QParams(self.scale, zero_point, *grid, self.axis, self.group_size)

    @property
    def codes(self) -> Tensor:
        """The integer codes of the weight, int8 (signed) or uint8, in the weight's shape."""
        return unpack(self.packed, self.bits, self.weight_shape, self.signed)

    @property
    def weight(self) -> Tensor:
        """The float32 weight that the codes stand for, dequantized now."""
        return self.weight_as(torch.float32)

    def weight_as(self, dtype: torch.dtype) -> Tensor:
        """Return the weight that the codes stand for in another float dtype."""
        if self.kept is not None and self.kept.dtype == dtype:
            return self.kept
        qparams = self.qparams
        return dequantize(rows(self.codes, qparams), qparams, dtype).view(self.weight_shape)

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return x as this layer sees it; ValueError naming the layer where x is not finite."""
        if self.input_quantizer is None:
            return x
        try:
            return self.input_quantizer(x)
        except ValueError as error:
            raise ValueError(f"what enters the layer {self.name!r}: {error}") from None

    def extra_repr(self) -> str:
        """The settings, as print(model) shows them."""
        grid = (
            f"group_size={self.group_size}"
            if self.group_size is not None
            else "per tensor"
            if self.axis is None
            else f"axis={self.axis}"
        )
        return f"{self.weight_shape}, bits={self.bits}, {grid}"


class QuantLinear(QuantLayer):
    """A linear layer with packed weights (out, in): x (..., in) → (..., out).

    >>> layer = nn.Linear(4, 2)
    >>> QuantLinear.from_float(layer, 4).packed.shape
    torch.Size([4])
    """

    float_class = nn.Linear
    geometry = ("in_features", "out_features")

    def forward(self, input: Tensor) -> Tensor:
        """Simulate: quantize the input, dequantize the weight, multiply in float."""
        return functional.linear(
            self.quantized_input(input), self.weight_as(input.dtype), self.bias
        )


class _QuantConv(QuantLayer):
    """What the convolutions share: padding of every mode, then torch's own function."""

    geometry = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
    )
    _function: ClassVar

    def forward(self, input: Tensor) -> Tensor:
        """Simulate: quantize the input, dequantize the weight, convolve in float."""
        x, padding = self.quantized_input(input), self.padding
        if self.padding_mode != "zeros":
            x, padding = self.padded(x), 0
        weight = self.weight_as(input.dtype)
        function = type(self)._function
        return function(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def padded(self, x: Tensor) -> Tensor:
        """Return x with the edges that this layer puts around it."""
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return functional.pad(x, self._edges(), mode=mode)

    def _edges(self) -> list[int]:
        """How many values to add at each end, last dimension first, as functional.pad wants it."""
        if self.padding == "valid":
            before = after = [0] * len(self.kernel_size)
        elif self.padding == "same":
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            before = [n // 2 for n in total]
            after = [n - n // 2 for n in total]
        else:
            before = after = list(self.padding)
        pairs = zip(reversed(before), reversed(after), strict=True)
        return [count for pair in pairs for count in pair]


class QuantConv1d(_QuantConv):
    """A 1-d convolution with packed weights (out, in / groups, width): every option of torch's.

    >>> layer = nn.Conv1d(2, 4, 3, groups=2)
    >>> QuantConv1d.from_float(layer, 8)(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 4, 3])
    """

    float_class = nn.Conv1d
    _function = staticmethod(functional.conv1d)


class QuantConv2d(_QuantConv):
    """A 2-d convolution with packed weights (out, in / groups, height, width).

    >>> layer = nn.Conv2d(1, 4, 3, padding="same")
    >>> QuantConv2d.from_float(layer, 8)(torch.zeros(1, 1, 5, 5)).shape
    torch.Size([1, 4, 5, 5])
    """

    float_class = nn.Conv2d
    _function = staticmethod(functional.conv2d)


class QuantEmbedding(QuantLayer):
    """A table with packed rows (rows, features): integer indices (...) → (..., features).

    Its input are row numbers, so that there is nothing to quantize on the way in.

    >>> layer = nn.Embedding(5, 4)
    >>> QuantEmbedding.from_float(layer, 4)(torch.tensor([0, 3])).shape
    torch.Size([2, 4])
    """

    float_class = nn.Embedding
    geometry = ("num_embeddings", "embedding_dim", "padding_idx")

    def __init__(self, module: nn.Module, *arguments, **options) -> None:
        """As in `QuantLayer`; what it returns has the dtype of the float table."""
        super().__init__(module, *arguments, **options)
        # Holds no value: it only follows when the model is converted to another dtype.
        like = torch.empty(0, dtype=module.weight.dtype, device=self.packed.device)
        self.register_buffer("_like", like, persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The float dtype of what is looked up."""
        return self._like.dtype

    def forward(self, input: Tensor) -> Tensor:
        """Simulate: dequantize the table, look up the rows that are asked for."""
        return functional.embedding(input, self.weight_as(self.dtype))


LAYERS: dict[type[nn.Module], type[QuantLayer]] = {
    kind.float_class: kind for kind in (QuantLinear, QuantConv1d, QuantConv2d, QuantEmbedding)
}
"""The float layers that can be quantized, and what stands for each."""
