"""One browser and one JupyterLab for all browser tests."""

import os
from pathlib import Path

import jupyterlab_driver as driver
import panel_demo
import pytest

from labkit.authoring import execute


@pytest.fixture(scope="session")
def browser():
    """A real browser; its absence fails in CI and skips elsewhere."""
    path = driver.find_browser()
    if path is None:
        reason = "no Chromium, Chrome or Edge found; `python lab.py doctor` says how to get one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with driver.chromium(path) as found:
        yield found


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """JupyterLab on a copy of the notebooks and on the demo notebook, executed."""
    folder = driver.copy_of_notebooks(tmp_path_factory.mktemp("lab"))
    (folder / "demo").mkdir()
    execute(panel_demo.write(folder / "demo", *panel_demo.LIVE_CELLS))
    running = driver.Server(folder, tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def screenshots():
    """Where pictures of the notebooks go: to the folder that was asked for, if any."""
    chosen = os.environ.get("LAB_SCREENSHOTS")
    if chosen is None:
        return None
    Path(chosen).mkdir(parents=True, exist_ok=True)
    return Path(chosen)
