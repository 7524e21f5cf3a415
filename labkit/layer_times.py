"""Seconds of each layer at each width on this machine: measured where a kernel exists.

Every layer runs alone on ONNX Runtime, with what enters it when the example runs through the model,
in float and at the widths that kernels exist for. Equal layers are measured once. A width without
a kernel of its own takes the time of the kernel that runs it, and says so: it is modelled.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from labkit.checks import check_bits
from labkit.engine import Engine
from labkit.engines import engines
from labkit.latency import last_level_cache, measure_latency
from labkit.macs import layer_calls
from labkit.onnx_parts import BLOCK_SIZES, stored_bits
from labkit.quantize import quantize_model
from labkit.report import stored_tensors

MEASURED, FLOAT = "measured", 32
# Cold calls empty the caches each time, which takes longer than the call.
_COLD_ROUNDS = 9
# How much two sums over layers must differ, and how far the times of layers are corrected.
_CLEAR, _MOST_SCALE = 0.2, 2.0


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """Seconds of one call with the example: of the float model, and of each layer at each width.

    `whole`: the float model; `floats` (layers,): its layers; `seconds` (layers, widths). All are
    those of the fastest of several rounds, as other programs only ever add time. `source` (layers,
    widths) says "measured" or "modelled: why". `cold` says whether caches were emptied before each
    call. NaN where nothing was timed.

    A layer alone finds the caches and the memory less busy than in its model, so its times are
    multiplied by `scale`, the same for all layers, with which the sum over a model agrees with two
    models that were measured whole: in float and with the smallest width everywhere.
    """

    whole: float
    floats: np.ndarray
    seconds: np.ndarray
    source: tuple[tuple[str, ...], ...]
    scale: float = 1.0
    cold: bool = False

    @property
    def other(self) -> float:
        """Seconds of what no layer does, such as attention and norms: the rest of the whole."""
        rest = self.whole - math.fsum(self.floats)
        return rest if math.isnan(rest) else max(rest, 0.0)

    @classmethod
    def untimed(cls, layers: int, widths: int) -> LayerTimes:
        """Return a table of NaN, for planning without a limit on time.

        >>> LayerTimes.untimed(1, 2).source
        (('not timed', 'not timed'),)
        """
        nothing = np.full((layers, widths), math.nan)
        source = (("not timed",) * widths,) * layers
        return cls(math.nan, nothing[:, 0], nothing, source)


def time_layers(
    model: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    bits: Iterable[int],
    *,
    layers: Iterable[str] | None = None,
    method: str = "weight_only",
    granularity: str | int = "channel",
    rounds: int = 15,
    cold: bool | None = None,
) -> LayerTimes:
    """Return the seconds of each quantizable layer at each width, measured in one run, one thread.

    example: one input, or a tuple of them, of the size that shall be timed. layers: names, by
    default all. method ("weight_only", "dynamic" or "static") and granularity as in
    `labkit.quantize.quantize_model`. `cold`: by default where the float model is larger than the
    last cache of this machine, so that it reads its weights from memory in every call.

    Raises ValueError as `labkit.onnx_export.export_onnx` and for an example that does not fit.

    >>> net = nn.Sequential(nn.Linear(64, 8))
    >>> time_layers(net, torch.zeros(1, 64), (3, 4), rounds=3).source
    (('modelled: stored in 4 bits', 'measured'),)
    """
    bits = tuple(check_bits(width) for width in bits)
    found = layer_calls(model, example)
    names = tuple(found) if layers is None else tuple(layers)
    if cold is None:
        stored = stored_tensors(model)[0].values()
        cold = sum(t.numel() * t.element_size() for t in stored) > last_level_cache()
    kernels = [
        [kernel_of(found[n][0], width, method, granularity) for width in bits] for n in names
    ]
    runs: dict[str, tuple[nn.Module, Tensor]] = {}
    for name, row in zip(names, kernels, strict=True):
        layer, calls = found[name]
        for call in calls:
            for kernel in {FLOAT, *(kernel for kernel, _ in row)}:
                key = _key(layer, call.x, kernel)
                if key not in runs:
                    runs[key] = (_running(layer, call.x, kernel, method, granularity), call.x)
    data = {"calibration_data": [example]} if method == "static" else {}
    smallest = dict.fromkeys(names, min(bits))
    few = quantize_model(model, method, bits=smallest, granularity=granularity, **data)[0]
    times = _measure(model, few, example, runs, _COLD_ROUNDS if cold else rounds, cold)

    def seconds(name: str, kernel: int) -> float:
        layer, calls = found[name]
        alone = (times[_key(layer, each.x, kernel)] for each in calls)
        return math.fsum(max(time - times["call"], 0.0) for time in alone)

    floats = np.array([seconds(name, FLOAT) for name in names])
    table = np.array(
        [[seconds(n, k) for k, _ in row] for n, row in zip(names, kernels, strict=True)]
    )
    sums = float(floats.sum()), float(table[:, bits.index(min(bits))].sum())
    scale = _scale((times["whole"], times["few"]), sums)
    source = tuple(tuple(source for _, source in row) for row in kernels)
    return LayerTimes(times["whole"], scale * floats, scale * table, source, scale, cold)


def _scale(wholes: tuple[float, float], sums: tuple[float, float]) -> float:
    """The factor that makes the difference of two sums over layers that of two whole models.

    Where they hardly differ, it would be noise divided by noise.
    """
    gained = sums[0] - sums[1]
    if abs(gained) < _CLEAR * max(sums):
        return 1.0
    scale = (wholes[0] - wholes[1]) / gained
    return min(max(scale, 1 / _MOST_SCALE), _MOST_SCALE)


def kernel_of(
    layer: nn.Module, bits: int, method: str, granularity: str | int = "channel"
) -> tuple[int, str]:
    """Return (width of the kernel that runs a layer of so many bits, source); 32 is float's.

    The source is "measured" where that kernel is the layer's own, else "modelled: why". See the
    table in `labkit.onnx_layers`.

    >>> kernel_of(nn.Linear(4, 2), 6, "weight_only"), kernel_of(nn.Conv2d(1, 1, 1), 8, "static")
    ((8, 'modelled: stored in 8 bits'), (8, 'measured'))
    """
    grouped = not isinstance(granularity, str)
    if isinstance(layer, nn.Embedding):
        width, why = 8, "a byte a code"
    elif method != "weight_only":
        width, why = (FLOAT, "groups run in float") if grouped else (8, "runs in 8 bits")
    elif not isinstance(layer, nn.Linear) or (grouped and granularity % BLOCK_SIZES[-1]):
        width, why = FLOAT, "no such kernel, runs in float"
    else:
        width = stored_bits(bits)
        why = f"stored in {width} bits"
    return width, MEASURED if width == bits else f"modelled: {why}"


def _key(layer: nn.Module, x: Tensor, kernel: int) -> str:
    """Layers that print alike and get inputs of the same shape take the same time."""
    return f"{layer!r} on {tuple(x.shape)} in {kernel} bits"


def _running(
    layer: nn.Module, x: Tensor, kernel: int, method: str, granularity: str | int
) -> nn.Module:
    if kernel == FLOAT:
        return layer
    data = {"calibration_data": [x]} if method == "static" else {}
    return quantize_model(layer, method, bits=kernel, granularity=granularity, **data)[0]


def _measure(
    model: nn.Module,
    few: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    runs: dict[str, tuple[nn.Module, Tensor]],
    rounds: int,
    cold: bool,
) -> dict[str, float]:
    """Time two whole models, a call that does nothing, and every run, in one comparison."""
    inputs = example if isinstance(example, tuple) else (example,)
    wholes = {"whole": copy.deepcopy(model).eval(), "few": few}
    runs = {"call": (nn.ReLU(), torch.zeros(1)), **runs}
    candidates: dict[str, Callable[[], object]] = {
        name: partial(Engine.of(whole, example, any_batch=False), *inputs)
        for name, whole in wholes.items()
    }
    for name, engine in engines(runs, any_batch=False).items():
        candidates[name] = partial(engine, runs[name][1])
    report = measure_latency(candidates, rounds=rounds, cold=cold)
    return {row.name: min(row.seconds) for row in report.rows}
