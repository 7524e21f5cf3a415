"""A small notebook with panels, for the tests of the panel, the execute step and the browser."""

from __future__ import annotations

from pathlib import Path

import nbformat

MODULE = """
from dataclasses import dataclass

import numpy as np

from labkit.explorers.panel import Panel, bits_slider, choice, float_slider, switch
from labkit.explorers.scene import Axis, Band, Hits, Plot, Readout, Rule, Scene, Steps


@dataclass(frozen=True)
class State:
    bits: int = 4
    amax: float = 1.0
    scheme: str = "affine"
    grid: bool = True


def controls():
    return {
        "bits": bits_slider(),
        "amax": float_slider("largest value", 0.1, 2.0, step=0.1),
        "scheme": choice("scheme", ["affine", "symmetric"]),
        "grid": switch("show the grid"),
    }


def scene(state):
    levels = 2**state.bits - (state.scheme == "symmetric")
    step = 2 * state.amax / (levels - 1)
    values = (np.arange(levels) - levels // 2) * step
    edges = np.concatenate([[-3], (values[1:] + values[:-1]) / 2, [3]])
    tips = [f"code {q}\\nstands for {v:.4f}" for q, v in enumerate(values)]
    marks = [
        Band(values[0], values[-1], "representable"),
        Rule(0, "zero"),
        Steps(edges, values, "quantized", "quantized"),
        Hits(edges[:-1], edges[1:], values, values, tips),
    ]
    plot = Plot(
        marks, Axis("x", -3, 3), Axis("x'", -3, 3), grid="both" if state.grid else "none"
    )
    return Scene("The staircase", [plot], [Readout("step", step), Readout("codes", levels)])


def explorer(**fields):
    return Panel(State(**fields), controls(), scene)
"""


def notebook(*sources: str) -> nbformat.NotebookNode:
    """A notebook with these code cells and stable cell ids."""
    node = nbformat.v4.new_notebook()
    # Without it JupyterLab asks which kernel to use.
    node.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "name": "python3"}
    node.cells = [nbformat.v4.new_markdown_cell("# Demo", id="title")]
    for i, source in enumerate(sources):
        node.cells.append(nbformat.v4.new_code_cell(source, id=f"cell-{i}"))
    return node


def write(folder: Path, *more: str, name: str = "demo.ipynb") -> Path:
    """Write the demo notebook and the module it imports; ``more`` are further cells."""
    (folder / "demo_explorer.py").write_text(MODULE, encoding="utf-8")
    path = folder / name
    sources = ("from demo_explorer import explorer", "explorer()", "print(1 + 1)", *more)
    nbformat.write(notebook(*sources), path)
    return path


LIVE_CELLS = (
    "panel = explorer(bits=3)\npanel",
    "panel",
    "from demo_explorer import *\n"
    "def fragile(state):\n"
    "    if state.bits == 5:\n"
    "        raise ValueError('five bits are forbidden')\n"
    "    return scene(state)\n"
    "Panel(State(), controls(), fragile)",
)
"""Cells for the browser: one panel shown twice, and one that can fail."""
