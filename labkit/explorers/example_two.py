"""The document's Example 2: ten million weights, a share of them at more bits than the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labkit.explorers.panel import Panel, bits_slider, int_slider
from labkit.explorers.scene import Axis, Cells, Line, Mark, Plot, Points, Readout, Rule, Scene

PARAMETERS = 10_000_000
FLOAT_BYTES = 4 * PARAMETERS


@dataclass(frozen=True)
class State:
    """Percent of the parameters that are critical, their bits, and the bits of the others.

    >>> State().critical_bits
    8
    """

    share: int = 20
    critical_bits: int = 8
    other_bits: int = 4


@dataclass(frozen=True)
class Size:
    """The bytes of both parts, as the document counts: codes alone.

    >>> size(State()).total, round(size(State()).ratio, 2)
    (6000000.0, 6.67)
    """

    critical: float
    other: float

    @property
    def total(self) -> float:
        """Bytes of both."""
        return self.critical + self.other

    @property
    def ratio(self) -> float:
        """How many times smaller than 32-bit floats."""
        return FLOAT_BYTES / self.total


def size(state: State) -> Size:
    """Count: parameters × bits / 8.

    >>> size(State(share=0)).total
    5000000.0
    """
    critical = PARAMETERS * state.share / 100
    return Size(critical * state.critical_bits / 8, (PARAMETERS - critical) * state.other_bits / 8)


def controls() -> dict[str, Any]:
    """The share and the two widths."""
    return {
        "share": int_slider("critical parameters in %", 0, 100, step=5),
        "critical_bits": bits_slider("their bits"),
        "other_bits": bits_slider("bits of the others"),
    }


def scene(state: State) -> Scene:
    """Draw the two parts end to end, and size over share.

    >>> scene(State()).readout("compression").value
    '6.67'
    """
    now = size(state)
    share, rest = state.share / 100, 1 - state.share / 100
    average = 8 * now.total / PARAMETERS
    return Scene(
        f"Ten million parameters: {state.share} % at {state.critical_bits} bits, "
        f"{100 - state.share} % at {state.other_bits}",
        [_bar(state, now), _curve(state, now)],
        readouts=[
            Readout("size", f"{now.total / 1e6:.2f}", "MB", "computed", "quantized"),
            Readout("compression", f"{now.ratio:.2f}", "×", "computed"),
            Readout("critical", f"{now.critical / 1e6:.2f}", "MB", "computed"),
            Readout("others", f"{now.other / 1e6:.2f}", "MB", "computed"),
            Readout("bits per weight", f"{average:.2f}", "", "computed"),
        ],
        formulas=[
            f"{PARAMETERS:,} × {share:.2f} × {state.critical_bits} / 8 = {now.critical:,.0f} bytes",
            f"{PARAMETERS:,} × {rest:.2f} × {state.other_bits} / 8 = {now.other:,.0f} bytes",
            f"40 MB / {now.total / 1e6:.2f} MB = {now.ratio:.2f}",
        ],
        description="Above, two parts of a file end to end; below, size over the critical share.",
    )


def explorer(**fields: Any) -> Panel:
    """Return the live panel; `fields` are those of `State`.

    >>> explorer(share=10).state.share
    10
    """
    return Panel(State(**fields), controls(), scene)


def _bar(state: State, now: Size) -> Plot:
    marks: list[Mark] = []
    start = 0.0
    for name, nbytes, role in (
        ("critical", now.critical, "quantized"),
        ("others", now.other, "range"),
    ):
        if nbytes:
            megabytes = nbytes / 1e6
            label = f"{name}: {megabytes:.1f} MB" if megabytes > 1.4 else ""
            marks.append(Cells([start], [0], [label], role, megabytes, 1, strong=True))
            start += megabytes
    x = Axis("size", 0, 10.2, "MB")
    return Plot(marks, x, Axis("", -0.1, 1.1, show=False), height=95, grid="none")


def _curve(state: State, now: Size) -> Plot:
    shares = range(0, 101, 5)
    sizes = [
        size(State(share, state.critical_bits, state.other_bits)).total / 1e6 for share in shares
    ]
    marks: list[Mark] = [
        Line(shares, sizes, "quantized"),
        Rule(state.share, role="range"),
        Points([state.share], [now.total / 1e6], "quantized", size=7),
    ]
    x = Axis("critical parameters", 0, 100, "%")
    return Plot(marks, x, Axis("size", 0, 10.5, "MB"), height=230)
