"""The execute step: still pictures in, live widgets out, all or nothing."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import panel_demo
import pytest

from labkit.authoring import VIEW, NotebookError, execute, main, rasterize
from labkit.explorers.drawing import png
from labkit.explorers.scene import Scene
from labkit.explorers.svg import render

SANITIZE = Path(__file__).parent / "nbval_sanitize.cfg"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return execute(panel_demo.write(tmp_path_factory.mktemp("demo"), "explorer(bits=8)"))


def panels(path):
    cells = nbformat.read(path, as_version=4).cells
    return [o for c in cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})]


def test_a_picture_takes_the_place_of_the_widget(stored):
    text = stored.read_text(encoding="utf-8")
    assert VIEW not in text and '"widgets"' not in text and "Error displaying" not in text
    found = panels(stored)
    assert len(found) == 2
    for output in found:
        size = output.metadata["image/png"]
        pixels = png.decode(base64.b64decode(output.data["image/png"]))
        assert pixels.shape[:2] == (size["height"] * 2, size["width"] * 2)
        assert pixels[pixels.shape[0] // 2, 4].tolist() == [255, 255, 255, 255]
        assert pixels[0, 0, 3] == 0
        # Something is drawn on the paper.
        assert (pixels[..., :3].min(axis=2) < 128).sum() > 1000
    assert "bits = 8" in found[1].data["text/plain"]
    assert "codes: 256 (computed)" in found[1].data["text/plain"]


def test_nothing_volatile_is_stored(stored):
    notebook = json.loads(stored.read_text(encoding="utf-8"))
    assert notebook["metadata"]["language_info"] == {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
    }
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all("execution" not in cell["metadata"] for cell in notebook["cells"])
    assert [c["execution_count"] for c in notebook["cells"][1:]] == [1, 2, 3, 4]


def test_a_second_run_gives_the_same_bytes(stored):
    before = stored.read_bytes()
    assert main(["execute", str(stored)]) == 0
    assert stored.read_bytes() == before
    assert not list(stored.parent.glob(".demo-*"))


def test_strict_nbval_passes(stored):
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p"]
    command += ["no:cacheprovider", "--rootdir", str(stored.parent), str(stored)]
    if SANITIZE.is_file():
        command += ["--nbval-sanitize-with", str(SANITIZE)]
    ran = subprocess.run(command, cwd=stored.parent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", "demo.ipynb, cell 5: ZeroDivisionError"),
        ("import ipywidgets; ipywidgets.IntSlider()", "cell 5: shows a widget that is no panel"),
        (
            "from demo_explorer import *\n"
            "def bad(state):\n    raise ValueError('the tensor is empty')\n"
            "Panel(State(), controls(), bad)",
            "cell 5: the panel shows an error: the tensor is empty",
        ),
        ("import os; os._exit(3)", "cell 5"),
    ],
)
def test_a_failing_notebook_is_refused_and_stays_as_it_was(tmp_path, capsys, cell, message):
    path = panel_demo.write(tmp_path, cell)
    before = path.read_bytes()
    assert main(["execute", str(path)]) == 1
    assert message in capsys.readouterr().err
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != "") == [
        "demo.ipynb",
        "demo_explorer.py",
    ]


def test_an_expected_error_is_stored(tmp_path):
    path = panel_demo.write(tmp_path, "1 / 0")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    execute(path)
    assert nbformat.read(path, as_version=4).cells[-1].outputs[0].ename == "ZeroDivisionError"


def test_a_slow_cell_is_refused(tmp_path):
    path = tmp_path / "slow.ipynb"
    nbformat.write(panel_demo.notebook("import time; time.sleep(60)"), path)
    with pytest.raises(NotebookError, match=r"slow\.ipynb, cell 2: took more than 2 seconds"):
        execute(path, timeout=2)


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(NotebookError, match="no such notebook"):
        execute(tmp_path / "none.ipynb")


def test_rasterizing_is_deterministic_and_needs_a_picture():
    picture = render(Scene("Title"))
    assert rasterize(picture) == rasterize(picture)
    with pytest.raises(ValueError, match="its size is missing"):
        rasterize("<svg/>")
