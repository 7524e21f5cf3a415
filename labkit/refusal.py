"""The refusal: which limit binds, the numbers that show it, and what could be asked instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labkit.fusion import Fused
from labkit.offers import Offer, more_bytes, more_loss, slower, smallest_file
from labkit.verification import check_seconds, time_models
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

    The loss binds alone when even the largest file that the widths can make loses too much, and
    together with the others when more of them would be enough.
    """
    slow = [made for made in tried if _missed(made) == ["seconds"]]
    lossy = [made for made in tried if _missed(made) == ["loss"]]
    steps = ", ".join(dict.fromkeys(made.step for made in tried))
    if slow:
        # What misses the loss was not timed yet; is any of it fast enough?
        faster = lossy[:1] and check_seconds(
            time_models(workshop.model, lossy[-1].quantized, workshop.example), workshop.limits
        )
        binding = ["seconds", "loss"] if faster and faster.kept else ["seconds"]
        best = min(slow, key=lambda made: made.checks[-1].measured)
        return Infeasible(
            " and ".join(binding),
            f"after {steps}, {best.checks[-1].text}",
            [slower(best), more_loss(lossy) if len(binding) > 1 else None],
            tried,
        )
    best = min(lossy or tried, key=lambda made: made.loss.value)
    missed = "; ".join(check.text for check in best.checks if not check.kept)
    larger = more_bytes(workshop)
    others = [name for name in workshop.limits.names if name != "loss"]
    binding = ["loss"] if larger is None else [*others, "loss"]
    why = f"after {steps}, {missed} by {best.step}, the best of them"
    return Infeasible(" and ".join(binding), why, [larger, more_loss(tried)], tried)


def _missed(made: Try) -> list[str]:
    return [check.name for check in made.checks if not check.kept]
