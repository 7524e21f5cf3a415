"""Other grids on one number line: levels, gaps and errors at every position of the controls."""

from itertools import product

import ml_dtypes
import numpy as np
import pytest
import torch

from labkit.explorers.drawing.frame import frames
from labkit.explorers.formats_menu import (
    BLOCKS,
    FAMILIES,
    FLOATS,
    MXS,
    State,
    grid,
    make,
    offered,
    rivals,
    settled,
)
from labkit.explorers.formats_view import (
    END,
    LARGEST_GAP,
    SMALLEST_GAP,
    controls,
    explorer,
    scene,
)
from labkit.explorers.scene import Line, Points, Stems, Steps
from labkit.explorers.storage import DATA, encoded, measure, weights
from labkit.formats import MX, NF4, Codebook, MiniFloat, Uniform

OFFERED = [
    State(family, bits, block, mode, data)
    for family in FAMILIES
    for bits in offered(family)["bits"]
    for block in offered(family)["block"]
    for mode in offered(family)["scale_mode"]
    for _, data in DATA[:: 2 if family == "uniform" else 1]
]
TYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e2m1": ml_dtypes.float4_e2m1fn,
    "e2m3": ml_dtypes.float6_e2m3fn,
}


def test_every_position_is_counted_measured_and_inside_the_axes():
    for state in OFFERED:
        picture = scene(state)
        stored = encoded(make(state), state.data)
        nbytes = sum(t.numel() * t.element_size() for t in stored.tensors.values())
        shown = float(picture.readout("bits per weight").value)
        assert shown == pytest.approx(8 * nbytes / weights().numel(), abs=5e-5)
        # The dot that stands for this format is at its measured error.
        x = weights(state.data).double()
        mse = (stored.decode().double() - x).square().mean()
        error = 100 * (mse / x.square().mean()).sqrt().item()
        dot = next(p for p in picture.marks(Points) if p.size == 8)
        assert dot.y[0] == pytest.approx(error) and dot.x[0] == pytest.approx(shown, abs=5e-5)
        assert picture.readout("relative error").value == pytest.approx(error)
        assert 0.3 < error < 150 and 1.5 < shown < 10.8
        assert all(abs(level) < END for level in next(picture.marks(Stems)).x)


@pytest.mark.parametrize("family", [*FLOATS, *MXS])
def test_float_grids_are_those_of_ml_dtypes(family):
    element = (FLOATS | MXS)[family]
    state = settled(State(family, block=32))
    width = make(state).bits
    numbers = np.arange(2**width, dtype=np.uint8).view(TYPES[element]).astype(np.float64)
    numbers = np.unique(numbers[np.isfinite(numbers)])
    levels = grid(make(state), "layer", 5).numpy().astype(np.float64)
    ratio = levels[-1] / numbers[-1]
    np.testing.assert_allclose(levels, numbers * ratio, rtol=1e-6)
    if family in MXS:
        assert np.log2(ratio) == round(np.log2(ratio))
    else:
        block = weights().reshape(-1, 32)[5]
        assert levels[-1] == pytest.approx(block.abs().max().item(), rel=1e-6)


def test_the_lines_lead_to_the_nearest_level_except_where_a_value_clips():
    for state in OFFERED:
        picture = scene(settled(state))
        levels = torch.tensor(next(picture.marks(Stems)).x)
        moves = [m for m in picture.marks(Line) if m.y == (1.52, 1.34)]
        assert moves
        for move in moves:
            gaps = (levels - move.x[0]).abs()
            chosen = (levels - move.x[1]).abs().argmin()
            assert gaps[chosen] <= gaps.min() * (1 + 1e-4) + 1e-7


def test_gaps_are_flat_for_uniform_and_double_for_floats():
    flat = next(m for m in scene(State("uniform", 4)).marks(Steps) if m.role == "error")
    assert max(flat.heights) == pytest.approx(min(flat.heights), rel=1e-4)
    rising = next(m for m in scene(State("FP8 E4M3")).marks(Steps) if m.role == "error")
    ratios = {round(b / a, 3) for a, b in zip(rising.heights, rising.heights[1:], strict=False)}
    assert {0.5, 1.0, 2.0} <= ratios


def test_gaps_are_drawn_as_they_are_except_those_of_floats_near_zero():
    for state in OFFERED:
        gaps = next(m for m in scene(state).marks(Steps) if m.role == "error").heights
        assert max(gaps) < LARGEST_GAP
        assert min(gaps) > SMALLEST_GAP or (make(state).bits == 8 and "FP8" in state.family)


def test_levels_and_gaps_stand_above_each_other():
    _, line, gaps = frames(scene(State()))
    assert gaps.left == line.left and gaps.width == pytest.approx(line.width, abs=1)


def test_unoffered_positions_settle_and_the_panel_offers_only_what_exists():
    for family in FAMILIES:
        for bits in range(2, 9):
            for block in BLOCKS:
                state = settled(State(family, bits, block))
                assert state.bits in offered(family)["bits"]
                assert state.block in offered(family)["block"]
    panel = explorer()
    for family in FAMILIES:
        panel.controls["family"].value = family
        assert panel.error == ""
        assert tuple(panel.controls["bits"].options) == offered(family)["bits"]
        assert settled(panel.state) == panel.state
    assert set(controls()) == {"family", "bits", "block", "scale_mode", "data"}


def test_what_the_notebook_says_about_formats():
    error = {name: measure(format, "layer").relative for _, name, format in rivals()}
    wild = {name: measure(format, "outliers").relative for _, name, format in rivals()}
    # A codebook fitted to the data beats the uniform grid of the same width.
    assert all(error[f"k-means {b} bits"] < error[f"uniform {b} bits"] for b in range(2, 9))
    said = [error[name] for name in ("k-means 4 bits", "uniform 4 bits")]
    said += [error[name] for name in ("k-means 8 bits", "uniform 8 bits")]
    assert [f"{value:.2g}" for value in said] == ["10", "19", "0.67", "1.2"]
    # And at equal bits it beats every uniform grid by groups: the line through the codebooks.
    books = [measure(Codebook(bits), "layer") for bits in range(2, 9)]
    wide, low = [m.bits_per_weight for m in books], np.log([m.relative for m in books])
    for bits, group in product(range(2, 8), BLOCKS):
        m = measure(Uniform(bits, group or None), "layer")
        if wide[0] <= m.bits_per_weight <= wide[-1]:
            assert np.exp(np.interp(m.bits_per_weight, wide, low)) < m.relative
    by_64 = measure(Uniform(4, 64), "layer")
    assert (by_64.bits_per_weight, round(by_64.relative, 1)) == (4.5625, 8.4)
    assert round(float(np.exp(np.interp(4.5625, wide, low)))) == 7
    # Without outliers the uniform 8-bit grid beats both FP8 grids; with them FP8 wins.
    assert error["uniform 8 bits"] < error["FP8 E4M3"] < error["FP8 E5M2"]
    assert wild["FP8 E4M3"] < wild["FP8 E5M2"] < wild["uniform 8 bits"]
    # The floor rule clips E4M3 more than E2M3; the rule that never clips puts eight bits ahead.
    assert error["MX FP6, by 32"] < error["MX FP8, by 32"]
    six, eight = (measure(MX(e, "rceil"), "layer").relative for e in ("e2m3", "e4m3"))
    assert (round(six, 2), round(eight, 2)) == (2.8, 2.65)
    modes = {mode: error[f"MX FP4 {mode}, by 32"] for mode in ("floor", "ceil", "rceil", "even")}
    assert min(modes, key=modes.get) == "even" and max(modes, key=modes.get) == "ceil"
    # NF4 by 64 beats the symmetric grid of its own size; a zero point puts the affine one ahead.
    fair = measure(Uniform(4, 64, symmetric=True), "layer")
    assert fair.bits_per_weight == measure(NF4(64), "layer").bits_per_weight == 4.5
    assert measure(NF4(64), "layer").relative < fair.relative
    nf4, affine = measure(NF4(64), "layer"), measure(Uniform(4, 64), "layer")
    assert affine.relative < nf4.relative < 1.15 * affine.relative
    assert measure(Codebook(4), "layer").parts["codebook"] == 64
    assert MiniFloat("e2m1").bits == 4
