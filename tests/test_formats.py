"""Formats: what is stored is what is counted, and decodes to what the definition says."""

import pytest
import torch
from torchao.prototype.mx_formats.config import ScaleCalculationMode
from torchao.prototype.mx_formats.constants import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2
from torchao.prototype.mx_formats.mx_tensor import MXTensor

from labkit.affine import choose_qparams, fake_quantize
from labkit.formats import MX, MX_SCALE_MODES, NF4, Codebook, MiniFloat, Uniform
from labkit.grids import FLOAT_FORMATS, nf4_levels

ALL = [
    Uniform(4),
    Uniform(3, group_size=32),
    Uniform(5, symmetric=True),
    Codebook(3),
    NF4(32),
    *[MiniFloat(element) for element in FLOAT_FORMATS],
    MiniFloat("e2m1", group_size=32),
    *[MX(element, mode) for element in FLOAT_FORMATS for mode in MX_SCALE_MODES],
]


def weights(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.05


@pytest.mark.parametrize("form", ALL, ids=str)
def test_bytes_are_counted_whole(form):
    encoded = form.encode(weights(16, 96))
    counted = sum(len(bytes(t.numpy().tobytes())) for t in encoded.tensors.values())
    assert encoded.nbytes == counted
    assert encoded.bits_per_weight == 8 * counted / (16 * 96)
    assert encoded.tensors["codes"].numel() == -(-16 * 96 * form.bits // 8)


@pytest.mark.parametrize(
    ("form", "bits_per_weight"),
    [
        (Uniform(4, group_size=32), 4 + (32 + 4) / 32),
        (Uniform(4, group_size=32, symmetric=True), 4 + 32 / 32),
        (Codebook(4), 4 + 16 * 32 / 4096),
        (NF4(64), 4 + 32 / 64),
        (MX("e2m1"), 4 + 8 / 32),
        (MX("e4m3"), 8 + 8 / 32),
        (MX("e3m2"), 6 + 8 / 32),
        (MiniFloat("e4m3"), 8 + 32 / 4096),
    ],
    ids=str,
)
def test_honest_bits_per_weight(form, bits_per_weight):
    assert form.encode(weights(64, 64)).bits_per_weight == bits_per_weight


@pytest.mark.parametrize("form", ALL, ids=str)
@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 32),
        torch.full((2, 32), -1.5),
        torch.full((2, 32), 1e-42),
        torch.full((2, 32), 3.4e38),
        torch.linspace(0, 1, 64).reshape(2, 32),
        weights(2, 32).to(torch.float16),
        weights(2, 32).to(torch.bfloat16),
        weights(32, 2).t(),
    ],
    ids=["zero", "constant", "subnormal", "max", "one-sided", "half", "bfloat16", "strided"],
)
def test_edge_inputs_decode_to_something_near(form, x):
    y = form.encode(x).decode()
    assert y.dtype == torch.float32
    assert y.shape == x.shape
    assert bool(torch.isfinite(y).all())
    # MX scales stop at 2^-127: below it, only absolute nearness can be asked.
    tolerance = 0.51 * x.double().abs().max() + (1e-38 if isinstance(form, MX) else 0)
    assert bool(((y.double() - x.double()).abs() <= tolerance).all())


@pytest.mark.parametrize("form", ALL, ids=str)
def test_decoding_needs_only_what_is_stored_and_is_stable(form):
    x = weights(4, 64)
    once = form.encode(x).decode()
    again = form.encode(x).decode()
    assert torch.equal(once, again)


def test_uniform_is_the_affine_grid():
    x = weights(8, 64)
    for group_size in (None, 16):
        for symmetric in (False, True):
            qparams = choose_qparams(x, 3, group_size=group_size, symmetric=symmetric)
            encoded = Uniform(3, group_size, symmetric).encode(x)
            assert torch.equal(encoded.decode(), fake_quantize(x, qparams))


def test_codebook_beats_the_uniform_grid_on_bell_shaped_weights():
    x = weights(64, 64)
    error = {f: (f.encode(x).decode() - x).square().mean() for f in (Codebook(3), Uniform(3))}
    assert error[Codebook(3)] < error[Uniform(3)]


def test_nf4_values_are_levels_times_the_largest_magnitude():
    x = weights(4, 64)
    y = NF4(64).encode(x).decode()
    ratio = y / x.abs().amax(1, keepdim=True)
    distance = (ratio[..., None] - nf4_levels()).abs().amin(-1)
    assert distance.max() < 1e-6


@pytest.mark.parametrize("mode", MX_SCALE_MODES)
@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        ("e4m3", torch.float8_e4m3fn),
        ("e5m2", torch.float8_e5m2),
        ("e2m1", torch.float4_e2m1fn_x2),
        ("e3m2", DTYPE_FP6_E3M2),
        ("e2m3", DTYPE_FP6_E2M3),
    ],
)
def test_mx_equals_torchao(element, dtype, mode):
    generator = torch.Generator().manual_seed(1)
    spread = torch.exp(4 * torch.randn(64, 1, generator=generator))
    x = torch.randn(64, 128, generator=generator) * spread
    x[0] = 0
    oracle = MXTensor.to_mx(x, dtype, 32, ScaleCalculationMode[mode.upper()])
    encoded = MX(element, mode).encode(x)
    scales = oracle.scale.view(torch.uint8)
    some = encoded.tensors["scale"].reshape(scales.shape)
    nonzero = x.reshape(64, 4, 32).abs().amax(-1) > 0
    assert torch.equal(some[nonzero], scales[nonzero])
    assert torch.equal(encoded.decode(), oracle.dequantize(torch.float32))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Uniform(9), "from 2 to 8"),
        (lambda: Codebook(1), "from 2 to 8"),
        (lambda: MX("e9m9"), "e4m3"),
        (lambda: MX(["e4m3"]), "e4m3"),
        (lambda: MX("e2m1", "round"), "floor, ceil"),
        (lambda: MiniFloat("fp8"), "e4m3"),
        (lambda: MX().encode(torch.ones(4, 33)), r"\(4, 33\)"),
        (lambda: NF4(64).encode(torch.ones(4, 32)), r"\(4, 32\)"),
        (lambda: Codebook(2).encode(torch.empty(0)), "empty"),
        (lambda: Codebook(2).encode(torch.tensor([float("nan")])), "finite"),
        (lambda: MiniFloat().encode(torch.tensor([1])), "floating-point"),
        (lambda: MiniFloat("e4m3", group_size=0).encode(torch.ones(4)), "at least 1, got 0"),
        (lambda: Uniform(4, group_size=0).encode(torch.ones(4)), "at least 1, got 0"),
        (lambda: NF4(-1).encode(torch.ones(4)), "at least 1, got -1"),
        (lambda: MX(block_size=2.0).encode(torch.ones(4)), "whole number, got 2.0"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_the_four_bits_of_nf4_cannot_be_set():
    with pytest.raises(TypeError, match="bits"):
        NF4(8, bits=8)
    assert NF4(8).bits == 4
