"""The progressive schedule: from many bits to few, as the source document asks (8 → 4 → 2).

Each stage starts from the float weights that the stage before has left, so that no stage meets a
model that is far from what its grid can say. Source: the document, 4.4; Zhuang et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from labkit.checks import check_bits, check_whole
from labkit.inputs import Inputs
from labkit.qat import check_loader, train_quantized
from labkit.qat_grids import Chooser
from labkit.qat_records import Trained
from labkit.qparams import choose_qparams
from labkit.selection import quantizable_layers


def train_progressively(
    model: nn.Module,
    bits: Sequence[int] = (8, 4, 2),
    *,
    train_loader: Iterable[tuple[Inputs, Tensor]],
    num_epochs: int | Sequence[int],
    choose: Callable[[int], Mapping[str, Chooser]] | None = None,
    checkpoint: Path | str | None = None,
    **training: object,
) -> tuple[Trained, ...]:
    """Train `model` in place, one stage after another at these `bits`; return how each went.

    `num_epochs`: one number a stage, or the total, which is shared out evenly, the rest to the last
    stages. `choose`: width of a stage → choosers by layer, as `train_quantized` takes them; by
    default a symmetric grid a channel for every layer that can be quantized. `checkpoint`: each
    stage keeps its own file beside this name. `training`: the other options of `train_quantized`,
    the same in each stage. A stage that was stopped is the last. The grids of the last stage belong
    to the model that is left. Raises ValueError as `train_quantized`, and for bits outside 2..8 or
    fewer epochs than stages.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> batches = [(torch.eye(4), torch.tensor([0, 1, 0, 1]))]
    >>> stages = train_progressively(model, train_loader=batches, num_epochs=4)
    >>> [(len(s.history), s.weight_grids["0"].quant_max) for s in stages]
    [(1, 127), (1, 7), (2, 1)]
    """
    bits = tuple(check_bits(width) for width in bits)
    epochs = shared_out(num_epochs, len(bits))
    choose = partial(_each_channel, model) if choose is None else choose
    stages: list[Trained] = []
    check_loader(train_loader, len(bits))
    for stage, (width, count) in enumerate(zip(bits, epochs, strict=True), start=1):
        if checkpoint is not None:
            path = Path(checkpoint)
            # The same width may come twice.
            own = f"{path.stem}-stage-{stage}-{width}-bits{path.suffix}"
            training["checkpoint"] = path.with_name(own)
        stages.append(train_quantized(model, choose(width), train_loader, count, **training))
        if stages[-1].ended == "stopped":
            break
    return tuple(stages)


def shared_out(num_epochs: int | Sequence[int], stages: int) -> tuple[int, ...]:
    """Return how many epochs each stage gets; ValueError when that is not at least one.

    >>> shared_out(8, 3), shared_out((1, 2, 9), 3)
    ((2, 3, 3), (1, 2, 9))
    """
    if isinstance(num_epochs, Sequence):
        epochs = tuple(check_whole("num_epochs", count) for count in num_epochs)
    else:
        total = check_whole("num_epochs", num_epochs)
        epochs = tuple((total + place) // max(stages, 1) for place in range(stages))
    if stages < 1 or len(epochs) != stages or min(epochs) < 1:
        raise ValueError(
            f"each stage needs an epoch or more, as a total or as one number a stage; got "
            f"num_epochs={num_epochs} for {stages} stages"
        )
    return epochs


def _each_channel(model: nn.Module, bits: int) -> dict[str, Chooser]:
    chooser = partial(choose_qparams, bits=bits, symmetric=True, signed=True, axis=0)
    return dict.fromkeys(quantizable_layers(model), chooser)
