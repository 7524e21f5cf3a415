"""What the planner gives back: a plan that was kept, and its proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from labkit.constraints import Constraints
from labkit.features import ModelFeatures
from labkit.prediction import Prediction
from labkit.report import Report
from labkit.requirement import Requirement
from labkit.verification import Check
from labkit.workshop import Try


@dataclass(frozen=True, eq=False)
class Plan:
    """Which width each layer gets, and what that was predicted to cost before it was made.

    `widths`: {layer: bits}. `predicted_bytes`: of the tensors. `predicted_cost`: the sum of what
    the layers cost alone; `predicted_loss`: what that stands for in quality, None where no plans
    were checked.
    """

    method: str
    widths: Mapping[str, int]
    predicted_bytes: int
    predicted_cost: float
    predicted_loss: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Planned:
    """A request that was met: everything that was known, decided, made and measured.

    `verified` holds a check for each limit; `tried` every step on the way, the last one is what was
    taken. `explanation` is the story in sentences, each number marked measured, computed or
    predicted.
    """

    features: ModelFeatures
    constraints: Constraints
    requirement: Requirement
    plan: Plan
    quantized_model: nn.Module
    report: Report
    verified: tuple[Check, ...]
    tried: tuple[Try, ...]
    prediction: Prediction | None
    explanation: str

    @property
    def file_bytes(self) -> int:
        """The size of the file that `labkit.files.save` writes, header included (measured)."""
        return self.tried[-1].bytes

    def __str__(self) -> str:
        """The explanation."""
        return self.explanation

    __repr__ = __str__
