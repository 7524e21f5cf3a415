"""Packing: codes of 2 to 8 bits as a dense row of bits, and back.

Code i takes the bits i·b to (i+1)·b - 1 of the stream, low bits first within a byte: the order of
ONNX int4 and int2. Odd widths (3, 5, 6, 7) are dense too, so a code may cross a byte boundary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.checks import check_bits, check_whole, describe

# Eight codes of b bits fill b whole bytes, so the work is done in words of eight codes.
CODES_PER_WORD = 8
# Codes handled at once: their words of 64 bits stay in the cache, whatever the tensor's size.
CODES_PER_BLOCK = 2**16


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` codes of `bits` bits take, the last byte filled up.

    >>> packed_bytes(5, bits=3)
    2
    """
    check_bits(bits)
    if check_whole("count", count) < 0:
        raise ValueError(f"count must not be negative, got {count}")
    return -(-count * bits // 8)


def pack(q: Tensor, bits: int) -> Tensor:
    """Pack integer codes of any shape into a 1-d uint8 tensor of `packed_bytes` bytes.

    Codes are either unsigned (0 .. 2^bits - 1) or signed two's complement
    (-2^(bits-1) .. 2^(bits-1) - 1); unused bits of the last byte are 0. Raises ValueError when a
    code does not fit: nothing is cut off silently.

    >>> pack(torch.tensor([1, 2, 3]), bits=4)
    tensor([33,  3], dtype=torch.uint8)
    """
    bits = check_bits(bits)
    codes = _checked_codes(q, bits)
    stream = torch.empty(packed_bytes(len(codes), bits), dtype=torch.uint8, device=q.device)
    code_shifts = torch.arange(CODES_PER_WORD, device=q.device) * bits
    byte_shifts = torch.arange(bits, device=q.device) * 8
    blocks = codes.split(CODES_PER_BLOCK), stream.split(packed_bytes(CODES_PER_BLOCK, bits))
    for block, out in zip(*blocks, strict=True):
        # A signed code keeps its low bits: two's complement.
        low_bits = _filled(block.to(torch.int64) & (2**bits - 1), CODES_PER_WORD)
        # The codes do not overlap, so that adding them is joining them.
        words = (low_bits << code_shifts).sum(dim=1, keepdim=True)
        out.copy_(((words >> byte_shifts) & 0xFF).view(-1)[: len(out)])
    return stream


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...] | int, signed: bool = False) -> Tensor:
    """Unpack the bytes of `pack` into codes of the given `shape`: uint8, or int8 when `signed`.

    Raises ValueError for a shape of anything but whole numbers, and when the number of bytes does
    not belong to it.

    >>> unpack(torch.tensor([33, 3], dtype=torch.uint8), bits=4, shape=(3,))
    tensor([1, 2, 3], dtype=torch.uint8)
    """
    bits = check_bits(bits)
    sizes = shape if isinstance(shape, tuple | list) else (shape,)
    shape = tuple(check_whole("a size in shape", size) for size in sizes)
    if any(n < 0 for n in shape):
        raise ValueError(f"shape must not hold negative sizes, got {shape}")
    count = math.prod(shape)
    if not isinstance(packed, Tensor) or packed.dtype != torch.uint8 or packed.ndim != 1:
        raise ValueError(f"packed must be a 1-d uint8 tensor, got {describe(packed)}")
    if packed.numel() != packed_bytes(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits for shape {shape} take {packed_bytes(count, bits)} "
            f"bytes, got {packed.numel()}"
        )
    half = 2 ** (bits - 1) if signed else 0
    if 8 % bits == 0:
        return _unpack_whole(packed, bits, half)[:count].reshape(shape)
    codes = torch.empty(count, dtype=torch.int8 if signed else torch.uint8, device=packed.device)
    code_shifts = torch.arange(CODES_PER_WORD, device=packed.device) * bits
    byte_shifts = torch.arange(bits, device=packed.device) * 8
    blocks = packed.split(packed_bytes(CODES_PER_BLOCK, bits)), codes.split(CODES_PER_BLOCK)
    for block, out in zip(*blocks, strict=True):
        words = (_filled(block.to(torch.int64), bits) << byte_shifts).sum(dim=1, keepdim=True)
        unsigned = ((words >> code_shifts) & (2**bits - 1)).view(-1)[: len(out)]
        # Flipping the sign bit and subtracting it extends the sign.
        out.copy_((unsigned ^ half) - half)
    return codes.reshape(shape)


def _unpack_whole(packed: Tensor, bits: int, half: int) -> Tensor:
    """Unpack 2, 4 or 8 bits, where no code crosses a byte: several times faster, in bytes only."""
    codes = packed.new_empty(len(packed), 8 // bits)
    for place in range(8 // bits):
        unsigned = (packed >> (place * bits)) & (2**bits - 1)
        # The sign as in `unpack`; what wraps around in a byte is the two's complement.
        codes[:, place] = (unsigned ^ half) - half
    return codes.view(-1).view(torch.int8 if half else torch.uint8)


def _filled(row: Tensor, width: int) -> Tensor:
    """Rows of `width` numbers, the last one filled up with 0."""
    return torch.nn.functional.pad(row, (0, -len(row) % width)).view(-1, width)


def _checked_codes(q: Tensor, bits: int) -> Tensor:
    """Return the codes as one row, or say what is wrong with them."""
    if not isinstance(q, Tensor) or q.is_floating_point() or q.is_complex():
        raise ValueError(f"codes must be an integer tensor, got {describe(q)}")
    if q.dtype == torch.uint64:
        raise ValueError("codes of torch.uint64 are not supported, convert them to torch.int64")
    if q.dtype in (torch.uint16, torch.uint32):
        # Torch hardly computes with these.
        q = q.to(torch.int64)
    codes = q.reshape(-1)
    if len(codes) == 0:
        return codes
    low, high = int(codes.min()), int(codes.max())
    half = 2 ** (bits - 1)
    if not (low >= 0 and high < 2 * half) and not (-half <= low and high < half):
        raise ValueError(
            f"codes of {bits} bits lie in 0..{2 * half - 1} or {-half}..{half - 1}, "
            f"got {low}..{high}"
        )
    return codes
