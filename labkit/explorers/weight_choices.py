"""Bits, granularity and layers of a trained network's weights: accuracy and bytes.

Nothing here is stored: `quantize_model` quantizes each layer, and at every position the network is
put together from such layers and reads all 1000 test digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.compare import Comparison
from labkit.data import load_mnist
from labkit.evaluate import Accuracy
from labkit.explorers.panel import Panel, bits_slider, choice, switch
from labkit.explorers.scene import (
    Axis,
    Band,
    Bars,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Text,
)
from labkit.quantize import quantize_model
from labkit.report import LayerReport
from labkit.zoo import MnistMLP, mnist_mlp

WIDTHS = range(2, 9)
LAYERS = ("fc1", "fc2", "fc3")
SCOPES = ("all", *LAYERS)
# The largest group that divides the rows of all three layers (784, 256 and 128 weights).
GROUP = 16
GRANULARITIES = {"tensor": "per tensor", "channel": "per channel", "group": f"per group of {GROUP}"}
_COLOURS = {"tensor": "code3", "channel": "code2", "group": "code5"}


@dataclass(frozen=True)
class State:
    """Bits (2 to 8), how many weights share a scale, which layers are quantized, zero point or not.

    >>> State().granularity
    'tensor'
    """

    bits: int = 8
    granularity: str = "tensor"
    layers: str = "all"
    zero_point: bool = False


@dataclass(frozen=True)
class Measured:
    """A quantized network: which digits it read correctly, its accuracy, what it takes to store.

    >>> measure(8).accuracy.n
    1000
    """

    correct: tuple[bool, ...]
    accuracy: Accuracy
    nbytes: int
    bits_per_weight: float

    @property
    def percent(self) -> float:
        """Accuracy in percent."""
        return 100 * self.accuracy.value


@cache
def measure(
    bits: int, granularity: str = "tensor", layers: str = "all", zero_point: bool = False
) -> Measured:
    """Quantize the weights of the trained 784-256-128-10 network and let it read the test digits.

    granularity: a key of GRANULARITIES; layers: "all", or the only one that is quantized. Without a
    zero point the codes are symmetric. ValueError for other names, and as `quantize_model`.

    >>> print(measure(2, "channel").accuracy)
    67.9 % [64.9, 70.7] of 1000 (measured)
    """
    if granularity not in GRANULARITIES or layers not in SCOPES:
        raise ValueError(
            f"got granularity {granularity!r} and layers {layers!r}; use one of "
            f"{', '.join(GRANULARITIES)} and one of {', '.join(SCOPES)}"
        )
    grid = (bits, granularity, zero_point)
    chosen = LAYERS if layers == "all" else (layers,)
    parts = {name: _quantized_layer(name, *grid) for name in chosen}
    correct = _read({name: part.weight for name, part in parts.items()}, grid)
    saved = sum(part.report.original_bytes - part.report.bytes for part in parts.values())
    stored = sum(part.report.code_bytes + part.report.scale_bytes for part in parts.values())
    return Measured(
        tuple(correct.tolist()),
        Accuracy.of(int(correct.sum()), len(correct)),
        in_float().nbytes - saved,
        8 * stored / sum(part.weight.numel() for part in parts.values()),
    )


@cache
def in_float() -> Measured:
    """The same network as it was trained, in 32-bit floats.

    >>> in_float().nbytes
    940584
    """
    correct = _read({}, None)
    nbytes = sum(p.numel() * p.element_size() for p in _network().parameters())
    accuracy = Accuracy.of(int(correct.sum()), len(correct))
    return Measured(tuple(correct.tolist()), accuracy, nbytes, 32.0)


def controls() -> dict[str, Any]:
    """Bits, granularity, layers, and whether a zero point is stored."""
    return {
        "bits": bits_slider(tooltip="How many bits each weight keeps"),
        "granularity": choice(
            "one scale",
            [(words, name) for name, words in GRANULARITIES.items()],
            tooltip="How many weights share one scale",
        ),
        "layers": choice(
            "quantized",
            [("all three layers", "all"), *((f"only {name}", name) for name in LAYERS)],
            tooltip="The other layers stay in float",
        ),
        "zero_point": switch("zero point", tooltip="An affine grid: all 2^b levels are used"),
    }


def scene(state: State) -> Scene:
    """Draw accuracy over bits for each granularity, and each layer quantized by itself.

    >>> scene(State(2)).readout("accuracy").value
    '15.9'
    """
    now = measure(state.bits, state.granularity, state.layers, state.zero_point)
    low, high = (f"{100 * end:.1f}" for end in (now.accuracy.low, now.accuracy.high))
    whole = in_float()
    which = "all three layers" if state.layers == "all" else f"only {state.layers}"
    return Scene(
        f"Weights in {state.bits} bits, {GRANULARITIES[state.granularity]}, {which}: "
        f"{now.accuracy.n} test digits",
        [[_over_bits(state), _by_layer(state)]],
        readouts=[
            Readout("accuracy", f"{now.percent:.1f}", "%", "measured", "quantized"),
            Readout("95 % interval", f"{low}–{high}", "%", "computed"),
            Readout("file", f"{now.nbytes / 1000:.1f}", "kB", "measured"),
            Readout("bits per weight", f"{now.bits_per_weight:.3f}", "", "measured"),
            Readout("in float", f"{whole.percent:.1f}", "%", "measured", "float"),
        ],
        formulas=[_formula(state), f"against float: {_against_float(now)}"],
        description=(
            "Left, accuracy over bits, a line for each granularity; right, the accuracy when only "
            "one layer is quantized."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(bits=2).state.bits
    2
    """
    # Both families of lines, once and now, so that no control has to wait for them.
    for grid in product(WIDTHS, GRANULARITIES, ["all"], [False, True]):
        measure(*grid)
    return Panel(State(**fields), controls(), scene)


@cache
def _network() -> MnistMLP:
    return mnist_mlp()


@cache
def _digits() -> tuple[Tensor, Tensor]:
    mnist = load_mnist()
    return mnist.test_images.flatten(1).double(), mnist.test_labels


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer's quantized weights as floats (out, in), and what the report says of it."""

    weight: Tensor
    report: LayerReport


@cache
def _quantized_layer(name: str, bits: int, granularity: str, zero_point: bool) -> _Layer:
    network, report = quantize_model(
        _network(),
        bits={name: bits},
        granularity=GROUP if granularity == "group" else granularity,
        symmetric=not zero_point,
    )
    mine = next(layer for layer in report.layers if layer.name == name)
    return _Layer(getattr(network, name).weight, mine)


def _read(weights: dict[str, Tensor], grid: tuple | None) -> Tensor:
    """Say which test digits a network reads correctly: (1000,) bool; layers not given are float."""
    x = _after_fc1(grid if "fc1" in weights else None)
    for name in LAYERS[1:]:
        x = _through(name, x.relu(), weights.get(name))
    return x.argmax(dim=1) == _digits()[1]


@cache
def _after_fc1(grid: tuple | None) -> Tensor:
    """(1000, 256): what fc1 makes of the digits, most of the work, on a grid or in float."""
    return _through("fc1", _digits()[0], grid and _quantized_layer("fc1", *grid).weight)


def _through(name: str, x: Tensor, weight: Tensor | None) -> Tensor:
    """Apply a layer with its own weight or another one.

    In double precision, so that a near tie between two digits falls alike on every machine.
    """
    layer = getattr(_network(), name)
    with torch.no_grad():
        weight = layer.weight if weight is None else weight
        return F.linear(x, weight.double(), layer.bias.double())


def _against_float(now: Measured) -> Comparison:
    """Compare on the same digits: smaller differences show than the two intervals suggest."""
    pairs = list(zip(in_float().correct, now.correct, strict=True))
    return Comparison.of(pairs.count((True, False)), pairs.count((False, True)), len(pairs))


def _formula(state: State) -> str:
    top = 2 ** (state.bits - 1) - 1
    shared = {
        "tensor": "over the whole layer",
        "channel": "over the weights of one neuron",
        "group": f"over {GROUP} neighbouring weights",
    }[state.granularity]
    if state.zero_point:
        return f"s = (max w − min w) / {2**state.bits - 1}, max and min {shared}"
    return f"s = max |w| / {top}, the maximum {shared}; codes −{top} … {top}"


def _over_bits(state: State) -> Plot:
    marks: list[Mark] = [*_float_line()]
    for name, words in GRANULARITIES.items():
        row = [measure(bits, name, state.layers, state.zero_point) for bits in WIDTHS]
        y = [now.percent for now in row]
        mine = name == state.granularity
        tips = [
            f"{bits} bits {words}\n{now.accuracy}\n{now.nbytes:,} bytes"
            for bits, now in zip(WIDTHS, row, strict=True)
        ]
        marks.append(Line(WIDTHS, y, _COLOURS[name], words, 3 if mine else 1.5))
        marks.append(Points(WIDTHS, y, _COLOURS[name], size=4 if mine else 3, tips=tips))
    now = measure(state.bits, state.granularity, state.layers, state.zero_point)
    marks += _interval(state.bits, now)
    marks.append(Points([state.bits], [now.percent], "quantized", size=7))
    x = Axis("bits per weight", 1.7, 8.3, ticks=list(WIDTHS))
    return Plot(marks, x, _PERCENT, height=300, weight=1.5)


def _by_layer(state: State) -> Plot:
    marks: list[Mark] = [*_float_line()]
    for at, scope in enumerate((*LAYERS, "all")):
        now = measure(state.bits, state.granularity, scope, state.zero_point)
        mine = scope == state.layers
        tips = [f"{scope}\n{now.accuracy}"]
        marks.append(Bars([at], [now.percent], 0.6, "quantized" if mine else "range", tips=tips))
        marks += _interval(at, now)
        marks.append(Text(at, 0, f"{now.percent:.1f}", bold=mine, dy=-8))
    x = Axis("the only layer quantized", -0.6, 3.6, ticks=range(4), labels=(*LAYERS, "all three"))
    return Plot(marks, x, _PERCENT, height=300)


_PERCENT = Axis("accuracy", 0, 104, unit="%", ticks=(0, 20, 40, 60, 80, 100))


def _float_line() -> list[Mark]:
    whole = in_float()
    ends = 100 * whole.accuracy.low, 100 * whole.accuracy.high
    return [
        Band(*ends, role="float", axis="y"),
        Rule(whole.percent, role="float", axis="y"),
    ]


def _interval(at: float, now: Measured) -> list[Mark]:
    ends = [100 * now.accuracy.low, 100 * now.accuracy.high]
    return [Line([at, at], ends, "ink", width=2.5)]
