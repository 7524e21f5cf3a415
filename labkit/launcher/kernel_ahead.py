"""JupyterLab with the first notebook's kernel ahead: it starts while the browser loads the page.

`lab.py` runs this file by its path with the environment's Python; that folder is then the first
place of imports, so that the server finds the extension below under the name "kernel_ahead".

The page that opens the notebook looks for a session of that path and takes this one. When anything
goes wrong here, it finds none and starts its own, as JupyterLab always does.
"""

import contextlib
import sys
from pathlib import PurePosixPath

# What the first picture needs, imported without binding a name in the learner's kernel.
PRELOAD = "__import__('labkit.explorers.first_look')"
URL_PREFIX = "/lab/tree/"
# A kernel that has not answered by then is left to itself.
SECONDS = 120


async def _start_jupyter_server_extension(serverapp):
    """Start a kernel for the notebook that the page will open, and let it import (Jupyter's hook).

    Nothing is done for an address that names no notebook.
    """
    path = serverapp.default_url.removeprefix(URL_PREFIX)
    if not path.endswith(".ipynb"):
        return
    # Whatever fails must not keep the lab from opening; the log says what it was.
    with _logged(serverapp.log):
        session = await serverapp.session_manager.create_session(
            path=path,
            name=PurePosixPath(path).name,
            type="notebook",
            kernel_name=serverapp.kernel_manager.default_kernel_name,
        )
        kernel = serverapp.kernel_manager.get_kernel(session["kernel"]["id"])
        client = kernel.client()
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        try:
            await client.execute(PRELOAD, silent=True, reply=True, timeout=SECONDS)
        finally:
            client.stop_channels()


def _load_jupyter_server_extension(serverapp):
    """Jupyter wants this hook; there is nothing to prepare before the server listens."""


@contextlib.contextmanager
def _logged(log):
    try:
        yield
    except Exception as problem:  # noqa: BLE001 - see above
        log.warning("The kernel was not started ahead: %s", problem)


if __name__ == "__main__":
    from jupyterlab.labapp import main

    sys.exit(main())
