"""How much of a layer's output is lost, as a function of its weight: a parabola in each channel.

Let y = W x + b be what the float layer gives in the float model, and the quantized layer see x̂ and
give (W + D) x̂ + b̂. What is missing already with D = 0 is r = y − W x̂ − b̂, and over some data

    E ‖y − (W + D) x̂ − b̂‖² = E ‖r‖² − 2 ⟨D, R⟩ + ⟨D, D H⟩,    H = E x̂ x̂ᵀ,    R = E r x̂ᵀ

So two matrices stand for all the data, however much there was of it, and the channels (rows of D)
have nothing to do with one another. Of a convolution, x̂ is what lies under the kernel at one place.
The objective of AdaRound (Nagel et al. 2020, arXiv 2004.10568, eq. 25 without the activation
function) and of GPTQ (Frantar et al. 2022, eq. 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from labkit.layers import QuantLayer, QuantLinear

# Elements of unfolded input at once: those of a convolution are many times its input.
_ELEMENTS = 2**22


@dataclass(frozen=True)
class Reconstruction:
    """The parabola of one layer: gram = H (groups, n, n), cross = R and constant = E r² a channel.

    n weights make one output channel; channels come in `groups` (1 but for grouped convolutions):
    cross is (groups, channels of a group, n), constant (groups, channels of a group), all float64.

    >>> one = Reconstruction(torch.full((1, 1, 1), 4.0), torch.zeros(1, 1, 1), torch.zeros(1, 1))
    >>> one.error(torch.full((1, 1, 1), 0.5))
    tensor([[1.]])
    """

    gram: Tensor
    cross: Tensor
    constant: Tensor

    def error(self, difference: Tensor) -> Tensor:
        """Mean squared error of each channel's output when the weight is off by `difference`."""
        linear = difference @ self.gram - 2 * self.cross
        return self.constant + (linear * difference).sum(-1)


def reconstruct(
    original: nn.Module, layer: QuantLayer, visits: Iterable[tuple[Tensor, Tensor]]
) -> Reconstruction:
    """Return the parabola of `layer` for what entered it and what should have come out.

    original: the float layer; visits: as `labkit.beside.Beside.visits` yields them.

    >>> from labkit.layers import QuantLinear
    >>> linear = nn.Linear(3, 2)
    >>> x = torch.eye(3)
    >>> reconstruct(linear, QuantLinear.from_float(linear), [(x, linear(x))]).gram.shape
    torch.Size([1, 3, 3])
    """
    groups, count = getattr(layer, "groups", 1), 0
    gram = cross = constant = 0.0
    shift = _bias(original) - _bias(layer)
    for entering, leaving in visits:
        with torch.no_grad():
            x = layer.quantized_input(entering)
            residual = leaving - original.forward(x)
        for x_part, r_part in _parts(layer, x, residual):
            inputs = patches(layer, x_part).double()
            r = (by_channel(layer, r_part).double() + shift).unflatten(1, (groups, -1))
            r = r.transpose(0, 1)
            gram = gram + inputs.mT @ inputs
            cross = cross + r.mT @ inputs
            constant = constant + r.square().sum(1)
            count += inputs.shape[1]
    return Reconstruction(gram / count, cross / count, constant / count)


def by_channel(layer: QuantLayer, y: Tensor) -> Tensor:
    """What a layer gives, as one row a place: (places, output channels).

    >>> from labkit.layers import QuantConv2d
    >>> by_channel(QuantConv2d.from_float(nn.Conv2d(1, 4, 1)), torch.ones(2, 4, 3, 3)).shape
    torch.Size([18, 4])
    """
    # The channels of a convolution stand before its places, with or without a batch around.
    y = y if isinstance(layer, QuantLinear) else y.movedim(-1 - len(layer.kernel_size), -1)
    return y.reshape(-1, y.shape[-1])


def patches(layer: QuantLayer, x: Tensor) -> Tensor:
    """What enters a layer, as one row for each place: (groups, places, weights of a channel).

    Each output is the product of such a row with a channel's weights, in the order in which
    `weight.flatten(1)` has them.

    >>> from labkit.layers import QuantConv2d
    >>> patches(QuantConv2d.from_float(nn.Conv2d(2, 4, 3)), torch.ones(1, 2, 5, 5)).shape
    torch.Size([1, 9, 18])
    """
    if isinstance(layer, QuantLinear):
        return x.reshape(1, -1, x.shape[-1])
    x = layer.padded(x)
    # One dimension is two of which one is 1; no batch is a batch of one.
    flat = len(layer.kernel_size) == 1
    x = x.reshape(-1, x.shape[-2 - (not flat)], *([1] * flat), *x.shape[-1 - (not flat) :])
    kernel, dilation, stride = (
        (1,) * flat + tuple(size) for size in (layer.kernel_size, layer.dilation, layer.stride)
    )
    unfolded = functional.unfold(x, kernel, dilation, 0, stride)
    return unfolded.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def _bias(layer: nn.Module) -> Tensor | float:
    return 0.0 if layer.bias is None else layer.bias.detach().double()


def _parts(layer: QuantLayer, x: Tensor, residual: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split a batch of a convolution so that its patches fit into memory."""
    if isinstance(layer, QuantLinear) or x.ndim <= 1 + len(layer.kernel_size):
        return iter([(x, residual)])
    size = max(1, _ELEMENTS // max(1, x[0].numel() * math.prod(layer.kernel_size)))
    return zip(x.split(size), residual.split(size), strict=True)
