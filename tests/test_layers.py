"""Quantized layers: torch's outputs for the dequantized weight, and only codes stored."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labkit.affine import fake_quantize
from labkit.layers import (
    LAYERS,
    ActivationQuantizer,
    QuantLinear,
    rows,
)
from labkit.packing import packed_bytes
from labkit.qparams import QParams, choose_qparams

# Every option that changes what a convolution computes, and an input it takes.
FLOAT_LAYERS = {
    "linear": (lambda: nn.Linear(12, 6), (5, 12)),
    "linear without bias": (lambda: nn.Linear(12, 6, bias=False), (5, 12)),
    "linear of one channel": (lambda: nn.Linear(12, 1), (2, 3, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    "conv1d circular": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (2, 4, 9)),
    "conv1d grouped": (lambda: nn.Conv1d(4, 6, 3, groups=2, bias=False), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2)), (2, 4, 9, 8)),
    "conv2d dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=(2, 1)), (2, 4, 9, 8)),
    "conv2d same": (lambda: nn.Conv2d(4, 6, (2, 3), padding="same", dilation=2), (2, 4, 9, 8)),
    "conv2d valid": (lambda: nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 9, 8)),
    "conv2d grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 8)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False), (2, 4, 9, 8)),
    "conv2d of one image": (lambda: nn.Conv2d(4, 6, 3), (4, 9, 8)),
    "conv2d reflect": (
        lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"),
        (2, 4, 9, 8),
    ),
    "conv2d replicate same": (
        lambda: nn.Conv2d(4, 6, (2, 3), padding="same", padding_mode="replicate"),
        (2, 4, 9, 8),
    ),
    "conv2d circular valid": (
        lambda: nn.Conv2d(4, 6, 3, padding="valid", padding_mode="circular"),
        (2, 4, 9, 8),
    ),
}
each_layer = pytest.mark.parametrize("name", FLOAT_LAYERS)


def made(name, seed=0):
    torch.manual_seed(seed)
    build, shape = FLOAT_LAYERS[name]
    return build(), torch.randn(shape)


def grid(layer, bits=8, **options):
    return choose_qparams(layer.weight, bits, symmetric=True, signed=True, **options)


def quantized(layer, bits=8, qparams=None, input_quantizer=None):
    qparams = grid(layer, bits, axis=0) if qparams is None else qparams
    return LAYERS[type(layer)].from_float(layer, bits, qparams, input_quantizer)


def with_weight(layer, weight):
    layer = copy.deepcopy(layer)
    layer.weight.data = weight.to(layer.weight.dtype)
    return layer


# ---------------------------------------------------------------- what they compute


@each_layer
@pytest.mark.parametrize("bits", [2, 8])
def test_the_output_is_torchs_own_with_the_fake_quantized_weight(name, bits):
    layer, x = made(name)
    expected = with_weight(layer, fake_quantize(layer.weight, grid(layer, bits, axis=0)))(x)
    assert torch.equal(quantized(layer, bits)(x), expected)


@each_layer
def test_eight_bits_are_close_to_the_float_layer(name):
    layer, x = made(name)
    assert (quantized(layer)(x) - layer(x)).norm() < 0.01 * layer(x).norm()


@each_layer
def test_the_input_is_quantized_before_the_layer(name):
    layer, x = made(name)
    qparams = QParams(0.25, 3, 0, 15)
    static = ActivationQuantizer(4, "static", qparams=qparams)
    weight = fake_quantize(layer.weight, grid(layer, axis=0))
    # Torch's own operator, on values that are no ties for it.
    seen = torch.fake_quantize_per_tensor_affine(x, 0.25, 3, 0, 15)
    assert torch.equal(
        quantized(layer, input_quantizer=static)(x), with_weight(layer, weight)(seen)
    )


def test_an_embedding_looks_up_dequantized_rows():
    table = nn.Embedding(7, 6, padding_idx=2)
    indices = torch.tensor([[0, 2], [6, 6]])
    expected = fake_quantize(table.weight, grid(table, 3, axis=0))[indices]
    assert torch.equal(quantized(table, 3)(indices), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["linear", "conv2d", "conv1d circular"])
def test_other_float_types_are_computed_in_their_own_type(name, dtype):
    layer, x = made(name)
    layer, x = layer.to(dtype), x.to(dtype)
    expected = with_weight(layer, fake_quantize(layer.weight, grid(layer, axis=0)))(x)
    output = quantized(layer)(x)
    assert output.dtype == dtype
    assert torch.equal(output, expected)


def test_an_embedding_returns_the_type_of_its_table():
    table = nn.Embedding(7, 6).half()
    assert quantized(table)(torch.tensor([1])).dtype == torch.float16
    assert quantized(nn.Embedding(7, 6)).double()(torch.tensor([1])).dtype == torch.float64


def test_a_layer_trains_its_bias_and_passes_gradients_on():
    layer, x = made("conv2d")
    layer = quantized(layer)
    layer(x.requires_grad_()).sum().backward()
    assert layer.bias.grad is not None and x.grad.abs().sum() > 0


# ---------------------------------------------------------------- what they store


@each_layer
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_nothing_of_the_weights_size_but_its_codes_is_stored(name, bits):
    layer, _ = made(name)
    state = quantized(layer, bits).state_dict()
    assert set(state) <= {"packed", "scale", "bias"}
    assert state["packed"].dtype == torch.uint8
    assert state["packed"].numel() == packed_bytes(layer.weight.numel(), bits)
    assert state["scale"].numel() == len(layer.weight)
    floats = [t for t in vars(quantized(layer, bits)).values() if isinstance(t, torch.Tensor)]
    assert not floats


@given(
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    granularity=st.sampled_from(["channel", "tensor", "group"]),
    seed=st.integers(0, 2**16),
)
def test_the_weight_is_the_fake_quantized_one_for_every_grid(bits, symmetric, granularity, seed):
    torch.manual_seed(seed)
    layer = nn.Conv2d(4, 5, 3)
    options = {"channel": {"axis": 0}, "tensor": {}, "group": {"group_size": 9}}[granularity]
    weight = layer.weight.flatten(1) if granularity == "group" else layer.weight
    qparams = choose_qparams(weight, bits, symmetric=symmetric, signed=symmetric, **options)
    ours = quantized(layer, bits, qparams)
    assert torch.equal(ours.weight, fake_quantize(weight, qparams).view(layer.weight.shape))
    assert torch.equal(ours.qparams.scale, qparams.scale)
    assert torch.equal(ours.qparams.zero_point, qparams.zero_point)


def test_zero_points_are_packed_like_the_codes():
    layer = nn.Linear(10, 9)
    affine = quantized(layer, 4, choose_qparams(layer.weight, 4, axis=0))
    assert affine.zero_points.numel() == 5
    assert quantized(layer, 4).zero_points is None


def test_groups_of_a_convolution_run_along_one_output_channel():
    layer = nn.Conv2d(2, 3, 3)
    qparams = choose_qparams(layer.weight.flatten(1), 8, symmetric=True, signed=True, group_size=9)
    ours = quantized(layer, 8, qparams)
    amax = layer.weight.detach().flatten(2).abs().amax(2)
    assert torch.allclose(ours.scale, amax / 127)
    assert rows(layer.weight, qparams).shape == (3, 18)


@pytest.mark.parametrize("bits", [2, 8])
def test_without_a_grid_each_channel_gets_its_own(bits):
    layer, _ = made("conv2d grouped")
    assert torch.equal(
        type(quantized(layer)).from_float(layer, bits).weight, quantized(layer, bits).weight
    )


def test_codes_chosen_elsewhere_are_taken_as_they_are():
    codes = torch.tensor([[-2, 1, 0], [1, 1, -1]])
    layer = QuantLinear.from_codes(nn.Linear(3, 2), codes, 2, QParams(0.5, 0, -2, 1))
    assert torch.equal(layer.codes.long(), codes)
    assert torch.equal(layer.weight, codes * 0.5)


def test_the_float_layer_is_neither_modified_nor_shared():
    layer, _ = made("linear")
    before = copy.deepcopy(layer.state_dict())
    ours = quantized(layer)
    with torch.no_grad():
        ours.bias.add_(1)
    assert all(torch.equal(layer.state_dict()[name], before[name]) for name in before)


def test_a_state_dict_moves_a_layer_to_another():
    torch.manual_seed(0)
    one, other = quantized(nn.Linear(6, 4), 3), quantized(nn.Linear(6, 4), 3)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double"])
def test_a_scale_stays_float32_whatever_the_model_becomes(convert):
    layer = quantized(nn.Linear(6, 4))
    scale = layer.scale.clone()
    getattr(layer, convert)()
    assert layer.scale.dtype == torch.float32 and torch.equal(layer.scale, scale)


def test_what_other_code_asks_of_a_layer_is_there():
    linear, conv, table = (
        quantized(nn.Linear(6, 4)),
        quantized(nn.Conv2d(2, 4, 3, stride=2)),
        quantized(nn.Embedding(5, 4, padding_idx=1)),
    )
    assert (linear.in_features, linear.out_features) == (6, 4)
    assert (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride) == (
        2,
        4,
        (3, 3),
        (2, 2),
    )
    assert (table.num_embeddings, table.embedding_dim, table.padding_idx) == (5, 4, 1)
    assert "bits=8, axis=0" in repr(linear)
    assert "group_size=3" in repr(
        quantized(nn.Linear(6, 4), 8, grid(nn.Linear(6, 4), group_size=3))
    )
    assert "per tensor" in repr(quantized(nn.Linear(6, 4), 8, grid(nn.Linear(6, 4))))


def test_weights_of_zero_stay_zero():
    layer = nn.Linear(4, 2)
    nn.init.zeros_(layer.weight)
    assert not quantized(layer, 2).weight.any()


# ---------------------------------------------------------------- bad input

LINEAR = nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: QuantLinear.from_float(LINEAR, 9, grid(LINEAR)), "from 2 to 8"),
        (lambda: QuantLinear.from_float(LINEAR, 4, grid(LINEAR, 8)), "choose them for 4 bits"),
        (
            lambda: QuantLinear.from_float(LINEAR, 8, grid(nn.Linear(4, 3), axis=0)),
            r"do not broadcast along axis 0",
        ),
        (
            lambda: QuantLinear.from_codes(LINEAR, torch.zeros(4, 2).int(), 8, grid(LINEAR)),
            r"\(4, 2\).*\(2, 4\)",
        ),
        (
            lambda: QuantLinear.from_codes(LINEAR, torch.full((2, 4), 8), 4, grid(LINEAR, 4)),
            "lie in -8..7, got 8",
        ),
        (
            lambda: QuantLinear.from_codes(
                LINEAR, torch.zeros(2, 4).int(), 8, grid(nn.Linear(4, 3), axis=0)
            ),
            "do not broadcast",
        ),
        (
            lambda: QuantLinear.from_float(
                with_weight(LINEAR, torch.full((2, 4), torch.nan)), 8, grid(LINEAR)
            ),
            "must be finite",
        ),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
