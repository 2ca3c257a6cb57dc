"""Many swaps leave nothing behind: no memory, descriptors, processes, cgroups, mounts, folders."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.containers.conftest import Box
from tests.fakes import images

SWAPS = 200
LEAVE_LIMIT = 30.0  # seconds
WARM = 20  # swaps until what is cached is cached


def resident(pid: int) -> int:
    """Bytes of memory that a process has to itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = (line.split()[1] for line in lines if line.startswith("Private_"))
    return sum(map(int, private)) * 1024


def children(pid: int) -> list[str]:
    """The processes that a process has, also those that nobody has reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else []
        if fields and int(fields[1]) == pid:
            found.append(stat.parent.name)
    return found


def settled(box: Box) -> list[dict[str, Any]]:
    """The containers once the worker that was swapped out has left: it does so after the answer."""
    deadline = time.monotonic() + LEAVE_LIMIT
    while len(found := box.containers()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def swap(box: Box, references: list[str]) -> Callable[[int], None]:
    def once(number: int) -> None:
        event = box.deploy(references[number % 2])[-1]
        assert event.state == "committed", event.error

    return once


@pytest.mark.long
def test_swaps_leave_nothing_behind(fake_box: Box) -> None:
    fake_box.start("--window", "0.1")
    assert fake_box.daemon is not None
    pid = fake_box.daemon.pid
    once = swap(
        fake_box, [images.write(fake_box.folder / f"image{n}", f"model{n}") for n in range(2)]
    )
    for number in range(WARM):
        once(number)
    settled(fake_box)
    memory, open_before = resident(pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))
    for number in range(SWAPS):
        once(number)
    assert fake_box.predict(b"x") == b"model1:x"
    [container] = settled(fake_box)
    status = fake_box.status()
    assert container["pid"] == status.model.worker_pid
    assert len(list(Path(f"/proc/{pid}/fd").iterdir())) <= open_before + 2
    assert children(pid) == [str(status.model.worker_pid)]
    left = fake_box.leftovers()
    assert not [text for text in left if container["id"] not in text]
    assert len(list((fake_box.state / "logs").iterdir())) <= 8
    grown = resident(pid) - memory
    print(f"private memory {memory} + {grown} bytes after {SWAPS} swaps")
    assert grown < memory * 0.01
