"""A Python for ARM with edged in it, unpacked in a folder and run by an emulator.

Nothing is installed: the packages are those of this machine's own distribution for the other
architecture, taken by apt with folders of its own. Wheels that hold compiled code come by pip; what
is plain Python is this environment's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import version
from pathlib import Path

from tests.kernels.builds import ROOT, Toolchain
from tests.kernels.debian import apt, take

PYTHON = f"python3.{sys.version_info.minor}"
PACKAGES = (f"{PYTHON}-minimal", f"lib{PYTHON}-stdlib", f"lib{PYTHON}-dev", "libstdc++6")
COMPILED = ("numpy", "hypothesis")
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")
WHAT = "a Python for ARM"
RUN_LIMIT = 3000  # seconds


class ArmPython:
    """Makes the folder, or skips the test where something cannot be had.

    Args:
        folder: where everything goes.
    """

    def __init__(self, folder: Path) -> None:
        self._root, self._site, self._tree = folder / "root", folder / "site", folder / "tree"
        self._tools = Toolchain("aarch64", folder)
        self._take_packages(folder)
        self._take_wheels(folder / "wheels")
        self._copy_edged(folder)

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs tests of edged's."""
        return self._run("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        site = f"{self._site}:{sysconfig.get_path('purelib')}"
        program = self._root / "usr" / "bin" / PYTHON
        return subprocess.run(
            [*self._tools.emulator, "-L", self._root, program, *arguments],
            cwd=self._tree,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": site, "CI": "1"},
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT,
            check=False,
        )

    def _take_packages(self, folder: Path) -> None:
        command = apt("arm64", folder / "apt", WHAT)
        wanted = ["install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES]
        take([*command, *wanted], WHAT)
        for package in sorted((folder / "apt" / "cache" / "archives").glob("*.deb")):
            take(["dpkg-deb", "-x", package, self._root], WHAT)

    def _take_wheels(self, wheels: Path) -> None:
        platforms = [f"--platform={name}" for name in PLATFORMS]
        pinned = [f"{name}=={version(name)}" for name in COMPILED]
        pip: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ]
        wanted = ["--no-deps", "--only-binary=:all:", *platforms, f"--dest={wheels}", *pinned]
        take([*pip, *wanted], WHAT)
        for wheel in wheels.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(self._site)

    def _copy_edged(self, folder: Path) -> None:
        no_code = shutil.ignore_patterns("*.so", "__pycache__")
        for name in ("edged", "tests"):
            shutil.copytree(ROOT / name, self._tree / name, ignore=no_code)
        shutil.copy(ROOT / "pyproject.toml", self._tree)
        source = folder / "_native.c"
        cython = [sys.executable, "-m", "cython", "-3", "-Iext", "ext/_native.pyx"]
        take([*cython, "-o", source], WHAT)
        name = f"_native.cpython-3{sys.version_info.minor}-aarch64-linux-gnu.so"
        include = self._root / "usr" / "include"
        self._tools.extension(
            source, [include, include / PYTHON], self._tree / "edged" / "npu" / name
        )
