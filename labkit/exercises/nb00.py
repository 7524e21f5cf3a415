"""Exercise of notebook 00: a warm-up that shows how exercises work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction

from labkit.exercises.core import Case, Exercise, Wrong


def compression_ratio(weights: int, bits: int, scales: int) -> float:
    """Bytes of the float32 weights, divided by the bytes of codes and float32 scales."""
    original = weights * 4
    quantized = weights * bits / 8 + scales * 4
    return original / quantized


UPSIDE_DOWN = "Your ratio is upside down: divide the original bytes by the quantized bytes."
SAVING = "That is the saving, 1 - quantized / original; the ratio original / quantized is asked."
NO_SCALES = "You left out the scales: they are stored too, 4 bytes each."
SMALL_SCALES = "A scale is a float32: it takes 4 bytes, not 1."
WHOLE_BYTES = "You give every code a whole byte; b bits are b / 8 of a byte."
FLOORED = "bits // 8 is 0 below 8 bits, so that your codes cost nothing; divide with / instead."
BITS = "You added bits to bytes: divide the bits of the codes by 8."
WHOLE_RATIO = "A ratio need not be a whole number: divide with / and do not round."
GENERAL = "Use weights × 4 ÷ (weights × bits ÷ 8 + scales × 4)."


def _case(weights: int, bits: int, scales: int, message: str = GENERAL) -> Case:
    """One case with the results that the typical mistakes give there, in exact fractions."""
    original, codes = Fraction(32 * weights, 8), Fraction(weights * bits, 8)
    right = original / (codes + 4 * scales)
    mistakes = {
        UPSIDE_DOWN: 1 / right,
        SAVING: 1 - 1 / right,
        NO_SCALES: original / codes,
        SMALL_SCALES: original / (codes + scales),
        WHOLE_BYTES: original / (weights + 4 * scales),
        BITS: original / (8 * codes + 4 * scales),
        WHOLE_RATIO: Fraction(int(right)),
    }
    if bits < 8 and scales:
        mistakes[FLOORED] = original / (4 * scales)
    looks_like = {said: float(value) for said, value in mistakes.items() if value != right}
    return Case((weights, bits, scales), float(right), message, looks_like)


def _cases() -> Iterator[Case]:
    # Here every mistake gives another result, so that each is told apart.
    yield _case(1000, 4, 10)
    # The document's model of ten million weights: 40 MB, 10 MB and 5 MB, one scale in all.
    for bits in (8, 4):
        yield _case(10_000_000, bits, 1)
    yield _case(64, 8, 0, "No scales at all is a fair question too: then the ratio is 32 ÷ bits.")
    # As many scales as weights: storage grows, and the ratio falls below 1.
    yield _case(8, 8, 8)
    for seed in range(3):
        draw = random.Random(seed)
        for bits in range(2, 9):
            yield _case(8 * draw.randint(1, 50_000), bits, draw.randint(1, 2000))


def _upside_down(weights, bits, scales):
    return (weights * bits / 8 + scales * 4) / (weights * 4)


def _saving(weights, bits, scales):
    original = weights * 4
    return (original - weights * bits / 8 - scales * 4) / original


def _document(weights, bits, scales):
    # As in the document's listing: numel * (bit_width // 8).
    size = weights * (bits // 8) + 4 * scales
    return weights * 4 / size if size > 0 else 1.0


EXERCISES = (
    Exercise(
        id="0.1",
        title="How much smaller?",
        difficulty=1,
        minutes=3,
        hints=(
            "How many bytes does one float32 weight take? And one code of b bits?",
            "Count both in bytes: weights × 4 before; weights × bits ÷ 8, and 4 a scale, after.",
            "return weights * 4 / (… + scales * 4), where … are the bytes of the codes.",
        ),
        cases=_cases,
        solution=compression_ratio,
        praise="Every byte is counted, the scales too. This is how the lab counts sizes.",
        wrong=(
            Wrong("divides the wrong way round", _upside_down, "upside down"),
            Wrong("gives the saving", _saving, "saving"),
            Wrong("forgets the scales", lambda weights, bits, scales: 32 / bits, "scales"),
            Wrong(
                "counts a scale as one byte",
                lambda weights, bits, scales: weights * 4 / (weights * bits / 8 + scales),
                "4 bytes, not 1",
            ),
            Wrong(
                "gives every code a byte",
                lambda weights, bits, scales: weights * 4 / (weights * 1 + scales * 4),
                "whole byte",
            ),
            Wrong("floors bits to bytes like the document's listing", _document, "bits // 8"),
            Wrong(
                "adds bits to bytes",
                lambda weights, bits, scales: weights * 4 / (weights * bits + scales * 4),
                "divide the bits",
            ),
            Wrong(
                "divides into a whole number",
                lambda weights, bits, scales: weights * 32 // (weights * bits + scales * 32),
                "whole number",
            ),
        ),
    ),
)
