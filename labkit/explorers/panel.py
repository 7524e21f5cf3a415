"""A panel: controls, the live picture they steer, and an area where errors show in red.

Give it a state (a frozen dataclass), one control for each field that the learner may change, and a
pure function from the state to a `labkit.explorers.scene.Scene`:

    Panel(State(), {"bits": bits_slider()}, scene)

The panel is an ordinary widget: let it be the last expression of a cell. Its text form is the state
and the readouts in words, rounded, so that a stored notebook can be compared as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from html import escape
from typing import Any

import ipywidgets as widgets
import traitlets

from labkit.explorers.controls import (
    bits_slider,
    choice,
    float_slider,
    int_slider,
    option_values,
    positions,
    steps_slider,
    sweep,
    switch,
)
from labkit.explorers.drawing.text import short
from labkit.explorers.scene import Scene
from labkit.explorers.svg import live, render, style_sheet
from labkit.threads import one_thread

__all__ = [
    "Panel",
    "bits_slider",
    "choice",
    "float_slider",
    "int_slider",
    "positions",
    "steps_slider",
    "sweep",
    "switch",
]

Limits = Callable[[Any], Mapping[str, Mapping[str, Any]]]

_VIEW = "application/vnd.jupyter.widget-view+json"
_ALERT = (
    '<div role="alert" style="color:#fff;background:#b3261e;border-radius:6px;padding:8px 14px;'
    'margin:4px 0;font-size:14px;line-height:1.4;white-space:pre-wrap">{}</div>'
    "<style>.ql-stale{{opacity:.35}}</style>"
)
# The stock arrow of a list is black and vanishes on a dark page; a middle gray is seen on both.
_ARROW = (
    '<style>.ql-panel .widget-dropdown>select{background-image:url("data:image/svg+xml,'
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E%3Cpath d='M4.5 7l4.5 4.5"
    "L13.5 7' fill='none' stroke='%23808080' stroke-width='1.8'/%3E%3C/svg%3E\")}</style>"
)
_STATUS = '<div role="status" style="font-size:14px;padding:4px 14px">computing…</div>'


class Panel(widgets.VBox):
    """Controls, picture and error area in one widget.

    ``state``: a frozen dataclass; it gives every control its first value. ``controls``: field name
    → ipywidget with a ``value``. ``scene``: a pure function, state → `Scene`. ``limits``: an
    optional function of the state that says what controls may offer now, as field name → traits,
    such as ``{"group_size": {"options": (32, 64)}}``; a value no longer offered moves to one that
    is. ``slow=True``: sliders act on release, and "computing…" shows meanwhile; torch then uses all
    its threads, where a quick panel draws with one.

    A scene function that raises shows its message in red; the last good picture stays, dimmed, and
    the next good state clears both.

    Raises ``ValueError`` when a control's name is no field of the state (the message lists the
    fields), or when a control cannot take the value that the state gives it.

    >>> from dataclasses import dataclass
    >>> from labkit.explorers.scene import Readout, Scene
    >>> @dataclass(frozen=True)
    ... class State:
    ...     bits: int = 4
    >>> panel = Panel(
    ...     State(),
    ...     {"bits": bits_slider()},
    ...     lambda s: Scene("Levels", readouts=[Readout("levels", 2**s.bits)]),
    ... )
    >>> panel.set(bits=3)
    >>> panel.scene.readout("levels").value
    8
    >>> print(panel.words())
    Levels
    bits = 3
    levels: 8 (computed)
    """

    def __init__(
        self,
        state: Any,
        controls: Mapping[str, Any],
        scene: Callable[[Any], Scene],
        *,
        limits: Limits | None = None,
        slow: bool = False,
    ) -> None:
        """Build the widget and draw the first picture."""
        if not is_dataclass(state) or isinstance(state, type):
            raise ValueError(f"state must be an instance of a dataclass, got {state!r}")
        self._fields = tuple(field.name for field in fields(state))
        self._check_names(controls)
        self._state = state
        self._controls = dict(controls)
        self._draw = scene
        self._limits = limits
        self._slow = slow
        self._quiet = False
        self._scene: Scene | None = None
        self._svg = ""
        self._error = ""
        self._picture = widgets.HTML(layout=widgets.Layout(width="100%", margin="6px 0 0 0"))
        self._picture.add_class("ql-picture")
        self._alert = widgets.HTML(layout=widgets.Layout(width="100%", margin="0"))
        self._alert.add_class("ql-error")
        # Apart from the picture: a style element that comes and goes with every step would make
        # the browser work out the looks of the whole page again.
        looks = widgets.HTML(style_sheet() + _ARROW, layout=widgets.Layout(display="none"))
        super().__init__((*self._controls.values(), self._alert, self._picture, looks))
        self.add_class("ql-panel")
        self._take(state)
        for name, control in self._controls.items():
            if slow and control.has_trait("continuous_update"):
                control.continuous_update = False
            control.observe(self._listener(name), names="value")
        self._repaint()

    @property
    def state(self) -> Any:
        """The state that the controls show now."""
        return self._state

    @property
    def scene(self) -> Scene | None:
        """The last scene that was drawn; ``None`` before the first good one."""
        return self._scene

    @property
    def svg(self) -> str:
        """Text of the last picture that was drawn (theme "auto")."""
        return self._svg

    @property
    def error(self) -> str:
        """Message in the error area; empty when all is well."""
        return self._error

    @property
    def controls(self) -> dict[str, Any]:
        """Field name → control."""
        return dict(self._controls)

    def set(self, **values: Any) -> None:
        """Change fields of the state, move their controls, draw once.

        ``ValueError`` for an unknown field or a value that its control cannot take; nothing has
        changed then.
        """
        self._check_names(values)
        self._take(replace(self._state, **values))
        self._repaint()

    def words(self, digits: int = 3) -> str:
        """State and readouts as text, numbers rounded to ``digits`` significant digits."""
        plain = ((name, getattr(self._state, name)) for name in self._fields)
        settings = ", ".join(
            f"{name} = {short(value, digits)}"
            for name, value in plain
            if isinstance(value, bool | int | float | str)
        )
        lines = [self._scene.title if self._scene else "No picture", settings]
        if self._error:
            lines.append(f"error: {self._error}")
        elif self._scene:
            lines.extend(readout.words(digits) for readout in self._scene.readouts)
        return "\n".join(line for line in lines if line)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        # The inherited text is cut at 110 characters and holds random ids.
        view = {"version_major": 2, "version_minor": 0, "model_id": self._model_id}
        return {"text/plain": self.words(), _VIEW: view}

    def __repr__(self) -> str:
        """The panel in words."""
        return self.words()

    def _check_names(self, names: Mapping[str, Any]) -> None:
        unknown = [name for name in names if name not in self._fields]
        if unknown:
            raise ValueError(
                f"no field {', '.join(map(repr, unknown))} in the state; "
                f"its fields are {', '.join(self._fields)}"
            )

    def _listener(self, name: str) -> Callable[[Any], None]:
        def changed(change: Any) -> None:
            if not self._quiet:
                self._state = replace(self._state, **{name: change["new"]})
                try:
                    self._take(self._state)
                except Exception as error:  # noqa: BLE001 - must be seen in the panel, as below
                    self._show(error)
                    return
                self._repaint()

        return changed

    def _take(self, state: Any) -> None:
        """Make the controls show ``state``; put them back and raise when one cannot."""
        before = {name: control.value for name, control in self._controls.items()}
        with self._silence():
            try:
                self._offer(state)
                for name, control in self._controls.items():
                    _put(name, control, getattr(state, name), exact=self._limits is None)
            except Exception:
                for name, control in self._controls.items():
                    control.value = before[name]
                raise
            shown = {name: control.value for name, control in self._controls.items()}
        self._state = replace(state, **shown)

    def _offer(self, state: Any) -> None:
        for name, traits in (self._limits(state) if self._limits else {}).items():
            self._check_names({name: None})
            with self._controls[name].hold_trait_notifications():
                for trait, value in traits.items():
                    if getattr(self._controls[name], trait) != value:
                        setattr(self._controls[name], trait, value)

    @contextmanager
    def _silence(self) -> Any:
        was, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = was

    def _repaint(self) -> None:
        if self._slow:
            self._alert.value = _STATUS
        try:
            # Between two steps torch's threads fall asleep; to wake them took 8 to 11 ms of a step.
            with nullcontext() if self._slow else one_thread():
                scene = self._draw(self._state)
            if not isinstance(scene, Scene):
                raise ValueError(f"the scene function returned {type(scene).__name__}, not a Scene")
            picture = render(scene)
            page = live(picture, scene)
        except Exception as error:  # noqa: BLE001 - whatever fails must be seen in the panel
            self._show(error)
            return
        self._scene, self._svg, self._error = scene, picture, ""
        self._picture.value = page
        if self._alert.value:
            self._alert.value = ""
        self._picture.remove_class("ql-stale")

    def _show(self, error: Exception) -> None:
        self._error = str(error) or type(error).__name__
        if not isinstance(error, ValueError):
            self._error = f"{type(error).__name__}: {self._error}"
        self._alert.value = _ALERT.format(escape(self._error))
        self._picture.add_class("ql-stale")


def _put(name: str, control: Any, value: Any, *, exact: bool) -> None:
    options = option_values(control)
    if options is not None and not exact and value not in options:
        return
    try:
        control.value = value
    except traitlets.TraitError as error:
        offered = f"; it offers {options}" if options is not None else ""
        raise ValueError(f"field {name!r}: its control cannot take {value!r}{offered}") from error
    if exact and control.value != value:
        room = f"{getattr(control, 'min', '?')} to {getattr(control, 'max', '?')}"
        raise ValueError(f"field {name!r}: got {value!r}, but its control runs from {room}")
