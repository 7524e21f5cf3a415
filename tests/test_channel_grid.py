"""One channel on its grid: every layer, width and granularity, by a formula of the test's own."""

import numpy as np
import pytest
import torch

from labkit.explorers.channel_grid import (
    SHOWN,
    State,
    controls,
    explorer,
    layer,
    limits,
    quantized,
    scene,
)
from labkit.explorers.panel import Panel
from labkit.explorers.scene import Line, Points, Stems, Steps
from labkit.explorers.weight_choices import GRANULARITIES, GROUP
from labkit.zoo import mnist_mlp

CHANNELS = {"fc1": 256, "fc2": 128, "fc3": 10}


def by_hand(name, bits, granularity, channel):
    """(weights, codes, scales of the channel's parts) in numpy."""
    w = getattr(mnist_mlp(), name).weight.detach().numpy()
    row = w[np.argsort(np.abs(w).max(1), kind="stable")[channel]]
    top = 2 ** (bits - 1) - 1
    if granularity == "group":
        parts = row.reshape(-1, GROUP)
        s = np.abs(parts).max(1, keepdims=True).astype(float) / top
    else:
        s = np.array([[np.abs(w if granularity == "tensor" else row).max().astype(float) / top]])
        parts = row[None]
    s = s.astype(np.float32)
    return row, np.rint(parts / s).reshape(-1), s.ravel()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", CHANNELS)
def test_every_position(name, granularity):
    last = CHANNELS[name] - 1
    for bits in range(2, 9):
        for channel in (0, last // 2, last):
            picture = scene(State(name, bits, granularity, channel))
            row, codes, scales = by_hand(name, bits, granularity, channel)
            zero = 100 * np.mean(codes == 0)
            assert picture.readout("of this channel became 0").value == f"{zero:.1f}"
            levels = f"{len(np.unique(codes))} of {2**bits - 1}"
            assert picture.readout("levels in use").value == levels
            kept = codes.reshape(len(scales), -1) * scales[:, None].astype(float)
            noise = np.mean((row - kept.ravel()) ** 2)
            sqnr = 10 * np.log10(np.mean(row.astype(float) ** 2) / noise)
            shown = float(picture.readout("SQNR, channel").value)
            assert shown == pytest.approx(sqnr, abs=0.06)
            before, after = [p for p in picture.marks(Points) if len(p.x) == SHOWN]
            assert set(before.y) <= set(row.tolist())
            assert np.isin(np.array(after.y, np.float32), kept.astype(np.float32)).all()
            # No weight lies outside its grid, because the scale reaches to the largest.
            ends = [s for s in picture.marks(Steps) if len(s.heights) == SHOWN]
            assert all(b <= e * 1.000001 for b, e in zip(before.y, ends[0].heights, strict=True))
            (stems,) = picture.marks(Stems)
            assert len(stems.x) == 2**bits - 1


def test_every_channel_of_the_smallest_layer_and_the_order():
    widest = [scene(State("fc3", 4, "channel", c)) for c in range(10)]
    steps = [float(s.readout("step s").value) for s in widest]
    assert steps == sorted(steps)
    ranges = next(widest[0].marks(Line)).y
    assert list(ranges) == sorted(ranges)


def test_what_the_notebook_says():
    # 2 bits per tensor: half a step is half the largest weight; one weight in a hundred is not
    # that large.
    w = layer("fc1").weight
    share = (w.abs() >= w.abs().max() / 2).double().mean().item()
    assert share < 0.01
    assert scene(State("fc1", 2, "tensor", 0)).readout("of this channel became 0").value == "100.0"
    silent = (quantized("fc1", 2, "tensor").codes == 0).all(1).sum().item()
    assert silent == (w.abs().amax(1) < w.abs().max() / 2).sum().item() == 19
    assert (quantized("fc1", 2, "channel").codes != 0).any(1).all()


def test_limits_follow_the_layer():
    for name, count in CHANNELS.items():
        assert limits(State(name)) == {"channel": {"max": count - 1}}
    panel = explorer(layer="fc1", channel=200)
    panel.set(layer="fc3")
    assert isinstance(panel, Panel) and panel.state.channel == 9 and not panel.error
    assert set(controls()) == {"channel", "bits", "granularity", "layer"}


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="fc9"):
        scene(State("fc9"))
    with pytest.raises(ValueError, match="row"):
        quantized("fc3", 2, "row")
    assert torch.equal(layer("fc3").ranges, layer("fc3").weight.abs().amax(1))
