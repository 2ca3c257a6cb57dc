"""Builds the tests' C programs with edged's C libraries, by the flags that ``setup.py`` gives them.

Without Python in it, such a program also runs for another processor, under emulation. Set
``EDGED_SANITIZE`` to have ASan and UBSan in those for this one.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
MACHINE = platform.machine()


def setup_py() -> ModuleType:
    """Returns ``setup.py``, which builds nothing when imported."""
    spec = importlib.util.spec_from_file_location("edged_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(command: Sequence[str | Path], timeout: float) -> subprocess.CompletedProcess[str]:
    """Runs a program; what the tests' own Python is told to preload is not for others."""
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=timeout, check=False
    )


class Toolchain:
    """A compiler and what runs its programs.

    Args:
        machine: the processor, as ``uname -m`` has it.
        folder: where everything that is made goes.
        sanitize: whether ``EDGED_SANITIZE`` is followed.
        static: whether programs shall run where there are no shared libraries.
        before: what the assembler reads before each source that gcc compiled.
    """

    def __init__(
        self,
        machine: str,
        folder: Path,
        *,
        sanitize: bool = True,
        static: bool = False,
        before: Path | None = None,
    ) -> None:
        self.machine, self._folder = machine, folder
        foreign = machine != MACHINE
        self._prefix = f"{machine}-linux-gnu-" if foreign else ""
        self._sanitize = sanitize and not foreign and bool(os.environ.get("EDGED_SANITIZE"))
        self._setup = setup_py()
        self.emulator = [needed(f"qemu-{machine}-static", f"qemu-{machine}")] if foreign else []
        self._gcc = needed(self._prefix + "gcc")
        # An emulator has no use for this machine's own shared libraries.
        self._link = ["-static"] if foreign or static else []
        self._before = [f"-Wa,{before}"] if before is not None else []

    def compiled(self, source: str, flags: Sequence[str] = ()) -> Path:
        """Returns the object file of a source of the repository."""
        target = self._folder / (source.replace("/", "-") + ".o")
        if not target.exists():
            common = self._setup.common_flags(self.machine, sanitize=self._sanitize)
            flags = [*common, *flags, *self._before]
            self._must([self._gcc, *flags, "-Iext", "-c", source, "-o", target])
        return target

    def libraries(self) -> dict[str, list[Path]]:
        """Returns the object files of each of edged's libraries, by its name."""
        return {
            each.name: [self.compiled(source, each.flags) for source in each.sources]
            for each in self._setup.libraries(self.machine)
        }

    def program(self, source: str, libraries: Sequence[str]) -> Path:
        """Returns a program of one source and some of edged's libraries."""
        target = self._folder / Path(source).stem
        made = self.libraries()
        objects = [self.compiled(source), *(file for name in libraries for file in made[name])]
        sanitize = ["-fsanitize=address,undefined"] if self._sanitize else []
        self._must([self._gcc, *self._link, *sanitize, *objects, "-lm", "-lpthread", "-o", target])
        return target

    def image(self, source: str, start: int, names: Mapping[str, int]) -> Path:
        """Returns what an assembler makes for an address, with nothing around it."""
        target = self._folder / (Path(source).stem + ".image")
        linked = f"-Wl,-Ttext={start:#x},--oformat=binary,--build-id=none,--entry=0"
        defined = [f"-D{name}={value:#x}" for name, value in names.items()]
        self._must(
            [self._gcc, "-nostdlib", "-static", "-no-pie", *defined, linked, source, "-o", target]
        )
        return target

    def extension(self, source: Path, include: Sequence[Path], target: Path) -> None:
        """Makes a Python module of C from Cython and edged's libraries."""
        folders = [f"-I{folder}" for folder in ("ext", *include)]
        objects = [file for files in self.libraries().values() for file in files]
        flags = ["-O2", "-fPIC", "-shared", "-w", *folders]
        self._must([self._gcc, *flags, source, *objects, "-lm", "-lpthread", "-o", target])

    def run(
        self, program: Path, *arguments: str | Path, cpu: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program, on another kind of emulated processor than the best if one is named."""
        emulated = [*self.emulator, *(["-cpu", cpu] if cpu is not None else [])]
        return run([*emulated, program, *arguments], 300)

    def binutil(self, name: str, *arguments: str | Path) -> str:
        """Returns what one of the binutils says."""
        done = run([needed(self._prefix + name), *arguments], 300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _must(self, command: Sequence[str | Path]) -> None:
        done = run(command, 300)
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr  # warnings


def needed(*names: str) -> str:
    """Returns the first of these programs that is there; skips the test where none is."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"there is no {names[0]} here; packaging/test installs it with apt-get")
    return found


def table_names(machine: str) -> tuple[str, ...]:
    """Returns the names of the libraries that hold a set of kernels."""
    names = (each.name for each in setup_py().libraries(machine))
    return tuple(
        name for name in names if name not in ("edged_npu", "edged_peak", "edged_dispatch")
    )
