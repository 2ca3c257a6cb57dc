"""Stores as older versions left them, packed; ``make`` says how they came to be."""

from __future__ import annotations

import tarfile
from pathlib import Path

FOLDER = Path(__file__).parent


def unpack(layout: int, target: Path) -> Path:
    """Unpacks the store of that layout into a new folder; returns the folder."""
    target.mkdir()
    with tarfile.open(FOLDER / f"{layout}.tar.gz") as archive:
        archive.extractall(target, filter="data")
    return target


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in a folder, to the byte, with the times of last change."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in paths
    }
