"""Packing: codes of 2 to 8 bits as a dense row of bits, and back.

Code i takes the bits i·b to (i+1)·b - 1 of the stream, low bits first within a byte: the order of
ONNX int4 and int2. Odd widths (3, 5, 6, 7) are dense too, so a code may cross a byte boundary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.checks import check_bits, describe

# Eight codes of b bits fill b whole bytes, so the work is done in words of eight codes.
CODES_PER_WORD = 8


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` codes of `bits` bits take, the last byte filled up.

    >>> packed_bytes(5, bits=3)
    2
    """
    check_bits(bits)
    if count < 0:
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
    check_bits(bits)
    _check_codes(q, bits)
    # A signed code keeps its low bits: two's complement.
    codes = q.reshape(-1).to(torch.int64) & (2**bits - 1)
    count = codes.numel()
    padding = -count % CODES_PER_WORD
    codes = torch.nn.functional.pad(codes, (0, padding)).view(-1, CODES_PER_WORD)
    code_shifts = torch.arange(CODES_PER_WORD, device=q.device) * bits
    # The codes do not overlap, so that adding them is joining them.
    words = (codes << code_shifts).sum(dim=1, keepdim=True)
    byte_shifts = torch.arange(bits, device=q.device) * 8
    stream = ((words >> byte_shifts) & 0xFF).to(torch.uint8).view(-1)
    return stream[: packed_bytes(count, bits)].clone()


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...] | int, signed: bool = False) -> Tensor:
    """Unpack the bytes of `pack` into codes of the given `shape`: uint8, or int8 when `signed`.

    Raises ValueError when the number of bytes does not belong to the shape.

    >>> unpack(torch.tensor([33, 3], dtype=torch.uint8), bits=4, shape=(3,))
    tensor([1, 2, 3], dtype=torch.uint8)
    """
    check_bits(bits)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
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
    words_needed = -(-count // CODES_PER_WORD)
    padding = words_needed * bits - packed.numel()
    stream = torch.nn.functional.pad(packed.to(torch.int64), (0, padding)).view(-1, bits)
    byte_shifts = torch.arange(bits, device=packed.device) * 8
    words = (stream << byte_shifts).sum(dim=1, keepdim=True)
    code_shifts = torch.arange(CODES_PER_WORD, device=packed.device) * bits
    codes = ((words >> code_shifts) & (2**bits - 1)).view(-1)[:count]
    if signed:
        half = 2 ** (bits - 1)
        codes = (codes ^ half) - half
    return codes.to(torch.int8 if signed else torch.uint8).reshape(shape)


def _check_codes(q: Tensor, bits: int) -> None:
    if not isinstance(q, Tensor) or q.is_floating_point() or q.is_complex():
        raise ValueError(f"codes must be an integer tensor, got {describe(q)}")
    if q.numel() == 0:
        return
    low, high = int(q.min()), int(q.max())
    half = 2 ** (bits - 1)
    if not (low >= 0 and high < 2 * half) and not (-half <= low and high < half):
        raise ValueError(
            f"codes of {bits} bits lie in 0..{2 * half - 1} or {-half}..{half - 1}, "
            f"got {low}..{high}"
        )
