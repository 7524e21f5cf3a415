"""The model encoder: what a planner has to know about a model, layer by layer, in one table.

What is counted: parameters, multiply-adds, bytes at each width. What is measured: the quality when
one layer alone is quantized, and the seconds of each layer on this machine's engine. Where no
kernel exists, the time is modelled, and says so.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from labkit.evaluate import Accuracy, measured, quality_text
from labkit.layer_times import MEASURED, LayerTimes, time_layers
from labkit.macs import count_macs
from labkit.mixed import bytes_of
from labkit.report import stored_tensors
from labkit.selection import quantizable_layers
from labkit.sensitivity import Sensitivity, check_widths, measure_sensitivity

_CELL = "padding:2px 8px"


@dataclass(frozen=True, eq=False, repr=False)
class ModelFeatures:
    """One row a quantizable layer; tables are (layers, widths).

    `kinds` are the layers' classes and `parts` the first component of their names (vision,
    language, …). `parameters` and `macs` are whole numbers a layer: values stored, and
    multiply-adds of one call with the example. `sensitivity` holds the measured quality and the
    bytes at each width. `times` holds seconds of one call. `quality` is the float model's, as
    `evaluate` gave it; `original_bytes` are those of all its tensors. `unit` is that of the losses,
    such as "nats", where it is known.
    """

    kinds: tuple[str, ...]
    parts: tuple[str, ...]
    parameters: np.ndarray
    macs: np.ndarray
    sensitivity: Sensitivity
    times: LayerTimes
    quality: Accuracy | float
    original_bytes: int
    unit: str = ""

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

    def __str__(self) -> str:
        """A line a layer: what it is, then its bytes, loss and microseconds at each width."""
        return "\n\n".join([*map(_as_text, self._tables()), self._summary()])

    # At the prompt, the tables say more than the fields.
    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the same tables; over a time stands where it is from."""
        *others, times = self._tables()
        tips = [("", *row) for row in self.times.source]
        shown = "".join([*map(_as_html, others), _as_html(times, tips)])
        return (
            f'<div style="display:flex;flex-wrap:wrap;gap:12px 36px">{shown}</div>'
            f"<div>{escape(self._summary())}</div>"
        )

    def _tables(self) -> list[list[list[str]]]:
        """What the layers are, and a table each for bytes, losses and times: rows, heads first."""
        what = zip(self.layers, self.kinds, self.parameters, self.macs, strict=True)
        tables = [
            [["layer", "kind", "parameters", "multiply-adds"]]
            + [[name, kind, f"{count:,}", f"{macs:,}"] for name, kind, count, macs in what]
        ]
        modelled = [["" if s == MEASURED else "≈ " for s in row] for row in self.times.source]
        times = [
            [f"{sign}{_microseconds(time)}" for sign, time in zip(signs, row, strict=True)]
            for signs, row in zip(modelled, self.seconds, strict=True)
        ]
        for head, cells in (
            ("bytes at", [[f"{size:,}" for size in row] for row in self.bytes]),
            (f"loss ({self.unit}) at" if self.unit else "loss at",
             [[f"{loss:.3g}" for loss in row] for row in self.loss]),
            ("µs at", times),
        ):  # fmt: skip
            rows = zip(self.layers, cells, strict=True)
            widths = [f"{width} bits" for width in self.bits]
            tables.append([[head, *widths], *([name, *row] for name, row in rows)])
        return tables

    def _summary(self) -> str:
        whole = (
            "not timed"
            if math.isnan(self.float_seconds)
            else f"one call in float {_microseconds(self.float_seconds)} µs, of which "
            f"{_microseconds(self.other_seconds)} belong to no layer"
        )
        return (
            f"float: {self.original_bytes:,} bytes, quality {quality_text(self.quality)}; {whole}. "
            "Losses, bytes and times are measured; times with ≈ are modelled."
        )


def encode_model(
    model: nn.Module,
    *,
    evaluate: Callable[[nn.Module], Accuracy | float],
    example: Tensor | tuple[Tensor, ...],
    calibration_data: Iterable | None = None,
    bits: Iterable[int] = (2, 3, 4, 6, 8),
    proxy: Callable[[nn.Module], Accuracy | float] | None = None,
    method: str = "weight_only",
    granularity: str | int = "channel",
    n_jobs: int = 1,
    progress: bool = False,
    timed: bool = True,
    rounds: int = 15,
    **options: Any,
) -> ModelFeatures:
    """Measure everything a planner has to know about `model`; the model is not modified.

    evaluate(model) is the quality that counts, larger is better. The table of sensitivities is
    measured with `proxy` where one is given: something finer, such as minus a loss, that tells
    layers apart when success does not. example: one input, or a tuple of them, as for
    `labkit.onnx_export.export_onnx`; multiply-adds and times are those of one call with it.
    calibration_data (method "static"), bits, method, granularity, n_jobs, progress and further
    options as in `labkit.sensitivity.measure_sensitivity`. timed=False leaves the seconds out, for
    plans without a limit on time; `rounds` as in `labkit.layer_times.time_layers`.

    Raises ValueError as these three do, before the long work wherever it can be known.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> features = encode_model(
    ...     net, evaluate=lambda model: 0.5, example=torch.zeros(2, 64), bits=(4, 8), timed=False
    ... )
    >>> features.macs.tolist(), features.parameters.tolist(), features.bytes.tolist()
    ([4096, 640], [2080, 330], [[1280, 2304], [240, 400]])
    """
    if not callable(evaluate):
        raise ValueError(f"evaluate must be a function of a model, got {evaluate!r}")
    calls = count_macs(model, example)
    widths = check_widths(bits)
    chosen = {"method": method, "granularity": granularity}
    if calibration_data is not None:
        options["calibration_data"] = calibration_data
    sensitivity = measure_sensitivity(
        model, proxy or evaluate, widths, n_jobs=n_jobs, progress=progress, **chosen, **options
    )
    names = sensitivity.layers
    times = (
        time_layers(model, example, widths, layers=names, rounds=rounds, **chosen)
        if timed
        else LayerTimes.untimed(len(names), len(widths))
    )
    found = quantizable_layers(model)
    return ModelFeatures(
        kinds=tuple(type(found[name]).__name__ for name in names),
        parts=tuple(name.partition(".")[0] for name in names),
        parameters=np.array([sum(p.numel() for p in found[n].parameters()) for n in names]),
        macs=np.array([calls[name] for name in names]),
        sensitivity=sensitivity,
        times=times,
        quality=measured(evaluate, copy.deepcopy(model).eval()),
        original_bytes=sum(t.numel() * t.element_size() for t in stored_tensors(model)[0].values()),
        unit=getattr(proxy or evaluate, "unit", ""),
    )


def _as_text(table: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = _columns_of_words(table)
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if i < left else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def _as_html(table: list[list[str]], tips: Sequence[Sequence[str]] = ()) -> str:
    """A table; `tips` has a tooltip for each cell below the head."""
    left, rows = _columns_of_words(table), ""
    for i, line in enumerate(table):
        mark = "td" if i else "th"
        rows += "<tr>"
        for j, cell in enumerate(line):
            tip = f' title="{escape(tips[i - 1][j])}"' if i and tips else ""
            side = "left" if j < left else "right"
            rows += f'<{mark} style="{_CELL};text-align:{side}"{tip}>{escape(cell)}</{mark}>'
        rows += "</tr>"
    return (
        '<table style="border-collapse:collapse;color:inherit;font:inherit;margin:0">'
        f"{rows}</table>"
    )


def _columns_of_words(table: list[list[str]]) -> int:
    return 2 if table[0][0] == "layer" else 1


def _microseconds(seconds: float) -> str:
    return "–" if math.isnan(seconds) else f"{1e6 * seconds:.3g}"
