"""The ways from a controller to a device, one class each, so that one test can try them all."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edged.oci import open_image
from tests.e2e.device import ROOT
from tests.fakes.broker import Broker
from tests.fakes.hub import Hub
from tests.fakes.hub.identities import Identity
from tests.fakes.plant import Plant

DEVICE = "line-4"
AGENT = f"{DEVICE}/$edgeAgent"
OUTCOME_LIMIT = 120.0  # seconds for a deployment; machines that run this are small and shared
# What the original service's modules were created with, as its tools wrote it.
CREATE_OPTIONS = json.dumps(
    {
        "HostConfig": {
            "Privileged": True,
            "Binds": ["/etc/hosts:/etc/hosts"],
            "Devices": [
                {
                    "PathOnHost": f"/dev/catapult{number}",
                    "PathInContainer": f"/dev/catapult{number}",
                    "CgroupPermissions": "rwm",
                }
                for number in (0, 1)
            ],
            "PortBindings": {"50051/tcp": [{"HostPort": "50051"}]},
        },
        "ExposedPorts": {"50051/tcp": {}},
        "Labels": {"net.azure-devices.edge.note": "x" * 600},
    },
    separators=(",", ":"),
)


class Way(ABC):
    """One way. A reference is ``docker://HOST/NAME:TAG``.

    Attributes:
        settings: of the table ``[mqtt]`` of a device that listens to it.
    """

    settings: dict[str, Any]

    @abstractmethod
    def want(self, reference: str) -> None:
        """Asks for a model; does not wait for it."""

    @abstractmethod
    def want_nothing(self) -> None:
        """Asks for no model."""

    @abstractmethod
    def reports(self) -> list[dict[str, Any]]:
        """Returns our own document as it was reported, each time."""

    @abstractmethod
    def until(
        self, true: Callable[[], Any], limit: float = OUTCOME_LIMIT, what: str = "what was expected"
    ) -> Any:
        """Returns the value of ``true()`` once it is true."""

    def report(self) -> dict[str, Any]:
        """Returns the newest report; empty before one came."""
        reports = self.reports()
        return reports[-1] if reports else {}

    def until_report(self, true: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
        """Returns the newest report once there is one like that."""
        self.until(lambda: self.report() and true(self.report()), what=what)
        return self.report()

    def until_served(self, reference: str) -> dict[str, Any]:
        """Returns the report that says so, which a reader knows to be the one for this."""
        digest = str(open_image(reference).digest)
        return self.until_report(
            lambda report: (
                report.get("model", {}).get("digest") == digest
                and report["state"] == "serving"
                and "deployment" not in report
            ),
            f"{reference} in service",
        )

    def until_gone(self) -> dict[str, Any]:
        """Returns the report that says that there is no model any more."""
        return self.until_report(
            lambda report: "model" not in report and report["state"] == "not_serving", "no model"
        )

    def until_refused(self, reference: str) -> dict[str, Any]:
        """Returns the report of a failure of this image."""
        return self.until_report(
            lambda report: (
                reference in report.get("last_error", {}).get("what", "")
                and "deployment" not in report
            ),
            f"the failure of {reference}",
        )


class _OverHub(Way):
    """What the ways over the hub have in common.

    Args:
        hub: which gets the device.
        name: of the twin.
    """

    def __init__(self, hub: Hub, name: str = DEVICE) -> None:
        self.hub = hub
        self.name = name
        self.settings = hub_settings(hub, hub.register(name))

    def reports(self) -> list[dict[str, Any]]:
        taken = [each.whole for each in self.hub.reports(self.name) if each.status == 204]
        return [whole["edged"] for whole in taken if "edged" in whole]

    def until(
        self, true: Callable[[], Any], limit: float = OUTCOME_LIMIT, what: str = "what was expected"
    ) -> Any:
        return self.hub.until(true, limit, what)


def hub_settings(hub: Hub, identity: Identity) -> dict[str, Any]:
    """A device of the hub, by its key."""
    return {
        "dialect": "iothub",
        "connection_string": identity.connection_string,
        "port": hub.port,
        "ca_file": str(hub.authority.ca),
    }


class ByTwin(_OverHub):
    """A desired property of IoT Hub."""

    def want(self, reference: str) -> None:
        self.hub.desired(self.name, {"edged": {"image": reference, "status": "running"}})

    def want_nothing(self) -> None:
        self.hub.desired(self.name, {"edged": None})


class ByManifest(_OverHub):
    """A deployment of IoT Edge, which arrives at the agent's twin."""

    def __init__(self, hub: Hub) -> None:
        hub.register(DEVICE)
        super().__init__(hub, AGENT)

    def want(self, reference: str) -> None:
        self.hub.desired(self.name, manifest(reference), replace=True)

    def want_nothing(self) -> None:
        self.hub.desired(self.name, manifest(), replace=True)


class ByMethod(_OverHub):
    """Direct methods of IoT Hub."""

    def want(self, reference: str) -> None:
        self.call("Deploy", {"image": reference})

    def want_nothing(self) -> None:
        self.call("Undeploy", {})

    def call(self, method: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Calls a method that takes its time; returns what it answers at once."""
        self.hub.until(lambda: self.hub.connected(self.name), what="the device at the hub")
        status, answer = self.hub.invoke(self.name, method, payload, timeout=5)
        assert status in (200, 202), answer
        assert isinstance(answer, dict)
        return answer


class ByPlain(Way):
    """The retained topic of a plant's broker."""

    def __init__(self, plant: Plant, broker: Broker) -> None:
        self.plant = plant
        self.settings = plain_settings(broker)

    def want(self, reference: str) -> None:
        self.plant.desired({"image": reference})

    def want_nothing(self) -> None:
        self.plant.desired({})

    def reports(self) -> list[dict[str, Any]]:
        return self.plant.reports()

    def until(
        self, true: Callable[[], Any], limit: float = OUTCOME_LIMIT, what: str = "what was expected"
    ) -> Any:
        return self.plant.until(true, limit, what)


def plain_settings(broker: Broker) -> dict[str, Any]:
    """A device on a broker that asks nobody who he is."""
    return {
        "dialect": "plain",
        "device": DEVICE,
        "host": broker.host,
        "port": broker.port,
        "tls": False,
    }


class ByPush(ByPlain):
    """``edged push`` on somebody's machine."""

    def __init__(self, plant: Plant, broker: Broker, folder: Path) -> None:
        super().__init__(plant, broker)
        self._address = f"mqtt://{broker.host}:{broker.port}"
        self._log = folder / "push.log"
        self._pushes: list[subprocess.Popen[bytes]] = []

    def want(self, reference: str) -> None:
        self._push(reference)

    def want_nothing(self) -> None:
        self._push("--undeploy")

    def _push(self, what: str) -> None:
        command = [sys.executable, "-m", "edged", "push", "--broker", self._address]
        with self._log.open("ab") as log:
            self._pushes.append(
                subprocess.Popen(
                    [*command, "--device", DEVICE, what], cwd=ROOT, stdout=log, stderr=log
                )
            )

    def ended(self) -> tuple[int, str]:
        """Returns the last push's exit status once it has ended, and what all of them printed."""
        status = self._pushes[-1].wait(OUTCOME_LIMIT)
        return status, self._log.read_text()

    def close(self) -> None:
        """Ends what still waits for an outcome."""
        for push in self._pushes:
            push.kill()
            push.wait()


def manifest(
    *references: str, credentials: Mapping[str, Mapping[str, str]] | None = None, **changes: Any
) -> dict[str, Any]:
    """The agent's desired properties of a deployment with these modules.

    Args:
        references: of the images; the modules are model, model2 and so on.
        credentials: of registries.
        changes: of each module.
    """
    modules = {}
    for number, reference in enumerate(references, 1):
        name = "model" if number == 1 else f"model{number}"
        modules[name] = {
            "version": "1.0",
            "type": "docker",
            "status": "running",
            "restartPolicy": "always",
            "settings": {
                "image": reference.removeprefix("docker://"),
                **chunked(CREATE_OPTIONS),
            },
            **changes,
        }
    return {
        "schemaVersion": "1.1",
        "runtime": {
            "type": "docker",
            "settings": {
                "minDockerVersion": "v1.25",
                "loggingOptions": "",
                "registryCredentials": dict(credentials or {}),
            },
        },
        "systemModules": {
            name: {
                "type": "docker",
                "settings": {
                    "image": f"mcr.microsoft.com/azureiotedge-{image}:1.5",
                    "createOptions": "{}",
                },
            }
            for name, image in (("edgeAgent", "agent"), ("edgeHub", "hub"))
        },
        "modules": modules,
    }


def chunked(options: str) -> dict[str, str]:
    """createOptions as tools cut them: 512 characters each, numbered from the second."""
    chunks = [options[at : at + 512] for at in range(0, len(options), 512)]
    return {
        "createOptions" + (f"{number:02}" if number else ""): chunk
        for number, chunk in enumerate(chunks)
    }


def succeeded(desired: Mapping[str, Any], version: int, reported: Mapping[str, Any]) -> bool:
    """Whether operators take a deployment for done: the test that their tools make of a twin."""
    if reported.get("lastDesiredVersion") != version:
        return False
    if reported["lastDesiredStatus"]["code"] != 200:
        return False
    modules = reported.get("modules", {})
    return all(
        name in modules
        and modules[name]["runtimeStatus"] == module["status"]
        and modules[name]["settings"]["image"] == module["settings"]["image"]
        for name, module in desired["modules"].items()
    )
