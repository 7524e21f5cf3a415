"""What `python lab.py doctor` looks at: this computer and the lab's environment.

Standard library only: `lab.py` loads this file by its path, also when nothing is installed.
"""

import ctypes
import glob
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SET_UP_AGAIN = "delete the folder .venv and run `python lab.py`"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; a `remedy` marks it as a problem.

    >>> print(Finding("Memory", "2.0 GB", "close other programs"))
    !!  Memory: 2.0 GB
            -> close other programs
    """

    name: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the finding as it is printed."""
        line = f"{'!!' if self.remedy else 'ok'}  {self.name}: {self.text}"
        return f"{line}\n        -> {self.remedy}" if self.remedy else line


def find_browser(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the path of a Chromium, Chrome or Edge, or None; LAB_BROWSER decides when set.

    >>> find_browser({"LAB_BROWSER": "/no/such/browser"}) is None
    True
    """
    if wanted := environ.get("LAB_BROWSER"):
        return shutil.which(wanted)
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    for name in (*names, "microsoft-edge", "msedge"):
        if found := shutil.which(name, path=environ.get("PATH")):
            return found
    places = [
        f"/Applications/{name}.app/Contents/MacOS/{name}"
        for name in ("Google Chrome", "Chromium", "Microsoft Edge")
    ]
    for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
        for tail in (
            r"Google\Chrome\Application\chrome.exe",
            r"Microsoft\Edge\Application\msedge.exe",
        ):
            if folder := environ.get(variable):
                places.append(os.path.join(folder, tail))
    # Where `playwright install chromium` puts its own on Linux, macOS and Windows.
    home = Path(environ.get("HOME") or Path.home())
    for cache in (".cache", "Library/Caches", "AppData/Local"):
        folder = glob.escape(str(home / cache / "ms-playwright"))
        for tail in (
            "chrome-linux*/chrome",
            "chrome-mac*/*.app/Contents/MacOS/*",
            "chrome-win*/chrome.exe",
        ):
            places += sorted(glob.glob(f"{folder}/chromium-*/{tail}"))
    return next((place for place in places if os.path.isfile(place)), None)


def memory_gb() -> float | None:
    """Return the installed memory in GB (10^9 bytes), or None when the system does not say.

    >>> memory_gb() is None or memory_gb() > 0.1
    True
    """
    if os.name == "nt":
        # MEMORYSTATUSEX: two 32-bit numbers, then seven 64-bit ones, the first the total.
        status = (ctypes.c_uint64 * 8)(64)
        ok = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return status[1] / 1e9 if ok else None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        return None


def computer_findings(root: Path, python_problem: str | None) -> list[Finding]:
    """Look at Python, system, processors, memory and disk.

    >>> [finding.name for finding in computer_findings(Path("."), None)]
    ['Python', 'System', 'Processors', 'Memory', 'Free disk']
    """
    memory, free = memory_gb(), shutil.disk_usage(root).free / 1e9
    few = "4 GB are comfortable: close other programs while the lab runs"
    return [
        Finding("Python", f"{platform.python_version()} ({sys.executable})", python_problem or ""),
        Finding("System", platform.platform()),
        Finding("Processors", str(os.cpu_count())),
        Finding(
            "Memory",
            "unknown" if memory is None else f"{memory:.1f} GB",
            few if memory is not None and memory < 3.5 else "",
        ),
        Finding(
            "Free disk",
            f"{free:.1f} GB",
            "" if free > 3 else "installing takes 3 GB: free some space",
        ),
    ]


def installed_packages(python: Path) -> dict[str, str] | None:
    """Ask an environment's Python what it has installed; None when that Python does not run.

    >>> installed_packages(Path("no such python")) is None
    True
    """
    script = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.name: d.version for d in m.distributions() if d.name}))"
    )
    try:
        result = subprocess.run(
            [str(python), "-c", script], capture_output=True, text=True, timeout=120
        )
        return json.loads(result.stdout) if result.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def package_findings(installed: Mapping[str, str], pins: Mapping[str, str]) -> list[Finding]:
    """Compare installed versions with the pins (both under normalized names).

    A build suffix such as torch's `+cpu` is the same version.

    >>> print(package_findings({"numpy": "1.0", "torch": "2.13.0+cpu"},
    ...                        {"numpy": "2.4.6", "torch": "2.13.0"})[-1])
    !!  numpy: 1.0 is installed, 2.4.6 is pinned
            -> delete the folder .venv and run `python lab.py`
    """
    same = [name for name in pins if installed.get(name, "").split("+")[0] == pins[name]]
    other = [name for name in pins if name in installed and name not in same]
    findings = [Finding("Packages", f"{len(same)} installed at their pinned version")]
    for name in ("torch", "numpy", "jupyterlab", "ipywidgets"):
        if name in same:
            findings.append(Finding(name, installed[name]))
        elif name not in installed:
            findings.append(Finding(name, "not installed", SET_UP_AGAIN))
    for name in other:
        text = f"{installed[name]} is installed, {pins[name]} is pinned"
        findings.append(Finding(name, text, SET_UP_AGAIN))
    return findings


def widget_finding(installed: Mapping[str, str], venv: Path) -> Finding:
    """Tell whether sliders can appear: Python and browser halves present, of one generation.

    >>> print(widget_finding({}, Path("no-venv")))
    !!  Widgets: ipywidgets missing, jupyterlab-widgets missing, browser part missing
            -> delete the folder .venv and run `python lab.py`
    """
    halves = [installed.get(name, "missing") for name in ("ipywidgets", "jupyterlab-widgets")]
    package = venv / "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/package.json"
    try:
        browser = json.loads(package.read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError):
        browser = "missing"
    text = f"ipywidgets {halves[0]}, jupyterlab-widgets {halves[1]}, browser part {browser}"
    # Generation 8 of ipywidgets speaks to 3 of jupyterlab-widgets, whose extension is 5.
    fits = [version.split(".")[0] for version in (*halves, browser)] == ["8", "3", "5"]
    return Finding("Widgets", text, "" if fits else SET_UP_AGAIN)


def browser_finding(browser: str | None) -> Finding:
    """Report the browser for the browser tests.

    >>> browser_finding("/usr/bin/chromium").remedy
    ''
    """
    remedy = (
        "only `python lab.py test` needs one: install Chrome, Chromium or Edge, or set LAB_BROWSER "
        "to its path"
    )
    return Finding("Test browser", browser or "none found", "" if browser else remedy)


def environment_findings(venv: Path, python: Path, pins: Mapping[str, str]) -> list[Finding]:
    """Look inside the virtual environment; `pins` maps normalized names to versions.

    >>> print(environment_findings(Path("no-venv"), Path("no-venv/bin/python"), {})[0])
    !!  Environment: not made yet
            -> run `python lab.py`
    """
    if not venv.exists():
        return [Finding("Environment", "not made yet", "run `python lab.py`")]
    installed = installed_packages(python)
    if installed is None or (venv / "lab-unfinished").exists():
        remedy = "run `python lab.py`, which makes it afresh"
        return [Finding("Environment", "broken or half-built", remedy)]
    plain = {name.lower().replace("_", "-").replace(".", "-"): v for name, v in installed.items()}
    return [*package_findings(plain, pins), widget_finding(plain, venv)]
