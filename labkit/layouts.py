"""Byte layouts of real files: the GGUF blocks Q4_0 and Q8_0.

A file format fixes more than the bit width: how many values share a scale, how the scale is stored,
and which value goes into which half of a byte. These two are read by llama.cpp and its relatives.
They keep the scale in half precision, which labkit never does for its own grids: 2 bytes less in
every block, at the price of a scale that is off by up to one part in 2048.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labkit.checks import check_finite, check_tensor, describe
from labkit.granularity import split_groups

BLOCK = 32
Q4_0_BYTES = 2 + BLOCK // 2
Q8_0_BYTES = 2 + BLOCK


def encode_q4_0(x: Tensor) -> Tensor:
    """Return the Q4_0 bytes of `x`, shape (*x.shape[:-1], blocks, 18): 4.5 bits a value.

    Each block of 32 values stores a half-precision scale d and 16 bytes; byte j holds value j in
    its low half and value j + 16 in its high half. d maps the value of largest magnitude, with its
    sign, to code 0, which stands for -8. Source: ggml-quants.c, quantize_row_q4_0_ref.

    >>> encode_q4_0(torch.linspace(-1, 1, 32)).shape
    torch.Size([1, 18])
    """
    blocks = _blocks(x)
    peak = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    d = peak / -8
    # Truncating x/d + 8.5 rounds to the nearest code; +8 for the code that stands for zero.
    codes = _zero_unless_finite((blocks * _inverse(d) + 8.5).trunc()).clamp(0, 15).to(torch.uint8)
    low, high = codes.split(BLOCK // 2, dim=-1)
    return torch.cat([_half_bytes(d), low | (high << 4)], dim=-1)


def decode_q4_0(blocks: Tensor) -> Tensor:
    """Return the float32 values (code - 8) · d of Q4_0 bytes, shape (*blocks.shape[:-2], n).

    >>> x = torch.linspace(-1, 1, 32)
    >>> bool((decode_q4_0(encode_q4_0(x)) - x).abs().max() <= 1 / 8)
    True
    """
    d, packed = _split_blocks(blocks, Q4_0_BYTES, "Q4_0")
    codes = torch.cat([packed & 15, packed >> 4], dim=-1).to(torch.float32) - 8
    return (codes * d).flatten(-2)


def encode_q8_0(x: Tensor) -> Tensor:
    """Return the Q8_0 bytes of `x`, shape (*x.shape[:-1], blocks, 34): 8.5 bits a value.

    Each block of 32 values stores d = amax / 127 in half precision, then 32 signed bytes, rounded
    half away from zero. Source: ggml-quants.c, quantize_row_q8_0_ref.

    >>> encode_q8_0(torch.linspace(-1, 1, 64)).shape
    torch.Size([2, 34])
    """
    blocks = _blocks(x)
    d = blocks.abs().amax(-1, keepdim=True) / 127
    scaled = blocks * _inverse(d)
    magnitude = scaled.abs()
    whole = magnitude.floor()
    # Not floor(m + 0.5): the sum could round up to the next whole number by itself.
    rounded = scaled.sign() * (whole + (2 * (magnitude - whole)).floor())
    codes = _zero_unless_finite(rounded).to(torch.int8)
    return torch.cat([_half_bytes(d), codes.view(torch.uint8)], dim=-1)


def decode_q8_0(blocks: Tensor) -> Tensor:
    """Return the float32 values code · d of Q8_0 bytes, shape (*blocks.shape[:-2], n).

    >>> decode_q8_0(encode_q8_0(torch.full((32,), -127.0)))[0]
    tensor(-127.)
    """
    d, codes = _split_blocks(blocks, Q8_0_BYTES, "Q8_0")
    return (codes.contiguous().view(torch.int8).to(torch.float32) * d).flatten(-2)


def _blocks(x: Tensor) -> Tensor:
    check_tensor(x)
    if x.numel() == 0:
        raise ValueError(f"an empty tensor has nothing to store; got shape {tuple(x.shape)}")
    check_finite(x)
    return split_groups(x.detach().to(torch.float32), BLOCK)


def _inverse(d: Tensor) -> Tensor:
    return torch.where(d == 0, 0.0, 1 / d)


def _zero_unless_finite(codes: Tensor) -> Tensor:
    # 1 / d overflows for d below 3e-39, which half precision stores as 0: any code decodes to 0.
    # 0 is what gguf's cast to a byte makes of infinity and NaN on x86.
    return codes.nan_to_num_(0, 0, 0)


def _half_bytes(d: Tensor) -> Tensor:
    half = d.to(torch.float16)
    if not bool(torch.isfinite(half).all()):
        raise ValueError(
            f"a scale of {d.abs().max():.3g} does not fit in half precision (at most 65504); "
            "scale the values down first"
        )
    return half.view(torch.uint8)


def _split_blocks(blocks: Tensor, size: int, name: str) -> tuple[Tensor, Tensor]:
    is_bytes = isinstance(blocks, Tensor) and blocks.dtype == torch.uint8
    if not is_bytes or blocks.ndim < 2 or blocks.shape[-1] != size:
        shape = f" of shape {tuple(blocks.shape)}" if isinstance(blocks, Tensor) else ""
        raise ValueError(
            f"{name} blocks are uint8 with {size} bytes in the last of at least 2 dimensions, "
            f"got {describe(blocks)}{shape}"
        )
    return blocks[..., :2].contiguous().view(torch.float16).to(torch.float32), blocks[..., 2:]
