"""Honest bits per weight at every slider position, and the sizes that notebook 03 states."""

import json
import math
import os
from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file

from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Bars, Points
from labkit.explorers.storage import (
    GROUPS,
    State,
    controls,
    explorer,
    measure,
    scene,
    uniform,
    weights,
)
from labkit.formats import Uniform
from labkit.packing import pack
from labkit.zoo import mnist_mlp

COUNT = 200_704


def counted(bits, group, symmetric):
    groups = math.ceil(COUNT / (group or COUNT))
    zero_points = 0 if symmetric else math.ceil(groups * bits / 8)
    return math.ceil(COUNT * bits / 8) + 4 * groups + zero_points


def test_every_position_counts_codes_scales_and_zero_points():
    for state, picture in sweep(scene, State(), controls()):
        expected = counted(state.bits, state.group, state.symmetric)
        assert picture.readout("stored").value == f"{expected:,}"
        shown = float(picture.readout("bits per weight").value)
        assert shown == pytest.approx(8 * expected / COUNT, abs=5e-5)
        # The stack of the chosen group ends at the same number.
        tops = {}
        for bar in picture.marks(Bars):
            tops[bar.x[0]] = max(tops.get(bar.x[0], 0), bar.heights[0])
        assert tops[GROUPS.index(state.group)] == pytest.approx(8 * expected / COUNT)
        # And the ring stands at the measured pair.
        ring = next(p for p in picture.marks(Points) if p.hollow)
        assert ring.x[0] == pytest.approx(8 * expected / COUNT)
        assert 0.1 < ring.y[0] < 200 and max(tops.values()) < 11.5


@pytest.mark.parametrize("data", ["layer", "normal", "outliers"])
@pytest.mark.parametrize("group", [16, 784, 0])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_error_is_that_of_torchs_own_fake_quantization(bits, group, data):
    x = weights(data).reshape(-1, group or COUNT)
    low, high = x.amin(1).clamp(max=0).double(), x.amax(1).clamp(min=0).double()
    scale = ((high - low) / (2**bits - 1)).float()
    zero = (-low / ((high - low) / (2**bits - 1))).round().int()
    back = torch.fake_quantize_per_channel_affine(x, scale, zero, 0, 0, 2**bits - 1)
    mse = (back.double() - x.double()).square().mean().item()
    now = measure(uniform(bits, group), data)
    assert now.mse == pytest.approx(mse, rel=1e-3)
    power = x.double().square().mean().item()
    assert now.relative == pytest.approx(100 * math.sqrt(mse / power), rel=1e-3)
    assert now.sqnr_db == pytest.approx(10 * math.log10(power / mse), abs=0.01)


def test_smaller_groups_cost_more_and_err_less():
    for data in ("layer", "normal", "outliers"):
        for bits in range(2, 9):
            row = [measure(uniform(bits, group), data) for group in (16, 32, 64, 128, 256)]
            sizes, errors = [m.nbytes for m in row], [m.mse for m in row]
            assert sizes == sorted(sizes, reverse=True)
            assert errors == sorted(errors)


def test_what_the_notebook_says_about_groups():
    many, few = measure(uniform(4, 32), "layer"), measure(uniform(5, 256), "layer")
    assert few.bits_per_weight == pytest.approx(many.bits_per_weight, abs=0.02)
    assert (round(few.relative, 1), round(many.relative, 1)) == (5.2, 7.4)
    # The bend: down to groups of 128, shorter ones gain more for each bit than one bit more does.
    row = [measure(uniform(4, group), "layer") for group in (0, 784, 256, 128, 64, 32, 16)]
    more = measure(uniform(5, 0), "layer")
    one_bit = math.log(row[0].relative / more.relative) / (more.nbytes - row[0].nbytes)
    gains = [math.log(a.relative / b.relative) / (b.nbytes - a.nbytes) for a, b in pairwise(row)]
    assert [gain > one_bit for gain in gains] == [True, True, True, False, False, False]


def test_the_panel_follows_its_sliders():
    panel = explorer()
    assert isinstance(panel, Panel) and "5.125 bits per weight" in panel.words()
    panel.set(group=0)
    assert panel.scene.readout("bits per weight").value == "4.0002" and panel.error == ""


def test_the_documents_ten_million_parameters():
    codes = torch.randint(0, 16, (10_000_000,), generator=torch.Generator().manual_seed(0))
    assert len(pack(codes, 8)) == 10_000_000
    four = pack(codes, 4)
    assert len(four) == 5_000_000
    # 40 MB of float32 become 5 MB: 87.5 % less.
    assert 1 - len(four) / (4 * 10_000_000) == 0.875
    # Example 2: a fifth at 8 bits, the rest at 4 bits.
    mixed = len(pack(codes[:2_000_000], 8)) + len(pack(codes[2_000_000:], 4))
    assert mixed == 6_000_000 and round(40_000_000 / mixed, 2) == 6.67


def test_a_file_is_as_large_as_the_number_printed(tmp_path):
    tensors = {}
    for name, p in mnist_mlp().state_dict().items():
        if p.ndim == 2:
            parts = Uniform(4, 32 if p.shape[1] % 32 == 0 else 16).encode(p).tensors
            tensors |= {f"{name}.{part}": t for part, t in parts.items()}
        else:
            tensors[name] = p
    nbytes = sum(t.numel() * t.element_size() for t in tensors.values())
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little")
    assert os.path.getsize(path) == 8 + header + nbytes
    assert json.loads(data[8 : 8 + header])["fc1.weight.codes"]["dtype"] == "U8"
