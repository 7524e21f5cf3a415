"""The planner's workshop: a plan becomes a model, and is judged by what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from labkit.evaluate import Accuracy, measured, quality_text
from labkit.features import ModelFeatures
from labkit.fusion import Limits
from labkit.quantize import quantize_model
from labkit.report import Report, size_report
from labkit.threads import one_thread
from labkit.verification import (
    Check,
    Loss,
    check_bytes,
    check_loss,
    check_seconds,
    file_bytes,
    time_models,
)


@dataclass(frozen=True, eq=False, repr=False)
class Try:
    """One step that was made and measured: `step`, `said` (what was done), and what came out.

    `bytes` is the size of the file. `checks` holds a check for each limit, up to the first that is
    missed.
    """

    step: str
    said: str
    widths: Mapping[str, int]
    quantized: nn.Module
    report: Report
    bytes: int
    loss: Loss | None
    checks: tuple[Check, ...]

    @property
    def kept(self) -> bool:
        """Whether every limit is kept."""
        return all(check.kept for check in self.checks)

    def __str__(self) -> str:
        """What was done, what was measured, and what became of the limits."""
        quality = "" if self.loss is None else f", quality {quality_text(self.report.quality)}"
        missed = [check.text for check in self.checks if not check.kept]
        end = f"missed: {'; '.join(missed)}" if missed else "keeps every limit"
        return f"{self.step} ({self.said}): {self.bytes:,} bytes{quality}; {end}"

    __repr__ = __str__


@dataclass(eq=False)
class Workshop:
    """All that it takes to make a plan real and to judge it; the model is never modified.

    `judge` measures each candidate with `evaluate`; candidates of one step are told apart by how
    far their answers to `calibration_data` move, so that what judges in the end chooses nothing.
    """

    model: nn.Module
    features: ModelFeatures
    limits: Limits
    evaluate: Callable[[nn.Module], Accuracy | float] | None
    calibration_data: list | None
    example: Tensor | tuple[Tensor, ...] | None
    train_loader: Iterable | None = None
    num_epochs: int = 4
    training: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    method: str = "weight_only"

    @property
    def activation_bits(self) -> int | None:
        """Width of what enters a layer; None where it stays float."""
        return None if self.method == "weight_only" else 8

    def quantize(self, widths: Mapping[str, int] | int, **grid: Any) -> nn.Module:
        """Return the model at these widths, by the nearest code on the grid asked for."""
        data = self.calibration_data if self.method == "static" else None
        options = {**self.options, "calibration_data": data, **grid}
        return quantize_model(self.model, self.method, bits=widths, **options)[0]

    def judge(self, step: str, said: str, widths: Mapping[str, int], quantized: nn.Module) -> Try:
        """Measure a quantized model and compare it with every limit.

        What costs least to measure comes first; after a miss the time is not measured any more.
        """
        size = file_bytes(quantized)
        with one_thread():
            quality = measured(self.evaluate, quantized)
        before = None if quality is None else self.features.quality
        loss = None if quality is None else Loss.of(before, quality)
        checks = []
        if self.limits.bytes is not None:
            checks.append(check_bytes(size, self.limits.bytes))
        if self.limits.loss is not None:
            checks.append(check_loss(loss, self.limits.loss))
        if self.limits.timed and all(check.kept for check in checks):
            times = time_models(self.model, quantized, self.example)
            checks.append(check_seconds(times, self.limits))
        report = size_report(
            self.model,
            quantized,
            method=quantized.quantization_notes["method"],
            bits=widths,
            activation_bits=self.activation_bits,
            quality=quality,
            original_quality=before,
        )
        return Try(step, said, dict(widths), quantized, report, size, loss, tuple(checks))
