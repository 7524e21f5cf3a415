"""The document's two cases (6.3): what it reports beside what is measured here.

Sizes and times are those of `labkit.vla.zoo.vla_10m`, ten million parameters and untrained; success
is that of the trained robot, of the same architecture. Milliseconds of 1000 belong to somebody
else's machine, so times are compared as shares of the float model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from labkit.explorers.panel import Panel, choice
from labkit.explorers.scene import Axis, Bars, Mark, Plot, Readout, Rule, Scene, Text
from labkit.latency import LatencyReport
from labkit.quantize import quantize_model
from labkit.report import stored_tensors
from labkit.threads import one_thread
from labkit.verification import FLOAT, FLOAT_ENGINE, QUANTIZED, Loss, file_bytes, time_models
from labkit.vla.batches import calibration_batches
from labkit.vla.evaluate import ClosedLoop
from labkit.vla.zoo import robot, vla_10m

BITS, STEPS, EPISODES, ROUNDS = 8, 16, 150, 15
DOCUMENT_LOSS = 3.0
"""Points of quality that the document loses in both cases: 95 % become 92 %."""


@dataclass(frozen=True)
class Case:
    """One of the document's cases: what it reports and asks, in percent of the float model.

    `time_left` is the most time that may be left; `size_less` and `time_less` what it reports.
    """

    title: str
    size_less: float | None
    time_less: float
    time_left: float


CASES = {
    "edge": Case("Case 1: a model for an edge device", 75, 60, 50),
    "latency": Case("Case 2: an answer in a fifth of the time", None, 85, 20),
}


@dataclass(frozen=True)
class State:
    """Which case.

    >>> State().case
    'edge'
    """

    case: str = "edge"


@dataclass(frozen=True, eq=False)
class Runs:
    """What was measured: bytes before and after, times in one run, the robot's loss."""

    float_bytes: int
    bytes: int
    times: LatencyReport
    loss: Loss

    @property
    def size_less(self) -> float:
        """Percent of the bytes that are gone."""
        return 100 * (1 - self.bytes / self.float_bytes)

    def time_less(self, reference: str) -> float:
        """Percent of the time of a reference that is gone; negative where it takes longer."""
        return 100 * (1 - self.times[QUANTIZED].median / self.times[reference].median)


@cache
@one_thread()
def measure() -> Runs:
    """Quantize the large policy and the robot in 8 bits, weights and activations, and measure."""
    data, large, small = calibration_batches(STEPS, batch_size=STEPS), vla_10m(), robot()
    made = {
        model: quantize_model(model, "static", bits=BITS, calibration_data=data)[0]
        for model in (large, small)
    }
    example = tuple(x[:1] for x in data[0])
    loop = ClosedLoop(EPISODES)
    return Runs(
        sum(t.numel() * t.element_size() for t in stored_tensors(large)[0].values()),
        file_bytes(made[large]),
        time_models(large, made[large], example, rounds=ROUNDS),
        Loss.of(loop(small), loop(made[small])),
    )


def controls() -> dict[str, Any]:
    """The case."""
    return {"case": choice("case", [("1: edge device", "edge"), ("2: latency", "latency")])}


def scene(state: State, runs: Runs) -> Scene:
    """Draw what the document reports beside what was measured."""
    case = CASES[state.case]
    against, engine = runs.time_less(FLOAT), runs.time_less(FLOAT_ENGINE)
    kept = 100 - against <= case.time_left
    readouts = [
        Readout("time, against PyTorch", f"{-against:+.0f} %", "", "measured", "quantized"),
        Readout("document", f"−{case.time_less:g} %", "", "quoted"),
        Readout("asked", f"at most {case.time_left:g} % left", "", "quoted"),
        Readout("limit on time", "kept" if kept else "missed", "", "measured", _role(kept)),
    ]
    return Scene(
        case.title,
        [_plot(case, runs)],
        readouts=[Readout(r.label, _minus(r.value), r.unit, r.kind, r.role) for r in readouts],
        formulas=[
            f"{runs.float_bytes / 1e6:.1f} MB → {runs.bytes / 1e6:.1f} MB, the whole file",
            f"one call: {_ms(runs, FLOAT)} in PyTorch, {_ms(runs, FLOAT_ENGINE)} in float on the "
            f"engine, {_ms(runs, QUANTIZED)} in {BITS} bits on the engine",
            f"the robot's success: {runs.loss.text} lost in {EPISODES} rooms",
            f"against float on the same engine the time changes by {_minus(f'{-engine:+.0f}')} %",
        ],
        description="Bars in pairs: what the document reports and what was measured here.",
    )


def explorer(case: str = "edge") -> Panel:
    """Return the live panel; it measures first, some seconds."""
    runs = measure()
    return Panel(State(case), controls(), lambda state: scene(state, runs))


def _plot(case: Case, runs: Runs) -> Plot:
    rows: list[tuple[str, float | None, float]] = [
        ("bytes less, %", case.size_less, runs.size_less),
        ("time less, %\nagainst PyTorch", case.time_less, runs.time_less(FLOAT)),
        ("time less, %\nagainst the engine", None, runs.time_less(FLOAT_ENGINE)),
        ("points lost", DOCUMENT_LOSS, 100 * runs.loss.value),
    ]
    marks: list[Mark] = [Rule(0, role="range", axis="y", dashed=False)]
    quoted = [(i - 0.2, value) for i, (_, value, _) in enumerate(rows) if value is not None]
    here = [(i + 0.2, max(value, -28)) for i, (_, _, value) in enumerate(rows)]
    for pairs, role, label in (
        (quoted, "range", "the document"),
        (here, "quantized", "measured here"),
    ):
        x, heights = zip(*pairs, strict=True)
        marks.append(Bars(x, heights, 0.36, role, label))
        marks += [
            Text(at, max(height, 0), _minus(f"{height:.0f}"), bold=True, dy=-7)
            for at, height in pairs
        ]
    labels = [name.replace("\n", " ") for name, _, _ in rows]
    x = Axis("", -0.6, len(rows) - 0.4, ticks=range(len(rows)), labels=labels)
    return Plot(marks, x, Axis("", -30, 100), height=320)


def _ms(runs: Runs, name: str) -> str:
    return f"{1e3 * runs.times[name].median:.3g} ms"


def _role(kept: bool) -> str:
    return "good" if kept else "bad"


def _minus(words: str) -> str:
    return str(words).replace("-", "−")
