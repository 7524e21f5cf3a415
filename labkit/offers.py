"""Offers: when a request cannot be met, the nearest ones that can, each of them measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from labkit.fusion import Fused
from labkit.mixed import allocate_bits, widths_of
from labkit.verification import Check, check_loss
from labkit.workshop import Try, Workshop

# Halvings between too few bytes and enough: each is one measurement.
HALVINGS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Offer:
    """What could be asked instead: `change` says it with measured numbers, `made` is the proof."""

    change: str
    made: Try

    def __str__(self) -> str:
        """The change, and that it was measured."""
        return f"{self.change} (measured)"

    __repr__ = __str__


def smallest_file(workshop: Workshop, fused: Fused) -> Offer:
    """Offer the fewest bytes that these widths can take, with what they lose."""
    made = _make(workshop, fused.widths(fused.least_of("bytes")))
    return Offer(f"{made.bytes:,} bytes{_losing(made)}", made)


def slower(made: Try, check: Check) -> Offer:
    """Offer the time that something really takes; `check` measured it."""
    shown = f"{1e3 * check.measured:.3g} ms a call"
    return Offer(f"{shown}, at {made.bytes:,} bytes{_losing(made)}", made)


def more_loss(tried: Iterable[Try]) -> Offer | None:
    """Offer the best of what was tried within all other limits; None where nothing was."""
    fitting = [
        made
        for made in tried
        if made.loss is not None and all(c.kept for c in made.checks if c.name != "loss")
    ]
    if not fitting:
        return None
    best = min(fitting, key=lambda made: made.loss.value)
    return Offer(f"{best.loss.text} lost, with {best.bytes:,} bytes by {best.step}", best)


def more_bytes(workshop: Workshop) -> Offer | None:
    """Offer a file large enough for the loss that was asked; None where none is.

    Halves the bytes between the fewest and the most, with the widths that are predicted to lose
    least, and measures nearest rounding at each halving.
    """
    features = workshop.features
    low, high = (float(size.sum()) for size in (features.bytes.min(1), features.bytes.max(1)))

    def within(budget: float) -> Try | None:
        choice = allocate_bits(features.loss, [("bytes", features.bytes, budget)])
        made = _make(workshop, widths_of(features.sensitivity, np.asarray(choice)))
        return made if check_loss(made.loss, workshop.limits.loss).kept else None

    best = within(high)
    if best is None:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        made = within(middle)
        low, high, best = (middle, high, best) if made is None else (low, middle, made)
    return Offer(f"{best.bytes:,} bytes{_losing(best)}", best)


def _make(workshop: Workshop, widths: Mapping[str, int]) -> Try:
    return workshop.judge("an offer", "nearest rounding", widths, workshop.quantize(widths))


def _losing(made: Try) -> str:
    return "" if made.loss is None else f", with {made.loss.text} lost"
