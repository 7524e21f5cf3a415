"""Layer blame: one layer at a time, and the error on its way through; against plain torch."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from labkit.blame import layer_blame, layer_errors
from labkit.data import load_mnist
from labkit.evaluate import Accuracy, accuracy
from labkit.quantize import quantize_model
from labkit.zoo import mnist_cnn, mnist_mlp


@pytest.fixture(scope="module")
def images():
    return load_mnist().test_images[:50]


def rounded(weight, bits):
    """The plain formula, apart from labkit: symmetric, one scale a channel."""
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.ndim - 1)) / top
    return (weight / scale).round().clamp(-top, top) * scale


def by_hand(model, names, bits, x):
    """(SQNR, cosine) of the output with these layers' weights rounded."""
    changed = copy.deepcopy(model)
    for name in names:
        layer = changed.get_submodule(name)
        layer.weight.data = rounded(layer.weight.data, bits)
    with torch.no_grad():
        wanted, got = model(x).double(), changed(x).double()
    noise = (wanted - got).square().sum()
    return (
        (10 * (wanted.square().sum() / noise).log10()).item(),
        functional.cosine_similarity(wanted, got).mean().item(),
    )


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("build", [mnist_mlp, mnist_cnn])
def test_each_row_is_the_output_with_only_that_layer_rounded(build, images):
    model = build()
    table = layer_blame(model, images, bits=3)
    for row in table.rows:
        wanted = by_hand(model, [row.name], 3, images)
        assert (row.sqnr_db, row.cosine) == pytest.approx(wanted, rel=1e-3)
    wanted = by_hand(model, [row.name for row in table.rows], 3, images)
    assert (table.together.sqnr_db, table.together.cosine) == pytest.approx(wanted, rel=1e-3)
    assert table.worst.sqnr_db == min(row.sqnr_db for row in table.rows)


def test_a_layer_scaled_out_of_shape_is_found():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(16, 16) for _ in range(4)])
    # One weight a hundred times the others: eight bits on one scale leave nothing of the rest.
    model[2].weight.data[0, 0] = 100 * model[2].weight.abs().max()
    x = torch.randn(100, 16) * torch.tensor([0.01] + [1.0] * 15)
    assert layer_blame(model, x, granularity="tensor").worst.name == "2"


def test_widths_of_each_layer_and_exclusions_are_those_of_quantize_model(images):
    model = mnist_mlp()
    table = layer_blame(model, images, bits={"fc1": 8, "fc3": 2})
    assert [(row.name, row.bits) for row in table.rows] == [("fc1", 8), ("fc3", 2)]
    assert table.together.bits is None and "mixed" in str(table)
    assert [row.name for row in layer_blame(model, images, exclude=["fc1"]).rows] == ["fc2", "fc3"]
    with pytest.raises(ValueError, match="did you mean fc1"):
        layer_blame(model, images, bits={"fc11": 8})


def test_static_is_calibrated_on_the_inputs_unless_told_otherwise(images):
    model = mnist_mlp()
    own = layer_blame(model, images, method="static")
    same = layer_blame(model, images, method="static", calibration_data=[images])
    narrow = layer_blame(model, images, method="static", calibration_data=[images * 0.1])
    assert own == same
    assert narrow.together.sqnr_db < own.together.sqnr_db - 10


def test_quality_is_measured_for_each_model_and_printed_with_its_interval(images):
    labels = load_mnist().test_labels[:50]
    table = layer_blame(
        mnist_mlp(), images, bits=2, quality=lambda model: accuracy(model, images, labels)
    )
    assert isinstance(table.together.quality, Accuracy)
    assert table.original_quality == accuracy(mnist_mlp(), images, labels)
    for shown in (str(table), table._repr_html_()):
        assert str(table.rows[0].quality) in shown and str(table.original_quality) in shown
        for row in table.rows:
            assert row.name in shown and f"{row.sqnr_db:.1f} dB" in shown


def test_the_model_is_left_as_it_was(images):
    model = mnist_cnn().train()
    model.bn1.eval()
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    layer_blame(model, images, bits=2, method="static")
    layer_errors(model, quantize_model(model, bits=2)[0], images)
    assert [module.training for module in model.modules()] == modes and not hooks(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_leaves_a_layer_is_compared_where_batch_norm_was_folded(images):
    model = mnist_cnn()
    quantized, _ = quantize_model(model, "static", bits=8, calibration_data=[images])
    table = layer_errors(model, quantized, images)
    assert [row.name for row in table.rows] == ["conv1", "depthwise", "pointwise", "conv4", "fc"]
    with torch.no_grad():
        wanted = model.bn1(model.conv1(images))
        got = quantized.conv1(images)
    sqnr = 10 * (wanted.square().sum() / (wanted - got).square().sum()).log10()
    assert table.rows[0].sqnr_db == pytest.approx(sqnr.item(), abs=0.01)
    # The last layer's output is the model's.
    assert table.rows[-1].sqnr_db == pytest.approx(table.together.sqnr_db)
    assert table.together.sqnr_db > 25


def test_the_error_of_a_layer_holds_that_of_all_before_it(images):
    model = mnist_mlp()
    quantized, _ = quantize_model(model, bits={"fc1": 2})
    table = layer_errors(model, quantized, images)
    assert [row.name for row in table.rows] == ["fc1"]
    assert table.rows[0].sqnr_db < 10 and table.together.sqnr_db < 15


def test_attention_is_compared_projection_by_projection():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    quantized, _ = quantize_model(model, "dynamic")
    table = layer_errors(model, quantized, x)
    assert "self_attn.q_proj" in [row.name for row in table.rows]
    assert min(row.sqnr_db for row in table.rows) > 25
    assert layer_blame(model, x, bits=2).worst.sqnr_db < 25


def test_in_place_activations_do_not_hide_the_error():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    x = torch.randn(20, 8)
    quantized, _ = quantize_model(model, bits=4)
    with torch.no_grad():
        wanted, got = model[0](x), quantized[0](x)
    sqnr = 10 * (wanted.square().sum() / (wanted - got).square().sum()).log10()
    assert layer_errors(model, quantized, x).rows[0].sqnr_db == pytest.approx(sqnr.item(), abs=0.01)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x))


def test_a_layer_that_runs_twice_counts_both_and_one_that_never_runs_counts_nothing():
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(9, 4)
    quantized, _ = quantize_model(model, bits=4)
    table = layer_errors(model, quantized, x)
    assert [row.name for row in table.rows] == ["layer"]
    with torch.no_grad():
        wanted = torch.cat([model.layer(x), model(x)])
        got = torch.cat([quantized.layer(x), quantized(x)])
    sqnr = 10 * (wanted.square().sum() / (wanted - got).square().sum()).log10()
    assert table.rows[0].sqnr_db == pytest.approx(sqnr.item(), abs=0.01)
    assert layer_blame(model, x).rows[1].sqnr_db == math.inf


class AsksForItsType(nn.Module):
    """Takes another way when its layer is no nn.Linear any more."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x)) if isinstance(self.layer, nn.Linear) else self.layer(x)


def test_a_model_that_runs_another_way_is_refused_by_the_layers_name():
    model = AsksForItsType()
    with pytest.raises(ValueError, match="layer runs 2 times in the float model and 1 times"):
        layer_errors(model, quantize_model(model)[0], torch.ones(1, 4))


class Broken(nn.Sequential):
    def forward(self, x):
        super().forward(x)
        raise RuntimeError("broken on purpose")


def test_hooks_and_modes_are_restored_after_an_error():
    quantized = Broken(*quantize_model(nn.Sequential(nn.Linear(4, 4)), bits=4)[0]).train()
    with pytest.raises(RuntimeError, match="on purpose"):
        layer_errors(Broken(nn.Linear(4, 4)), quantized, torch.ones(1, 4))
    assert not hooks(quantized) and quantized.training


def test_what_does_not_belong_together_is_refused(images):
    model = mnist_mlp()
    quantized, _ = quantize_model(model)
    with pytest.raises(ValueError, match="has no quantized layers"):
        layer_errors(model, model, images)
    with pytest.raises(ValueError, match="the float model has no layer fc1, fc2, fc3"):
        layer_errors(nn.Sequential(nn.Linear(784, 10)), quantized, images)
    lstm = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4))
    with pytest.raises(ValueError, match="must return one tensor to compare, got tuple"):
        layer_blame(lstm, torch.ones(2, 4))
