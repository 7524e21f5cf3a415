"""A request in words: what each of them was taken to mean, what is asked back, what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from labkit.explorers.drawing import text
from labkit.explorers.panel import Panel, choice
from labkit.explorers.scene import Axis, Cells, Mark, Plot, Readout, Scene, Text
from labkit.requirement import Requirement, UnitMissing, understand

EXAMPLES = (
    "under 190 kB, at most 3 points worse",
    "at least 8 times smaller and no more than 2 % worse",
    "success at least 95 %, twice as fast",
    "under 10 MB and at most 8 MB, 200 ms",
    "小于190kB,成功率下降不超过3个百分点",
    "体积减少75%,推理时间减少60%,性能损失不超过3个百分点",
    "under 200",
    "under 6 Mb",
    "reduce the size by 75 % and the time by 60 %",
    "not under 6 MB",
    "as small as possible",
    "尽量小一点",
)
"""Requests to choose from: understood, asked back about, refused."""
SAID = {
    "understood": ("goes to work", "good"),
    "asked back": ("asks back", "quantized"),
    "refused": ("refuses", "bad"),
}
"""What became of a request → what the planner does, and its colour."""
ROWS = 3
_WIDTH, _WORDS = 836.0, 300.0
_QUOTED = re.compile(r'"([^"]+)"')


@dataclass(frozen=True)
class State:
    """What was asked for.

    >>> State().request
    'under 190 kB, at most 3 points worse'
    """

    request: str = EXAMPLES[0]


@dataclass(frozen=True)
class Reading:
    """What became of a request: its `outcome` ("understood", "asked back" or "refused").

    `lines` are pairs (words, meaning). `requirement` is None unless it was understood.
    """

    outcome: str
    lines: tuple[tuple[str, str], ...]
    requirement: Requirement | None = None


def read(request: str) -> Reading:
    """Read a request; never raises.

    >>> read("under 6").outcome, read("under 6 MB").lines
    ('asked back', (('under 6 MB', 'the model takes at most 6 MB (6,000,000 bytes)'),))
    """
    try:
        requirement = understand(request)
    except UnitMissing as question:
        return Reading("asked back", _blamed(str(question)))
    except ValueError as error:
        return Reading("refused", _blamed(str(error)))
    lines = tuple(_split(line) for line in requirement.understood)
    return Reading("understood", lines, requirement)


class RequestPanel(Panel):
    """A panel whose request can be chosen from a list or typed; the list and the text agree."""

    def __init__(self, state: Any, scene: Any) -> None:
        """Build the widget: `state` and `scene` as in `Panel`; the state has a field `request`."""
        typed = widgets.Text(
            description="or type",
            tooltip="English or Chinese, with units",
            style={"description_width": "180px"},
            layout=widgets.Layout(width="min(100%, 760px)"),
        )
        super().__init__(state, {"request": typed}, scene)
        examples = [("choose …", ""), *((example, example) for example in EXAMPLES)]
        self.examples = choice("a request", examples, tooltip="Some that work and some that do not")
        self.examples.value = state.request if state.request in EXAMPLES else ""
        self.examples.observe(self._chosen, names="value")
        typed.observe(self._typed, names="value")
        self.children = (self.examples, *self.children)

    def _chosen(self, change: Any) -> None:
        if change["new"]:
            self.set(request=change["new"])

    def _typed(self, change: Any) -> None:
        self.examples.value = change["new"] if change["new"] in EXAMPLES else ""


def scene(state: State) -> Scene:
    """Draw the request with the words that were understood boxed, and what each stands for.

    >>> scene(State("under 6")).readout("the planner").value
    'asks back'
    """
    reading = read(state.request)
    return Scene(
        titled(state.request),
        [words_plot(reading)],
        readouts=readouts(reading),
        description=f"The request {state.request!r}: {reading.outcome}, line by line.",
    )


def readouts(reading: Reading) -> list[Readout]:
    """Return what was understood, as large words: size, quality, time, and what happens next."""
    said, role = SAID[reading.outcome]
    return [
        Readout("the planner", said, "", "computed", role),
        Readout("size", _size(reading.requirement), "", "asked"),
        Readout("quality", _quality(reading.requirement), "", "asked"),
        Readout("time of a call", _time(reading.requirement), "", "asked"),
    ]


def words_plot(reading: Reading) -> Plot:
    """Draw a row for each part of the request: its words in a box, and what they stand for."""
    role = SAID[reading.outcome][1]
    marks: list[Mark] = []
    for row, (words, meaning) in enumerate(reading.lines[:ROWS]):
        y = ROWS - row - 0.5
        if words:
            shown = text.fit(words, _WORDS - 20, 14)
            across = text.width(shown, 14) + 20
            marks.append(Cells([_WORDS - across], [y - 0.4], [shown], role, across, 0.8, 14))
        lines = text.wrap(meaning, _WIDTH - _WORDS - 20, 14)
        for i, line in enumerate(lines):
            # The lines of a meaning are centred beside the words.
            dy = 5 + 18 * (i - (len(lines) - 1) / 2)
            marks.append(Text(_WORDS + 18, y, line, "ink", "start", 14, dy=dy))
    x, y = Axis("", 0, _WIDTH, show=False), Axis("", 0, ROWS, show=False)
    return Plot(marks, x, y, height=150, grid="none")


def titled(request: str) -> str:
    """Return a request as the title of a picture.

    >>> titled("under 6 MB")
    '“under 6 MB”'
    """
    return f"“{request}”" if request.strip() else "Nothing is asked for yet"


def explorer(request: str = EXAMPLES[0]) -> RequestPanel:
    """Return the live panel, starting with this request.

    >>> explorer("under 6 MB").state.request
    'under 6 MB'
    """
    return RequestPanel(State(request), scene)


def _split(line: str) -> tuple[str, str]:
    """A line such as '"under 6 MB": the model takes …' → its words and their meaning."""
    words, _, meaning = line.partition('": ')
    return words.removeprefix('"'), meaning


def _blamed(message: str) -> tuple[tuple[str, str], ...]:
    """The words that a message quotes first, and the message."""
    quoted = _QUOTED.search(message)
    return ((quoted[1] if quoted else "", message),)


def _size(asked: Requirement | None) -> str:
    if asked is None or (asked.max_bytes is None and asked.min_ratio is None):
        return "–"
    if asked.max_bytes is None:
        return f"1 / {asked.min_ratio:.4g}"
    return f"≤ {text.short(asked.max_bytes / 1000)} kB"


def _quality(asked: Requirement | None) -> str:
    if asked is None or (asked.max_loss is None and asked.min_quality is None):
        return "–"
    if asked.max_loss is None:
        return f"≥ {100 * asked.min_quality:.4g} %"
    return f"− {100 * asked.max_loss:.4g} points"


def _time(asked: Requirement | None) -> str:
    if asked is None or (asked.max_seconds is None and asked.max_time_share is None):
        return "–"
    if asked.max_seconds is None:
        return f"≤ {100 * asked.max_time_share:.4g} %"
    return f"≤ {1e3 * asked.max_seconds:.4g} ms"
