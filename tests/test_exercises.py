"""Every exercise three ways: its solution passes, its stub is not solved, its wrong answers fail.

How many wrong answers were rejected is printed at the end of the run (see conftest.py).
"""

import ast
import json
import re
from pathlib import Path

import pytest

from labkit.exercises import all_exercises
from labkit.exercises.core import judge, source

EXERCISES = all_exercises()
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
WRONG = [(exercise, wrong) for exercise in EXERCISES.values() for wrong in exercise.wrong]


def stubs() -> dict[str, str]:
    """Exercise id → the source of the notebook cell that checks it, without the check."""
    found = {}
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            match = re.search(r'^check\("([\d.]+)", (\w+)\)', text, re.MULTILINE)
            if cell["cell_type"] == "code" and match:
                found[match[1]] = text[: match.start()] + f"\nanswer = {match[2]}\n"
    return found


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.id)
def test_the_solution_passes(exercise):
    verdict = judge(exercise, exercise.solution)
    assert verdict.passed, verdict


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.id)
def test_the_solution_passes_as_a_learner_would_paste_it(exercise):
    namespace = {}
    exec("from __future__ import annotations\nimport math\nimport torch\n", namespace)
    exec("from torch import Tensor\n" + source(exercise.solution), namespace)
    assert judge(exercise, namespace[exercise.solution.__name__]).passed


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.id)
def test_the_stub_in_the_notebook_is_not_solved_yet(exercise):
    text = stubs().get(exercise.id)
    assert text is not None, f"no notebook checks exercise {exercise.id}"
    namespace = {}
    exec("import math\nimport torch\nfrom torch import Tensor\n", namespace)
    exec("from labkit.exercises import not_solved\n" + text, namespace)
    verdict = judge(exercise, namespace["answer"])
    assert repr(verdict).startswith(f"{exercise.id} not solved yet")


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda e: e.id)
def test_the_stub_asks_for_what_the_solution_answers(exercise):
    definition = next(
        node for node in ast.parse(stubs()[exercise.id]).body if isinstance(node, ast.FunctionDef)
    )
    solution = ast.parse(source(exercise.solution)).body[0]
    assert [a.arg for a in definition.args.args] == [a.arg for a in solution.args.args]
    assert ast.get_docstring(definition)


@pytest.mark.parametrize(
    ("exercise", "wrong"), WRONG, ids=[f"{e.id}-{w.name}".replace(" ", "-") for e, w in WRONG]
)
def test_a_wrong_answer_is_rejected_by_a_message_that_names_the_mistake(
    exercise, wrong, record_property
):
    verdict = judge(exercise, wrong.answer)
    record_property("wrong_answer_rejected", verdict.outcome == "wrong")
    assert verdict.outcome == "wrong", verdict
    assert wrong.says.lower() in verdict.message.lower(), verdict


def test_a_zero_point_may_be_computed_in_either_order():
    def divide_last(low, high, bits):
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            return 1.0, 0
        steps = 2**bits - 1
        return (high - low) / steps, round(-low * steps / (high - low))

    # The task's own formula misses some ties of symmetric ranges; no case may lie there.
    assert EXERCISES["1.1"].solution(-0.555513858795166, 0.555513858795166, 8)[1] == 127
    assert divide_last(-0.555513858795166, 0.555513858795166, 8)[1] == 128
    assert judge(EXERCISES["1.1"], divide_last).passed


def test_there_are_enough_exercises_and_wrong_answers():
    for notebook in ("1", "2", "3", "4", "5", "6", "7", "8", "9"):
        assert sum(id.split(".")[0] == notebook for id in EXERCISES) >= 3
    assert len(WRONG) >= 80
    assert all(len(exercise.hints) == 3 and exercise.wrong for exercise in EXERCISES.values())


def test_wrong_answers_differ_from_each_other():
    names = [(exercise.id, wrong.name) for exercise, wrong in WRONG]
    assert len(names) == len(set(names))
