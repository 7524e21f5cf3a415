"""Measured latency: candidates in turn in one run, as ratios with intervals, hot and cold.

A time alone says little: the machine is busy, its clock changes, and caches remember. So every
round runs every candidate once, in a new order, and what is reported is the ratio to the first.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import torch

CONFIDENCE = 0.95
RESAMPLES = 2000
# What one timed block should last at least, so that the clock's own steps do not matter.
SHORTEST_BLOCK = 5e-4
# Untimed calls before each timed block, hot. After other candidates have used the cache, the second
# call of a model of 10 MB took twice as long as calls in the end, the twelfth still a fifth longer.
WARM_UP = 5e-3
# Used where the system does not say how large its last cache is.
USUAL_CACHE = 32 * 2**20


@dataclass(frozen=True)
class Latency:
    """Latency of one candidate, in seconds per call, and its ratio to the first candidate.

    `low` and `high` are the quartiles of the rounds; `ratio_low` and `ratio_high` the ends of the
    95 % bootstrap interval of the ratio of medians. `resolved` is False where that interval holds
    1: this run cannot say which of the two is faster. `seconds` holds every round.

    >>> Latency("int8", 1e-3, 1e-3, 1e-3, 0.99, 0.9, 1.1).resolved
    False
    """

    name: str
    median: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    seconds: tuple[float, ...] = field(default=(), repr=False)

    @property
    def resolved(self) -> bool:
        """Whether the difference from the first candidate is larger than what chance explains."""
        return not self.ratio_low <= 1 <= self.ratio_high

    @property
    def verdict(self) -> str:
        """The ratio in words."""
        if not self.resolved:
            return "not resolved"
        return f"{1 / self.ratio:.1f} × faster" if self.ratio < 1 else f"{self.ratio:.1f} × slower"


@dataclass(frozen=True, repr=False)
class LatencyReport:
    """All candidates of one run, the reference first; indexed by name.

    `cold` says whether caches were emptied before each call, `load` how many programs wanted a
    core on average in the last minute (1 for this one).

    >>> report = measure_latency({"sum": lambda: sum(range(99))}, rounds=3)
    >>> report["sum"].ratio
    1.0
    """

    rows: tuple[Latency, ...]
    cold: bool
    rounds: int
    threads: int
    load: float

    def __getitem__(self, name: str) -> Latency:
        """Return the candidate called `name`; KeyError lists the names."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no candidate {name!r}; there are {', '.join(r.name for r in self.rows)}")

    def compare(self, name: str, other: str) -> Latency:
        """Return the candidate `name` with its ratio to `other` instead of to the first."""
        own, base = (np.array(self[which].seconds) for which in (name, other))
        return _row(name, own, base, np.random.default_rng(0))

    def as_dict(self) -> dict:
        """Return every number, for a file."""
        rows = {
            row.name: {k: v for k, v in vars(row).items() if k not in ("name", "seconds")}
            | {"verdict": row.verdict}
            for row in self.rows
        }
        return {
            "cold": self.cold,
            "rounds": self.rounds,
            "threads": self.threads,
            "load": self.load,
            "candidates": rows,
        }

    def __str__(self) -> str:
        """One line a candidate."""
        width = max(len(row.name) for row in self.rows)
        lines = [self._conditions()]
        for row in self.rows:
            time_, ratio, verdict = _cells(row, row is self.rows[0])
            lines.append(f"  {row.name:{width}}  {time_:>26}  {ratio:>22}  {verdict}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = ("", "median (quartiles)", "ratio (95 % interval)", "")
        rows = [(row.name, *_cells(row, row is self.rows[0])) for row in self.rows]
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        top = "".join(f"<th>{cell}</th>" for cell in head)
        caption = escape(self._conditions())
        return f"<table><caption>{caption}</caption><tr>{top}</tr>{body}</table>"

    def _conditions(self) -> str:
        state = "cold (caches emptied before each call)" if self.cold else "hot (called in a row)"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"Measured {state}, {self.rounds} rounds, {threads}, load {self.load:.1f}"


def measure_latency(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    cold: bool = False,
    threads: int = 1,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    evict: Callable[[], object] | None = None,
) -> LatencyReport:
    """Time every candidate in every round, and compare each with the first.

    candidates: name → a function without arguments. Hot: each is called untimed for about 5 ms, at
    least once, then timed over as many calls as make half a millisecond. `cold=True`: before each
    single timed call a buffer larger than the last cache is written through (`evict` replaces
    that), so that weights come from main memory, as in a program that does other things between
    two calls. Torch is held to `threads` for the time; other runtimes take their threads when they
    are made.

    Raises ValueError for no candidates, fewer than 3 rounds or threads below 1; what a candidate
    raises comes through, with torch's threads restored.

    >>> report = measure_latency({"one": lambda: sum(range(9)), "two": lambda: sum(range(99))})
    >>> [row.name for row in report.rows]
    ['one', 'two']
    """
    if not candidates:
        raise ValueError('give at least one candidate, e.g. {"float": lambda: model(x)}')
    if rounds < 3 or threads < 1:
        raise ValueError(f"needs at least 3 rounds and 1 thread, got {rounds} and {threads}")
    names = list(candidates)
    random = np.random.default_rng(seed)
    if cold and evict is None:
        evict = _Evictor()
    seconds = np.empty((rounds, len(names)))
    with _steady(threads):
        calls = [1 if cold else _calls(candidates[name], clock, SHORTEST_BLOCK) for name in names]
        untimed = [0 if cold else _calls(candidates[name], clock, WARM_UP) for name in names]
        for round_ in range(rounds):
            for i in random.permutation(len(names)):
                function = candidates[names[i]]
                if cold:
                    evict()
                for _ in range(untimed[i]):
                    function()
                start = clock()
                for _ in range(calls[i]):
                    function()
                seconds[round_, i] = (clock() - start) / calls[i]
    rows = tuple(_row(name, seconds[:, i], seconds[:, 0], random) for i, name in enumerate(names))
    return LatencyReport(rows, cold, rounds, threads, _load())


def last_level_cache() -> int:
    """Return the size of the largest cache of this machine in bytes; 32 MiB where it is not told.

    >>> last_level_cache() >= 2**18
    True
    """
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        if text and text[-1] in units and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * units[text[-1]])
    return max(sizes, default=USUAL_CACHE)


class _Evictor:
    """Writes through twice the last cache, so that nothing of before stays in it."""

    def __init__(self) -> None:
        self.buffer = np.zeros(2 * last_level_cache() // 8)

    def __call__(self) -> None:
        self.buffer += 1.0


def _row(name: str, own: np.ndarray, first: np.ndarray, random: np.random.Generator) -> Latency:
    """Resample whole rounds: a busy moment met both candidates."""
    picks = random.integers(len(own), size=(RESAMPLES, len(own)))
    low, median, high = np.quantile(own, (0.25, 0.5, 0.75))
    ratios = np.median(own[picks], axis=1) / np.median(first[picks], axis=1)
    tail = (1 - CONFIDENCE) / 2
    ends = np.quantile(ratios, (tail, 1 - tail))
    numbers = (median, low, high, median / np.median(first), *ends)
    return Latency(name, *map(float, numbers), tuple(own.tolist()))


def _calls(function: Callable[[], object], clock: Callable[[], float], block: float) -> int:
    """How many calls fill a block of so many seconds; also the warm-up."""
    function()
    calls = 1
    while True:
        start = clock()
        for _ in range(calls):
            function()
        took = clock() - start
        if took >= block or calls >= 2**20:
            return calls
        calls *= 2


@contextmanager
def _steady(threads: int):
    """Hold torch's threads and the garbage collector still, and put both back."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.collect()
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def _cells(row: Latency, first: bool) -> tuple[str, str, str]:
    unit, name = (1e3, "ms") if row.median >= 1e-3 else (1e6, "µs")
    spread = f"{row.low * unit:.3g} to {row.high * unit:.3g}"
    if first:
        return f"{row.median * unit:.3g} {name} ({spread})", "1", "reference"
    interval = f"{row.ratio_low:.3g} to {row.ratio_high:.3g}"
    return (
        f"{row.median * unit:.3g} {name} ({spread})",
        f"{row.ratio:.3g} ({interval})",
        row.verdict,
    )
