"""Bytes and products at every slider position; times are drawn, and compared with nothing."""

import pytest
import torch

from labkit.explorers import layer_speed
from labkit.explorers.layer_speed import KINDS, SIZES, State, controls, explorer, scene
from labkit.explorers.panel import sweep
from labkit.explorers.scene import Bars, Line
from labkit.latency import Latency, LatencyReport


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Times of no machine: small layers twice as slow as float, the largest ten times as fast."""
    rows = []
    for size in SIZES:
        for kind in KINDS:
            seconds = 1e-5 if kind == "float" else (2e-5 if size < 2048 else 1e-6)
            row = Latency(f"{kind} {size}", seconds, seconds, seconds, 1, 1, 1, (seconds,) * 9)
            rows.append(row)
    report = LatencyReport(tuple(rows), False, 9, 1, 0.0)
    monkeypatch.setattr(layer_speed, "times", lambda batch, cold: report)


def test_every_position_counts_bytes_and_products():
    for state, picture in sweep(scene, State(), controls()):
        weights = state.size**2
        assert picture.readout("products in a call").value == f"{state.batch * weights:,}"
        assert picture.readout("weights in float").value == f"{4 * weights:,}"
        assert picture.readout("in 8 bits").value == f"{weights:,}"
        assert picture.readout("in 4 bits").value == f"{weights // 2:,}"


def test_every_position_draws_the_ratio_of_that_size():
    for state, picture in sweep(scene, State(), controls()):
        heights = [bars.heights[0] for bars in picture.marks(Bars)]
        assert heights == pytest.approx([0.1, 0.1] if state.size == 2048 else [2.0, 2.0])


def test_axes_hold_every_curve():
    for _, picture in sweep(scene, State(), controls()):
        curves = picture.rows[0][0]
        for line in (mark for mark in curves.marks if isinstance(mark, Line)):
            assert len(line.x) == len(SIZES)
            assert curves.x.low < min(line.x) and max(line.x) < curves.x.high


def test_no_time_is_a_readout():
    for _, picture in sweep(scene, State(), controls()):
        assert all("µs" not in readout.words() for readout in picture.readouts)


def test_the_panel_moves():
    panel = explorer(size=256)
    panel.set(size=16, batch=32, cold=True)
    assert not panel.error
    assert panel.scene.readout("products in a call").value == "8,192"


def test_what_is_timed_computes_the_layer():
    engines = layer_speed._engines()
    assert len(engines) == len(SIZES) * len(KINDS)
    x = torch.rand(3, 64)
    wanted = engines["float 64"](x)
    for kind, allowed in (("dynamic", 0.02), ("weight_only", 0.15)):
        assert (engines[f"{kind} 64"](x) - wanted).abs().max() < allowed
