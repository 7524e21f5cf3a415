"""Every notebook in a real JupyterLab: runs, moves, looks."""

import pytest
from jupyterlab_driver import ROOT, Notebook
from moving import drag_slider, move_everything

NAMES = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_learner_steps_through(browser, server, screenshots, name):
    notebook = Notebook(browser, server, f"notebooks/{name}.ipynb")
    try:
        stored = notebook.cells()
        shown = [i for i, cell in enumerate(stored) if pictures(cell)]
        assert shown, "no still picture in the stored notebook"
        assert shown[0] <= 2, "no picture within the first code cells"
        assert notebook.page.locator(".jp-OutputArea-output img").count() >= len(shown)
        assert not notebook.errors()
        notebook.run()
        assert not notebook.errors()
        assert all(cell["count"] for cell in notebook.cells())
        panels = notebook.panels.all()
        assert panels, "no live panel after running all cells"
        notebook.screenshots(screenshots, f"{name}-light")
        notebook.theme("dark")
        notebook.screenshots(screenshots, f"{name}-dark")
        notebook.theme("light")
        dragged = False
        for panel in panels:
            panel.scroll_into_view_if_needed()
            stuck = move_everything(panel)
            assert not stuck, f"these controls changed nothing: {stuck}"
            sliders = panel.locator("[role=slider]")
            if not dragged and sliders.count():
                dragged = drag_slider(sliders.first, panel)
                assert dragged, "dragging the slider changed nothing"
        assert not notebook.errors()
        notebook.screenshots(screenshots, f"{name}-moved")
    finally:
        notebook.close()


def pictures(cell):
    return [o for o in cell["outputs"] if "image/png" in o.get("data", {})]
