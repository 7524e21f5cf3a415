"""One layer of n inputs and n outputs, float and quantized: when is fewer bits faster?

Three things take time: the call itself, reading the weights, and the arithmetic. Measured on this
machine by ONNX Runtime, 8 bits as a dynamic layer, 4 bits as a weight-only one; times stand in the
picture only, no test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from labkit.engines import engines
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.scene import Axis, Band, Bars, Line, Mark, Plot, Points, Readout, Rule, Scene
from labkit.latency import LatencyReport, measure_latency
from labkit.quantize import quantize_model

SIZES = (16, 64, 256, 512, 1024, 2048)
BATCHES = (1, 32)
KINDS = {"float": "float", "dynamic": "8 bits", "weight_only": "4 bits"}
BITS = {"float": 32, "dynamic": 8, "weight_only": 4}
_ROLES = {"float": "float", "dynamic": "quantized", "weight_only": "code3"}
_ROUNDS = {False: 20, True: 7}


@dataclass(frozen=True)
class State:
    """Inputs (and outputs) of the layer, rows in one call, caches warm or emptied.

    >>> State().size
    64
    """

    size: int = 64
    batch: int = 1
    cold: bool = False


@cache
def times(batch: int, cold: bool) -> LatencyReport:
    """Measure every size and kind in one run, named "float 16" and so on; done once.

    >>> len(times(1, False).rows)
    18
    """
    candidates = {}
    for name, engine in _engines().items():
        x = torch.rand(batch, int(name.split()[1]), generator=torch.Generator().manual_seed(0))
        candidates[name] = lambda engine=engine, x=x: engine(x)
    return measure_latency(candidates, rounds=_ROUNDS[cold], cold=cold)


def weight_bytes(size: int, kind: str) -> int:
    """Return the bytes of the layer's weight codes.

    >>> weight_bytes(2048, "dynamic")
    4194304
    """
    return size * size * BITS[kind] // 8


def controls() -> dict:
    """Return the panel's controls.

    >>> list(controls())
    ['size', 'batch', 'cold']
    """
    return {
        "size": steps_slider("inputs and outputs", SIZES, tooltip="The layer is n × n"),
        "batch": choice("rows in a call", [(str(n), n) for n in BATCHES]),
        "cold": choice(
            "weights before a call",
            [("in the cache (hot)", False), ("in main memory (cold)", True)],
        ),
    }


def scene(state: State) -> Scene:
    """Draw time against size, and the ratio to float at the chosen size.

    >>> scene(State(2048)).readout("weights in float").value
    '16,777,216'
    """
    size = state.size
    report = times(state.batch, state.cold)
    products = state.batch * size * size
    return Scene(
        f"A layer {size} → {size}, {state.batch} row{'s' if state.batch > 1 else ''} a call",
        [[_curves(state, report), _ratios(state, report)]],
        readouts=[
            Readout("products in a call", f"{products:,}", "", "computed"),
            Readout("weights in float", f"{weight_bytes(size, 'float'):,}", "bytes", role="float"),
            Readout("in 8 bits", f"{weight_bytes(size, 'dynamic'):,}", "bytes", role="quantized"),
            Readout("in 4 bits", f"{weight_bytes(size, 'weight_only'):,}", "bytes", role="code3"),
        ],
        formulas=[
            "time ≈ the call itself + max(bytes ÷ bandwidth, products ÷ speed of arithmetic)"
        ],
        description="Time of one layer against its size for three kinds, and their ratios.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(size=256).state.size
    256
    """
    return Panel(State(**fields), controls(), scene, slow=True)


@cache
def _engines() -> dict:
    models = {}
    for size in SIZES:
        with torch.random.fork_rng():
            torch.manual_seed(size)
            layer, x = nn.Linear(size, size), torch.zeros(2, size)
        models[f"float {size}"] = (layer, x)
        models[f"dynamic {size}"] = (quantize_model(layer, "dynamic", bits=8)[0], x)
        models[f"weight_only {size}"] = (quantize_model(layer, bits=4)[0], x)
    return engines(models)


def _curves(state: State, report: LatencyReport) -> Plot:
    marks: list[Mark] = [Band(state.size / 2**0.5, state.size * 2**0.5)]
    for kind, words in KINDS.items():
        y = [1e6 * report[f"{kind} {size}"].median for size in SIZES]
        tips = [
            f"{words}, {size} × {size}\n{time:.3g} µs" for size, time in zip(SIZES, y, strict=True)
        ]
        marks.append(Line(SIZES, y, _ROLES[kind], words))
        marks.append(Points(SIZES, y, _ROLES[kind], size=3.5, tips=tips))
    x = Axis("inputs = outputs", 11, 3000, scale="log", ticks=SIZES, labels=SIZES)
    y = Axis("time of a call, measured here", 3, 20_000, unit="µs", scale="log")
    return Plot(marks, x, y, height=330, weight=1.7, grid="both")


def _ratios(state: State, report: LatencyReport) -> Plot:
    marks: list[Mark] = [Rule(1, axis="y", role="float")]
    for i, kind in enumerate(("dynamic", "weight_only")):
        row = report.compare(f"{kind} {state.size}", f"float {state.size}")
        height = min(row.ratio, 3.0)
        tip = f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})\n{row.verdict}"
        marks.append(Bars([i], [height], 0.6, _ROLES[kind], tips=[tip]))
        ends = [min(end, 3.0) for end in (row.ratio_low, row.ratio_high)]
        marks.append(Line([i, i], ends, "ink", width=2))
    x = Axis("", -0.6, 1.6, ticks=(0, 1), labels=("8 bits", "4 bits"))
    return Plot(marks, x, Axis("time, float = 1", 0, 3), "at this size; above 1: slower", 330)
