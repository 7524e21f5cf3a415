"""The judge, its verdicts, and what a learner calls."""

import json
from dataclasses import replace

import pytest
import torch

from labkit import exercises
from labkit.exercises.compare import same
from labkit.exercises.core import Case, Exercise, NotSolvedError, judge, not_solved


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


def test_only_the_last_hint_says_where_to_go_on(lab):
    said = [exercises.hint("9.9").splitlines()[1:] for _ in range(4)]
    last = ['That was the last; solution("9.9") shows an answer.']
    assert said == [[], [], last, last]


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


@pytest.mark.parametrize("id", [9.9, " 9.9 ", "9.9"])
def test_an_id_without_its_quotes_is_understood(lab, id):
    assert exercises.check(id, double).passed
    assert "Hint 1 of 3" in exercises.hint(id)
    assert json.loads((lab / "progress.json").read_text()) == {"9.9": {"solved": True, "hints": 1}}
    assert exercises.solution(id).startswith("def double")
    assert exercises.reset(id).startswith("Progress of 9.9 is forgotten")


def test_a_list_is_no_id(lab):
    with pytest.raises(ValueError, match="there is no exercise"):
        exercises.check(["9.9"], double)


class Hostile:
    """An object that says yes to every comparison and cannot be shown."""

    def __eq__(self, other):
        return True

    def __repr__(self):
        raise RuntimeError("no text")


class Broken:
    """An object that refuses to be compared, turned into an array, or shown."""

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no array")

    __repr__ = __str__ = __array__


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def inside_itself():
    items = []
    items.extend([items, items])
    return items


@pytest.mark.parametrize(
    "result",
    [
        10**400,
        10**5000,
        inside_itself(),
        torch.ones(2, device="meta"),
        Hostile(),
        Broken(),
        [Broken()],
        6j,
        "6",
    ],
    ids=lambda result: type(result).__name__,
)
def test_no_result_however_strange_stops_the_judge(result):
    assert judge(DOUBLE, lambda n: result).outcome == "wrong"
    # The second case expects a tensor.
    assert judge(DOUBLE, lambda n: 6 if same(n, 3, 0.0) else result).outcome == "wrong"
    assert judge(DOUBLE, result).outcome == "wrong"


@pytest.mark.parametrize("error", [Mute(), SystemExit(), SystemExit(3), RecursionError("deep")])
def test_no_exception_of_an_answer_stops_the_judge(error):
    def broken(n):
        raise error

    verdict = judge(DOUBLE, broken)
    assert verdict.outcome == "wrong"
    assert type(error).__name__ in verdict.message


@pytest.mark.parametrize(
    ("dtype", "answer", "says"),
    [
        ("uint8", torch.uint8, None),
        ("uint8", torch.int64, "as int64; return a tensor of uint8"),
        ("uint8", torch.float32, "as float32; return a tensor of uint8"),
        ("integer", torch.int16, None),
        ("integer", torch.float64, "as float64; return a tensor of an integer type"),
        ("integer", list, "as list; return a tensor of an integer type"),
        ("", torch.float64, None),
    ],
)
def test_a_case_may_say_how_its_result_is_stored(dtype, answer, says):
    case = Case(([1, 2],), torch.tensor([1, 2]), "The same.", dtype=dtype)
    exercise = replace(DOUBLE, cases=lambda: [case])
    verdict = judge(exercise, list if answer is list else lambda n: torch.tensor(n, dtype=answer))
    assert verdict.passed == (says is None)
    assert says is None or says in verdict.message
