"""The planner: limits of a device and a wish in, a verified quantized model out, or why not.

Encode the model, the device and the wish; fuse them into one allocation problem; quantize; measure.
What misses is tried again by stronger means, and what cannot be met is refused with the limit that
binds and with offers. Nothing is promised that was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from labkit import explanation
from labkit.calibration import arguments_of
from labkit.constraints import Constraints, encode_constraints
from labkit.divergence import MinusDivergence
from labkit.escalation import escalate
from labkit.evaluate import Accuracy, quality_text
from labkit.features import ModelFeatures, encode_model
from labkit.fusion import Fused, Limits, fuse
from labkit.method_choice import prepare
from labkit.planned import Plan, Planned
from labkit.prediction import Prediction, check_prediction, number
from labkit.refusal import Infeasible, refusal, too_few_bytes
from labkit.requirement import Requirement, understand
from labkit.verification import file_bytes
from labkit.workshop import Try, Workshop

__all__ = ["Infeasible", "Plan", "Planned", "plan_quantization"]

# Where only the loss is limited, the summed cost is halved this often before giving up.
HALVINGS = 4
# How many random plans are measured where a sum of costs has to be read as a loss.
CHECKED_PLANS = 20


def plan_quantization(
    model: nn.Module,
    device_constraints: Mapping | str | Constraints | None,
    requirements: Mapping | str | Requirement | None,
    *,
    calibration_data: Iterable | None = None,
    evaluate: Callable[[nn.Module], Accuracy | float] | None = None,
    train_loader: Iterable | None = None,
    num_epochs: int = 4,
    training: Mapping[str, Any] | None = None,
    example: Tensor | tuple[Tensor, ...] | None = None,
    features: ModelFeatures | None = None,
    prediction: Prediction | None = None,
    bits: Iterable[int] = (2, 3, 4, 6, 8),
    n_jobs: int = 1,
    progress: bool = False,
    **options: Any,
) -> Planned:
    """Quantize `model` so that it keeps the limits of a device and a wish, and show that it does.

    * device_constraints: see `labkit.constraints.encode_constraints`; requirements: a dict or a
      sentence, see `labkit.requirement.understand`. Of two limits on the same thing the tighter
      counts.
    * evaluate(model): the quality that counts, larger is better; on how many samples is its own
      affair, and its interval tells. Needed where a loss of quality is limited.
    * calibration_data: batches of inputs. With them layers are told apart by how far answers move
      (`labkit.divergence`), and rounding can be calibrated and learned; without, by `evaluate`.
    * train_loader, num_epochs, training: as in `labkit.quantize.quantize_model`; with a loader,
      training under quantization is the last resort.
    * example: one input, or a tuple of them, to take times with; by default the first sample of the
      calibration data.
    * features, prediction: from `labkit.features.encode_model` and
      `labkit.prediction.check_prediction`, where they were measured before; bits, n_jobs and
      progress are for measuring them. options: as in `quantize_model`, such as granularity.

    A loss is kept when the measured difference is within its limit; whether its whole interval is,
    `Check.sure` tells. Bytes are those of the whole file. Raises `Infeasible` where nothing that
    was tried keeps all limits; before any work ValueError for a request that is not understood,
    limits nothing, or needs what was not given. The model is never modified.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    >>> x = torch.randn(100, 64, generator=torch.Generator().manual_seed(0))
    >>> planned = plan_quantization(net, None, {"max_bytes": 4_000}, calibration_data=[x])
    >>> planned.file_bytes <= 4_000, planned.verified[0].kept
    (True, True)
    """
    constraints, requirement = encode_constraints(device_constraints), understand(requirements)
    data = _listed(calibration_data)
    if example is None and data is not None:
        example = _first_sample(model, data[0])
    _check_given(constraints, requirement, evaluate, data, example, train_loader)
    if features is None:
        features = _encode(model, evaluate, data, example, bits, n_jobs, progress, options)
    quality = None if evaluate is None else number(features.quality)
    limits = Limits.of(constraints, requirement, features.original_bytes, quality)
    if limits.loss is not None and limits.loss < 0:
        have = quality_text(features.quality)
        raise Infeasible("loss", f"the float model itself has {have}, and more is asked")
    workshop = Workshop(
        model,
        features,
        limits,
        evaluate,
        data,
        example,
        train_loader,
        num_epochs,
        training,
        options,
    )
    if limits.names == ("loss",) and requirement.bits is None and prediction is None:
        prediction = check_prediction(
            model, features, evaluate, plans=CHECKED_PLANS, n_jobs=n_jobs, **options
        )
    known = prepare(workshop)
    tried: list[Try] = []
    for fused, choice in _plans(workshop, requirement, prediction, known, tried):
        made = _climb(workshop, fused.widths(choice), tried)
        if made is not None:
            return _planned(workshop, fused, choice, tried, prediction)
    raise refusal(workshop, tried)


def _plans(
    workshop: Workshop,
    requirement: Requirement,
    prediction: Prediction | None,
    known: Mapping[str, Any],
    tried: list[Try],
) -> Iterator[tuple[Fused, np.ndarray]]:
    """Yield the plans to try: the best one, then those that spare what the best one missed."""
    limits = workshop.limits
    only_loss = limits.names == ("loss",) and requirement.bits is None
    for halving in range(HALVINGS + 1 if only_loss else 1):
        fused = fuse(
            workshop.features,
            limits.constraints,
            requirement,
            prediction=prediction,
            tighter=0.5**halving,
            **known,
        )
        yield fused, _solved(workshop, fused)
    timed = any(name == "seconds" for name, _, _ in fused.limits)
    if timed and any(check.name == "seconds" for made in tried for check in made.checks):
        yield fused, fused.fastest()
    if only_loss:
        yield fused, fused.least_of("loss")


def _solved(workshop: Workshop, fused: Fused) -> np.ndarray:
    """Return the best choice; where none is predicted to fit, the one that is nearest to it.

    What is predicted may be wrong: only what a file really takes is refused here.
    """
    try:
        return fused.solve()
    except ValueError:
        binding = fused.blocking()
    if binding == ("seconds",):
        return fused.fastest()
    choice = fused.least_of(binding[0])
    if "bytes" in binding:
        size = file_bytes(workshop.quantize(fused.widths(choice)))
        if size > workshop.limits.bytes:
            raise too_few_bytes(workshop, fused, size)
    return choice


def _climb(workshop: Workshop, widths: Mapping[str, int], tried: list[Try]) -> Try | None:
    """Go up the steps until one keeps every limit; None where none does."""
    if any(dict(made.widths) == widths for made in tried):
        return None
    # Training takes long: it gets one chance, at the plan that was thought best.
    for made in escalate(workshop, widths, training=not tried):
        tried.append(made)
        missed = [check.name for check in made.checks if not check.kept]
        if not missed:
            return made
        if missed == ["seconds"]:
            # Other codes at the same widths take the same time.
            return None
    return None


def _planned(
    workshop: Workshop,
    fused: Fused,
    choice: np.ndarray,
    tried: list[Try],
    prediction: Prediction | None,
) -> Planned:
    made, features, limits = tried[-1], workshop.features, workshop.limits
    total = explanation.predicted_sum(features, choice)
    plan = Plan(
        workshop.method,
        made.widths,
        features.bytes_of(choice),
        total,
        None if prediction is None else prediction.loss(total),
    )
    return Planned(
        features,
        limits.constraints,
        limits.requirement,
        plan,
        made.quantized,
        made.report,
        made.checks,
        tuple(tried),
        prediction,
        explanation.explain(limits, fused, choice, tried, prediction),
    )


def _encode(
    model: nn.Module,
    evaluate: Callable | None,
    data: list | None,
    example: Tensor | tuple[Tensor, ...],
    bits: Iterable[int],
    n_jobs: int,
    progress: bool,
    options: Mapping[str, Any],
) -> ModelFeatures:
    finer = None if data is None else MinusDivergence(model, data)
    return encode_model(
        model,
        evaluate=evaluate or finer,
        proxy=finer,
        example=example,
        bits=bits,
        n_jobs=n_jobs,
        progress=progress,
        timed=False,
        **options,
    )


def _check_given(
    constraints: Constraints,
    requirement: Requirement,
    evaluate: object,
    data: list | None,
    example: object,
    train_loader: object,
) -> None:
    """Raise ValueError for a request that needs what was not given."""
    # Any model would do for this: only whether something is limited matters.
    asked = Limits.of(constraints, requirement, 1, 1.0)
    if not asked.names and requirement.bits is None:
        raise ValueError(
            "nothing is asked: limit the bytes, the time or the loss of quality, e.g. "
            '{"memory": "6 MB"} or "at most 3 points worse"'
        )
    if "loss" in asked.names and evaluate is None:
        raise ValueError(
            "the request limits the loss of quality, which has to be measured; give evaluate, a "
            "function of a model that returns its quality"
        )
    if evaluate is None and data is None:
        raise ValueError(
            "the planner has to measure what each layer minds; give calibration_data (batches of "
            "inputs), or evaluate, a function of a model that returns its quality"
        )
    if example is None:
        raise ValueError(
            "times and multiply-adds are those of one call; give example, an input or a tuple of "
            "them, or calibration_data"
        )
    if requirement.method == "static" and data is None:
        raise ValueError("static quantization is asked for, and needs calibration_data")
    if requirement.method == "qat" and train_loader is None:
        raise ValueError("training (qat) is asked for, and needs a train_loader")


def _listed(batches: Iterable | None) -> list | None:
    if batches is None:
        return None
    listed = [batches] if isinstance(batches, Tensor) else list(batches)
    if not listed:
        raise ValueError("calibration_data holds no batches; give a list of inputs, or None")
    return listed


def _first_sample(model: nn.Module, batch: object) -> Tensor | tuple[Tensor, ...]:
    arguments, named = arguments_of(model, batch)
    first = tuple(x[:1] for x in (*arguments, *named.values()))
    return first[0] if len(first) == 1 else first
