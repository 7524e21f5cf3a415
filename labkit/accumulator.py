"""The accumulator: Σ (q_x - z_x)(q_w - z_w) as four sums of integers, and how large it gets.

    Σ (q_x - z_x)(q_w - z_w) = Σ q_x q_w  -  z_w Σ q_x  -  z_x Σ q_w  +  K z_x z_w

An engine never subtracts the zero points from its 8-bit codes: the differences would need 9 bits.
It multiplies the codes as they are, and corrects the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.qparams import QParams

__all__ = ["CrossTerms", "accumulator_bound", "contracted_terms"]


@dataclass(frozen=True, eq=False)
class CrossTerms:
    """The four sums of Σ (q_x - z_x)(q_w - z_w), int64 tensors that broadcast to one another.

    `total` adds them up with their signs: product - x_term - w_term + constant.

    >>> CrossTerms(*map(torch.tensor, (7, 1, 2, 3))).total
    tensor(7)
    """

    product: Tensor  # Σ q_x q_w
    x_term: Tensor  # z_w Σ q_x: zero for symmetric weights; else it costs a sum over every input
    w_term: Tensor  # z_x Σ q_w: known before any input arrives, so engines add it to the bias
    constant: Tensor  # K z_x z_w

    @property
    def total(self) -> Tensor:
        """Σ (q_x - z_x)(q_w - z_w)."""
        return self.product - self.x_term - self.w_term + self.constant


def accumulator_bound(
    weight: Tensor, w_qparams: QParams, x_qparams: QParams, bias: Tensor | None = None
) -> Tensor:
    """Return the largest magnitude the sum of a neuron can reach, int64 (out,), for any input.

    That of the plain products, Σ max|q_x| |q_w|, or of the result, Σ max|q_x - z_x| |q_w - z_w| +
    |bias|, whichever is larger.

    >>> accumulator_bound(torch.tensor([[127] * 784]), QParams(1.0, 0, -128, 127),
    ...                   QParams(1.0, 0, 0, 255))
    tensor([25389840])
    """
    q_w = weight.flatten(1).to(torch.int64)
    z_w = _column(w_qparams.zero_point, (-1, 1))
    low, high, z_x = x_qparams.quant_min, x_qparams.quant_max, int(x_qparams.zero_point)
    plain = q_w.abs().sum(1) * max(abs(low), abs(high))
    centred = (q_w - z_w).abs().sum(1) * max(z_x - low, high - z_x)
    if bias is not None:
        centred = centred + bias.to(torch.int64).abs()
    return torch.maximum(plain, centred)


def contracted_terms(
    x: Tensor,
    x_qparams: QParams,
    weight: Tensor,
    w_qparams: QParams,
    contract: Callable[[Tensor, Tensor], Tensor],
    channels: tuple[int, ...],
    groups: int,
) -> CrossTerms:
    """Return the four sums of a layer; `contract` sums products over what one output sees.

    `channels` is the shape that puts one number a channel along the output's channels. `contract`
    gets float64, which holds every integer up to 2^53 exactly and has fast kernels.

    >>> grid, x, w = QParams(1.0, 3, 0, 255), torch.tensor([[5, 6]]), torch.tensor([[1, 2]])
    >>> contracted_terms(x, grid, w, grid, lambda x, w: x @ w.T, (-1,), 1).total
    tensor([[-7]])
    """
    x, w = x.double(), weight.double()
    z_x, z_w = int(x_qparams.zero_point), _column(w_qparams.zero_point, channels)
    # Every channel of a group sums up the same inputs.
    ones = torch.ones_like(w[:groups])
    x_sum = contract(x, ones).long()
    if groups > 1:
        x_sum = x_sum.repeat_interleave(len(w) // groups, dim=1)
    w_sum = weight.flatten(1).long().sum(1).reshape(channels)
    return CrossTerms(contract(x, w).long(), z_w * x_sum, z_x * w_sum, w[0].numel() * z_x * z_w)


def _column(zero_point: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Zero points as int64, 0-d or along the output channels."""
    z = zero_point.to(torch.int64)
    return z.reshape(()) if z.numel() == 1 else z.reshape(channels)
