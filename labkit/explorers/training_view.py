"""What the live training panel draws: the curve, its control, the losses, and a sheet of results.

Every training stays in the picture; the state chooses which of them is drawn large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.evaluate import Accuracy
from labkit.explorers.panel import bits_slider, choice
from labkit.explorers.scene import Axis, Line, Mark, Plot, Points, Readout, Rule, Scene, Text
from labkit.explorers.training_runs import EPOCHS, Run, Setting, in_float, rounded_only

BITS = (2, 3, 4)
GRANULARITIES = {"tensor": "per tensor", "channel": "per channel"}
STEP_RULES = {"range": "range", "learned": "learned (LSQ)"}
CONTROL = "control"
TRAINED = ("after training", "so far", "float, trained as long")
"""Readouts that training gives: they differ from machine to machine."""
_KIND = {"kind": "measured"}
_SHARES = (0.1, 0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Runs:
    """What has been trained: setting → run, and the control; `now` is what trains at the moment.

    >>> Runs().now
    ''
    """

    done: Mapping[Setting, Run] = field(default_factory=dict)
    control: Run | None = None
    now: Setting | str = ""


def controls() -> dict:
    """One control for each field of `Setting`, which is this panel's state.

    >>> list(controls())
    ['bits', 'granularity', 'step_rule']
    """
    return {
        "bits": bits_slider("bits of a weight", BITS[0], BITS[-1]),
        "granularity": choice("one step", [(w, n) for n, w in GRANULARITIES.items()]),
        "step_rule": choice(
            "step", [(w, n) for n, w in STEP_RULES.items()], tooltip="Where the step comes from"
        ),
    }


def named(setting: Setting) -> str:
    """Return a setting in a few words.

    >>> named(Setting(3, "channel", "learned"))
    '3 bits, per channel, learned (LSQ)'
    """
    return (
        f"{setting.bits} bits, {GRANULARITIES[setting.granularity]}, "
        f"{STEP_RULES[setting.step_rule]}"
    )


def stretched(share: float) -> float:
    """Place a share of right answers on an axis that is stretched towards 100 %.

    >>> stretched(0.9), round(stretched(0.99), 6)
    (1.0, 2.0)
    """
    return -math.log10(max(1 - share, 1e-3))


def scene(state: Setting, runs: Runs | None = None) -> Scene:
    """Draw the chosen training, its control and its losses, and where every training has ended.

    >>> scene(Setting(2)).readout("after training").value
    'press Start'
    """
    runs = Runs() if runs is None else runs
    run, ptq = runs.done.get(state), rounded_only(state.bits, state.granularity)
    quality = run.quality if run else None
    control = runs.control.quality if runs.control else None
    so_far = "so far" if run and not run.ended else "after training"
    return Scene(
        f"784-256-128-10, weights of {named(state)}",
        [[_answers(state, runs, ptq), _sheet(state, runs)], _losses(run, runs.control)],
        readouts=[
            Readout(so_far, percent(quality, "press Start"), role="quantized", **_KIND),
            Readout("only rounded", percent(ptq), role="error", **_KIND),
            Readout("float, as it was", percent(in_float()), role="float", **_KIND),
            Readout("float, trained as long", percent(control, "not yet"), role="float", **_KIND),
        ],
        formulas=[in_words(run)],
        description=(
            "Right answers over the epochs of training with the control beside them, where each "
            "setting has ended, and the loss."
        ),
    )


def percent(quality: Accuracy | None, otherwise: str = "") -> str:
    """Return a quality as a plain percentage; `otherwise` where there is none.

    >>> percent(Accuracy.of(9, 10)), percent(None, "not yet")
    ('90.0 %', 'not yet')
    """
    return otherwise if quality is None else f"{100 * quality.value:.1f} %"


def in_words(run: Run | None) -> str:
    """Return how far a run has come and what it gave.

    >>> in_words(None)
    'not trained yet: press Start'
    """
    if run is None:
        return "not trained yet: press Start"
    if not run.ended:
        return f"{named(run.setting)}: training, epoch {run.epochs:.1f} of {EPOCHS}"
    at = f"after {run.epochs:.1f} of {EPOCHS} epochs"
    return f"{run.ended} {at}: {run.quality}"


def share_axis(low: float = 0.0) -> Axis:
    """Return the axis of right answers, stretched towards 100 %.

    >>> share_axis().labels[-1]
    '95'
    """
    ticks = [stretched(share) for share in _SHARES]
    return Axis(
        "right answers, %",
        low,
        1.5,
        ticks=ticks,
        labels=[f"{100 * share:.0f}" for share in _SHARES],
    )


def curve(run: Any, role: str, label: str, width: float, size: float) -> list[Mark]:
    """Return a line with points over `run.points`, pairs of (epochs, quality); none without any.

    >>> len(curve(Run(None, ((0.5, Accuracy.of(1, 2)),)), "float", "", 2, 3))
    1
    """
    if not run.points:
        return []
    x = [at for at, _ in run.points]
    y = [stretched(quality.value) for _, quality in run.points]
    tips = [f"epoch {at:.2f}\n{quality}" for at, quality in run.points]
    marks: list[Mark] = [Points(x, y, role, size=size, tips=tips)]
    return [Line(x, y, role, label, width), *marks] if len(x) > 1 else marks


def _answers(state: Setting, runs: Runs, ptq: Accuracy) -> Plot:
    marks: list[Mark] = [
        Rule(stretched(in_float().value), "", "float", axis="y"),
        Rule(stretched(ptq.value), "", "error", axis="y"),
        Text(EPOCHS, stretched(ptq.value), "only rounded", "error", "end", 12, dy=-6),
        # Before the first point of any curve.
        Text(0.02, stretched(in_float().value), "float", "float", "start", 12, dy=-6),
    ]
    if runs.control:
        marks += curve(runs.control, "float", "float, trained as long", 1.8, 2.5)
    run = runs.done.get(state)
    if run:
        marks += curve(run, "quantized", "this setting", 3, 4)
    x = Axis(
        "epochs of training", 0, EPOCHS + 0.1, ticks=range(EPOCHS + 1), labels=range(EPOCHS + 1)
    )
    return Plot(marks, x, share_axis(), "Right answers on 1000 test images", 330, 1.25)


def _sheet(state: Setting, runs: Runs) -> Plot:
    """Where every setting has ended, a row each; hollow: only rounded."""
    settings = [Setting(b, g, s) for b in BITS for g in GRANULARITIES for s in STEP_RULES]
    marks: list[Mark] = [Rule(stretched(in_float().value), "float", "float")]
    for row, setting in enumerate(settings):
        y = len(settings) - 1 - row
        here = setting == state
        ptq, run = rounded_only(setting.bits, setting.granularity), runs.done.get(setting)
        tip = f"{named(setting)}\nonly rounded: {ptq}"
        marks.append(
            Points([stretched(ptq.value)], [y], "error", size=3.5, hollow=True, tips=[tip])
        )
        if run and run.quality:
            ends = [stretched(run.quality.low), stretched(run.quality.high)]
            tip = f"{named(setting)}\n{run.quality}"
            marks.append(Line(ends, [y, y], "quantized", width=3 if here else 1.6))
            marks.append(
                Points([stretched(run.quality.value)], [y], "quantized", size=5, tips=[tip])
            )
        if here:
            marks.append(Text(-0.1, y, "▸", "quantized", "start", 15, True, dy=5))
    labels = [f"{s.bits} · {s.granularity} · {s.step_rule}" for s in reversed(settings)]
    y = Axis("", -0.7, len(settings) - 0.3, ticks=range(len(settings)), labels=labels)
    x = share_axis(-0.13)
    return Plot(
        marks, x, y, "Where each setting ended, 95 % intervals", 330, 1.0, grid="x", label_rows=1
    )


def _losses(run: Run | None, control: Run | None) -> Plot:
    marks: list[Mark] = []
    for one, role, label in ((control, "float", "control"), (run, "quantized", "this setting")):
        if one and len(one.losses) > 1:
            x, y = zip(*one.losses, strict=True)
            marks.append(Line(x, y, role, label, 1.8))
    if not marks:
        marks.append(Text(EPOCHS / 2, 0.1, "the loss will be drawn here", "muted"))
    x = Axis(
        "epochs of training", 0, EPOCHS + 0.1, ticks=range(EPOCHS + 1), labels=range(EPOCHS + 1)
    )
    y = Axis("loss, mean of 8 batches", 3e-3, 4, scale="log")
    return Plot(marks, x, y, height=170)
