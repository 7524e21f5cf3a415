"""Exercises 3.1 and 3.2 of notebook 03: packing 4-bit codes, and unpacking them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from torch import Tensor

from labkit.exercises.compare import INTEGER
from labkit.exercises.core import Case, Exercise, Wrong

HIGH_FIRST = "The first code went into the high half. Low half first: byte = first | second << 4."
LAST_LOST = "The last code of an odd length is missing. Round the number of bytes up, not down."
PAD_LOW = "The lonely last code belongs into the low half; the padding goes into the high half."
NOT_PACKED = "That is one byte per code. Two 4-bit codes share a byte."
NOT_MASKED = "A negative code fills the whole byte with its sign. Keep its low 4 bits: code & 15."
SPLIT = "You paired the first half with the second half, as GGUF does. Pair neighbours here."


def pack_nibbles(codes: Tensor) -> Tensor:
    """Pack 4-bit codes two to a byte."""
    codes = codes.to(torch.int64) & 15
    if len(codes) % 2 == 1:
        codes = torch.cat([codes, codes.new_zeros(1)])
    return (codes[0::2] | codes[1::2] << 4).to(torch.uint8)


def _packed(codes: list[int]) -> Tensor:
    """The oracle: one large Python integer, 16 to the power of the position for each code."""
    number = sum(code % 16 * 16**i for i, code in enumerate(codes))
    return torch.tensor(list(number.to_bytes((len(codes) + 1) // 2, "little")), dtype=torch.uint8)


def _pack_cases() -> Iterator[Case]:
    def case(codes: list[int], message: str, looks_like: dict | None = None) -> Case:
        argument = torch.tensor(
            codes, dtype=torch.int8 if min(codes, default=0) < 0 else torch.uint8
        )
        return Case((argument,), _packed(codes), message, looks_like or {}, dtype="uint8")

    pair = "Two codes share a byte: the first in the low half."
    yield case([1, 2], pair, {HIGH_FIRST: torch.tensor([18]), NOT_PACKED: torch.tensor([1, 2])})
    yield case([1, 2, 3, 4], "Pair neighbours.", {SPLIT: torch.tensor([0x31, 0x42])})
    yield case(
        [1, 2, 3],
        "An odd length ends with a half-empty byte.",
        {LAST_LOST: torch.tensor([33]), PAD_LOW: torch.tensor([33, 48])},
    )
    yield case([-1, 1], "Signed codes keep their low 4 bits.", {NOT_MASKED: torch.tensor([255])})
    yield case([], "No codes take no bytes.")
    yield case([15] * 7, "The largest code must survive.")
    for seed in range(4):
        generator = random.Random(seed)
        low = -8 if seed % 2 else 0
        codes = [generator.randint(low, low + 15) for _ in range(generator.randint(20, 41))]
        yield case(codes, "A longer row went wrong.")


def _high_first(codes: Tensor) -> Tensor:
    codes = torch.nn.functional.pad(codes.long() & 15, (0, len(codes) % 2))
    return ((codes[::2] << 4) + codes[1::2]).to(torch.uint8)


def _last_lost(codes: Tensor) -> Tensor:
    pairs = len(codes) // 2
    return torch.tensor(
        [(int(codes[2 * i]) & 15) + 16 * (int(codes[2 * i + 1]) & 15) for i in range(pairs)],
        dtype=torch.uint8,
    )


def _pad_front_half(codes: Tensor) -> Tensor:
    codes = (codes.long() & 15).tolist()
    if len(codes) % 2:
        codes.insert(len(codes) - 1, 0)
    pairs = zip(codes[::2], codes[1::2], strict=True)
    return torch.tensor([a | b << 4 for a, b in pairs], dtype=torch.uint8)


def _one_byte_each(codes: Tensor) -> Tensor:
    return (codes.long() & 15).to(torch.uint8)


def _not_masked(codes: Tensor) -> Tensor:
    codes = torch.nn.functional.pad(codes.long(), (0, len(codes) % 2))
    return (codes[::2] | codes[1::2] << 4).to(torch.uint8)


def _added_signed(codes: Tensor) -> Tensor:
    codes = torch.nn.functional.pad(codes.long(), (0, len(codes) % 2))
    return ((codes[::2] + 16 * codes[1::2]) % 256).to(torch.uint8)


def _halves(codes: Tensor) -> Tensor:
    codes = torch.nn.functional.pad(codes.long() & 15, (0, len(codes) % 2))
    low, high = codes.chunk(2) if len(codes) else (codes, codes)
    return (low | high << 4).to(torch.uint8)


def _int64_bytes(codes: Tensor) -> Tensor:
    return pack_nibbles(codes).to(torch.int64)


def _float_bytes(codes: Tensor) -> Tensor:
    return pack_nibbles(codes).to(torch.float64)


PADDING_BACK = "The padding came back as a code. Return exactly count codes."
NO_SIGN = "The codes came back unsigned. Where the top bit is set, subtract 16."
WRAPPED = "8-bit unsigned arithmetic wrapped. Widen to a signed type before you subtract."
OFFSET = "You subtracted 8 from every code; two's complement subtracts 16 from 8 … 15 only."
SIGN_MAGNITUDE = "You read the top bit as a minus sign. In two's complement it counts -8."
EDGE = "Code 8 (1000) is the smallest one, -8. The top bit is set from 8 on, so use >=."
HIGH_FIRST_BACK = "You read the high half first. The low half holds the earlier code."


def unpack_nibbles(packed: Tensor, count: int) -> Tensor:
    """Unpack signed 4-bit codes."""
    packed = packed.to(torch.int64)
    codes = torch.stack([packed & 15, packed >> 4], dim=1).reshape(-1)[:count]
    return torch.where(codes >= 8, codes - 16, codes).to(torch.int8)


def _unpack_cases() -> Iterator[Case]:
    def case(codes: list[int], message: str, looks_like: dict | None = None) -> Case:
        expected = torch.tensor(codes, dtype=torch.int8)
        return Case(
            (_packed(codes), len(codes)), expected, message, looks_like or {}, dtype=INTEGER
        )

    low_first = "Read the low half first, then the high half."
    yield case(
        [1, 2],
        low_first,
        {HIGH_FIRST_BACK: torch.tensor([2, 1]), OFFSET: torch.tensor([-7, -6])},
    )
    yield case([3], "One code in one byte.", {PADDING_BACK: torch.tensor([3, 0])})
    yield case(
        [-1, 5],
        "Codes 8 … 15 stand for -8 … -1.",
        {
            NO_SIGN: torch.tensor([15, 5]),
            WRAPPED: torch.tensor([255, 5]),
            SIGN_MAGNITUDE: torch.tensor([-7, 5]),
        },
    )
    yield case([-8, 7], "The two ends of the range.", {EDGE: torch.tensor([8, 7])})
    yield case([], "No codes from no bytes.")
    yield case(list(range(-8, 8)), "Every code once.")
    for seed in range(4):
        generator = random.Random(100 + seed)
        codes = [generator.randint(-8, 7) for _ in range(generator.randint(20, 41))]
        yield case(codes, "A longer row went wrong.")


def _halves_of(packed: Tensor) -> list[int]:
    return [half for byte in packed.tolist() for half in (byte % 16, byte // 16)]


def _padding_returned(packed: Tensor, count: int) -> Tensor:
    return torch.tensor([c - 16 * (c > 7) for c in _halves_of(packed)])


def _sign_forgotten(packed: Tensor, count: int) -> Tensor:
    return torch.tensor(_halves_of(packed)[:count])


def _sign_wraps(packed: Tensor, count: int) -> Tensor:
    codes = torch.stack([packed & 15, packed >> 4], 1).reshape(-1)[:count]
    return torch.where(codes >= 8, codes - 16, codes)


def _offset_binary(packed: Tensor, count: int) -> Tensor:
    return torch.tensor([c - 8 for c in _halves_of(packed)][:count])


def _sign_magnitude(packed: Tensor, count: int) -> Tensor:
    return torch.tensor([-(c & 7) if c & 8 else c for c in _halves_of(packed)][:count])


def _edge_forgotten(packed: Tensor, count: int) -> Tensor:
    return torch.tensor([c - 16 if c > 8 else c for c in _halves_of(packed)][:count])


def _high_half_first(packed: Tensor, count: int) -> Tensor:
    codes = [half for byte in packed.tolist() for half in (byte // 16, byte % 16)]
    return torch.tensor([c - 16 * (c > 7) for c in codes][:count])


def _float_codes(packed: Tensor, count: int) -> Tensor:
    return unpack_nibbles(packed, count).to(torch.float32)


EXERCISES = (
    Exercise(
        id="3.1",
        title="Two codes in a byte",
        difficulty=1,
        minutes=5,
        hints=(
            "Which codes become the low halves? Those at 0, 2, 4, …: codes[0::2].",
            "Cut every code to 4 bits with & 15, add one 0 if the length is odd, then join each "
            "low half with the high half moved up by 4 bits.",
            "codes = codes.to(torch.int64) & 15; pad; return "
            "(codes[0::2] | codes[1::2] << 4).to(torch.uint8)",
        ),
        cases=_pack_cases,
        solution=pack_nibbles,
        praise="right: low half first, any length, signed or not. ONNX int4 files look like this.",
        wrong=(
            Wrong("high half first", _high_first, "low half first"),
            Wrong("odd length loses the last code", _last_lost, "last code of an odd length"),
            Wrong("padding before the last code", _pad_front_half, "lonely last code"),
            Wrong("one byte per code", _one_byte_each, "one byte per code"),
            Wrong("negative codes not cut to 4 bits", _not_masked, "fills the whole byte"),
            Wrong("negative codes added", _added_signed, "low 4 bits"),
            Wrong("pairs j with j + n/2", _halves, "pair neighbours"),
            Wrong("bytes as int64", _int64_bytes, "as int64; return a tensor of uint8"),
            Wrong("bytes as float64", _float_bytes, "as float64; return a tensor of uint8"),
        ),
    ),
    Exercise(
        id="3.2",
        title="And back, with the sign",
        difficulty=2,
        minutes=8,
        hints=(
            "Which half of a byte came first? And what does 15 mean if codes are signed?",
            "Interleave packed & 15 and packed >> 4, cut to count; where a code is 8 or more, the "
            "sign bit is set: subtract 16.",
            "codes = torch.stack([packed & 15, packed >> 4], dim=1).reshape(-1)[:count], widened "
            "to int64 first; then torch.where(codes >= 8, codes - 16, codes)",
        ),
        cases=_unpack_cases,
        solution=unpack_nibbles,
        praise="right: what you packed comes back, sign and all.",
        wrong=(
            Wrong("padding returned as a code", _padding_returned, "padding came back"),
            Wrong("sign forgotten", _sign_forgotten, "unsigned"),
            Wrong("subtracts in uint8", _sign_wraps, "wrapped"),
            Wrong("subtracts 8 from every code", _offset_binary, "two's complement"),
            Wrong("sign and magnitude", _sign_magnitude, "minus sign"),
            Wrong("> 8 instead of >= 8", _edge_forgotten, "smallest one"),
            Wrong("high half first", _high_half_first, "high half first"),
            Wrong("codes as floats", _float_codes, "return a tensor of an integer type"),
        ),
    ),
)
