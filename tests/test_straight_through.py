"""The straight-through pictures at every slider position, against formulas of these tests' own."""

import math
from itertools import pairwise

import pytest
import torch

from labkit.explorers import straight_through, weight_walk
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Line, Points, Steps

WEIGHTS = [i / 20 for i in range(-36, 37)]


def by_hand(weight, target, bits):
    """(rounded, straight-through slope) of (Q(w) - t)² on the grid from -1 to 1."""
    most = 2 ** (bits - 1) - 1
    code = round(weight * most)
    rounded = max(-most, min(most, code)) / most
    return rounded, 2 * (rounded - target) if -most <= code <= most else 0.0


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("target", [-1.0, 0.0, 0.37])
def test_both_slopes_are_those_of_the_definition(bits, target):
    most = 2 ** (bits - 1) - 1
    for weight in WEIGHTS:
        if math.isclose(abs(weight * most) % 1, 0.5, abs_tol=1e-6):
            continue
        now = straight_through.slopes(straight_through.State(weight, target, bits))
        rounded, slope = by_hand(weight, target, bits)
        assert now.rounded == pytest.approx(rounded, abs=1e-6)
        assert now.true == 0
        assert now.straight_through == pytest.approx(slope, abs=1e-6)


def test_on_an_edge_there_is_no_true_slope():
    now = straight_through.slopes(straight_through.State(weight=0.5, target=0.0, bits=2))
    assert now.true is None
    picture = straight_through.scene(straight_through.State(weight=0.5, target=0.0, bits=2))
    assert picture.readout("true slope").value == "a jump"


def test_every_position_shows_where_the_weight_goes():
    controls = straight_through.controls()
    for state, picture in sweep(straight_through.scene, straight_through.State(), controls):
        now = straight_through.slopes(state)
        wanted = "stays"
        if now.straight_through:
            wanted = "goes left" if now.straight_through > 0 else "goes right"
        assert picture.readout("the weight").value == wanted
        arrow = [m for m in picture.marks(Line) if m.label == "the step that training takes"]
        assert len(arrow) == (wanted != "stays")
        for mark in arrow:
            assert (mark.x[1] > mark.x[0]) == (wanted == "goes right")


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_drawn_stairs_are_the_rounding(bits):
    picture = straight_through.scene(straight_through.State(bits=bits))
    stairs = next(m for m in picture.marks(Steps) if m.role == "quantized")
    most = 2 ** (bits - 1) - 1
    for left, right, height in zip(stairs.edges, stairs.edges[1:], stairs.heights, strict=False):
        middle = (max(left, -1.7) + min(right, 1.7)) / 2
        assert height == pytest.approx(by_hand(middle, 0, bits)[0], abs=1e-6)
    assert len(stairs.heights) == 2 * most + 1


def test_the_loss_lies_inside_its_axis_everywhere():
    controls = straight_through.controls()
    for _, picture in sweep(straight_through.scene, straight_through.State(), controls):
        for row in picture.rows:
            for plot in row:
                for mark in plot.marks:
                    heights = getattr(mark, "heights", getattr(mark, "y", ()))
                    assert all(plot.y.low <= y <= plot.y.high for y in heights), plot.title


# --- a weight that walks ------------------------------------------------------------------------


def walked(start, target, rate, steps=weight_walk.STEPS):
    path, weight = [], start
    for _ in range(steps + 1):
        rounded, slope = by_hand(weight, target, 3)
        path.append((weight, rounded))
        weight -= rate * slope
    return path


@pytest.mark.parametrize("rate", [0.02, 0.1])
@pytest.mark.parametrize(
    ("start", "target"), [(-0.913, 0.4217), (0.3179, -0.7713), (1.0937, 0.0513)]
)
def test_the_walk_is_gradient_descent_by_hand(start, target, rate):
    found = weight_walk.walk("straight", start, target, rate)
    for (weight, rounded), (mine, mine_rounded) in zip(
        found, walked(start, target, rate), strict=True
    ):
        assert weight == pytest.approx(mine, abs=1e-5)
        assert rounded == pytest.approx(mine_rounded, abs=1e-6)


def test_with_the_true_slope_nothing_ever_moves():
    for start in (-1.5, -0.2, 0.9):
        assert {w for w, _ in weight_walk.walk("true", start, 0.4, 0.3)} == {start}


@pytest.mark.parametrize("start", [-1.5, -1.2, 1.2, 1.5])
def test_a_clipped_weight_stays_where_it_is(start):
    assert {w for w, _ in weight_walk.walk("straight", start, 0.0, 0.3)} == {start}


@pytest.mark.parametrize("target", [-0.8, -0.1, 0.42, 0.5])
def test_it_oscillates_between_the_neighbours_of_the_target_and_their_mean_is_the_target(target):
    rate = 0.1
    later = [rounded for _, rounded in weight_walk.walk("straight", 0.0, target, rate)][60:]
    below = math.floor(target * 3) / 3
    assert {round(3 * value) for value in later} == {round(3 * below), round(3 * below) + 1}
    # What the weight has walked in these steps, at most once across the bracket, is the difference.
    most = 2 * rate * (1 / 3) / (2 * rate * (len(later) - 1))
    assert sum(later[:-1]) / (len(later) - 1) == pytest.approx(target, abs=most)


def test_a_target_on_a_level_is_reached_and_kept():
    path = weight_walk.walk("straight", -0.9, 0.0, 0.1)
    assert path[-1] == path[-20] and path[-1][1] == 0


def test_every_position_of_the_walk_shows_the_path():
    controls = weight_walk.controls() | {"steps": weight_walk.int_slider("s", 0, 120, step=60)}
    for state, picture in sweep(weight_walk.scene, weight_walk.State(), controls):
        path = weight_walk.walk(state.backward, state.start, state.target, state.rate)
        weight, rounded = path[state.steps]
        assert picture.readout("weight w").value == weight
        assert picture.readout("rounded Q(w)").value == rounded
        changes = sum(a[1] != b[1] for a, b in pairwise(path[: state.steps + 1]))
        assert picture.readout("code changed").value == changes
        stairs = next(picture.marks(Steps))
        assert len(stairs.heights) == state.steps + 1
        (dot,) = picture.marks(Points)
        assert dot.x == (state.steps,) and dot.y == (weight,)
        (plot,) = picture.rows[0]
        assert plot.y.low < weight < plot.y.high


def test_an_unknown_backward_pass_lists_the_known():
    with pytest.raises(ValueError, match="straight, true"):
        weight_walk.walk("wrong", 0.0, 0.0, 0.1)


@pytest.mark.parametrize("module", [straight_through, weight_walk])
def test_the_panels_move(module):
    panel = module.explorer()
    assert isinstance(panel, Panel) and not panel.error
    before = panel.svg
    panel.set(target=0.9)
    assert panel.svg != before and not panel.error


def test_the_gradient_is_fake_quantizes_own():
    state = straight_through.State(weight=0.3, target=0.8, bits=4)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(weight.float(), 1 / 7, 0, -7, 7)
    ((y - 0.8) ** 2).backward()
    assert straight_through.slopes(state).straight_through == pytest.approx(weight.grad.item())
