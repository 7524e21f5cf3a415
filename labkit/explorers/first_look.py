"""A trained network at 2 to 32 bits a weight: its answers on real digits, accuracy and bytes.

Nothing here is stored: at every position the weights are quantized and the network reads all 1000
test digits.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from labkit.affine import choose_qparams, dequantize, quantize
from labkit.data import load_mnist
from labkit.evaluate import Accuracy
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.scene import (
    Axis,
    Cells,
    Image,
    Line,
    Mark,
    Plot,
    Points,
    Readout,
    Rule,
    Scene,
    Text,
)
from labkit.packing import packed_bytes
from labkit.zoo import mnist_mlp

FLOAT_BITS = 32
WIDTHS = (2, 3, 4, 5, 6, 7, 8)
GRANULARITIES = {"tensor": "one scale per layer", "channel": "one scale per neuron"}
# The float network stands a little apart on the axis of bit widths.
_FLOAT_AT = 9.3
_ROWS = 6


@dataclass(frozen=True)
class State:
    """What the learner chooses: bits a weight (2 to 8, or 32 for float) and where scales belong.

    >>> State().bits
    32
    """

    bits: int = FLOAT_BITS
    granularity: str = "tensor"


@dataclass(frozen=True)
class Measured:
    """One network, measured: answers to the 1000 test digits, accuracy, bytes to store.

    >>> Measured((7,), Accuracy.of(1, 1), 100).nbytes
    100
    """

    answers: tuple[int, ...]
    accuracy: Accuracy
    nbytes: int
    scales: int = 0


@cache
def measure(bits: int, granularity: str = "tensor") -> Measured:
    """Quantize the weights of the trained 784-256-128-10 network and let it read the test digits.

    `bits` is 2 to 8, symmetric signed codes, or 32 for the weights as they are. `granularity` is
    "tensor" (one scale a layer) or "channel" (one scale a neuron, axis 0). The bytes are those of
    tightly packed codes, float32 scales and float32 biases; symmetric codes need no zero point.
    ValueError for another `granularity`, and for other bits as `labkit.affine.choose_qparams`.

    >>> print(measure(32).accuracy, measure(32).nbytes)
    93.4 % [91.7, 94.8] of 1000 (measured) 940584
    """
    if granularity not in GRANULARITIES:
        raise ValueError(f"got granularity {granularity!r}; use one of {', '.join(GRANULARITIES)}")
    net, nbytes, scales = deepcopy(_network()), 0, 0
    for layer in (net.fc1, net.fc2, net.fc3):
        weights, stored, count = _stored(layer.weight.detach(), bits, granularity)
        layer.weight = nn.Parameter(weights, requires_grad=False)
        nbytes += stored + layer.bias.numel() * layer.bias.element_size()
        scales += count
    images, labels = _digits()
    # In double precision, so that a near tie between two digits falls alike on every machine.
    with torch.no_grad():
        answers = net.double()(images).argmax(dim=1)
    accuracy = Accuracy.of(int((answers == labels).sum()), len(labels))
    return Measured(tuple(answers.tolist()), accuracy, nbytes, scales)


def controls() -> dict[str, Any]:
    """A slider over bit widths, and one scale per layer or per neuron."""
    widths = [*((str(bits), bits) for bits in WIDTHS), ("32 (float)", FLOAT_BITS)]
    shown = [(f"{GRANULARITIES[name]} (per {name})", name) for name in GRANULARITIES]
    return {
        "bits": steps_slider("bits per weight", widths, tooltip="How many bits each weight keeps"),
        "granularity": choice("scales", shown, tooltip="How many weights share one scale"),
    }


def scene(state: State) -> Scene:
    """Six test digits of each kind with the network's answers, and accuracy over bits."""
    now = measure(state.bits, state.granularity)
    whole = measure(FLOAT_BITS).nbytes
    percent = [f"{100 * part:.1f}" for part in (now.accuracy.low, now.accuracy.high)]
    is_float = state.bits == FLOAT_BITS
    correct, role = f"{100 * now.accuracy.value:.1f}", "float" if is_float else "quantized"
    shared = f"{state.bits} bits each, {GRANULARITIES[state.granularity]}"
    return Scene(
        f"A trained network: {_counts()[0]:,} weights, {'32-bit floats' if is_float else shared}",
        [[_wall(now), _curve(state, now)]],
        readouts=[
            Readout("digits read correctly", correct, "%", "measured", role),
            Readout(
                f"95 % interval, n = {now.accuracy.n}",
                f"{percent[0]} – {percent[1]}",
                "%",
                "measured",
            ),
            Readout("size", now.nbytes, "bytes", "computed"),
            Readout("compression", f"{whole / now.nbytes:.2f}", "×", "computed"),
        ],
        formulas=[_bytes(state, now)],
        description="Test digits, each with the digit the network reads, and accuracy over bits.",
    )


def explorer(**fields: Any) -> Panel:
    """The panel; `fields` are those of `State`.

    >>> print(explorer(bits=2).words().splitlines()[2])
    digits read correctly: 15.9 % (measured)
    """
    return Panel(State(**fields), controls(), scene, limits=_limits)


def _limits(state: State) -> dict[str, dict[str, Any]]:
    # A float has no scale, so there is nothing to choose.
    return {"granularity": {"disabled": state.bits == FLOAT_BITS}}


def _stored(weight: Tensor, bits: int, granularity: str) -> tuple[Tensor, int, int]:
    """The weights that come back from storage, the bytes they took, and how many scales."""
    if bits == FLOAT_BITS:
        return weight, weight.numel() * weight.element_size(), 0
    axis = 0 if granularity == "channel" else None
    qparams = choose_qparams(weight, bits=bits, symmetric=True, signed=True, axis=axis)
    codes = quantize(weight, qparams)
    scales = qparams.scale
    nbytes = packed_bytes(codes.numel(), bits) + scales.numel() * scales.element_size()
    return dequantize(codes, qparams), nbytes, scales.numel()


@cache
def _network() -> nn.Module:
    return mnist_mlp()


@cache
def _digits() -> tuple[Tensor, Tensor]:
    mnist = load_mnist()
    return mnist.test_images.double(), mnist.test_labels


@cache
def _shown() -> tuple[int, ...]:
    """Six test digits of each kind, evenly spread over the 100 there are; row after row."""
    _, labels = _digits()
    places = [torch.nonzero(labels == digit).flatten() for digit in range(10)]
    step = len(places[0]) // _ROWS
    return tuple(int(places[digit][row * step]) for row in range(_ROWS) for digit in range(10))


@cache
def _pictures() -> tuple[Image, ...]:
    images, _ = _digits()
    found = []
    for place, index in enumerate(_shown()):
        x, y = place % 10, _ROWS - 1 - place // 10
        found.append(Image(images[index, 0], x + 0.06, x + 0.94, y + 0.32, y + 0.96))
    return tuple(found)


def _wall(now: Measured) -> Plot:
    labels = _digits()[1].tolist()
    marks: list[Mark] = []
    right = [now.answers[index] == labels[index] for index in _shown()]
    for good, role in ((True, "good"), (False, "bad")):
        places = [place for place, is_right in enumerate(right) if is_right == good]
        if not places:
            continue
        x = [place % 10 for place in places]
        y = [_ROWS - 1 - place // 10 for place in places]
        answers = [now.answers[_shown()[place]] for place in places]
        said = [str(answer) if good else f"✗ {answer}" for answer in answers]
        tips = [_tip(_shown()[place], labels, now) for place in places]
        marks.append(Cells(x, y, roles=role, strong=not good, tips=tips))
        # Not strong as well: two strong fills, one on the other, would swallow the words.
        marks.append(Cells(x, y, said, role, height=0.3, size=13))
    marks.extend(_pictures())
    marks.extend(Text(d + 0.5, _ROWS + 0.12, str(d), "muted", bold=True) for d in range(10))
    title = f"{sum(right)} of these {len(right)} are read correctly (true digit above)"
    x, y = Axis("", 0, 10, show=False), Axis("", 0, _ROWS + 0.35, show=False)
    return Plot(marks, x, y, title=title, height=452, weight=1.75, grid="none")


def _tip(index: int, labels: list[int], now: Measured) -> str:
    before = measure(FLOAT_BITS).answers[index]
    return (
        f"test digit {index}: really {labels[index]}\n"
        f"read as {now.answers[index]}; as {before} with 32-bit weights"
    )


def _curve(state: State, now: Measured) -> Plot:
    is_float = state.bits == FLOAT_BITS
    at, role = (_FLOAT_AT, "float") if is_float else (state.bits, "quantized")
    interval = [100 * now.accuracy.low, 100 * now.accuracy.high]
    whole = 100 * measure(FLOAT_BITS).accuracy.value
    marks: list[Mark] = [Rule(10, "guessing", axis="y")]
    for name in _compared(state):
        marks.extend(_reached(state, name))
    tips = [f"as trained\n{measure(FLOAT_BITS).accuracy}"]
    marks.append(Points([_FLOAT_AT], [whole], "float", size=5, tips=tips))
    marks.append(Line([at, at], interval, role, width=3))
    marks.append(Points([at], [100 * now.accuracy.value], role, size=9))
    ticks = (*map(str, WIDTHS), str(FLOAT_BITS))
    x = Axis("bits per weight", 1.6, 9.8, ticks=(*WIDTHS, _FLOAT_AT), labels=ticks)
    y = Axis("accuracy on 1000 test digits", 0, 100, unit="%", ticks=range(0, 101, 20))
    return Plot(marks, x, y, height=452)


def _compared(state: State) -> list[str]:
    """Whose curves are drawn, the chosen one last: on top.

    One scale per layer comes first in the story, so that it is alone until the learner switches.
    """
    return ["tensor"] if state.granularity == "tensor" else ["tensor", state.granularity]


def _reached(state: State, name: str) -> list[Mark]:
    """One curve down to the chosen bits and no further: what comes next is for the learner."""
    widths = [bits for bits in WIDTHS if bits >= state.bits]
    if not widths:
        return []
    chosen, words = name == state.granularity, GRANULARITIES[name]
    colour = "quantized" if chosen else "range"
    percent = [100 * measure(bits, name).accuracy.value for bits in widths]
    tips = [f"{bits} bits, {words}\n{measure(bits, name).accuracy}" for bits in widths]
    marks: list[Mark] = [
        Line(widths, percent, colour, width=2.5 if chosen else 1.5),
        Points(widths, percent, colour, size=4 if chosen else 3, tips=tips),
    ]
    # Further right the curves are too close for two names; the title names the chosen one.
    if widths[0] == WIDTHS[0]:
        marks.append(Text(2.5, percent[0], words, colour, "start", bold=chosen, dy=5))
    return marks


@cache
def _counts() -> tuple[int, int]:
    """How many weights and how many biases the network has."""
    sizes = {name: values.numel() for name, values in _network().named_parameters()}
    weights = sum(size for name, size in sizes.items() if name.endswith("weight"))
    return weights, sum(sizes.values()) - weights


def _bytes(state: State, now: Measured) -> str:
    """Say of which parts the bytes consist."""
    weights, biases = _counts()
    rest = f"{now.scales} scales × 4 + {biases} biases × 4"
    codes = f"{weights:,} codes × {state.bits} bits ÷ 8 + {rest}"
    floats = f"{weights:,} weights × 4 + {biases} biases × 4"
    return f"{now.nbytes:,} bytes = {floats if state.bits == FLOAT_BITS else codes}"
