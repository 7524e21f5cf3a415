"""The learner's own copy of the notebooks: brought up to date, never overwritten.

Standard library only: `lab.py` loads this file by its path before anything is installed.
"""

import hashlib
import itertools
import json
import os
from datetime import date
from pathlib import Path

# The README's pictures, and what a developer has solved in notebooks/.
NOT_COPIED = ("pictures", "progress.json")
MANIFEST = ".lab_manifest.json"


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a").write_bytes(b"")
    ...     sha256(Path(folder) / "a")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write bytes so that a reader, or a crash, sees the old file or the new one, whole.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "new" / "a.txt", b"text")
    ...     (Path(folder) / "new" / "a.txt").read_bytes()
    b'text'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as sink:
            sink.write(data)
            sink.flush()
            # After a power cut the rename must not survive its content.
            os.fsync(sink.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict[str, str]:
    """Return {file: hash when last copied}; {} when the record is missing or damaged.

    An empty record makes every existing file the learner's own, which is the safe side.

    >>> read_manifest(Path("no such folder"))
    {}
    """
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) else {}


def put_beside(source: Path, target: Path, today: str) -> Path | None:
    """Copy `source` beside `target` under a free, dated name.

    Returns the new path, or None when that very file is already there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source, target = Path(folder) / "s.ipynb", Path(folder) / "01.ipynb"
    ...     _ = source.write_text("new")
    ...     print(put_beside(source, target, "2026-11-23").name)
    ...     print(put_beside(source, target, "2026-11-23"))
    01.new-2026-11-23.ipynb
    None
    """
    for number in itertools.count(1):
        suffix = f".new-{today}" + (f"-{number}" if number > 1 else "")
        beside = target.with_name(f"{target.stem}{suffix}{target.suffix}")
        if not os.path.lexists(beside):
            write_atomically(beside, source.read_bytes())
            return beside
        if beside.is_file() and sha256(beside) == sha256(source):
            return None
    return None


def sync(project: Path, mine: Path, today: str | None = None) -> list[str]:
    """Bring the folder `mine` up to date with `project`; return what the learner should know.

    A file new in the project is copied; one that the learner left alone follows the project; one
    that the learner edited stays as it is, and a changed project's version is put beside it; one
    that the learner deleted comes back fresh. Raises OSError when a file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     project, mine = Path(folder) / "notebooks", Path(folder) / "my_lab"
    ...     project.mkdir()
    ...     _ = (project / "01.ipynb").write_text("first")
    ...     first = sync(project, mine)
    ...     _ = (mine / "01.ipynb").write_text("my work")
    ...     _ = (project / "01.ipynb").write_text("second")
    ...     second = sync(project, mine, today="2026-11-23")
    ...     print(first, second, (mine / "01.ipynb").read_text(), sep="\\n")
    []
    ["my_lab/01.ipynb keeps your work; the project's new version is 01.new-2026-11-23.ipynb."]
    my work
    """
    manifest, messages = read_manifest(mine), []
    today = today or date.today().isoformat()
    for source in sorted(path for path in project.rglob("*") if path.is_file()):
        relative = source.relative_to(project)
        if any(part.startswith((".", "__")) or part in NOT_COPIED for part in relative.parts):
            continue
        name, shown = relative.as_posix(), f"{mine.name}/{relative.as_posix()}"
        target, new, copied = mine / relative, sha256(source), manifest.get(name)
        if not os.path.lexists(target):
            write_atomically(target, source.read_bytes())
            if copied is not None:
                messages.append(f"{shown} was missing: it is back as a fresh copy.")
        elif target.is_file() and (current := sha256(target)) in (new, copied):
            if current != new:
                write_atomically(target, source.read_bytes())
                messages.append(f"{shown} follows the project's new version.")
        elif new != copied and (beside := put_beside(source, target, today)):
            messages.append(f"{shown} keeps your work; the project's new version is {beside.name}.")
        manifest[name] = new
    record = json.dumps({"version": 1, "files": manifest}, indent=1)
    write_atomically(mine / MANIFEST, record.encode())
    return messages
