"""The same integer layers in small steps: Python's own whole numbers, one loop, every number kept.

Nothing here is fast and nothing is hidden: `trace_neuron` multiplies, adds and shifts as one would
on paper, and returns every number on the way. Its codes are those of `labkit.integer`, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from labkit.affine import QParams
from labkit.fixed_point import FRACTION_BITS, INT32_MAX, INT32_MIN, quantize_multiplier
from labkit.integer import edges
from labkit.requantize import check_rounding, output_multiplier

__all__ = ["NeuronTrace", "Requantization", "trace_conv2d", "trace_linear", "trace_neuron"]


@dataclass(frozen=True)
class Requantization:
    """Every number on the way from an accumulator to a code.

    With "fixed_point": (multiplier, shift) stand for m; `shifted_left` is the accumulator times
    2^shift where the shift is positive; `product` = shifted_left · multiplier needs 64 bits; `high`
    = round(product / 2^31); `steps` = round(high / 2^-shift) where the shift is negative. With
    "float", multiplier, shift and the three in between are None and `steps` = round(accumulator·m).
    Then `unclamped` = steps + zero_point, and `code` = unclamped within the code range.
    """

    accumulator: int
    m: float
    multiplier: int | None
    shift: int | None
    shifted_left: int | None
    product: int | None
    high: int | None
    steps: int
    unclamped: int
    code: int


@dataclass(frozen=True)
class NeuronTrace:
    """Every number of one output: K products, four sums, the bias, and the way down to 8 bits.

    `total` = product_sum - x_term - w_term + constant = Σ (q_x - z_x)(q_w - z_w). `accumulator` is
    total + bias, rectified where asked for. `requantization` is None where there is no output grid.
    """

    x: tuple[int, ...]
    weight: tuple[int, ...]
    products: tuple[int, ...]
    running_sums: tuple[int, ...]  # of the products, the last is product_sum
    product_sum: int
    x_sum: int
    w_sum: int
    x_term: int  # z_w Σ q_x
    w_term: int  # z_x Σ q_w
    constant: int  # K z_x z_w
    total: int
    bias: int
    accumulator: int
    requantization: Requantization | None

    @property
    def result(self) -> int:
        """The code, or the accumulator where there is no output grid."""
        return self.accumulator if self.requantization is None else self.requantization.code


def trace_neuron(
    x: Sequence[int],
    weight: Sequence[int],
    z_x: int,
    z_w: int,
    bias: int = 0,
    m: float | None = None,
    y_qparams: QParams | None = None,
    *,
    relu: bool = False,
    requantize: str = "fixed_point",
) -> NeuronTrace:
    """Compute one output from K codes and K weight codes, and keep every number.

    `m` is s_x s_w / s_y; without `y_qparams` the accumulator is the result. Raises ValueError when
    the lengths differ and when a number that is kept in 32 bits does not fit them.

    >>> trace = trace_neuron([14, 8], [3, -2], z_x=10, z_w=0, bias=1)
    >>> trace.products, trace.product_sum, trace.w_term, trace.total, trace.accumulator
    ((42, -16), 26, 10, 16, 17)
    """
    if len(x) != len(weight):
        raise ValueError(f"got {len(x)} inputs and {len(weight)} weights; they must be as many")
    products, sums = [], []
    product_sum = x_sum = w_sum = 0
    for q_x, q_w in zip(x, weight, strict=True):
        products.append(q_x * q_w)
        product_sum = _fits("the sum of products", product_sum + q_x * q_w)
        sums.append(product_sum)
        x_sum += q_x
        w_sum += q_w
    x_term, w_term, constant = z_w * x_sum, z_x * w_sum, len(x) * z_x * z_w
    total = product_sum - x_term - w_term + constant
    accumulator = _fits("the accumulator", total + bias)
    if relu and accumulator < 0:
        accumulator = 0
    down = (
        None if y_qparams is None else trace_requantization(accumulator, m, y_qparams, requantize)
    )
    return NeuronTrace(
        tuple(x), tuple(weight), tuple(products), tuple(sums), product_sum, x_sum, w_sum,
        x_term, w_term, constant, total, bias, accumulator, down,
    )  # fmt: skip


def trace_requantization(
    accumulator: int, m: float, y_qparams: QParams, requantize: str = "fixed_point"
) -> Requantization:
    """Bring one accumulator to a code of the output grid, and keep every number.

    Raises ValueError as `quantize_multiplier`.

    >>> down = trace_requantization(-10, 0.25, QParams(1.0, 100, 0, 255))
    >>> down.multiplier == 2**30, down.shift, down.high, down.steps, down.code
    (True, -1, -5, -3, 97)
    """
    check_rounding(requantize)
    if requantize == "float":
        multiplier = shift = shifted_left = product = high = None
        # Python rounds half to even.
        steps = round(float(np.float32(accumulator) * np.float32(m)))
    else:
        multiplier, shift = quantize_multiplier(m)
        shifted_left = max(INT32_MIN, min(accumulator << max(shift, 0), INT32_MAX))
        product = shifted_left * multiplier
        # The floor of (a half more) rounds halves up, also below zero.
        high = min((product + 2 ** (FRACTION_BITS - 1)) // 2**FRACTION_BITS, INT32_MAX)
        right = 2 ** max(-shift, 0)
        magnitude = (2 * abs(high) + right) // (2 * right)
        steps = magnitude if high >= 0 else -magnitude
    unclamped = steps + int(y_qparams.zero_point)
    code = max(y_qparams.quant_min, min(unclamped, y_qparams.quant_max))
    return Requantization(
        accumulator, float(m), multiplier, shift, shifted_left, product, high, steps,
        unclamped, code,
    )  # fmt: skip


def trace_linear(
    x: Tensor,
    x_qparams: QParams,
    weight: Tensor,
    w_qparams: QParams,
    bias: Tensor | None = None,
    y_qparams: QParams | None = None,
    *,
    relu: bool = False,
    requantize: str = "fixed_point",
) -> list[list[NeuronTrace]]:
    """Return the trace of every output of `labkit.integer.integer_linear`, as [row][output].

    x: codes (rows, in). Use it for a few hundred products, not for a network.

    >>> import torch
    >>> x, weight = torch.tensor([[14, 8]]), torch.tensor([[3, -2]])
    >>> trace_linear(x, QParams(0.5, 10, 0, 255), weight, QParams(0.25, 0, -128, 127))[0][0].result
    16
    """
    neuron = _neurons(x_qparams, weight, w_qparams, bias, y_qparams, relu, requantize)
    return [[neuron(row, output) for output in range(len(weight))] for row in x.tolist()]


def trace_conv2d(
    x: Tensor,
    x_qparams: QParams,
    weight: Tensor,
    w_qparams: QParams,
    bias: Tensor | None = None,
    y_qparams: QParams | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: int | tuple[int, ...] | str = 0,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    relu: bool = False,
    requantize: str = "fixed_point",
) -> list[list[list[list[NeuronTrace]]]]:
    """Return the trace of every output of `integer_conv2d`, as [image][channel][row][column].

    One output sees one patch of its group's channels; beyond the border it sees the code z_x.

    >>> import torch
    >>> x = torch.full((1, 1, 2, 2), 12)
    >>> weight = torch.ones(1, 1, 3, 3, dtype=torch.int8)
    >>> grids = QParams(0.5, 10, 0, 255), QParams(0.25, 0, -128, 127)
    >>> trace_conv2d(x, grids[0], weight, grids[1], padding=1)[0][0][0][0].x
    (10, 10, 10, 10, 12, 12, 10, 12, 12)
    """
    out, per_group, *kernel = weight.shape
    top, left, bottom, right = edges(padding, tuple(kernel), dilation)
    height, width = x.shape[2:]
    rows, columns = (
        (size + before + after - d * (k - 1) - 1) // s + 1
        for size, before, after, k, d, s in zip(
            (height, width), (top, left), (bottom, right), kernel, dilation, stride, strict=True
        )
    )
    neuron = _neurons(x_qparams, weight, w_qparams, bias, y_qparams, relu, requantize)
    images, z_x = x.tolist(), int(x_qparams.zero_point)

    def patch(image: list, channel: int, row: int, column: int) -> list[int]:
        first = channel // (out // groups) * per_group
        codes = []
        for plane in image[first : first + per_group]:
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    y = row * stride[0] - top + i * dilation[0]
                    z = column * stride[1] - left + j * dilation[1]
                    inside = 0 <= y < height and 0 <= z < width
                    codes.append(plane[y][z] if inside else z_x)
        return codes

    return [
        [
            [[neuron(patch(image, c, row, column), c) for column in range(columns)]
             for row in range(rows)]
            for c in range(out)
        ]
        for image in images
    ]  # fmt: skip


def _neurons(x_qparams, weight, w_qparams, bias, y_qparams, relu, requantize):
    """Return a function (inputs of one output, number of the output) → trace."""
    weights = weight.flatten(1).tolist()
    z_w = w_qparams.zero_point.flatten().expand(len(weights)).tolist()
    biases = [0] * len(weights) if bias is None else bias.tolist()
    m = [math.nan] * len(weights)
    if y_qparams is not None:
        numbers = output_multiplier(x_qparams, w_qparams, y_qparams, requantize)
        m = numbers.flatten().expand(len(weights)).tolist()

    def neuron(inputs: list[int], output: int) -> NeuronTrace:
        return trace_neuron(
            inputs, weights[output], int(x_qparams.zero_point), z_w[output], biases[output],
            m[output], y_qparams, relu=relu, requantize=requantize,
        )  # fmt: skip

    return neuron


def _fits(name: str, value: int) -> int:
    """Return a number that 32 bits hold; ValueError for one that would wrap around."""
    if not INT32_MIN <= value <= INT32_MAX:
        raise ValueError(f"{name} reached {value}, which does not fit 32 bits")
    return value
