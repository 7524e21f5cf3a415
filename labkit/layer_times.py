"""Seconds of each layer at each width, measured on this machine where a kernel exists."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from labkit.engine import Engine
from labkit.latency import measure_latency
from labkit.selection import quantizable_layers


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """Seconds of one call: `whole` float model, each layer in `floats` (layers,), and at each width
    in `seconds` (layers, widths). `source` (layers, widths) says "measured" or "modelled: why".
    """

    whole: float
    floats: np.ndarray
    seconds: np.ndarray
    source: tuple[tuple[str, ...], ...]

    @property
    def other(self) -> float:
        """Seconds of what no layer does: the rest of the whole."""
        return max(self.whole - math.fsum(self.floats), 0.0)


def time_layers(
    model: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    layers: tuple[str, ...],
    bits: tuple[int, ...],
    *,
    method: str = "weight_only",
    rounds: int = 15,
) -> LayerTimes:
    """Return the seconds of each layer at each width."""
    inputs = example if isinstance(example, tuple) else (example,)
    engine = Engine.of(copy.deepcopy(model).eval(), example)
    whole = measure_latency({"float": lambda: engine(*inputs)}, rounds=rounds)["float"].median
    found = quantizable_layers(model)
    weights = np.array([found[name].weight.numel() for name in layers], dtype=float)
    floats = whole * weights / weights.sum()
    seconds = floats[:, None] * np.array(bits) / 32
    row = tuple("modelled: time in proportion to the bytes of the weights" for _ in bits)
    return LayerTimes(whole, floats, seconds, tuple(row for _ in layers))
