"""Packages of this machine's own distribution, taken by apt without being installed.

apt has folders of its own for that, so it neither needs root nor knows what is installed here.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kernels.builds import ROOT

LIMIT = 600  # seconds
# A Linux without drivers for what only real machines have: it starts soonest. The package only
# depends on the one of the present version.
LINUX = "linux-image-cloud-amd64"


def apt(architecture: str, folder: Path, what: str) -> list[str]:
    """Returns the command that is apt-get with all its folders in this one, up to date."""
    state, cache = folder / "state", folder / "cache"
    (state / "lists" / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    (state / "status").touch()
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
        "Dir::State": str(state),
        "Dir::State::status": str(state / "status"),
        "Dir::Cache": str(cache),
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    # Sources without this architecture are no harm.
    take([*command, "update"], what, needed=False)
    return command


def take(
    command: Sequence[str | Path], what: str, *, folder: Path = ROOT, needed: bool = True
) -> str:
    """Runs a command in a folder and returns what it says; skips the test where it cannot."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]} here")
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} does not get {what} within {LIMIT} s")
    if needed and done.returncode != 0:
        pytest.skip(f"{command[0]} cannot get {what}: {done.stderr.strip()[-500:]}")
    return done.stdout


def linux() -> Path:
    """Returns a Linux for x86-64, which is taken once and kept in ``build``."""
    kept = ROOT / "build" / "linux"
    found = sorted(kept.glob("vmlinuz-*"))
    if found:
        return found[-1]
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as name:
        folder, what = Path(name), "a Linux for an emulated PC"
        command = apt("amd64", folder / "apt", what)
        take([*command, "download", LINUX], what, folder=folder)
        (package,) = folder.glob("*.deb")
        present = take(["dpkg-deb", "-f", package, "Depends"], what).split()[0]
        take([*command, "download", present], what, folder=folder)
        (package,) = folder.glob(f"{present}_*.deb")
        take(["dpkg-deb", "-x", package, folder / "root"], what)
        (image,) = (folder / "root" / "boot").glob("vmlinuz-*")
        return image.rename(kept / image.name)
