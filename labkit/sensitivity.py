"""How much each layer minds being quantized: one layer at a time, at each width, measured."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from labkit.checks import check_bits
from labkit.evaluate import Accuracy, measured
from labkit.quantize import METHODS, quantize_model
from labkit.selection import select_bits
from labkit.threads import one_thread

# The lab's colour of what is quantized, #d17600; transparent, it suits a light and a dark page.
_HEAT = "rgba(209,118,0,{:.2f})"
_CELL = "padding:3px 10px;text-align:right"


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity:
    """Quality when one layer alone is quantized, and the bytes of that layer, for several widths.

    `layers` and `bits` name the rows and columns of `quality` (float64, larger is better) and of
    `bytes` (int64: codes, scales and bias of that layer). `baseline` is the quality of the float
    model. `other_bytes` are those of everything that is not in the table, such as batch norms.

    >>> Sensitivity(("fc",), (2, 8), np.array([[0.5, 0.9]]), 0.9, np.array([[25, 100]])).loss
    array([[0.4, 0. ]])
    """

    layers: tuple[str, ...]
    bits: tuple[int, ...]
    quality: np.ndarray
    baseline: float
    bytes: np.ndarray
    other_bytes: int = 0
    title: str = field(default="quality when only this layer is quantized (measured)")

    def __post_init__(self) -> None:
        """Raise ValueError for tables of another shape than (layers, bits)."""
        wanted = (len(self.layers), len(self.bits))
        for name in ("quality", "bytes"):
            shape = np.shape(getattr(self, name))
            if shape != wanted:
                raise ValueError(f"{name} must be (layers, bits) = {wanted}, got {shape}")

    @property
    def loss(self) -> np.ndarray:
        """What each costs in quality: baseline - quality; negative where rounding helped."""
        return self.baseline - self.quality

    def __str__(self) -> str:
        """A line a layer."""
        names = max(len(name) for name in ("float", *self.layers))
        head = "".join(f"{f'{width} bits':>12}" for width in self.bits)
        rows = [
            f"  {name:<{names}}" + "".join(f"{value:>12.5g}" for value in values)
            for name, values in zip(self.layers, self.quality, strict=True)
        ]
        return "\n".join(
            [self.title, f"  {'':<{names}}{head}", *rows, f"  float: {self.baseline:.5g}"]
        )

    # At the prompt, the table says more than the fields.
    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the same table; the fuller the colour, the more was lost."""
        worst = max(float(self.loss.max()), 0.0)
        head = "".join(f'<th style="{_CELL}">{width} bits</th>' for width in self.bits)
        body = "".join(
            f'<tr><td style="{_CELL};text-align:left">{escape(name)}</td>'
            + "".join(
                _heat_cell(value, loss, worst) for value, loss in zip(values, losses, strict=True)
            )
            + "</tr>"
            for name, values, losses in zip(self.layers, self.quality, self.loss, strict=True)
        )
        return (
            f'<div><b>{escape(self.title)}</b><table style="border-collapse:collapse;'
            f'color:inherit;font:inherit"><tr><th></th>{head}</tr>{body}</table>'
            f"<div>float: {self.baseline:.5g}</div></div>"
        )


def measure_sensitivity(
    model: nn.Module,
    evaluate: Callable[[nn.Module], Accuracy | float],
    bits: Iterable[int] = (2, 3, 4, 6, 8),
    *,
    granularity: str | int = "channel",
    method: str = "weight_only",
    exclude: Iterable[str] = (),
    n_jobs: int = 1,
    progress: bool = False,
    **options: Any,
) -> Sensitivity:
    """Quantize one layer at a time at each width, all others in float, and measure the quality.

    evaluate(model) returns an `Accuracy` or a number, larger is better. For choosing widths, let it
    look at other data than those that judge the result, and prefer minus a loss: it still tells
    layers apart when all of them answer alike. granularity, method ("weight_only", "dynamic" or
    "static"), exclude and further options (calibration_data, ...) as in
    `labkit.quantize.quantize_model`.

    `n_jobs` processes of joblib share the work; with `joblib.parallel_config(backend="dask")`
    around the call it runs on the workers of a Dask cluster (`scatter=[model, evaluate]` there
    sends both once instead of with every task). Each quality is computed in one thread, so that the
    numbers do not depend on who computed them. `progress` shows a bar when it takes more than two
    seconds.

    The model is never modified. Raises ValueError before any work is done for what `quantize_model`
    refuses, and for a quality that is not finite, naming the layer.

    >>> net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> import torch
    >>> x = torch.linspace(-1, 1, 80).reshape(10, 8)
    >>> wanted = net(x).detach()
    >>> def quality(model):
    ...     return -(model(x) - wanted).detach().square().mean()
    >>> table = measure_sensitivity(net, quality, bits=(2, 8))
    >>> table.layers, table.bytes.tolist(), bool((table.loss[:, 0] > table.loss[:, 1]).all())
    (('0', '2'), [[40, 64], [18, 24]], True)
    """
    widths = check_widths(bits)
    if method not in METHODS or method == "qat":
        raise ValueError(
            f'method must be "weight_only", "dynamic" or "static", got {method!r}; a trained '
            "layer adapts to the others, so that one at a time says nothing about it"
        )
    if not callable(evaluate):
        raise ValueError(f"evaluate must be a function of a model, got {evaluate!r}")
    options |= {"granularity": granularity, "method": method}
    # Every cell calibrates anew, and a generator would be used up by the first.
    if isinstance(options.get("calibration_data"), Iterator):
        options["calibration_data"] = list(options["calibration_data"])
    layers, sizes, other = layer_bytes(model, widths, exclude, options)
    baseline = _one_quality(copy.deepcopy(model).eval(), evaluate, "the float model")
    cells = [(name, width) for name in layers for width in widths]
    # Imported here, as it is slow to import and a first picture must not wait.
    from joblib import Parallel, delayed

    runs = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_cell)(model, evaluate, name, width, options) for name, width in cells
    )
    hidden = None if progress else True
    bar = tqdm(runs, "one layer at a time", len(cells), delay=2, leave=False, disable=hidden)
    quality = np.array(list(bar), dtype=np.float64).reshape(len(layers), len(widths))
    return Sensitivity(layers, widths, quality, baseline, sizes, other)


def check_widths(bits: Iterable[int]) -> tuple[int, ...]:
    """Return widths as a tuple of ints; ValueError for none, for doubles and outside 2..8.

    >>> check_widths([2, 8])
    (2, 8)
    """
    if not isinstance(bits, Iterable) or isinstance(bits, str):
        raise ValueError(f"bits must be a list of widths such as (2, 4, 8), got {bits!r}")
    widths = tuple(check_bits(width) for width in bits)
    if not widths or len(set(widths)) < len(widths):
        raise ValueError(f"bits must name at least one width, and each once; got {widths}")
    return widths


def layer_bytes(
    model: nn.Module, widths: tuple[int, ...], exclude: Iterable[str], options: dict[str, Any]
) -> tuple[tuple[str, ...], np.ndarray, int]:
    """Return the layers, the bytes of each at each width (layers, widths), and all other bytes.

    The sizes of a whole model quantized at that width, so that layers that share a weight count it
    once. Raises as `labkit.quantize.quantize_model`.

    >>> layer_bytes(nn.Sequential(nn.Linear(8, 4)), (2, 8), (), {})
    (('0',), array([[40, 64]]), 0)
    """
    exclude = [exclude] if isinstance(exclude, str) else list(exclude or ())
    layers = tuple(select_bits(model, widths[0], exclude))
    sizes = np.zeros((len(layers), len(widths)), dtype=np.int64)
    other = 0
    for column, width in enumerate(widths):
        _, report = quantize_model(model, bits=width, exclude=exclude, **options)
        found = {row.name: row.bytes for row in report.layers}
        sizes[:, column] = [found.get(name, 0) for name in layers]
        other = report.quantized_bytes - int(sizes[:, column].sum())
    return layers, sizes, other


def _cell(
    model: nn.Module, evaluate: Callable, name: str, width: int, options: dict[str, Any]
) -> float:
    quantized, _ = quantize_model(model, bits={name: width}, **options)
    return _one_quality(quantized, evaluate, f"layer {name!r} at {width} bits")


def _one_quality(model: nn.Module, evaluate: Callable, what: str) -> float:
    # Sums of floats depend on how many threads share them.
    with one_thread():
        quality = measured(evaluate, model)
    quality = quality.value if isinstance(quality, Accuracy) else quality
    if not math.isfinite(quality):
        raise ValueError(f"evaluate returned {quality} for {what}; a quality must be finite")
    return quality


def _heat_cell(value: float, loss: float, worst: float) -> str:
    # The root, or a single layer that breaks would hide all differences between the others.
    share = math.sqrt(max(loss, 0.0) / worst) if worst else 0.0
    heat = _HEAT.format(0.85 * share)
    return f'<td style="{_CELL};background:{heat}">{value:.5g}</td>'
