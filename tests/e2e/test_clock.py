"""A device without a clock, or a network: it comes up with the model it had, signature and all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edged.oci import keys
from tests.e2e.device import Device
from tests.fakes import images

YEAR_1970, YEAR_2040 = "1970-01-02 00:00:00", "2040-01-01 00:00:00"


def faketime() -> str:
    """The library that gives a program another clock."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("faketime is not installed: nobody to set the clock")
    return str(found[0])


@pytest.mark.parametrize("clock", [YEAR_1970, YEAR_2040])
def test_a_signed_model_serves_whatever_the_clock_says(
    device: Device, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    library = faketime()
    keys.generate(device.folder / "plant")
    keys.trust(device.folder / "plant.pub", device.folder / "keys")
    monkeypatch.setenv("EDGED_VERIFY", "required")
    monkeypatch.setenv("EDGED_KEYS_DIR", str(device.folder / "keys"))
    device.start()
    for name in ("old", "new"):
        reference = images.write(device.folder / name, name, key=device.folder / "plant.key")
        assert device.deploy(reference)[-1].state == "committed"
    device.stop()
    for name in ("old", "new"):  # where they came from is gone, as with no network
        shutil.rmtree(device.folder / name)
    monkeypatch.setenv("LD_PRELOAD", library)
    monkeypatch.setenv("FAKETIME", f"@{clock}")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    assert _year() == clock[:4], "the clock is wrong, as it should be"
    device.start()
    assert device.predict(b"x") == b"new:x"
    assert device.rollback()[-1].state == "committed"
    assert device.predict(b"x") == b"old:x"
    device.stop(signal.SIGKILL)  # as the power goes, with a clock that was wrong till then
    monkeypatch.delenv("LD_PRELOAD")
    device.start()
    assert device.predict(b"x") == b"old:x"


def _year() -> str:
    command = [sys.executable, "-c", "import time; print(time.gmtime().tm_year)"]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=dict(os.environ)
    ).stdout.strip()
