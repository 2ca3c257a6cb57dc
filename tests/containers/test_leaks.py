"""Many swaps leave nothing behind: no memory, descriptors, processes, cgroups, mounts, folders."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.history import KEPT
from tests.containers.conftest import Box
from tests.fakes import images

pytestmark = pytest.mark.alone

SWAPS = 200
LEAVE_LIMIT = 30.0  # seconds
WARM = KEPT + 50  # swaps; until KEPT the history grows, by design, a kilobyte or two each time
LAST = 20  # of so many swaps the median counts: a heap's end comes and goes


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024


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


@pytest.mark.long
def test_swaps_leave_nothing_behind(fake_box: Box) -> None:
    fake_box.start("--window", "0.1")
    assert fake_box.daemon is not None
    pid = fake_box.daemon.pid
    references = [
        images.write(fake_box.folder / f"image{number}", f"model{number}", padding=5_000_000)
        for number in range(2)
    ]

    def swaps(count: int) -> int:
        """Swaps; returns the bytes that the daemon has then."""
        had = []
        for number in range(count):
            event = fake_box.deploy(references[number % 2])[-1]
            assert event.state == "committed", event.error
            had.append(resident(pid))
        print("resident KiB:", *(each // 1024 for each in had[9::10]))
        return round(statistics.median(had[-LAST:]))

    memory = swaps(WARM)
    settled(fake_box)
    open_before = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    later = swaps(SWAPS)
    assert fake_box.predict(b"x") == b"model1:x"
    [container] = settled(fake_box)
    status = fake_box.status()
    assert container["pid"] == status.model.worker_pid
    assert len(list(Path(f"/proc/{pid}/fd").iterdir())) <= open_before + 2
    assert children(pid) == [str(status.model.worker_pid)]
    left = fake_box.leftovers()
    assert not [text for text in left if container["id"] not in text]
    assert len(list((fake_box.state / "logs").iterdir())) <= 8
    print(f"resident after {WARM} swaps {memory} bytes, after {SWAPS} more {later - memory} more")
    assert later < memory * 1.01
