"""Plans of the robot: found within limits, predicted, made and let play."""

from __future__ import annotations

from functools import cache

import numpy as np

from labkit.constraints import Constraints
from labkit.evaluate import Accuracy
from labkit.fusion import fuse
from labkit.mixed import widths_of
from labkit.prediction import Prediction
from labkit.quantize import quantize_model
from labkit.requirement import Requirement
from labkit.threads import one_thread
from labkit.verification import file_bytes
from labkit.vla.evaluate import ClosedLoop
from labkit.vla.survey import BITS, rooms, survey
from labkit.vla.zoo import robot

Choice = tuple[int, ...]
"""A plan: the column of `BITS` of each layer."""


@cache
def overhead() -> int:
    """Bytes of a file beside the layers: header, norms and all that stays float.

    >>> overhead() > survey().features.other_bytes
    True
    """
    model, _ = quantize_model(robot(), bits=max(BITS))
    return file_bytes(model) - int(survey().features.bytes[:, -1].sum())


def file_size(choice: Choice) -> int:
    """Return the bytes of the file of a plan.

    >>> file_size((0,) * 30) < file_size((4,) * 30)
    True
    """
    table = survey().features.bytes
    return overhead() + int(table[np.arange(len(table)), list(choice)].sum())


@cache
def plan(wish: Requirement) -> Choice | None:
    """Return the best plan within the limits; None where no choice of widths keeps the size.

    With the size limited, the one of least predicted loss; with the loss alone limited, the one of
    fewest bytes among those whose sum of losses may be trusted.
    """
    known = survey()
    fused = fuse(
        known.features,
        Constraints(),
        wish,
        prediction=_prediction(),
        fixed_bytes=overhead(),
    )
    try:
        return tuple(fused.solve().tolist())
    except ValueError:
        return None


@cache
def predicted(choice: Choice) -> float:
    """Return the success in percent that a plan is predicted to have.

    >>> predicted((0,) * 30) < predicted((4,) * 30)
    True
    """
    total = survey().predicted([choice])[0]
    return 100 * (survey().features.quality.value - _prediction().loss(total))


@one_thread()
def make(choice: Choice) -> Accuracy:
    """Quantize the robot as planned and let it play the rooms of the survey."""
    widths = widths_of(survey().features.sensitivity, choice)
    return ClosedLoop(rooms())(quantize_model(robot(), bits=widths)[0])


@cache
def _prediction() -> Prediction:
    return survey().prediction()
