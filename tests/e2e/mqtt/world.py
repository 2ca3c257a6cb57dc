"""A device, its controller and the broker between them, which a test or a benchmark takes away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.device import Device
from tests.e2e.mqtt import ways
from tests.e2e.mqtt.ways import DEVICE, ByPlain, ByTwin, Way
from tests.fakes.broker import Broker
from tests.fakes.hub import Hub
from tests.fakes.plant import Plant


class World:
    """All of it. The device is not started yet.

    Attributes:
        device: the device.
        way: from its controller.
    """

    def __init__(self, device: Device, way: Way, ends: Broker | Hub) -> None:
        self.device = device
        self.way = way
        self._ends = ends

    def want(self, reference: str, mark: str = "") -> None:
        """Asks for a model, as the document ``mark``; the broker must be there."""
        document = {"image": reference, **({"id": mark} if mark else {})}
        if isinstance(self.way, ByPlain):
            self.way.plant.desired(document)
        elif isinstance(self.way, ByTwin):
            self.way.hub.desired(DEVICE, {"edged": document})

    def until_applied(self, mark: str, limit: float = ways.OUTCOME_LIMIT) -> dict[str, Any]:
        """Returns the report that the document ``mark`` has been applied."""

        def applied() -> bool:
            report = self.way.report()
            desired = report.get("desired", {})
            done = desired.get("id") == mark and desired.get("outcome") == "applied"
            return bool(done and report["state"] == "serving" and "deployment" not in report)

        self.way.until(applied, limit, f"{mark} applied")
        return self.way.report()

    def take_away(self) -> None:
        """The broker dies, and with it all connections."""
        if isinstance(self._ends, Hub):
            self._ends.stop()
        else:
            self._ends.kill()

    def bring_back(self) -> None:
        """It is there again, where it was."""
        self._ends.start()


@contextlib.contextmanager
def world(dialect: str, module: str = "tests.fakes.daemon", **settings: Any) -> Iterator[World]:
    """A world in a folder of its own, ended with the block.

    Args:
        dialect: ``plain`` or ``iothub``.
        module: that runs the daemon.
        settings: more of ``[mqtt]``.
    """
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        way: Way
        ends: Broker | Hub
        if dialect == "plain":
            ends = stack.enter_context(Broker(folder / "broker"))
            way = ByPlain(stack.enter_context(Plant(ends, DEVICE)), ends)
        else:
            ends = stack.enter_context(Hub(folder / "hub"))
            way = ByTwin(ends)
        device = Device(folder, module)
        stack.callback(device.close)
        stack.enter_context(configured(device, {**way.settings, **settings}))
        yield World(device, way, ends)


def toml(settings: Mapping[str, Any]) -> str:
    """The file; a JSON text, number or truth is a TOML one too."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(["[mqtt]", *lines, ""])


@contextlib.contextmanager
def configured(device: Device, settings: Mapping[str, Any]) -> Iterator[None]:
    """A device that starts in the block has these settings."""
    path = device.folder / "edged.toml"
    path.write_text(toml(settings))
    before = os.environ.get("EDGED_CONFIG")
    os.environ["EDGED_CONFIG"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["EDGED_CONFIG"]
        else:
            os.environ["EDGED_CONFIG"] = before


def lies(device: Device, report: Mapping[str, Any]) -> list[str]:
    """Returns where a report differs from what the device says of itself."""
    status = device.status()
    model, previous = report.get("model", {}), report.get("previous", {})
    pairs = {
        "state": (report.get("state"), status.state),
        "digest": (model.get("digest", ""), status.model.digest),
        "name": (model.get("name", ""), status.model.name),
        "version": (model.get("version", ""), status.model.version),
        "previous": (previous.get("digest", ""), status.previous_digest),
        "edged": (report.get("edged"), status.version),
        "runtime": (report.get("runtime"), status.runtime),
        "sandbox": (report.get("sandbox"), status.sandbox),
        "signatures": (report.get("signatures"), status.verify),
    }
    return [f"{key}: {said!r}, is {true!r}" for key, (said, true) in pairs.items() if said != true]
