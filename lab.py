"""Set up, open, test and examine the lab. Standard library only.

python lab.py                    set up once, then open JupyterLab on your own copy
python lab.py --no-browser       the same, without opening a browser window
python lab.py models             add real networks trained on ImageNet, for some notebooks (26 MB)
python lab.py test [...]         run every check; what follows `test` is handed to pytest
python lab.py execute [...]      run the project's notebooks again and store their outputs
python lab.py doctor             say what is wrong on this computer, and what to do about it
"""

# The version check comes before the other imports.
# ruff: noqa: E402

import sys

OLDEST, NEWEST = (3, 11), (3, 14)


def python_problem(version):
    """Return one sentence when a Python of this version cannot run the lab, else None."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return None
    return (
        "This is Python {}.{}, and the lab needs Python 3.11 to 3.14: install Python 3.13 from "
        "https://www.python.org/downloads/ and run `python3.13 lab.py` "
        "(on Windows `py -3.13 lab.py`).".format(*version[:2])
    )


# Before anything that an older Python would not understand.
if __name__ == "__main__" and python_problem(sys.version_info):
    sys.exit(python_problem(sys.version_info))

import argparse
import contextlib
import errno
import importlib.util
import os
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def load_launcher():
    """Load labkit/launcher by its path: importing labkit needs what is not installed yet."""
    folder = ROOT / "labkit" / "launcher"
    spec = importlib.util.spec_from_file_location(
        "lab_launcher", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules["lab_launcher"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    for name in ("install", "environment", "my_lab", "doctor"):
        # Set by hand too: a second import finds the module loaded, and binds nothing.
        setattr(package, name, importlib.import_module(f"lab_launcher.{name}"))
    return package


launcher = load_launcher()
install, environment = launcher.install, launcher.environment
LabError, say = launcher.LabError, launcher.say

VENV = ROOT / ".venv"
NOTEBOOKS = ROOT / "notebooks"
MY_LAB = ROOT / "my_lab"
FIRST_NOTEBOOK = "00_start_here.ipynb"
FIRST_PORT = 8888
# What makes sliders quick; a variable that the learner has set stays as it is.
KERNEL_SETTINGS = {
    # Threads of torch that wait for each other sleep instead of spinning: on a busy computer, a
    # step of a slider takes tens of milliseconds instead of hundreds.
    "OMP_WAIT_POLICY": "PASSIVE",
    # The kernel need not send back what the browser has just told it.
    "JUPYTER_WIDGETS_ECHO": "0",
}


def os_sentence(problem):
    """Turn an OSError into one sentence that says what to do."""
    where = problem.filename or ROOT
    # Windows reports a full disk as 112.
    if problem.errno in (errno.ENOSPC, errno.EDQUOT) or getattr(problem, "winerror", 0) == 112:
        return f"The disk is full ({where}): free some space and run the same command again."
    if problem.errno == errno.EROFS or isinstance(problem, PermissionError):
        return f"{where} cannot be written: close programs that use it and run the command again."
    return f"The system refused {where} ({problem.strerror or problem}): run the command again."


def check_folder():
    """Raise LabError when the project's folder cannot be written; a full disk stays an OSError."""
    try:
        open(ROOT / environment.LOCK, "ab").close()
    except OSError as problem:
        if problem.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise LabError(
            f"The folder {ROOT} cannot be written: copy the whole project into your home folder "
            "and run the same command there."
        ) from problem


def is_supported(version):
    """Tell whether a Python of this version, as text, can run the lab."""
    return python_problem(tuple(int(part) for part in version.split(".")[:2])) is None


def ensure_environment(extra):
    """Make `.venv` hold the lab's packages; with "test" or "models", those too."""
    environment.ensure(ROOT, extra, is_supported)


def lab_python():
    """Return the path of the environment's Python as text."""
    return str(install.venv_python(VENV))


# ---------------------------------------------------------------- open


def port_is_free(port):
    """Tell whether JupyterLab could listen on this port of this computer."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        with probe:
            if not install.WINDOWS:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as problem:
                # A computer without IPv6 has no such address: that port is not taken.
                if problem.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    return False
    return True


def choose_port(wanted):
    """Return the port to use: `wanted`, or the first free one from 8888 on."""
    if wanted is not None:
        if not port_is_free(wanted):
            raise LabError(f"Port {wanted} is taken: close what uses it, or leave out --port.")
        return wanted
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        if port_is_free(port):
            if port != FIRST_PORT:
                say(f"Port {FIRST_PORT} is taken (a lab already open?): using {port}.")
            return port
    raise LabError(f"Ports {FIRST_PORT} to {FIRST_PORT + 99} are taken: name a free one, --port N.")


def jupyter_environment(home):
    """Return the environment variables that keep Jupyter's own files inside `home`."""
    places = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
    variables = {f"JUPYTER_{key}_DIR": str(home / name) for key, name in places.items()}
    prefix = str(install.venv_python(VENV).parent)
    path = os.pathsep.join([prefix, os.environ.get("PATH", "")])
    fixed = {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1"}
    return {
        **KERNEL_SETTINGS,
        **os.environ,
        **variables,
        **fixed,
        "VIRTUAL_ENV": str(VENV),
        "PATH": path,
    }


def open_lab(browser, port):
    """Open JupyterLab on the learner's copy; return its exit status."""
    if not (NOTEBOOKS / FIRST_NOTEBOOK).is_file():
        raise LabError(
            f"notebooks/{FIRST_NOTEBOOK} is missing: download or clone the project again "
            "(your own work in my_lab stays as it is)."
        )
    port = choose_port(port)
    ensure_environment("")
    for message in launcher.my_lab.sync(NOTEBOOKS, MY_LAB):
        say(message)
    server = ROOT / "labkit" / "launcher" / "kernel_ahead.py"
    command = [lab_python(), str(server), f"--ServerApp.port={port}"]
    command.append(f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}")
    command.append("--ServerApp.jpserver_extensions={'kernel_ahead': True}")
    command += [f"--ServerApp.root_dir={MY_LAB}", "--ServerApp.answer_yes=True"]
    command += ["--log-level=WARN", *([] if browser else ["--no-browser"])]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # Usual in containers; the server listens on this computer only.
        command.append("--allow-root")
    say("JupyterLab is starting. Leave this window open; Ctrl+C here closes the lab.")
    variables = jupyter_environment(MY_LAB / ".jupyter")
    if not install.WINDOWS:
        # The same process goes on as JupyterLab, so that signals reach it directly.
        os.chdir(MY_LAB)
        os.execve(command[0], command, variables)
    process = subprocess.Popen(command, cwd=MY_LAB, env=variables)
    while True:
        # Ctrl+C reaches JupyterLab too: let it save and close by itself.
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()


# ---------------------------------------------------------------- models, test, execute, doctor


def add_models():
    """Install the optional real models; return the exit status."""
    ensure_environment("models")
    say("The real models are installed: restart the kernel of a notebook that asked for them.")
    return 0


def find_browser():
    """Return the path of a Chromium, Chrome or Edge for the browser tests, or None."""
    return launcher.doctor.find_browser()


def stages(extra, workers):
    """Return [(name, command)] of the test run; `extra` is handed to every pytest."""
    python = [lab_python(), "-m"]
    pytest = [*python, "pytest", "-q", *extra]
    nbval = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=300"]
    nbval += ["--nbval-sanitize-with=tests/nbval_sanitize.cfg"]
    parallel = [f"-n{workers}", "--dist=loadscope"] if workers > 1 else []
    if any((ROOT / word.split("::")[0]).exists() for word in extra):
        # Files were named: only these, in one process, so that a failure is easy to read.
        notebooks = any(".ipynb" in word for word in extra)
        return [("named tests", [*pytest, *(nbval if notebooks else [])])]
    return [
        ("ruff check", [*python, "ruff", "check", "."]),
        ("ruff format", [*python, "ruff", "format", "--check", "."]),
        ("tests, doctests", [*pytest, *parallel, "--ignore=tests/browser", "tests", "labkit"]),
        ("notebooks", [*pytest, *parallel, *nbval, "notebooks"]),
        ("browser", [*pytest, "tests/browser"]),
    ]


def run_tests(extra):
    """Run every stage, print a summary, return 0 when all passed."""
    ensure_environment("test")
    workers = max(1, min(4, os.cpu_count() or 1))
    variables = jupyter_environment(VENV / "jupyter")
    # A developer who solved exercises in notebooks/ must not change what the notebooks print.
    variables["LAB_PROGRESS"] = str(VENV)
    lines, failed = [], False
    for name, command in stages(extra, workers):
        say(f"\n=== {name}")
        started = time.monotonic()
        if name == "browser" and find_browser() is None:
            lost = bool(os.environ.get("CI"))
            result = "FAILED: no browser" if lost else "NOT RUN: no browser"
            say(str(launcher.doctor.browser_finding(None)))
        else:
            status = subprocess.run(command, cwd=ROOT, env=variables).returncode
            # 5: nothing selected, which is as it should be when the caller narrowed the choice.
            lost = status not in ((0, 5) if extra else (0,))
            result = f"FAILED (exit status {status})" if lost else "passed"
        failed |= lost
        lines.append(f"{name:<18} {time.monotonic() - started:7.1f} s   {result}")
    say("\n" + "\n".join(lines))
    say("Something failed." if failed else "Everything that ran passed.")
    return int(failed)


def execute(notebooks):
    """Run notebooks again and store their outputs; return the exit status."""
    ensure_environment("test")
    command = [lab_python(), "-m", "labkit.authoring", "execute", *notebooks]
    variables = jupyter_environment(VENV / "jupyter")
    return subprocess.run(command, cwd=ROOT, env=variables).returncode


def doctor():
    """Print what is found about this computer and environment; return 1 when there is a problem."""
    look = launcher.doctor
    try:
        pins = install.read_constraints(ROOT)
    except OSError:
        pins = {}
    findings = look.computer_findings(ROOT, python_problem(sys.version_info))
    findings += look.environment_findings(VENV, install.venv_python(VENV), pins)
    findings.append(look.browser_finding(find_browser()))
    for finding in findings:
        say(str(finding))
    problems = sum(bool(finding.remedy) for finding in findings)
    say(f"{problems} to look at." if problems else "All is well.")
    return int(problems > 0)


# ---------------------------------------------------------------- the command line


def port_number(text):
    """Turn the value of --port into a number from 1 to 65535."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; use a number from 1024 to 65535")
    return int(text)


def parse(arguments):
    """Return (command, what follows `test` or `execute`, options)."""
    parser = argparse.ArgumentParser(
        prog="python lab.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=("models", "test", "execute", "doctor"))
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    parser.add_argument("--port", type=port_number, help="the port of JupyterLab (default: 8888)")
    if arguments[:1] in (["test"], ["execute"]) and arguments[1:2] not in (["-h"], ["--help"]):
        return arguments[0], arguments[1:], parser.parse_args([])
    options = parser.parse_args(arguments)
    return options.command, [], options


def main(arguments):
    """Run one command; every foreseeable failure is one sentence and a non-zero status."""
    command, rest, options = parse(arguments)
    try:
        if command == "doctor":
            return doctor()
        check_folder()
        if command == "models":
            return add_models()
        if command == "test":
            return run_tests(rest)
        if command == "execute":
            return execute(rest)
        return open_lab(not options.no_browser, options.port)
    except LabError as problem:
        sentence = str(problem)
    except OSError as problem:
        sentence = os_sentence(problem)
    except KeyboardInterrupt:
        say("\nStopped. Run the same command to go on.")
        return 130
    print(f"\n{sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
