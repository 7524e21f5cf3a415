"""The requirement encoder: what is wanted, from a dict or a sentence in English or Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.asking import NotUnderstood, UnitMissing
from labkit.entries import read_entries
from labkit.said import combined, language_of, say
from labkit.sentence import read_limits

__all__ = ["NotUnderstood", "Requirement", "UnitMissing", "understand"]


@dataclass(frozen=True)
class Requirement:
    """What was asked for; None where nothing was said. `understood` says it in plain lines.

    * `max_bytes`: of the whole model. `min_ratio`: bytes of float divided by bytes.
    * `max_loss`: quality lost against float, in units of the quality; of a proportion 3 points,
      95 % → 92 %, are 0.03. `min_quality`: the quality itself.
    * `max_seconds`: of one call. `max_time_share`: time of one call as a share, 0..1, of float's.
    * `bits`: the width that every layer shall have. `method`: the way to quantize.
    * `language`: "en" or "zh", the language of the request and of `understood`.
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
    language: str = "en"

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


def understand(request: Mapping | str | Requirement | None) -> Requirement:
    """Return what a request asks for, and what of it was understood, in plain lines.

    request: a sentence in English or Chinese, or a dict whose keys are the same words and whose
    values are texts with units, {"size": "6 MB", "accuracy loss": "3 %"}; numbers where the key
    says the unit, {"max_bytes": 6e6, "latency_ms": 200}. Of a quality, "3 %" lost are 3 points.
    Said twice, the tighter counts. A `Requirement` is returned as it is.

    Raises `labkit.asking.UnitMissing`, which asks back, for a number without a unit or of
    nothing, and `labkit.asking.NotUnderstood`, which quotes the words, for everything that is not
    clear: both are ValueErrors. Nothing is guessed and no number is left out.

    >>> for line in understand("under 6 MB, at most 3 % worse, 200 ms").understood:
    ...     print(line)
    "under 6 MB": the model takes at most 6 MB (6,000,000 bytes)
    "at most 3 % worse": at most 3 points of quality are lost (95 % may become 92 %)
    "200 ms": one call takes at most 200 ms
    >>> understand("模型小于6MB,精度损失不超过3%").max_loss
    0.03
    >>> understand("under 6")
    Traceback (most recent call last):
    ...
    labkit.asking.UnitMissing: "under 6": 6 of what? It has no unit; write for example 6 MB, \
6 ms or 6 points
    """
    if request is None or isinstance(request, Requirement):
        return request or Requirement()
    if isinstance(request, Mapping):
        meanings, words = read_entries(request), " ".join(f"{k} {v}" for k, v in request.items())
    else:
        meanings, words = read_limits(request), request
    language = language_of(words)
    chosen = combined(meanings)
    return Requirement(
        **{meaning.field: meaning.value for meaning in chosen},
        understood=tuple(say(meaning, meanings, language) for meaning in chosen),
        language=language,
    )


def _least(*limits: float | None) -> float | None:
    return min((x for x in limits if x is not None), default=None)
