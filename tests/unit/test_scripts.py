"""The parts of quickstart and test that decide something: launcher, port check, set-up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edged.osutil import systemd
from tests.conftest import ROOT

READY = """
    import os, signal, socket, sys
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.sendto(b"STATUS=still starting", os.environ["NOTIFY_SOCKET"])
        notices.sendto(b"READY=1\\nSTATUS=serving", os.environ["NOTIFY_SOCKET"])
    signal.pause()
"""


def launch(
    folder: Path, code: str, timeout: float = 20.0
) -> tuple[subprocess.CompletedProcess[str], Path]:
    pid_file = folder / "pid"
    command: list[str | Path] = [
        sys.executable,
        ROOT / "packaging/launch.py",
        "--log",
        folder / "log",
    ]
    command += ["--pid-file", pid_file, "--timeout", str(timeout), "--"]
    command += [sys.executable, "-c", textwrap.dedent(code)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return answer, pid_file


def test_the_launcher_returns_when_the_daemon_says_it_is_ready(tmp_path: Path) -> None:
    answer, pid_file = launch(tmp_path, READY)

    assert answer.returncode == 0, answer.stderr
    pid = int(pid_file.read_text(encoding="ascii"))
    os.kill(pid, 0)  # it outlives its launcher
    os.kill(pid, signal.SIGKILL)


def test_the_launcher_shows_why_a_daemon_ended_instead(tmp_path: Path) -> None:
    answer, pid_file = launch(tmp_path, "raise SystemExit('cannot listen: the port is taken')")

    assert answer.returncode == 1
    assert "ended with status 1" in answer.stderr
    assert "cannot listen: the port is taken" in answer.stderr
    assert not pid_file.exists()


def test_the_launcher_does_not_repeat_what_an_earlier_daemon_logged(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("from last week\n", encoding="utf-8")
    answer, _ = launch(tmp_path, "raise SystemExit('new')")

    assert "new" in answer.stderr
    assert "from last week" not in answer.stderr


def test_the_launcher_ends_a_daemon_that_never_gets_ready(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        with open({str(tmp_path / "own-pid")!r}, "w") as file:
            file.write(str(os.getpid()))
        signal.pause()
    """
    answer, pid_file = launch(tmp_path, code, timeout=2.0)

    assert answer.returncode == 1
    assert "was not ready after 2 s" in answer.stderr
    assert not pid_file.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "own-pid").read_text(encoding="ascii")), 0)


def ask_listener(address: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, ROOT / "packaging/listener.py", address]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_taken_port_is_reported_with_the_process_that_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = ask_listener(f"127.0.0.1:{port}")
    free = ask_listener(f"127.0.0.1:{port}")

    assert taken.returncode == 1
    assert f"process {os.getpid()} (" in taken.stdout
    assert (free.returncode, free.stdout) == (0, "")


def prepare(folder: Path, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs lines of shell with the set-up functions at hand, in a folder of its own."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'. "{ROOT}/packaging/prepare.sh"\n{script}'],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "EDGED_VENV": str(folder / "venv"), **environ},
        timeout=60,
    )


def script_file(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_a_missing_python_is_named_with_what_to_do(tmp_path: Path) -> None:
    answer = prepare(tmp_path, "find_python", EDGED_PYTHON="python-that-is-not-there")

    assert answer.returncode == 1
    assert "there is no python-that-is-not-there" in answer.stderr
    assert "EDGED_PYTHON" in answer.stderr


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    script_file(tmp_path / "python3.9", 'case "$2" in *print*) echo 3.9;; *) exit 1;; esac')
    answer = prepare(tmp_path, "find_python", EDGED_PYTHON=str(tmp_path / "python3.9"))

    assert answer.returncode == 1
    assert "is Python 3.9, edged needs 3.10 or later" in answer.stderr


def test_without_root_and_sudo_the_missing_packages_are_named(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    script_file(tools / "id", "echo 1000")
    script_file(tools / "sudo", "exit 1")
    script_file(tools / "apt-get", "echo must not run >&2; exit 1")
    answer = prepare(
        tmp_path,
        "missing_packages() { echo gcc libc6-dev; }\nroot=()\ninstall_packages",
        PATH=f"{tools}:{os.environ['PATH']}",
    )

    assert answer.returncode == 1
    assert "these system packages are missing: gcc libc6-dev" in answer.stderr
    assert "run as root: apt-get install gcc libc6-dev" in answer.stderr
    assert "must not run" not in answer.stderr


def test_a_failing_apt_get_shows_what_it_said(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    script_file(tools / "id", "echo 0")
    script_file(tools / "apt-get", "echo no route to the archive >&2; exit 100")
    answer = prepare(
        tmp_path,
        "missing_packages() { echo gcc; }\ninstall_packages",
        PATH=f"{tools}:{os.environ['PATH']}",
    )

    assert answer.returncode == 1
    assert "no route to the archive" in answer.stderr
    assert "apt-get update failed (status 100" in answer.stderr


def test_packages_that_only_tests_want_are_no_condition(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    missing = "missing_test_packages() { echo qemu-user-static other; }\ninstall_test_packages"
    path = f"{tools}:{os.environ['PATH']}"
    script_file(tools / "id", "echo 0")
    script_file(tools / "apt-get", 'case "$*" in *qemu*) exit 100;; *) exit 0;; esac')
    tried = prepare(tmp_path, missing, PATH=path)
    script_file(tools / "id", "echo 1000")
    script_file(tools / "sudo", "exit 1")
    left = prepare(tmp_path, missing, PATH=path)

    assert (tried.returncode, left.returncode) == (0, 0)
    assert "some tests will skip for want of qemu-user-static" in tried.stdout
    assert "want of other" not in tried.stdout
    assert "some tests will skip for want of qemu-user-static other" in left.stdout


def test_the_build_is_renewed_when_its_sources_change_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "ext").mkdir()
    for name in ("pyproject.toml", "setup.py", "ext/kernel.c", "ext/_native.c"):
        (tmp_path / name).touch()

    def checksum() -> str:
        return prepare(tmp_path, "find_python; source_checksum").stdout

    first = checksum()
    (tmp_path / "ext/_native.c").write_text("/* written by Cython */", encoding="utf-8")
    generated = checksum()
    (tmp_path / "ext/kernel.c").write_text("int x;", encoding="utf-8")
    changed = checksum()

    assert len(first) == 65
    assert generated == first
    assert changed != first


def test_a_daemon_goes_on_when_whoever_started_it_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(tmp_path / "notify"))
        heard = systemd.notify(READY="1")
    unheard = systemd.notify(STATUS="serving")

    assert (heard, unheard) == (True, False)
