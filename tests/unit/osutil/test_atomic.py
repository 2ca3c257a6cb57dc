"""A file is the old one or the new one, whole, whatever happens."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edged.osutil import atomic


class PowerCutError(Exception):
    """Stands for the end of the process."""


def test_a_new_file_has_its_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    atomic.write_file(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("point", ["f:written", "f:synced", "f:renamed", "f:durable"])
def test_an_interrupted_write_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def hook(name: str) -> None:
        if name == point:
            raise PowerCutError

    monkeypatch.setattr(atomic, "failpoint_hook", hook)
    with pytest.raises(PowerCutError):
        atomic.write_file(path, b"new")
    expected = b"new" if point in ("f:renamed", "f:durable") else b"old"
    assert path.read_bytes() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_the_file_is_synced_before_the_rename_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    atomic.write_file(tmp_path / "f", b"x")
    assert done == ["file", "rename", "folder"]


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.write_file(tmp_path / "none" / "f", b"x")


def test_a_folder_moves_with_all_that_is_in_it(tmp_path: Path) -> None:
    source = tmp_path / "a"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "f").write_bytes(b"x")
    atomic.move_folder(source, tmp_path / "b")
    assert (tmp_path / "b" / "deep" / "f").read_bytes() == b"x"
    assert not source.exists()


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="link"):
        atomic.move_folder(source, tmp_path / "b")
    assert source.exists()
