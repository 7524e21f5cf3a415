"""What each layer minds at each width: measured, beside what the Hessian predicts, as heat maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from labkit.explorers.bit_choices import (
    COLOURS,
    IN_FLOAT,
    LAYERS,
    PRACTICE,
    WIDTHS,
    measured,
    only,
    predicted,
    read,
)
from labkit.explorers.panel import Panel, choice, steps_slider
from labkit.explorers.scene import Axis, Image, Line, Mark, Plot, Points, Readout, Scene, Text
from labkit.hessian import rank_correlation

QUALITIES = {"points": "points of accuracy", "loss": "loss"}
_LEAST = {"points": 0.1, "loss": 1e-6}
_MOST = {"points": 10.0, "loss": 1.0}


@dataclass(frozen=True)
class State:
    """What is measured, "points" of accuracy that are lost or the rise of the "loss"; a column.

    >>> State().bits
    2
    """

    quality: str = "points"
    bits: int = 2


@cache
def damage(quality: str) -> np.ndarray:
    """What one quantized layer costs: (layers, widths), in points of accuracy or in loss.

    Raises ValueError for another quality.

    >>> damage("points").shape
    (5, 5)
    """
    if quality not in QUALITIES:
        raise ValueError(f"got quality {quality!r}; use one of {', '.join(QUALITIES)}")
    if quality == "loss":
        return measured().loss
    whole = read(IN_FLOAT).percent
    return np.array([[whole - read(only(name, w)).percent for w in WIDTHS] for name in LAYERS])


def agreement(quality: str, bits: int | None = None) -> float | None:
    """Spearman's rank correlation of measured and predicted, in one column or in the whole map.

    None where the measured values are all the same, so that there is no order.

    >>> agreement("points", 8) is None
    True
    """
    columns = [WIDTHS.index(bits)] if bits else range(len(WIDTHS))
    seen, foreseen = (table[:, columns] for table in (damage(quality), predicted().loss))
    return None if np.ptp(seen) == 0 else rank_correlation(seen, foreseen)


def controls() -> dict[str, Any]:
    """What is measured, and which column is compared."""
    return {
        "bits": steps_slider("bits", WIDTHS, tooltip="The column that is marked"),
        "quality": choice("measured as", [(words, name) for name, words in QUALITIES.items()]),
    }


def scene(state: State) -> Scene:
    """Draw both maps, and every cell of the one over the same cell of the other.

    >>> scene(State()).readout("worst, measured").value
    'pointwise'
    """
    seen, foreseen = damage(state.quality), predicted().loss
    column = WIDTHS.index(state.bits)
    whole, own = agreement(state.quality), agreement(state.quality, state.bits)
    worst = LAYERS[int(seen[:, column].argmax())] if own is not None else "none"
    return Scene(
        f"One layer at a time, the others in float: the column of {state.bits} bits",
        [
            [
                _map(seen, state, f"measured: {QUALITIES[state.quality]} lost"),
                _map(foreseen, State("loss", state.bits), "predicted: ½ Σ H (w − Q(w))²"),
            ],
            _scatter(state),
        ],
        readouts=[
            Readout("rank correlation, all", _one_digit(whole), "", "computed"),
            Readout("in this column", _one_digit(own), "", "computed"),
            Readout("worst, measured", worst, "", "measured", "error"),
            Readout("worst, predicted", LAYERS[int(foreseen[:, column].argmax())], "", "computed"),
        ],
        formulas=_lines(state),
        description=(
            "Above, two heat maps of layers by bits: measured damage and predicted damage; below, "
            "measured over predicted for every cell, the chosen column marked."
        ),
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(bits=3).state.bits
    3
    """
    # Once and now, so that no control has to wait for them.
    damage("points"), damage("loss"), predicted()
    return Panel(State(**fields), controls(), scene)


def _one_digit(value: float | None) -> str:
    """Five values have few orders; more digits would claim more, and differ between machines."""
    return "no order" if value is None else f"{value:.1f}".replace("-", "−")


def _lines(state: State) -> list[str]:
    if state.quality == "loss":
        return [
            f"mean cross-entropy of the {PRACTICE} practice images, minus that of float",
            "left: the images are read once for each cell; right: one Hessian serves all cells",
        ]
    name = LAYERS[int(damage("points")[:, WIDTHS.index(state.bits)].argmax())]
    change = read(only(name, state.bits)).against(read())
    return [f"{name} at {state.bits} bits: {change}", f"all on the {PRACTICE} practice images"]


def _map(table: np.ndarray, state: State, title: str) -> Plot:
    # The root, or one dark cell would hide the differences between all the others.
    heat = np.sqrt(np.clip(table / table.max(), 0, None))
    rows, columns = table.shape
    tips = [
        f"{name} at {width} bits\n{table[i, j]:.2g}"
        for i, name in enumerate(LAYERS)
        for j, width in enumerate(WIDTHS)
    ]
    marks: list[Mark] = [
        Image(heat, 0, columns, 0, rows, 0, 1, "heat", square=False, tips=tips),
    ]
    at = WIDTHS.index(state.bits)
    marks.append(Line([at, at + 1, at + 1, at, at], [0, 0, rows, rows, 0], "ink", width=2))
    for i in range(rows):
        for j in range(columns):
            words = _cell(table[i, j], state.quality)
            role = "muted" if words in ("0", "0.0") else "ink"
            marks.append(Text(j + 0.5, rows - 0.5 - i, words, role, size=12, dy=4))
    x = Axis("bits", 0, columns, ticks=[j + 0.5 for j in range(columns)], labels=WIDTHS)
    y = Axis("", 0, rows, ticks=[rows - 0.5 - i for i in range(rows)], labels=LAYERS)
    return Plot(marks, x, y, title, height=235, grid="none")


def _cell(value: float, quality: str) -> str:
    if quality == "points":
        return f"{value:.1f}".replace("-", "−")
    if value < 0.001:
        return "0" if value < 5e-5 else f"{value:.5f}" if value < 1e-4 else f"{value:.4f}"
    return f"{value:.3f}"


def _scatter(state: State) -> Plot:
    """Every cell: measured over predicted, a colour a layer; zeros stand on the lower edge."""
    foreseen = predicted().loss
    low = _LEAST[state.quality]
    shown = damage(state.quality).clip(min=low)
    column = WIDTHS.index(state.bits)
    marks: list[Mark] = []
    for i, name in enumerate(LAYERS):
        tips = [f"{name} at {width} bits" for width in WIDTHS]
        marks.append(Points(foreseen[i], shown[i], COLOURS[i], "", 4, True, tips))
    for i, name in enumerate(LAYERS):
        here = foreseen[i, column : column + 1], shown[i, column : column + 1]
        marks.append(Points(*here, COLOURS[i], name, 7))
    x = Axis(f"predicted rise of the loss (discs: {state.bits} bits)", 1e-6, 0.2, scale="log")
    y = Axis(
        f"measured, {QUALITIES[state.quality]} (0 on the edge)",
        low,
        _MOST[state.quality],
        scale="log",
    )
    return Plot(marks, x, y, height=230)
