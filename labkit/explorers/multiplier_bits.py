"""How many bits the multiplier needs: its error, the codes it changes, the digits it misreads."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor

from labkit.evaluate import Accuracy
from labkit.explorers.integer_net import (
    first_terms,
    graded,
    image_codes,
    quality_readouts,
    stages,
)
from labkit.explorers.panel import Panel, int_slider
from labkit.explorers.requantizing import multipliers
from labkit.explorers.scene import Axis, Cells, Line, Mark, Plot, Points, Readout, Scene
from labkit.fixed_point import FRACTION_BITS, apply_multiplier, quantize_multipliers
from labkit.requantize import accumulator_scale, output_multiplier

WIDTHS = range(1, FRACTION_BITS + 1)
SMALLEST = 1e-11


@dataclass(frozen=True)
class State:
    """Bits of the multiplier, and the neuron whose multiplier is shown.

    >>> State().bits
    8
    """

    bits: int = 8
    neuron: int = 130


@dataclass(frozen=True)
class Effect:
    """What a multiplier of so many bits does to the whole network on 1000 digits."""

    differ: int  # codes of fc1, of `codes`, that are not those of 31 bits
    codes: int
    quality: Accuracy


def controls() -> dict:
    """One control for each field of the state.

    >>> list(controls())
    ['bits', 'neuron']
    """
    return {
        "bits": int_slider(
            "bits of the multiplier", 1, FRACTION_BITS, tooltip="In real engines: 31"
        ),
        "neuron": int_slider("neuron", 0, 255, tooltip="Each has its own multiplier"),
    }


def shortened(multiplier: Tensor, shift: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round multipliers to their top `bits` bits; returns (multiplier, shift) again.

    >>> shortened(torch.tensor(0b1011 << 27), torch.tensor(0), 3)
    (tensor(1610612736), tensor(0))
    """
    step = 2 ** (FRACTION_BITS - bits)
    rounded = (multiplier + step // 2) // step * step
    # Rounded up to 2^31, which needs one bit more than there is.
    over = rounded == 2**FRACTION_BITS
    return torch.where(over, rounded // 2, rounded), shift + over.long()


@cache
def effect(bits: int) -> Effect:
    """Return what multipliers of `bits` bits do in all layers.

    >>> effect(31).differ
    0
    """
    codes, first = image_codes(), None
    *hidden, last = stages()
    for stage in hidden:
        m = output_multiplier(stage.x_qparams, stage.w_qparams, stage.y_qparams)
        # The first layer's sums are the same for every width.
        plain = first_terms().total if first is None else stage.accumulators(codes)
        sums = (plain + stage.bias).clamp(min=0)
        steps = apply_multiplier(sums, *shortened(*quantize_multipliers(m), bits))
        codes = (steps + stage.y_qparams.zero_point).clamp(0, stage.y_qparams.quant_max)
        first = codes if first is None else first
    scores = last(codes) * accumulator_scale(last.x_qparams, last.w_qparams)
    right = _first_codes()
    return Effect(int((first != right).sum()), right.numel(), graded(scores))


@cache
def _first_codes() -> Tensor:
    return stages()[0](image_codes()).long()


def relative_error(bits: int, neuron: int) -> float:
    """Return |stored multiplier - m| / m of one neuron.

    >>> relative_error(1, 130) > relative_error(20, 130)
    True
    """
    m = multipliers()[neuron]
    pair = quantize_multipliers(torch.tensor(m, dtype=torch.float64))
    multiplier, shift = (int(n) for n in shortened(*pair, bits))
    stored = Fraction(multiplier, 2**FRACTION_BITS) * Fraction(2) ** shift
    return float(abs(stored - Fraction(m)) / Fraction(m))


def scene(state: State) -> Scene:
    """Draw the multiplier's bits, its error over their number, and the codes that change.

    >>> scene(State(bits=31)).readout("codes that change").value
    '0'
    """
    m = multipliers()[state.neuron]
    whole, shift = (int(n) for n in quantize_multipliers(torch.tensor(m, dtype=torch.float64)))
    pair = shortened(torch.tensor(whole), torch.tensor(shift), state.bits)
    stored, stored_shift = (int(n) for n in pair)
    now = effect(state.bits)
    return Scene(
        f"A multiplier of {state.bits} bits",
        [_bits(stored, state.bits), [_errors(state), _codes(state)]],
        readouts=[
            Readout(
                "codes that change", f"{now.differ:,}", f"of {now.codes:,}", "measured", "error"
            ),
            Readout("error of m", f"{100 * relative_error(state.bits, state.neuron):.2g}", "%"),
            *quality_readouts(now.quality),
        ],
        formulas=[
            f"m = {m:.12f} = {m * 2.0**-shift:.10f} × 2^{shift}".replace("^-", "^−"),
            f"stored: {stored:,} / 2^31 × 2^{stored_shift} = "
            f"{stored / 2**31 * 2.0**stored_shift:.12f}".replace("^-", "^−"),
        ],
        description="The bits of the multiplier; the relative error over their number; the codes "
        "of fc1 that change.",
    )


def explorer(**fields) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(bits=3).state.bits
    3
    """
    return Panel(State(**fields), controls(), scene)


def _bits(multiplier: int, bits: int) -> Plot:
    digits = f"{multiplier:031b}"
    roles = ["quantized"] * bits + ["range"] * (FRACTION_BITS - bits)
    tips = [f"worth 2^−{i + 1}" for i in range(FRACTION_BITS)]
    cells = Cells(range(FRACTION_BITS), [0.0] * 31, list(digits), roles, 1, 1, 13, True, tips)
    return Plot(
        [cells],
        Axis("", 0, FRACTION_BITS, show=False),
        Axis("", 0, 1, show=False),
        title="The mantissa, ½ ≤ mantissa < 1: bits worth ½, ¼, ⅛, …",
        height=70,
        grid="none",
    )


def _errors(state: State) -> Plot:
    errors = [max(relative_error(bits, state.neuron), SMALLEST) for bits in WIDTHS]
    tips = [f"{bits} bits: {error:.2g}" for bits, error in zip(WIDTHS, errors, strict=True)]
    marks: list[Mark] = [
        Line(WIDTHS, [2.0**-bits for bits in WIDTHS], "muted", "at most 2^−bits", 5, True),
        Line(WIDTHS, errors, "error", "this neuron"),
        Points(WIDTHS, errors, "error", size=3, tips=tips),
        Points([state.bits], [errors[state.bits - 1]], "error", size=7),
    ]
    return Plot(
        marks,
        Axis("bits of the multiplier", 0.5, 31.5, ticks=(1, 8, 16, 24, 31)),
        Axis("error of m", SMALLEST, 1, scale="log"),
        height=270,
    )


def _codes(state: State) -> Plot:
    share = [100 * effect(bits).differ / effect(bits).codes for bits in WIDTHS]
    shown = [max(s, 1e-4) for s in share]
    tips = [f"{bits} bits: {effect(bits).differ:,} codes" for bits in WIDTHS]
    marks: list[Mark] = [
        Line(WIDTHS, shown, "quantized", "codes of fc1"),
        Points(WIDTHS, shown, "quantized", size=3, tips=tips),
        Points([state.bits], [shown[state.bits - 1]], "quantized", size=7),
    ]
    return Plot(
        marks,
        Axis("bits of the multiplier", 0.5, 31.5, ticks=(1, 8, 16, 24, 31)),
        Axis("change", 1e-4, 100, unit="%, 0 at the bottom", scale="log"),
        height=270,
    )
