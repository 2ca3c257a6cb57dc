"""prune.py FOLDER FINAL: makes of a virtual environment what a package holds.

FOLDER is where it is now, FINAL where it will be on a device. What goes is what a device that
serves has no use for: tests and tools of libraries, headers, stubs, what starts and changes an
environment. What stays is listed in each package's RECORD as before, and nothing else.
"""

from __future__ import annotations

import csv
import fnmatch
import shutil
import sys
from pathlib import Path

# Below lib/python3.11/site-packages.
UNUSED = (
    "*/tests",
    "*/test",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/_pyinstaller",
    "numpy/f2py",
    "numpy/doc",
    "numpy/distutils",
    "numpy/random/_examples",
    "numpy/random/lib",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/backend",
    "PIL/_tkinter_finder.py",
    "*.pyi",
    "*.pyx",
    "*.pxd",
    "*.pxi",
    "*.h",
    "*.hpp",
    "*.a",
    "*.c",
    "py.typed",
    "*/py.typed",
    "*.dist-info/direct_url.json",
    "*.dist-info/REQUESTED",
)


def main() -> int:
    """Prunes; returns 0."""
    folder, final = Path(sys.argv[1]), Path(sys.argv[2])
    (packages,) = folder.glob("lib/python3.*/site-packages")
    for path in sorted(packages.rglob("*")):
        name = str(path.relative_to(packages))
        if path.exists() and any(fnmatch.fnmatch(name, pattern) for pattern in UNUSED):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in packages.rglob("__pycache__"):
        shutil.rmtree(path)
    for path in (folder / "bin").iterdir():
        if not path.name.startswith("python"):
            path.unlink()
    for name in ("include", "share", "lib64"):
        _remove(folder / name)
    for record in packages.glob("*.dist-info/RECORD"):
        _correct(record, packages)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}"
    (folder / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n"
        f"executable = /usr/bin/python3.11\n"
        f"command = /usr/bin/python3 -m venv --without-pip {final}\n"
    )
    return 0


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _correct(record: Path, packages: Path) -> None:
    with record.open(newline="") as file:
        rows = [row for row in csv.reader(file) if (packages / row[0]).exists()]
    with record.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(sorted(rows))


if __name__ == "__main__":
    sys.exit(main())
