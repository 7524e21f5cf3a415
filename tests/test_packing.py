"""Packing: every width, every length, the byte order of ONNX."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.packing import pack, packed_bytes, unpack


@given(st.integers(2, 8), st.integers(0, 70), st.booleans(), st.integers(0, 2**31))
def test_round_trip_for_any_width_and_length(bits, count, signed, seed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    q = torch.randint(low, high, (count,), generator=torch.Generator().manual_seed(seed))
    packed = pack(q, bits)
    assert packed.dtype == torch.uint8
    assert packed.numel() == packed_bytes(count, bits) == -(-count * bits // 8)
    assert torch.equal(unpack(packed, bits, (count,), signed=signed).long(), q)


@given(st.integers(2, 8), st.lists(st.integers(0, 3), max_size=30))
def test_the_stream_is_dense_low_bits_first(bits, codes):
    stream = "".join(format(code, f"0{bits}b")[::-1] for code in codes)
    stream += "0" * (-len(stream) % 8)
    expected = [int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8)]
    assert pack(torch.tensor(codes, dtype=torch.int64), bits).tolist() == expected


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_four_bits_are_packed_as_onnx_does(signed, count):
    codes = np.arange(count) - (4 if signed else 0)
    kind = onnx.TensorProto.INT4 if signed else onnx.TensorProto.UINT4
    tensor = onnx.helper.make_tensor("x", kind, [count], codes)
    raw = onnx.numpy_helper.to_array(tensor)
    packed = onnx.numpy_helper.from_array(raw).raw_data
    assert bytes(pack(torch.from_numpy(codes), 4).numpy()) == packed


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_any_integer_type_and_shape(dtype):
    q = torch.arange(8, dtype=dtype).reshape(2, 4)
    assert torch.equal(unpack(pack(q, 4), 4, (2, 4)).to(dtype), q)
    assert torch.equal(unpack(pack(q.t(), 4), 4, (4, 2)).to(dtype), q.t())


def test_zero_dimensional_and_empty():
    assert unpack(pack(torch.tensor(5), 3), 3, ()).item() == 5
    assert unpack(pack(torch.empty(0, dtype=torch.uint8), 3), 3, (0, 4)).shape == (0, 4)


def test_eight_signed_bits_use_the_sign_bit():
    q = torch.tensor([-128, -1, 127], dtype=torch.int8)
    assert pack(q, 8).tolist() == [128, 255, 127]
    assert torch.equal(unpack(pack(q, 8), 8, (3,), signed=True), q)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pack(torch.tensor([4]), 2), r"0\.\.3"),
        (lambda: pack(torch.tensor([-3]), 2), r"-2\.\.1"),
        (lambda: pack(torch.tensor([-1, 3]), 2), "got -1..3"),
        (lambda: pack(torch.tensor([1.0]), 2), "integer"),
        (lambda: pack(torch.tensor([1]), 1), "from 2 to 8"),
        (lambda: unpack(torch.zeros(2, dtype=torch.uint8), 4, (5,)), "take 3 bytes, got 2"),
        (lambda: unpack(torch.zeros(2), 4, (4,)), "uint8"),
        (lambda: unpack(torch.zeros(2, dtype=torch.uint8), 4, (-4,)), "negative"),
        (lambda: packed_bytes(-1, 4), "negative"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
