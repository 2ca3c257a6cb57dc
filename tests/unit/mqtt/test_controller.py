"""The newest document wins, is applied once, and is tried again for as long as that can help."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.clock import Moment
from edged.deploy.hold import Hold
from edged.deploy.types import Fault
from edged.errors import FetchError
from edged.mqtt.controller import Controller, retry_delay
from tests.fakes.steered import Steered, digest_of, until

ONE, TWO = "docker://h.example/n:1", "docker://h.example/n:2"


def document(image: str, **more: Any) -> bytes:
    return json.dumps({"image": image, **more}).encode()


class Plant:
    """A device and a controller that steers it."""

    def __init__(self, folder: Path) -> None:
        self.device = Steered()
        self.pauses: list[int] = []
        self.folder = folder
        self.controller = self.start()

    def start(self) -> Controller:
        return Controller(self.device, self.folder, self.device.stirred.set, self._delay)

    def _delay(self, attempts: int) -> float:
        self.pauses.append(attempts)
        self.device.stirred.set()
        return 0.01

    async def restart(self) -> None:
        await self.controller.stop()
        self.controller = self.start()

    async def settled(self) -> None:
        """Returns when nothing is about to happen: the disk is idle, and the loop too."""
        for _ in range(50):
            await asyncio.to_thread(bool)

    async def outcome(self, *wanted: str) -> None:
        await until(lambda: self.controller.standing.outcome in wanted, self.device)


def steered(folder: Path, test: Callable[[Plant], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        plant = Plant(folder)
        await test(plant)
        await plant.controller.stop()

    asyncio.run(run())


def test_a_document_is_applied_once_and_not_again_after_a_restart(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.document(document(ONE, id="a"))
        await plant.outcome("applied")
        plant.controller.document(document(ONE, id="a"))
        await plant.restart()
        plant.controller.document(document(ONE, id="a"))
        await plant.settled()
        standing = plant.controller.standing
        assert (standing.outcome, standing.code, standing.id) == ("applied", 200, "a")
        assert standing.digest == digest_of(ONE)
        assert plant.device.asked == [f"deploy {ONE}"]

    steered(tmp_path, test)


def test_what_an_operator_does_in_between_stays(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.document(document(ONE))
        await plant.outcome("applied")
        plant.device.change(model=None, state="not_serving")
        plant.device.record("undeployed", cause="undeploy")
        await plant.outcome("superseded")
        plant.controller.document(document(ONE))
        await plant.settled()
        assert plant.device.asked == [f"deploy {ONE}"]
        plant.controller.document(document(ONE, id="now really"))
        await until(lambda: len(plant.device.asked) == 2, plant.device)

    steered(tmp_path, test)


def test_a_newer_document_wins_over_one_that_is_under_way(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.device.gate.clear()
        plant.controller.document(document(ONE))
        await until(lambda: plant.device.asked, plant.device)
        plant.controller.document(document(TWO))
        await until(lambda: len(plant.device.asked) == 2, plant.device)
        plant.device.gate.set()
        await plant.outcome("applied")
        assert plant.controller.standing.reference == TWO

    steered(tmp_path, test)


@pytest.mark.parametrize("empty", [b"", b"{}", document(ONE, status="stopped")])
def test_no_image_undeploys(tmp_path: Path, empty: bytes) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.document(document(ONE))
        await plant.outcome("applied")
        plant.controller.document(empty)
        await until(lambda: plant.device.asked[-1] == "undeploy", plant.device)
        await plant.outcome("applied")
        assert plant.device.now.model is None

    steered(tmp_path, test)


def test_what_passes_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.device.faults[ONE] = (Fault.PASSING, "cannot fetch: no route to host")
        plant.controller.document(document(ONE))
        await until(lambda: len(plant.pauses) >= 3, plant.device)
        standing = plant.controller.standing
        assert standing.code in (503, 0)
        assert plant.pauses[:3] == [1, 2, 3]
        del plant.device.faults[ONE]
        await plant.outcome("applied")
        assert plant.controller.standing.error == ""

    steered(tmp_path, test)


def test_the_pauses_grow_from_ten_seconds_to_five_minutes() -> None:
    assert [retry_delay(n) for n in (1, 2, 3, 6, 100)] == [10, 20, 40, 300, 300]


def test_a_fault_of_the_model_waits_until_its_quarantine_is_cleared(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        bad = frozenset([digest_of(ONE)])
        plant.device.faults[ONE] = (Fault.MODEL, "cannot use the model: wrong answers; build again")
        plant.device.change(quarantined=bad)
        plant.controller.document(document(ONE))
        await plant.outcome("failed")
        standing = plant.controller.standing
        assert (standing.code, standing.fix) == (412, "build again")
        await plant.settled()
        assert len(plant.device.asked) == 1
        del plant.device.faults[ONE]
        plant.device.change(quarantined=frozenset())
        await plant.outcome("applied")

    steered(tmp_path, test)


def test_a_fault_of_the_model_is_not_tried_again_after_a_restart(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.device.faults[ONE] = (Fault.MODEL, "nobody who is trusted signed it")
        plant.controller.document(document(ONE))
        await plant.outcome("failed")
        await plant.restart()
        plant.controller.document(document(ONE))
        await plant.settled()
        assert len(plant.device.asked) == 1
        assert "trusted" in plant.controller.standing.error

    steered(tmp_path, test)


def test_a_held_device_is_said_and_obeys_when_it_is_released(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        hold = Hold("audit", "", 60, Moment(0, "", 0), left=60)
        plant.device.change(hold=hold)
        plant.controller.document(document(ONE))
        await plant.outcome("waiting")
        assert plant.controller.standing.code == 423
        assert "held" in plant.controller.standing.error
        plant.device.change(hold=None)
        await plant.outcome("applied")

    steered(tmp_path, test)


def test_a_model_that_is_reverted_within_its_window_is_said(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.document(document(ONE))
        await plant.outcome("applied")
        digest = digest_of(ONE)
        plant.device.change(quarantined=frozenset([digest]))
        plant.device.record("reverted", digest=digest, reason="it ended 3 times within 60 s")
        await plant.outcome("failed")
        assert "3 times" in plant.controller.standing.error
        await plant.settled()
        assert len(plant.device.asked) == 1

    steered(tmp_path, test)


def test_a_change_by_others_ends_the_attempts(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.device.faults[ONE] = (Fault.PASSING, "no route to host")
        plant.controller = Controller(
            plant.device, tmp_path, plant.device.stirred.set, lambda _: 60
        )
        plant.controller.document(document(ONE))
        await plant.outcome("waiting")
        plant.device.record("committed", digest=digest_of(TWO))
        await plant.outcome("superseded")
        assert len(plant.device.asked) == 1

    steered(tmp_path, test)


def test_what_others_bring_while_no_model_is_wanted_is_said_too(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.document(b"{}")
        await plant.outcome("applied")
        await plant.restart()
        plant.device.record("committed", digest=digest_of(ONE))
        plant.controller.document(b"{}")
        await plant.outcome("superseded")
        assert plant.device.asked == []

    steered(tmp_path, test)


def test_a_document_that_cannot_be_used_changes_nothing_but_the_report(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.document(document(ONE))
        await plant.outcome("applied")
        plant.controller.document(b'{"imagge": 1}')
        standing = plant.controller.standing
        assert (standing.outcome, standing.code) == ("invalid", 400)
        assert "imagge" in standing.error
        assert standing.fix
        assert plant.device.asked == [f"deploy {ONE}"]
        plant.controller.document(document(TWO))
        await plant.outcome("applied")

    steered(tmp_path, test)


def test_a_fault_of_edged_itself_is_said_and_tried_again(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        deploy = plant.device.deploy
        plant.device.deploy = None  # type: ignore[assignment, method-assign]
        plant.controller.document(document(ONE))
        await until(lambda: len(plant.pauses) >= 2, plant.device)
        plant.device.deploy = deploy  # type: ignore[method-assign]
        await plant.outcome("applied")

    steered(tmp_path, test)


# -- twins and manifests


def manifest(*modules: tuple[str, str, str], password: str = "p") -> dict[str, Any]:
    return {
        "schemaVersion": "1.1",
        "runtime": {
            "type": "docker",
            "settings": {
                "registryCredentials": {
                    "r": {"username": "u", "password": password, "address": "h.example"}
                }
            },
        },
        "modules": {
            name: {"type": "docker", "status": status, "settings": {"image": image}}
            for name, image, status in modules
        },
    }


def test_a_section_of_a_twin_is_followed_and_undeploys_when_it_is_gone(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.twin({}, 1)
        plant.controller.twin({"other": 1}, 2)
        await plant.settled()
        assert plant.controller.standing.outcome == "none"
        plant.controller.twin({"edged": {"image": ONE}, "other": 1}, 3)
        await plant.outcome("applied")
        assert plant.controller.standing.version == 3
        plant.controller.twin({"other": 1}, 4)
        await until(lambda: plant.device.asked[-1] == "undeploy", plant.device)

    steered(tmp_path, test)


def test_the_module_with_a_model_is_deployed_and_others_are_refused(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.device.models = {ONE, TWO}
        modules = (
            ("db", "h.example/db:1", "running"),
            ("model", "h.example/n:1", "running"),
            ("second", "h.example/n:2", "running"),
            ("old", "h.example/old:1", "stopped"),
        )
        plant.controller.twin(manifest(*modules), 5)
        await plant.outcome("applied")
        standing = plant.controller.standing
        assert plant.device.asked == [f"deploy {ONE}@{digest_of(ONE)}"]
        assert {name: each.code for name, each in standing.verdicts.items()} == {
            "db": 412,
            "model": 200,
            "second": 412,
            "old": 200,
        }
        assert standing.code == 412
        assert "module db" in standing.error
        assert "one model at a time" in standing.verdicts["second"].text

    steered(tmp_path, test)


def test_credentials_go_with_the_fetch_and_never_to_the_disk(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        secret = "hunter2-not-to-be-kept"
        plant.controller.twin(manifest(("m", "h.example/n:1", "running"), password=secret), 5)
        await plant.outcome("applied")
        await plant.controller.stop()
        assert plant.device.options[0].credentials["h.example"].password == secret
        assert secret not in repr(plant.device.options) + repr(plant.controller.desired)

    steered(tmp_path, test)
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "sha256" in kept
    assert "hunter2" not in kept


def test_a_registry_that_cannot_be_reached_leaves_the_model_and_is_asked_again(
    tmp_path: Path,
) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.twin(manifest(("m", "h.example/n:1", "running")), 1)
        await plant.outcome("applied")
        plant.device.errors[TWO] = FetchError("cannot fetch: timed out")
        plant.controller.twin(manifest(("m", "h.example/n:2", "running")), 2)
        await until(lambda: len(plant.pauses) >= 2, plant.device)
        assert len(plant.device.asked) == 1
        del plant.device.errors[TWO]
        await until(lambda: len(plant.device.asked) == 2, plant.device)

    steered(tmp_path, test)


def test_better_credentials_are_used_at_once(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller = Controller(
            plant.device, tmp_path, plant.device.stirred.set, lambda _: 600
        )
        plant.device.errors[ONE] = FetchError("cannot fetch: 401 Unauthorized")
        plant.controller.twin(manifest(("m", "h.example/n:1", "running")), 1)
        await plant.outcome("waiting")
        del plant.device.errors[ONE]
        wanted = manifest(("m", "h.example/n:1", "running"), password="right")
        plant.controller.twin(wanted, 2)
        await plant.outcome("applied")
        assert plant.device.seen[-1]["h.example"].password == "right"

    steered(tmp_path, test)


def test_only_foreign_modules_leave_what_serves(tmp_path: Path) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.document(document(ONE))
        await plant.outcome("applied")
        plant.device.models = set()
        plant.controller.twin(manifest(("db", "h.example/db:1", "running")), 2)
        await plant.outcome("failed")
        assert plant.controller.standing.code == 412
        assert len(plant.device.asked) == 1

    steered(tmp_path, test)


@pytest.mark.parametrize("modules", [(), (("m", "h.example/n:1", "stopped"),)])
def test_a_manifest_without_a_running_module_undeploys(tmp_path: Path, modules: Any) -> None:
    async def test(plant: Plant) -> None:
        plant.controller.twin(manifest(("m", "h.example/n:1", "running")), 1)
        await plant.outcome("applied")
        plant.controller.twin(manifest(*modules), 2)
        await until(lambda: plant.device.asked[-1] == "undeploy", plant.device)
        await plant.outcome("applied")
        assert plant.controller.standing.code == 200

    steered(tmp_path, test)
