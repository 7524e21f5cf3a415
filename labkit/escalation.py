"""Escalation: what is tried, one after the other, until a plan keeps what was asked.

    nearest rounding     each weight to the nearest code
    better calibration   other grids and corrected biases; the one that changes the answers least
    learned rounding     up or down as the layer's output asks
    training (QAT)       the weights learn to live with the grid

The bits of the plan stay the same from step to step. Every step is measured, and stays on record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from labkit.bias_correction import correct_bias
from labkit.divergence import MinusDivergence
from labkit.quantize import quantize_model
from labkit.rounding import learn_rounding
from labkit.verification import file_bytes
from labkit.workshop import Try, Workshop

NEAREST, CALIBRATED = "nearest rounding", "better calibration"
ROUNDED, TRAINED = "learned rounding", "training (QAT)"

# Other grids for the weights, and for what enters a layer.
_WEIGHT_GRIDS = ({}, {"symmetric": False}, {"scale_rule": "full"})
_OBSERVERS = ("minmax", "percentile", "mse")


def escalate(
    workshop: Workshop, widths: Mapping[str, int], *, training: bool = True
) -> Iterator[Try]:
    """Make the plan real, step by step, and yield each step as it was measured.

    The caller stops when it is content. Steps that lack their data (calibration_data, a
    train_loader) are left out, and so is training where it is not wanted.
    """
    yield workshop.judge(
        NEAREST, "each weight to its nearest code", widths, workshop.quantize(widths)
    )
    grid: dict[str, Any] = {}
    if workshop.calibration_data:
        change = MinusDivergence(workshop.model, workshop.calibration_data)
        grid, corrected, said = _best_grid(workshop, widths, change)
        yield workshop.judge(CALIBRATED, said, widths, corrected)
        rounded = _learned(workshop, workshop.quantize(widths, **grid))
        moved = f"the answers moved by {-change(rounded):.2g} nats (measured)"
        yield workshop.judge(ROUNDED, moved, widths, rounded)
    if training and workshop.train_loader is not None:
        yield workshop.judge(TRAINED, *_trained(workshop, widths))


def _best_grid(
    workshop: Workshop, widths: Mapping[str, int], change: MinusDivergence
) -> tuple[dict[str, Any], nn.Module, str]:
    """Return the grid whose answers move least, the corrected model on it, and words."""
    observers = _OBSERVERS if workshop.method == "static" else (None,)
    found = []
    for observer in observers:
        for weights in _WEIGHT_GRIDS:
            grid = weights if observer is None else {**weights, "observer": observer}
            corrected = correct_bias(
                workshop.quantize(widths, **grid), workshop.model, workshop.calibration_data
            )
            if workshop.limits.bytes is None or file_bytes(corrected) <= workshop.limits.bytes:
                found.append((-change(corrected), len(found), grid, corrected))
    if not found:
        # A grid with zero points or biases may be too much; without them nothing is gained.
        return {}, workshop.quantize(widths), "no other grid fits the bytes"
    moved, _, grid, corrected = min(found, key=lambda one: one[:2])
    before = -change(workshop.quantize(widths))
    named = ", ".join(f"{key}={value!r}" for key, value in grid.items()) or "the same grid"
    said = (
        f"the best of {len(found)}: {named}, biases corrected; the answers moved by {moved:.2g} "
        f"nats instead of {before:.2g} (measured on the calibration data)"
    )
    return grid, corrected, said


def _learned(workshop: Workshop, nearest: nn.Module) -> nn.Module:
    data = workshop.calibration_data
    return correct_bias(learn_rounding(nearest, workshop.model, data), workshop.model, data)


def _trained(
    workshop: Workshop, widths: Mapping[str, int]
) -> tuple[str, Mapping[str, int], nn.Module]:
    trained, _ = quantize_model(
        workshop.model,
        "qat",
        bits=widths,
        activation_bits=workshop.activation_bits,
        train_loader=workshop.train_loader,
        num_epochs=workshop.num_epochs,
        training=workshop.training,
        **workshop.options,
    )
    return f"{workshop.num_epochs} epochs under quantization", widths, trained
