"""Weight-only, dynamic and static side by side: size, quality and measured time of one network.

Sizes are counted, quality is measured on the 1000 test images, time is measured on this machine by
ONNX Runtime when the panel is made. Times stand in the picture only: no test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from labkit.data import Mnist, load_mnist
from labkit.engines import engines
from labkit.evaluate import Accuracy, accuracy
from labkit.explorers.computed_when import CALIBRATION, METHODS
from labkit.explorers.panel import Panel, bits_slider, choice
from labkit.explorers.scene import Axis, Bars, Line, Mark, Plot, Points, Readout, Rule, Scene, Text
from labkit.latency import LatencyReport, measure_latency
from labkit.onnx_parts import STORED_BITS, stored_bits
from labkit.quantize import quantize_model
from labkit.zoo import mnist_mlp

BATCHES = (1, 32)
NAMES = ("float", *METHODS)
_LABELS = ("float", *METHODS.values())
_ROUNDS = 25
_SLOWEST = 1.6


@dataclass(frozen=True)
class State:
    """Bits of a weight (activations have 8) and images in one call.

    >>> State().bits
    8
    """

    bits: int = 8
    batch: int = 1


@dataclass(frozen=True)
class Method:
    """Bytes and quality of one method at one width.

    >>> method("float", 8).nbytes
    940584
    """

    nbytes: int
    quality: Accuracy


@cache
def method(name: str, bits: int) -> Method:
    """Quantize the network and measure it; done once. "float" is the network itself.

    >>> method("static", 4).nbytes < method("static", 8).nbytes
    True
    """
    net, mnist = mnist_mlp(), _mnist()
    if name == "float":
        nbytes = sum(4 * p.numel() for p in net.parameters())
        return Method(nbytes, accuracy(net, mnist.test_images, mnist.test_labels))
    data = mnist.train_images[:CALIBRATION] if name == "static" else None
    quantized, report = quantize_model(net, name, bits=bits, calibration_data=data)
    return Method(report.quantized_bytes, accuracy(quantized, mnist.test_images, mnist.test_labels))


@cache
def times(batch: int) -> LatencyReport:
    """Measure float torch and every engine in one run, one thread, hot; done once.

    Candidates: "float" (torch), "static", "dynamic", and "weight_only 2", "… 4", "… 8".

    >>> times(1)["float"].ratio
    1.0
    """
    x = _mnist().test_images[:batch]
    network = mnist_mlp()
    candidates = {"float": lambda: network(x)}
    for name, engine in _engines().items():
        candidates[name] = lambda engine=engine: engine(x)
    return measure_latency(candidates, rounds=_ROUNDS)


def timed_as(name: str, bits: int) -> str:
    """Return which candidate of `times` runs this method at this width.

    Static and dynamic layers multiply bytes, whatever the width of the codes in them.

    >>> timed_as("weight_only", 3), timed_as("static", 3)
    ('weight_only 4', 'static')
    """
    return f"weight_only {stored_bits(bits)}" if name == "weight_only" else name


def controls() -> dict:
    """Return the panel's controls.

    >>> list(controls())
    ['bits', 'batch']
    """
    return {
        "bits": bits_slider("bits of a weight"),
        "batch": choice("images in a call", [(str(n), n) for n in BATCHES]),
    }


def scene(state: State) -> Scene:
    """Draw size, quality and time of the four.

    >>> scene(State(4)).readout("static").value
    '120,552'
    """
    found = {name: method(name, state.bits) for name in NAMES}
    readouts = [
        Readout("float", f"{found['float'].nbytes:,}", "bytes", "measured", "float"),
        *(
            Readout(words, f"{found[name].nbytes:,}", "bytes", "measured", "quantized")
            for name, words in METHODS.items()
        ),
    ]
    qualities = [
        f"{words}: {found[name].quality}" for name, words in zip(NAMES, _LABELS, strict=True)
    ]
    return Scene(
        f"784-256-128-10 with {state.bits}-bit weights: three methods side by side",
        [[_sizes(found), _qualities(found), _times(state)]],
        readouts=readouts,
        formulas=qualities,
        description="Bars of bytes, accuracy with intervals, and time per call, of four networks.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; fields of `State` set where it starts.

    >>> explorer(bits=4).state.bits
    4
    """
    return Panel(State(**fields), controls(), scene)


@cache
def _mnist() -> Mnist:
    return load_mnist()


@cache
def _engines() -> dict:
    """Every engine that is timed, from one trace; the weights are not what is measured."""
    net, images = mnist_mlp(), _mnist().train_images[:CALIBRATION]
    example = images[:2]
    static, _ = quantize_model(net, "static", calibration_data=images)
    dynamic, _ = quantize_model(net, "dynamic")
    models = {"static": (static, example), "dynamic": (dynamic, example)}
    for bits in STORED_BITS:
        models[f"weight_only {bits}"] = (quantize_model(net, bits=bits)[0], example)
    return engines(models)


def _axis() -> Axis:
    return Axis("", -0.6, 3.6, ticks=range(4), labels=("float", "weight", "dyn.", "static"))


def _bars(heights: list[float], words: list[str], tips: list[str], tall: float) -> list[Mark]:
    marks: list[Mark] = [
        Bars([0], heights[:1], 0.7, "float", tips=tips[:1]),
        Bars([1, 2, 3], heights[1:], 0.7, "quantized", tips=tips[1:]),
    ]
    return marks + [
        Text(i, min(height, tall), text, bold=True, size=12, dy=-7)
        for i, (height, text) in enumerate(zip(heights, words, strict=True))
    ]


def _sizes(found: dict[str, Method]) -> Plot:
    kilobytes = [found[name].nbytes / 1000 for name in NAMES]
    words = [f"{size:.0f}" for size in kilobytes]
    tips = [f"{found[name].nbytes:,} bytes" for name in NAMES]
    marks = _bars(kilobytes, words, tips, 1000)
    return Plot(marks, _axis(), Axis("size", 0, 1050, unit="kB"), "stored, everything counted", 300)


def _qualities(found: dict[str, Method]) -> Plot:
    marks: list[Mark] = []
    for i, name in enumerate(NAMES):
        role, now = "float" if i == 0 else "quantized", found[name].quality
        marks.append(Line([i, i], [100 * now.low, 100 * now.high], role, width=3))
        marks.append(Points([i], [100 * now.value], role, size=6, tips=[str(now)]))
        marks.append(Text(i, 100 * now.high, f"{100 * now.value:.1f}", bold=True, size=12, dy=-8))
    y = Axis("right answers, 95 % interval", 60, 102, unit="%")
    return Plot(marks, _axis(), y, "quality on 1000 test images", 300)


def _times(state: State) -> Plot:
    report = times(state.batch)
    rows = [report[timed_as(name, state.bits)] for name in NAMES]
    ratios = [min(row.ratio, _SLOWEST) for row in rows]
    words = [f"{1e6 * row.median:.0f} µs" for row in rows]
    tips = [
        f"{row.name}: {1e6 * row.median:.1f} µs a call\nratio {row.ratio:.2f} "
        f"({row.ratio_low:.2f} to {row.ratio_high:.2f})"
        for row in rows
    ]
    marks = [*_bars(ratios, words, tips, _SLOWEST), Rule(1, axis="y", role="float")]
    y = Axis("time, float torch = 1", 0, _SLOWEST + 0.15)
    return Plot(marks, _axis(), y, "measured here, one thread", 300)
