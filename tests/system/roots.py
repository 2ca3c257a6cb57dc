"""A Debian 12 to boot: made once by debootstrap, kept between runs, never changed by a test.

It is a minimal system with systemd. What edged depends on is not installed, but its packages lie in
apt's cache, with apt's lists, so that ``apt install ./edged_*.deb`` needs no network.

``EDGED_TEST_ROOTS`` names the folder it is kept in, by default edged-tests in the cache folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

SUITE = "bookworm"
RECIPE = 1  # another whenever _make changes
MAKE_LIMIT = 1200.0  # seconds, with a network
# What the package depends on; what that depends on comes with it.
NEEDED = ("golang-github-containers-common", "libstdc++6", "python3", "runc", "ca-certificates")
PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "dh": "debhelper",
    "dpkg-deb": "dpkg",
    "lintian": "lintian",
}


def folder() -> Path:
    """Where roots are kept between runs, outside of the repository."""
    given = os.environ.get("EDGED_TEST_ROOTS")
    cache = os.environ.get("XDG_CACHE_HOME") or "/var/tmp"
    return Path(given) if given else Path(cache) / "edged-tests"


def need(*programs: str) -> None:
    """Skips the test if it cannot be run here, saying what is missing."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a system of its own")
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}: apt-get install {PROGRAMS[program]}")


def base() -> Path:
    """Returns the root, which is made if there is none; one run at a time does that."""
    cache = folder()
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    recipe = f"{RECIPE} {SUITE} {NEEDED}"
    root = cache / f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            fresh = cache / "fresh"
            if fresh.exists():
                shutil.rmtree(fresh)
            _make(fresh)
            fresh.rename(root)
    return root


def _make(root: Path) -> None:
    _run(["debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv", SUITE, str(root)])
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-q", "update"],
        ["apt-get", "-q", "-y", "--download-only", "install", *NEEDED],
    ):
        _run(["chroot", str(root), *command], environ)
    # Nobody asks for a network that there is not.
    (root / "etc/resolv.conf").unlink()
    (root / "etc/hostname").write_text("device\n")
    (root / "etc/machine-id").write_text("")


def _run(command: Sequence[str], environ: dict[str, str] | None = None) -> None:
    result = subprocess.run(
        command,
        env={**os.environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MAKE_LIMIT,
        check=False,
    )
    if result.returncode != 0:
        pytest.fail(f"cannot make a Debian root: {command[0]} failed:\n{result.stdout[-2000:]}")


@contextlib.contextmanager
def copy(base: Path, folder: Path) -> Iterator[Path]:
    """Yields a root like ``base`` that may be changed: an overlay, gone at the end."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    options = f"lowerdir={base},upperdir={folder}/upper,workdir={folder}/work"
    root = folder / "root"
    subprocess.run(["mount", "-t", "overlay", "edged", "-o", options, str(root)], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", "--recursive", str(root)], check=True)
