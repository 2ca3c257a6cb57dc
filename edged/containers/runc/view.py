"""What of the host's files a worker sees: what it is made of, read-only, at its own paths.

That is /usr with the links to it, the interpreter with its environment (a virtual environment and
the installation it comes from), edged's own package and the package of the worker's module. The
model's folder is put at /model. Nothing else is there: no /etc, /home, /root, /run, /var, /sys.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edged.errors import ConfigError

SYSTEM = Path("/usr")
# On a merged /usr these are links into it; where they are folders they are shown as such.
LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
MODEL = Path("/model")
SCRATCH = Path("/tmp")  # noqa: S108 - the container's own
TAKEN = (Path("/"), Path("/proc"), Path("/dev"), Path("/sys"), SCRATCH, MODEL)


@dataclass(frozen=True)
class View:
    """What is visible, beside the model.

    Attributes:
        folders: none is inside another.
        links: in the root folder, by name.
        packages: folders to be searched for Python packages.
    """

    folders: tuple[Path, ...]
    links: Mapping[str, str]
    packages: tuple[Path, ...]


def look(module: str, root: Path = Path("/")) -> View:
    """Returns what a worker needs to run ``module``.

    Args:
        module: whose top-level package is shown, beside edged's.
        root: where the links to /usr are looked up.

    Raises:
        ConfigError: Python is installed where a worker's own files are.
    """
    links, folders = {}, [SYSTEM]
    for name in LINKS:
        if (root / name).is_symlink():
            links[name] = str((root / name).readlink())
        elif (root / name).is_dir():
            folders.append(root / name)
    packages = _packages({"edged", module.partition(".")[0]})
    folders += [*interpreter(), *packages]
    return View(outermost(folders), links, tuple(sorted({p.parent for p in packages})))


def interpreter() -> list[Path]:
    """Returns the folders that this Python, and what is installed in it, is made of."""
    found = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    found += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # The executable of a virtual environment is a link; what it leads to is a Python's bin folder.
    found.append(str(Path(os.path.realpath(sys.executable)).parent.parent))
    return [Path(path) for path in found]


def _packages(names: set[str]) -> list[Path]:
    found = []
    for name in sorted(names):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"cannot show {name} to a container: it is no Python package")
        found.append(Path(spec.submodule_search_locations[0]).absolute())
    return found


def outermost(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Returns the folders, and what they are links to, without those inside another.

    Raises:
        ConfigError: one of them would hide what is the container's own.
    """
    every = {Path(os.path.normpath(path)) for path in folders}
    every |= {Path(os.path.realpath(path)) for path in every}
    for path in every & set(TAKEN):
        raise ConfigError(f"cannot show {path} to a container: install Python in another folder")
    kept = (p for p in every if p.is_dir() and not any(parent in every for parent in p.parents))
    return tuple(sorted(kept))
