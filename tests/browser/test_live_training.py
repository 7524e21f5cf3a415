"""Training live in a real JupyterLab: Start, a curve that grows, sliders meanwhile, Stop."""

import json

import pytest
from jupyterlab_driver import Notebook
from moving import move_buttons, picture

CELL = "from labkit.explorers import live_training\n\nlive_training.explorer()"


@pytest.fixture(scope="module")
def notebook(browser, server):
    folder = server.folder / "training"
    folder.mkdir()
    cell = {"cell_type": "code", "id": "live", "metadata": {}, "source": CELL, "outputs": []}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": [cell | {"execution_count": None}],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (folder / "training.ipynb").write_text(json.dumps(content))
    page = Notebook(browser, server, "training/training.ipynb")
    yield page
    page.close()


def test_it_trains_while_it_is_watched_and_stops_when_it_is_told_to(notebook, screenshots):
    notebook.run()
    assert not notebook.errors()
    panel = notebook.panels.first
    start, stop = (panel.get_by_role("button", name=name) for name in ("Start", "Stop"))
    status = panel.locator(".widget-html [role=status]").last
    assert status.inner_text() == "not training" and stop.is_disabled()
    seen = {picture(panel)}
    start.click()
    while len(seen) < 4:
        notebook.page.wait_for_timeout(50)
        seen.add(picture(panel))
    assert "epoch" in status.inner_text() and start.is_disabled()
    if screenshots:
        panel.screenshot(path=screenshots / "training-live.png")
    assert move_buttons(panel.locator(".widget-toggle-buttons").first, panel)
    stop.click()
    notebook.page.wait_for_function("e => !e.disabled", arg=start.element_handle())
    assert status.inner_text().startswith(("stopped after", "finished after"))
    assert not notebook.errors()
    if screenshots:
        panel.screenshot(path=screenshots / "training-stopped.png")
