"""From a 32-bit accumulator to an 8-bit code, bit by bit: multiply, cut off, shift, add, clamp."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

from labkit.affine import QParams
from labkit.explorers.integer_net import grouped, stages
from labkit.explorers.neuron import pattern
from labkit.explorers.panel import Panel, int_slider
from labkit.explorers.scene import Axis, Band, Cells, Mark, Plot, Points, Readout, Rule, Scene, Text
from labkit.fixed_point import FRACTION_BITS, multiplier_value
from labkit.integer_steps import Requantization, trace_requantization
from labkit.requantize import output_multiplier

LOW, HIGH = -100_000, 500_000
BITS = 64


@dataclass(frozen=True)
class State:
    """The accumulator, the neuron whose multiplier brings it down, and the output's zero point.

    >>> State().zero_point
    0
    """

    accumulator: int = 399_549
    neuron: int = 130
    zero_point: int = 0


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['accumulator', 'neuron', 'zero_point']
    """
    return {
        "accumulator": int_slider("accumulator", LOW, HIGH, tooltip="The sum, with its bias"),
        "neuron": int_slider("multiplier of neuron", 0, 255, tooltip="Each has its own"),
        "zero_point": int_slider(
            "zero point z_y", 0, 255, tooltip="After ReLU it is 0; elsewhere it is not"
        ),
    }


@cache
def multipliers() -> tuple[float, ...]:
    """Return m = s_x s_w / s_y of the 256 neurons of fc1.

    >>> len(multipliers())
    256
    """
    first = stages()[0]
    return tuple(output_multiplier(first.x_qparams, first.w_qparams, first.y_qparams).tolist())


def grid(state: State) -> QParams:
    """Return the output's grid: the real scale, the chosen zero point.

    >>> grid(State(zero_point=7)).quant_max
    255
    """
    real = stages()[0].y_qparams
    return QParams(real.scale, state.zero_point, real.quant_min, real.quant_max)


def trace(state: State, requantize: str = "fixed_point") -> Requantization:
    """Return every number on the way down, as TensorFlow Lite or as ONNX computes it.

    >>> trace(State(accumulator=0)).code
    0
    """
    return trace_requantization(
        state.accumulator, multipliers()[state.neuron], grid(state), requantize
    )


def scene(state: State) -> Scene:
    """Draw the bits of every number on the way down, and where the value lies between two codes.

    >>> scene(State(zero_point=9, accumulator=0)).readout("code").value
    9
    """
    steps, onnx = trace(state), trace(state, "float")
    exact = state.accumulator * multiplier_value(steps.multiplier, steps.shift)
    right = -steps.shift
    return Scene(
        f"From the accumulator {grouped(state.accumulator)} to the code {steps.code}",
        [_bits(steps, right), _between(steps, onnx, exact, right)],
        readouts=[
            Readout("code", steps.code, "", "computed", "quantized"),
            Readout("accumulator × m", float(exact), "", "computed", "float", 7),
            Readout("rounded twice", steps.steps, "", "computed"),
            Readout("the code in ONNX", onnx.code, "", "computed", "code3"),
        ],
        formulas=[
            f"m = s_x s_w / s_y = {multipliers()[state.neuron]:.10f} ≈ {steps.multiplier:,} / 2^31 "
            f"× 2^−{right}",
            f"{grouped(steps.accumulator)} × {steps.multiplier:,} = {grouped(steps.product)}",
            f"round(… / 2^31) = {grouped(steps.high)}    round(… / 2^{right}) = "
            f"{grouped(steps.steps)}    + z_y = {grouped(steps.unclamped)}    clamp: {steps.code}",
        ],
        description="Rows of bits: accumulator, multiplier, product with the bits that are cut "
        "off, the code; below, the exact value between two neighbouring codes.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(zero_point=9).state.zero_point
    9
    """
    return Panel(State(**fields), controls(), scene)


def disagreeing(neuron: int, start: int, stop: int) -> list[int]:
    """Return the accumulators in a range that the two roundings bring to different codes.

    >>> disagreeing(130, 0, 100)
    []
    """
    states = (State(accumulator, neuron) for accumulator in range(start, stop))
    return [s.accumulator for s in states if trace(s).code != trace(replace(s), "float").code]


def _bits(steps: Requantization, right: int) -> Plot:
    """Four rows of bits in the product's 64 columns: a column keeps its worth from row to row."""
    point = BITS - FRACTION_BITS
    marks: list[Mark] = [Band(point, BITS, "", "range"), Band(point - right, point, "", "code2")]
    rows = (
        (3.6, point - 32, pattern(steps.accumulator), "accumulator", ["float"] * 32),
        (2.4, point, pattern(steps.multiplier, 31), "multiplier", ["code3"] * 31),
        (
            1.2,
            0,
            pattern(steps.product, BITS),
            "product",
            ["quantized"] * (point - right) + ["code2"] * right + ["range"] * FRACTION_BITS,
        ),
        (
            0.0,
            point - right - 8,
            pattern(steps.code, 8),
            "code",
            ["quantized"] * 8,
        ),
    )
    for y, first, digits, name, roles in rows:
        at = [first + i for i in range(len(digits))]
        tips = [f"{name}: bit {len(digits) - 1 - i}" for i in range(len(digits))]
        marks.append(Cells(at, [y] * len(at), list(digits), roles, 1, 0.95, 10, True, tips))
        marks.append(Text(-1, y + 0.3, name, "ink", "end", 12))
    marks += [
        Text((point + BITS) / 2, 0.35, "cut off first: / 2^31", "muted", size=12),
        Text(point - right / 2, 0.35, f"then / 2^{right}", "code2", size=12),
    ]
    return Plot(
        marks,
        Axis("bit", -9, BITS, show=False),
        Axis("row", -0.1, 4.7, show=False),
        title="Bits (two's complement): the product, what is cut off from it, and what is left",
        height=200,
        grid="none",
    )


def _between(steps: Requantization, onnx: Requantization, exact: Fraction, right: int) -> Plot:
    """The way from one code to the next, and where the three values lie on it."""
    below = exact.numerator // exact.denominator
    once = Fraction(steps.high, 2**right)
    middle = float(below) + 0.5
    marks: list[Mark] = [
        Rule(below, str(below), "quantized", dashed=False),
        Rule(below + 1, str(below + 1), "quantized", dashed=False),
        Rule(middle, "the middle", "range"),
        Points([float(exact)], [2], "float", size=6, tips=[f"exactly {float(exact):.9f}"]),
        Points([float(once)], [1], "code2", size=6, tips=[f"{steps.high} / 2^{right}"]),
        Points([steps.steps], [0], "quantized", size=7, tips=["rounded again"]),
    ]
    for y, words in ((2, "exact product"), (1, "rounded once, / 2^31"), (0, "rounded twice")):
        marks.append(Text(below - 0.14, y, words, "ink", "end", 12, dy=4))
    return Plot(
        marks,
        Axis("accumulator × m, in codes before z_y", below - 0.5, below + 1.1,
             ticks=[below + i / 4 for i in range(5)]),
        Axis("", -0.6, 2.6, show=False),
        height=180,
        grid="none",
    )  # fmt: skip
