"""The planner's panels at every position: plans, requests, predictions, by own counts."""

from types import SimpleNamespace

import numpy as np
import pytest

from labkit.evaluate import Accuracy
from labkit.explorers import margin, plan_picture, planner_run, request_words, two_cases
from labkit.explorers.drawing.frame import picture_height
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.request_words import EXAMPLES
from labkit.explorers.scene import Bars, Points, Text
from labkit.quantize import quantize_model
from labkit.refusal import Infeasible
from labkit.verification import FLOAT, FLOAT_ENGINE, Check, Loss, file_bytes
from labkit.vla.survey import BITS, EPISODES, survey
from labkit.vla.zoo import robot


@pytest.fixture(scope="module")
def known():
    return survey()


def summed(known, choice):
    return sum(row[option] for row, option in zip(known.features.loss, choice, strict=True))


def test_a_plan_keeps_the_size_and_no_measured_plan_of_that_size_is_predicted_better(known):
    plans = [*known.random.choices, *known.best.choices, *known.uniform.choices]
    for kilobytes in range(160, 401, 20):
        chosen = plan_picture.plan(plan_picture.State("size", kilobytes).requirement)
        assert plan_picture.file_size(chosen) <= 1000 * kilobytes
        fitting = [c for c in plans if plan_picture.file_size(tuple(c)) <= 1000 * kilobytes]
        assert summed(known, chosen) <= min(summed(known, c) for c in fitting) + 1e-9


def test_the_size_of_a_plan_is_that_of_its_file(known):
    for choice in (known.random.choices[0], known.uniform.choices[1]):
        widths = dict(zip(known.features.layers, (BITS[c] for c in choice), strict=True))
        size = file_bytes(quantize_model(robot(), bits=widths)[0])
        # The header names widths and places, whose digits differ by a few bytes.
        assert plan_picture.file_size(tuple(choice)) == pytest.approx(size, abs=200)


def test_more_loss_never_takes_more_bytes():
    sizes = [
        plan_picture.file_size(
            plan_picture.plan(plan_picture.State("loss", 190, points).requirement)
        )
        for points in np.arange(0.5, 20.1, 0.5).tolist()
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_every_position_of_the_sheet_shows_the_plan(known):
    made = plan_picture.controls()
    made["kilobytes"].step, made["points"].step = 35, 6.5
    height = picture_height(plan_picture.scene(plan_picture.State()))
    for state, picture in sweep(plan_picture.scene, plan_picture.State(), made):
        # The page must not jump under the slider.
        assert picture_height(picture) == height
        chosen = plan_picture.plan(state.requirement)
        bars = list(picture.marks(Bars))
        bits = [height for bar in bars for height in bar.heights]
        if chosen is None:
            assert not any(bits)
            continue
        assert bits == [BITS[option] for option in chosen]
        (ring,) = (m for m in picture.marks(Points) if m.label == "the plan")
        assert ring.x[0] == plan_picture.file_size(chosen) / 1000
        dots = next(m for m in picture.marks(Points) if m.label == "random")
        assert [round(y * EPISODES / 100) for y in dots.y] == known.random.right.tolist()


def test_what_no_widths_keep_is_said():
    state = plan_picture.State("size", 150)
    assert plan_picture.plan(state.requirement) is None
    assert plan_picture.scene(state).readout("the plan's file").value == "none fits"


def test_the_button_makes_the_plan_and_it_stays(monkeypatch):
    monkeypatch.setattr(plan_picture, "make", lambda choice: Accuracy.of(90, 150))
    panel = plan_picture.explorer()
    assert panel.scene.readout("success, measured").value == "press Make"
    before = panel.words()
    panel.make()
    assert panel.scene.readout("success, measured").value == "60.0 %"
    # What was measured now differs elsewhere, and no stored text may hold it.
    assert panel.words() == before
    panel.set(kilobytes=300)
    assert [m for m in panel.scene.marks(Points) if m.label == "made"]


@pytest.mark.parametrize(
    ("request_", "outcome"),
    [*zip(EXAMPLES, ["understood"] * 6 + ["asked back"] * 2 + ["refused"] * 4, strict=True)],
)
def test_every_example_is_read_as_the_notebook_says(request_, outcome):
    reading = request_words.read(request_)
    assert reading.outcome == outcome
    for words, _ in reading.lines:
        assert words in request_
    assert (reading.requirement is None) == (outcome != "understood")


def test_all_requests_fill_the_same_picture():
    heights = {
        picture_height(request_words.scene(request_words.State(request))) for request in EXAMPLES
    }
    assert len(heights) == 1


def test_list_and_text_agree():
    panel = request_words.explorer()
    panel.examples.value = EXAMPLES[4]
    assert panel.state.request == panel.controls["request"].value == EXAMPLES[4]
    panel.controls["request"].value = "under 6"
    assert panel.examples.value == ""
    assert panel.scene.readout("the planner").value == "asks back"
    panel.controls["request"].value = ""
    assert not panel.error


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("risk", margin.RISKS)
@pytest.mark.parametrize("points", [0.5, 3.0, 10.0, 20.0])
def test_trusted_plans_miss_no_more_often_than_was_allowed(known, points, risk, best):
    picture = margin.scene(margin.State(points, risk, best))
    parts = (known.random, known.best) if best else (known.random,)
    lost = np.concatenate([margin.losses(part) for part in parts])
    assert picture.readout("plans").value == len(lost)
    trusted = picture.readout("trusted").value
    assert picture.readout("of these missed").value <= risk * trusted
    kept = [m for m in picture.marks(Points) if m.label == "keeps the limit"]
    drawn = margin.losses(known.random)
    assert sum(len(m.x) for m in kept) == (drawn <= points + 1e-9).sum()


def test_the_prediction_orders_plans():
    assert float(margin.scene(margin.State()).readout("rank correlation").value) >= 0.9
    assert float(margin.scene(margin.State(best=True)).readout("rank correlation").value) >= 0.9


def tried(step, nbytes, value, kept):
    check = Check("bytes", 200_000, nbytes, True, True, "")
    lost = Check("loss", 0.03, value, kept, False, "")
    loss = Loss(value, value - 0.02, value + 0.02, True)
    return SimpleNamespace(step=step, bytes=nbytes, loss=loss, checks=(check, lost), kept=kept)


def test_an_outcome_is_drawn_with_every_step():
    steps = (tried("nearest rounding", 190_000, 0.5, False), tried("learned", 190_000, 0.01, True))
    plan = SimpleNamespace(widths={"a": 2, "b": 8}, method="weight_only")
    planned = SimpleNamespace(tried=steps, verified=steps[-1].checks, plan=plan)
    request = "under 200 kB and at most 3 points worse"
    picture = planner_run.scene(request_words.State(request), {request: planned})
    assert picture.readout("the planner").value == "kept, not for sure"
    assert picture.readout("the file").value == "190.0 kB"
    assert picture.readout("success lost").value == "1.0 points"
    assert picture.formulas == ("layers × bits: 1 × 2, 1 × 8; quantized the way 'weight_only'",)


def test_an_interval_that_is_cut_has_an_arrow_at_its_end():
    def arrows(low, high):
        marks = planner_run._interval(low, high, 1.0)
        return "".join(mark.text for mark in marks if isinstance(mark, Text))

    assert [arrows(*ends) for ends in ((0.2, 1.5), (-1, 1.5), (0.2, 5), (-1, 5))] == [
        "", "◀", "▶", "◀▶"
    ]  # fmt: skip


def test_what_was_made_is_drawn_over_the_ring_of_its_plan():
    state = plan_picture.State()
    made = {plan_picture.plan(state.requirement): Accuracy.of(145, 150)}
    labels = [m.label for m in plan_picture.scene(state, made).marks(Points)]
    assert labels.index("the plan") < labels.index("made")


def test_a_refusal_names_what_binds():
    request = "under 5 kB"
    refused = Infeasible("bytes", "too few", ["9 kB"])
    picture = planner_run.scene(request_words.State(request), {request: refused})
    assert picture.readout("the planner").value == "refuses"
    assert picture.formulas == ("what binds: bytes", "what could be met: 9 kB")


def test_a_request_that_is_not_clear_is_not_run(monkeypatch):
    monkeypatch.setattr(planner_run, "run", pytest.fail)
    panel = planner_run.explorer("under 6")
    panel.run()
    assert panel.scene.readout("the planner").value == "asks back"


def test_a_request_is_run_once_its_button_is_pressed(monkeypatch):
    refused = Infeasible("bytes", "too few")
    monkeypatch.setattr(planner_run, "run", lambda request: refused)
    panel = planner_run.explorer("under 6 kB")
    before = panel.words()
    panel.run()
    assert panel.last is refused and panel.scene.readout("the planner").value == "refuses"
    assert panel.words() == before


def test_the_planner_meets_a_size_on_the_robot():
    planned = planner_run.run("under 300 kB")
    assert planned.file_bytes <= 300_000 and planned.verified[0].kept


@pytest.mark.parametrize("case", two_cases.CASES)
def test_a_case_shows_what_was_reported_beside_what_was_measured(case):
    times = {
        name: SimpleNamespace(median=seconds, ratio_low=9.5 * seconds, ratio_high=10.5 * seconds)
        for name, seconds in zip(
            (FLOAT, FLOAT_ENGINE, "weight_only", "static"), (0.1, 0.04, 0.035, 0.03), strict=True
        )
    }
    runs = two_cases.Runs(40_000_000, 10_000_000, times, Loss(0.01, -0.01, 0.03, True))
    picture = two_cases.scene(two_cases.State(case), runs)
    quoted, here = (list(bars.heights) for bars in picture.marks(Bars))
    assert here == pytest.approx([75, 60, 65, 70, 1])
    assert quoted == ([75, 60, 3] if case == "edge" else [85, 3])
    # 30 % of the time are left: enough for half of it, too much for a fifth.
    kept = {"edge": "kept", "latency": "missed"}[case]
    assert picture.readout("limit").value == kept


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.4, 0.5, "kept"), (0.45, 0.55, "not resolved"), (0.51, 0.6, "missed")],
)
def test_a_limit_inside_the_interval_is_neither_kept_nor_missed(low, high, verdict):
    row = SimpleNamespace(median=0.05, ratio_low=low, ratio_high=high)
    times = dict.fromkeys((FLOAT, FLOAT_ENGINE, "weight_only", "static"), row)
    runs = two_cases.Runs(40, 10, times, Loss(0.01, -0.01, 0.03, True))
    assert two_cases.scene(two_cases.State("edge"), runs).readout("limit").value == verdict


def test_they_are_panels():
    assert all(isinstance(m.explorer(), Panel) for m in (margin, plan_picture, request_words))
