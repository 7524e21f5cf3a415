"""GGUF blocks, byte for byte."""

import platform

import gguf
import numpy as np
import pytest
import torch

from labkit.layouts import decode_q4_0, decode_q8_0, encode_q4_0, encode_q8_0

Q4, Q8 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0


def inputs():
    generator = torch.Generator().manual_seed(0)
    yield torch.randn(64, 256, generator=generator)
    yield torch.zeros(3, 32)
    yield torch.full((32,), -2.5)
    yield torch.arange(64.0) - 20
    yield torch.randn(2, 3, 64, generator=generator) * 1e-6
    yield torch.randn(8, 32, generator=generator) * 1e-36


@pytest.mark.parametrize(
    ("encode", "decode", "kind"),
    [(encode_q4_0, decode_q4_0, Q4), (encode_q8_0, decode_q8_0, Q8)],
)
def test_bytes_and_values_equal_gguf(encode, decode, kind):
    for x in inputs():
        mine = encode(x)
        oracle = gguf.quantize(x.numpy(), kind)
        assert np.array_equal(mine.flatten(-2).numpy(), oracle)
        assert np.array_equal(decode(mine).numpy(), gguf.dequantize(oracle, kind))


@pytest.mark.parametrize("size", [1e-37, 1e-38, 1e-40, 1e-44])
@pytest.mark.parametrize(
    ("encode", "decode", "kind"),
    [(encode_q4_0, decode_q4_0, Q4), (encode_q8_0, decode_q8_0, Q8)],
)
# gguf multiplies by an overflowed 1 / d too, and casts what comes out.
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_blocks_too_small_for_half_precision_decode_to_zero(encode, decode, kind, size):
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)) * size
    x[:, 5] = 0
    mine = encode(x)
    assert int(decode(mine).count_nonzero()) == 0
    # Other processors cast infinity to a byte in another way.
    if platform.machine().lower() in ("x86_64", "amd64"):
        assert np.array_equal(mine.flatten(-2).numpy(), gguf.quantize(x.numpy(), kind))


def test_bits_per_weight():
    x = torch.randn(4, 320)
    assert 8 * encode_q4_0(x).numel() / x.numel() == 4.5
    assert 8 * encode_q8_0(x).numel() / x.numel() == 8.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: encode_q4_0(torch.ones(4, 33)), r"\(4, 33\)"),
        (lambda: encode_q4_0(torch.empty(0, 32)), r"empty.*\(0, 32\)"),
        (lambda: encode_q8_0(torch.empty(3, 0)), r"empty.*\(3, 0\)"),
        (lambda: encode_q4_0(torch.full((32,), float("nan"))), "finite"),
        (lambda: encode_q4_0(torch.full((32,), 1e6)), "half precision"),
        (lambda: encode_q8_0(torch.full((32,), 1e8)), "half precision"),
        (lambda: decode_q4_0(torch.zeros(1, 34, dtype=torch.uint8)), "18 bytes"),
        (lambda: decode_q4_0([1]), "got list"),
        (lambda: decode_q8_0(torch.zeros(1, 34)), r"torch.float32 of shape \(1, 34\)"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
