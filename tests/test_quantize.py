"""Whole models: what the quantized copy computes, layer by layer; the original stays as it was."""

import copy
import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit.data import load_mnist
from labkit.evaluate import Accuracy, accuracy
from labkit.files import load, save
from labkit.layers import QuantConv2d, QuantEmbedding, QuantLayer, QuantLinear
from labkit.packing import packed_bytes
from labkit.qparams import qparams_from_range
from labkit.quantize import METHODS, quantize_model
from labkit.report import stored_tensors
from labkit.transform import fold_batch_norm
from labkit.zoo import mnist_cnn, mnist_mlp

DIGITS = load_mnist()
IMAGES = DIGITS.train_images[:200]


def batches(count=2, size=20):
    return list(zip(IMAGES.split(size), DIGITS.train_labels.split(size), strict=False))[:count]


NEEDS = {
    "weight_only": {},
    "dynamic": {},
    "static": {"calibration_data": [IMAGES]},
    "qat": {"train_loader": batches(), "num_epochs": 1},
}
each_method = pytest.mark.parametrize("method", METHODS)


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)).eval()


def state_of(model):
    """Everything that must not change: values, identities, classes, modes, hooks, attributes."""
    return (
        {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()},
        [
            (name, id(m), type(m), m.training, set(vars(m)), len(m._forward_pre_hooks))
            for name, m in model.named_modules()
        ],
    )


def same(one, other):
    return (
        one[1] == other[1]
        and one[0].keys() == other[0].keys()
        and all(
            one[0][name][0] == other[0][name][0] and torch.equal(one[0][name][1], other[0][name][1])
            for name in one[0]
        )
    )


def rounded(weight, bits, axis=0):
    """Symmetric, restricted, by hand in float64 with numpy."""
    w = weight.detach().double().numpy()
    others = tuple(d for d in range(w.ndim) if d != axis)
    amax = np.abs(w).max(axis=None if axis is None else others, keepdims=True)
    scale = (amax / (2 ** (bits - 1) - 1)).astype(np.float32)
    scale = np.where(scale == 0, np.float32(1), scale)
    codes = np.clip(np.rint(w.astype(np.float32) / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return torch.from_numpy((codes * scale).astype(np.float32))


def seen(x, bits=8, of=None):
    """x on the grid, unsigned affine, of the whole tensor `of` (or of x itself)."""
    of = x if of is None else of
    low, high = min(of.min().item(), 0.0), max(of.max().item(), 0.0)
    levels = 2**bits - 1
    scale, zero_point = np.float32((high - low) / levels), round(-low * levels / (high - low))
    codes = (x.detach() / scale.item()).round() + zero_point
    return (codes.clamp(0, levels) - zero_point) * scale.item()


# ---------------------------------------------------------------- the original


@each_method
@pytest.mark.parametrize("training", [True, False])
def test_the_model_passed_in_is_never_modified(method, training):
    model = mnist_cnn().train(training)
    before = state_of(model)
    quantized, _ = quantize_model(
        model,
        method,
        bits=4,
        evaluate=lambda m: (
            float(m.train().bn1.weight.data.mul_(2).sum()) if hasattr(m.bn1, "weight") else 0.0
        ),
        **NEEDS[method],
    )
    assert same(before, state_of(model))
    assert not any(module.training for module in quantized.modules())
    shared = {t.data_ptr() for t in model.state_dict().values() if t.numel()}
    assert not shared & {t.data_ptr() for t in quantized.state_dict().values() if t.numel()}


@pytest.mark.parametrize("where", ["evaluate", "data", "observer", "weights", "layer", "training"])
def test_it_is_not_modified_when_something_fails_halfway(where):
    model = mnist_mlp().train()
    options = {"calibration_data": [IMAGES]}
    method = "static"

    def fail(*_):
        raise ValueError("halfway")

    if where == "evaluate":
        options["evaluate"] = fail
    elif where == "data":
        options["calibration_data"] = (fail() if i else IMAGES for i in range(2))
    elif where == "observer":
        options["observer"] = fail
    elif where == "weights":
        model.fc3.weight.data[0, 0] = torch.nan
    elif where == "layer":
        model.spare = nn.Linear(2, 2)
    else:
        method, options = "qat", {"train_loader": (fail() for _ in range(2)), "num_epochs": 1}
    before = state_of(model)
    model.fc3.weight.data.nan_to_num_(0.0) if where != "weights" else None
    with pytest.raises(ValueError, match=r"halfway|fc3|spare"):
        quantize_model(model, method, **options)
    assert same(before, state_of(model)) or where == "weights"


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    quantize_model(mnist_cnn(), "static", **NEEDS["static"])
    assert torch.equal(before, torch.get_rng_state())


# ---------------------------------------------------------------- what the copy computes


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("granularity", "axis"), [("channel", 0), ("tensor", None)])
def test_weight_only_is_the_float_model_with_rounded_weights(bits, granularity, axis):
    model = small()
    quantized, _ = quantize_model(model, bits=bits, granularity=granularity)
    expected = copy.deepcopy(model)
    for layer in (expected[1], expected[3]):
        layer.weight.data = rounded(layer.weight, bits, axis)
    assert torch.allclose(quantized(IMAGES), expected(IMAGES), atol=1e-6)


@pytest.mark.parametrize("activation_bits", [4, 8])
def test_dynamic_by_hand(activation_bits):
    model = small()
    quantized, report = quantize_model(model, "dynamic", activation_bits=activation_bits)
    x = seen(IMAGES.flatten(1), activation_bits)
    hidden = F.relu(F.linear(x, rounded(model[1].weight, 8), model[1].bias))
    expected = F.linear(seen(hidden, activation_bits), rounded(model[3].weight, 8), model[3].bias)
    assert torch.allclose(quantized(IMAGES), expected, atol=1e-5)
    assert report.activation_bits == activation_bits


def test_static_by_hand_fixes_the_grids_of_the_calibration_data():
    model = small()
    quantized, _ = quantize_model(model, "static", calibration_data=IMAGES.split(50))
    # Half as bright: dynamic grids would differ, the fixed ones do not.
    x = IMAGES / 2
    calibrated = IMAGES.flatten(1)
    hidden = F.relu(model[1](calibrated))
    first = seen(x.flatten(1), of=calibrated)
    second = F.relu(F.linear(first, rounded(model[1].weight, 8), model[1].bias))
    expected = F.linear(seen(second, of=hidden), rounded(model[3].weight, 8), model[3].bias)
    assert torch.allclose(quantized(x), expected, atol=1e-5)


def test_static_folds_batch_norm_first():
    quantized, _ = quantize_model(mnist_cnn(), "static", **NEEDS["static"])
    folded = fold_batch_norm(mnist_cnn())
    assert isinstance(quantized.bn1, nn.Identity)
    assert torch.allclose(quantized.conv1.weight, rounded(folded.conv1.weight, 8), atol=1e-6)
    assert torch.equal(quantized.conv1.bias, folded.conv1.bias)


def test_tokens_get_grids_of_their_own_in_a_dynamic_linear_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8))
    quantized, _ = quantize_model(model, "dynamic")
    x = torch.randn(2, 3, 16) * torch.tensor([1.0, 100.0, 0.01]).view(1, 3, 1)
    alone = torch.stack([torch.stack([quantized(t.view(1, 1, 16))[0, 0] for t in s]) for s in x])
    assert torch.allclose(quantized(x), alone, rtol=1e-5, atol=1e-6)


class Functional(nn.Module):
    """Activation functions, a residual sum and attention, none of them a module."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(11, 8)
        self.one, self.two, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, indices):
        x = self.table(indices)
        hidden = F.relu(self.one(x))
        mixed = x + F.scaled_dot_product_attention(hidden, x, self.two(hidden))
        return self.out(mixed)


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_activations_without_a_module_are_quantized_too(method):
    model, indices = Functional(), torch.arange(10).view(2, 5)
    levels = {}
    quantized, _ = quantize_model(model, method, activation_bits=2, calibration_data=[indices])
    for name, layer in quantized.named_modules():
        if isinstance(layer, QuantLinear):
            layer.input_quantizer.register_forward_hook(
                lambda _, x, y, name=name: levels.update({name: (x[0], y)})
            )
    quantized(indices)
    assert levels.keys() == {"one", "two", "out"}
    for raw, grid in levels.values():
        tokens = grid.reshape(-1, 8) if method == "dynamic" else grid.reshape(1, -1)
        assert all(len(token.unique()) <= 4 for token in tokens)
        assert len(raw.unique()) > 8
    assert quantized.table.input_quantizer is None


@pytest.mark.parametrize("method", ["weight_only", "dynamic", "static"])
def test_torchs_own_transformer(method):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 5, 16)
    quantized, report = quantize_model(model, method, calibration_data=[x])
    with torch.no_grad():
        assert (quantized(x) - model(x)).norm() < 0.03 * model(x).norm()
        # If the fused kernel ran, the activations would be those of weight_only.
        only = quantize_model(model)[0](x)
        assert torch.equal(quantized(x), only) == (method == "weight_only")
    assert {row.kind for row in report.layers if row.bytes} == {"QuantLinear", "LayerNorm"}


@pytest.mark.parametrize("name", ["minmax", "moving_average", "percentile", "mse", "entropy"])
def test_every_observer_by_name(name):
    measure = partial(accuracy, images=DIGITS.test_images[:200], labels=DIGITS.test_labels[:200])
    _, report = quantize_model(
        mnist_mlp(), "static", observer=name, evaluate=measure, **NEEDS["static"]
    )
    assert report.quality.value > report.original_quality.value - 0.05


def test_an_observer_of_ones_own():
    class Fixed:
        def observe(self, x):
            pass

        def qparams(self):
            return qparams_from_range(0.0, 25.5)

    quantized, _ = quantize_model(small(), "static", observer=Fixed, **NEEDS["static"])
    assert torch.allclose(quantized[1].input_quantizer.scale, torch.tensor(0.1))


def test_training_under_quantization_gives_the_model_that_was_trained():
    measure = partial(accuracy, images=DIGITS.test_images, labels=DIGITS.test_labels)
    data = batches(count=10)
    _, before = quantize_model(mnist_mlp(), bits=2, evaluate=measure)
    _, after = quantize_model(
        mnist_mlp(),
        "qat",
        bits=2,
        train_loader=data,
        num_epochs=2,
        evaluate=measure,
        training={"learning_rate": 2e-4},
    )
    assert after.quality.low > before.quality.high
    assert after.quantized_bytes == before.quantized_bytes + 3 * 8


def test_groups_within_a_channel():
    model = mnist_cnn()
    quantized, report = quantize_model(model, bits=4, granularity=9, exclude=["pointwise"])
    weight = model.conv4.weight.detach()
    expected = rounded(weight.view(-1, 9), 4).view(weight.shape)
    assert torch.allclose(quantized.conv4.weight, expected, atol=1e-6)
    row = next(row for row in report.layers if row.name == "conv4")
    assert row.scale_bytes == 4 * weight.numel() // 9


def test_groups_of_a_convolution_are_trained_as_they_are_stored():
    quantized, _ = quantize_model(
        mnist_cnn(), "qat", granularity=9, exclude="pointwise", **NEEDS["qat"]
    )
    assert quantized.conv4.group_size == 9


def test_affine_weights_reach_both_ends_of_their_range():
    model = small()
    model[1].weight.data += 0.01
    quantized, report = quantize_model(model, bits=4, symmetric=False, granularity="tensor")
    low, high = model[1].weight.min(), model[1].weight.max()
    step = (high - low) / 15
    assert (quantized[1].weight.min() - low).abs() <= step / 2
    assert (quantized[1].weight.max() - high).abs() <= step / 2
    # One zero point of 4 bits takes one byte.
    assert report.layers[0].scale_bytes == 5


# ---------------------------------------------------------------- which layers


def test_bits_by_name_leave_the_others_float():
    model = mnist_mlp()
    quantized, report = quantize_model(model, bits={"fc1": 3, "fc3": 8})
    assert [type(m) for m in (quantized.fc1, quantized.fc2, quantized.fc3)] == [
        QuantLinear,
        nn.Linear,
        QuantLinear,
    ]
    assert (quantized.fc1.bits, quantized.fc3.bits) == (3, 8)
    assert torch.equal(quantized.fc2.weight, model.fc2.weight)
    assert report.bits == {"fc1": 3, "fc3": 8}


@each_method
def test_excluded_layers_stay_float(method):
    quantized, _ = quantize_model(mnist_cnn(), method, exclude=["conv1", "fc"], **NEEDS[method])
    kinds = {n: type(m) for n, m in quantized.named_modules() if hasattr(m, "weight")}
    assert kinds["conv1"] is nn.Conv2d and kinds["fc"] is nn.Linear
    assert kinds["conv4"] is QuantConv2d


@each_method
def test_a_model_that_is_one_layer(method):
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 1, bias=False), torch.randn(5, 4)
    needs = {"calibration_data": [x], "train_loader": [(x, torch.zeros(5).long())], "num_epochs": 1}
    quantized, report = quantize_model(layer, method, **needs)
    assert isinstance(quantized, QuantLinear)
    assert report.layers[0].name == ""
    assert quantized(x).shape == (5, 1)


def test_a_layer_at_two_places_is_quantized_once():
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    quantized, report = quantize_model(model)
    assert quantized[0] is quantized[2]
    assert report.quantized_bytes == 36 + 4 * 6 + 4 * 6


class Tied(nn.Module):
    """A language model's table, read in both directions."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
        self.head.weight = self.table.weight

    def forward(self, indices):
        return self.head(self.table(indices))


@pytest.mark.parametrize("method", ["weight_only", "dynamic"])
def test_layers_with_one_weight_share_one_set_of_codes(method):
    model = Tied()
    quantized, report = quantize_model(model, method, bits=4)
    assert isinstance(quantized.table, QuantEmbedding)
    assert quantized.head.packed is quantized.table.packed
    assert report.original_bytes == 320
    assert report.quantized_bytes == 40 + 40
    assert report.bits_per_weight == 8


def test_a_shared_weight_with_two_widths_is_stored_twice():
    quantized, report = quantize_model(Tied(), bits={"table": 8, "head": 4})
    assert report.quantized_bytes == 80 + 40 + 40 + 40
    assert quantized.head.packed is not quantized.table.packed


def test_a_shared_weight_of_which_one_reader_stays_float():
    _, report = quantize_model(Tied(), bits={"head": 4})
    assert report.quantized_bytes == 320 + 40 + 40


def test_quantizing_the_rest_later():
    first, _ = quantize_model(mnist_cnn(), "static", exclude=["fc"], **NEEDS["static"])
    second, report = quantize_model(first, bits=4)
    assert second.fc.bits == 4 and second.conv1.bits == 8
    assert second.conv1 is not first.conv1
    assert {row.kind for row in report.layers} == {"QuantConv2d", "QuantLinear"}


# ---------------------------------------------------------------- other models


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", ["weight_only", "dynamic", "static"])
def test_models_of_other_float_types(method, dtype):
    model, x = mnist_mlp().to(dtype), IMAGES[:20].to(dtype)
    quantized, report = quantize_model(model, method, calibration_data=[x])
    output = quantized(x)
    assert output.dtype == dtype
    assert (output - model(x)).double().norm() < 0.05 * model(x).double().norm()
    assert report.original_bytes == sum(t.nbytes for t in model.parameters())
    assert all(
        m.scale.dtype == torch.float32 for m in quantized.modules() if isinstance(m, QuantLayer)
    )


def test_a_weight_that_lies_transposed_in_memory():
    layer = nn.Linear(6, 4)
    layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    assert torch.allclose(quantize_model(layer)[0].weight, rounded(layer.weight, 8), atol=1e-7)


def test_frozen_weights_and_weights_of_zero():
    layer = nn.Linear(6, 4).requires_grad_(False)
    nn.init.zeros_(layer.weight)
    quantized, _ = quantize_model(layer, bits=2)
    assert torch.equal(quantized(torch.ones(1, 6))[0], layer.bias)
    assert not quantized.bias.requires_grad


def test_nothing_that_can_be_quantized_stays_float_unseen():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Parameter(torch.ones(3))
            self.list = nn.ParameterList([torch.ones(2)])
            self.lstm = nn.LSTM(2, 2)
            self.deep = nn.ModuleDict({"a": nn.ModuleList([nn.Linear(2, 2)])})
            self.norm = nn.BatchNorm1d(2)

    model = Mixed()
    _, report = quantize_model(model)
    rows = {row.name: row for row in report.layers}
    assert rows.keys() == {"", "list", "lstm", "deep.a.0", "norm"}
    assert rows["lstm"].bytes == sum(p.nbytes for p in model.lstm.parameters())
    assert rows["norm"].bytes == 4 * 2 * 4 + 8
    assert rows["deep.a.0"].kind == "QuantLinear"


# ---------------------------------------------------------------- the report


def test_the_quality_of_both_models_is_measured():
    measure = partial(accuracy, images=DIGITS.test_images, labels=DIGITS.test_labels)
    model = mnist_mlp()
    quantized, report = quantize_model(model, bits=2, granularity="tensor", evaluate=measure)
    assert report.original_quality == measure(model)
    assert report.quality == measure(quantized)
    assert isinstance(report.quality, Accuracy) and report.quality.high < 0.3


@pytest.mark.parametrize("bits", [np.int64(4), torch.tensor(4), {"fc1": np.int8(4)}])
def test_a_report_of_numpys_numbers_is_ready_for_json(bits):
    _, report = quantize_model(
        mnist_mlp(),
        "dynamic",
        bits=bits,
        activation_bits=np.int64(8),
        evaluate=lambda model: np.float32(0.5),
    )
    values = json.loads(json.dumps(report.as_dict()))
    assert values["bits"] in (4, {"fc1": 4}) and values["activation_bits"] == 8
    assert values["quality"] == values["original_quality"] == 0.5


@pytest.mark.parametrize("returned", [None, "good", [1, 2]])
def test_a_quality_that_is_no_number_is_refused(returned):
    with pytest.raises(ValueError, match="evaluate must return an Accuracy or a number, got"):
        quantize_model(mnist_mlp(), evaluate=lambda model: returned)
    with pytest.raises(ValueError, match=r"function of a model, got 0\.5"):
        quantize_model(mnist_mlp(), evaluate=0.5)


def test_mnist_static_is_within_half_a_point_of_float():
    for model in (mnist_mlp(), mnist_cnn()):
        measure = partial(accuracy, images=DIGITS.test_images, labels=DIGITS.test_labels)
        _, report = quantize_model(
            model, "static", calibration_data=[DIGITS.train_images[:500]], evaluate=measure
        )
        assert abs(report.quality.value - report.original_quality.value) <= 0.005


@pytest.mark.parametrize("bits", range(2, 9))
def test_bytes_by_formula(bits):
    _, report = quantize_model(mnist_mlp(), bits=bits)
    shapes = [(256, 784), (128, 256), (10, 128)]
    codes = sum(packed_bytes(out * into, bits) for out, into in shapes)
    channels = 256 + 128 + 10
    assert report.original_bytes == 4 * 235_146
    assert report.quantized_bytes == codes + 4 * channels + 4 * channels
    assert report.compression_ratio == report.original_bytes / report.quantized_bytes
    weights = sum(out * into for out, into in shapes)
    assert report.bits_per_weight == pytest.approx(8 * (codes + 4 * channels) / weights)
    assert report.method == "weight_only" and report.bits == bits


@each_method
def test_the_bytes_are_those_of_the_stored_tensors(method):
    quantized, report = quantize_model(mnist_cnn(), method, bits=3, **NEEDS[method])
    tensors, ties = stored_tensors(quantized)
    assert report.quantized_bytes == sum(t.nbytes for t in tensors.values()) and not ties
    assert report.original_bytes == sum(t.nbytes for t in mnist_cnn().state_dict().values())


# ---------------------------------------------------------------- bad input


def refuses(says, model=None, **options):
    """Nothing may have been started: no evaluation, no data read."""

    def untouched(*_):
        raise AssertionError("work was done before the check")

    with pytest.raises(ValueError, match=says):
        quantize_model(model or mnist_mlp(), evaluate=untouched, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "statically"}, "weight_only, dynamic, static, qat; got 'statically'"),
        ({"bits": 1}, "from 2 to 8"),
        ({"bits": 16}, "from 2 to 8"),
        ({"bits": True}, "got True"),
        ({"bits": {"fc1": 4, "fc2": 0}}, "layer 'fc2'"),
        ({"bits": {"fcl": 4}}, "did you mean .*fc1"),
        ({"exclude": ["fc4"]}, "did you mean"),
        ({"activation_bits": 9, "method": "dynamic"}, "from 2 to 8"),
        ({"granularity": 100}, r"100 does not divide layer 'fc1'.*784.*\(256, 784\)"),
        ({"granularity": 16, "bits": {"fc1": 4}, "exclude": ["fc1"]}, "nothing is left"),
        ({"granularity": 0}, "got 0"),
        ({"granularity": "row"}, "got 'row'"),
        ({"granularity": 2.5}, "got 2.5"),
        ({"scale_rule": "loose"}, "restricted, full, no_clip"),
        ({"method": "static", "calibration_data": 5}, "a DataLoader; got int"),
        ({"method": "static"}, "needs calibration_data.*method='dynamic'"),
        ({"method": "qat"}, "train_loader=NoneType and num_epochs=0.*'static'"),
        ({"method": "qat", "train_loader": batches()}, "num_epochs=0"),
        ({"method": "static", "calibration_data": [IMAGES], "observer": "middle"}, "middle"),
    ],
)
def test_bad_options_are_refused_before_any_work(options, says):
    refuses(says, **options)


def test_only_modules_are_quantized():
    refuses("torch.nn.Module, got function", model=lambda x: x)


def test_a_layer_with_hooks_is_not_replaced_silently():
    model = mnist_mlp()
    model.fc2.register_forward_hook(lambda *_: None)
    refuses("'fc2' carries forward hooks", model=model)
    quantize_model(model, exclude=["fc2"])


def test_a_quantized_model_is_not_quantized_again():
    refuses("no float layer that can be quantized", model=quantize_model(mnist_mlp())[0])


def test_what_is_no_tensor_names_the_layer():
    with pytest.raises(ValueError, match="enters the layer '0' is no tensor, got int"):
        quantize_model(nn.Sequential(nn.Linear(2, 2)), "static", calibration_data=[5])


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_a_running_model_names_the_layer_that_is_given_nan(method, tmp_path):
    model, _ = quantize_model(mnist_mlp(), method, calibration_data=[IMAGES])
    save(model, tmp_path / "model")
    for one in (model, load(tmp_path / "model", mnist_mlp())):
        with pytest.raises(ValueError, match=r"what enters the layer 'fc1'.*finite"):
            one(torch.full((1, 784), torch.nan))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_without_a_value_name_their_layer(device):
    model = mnist_mlp().to(device)
    if device == "cpu":
        model.fc2.weight.data[3, 3] = torch.inf
    with pytest.raises(ValueError, match=r"weight of layer 'fc[12]'.*(finite|holds its values)"):
        quantize_model(model)


def test_activations_that_are_not_finite_name_their_layer():
    model = mnist_mlp()
    model.fc1.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="enters the layer 'fc2'"):
        quantize_model(model, "static", calibration_data=[IMAGES])
