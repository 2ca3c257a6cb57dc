"""The daemon as a service: what it says to its manager, and what it says when it cannot run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.device import ROOT, Device
from tests.fakes import images


def test_the_service_manager_hears_ready_alive_and_stopping(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    path = str(device.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(30)
        device.daemon = device.spawn(notify=path)
        heard: list[str] = []

        def hear(field: str) -> str:
            while True:
                heard.extend(manager.recv(4096).decode().splitlines())
                for each in heard:
                    if each.startswith(field):
                        heard.clear()
                        return each

        hear("EXTEND_TIMEOUT_USEC=")
        hear("READY=1")
        hear("WATCHDOG=1")
        hear("WATCHDOG=1")
        device.deploy(images.write(device.folder / "image"))
        assert hear("STATUS=serving").startswith("STATUS=serving fake 1 (sha256:")
        assert device.stop() == 0
        hear("STOPPING=1")
        hear("EXTEND_TIMEOUT_USEC=")


def test_a_fault_of_its_own_ends_the_daemon_for_the_manager_to_start_it_again(
    device: Device,
) -> None:
    code = (
        "import sys\n"
        "from edged.model.service import Service\n"
        "async def fail(*arguments): raise ZeroDivisionError('a fault')\n"
        "Service.begin = fail\n"
        "from tests.fakes import daemon\n"
        "sys.exit(daemon.main())\n"
    )
    folders = ["--state-dir", str(device.state), "--run-dir", str(device.run)]
    result = subprocess.run(
        [sys.executable, "-c", code, *folders, "--listen", "127.0.0.1:0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "begin failed" in result.stderr
    assert "stopped event=stopped" in result.stderr, "in an orderly way all the same"


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--state-dir", "/dev/null/x"], 1, "cannot make folder /dev/null/x: Not a directory"),
        (["--listen", "0.0.0.0:1"], 2, "needs TLS"),
        (["--runtime", "docker"], 2, "expected one of process, runc, runc-root"),
        (["--config", "/dev/null/x"], 2, "cannot read /dev/null/x"),
        (["--listen", "127.0.0.1:1x"], 2, "expected HOST:PORT"),
    ],
)
def test_what_it_cannot_run_with_is_one_line(
    short_folder: Path, arguments: list[str], status: int, why: str
) -> None:
    defaults = ["--state-dir", f"{short_folder}/s", "--run-dir", f"{short_folder}/r"]
    result = subprocess.run(
        [sys.executable, "-m", "edged", "run", *defaults, *arguments],
        cwd=ROOT,
        env={**os.environ, "EDGED_LISTN": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == status
    last = result.stderr.splitlines()[-1]
    assert last.startswith("edged: cannot ")
    assert why in last
    assert "Traceback" not in result.stderr
    if status == 1:
        assert "did you mean EDGED_LISTEN?" in result.stderr


def test_sockets_are_for_callers_and_for_the_group(device: Device) -> None:
    device.start()
    modes = {p.name: p.stat().st_mode & 0o777 for p in device.run.glob("*.sock")}
    assert modes == {"grpc.sock": 0o666, "control.sock": 0o660}
