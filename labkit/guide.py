"""Which bit width, method and calibration size: the document's guide (5.3), asked of measurements.

The document gives rules of thumb: on an edge device 8 bits, static, 100 samples; where performance
comes first 8 bits, qat, 1000 samples; 4 bits for a small model. Here the choice follows from rows
that were measured on one's own model, and each rule is held against the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labkit.checks import check_whole
from labkit.measurements import EFFORT, Grid, Measurement

SCENARIOS = {
    "edge": "the smallest model that surely keeps its quality",
    "quality": "the best quality, and of what cannot be told from it the smallest",
}
# What the document itself accepts for 8 bits: 95 % → 92 %.
DOCUMENT_LOSS = 0.03
# Sizes that differ by less are the same choice: the few bytes of an activation's grid.
SAME_SIZE = 0.01


@dataclass(frozen=True)
class Rule:
    """A rule of thumb of the document, and what the measurements say about it.

    `verdict` is "holds", "does not hold", "not resolved" or "not measured".
    """

    text: str
    verdict: str
    evidence: str

    def __str__(self) -> str:
        """The rule, the verdict, and why."""
        return f"{self.text}: {self.verdict}" + (f" ({self.evidence})" if self.evidence else "")


@dataclass(frozen=True, repr=False)
class Recommendation:
    """The chosen row, why, and the document's rules on the same measurements."""

    scenario: str
    choice: Measurement
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        """The choice, its reasons, and the rules, a line each."""
        lines = [f"{self.scenario}: {self.choice.name}"]
        lines += [f"  because {reason}" for reason in self.reasons]
        lines += ["  the document's rules on these measurements:"]
        lines += [f"    {rule}" for rule in self.rules]
        return "\n".join(lines)

    # At the prompt, the words say more than the fields.
    __repr__ = __str__


def recommend(
    grid: Grid,
    scenario: str = "edge",
    *,
    max_bytes: int | None = None,
    max_loss: float = DOCUMENT_LOSS,
    max_time: float | None = None,
) -> Recommendation:
    """Choose one of the measured rows for a scenario, within limits, and say why.

    "edge" takes the smallest row that surely loses at most `max_loss` (a proportion; the whole
    paired interval lies above -max_loss). "quality" takes the most accurate row and, of all that
    these samples cannot tell from it, the smallest. Of rows of one size (within 1 %), the fastest
    is taken where times were measured, then the one that needs least: no data, samples to watch,
    training. `max_bytes` and `max_time` (a share of the float model's time) leave rows out before.
    Chosen on these samples, a row is flattered by them a little: test it on others in the end.

    Raises ValueError for another scenario, limits out of range, a max_time without measured times,
    and when no row keeps to the limits: the message names the limit that binds and the nearest row.

    >>> from labkit.data import load_mnist
    >>> from labkit.measurements import measure_grid
    >>> from labkit.zoo import mnist_mlp
    >>> grid = measure_grid(mnist_mlp(), load_mnist(), methods=["dynamic"], progress=False)
    >>> recommend(grid, "edge").choice.name
    'dynamic, 4 bits'
    """
    _check(grid, scenario, max_bytes, max_loss, max_time)
    rows = list(grid.rows)
    if max_bytes is not None:
        rows = _within(rows, "max_bytes", max_bytes, lambda row: row.bytes)
    if max_time is not None:
        rows = _within(rows, "max_time", max_time, lambda row: row.time_ratio)
    if scenario == "edge":
        rows = _within(rows, "max_loss", max_loss, lambda row: -row.against(grid.original).low)
        why = f"it surely loses at most {100 * max_loss:g} points"
    else:
        best = max(rows, key=lambda row: row.quality.value)
        rows = [row for row in rows if not row.against(best).resolved]
        why = f"it is the most accurate, or not to be told from it: {best.name}, {best.quality}"
    choice = _smallest(rows)
    others = len(rows) - 1
    reasons = (
        f"{why}; against float: {choice.against(grid.original)}",
        f"of the {others} other rows of which that is true, none is smaller than its "
        f"{choice.bytes:,} bytes ({grid.original.bytes / choice.bytes:.1f} times below float)",
    )
    return Recommendation(scenario, choice, reasons, check_rules(grid, max_loss))


def check_rules(grid: Grid, max_loss: float = DOCUMENT_LOSS) -> tuple[Rule, ...]:
    """Hold each rule of the document's guide (5.3) against the measured rows.

    >>> import torch
    >>> nothing = Grid(Measurement("float", 32, 0, 4, torch.ones(1, dtype=torch.bool)), ())
    >>> {rule.verdict for rule in check_rules(nothing)}
    {'not measured'}
    """
    static, hundred = grid.find("static", 8), grid.find("static", 8, 100)
    sizes = sorted({row.samples for row in grid.rows if (row.method, row.bits) == ("static", 8)})
    fewest = grid.find("static", 8, sizes[0]) if len(sizes) > 1 else None
    return (
        _kept("edge: 8 bits, static, 100 samples keep the quality", hundred, grid, max_loss),
        _better("quality: 8 bits, qat beat 8 bits, static", grid.find("qat", 8), static),
        _better("more calibration samples calibrate better", static, fewest),
        _better("fewer bits lose quality: 8 beat 4", static, grid.find("static", 4)),
        _kept("small model: 4 bits keep the quality", grid.find("static", 4), grid, max_loss),
    )


def _kept(text: str, row: Measurement | None, grid: Grid, max_loss: float) -> Rule:
    """Is the whole interval above -max_loss, the whole below, or neither?"""
    if row is None:
        return Rule(text, "not measured", "")
    difference = row.against(grid.original)
    verdict = "not resolved"
    if difference.low >= -max_loss:
        verdict = "holds"
    elif difference.high < -max_loss:
        verdict = "does not hold"
    return Rule(text, verdict, f"{row.name} against float: {difference}")


def _better(text: str, row: Measurement | None, other: Measurement | None) -> Rule:
    if row is None or other is None:
        return Rule(text, "not measured", "")
    difference = row.against(other)
    verdict = "not resolved"
    if difference.resolved:
        verdict = "holds" if difference.difference > 0 else "does not hold"
    return Rule(text, verdict, f"{row.name} against {other.name}: {difference}")


def _smallest(rows: list[Measurement]) -> Measurement:
    least = min(row.bytes for row in rows)
    same = [row for row in rows if row.bytes <= least * (1 + SAME_SIZE)]

    def rank(row: Measurement) -> tuple:
        time = 0.0 if row.time_ratio is None else row.time_ratio
        return time, EFFORT[row.method], row.samples, row.bytes

    return min(same, key=rank)


def _within(
    rows: list[Measurement], name: str, limit: float, value: Callable[[Measurement], float]
) -> list[Measurement]:
    kept = [row for row in rows if value(row) <= limit]
    if not kept:
        nearest = min(rows, key=value)
        raise ValueError(
            f"no measured row keeps to {name}={limit:g}; the nearest is {nearest.name} with "
            f"{value(nearest):.4g}: measure other ways, or relax {name}"
        )
    return kept


def _check(
    grid: Grid,
    scenario: str,
    max_bytes: int | None,
    max_loss: float,
    max_time: float | None,
) -> None:
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario must be one of {', '.join(SCENARIOS)}; got {scenario!r}")
    if not grid.rows:
        raise ValueError("the grid holds no quantized rows; measure some first (measure_grid)")
    if max_bytes is not None and check_whole("max_bytes", max_bytes) < 1:
        raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
    if not 0 <= max_loss <= 1:
        raise ValueError(f"max_loss must be a proportion in 0..1, e.g. 0.03; got {max_loss}")
    if max_time is not None:
        if not max_time > 0:
            raise ValueError(f"max_time must be a share above 0 of float's time, got {max_time}")
        if any(row.time_ratio is None for row in grid.rows):
            raise ValueError("max_time needs measured times; give measure_grid a time_ratio")
