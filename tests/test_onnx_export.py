"""Exported graphs hold labkit's codes and compute what the simulation computes."""

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from labkit.engine import Engine, operators
from labkit.layers import (
    LAYERS,
    ActivationQuantizer,
    QuantConv2d,
    QuantEmbedding,
    QuantLinear,
)
from labkit.onnx_export import export_onnx
from labkit.onnx_layers import onnx_layer
from labkit.onnx_parts import block_size, packed_blocks
from labkit.packing import unpack
from labkit.qparams import choose_qparams

X = torch.randn(6, 100, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(2, 5, 100, generator=torch.Generator().manual_seed(2))
IMAGE = torch.randn(3, 4, 9, 8, generator=torch.Generator().manual_seed(3))
SYMMETRIC = {"symmetric": True, "signed": True, "axis": 0}
AFFINE = {"axis": 0}


def seeded(layer, seed=0):
    state = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=state)
    return layer


def quantized(layer, bits=8, quantizer=None, **grid):
    weight = layer.weight.flatten(1) if "group_size" in grid else layer.weight
    grid = choose_qparams(weight.detach(), bits, **(grid or SYMMETRIC))
    return LAYERS[type(layer)].from_float(layer, bits, grid, quantizer)


def static(x, bits=8, **grid):
    return ActivationQuantizer(bits, "static", qparams=choose_qparams(x, bits, **grid))


def dynamic(bits=8, per_token=False):
    return ActivationQuantizer(bits, "dynamic", per_token=per_token)


def initializers(file):
    model = onnx.load_from_string(file)
    return {node.name: onnx.numpy_helper.to_array(node) for node in model.graph.initializer}


LINEAR = seeded(nn.Linear(100, 33))
QUANTIZERS = {
    "float input": (lambda: None, X),
    "static": (lambda: static(X), X),
    "static 4 bits": (lambda: static(X, 4), X),
    "static signed": (lambda: static(X, signed=True, symmetric=True), X),
    "static tokens": (lambda: static(TOKENS), TOKENS),
    "dynamic": (lambda: dynamic(), X),
    "dynamic 5 bits": (lambda: dynamic(5), X),
    "dynamic per token": (lambda: dynamic(per_token=True), TOKENS),
    "dynamic per token 5 bits": (lambda: dynamic(5, per_token=True), TOKENS),
}
GRIDS = {
    "symmetric": SYMMETRIC,
    "affine": AFFINE,
    "per tensor": {"symmetric": True, "signed": True},
    "per input": {"axis": 1},
    "groups of 20": {"group_size": 20},
    "groups of 50": {"group_size": 50, "symmetric": True, "signed": True},
}


class Side(nn.Module):
    """Many layers on one input: tracing a model takes longer than a layer more in it."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return tuple(layer(x) for layer in self.layers)


def differences(layers, x, **options):
    """The largest difference of each layer, as a share of its largest output."""
    net = Side(layers)
    with torch.no_grad():
        wanted = net(x)
    got = Engine.of(net, x, **options)(x)
    pairs = list(zip(got if isinstance(got, tuple) else (got,), wanted, strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    return [((a - b).abs().max() / b.abs().max()).item() for a, b in pairs]


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_linear_layers_compute_what_the_simulation_does_on_every_grid(kind):
    make, x = QUANTIZERS[kind]
    layers = [quantized(LINEAR, 8, make(), **grid) for grid in GRIDS.values()]
    assert max(differences(layers, x, accuracy_level=1)) < 1e-6


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", ["static", "static 4 bits", "static signed", "static tokens"])
def test_both_forms_of_a_static_layer_agree(kind, fused):
    make, x = QUANTIZERS[kind]
    no_bias = seeded(nn.Linear(100, 5, bias=False))
    layers = [
        quantized(layer, 8, make(), **g) for layer in (LINEAR, no_bias) for g in (SYMMETRIC, AFFINE)
    ]
    assert max(differences(layers, x, fused=fused)) < 1e-6


@pytest.mark.parametrize("kind", ["float input", "static", "dynamic"])
def test_every_width_is_exact(kind):
    make, x = QUANTIZERS[kind]
    layers = [quantized(LINEAR, bits, make()) for bits in range(2, 9)]
    assert max(differences(layers, x, accuracy_level=1)) < 1e-6


@pytest.mark.parametrize("group", [16, 32, 96, 256, 512])
def test_groups_become_blocks_of_matmulnbits(group):
    linear, x = seeded(nn.Linear(2 * group, 7)), torch.randn(3, 2 * group)
    layers = [
        quantized(linear, bits, group_size=group, **options)
        for bits in (2, 3, 4, 8)
        for options in ({}, {"symmetric": True, "signed": True})
    ]
    assert set(operators(export_onnx(Side(layers), x))) == {"MatMulNBits"}
    assert max(differences(layers, x, accuracy_level=1)) < 1e-5


@pytest.mark.parametrize("columns", [5, 33, 784])
def test_rows_that_fill_no_block_are_padded(columns):
    linear, x = seeded(nn.Linear(columns, 3)), torch.randn(2, columns)
    layers = [quantized(linear, 4, **grid) for grid in (SYMMETRIC, AFFINE)]
    assert max(differences(layers, x, accuracy_level=1)) < 1e-5


def test_two_bits_never_get_the_block_that_has_no_fast_kernel():
    layer = quantized(seeded(nn.Linear(512, 4)), 2, group_size=256, signed=True, symmetric=True)
    assert block_size(layer) == 128


def test_packed_blocks_hold_the_codes_of_the_layer():
    layer = quantized(LINEAR, 4)
    packed, scale, zero_points, attributes = packed_blocks(layer)
    stored = unpack(packed.flatten(), 4, (33, packed.shape[1] * attributes["block_size"]))
    assert torch.equal(stored[:, :100].int() - 8, layer.codes.int())
    assert (stored[:, 100:] == 8).all()
    assert torch.equal(scale, layer.scale.expand(scale.shape))
    assert zero_points is None


def test_the_default_accuracy_level_stays_close():
    assert max(differences([quantized(LINEAR, 4)], X)) < 0.02


CONVOLUTIONS = {
    "3×3 stride 2": (nn.Conv2d(4, 6, 3, padding=1, stride=2), IMAGE),
    "grouped, same": (nn.Conv2d(4, 8, 3, groups=2, padding="same"), IMAGE),
    "depthwise, no bias": (nn.Conv2d(4, 4, 3, groups=4, padding="valid", bias=False), IMAGE),
    "reflected, dilated": (
        nn.Conv2d(4, 6, (3, 5), padding=(0, 2), padding_mode="reflect", dilation=(2, 1)),
        IMAGE,
    ),
    "1-d": (nn.Conv1d(4, 6, 3, padding=2, stride=2), IMAGE[:, :, 0]),
}


@pytest.mark.parametrize("kind", ["float input", "static", "dynamic", "dynamic 5 bits"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_compute_what_the_simulation_does_on_every_grid(name, kind):
    conv, x = CONVOLUTIONS[name]
    make = {"static": lambda: static(x)}.get(kind, QUANTIZERS[kind][0])
    grids = (SYMMETRIC, AFFINE, {"axis": None}, {"group_size": 1, "signed": True})
    layers = [quantized(seeded(conv), 8, make(), **grid) for grid in grids]
    # The bias in steps of the int32 sums is up to half a step off.
    allowed = 1e-4 if kind == "static" else 1e-6
    assert max(differences(layers, x)) < allowed


def test_embeddings_look_up_the_same_rows():
    table, indices = seeded(nn.Embedding(10, 8)), torch.randint(0, 10, (3, 4))
    grids = (SYMMETRIC, AFFINE, {"axis": 1}, {"group_size": 4}, {"signed": True, "symmetric": True})
    assert differences([quantized(table, 4, **grid) for grid in grids], indices) == [0.0] * 5


def test_codes_stand_in_the_graph_as_they_are():
    layer = quantized(LINEAR, 8, static(X))
    stored = initializers(export_onnx(layer, X))
    codes = [array for array in stored.values() if array.shape == (100, 33)]
    assert len(codes) == 1
    assert torch.equal(torch.from_numpy(codes[0].copy()).t(), layer.codes)


@pytest.mark.parametrize("kind", ["float input", "static", "dynamic", "dynamic per token"])
def test_no_float_copy_of_a_weight_is_stored(kind):
    make, x = QUANTIZERS[kind]
    stored = initializers(export_onnx(quantized(LINEAR, 8, make()), x))
    assert not [a for a in stored.values() if a.dtype == "float32" and a.size >= LINEAR.in_features]


def test_onnx_reference_operators_agree_with_a_static_layer():
    layer = quantized(LINEAR, 8, static(X))
    evaluator = ReferenceEvaluator(onnx.load_from_string(export_onnx(layer, X)))
    (got,) = evaluator.run(None, {evaluator.input_names[0]: X.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), layer(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("static", "MatMulIntegerToFloat"),
        ("dynamic", "DynamicQuantizeMatMul"),
        ("float input", "MatMulNBits"),
        ("dynamic per token", "MatMulIntegerToFloat"),
    ],
)
def test_it_runs_on_integer_kernels(kind, wanted):
    make, x = QUANTIZERS[kind]
    assert wanted in operators(export_onnx(quantized(LINEAR, 8, make()), x))


def test_a_chain_of_static_convolutions_runs_on_integers():
    first, second = (seeded(nn.Conv2d(4, 4, 3), seed) for seed in (1, 2))
    net = nn.Sequential(
        quantized(first, 8, static(IMAGE)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        quantized(second, 8, static(torch.rand(9))),
    )
    assert "QLinearConv" in operators(export_onnx(net, IMAGE))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = quantized(LINEAR)

    def forward(self, x, y):
        return self.linear(x) + self.linear(y)


def test_one_zero_point_is_written_once_and_different_ones_stay():
    shared, own = (quantized(LINEAR, 8, static(X), **grid) for grid in (SYMMETRIC, AFFINE))
    shapes = [onnx_layer(layer, fused=True).zero_point.shape for layer in (shared, own)]
    assert shapes == [(), (33,)]


def test_a_layer_used_twice_and_several_inputs():
    net = TwoInputs()
    engine = Engine.of(net, (X, X), accuracy_level=1)
    with torch.no_grad():
        torch.testing.assert_close(engine(X, 2 * X), net(X, 2 * X), rtol=1e-4, atol=1e-5)


def test_any_batch_size_runs():
    engine = Engine.of(quantized(LINEAR, 8, static(X)), X[:1])
    assert [len(engine(X[:n])) for n in (1, 2, 6)] == [1, 2, 6]


def test_a_fixed_batch_for_models_that_need_it():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, 3, -1) if len(x) == 6 else x

    with pytest.raises(ValueError, match="any_batch=False"):
        export_onnx(Fixed(), X)
    assert Engine.of(Fixed(), X, any_batch=False)(X).shape == (2, 3, 100)


def test_the_model_is_not_modified():
    net = nn.Sequential(quantized(LINEAR, 8, static(X)), nn.Dropout()).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export_onnx(net, X)
    assert net.training and net[1].training
    assert type(net[0]) is QuantLinear
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_nothing_of_this_machine_stands_in_the_file():
    file = export_onnx(nn.Sequential(quantized(LINEAR, 8, static(X)), nn.ReLU()), X)
    assert b".py" not in file and b"/labkit" not in file


def test_the_file_is_what_is_returned(tmp_path):
    path = tmp_path / "model.onnx"
    assert export_onnx(quantized(LINEAR), X, path) == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_quantizer_that_still_observes_is_refused():
    from labkit.observers import make_observer

    quantizer = ActivationQuantizer(8, "observe", observer=make_observer("minmax"))
    net = nn.Sequential(quantized(LINEAR, 8, quantizer))
    with pytest.raises(ValueError, match="layer '0' still observes"):
        export_onnx(net, X)


def test_a_scale_for_each_feature_cannot_run_on_integers():
    with pytest.raises(ValueError, match="one scale for the whole tensor"):
        onnx_layer(quantized(LINEAR, 8, static(X, axis=1)))


def test_a_model_that_cannot_be_traced_says_why():
    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="torch cannot trace Branches for ONNX"):
        export_onnx(Branches(), X)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((nn.Linear(2, 2), [1.0]), "example must be a tensor"),
        ((nn.Linear(2, 2), torch.tensor(1.0)), "example must be a tensor"),
        ((nn.Linear(2, 2), ()), "example must be a tensor"),
    ],
)
def test_bad_examples_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        export_onnx(*arguments)


def test_an_unknown_accuracy_level_is_refused():
    with pytest.raises(ValueError, match="accuracy_level must be one of"):
        export_onnx(quantized(LINEAR), X, accuracy_level=3)


def test_a_quantized_layer_alone_is_a_model():
    conv = quantized(seeded(nn.Conv2d(4, 2, 1)))
    assert isinstance(conv, QuantConv2d)
    assert Engine.of(conv, IMAGE)(IMAGE).shape == (3, 2, 9, 8)
    assert issubclass(QuantEmbedding, nn.Module)
