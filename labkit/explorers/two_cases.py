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
from labkit.latency import Latency, LatencyReport
from labkit.quantize import quantize_model
from labkit.report import stored_tensors
from labkit.threads import one_thread
from labkit.verification import FLOAT, FLOAT_ENGINE, Loss, file_bytes, time_models
from labkit.vla.batches import calibration_batches
from labkit.vla.evaluate import ClosedLoop
from labkit.vla.zoo import robot, vla_10m

BITS, STEPS, EPISODES, ROUNDS = 8, 16, 150, 15
WAYS = {"weight_only": "weights", "static": "weights and activations"}
"""What is in 8 bits. (Dynamic quantization of this model is slower than float: see notebook 06.)"""
_BARS = {FLOAT_ENGINE: "float, engine", "weight_only": "weights only", "static": "activations too"}
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

    def time_less(self, name: str) -> float:
        """Percent of the float model's time in PyTorch that is gone."""
        return 100 * (1 - self.times[name].median / self.times[FLOAT].median)


@cache
@one_thread()
def measure() -> Runs:
    """Quantize the large policy and the robot in 8 bits, and measure."""
    data, large, small = calibration_batches(STEPS, batch_size=STEPS), vla_10m(), robot()
    static = {"calibration_data": data}
    made = {
        way: quantize_model(large, way, bits=BITS, **(static if way == "static" else {}))[0]
        for way in WAYS
    }
    rounded = quantize_model(small, "static", bits=BITS, **static)[0]
    loop = ClosedLoop(EPISODES)
    return Runs(
        sum(t.numel() * t.element_size() for t in stored_tensors(large)[0].values()),
        file_bytes(made["static"]),
        time_models(large, made, tuple(x[:1] for x in data[0]), rounds=ROUNDS),
        Loss.of(loop(small), loop(rounded)),
    )


def controls() -> dict[str, Any]:
    """The case."""
    return {"case": choice("case", [("1: edge device", "edge"), ("2: latency", "latency")])}


def scene(state: State, runs: Runs) -> Scene:
    """Draw what the document reports beside what was measured."""
    case = CASES[state.case]
    fastest = max(WAYS, key=runs.time_less)
    less = _minus(f"{-runs.time_less(fastest):+.0f} %")
    verdict = _verdict(runs.times[fastest], case.time_left)
    times = ", ".join(
        f"{words} {1e3 * runs.times[name].median:.3g} ms" for name, words in _timed().items()
    )
    return Scene(
        case.title,
        [_plot(case, runs)],
        readouts=[
            Readout(f"time, {_BARS[fastest]}", less, "", "measured", "quantized"),
            Readout("document", f"−{case.time_less:g} %", "", "quoted"),
            Readout("asked", f"at most {case.time_left:g} % left", "", "quoted"),
            Readout("limit", verdict, "", "measured", _ROLES[verdict]),
        ],
        formulas=[
            f"{runs.float_bytes / 1e6:.1f} MB → {runs.bytes / 1e6:.1f} MB, the whole file",
            f"one call: {times}",
            f"the robot's success: {runs.loss.text} lost in {EPISODES} rooms",
        ],
        description="Bars: what the document reports and what was measured here.",
    )


def explorer(case: str = "edge") -> Panel:
    """Return the live panel; it measures first, some seconds."""
    runs = measure()
    return Panel(State(case), controls(), lambda state: scene(state, runs))


def _plot(case: Case, runs: Runs) -> Plot:
    rows: list[tuple[str, float | None, float]] = [
        ("bytes", case.size_less, runs.size_less),
        (f"time: {_BARS[FLOAT_ENGINE]}", None, runs.time_less(FLOAT_ENGINE)),
        (f"time: {_BARS['weight_only']}", None, runs.time_less("weight_only")),
        (f"time: {_BARS['static']}", case.time_less, runs.time_less("static")),
        ("points lost", DOCUMENT_LOSS, 100 * runs.loss.value),
    ]
    marks: list[Mark] = [Rule(0, role="range", axis="y", dashed=False)]
    quoted = [(i - 0.2, value) for i, (_, value, _) in enumerate(rows) if value is not None]
    here = [(i + 0.2, max(value, -9)) for i, (_, _, value) in enumerate(rows)]
    for pairs, role, label in (
        (quoted, "range", "the document"),
        (here, "quantized", "measured here"),
    ):
        x, heights = zip(*pairs, strict=True)
        marks.append(Bars(x, heights, 0.36, role, label))
        for at, height in pairs:
            words = _minus(f"{height:.0f}".replace("-0", "0"))
            marks.append(Text(at, max(height, 0), words, bold=True, dy=-7))
    # As a line on this axis the interval of the points would be a tick; the document gives none.
    ends = _minus(f"[{100 * runs.loss.low:.1f}, {100 * runs.loss.high:.1f}]")
    at, height = here[-1]
    marks.append(Text(at, max(height, 0), ends, "muted", size=11, dy=-24))
    x = Axis("", -0.6, len(rows) - 0.4, ticks=range(len(rows)), labels=[name for name, *_ in rows])
    return Plot(
        marks,
        x,
        Axis("% less than float in PyTorch (last pair: points lost)", -10, 100),
        height=300,
    )


def _timed() -> dict[str, str]:
    """The candidates and how they are called, float first."""
    quantized = {way: f"{words} in {BITS} bits" for way, words in WAYS.items()}
    return {FLOAT: "PyTorch", FLOAT_ENGINE: "float on the engine", **quantized}


def _verdict(time: Latency, time_left: float) -> str:
    """Whether a limit is kept; a limit inside the interval of the ratio is neither."""
    if 100 * time.ratio_high <= time_left:
        return "kept"
    return "missed" if 100 * time.ratio_low > time_left else "not resolved"


_ROLES = {"kept": "good", "missed": "bad", "not resolved": "range"}


def _minus(words: str) -> str:
    return str(words).replace("-", "−")
