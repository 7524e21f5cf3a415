"""A request as a dict: every entry becomes a clause of words, its key in front of its value."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from labkit.asking import NotUnderstood
from labkit.clause import Meaning
from labkit.sentence import read_limits

# Keys that are exact by themselves, with plain numbers in SI units or shares of 1, and what they
# are in words: the same checks hold for both.
_EXACT = {
    "max_bytes": "size {} bytes",
    "memory_bytes": "size {} bytes",
    "max_loss": "loss {percent} %",
    "min_quality": "quality at least {percent} %",
    "max_seconds": "{} s",
    "latency_seconds": "{} s",
    "max_time_share": "time {percent} % of float",
    "compute_share": "compute {percent} %",
    "min_ratio": "compression {} times",
    "bits": "bit width {}",
}
# Keys that end in a unit, such as latency_ms.
_ENDINGS = {
    "bytes": "bytes",
    "kb": "kB",
    "mb": "MB",
    "gb": "GB",
    "s": "s",
    "sec": "s",
    "seconds": "s",
    "ms": "ms",
    "milliseconds": "ms",
    "us": "us",
    "percent": "%",
    "points": "points",
    "pp": "points",
    "fps": "fps",
    "hz": "Hz",
}


def read_entries(entries: Mapping) -> list[Meaning]:
    """Return what a dict asks for, one `Meaning` a clause, in order; None asks for nothing.

    Values are texts as in a sentence, {"size": "6 MB"}, or numbers where the key says the unit,
    {"latency_ms": 200, "bit_width": 8}. Raises as `labkit.sentence.read_limits`, naming the entry.

    >>> [(m.field, m.value) for m in read_entries({"memory_limit": "6 MB", "latency_ms": 200})]
    [('max_bytes', 6000000), ('max_seconds', 0.2)]
    """
    return [
        meaning
        for key, value in entries.items()
        if value is not None
        for meaning in read_limits(_words(key, value))
    ]


def _words(key: object, value: object) -> str:
    if not isinstance(key, str) or isinstance(value, bool) or not isinstance(value, str | Real):
        raise NotUnderstood(
            f"not understood: {{{key!r}: {value!r}}}; write words, as in "
            '{"size": "6 MB"}, or a number where the key says the unit, as in {"latency_ms": 200}'
        )
    if isinstance(value, str):
        return f"{key.replace('_', ' ')} {value}"
    number = f"{float(value):.12g}"
    if key in _EXACT:
        return _EXACT[key].format(number, percent=f"{100 * float(value):.12g}")
    name, _, ending = key.rpartition("_")
    unit = _ENDINGS.get(ending.lower(), "") if name else ""
    words = name if unit else key
    return f"{words.replace('_', ' ')} {number} {unit}".strip()
