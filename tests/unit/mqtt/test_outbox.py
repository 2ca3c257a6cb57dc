"""The outbox: nothing is lost, order is kept, counts are exact, whatever happens to the disk."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from edged.errors import StoreError
from edged.mqtt import outbox as module
from edged.mqtt import ring
from edged.mqtt.outbox import FILE, Outbox
from tests.conftest import ROOT

LIMIT = ring.LEAST


@asynccontextmanager
async def opened(folder: Path, limit: int = LIMIT) -> AsyncIterator[Outbox]:
    box = Outbox(folder, limit)
    await box.start()
    try:
        yield box
    finally:
        await box.stop()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def payload(number: int, more: int = 20) -> bytes:
    return b"%d:" % number + bytes(more)


async def drain(box: Outbox, count: int = 1 << 30) -> list[int]:
    """Takes entries as a session does that has each acknowledged; returns what was put."""
    taken: list[int] = []
    last = 0
    while len(taken) < count and box.pending:
        for entry in await box.after(last, min(32, count - len(taken))):
            taken.append(int(entry.payload.split(b":")[0]))
            last = entry.number
            box.acknowledge(last)
    return taken


def test_what_is_put_comes_out_in_order_and_is_gone_once_acknowledged(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as box:
            for n in range(100):
                box.put("telemetry", payload(n))
            assert await drain(box) == list(range(100))
            assert (box.pending, box.dropped, box.fault) == (0, 0, "")
        async with opened(tmp_path) as box:
            assert box.pending == 0

    asyncio.run(work())


def test_a_link_that_stands_costs_the_disk_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as box:
            before = (tmp_path / f"{FILE}-wal").stat()
            for n in range(500):
                box.put("telemetry", payload(n))
                await drain(box)
            after = (tmp_path / f"{FILE}-wal").stat()
            assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)

    asyncio.run(work())


def test_what_waits_is_on_the_disk_within_a_moment(memory_path: Path) -> None:
    async def work() -> None:
        async with opened(memory_path) as box:
            box.put("telemetry", payload(1))
            await box.flush()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(box.after(1, 1), 0.01)
        async with opened(memory_path) as box:
            assert await drain(box) == [1]

    asyncio.run(work())


def test_whoever_waits_for_an_entry_gets_it_when_it_is_put(memory_path: Path) -> None:
    async def work() -> None:
        async with opened(memory_path) as box:
            waiting = asyncio.ensure_future(box.after(0, 5))
            await asyncio.sleep(0)
            box.put("result", b"x")
            (entry,) = await asyncio.wait_for(waiting, 10)
            assert (entry.kind, entry.payload) == ("result", b"x")

    asyncio.run(work())


@pytest.mark.parametrize("seed", range(4))
def test_order_and_counts_hold_whatever_comes_when(memory_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    async def work() -> None:
        put = 0
        seen: list[int] = []
        dropped = 0
        for _ in range(4):  # restarts
            async with opened(memory_path) as box:
                last = 0
                handed: dict[int, int] = {}
                for _ in range(60):
                    for _ in range(chance.randrange(40)):
                        box.put("telemetry", payload(put, chance.randrange(6000)))
                        put += 1
                    if chance.random() < 0.3:
                        await box.flush()
                    if chance.random() < 0.1:
                        last = 0  # a new session
                    if chance.random() < 0.4 and box.pending > len(handed):
                        waiting = box.after(last, chance.randrange(1, 40))
                        for entry in await asyncio.wait_for(waiting, 30):
                            number = int(entry.payload.split(b":")[0])
                            handed[entry.number] = number
                            last = entry.number
                        assert list(handed.values()) == sorted(handed.values())
                    while handed and chance.random() < 0.8:
                        number = next(iter(handed))
                        seen.append(handed.pop(number))
                        box.acknowledge(number)
                    assert box.pending + box.dropped + len(seen) == put
            dropped = box.dropped
        async with opened(memory_path) as box:
            assert box.dropped == dropped
            seen += await drain(box)
            assert len(set(seen)) == len(seen)
            assert seen == sorted(seen)
            assert len(seen) + dropped == put
            assert dropped > 0

    asyncio.run(work())


def test_beyond_the_cap_the_oldest_goes_and_the_count_is_exact(memory_path: Path) -> None:
    async def work() -> None:
        async with opened(memory_path) as box:
            for n in range(10_000):
                box.put("telemetry", payload(n, 600))
                if n % 200 == 0:
                    await box.flush()
            await box.flush()
            dropped = box.dropped
            assert dropped > 3000
            assert size(memory_path) <= LIMIT
            assert await drain(box) == list(range(dropped, 10_000))

    asyncio.run(work())


def test_ten_thousand_at_once_are_kept(memory_path: Path) -> None:
    async def work() -> None:
        async with opened(memory_path, 16 << 20) as box:
            for n in range(10_000):
                box.put("telemetry", payload(n, 300))
            await box.flush()
            assert (box.pending, box.dropped) == (10_000, 0)
        async with opened(memory_path, 16 << 20) as box:
            assert await drain(box) == list(range(10_000))

    asyncio.run(work())


def test_an_entry_that_can_never_be_sent_is_counted_as_dropped(memory_path: Path) -> None:
    async def work() -> None:
        async with opened(memory_path) as box:
            box.put("telemetry", payload(0))
            box.put("telemetry", payload(1))
            first, second = await box.after(0, 2)
            box.reject(first.number)
            box.reject(first.number)
            box.acknowledge(second.number)
            assert (box.pending, box.dropped) == (0, 1)
        async with opened(memory_path) as box:
            assert (box.pending, box.dropped) == (0, 1)

    asyncio.run(work())


def test_a_broken_disk_stops_nothing_and_all_is_written_once_it_is_well(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    append = ring.Ring.append

    def refuse(*_: object, **__: object) -> int:
        raise StoreError("cannot write outbox.db: database or disk is full")

    async def work() -> None:
        async with opened(memory_path) as box:
            box.put("telemetry", payload(0))
            await box.flush()
            monkeypatch.setattr(ring.Ring, "append", refuse)
            for n in range(1, 100):
                box.put("telemetry", payload(n))
            with pytest.raises(StoreError, match="full"):
                await box.flush()
            assert "full" in box.fault
            assert await drain(box, 50) == list(range(50)), "memory and disk are handed out still"
            monkeypatch.setattr(ring.Ring, "append", append)
            await box.flush()
            assert (box.fault, box.pending, box.dropped) == ("", 50, 0)
        async with opened(memory_path) as box:
            assert await drain(box) == list(range(50, 100))

    asyncio.run(work())


def test_memory_has_a_bound_while_the_disk_is_broken(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TAIL", 100_000)

    def refuse(*_: object, **__: object) -> int:
        raise StoreError("cannot write outbox.db: database or disk is full")

    async def work() -> None:
        async with opened(memory_path) as box:
            append = ring.Ring.append
            monkeypatch.setattr(ring.Ring, "append", refuse)
            for n in range(1000):
                box.put("telemetry", payload(n, 400))
            kept = box.pending
            assert 150 < kept < 250
            assert box.dropped == 1000 - kept
            assert await drain(box) == list(range(1000 - kept, 1000))
            monkeypatch.setattr(ring.Ring, "append", append)
        async with opened(memory_path) as box:
            assert box.dropped == 1000 - kept, "what memory dropped is remembered too"

    asyncio.run(work())


def test_a_damaged_file_is_put_aside_and_the_outbox_goes_on(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)

    async def work() -> None:
        async with opened(tmp_path) as box:
            box.put("telemetry", payload(1))
            await box.flush()
            assert box.fault == ""
        assert (tmp_path / f"{FILE}.damaged").read_bytes().startswith(b"no database")
        async with opened(tmp_path) as box:
            assert await drain(box) == [1]

    asyncio.run(work())


def test_a_folder_that_cannot_be_used_at_first_is_used_later_with_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    folder = tmp_path / "mqtt"

    async def work() -> None:
        async with opened(folder) as box:
            for n in range(10):
                box.put("telemetry", payload(n))
        folder.rename(tmp_path / "away")
        folder.write_text("in the way")
        async with opened(folder) as box:
            assert "cannot make" in box.fault
            for n in range(10, 20):
                box.put("telemetry", payload(n))
            folder.unlink()
            (tmp_path / "away").rename(folder)
            await box.flush()
            assert box.pending == 20
            assert await drain(box) == list(range(20))

    asyncio.run(work())


KILLED = """
import asyncio, sys
from pathlib import Path
from edged.mqtt.outbox import Outbox

async def work():
    box = Outbox(Path(sys.argv[1]), 64 << 20)
    await box.start()
    n, last = int(sys.argv[2]), 0
    while True:
        for _ in range(20):
            box.put("telemetry", b"%d:" % n + bytes(300))
            n += 1
        await box.flush()
        print("put", n, flush=True)
        for entry in await box.after(last, 7):
            last = entry.number
            box.acknowledge(last)
            print("sent", int(entry.payload.split(b":")[0]), flush=True)

asyncio.run(work())
"""


def killed_rounds(folder: Path, rounds: int) -> None:
    """Kills whoever puts and sends, again and again; checks what is left each time."""
    chance = random.Random(rounds)
    first, acknowledged = 0, -1
    for _ in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), str(first)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "COVERAGE_PROCESS_START": ""},
        ) as process:
            assert process.stdout is not None
            lines = chance.randrange(2, 60)
            said = [process.stdout.readline().split() for _ in range(lines)]
            process.send_signal(signal.SIGKILL)
            said += [line.split() for line in process.stdout if line.endswith(b"\n")]
        durable = max((int(line[1]) for line in said if line[0] == b"put"), default=first)
        acknowledged = max([acknowledged, *(int(line[1]) for line in said if line[0] == b"sent")])

        async def look() -> tuple[list[int], int]:
            async with opened(folder, 64 << 20) as box:
                found: list[int] = []
                last = 0
                while len(found) < box.pending:
                    for entry in await box.after(last, 500):
                        last = entry.number
                        found.append(int(entry.payload.split(b":")[0]))
                return found, box.dropped

        left, dropped = asyncio.run(look())
        assert dropped == 0
        assert left == list(range(left[0], left[0] + len(left))), "in order, without a gap"
        assert left[0] <= acknowledged + 1, "nothing goes before it is acknowledged"
        assert left[-1] + 1 >= durable, "what was flushed is there"
        first = left[-1] + 1


def test_a_kill_at_any_point_loses_nothing_that_was_written(memory_path: Path) -> None:
    killed_rounds(memory_path, 4)


@pytest.mark.long
def test_many_kills_lose_nothing_that_was_written(tmp_path: Path) -> None:
    killed_rounds(tmp_path, 60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where that is allowed."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("mounting takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=30)


def test_a_disk_that_is_full_for_real_stops_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    count = 6000

    async def work() -> None:
        async with opened(small_disk / "mqtt", 64 << 20) as box:
            said: set[tuple[str, str]] = set()
            for n in range(count):
                box.put("telemetry", payload(n, 1000))
                if n % 100 == 0:
                    try:
                        await box.flush()
                    except StoreError as exc:
                        said.add((str(exc), box.fault))
            ((error, fault),) = said
            assert error == fault
            assert "look at that disk's space" in error
            assert box.pending + box.dropped == count
            assert box.dropped == 0, "memory takes what the disk does not"
            taken = await drain(box, 4000)
            assert taken == list(range(4000)), "the disk's come first, then those in memory"
            assert await drain(box) == list(range(4000, count))

    asyncio.run(work())


def test_room_on_a_disk_that_was_full_is_used_again(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)

    async def work() -> None:
        async with opened(small_disk / "mqtt", 64 << 20) as box:
            box.put("telemetry", payload(0))
            await box.flush()
            fill(small_disk / "other")
            for n in range(1, 300):
                box.put("telemetry", payload(n, 1000))
            with pytest.raises(StoreError, match="full"):
                await box.flush()
            remove(small_disk / "other")
            await box.flush()
            assert (box.fault, box.pending) == ("", 300)
        async with opened(small_disk / "mqtt", 64 << 20) as box:
            assert await drain(box) == list(range(300))

    asyncio.run(work())


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def remove(path: Path) -> None:
    path.unlink()
