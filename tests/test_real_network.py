"""MobileNetV2's panels: what they measure is what quantize_model makes, at every position."""

import pytest
import torch
import torch.nn.functional as F

from labkit.explorers import equalizing, real_bits, real_network
from labkit.explorers.panel import Panel, sweep
from labkit.explorers.scene import Cells, Points, Stems
from labkit.quantize import quantizable_layers, quantize_model

each_variant = pytest.mark.parametrize("variant", real_network.VARIANTS)


def features(model):
    with torch.no_grad():
        return model(real_network.pictures())


@each_variant
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_a_whole_network_is_the_one_that_quantize_model_makes(variant, granularity):
    model, report = quantize_model(real_network.network(variant), bits=8, granularity=granularity)
    seen = real_network.see(variant, 8, granularity)
    cosines = F.cosine_similarity(features(model), real_network.in_float())
    assert seen.cosines == pytest.approx(cosines.tolist(), abs=2e-3)
    assert seen.nbytes == report.quantized_bytes


@each_variant
def test_the_blame_of_a_layer_is_that_of_the_whole_network_with_only_this_layer_quantized(variant):
    blame = real_network.blame(variant)
    network = real_network.network(variant)
    assert list(blame) == list(quantizable_layers(network)) == list(real_network.layers(variant))
    for name in ("stem.conv", "blocks.1.expand", "blocks.9.depthwise", "head.conv"):
        model, _ = quantize_model(network, bits={name: 8}, granularity="tensor")
        cosine = F.cosine_similarity(features(model), real_network.in_float()).mean().item()
        assert blame[name] == pytest.approx(cosine, abs=2e-3)


def test_what_the_notebook_says():
    see, blame = real_network.see, real_network.blame
    assert see("folded", 8).cosine == pytest.approx(0.37, abs=0.02)
    assert see("folded", 8).recognized <= 1
    assert see("folded", 8, "channel").cosine > 0.97
    assert see("equalized", 8).cosine == pytest.approx(0.95, abs=0.01)
    assert see("equalized", 8).recognized == 8
    worst = sorted(blame("folded"), key=blame("folded").get)[:2]
    assert worst == ["blocks.1.expand", "blocks.0.depthwise"]
    rest = [cosine for name, cosine in blame("folded").items() if name not in worst]
    assert min(rest) > 0.999
    ranges = real_network.ranges("folded", "blocks.1.expand").sort().values
    assert ranges[-1] == pytest.approx(127.3, abs=0.1) and ranges[-2] < 4


def test_every_position_of_the_bits():
    for state, picture in sweep(real_bits.scene, real_bits.State(), real_bits.controls()):
        seen = real_network.see(state.variant, state.bits, state.granularity)
        mean = sum(seen.cosines) / 8
        assert picture.readout("feature cosine").value == f"{mean:.2f}"
        assert picture.readout("file").value == f"{seen.nbytes / 1e6:.2f}"
        dot = next(p for p in picture.marks(Points) if p.role == "quantized")
        assert (dot.x, dot.y) == ((state.bits,), (pytest.approx(mean),))
        roles = [cell.roles[0] for cell in picture.marks(Cells)]
        assert [role == "good" for role in roles] == [i == f for i, f in enumerate(seen.found)]


def test_every_position_of_the_layers():
    for state, picture in sweep(equalizing.scene, equalizing.State(), equalizing.controls()):
        variant = "equalized" if state.equalized else "folded"
        name, conv = list(real_network.layers(variant).items())[state.layer]
        weight = conv.weight.detach()
        step = weight.abs().max().item() / 127
        assert picture.readout("step s").value == pytest.approx(step, rel=1e-6)
        codes = (weight / step).round().flatten(1)
        silent = int((codes == 0).all(1).sum())
        lost = picture.readout("channels that became 0").value
        assert lost == f"{silent} of {len(weight)}"
        blame = real_network.blame(variant)[name]
        assert picture.readout("feature cosine").value == f"{blame:.3f}"
        assert len(list(picture.marks(Stems))) == 1 + state.equalized
        for points in picture.marks(Points):
            assert all(0.99e-4 < y < 200 for y in points.y)


@pytest.mark.parametrize("module", [real_bits, equalizing])
def test_without_the_network_one_line_says_what_to_do(module, monkeypatch):
    assert isinstance(module.explorer(), Panel)
    monkeypatch.setattr(real_network, "is_here", lambda: False)
    line = repr(module.explorer())
    assert "python lab.py models" in line and "\n" not in line


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="folded"):
        real_network.network("pruned")
    with pytest.raises(ValueError, match="'group'"):
        real_bits.scene(real_bits.State(granularity="group"))
