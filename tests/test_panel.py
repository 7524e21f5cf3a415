"""Panels: state and controls stay together, errors show, words are stable."""

import os
import subprocess
import sys
from dataclasses import dataclass

import ipywidgets as widgets
import pytest

from labkit.explorers.panel import (
    Panel,
    bits_slider,
    choice,
    float_slider,
    int_slider,
    positions,
    steps_slider,
    sweep,
    switch,
)
from labkit.explorers.scene import Readout, Scene
from labkit.explorers.svg import live


@dataclass(frozen=True)
class State:
    bits: int = 4
    clip: float = 1.0
    scheme: str = "affine"
    on: bool = False
    group: int = 32


def controls():
    return {
        "bits": bits_slider(),
        "clip": float_slider("clip", 0.5, 2.0, step=0.1),
        "scheme": choice("scheme", ["affine", "symmetric"]),
        "on": switch("on"),
        "group": steps_slider("group size", [16, 32, 64]),
    }


def scene(state):
    if state.bits == 7:
        raise ValueError("seven <bits> are forbidden")
    if state.bits == 6:
        raise ZeroDivisionError("six")
    return Scene("Levels", readouts=[Readout("levels", 2**state.bits), Readout("x", 1 / 3)])


@pytest.fixture
def panel():
    return Panel(State(), controls(), scene)


def alert(panel):
    return next(c for c in panel.children if "ql-error" in c._dom_classes)


def picture(panel):
    return next(c for c in panel.children if "ql-picture" in c._dom_classes)


def test_controls_start_at_the_state_and_move_it(panel):
    assert panel.controls["bits"].value == 4 and panel.controls["scheme"].value == "affine"
    before = panel.svg
    panel.controls["bits"].value = 3
    assert panel.state == State(bits=3)
    assert panel.scene.readout("levels").value == 8
    assert panel.svg != before and picture(panel).value == live(panel.svg, panel.scene)
    panel.controls["on"].value = True
    assert panel.state == State(bits=3, on=True)


def test_set_moves_controls_and_draws_once():
    calls = []
    panel = Panel(State(), controls(), lambda s: calls.append(s) or scene(s))
    panel.set(bits=2, clip=1.5, scheme="symmetric", group=64)
    assert len(calls) == 2
    assert [panel.controls[n].value for n in ("bits", "clip", "scheme", "group")] == [
        2,
        1.5,
        "symmetric",
        64,
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bit": 3}, "no field 'bit'.*bits, clip, scheme, on, group"),
        ({"bits": 12}, "'bits': got 12, .* 2 to 8"),
        ({"scheme": "odd"}, "cannot take 'odd'.*affine"),
        ({"bits": 3, "group": 7}, "cannot take 7"),
        ({"bits": "three"}, "cannot take 'three'"),
    ],
)
def test_a_bad_set_changes_nothing(panel, values, message):
    before = (panel.state, panel.svg, {n: c.value for n, c in panel.controls.items()})
    with pytest.raises(ValueError, match=message):
        panel.set(**values)
    assert before == (panel.state, panel.svg, {n: c.value for n, c in panel.controls.items()})
    panel.controls["bits"].value = 3
    assert panel.scene.readout("levels").value == 8


def test_construction_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="its fields are bits, clip"):
        Panel(State(), {"width": bits_slider()}, scene)
    with pytest.raises(ValueError, match="2 to 8"):
        Panel(State(bits=16), {"bits": bits_slider()}, scene)
    with pytest.raises(ValueError, match="instance of a dataclass"):
        Panel(State, {"bits": bits_slider()}, scene)


def test_an_error_is_shown_and_the_next_good_state_recovers(panel):
    good = panel.svg
    panel.controls["bits"].value = 7
    assert panel.error == "seven <bits> are forbidden"
    assert 'role="alert"' in alert(panel).value and "&lt;bits&gt;" in alert(panel).value
    assert panel.svg == good and "ql-stale" in picture(panel)._dom_classes
    assert "error: seven" in panel.words()
    panel.controls["bits"].value = 6
    assert panel.error == "ZeroDivisionError: six"
    panel.controls["bits"].value = 5
    assert panel.error == "" and alert(panel).value == ""
    assert "ql-stale" not in picture(panel)._dom_classes
    assert panel.scene.readout("levels").value == 32


def test_an_error_from_the_start_and_a_wrong_return_value():
    panel = Panel(State(bits=7), controls(), scene)
    assert panel.error and panel.scene is None and panel.words().startswith("No picture")
    panel.set(bits=4)
    assert panel.error == "" and panel.svg
    assert "returned int, not a Scene" in Panel(State(), controls(), lambda s: 3).error


def test_words_are_rounded_and_are_the_text_form(panel):
    wanted = (
        "Levels\n"
        "bits = 4, clip = 1, scheme = affine, on = no, group = 32\n"
        "levels: 16 (computed)\n"
        "x: 0.333 (computed)"
    )
    assert panel.words() == repr(panel) == wanted
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == wanted
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id


def test_limits_follow_the_state():
    panel = Panel(
        State(),
        controls(),
        scene,
        limits=lambda s: {
            "group": {"options": (16, 32, 64) if s.bits > 3 else (64, 128)},
            "clip": {"max": float(s.bits)},
        },
    )
    assert panel.state.group == 32
    panel.controls["bits"].value = 2
    assert panel.controls["group"].options == (64, 128)
    assert panel.state.group == 64 == panel.controls["group"].value
    panel.set(bits=8, group=16, clip=7.5)
    assert panel.state == State(bits=8, group=16, clip=7.5)
    panel.set(bits=4)
    assert panel.state.clip == 4.0


def test_limits_that_fail_show_in_the_panel():
    def limits(state):
        if state.bits == 8:
            raise KeyError("no limits for 8")
        return {}

    panel = Panel(State(), controls(), scene, limits=limits)
    panel.controls["bits"].value = 8
    assert "no limits for 8" in panel.error
    panel.controls["bits"].value = 3
    assert panel.error == "" and panel.state.bits == 3


def test_slow_panels_act_on_release():
    panel = Panel(State(), controls(), scene, slow=True)
    assert panel.controls["bits"].continuous_update is False
    assert alert(panel).value == ""


def test_positions_of_every_kind_of_control():
    found = list(positions(controls()))
    assert len(found) == 7 * 3 * 2 * 2 * 3
    assert sorted({p["clip"] for p in found}) == pytest.approx([0.5, 1.3, 2.0])
    assert {p["on"] for p in found} == {False, True}
    assert [p["n"] for p in positions({"n": int_slider("n", 0, 1000)})] == [0, 500, 1000]
    assert [p["n"] for p in positions({"n": int_slider("n", 0, 10, step=5)})] == [0, 5, 10]
    log = widgets.FloatLogSlider(value=1, min=-2, max=2)
    assert [p["n"] for p in positions({"n": log})] == pytest.approx([0.01, 1, 100])
    pairs = choice("c", [("one", 1), ("two", 2)], buttons=False)
    assert [p["c"] for p in positions({"c": pairs})] == [1, 2]
    with pytest.raises(ValueError, match=r"'t'.*no way to list"):
        list(positions({"t": widgets.Text()}))


def test_sweep_gives_state_and_scene():
    found = list(sweep(lambda s: s.bits * 2, State(), {"bits": bits_slider(low=2, high=4)}))
    assert [(s.bits, twice) for s, twice in found] == [(2, 4), (3, 6), (4, 8)]


def test_two_panels_share_nothing(panel):
    other = Panel(State(), controls(), scene)
    panel.set(bits=2)
    assert other.state.bits == 4


def test_controls_have_room_for_label_and_track():
    for control in controls().values():
        assert control.tooltip and control.style.description_width == "180px"


def test_matplotlib_is_not_needed_before_the_first_axes():
    code = "import sys; import labkit.explorers.panel; print('matplotlib' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert ran.stdout.strip() == "False"


def test_plain_options_and_pairs_may_be_mixed():
    slider = steps_slider("bits", [2, 3, ("32 (float)", 32)])
    slider.value = 32
    assert slider.options == (("2", 2), ("3", 3), ("32 (float)", 32))
