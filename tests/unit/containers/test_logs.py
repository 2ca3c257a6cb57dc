"""What a worker writes is kept, bounded, printable, and read again with the daemon down."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from edged.containers import lines, logs
from edged.containers.lines import BoundedFile, Budget, Lines, printable
from edged.containers.logs import Logs
from edged.containers.process import ProcessRuntime
from edged.containers.records import Reader
from edged.containers.runtime import Spec
from edged.errors import StoreError

ROOT = Path(__file__).resolve().parents[3]
CODE = "tests.fakes.code"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60), debug=True)


def texts(folder: Path) -> list[str]:
    return [record.text for record in Reader(folder).new()]


def test_both_outputs_of_a_worker_are_kept_with_time_and_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    caplog.set_level(logging.INFO, "edged")
    code = "print('out', flush=True); print('last words', end='', file=sys.stderr)"

    async def test() -> None:
        spec = Spec(CODE, name="edged-a-1", arguments=[code], logs=Logs(tmp_path / "logs"))
        worker = ProcessRuntime().create(spec)
        await worker.start()
        assert await worker.wait() == 0
        await worker.delete()

    run(test())
    first, second = Reader(tmp_path / "logs").new()
    assert (first.text, second.text) == ("out", "last words")
    assert {first.container, second.container} == {"edged-a-1"}
    assert first.time <= second.time
    assert first.time.endswith("Z")
    assert "last words" in caplog.text, "the daemon's own log has them too"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('first'); print('at last\\033[1m\\n\\n')", "at last\\x1b[1m"),
        ("sys.exit('no newline')", "no newline"),
        ("pass", ""),
    ],
)
def test_the_last_words_of_a_worker_are_its_last_line_that_says_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    monkeypatch.chdir(ROOT)

    async def test() -> None:
        spec = Spec(CODE, name="a", arguments=[code], logs=Logs(tmp_path))
        worker = ProcessRuntime().create(spec)
        await worker.start()
        await worker.wait()
        assert await worker.last_words() == words
        await worker.delete()
        assert await worker.last_words() == words

    run(test())


def test_a_flood_neither_fills_the_disk_nor_stops_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(logging.getLogger("edged.containers.logs"), "disabled", True)
    size = 4 << 20

    async def test() -> None:
        code = f"os.write(2, b'early\\n'); os.write(2, b'x' * 99 + b'\\n' * {size} ); "
        spec = Spec(
            CODE, name="a", arguments=[f"{code}os.write(2, b'late\\n')"], logs=Logs(tmp_path)
        )
        worker = ProcessRuntime().create(spec)
        await worker.start()
        assert await worker.wait() == 0
        await worker.delete()

    run(test())
    kept = texts(tmp_path)
    assert kept[0] == "early"
    assert "late" in kept
    dropped = sum(int(text.split()[0][1:]) for text in kept if "bytes dropped" in text)
    assert dropped > size // 2
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < size


def test_a_file_is_rotated_at_its_limit_and_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "FILE_LIMIT", 1000)
    file, reader = BoundedFile(tmp_path / "a.log"), Reader(tmp_path)
    seen = []
    for number in range(60):
        file.write(f"line {number}")
        if number % 7 == 0:
            seen += reader.new()
    seen += reader.new()
    file.close()
    assert [record.text for record in seen] == [f"line {n}" for n in range(60)], "each once"
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"a.log", "a.log.1"}
    assert max(sizes.values()) <= 1000
    assert texts(tmp_path)[-1] == "line 59"


def test_the_oldest_containers_logs_make_room_but_no_running_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "KEPT", 3)

    async def test() -> None:
        kept = Logs(tmp_path)
        running = kept.open("running")
        os.write(running.descriptor, b"I am here\n")
        for number in range(5):
            output = kept.open(f"c{number}")
            os.write(output.descriptor, b"x\n")
            await output.finish()
            os.utime(tmp_path / f"c{number}.log", (number, number))
        os.write(running.descriptor, b"still\n")
        await running.finish()

    run(test())
    assert {path.name for path in tmp_path.iterdir()} == {"running.log", "c3.log", "c4.log"}
    assert "still" in texts(tmp_path)


def test_a_folder_that_cannot_be_used_costs_the_file_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edged")
    (tmp_path / "logs").write_text("in the way")

    async def test() -> None:
        output = Logs(tmp_path / "logs").open("a")
        os.write(output.descriptor, b"said\n")
        await output.finish()

    run(test())
    assert "said" in caplog.text


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    write = BoundedFile.write
    monkeypatch.setattr(logs, "WAITING", 10)
    monkeypatch.setattr(BoundedFile, "write", lambda *a: goes_on.wait(30) and write(*a))

    async def test() -> None:
        output = Logs(tmp_path).open("a")
        for number in range(100):
            os.write(output.descriptor, b"line %d\n" % number)
        await output.finish(0.2)
        goes_on.set()
        await output.finish(30)

    run(test())
    kept = texts(tmp_path)
    assert kept[0] == "line 0"
    assert len(kept) < 20


def test_lines_are_cut_and_made_printable() -> None:
    made = Lines()
    assert made.feed(b"a\nb") == ["a"]
    assert made.feed(b"c\r\n\xff\x1b[2J\xc3\xa4\t\n") == ["bc", "\ufffd\\x1b[2Jä\t"]
    [long] = made.feed(b"x" * 5000 + b"\n")
    assert long == "x" * 4096 + " [cut]"
    [long] = made.feed(b"x" * 3000) + made.feed(b"x" * 3000) + made.feed(b"\n")
    assert long == "x" * 4096 + " [cut]"
    made.feed(b"half")
    made.drop(10)
    assert made.feed(b"next\n") == ["[10 bytes dropped: it wrote too much]", "next"]
    assert made.feed(b"end") == []
    assert made.end() == ["end"]
    assert printable("\x07\u202e") == "\\x07\\u202e"


def test_a_budget_is_refilled_with_time() -> None:
    budget = Budget(0.0)
    assert budget.take(lines.BURST, 0.0)
    assert not budget.take(1, 0.0)
    assert budget.take(lines.RATE, 1.0)
    assert not budget.take(lines.BURST + 1, 1e6)


def test_a_log_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.log").mkdir()
    with pytest.raises(StoreError, match=r"cannot read the logs in .*a\.log"):
        Reader(tmp_path).new()
    assert Reader(tmp_path / "nowhere").new() == []
