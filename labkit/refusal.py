"""The refusal: which limit binds, the numbers that show it, and what could be asked instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labkit.fusion import Fused
from labkit.offers import Offer, more_bytes, more_loss, slower, smallest_file
from labkit.verification import Check, check_seconds, time_models
from labkit.workshop import Try, Workshop


class Infeasible(ValueError):
    """A request that cannot be met: `limit` names what binds, `offers` are requests that can be.

    `limit` is "bytes", "seconds", "loss", or several joined by " and ", which can be kept one by
    one but not together. `why` says it with numbers. `tried` holds what was made and measured
    before giving up.

    >>> print(Infeasible("bytes", "the smallest file has 900 bytes, and 500 are asked"))
    this cannot be met, what binds is bytes: the smallest file has 900 bytes, and 500 are asked
    """

    def __init__(
        self, limit: str, why: str, offers: Iterable[Offer | None] = (), tried: Iterable[Try] = ()
    ) -> None:
        """Compose the message from the reason and the offers that there are."""
        self.limit, self.why = limit, why
        self.offers = tuple(offer for offer in offers if offer is not None)
        self.tried = tuple(tried)
        nearest = "; or ".join(str(offer) for offer in self.offers)
        super().__init__(
            f"this cannot be met, what binds is {limit}: {why}"
            + (f". What could be met: {nearest}" if nearest else "")
        )


def too_few_bytes(workshop: Workshop, fused: Fused, size: int) -> Infeasible:
    """Refuse a limit on bytes that not even the smallest file, of `size` bytes, keeps."""
    widths = [fused.features.bits[column] for column in fused.columns]
    told = (
        f"{widths[0]} bits" if len(widths) == 1 else f"widths from {min(widths)} to {max(widths)}"
    )
    return Infeasible(
        "bytes",
        f"the smallest file that {told} make has {size:,} bytes (measured), and at most "
        f"{workshop.limits.bytes:,} are asked",
        [smallest_file(workshop, fused)],
    )


def refusal(workshop: Workshop, tried: Sequence[Try]) -> Infeasible:
    """Refuse after everything was tried; say which limits bind.

    The time binds alone where the fastest misses it. The loss binds alone when even the largest
    file that the widths can make loses too much, and together with what it would take otherwise:
    more bytes, or where there are enough of them, more time.
    """
    limits = workshop.limits
    steps = ", ".join(dict.fromkeys(made.step for made in tried))
    slow = [made.checks[-1] for made in tried if _missed(made) == ["seconds"]]
    lossy = [made for made in tried if _missed(made) == ["loss"]]
    # What misses the loss was not timed: the last of it is what should be fastest.
    late = [_timed(workshop, lossy[-1])] if limits.timed and lossy else []
    if slow or (late and not late[0].kept):
        best = min(slow + late, key=lambda check: check.measured)
        binding = ["seconds", "loss"] if best.kept else ["seconds"]
        shown = min(slow or late, key=lambda check: check.measured)
        made = next((m for m in tried if m.checks[-1] is shown), tried[-1])
        offers = [slower(made, shown), more_loss(lossy) if best.kept else None]
        return Infeasible(" and ".join(binding), f"after {steps}, {shown.text}", offers, tried)
    if not lossy:
        best = tried[-1]
        missed = "; ".join(check.text for check in best.checks if not check.kept)
        return Infeasible(" and ".join(_missed(best)), f"after {steps}, {missed}", [], tried)
    best = min(lossy, key=lambda made: made.loss.value)
    missed = "; ".join(check.text for check in best.checks if not check.kept)
    why = f"after {steps}, {missed} by {best.step}, the best of them"
    larger = more_bytes(workshop)
    if larger is None:
        return Infeasible("loss", why, [more_loss(tried)], tried)
    if limits.timed and (limits.bytes is None or larger.made.bytes <= limits.bytes):
        longer = slower(larger.made, _timed(workshop, larger.made))
        return Infeasible("seconds and loss", why, [longer, more_loss(tried)], tried)
    binding = "loss" if limits.bytes is None else "bytes and loss"
    return Infeasible(binding, why, [larger, more_loss(tried)], tried)


def _timed(workshop: Workshop, made: Try) -> Check:
    times = time_models(workshop.model, made.quantized, workshop.example)
    return check_seconds(times, workshop.limits)


def _missed(made: Try) -> list[str]:
    return [check.name for check in made.checks if not check.kept]
