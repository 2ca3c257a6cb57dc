"""The model of power cuts loses what a real disk may lose, and nothing that was synced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from edged.osutil import atomic
from tests.crash.powercut import Trace, read_tree, write_tree


def record(root: Path, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Trace:
    before, seen = read_tree(root), list[atomic.Operation]()
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "recorder", seen.append)
        work()
    return Trace(root, before, seen)


def states(trace: Trace) -> list[dict[str, bytes | None]]:
    return [
        trace.state(length, lost)
        for length in range(trace.length + 1)
        for lost in trace.choices(length)
    ]


def test_without_a_cut_the_disk_is_what_the_program_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_tree(root, {"kept": b"k", "folder": None, "folder/file": b"f"})

    def work() -> None:
        atomic.write_file(root / "kept", b"new")
        atomic.make_folder(root / "a/b")
        atomic.append(root / "a/b/log", b"one")
        atomic.append(root / "a/b/log", b"two")
        atomic.move_folder(root / "a", root / "moved")
        atomic.rmtree(root / "folder")

    trace = record(root, work, monkeypatch)
    assert trace.state(trace.length) == read_tree(root)
    assert read_tree(root) == {
        "kept": b"new",
        "moved": None,
        "moved/b": None,
        "moved/b/log": b"onetwo",
    }


def test_an_atomic_write_leaves_the_old_or_the_new_content_and_then_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_tree(root, {"file": b"old"})
    trace = record(root, lambda: atomic.write_file(root / "file", b"new"), monkeypatch)
    assert {state["file"] for state in states(trace)} == {b"old", b"new"}
    assert {trace.state(trace.length, lost)["file"] for lost in trace.choices(trace.length)} == {
        b"new"
    }


def test_a_write_that_is_not_synced_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_tree(root, {"file": b"old"})

    def careless() -> None:
        with atomic.create(root / "other") as out:
            out.write(b"new")
        atomic.rename(root / "other", root / "file")

    trace = record(root, careless, monkeypatch)
    assert {state["file"] for state in states(trace)} == {b"old", b"", b"new"}
    assert trace.state(trace.length, trace.unsafe(trace.length))["file"] == b""


def test_a_name_in_a_folder_that_is_not_synced_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_tree(root, {})

    def careless() -> None:
        with atomic.create(root / "file") as out:
            out.write(b"new")
            out.sync()

    trace = record(root, careless, monkeypatch)
    assert {"file"} == trace.state(trace.length).keys()
    assert trace.state(trace.length, trace.unsafe(trace.length)) == {}


def test_a_moved_name_can_be_there_without_the_one_it_was_made_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_tree(root, {})
    trace = record(root, lambda: atomic.write_file(root / "file", b"new"), monkeypatch)
    made = [i for i, o in enumerate(trace.operations) if o.kind == "create"]
    renamed = next(i for i, o in enumerate(trace.operations) if o.kind == "rename")
    assert trace.state(renamed + 1, made) == {"file": b"new"}


def test_an_append_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    write_tree(root, {"log": b"one\n"})
    trace = record(root, lambda: atomic.append(root / "log", b"two\n"), monkeypatch)
    assert {state["log"] for state in states(trace)} == {b"one\n", b"one\ntwo\n"}


def test_samples_are_states_of_the_model_and_the_same_for_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    write_tree(root, {"file": b"old"})
    trace = record(root, lambda: atomic.write_file(root / "file", b"new"), monkeypatch)
    first, second = Random(1), Random(1)
    for _ in range(50):
        length, lost = trace.sample(first)
        assert (length, lost) == trace.sample(second)
        assert lost <= set(trace.unsafe(length))
        assert trace.state(length, lost)["file"] in (b"old", b"new")
