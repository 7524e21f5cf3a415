"""The requirement encoder: what is wanted, from a dict or a sentence in English or Chinese."""

from __future__ import annotations

from dataclasses import dataclass


class UnitMissing(ValueError):
    """A number has no unit: the message asks for it."""


class NotUnderstood(ValueError):
    """Words that have no meaning here: the message quotes them."""


@dataclass(frozen=True)
class Requirement:
    """What was asked for; None where nothing was said. `understood` says it in plain lines.

    `max_bytes`: of the whole model. `max_loss`: quality lost against float, in units of the
    quality; of a proportion 3 points are 0.03. `min_quality`: the quality itself. `max_seconds`:
    of one call. `max_time_share`: time of one call as a share, 0..1, of float's. `min_ratio`: bytes
    of float divided by bytes. `bits`: the width that every layer shall have. `method`: the way to
    quantize. `language`: "en", "zh", or "dict".
    """

    max_bytes: int | None = None
    max_loss: float | None = None
    min_quality: float | None = None
    max_seconds: float | None = None
    max_time_share: float | None = None
    min_ratio: float | None = None
    bits: int | None = None
    method: str | None = None
    understood: tuple[str, ...] = ()
    language: str = "dict"

    def bytes_limit(self, original_bytes: int) -> float | None:
        """Return the most bytes the model may take when float takes `original_bytes`, or None.

        >>> Requirement(max_bytes=20, min_ratio=4).bytes_limit(100)
        20
        """
        ratio = None if self.min_ratio is None else original_bytes / self.min_ratio
        return _least(self.max_bytes, ratio)

    def seconds_limit(self, float_seconds: float) -> float | None:
        """Return the most seconds of one call when float takes `float_seconds`, or None.

        >>> Requirement(max_time_share=0.5).seconds_limit(2.0)
        1.0
        """
        share = None if self.max_time_share is None else self.max_time_share * float_seconds
        return _least(self.max_seconds, share)

    def loss_limit(self, quality: float) -> float | None:
        """Return the most quality that may be lost when float has `quality`, or None.

        Negative where more is asked than float has.

        >>> round(Requirement(max_loss=0.05, min_quality=0.9).loss_limit(0.92), 6)
        0.02
        """
        wanted = None if self.min_quality is None else quality - self.min_quality
        return _least(self.max_loss, wanted)


def _least(*limits: float | None) -> float | None:
    return min((x for x in limits if x is not None), default=None)


def understand(request: dict | str | Requirement | None) -> Requirement:
    """Return what a request asks for."""
    if isinstance(request, Requirement):
        return request
    return Requirement(**(request or {}))
