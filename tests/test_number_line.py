"""Notebook 01's pictures, at every position of their controls, against other arithmetic.

The oracle is written here in numpy's float64 and exact fractions, and knows nothing of labkit's
quantizer; torch's own fake quantization is a second one.
"""

import json
import re
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.exercises import all_exercises
from labkit.exercises.core import judge
from labkit.explorers import number_line, scale_rules
from labkit.explorers.drawing.frame import formula_lines, picture_height
from labkit.explorers.panel import sweep
from labkit.explorers.sample_tensors import NAMES, sample
from labkit.explorers.scene import Band, Hits, Points, Rule, Stems, Steps, Text
from labkit.explorers.svg import render

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "01_scale_and_zero_point.ipynb"
MADE_FOR = {
    "example1": (-1.0, 1.0),
    "relu6": (0.0, 6.0),
    "away": (0.5, 2.0),
    "asymmetric": (-0.3, 1.0),
    "constant": (0.7, 0.7),
    "zero": (0.0, 0.0),
}


@cache
def float_values(name):
    return sample(name).values.double().numpy().ravel()


@cache
def expected(name, bits, scheme, signed, rule):
    """(scale, zero point, codes) by the formulas of the document, in exact fractions."""
    values = float_values(name)
    low, high = min(Fraction(values.min()), Fraction(0)), max(Fraction(values.max()), Fraction(0))
    lowest, steps, half = (-(2 ** (bits - 1)) if signed else 0), 2**bits - 1, 2 ** (bits - 1)
    codes = np.arange(lowest, lowest + steps + 1)
    amax = max(-low, high)
    if amax == 0:
        return 1.0, lowest + (half if scheme == "symmetric" else 0), codes
    if scheme == "affine":
        scale = (high - low) / steps
        return float(scale), round(lowest - low / scale), codes
    scale = {
        "restricted": amax / (half - 1),
        "full": 2 * amax / steps,
        "no_clip": max(-low / half, high / (half - 1)),
    }[rule]
    return float(scale), lowest + half, codes


@cache
def ends_and_more(name):
    """The smallest and largest values: enough for a lower bound of the largest error."""
    values = np.unique(float_values(name))
    return values if len(values) < 10_000 else np.r_[values[:5000], values[-5000:]]


@cache
def largest_error(name, bits, scheme, signed, rule):
    scale, zero_point, codes = expected(name, bits, scheme, signed, rule)
    values = ends_and_more(name)
    back = (np.clip(np.rint(values / scale) + zero_point, codes[0], codes[-1]) - zero_point) * scale
    return np.abs(values - back).max()


def key(state):
    rule = state.scale_rule if state.scheme == "symmetric" else "restricted"
    return state.tensor, state.bits, state.scheme, state.signed, rule


def every_position():
    controls = number_line.controls()
    for tensor in NAMES:
        state = number_line.State(tensor=tensor)
        # The slider of x has the limits that belong to the tensor.
        for trait, value in number_line.limits(state)["x"].items():
            setattr(controls["x"], trait, value)
        rest = {name: control for name, control in controls.items() if name != "tensor"}
        for at, scene in sweep(number_line.scene, state, rest):
            if at.scheme == "symmetric" or at.scale_rule == "restricted":
                yield at, scene


def check_levels(state, scene, levels):
    """The levels stand where (q − z) · s puts them, the zero point's at exactly 0."""
    reach = sample(state.tensor).reach
    seen = levels[np.abs(levels) <= reach * (1 + 1e-6)]
    drawn = np.array(list(scene.marks(Stems))[1].x)
    assert len(drawn) in (len(seen), len(seen) - 1)
    assert np.abs(drawn[:, None] - levels).min(axis=1).max() < 1e-6 * reach
    assert 0.0 in drawn
    band = next(iter(scene.marks(Band)))
    assert (band.low, band.high) == pytest.approx((levels[0], levels[-1]), rel=1e-6)


def test_every_position_of_every_slider_shows_true_numbers():
    heights, grids, count = set(), set(), 0
    for state, scene in every_position():
        scale, zero_point, codes = expected(*key(state))
        count += 1
        # What the readouts say. The stored scale is a float32.
        shown = scene.readout("scale s (one step)").value
        assert shown == pytest.approx(scale, rel=1e-7)
        assert scene.readout("zero point z").value == zero_point
        measured = scene.readout("largest error").value
        assert measured >= largest_error(*key(state)) * (1 - 1e-3) - 1e-7
        assert measured <= shown / 2 * (1 + 1e-3) + 1e-7
        assert scene.readout("size of the codes").value.endswith("×")

        if key(state) not in grids:
            grids.add(key(state))
            check_levels(state, scene, (codes - zero_point) * scale)

        # The followed value, by float64 arithmetic away from a tie.
        x = round(float(state.x), 6)
        steps = x / scale
        if abs(abs(steps - np.rint(steps)) - 0.5) > 1e-4:
            q = np.clip(np.rint(steps) + zero_point, codes[0], codes[-1])
            back = (q - zero_point) * scale
            followed, returned = list(scene.marks(Points))[:2]
            assert (followed.x[0], followed.y[0]) == (x, x)
            assert returned.y[0] == pytest.approx(
                back, rel=1e-6, abs=1e-6 * sample(state.tensor).reach
            )
            assert scene.formulas[2].endswith(f"= {int(q)}".replace("-", "−"))

        # Nothing jumps: as many lines of arithmetic everywhere, and the same height.
        assert len(scene.formulas) == len(formula_lines(scene)) == 5
        heights.add(picture_height(scene))
    assert count == 9 * 7 * 2 * 4 * 3
    assert len(heights) == 1


@pytest.mark.parametrize("tensor", ["fc1", "relu6", "asymmetric"])
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("scheme", ["affine", "symmetric"])
def test_the_staircase_is_torchs_own(tensor, bits, scheme):
    """Inside every step x' is what torch's fake quantization returns."""
    state = number_line.State(tensor=tensor, bits=bits, scheme=scheme)
    scene = number_line.scene(state)
    stairs = list(scene.marks(Steps))[1]
    centres = torch.tensor([(a + b) / 2 for a, b in pairwise(stairs.edges)])
    scale, zero_point, codes = expected(*key(state))
    oracle = torch.fake_quantize_per_tensor_affine(
        centres, scale, zero_point, int(codes[0]), int(codes[-1])
    )
    reach = sample(tensor).reach
    np.testing.assert_allclose(stairs.heights, oracle.numpy(), atol=1e-6 * reach)
    hits = next(iter(scene.marks(Hits)))
    assert hits.y == stairs.heights
    assert all("code" in tip and "x' = (" in tip for tip in hits.tips)


def test_the_stems_hold_every_value():
    """Height × step ÷ area is a count; all counts together are the tensor."""
    for tensor in ("fc2", "away", "relu6"):
        for bits in (4, 8):
            scene = number_line.scene(number_line.State(tensor=tensor, bits=bits))
            data, stems = sample(tensor), list(scene.marks(Stems))[1]
            step = scene.readout("scale s (one step)").value
            if max(stems.y) < 1:  # a spike that leaves the picture is cut at its top
                assert sum(stems.y) * step / data.area == pytest.approx(data.count, rel=1e-5)


def test_axes_stay_while_anything_but_the_tensor_moves():
    axes = {}
    for tensor in ("fc1", "example1"):
        for bits in (2, 8):
            for scheme in ("affine", "symmetric"):
                state = number_line.State(tensor=tensor, bits=bits, scheme=scheme, x=0.1)
                line, (stairs, _) = number_line.scene(state).plots
                # The caption of the first axis says how far the codes reach; its ends stay.
                ends = (line.x.low, line.x.high, line.y.low, line.y.high)
                axes.setdefault(tensor, set()).add((*ends, stairs.x))
    assert all(len(found) == 1 for found in axes.values())


def test_the_tensors_have_the_ranges_of_their_names():
    for name, (low, high) in MADE_FOR.items():
        data = sample(name)
        assert (data.low, data.high) == pytest.approx((low, high), abs=1e-7)
    assert sample("example1").values.shape == (1000, 1000)
    for name, count in (("fc1", 784 * 256), ("fc2", 256 * 128), ("fc3", 1280)):
        assert sample(name).count == count
        assert f"{count:,}" in NAMES[name]
    with pytest.raises(ValueError, match="fc1, fc2"):
        sample("fc9")


def test_the_number_of_levels_and_bytes_stands_in_the_title():
    title = number_line.scene(number_line.State(tensor="example1", bits=8)).title
    assert "256 levels" in title
    assert "4,000,000 → 1,000,000 bytes" in title


def test_the_panel_moves_x_with_the_tensor_and_switches_the_rule_off():
    panel = number_line.explorer(tensor="relu6", x=8.0)
    assert panel.controls["scale_rule"].disabled
    panel.set(scheme="symmetric")
    assert not panel.controls["scale_rule"].disabled
    panel.controls["tensor"].value = "fc3"
    assert panel.error == ""
    assert panel.state.x == pytest.approx(panel.controls["x"].max)
    assert panel.state.x < 0.32


def test_the_first_panel_fits_a_laptop_with_its_controls():
    """In a window of 1280 × 800 pixels the arithmetic stays in sight while x is dragged."""
    assert picture_height(number_line.scene(number_line.State())) <= 680


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [({"tensor": "zero", "bits": 3}, 6), ({"tensor": "fc3", "bits": 2, "scheme": "symmetric"}, 1)],
)
def test_levels_off_the_picture_are_counted_above_the_codes(fields, hidden):
    line, _ = number_line.scene(number_line.State(**fields)).plots
    words = [mark for mark in line.marks if isinstance(mark, Text)]
    more = [mark for mark in words if "unused" in mark.text]
    assert [int(re.search(r"\d+", mark.text)[0]) for mark in more] == [hidden]
    assert min(mark.y for mark in more) > 0 > max(mark.y for mark in words if mark not in more)


def test_the_microscope_tells_a_level_just_below_minus_1_from_minus_1():
    scene = number_line.scene(number_line.State(tensor="example1", bits=8, x=-1.0))
    assert {"x' = −1.004", "x' = −0.9961"} <= {mark.text for mark in scene.marks(Text)}


def test_ties_of_a_scale_of_2_go_to_even():
    for x, code in ((1.0, 0), (3.0, 2), (5.0, 2)):
        scene = number_line.scene(number_line.State(tensor="relu6", bits=2, x=x))
        assert scene.readout("scale s (one step)").value == 2
        assert f"round({x / 2:g})" in scene.formulas[2]
        assert scene.formulas[2].endswith(f"= {code}")


def test_which_rule_wins_on_layer_1():
    """Shares of the squared error that the text gives, and the width where the winner changes."""
    saved = {}
    for bits in range(2, 9):
        state = scale_rules.State("fc1", bits)
        base = scale_rules.ruled(state, "restricted").mse
        saved[bits] = {
            rule: 1 - scale_rules.ruled(state, rule).mse / base for rule in ("full", "no_clip")
        }
    assert saved[8]["no_clip"] == pytest.approx(0.01, abs=0.005)
    assert saved[5]["no_clip"] == pytest.approx(0.11, abs=0.005)
    assert all(saved[bits]["no_clip"] == pytest.approx(0.25, abs=0.03) for bits in (3, 4))
    assert all(saved[bits]["no_clip"] > saved[bits]["full"] for bits in range(3, 9))
    assert saved[2]["full"] > saved[2]["no_clip"]
    assert scale_rules.ruled(scale_rules.State("fc1", 2), "full").clipped == 32


def test_example_1_at_its_lower_end_gets_code_1():
    scene = number_line.scene(number_line.State(tensor="example1", bits=8, x=-1.0))
    assert scene.formulas[0].endswith("(1 − (−1)) / 255 = 0.007843")
    assert scene.formulas[1].endswith("round(127.5) = 128")
    assert "round(−127.49999)" in scene.formulas[2]
    assert scene.formulas[2].endswith("= 1")


def test_a_tie_that_the_stored_scale_just_misses():
    scene = number_line.scene(number_line.State(tensor="asymmetric", bits=2, x=0.65))
    assert "round(1.4999999)" in scene.formulas[2]


def test_a_picture_is_drawn_for_every_tensor_at_its_extremes():
    for tensor in NAMES:
        for bits, scheme, signed in ((2, "symmetric", True), (8, "affine", False)):
            state = number_line.State(tensor=tensor, bits=bits, scheme=scheme, signed=signed)
            svg = render(number_line.scene(state))
            assert svg.startswith("<svg")
            assert "nan" not in svg.lower().replace("−", "-")


def test_every_scale_rule_at_every_position():
    heights = set()
    controls = scale_rules.controls()
    for state, scene in sweep(scale_rules.scene, scale_rules.State(), controls):
        data = sample(state.tensor)
        amax = max(-data.low, data.high)
        errors = {}
        for plot, rule in zip(scene.plots, ("restricted", "full", "no_clip"), strict=True):
            name = (state.tensor, state.bits, "symmetric", state.signed, rule)
            scale, zero_point, codes = expected(*name)
            shown = scene.readout(f"{rule}: amax / s").value
            assert shown == pytest.approx(amax / scale, abs=6e-5)
            low, high = (codes[0] - zero_point) * scale, (codes[-1] - zero_point) * scale
            bands = [mark for mark in plot.marks if isinstance(mark, Band)]
            assert (bands[0].low, bands[0].high) == pytest.approx((low, high), rel=1e-6)
            clips = bool(data.high > high * (1 + 1e-5) or data.low < low * (1 + 1e-5))
            assert ("clips nothing" in plot.title) is not clips
            assert any(band.role == "error" for band in bands) is clips
            # Only the rule full clips, only upwards, and by half a step at most.
            assert not clips or (rule == "full" and data.high - high <= scale / 2 * (1 + 1e-5))
            errors[rule] = scale_rules.ruled(state, rule).mse
            assert {mark.at for mark in plot.marks if isinstance(mark, Rule)} == {
                data.low,
                data.high,
            }
        said = scene.readout("smallest squared error").value
        assert said == "a tie" or errors[said] == min(errors.values())
        heights.add(picture_height(scene))
    assert len(heights) == 1


def test_mean_squared_errors_of_the_rules_against_numpy():
    values = float_values("fc1").astype(np.float64)
    for rule in ("restricted", "full", "no_clip"):
        scale, zero_point, codes = expected("fc1", 3, "symmetric", True, rule)
        q = np.clip(np.rint(values / scale) + zero_point, codes[0], codes[-1])
        mse = np.square(values - (q - zero_point) * scale).mean()
        found = scale_rules.ruled(scale_rules.State("fc1", 3, True), rule)
        assert found.mse == pytest.approx(mse, rel=1e-5)


ANOTHER_WAY = {
    "1.1": lambda low, high, bits: (
        (s := (max(high, 0) - min(low, 0)) / (2**bits - 1) or 1.0),
        int(np.rint(-min(low, 0) / s)),
    ),
    "1.2": lambda x, s, z, low, high: torch.as_tensor(
        np.clip(np.rint(x.double().numpy() / s) + z, low, high)
    ).to(torch.int32),
    "1.3": lambda q, x, s, z: ((q.int() - z) * s, (x - (q.int() - z) * s).abs()),
    "1.4": lambda x, bits, rule: (
        {
            "restricted": x.abs().max().item() / (2 ** (bits - 1) - 1),
            "full": x.abs().max().item() / (2 ** (bits - 1) - 0.5),
            "no_clip": max(
                -x.min().item() / 2 ** (bits - 1), x.max().item() / (2 ** (bits - 1) - 1), 0.0
            ),
        }[rule]
        or 1.0
    ),
}


@pytest.mark.parametrize("id", ANOTHER_WAY)
def test_another_right_way_is_accepted(id):
    verdict = judge(all_exercises()[id], ANOTHER_WAY[id])
    assert verdict.passed, verdict


def test_what_the_notebook_states():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = "".join(
        "".join(out.get("text", ()))
        for cell in cells
        if cell["cell_type"] == "code"
        for out in cell["outputs"]
    )
    for words in (
        "s = 2/255 = 0.00784   −min / s = 127.5   z = 128",
        "float32:            −min / s = 127.49999 → z = 127",
        "−min / s = 127.55    → z = 128",
        "4,000,000 → 1,000,000 bytes: 4 times smaller, -75%",
        "[25, 231]",
    ):
        assert words in outputs
    assert set(re.findall(r"0\.\d{5}     (\d\.\d\d)\n", outputs)) == {"1.00"}
    text = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    for formula in (r"\frac{\max - \min}{2^b - 1}", r"\frac{x}{s}", "E = |x - x'|"):
        assert formula in text
