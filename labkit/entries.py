"""A request as a dict: every entry becomes a clause of words, its key in front of its value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

from labkit.asking import NotUnderstood, UnitMissing
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
# Of these, the keys that are words as well.
_WORDS_TOO = {"max_loss", "min_quality", "compute_share"}
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
    {"latency_ms": 200, "bit_width": 8}. Raises as `labkit.sentence.read_limits`, naming every
    entry that is not clear.

    >>> [(m.field, m.value) for m in read_entries({"memory_limit": "6 MB", "latency_ms": 200})]
    [('max_bytes', 6000000), ('max_seconds', 0.2)]
    """
    meanings, refused = [], []
    for key, value in entries.items():
        if value is not None:
            try:
                meanings += read_limits(_words(key, value))
            except (NotUnderstood, UnitMissing) as error:
                # The words of an exact key are not those of its writer.
                plain = key in _EXACT and not isinstance(value, str)
                named = not plain or str(error).startswith(key)
                refused.append(error if named else type(error)(f"{key} = {value}: {error}"))
    if refused:
        asked_back = all(isinstance(error, UnitMissing) for error in refused)
        kind = UnitMissing if asked_back else NotUnderstood
        raise kind("; and ".join(map(str, refused)))
    return meanings


def _words(key: object, value: object) -> str:
    if not isinstance(key, str) or isinstance(value, bool) or not isinstance(value, str | Real):
        raise NotUnderstood(
            f"not understood: {{{key!r}: {value!r}}}; write words, as in "
            '{"size": "6 MB"}, or a number where the key says the unit, as in {"latency_ms": 200}'
        )
    name, _, ending = key.rpartition("_")
    unit = _ENDINGS.get(ending.lower(), "") if name else ""
    if isinstance(value, str):
        if unit or (key in _EXACT and key not in _WORDS_TOO):
            raise NotUnderstood(
                f"the key {key} takes a plain number, not {value!r}; a text with its unit is "
                'written {"size": "6 MB"} or {"latency": "200 ms"}'
            )
        return f"{key.replace('_', ' ')} {value}"
    number = _positive(key, value)
    if key in _EXACT:
        # 15 digits: whole numbers of bytes stay what they are, and 100 * 0.07 is 7.
        return _EXACT[key].format(f"{number:.15g}", percent=f"{100 * number:.15g}")
    words = name if unit else key
    return f"{words.replace('_', ' ')} {number:.15g} {unit}".strip()


def _positive(key: str, value: Real) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise NotUnderstood(f"{key} is too large a number to be a limit") from None
    if not 0 < number < math.inf:
        why = ", as no measurement can promise a loss of 0" if number == 0 and "loss" in key else ""
        raise NotUnderstood(
            f"{key} = {number:g} is no limit that can be kept; give more than 0{why}"
        )
    return number
