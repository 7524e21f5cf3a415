"""The virtual environment `.venv`: made once, recognized by a stamp, made afresh when half-built.

Standard library only: see `labkit.launcher`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from . import NoNetworkError, install, say

# Written when a set-up begins and removed when it has ended well.
MARKER = "lab-unfinished"
# Says what a finished set-up installed.
STAMP = "lab-stamp.json"
LOCK = ".venv.lock"


def python_version(venv: Path) -> str | None:
    """Return the version of the environment's Python as text, or None when it does not run.

    >>> print(python_version(Path("no-venv")))
    None
    """
    script = "import platform; print(platform.python_version())"
    command = [str(install.venv_python(venv)), "-c", script]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def fingerprint(root: Path, version: str | None) -> str:
    """Hash what decides which packages belong in the environment, the folder's place included.

    The place counts because the lab is installed in editable form, by its path.
    """
    digest = hashlib.sha256(f"{version}\0{root}\0".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes() + b"\0")
    return digest.hexdigest()


def read_stamp(venv: Path) -> dict:
    """Return the stamp of the last finished set-up, or {} when there is none to trust.

    >>> read_stamp(Path("no-venv"))
    {}
    """
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_ready(root: Path, extra: str) -> bool:
    """Tell whether the environment already holds what `extra` ("" or "test") needs.

    >>> is_ready(Path("no-such-folder"), "")
    False
    """
    venv = root / ".venv"
    stamp = read_stamp(venv)
    if (venv / MARKER).exists() or extra not in stamp.get("extras", []):
        return False
    version = python_version(venv)
    return version is not None and stamp.get("fingerprint") == fingerprint(root, version)


def try_lock(lock: BinaryIO) -> bool:
    """Lock an open file without waiting; the system frees it when all its holders have ended.

    >>> import tempfile
    >>> with tempfile.TemporaryFile() as lock:
    ...     try_lock(lock)
    True
    """
    try:
        if os.name == "nt":
            import msvcrt

            lock.seek(0)
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def one_at_a_time(root: Path) -> Iterator[int]:
    """Let one set-up of this folder run at a time; yield the lock's file descriptor.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, one_at_a_time(Path(folder)) as lock:
    ...     lock > 2
    True
    """
    with open(root / LOCK, "a+b") as lock:
        told = False
        while not try_lock(lock):
            if not told:
                say("Another set-up of this lab is still running: waiting for it ...")
            told = True
            time.sleep(1)
        yield lock.fileno()


def remove_unusable(venv: Path, supported: Callable[[str], bool]) -> None:
    """Delete an environment of the lab's own that cannot be used; move anybody else's aside.

    `supported` tells whether the lab runs on a Python of the given version.
    """
    if not os.path.lexists(venv):
        return
    if not (venv / MARKER).exists() and not (venv / STAMP).exists():
        number = 1
        while os.path.lexists(aside := venv.with_name(f".venv-yours-{number}")):
            number += 1
        venv.rename(aside)
        say(f".venv was not made by the lab: it is kept as {aside.name}.")
        return
    if (venv / MARKER).exists():
        say("The last set-up did not finish: starting it afresh.")
    else:
        version = python_version(venv)
        if version is not None and supported(version):
            return
        say("The Python of .venv no longer works: making a new one.")
    clear(venv)


def clear(venv: Path) -> None:
    """Delete an environment, its marker last: an interrupted deletion is still recognized."""
    (venv / MARKER).touch()
    for entry in venv.iterdir():
        if entry.name == MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    shutil.rmtree(venv)


def ensure(root: Path, extra: str, supported: Callable[[str], bool]) -> None:
    """Make `.venv` hold the pinned packages; do nothing when it already does.

    `extra` is "" or "test". Raises LabError, or OSError from the file system.
    """
    if is_ready(root, extra):
        return
    with one_at_a_time(root) as lock:
        # Another set-up may have finished the work while this one waited.
        if not is_ready(root, extra):
            set_up(root, extra, supported, lock)


def set_up(root: Path, extra: str, supported: Callable[[str], bool], lock: int) -> None:
    """Make or complete the environment, so that an interruption at any point is seen later."""
    venv = root / ".venv"
    started = time.monotonic()
    remove_unusable(venv, supported)
    previous = (venv / STAMP).read_bytes() if (venv / STAMP).exists() else None
    if previous is None:
        install.check_computer(root)
        say("Setting up the lab in .venv; this happens once.")
    else:
        say("The lab's packages have changed: updating .venv.")
    venv.mkdir(exist_ok=True)
    (venv / MARKER).write_text("The set-up has not finished.\n", encoding="utf-8")
    (venv / STAMP).unlink(missing_ok=True)
    install.log_path(venv).unlink(missing_ok=True)
    try:
        if previous is None:
            install.make_venv(venv, lock)
        install.install(root, venv, extra, lock)
    except NoNetworkError:
        if previous is not None:
            # pip downloads everything before it changes anything: what worked still does.
            (venv / STAMP).write_bytes(previous)
            (venv / MARKER).unlink()
        raise
    # The tests' packages include the lab's own.
    stamp = {
        "fingerprint": fingerprint(root, python_version(venv)),
        "extras": ["", "test"] if extra else [""],
    }
    (venv / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    (venv / MARKER).unlink()
    say(f"The lab is set up ({time.monotonic() - started:.0f} s).")
