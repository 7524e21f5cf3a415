"""The progressive schedule's panel: both ways get the same epochs, and are compared in pairs."""

import pytest
import torch

from labkit.data import load_mnist
from labkit.evaluate import Accuracy
from labkit.explorers import schedule
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Band, Line
from labkit.explorers.schedule import EPOCHS, PARTS, SHARES, State, Way, compared, controls, scene


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(schedule, "IMAGES", 128)
    schedule.way.cache_clear()
    yield
    schedule.way.cache_clear()


@pytest.fixture
def made_up(monkeypatch):
    """Ways with numbers that a test can know."""

    def way(share, granularity, step_rule):
        right = {"direct": 900, "even": 850, "late": 899}[share] + (granularity == "channel")
        points = [(i / PARTS, Accuracy.of(right, 1000)) for i in range(1, EPOCHS * PARTS + 1)]
        return Way(tuple(points), tuple(i < right for i in range(1000)))

    monkeypatch.setattr(schedule, "way", way)


@pytest.mark.parametrize("share", ["direct", *SHARES])
def test_each_way_learns_for_six_epochs_and_ends_at_two_bits(few_images, share, monkeypatch):
    seen = []
    real = schedule.train_progressively
    monkeypatch.setattr(
        schedule, "train_progressively", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1]
    )
    found = schedule.way(share, "channel", "range")
    (stages,) = seen
    assert sum(len(stage.history) for stage in stages) == EPOCHS * PARTS == len(found.points)
    assert found.points[-1][0] == EPOCHS
    assert stages[-1].weight_grids["fc1"].quant_max == 1
    widths = [stage.weight_grids["fc1"].quant_max for stage in stages]
    assert widths == ([1] if share == "direct" else [127, 7, 1])
    # What is compared in the end is what was measured last.
    assert found.quality == found.points[-1][1]
    assert len(found.right) == len(load_mnist().test_images)


def test_both_ways_begin_with_the_same_images(few_images, monkeypatch):
    firsts = []
    real = schedule.Parts

    def parts(*arguments):
        firsts.append(next(iter(real(*arguments)))[0])
        return real(*arguments)

    monkeypatch.setattr(schedule, "Parts", parts)
    for share in ("direct", "even"):
        schedule.way(share, "tensor", "learned")
    assert torch.equal(*firsts)


def test_every_position_shows_both_ways_and_their_difference(made_up):
    for state, picture in sweep(scene, State(), controls()):
        stages = {"even": 85.0, "late": 89.9}[state.share] + 0.1 * (state.granularity == "channel")
        direct = 90.0 + 0.1 * (state.granularity == "channel")
        assert picture.readout("8 → 4 → 2 bits").value == f"{stages:.1f} %"
        assert picture.readout("2 bits all the time").value == f"{direct:.1f} %"
        wanted = "−5.0" if state.share == "even" else "−0.1"
        assert picture.readout("the schedule gains").value == wanted
        resolved = "resolved" if state.share == "even" else "not resolved"
        assert picture.readout("that is").value == resolved
        eight, two = picture.marks(Band)
        first, second, last = SHARES[state.share]
        assert (eight.low, eight.high) == (0, first)
        assert (two.low, two.high) == (first + second, first + second + last) == (two.low, EPOCHS)
        assert {m.label for m in picture.marks(Line)} == {"2 bits all the time", "8 → 4 → 2 bits"}


def test_the_difference_counts_the_images_that_only_one_reads():
    a = Way((), (True, True, False, False, True))
    b = Way((), (True, False, True, False, False))
    found = compared(a, b)
    assert (found.only_first, found.only_second, found.n) == (2, 1, 5)


def test_an_unknown_share_lists_the_known():
    with pytest.raises(ValueError, match="even, late"):
        scene(State("never"))
