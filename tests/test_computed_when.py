"""What is computed when, at every slider position, against formulas of these tests' own."""

import math

import pytest
import torch

from labkit.data import load_mnist
from labkit.explorers.computed_when import METHODS, State, call, controls, explorer, layers, scene
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Band, Cells, Steps
from labkit.zoo import mnist_mlp

STATES = [
    State(method, image, brightness)
    for method in METHODS
    for image in (0, 7, 19)
    for brightness in (0.1, 1.0, 3.0)
]


def entering(state):
    net, images = mnist_mlp(), load_mnist().test_images
    with torch.no_grad():
        return net.fc1(state.brightness * images[state.image].reshape(1, -1)).relu()


def test_every_position_shows_what_was_measured():
    for state, picture in sweep(scene, State(), controls()):
        shown = picture.readout("signal to noise of the output").value
        assert shown == f"{call(state).sqnr_db:.1f}"
        assert 10 < float(shown) < 70
        words = [label for cells in picture.marks(Cells) for label in cells.labels]
        assert len(words) == 10
        # The weights are always ready, ahead.
        assert words[0] == "32,768 codes of 8 bits, 128 scales" and words[1] == "–"
        assert bool(list(picture.marks(Band))) == (state.method != "weight_only")


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_signal_to_noise_ratio_is_that_of_the_definition(state):
    x = entering(state)
    float_layer, layer = layers()["float"], layers()[state.method]
    with torch.no_grad():
        y, z = float_layer(x).double(), layer(x).double()
    wanted = 10 * math.log10((y**2).sum() / ((y - z) ** 2).sum())
    assert call(state).sqnr_db == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_dynamic_grid_ends_at_the_largest_value_and_never_clips(state):
    if state.method == "dynamic":
        now = call(state)
        assert now.high == pytest.approx(entering(state).max().item(), rel=1e-5)
        assert now.clipped == 0 and now.zero_point == 0


def test_a_static_grid_is_the_same_for_every_input():
    grids = {(call(s).scale, call(s).zero_point) for s in STATES if s.method == "static"}
    assert len(grids) == 1


@pytest.mark.parametrize("state", [s for s in STATES if s.method == "static"], ids=str)
def test_codes_and_clipped_values_are_counted_by_hand(state):
    x, now = entering(state).flatten().double(), call(state)
    steps = torch.round(x / now.scale)
    assert now.clipped == int((steps > 255).sum())
    assert now.codes_used == len(set(steps.clamp(max=255).tolist()))


def test_the_drawn_histogram_counts_each_positive_value_once():
    for state in STATES[::3]:
        x = entering(state)
        drawn = next(m for m in scene(state).marks(Steps) if m.role == "float")
        assert sum(drawn.heights) == int((x > 0).sum())


def test_static_suffers_where_the_notebook_says_so():
    at = {(m, b): call(State(m, 0, b)) for m in METHODS for b in (0.1, 1.0, 2.0, 3.0)}
    assert at["static", 3.0].clipped >= 1
    assert at["static", 2.0].sqnr_db - at["static", 3.0].sqnr_db == pytest.approx(14, abs=1)
    assert at["static", 0.1].codes_used == pytest.approx(14, abs=1)
    assert at["dynamic", 0.1].sqnr_db - at["static", 0.1].sqnr_db == pytest.approx(17, abs=1)
    assert at["dynamic", 1.0].sqnr_db - at["static", 1.0].sqnr_db == pytest.approx(2, abs=0.6)


def test_an_unknown_method_lists_the_known():
    with pytest.raises(ValueError, match="weight_only, dynamic, static"):
        scene(State("fast"))


def test_the_panel_moves():
    panel = explorer(method="weight_only")
    assert isinstance(panel, Panel) and not panel.error
    panel.set(method="static", brightness=3.0)
    assert panel.scene.readout("values clipped").value >= 1
