"""The model encoder: what a planner has to know about a model, layer by layer, in one table.

What is counted: parameters, multiply-adds, bytes at each width. What is measured: the quality when
one layer alone is quantized, and the seconds of each layer on this machine's engine. Where no
kernel exists, the time is modelled, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from labkit.evaluate import Accuracy, measured
from labkit.layer_times import LayerTimes, time_layers
from labkit.macs import count_macs
from labkit.mixed import bytes_of
from labkit.report import stored_tensors
from labkit.selection import quantizable_layers
from labkit.sensitivity import Sensitivity, measure_sensitivity


@dataclass(frozen=True, eq=False, repr=False)
class ModelFeatures:
    """One row a quantizable layer; tables are (layers, widths).

    `kinds` are the layers' classes and `parts` the first component of their names (vision,
    language, …). `parameters` and `macs` are whole numbers a layer: values stored, and
    multiply-adds of one call with the example. `sensitivity` holds the measured quality and the
    bytes at each width. `times` holds seconds of one call. `quality` is the float model's, as
    `evaluate` gave it; `original_bytes` are those of all its tensors.
    """

    kinds: tuple[str, ...]
    parts: tuple[str, ...]
    parameters: np.ndarray
    macs: np.ndarray
    sensitivity: Sensitivity
    times: LayerTimes
    quality: Accuracy | float
    original_bytes: int

    @property
    def layers(self) -> tuple[str, ...]:
        """Names, in the model's order."""
        return self.sensitivity.layers

    @property
    def bits(self) -> tuple[int, ...]:
        """The widths: columns of every table."""
        return self.sensitivity.bits

    @property
    def bytes(self) -> np.ndarray:
        """Bytes of each layer at each width (layers, widths)."""
        return self.sensitivity.bytes

    @property
    def other_bytes(self) -> int:
        """Bytes of everything that stays float."""
        return self.sensitivity.other_bytes

    @property
    def loss(self) -> np.ndarray:
        """What quantizing each layer alone costs (layers, widths), in units of the quality."""
        return self.sensitivity.loss

    @property
    def seconds(self) -> np.ndarray:
        """Seconds of each layer at each width (layers, widths)."""
        return self.times.seconds

    @property
    def float_seconds(self) -> float:
        """Seconds of one call of the whole float model."""
        return self.times.whole

    @property
    def other_seconds(self) -> float:
        """Seconds of what no layer does, such as attention and norms: the rest of the whole."""
        return self.times.other

    def bytes_of(self, choice: ArrayLike) -> int:
        """Return the bytes of the whole model; choice: the column of each layer."""
        return bytes_of(self.sensitivity, choice)

    def seconds_of(self, choice: ArrayLike) -> float:
        """Return the predicted seconds of one call; choice: the column of each layer."""
        columns = np.asarray(choice)
        return self.other_seconds + math.fsum(self.seconds[np.arange(len(columns)), columns])


def encode_model(
    model: nn.Module,
    *,
    evaluate: Callable[[nn.Module], Accuracy | float],
    example: Tensor | tuple[Tensor, ...],
    calibration_data: Iterable | None = None,
    bits: Iterable[int] = (2, 3, 4, 6, 8),
    proxy: Callable[[nn.Module], Accuracy | float] | None = None,
    method: str = "weight_only",
    n_jobs: int = 1,
    progress: bool = False,
    rounds: int = 15,
    **options: Any,
) -> ModelFeatures:
    """Measure everything a planner has to know about `model`.

    evaluate(model) is the quality that counts, larger is better. The table of sensitivities is
    measured with `proxy` where one is given: something finer, such as minus a loss, that tells
    layers apart when success does not. example: one input, or a tuple of them, as for
    `labkit.onnx_export.export_onnx`; times and multiply-adds are those of one call with it.
    calibration_data (method "static"), bits, method, n_jobs, progress and further options as in
    `labkit.sensitivity.measure_sensitivity`.
    """
    quality = measured(evaluate, model)
    options = {"method": method, **options}
    if calibration_data is not None:
        options["calibration_data"] = calibration_data
    sensitivity = measure_sensitivity(
        model, proxy or evaluate, bits, n_jobs=n_jobs, progress=progress, **options
    )
    layers = {name: quantizable_layers(model)[name] for name in sensitivity.layers}
    macs = count_macs(model, example)
    return ModelFeatures(
        kinds=tuple(type(layer).__name__ for layer in layers.values()),
        parts=tuple(name.partition(".")[0] for name in layers),
        parameters=np.array([sum(p.numel() for p in x.parameters()) for x in layers.values()]),
        macs=np.array([macs.get(name, 0) for name in layers]),
        sensitivity=sensitivity,
        times=time_layers(
            model, example, tuple(layers), sensitivity.bits, method=method, rounds=rounds
        ),
        quality=quality,
        original_bytes=sum(t.numel() * t.element_size() for t in stored_tensors(model)[0].values()),
    )
