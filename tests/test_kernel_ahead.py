"""labkit/launcher/kernel_ahead.py: the first notebook's kernel, and never a lab that fails."""

import asyncio
import importlib.util
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).resolve().parents[1] / "labkit" / "launcher" / "kernel_ahead.py"
spec = importlib.util.spec_from_file_location("kernel_ahead", FILE)
kernel_ahead = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernel_ahead)


class Client:
    """A kernel's client that writes down what it was asked to do."""

    def __init__(self, problem=None):
        self.problem, self.calls = problem, []

    def start_channels(self, **channels):
        self.calls.append("start")

    async def execute(self, code, **options):
        self.calls.append(code)
        assert options["silent"], "a silent run leaves no number and no history"
        if self.problem:
            raise self.problem

    def stop_channels(self):
        self.calls.append("stop")


def server(address, client=None, refused=None):
    """What Jupyter hands to the extension, with sessions kept in a list."""
    sessions = []

    async def create_session(**wanted):
        if refused:
            raise refused
        sessions.append(wanted)
        return {"kernel": {"id": "k"}}

    kernels = {"k": SimpleNamespace(client=lambda: client)}
    return SimpleNamespace(
        default_url=address,
        log=logging.getLogger("kernel_ahead"),
        sessions=sessions,
        session_manager=SimpleNamespace(create_session=create_session),
        kernel_manager=SimpleNamespace(
            default_kernel_name="python3", get_kernel=kernels.__getitem__
        ),
    )


def run(app):
    asyncio.run(kernel_ahead._start_jupyter_server_extension(app))


def test_the_session_is_the_one_that_the_page_looks_for():
    app = server("/lab/tree/00_start_here.ipynb", Client())
    run(app)
    name = "00_start_here.ipynb"
    expected = {"path": name, "name": name, "type": "notebook", "kernel_name": "python3"}
    assert app.sessions == [expected]


def test_what_is_imported_exists_and_binds_no_name():
    client = Client()
    run(server("/lab/tree/a.ipynb", client))
    assert client.calls == ["start", kernel_ahead.PRELOAD, "stop"]
    names = {}
    exec(kernel_ahead.PRELOAD, names)
    assert set(names) == {"__builtins__"}


@pytest.mark.parametrize("address", ["/lab", "/lab/tree/a_folder", "/tree"])
def test_an_address_without_a_notebook_starts_nothing(address):
    app = server(address, Client())
    run(app)
    assert app.sessions == []


def test_a_kernel_that_does_not_start_is_logged_and_no_more(caplog):
    run(server("/lab/tree/a.ipynb", refused=RuntimeError("no such kernel")))
    assert "not started ahead: no such kernel" in caplog.text


def test_a_kernel_that_does_not_answer_is_logged_and_let_go(caplog):
    client = Client(TimeoutError("Timeout waiting for reply"))
    run(server("/lab/tree/a.ipynb", client))
    assert "Timeout waiting for reply" in caplog.text
    assert client.calls[-1] == "stop"
