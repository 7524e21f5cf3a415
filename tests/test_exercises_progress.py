"""The progress file: read with care, written without losing anything, never in the way."""

import json
import os

import pytest

from labkit import exercises
from labkit.exercises.progress import Progress

BROKEN = ["", "{", "[]", '"text"', "[" * 100_000, b"\xff\xfe{\x00", '{"1.1": {"solved": tr']
RIGHT = exercises.all_exercises()["1.1"].solution


@pytest.fixture
def lab(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path))
    return tmp_path


def stored(folder):
    return json.loads((folder / "progress.json").read_text())


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_an_unreadable_file_is_moved_aside_before_a_new_one_is_written(lab, content):
    content = content if isinstance(content, bytes) else content.encode()
    (lab / "progress.json").write_bytes(content)
    (lab / "progress.broken.json").write_text("an earlier one")
    assert Progress().read() == {}
    verdict = exercises.check("1.1", RIGHT)
    assert verdict.passed
    assert "kept in progress.broken2.json" in verdict.message
    assert stored(lab) == {"1.1": {"solved": True}}
    assert (lab / "progress.broken2.json").read_bytes() == content
    assert (lab / "progress.broken.json").read_text() == "an earlier one"
    assert "kept" not in exercises.check("1.1", RIGHT).message


def test_a_byte_order_mark_is_no_error(lab):
    (lab / "progress.json").write_text('{"1.2": {"solved": true}}', encoding="utf-8-sig")
    exercises.check("1.1", RIGHT)
    assert stored(lab) == {"1.1": {"solved": True}, "1.2": {"solved": True}}


@pytest.mark.parametrize(
    "entry",
    [3, None, [], {}, {"hints": None}, {"hints": "2"}, {"hints": 4}, {"hints": -1}, {"hints": 1.5},
     {"hints": True}, {"solved": "no"}, {"solved": 1}, {"solved": None}],
    ids=str,
)  # fmt: skip
def test_an_entry_that_makes_no_sense_counts_as_none(lab, entry):
    (lab / "progress.json").write_text(json.dumps({"1.1": entry, "1.2": {"solved": True}}))
    assert Progress().read() == {"1.2": {"solved": True}}
    assert "○ 1.1" in exercises.status()
    assert "✓ 1.2" in exercises.status()
    assert exercises.hint("1.1").startswith("Hint 1 of 3")
    assert stored(lab) == {"1.1": {"hints": 1}, "1.2": {"solved": True}}


def missing_folder(path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(path / "missing"))


def a_file_for_a_folder(path, monkeypatch):
    (path / "file").write_text("")
    monkeypatch.setenv("LAB_PROGRESS", str(path / "file"))


def a_folder_for_the_file(path, monkeypatch):
    (path / "progress.json").mkdir()
    monkeypatch.setenv("LAB_PROGRESS", str(path))


def deleted_folder(path, monkeypatch):
    folder = path / "gone"
    folder.mkdir()
    monkeypatch.delenv("LAB_PROGRESS", raising=False)
    monkeypatch.chdir(folder)
    folder.rmdir()


def unwritable_folder(path, monkeypatch):
    path.chmod(0o500)
    monkeypatch.setenv("LAB_PROGRESS", str(path))
    if os.access(path, os.W_OK):
        pytest.skip("this user may write everywhere")


@pytest.mark.parametrize(
    "trouble",
    [missing_folder, a_file_for_a_folder, a_folder_for_the_file, deleted_folder, unwritable_folder],
)
def test_a_right_answer_counts_where_nothing_can_be_saved(trouble, tmp_path, monkeypatch):
    trouble(tmp_path, monkeypatch)
    verdict = exercises.check("1.1", RIGHT)
    assert verdict.passed
    for said in (verdict.message, exercises.hint("1.1"), exercises.reset(), exercises.reset("1.1")):
        assert "(your progress could not be saved: " in said
    assert exercises.status().startswith("0 of ")


def test_a_wrong_answer_leaves_the_file_alone(lab):
    assert not exercises.check("1.1", lambda low, high, bits: 0).passed
    assert not (lab / "progress.json").exists()


def test_forgetting_one_keeps_the_others(lab):
    progress = Progress()
    assert progress.update("1.1", solved=True) == progress.update("1.2", hints=3) == ""
    assert progress.forget("1.1") == ""
    assert progress.read() == {"1.2": {"hints": 3}}
    assert Progress(lab).forget() == ""
    assert progress.read() == {}
