"""The ring on the disk: its cap, its counts, its order, and what it makes of damage."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from edged.errors import StoreError
from edged.mqtt.ring import BATCH, LEAST, DamagedError, Entry, Ring, put_aside


def entries(first: int, count: int, size: int = 100) -> list[Entry]:
    return [Entry(n, "telemetry", b"%08d" % n + bytes(size)) for n in range(first, first + count)]


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_entries_come_back_in_order_and_outlast_a_restart(memory_path: Path) -> None:
    ring = Ring(memory_path / "ring.db", LEAST)
    ring.append(entries(1, 50))
    ring.remove([1, 2, 3])
    ring.close()

    ring = Ring(memory_path / "ring.db", LEAST)
    assert (ring.count, ring.last, ring.dropped) == (47, 50, 0)
    assert [entry.number for entry in ring.after(0, 5)] == [4, 5, 6, 7, 8]
    assert ring.after(0, 100) == entries(1, 50)[3:]
    assert ring.after(50, 100) == []
    ring.close()


@pytest.mark.parametrize("size", [300, 700, 1400, 2030, 3000, 9000, 200_000, 0])
def test_file_and_log_stay_below_the_cap_and_every_drop_is_counted(
    memory_path: Path, size: int
) -> None:
    chance = random.Random(size)
    ring = Ring(memory_path / "ring.db", LEAST)
    number, dropped, worst = 1, 0, 0
    while number * max(size, 5000) < 3 * LEAST or not dropped:
        batch: list[Entry] = []
        while sum(entry.cost for entry in batch) < BATCH // 4 and len(batch) < 300:
            length = size or chance.randrange(20_000)
            batch += entries(number, 1, length)
            number += 1
        dropped += ring.append(batch)
        if chance.random() < 0.3:
            ring.remove(range(ring.after(0, 1)[0].number, ring.after(0, 1)[0].number + 3))
        worst = max(worst, on_disk(memory_path))
        assert worst <= LEAST
        assert ring.dropped == dropped
    kept = ring.after(0, 100_000)
    assert kept
    assert ring.last == number - 1
    assert worst > LEAST // 3, "the cap is used"
    ring.close()
    again = Ring(memory_path / "ring.db", LEAST)
    assert again.dropped == dropped
    assert len(_all(again)) == again.count
    again.close()


def _all(ring: Ring) -> list[Entry]:
    found: list[Entry] = []
    while more := ring.after(found[-1].number if found else 0, 1000):
        found += more
    return found


def test_the_oldest_goes_first_but_not_what_is_to_be_kept(memory_path: Path) -> None:
    ring = Ring(memory_path / "ring.db", LEAST)
    put = gone = 0
    while not gone:
        gone = ring.append(entries(put + 1, 100, 2000), keep=10)
        put += 100
    numbers = [entry.number for entry in _all(ring)]
    assert numbers == [*range(1, 11), *range(11 + gone, put + 1)]
    ring.close()


def test_the_disk_has_its_room_back_once_all_is_sent(memory_path: Path) -> None:
    ring = Ring(memory_path / "ring.db", LEAST)
    for first in range(1, 1500, 100):
        ring.append(entries(first, 100, 1000))
    large = on_disk(memory_path)
    ring.remove(range(1, 2000))
    for _ in range(50):
        ring.remove([])
    ring.close()
    assert (memory_path / "ring.db").stat().st_size < large / 4


def test_a_number_that_is_there_already_changes_nothing(memory_path: Path) -> None:
    ring = Ring(memory_path / "ring.db", LEAST)
    ring.append(entries(1, 3))
    with pytest.raises(StoreError):
        ring.append(entries(3, 3))
    assert ring.after(0, 9) == entries(1, 3)
    assert ring.count == 3
    ring.close()


@pytest.mark.parametrize("damage", ["text", "pages", "form", "folder"])
def test_a_damaged_file_is_told_and_can_be_put_aside(memory_path: Path, damage: str) -> None:
    path = memory_path / "ring.db"
    ring = Ring(path, LEAST)
    for first in range(1, 1000, 100):
        ring.append(entries(first, 100, 500))
    ring.close()
    if damage == "text":
        path.write_bytes(b"this is no database" * 1000)
    elif damage == "pages":
        data = bytearray(path.read_bytes())
        for page in range(4, len(data) // 4096):
            data[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
        path.write_bytes(data)
    elif damage == "form":
        base = sqlite3.connect(path)
        base.execute("PRAGMA user_version = 99")
        base.close()
    else:
        path.unlink()
        path.mkdir()
        with pytest.raises(StoreError):
            Ring(path, LEAST)
        return
    with pytest.raises(DamagedError, match="cannot use"):
        Ring(path, LEAST)

    aside = put_aside(path)
    assert aside.exists()
    fresh = Ring(path, LEAST)
    assert fresh.count == 0
    fresh.append(entries(1, 1))
    fresh.close()


def test_a_log_that_was_torn_costs_its_last_commits_only(memory_path: Path) -> None:
    ring = Ring(memory_path / "ring.db", LEAST)
    for first in range(1, 40):
        ring.append(entries(first, 1))
    log = (memory_path / "ring.db-wal").read_bytes()
    base = (memory_path / "ring.db").read_bytes()
    ring.abandon()
    for cut in range(0, len(log), 7013):
        other = memory_path / f"cut-{cut}"
        other.mkdir()
        (other / "ring.db").write_bytes(base)
        (other / "ring.db-wal").write_bytes(log[:cut])
        again = Ring(other / "ring.db", LEAST)
        numbers = [entry.number for entry in again.after(0, 100)]
        assert numbers == list(range(1, len(numbers) + 1))
        again.close()
