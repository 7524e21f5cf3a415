"""Exercises of notebook 10: the closed loop, the first other action, agreement, pairs."""

from __future__ import annotations

from labkit.exercises import cases10, wrong10
from labkit.exercises.core import Exercise


def first_other(one: list[int], other: list[int]) -> int:
    """First step, counted from 0, at which the actions differ; -1 where they never do."""
    for step, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return step
    return -1


def closed_loop(act, world, room: int, limit: int) -> tuple[str, int]:
    """How the episode ends, "success", "loop" or "time", and after how many steps."""
    seen = {room}
    for steps in range(1, limit + 1):
        room, arrived = world(room, act(room))
        if arrived:
            return "success", steps
        if room in seen:
            return "loop", steps
        seen.add(room)
    return "time", limit


def if_fatal(agreement: float, steps: list[int]) -> float:
    """Share of episodes that succeed if every other action ends one; steps: of each episode."""
    return sum(agreement**n for n in steps) / len(steps)


def paired(first: list[bool], second: list[bool]) -> tuple[float, float]:
    """Success of second minus first in points, and the exact two-sided p of McNemar's test."""
    from math import comb

    pairs = list(zip(first, second, strict=True))
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    return 100 * (only_second - only_first) / len(pairs), min(1.0, 2 * tail)


EXERCISES = (
    Exercise(
        id="10.4",
        title="The first other action",
        difficulty=1,
        minutes=4,
        hints=(
            "Until which step do both robots stand in the same room?",
            "Go through both lists side by side and stop at the first pair that differs. One list "
            "may end sooner: that is no other action.",
            "for step, (a, b) in enumerate(zip(one, other)): if a != b: return step; at the end "
            "return -1",
        ),
        cases=cases10.first_cases,
        solution=first_other,
        praise="Before this step both are the same robot. After it they see different rooms, and "
        "comparing their actions means nothing any more.",
        wrong=wrong10.FIRST,
    ),
    Exercise(
        id="10.1",
        title="The closed loop",
        difficulty=2,
        minutes=10,
        hints=(
            "What does a robot without memory do when it comes into a room that it has seen?",
            "Keep the set of all rooms so far, the first one included. After each step: arrived? "
            "seen before? Only then the next.",
            "seen = {room}; for steps in range(1, limit + 1): room, arrived = world(room, "
            "act(room)); return where it arrived or the room is in seen, else add it; at the end "
            '"time", limit',
        ),
        cases=cases10.loop_cases,
        solution=closed_loop,
        praise="This is labkit.vla.rollout in small; there, hundreds of rooms go side by side.",
        wrong=wrong10.LOOP,
    ),
    Exercise(
        id="10.3",
        title="If every other action were the end",
        difficulty=1,
        minutes=5,
        hints=(
            "An episode of one step succeeds as often as the actions agree. And one of two steps?",
            "All of its steps have to agree: the agreement, multiplied with itself once a step. "
            "Then the mean over the episodes.",
            "sum(agreement ** n for n in steps) / len(steps)",
        ),
        cases=cases10.fatal_cases,
        solution=if_fatal,
        praise="99 % an action is 82 % over twenty steps. That is how small errors add up, if "
        "nothing mends them.",
        wrong=wrong10.FATAL,
    ),
    Exercise(
        id="10.2",
        title="The same episodes",
        difficulty=3,
        minutes=12,
        hints=(
            "Which episodes tell the robots apart: those where both succeed, or those where one "
            "does?",
            "Count those where only the first succeeds, b, and only the second, c. If both were "
            "equally good, each of the n = b + c would be a toss of a coin. How likely is a split "
            "at least as uneven?",
            "tail = sum(comb(n, k) for k in range(min(b, c) + 1)) / 2**n; the p-value is "
            "min(1, 2 * tail), the difference 100 * (c - b) / len(first)",
        ),
        cases=cases10.paired_cases,
        solution=paired,
        praise="Two intervals may overlap and the pairs may still tell the robots apart.",
        wrong=wrong10.PAIRED,
    ),
)
