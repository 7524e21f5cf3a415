"""Scenes are plain data that refuse what cannot be drawn."""

import numpy as np
import pytest
import torch

from labkit.explorers import scene as s
from labkit.explorers.drawing import frame


def test_arrays_of_any_kind_become_equal_scenes():
    lists = s.Line([0, 1, 2], [1, 2, 3])
    assert lists == s.Line(np.arange(3), np.arange(1, 4))
    weights = torch.arange(1.0, 4.0, requires_grad=True)
    assert lists == s.Line(torch.arange(3), weights)
    assert hash(lists) == hash(s.Line((0, 1, 2), (1, 2, 3)))


def test_ticks_and_labels_of_any_kind_become_tuples():
    plain = s.Axis("x", 0, 2, ticks=(0, 1, 2), labels=("a", "b", "c"))
    for ticks, labels in (
        ([0, 1, 2], ["a", "b", "c"]),
        (np.arange(3), np.array(["a", "b", "c"])),
        (torch.arange(3), iter("abc")),
    ):
        axis = s.Axis("x", 0, 2, ticks=ticks, labels=labels)
        assert axis == plain and hash(axis) == hash(plain)
        assert [label for _, label in frame.ticks(axis, 300)] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="as many labels as ticks"):
        s.Axis("x", 0, 1, labels=["a"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda v: s.Line([0, v], [0, 1]),
        lambda v: s.Steps([0, 1], [v]),
        lambda v: s.Bars([0], [v]),
        lambda v: s.Points([v], [0]),
        lambda v: s.Stems([0], [v]),
        lambda v: s.Band(0, v),
        lambda v: s.Rule(v),
        lambda v: s.Text(v, 0, "a"),
        lambda v: s.Hits([0], [1], [v], [0], tips=["a"]),
        lambda v: s.Cells([v], [0]),
        lambda v: s.Image([[v]], 0, 1, 0, 1),
    ],
)
def test_not_finite_is_refused_by_name(make, bad):
    with pytest.raises(ValueError, match=r"^[A-Z][a-z]+\..*: got NaN or infinity"):
        make(bad)


@pytest.mark.parametrize("kind", [s.Line, s.Points, s.Bars, s.Stems, s.Cells])
def test_empty_data_are_refused_by_name(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}.x: got no data"):
        kind([], [])


def test_wrong_shapes_and_names_say_what_would_work():
    with pytest.raises(ValueError, match="one row of numbers"):
        s.Line([[0, 1]], [[0, 1]])
    with pytest.raises(ValueError, match="lengths differ"):
        s.Line([0, 1], [0])
    with pytest.raises(ValueError, match=r"lengths differ.*tips"):
        s.Points([0, 1], [0, 1], tips=["only one"])
    with pytest.raises(ValueError, match="one edge more"):
        s.Steps([0, 1], [1, 2])
    with pytest.raises(ValueError, match=r"choose one of .*quantized"):
        s.Line([0], [0], "purple")
    with pytest.raises(ValueError, match=r"Cells.*choose one of"):
        s.Cells([0], [0], roles=["purple"])
    with pytest.raises(ValueError, match="low < high"):
        s.Axis("x", 1, 1)
    with pytest.raises(ValueError, match="low > 0"):
        s.Axis("x", 0, 1, scale="log")
    with pytest.raises(ValueError, match="as many labels as ticks"):
        s.Axis("x", 0, 1, ticks=[0, 1], labels=["a"])
    with pytest.raises(ValueError, match="measured"):
        s.Readout("a", 1, kind="guessed")
    with pytest.raises(ValueError, match="use x, y, both or none"):
        s.Plot((), grid="all")
    with pytest.raises(ValueError, match="give \\(rows, columns\\)"):
        s.Image(np.zeros(3), 0, 1, 0, 1)
    with pytest.raises(ValueError, match="got no tips"):
        s.Hits([0], [1], [0], [0], tips=())


def test_words_are_rounded_and_find_their_readout():
    scene = s.Scene("T", readouts=[s.Readout("a", 1.23456, "V"), s.Readout("b", "127.55")])
    assert scene.words() == "T. a: 1.23 V (computed). b: 127.55 (computed)."
    assert scene.readout("b").value == "127.55"
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        scene.readout("c")


def test_marks_are_found_by_kind():
    first, second = s.Rule(0), s.Line([0, 1], [0, 1])
    scene = s.Scene("T", [s.Plot([first]), [s.Plot([second]), s.Plot([first])]])
    assert list(scene.marks(s.Rule)) == [first, first]
    assert len(list(scene.marks())) == 3
