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

from . import LabError, NoNetworkError, install, say

# What a command installs besides what opens the lab, which is "".
NEEDS = {"": {""}, "models": {"", "models"}, "test": {"", "test", "models"}}
# Written when a set-up begins and removed when it has ended well.
MARKER = "lab-unfinished"
# Says what a finished set-up installed. Both hold JSON with the "extras" that were chosen.
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


def read_stamp(venv: Path, name: str = STAMP) -> dict:
    """Return the stamp of the last finished set-up, or {} when there is none to trust.

    >>> read_stamp(Path("no-venv"))
    {}
    """
    try:
        stamp = json.loads((venv / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def extras_of(stamp: dict) -> set[str]:
    """Return the extras that a stamp lists, nothing for a damaged one.

    >>> extras_of({"extras": ["", 3]})
    {''}
    """
    found = stamp.get("extras")
    return (
        {extra for extra in found if isinstance(extra, str)} if isinstance(found, list) else set()
    )


def chosen(venv: Path) -> set[str]:
    """Return the extras that this or an unfinished set-up was made with, so that they stay.

    >>> chosen(Path("no-venv"))
    set()
    """
    found = extras_of(read_stamp(venv)) | extras_of(read_stamp(venv, MARKER))
    return {need for extra in found for need in NEEDS.get(extra, ())}


def is_ready(root: Path, extras: set[str]) -> bool:
    """Tell whether the environment already holds all of `extras`.

    >>> is_ready(Path("no-such-folder"), {""})
    False
    """
    venv = root / ".venv"
    stamp = read_stamp(venv)
    if (venv / MARKER).exists() or not extras <= extras_of(stamp):
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
    """Make `.venv` hold the pinned packages that `extra`, a key of NEEDS, stands for.

    Does nothing when it already does; what was chosen at an earlier set-up is kept. Raises
    LabError, or OSError from the file system.
    """
    if is_ready(root, NEEDS[extra]):
        return
    with one_at_a_time(root) as lock:
        # Another set-up may have finished the work while this one waited.
        if is_ready(root, NEEDS[extra]):
            return
        wanted = NEEDS[extra] | chosen(root / ".venv")
        if not is_ready(root, wanted - {"models"}):
            set_up(root, wanted, supported, lock)
        if "models" in wanted:
            try:
                add_models(root, lock)
            except LabError as problem:
                if "models" in NEEDS[extra]:
                    raise
                say(f"The real models are missing for now (`python lab.py models`). {problem}")


def set_up(root: Path, wanted: set[str], supported: Callable[[str], bool], lock: int) -> None:
    """Make or complete the environment, so that an interruption at any point is seen later.

    The real models come after it, by `add_models`.
    """
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
    (venv / MARKER).write_text(json.dumps({"extras": sorted(wanted)}), encoding="utf-8")
    (venv / STAMP).unlink(missing_ok=True)
    install.log_path(venv).unlink(missing_ok=True)
    try:
        if previous is None:
            install.make_venv(venv, lock)
        install.install(root, venv, "test" if "test" in wanted else "", lock)
    except NoNetworkError:
        if previous is not None:
            # pip downloads everything before it changes anything: what worked still does.
            (venv / STAMP).write_bytes(previous)
            (venv / MARKER).unlink()
        raise
    write_stamp(root, wanted - {"models"})
    (venv / MARKER).unlink()
    say(f"The lab is set up ({time.monotonic() - started:.0f} s).")


def add_models(root: Path, lock: int) -> None:
    """Add the real models to a finished environment, which stays usable whatever happens here."""
    venv = root / ".venv"
    install.log_path(venv).unlink(missing_ok=True)
    install.install_models(root, venv, lock)
    write_stamp(root, extras_of(read_stamp(venv)) | {"models"})


def write_stamp(root: Path, extras: set[str]) -> None:
    """Record that the environment holds `extras`, for these requirements and this Python."""
    venv = root / ".venv"
    stamp = {
        "fingerprint": fingerprint(root, python_version(venv)),
        "extras": sorted(extras),
    }
    (venv / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
