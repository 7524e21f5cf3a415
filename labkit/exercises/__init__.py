"""Exercises for the learner: check, hint, solution, status, reset.

    check("1.1", my_function)   is it right, and if not, which mistake is it?
    hint("1.1")                 the next of three hints
    solution("1.1")             a worked solution, to read
    status()                    what is solved
    reset("1.1")                start one again; reset() starts all

Progress is kept in `progress.json` in the notebook's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

from labkit.exercises.core import (
    Exercise,
    NotSolvedError,
    Verdict,
    judge,
    not_solved,
    source,
)
from labkit.exercises.progress import Progress

__all__ = [
    "NotSolvedError",
    "Verdict",
    "all_exercises",
    "check",
    "hint",
    "not_solved",
    "reset",
    "solution",
    "status",
]


def all_exercises() -> dict[str, Exercise]:
    """Return every exercise by id, in the order of the notebooks.

    Each module nb00, nb01, … in this folder holds a tuple EXERCISES.

    >>> isinstance(all_exercises(), dict)
    True
    """
    names = sorted(m.name for m in iter_modules(__path__) if m.name.startswith("nb"))
    modules = [import_module(f"{__name__}.{name}") for name in names]
    return {exercise.id: exercise for module in modules for exercise in module.EXERCISES}


def check(id: str, answer: Callable) -> Verdict:
    """Judge the learner's function and remember it when it is right.

    Returns a verdict to show; raises ValueError only for an id that does not exist.
    """
    exercise = _find(id)
    verdict = judge(exercise, answer)
    if verdict.passed:
        note = Progress().update(exercise.id, solved=True)
        verdict = replace(verdict, message=verdict.message + note)
    return verdict


def hint(id: str) -> Text:
    """Show the next hint: first a question, then the idea, then almost the code.

    The last one is shown again and again, and says how to go on.
    """
    exercise, progress = _find(id), Progress()
    used = min(progress.read().get(exercise.id, {}).get("hints", 0), len(exercise.hints) - 1)
    note = progress.update(exercise.id, hints=used + 1)
    is_last = used + 1 == len(exercise.hints)
    more = f'\nThat was the last; solution("{exercise.id}") shows an answer.' if is_last else ""
    return Text(f"Hint {used + 1} of {len(exercise.hints)}: {exercise.hints[used]}{more}{note}")


def solution(id: str) -> Text:
    """Show a worked solution."""
    return Text(source(_find(id).solution))


def status() -> Text:
    """Show every exercise and whether it is solved."""
    stored = Progress().read()
    exercises = all_exercises().values()
    lines = [
        f"{'✓' if stored.get(e.id, {}).get('solved') else '○'} {e.id}  {e.title}  "
        f"({'★' * e.difficulty}, {e.minutes} min)"
        for e in exercises
    ]
    solved = sum(line.startswith("✓") for line in lines)
    return Text("\n".join([f"{solved} of {len(lines)} solved", *lines]))


def reset(id: str | None = None) -> Text:
    """Forget the progress of one exercise, or of all of them; your code stays as it is."""
    name = None if id is None else _find(id).id
    note = Progress().forget(name)
    whose = name or "every exercise"
    return Text(f"Progress of {whose} is forgotten; your code stays as it is.{note}")


class Text(str):
    """A text that a notebook shows as it is, without quotes.

    >>> Text("two\\nlines")
    two
    lines
    """

    def __repr__(self) -> str:
        """Show the bare text."""
        return str(self)


def _find(id: str) -> Exercise:
    exercises = all_exercises()
    # check(1.1, …) without the quotes is meant well.
    name = str(id).strip()
    if name not in exercises:
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(exercises)}")
    return exercises[name]
