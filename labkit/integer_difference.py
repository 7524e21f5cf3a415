"""Where integer inference differs by a code from exact arithmetic, and which rounding did it.

A layer gets codes. Between what it ought to give and what it gives lie two roundings:

    the exact value     the sum of dequantized products and the float bias, not rounded anywhere
    the integer bias    the bias rounded to a whole number of steps s_x s_w
    requantization      the multiplier rounded to 31 bits, the product rounded twice

A code changes where such a small shift carries a value over the middle between two codes. The
simulation in float32 rounds as well, after each addition: its codes are compared too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labkit.affine import dequantize, quantize
from labkit.integer_model import Stage, integer_stages, run_integer
from labkit.requantize import accumulator_scale

__all__ = ["CodeDifference", "code_differences"]


@dataclass(frozen=True)
class CodeDifference:
    """How many of a layer's output codes differ from those of exact arithmetic, and why.

    A code that two roundings moved counts for both. `largest` is in codes. `from_middle` is how far
    from the middle between two codes, in codes, the exact value of a differing code lies at most: 0
    is the middle itself. `simulated` counts the codes that the simulation in float32 has otherwise
    than the integers; float32 sums differ between machines, and so does this number a little.
    """

    layer: str
    codes: int
    differ: int
    bias: int
    requantization: int
    largest: int
    from_middle: float
    simulated: int

    def __str__(self) -> str:
        """One line in words; it is the same on every machine."""
        return (
            f"{self.layer}: {self.differ:,} of {self.codes:,} codes differ, by at most "
            f"{self.largest} (integer bias {self.bias:,}, requantization {self.requantization:,})"
        )


def code_differences(
    model: nn.Module, x: Tensor, *, requantize: str = "fixed_point"
) -> list[CodeDifference]:
    """Compare the integer run of `model` on x with exact arithmetic, layer by layer.

    Every layer gets the integer run's input codes, so that differences do not pile up. The last
    layer has no output codes and is left out. Arguments and errors as in
    `labkit.integer_model.integer_forward`.

    >>> from labkit.quantize import quantize_model
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.linspace(-1, 1, 12).reshape(3, 4)
    >>> quantized, _ = quantize_model(net, "static", calibration_data=[x])
    >>> [(layer.layer, layer.codes) for layer in code_differences(quantized, x)]
    [('0', 24)]
    """
    run = run_integer(model, x, requantize=requantize)
    _, stages = integer_stages(model)
    return [_difference(stage, run.codes[stage.name], requantize) for stage in stages[:-1]]


def _difference(stage: Stage, codes: Tensor, requantize: str) -> CodeDifference:
    grid, layer = stage.y_qparams, stage.layer
    with torch.no_grad():
        simulated = layer(dequantize(codes, stage.x_qparams))
    simulated = quantize(simulated.clamp(min=0) if stage.relu else simulated, grid).int()
    integer = stage(codes, requantize).int()

    channels = (-1,) + (1,) * (integer.ndim - 2)
    scale = accumulator_scale(stage.x_qparams, stage.w_qparams).reshape(channels)
    sums = stage.accumulators(codes).double()
    bias = torch.zeros(()) if layer.bias is None else layer.bias.detach().reshape(channels)
    whole = torch.zeros(()) if stage.bias is None else stage.bias.reshape(channels)
    value = sums * scale + bias.double()
    with_whole_bias = (sums + whole.double()) * scale
    steps = (value.clamp(min=0) if stage.relu else value) / grid.scale.double()
    exact, biased = (
        quantize(v.clamp(min=0) if stage.relu else v, grid).int() for v in (value, with_whole_bias)
    )
    differs = exact != integer
    to_middle = ((steps - steps.floor()) - 0.5).abs()[differs]
    return CodeDifference(
        layer=stage.name,
        codes=integer.numel(),
        differ=int(differs.sum()),
        bias=int((differs & (exact != biased)).sum()),
        requantization=int((differs & (biased != integer)).sum()),
        largest=int((exact - integer).abs().max()),
        from_middle=float(to_middle.max()) if len(to_middle) else 0.0,
        simulated=int((simulated != integer).sum()),
    )
