"""A file is the old one or the new one, whole, whatever happens."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.errors import StoreError
from edged.osutil import atomic
from edged.osutil.atomic import Operation


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
    with pytest.raises(StoreError, match=r"cannot write .*none/f: No such file"):
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
    with pytest.raises(StoreError, match="link"):
        atomic.move_folder(source, tmp_path / "b")
    assert source.exists()


def test_a_streamed_file_is_named_when_it_is_whole(tmp_path: Path) -> None:
    written: list[int] = []
    with atomic.new_file(tmp_path, lambda: f"n{sum(written)}") as out:
        for data in (b"abc", b"de"):
            written.append(out.write(data))
            assert [p.name[:5] for p in tmp_path.iterdir()] == [atomic.TEMPORARY]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"n5": b"abcde"}


def test_a_file_can_be_cut_and_written_on(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abcdef")
    with atomic.reopen(tmp_path / "f") as out:
        assert out.size == 6
        out.truncate(2)
        out.write(b"XY")
    assert (tmp_path / "f").read_bytes() == b"abXY"


def test_only_a_regular_file_is_written_on(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "none", "."):
        with pytest.raises(StoreError, match="cannot write"):
            atomic.reopen(tmp_path / name)


def test_lines_are_added_to_a_file(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        atomic.append(tmp_path / "log", line)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_removing_what_is_not_there_is_an_error_unless_allowed(tmp_path: Path) -> None:
    atomic.unlink(tmp_path / "f", missing_ok=True)
    with pytest.raises(StoreError, match="not there"):
        atomic.unlink(tmp_path / "f")


def test_a_folder_is_never_seen_half_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "f").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path)
    whole = sorted(folder.rglob("*"))

    def hook(name: str) -> None:
        assert not folder.exists() or sorted(folder.rglob("*")) == whole

    monkeypatch.setattr(atomic, "failpoint_hook", hook)
    atomic.rmtree(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("f", f"{atomic.TEMPORARY}1", f"{atomic.TEMPORARY}2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(b"")
    (tmp_path / f"{atomic.TEMPORARY}3").write_bytes(b"")
    (tmp_path / f"{atomic.TEMPORARY}4").symlink_to(tmp_path / "f")
    atomic.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f" / "x").exists()


def everything(folder: Path) -> None:
    """Every kind of change there is."""
    atomic.make_folder(folder / "a" / "b")
    atomic.write_file(folder / "a" / "pointer", b"1")
    atomic.write_file(folder / "a" / "pointer", b"22")
    atomic.append(folder / "a" / "log", b"one\n")
    atomic.append(folder / "a" / "log", b"two\n")
    with atomic.new_file(folder / "a", "blob") as out:
        out.write(b"x" * 10)
        out.truncate(4)
        out.write(b"y" * 3)
    with atomic.temporary_folder(folder) as made:
        atomic.add_folder(made / "d")
        with atomic.create(made / "d" / "f") as out:
            out.write(b"f")
        atomic.move_folder(made, folder / "model")
    with atomic.temporary_folder(folder) as made, atomic.create(made / "left"):
        pass
    atomic.move_folder(folder / "model", folder / "a" / "model")
    atomic.make_folder(folder / "old" / "deep")
    atomic.write_file(folder / "old" / "deep" / "f", b"")
    atomic.rmtree(folder / "old")
    atomic.write_file(folder / "gone", b"")
    atomic.unlink(folder / "gone")


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def replay(operations: list[Operation], source: Path, target: Path) -> None:
    """Makes the changes again, below another folder."""

    def there(path: Path) -> Path:
        return target / path.relative_to(source)

    for op in operations:
        path = there(op.path)
        if op.kind == "create":
            path.touch(exist_ok=False)
        elif op.kind == "write":
            with path.open("r+b") as file:
                file.seek(op.offset)
                file.write(op.data)
        elif op.kind == "truncate":
            os.truncate(path, op.offset)
        elif op.kind == "rename":
            assert op.target is not None
            path.replace(there(op.target))
        elif op.kind == "unlink":
            path.unlink()
        elif op.kind == "mkdir":
            path.mkdir()
        elif op.kind == "rmdir":
            path.rmdir()
        else:
            assert op.kind in ("sync", "sync_folder")


def test_the_recorder_sees_enough_to_do_it_all_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Operation] = []
    monkeypatch.setattr(atomic, "recorder", seen.append)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    everything(tmp_path / "here")
    replay(seen, tmp_path / "here", tmp_path / "there")
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert content(tmp_path / "here")["a/model/d/f"] == b"f"


def test_no_name_outlives_what_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or folder gets its final name only after what is in it was synced."""
    unsynced: set[Path] = set()

    def record(op: Operation) -> None:
        if op.kind in ("create", "write", "truncate"):
            unsynced.add(op.path)
        elif op.kind in ("sync", "unlink"):
            unsynced.discard(op.path)
        elif op.kind == "rename":
            inside = {p for p in unsynced if p.is_relative_to(op.path)}
            assert op.target is not None
            assert not inside or op.target.name.startswith(atomic.TEMPORARY)

    monkeypatch.setattr(atomic, "recorder", record)
    everything(tmp_path)


def points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    folder.mkdir()
    monkeypatch.setattr(atomic, "failpoint_hook", seen.append)
    everything(folder)
    return seen


def at(number: int, raised: BaseException) -> Callable[[str], None]:
    """A hook that fails at the so-many-th point."""
    count = 0

    def hook(name: str) -> None:
        nonlocal count
        count += 1
        if count == number + 1:
            raise raised

    return hook


def test_a_full_disk_names_the_need_wherever_it_strikes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = points(tmp_path / "count", monkeypatch)
    assert len(names) > 60
    struck = 0
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(atomic, "failpoint_hook", at(number, full))
        if name.endswith((":durable", ":made", ":renamed", ":unlinked")):
            continue  # what comes next is a sync of the folder, which needs no room
        if name.startswith("temporary:") and not name.endswith(":mkdir"):
            everything(folder)  # clearing up may fail
        else:
            with pytest.raises(StoreError, match=r"needs \d+ bytes more, \d+ are free there"):
                everything(folder)
            struck += 1
        monkeypatch.setattr(atomic, "failpoint_hook", None)
        pointer = folder / "a" / "pointer"
        assert not pointer.exists() or pointer.read_bytes() in (b"1", b"22")
        assert not (folder / "model").exists() or (folder / "model/d/f").read_bytes() == b"f"
    assert struck > 30


def test_the_need_of_a_file_of_known_size_is_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with atomic.create(tmp_path / "f", expected=1_000_000) as out:
        out.write(bytes(100_000))
        monkeypatch.setattr(atomic, "failpoint_hook", at(0, full))
        with pytest.raises(StoreError, match="needs 900000 bytes more"):
            out.write(bytes(10))
        assert out.size == 100_000
