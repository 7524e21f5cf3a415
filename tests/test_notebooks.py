"""What every committed notebook must look like before anybody runs it."""

import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text(notebook, kind="markdown"):
    return "\n\n".join(
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind
    )


def outputs(notebook):
    return [out for cell in code_cells(notebook) for out in cell["outputs"]]


def test_the_first_twelve_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS][:12] == [
        "00_start_here",
        "01_scale_and_zero_point",
        "02_quantization_error",
        "03_bits_on_disk",
        "04_weights",
        "05_activations_and_calibration",
        "06_static_and_dynamic",
        "07_integer_inference",
        "08_quantization_aware_training",
        "09_mixed_precision",
        "10_vla_policy",
        "11_planner",
    ]


def test_it_was_executed_from_top_to_bottom(notebook):
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_nothing_broken_is_stored(notebook):
    assert "widgets" not in notebook["metadata"]
    for out in outputs(notebook):
        assert out["output_type"] != "error"
        assert out.get("name") != "stderr", out
        assert WIDGET_VIEW not in out.get("data", {})


def test_a_still_picture_stands_within_the_first_two_code_cells(notebook):
    early = [out for cell in code_cells(notebook)[:2] for out in cell["outputs"]]
    assert any("image/png" in out.get("data", {}) for out in early)


def test_cells_are_short(notebook):
    for cell in code_cells(notebook):
        source = "".join(cell["source"])
        assert len(source.splitlines()) <= 12, source


def test_the_anatomy(notebook):
    first = "".join(notebook["cells"][0]["source"])
    assert re.match(r"# \d\d · \S", first)
    assert len(re.findall(r"^[-*] ", first, re.MULTILINE)) >= 3
    assert "minutes" in first
    whole = text(notebook)
    assert "Before you drag" in whole
    assert re.search(r"^## .*[Rr]ecap", whole, re.MULTILINE)
    assert whole.count("<details>") >= 3
    assert whole.count("<details>") == whole.count("</details>")


def test_links_between_files_resolve(notebook):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text(notebook)):
        # The learner's copy stands one folder below the project, as notebooks/ does.
        assert (FOLDER / target).exists(), target


def test_it_is_small():
    for path in NOTEBOOKS:
        assert path.stat().st_size < 600_000, path.name


def test_nothing_of_a_single_machine_is_stored(notebook):
    whole = json.dumps(notebook)
    assert not re.search(r"/(home|root|Users|tmp|work)/", whole)


def test_every_offer_of_help_runs_once_its_comment_sign_is_gone(notebook):
    """A learner who does as the cell says before hint or solution gets help, not a SyntaxError."""
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    offers = [
        (source, line)
        for source in sources
        for line in source.splitlines()
        if re.match(r"# (hint|solution)\(", line)
    ]
    assert offers, "no exercise offers a hint"
    imported = {
        alias.name
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == "labkit.exercises"
        for alias in node.names
    }
    for source, line in offers:
        # What the cell tells the learner to remove; a blank left over would be an IndentationError.
        told = "# " if '"# "' in source else "#"
        ready = source.replace(line, line.removeprefix(told), 1)
        calls = [node for node in ast.walk(ast.parse(ready)) if isinstance(node, ast.Call)]
        assert len(calls) == 1, line
        assert ast.unparse(calls[0].func) in imported, line
