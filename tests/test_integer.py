"""Integer layers against int64 arithmetic in torch, onnx's node cases and ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from onnx_node_cases import node_cases
from torch.nn import functional

from labkit.affine import QParams, dequantize
from labkit.fixed_point import INT32_MAX
from labkit.integer import (
    CrossTerms,
    accumulator_bound,
    integer_conv2d,
    integer_linear,
    quantize_multiplier,
)
from labkit.integer_steps import trace_conv2d, trace_linear
from labkit.requantize import quantize_bias

MATMUL_CASES = node_cases("qlinearmatmul", "QLinearMatMul")
CONV_CASES = node_cases("qlinearconv", "QLinearConv")
MATMUL_INTEGER_CASES = node_cases("matmulinteger", "MatMulInteger")
CONV_INTEGER_CASES = node_cases("convinteger", "ConvInteger")


def grid(scale, zero_point, dtype=np.uint8, axis=None) -> QParams:
    """A grid over all codes of a numpy integer type."""
    info = np.iinfo(dtype)
    scale, zero_point = np.asarray(scale, np.float32), np.asarray(zero_point, np.int64)
    if scale.size == 1:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    zero_point = np.broadcast_to(zero_point, scale.shape)
    return QParams(torch.tensor(scale), torch.tensor(zero_point), info.min, info.max, axis)


def run_onnx(kind: str, inputs: list, session=True, **attributes) -> np.ndarray:
    """Run one node on ONNX Runtime, or on onnx's reference evaluator."""
    inputs = [np.asarray(value) for value in inputs]
    names = [f"i{n}" for n in range(len(inputs))]
    node = onnx.helper.make_node(kind, names, ["y"], **attributes)
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in zip(names, inputs, strict=True)
    ]
    result = onnx.helper.np_dtype_to_tensor_dtype(inputs[7].dtype)
    graph = onnx.helper.make_graph(
        [node], "g", infos, [onnx.helper.make_tensor_value_info("y", result, None)]
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    feeds = dict(zip(names, inputs, strict=True))
    if not session:
        return ReferenceEvaluator(model).run(None, feeds)[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    ).run(None, feeds)[0]


# --- onnx's node cases --------------------------------------------------------------------------


@pytest.mark.parametrize("requantize", ["float", "fixed_point"])
@pytest.mark.parametrize("name", MATMUL_CASES)
def test_qlinearmatmul_node_cases(name, requantize):
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = MATMUL_CASES[name][1]
    (expected,) = MATMUL_CASES[name][2]
    grids = (
        grid(scale, zero, zero.dtype)
        for scale, zero in ((a_scale, a_zero), (b_scale, b_zero), (y_scale, y_zero))
    )
    a_grid, b_grid, y_grid = grids
    pairs = [(a, b)] if a.ndim == 2 else zip(a, b, strict=True)
    got = [
        integer_linear(
            torch.tensor(x), a_grid, torch.tensor(w).T, b_grid, None, y_grid, requantize=requantize
        )
        for x, w in pairs
    ]
    got = got[0] if a.ndim == 2 else torch.stack(got)
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("requantize", ["float", "fixed_point"])
@pytest.mark.parametrize("name", CONV_CASES)
def test_qlinearconv_node_cases(name, requantize):
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = CONV_CASES[name][1]
    got = integer_conv2d(
        torch.tensor(x), grid(x_scale, x_zero), torch.tensor(w), grid(w_scale, w_zero), None,
        grid(y_scale, y_zero), requantize=requantize,
    )  # fmt: skip
    assert got.tolist() == CONV_CASES[name][2][0].tolist()


def test_matmulinteger_node_case():
    ((_, (a, b, a_zero, b_zero), (expected,)),) = MATMUL_INTEGER_CASES.values()
    got = integer_linear(torch.tensor(a), grid(1, a_zero), torch.tensor(b).T, grid(1, b_zero))
    assert got.dtype == torch.int32 and got.tolist() == expected.tolist()


@pytest.mark.parametrize("name", CONV_INTEGER_CASES)
def test_convinteger_node_cases(name):
    node, (x, w, x_zero, *rest), (expected,) = CONV_INTEGER_CASES[name]
    w_zero = rest[0] if rest else np.zeros(len(w))
    pads = next((tuple(a.ints) for a in node.attribute if a.name == "pads"), 0)
    got = integer_conv2d(
        torch.tensor(x), grid(1, x_zero), torch.tensor(w), grid(np.ones(len(w)), w_zero, axis=0),
        padding=pads,
    )  # fmt: skip
    assert got.tolist() == expected.tolist()


# --- random layers against ONNX Runtime ---------------------------------------------------------


def random_layer(seed: int, weight_shape: tuple, x_shape: tuple, per_channel: bool, signed: bool):
    """Codes and grids of a random layer whose outputs use their range."""
    rng = np.random.default_rng(seed)
    out = weight_shape[0]
    x = rng.integers(0, 256, x_shape, dtype=np.uint8)
    # Signed weights of 7 bits: processors without VNNI add two 8-bit products in 16 bits, and
    # ONNX Runtime saturates there. Nothing of ours does.
    kind, low, high = (np.int8, -64, 64) if signed else (np.uint8, 0, 256)
    w = rng.integers(low, high, weight_shape).astype(kind)
    count = out if per_channel else 1
    x_scale = np.float32(rng.uniform(0.001, 0.1))
    w_scale = rng.uniform(0.001, 0.1, count).astype(np.float32)
    w_zero = (np.zeros(count) if signed else rng.integers(0, 256, count)).astype(kind)
    bias = rng.integers(-3000, 3000, out, dtype=np.int32)
    spread = np.sqrt(np.prod(weight_shape[1:])) * 74 * (37 if signed else 74)
    y_scale = np.float32(x_scale * w_scale.mean() * spread / 40)
    return x, x_scale, np.uint8(rng.integers(256)), w, w_scale, w_zero, y_scale, bias


layers = st.integers(0, 2**31)
roundings = st.sampled_from(["fixed_point", "float"])


@settings(max_examples=40)
@given(layers, st.booleans(), st.booleans(), st.integers(1, 40), st.integers(1, 9))
def test_linear_equals_onnx_runtime_in_every_code(seed, per_channel, signed, depth, out):
    x, s_x, z_x, w, s_w, z_w, s_y, _ = random_layer(
        seed, (out, depth), (7, depth), per_channel, signed
    )
    if signed is False:
        # Its matrix multiplication takes one zero point for unsigned weights.
        z_w = np.full_like(z_w, z_w[0])
    z_y = np.uint8(120)
    expected = run_onnx("QLinearMatMul", [x, s_x, z_x, w.T.copy(), s_w, z_w, s_y, z_y])
    got = integer_linear(
        torch.tensor(x), grid(s_x, z_x), torch.tensor(w),
        grid(s_w, z_w, w.dtype, 0 if per_channel else None), None, grid(s_y, z_y),
        requantize="float",
    )  # fmt: skip
    assert got.tolist() == expected.tolist()


@settings(max_examples=40)
@given(
    layers,
    st.booleans(),
    st.booleans(),
    st.sampled_from([(1, 3, 4), (2, 4, 6), (4, 4, 4), (1, 1, 1), (3, 3, 6)]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_convolution_equals_onnx_runtime_in_every_code(
    seed, per_channel, signed, channels, kernel, stride, pads, dilation
):
    groups, inputs, out = channels
    x, s_x, z_x, w, s_w, z_w, s_y, bias = random_layer(
        seed, (out, inputs // groups, *kernel), (2, inputs, 6, 7), per_channel, signed
    )
    z_w = np.full_like(z_w, z_w[0])  # ONNX Runtime takes one for all channels.
    z_y = np.uint8(131)
    expected = run_onnx(
        "QLinearConv", [x, s_x, z_x, w, s_w, z_w, s_y, z_y, bias],
        group=groups, strides=stride, pads=pads, dilations=dilation,
    )  # fmt: skip
    got = integer_conv2d(
        torch.tensor(x), grid(s_x, z_x), torch.tensor(w),
        grid(s_w, z_w, w.dtype, 0 if per_channel else None), torch.tensor(bias), grid(s_y, z_y),
        stride=stride, padding=pads, dilation=dilation, groups=groups, requantize="float",
    )  # fmt: skip
    assert got.tolist() == expected.tolist()


def test_on_an_exact_half_onnx_rounds_to_even_and_tensorflow_lite_away_from_zero():
    # Accumulators of ±2 and ±6 times 1/4: ±0.5 and ±1.5.
    x, w = np.array([[2], [6]], np.uint8), np.array([[1, -1]], np.int8)
    scales = [np.float32(1), np.ones(1, np.float32), np.float32(4)]
    zeros = [np.uint8(0), np.zeros(1, np.int8), np.uint8(100)]
    inputs = [x, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2]]
    grids = (grid(1, 0), torch.tensor(w).T, grid(1, 0, np.int8), None, grid(4, 100))
    even = integer_linear(torch.tensor(x), *grids, requantize="float")
    away = integer_linear(torch.tensor(x), *grids, requantize="fixed_point")
    assert even.tolist() == run_onnx("QLinearMatMul", inputs).tolist() == [[100, 100], [102, 98]]
    assert away.tolist() == [[101, 99], [102, 98]]


def test_the_reference_evaluator_adds_the_zero_point_before_it_rounds():
    # With an odd zero point a half then goes to another even number than in ONNX Runtime.
    inputs = [
        np.array([[1]], np.uint8), np.float32(1), np.uint8(0), np.array([[1]], np.int8),
        np.ones(1, np.float32), np.zeros(1, np.int8), np.float32(2), np.uint8(101),
    ]  # fmt: skip
    ours = integer_linear(
        torch.tensor([[1]]), grid(1, 0), torch.tensor([[1]]), grid(1, 0, np.int8), None,
        grid(2, 101), requantize="float",
    )  # fmt: skip
    assert ours.item() == run_onnx("QLinearMatMul", inputs).item() == 101
    assert run_onnx("QLinearMatMul", inputs, session=False).item() == 102


# --- the arithmetic itself ----------------------------------------------------------------------


@settings(max_examples=60)
@given(
    layers, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["fixed_point", "float"])
)
def test_the_steps_of_a_linear_layer_give_the_same_codes(seed, channel, signed, relu, requantize):
    x, s_x, z_x, w, s_w, z_w, s_y, bias = random_layer(seed, (4, 11), (3, 11), channel, signed)
    arguments = (
        torch.tensor(x), grid(s_x, z_x), torch.tensor(w),
        grid(s_w, z_w, w.dtype, 0 if channel else None), torch.tensor(bias), grid(s_y, 77),
    )  # fmt: skip
    options = {"relu": relu, "requantize": requantize}
    traces = trace_linear(*arguments, **options)
    codes = [[trace.result for trace in row] for row in traces]
    assert integer_linear(*arguments, **options).tolist() == codes


@settings(max_examples=25)
@given(
    layers,
    st.booleans(),
    st.booleans(),
    st.sampled_from([(1, 2, 3), (2, 2, 4), (3, 3, 3)]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([(1, 1), (2, 1), (2, 2)]),
    st.sampled_from([0, (1, 2), (0, 1, 2, 0), "same", "valid"]),
    st.sampled_from([(1, 1), (2, 1)]),
    roundings,
)
def test_the_steps_of_a_convolution_give_the_same_codes(
    seed, channel, signed, channels, kernel, stride, padding, dilation, requantize
):
    groups, inputs, out = channels
    x, s_x, z_x, w, s_w, z_w, s_y, bias = random_layer(
        seed, (out, inputs // groups, *kernel), (2, inputs, 5, 6), channel, signed
    )
    assume(dilation[0] * (kernel[0] - 1) < 5)
    arguments = (
        torch.tensor(x), grid(s_x, z_x), torch.tensor(w),
        grid(s_w, z_w, w.dtype, 0 if channel else None), torch.tensor(bias), grid(s_y, 77),
    )  # fmt: skip
    options = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "requantize": requantize,
    }  # fmt: skip
    traces = trace_conv2d(*arguments, **options)
    codes = [[[[t.result for t in row] for row in plane] for plane in image] for image in traces]
    assert integer_conv2d(*arguments, **options).tolist() == codes


@given(layers, st.booleans())
def test_the_four_sums_add_up_to_the_product_of_differences(seed, signed):
    x, _, z_x, w, _, z_w, _, _ = random_layer(seed, (5, 9), (4, 9), True, signed)
    got = integer_linear(
        torch.tensor(x), grid(1, z_x), torch.tensor(w), grid(np.ones(5), z_w, w.dtype, 0)
    )
    differences = (x.astype(np.int64) - z_x) @ (w.astype(np.int64) - z_w[:, None]).T
    assert got.tolist() == differences.tolist()


def test_padding_with_the_zero_point_adds_nothing():
    x = torch.full((1, 1, 3, 3), 7)
    weight = torch.ones(1, 1, 3, 3, dtype=torch.int64)
    got = integer_conv2d(x, grid(1, 7), weight, grid(1, 0, np.int8), padding=1)
    assert got.abs().max() == 0


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 1)])
def test_a_convolution_has_torchs_geometry(padding):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2, 4, 9, 8), generator=generator)
    weight = torch.randint(-128, 128, (6, 2, 3, 2), generator=generator)
    options = {"dilation": (2, 1), "groups": 2, "padding": padding}
    got = integer_conv2d(x, grid(1, 30), weight, grid(1, 0, np.int8), **options)
    expected = functional.conv2d((x - 30).double(), weight.double(), **options)
    assert torch.equal(got.double(), expected)


def test_relu_is_a_clamp_at_the_zero_point():
    x, weight = torch.tensor([[1], [3]]), torch.tensor([[-5], [5]])
    arguments = (x, grid(1, 0), weight, grid(1, 0, np.int8), None, grid(1, 60))
    assert integer_linear(*arguments).tolist() == [[55, 65], [45, 75]]
    assert integer_linear(*arguments, relu=True).tolist() == [[60, 65], [60, 75]]


@given(layers, roundings)
def test_values_are_within_a_step_of_the_float_layer(seed, requantize):
    x, s_x, z_x, w, s_w, z_w, s_y, bias = random_layer(seed, (6, 20), (5, 20), True, True)
    x_grid, y_grid = grid(s_x, z_x), grid(s_y, 128)
    w_grid = QParams(torch.tensor(s_w)[:, None], torch.tensor(z_w)[:, None], -128, 127, axis=0)
    float_bias = torch.tensor(bias) * torch.tensor(s_x * s_w)
    codes = quantize_bias(float_bias, x_grid, w_grid)
    assert (codes - torch.tensor(bias)).abs().max() <= 1
    x, w = torch.tensor(x), torch.tensor(w)
    y = functional.linear(
        dequantize(x, x_grid).double(), dequantize(w, w_grid).double(), float_bias.double()
    )
    got = integer_linear(x, x_grid, w, w_grid, codes, y_grid, requantize=requantize)
    low, high = -128 * float(s_y), 127 * float(s_y)
    error = dequantize(got, y_grid).double() - y.clamp(low, high)
    # Half a step of rounding, and half a step of its second rounding at most.
    assert error.abs().max() <= float(s_y) * 1.01


# --- what 32 bits hold --------------------------------------------------------------------------


def test_the_bound_is_reached_by_the_worst_input():
    weight = torch.tensor([[127, -128, 5], [1, 1, 1]])
    w_grid, x_grid, bias = grid(1, 0, np.int8), grid(1, 200), torch.tensor([10, -20])
    bound = accumulator_bound(weight, w_grid, x_grid, bias)
    worst = [255 * (127 + 128 + 5), 200 * 3 + 20]
    assert bound.tolist() == [max(worst[0], 200 * 260 + 10), max(255 * 3, worst[1])]
    centred = weight * torch.where(weight > 0, -200, 55)
    assert int(centred[1].sum().abs()) + 20 == worst[1]


@pytest.mark.parametrize(("depth", "fits"), [(66051, True), (66052, False)])
def test_a_sum_that_could_wrap_is_refused_before_any_work(depth, fits):
    # 255 · 127.5 · 66051 is just below 2^31: with weights of 127 and inputs up to 255.
    weight = torch.full((1, depth), 127)
    weight[0, ::2] = -128
    x = torch.zeros(1, depth, dtype=torch.uint8)
    grids = grid(1, 0), grid(1, 0, np.int8)
    exact = 255 * int(weight.abs().sum())
    assert (exact <= INT32_MAX) == fits
    if fits:
        assert integer_linear(x, grids[0], weight, grids[1]).item() == 0
    else:
        with pytest.raises(ValueError, match=f"output 0 could reach {exact}, beyond"):
            integer_linear(x, grids[0], weight, grids[1])


def test_the_largest_allowed_sum_is_exact():
    depth = 66051
    weight = torch.full((1, depth), 127)
    weight[0, ::2] = -128
    x = torch.where(weight > 0, 255, 0)
    got = integer_linear(x, grid(1, 0), weight, grid(1, 0, np.int8))
    assert got.item() == 255 * 127 * (depth // 2)


def test_one_matrix_of_cross_terms_has_one_total():
    terms = CrossTerms(*(torch.tensor(n) for n in (100, 7, 30, 9)))
    assert terms.total.item() == 100 - 7 - 30 + 9


def test_quantize_multiplier_is_at_hand_here():
    assert quantize_multiplier(0.5) == (2**30, 0)


# --- refusals -----------------------------------------------------------------------------------

X, W = torch.zeros(1, 2, dtype=torch.uint8), torch.zeros(3, 2, dtype=torch.int8)
X_GRID, W_GRID = grid(1, 0), grid(1, 0, np.int8)
GROUPED = QParams(torch.ones(3, 2), torch.zeros(3, 2), -128, 127, group_size=1)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((X[:, :1], X_GRID, W, W_GRID), {}, r"got \(1, 1\) and \(3, 2\)"),
        ((X, X_GRID, W, GROUPED), {}, "one accumulator has one scale"),
        ((X, grid([1, 1], 0, axis=1), W, W_GRID), {}, "x_qparams must be per tensor"),
        ((X, X_GRID, W, W_GRID, None, grid([1, 1], 0, axis=1)), {}, "y_qparams must be per tensor"),
        ((X.float(), X_GRID, W, W_GRID), {}, "x must hold integers"),
        ((X.long() - 1, X_GRID, W, W_GRID), {}, r"codes of x must lie in 0\.\.255, got -1"),
        ((X, X_GRID, W, QParams(1.0, 0, -4, 3), torch.zeros(3)), {}, "use quantize_bias"),
        ((X, X_GRID, W, W_GRID, torch.zeros(2, dtype=torch.int32)), {}, r"bias of shape \(2,\)"),
        ((X[:0], X_GRID, W, W_GRID), {}, "x is empty"),
        ((X, X_GRID, W, W_GRID), {"requantize": "floor"}, "fixed_point, float; got 'floor'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        integer_linear(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 2}, "groups=2"),
        ({"padding": -1}, "not below 0; got -1"),
        ({"padding": (1, 1, 1)}, "padding must be"),
    ],
)
def test_a_geometry_that_does_not_fit_is_refused(options, words):
    x, weight = torch.zeros(1, 2, 4, 4, dtype=torch.uint8), torch.zeros(3, 2, 1, 1).to(torch.int8)
    with pytest.raises(ValueError, match=words):
        integer_conv2d(x, X_GRID, weight, W_GRID, **options)


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        (torch.tensor([1]), "float tensor of one dimension"),
        (torch.tensor([torch.nan]), "must be finite"),
        (torch.tensor([3e9]), "does not fit 32 bits"),
        (torch.ones(2), "2 biases and 3 weight scales"),
    ],
)
def test_a_bias_that_cannot_become_int32_is_refused(bias, words):
    with pytest.raises(ValueError, match=words):
        quantize_bias(bias, X_GRID, grid(np.ones(3), 0, np.int8, 0) if len(bias) == 2 else W_GRID)
