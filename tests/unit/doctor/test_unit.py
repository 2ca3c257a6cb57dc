"""What systemd says of the unit, as its own program says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.doctor import unit
from edged.doctor.skip import SkipError


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl of the test's own, on a host that systemd has booted."""
    program = tmp_path / "systemctl"
    monkeypatch.setattr(unit, "BOOTED", tmp_path)
    monkeypatch.setattr(unit, "LIMIT", 1.0)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def script(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_properties_come_by_name(systemctl: Path) -> None:
    script(systemctl, 'echo "$@" >&2; printf "LoadState=loaded\\nWatchdogUSec=10s\\nResult=a=b\\n"')
    found = unit.properties()
    assert found["WatchdogUSec"] == "10s"
    assert found["Result"] == "a=b"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo LoadState=not-found", "systemd has no edged.service"),
        ("exit 1", "systemd has no edged.service"),
        ("exec sleep 60", "systemctl does not answer"),
    ],
)
def test_no_unit_is_nothing_to_look_at(systemctl: Path, text: str, why: str) -> None:
    script(systemctl, text)
    with pytest.raises(SkipError, match=why):
        unit.properties()


def test_a_host_without_systemd_is_no_fault(
    systemctl: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(systemctl, "echo LoadState=loaded")
    monkeypatch.setattr(unit, "BOOTED", tmp_path / "none")
    with pytest.raises(SkipError, match="does not run here"):
        unit.properties()
