"""Controls with one look: wide tracks, whole labels, tooltips; and every position they can take.

Controls carry no value of their own when made: a `labkit.explorers.panel.Panel` sets each from the
state it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import ipywidgets as widgets

_LABEL = "180px"
_WIDE = "min(100%, 760px)"
_MOST_POSITIONS = 64


def bits_slider(label: str = "bits", low: int = 2, high: int = 8, *, tooltip: str = "") -> Any:
    """A slider over whole bit widths from ``low`` to ``high``.

    >>> bits_slider().max
    8
    """
    return int_slider(label, low, high, tooltip=tooltip or "How many bits a code has")


def int_slider(label: str, low: int, high: int, *, step: int = 1, tooltip: str = "") -> Any:
    """A slider over whole numbers from ``low`` to ``high``.

    >>> int_slider("samples", 1, 10).min
    1
    """
    return widgets.IntSlider(low, min=low, max=high, step=step, **_look(label, tooltip))


def float_slider(
    label: str,
    low: float,
    high: float,
    *,
    step: float = 0.01,
    shown: str = ".2f",
    tooltip: str = "",
) -> Any:
    """A slider over real numbers; ``shown`` is the format of the number beside it.

    >>> float_slider("clip", 0.1, 4, step=0.1).step
    0.1
    """
    look = _look(label, tooltip)
    return widgets.FloatSlider(low, min=low, max=high, step=step, readout_format=shown, **look)


def steps_slider(label: str, options: Sequence[Any], *, tooltip: str = "") -> Any:
    """A slider over a few values in order, such as group sizes; pairs are (shown, value).

    >>> steps_slider("group size", [32, 64, 128]).options
    (32, 64, 128)
    """
    return widgets.SelectionSlider(options=_pairs(options), **_look(label, tooltip))


def choice(
    label: str, options: Sequence[Any], *, tooltip: str = "", buttons: bool | None = None
) -> Any:
    """One of several options, given as values or as pairs (shown, value).

    Buttons when there are at most four, a drop-down otherwise; ``buttons`` decides by hand.

    >>> type(choice("scheme", ["affine", "symmetric"])).__name__
    'ToggleButtons'
    """
    buttons = len(options) <= 4 if buttons is None else buttons
    look = _look(label, tooltip)
    if not buttons:
        return widgets.Dropdown(options=_pairs(options), **look)
    style = {"description_width": _LABEL, "button_width": "auto"}
    look["layout"] = widgets.Layout(width="100%", height="auto", align_items="center")
    row = widgets.ToggleButtons(options=_pairs(options), **(look | {"style": style}))
    # Without the classes of the other controls the label stands alone above the buttons.
    row.add_class("jupyter-widgets")
    row.add_class("widget-inline-hbox")
    return row


def switch(label: str, *, tooltip: str = "") -> Any:
    """A check box.

    >>> switch("show the grid").value
    False
    """
    return widgets.Checkbox(value=False, **_look(label, tooltip))


def positions(controls: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of values the controls can take, as dicts of field name → value.

    Options, check boxes and whole-number sliders (up to 64 positions) give all their values; other
    sliders their two ends and the middle.

    >>> len(list(positions({"bits": bits_slider(), "clip": float_slider("clip", 0, 1)})))
    21
    """
    names = list(controls)
    for values in product(*(_values(name, controls[name]) for name in names)):
        yield dict(zip(names, values, strict=True))


def sweep(
    scene: Callable[[Any], Any], state: Any, controls: Mapping[str, Any]
) -> Iterator[tuple[Any, Any]]:
    """(state, scene) at every position of the controls, for a test to assert about.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class State:
    ...     bits: int = 4
    >>> [s.bits for s, _ in sweep(lambda s: None, State(), {"bits": bits_slider("b", 2, 4)})]
    [2, 3, 4]
    """
    for values in positions(controls):
        at = replace(state, **values)
        yield at, scene(at)


def option_values(control: Any) -> tuple[Any, ...] | None:
    """Values of a control that offers options, ``None`` for one that does not.

    >>> option_values(choice("n", [("one", 1), ("two", 2)]))
    (1, 2)
    """
    options = getattr(control, "options", None)
    if options is None:
        return None
    if isinstance(options, Mapping):
        return tuple(options.values())
    return tuple(o[1] if _is_pair(o) else o for o in options)


def _pairs(options: Sequence[Any]) -> list[Any]:
    """The options as they are, or all as pairs when one is: ipywidgets knows no mixture."""
    if not any(_is_pair(option) for option in options):
        return list(options)
    return [option if _is_pair(option) else (str(option), option) for option in options]


def _is_pair(option: Any) -> bool:
    return isinstance(option, tuple) and len(option) == 2


def _values(name: str, control: Any) -> tuple[Any, ...]:
    options = option_values(control)
    if options is not None:
        return options
    if isinstance(control.value, bool):
        return (False, True)
    if not hasattr(control, "min"):
        raise ValueError(f"control {name!r}: no way to list the positions of {type(control)}")
    low, high = control.min, control.max
    if isinstance(control, widgets.FloatLogSlider):
        base = control.base
        return base**low, base ** ((low + high) / 2), base**high
    step = control.step
    if isinstance(control.value, int) and (high - low) // step < _MOST_POSITIONS:
        return tuple(range(low, high + 1, step))
    middle = low + round((high - low) / 2 / step) * step
    return low, middle, high


def _look(label: str, tooltip: str) -> dict[str, Any]:
    return {
        "description": label,
        "tooltip": tooltip or label,
        "style": {"description_width": _LABEL},
        "layout": widgets.Layout(width=_WIDE),
    }
