"""quantize, dequantize, fake_quantize against torch, onnx and the plain formula."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from labkit.affine import dequantize, fake_quantize, quantize
from labkit.granularity import BLOCK_ELEMENTS
from labkit.qparams import QParams, choose_qparams

GRANULARITIES = [{}, {"axis": 0}, {"axis": 1}, {"axis": -1}, {"group_size": 4}, {"group_size": 8}]


def plain(x: torch.Tensor, qparams: QParams) -> torch.Tensor:
    """The definition, in one line, on parameters spread out by hand."""
    scale, zero_point = qparams.scale, qparams.zero_point
    if qparams.group_size:
        scale = scale.repeat_interleave(qparams.group_size, -1)
        zero_point = zero_point.repeat_interleave(qparams.group_size, -1)
    return torch.clamp(torch.round(x / scale) + zero_point, qparams.quant_min, qparams.quant_max)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_are_the_plain_formula(bits, granularity, symmetric, signed):
    x = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(bits))
    qparams = choose_qparams(x * 0.7, bits, symmetric=symmetric, signed=signed, **granularity)
    codes = quantize(x, qparams)
    assert codes.dtype == (torch.int8 if signed else torch.uint8)
    assert torch.equal(codes.float(), plain(x, qparams))
    assert torch.equal(fake_quantize(x, qparams), dequantize(codes, qparams))


def test_large_tensors_are_cut_into_blocks_without_a_seam():
    for shape in [(2 * BLOCK_ELEMENTS + 7,), (3, BLOCK_ELEMENTS + 1), (700, 1024)]:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for options in [{}, {"axis": 0}, {"axis": len(shape) - 1}]:
            qparams = choose_qparams(x, 4, **options)
            assert torch.equal(quantize(x, qparams).float(), plain(x, qparams))


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1), st.sampled_from(range(2, 9)))
def test_error_is_at_most_half_a_step(values, bits):
    x = torch.tensor(values)
    qparams = choose_qparams(x, bits)
    # Rounding the zero point may move an end of the range by half a step.
    error = (fake_quantize(x, qparams) - x).abs().max().item()
    assert error <= qparams.scale.item() * (1 + 1e-5)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1), st.sampled_from(range(2, 9)))
def test_quantizing_twice_changes_nothing(values, bits):
    x = torch.tensor(values)
    qparams = choose_qparams(x, bits)
    once = fake_quantize(x, qparams)
    assert torch.equal(fake_quantize(once, qparams), once)


@pytest.mark.parametrize("signed", [True, False])
def test_torch_fake_quantize_agrees_away_from_ties(signed):
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    qparams = choose_qparams(x * 0.8, 6, signed=signed)
    scale, zero_point = qparams.scale.item(), qparams.zero_point.item()
    oracle = torch.fake_quantize_per_tensor_affine(
        x, scale, zero_point, qparams.quant_min, qparams.quant_max
    )
    steps = x / qparams.scale
    not_tie = (steps - steps.floor() - 0.5).abs() > 1e-5
    mine = fake_quantize(x, qparams)
    assert not_tie.sum() > 9_900
    assert torch.equal(mine[not_tie], oracle[not_tie])


def test_torch_fake_quantize_per_channel_agrees():
    x = torch.randn(5, 400, generator=torch.Generator().manual_seed(2))
    qparams = choose_qparams(x, 4, axis=0)
    oracle = torch.fake_quantize_per_channel_affine(
        x, qparams.scale.flatten(), qparams.zero_point.flatten(), 0, 0, 15
    )
    assert torch.allclose(fake_quantize(x, qparams), oracle)


def test_dividing_and_multiplying_by_the_reciprocal_differ_on_a_tie():
    scale = 2 / 255
    x = torch.tensor([0.5 * np.float32(scale)])
    qparams = QParams(scale, 0, 0, 255)
    assert quantize(x, qparams).item() == 0  # 0.5 rounds to even


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("granularity", [{}, {"axis": 1}])
def test_onnx_reference_quantize_and_dequantize_linear(granularity, signed):
    x = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(3)) * 3
    qparams = choose_qparams(x * 0.5, 8, signed=signed, **granularity)
    code = np.int8 if signed else np.uint8
    inputs = {
        "x": x.numpy(),
        "scale": qparams.scale.flatten().numpy(),
        "zero_point": qparams.zero_point.flatten().numpy().astype(code),
    }
    if not granularity:
        inputs["scale"], inputs["zero_point"] = inputs["scale"][0], inputs["zero_point"][0]
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    value_info = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in inputs.items()
    ]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"], axis=1),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"], axis=1),
    ]
    outputs = [
        onnx.helper.make_tensor_value_info(
            "q", onnx.helper.np_dtype_to_tensor_dtype(np.dtype(code)), x.shape
        ),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, x.shape),
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "q", value_info, outputs),
        opset_imports=[onnx.helper.make_opsetid("", 21)],
    )
    codes, values = ReferenceEvaluator(model).run(None, inputs)
    assert np.array_equal(quantize(x, qparams).numpy(), codes)
    assert np.array_equal(fake_quantize(x, qparams).numpy(), values)


def test_onnx_backend_node_case_of_quantize_linear():
    """The example of the ONNX specification, uint8 and int4-like codes."""
    x = torch.tensor([0.0, 2, 3, 1000, -254, -1000])
    assert quantize(x, QParams(2.0, 128, 0, 255)).tolist() == [128, 129, 130, 255, 1, 0]
    x = torch.tensor([[0.0, 2.5, 4.8, 8.6], [-30, -20, 6, 9], [12, 15, 16, 40]])
    qparams = QParams(
        torch.tensor([[2.0], [3.0], [4.0]]), torch.tensor([[1], [2], [3]]), 0, 15, axis=0
    )
    assert quantize(x, qparams).tolist() == [[1, 2, 3, 5], [0, 0, 4, 5], [6, 7, 7, 13]]


def test_nothing_ever_wraps():
    x = torch.tensor([-1e30, 1e30, -3e38, 3e38])
    assert quantize(x, QParams(1e-3, 3, 0, 7)).tolist() == [0, 7, 0, 7]
    assert quantize(x, QParams(1e-38, -3, -8, 7)).tolist() == [-8, 7, -8, 7]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_keep_their_type(dtype):
    x = torch.randn(50, generator=torch.Generator().manual_seed(4)).to(dtype)
    qparams = choose_qparams(x, 8)
    assert qparams.scale.dtype == torch.float32
    y = fake_quantize(x, qparams)
    assert y.dtype == dtype
    assert torch.equal(quantize(x, qparams).double(), plain(x.to(torch.float64), qparams).double())


def test_non_contiguous_tensors():
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(5))
    for view in (x.t(), x[:, ::2], x[::3].t(), x.expand(2, 6, 8)):
        for options in ({}, {"axis": 0}, {"group_size": 2}):
            qparams = choose_qparams(view, 4, **options)
            expected = quantize(view.contiguous(), qparams)
            assert torch.equal(quantize(view, qparams), expected)


def test_empty_tensor_with_given_parameters():
    qparams = QParams(1.0, 0, 0, 255)
    for shape in [(0,), (3, 0), (0, 3)]:
        assert quantize(torch.empty(shape), qparams).shape == shape
        assert fake_quantize(torch.empty(shape), qparams).shape == shape


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("function", [quantize, fake_quantize])
def test_values_that_are_not_finite_are_refused(function, bad):
    x = torch.ones(BLOCK_ELEMENTS + 5)
    x[-1] = bad
    with pytest.raises(ValueError, match="finite"):
        function(x, QParams(1.0, 0, 0, 255))


def test_finite_values_whose_sum_overflows_are_accepted():
    x = torch.full((4,), 3e38)
    assert quantize(x, QParams(3e38, 0, 0, 3)).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("x", "qparams", "says"),
    [
        (torch.ones(3, 4), choose_qparams(torch.ones(5, 4), axis=0), "broadcast"),
        (torch.ones(3, 6), choose_qparams(torch.ones(3, 4), group_size=2), "groups of shape"),
        (torch.ones(3, 5), choose_qparams(torch.ones(3, 4), group_size=2), r"\(3, 5\)"),
        (torch.ones(4), choose_qparams(torch.ones(3, 4), axis=0), "broadcast"),
        (torch.ones(3, dtype=torch.int32), QParams(1.0, 0, 0, 255), "floating-point"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(x, qparams, says):
    with pytest.raises(ValueError, match=says):
        quantize(x, qparams)


def test_dequantize_refuses_floats():
    with pytest.raises(ValueError, match="integer"):
        dequantize(torch.ones(3), QParams(1.0, 0, 0, 255))


@pytest.mark.parametrize("codes", [[-500], [4], [2**40], [0, 200]])
def test_dequantize_refuses_codes_outside_the_range(codes):
    with pytest.raises(ValueError, match=r"codes must lie in 0\.\.3"):
        dequantize(torch.tensor(codes), QParams(1.0, 0, 0, 3))


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_dequantize_refuses_types_without_fractions(dtype):
    with pytest.raises(ValueError, match="float16"):
        dequantize(torch.tensor([1]), QParams(1.0, 0, 0, 3), dtype)


def test_a_negative_axis_by_hand_counts_from_the_end():
    qparams = QParams([1.0, 2.0, 4.0], [0, 0, 0], 0, 255, axis=-1)
    assert quantize(torch.full((2, 3), 8.0), qparams).tolist() == [[8, 4, 2], [8, 4, 2]]


def test_parameters_along_another_axis_are_refused():
    qparams = choose_qparams(torch.ones(5, 4), axis=1)
    with pytest.raises(ValueError, match="along axis 1"):
        quantize(torch.ones(2, 4, 4), qparams)
    with pytest.raises(ValueError, match="axis 5 does not exist"):
        quantize(torch.ones(2, 4), QParams(torch.ones(4), torch.zeros(4), 0, 255, axis=5))


def test_torch_func_can_differentiate_it():
    qparams = QParams(0.5, 1, 0, 3)
    x = torch.tensor([0.3, 9.0, -0.5])
    gradient = torch.func.grad(lambda v: fake_quantize(v, qparams).sum())(x)
    assert gradient.tolist() == [1.0, 0.0, 1.0]


def test_a_list_of_channels_runs_along_the_axis():
    qparams = QParams(torch.tensor([1.0, 10.0]), torch.zeros(2), 0, 255, axis=0)
    assert quantize(torch.full((2, 2), 20.0), qparams).tolist() == [[20, 20], [2, 2]]


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"group_size": 5}])
def test_gradient_is_torchs_straight_through(options):
    x = torch.randn(4, 50, generator=torch.Generator().manual_seed(6)).requires_grad_()
    qparams = choose_qparams(x.detach() * 0.5, 4, **options)
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(7))
    (gradient,) = torch.autograd.grad((fake_quantize(x, qparams) * weight).sum(), x)
    if options:
        unclipped = choose_qparams(x.detach() * 0.5, 4, **options)
        wide = QParams(
            unclipped.scale,
            unclipped.zero_point,
            -1000,
            1000,
            unclipped.axis,
            unclipped.group_size,
        )
        codes = plain(x.detach(), wide)
        assert torch.equal(gradient, weight * ((codes >= 0) & (codes <= 15)))
    else:
        oracle = torch.fake_quantize_per_tensor_affine(
            x, qparams.scale.item(), qparams.zero_point.item(), 0, 15
        )
        (expected,) = torch.autograd.grad((oracle * weight).sum(), x)
        assert torch.equal(gradient, expected)
        assert bool((gradient == 0).any())


def test_the_input_is_not_changed():
    x = torch.randn(100)
    before = x.clone()
    fake_quantize(x, choose_qparams(x, 3))
    quantize(x, choose_qparams(x, 3))
    assert torch.equal(x, before)
