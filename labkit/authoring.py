"""For authors: run notebooks from top to bottom and store them with still pictures.

    python -m labkit.authoring execute [notebook ...]

A stored live widget is harmful: without a kernel it reads "Error displaying widget". So each panel
is replaced by a PNG of its last picture, drawn with a bundled font, beside its state in words.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from labkit.explorers.drawing.png import decode, encode_palette
from labkit.explorers.svg import still

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
MOST_BYTES = 600_000
_MARGIN = 10
_KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"}


class NotebookError(Exception):
    """A notebook cannot be stored; the message names the notebook, the cell and the reason.

    >>> str(NotebookError("a.ipynb, cell 3: NameError"))
    'a.ipynb, cell 3: NameError'
    """


class _ThisPython(KernelSpecManager):
    """Starts the interpreter that runs this code, whatever else is installed as python3."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv.append("--log-level=ERROR")
        return KernelSpec(argv=argv, **{k: v for k, v in _KERNELSPEC.items() if k != "name"})


def execute(path: str | Path, timeout: float = 600) -> Path:
    """Run the notebook in its own folder and replace the file by the executed one.

    The same sources give the same file again. Raises `NotebookError`, leaving the file as it was,
    when a cell raises (unless it is tagged ``raises-exception``), takes more than ``timeout``
    seconds, shows a panel with an error, or shows a widget that is no panel.

    >>> execute("missing.ipynb")
    Traceback (most recent call last):
    ...
    labkit.authoring.NotebookError: missing.ipynb: no such notebook
    """
    path = Path(path)
    if not path.is_file():
        raise NotebookError(f"{path}: no such notebook")
    notebook = nbformat.read(path, as_version=4)
    _run(notebook, path, timeout)
    pictures = _pictures(notebook, path.name)
    _tidy(notebook)
    # Sharp pictures where they fit into the notebook's share of bytes, plainer ones otherwise.
    for scale in (2.0, 1.5, 1.0):
        for output, picture in pictures:
            _store(output, picture, scale)
        text = nbformat.writes(notebook, version=nbformat.NO_CONVERT)
        if len(text.encode()) <= MOST_BYTES:
            break
    else:
        raise NotebookError(
            f"{path.name}: {len(text.encode()):,} bytes; at most {MOST_BYTES:,} fit. "
            "Show fewer or smaller pictures"
        )
    _write(path, text if text.endswith("\n") else text + "\n")
    return path


def rasterize(picture: str, scale: float = 2.0) -> bytes:
    """PNG bytes of a rendered scene: light colours on white, 256 colours at most.

    Uses the fonts that matplotlib brings, so that every machine draws the same letters.

    >>> from labkit.explorers.scene import Scene
    >>> from labkit.explorers.svg import render
    >>> rasterize(render(Scene("t")))[:4]
    b'\\x89PNG'
    """
    import matplotlib
    import resvg_py

    fonts = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf")
    width, height = _size(picture)
    # Rounded white paper with a margin; the corners stay transparent for dark pages.
    page = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>'
        f'<g transform="translate({_MARGIN} {_MARGIN})">{still(picture)}</g></svg>'
    )
    png = resvg_py.svg_to_bytes(
        svg_string=page,
        zoom=scale,
        skip_system_fonts=True,
        font_dirs=[fonts],
        font_family="DejaVu Sans",
        sans_serif_family="DejaVu Sans",
        monospace_family="DejaVu Sans Mono",
    )
    return encode_palette(decode(bytes(png)))


def _run(notebook: Any, path: Path, timeout: float) -> None:
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("widgets", None)
    reached = 0

    def note(cell: Any, cell_index: int) -> None:
        nonlocal reached
        reached = cell_index + 1

    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=_ThisPython()),
        timeout=timeout,
        resources={"metadata": {"path": str(path.resolve().parent)}},
        store_widget_state=True,
        record_timing=False,
        coalesce_streams=True,
        on_cell_start=note,
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"{path.name}, cell {reached}: {_reason(error, timeout)}") from error


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        return f"took more than {timeout:g} seconds"
    return "the kernel died; memory may have run out"


def _pictures(notebook: Any, name: str) -> list[tuple[Any, str]]:
    """Every output that shows a panel, with the panel's last picture."""
    state = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", ()):
            view = output.get("data", {}).get(VIEW)
            if view is None:
                continue
            parts = _parts(view["model_id"], state)
            alert = next((p["value"] for p in parts if "ql-error" in p["_dom_classes"]), "")
            if 'role="alert"' in alert:
                message = re.sub(r"<style>.*?</style>|<[^>]*>", "", alert)
                raise NotebookError(f"{name}, cell {number}: the panel shows an error: {message}")
            picture = next((p["value"] for p in parts if "ql-picture" in p["_dom_classes"]), "")
            if not picture:
                raise NotebookError(
                    f"{name}, cell {number}: shows a widget that is no panel, so there is no "
                    "still picture of it; use labkit.explorers.panel.Panel"
                )
            # The tooltips that lie over the picture are HTML, which no rasterizer draws.
            drawn = re.search(r"<svg\b.*</svg>", picture, re.DOTALL)
            found.append((output, drawn.group() if drawn else picture))
    return found


def _parts(model: str, state: dict[str, Any]) -> list[dict[str, Any]]:
    """States of the HTML widgets directly inside a box."""
    children = state.get(model, {}).get("state", {}).get("children", ())
    own = [state.get(c.removeprefix("IPY_MODEL_"), {}).get("state", {}) for c in children]
    return [part for part in own if part.get("_dom_classes") and "value" in part]


def _tidy(notebook: Any) -> None:
    """Drop what differs from run to run or machine to machine."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = dict(_KERNELSPEC)
    notebook.metadata["language_info"] = dict(_LANGUAGE)
    for cell in notebook.cells:
        for volatile in ("execution", "collapsed", "scrolled", "trusted"):
            cell.metadata.pop(volatile, None)


def _store(output: Any, picture: str, scale: float) -> None:
    width, height = _size(picture)
    png = base64.b64encode(rasterize(picture, scale)).decode("ascii")
    output["data"].pop(VIEW, None)
    output["data"]["image/png"] = png
    output["metadata"] = {"image/png": {"width": width, "height": height}}


def _size(picture: str) -> tuple[int, int]:
    found = re.search(r' width="([\d.]+)" height="([\d.]+)"', picture)
    if found is None:
        raise ValueError("not a rendered scene: its size is missing")
    return tuple(round(float(side)) + 2 * _MARGIN for side in found.groups())  # type: ignore


def _write(path: Path, text: str) -> None:
    """All or nothing: a reader never sees half a notebook."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(draft, path.stat().st_mode & 0o777)
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0 when every notebook was stored.

    >>> main(["execute", "missing.ipynb"])
    1
    """
    parser = argparse.ArgumentParser(prog="python -m labkit.authoring", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("execute", help="run notebooks and store their outputs")
    run.add_argument("paths", nargs="*", help="notebooks; all of notebooks/ when left out")
    run.add_argument("--timeout", type=float, default=600, help="seconds allowed for a cell")
    options = parser.parse_args(arguments)
    paths = [Path(p) for p in options.paths] or sorted(NOTEBOOKS.glob("*.ipynb"))
    status = 0
    for path in paths:
        try:
            execute(path, options.timeout)
            print(f"{path}: executed and stored, {path.stat().st_size:,} bytes")
        except NotebookError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
