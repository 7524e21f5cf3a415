"""The judge, the verdicts and the progress file."""

import json

import numpy as np
import pytest
import torch

from labkit import exercises
from labkit.exercises.core import Case, Exercise, NotSolvedError, Progress, judge, not_solved, same


def double(n):
    return 2 * n


DOUBLE = Exercise(
    id="9.9",
    title="Double it",
    difficulty=1,
    minutes=1,
    hints=("Twice?", "Add it to itself.", "return n + n"),
    cases=lambda: [
        Case((3,), 6, "Twice the number is wanted.", {"You squared it.": 9}),
        Case((torch.tensor([1.0, 2.0]),), torch.tensor([2.0, 4.0]), "Tensors double too."),
    ],
    solution=double,
    praise="Doubled.",
    wrong=(),
)


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path))
    monkeypatch.setattr(exercises, "all_exercises", lambda: {DOUBLE.id: DOUBLE})
    return tmp_path


def test_a_right_answer_is_remembered(lab):
    verdict = exercises.check("9.9", double)
    assert repr(verdict) == "9.9 solved: Doubled."
    assert "✓ 9.9" in exercises.status()
    assert json.loads((lab / "progress.json").read_text()) == {"9.9": {"solved": True}}


def test_a_known_mistake_is_named():
    assert "You squared it." in judge(DOUBLE, lambda n: n * n).message


def test_an_unknown_mistake_gets_the_message_of_the_case_and_both_results():
    message = judge(DOUBLE, lambda n: n + 1).message
    assert "Twice the number is wanted." in message
    assert "returned 4" in message
    assert "expected 6" in message


def test_not_solved_is_said_plainly():
    def stub(n):
        not_solved()

    for answer in (stub, lambda n: None, lambda n: ...):
        verdict = judge(DOUBLE, answer)
        assert not verdict.passed
        assert "9.9 not solved yet" in repr(verdict)
    with pytest.raises(NotSolvedError, match="not solved yet"):
        not_solved()


def test_an_exception_is_shown_with_the_learners_line():
    def broken(n):
        return n + undefined_name  # noqa: F821

    message = judge(DOUBLE, broken).message
    assert "NameError" in message
    assert "return n + undefined_name" in message


def test_changing_the_input_in_place_is_refused():
    def in_place(n):
        return n.mul_(2) if isinstance(n, torch.Tensor) else 2 * n

    assert "in place" in judge(DOUBLE, in_place).message


def test_a_result_instead_of_a_function_is_refused():
    assert "function itself" in judge(DOUBLE, 6).message


def test_hints_come_one_after_another_and_stay_at_the_last(lab):
    assert [exercises.hint("9.9")[:11] for _ in range(4)] == [
        "Hint 1 of 3",
        "Hint 2 of 3",
        "Hint 3 of 3",
        "Hint 3 of 3",
    ]


def test_reset_forgets(lab):
    exercises.check("9.9", double)
    exercises.reset("9.9")
    assert "○ 9.9" in exercises.status()


def test_the_solution_is_source_that_runs(lab):
    namespace = {}
    exec(exercises.solution("9.9"), namespace)
    assert judge(DOUBLE, namespace["double"]).passed


def test_an_unknown_id_lists_the_known_ones(lab):
    with pytest.raises(ValueError, match=r"9\.9"):
        exercises.check("8.8", double)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"9.9": 3}'])
def test_a_broken_progress_file_counts_as_empty(tmp_path, content):
    (tmp_path / "progress.json").write_text(content)
    assert Progress(tmp_path).read() == {}


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1, 1.0, True),
        (1, 2, False),
        (True, 1, False),
        ("a", "a", True),
        ((1, 2), [1, 2], True),
        ((1, 2), (1, 2, 3), False),
        (torch.tensor([1, 2]), [1, 2], True),
        (torch.tensor([1, 2]), torch.tensor([[1, 2]]), False),
        (np.array([1.0]), torch.tensor([1.0]), True),
        (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True),
        (torch.tensor([float("nan")]), torch.tensor([0.0]), False),
        ("text", torch.tensor([0.0]), False),
        (None, 0, False),
        ({"a": 1}, {"a": 1.0}, True),
    ],
)
def test_same(a, b, equal):
    assert same(a, b, 1e-9) == equal
