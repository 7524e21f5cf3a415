"""Exercises of notebook 11: the tighter limit, the sum to trust, a verdict, the nearest offer."""

from __future__ import annotations

from labkit.exercises import cases11, wrong11
from labkit.exercises.core import Exercise


def bytes_allowed(
    memory: int | None, asked: int | None, ratio: float | None, float_bytes: int
) -> int:
    """The most whole bytes that keep every limit; None: no such limit."""
    limits = [memory, asked, None if ratio is None else int(float_bytes / ratio)]
    return min(limit for limit in limits if limit is not None)


def largest_trusted(sums: list[float], losses: list[float], max_loss: float, risk: float) -> float:
    """Largest sum S so that of the plans up to S at most a share risk lost more than max_loss."""
    trusted = 0.0
    for most in sums:
        lost = [loss for total, loss in zip(sums, losses, strict=True) if total <= most]
        missed = sum(loss > max_loss for loss in lost)
        if missed / len(lost) <= risk:
            trusted = max(trusted, most)
    return trusted


def verdict(loss: float, low: float, high: float, limit: float) -> str:
    """Judge a loss with its interval by a limit: "kept" or "missed", "surely …" where it is."""
    said = "kept" if loss <= limit else "missed"
    sure = high <= limit or low > limit
    return f"surely {said}" if sure else said


def fewest_bytes(sizes: list[list[int]], losses: list[list[float]], max_loss: float) -> int:
    """The fewest bytes of all choices, an option a layer, whose losses add up to ≤ max_loss."""
    from itertools import product

    def total(table: list, picked: tuple[int, ...]) -> float:
        return sum(row[option] for row, option in zip(table, picked, strict=True))

    every = product(range(len(sizes[0])), repeat=len(sizes))
    return min(total(sizes, picked) for picked in every if total(losses, picked) <= max_loss)


EXERCISES = (
    Exercise(
        id="11.1",
        title="The tighter limit",
        difficulty=1,
        minutes=5,
        hints=(
            "A device, a wish and a ratio each allow so many bytes. Which of them counts?",
            "A model that shall be `ratio` times smaller may take float_bytes / ratio, rounded "
            "down. Of the limits that are given, the smallest counts.",
            "limits = [memory, asked, None if ratio is None else int(float_bytes / ratio)]; then "
            "min(limit for limit in limits if limit is not None)",
        ),
        cases=cases11.limit_cases,
        solution=bytes_allowed,
        praise="Three encoders, one number: that is half of the fusion.",
        wrong=wrong11.LIMIT,
    ),
    Exercise(
        id="11.2",
        title="The sum to trust",
        difficulty=2,
        minutes=10,
        hints=(
            "Take one of the sums as S. Which plans would you trust, and how many of them missed?",
            "For each sum S: of all plans with a sum of at most S, the share that lost more than "
            "max_loss. Keep the largest S whose share is at most risk.",
            "lost = [l for s, l in zip(sums, losses) if s <= S]; "
            "share = sum(l > max_loss for l in lost) / len(lost)",
        ),
        cases=cases11.trust_cases,
        solution=largest_trusted,
        praise="labkit smooths the shares first; the idea is this one.",
        wrong=wrong11.TRUST,
    ),
    Exercise(
        id="11.3",
        title="Kept, and for sure?",
        difficulty=1,
        minutes=6,
        hints=(
            "Two questions: on which side of the limit is the loss? Is all of the interval there?",
            "Kept is loss ≤ limit. It is sure when the whole interval is on that side: "
            "high ≤ limit, or low > limit.",
            'said = "kept" if loss <= limit else "missed"; and "surely " + said where '
            "high <= limit or low > limit",
        ),
        cases=cases11.verdict_cases,
        solution=verdict,
        praise="More rooms make the interval narrow, and the word sure cheap.",
        wrong=wrong11.VERDICT,
    ),
    Exercise(
        id="11.4",
        title="The nearest offer",
        difficulty=3,
        minutes=12,
        hints=(
            "It is the problem of notebook 09 turned round: what is limited, what is made small?",
            "Try every combination of options. Keep those whose losses add up to at most max_loss; "
            "of these, the smallest sum of sizes.",
            "every = itertools.product(range(options), repeat=layers); "
            "min(total(sizes, p) for p in every if total(losses, p) <= max_loss)",
        ),
        cases=cases11.offer_cases,
        solution=fewest_bytes,
        praise="A refusal that names what would do is half a yes.",
        wrong=wrong11.OFFER,
    ),
)
