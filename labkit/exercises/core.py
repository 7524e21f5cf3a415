"""Exercises: what one is, how an answer is judged, and where progress is kept.

An answer is a function that the learner writes. It is run on cases: inputs whose right result comes
from an independent oracle. The first case that fails says which mistake the result looks like.
Nothing here raises at the learner; a verdict is shown instead.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class Case:
    """One input and its right result.

    `looks_like` maps the message of a known mistake to the result which that mistake gives here;
    `message` is said when the result is wrong in some other way. Numbers and tensors are compared
    with `tolerance` (relative, and absolute for values below 1); integers and text exactly.

    >>> Case((2,), 4, "Square the number.", {"You doubled it.": 5}).expected
    4
    """

    arguments: tuple
    expected: Any
    message: str
    looks_like: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6


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
            exercise.id, "wrong", f"Pass the function itself, not its result ({answer!r})."
        )
    for case in exercise.cases():
        # A fresh copy: an answer that works in place must not spoil the case.
        arguments = tuple(_copy(argument) for argument in case.arguments)
        shown = ", ".join(_short(argument) for argument in case.arguments)
        try:
            result = answer(*arguments)
        except NotSolvedError:
            return Verdict(exercise.id, "not solved", "write the function above, then check again.")
        except Exception as error:  # noqa: BLE001 - whatever the learner's code raises is shown
            where = _learners_line(error)
            return Verdict(
                exercise.id,
                "wrong",
                f"your function raised {type(error).__name__}: {error}{where} for ({shown}). "
                f"{case.message}",
            )
        if result is None or result is Ellipsis:
            return Verdict(
                exercise.id,
                "not solved",
                "the function returns nothing; end it with return and your result.",
            )
        if not same(result, case.expected, case.tolerance):
            known = case.looks_like.items()
            message = next(
                (said for said, mistaken in known if same(result, mistaken, case.tolerance)),
                case.message,
            )
            return Verdict(
                exercise.id,
                "wrong",
                f"{message} For ({shown}) you returned {_short(result)}, "
                f"expected {_short(case.expected)}.",
            )
        changed = any(
            not same(now, before, 0.0)
            for now, before in zip(arguments, case.arguments, strict=True)
        )
        if changed:
            return Verdict(
                exercise.id, "wrong", "your function changed its input in place; make a copy."
            )
    return Verdict(exercise.id, "solved", exercise.praise)


def same(a: Any, b: Any, tolerance: float) -> bool:
    """Compare two results: exactly for integers and text, within `tolerance` for floats.

    >>> same((1, 0.1 + 0.2), (1, 0.3), 1e-9), same(1.0, 1.1, 1e-9)
    (True, False)
    """
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], tolerance) for k in b)
    if isinstance(b, (torch.Tensor, np.ndarray)) or isinstance(a, (torch.Tensor, np.ndarray)):
        try:
            x, y = (_array(value) for value in (a, b))
        except (TypeError, ValueError, RuntimeError):
            return False
        return x.shape == y.shape and np.allclose(x, y, tolerance, tolerance, equal_nan=True)
    if isinstance(a, (bool, str, bytes)) or isinstance(b, (bool, str, bytes)):
        return type(a) is type(b) and a == b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        close = math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
        return close or a == b or (a != a and b != b)
    return bool(a == b)


class Progress:
    """The learner's progress: a small file in their folder, id → {"solved": bool, "hints": n}."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep progress in `folder`; by default LAB_PROGRESS, or the notebook's own folder."""
        self.path = Path(folder or os.environ.get("LAB_PROGRESS") or Path.cwd()) / PROGRESS_FILE

    def read(self) -> dict[str, dict]:
        """Return what is stored; nothing when there is no file or it cannot be read."""
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(stored, dict):
            return {}
        return {key: value for key, value in stored.items() if isinstance(value, dict)}

    def update(self, id: str, **facts: Any) -> None:
        """Merge `facts` into the entry of one exercise."""
        stored = self.read()
        stored[id] = {**stored.get(id, {}), **facts}
        self._write(stored)

    def forget(self, id: str | None = None) -> None:
        """Forget one exercise, or all of them."""
        self._write({} if id is None else {k: v for k, v in self.read().items() if k != id})

    def _write(self, stored: dict) -> None:
        # Written beside it and moved into place, so that a crash cannot leave half a file.
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(stored, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(temporary, self.path)


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


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().double().cpu().numpy()
    return np.asarray(value, dtype=float)


def _short(value: Any) -> str:
    """Show a value in a few words: short tensors whole, long ones by their shape."""
    if isinstance(value, torch.Tensor):
        if value.numel() > 8:
            return f"a tensor of shape {tuple(value.shape)}"
        return f"{_rounded(value.tolist())} ({str(value.dtype).removeprefix('torch.')})"
    if isinstance(value, (tuple, list)):
        if len(value) > 8:
            return f"{type(value).__name__} of {len(value)}"
        inside = ", ".join(_short(item) for item in value)
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    text = str(_rounded(value)) if isinstance(value, float) else repr(value)
    return text if len(text) < 120 else text[:117] + "…"


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _learners_line(error: Exception) -> str:
    """Name the line of the learner's own code, not one inside a library."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__
    ]
    return f" in your line “{frames[0].line}”" if frames and frames[0].line else ""
