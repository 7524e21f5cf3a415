"""Notebook 04 without the optional network: it says so in one line each time, and still runs."""

import contextlib
import io
import json
from pathlib import Path

from labkit.explorers import equalizing, real_bits, real_network
from labkit.explorers.real_network import PICTURES, full_size

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "04_weights.ipynb"


def test_it_runs_without_the_network(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path))
    monkeypatch.setattr(real_network, "is_here", lambda: False)
    monkeypatch.setattr(real_network, "mobilenet_v2", lambda: 1 / 0)
    namespace = {"__name__": "notebook"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), namespace)
    assert "feature cosine" not in printed.getvalue()
    for module in (real_bits, equalizing):
        assert "python lab.py models" in repr(module.explorer())


def test_the_cosines_that_the_notebook_prints_do_not_hang_on_a_rounding():
    for pictures in PICTURES:
        for cosine in full_size(pictures).values():
            assert abs((100 * cosine) % 1 - 0.5) > 0.02, (pictures, cosine)
