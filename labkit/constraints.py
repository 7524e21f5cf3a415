"""The constraint encoder: what a device can give, with units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constraints:
    """What the device allows; None where nothing was said. `understood` says it in plain lines.

    `memory_bytes`: the model's bytes. `compute_share`: one call may take this share, 0..1, of the
    time of the float model on the same machine. `latency_seconds`: one call may take so long.
    """

    memory_bytes: int | None = None
    compute_share: float | None = None
    latency_seconds: float | None = None
    understood: tuple[str, ...] = ()

    def bytes_limit(self) -> int | None:
        """Return the most bytes the model may take, None without a limit."""
        return self.memory_bytes

    def seconds_limit(self, float_seconds: float) -> float | None:
        """Return the most seconds of one call, when the float model takes `float_seconds`.

        >>> Constraints(compute_share=0.5, latency_seconds=0.2).seconds_limit(0.3)
        0.15
        """
        share = None if self.compute_share is None else self.compute_share * float_seconds
        return min((x for x in (share, self.latency_seconds) if x is not None), default=None)


def encode_constraints(given: dict | str | Constraints | None) -> Constraints:
    """Return the limits of a device, e.g. {"memory": "6 MB", "compute": "50 %"}; see Constraints.

    >>> encode_constraints({"memory_bytes": 6e6}).memory_bytes
    6000000
    """
    if isinstance(given, Constraints):
        return given
    values = dict(given or {})
    memory = values.pop("memory_bytes", None)
    return Constraints(None if memory is None else int(memory), **values)
