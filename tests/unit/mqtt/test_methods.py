"""Direct methods are answered within a second; long work goes on under a correlation id."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.clock import Moment
from edged.deploy.hold import Hold
from edged.deploy.types import Fault, Slot
from edged.errors import ModelError
from edged.mqtt.methods import Methods
from tests.fakes.steered import Steered, digest_of, until

ONE = "docker://h.example/n:1"
SLOT = Slot(digest_of(ONE), ONE, Path("/m"), name="surface")


class Caller:
    def __init__(self, logs: Path) -> None:
        self.device = Steered(logs)
        self.methods = Methods(self.device, lambda: ["surface"], "boot")

    async def call(self, name: str, payload: Any = None) -> tuple[int, Any]:
        body = payload if isinstance(payload, bytes) else json.dumps(payload or {}).encode()
        answer = await asyncio.wait_for(self.methods.call(name, body), 1.0)
        return answer.status, json.loads(answer.body)

    async def ended(self, correlation: str) -> dict[str, Any]:
        """Returns a task when it has ended."""
        task = self.methods.tasks.find(correlation)
        await asyncio.wait_for(task.ended.wait(), 15)
        status, document = await self.call("GetTaskStatus", {"correlationId": correlation})
        assert status == 200
        return dict(document)

    async def done(self, name: str, payload: Any = None) -> dict[str, Any]:
        status, answer = await self.call(name, payload)
        assert status == 202, answer
        return await self.ended(answer["correlationId"])


def calling(folder: Path, test: Callable[[Caller], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        caller = Caller(folder)
        await test(caller)
        await caller.methods.stop()

    asyncio.run(run())


@pytest.mark.parametrize("nothing", [b"", b" ", b"null", b"{}"])
def test_ping_says_who_is_there(tmp_path: Path, nothing: bytes) -> None:
    async def test(caller: Caller) -> None:
        assert await caller.call("ping", nothing) == (
            200,
            {"version": "1.2.3", "boot_id": "boot", "state": "not_serving"},
        )

    calling(tmp_path, test)


def test_a_deployment_is_followed_by_its_correlation_id(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        caller.device.gate.clear()
        status, answer = await caller.call("Deploy", {"image": ONE, "schemaVersion": "1.0"})
        assert status == 202
        await until(lambda: caller.device.now.progress, caller.device)
        correlation = {"correlationId": answer["correlationId"]}
        _, under_way = await caller.call("GetTaskStatus", correlation)
        assert under_way["status"] == "Running"
        caller.device.gate.set()
        ended = await caller.ended(answer["correlationId"])
        assert (ended["status"], ended["percent"]) == ("Completed", 100)
        assert ended["digest"] == digest_of(ONE)

    calling(tmp_path, test)


def test_a_deployment_that_fails_says_why_and_what_to_do(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        caller.device.faults[ONE] = (Fault.MODEL, "cannot use it: wrong answers; build it again")
        ended = await caller.done("Deploy", {"image": ONE})
        assert ended["status"] == "Failed"
        assert (ended["code"], ended["fix"]) == (412, "build it again")
        assert "wrong answers" in ended["message"]

    calling(tmp_path, test)


def test_each_of_the_others_does_what_it_says(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        caller.device.change(model=SLOT, previous=replace(SLOT, reference="oci:/old"))
        assert (await caller.done("RunSelfTest"))["ms"] == 250.0
        assert (await caller.done("RestartModule", {"id": "surface"}))["status"] == "Completed"
        assert (await caller.done("Rollback"))["status"] == "Completed"
        assert (await caller.done("Undeploy", {"force": True}))["status"] == "Completed"
        assert caller.device.asked == ["self_test", "restart", "deploy oci:/old", "undeploy"]

    calling(tmp_path, test)


def test_a_self_test_that_fails_is_told(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        caller.device.change(model=SLOT)
        caller.device.errors["self_test"] = ModelError("its golden test failed: 3 values differ")
        ended = await caller.done("RunSelfTest")
        assert (ended["status"], "3 values" in ended["message"]) == ("Failed", True)

    calling(tmp_path, test)


def test_the_same_key_does_it_once_also_at_the_same_time(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        payload = {"image": ONE, "idempotencyKey": "k1"}
        first, second = await asyncio.gather(
            caller.call("Deploy", payload), caller.call("Deploy", payload)
        )
        assert first == second == await caller.call("Deploy", payload)
        await caller.ended(first[1]["correlationId"])
        assert caller.device.asked == [f"deploy {ONE}"]
        status, answer = await caller.call("Undeploy", {"idempotencyKey": "k1"})
        assert status == 409
        assert "k1" in answer["error"]["message"]

    calling(tmp_path, test)


def test_a_refusal_uses_up_no_key(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        hold = Hold("audit", "", 60, Moment(0, "", 0), left=60)
        caller.device.change(hold=hold)
        payload = {"image": ONE, "idempotencyKey": "k1"}
        assert (await caller.call("Deploy", payload))[0] == 423
        caller.device.change(hold=None)
        assert (await caller.call("Deploy", payload))[0] == 202

    calling(tmp_path, test)


@pytest.mark.parametrize(
    ("name", "payload", "code", "names"),
    [
        ("Explode", {}, 404, "there are ping, Deploy"),
        ("ping", {"x": 1}, 400, "unknown key 'x'"),
        ("ping", b"{", 400, "a JSON object"),
        ("ping", b"[]", 400, "a list"),
        ("ping", b"\xff", 400, "a JSON object"),
        ("ping", b"[" * 100_000, 400, "a JSON object"),
        ("ping", {"schemaVersion": "2.0"}, 400, "'2.0'"),
        ("Deploy", {}, 400, "no image"),
        ("Deploy", {"image": "x"}, 400, "NAME:TAG"),
        ("Deploy", {"image": ONE, "idempotencyKey": "k" * 65}, 400, "at most 64"),
        ("Rollback", {}, 412, "no previous model"),
        ("Rollback", {"force": "yes"}, 400, "true or false"),
        ("RestartModule", {}, 412, "no model is in service"),
        ("RunSelfTest", {}, 412, "no model is in service"),
        ("GetTaskStatus", {}, 400, "no correlationId"),
        ("GetTaskStatus", {"correlationId": "x"}, 404, "no task 'x'"),
        ("GetModuleLogs", {}, 400, "items"),
        ("GetModuleLogs", {"items": [{}]}, 400, "id"),
        ("GetModuleLogs", {"items": [{"id": "("}]}, 400, "regular expression"),
        ("GetModuleLogs", {"items": [{"id": ".*", "filter": {"tail": -1}}]}, 400, "tail"),
        ("GetModuleLogs", {"items": [{"id": ".*", "filter": {"since": "x"}}]}, 400, "since"),
        ("GetModuleLogs", {"items": [{"id": ".*"}], "encoding": "zip"}, 400, "none or gzip"),
    ],
)
def test_nonsense_gets_a_code_and_what_to_do(
    tmp_path: Path, name: str, payload: Any, code: int, names: str
) -> None:
    async def test(caller: Caller) -> None:
        status, answer = await caller.call(name, payload)
        if status == 202:  # a busy machine takes more than a second for the process of the logs
            ended = await caller.ended(answer["correlationId"])
            status, answer = ended["code"], {"error": {**ended, "fix": "-"}}
        assert status == code == answer["error"]["code"]
        assert names in answer["error"]["message"] + answer["error"]["fix"]
        assert answer["error"]["fix"]

    calling(tmp_path, test)


def test_a_module_that_is_not_there_is_not_restarted(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        caller.device.change(model=SLOT)
        status, answer = await caller.call("RestartModule", {"id": "edgeAgent"})
        assert (status, "surface" in answer["error"]["fix"]) == (404, True)

    calling(tmp_path, test)


def test_only_so_many_run_at_a_time(tmp_path: Path) -> None:
    async def test(caller: Caller) -> None:
        caller.device.change(model=SLOT)
        caller.device.gate.clear()
        answers = [await caller.call("RestartModule") for _ in range(10)]
        assert [status for status, _ in answers] == [202] * 8 + [429] * 2

    calling(tmp_path, test)


# -- logs

LINES = [
    "2026-01-01T00:00:00.000000Z INFO edged.worker: ready",
    "2026-01-01T00:01:00.000000Z WARNING PIL: odd picture",
    "2026-01-01T00:02:00.000000Z ERROR edged.worker: golden test failed",
    "2026-01-01T00:03:00.000000Z a plain line",
]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "a1b2.log").write_text("".join(f"{line}\n" for line in LINES))
    return tmp_path


async def shown(caller: Caller, wanted: dict[str, Any], **more: Any) -> Any:
    """Returns what of the logs a controller sees, however long that takes."""
    status, answer = await caller.call(
        "GetModuleLogs", {"items": [{"id": ".*", "filter": wanted}], **more}
    )
    if status == 202:
        return (await caller.ended(answer["correlationId"]))["result"][0]
    assert status == 200, answer
    return answer[0]


@pytest.mark.parametrize(
    ("wanted", "which"),
    [
        ({}, [0, 1, 2, 3]),
        ({"tail": 2}, [2, 3]),
        ({"tail": 0}, []),
        ({"loglevel": 3}, [2]),
        ({"loglevel": 6}, [0, 3]),
        ({"regex": "gold|odd"}, [1, 2]),
        ({"since": "2026-01-01T00:01:00Z", "until": "2026-01-01T01:02:00+01:00"}, [1, 2]),
        ({"since": 1767225660}, [1, 2, 3]),
        ({"since": "2 days 3 hours"}, []),
    ],
)
def test_logs_are_filtered(logs: Path, wanted: dict[str, Any], which: list[int]) -> None:
    async def test(caller: Caller) -> None:
        found = await shown(caller, wanted)
        assert found["id"] == "surface"
        texts = [line.split(" ", 2)[2] for line in found["payload"].splitlines()]
        assert texts == [LINES[index].split(" ", 1)[1] for index in which]

    calling(logs, test)


def test_logs_come_packed_and_as_json(logs: Path) -> None:
    async def test(caller: Caller) -> None:
        found = await shown(caller, {"tail": 1}, encoding="gzip", contentType="json")
        text = gzip.decompress(base64.b64decode(found["payloadBytes"])).decode()
        assert json.loads(text)["text"] == "a plain line"

    calling(logs, test)


def test_of_many_logs_the_newest_fit(tmp_path: Path) -> None:
    line = "2026-01-01T00:00:00.{:06}Z INFO line {} " + "x" * 900
    (tmp_path / "a.log").write_text("".join(line.format(n, n) + "\n" for n in range(500)))

    async def test(caller: Caller) -> None:
        found = await shown(caller, {})
        lines = found["payload"].splitlines()
        assert 50 < len(lines) < 125
        assert "line 499 " in lines[-1]

    calling(tmp_path, test)


def test_a_pattern_that_never_ends_costs_nobody_else_anything(tmp_path: Path) -> None:
    text = "2026-01-01T00:00:00.000000Z " + "a" * 60
    (tmp_path / "a.log").write_text(f"{text}\n")

    async def test(caller: Caller) -> None:
        status, answer = await caller.call(
            "GetModuleLogs", {"items": [{"id": ".*", "filter": {"regex": "(a+)+$b"}}]}
        )
        assert status == 202
        assert (await caller.call("ping"))[0] == 200
        assert caller.methods.tasks.find(answer["correlationId"]).status == "Running"

    calling(tmp_path, test)
