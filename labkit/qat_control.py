"""Training under quantization beside its control: the same training without quantization.

More training may improve a model by itself. What quantization costs is the difference to the float
model that was trained as long, on the same data, by the same optimizer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from labkit.inputs import Inputs
from labkit.qat import check_loader, train_quantized
from labkit.qat_grids import Chooser
from labkit.qat_records import Trained
from labkit.qat_schedule import train_progressively

# What the control shares with the training that it stands beside.
SHARED = ("learning_rate", "loss", "max_norm")


def train_with_control(
    model: nn.Module,
    choose: Callable[[int], Mapping[str, Chooser]],
    train_loader: Iterable[tuple[Inputs, Tensor]],
    num_epochs: int | Sequence[int],
    *,
    schedule: Sequence[int] | None = None,
    with_control: bool = True,
    **training: object,
) -> tuple[Trained, nn.Module | None]:
    """Train `model` in place under quantization, and a copy of it in float for as many epochs.

    Returns how the last stage went, and the copy; None instead where it is not wanted or training
    was stopped. `choose`: width of a stage → choosers by layer; without a `schedule` of widths it
    is asked once, for 0, and gives the widths that are wanted in the end. The control comes second,
    so that the batches of the first do not depend on it.

    >>> import torch
    >>> from labkit.qparams import choose_qparams
    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> batches = [(torch.eye(4), torch.tensor([0, 1, 0, 1]))]
    >>> two_bits = {"0": lambda w: choose_qparams(w, 2)}
    >>> trained, control = train_with_control(model, lambda stage: two_bits, batches, 3)
    >>> trained.ended, torch.equal(model[0].weight, control[0].weight)
    ('finished', False)
    """
    check_loader(train_loader, 2 if with_control else 1)
    control = copy.deepcopy(model) if with_control else None
    if schedule is None:
        stages = (train_quantized(model, choose(0), train_loader, num_epochs, **training),)
    else:
        stages = train_progressively(
            model,
            schedule,
            train_loader=train_loader,
            num_epochs=num_epochs,
            choose=choose,
            **training,
        )
    if control is None or stages[-1].ended == "stopped":
        return stages[-1], None
    shared = {name: training[name] for name in SHARED if name in training}
    for stage in stages:
        train_quantized(
            control, {}, train_loader, len(stage.history), activation_bits=None, **shared
        )
    return stages[-1], control
