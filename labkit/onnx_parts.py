"""Parts of quantized layers in the order ONNX wants: codes, scales, blocks, geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.layers import QuantLayer, QuantLinear
from labkit.packing import pack
from labkit.qparams import QParams

# Widths that ONNX Runtime multiplies without unpacking; other widths are stored in the next one.
STORED_BITS = (2, 4, 8)
BLOCK_SIZES = (256, 128, 64, 32, 16)
# The fastest block of each width on the machine of benchmarks/engine_latency.py. Beware: 2 bits in
# blocks of 256 have no kernel there and take 100 times as long.
LARGEST_BLOCK = {2: 128, 4: 256, 8: 128}


def per_output(layer: QuantLayer) -> bool:
    """Whether there is one scale for the weight, or one for each output: what integer sums need.

    >>> from labkit.qparams import choose_qparams
    >>> linear = nn.Linear(32, 4)
    >>> per_output(QuantLinear.from_float(linear, 8, choose_qparams(linear.weight, 8, axis=1)))
    False
    """
    grid = layer.qparams
    if grid.group_size is not None:
        return False
    return grid.scale.numel() == 1 or grid.axis in (0, -len(layer.weight_shape))


def centred_codes(layer: QuantLayer) -> Tensor:
    """Return codes − zero_point as int32, in the weight's shape (per tensor or per channel).

    >>> from labkit.qparams import choose_qparams
    >>> linear = nn.Linear(32, 4)
    >>> centred_codes(QuantLinear.from_float(linear, 8, choose_qparams(linear.weight, 8))).dtype
    torch.int32
    """
    return layer.codes.to(torch.int32) - layer.qparams.zero_point


def hold_codes(module: nn.Module, layer: QuantLayer, transpose: bool = False) -> None:
    """Give `module` the buffers codes, scale and zero_point: 0-d, or one for each output."""
    grid, codes = layer.qparams, layer.codes
    module.register_buffer("codes", (codes.t() if transpose else codes).contiguous())
    shape = () if grid.scale.numel() == 1 else (-1,)
    module.register_buffer("scale", grid.scale.reshape(shape).clone())
    module.register_buffer("zero_point", grid.zero_point.to(codes.dtype).reshape(shape))


def share_zero_point(module: nn.Module) -> None:
    """Hold one zero point where all outputs have the same: kernels then spare a pass over it.

    >>> module = nn.Module()
    >>> module.register_buffer("zero_point", torch.zeros(4, dtype=torch.int8))
    >>> share_zero_point(module)
    >>> module.zero_point
    tensor(0, dtype=torch.int8)
    """
    if len(module.zero_point.unique()) == 1:
        module.zero_point = module.zero_point.flatten()[0].clone()


def hold_grid(module: nn.Module, grid: QParams | None) -> None:
    """Give `module` the grid of a static input: scale, zero point and code range."""
    if grid is None:
        return
    if grid.scale.numel() != 1:
        raise ValueError(
            "a static input needs one scale for the whole tensor to run on integers, got scales of "
            f"shape {tuple(grid.scale.shape)}; calibrate with axis=None"
        )
    dtype = torch.int8 if grid.quant_min < 0 else torch.uint8
    module.register_buffer("input_scale", grid.scale.reshape(()).clone())
    module.register_buffer("input_zero_point", grid.zero_point.reshape(()).to(dtype))
    module.input_range = (grid.quant_min, grid.quant_max)


def dequantized(module: nn.Module, axis: int) -> Tensor:
    """Write DequantizeLinear of the held codes, with their outputs along `axis`."""
    parts = (module.codes, module.scale, module.zero_point)
    options = {"axis": axis} if module.scale.ndim else {}
    shape = module.codes.shape
    return torch.onnx.ops.symbolic(
        "DequantizeLinear", parts, options, dtype=torch.float32, shape=shape
    )


def stored_bits(bits: int) -> int:
    """Return the width in which codes of `bits` bits are stored for MatMulNBits.

    >>> [stored_bits(bits) for bits in range(2, 9)]
    [2, 4, 4, 8, 8, 8, 8]
    """
    return next(width for width in STORED_BITS if width >= bits)


def block_size(layer: QuantLinear) -> int | None:
    """Return how many weights of a row share a stored scale in MatMulNBits, None where none fits.

    A group longer than a block is cut into blocks that repeat its scale; so is a whole row.

    >>> from labkit.qparams import choose_qparams
    >>> linear = nn.Linear(96, 4)
    >>> block_size(QuantLinear.from_float(linear, 4, choose_qparams(linear.weight, 4, axis=0)))
    64
    """
    grid, columns = layer.qparams, layer.weight_shape[1]
    sizes = [size for size in BLOCK_SIZES if size <= LARGEST_BLOCK[stored_bits(layer.bits)]]
    if grid.group_size is not None:
        return next((size for size in sizes if grid.group_size % size == 0), None)
    if not per_output(layer):
        return None
    # The largest that is not mostly padding.
    return next((size for size in sizes if size <= columns), sizes[-1])


def packed_blocks(layer: QuantLinear) -> tuple[Tensor, Tensor, Tensor | None, dict[str, int]]:
    """Return what MatMulNBits wants: packed codes, scales, zero points (or None), attributes.

    Codes are (out, blocks, bytes), low bits first, the last block filled up with the zero point;
    scales (out, blocks); zero points (out, bytes), None where all are in the middle of the codes.
    Source: onnxruntime, ContribOperators.md, com.microsoft.MatMulNBits.

    >>> from labkit.qparams import choose_qparams
    >>> linear = nn.Linear(40, 4)
    >>> grid = choose_qparams(linear.weight, 4, symmetric=True, signed=True, axis=0)
    >>> packed, scale, _, _ = packed_blocks(QuantLinear.from_float(linear, 4, grid))
    >>> packed.shape, scale.shape
    (torch.Size([4, 2, 16]), torch.Size([4, 2]))
    """
    bits, block, grid = stored_bits(layer.bits), block_size(layer), layer.qparams
    out, columns = layer.weight_shape
    blocks = -(-columns // block)
    # The operator's codes are unsigned: signed ones move up to the middle of the stored width.
    up = 2 ** (bits - 1) if grid.quant_min < 0 else 0
    repeats = 1 if grid.group_size is None else grid.group_size // block
    width = 1 if grid.group_size is None else grid.scale.shape[-1]
    scale, zero_point = (
        part.reshape(-1, width).repeat_interleave(repeats, dim=1).expand(out, blocks).contiguous()
        for part in (grid.scale, grid.zero_point + up)
    )
    codes = functional.pad(layer.codes.to(torch.int32) + up, (0, blocks * block - columns))
    codes[:, columns:] = zero_point[:, -1:]
    packed = pack(codes, bits).reshape(out, blocks, -1)
    zero_points = None
    if bool((zero_point != 2 ** (bits - 1)).any()):
        whole_bytes = functional.pad(zero_point, (0, -blocks % (8 // bits)))
        zero_points = pack(whole_bytes, bits).reshape(out, -1)
    attributes = {"K": columns, "N": out, "bits": bits, "block_size": block}
    return packed, scale, zero_points, attributes


def convolution(layer: QuantLayer) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """Return the float convolution with the geometry of `layer`: (x, weight, bias) → y."""
    function = functional.conv1d if len(layer.stride) == 1 else functional.conv2d
    mode, padding = layer.padding_mode, layer.padding
    edges, stride, dilation, groups = layer._edges(), layer.stride, layer.dilation, layer.groups

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if mode != "zeros":
            x = functional.pad(x, edges, mode=mode)
        around = padding if mode == "zeros" else 0
        return function(x, weight, bias, stride, around, dilation, groups)

    return convolve


def output_shape(x: Sequence, weight: Sequence, attributes: dict) -> tuple:
    """Return the shape of a convolution's output from ONNX attributes; sizes may be symbols.

    >>> strides = {"pads": [1, 1, 1, 1], "strides": [2, 2], "dilations": [1, 1]}
    >>> output_shape((5, 3, 8, 8), (4, 3, 3, 3), strides)
    (5, 4, 4, 4)
    """
    pads, strides = attributes["pads"], attributes["strides"]
    dims = range(len(weight) - 2)
    reach = [d * (k - 1) for d, k in zip(attributes["dilations"], weight[2:], strict=True)]
    room = [x[d + 2] + pads[d] + pads[d + len(dims)] - reach[d] - 1 for d in dims]
    return (x[0], weight[0], *(room[d] // strides[d] + 1 for d in dims))
