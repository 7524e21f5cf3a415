"""Slider step → repaint, in a real browser: a panel against `interact` with inline matplotlib.

    python benchmarks/slider_latency.py [--steps 60] [--explorer labkit.explorers.clipping:explorer]

Both draw the same histogram of 100,000 quantized values, in one notebook of one JupyterLab. A
slider is dragged many steps at once, so each makes ten steps before it is the other's turn, and a
busy moment hits both. (`--in-a-row 1` changes after every step: then each finds the processor's
caches full of the other's work, and takes longer.) The clock starts at the key press inside the
page and stops when the frame with the changed picture has been drawn (mutation observer, the next
animation frame, then a message that is delivered after that frame's style, layout and paint).
`--explorer` measures one of the lab's own panels in place of the demonstration.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np

WARM_UP = 6
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import jupyterlab_driver as driver  # noqa: E402

DEMO = '''
from dataclasses import dataclass

import numpy as np
import torch

from labkit.affine import choose_qparams, fake_quantize
from labkit.explorers.panel import Panel, bits_slider
from labkit.explorers.scene import Axis, Plot, Readout, Scene, Steps

VALUES = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
EDGES = np.linspace(-5, 5, 201)


def work(bits):
    """The same real work for both: quantize, two histograms, the error."""
    quantized = fake_quantize(VALUES, choose_qparams(VALUES, bits))
    error = ((VALUES - quantized) ** 2).mean().item()
    return [np.histogram(v.numpy(), EDGES)[0] for v in (VALUES, quantized)], error


@dataclass(frozen=True)
class State:
    bits: int = 4


def scene(state):
    (values, quantized), error = work(state.bits)
    marks = [
        Steps(EDGES, values, "float", "float", fill=True),
        Steps(EDGES, quantized, "quantized", "quantized"),
    ]
    plot = Plot(marks, Axis("value", -5, 5), Axis("values", 0.8, 1e5, scale="log"))
    return Scene("100,000 values", [plot], [Readout("mean squared error", error, kind="measured")])


def explorer():
    return Panel(State(), {"bits": bits_slider()}, scene)


def draw(bits=4):
    import matplotlib.pyplot as plt

    (values, quantized), error = work(bits)
    figure, axes = plt.subplots(figsize=(8.8, 3.0))
    axes.stairs(values, EDGES, fill=True, alpha=0.3)
    axes.stairs(quantized, EDGES)
    axes.set(xlim=(-5, 5), ylim=(0.8, 1e5), yscale="log", xlabel="value", ylabel="values")
    axes.set_title(f"mean squared error {error:.4g}")
    plt.show()
'''

# Counts from the key press until the frame in which the watched element changed is drawn.
CLOCK = """
([slider, watched, key]) => new Promise(resolve => {
    let start = null;
    let changed = false;
    const observer = new MutationObserver(() => {
        if (start === null || changed) return;
        // `interact` empties its area before it fills it: an empty area is no picture yet.
        if (!watched.querySelector('svg, img')) return;
        changed = true;
        observer.disconnect();
        requestAnimationFrame(() => {
            const after = new MessageChannel();
            after.port1.onmessage = () => resolve(performance.now() - start);
            after.port2.postMessage(0);
        });
    });
    observer.observe(watched,
        {childList: true, subtree: true, characterData: true, attributes: true});
    slider.focus();
    start = performance.now();
    slider.dispatchEvent(new KeyboardEvent('keydown',
        {key, code: key, bubbles: true, cancelable: true}));
    setTimeout(() => resolve(null), 5000);
})
"""


def write_notebook(folder: Path, explorer: str | None) -> None:
    """A notebook with a panel in its second cell and `interact` in its third."""
    module, _, name = (explorer or "latency_demo:explorer").partition(":")
    (folder / "latency_demo.py").write_text(DEMO, encoding="utf-8")
    sources = [
        "%matplotlib inline\nimport ipywidgets",
        f"from {module} import {name or 'explorer'} as make\nmake()",
        "from latency_demo import draw\n"
        "ipywidgets.interact(draw, bits=ipywidgets.IntSlider(4, min=2, max=8));",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "name": "python3"}
    nbformat.write(notebook, folder / "latency.ipynb")


def measure(steps: int, in_a_row: int, explorer: str | None = None) -> dict[str, np.ndarray]:
    """Milliseconds of ``steps`` slider steps for each of the two, ``in_a_row`` in turn."""
    path = driver.find_browser()
    if path is None:
        raise SystemExit("no Chromium, Chrome or Edge found; `python lab.py doctor` says more")
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name) / "notebooks", Path(name) / "home"
        folder.mkdir()
        home.mkdir()
        write_notebook(folder, explorer)
        server = driver.Server(folder, home)
        try:
            with driver.chromium(path) as browser:
                page = driver.Notebook(browser, server, "latency.ipynb")
                page.run()
                if page.errors():
                    raise SystemExit("\n".join(page.errors()))
                return _in_turn(page, steps, in_a_row)
        finally:
            server.stop()


def _in_turn(page: driver.Notebook, steps: int, in_a_row: int) -> dict[str, np.ndarray]:
    panel = page.panels.first
    interact = page.page.locator(".widget-interact")
    pairs = {
        "panel": (panel.locator("[role=slider]").first, panel.locator(".ql-picture")),
        "interact": (interact.locator("[role=slider]"), interact.locator(".widget-output")),
    }
    # The first steps of each warm caches up and are not counted.
    for pair in pairs.values():
        for number in range(WARM_UP):
            _step(page, *pair, number)
    times: dict[str, list[float]] = {name: [] for name in pairs}
    for first in range(WARM_UP, WARM_UP + steps, in_a_row):
        for name, pair in pairs.items():
            for number in range(first, min(first + in_a_row, WARM_UP + steps)):
                times[name].append(_step(page, *pair, number))
    return {name: np.array(values) for name, values in times.items()}


def _step(page: driver.Notebook, slider: object, watched: object, number: int) -> float:
    """Milliseconds of one step, up and down again, never against an end: 4 → 7 → 4 …"""
    key = "ArrowRight" if number % 6 < 3 else "ArrowLeft"
    arguments = [slider.element_handle(), watched.element_handle(), key]
    taken = page.page.evaluate(CLOCK, arguments)
    if taken is None:
        raise SystemExit(f"no repaint within 5 s of {key}")
    page.page.wait_for_timeout(250)
    return taken


def report(times: dict[str, np.ndarray]) -> str:
    """Medians, 95th percentiles and the ratio with its spread, as text."""
    lines = [f"{'slider step → repaint':<24}{'median':>10}{'p95':>10}{'n':>6}"]
    for name, values in times.items():
        median, p95 = np.percentile(values, [50, 95])
        lines.append(f"{name:<24}{median:>7.0f} ms{p95:>7.0f} ms{len(values):>6}")
    ratio = times["interact"] / times["panel"]
    low, middle, high = np.percentile(ratio, [10, 50, 90])
    lines.append(f"interact ÷ panel, step for step: {middle:.1f} (80 % in {low:.1f}–{high:.1f})")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    lines.append(f"measured on {os.cpu_count()} processors{load}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="slider steps of each (default 60)")
    parser.add_argument("--in-a-row", type=int, default=10, help="steps of one before the other's")
    parser.add_argument("--explorer", help="module:function that returns a panel")
    options = parser.parse_args()
    print(report(measure(options.steps, options.in_a_row, options.explorer)))


if __name__ == "__main__":
    main()
