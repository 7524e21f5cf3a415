"""The panels of notebook 10 that let robots play, at every position, on a few episodes."""

import numpy as np
import pytest
import torch

from labkit.evaluate import Accuracy
from labkit.explorers import compounding, first_wrong, part_map, robot_runs, success_bytes
from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.panel import sweep
from labkit.explorers.robot_films import FLOAT
from labkit.explorers.robot_runs import BUNDLED, PARTS, Robot, nbytes, played, policy
from labkit.explorers.scene import Bars, Image, Photo, Points, Text
from labkit.files import header_bytes, save
from labkit.vla.env import MISSIONS
from labkit.vla.rollout import departure, held_out, roll_out

FEW = 12


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    monkeypatch.setattr(robot_runs, "EPISODES", FEW)
    monkeypatch.setattr(part_map, "EPISODES", FEW)
    monkeypatch.setattr(part_map, "SEEDS", (0,))
    cached = (success_bytes.at_random, compounding.agreement_of, compounding.departures)
    for function in (*cached, compounding._tallest, first_wrong.sureness):
        function.cache_clear()
    yield
    for function in (*cached, compounding._tallest, first_wrong.sureness):
        function.cache_clear()


# --- the robots ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [Robot(), Robot(3), Robot(2, "trained"), Robot(3, "mixed")])
def test_the_bytes_are_those_of_the_file(which, tmp_path):
    if which.bits == FLOAT:
        stored = policy(which).state_dict().values()
        # A counter of batch norm is no weight; the engine's file keeps it all the same.
        floats = sum(t.numel() * t.element_size() for t in stored)
        assert abs(nbytes(which) - floats) <= 100
        return
    save(policy(which), tmp_path / "robot.safetensors")
    size = (tmp_path / "robot.safetensors").stat().st_size
    assert nbytes(which) == size - header_bytes(tmp_path / "robot.safetensors")


def test_one_part_alone_is_rounded():
    whole, rounded = policy(), policy(Robot(2, part="language"))
    for name, weight in whole.named_parameters():
        if name.endswith(".weight") and weight.ndim > 1:
            now = rounded.get_submodule(name.removesuffix(".weight")).weight
            assert torch.equal(now, weight) != name.startswith("language."), name


def test_a_bundled_robot_of_mixed_widths_takes_no_more_than_three_bits():
    assert nbytes(Robot(3, "mixed")) <= nbytes(Robot(3, "channel"))
    bits = {m.bits for m in policy(Robot(3, "mixed")).modules() if hasattr(m, "bits")}
    assert len(bits) > 2


def test_played_is_what_the_policy_does_there():
    mine = roll_out(policy(Robot(4)), held_out(FEW))
    for a, b in zip(played(Robot(4)), mine, strict=True):
        assert a.end == b.end and np.array_equal(a.actions, b.actions)
    assert played(Robot(4)) is played(Robot(4))


def test_a_robot_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="way='magic'"):
        policy(Robot(3, "magic"))
    assert set(BUNDLED) == {("mixed", 3), ("trained", 3), ("trained", 2)}


# --- success against bytes ----------------------------------------------------------------------


def test_every_policy_stands_at_its_bytes_and_its_success():
    heights = set()
    for way, widths in success_bytes.OFFERED.items():
        for bits in widths:
            for mission in ("all", *MISSIONS):
                picture = success_bytes.scene(success_bytes.State(bits, way, mission))
                heights.add(picture_height(picture))
                own = [r for r in played(Robot(bits, way)) if mission in ("all", r.mission)]
                right = sum(r.end == "success" for r in own)
                found = Accuracy.of(right, len(own))
                said = float(picture.readout("success").value)
                assert said == pytest.approx(100 * right / len(own), abs=0.05)
                large = [m for m in picture.marks(Points) if m.size == 8]
                assert [m.y[0] for m in large] == pytest.approx([100 * found.value])
                assert large[0].x[0] == pytest.approx(nbytes(Robot(bits, way)) / 1000)
    assert len(heights) == 1


def test_the_slider_offers_the_widths_that_there_are(monkeypatch):
    monkeypatch.setattr(success_bytes, "OFFERED", {**success_bytes.OFFERED})
    panel = success_bytes.explorer(bits=8)
    panel.set(way="trained")
    assert not panel.error and panel.state.bits in (3, 2)
    panel.set(way="mixed")
    assert not panel.error and panel.state.bits == 3


# --- part by part -------------------------------------------------------------------------------


def test_every_cell_is_its_own_robot():
    for state, picture in sweep(part_map.scene, part_map.State(), part_map.controls()):
        (image,) = picture.marks(Image)
        for i, part in enumerate(PARTS):
            for j, bits in enumerate(part_map.WIDTHS):
                right = sum(r.success for r in played(Robot(bits, part=part), FEW))
                assert image.pixels[i][j] == pytest.approx(1 - right / FEW)
        words = [m.text for m in picture.marks(Text)]
        assert f"{picture.readout('success').value} %" in words
        assert state.part in PARTS


def test_the_shares_are_those_of_the_weights():
    assert sum(part_map.shares().values()) == pytest.approx(100)
    largest = max(part_map.shares(), key=part_map.shares().get)
    assert largest == "fusion"


def test_the_worst_part_leaves_least():
    for bits in part_map.WIDTHS:
        left = {p: sum(r.success for r in played(Robot(bits, part=p), FEW)) for p in PARTS}
        names = part_map.worst(bits, 0).split(" and ")
        assert {left[name] for name in names} == {min(left.values())}


# --- agreement and partings ---------------------------------------------------------------------


def test_other_actions_are_counted_in_the_rooms_of_the_float_robot():
    for bits in compounding.WIDTHS:
        same = total = 0
        for r in played():
            for room, action in zip(r.rooms[:-1], r.actions, strict=True):
                shares = first_wrong.wanted(bits, room.tobytes(), r.sentence)
                same, total = same + (int(np.argmax(shares)) == action), total + 1
        assert compounding.agreement_of(bits) == pytest.approx(same / total, abs=1.5 / total)


def test_the_bars_hold_every_parting_once():
    for state, picture in sweep(compounding.scene, compounding.State(), compounding.controls()):
        parted = compounding.departures(state.bits)
        bars = [m for m in picture.marks(Bars) if m.x[0] > 0]
        assert sum(m.heights[0] - m.baseline for m in bars) == len(parted)
        assert picture.readout("other action in").value == f"{len(parted)} of {FEW}"


def test_if_each_were_the_end_is_a_mean_of_powers():
    steps = [len(r.actions) for r in played() if r.success]
    assert compounding.fatal(0.9) == pytest.approx(sum(0.9**n for n in steps) / FEW)
    assert compounding.fatal(1.0) == sum(r.success for r in played()) / FEW


def test_a_parting_shows_the_room_where_both_still_are():
    for bits in first_wrong.WIDTHS:
        for followed in first_wrong.KINDS:
            cases = first_wrong.partings(bits, followed)
            offered = first_wrong.limits(first_wrong.State(bits, 1, followed))["case"]["max"]
            assert offered == max(len(cases), 1)
            for case, (one, other, step) in enumerate(cases, 1):
                picture = first_wrong.scene(first_wrong.State(bits, case, followed))
                assert step == departure(one, other)
                assert np.array_equal(one.rooms[step], other.rooms[step])
                shown = len(list(picture.marks(Photo)))
                assert shown == 1 + min(first_wrong.STRIP, len(other.actions) - step)
                tall = [max(zip(m.heights, m.x, strict=True))[1] for m in picture.marks(Bars)]
                assert [round(x) for x in tall] == [one.actions[step], other.actions[step]]


def test_how_sure_it_was_is_the_largest_share_at_each_parting():
    for followed in first_wrong.KINDS:
        cases = first_wrong.partings(3, followed)
        own = [
            max(first_wrong.wanted(3, other.rooms[step].tobytes(), one.sentence))
            for one, other, step in cases
        ]
        assert first_wrong.sureness(3, followed) == pytest.approx(own, abs=1e-4)
        assert own[first_wrong.telling(3, followed) - 1 :][:1] == ([max(own)] if own else [])


def test_the_title_says_how_many_actions_differ_and_what_that_costs():
    for bits in compounding.WIDTHS:
        title = compounding.scene(compounding.State(bits)).title
        agreed = compounding.agreement_of(bits)
        right = [sum(r.success for r in played(Robot(*more))) for more in ((), (bits,))]
        points = 100 * (right[1] - right[0]) / FEW
        said = "the same" if not points else f"{abs(points):.1f} points"
        assert said in title and "another action in" in title
        assert float(title.partition(" in ")[2].partition(" %")[0]) == pytest.approx(
            100 * (1 - agreed), rel=0.06, abs=1e-9
        )


def test_without_a_parting_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(first_wrong, "partings", lambda bits, followed: [])
    picture = first_wrong.scene(first_wrong.State(6))
    assert picture.readout("partings").value == 0
    full = picture_height(first_wrong.scene(first_wrong.State(6)))
    assert picture_height(picture) == full


def test_they_are_panels():
    for panel in (compounding.explorer(), first_wrong.explorer(), part_map.explorer()):
        assert not panel.error and panel.svg.startswith("<svg")
