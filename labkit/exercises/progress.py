"""The learner's progress: a small file in their folder.

A right answer counts even when the file cannot be read or written: the learner is told so, in a
sentence, and never stopped by an exception.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "progress.json"
HINTS = range(4)


class Progress:
    """What is solved and which hints were used: id → {"solved": True, "hints": 1 to 3}."""

    def __init__(self, folder: Path | None = None) -> None:
        """Keep progress in `folder`; by default LAB_PROGRESS, or the notebook's own folder."""
        self.folder = folder

    def read(self) -> dict[str, dict]:
        """Return what is stored; nothing when there is no file or it cannot be read."""
        try:
            return _entries(self._path().read_bytes()) or {}
        except OSError:
            return {}

    def update(self, id: str, **facts: Any) -> str:
        """Merge `facts` into the entry of one exercise; return what to tell the learner, if any."""
        return self._change(lambda stored: {**stored, id: {**stored.get(id, {}), **facts}})

    def forget(self, id: str | None = None) -> str:
        """Forget one exercise, or all of them; return what to tell the learner, if any."""
        return self._change(
            lambda stored: {k: v for k, v in stored.items() if id is not None and k != id}
        )

    def _change(self, change: Callable[[dict], dict]) -> str:
        try:
            path, told = self._path(), ""
            stored = _entries(path.read_bytes()) if path.exists() else {}
            if stored is None:
                kept = _move_aside(path)
                stored, told = {}, f" (your old progress could not be read; it is kept in {kept})"
            _write(path, change(stored))
            return told
        except OSError as error:
            return f" (your progress could not be saved: {error})"

    def _path(self) -> Path:
        # Asked for each time: the working folder may be gone, which raises OSError.
        return Path(self.folder or os.environ.get("LAB_PROGRESS") or Path.cwd()) / FILE


def _entries(content: bytes) -> dict[str, dict] | None:
    """Return the entries that make sense, or None for a file that makes none."""
    try:
        # Some editors put a byte order mark first.
        stored = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(stored, dict):
        return None
    entries = {id: _facts(entry) for id, entry in stored.items() if isinstance(entry, dict)}
    return {id: facts for id, facts in entries.items() if facts}


def _facts(entry: dict) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if entry.get("solved") is True:
        facts["solved"] = True
    hints = entry.get("hints")
    # A truth value is an int to Python, but no count.
    if type(hints) is int and hints in HINTS:
        facts["hints"] = hints
    return facts


def _move_aside(path: Path) -> str:
    """Rename an unreadable file to the first free name, so that nothing is lost."""
    number, free = 1, path.with_suffix(".broken.json")
    while free.exists():
        number += 1
        free = path.with_suffix(f".broken{number}.json")
    path.rename(free)
    return free.name


def _write(path: Path, stored: dict) -> None:
    # Written beside it and moved into place, so that a crash cannot leave half a file.
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(stored, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(temporary, path)
