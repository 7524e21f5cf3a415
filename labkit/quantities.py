"""Quantities: a number and what it counts, in SI units. 1 MB is 1,000,000 bytes, 1 MiB 1,048,576.

Where a unit may be read in two ways (6 M, 6 Mb) nothing is guessed: the caller is asked.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from labkit.asking import NotUnderstood, UnitMissing
from labkit.numerals import Numeral, read_numeral


@dataclass(frozen=True)
class Quantity:
    """`value` in the unit of its `kind`, and the `text` it was read from.

    kind: "bytes", "seconds", "hertz", "percent", "points" (of percent), "times", "fraction",
    "bits", or "number" where no unit was given.

    >>> parse_quantity("6 MB")
    Quantity(value=6000000.0, kind='bytes', text='6 MB')
    """

    value: float
    kind: str
    text: str


_NAMES = {
    "bytes": {
        1: "B byte bytes 字节 位元组",
        1e3: "kB KB kb kilobyte kilobytes 千字节",
        1e6: "MB mb megabyte megabytes meg megs 兆字节 兆B 兆",
        1e9: "GB gb gigabyte gigabytes 吉字节",
        2**10: "KiB kib kibibyte kibibytes",
        2**20: "MiB mib mebibyte mebibytes",
        2**30: "GiB gib gibibyte gibibytes",
    },
    "seconds": {
        1: "s sec secs second seconds 秒 秒钟 秒鐘",
        1e-3: "ms msec msecs millisecond milliseconds 毫秒",
        1e-6: "us µs μs microsecond microseconds 微秒",
        60: "min minute minutes 分钟 分鐘",
    },
    "hertz": {
        1: "Hz hz fps FPS hertz frames/s calls/s steps/s actions/s 次/秒 帧/秒 次每秒 帧每秒 赫兹"
    },
    "percent": {1: "% percent pct ％", 10: "成"},
    "points": {1: "points point pts pt pp 个百分点 百分点 个点 個百分點 百分點"},
    "times": {1: "x X × times fold 倍"},
    "bits": {1: "bit bits 位 比特 位元"},
    # Megabits or megabytes, a million or a megabyte: nothing is guessed.
    "unclear": {1: "M K G k m Mb Kb Gb b 点 點"},
}
_PHRASES = {
    "hertz": "frames,calls,steps,actions,times,images",
    "percent": "per cent",
    "points": "percentage points,percentage point,percent points,% points,percent-points,%-points",
}
_UNITS: dict[str, tuple[str, float]] = {
    name: (kind, factor)
    for kind, names in _NAMES.items()
    for factor, words in names.items()
    for name in words.split()
}
_UNITS |= {f"{name} per second": ("hertz", 1) for name in _PHRASES["hertz"].split(",")}
_UNITS |= {name: (kind, 1) for kind in ("percent", "points") for name in _PHRASES[kind].split(",")}
_LONGEST_FIRST = sorted(_UNITS, key=len, reverse=True)
# Between a number and its unit: 8-bit, half a second, a quarter of a second, 2 个 …
_BETWEEN = re.compile(r"\s*-?\s*")
_OF_A = re.compile(r"\s+(?:of\s+)?(?:an?|one)\s+", re.IGNORECASE)
_ONE = re.compile(r"an?\s+(?=[a-z]{5})", re.IGNORECASE)


def parse_quantity(text: str) -> Quantity:
    """Return the one quantity that is the whole of `text`, in SI units.

    Raises UnitMissing for a number without a unit or with an unclear one, NotUnderstood quoting the
    text for anything else.

    >>> parse_quantity("200ms").value, parse_quantity("3个百分点").kind
    (0.2, 'points')
    """
    if not isinstance(text, str):
        raise NotUnderstood(f'a quantity must be a text such as "6 MB" or "200 ms", got {text!r}')
    found = read_quantity(text.strip())
    if found is None or found.text != text.strip():
        raise NotUnderstood(f'"{text}" is no quantity; write a number and a unit, such as "6 MB"')
    if found.kind == "number":
        raise UnitMissing(f'"{text}" has no unit; write for example "{text} MB" or "{text} ms"')
    return found


def read_quantity(text: str) -> Quantity | None:
    """Return the quantity that `text` starts with, None where it starts with none.

    A number without a unit is of the kind "number". Raises UnitMissing for an unclear unit, and
    ValueError as `labkit.numerals.read_numeral` and for a number too large to be one.

    >>> read_quantity("half a second per step")
    Quantity(value=0.5, kind='seconds', text='half a second')
    """
    numeral = read_numeral(text)
    if numeral is None:
        one = _ONE.match(text)
        unit = _unit(text[one.end() :]) if one else None
        if unit is None:
            return None
        numeral = Numeral(1, one.end())
    if not math.isfinite(numeral.value):
        raise NotUnderstood(f'"{text[: numeral.length]}" is no number that can be meant')
    rest = text[numeral.length :]
    if numeral.kind in ("percent", "ratio"):
        kind = "percent" if numeral.kind == "percent" else "times"
        return Quantity(numeral.value, kind, text[: numeral.length])
    gap = (numeral.kind == "fraction" and _OF_A.match(rest)) or _BETWEEN.match(rest)
    name = _unit(rest[gap.end() :])
    if name is None:
        return Quantity(numeral.value, numeral.kind, text[: numeral.length])
    kind, factor = _UNITS.get(name) or _UNITS[name.lower()]
    whole = text[: numeral.length + gap.end() + len(name)]
    if kind == "unclear":
        raise UnitMissing(
            f'the unit of "{whole}" is not clear; write MB for megabytes, ms for milliseconds, '
            '% or "points" for percent and percentage points'
        )
    # 0.1 * 3 would be 0.30000000000000004.
    value = numeral.value / round(1 / factor) if factor < 1 else numeral.value * factor
    return Quantity(value, kind, whole)


def _unit(text: str) -> str | None:
    """The longest name of a unit that `text` starts with; a Latin one ends where the word does."""
    for name in _LONGEST_FIRST:
        given = text[: len(name)]
        # Case tells megabits from megabytes, but nobody writes MilliSeconds to mean another thing.
        if given != name and not (len(name) > 2 and given.lower() == name.lower()):
            continue
        after = text[len(name) : len(name) + 1]
        if name[-1].isascii() and name[-1].isalpha() and after.isascii() and after.isalpha():
            continue
        return given
    return None
