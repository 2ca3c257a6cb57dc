"""What there is on a device after somebody was killed: nothing but what is meant to be."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from edged.deploy import check
from edged.deploy.store import Store
from edged.oci.blobs import BlobStore
from tests.e2e.device import Device

END_LIMIT = 5.0  # seconds


def assert_clean(device: Device) -> None:
    """What is on the disk is what the pointer names, whole, and nothing under way."""
    device.stop()
    assert list(check.faults(device.state)) == []
    store = Store(device.state)
    assert store.current is not None
    kept = {slot.folder.name for slot in (store.current, store.previous) if slot is not None}
    assert {path.name for path in (device.state / "models").iterdir()} == kept
    assert BlobStore(device.state / "images").check() == []
    assert not list(device.state.glob("*.damaged"))
    assert b"reference" not in (device.state / "deploying.json").read_bytes()


def workers(device: Device) -> list[Path]:
    """The processes that were started for this device."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(device.state).encode() in (process / "cmdline").read_bytes():
                found.append(process)
    return found


def ends(pid: int) -> bool:
    """Whether a process ends soon: the kernel may be about to end it, or is at it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], END_LIMIT)[0])
    finally:
        os.close(handle)
