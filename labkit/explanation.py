"""What the planner says: sentences with their numbers, each measured, computed or predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from labkit.evaluate import Accuracy, quality_text
from labkit.features import ModelFeatures
from labkit.fusion import Fused, Limits
from labkit.prediction import Prediction
from labkit.workshop import Try


def explain(
    limits: Limits,
    fused: Fused,
    choice: Iterable[int],
    tried: Sequence[Try],
    prediction: Prediction | None,
) -> str:
    """Return the whole story, a sentence a line: asked, known, planned, tried, verified."""
    features, made = fused.features, tried[-1]
    lines = [
        *what_was_asked(limits),
        what_is_known(features, judged=made.loss is not None),
        *([where_most_goes(features, made.widths)] if features.loss.any() else []),
        what_is_planned(fused, choice, prediction),
        *(f"Tried {one}." for one in tried),
        *what_holds(made),
    ]
    return "\n".join(lines)


def what_was_asked(limits: Limits) -> list[str]:
    """Return the request as it was understood, and what keeping it means."""
    lines = [*limits.constraints.understood, *limits.requirement.understood]
    if limits.bytes is not None:
        lines.append(f"The file may take {limits.bytes:,} bytes, its header included.")
    if limits.loss is not None:
        lines.append(
            "A loss is kept when the measured difference to the float model is within the limit; "
            "its 95 % interval says how far that can be trusted."
        )
    if limits.timed:
        lines.append(
            "A time is kept when the median of calls, in turn with the float model's in one run, "
            "is within the limit."
        )
    return lines


def what_is_known(features: ModelFeatures, *, judged: bool = True) -> str:
    """Return the model in one sentence; `judged`: whether a quality that counts was measured."""
    quality = f"its quality is {quality_text(features.quality)}"
    parts = ", ".join(f"{part} {count}" for part, count in Counter(features.parts).items())
    return (
        f"The model has {len(features.layers)} layers that can be quantized ({parts}), "
        f"{int(features.parameters.sum()):,} parameters in them and {features.original_bytes:,} "
        f"bytes in float32 (computed); {quality if judged else 'its quality was not asked for'}."
    )


def what_is_planned(fused: Fused, choice: Iterable[int], prediction: Prediction | None) -> str:
    """Return the plan in one sentence, with what it is predicted to cost."""
    features = fused.features
    widths = fused.widths(choice)
    counts = ", ".join(
        f"{n} at {width} bits" for width, n in sorted(Counter(widths.values()).items())
    )
    limited = " and ".join(name for name, _, _ in fused.limits)
    total = predicted_sum(features, choice)
    unit = f" {features.unit}" if features.unit else ""
    text = (
        f"Of all choices of widths{f' that keep the {limited}' if limited else ''}, the one with "
        f"the least {fused.minimised} (computed exactly): layers {counts}; "
        f"{features.bytes_of(choice):,} bytes of tensors (computed), summed cost {total:.3g}{unit}"
    )
    if prediction is None:
        return f"{text} (predicted from each layer alone)."
    return (
        f"{text}, which stands for a loss of "
        f"{_in_points(prediction.loss(total), features)} (predicted; "
        f"{len(prediction)} plans were measured, rank correlation "
        f"{prediction.rank_correlation:.2f})."
    )


def _in_points(loss: float, features: ModelFeatures) -> str:
    """A loss in points where the quality is a proportion, as limits are; otherwise as it is."""
    return f"{100 * loss:.3g} points" if isinstance(features.quality, Accuracy) else f"{loss:.3g}"


def predicted_sum(features: ModelFeatures, choice: Iterable[int]) -> float:
    """Return the sum of what the layers cost alone; choice: the column of each layer."""
    rows = zip(features.loss.tolist(), choice, strict=True)
    return sum(row[column] for row, column in rows)


def what_holds(made: Try) -> tuple[str, ...]:
    """Return a line for each limit, and what was gained."""
    report = made.report
    ratio = report.original_bytes / made.bytes
    lines = [f"Verified: {check.text}." for check in made.checks]
    lines.append(
        f"In the end {made.bytes:,} bytes instead of {report.original_bytes:,}, {ratio:.2f} times "
        f"smaller (measured), {report.bits_per_weight:.2f} bits a weight (computed)."
    )
    return tuple(lines)


def where_most_goes(features: ModelFeatures, widths: Mapping[str, int]) -> str:
    """Return which layers mind most, and what they were given."""
    column = min(range(len(features.bits)), key=lambda i: features.bits[i])
    order = features.loss[:, column].argsort()[::-1][:3]
    unit = f" {features.unit}" if features.unit else ""
    named = ", ".join(
        f"{features.layers[i]} ({features.loss[i, column]:.3g}{unit} at {features.bits[column]} "
        f"bits; gets {widths[features.layers[i]]})"
        for i in order
    )
    return f"What minds most when quantized alone (measured): {named}."
