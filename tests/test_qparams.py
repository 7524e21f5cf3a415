"""Choosing scale and zero point: closed forms, fixed semantics, edge inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.affine import dequantize, fake_quantize, quantize, representable_range
from labkit.qparams import SCALE_RULES, QParams, choose_qparams, code_range, qparams_from_range

BITS = range(2, 9)
floats = st.floats(-(2.0**100), 2.0**100, width=32)


def test_document_example_1_to_the_digit():
    weights = torch.linspace(-1, 1, 1000 * 1000).reshape(1000, 1000)
    qparams = choose_qparams(weights, bits=8)
    assert qparams.scale.item() == np.float32(2 / 255)
    assert qparams.zero_point.item() == 128
    assert round(1 / 0.00784, 2) == 127.55
    # The exact value sits on the tie; float32 arithmetic would fall just below it.
    assert 1.0 / (2.0 / 255.0) == 127.5
    assert np.float32(1) / (np.float32(2) / np.float32(255)) < 127.5
    codes = quantize(weights, qparams)
    assert (codes.nbytes, weights.nbytes) == (1_000_000, 4_000_000)


@given(floats, floats, st.sampled_from(BITS), st.booleans())
def test_affine_formula_in_float64(a, b, bits, signed):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    if high - low < 1e-30:
        return
    quant_min, quant_max = code_range(bits, signed)
    scale = (high - low) / (quant_max - quant_min)
    qparams = choose_qparams(torch.tensor([a, b]), bits, signed=signed)
    assert qparams.scale.item() == np.float32(scale)
    assert qparams.zero_point.item() == np.clip(
        np.round(quant_min - low / scale), quant_min, quant_max
    )


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_symmetric_scale_rules(bits, signed):
    x = torch.tensor([-3.0, 1.0])
    half = 2 ** (bits - 1)
    expected = {
        "restricted": 3 / (half - 1),
        "full": 3 / ((2**bits - 1) / 2),
        "no_clip": max(3 / half, 1 / (half - 1)),
    }
    for rule in SCALE_RULES:
        qparams = choose_qparams(x, bits, symmetric=True, signed=signed, scale_rule=rule)
        assert qparams.scale.item() == np.float32(expected[rule])
        assert qparams.zero_point.item() == (0 if signed else half)


@given(st.lists(floats, min_size=1, max_size=20), st.sampled_from(BITS), st.booleans())
def test_zero_round_trips_to_exactly_zero(values, bits, symmetric):
    x = torch.tensor([*values, 0.0])
    for signed in (True, False):
        qparams = choose_qparams(x, bits, symmetric=symmetric, signed=signed)
        assert fake_quantize(x, qparams)[-1] == 0
        assert quantize(x, qparams)[-1] == qparams.zero_point


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("value", [3.7, -3.7, 1e-30, -1e-30, 3e38, -3e38])
@pytest.mark.parametrize("options", [{}, {"symmetric": True}])
def test_constant_round_trips_to_float_precision(value, options, signed):
    for bits in BITS:
        x = torch.full((3, 4), value)
        y = fake_quantize(x, choose_qparams(x, bits, signed=signed, **options))
        assert torch.allclose(x, y, rtol=3e-7, atol=0)


@pytest.mark.parametrize("options", [{}, {"symmetric": True}, {"axis": 0}, {"group_size": 2}])
def test_all_zero_has_scale_one_and_code_zero_point(options):
    x = torch.zeros(2, 4)
    qparams = choose_qparams(x, 4, **options)
    assert bool((qparams.scale == 1).all())
    codes = quantize(x, qparams)
    assert bool((codes == qparams.zero_point.reshape(-1)[0]).all())
    assert torch.equal(dequantize(codes, qparams), x)


@pytest.mark.parametrize("ends", [(0.5, 2.0), (-2.0, -0.5), (0.0, 2.0), (-2.0, 0.0)])
def test_one_sided_range_is_widened_to_zero(ends):
    qparams = choose_qparams(torch.tensor(ends), 8)
    low, high = (end.item() for end in representable_range(qparams))
    assert low == pytest.approx(min(ends[0], 0.0))
    assert high == pytest.approx(max(ends[1], 0.0))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_subnormals_keep_a_positive_scale_and_half_a_step(bits, symmetric):
    smallest = 2.0**-149
    for steps in (1, 2, 3, 100, 255, 357, 10_000):
        x = torch.tensor([-steps * smallest, smallest, steps * smallest])
        qparams = choose_qparams(x, bits, symmetric=symmetric)
        assert qparams.scale.item() > 0
        error = (fake_quantize(x, qparams).double() - x.double()).abs().max()
        assert error <= qparams.scale.double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_largest_finite_values_stay_finite(dtype, symmetric):
    largest = torch.finfo(dtype).max
    x = torch.tensor([-largest, -1.0, 0.0, 1.0, largest], dtype=dtype)
    for bits in BITS:
        qparams = choose_qparams(x, bits, symmetric=symmetric)
        assert bool(torch.isfinite(qparams.scale).all())
        y = fake_quantize(x, qparams)
        assert bool(torch.isfinite(y).all())
        step = qparams.scale.double()
        assert bool(((y.double() - x.double()).abs() <= step * 1.01).all())


def test_shapes_of_the_three_granularities():
    x = torch.randn(3, 5, 8)
    assert choose_qparams(x).scale.shape == ()
    assert choose_qparams(x, axis=1).scale.shape == (1, 5, 1)
    assert choose_qparams(x, axis=-1).scale.shape == (1, 1, 8)
    assert choose_qparams(x, group_size=4).scale.shape == (3, 5, 2)
    assert choose_qparams(x, axis=-1).axis == 2


def test_each_axis_slice_and_each_group_is_chosen_alone():
    x = torch.randn(3, 8) * torch.tensor([[1.0], [10.0], [100.0]])
    by_axis, by_group = choose_qparams(x, 4, axis=0), choose_qparams(x, 4, group_size=4)
    for row in range(3):
        alone = choose_qparams(x[row], 4)
        assert by_axis.scale[row, 0] == alone.scale
        assert by_axis.zero_point[row, 0] == alone.zero_point
        for group in range(2):
            alone = choose_qparams(x[row, 4 * group : 4 * group + 4], 4)
            assert by_group.scale[row, group] == alone.scale


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((torch.empty(0),), {}, "empty"),
        ((torch.empty(3, 0),), {"axis": 0}, "empty"),
        ((torch.tensor([1.0, float("nan")]),), {}, "finite"),
        ((torch.tensor([1.0, float("inf")]),), {}, "finite"),
        ((torch.tensor([-float("inf"), 1.0]),), {"axis": 0}, "finite"),
        ((torch.tensor([1, 2]),), {}, "floating-point"),
        ((torch.tensor([1 + 1j]),), {}, "floating-point"),
        (([1.0, 2.0],), {}, "list"),
        ((torch.ones(4), 1), {}, "from 2 to 8, got 1"),
        ((torch.ones(4), 9), {}, "from 2 to 8, got 9"),
        ((torch.ones(4), 16), {}, "from 2 to 8, got 16"),
        ((torch.ones(4), 4.0), {}, "whole number"),
        ((torch.ones(4), True), {}, "whole number"),
        ((torch.ones(4),), {"scale_rule": "half"}, "restricted, full, no_clip"),
        ((torch.ones(2, 6),), {"group_size": 4}, r"\(2, 6\)"),
        ((torch.tensor(1.0),), {"group_size": 2}, "no last dimension"),
        ((torch.ones(4),), {"group_size": 0}, "at least 1"),
        ((torch.ones(4),), {"axis": 1}, "axis 1 does not exist"),
        ((torch.tensor(1.0),), {"axis": 0}, "axis 0 does not exist"),
        ((torch.ones(4),), {"axis": 0, "group_size": 2}, "give one"),
        ((torch.tensor([1e300], dtype=torch.float64),), {}, "fit in float32"),
    ],
)
def test_bad_input_is_refused_with_a_reason(arguments, options, says):
    with pytest.raises(ValueError, match=says):
        choose_qparams(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0.0, 0, 0, 255), "positive"),
        ((-1.0, 0, 0, 255), "positive"),
        ((float("nan"), 0, 0, 255), "positive"),
        ((float("inf"), 0, 0, 255), "positive"),
        ((1e-60, 0, 0, 255), "positive"),
        ((1.0, 256, 0, 255), "code range 0..255"),
        ((1.0, 0.5, 0, 255), "integer"),
        ((1.0, 0, 255, 0), "below"),
        ((torch.ones(2), torch.zeros(3), 0, 255), "same"),
    ],
)
def test_bad_parameters_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        QParams(*arguments)


def test_a_range_upside_down_is_refused():
    with pytest.raises(ValueError, match="exceed"):
        qparams_from_range(1.0, -1.0)


def test_zero_dimensional_tensor():
    x = torch.tensor(3.0)
    qparams = choose_qparams(x)
    assert quantize(x, qparams).shape == ()
    assert fake_quantize(x, qparams).item() == pytest.approx(3.0, rel=3e-7)


def test_choosing_leaves_no_gradient_behind():
    x = torch.randn(4, requires_grad=True)
    assert not choose_qparams(x, axis=0).scale.requires_grad


def test_a_symmetric_range_lies_on_the_tie_exactly():
    # -low / scale with a rounded scale gives 127.49999999999999 for many of these.
    for a in torch.rand(500, generator=torch.Generator().manual_seed(0)):
        qparams = choose_qparams(torch.stack([-a, a]), 8)
        assert qparams.zero_point.item() == 128
    for bits in BITS:
        qparams = choose_qparams(torch.tensor([-0.555513858795166, 0.555513858795166]), bits)
        assert qparams.zero_point.item() == 2 ** (bits - 1)


def test_python_floats_are_taken_in_float64():
    from_floats = qparams_from_range(-0.22, 0.22, 7)
    ends = torch.tensor([-0.22, 0.22], dtype=torch.float64)
    from_tensors = qparams_from_range(ends[0], ends[1], 7)
    assert from_floats.zero_point == from_tensors.zero_point
    assert qparams_from_range(0.0, 1e-50).scale.item() == 2.0**-149
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert QParams(0.1, 0, 0, 255).scale.item() == np.float32(0.1)
    finally:
        torch.set_default_dtype(torch.float32)


def test_parameters_do_not_follow_the_tensors_they_were_made_from():
    scale, zero_point = torch.tensor(0.5), torch.tensor(1, dtype=torch.int32)
    qparams = QParams(scale, zero_point, 0, 255)
    scale.fill_(float("nan"))
    zero_point.fill_(99)
    assert (qparams.scale.item(), qparams.zero_point.item()) == (0.5, 1)


def test_numpy_integers_are_integers():
    x = torch.ones(4, 8)
    qparams = choose_qparams(x, np.int8(8), axis=np.int64(0))
    assert qparams.scale.shape == (4, 1)
    assert choose_qparams(x, group_size=np.int32(2)).scale.shape == (4, 4)
    assert choose_qparams(x, np.int8(8), symmetric=True).zero_point.item() == 128


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: QParams(1.0, 0, -(2**31), 2**31 - 1), "65536 codes"),
        (lambda: QParams(0.5, 1, 0, 3.7), "whole number"),
        (lambda: QParams(0.5, 0, 0, 3, group_size=0), "at least 1"),
        (lambda: QParams(0.5, 0, 0, 3, group_size=2.0), "whole number"),
        (lambda: QParams(0.5, 0, 0, 3, axis="a"), "whole number"),
        (lambda: QParams(0.5, 0, 0, 3, axis=0, group_size=2), "give one"),
        (lambda: QParams(0.5, True, 0, 3), "real numbers"),
        (lambda: QParams(None, 0, 0, 3), "real numbers"),
        (lambda: QParams("a", 0, 0, 3), "real numbers"),
        (lambda: QParams(1j, 0, 0, 3), "real numbers"),
        (lambda: qparams_from_range(torch.zeros(3), torch.ones(2)), "the same"),
        (lambda: qparams_from_range(0.0, 1e39), "fit in float32"),
        (lambda: choose_qparams(torch.ones(3), axis=True), "whole number"),
        (lambda: choose_qparams(torch.ones(3).to(torch.float8_e4m3fn)), "floating-point"),
        (lambda: choose_qparams(torch.ones(3, 3).to_sparse()), "dense"),
        (lambda: choose_qparams(torch.ones(3, device="meta")), "dense"),
    ],
)
def test_more_bad_input_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
