"""Bias correction: rounding must not shift the mean of what a layer gives.

    ỹ = W̃ x + b = y + ε x,  ε = W̃ − W          so  E ỹ = E y + ε E x
    b ← b − (E ỹ − E y)                        one number for each output channel

Nagel et al. 2019 (arXiv 1906.04721), section 4.2; here with both means measured on data (its
empirical form), and not derived from batch norm statistics.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from labkit.beside import Beside
from labkit.recipe import notes
from labkit.reconstruction import by_channel


def correct_bias(quantized: nn.Module, model: nn.Module, batches: Iterable) -> nn.Module:
    """Return a copy of `quantized` whose layers give the same mean in each channel as in `model`.

    model: the float model it was made from; batches: inputs, as `quantize_model` takes them for
    calibration. Layer after layer, in the order in which they compute, each with those before
    corrected: on these batches the means then agree to float precision (for a layer that runs
    several times in one pass, on average over what it was given). A layer without a bias gets one.
    Embeddings stay as they are. Raises ValueError as `labkit.beside.Beside` does.

    >>> from labkit.quantize import quantize_model
    >>> _ = torch.manual_seed(0)
    >>> net, x = nn.Linear(8, 2), torch.randn(50, 8) + 1
    >>> quantized, _ = quantize_model(net, bits=3)
    >>> corrected = correct_bias(quantized, net, x)
    >>> torch.allclose(corrected(x).mean(0), net(x).mean(0), atol=1e-6)
    True
    """
    beside = Beside(quantized, model, batches)
    given = []
    for name, (original, layer) in beside.layers.items():
        total, count = 0.0, 0
        for entering, leaving in beside.visits(name):
            with torch.no_grad():
                missing = by_channel(layer, leaving).double() - by_channel(layer, layer(entering))
            total, count = total + missing.sum(0), count + len(missing)
        if layer.bias is None:
            given.append(name)
        else:
            total = total + count * layer.bias.detach().double()
        bias = (total / count).to(original.weight.dtype)
        layer.bias = nn.Parameter(bias, requires_grad=original.weight.requires_grad)
    before = notes(beside.quantized)
    biases = sorted({*before["biases"], *given})
    beside.quantized.quantization_notes = {**before, "biases": biases}
    return beside.quantized
