"""One owner at a time, and the others are told who."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edged.errors import DeviceError
from edged.osutil import lock


def test_a_second_taker_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "fpga0.lock"
    held = lock.acquire(path, what="the NPU", owner="edged run")
    with pytest.raises(DeviceError) as caught:
        lock.acquire(path, what="the NPU", owner="somebody else")
    assert str(caught.value) == (
        f"cannot take the NPU: edged run (pid {os.getpid()}) holds {path}; stop it first"
    )
    held.release()
    held.release()
    again = lock.acquire(path, what="the NPU", owner="somebody else")
    assert path.read_text() == f"somebody else (pid {os.getpid()})\n"
    again.release()
    assert path.read_text() == ""


def test_the_death_of_the_owner_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "l"
    code = (
        "import os, sys; from pathlib import Path; from edged.osutil import lock;"
        "held = lock.acquire(Path(sys.argv[1]), what='x', owner='a very long name ' * 3);"
        "os.abort()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert "a very long name" in path.read_text(), "it was not released in an orderly way"
    lock.acquire(path, what="x", owner="me").release()


def test_an_owner_who_wrote_nothing_is_somebody_too(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DeviceError, match="another process holds"):
            lock.acquire(path, what="x", owner="me")


def test_a_lock_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "none" / "l", tmp_path / "link"):
        with pytest.raises(DeviceError, match="cannot open"):
            lock.acquire(path, what="x", owner="me")


def test_a_file_system_that_cannot_lock_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DeviceError, match=r"cannot lock .*: Function not implemented"):
        lock.acquire(tmp_path / "l", what="x", owner="me")


def test_whoever_only_looks_sees_the_owner_and_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l"
    assert lock.owner(path) is None
    held = lock.acquire(path, what="x", owner="edged run")
    assert lock.owner(path) == f"edged run (pid {os.getpid()})"
    monkeypatch.setattr(fcntl, "flock", None)  # it does not try
    assert lock.owner(path) == f"edged run (pid {os.getpid()})"
    held.release()
    assert lock.owner(path) is None


def test_what_a_dead_owner_left_is_no_owner(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_text(f"edged run (pid {os.getpid()})\n")
    assert lock.owner(path) is None
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock.owner(path) == f"process {os.getpid()}"


def test_a_host_that_lists_no_locks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "l").touch()
    monkeypatch.setattr(lock, "LOCKS", tmp_path)
    with pytest.raises(DeviceError, match="cannot tell who holds"):
        lock.owner(tmp_path / "l")
