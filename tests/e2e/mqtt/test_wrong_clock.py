"""A device whose clock is wrong says so, serves all the same, and connects once it is right."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tests.e2e.device import Device
from tests.e2e.mqtt import ways
from tests.e2e.mqtt.conftest import Configure
from tests.e2e.mqtt.test_refusals import BACK_WITHIN, NAMED_WITHIN, QUICK, until
from tests.e2e.test_clock import faketime
from tests.fakes import images
from tests.fakes.hub import Hub

pytestmark = pytest.mark.long


class Clock:
    """The device's clock, which can be set while it runs."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        monkeypatch.setenv("LD_PRELOAD", faketime())
        monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(path))
        monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
        monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")

    def set(self, year: int) -> None:
        """Sets it to a year."""
        now = dt.datetime.now(dt.timezone.utc)
        then = dt.datetime(year, 1, 2, tzinfo=dt.timezone.utc)
        self._write(f"{(then - now).total_seconds():+.0f}")

    def set_right(self) -> None:
        """Sets it to what it should be, as NTP does."""
        self._write("+0")

    def _write(self, text: str) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._path)


@pytest.mark.parametrize(("year", "says"), [(1970, ("clock", "1970")), (2040, ("clock", "2040"))])
def test_a_wrong_clock_is_named_and_the_link_stands_once_it_is_right(
    device: Device,
    configure: Configure,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    year: int,
    says: tuple[str, ...],
) -> None:
    me = hub.register(ways.DEVICE)
    configure(device, {**ways.hub_settings(hub, me), **QUICK})
    with monkeypatch.context() as patched:
        clock = Clock(device.folder / "clock", patched)
        clock.set(year)
        device.start()
        assert device.deploy(images.write(device.folder / "image"))[-1].state == "committed"
        link = until(device, lambda link: link.reason, NAMED_WITHIN)
        for each in says:
            assert each in link.reason + link.fix, link
        assert device.predict(b"x") == b"fake:x"
        assert hub.connects(ways.DEVICE) == 0
        clock.set_right()
        hub.until(lambda: hub.reported(ways.DEVICE), 2 * BACK_WITHIN, "a report, after all")
        assert hub.reported(ways.DEVICE)["edged"]["time"][:4] == str(
            dt.datetime.now(dt.timezone.utc).year
        )
        device.stop()
