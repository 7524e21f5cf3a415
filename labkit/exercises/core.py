"""Exercises: what one is, and how an answer is judged.

An answer is a function that the learner writes. It is run on cases: inputs whose right result comes
from an independent oracle. The first case that fails says which mistake the result looks like.
Nothing here raises at the learner; a verdict is shown instead.
"""

from __future__ import annotations

import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import torch

from labkit.exercises.compare import INTEGER, is_stored_as, same, show, type_name


@dataclass(frozen=True)
class Case:
    """One input and its right result.

    `looks_like` maps the message of a known mistake to the result which that mistake gives here;
    `message` is said when the result is wrong in some other way. Floats may be off by `tolerance`,
    relative to what is expected; integers and text are compared exactly. `dtype` is what the result
    must be stored as: "uint8", for example, or "integer" for any integer type. `shown` describes
    arguments that are too long to be written out in a message.

    >>> Case((2,), 4, "Square the number.", {"You doubled it.": 5}).expected
    4
    """

    arguments: tuple
    expected: Any
    message: str
    looks_like: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6
    dtype: str = ""
    shown: str = ""

    def accepts(self, result: Any) -> bool:
        """Whether the numbers of `result` are right, however they are stored."""
        return same(result, self.expected, self.tolerance)

    def explain(self, result: Any) -> str:
        """Say which mistake a wrong result looks like."""
        for said, mistaken in self.looks_like.items():
            if same(result, mistaken, self.tolerance):
                return said
        return self.message


@dataclass(frozen=True)
class Wrong:
    """A typical wrong answer, and words that its rejection must contain.

    >>> Wrong("doubles", lambda n: 2 * n, "doubled").name
    'doubles'
    """

    name: str
    answer: Callable
    says: str


@dataclass(frozen=True)
class Exercise:
    """One exercise: its text, its judge, three staged hints, a solution and typical wrong answers.

    `cases` is a function, so that no oracle runs before somebody asks for a verdict.
    `difficulty` counts 1 to 3, `minutes` is a learner's time.
    """

    id: str
    title: str
    difficulty: int
    minutes: int
    hints: tuple[str, str, str]
    cases: Callable[[], Iterable[Case]]
    solution: Callable
    praise: str
    wrong: tuple[Wrong, ...]


@dataclass(frozen=True)
class Verdict:
    """What came of a check: shown as a coloured line in a notebook, as a sentence elsewhere.

    >>> Verdict("1.1", "not solved", "Write the function first.")
    1.1 not solved yet: Write the function first.
    """

    id: str
    outcome: str
    message: str

    @property
    def passed(self) -> bool:
        """Whether the answer was right."""
        return self.outcome == "solved"

    def __repr__(self) -> str:
        """Say it in one line."""
        yet = " yet" if self.outcome == "not solved" else ""
        return f"{self.id} {self.outcome}{yet}: {self.message}"

    def _repr_html_(self) -> str:
        colour, sign = {
            "solved": ("#00785a", "✓"),
            "not solved": ("#777777", "○"),
            "wrong": ("#b3401f", "✗"),
        }[self.outcome]
        text = escape(repr(self)).replace("\n", "<br>")
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:4px 12px;'
            f'margin:4px 0">{sign} {text}</div>'
        )


class NotSolvedError(Exception):
    """Raised by an unsolved exercise cell: "not solved yet"."""


def not_solved() -> None:
    """Stand in an exercise cell for the code that the learner writes.

    >>> try:
    ...     not_solved()
    ... except NotSolvedError as error:
    ...     print(error)
    This exercise is not solved yet.
    """
    raise NotSolvedError("This exercise is not solved yet.")


def judge(exercise: Exercise, answer: Callable) -> Verdict:
    """Run `answer` on every case of `exercise` and say what came of it."""
    if not callable(answer):
        return Verdict(
            exercise.id, "wrong", f"Pass the function itself, not its result ({show(answer)})."
        )
    for case in exercise.cases():
        failed = _failure(case, answer)
        if failed:
            return Verdict(exercise.id, *failed)
    return Verdict(exercise.id, "solved", exercise.praise)


def _failure(case: Case, answer: Callable) -> tuple[str, str] | None:
    """Run `answer` on one case; return outcome and message where it is not right."""
    # A fresh copy: an answer that works in place must not spoil the case.
    arguments = tuple(_copy(argument) for argument in case.arguments)
    shown = case.shown or ", ".join(show(argument) for argument in case.arguments)
    try:
        result = answer(*arguments)
    except NotSolvedError:
        return "not solved", "write the function above, then check again."
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the learner is shown what it was
        raised = f"{type(error).__name__}: {_said(error)}{_learners_line(error)}"
        return "wrong", f"your function raised {raised} for ({shown}). {case.message}"
    if result is None or result is Ellipsis:
        return "not solved", "the function returns nothing; end it with return and your result."
    if not case.accepts(result):
        both = f"For ({shown}) you returned {show(result)}, expected {show(case.expected)}."
        return "wrong", f"{case.explain(result)} {both}"
    if case.dtype and not is_stored_as(result, case.dtype):
        wanted = "an integer type" if case.dtype == INTEGER else case.dtype
        return "wrong", (
            f"the numbers are right, but you returned them as {type_name(result)}; "
            f"return a tensor of {wanted}."
        )
    if not all(map(_untouched, arguments, case.arguments)):
        return "wrong", "your function changed its input in place; make a copy."
    return None


def source(function: Callable) -> str:
    """Return the source text of a function, without its indentation.

    >>> print(source(not_solved).splitlines()[0])
    def not_solved() -> None:
    """
    return textwrap.dedent(inspect.getsource(function))


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return value.copy() if isinstance(value, (np.ndarray, list, dict)) else value


def _untouched(now: Any, before: Any) -> bool:
    return same(now, before, 0.0)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a learner's exception may fail to show itself
        return "(it has no text that can be shown)"


def _learners_line(error: BaseException) -> str:
    """Name the line of the learner's own code, not one inside a library."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__
    ]
    return f" in your line “{frames[0].line}”" if frames and frames[0].line else ""
