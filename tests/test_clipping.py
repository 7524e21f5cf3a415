"""The explorers of notebook 02: every position of their sliders against formulas in numpy."""

import math

import numpy as np
import pytest

from labkit import choose_qparams
from labkit.data import load_mnist
from labkit.errors import optimal_gaussian_step, quantization_error, uniform_sqnr_db
from labkit.explorers import clipping, decibels, outlier
from labkit.explorers.clip_curve import CLIPS, curve, lowest, make_grid, measure
from labkit.explorers.drawing.frame import formula_lines, picture_height
from labkit.explorers.drawing.marks import Line, Points, Stems, Steps, Text
from labkit.explorers.panel import positions, sweep
from labkit.explorers.svg import render
from labkit.explorers.values import COUNT, SETS, values
from labkit.zoo import mnist_mlp


def errors_of(name: str, bits: int, clip: float, grid: str) -> tuple[np.ndarray, np.ndarray, float]:
    """(error, outside, step) of every value on the grid, in float64."""
    x, top = values(name).x.double().numpy(), 2**bits - 1
    if values(name).one_sided:
        step = clip / top
        back, low, high = np.clip(np.rint(x / step), 0, top) * step, 0, clip
    elif grid == "half":
        step = 2 * clip / top
        back, low, high = np.clip((np.floor(x / step) + 0.5) * step, -clip, clip), -clip, clip
    else:
        step, half = 2 * clip / top, 2 ** (bits - 1)
        back = np.clip(np.rint(x / step), -half, half - 1) * step
        low, high = -half * step, (half - 1) * step
    return back - x, (x < low) | (x > high), step


def test_the_scene_says_what_numpy_says_at_every_position():
    axes, heights = set(), set()
    for state, scene in sweep(clipping.scene, clipping.State(), clipping.controls()):
        error, outside, step = errors_of(state.data, state.bits, state.clip, state.grid)
        squared, n = error**2, len(error)
        right = {
            "mean squared error": squared.mean(),
            "of it rounding": squared[~outside].sum() / n,
            "of it clipping": squared[outside].sum() / n,
            "prediction s²/12": step**2 / 12,
            "step s": step,
        }
        for label, value in right.items():
            assert scene.readout(label).value == pytest.approx(value, rel=1e-3, abs=1e-8), state
        parts = [scene.readout(f"of it {part}").value for part in ("rounding", "clipping")]
        assert sum(parts) == scene.readout("mean squared error").value
        # No value inside the grid errs by more than half a step.
        assert np.abs(error[~outside]).max(initial=0) <= step / 2 * (1 + 1e-9)
        axes.add(tuple((plot.x, plot.y) for row in scene.rows for plot in row))
        heights.add(picture_height(scene))
    assert len(axes) == 1, "axes stay where they are"
    assert len(heights) == 1, "and so does everything below the picture"
    # The whole picture and the sliders fit on a small screen.
    assert max(heights) < 660


def test_pictures_keep_their_height_at_every_position_of_a_slider():
    heights = set()
    for clip in CLIPS:
        # The largest set and the widest numbers.
        scene = clipping.scene(clipping.State(data="fc1", bits=8, clip=float(clip), grid="zero"))
        assert len(formula_lines(scene)) == 2, scene.formulas
        heights.add(picture_height(scene))
    assert len(heights) == 1
    for module in (decibels, outlier):
        scenes = [
            module.scene(module.State(**fields))
            for fields in positions(module.controls())
            if fields.get("distance", 5) in (5, 17, 50)
        ]
        assert len({picture_height(scene) for scene in scenes}) == 1


def test_bars_that_leave_the_picture_say_how_high_they_are():
    for data, clip, words in (("relu", 5.0, "↑ up to 5.9"), ("normal", 3.0, "")):
        scene = clipping.scene(clipping.State(data=data, bits=4, clip=clip))
        assert "".join(mark.text for mark in scene.marks(Text)) == words
        error, outside, step = errors_of(data, 4, clip, "half")
        bars = np.histogram(error[~outside] / step, 60, (-1.5, 1.5))[0] * 20 / len(error)
        assert (bars.max() > clipping.TOP) == bool(words)
        assert not words or f"{bars.max():.1f}" in words


def test_what_the_notebook_says_about_the_weights_that_never_moved():
    trained, start = mnist_mlp().fc1.weight.detach(), mnist_mlp(trained=False).fc1.weight.detach()
    still = trained == start
    black = (load_mnist().train_images.flatten(1) == 0).all(0)
    assert still.double().mean().item() == pytest.approx(1 / 6, abs=0.005)
    assert still[:, black].all() and still[:, ~black].double().mean() < 0.02
    assert start.abs().max().item() == pytest.approx(1 / 28, abs=1e-4)
    assert 1 / 28 / values("fc1").sigma == pytest.approx(0.86, abs=0.005)


def test_the_layer_and_the_picture_are_quantized_alike():
    weights = mnist_mlp().fc1.weight.detach()
    grid = choose_qparams(weights, 3, symmetric=True, signed=True, scale_rule="full")
    error = quantization_error(weights, grid).mse / values("fc1").sigma ** 2
    assert error == pytest.approx(measure("fc1", 3, values("fc1").amax, "zero").report.mse)
    # Two bits at 1.6 σ lose 16 % of the signal.
    lost = measure("fc1", 2, 1.6, "zero").report.mse / values("fc1").power
    assert round(100 * lost) == 16
    assert curve("fc1", 2, "zero").best == 1.6


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("grid", ["half", "zero"])
def test_the_curves_are_what_is_measured_value_by_value(name, grid):
    for bits in (2, 5, 8):
        shape = curve(name, bits, grid)
        for at in (0, 30, 61, len(CLIPS) - 1):
            report = measure(name, bits, float(CLIPS[at]), grid).report
            assert shape.rounding[at] == pytest.approx(report.rounding_mse, rel=2e-3, abs=1e-9)
            assert shape.clipping[at] == pytest.approx(report.clipping_mse, rel=2e-3, abs=1e-9)
        total = shape.rounding + shape.clipping
        assert shape.lowest == total.min() == total[np.flatnonzero(shape.clips == shape.best)[0]]


def test_the_marked_points_lie_on_the_curves():
    for clip in (0.2, 2.05, 3.7, 10.0):
        scene = clipping.scene(clipping.State(clip=clip))
        lines = {line.label: line for line in scene.marks(Line)}
        now = next(p for p in scene.marks(Points) if p.role == "ink")
        on = np.interp(clip, lines["sum"].x, lines["sum"].y)
        assert now.x == (clip,)
        assert now.y[0] == pytest.approx(on, rel=0.02)


def test_every_value_is_drawn_and_gets_a_code():
    for name in SETS:
        scene = clipping.scene(clipping.State(data=name, bits=4, clip=3.0))
        count = len(values(name).x)
        bars = next(mark for mark in scene.marks(Steps) if mark.label == "values")
        codes = next(mark for mark in scene.marks(Stems) if mark.label == "codes")
        assert sum(h for h in bars.heights if h >= 1) == count
        assert sum(codes.y) == count
        assert f"{count:,} values" in scene.title


def test_there_are_100_000_values_with_a_standard_deviation_of_one():
    assert COUNT == 100_000
    for name in SETS:
        x = values(name).x.double().numpy()
        assert x.std() == pytest.approx(1, abs=1e-3)
        assert len(x) == COUNT or name in ("fc1", "fc2", "fc3", "relu")
    assert [len(values(name).x) for name in ("fc1", "fc2", "fc3")] == [200_704, 32_768, 1_280]
    assert all(values(name).amax <= clipping.HIGH for name in SETS), "min-max is on the slider"


def test_the_error_histogram_has_area_one_when_all_errors_are_in_view():
    scene = clipping.scene(clipping.State(bits=6, clip=5.0))
    bars = next(mark for mark in scene.marks(Steps) if mark.label == "rounded")
    assert np.dot(np.diff(bars.edges), bars.heights) == pytest.approx(1, abs=1e-9)
    # Uniform between -1/2 and 1/2 step: height 1 there, 0 outside.
    middle = (np.array(bars.edges[1:]) + bars.edges[:-1]) / 2
    inside = np.abs(middle) < 0.5
    assert np.allclose(np.array(bars.heights)[inside], 1, atol=0.1)
    # In float32 a tie may land a rounding beyond the edge of its box.
    assert np.array(bars.heights)[~inside].max() < 1e-2


def test_max_1960():
    quoted = {
        2: (0.9957, 0.1188),
        3: (0.5860, 0.03744),
        4: (0.3352, 0.01154),
        5: (0.1881, 0.003495),
    }
    for bits, (step, mse) in quoted.items():
        assert optimal_gaussian_step(bits) == pytest.approx((step, mse), rel=6e-4)
        clip, found = lowest("normal", bits)
        error = errors_of("normal", bits, clip, "half")[0]
        spread = (error**2).std() / math.sqrt(COUNT)
        assert 2 * clip / (2**bits - 1) == pytest.approx(step, rel=0.02)
        assert abs(found - mse) < 4 * spread, "within four standard errors"


def test_what_the_notebook_says_about_ranges():
    wide, best = measure("normal", 3, 4.6).report.mse, measure("normal", 3, 2.05).report.mse
    assert (round(wide, 3), round(best, 3)) == (0.144, 0.038)
    assert curve("normal", 3).best == 2.05
    assert curve("normal", 8).best == pytest.approx(4.0, abs=0.1)
    assert 0.04 < measure("normal", 3, 2.0).outside.double().mean() < 0.05
    layer = curve("fc1", 3, "zero")
    assert layer.at(5.6) / layer.lowest == pytest.approx(5, abs=0.2)
    double = [measure("uniform", 5, clip).report.mse for clip in (2.0, 4.0)]
    assert double[1] / double[0] == pytest.approx(4, rel=0.05)


def test_what_the_notebook_says_about_bits_and_ranges():
    wide, narrow = (
        {
            name: [decibels.sqnr(name, bits, decibels.State(clip=k)) for bits in (2, 8)]
            for name in decibels.SHOWN
        }
        for k in (4.0, 2.0)
    )
    assert all(narrow[name][0] > wide[name][0] for name in decibels.SHOWN)
    rises = {name: narrow[name][1] > wide[name][1] for name in decibels.SHOWN}
    assert rises == {"laplace": False, "normal": False, "uniform": True, "fc1": False}
    for bits in range(2, 9):
        end = math.sqrt(3) * (1 - 2**-bits)
        assert lowest("uniform", bits)[0] == pytest.approx(end, abs=0.006)
    outliers_grid = outlier.choose(8, 50, "best")
    top = (255 - outliers_grid.zero_point.item()) * outliers_grid.scale.item()
    assert top == pytest.approx(43, abs=0.5)


def test_what_the_notebook_says_about_the_prediction():
    for name in SETS:
        ratio = {}
        for bits in (2, 4, 5, 6, 8):
            report = measure(name, bits, values(name).amax).report
            ratio[bits] = report.mse / report.predicted_mse
        if name == "relu":
            zeros = (values(name).x == 0).double().mean().item()
            assert ratio[8] == pytest.approx(1 - zeros, abs=0.005)
            assert 0.2 < zeros < 0.3
        else:
            assert all(abs(ratio[bits] - 1) < 0.1 for bits in (4, 5, 6, 8)), name
        if name == "laplace":
            assert ratio[2] == pytest.approx(1.8, abs=0.1)


def test_decibels_at_every_position():
    for state, scene in sweep(decibels.scene, decibels.State(), decibels.controls()):
        lines = {line.role: line for line in scene.marks(Line)}
        assert min(min(line.y) for line in lines.values()) > -15, "all of it is on the axis"
        for name, role in decibels.SHOWN.items():
            for bits, drawn in zip(decibels.BITS, lines[role].y, strict=True):
                clip = lowest(name, int(bits))[0] if state.ends == "best" else state.clip
                error = errors_of(name, int(bits), clip, "half")[0]
                noise = np.mean(error**2)
                expected = 10 * math.log10(np.mean(values(name).ordered ** 2) / noise)
                assert drawn == pytest.approx(expected, abs=0.02), (state, name, bits)
        gain = scene.readout("predicted: 8th bit").value
        assert gain == pytest.approx(6.0206, abs=0.04)


def test_uniform_values_gain_602_decibels_a_bit_on_their_best_grid():
    best = decibels.State(ends="best")
    for bits in range(2, 9):
        assert decibels.sqnr("uniform", bits, best) == pytest.approx(6.0206 * bits, abs=0.03)
        assert uniform_sqnr_db(bits) == pytest.approx(6.0206 * bits, abs=1e-3)


def test_the_loading_formula():
    for bits in (2, 8):
        for k in (1.0, math.sqrt(3), 4.0):
            expected = 20 * math.log10(2**bits - 1) + 20 * math.log10(math.sqrt(3) / k)
            assert decibels.predicted_db(bits, k) == pytest.approx(expected)


def test_the_outlier_at_its_positions():
    crowd = outlier.crowd().double().numpy()
    assert len(crowd) == COUNT - 1
    states = [
        values for values in positions(outlier.controls()) if values["distance"] in (5, 20, 50)
    ]
    for fields in states:
        state = outlier.State(**fields)
        scene = outlier.scene(state)
        grid = outlier.choose(state.bits, state.distance, state.ends)
        s, z, top = grid.scale.item(), grid.zero_point.item(), 2**state.bits - 1
        q = np.clip(np.rint(crowd / s) + z, 0, top)
        noise = np.mean(((q - z) * s - crowd) ** 2)
        assert scene.readout("MSE of the others").value == pytest.approx(noise, rel=1e-3)
        assert scene.readout("codes they use").value == f"{len(np.unique(q))} of {top + 1}"
        zeros = scene.readout("became exactly 0").value
        assert zeros == pytest.approx(100 * np.mean(q == z), abs=0.01)
        if state.ends == "minmax":
            assert s == pytest.approx((max(state.distance, crowd.max()) - crowd.min()) / top)
        else:
            far = ((np.clip(round(state.distance / s) + z, 0, top) - z) * s - state.distance) ** 2
            other = outlier.choose(state.bits, state.distance, "minmax")
            s2, z2 = other.scale.item(), other.zero_point.item()
            wide = ((np.clip(np.rint(crowd / s2) + z2, 0, top) - z2) * s2 - crowd) ** 2
            far2 = ((round(state.distance / s2)) * s2 - state.distance) ** 2
            assert noise * len(crowd) + far <= (wide.sum() + far2) * 1.001, "no worse than min-max"
    worst = outlier.scene(outlier.State(bits=4, distance=50))
    assert worst.readout("codes they use").value == "3 of 16"
    assert worst.readout("became exactly 0").value == pytest.approx(93, abs=0.5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="uniform, normal"):
        values("cauchy")
    with pytest.raises(ValueError, match="'zero' or 'half'"):
        make_grid("normal", 4, 2.0, "thirds")
    with pytest.raises(ValueError, match="'minmax' or 'best'"):
        outlier.choose(4, 9, "worst")
    with pytest.raises(ValueError, match="'same' or 'best'"):
        decibels.sqnr("normal", 4, decibels.State(ends="worst"))


@pytest.mark.parametrize("module", [clipping, outlier, decibels])
def test_the_panel_lives_and_its_picture_moves(module):
    panel = module.explorer()
    before = panel.svg
    for name, control in panel.controls.items():
        if hasattr(control, "max"):
            control.value = control.min
            assert not panel.error, (name, panel.error)
    assert panel.svg != before
    assert panel.svg == render(panel.scene)
