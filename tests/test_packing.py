"""Packing: every width, every length, the byte order of ONNX."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.packing import CODES_PER_BLOCK, pack, packed_bytes, unpack


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


INTEGERS = ["uint8", "uint16", "uint32", "int8", "int16", "int32", "int64"]


@pytest.mark.parametrize("dtype", [getattr(torch, name) for name in INTEGERS], ids=INTEGERS)
def test_any_integer_type_and_shape(dtype):
    q = torch.arange(8).reshape(2, 4)
    assert torch.equal(unpack(pack(q.to(dtype), 4), 4, (2, 4)).long(), q)
    assert torch.equal(unpack(pack(q.t().to(dtype), 4), 4, (4, 2)).long(), q.t())


@pytest.mark.parametrize("shape", [6, np.int64(6), torch.Size([6]), [6], (np.int64(6),)])
def test_a_shape_is_one_size_or_several(shape):
    q = torch.arange(6, dtype=torch.uint8)
    assert torch.equal(unpack(pack(q, 4), 4, shape), q)


@pytest.mark.parametrize("bits", range(2, 9))
def test_blocks_leave_no_seam(bits):
    count = 2 * CODES_PER_BLOCK + 3
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(0, 2**bits, (count,), generator=generator, dtype=torch.uint8)
    packed = pack(q, bits)
    assert torch.equal(unpack(packed, bits, count), q)
    start = CODES_PER_BLOCK - 8
    middle = packed[packed_bytes(start, bits) : packed_bytes(start + 16, bits)]
    assert torch.equal(middle, pack(q[start : start + 16], bits))


def test_mixed_signs_are_found_across_blocks():
    q = torch.zeros(2 * CODES_PER_BLOCK, dtype=torch.int8)
    q[0], q[-1] = -1, 9
    with pytest.raises(ValueError, match=r"got -1\.\.9"):
        pack(q, 4)


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
        (lambda: packed_bytes(2.5, 4), "got 2.5"),
        (lambda: pack(torch.tensor([1], dtype=torch.uint64), 4), "uint64"),
        (lambda: pack(torch.tensor([16], dtype=torch.uint16), 4), "got 16..16"),
        *[
            (lambda shape=shape: unpack(torch.zeros(3, dtype=torch.uint8), 4, shape), says)
            for shape, says in [
                (6.0, "got 6.0"),
                (None, "got None"),
                ((2.0, 3), "got 2.0"),
                ((True, 6), "got True"),
                ("6", "got '6'"),
                (torch.tensor([2, 3]), "got tensor"),
            ]
        ],
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
