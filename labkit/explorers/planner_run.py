"""The whole planner at work on the robot: a request in, a model that was measured, or a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import ipywidgets as widgets

from labkit.explorers.request_words import Reading, RequestPanel, State, read, titled, words_plot
from labkit.explorers.scene import Axis, Line, Mark, Plot, Readout, Rule, Scene, Text
from labkit.features import ModelFeatures
from labkit.planned import Planned
from labkit.planner import plan_quantization
from labkit.refusal import Infeasible
from labkit.verification import Check
from labkit.vla.batches import calibration_batches
from labkit.vla.evaluate import ClosedLoop
from labkit.vla.survey import survey
from labkit.vla.zoo import robot
from labkit.workshop import Try

EPISODES = 150
"""Held-out rooms that judge a plan; none of them is among the survey's."""
STEPS = 64
"""Steps of the expert that rounding is calibrated and learned on."""
MEASURED = ("the planner", "the file", "success lost")
"""Readouts that come from measuring now: they differ from machine to machine."""
MOST_ROWS = 5
_MOST = 2.0
"""Shares of a limit are drawn up to here."""
NAMES = {"bytes": "the file", "loss": "success lost", "seconds": "time of a call"}

Outcome = Planned | Infeasible


@cache
def features() -> ModelFeatures:
    """Return the features of the survey, with the float robot's success in the rooms that judge."""
    return replace(survey().features, quality=judge()(robot()), unit="nats")


@cache
def judge() -> ClosedLoop:
    """Return what measures success in the rooms that judge."""
    return ClosedLoop(EPISODES)


def run(request: str) -> Outcome:
    """Plan, make and measure, or refuse; ValueError for a request that is not understood."""
    try:
        return plan_quantization(
            robot(),
            None,
            request,
            calibration_data=calibration_batches(STEPS),
            evaluate=judge(),
            features=features(),
            prediction=survey().prediction(),
        )
    except Infeasible as refused:
        return refused


def scene(state: State, outcomes: Mapping[str, Outcome] | None = None) -> Scene:
    """Draw what was understood, each limit beside what was measured, and every step on the way.

    >>> scene(State("under 6")).readout("the planner").value
    'asks back'
    """
    outcome, reading = (outcomes or {}).get(state.request), read(state.request)
    return Scene(
        titled(state.request),
        [words_plot(reading), [_limits(outcome), _tried(outcome)]],
        readouts=_readouts(reading, outcome),
        formulas=_lines(reading, outcome),
        description=(
            "The request as it was understood; each limit as a line and what was measured as a "
            "bar; the steps that were tried."
        ),
    )


class PlannerPanel(RequestPanel):
    """The panel with its button; `outcomes` keeps what came of each request, `last` the newest.

    `done`: requests to go through before the panel is shown.
    """

    def __init__(self, state: State, done: Iterable[str] = ()) -> None:
        """Build the widget; go through what is to be done already."""
        self.outcomes: dict[str, Outcome] = {request: run(request) for request in done}
        self.last = next(reversed(self.outcomes.values()), None)
        super().__init__(state, lambda state: scene(state, self.outcomes))
        self._button = widgets.Button(description="Plan, make, measure", icon="play")
        self._button.button_style, self._button.layout.width = "success", "200px"
        self._button.layout.margin = "6px 0 0 188px"
        self._button.tooltip = "Some seconds; half a minute where rounding has to be learned"
        self._button.on_click(lambda _: self.run())
        self._said = widgets.HTML("", layout=widgets.Layout(margin="0 0 0 190px", height="24px"))
        at = 1 + len(self.controls)
        self.children = (*self.children[:at], self._button, self._said, *self.children[at:])

    def run(self) -> None:
        """Go through the request that stands in the field."""
        request = self.state.request
        if read(request).outcome != "understood":
            self._say("first it has to be understood")
            return
        self._button.disabled = True
        self._say("planning, making, measuring …")
        try:
            self.last = self.outcomes[request] = run(request)
            self._say("")
        except ValueError as error:
            self._say(str(error))
        finally:
            self._button.disabled = False
        self._repaint()

    def words(self, digits: int = 3) -> str:
        """State and readouts as text, without what was measured now."""
        lines = super().words(digits).splitlines()
        return "\n".join(line for line in lines if not line.startswith(MEASURED))

    def _say(self, words: str) -> None:
        self._said.value = f'<span role="status" style="font-size:14px">{words}</span>'


def explorer(request: str = State().request, done: Iterable[str] = ()) -> PlannerPanel:
    """Return the live panel with a request; those in `done` are gone through at once.

    >>> explorer("under 6 MB").state.request
    'under 6 MB'
    """
    return PlannerPanel(State(request), done)


def _readouts(reading: Reading, outcome: Outcome | None) -> list[Readout]:
    if outcome is None:
        waits = {"understood": "press Plan", "asked back": "asks back", "refused": "refuses"}
        made = None
        said, role = waits[reading.outcome], "muted"
    elif isinstance(outcome, Infeasible):
        made = None
        said, role = "refuses", "bad"
    else:
        made = outcome.tried[-1]
        said = "kept" if all(check.sure for check in outcome.verified) else "kept, not for sure"
        role = "good"
    size = "–" if made is None else f"{made.bytes / 1000:.1f} kB"
    lost = "–" if made is None or made.loss is None else f"{100 * made.loss.value:.1f} points"
    return [
        Readout("the planner", said, "", "measured", role),
        Readout("the file", size, "", "measured", "quantized"),
        Readout("success lost", lost, "", "measured", "quantized"),
    ]


def _tries(outcome: Outcome | None) -> Sequence[Try]:
    return () if outcome is None else outcome.tried


def _limits(outcome: Outcome | None) -> Plot:
    """Every limit as 1, and what was measured as a share of it."""
    tried = _tries(outcome)
    checks = tried[-1].checks if tried else ()
    marks: list[Mark] = [Rule(1, "the limit", "range")]
    for row, check in enumerate(checks):
        y = 2.2 - row
        role = "good" if check.kept else "bad"
        share = min(max(check.measured / check.limit, 0.0), _MOST) if check.limit > 0 else _MOST
        marks.append(Line([0, max(share, 0.005)], [y, y], role, width=16))
        marks.append(Text(0, y + 0.42, f"{NAMES[check.name]}: {_beside(check)}", anchor="start"))
        if check.name == "loss" and check.limit > 0:
            marks += _interval(
                tried[-1].loss.low / check.limit, tried[-1].loss.high / check.limit, y
            )
    if not checks:
        marks.append(Text(1, 1.5, "nothing measured yet", "muted"))
    x = Axis("measured ÷ limit", 0, _MOST, ticks=(0, 0.5, 1, 1.5, 2))
    return Plot(marks, x, Axis("", 0, 3.1, show=False), "verified", 250, grid="x", label_rows=1)


def _interval(low: float, high: float, y: float) -> list[Mark]:
    """An interval in shares of the limit; an arrow where it goes on beyond the picture."""
    marks: list[Mark] = [Line([max(low, 0), min(high, _MOST)], [y, y], "ink", width=2)]
    if low < 0:
        marks.append(Text(0, y, "◀", "ink", "start", dy=5))
    if high > _MOST:
        marks.append(Text(_MOST, y, "▶", "ink", "end", dy=5))
    return marks


def _beside(check: Check) -> str:
    """A measurement beside its limit, in a few words."""
    if check.name == "bytes":
        return f"{check.measured / 1000:.1f} of {check.limit / 1000:.1f} kB"
    if check.name == "loss":
        return f"{100 * check.measured:.1f} of {100 * check.limit:.1f} points"
    return f"{1e3 * check.measured:.3g} of {1e3 * check.limit:.3g} ms"


def _tried(outcome: Outcome | None) -> Plot:
    """A row for each step: what it was, what it lost, whether it kept the limits."""
    marks: list[Mark] = []
    tried = _tries(outcome)[-MOST_ROWS:]
    for row, made in enumerate(tried):
        y = MOST_ROWS - row - 0.5
        sign, role = ("✓", "good") if made.kept else ("✗", "bad")
        marks.append(Text(0.02, y, sign, role, "start", 17, True, 6))
        marks.append(Text(0.09, y, made.step, "ink", "start", dy=-3))
        lost = "" if made.loss is None else f", {made.loss.text} lost"
        said = f"{made.bytes / 1000:.1f} kB{lost}"
        marks.append(Text(0.09, y, said, "muted", "start", 12, dy=14))
    if not tried:
        marks.append(Text(0.5, MOST_ROWS / 2, "nothing tried yet", "muted"))
    x, y = Axis("", 0, 1, show=False), Axis("", 0, MOST_ROWS, show=False)
    return Plot(marks, x, y, "tried, one after the other", 250, grid="none")


def _lines(reading: Reading, outcome: Outcome | None) -> list[str]:
    if outcome is None:
        return [
            {"understood": "understood: press the button"}.get(reading.outcome, "nothing is run")
        ]
    if isinstance(outcome, Infeasible):
        offers = [f"what could be met: {offer}" for offer in outcome.offers]
        return [f"what binds: {outcome.limit}", *offers]
    widths = outcome.plan.widths.values()
    counts = [f"{sum(w == bits for w in widths)} × {bits}" for bits in sorted(set(widths))]
    return [f"layers × bits: {', '.join(counts)}; quantized the way {outcome.plan.method!r}"]
