"""A real JupyterLab in a real browser, steered from Python: shared by the tests and a benchmark."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-quic",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    # Cells outside the window would not be in the page otherwise.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
}


@functools.cache
def load_lab() -> Any:
    """The launcher of the lab as a module."""
    spec = importlib.util.spec_from_file_location("lab", ROOT / "lab.py")
    lab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lab)
    return lab


def find_browser() -> str | None:
    """Path of a Chromium, Chrome or Edge, found as ``lab.py`` finds it."""
    found = load_lab().find_browser()
    return str(found) if found else None


@contextlib.contextmanager
def chromium(path: str) -> Iterator[Any]:
    """A headless browser without any network of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Server:
    """``jupyter lab`` on a folder, with its configuration, kernels and settings in another."""

    def __init__(self, folder: Path, home: Path) -> None:
        """Start the server and wait until it answers."""
        self.folder = folder
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "jupyterlab.log"
        variables = self._prepare(home)
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        command += [f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1"]
        command += [f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"]
        command += [f"--IdentityProvider.token={self.token}", "--LabApp.expose_app_in_browser=True"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()

    def _prepare(self, home: Path) -> dict[str, str]:
        kernel = home / "data" / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        # The interpreter that runs the tests, whatever else is installed as python3.
        spec = {"argv": argv, "display_name": "Python 3 (ipykernel)", "language": "python"}
        kernel.write_text(json.dumps(spec))
        for name, values in SETTINGS.items():
            file = home / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        return {
            # As `python lab.py` starts it.
            **load_lab().KERNEL_SETTINGS,
            **os.environ,
            "JUPYTER_PREFER_ENV_PATH": "0",
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "IPYTHONDIR": str(home / "ipython"),
        }

    def _wait(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                self.ask("GET", "/api/status")
                return
            time.sleep(0.2)
        tail = self.log.read_text(errors="replace")[-3000:]
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{tail}")

    def ask(self, method: str, address: str) -> Any:
        """One request to the server's own interface."""
        request = urllib.request.Request(self.url + address, method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def end_kernels(self) -> None:
        """Stop every kernel, so that the next notebook has the memory."""
        for session in self.ask("GET", "/api/sessions"):
            with contextlib.suppress(OSError):
                self.ask("DELETE", f"/api/sessions/{session['id']}")

    def stop(self) -> None:
        """End the server and its kernels."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.end_kernels()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Notebook:
    """One notebook, open in a page 1280 pixels wide."""

    def __init__(self, browser: Any, server: Server, path: str, theme: str = "light") -> None:
        """Open it in a workspace of its own, without running anything."""
        self.server, self.path = server, path
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(30_000)
        workspace = re.sub(r"\W+", "-", path) + secrets.token_hex(4)
        self.page.goto(f"{server.url}/lab/workspaces/{workspace}/tree/{path}?token={server.token}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.wait_for_function(
            "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )
        if theme != "light":
            self.theme(theme)

    def close(self) -> None:
        """Close the page and stop its kernel."""
        self.page.close()
        self.server.end_kernels()

    def theme(self, name: str) -> None:
        """Switch JupyterLab to its light or dark theme."""
        full = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[name]
        self.page.evaluate(
            "name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", full
        )
        light = "true" if name == "light" else "false"
        self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
        self.page.wait_for_timeout(300)

    def run(self, seconds: float = 120) -> float:
        """Run all cells, wait until the kernel is idle and every cell has run; seconds taken."""
        start = time.monotonic()
        finished = self.page.evaluate(
            """seconds => Promise.race([
                jupyterapp.commands.execute('notebook:run-all-cells').then(() => true),
                new Promise(resolve => setTimeout(() => resolve(false), seconds * 1000)),
            ])""",
            seconds,
        )
        if not finished:
            raise RuntimeError(f"{self.path}: still running after {seconds:g} seconds")
        self.page.wait_for_function(
            "jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
        )
        self.page.wait_for_timeout(500)
        return time.monotonic() - start

    def cells(self) -> list[dict[str, Any]]:
        """Code cells with count, tags and outputs, as the page holds them."""
        return self.page.evaluate(
            """() => jupyterapp.shell.currentWidget.content.widgets
                .filter(c => c.model.type === 'code' && c.model.sharedModel.source.trim())
                .map(c => ({source: c.model.sharedModel.source,
                            count: c.model.executionCount,
                            tags: c.model.getMetadata('tags') || [],
                            outputs: c.model.outputs.toJSON()}))"""
        )

    def errors(self) -> list[str]:
        """Errors that no cell announced (tag ``raises-exception``), and red panels."""
        found = [
            f"{o['ename']}: {o['evalue']} in {cell['source'][:80]!r}"
            for cell in self.cells()
            for o in cell["outputs"]
            if o["output_type"] == "error" and "raises-exception" not in cell["tags"]
        ]
        alerts = self.page.locator(".ql-error [role=alert]").all_inner_texts()
        text = self.page.locator(".jp-Notebook").inner_text()
        broken = [w for w in ("Error displaying widget", "Error creating widget") if w in text]
        return found + [f"panel: {message}" for message in alerts] + broken

    @property
    def panels(self) -> Any:
        """The live panels on the page."""
        return self.page.locator(".jp-OutputArea-output .ql-panel")

    def screenshots(self, folder: Path | None, name: str) -> list[Path]:
        """The whole notebook as pictures 1280 pixels wide, about 1200 high each; None takes none.

        They take longer than all else, so a run that nobody looks at goes without.
        """
        if folder is None:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        area = ".jp-WindowedPanel-outer"
        tall = self.page.evaluate(f"document.querySelector('{area}').scrollHeight")
        height = min(int(tall) + 120, 24_000)
        self.page.set_viewport_size({"width": 1280, "height": height})
        self.page.evaluate(f"document.querySelector('{area}').scrollTop = 0")
        self.page.wait_for_timeout(400)
        paths = []
        for number, top in enumerate(range(0, height, 1200)):
            path = folder / f"{name}-{number:02d}.png"
            box = {"x": 0, "y": top, "width": 1280, "height": min(1200, height - top)}
            self.page.screenshot(path=path, clip=box)
            paths.append(path)
        self.page.set_viewport_size({"width": 1280, "height": 900})
        self.page.wait_for_timeout(300)
        return paths


def copy_of_notebooks(target: Path) -> Path:
    """The project's notebooks in a folder that may be written to."""
    ignore = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "progress.json", ".*")
    shutil.copytree(ROOT / "notebooks", target / "notebooks", ignore=ignore)
    return target
