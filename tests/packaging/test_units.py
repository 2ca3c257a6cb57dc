"""The units are ones that systemd takes, and shut the service in as far as the README says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
# Exposure, ten times, by drop-in: what the README promises.
BARS = {"": 25, "process": 15, "runc-root": 45}


@pytest.fixture(scope="module", autouse=True)
def _systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze: apt-get install systemd")


@pytest.fixture(params=BARS)
def form(request: pytest.FixtureRequest) -> str:
    """Each form of the service: a drop-in's name, or nothing."""
    return str(request.param)


def unit(folder: Path, form: str, *changes: tuple[str, str]) -> Path:
    """Writes the unit in one of its forms, with a program that this machine has."""
    text = _here(UNITS / "edged.service")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "edged.service"
    path.write_text(text)
    if form:
        (folder / "edged.service.d").mkdir()
        drop_in = _here(UNITS / "drop-ins" / f"{form}.conf")
        (folder / "edged.service.d" / f"{form}.conf").write_text(drop_in)
    return path


def _here(file: Path) -> str:
    return file.read_text().replace("/usr/bin/edged", "/bin/true")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_finds_nothing_wrong_with_it(form: str, tmp_path: Path) -> None:
    result = analyze("verify", "--man=no", str(unit(tmp_path, form)))
    assert (result.returncode, result.stderr) == (0, "")


def test_it_is_exposed_no_more_than_promised(form: str, tmp_path: Path) -> None:
    path = str(unit(tmp_path, form))
    result = analyze("security", "--offline=true", f"--threshold={BARS[form]}", path)
    assert result.returncode == 0, result.stdout


def test_the_bar_is_one_that_can_be_missed(tmp_path: Path) -> None:
    path = str(unit(tmp_path, "", ("CapabilityBoundingSet=\n", ""), ("NoNewPrivileges=yes\n", "")))
    result = analyze("security", "--offline=true", f"--threshold={BARS['']}", path)
    assert result.returncode != 0


def test_a_newer_systemd_waits_for_a_reload(tmp_path: Path) -> None:
    path = str(unit(tmp_path, "notify-reload"))
    version = int(analyze("--version").stdout.split()[1])
    result = analyze("verify", "--man=no", path)
    if version >= 253:
        assert (result.returncode, result.stderr) == (0, "")
    else:  # it is told apart from a mistake in the file: the word alone is unknown
        assert "notify-reload" in result.stderr
        assert len(result.stderr.splitlines()) == 1
