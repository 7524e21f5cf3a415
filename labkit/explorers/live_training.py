"""Training under quantization, live: start it, watch the curve, stop it whenever you like.

It runs in a thread of the kernel, so that sliders and other cells go on working meanwhile.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable
from html import escape
from typing import ClassVar

import ipywidgets as widgets

from labkit.explorers.panel import Panel
from labkit.explorers.training_runs import EPOCHS, Run, Setting, train, train_control
from labkit.explorers.training_view import (
    CONTROL,
    TRAINED,
    Runs,
    controls,
    in_words,
    percent,
    scene,
)
from labkit.threads import one_thread

REPAINT = 0.2
"""Seconds between two pictures of a training."""


class TrainingPanel(Panel):
    """The panel with its Start and Stop buttons; `quantized` is the network that was trained last.

    `done`: settings to train before the panel is shown, while its cell runs, with the control.
    """

    _last: ClassVar[weakref.ref | None] = None

    def __init__(self, state: Setting, done: Iterable[Setting] = ()) -> None:
        """Build the widget; train what is to be done already."""
        self._paint, self._stopping = threading.RLock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._painted = 0.0
        self.runs, self.quantized = Runs(), None
        with one_thread():
            for setting in done:
                self.quantized, run = train(setting)
                control = self.runs.control or train_control()
                self.runs = Runs({**self.runs.done, setting: run}, control)
        super().__init__(state, controls(), lambda state: scene(state, self.runs))
        self._start = widgets.Button(description="Start", icon="play", button_style="success")
        self._stop = widgets.Button(description="Stop", icon="stop", disabled=True)
        self._start.tooltip, self._stop.tooltip = "Train this setting", "End it at the next batch"
        self._start.on_click(lambda _: self.start())
        self._stop.on_click(lambda _: self.stop())
        look = widgets.Layout(width="min(100%, 380px)")
        self._bar = widgets.FloatProgress(0.0, min=0, max=1, description="progress", layout=look)
        row = widgets.HBox([self._start, self._stop, self._bar])
        row.layout.align_items, row.layout.margin = "center", "6px 0 0 12px"
        # On a line of its own: longer words would move the picture up and down.
        self._status = widgets.HTML("", layout=widgets.Layout(margin="0 0 0 14px"))
        self._say("not training")
        at = len(self.controls)
        self.children = (*self.children[:at], row, self._status, *self.children[at:])

    @property
    def training(self) -> bool:
        """Whether a training is going on."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def status(self) -> str:
        """What stands beside the progress bar."""
        return self._said

    def start(self) -> bool:
        """Train the setting that the sliders show, in the background; False when one is going on.

        The training of another panel is stopped first: two would only slow each other down.
        """
        if self.training:
            self._say("a training is going on: press Stop first")
            return False
        other = TrainingPanel._last() if TrainingPanel._last else None
        if other is not None and other is not self and other.training:
            other.stop()
            other.wait()
        TrainingPanel._last = weakref.ref(self)
        self._stopping.clear()
        self._buttons(training=True)
        self._thread = threading.Thread(target=self._train, args=(self.state,), daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """End the training at its next batch; what it has come to by then stays."""
        self._stopping.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the training has ended."""
        if self._thread is not None:
            self._thread.join(seconds)

    def words(self, digits: int = 3) -> str:
        """State and readouts as text, without what training gave: that ends elsewhere elsewhere."""
        lines = super().words(digits).splitlines()
        return "\n".join(line for line in lines if not line.startswith(TRAINED))

    def _train(self, setting: Setting) -> None:
        """What the thread does; its errors are shown in the panel."""
        try:
            with one_thread():
                self.quantized, run = train(setting, tell=self._follow, stop=self._stopping.is_set)
                self._note(run)
                if self.runs.control is None and not self._stopping.is_set():
                    control = train_control(tell=self._follow, stop=self._stopping.is_set)
                    # A control that was stopped is no control.
                    self._note(control if control.ended == "finished" else None)
            self._say(in_words(run))
        except Exception as error:  # noqa: BLE001 - whatever fails must be seen in the panel
            self.runs = Runs(self._finished(), self.runs.control)
            with self._paint:
                self._show(error)
            self._say("failed")
        finally:
            self._buttons(training=False)

    def _follow(self, run: Run) -> None:
        """Show a run that is going on, a few times a second."""
        now = time.monotonic()
        if now - self._painted < REPAINT:
            return
        self._painted = now
        self._note(run)
        what = "training" if run.setting else "training the float control, once"
        quality = f", {percent(run.quality)} right" if run.quality else ""
        self._bar.value = run.epochs / EPOCHS
        self._say(f"{what}: epoch {min(int(run.epochs) + 1, EPOCHS)} of {EPOCHS}{quality}")

    def _note(self, run: Run | None) -> None:
        done, control = dict(self.runs.done), self.runs.control
        if run is None:
            control = None
        elif run.setting is None:
            control = run
        else:
            done[run.setting] = run
        now = "" if run is None or run.ended else run.setting or CONTROL
        self.runs = Runs(done, control, now)
        self._repaint()

    def _finished(self) -> dict[Setting, Run]:
        return {setting: run for setting, run in self.runs.done.items() if run.ended}

    def _repaint(self) -> None:
        # Sliders are moved in the kernel's main thread while the training repaints in its own.
        with self._paint:
            super()._repaint()

    def _buttons(self, *, training: bool) -> None:
        self._start.disabled, self._stop.disabled = training, not training
        if training:
            self._bar.value = 0.0
            self._say("starting …")
        else:
            self._bar.value = 1.0 if not self._stopping.is_set() else self._bar.value

    def _say(self, words: str) -> None:
        self._said = words
        self._status.value = f'<span role="status" style="font-size:14px">{escape(words)}</span>'


def explorer(done: Iterable[Setting] = (), **fields) -> TrainingPanel:
    """Return the live panel; `fields` are those of `Setting`; `done` is trained at once.

    >>> explorer(bits=3).status
    'not training'
    """
    return TrainingPanel(Setting(**fields), done)
