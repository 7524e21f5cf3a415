"""Exercises 3.3 and 3.4 of notebook 03: what a quantized tensor really takes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from labkit.exercises.core import Case, Exercise, Wrong

NO_BYTES = "bits // 8 is 0 for 4 bits: the codes vanished. Multiply first, then divide by 8."
CLAIMED = "That is the width on the label. Count the scales and the zero points too."
NO_SCALES = "The scales are missing: 4 bytes for every group."
NO_ZEROS = "The zero points are missing: one code of `bits` bits for every group, packed."
HALF_SCALES = "You counted 2 bytes a scale. labkit stores float32 scales: 4 bytes."
GROUPS_DOWN = "You rounded the number of groups down. The last, shorter group needs a scale too."
BYTES_DOWN = "You rounded bytes down. The last byte is written even when it is half empty."
WIDE_ZEROS = "You counted a whole int32 for a zero point. It is one code of `bits` bits, packed."
GROUP_BYTES = (
    "You rounded the codes of every group up to bytes. They are packed in one row: round once."
)
ZERO_BYTES = "You gave every zero point a byte of its own. Zero points are packed like codes."


def bits_per_weight(count: int, bits: int, group_size: int) -> float:
    """Count what a grouped, affine quantized tensor stores, in bits per weight."""
    groups = math.ceil(count / group_size)
    code_bytes = math.ceil(count * bits / 8)
    zero_point_bytes = math.ceil(groups * bits / 8)
    return 8 * (code_bytes + 4 * groups + zero_point_bytes) / count


def _spent(count: int, bits: int, group_size: int) -> float:
    """The oracle: lay the bits out one after another and count the bytes that they touch."""
    groups = len(range(0, count, group_size))
    codes = len(range(0, count * bits, 8))
    zero_points = len(range(0, groups * bits, 8))
    return (codes + zero_points + groups * len(b"\x00\x00\x80\x3f")) * 8 / count


def _size_cases() -> Iterator[Case]:
    # 128 weights at 4 bits by 32: 64 bytes of codes, 4 scales of 4 bytes, 4 zero points in 2 bytes.
    yield Case(
        (128, 4, 32),
        _spent(128, 4, 32),
        "Count bytes: codes, one float32 scale a group, packed zero points.",
        {
            NO_BYTES: 8 * (16 + 2) / 128,
            CLAIMED: 4.0,
            NO_SCALES: 8 * (64 + 2) / 128,
            NO_ZEROS: 8 * (64 + 16) / 128,
            HALF_SCALES: 8 * (64 + 8 + 2) / 128,
            WIDE_ZEROS: 8 * (64 + 16 + 16) / 128,
            ZERO_BYTES: 8 * (64 + 16 + 4) / 128,
        },
    )
    # 40 weights by 32: two groups; 20 bytes of codes, 8 of scales, 1 of zero points.
    yield Case(
        (40, 4, 32),
        _spent(40, 4, 32),
        "The last group may be shorter; it still has a scale.",
        {GROUPS_DOWN: 8 * (20 + 4 + 1) / 40, BYTES_DOWN: 8 * (20 + 8 + 1) / 40 - 1},
    )
    # 13 weights at 3 bits, one group: 39 bits of codes, 3 bits of zero point.
    yield Case(
        (13, 3, 13),
        _spent(13, 3, 13),
        "Round each kind of bytes up.",
        {BYTES_DOWN: 8 * (4 + 4 + 0) / 13},
    )
    # 40 weights at 3 bits by 5: 15 bits a group. Rounded up by group they would take 16 bytes.
    yield Case(
        (40, 3, 5),
        _spent(40, 3, 5),
        "Round each kind of bytes up once.",
        {GROUP_BYTES: 8 * (16 + 32 + 3) / 40},
    )
    for count, bits, size in ((200_704, 4, 32), (200_704, 8, 784), (1_000, 5, 64), (1, 2, 16)):
        yield Case((count, bits, size), _spent(count, bits, size), "Another size went wrong.")


def _sized(count: int, codes: float, groups: int, zeros: float, scale: int = 4) -> float:
    return 8 * (codes + scale * groups + zeros) / count


def _whole_bytes_per_code(count: int, bits: int, group_size: int) -> float:
    groups = -(-count // group_size)
    return _sized(count, count * (bits // 8), groups, -(-groups * bits // 8))


def _without_scales(count: int, bits: int, group_size: int) -> float:
    groups = -(-count // group_size)
    return _sized(count, -(-count * bits // 8), groups, -(-groups * bits // 8), scale=0)


def _without_zero_points(count: int, bits: int, group_size: int) -> float:
    return _sized(count, -(-count * bits // 8), -(-count // group_size), 0)


def _half_scales(count: int, bits: int, group_size: int) -> float:
    groups = -(-count // group_size)
    return _sized(count, -(-count * bits // 8), groups, -(-groups * bits // 8), scale=2)


def _groups_down(count: int, bits: int, group_size: int) -> float:
    groups = count // group_size
    return _sized(count, -(-count * bits // 8), groups, -(-groups * bits // 8))


def _bytes_down(count: int, bits: int, group_size: int) -> float:
    groups = -(-count // group_size)
    return _sized(count, count * bits // 8, groups, groups * bits // 8)


def _wide_zero_points(count: int, bits: int, group_size: int) -> float:
    groups = -(-count // group_size)
    return _sized(count, -(-count * bits // 8), groups, 4 * groups)


def _zero_points_in_bytes(count: int, bits: int, group_size: int) -> float:
    groups = -(-count // group_size)
    return _sized(count, -(-count * bits // 8), groups, groups)


def _claimed(count: int, bits: int, group_size: int) -> float:
    return float(bits)


def _group_by_group(count: int, bits: int, group_size: int) -> float:
    sizes = [min(group_size, count - start) for start in range(0, count, group_size)]
    codes = sum(math.ceil(size * bits / 8) for size in sizes)
    return _sized(count, codes, len(sizes), -(-len(sizes) * bits // 8))


NO_TABLE = "The codebook is missing: 2^bits values of 4 bytes stand in the file."
MEBIBYTES = "You divided by 1024². A megabyte (MB) is 10^6 bytes; 1024² bytes are a mebibyte (MiB)."
TABLE_LINEAR = "The codebook has 2^bits entries, one for every code; not `bits` of them."
TABLE_HALF = "You counted 2 bytes an entry. The codebook is float32: 4 bytes."
BYTE_CODES = "That is one byte per code. Packed codes take `bits` bits."
CODE_ZERO = "bits // 8 is 0 below 8 bits: only the codebook is left. Multiply first."
FLOOR_CODES = "You rounded the code bytes down. The last byte is written though not full."
IN_BITS = "That is the size in bits, not bytes: divide by 8."


def codebook_megabytes(count: int, bits: int) -> float:
    """Size of codebook-quantized weights in MB."""
    code_bytes = math.ceil(count * bits / 8)
    codebook_bytes = 4 * 2**bits
    return (code_bytes + codebook_bytes) / 1_000_000


def _codebook_cases() -> Iterator[Case]:
    def stored(count: int, bits: int) -> float:
        return (len(range(0, count * bits, 8)) + len(bytes(4)) * len(range(1 << bits))) * 1e-6

    yield Case(
        (1000, 4),
        stored(1000, 4),
        "Codes take 500 bytes and the 16 float32 entries 64.",
        {
            NO_TABLE: 500e-6,
            MEBIBYTES: 564 / 1024**2,
            TABLE_LINEAR: 516e-6,
            TABLE_HALF: 532e-6,
            BYTE_CODES: 1064e-6,
            CODE_ZERO: 64e-6,
            IN_BITS: 8 * 564e-6,
        },
    )
    yield Case((3, 3), stored(3, 3), "Round the bytes of the codes up.", {FLOOR_CODES: 33e-6})
    for count, bits in ((10_000_000, 4), (10_000_000, 8), (200_704, 2), (1, 8), (77, 5)):
        yield Case((count, bits), stored(count, bits), "Another size went wrong.")


def _no_table(count: int, bits: int) -> float:
    return math.ceil(count * bits / 8) / 1e6


def _mebibytes(count: int, bits: int) -> float:
    return (math.ceil(count * bits / 8) + 4 * 2**bits) / 1024 / 1024


def _table_linear(count: int, bits: int) -> float:
    return (math.ceil(count * bits / 8) + 4 * bits) / 1e6


def _table_half(count: int, bits: int) -> float:
    return (math.ceil(count * bits / 8) + 2 * 2**bits) / 1e6


def _byte_codes(count: int, bits: int) -> float:
    return (count + 4 * 2**bits) / 1e6


def _code_zero(count: int, bits: int) -> float:
    return (count * (bits // 8) + 4 * 2**bits) / 1e6


def _floor_codes(count: int, bits: int) -> float:
    return (count * bits // 8 + 4 * 2**bits) / 1e6


def _in_bits(count: int, bits: int) -> float:
    return (count * bits + 32 * 2**bits) / 1e6


EXERCISES = (
    Exercise(
        id="3.3",
        title="Honest bits per weight",
        difficulty=2,
        minutes=8,
        hints=(
            "What stands in the file beside the codes, and how many of each?",
            "groups = ceil(count / group_size). Three kinds of bytes: codes, 4 a scale, packed "
            "zero points; round each kind up to whole bytes.",
            "8 * (ceil(count * bits / 8) + 4 * groups + ceil(groups * bits / 8)) / count",
        ),
        cases=_size_cases,
        solution=bits_per_weight,
        praise="right: “4-bit” by 32 is 5.125 bits per weight.",
        wrong=(
            Wrong("bits // 8", _whole_bytes_per_code, "bits // 8 is 0"),
            Wrong("scales forgotten", _without_scales, "scales are missing"),
            Wrong("zero points forgotten", _without_zero_points, "zero points are missing"),
            Wrong("scales counted as 16 bits", _half_scales, "2 bytes a scale"),
            Wrong("groups rounded down", _groups_down, "number of groups down"),
            Wrong("bytes rounded down", _bytes_down, "rounded bytes down"),
            Wrong("codes rounded up by group", _group_by_group, "codes of every group"),
            Wrong("zero points as int32", _wide_zero_points, "whole int32"),
            Wrong("a byte for every zero point", _zero_points_in_bytes, "byte of its own"),
            Wrong("the width on the label", _claimed, "on the label"),
        ),
    ),
    Exercise(
        id="3.4",
        title="The size of a codebook file",
        difficulty=1,
        minutes=5,
        hints=(
            "How many different codes are there? Each has an entry in the table.",
            "Bytes of packed codes, rounded up, plus 2^bits entries of 4 bytes; MB are 10^6 bytes.",
            "(math.ceil(count * bits / 8) + 4 * 2**bits) / 1_000_000",
        ),
        cases=_codebook_cases,
        solution=codebook_megabytes,
        praise="right: the table is small change for a large tensor and most of a small one.",
        wrong=(
            Wrong("codebook forgotten", _no_table, "codebook is missing"),
            Wrong("MiB for MB", _mebibytes, "mebibyte"),
            Wrong("bits entries", _table_linear, "2^bits entries"),
            Wrong("half-precision entries", _table_half, "float32"),
            Wrong("one byte per code", _byte_codes, "one byte per code"),
            Wrong("bits // 8", _code_zero, "bits // 8 is 0"),
            Wrong("bytes rounded down", _floor_codes, "code bytes down"),
            Wrong("bits for bytes", _in_bits, "divide by 8"),
        ),
    ),
)
