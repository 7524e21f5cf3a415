"""Two robots side by side in the same episode: the float policy and the one of few bits.

Both see the same room and read the same sentence. The picture is a pure function of the state and
the films; where the films come from, played now or stored, it does not ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from labkit.explorers.panel import Panel, choice, int_slider, steps_slider
from labkit.explorers.robot_films import (
    FLOAT,
    WIDTHS,
    Film,
    Films,
    first_difference,
    frame,
    played,
    stored,
    width_name,
)
from labkit.explorers.scene import (
    Axis,
    Cells,
    Line,
    Mark,
    Photo,
    Plot,
    Readout,
    Scene,
    Text,
)

ACTIONS = (("left", "↺"), ("right", "↻"), ("forward", "↑"), ("pick up", "⇑"), ("drop", "⇓"))
"""What the robot can do, in the order of labkit.vla.env, with a sign for each."""
SAID = {
    "success": ("done", "good"),
    "loop": ("in circles", "error"),
    "time": ("out of time", "error"),
    "failure": ("cannot succeed", "error"),
}
"""How an episode ended → words and colour."""
PACE = 350
"""Milliseconds a step of the play button."""
_FEWEST, _MOST = 18, 40
# So that cells of the room are square in half a picture's width.
_ROOM, _SPARE = 374, 0.663


@dataclass(frozen=True)
class State:
    """Bits of the right robot, how many steps have been done, which episode, which of `VIEWS`.

    >>> State().bits
    3
    """

    bits: int = 3
    step: int = 0
    episode: int = 0
    view: str = "drawn"


def controls(films: Films) -> dict[str, Any]:
    """Width, step, episode and view."""
    sentences = [film.sentence for film in films.films[FLOAT]]
    named = [(f"{i + 1} · {sentence}", i) for i, sentence in enumerate(sentences)]
    last = max(films.last(i) for i in range(len(sentences)))
    views = [("drawn for us", "drawn"), ("what the camera gives", "camera")]
    return {
        "bits": steps_slider("bits", [(_shown(w), w) for w in WIDTHS], tooltip="Of every weight"),
        "step": int_slider("step", 0, last, tooltip="How many steps have been done"),
        "episode": choice("mission", named, tooltip="Held-out rooms, never trained on"),
        "view": choice("view", views, tooltip="The policy gets 64 × 64 pixels"),
    }


def scene(state: State, films: Films) -> Scene:
    """Draw both rooms after so many steps, and all actions below."""
    left, right = (films.films[bits][state.episode] for bits in (FLOAT, state.bits))
    parting = first_difference(left, right)
    name = width_name(state.bits)
    said, role = SAID[right.end]
    size = films.nbytes[state.bits]
    return Scene(
        f"Mission: {left.sentence}",
        [
            [
                _room(left, state, "float", "float robot", parting),
                _room(right, state, "quantized", f"{name}, the same room", parting),
            ],
            _actions(left, right, state, films.last(state.episode), parting),
        ],
        readouts=[
            Readout(f"robot of {name}", said, "", "measured", role),
            Readout("float robot", SAID[left.end][0], "", "measured", "float"),
            Readout("first other action", _parted(parting), "", "measured"),
            Readout("size", round(size / 1000), "kB", "measured"),
            Readout("smaller", f"{films.nbytes[FLOAT] / size:.2f}", "×", "computed"),
        ],
        description=(
            f"Two rooms seen from above, in each a robot that shall {left.sentence}: left the "
            f"float policy, right the one of {name}; below, the actions of both, step by step."
        ),
    )


class Replay(Panel):
    """The panel with a play button, which moves the step."""

    def __init__(self, state: State, films: Films) -> None:
        """Build the widget."""
        super().__init__(
            state,
            controls(films),
            lambda state: scene(state, films),
            limits=lambda state: {"step": {"max": films.last(state.episode)}},
        )
        slider = self.controls["step"]
        self.play = widgets.Play(interval=PACE, max=slider.max, tooltip="Play the steps")
        self._links = [
            widgets.jslink((slider, trait), (self.play, trait)) for trait in ("max", "value")
        ]
        row = widgets.HBox([self.play])
        row.layout.margin = "0 0 0 188px"
        at = len(self.controls)
        self.children = (*self.children[:at], row, *self.children[at:])


def explorer(from_file: bool = False, **fields: Any) -> Replay:
    """Return the live panel; `fields` are those of `State`.

    `from_file` shows the stored films; without it the robots play now, some seconds the first time.
    """
    return Replay(State(**fields), stored() if from_file else played())


def _shown(bits: int) -> str:
    return "float" if bits == FLOAT else str(bits)


def _parted(step: int | None) -> str:
    return "none" if step is None else f"step {step + 1}"


def _room(film: Film, state: State, role: str, name: str, parting: int | None) -> Plot:
    """The room now, the way there, and where the two robots parted."""
    step = min(state.step, len(film))
    marks: list[Mark] = [
        Photo(frame(film.at(step).tobytes(), state.view), 0, 8, 0, 8, state.view == "camera")
    ]
    way = [(x + 0.5, 7.5 - y) for x, y in film.places(step)]
    if len(set(way)) > 1:
        marks.append(Line([x for x, _ in way], [y for _, y in way], role, width=3))
    if parting is not None and step >= parting:
        x, y = way[parting]
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
        around = [x + 0.46 * i for i, _ in corners], [y + 0.46 * j for _, j in corners]
        marks.append(Line(*around, role, width=2, dashed=True))
    now = f"step {step} of {len(film)}"
    if step == len(film):
        said, colour = SAID[film.end]
        now = f"{said} after {step} steps"
        sign = "✓" if film.end == "success" else "✗"
        marks.append(Text(4, 0.5, f"{sign} {said}", colour, size=20, bold=True, dy=7))
    x = Axis("", -_SPARE, 8 + _SPARE, show=False)
    return Plot(marks, x, Axis("", 0, 8, show=False), f"{name} · {now}", _ROOM, grid="none")


def _actions(one: Film, other: Film, state: State, last: int, parting: int | None) -> Plot:
    """The actions of both in rows, a page of them at a time; the current step is framed."""
    page = min(max(last, _FEWEST), _MOST)
    start = page * (min(max(state.step - 1, 0), last - 1) // page)
    shown = range(start, min(start + page, last))
    marks: list[Mark] = [Text(-0.3, 2.25, "step", "muted", "end", dy=4)]
    for row, (film, role) in enumerate(((one, "float"), (other, "quantized"))):
        y = 1 - row
        name = "float" if row == 0 else width_name(state.bits)
        marks.append(Text(-0.3, y + 0.5, name, role, "end", bold=True, dy=5))
        marks += _row_of_cells(film, y, shown, role, parting)
    for step in shown[::5]:
        marks.append(Text(step - start + 0.5, 2.25, str(step + 1), "muted", size=12, dy=4))
    at = state.step - 1 - start
    if at >= 0 and state.step <= max(len(one), len(other)):
        marks.append(Line([at, at + 1, at + 1, at, at], [0, 0, 2, 2, 0], "ink", width=2.5))
    x = Axis("", -0.1 * page, page + 0.2, show=False)
    title = "what they do: ↺ left  ↻ right  ↑ forward  ⇑ pick up  ⇓ drop"
    return Plot(marks, x, Axis("", -0.1, 2.6, show=False), title, 110, grid="none")


def _row_of_cells(
    film: Film, y: float, page: range, role: str, parting: int | None
) -> Iterator[Mark]:
    """Gray while both do the same, the first other action strong, then in the robot's colour."""
    for strong in (False, True):
        steps = [s for s in page if s < len(film) and (s == parting) == strong]
        if not steps:
            continue
        did = [ACTIONS[film.actions[step]] for step in steps]
        roles = ["range" if parting is None or step < parting else role for step in steps]
        yield Cells(
            [step - page.start for step in steps],
            [y] * len(steps),
            [sign for _, sign in did],
            "bad" if strong else roles,
            strong=strong,
            tips=[f"step {s + 1}: {word}" for s, (word, _) in zip(steps, did, strict=True)],
        )
