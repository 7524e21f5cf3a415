"""The constraint encoder: what a device can give, with units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.asking import NotUnderstood
from labkit.entries import read_entries
from labkit.said import combined, language_of, say
from labkit.sentence import read_limits

_FIELDS = {
    "max_bytes": "memory_bytes",
    "max_time_share": "compute_share",
    "max_seconds": "latency_seconds",
}


@dataclass(frozen=True)
class Constraints:
    """What the device allows; None where nothing was said. `understood` says it in plain lines.

    `memory_bytes`: the model's bytes. `compute_share`: one call may take this share, 0..1, of the
    time of the float model on the same machine; the multiply-adds are no measure of it, as fewer
    bits change none of them. `latency_seconds`: one call may take so long.
    """

    memory_bytes: int | None = None
    compute_share: float | None = None
    latency_seconds: float | None = None
    understood: tuple[str, ...] = ()

    def bytes_limit(self) -> int | None:
        """Return the most bytes the model may take, None without a limit.

        >>> Constraints(memory_bytes=100).bytes_limit()
        100
        """
        return self.memory_bytes

    def seconds_limit(self, float_seconds: float) -> float | None:
        """Return the most seconds of one call when float takes `float_seconds`, or None.

        >>> Constraints(compute_share=0.5, latency_seconds=0.2).seconds_limit(0.3)
        0.15
        """
        share = None if self.compute_share is None else self.compute_share * float_seconds
        return min((x for x in (share, self.latency_seconds) if x is not None), default=None)


def encode_constraints(given: Mapping | str | Constraints | None) -> Constraints:
    """Return the limits of a device.

    given: a dict with units, {"memory_limit": "100 MB", "compute_limit": "50 %", "latency": "200
    ms"}, or with numbers where the key says the unit, {"memory_bytes": 6e6, "latency_ms": 200}; or
    a sentence, English or Chinese. Said twice, the tighter counts.

    Raises `labkit.asking.UnitMissing` for a number without a unit, and
    `labkit.asking.NotUnderstood` for words without a meaning here, and for what is no limit of a
    device, such as a loss of quality; both are ValueErrors.

    >>> encode_constraints({"memory_limit": "100 MB", "compute_limit": "50 %"}).understood
    ('"memory limit 100 MB": the model takes at most 100 MB (100,000,000 bytes)', \
'"compute limit 50 %": one call may use 50 % of the compute of float: of its time, that is')
    >>> encode_constraints("内存100MB，计算能力50%").compute_share
    0.5
    """
    if given is None or isinstance(given, Constraints):
        return given or Constraints()
    if isinstance(given, Mapping):
        meanings, words = read_entries(given), " ".join(f"{k} {v}" for k, v in given.items())
    else:
        meanings, words = read_limits(given), given
    for meaning in meanings:
        if meaning.field not in _FIELDS:
            raise NotUnderstood(
                f'"{meaning.text}" is no limit of a device; those are memory, such as "100 MB", '
                'compute, such as "50 % of the compute", and latency, such as "200 ms"'
            )
    chosen = combined(meanings)
    language = language_of(words)
    return Constraints(
        **{_FIELDS[meaning.field]: meaning.value for meaning in chosen},
        understood=tuple(say(meaning, meanings, language) for meaning in chosen),
    )
