"""Whatever comes over the link gets a code and a reason, and never touches the model in service.

Valid documents, manifests, payloads and topics are changed at random, as bytes and as what they
mean; the long tier does so 100,000 times.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.types import Slot
from edged.mqtt.agent import Agent
from edged.mqtt.bounded import encode
from edged.mqtt.control import AGENT_LIMIT, OWN_LIMIT
from edged.mqtt.dialect import Endpoint, Message
from edged.mqtt.plain import Plain
from tests.fakes.steered import Steered
from tests.fuzz.mutate import raw
from tests.unit.mqtt.edge.test_manifest import agent as manifest

DOCUMENT = {
    "image": "h.example/n:1",
    "digest": "sha256:" + "a" * 64,
    "counter": 7,
    "status": "running",
    "policy": {"force": False, "allowDowngrade": True},
    "id": "x",
}
CALLS = {
    "ping": {},
    "Deploy": DOCUMENT,
    "Rollback": {"force": True},
    "Undeploy": {"force": True},
    "RestartModule": {"id": "surface"},
    "RunSelfTest": {"schemaVersion": "1.0", "idempotencyKey": "k"},
    "GetTaskStatus": {"correlationId": "0" * 16},
}
ODD: list[Any] = [
    *(None, True, 0, -1, 1 << 70, 1.5, "", "x", "x" * 5000, "\ud800", "\x00", "\U0001f600" * 99),
    *(
        [],
        {},
        [[]],
        [{}],
        {"": {}},
        {"$": 1},
        {"a.b": None},
        "docker://",
        "oci:/x",
        "../..",
        "stopped",
    ),
]


def changed(value: Any, choice: random.Random) -> Any:
    """Returns a document with something in it replaced, added or taken out."""
    if isinstance(value, dict) and value and choice.random() < 0.9:
        key = choice.choice(list(value))
        copy = dict(value)
        kind = choice.randrange(6)
        if kind == 0:
            del copy[key]
        elif kind == 1:
            copy[choice.choice(["", "x", key + "x", "createOptions01", "\ud800", "k" * 300])] = (
                choice.choice(ODD)
            )
        else:
            copy[key] = changed(copy[key], choice)
        return copy
    if isinstance(value, list) and value and choice.random() < 0.8:
        return [*value[:-1], changed(value[-1], choice)]
    return choice.choice(ODD)


def mutant(value: Any, choice: random.Random) -> bytes:
    for _ in range(choice.choice((0, 1, 1, 2, 3))):
        value = changed(value, choice)
    data = json.dumps(value).encode()
    return raw(data, choice) if choice.random() < 0.3 else data


class Clock:
    sane = True

    def now(self) -> float:
        return 1_800_000_000.0


async def turns() -> None:
    """Lets what was begun go as far as it goes by itself."""
    for _ in range(5):
        await asyncio.sleep(0)


class World:
    """A device that serves, whose deployments never end."""

    def __init__(self, folder: Path) -> None:
        self.device = Steered(folder)
        self.device.gate.clear()
        self.device.change(model=Slot("sha256:" + "b" * 64, "oci:/m", folder), state="serving")
        self.agent = Agent(self.device, folder, Clock(), 60)
        self.plain = Plain(self.agent, "line4", "boot", lambda: Endpoint("h", 1, "c"))
        self.refused = self.understood = 0

    async def document(self, data: bytes) -> None:
        await turns()
        asked = len(self.device.asked)
        self.plain.received(Message("edged/v1/line4/desired", data or b"x"))
        await self.judge(asked)

    async def twin(self, data: bytes) -> None:
        try:
            value = json.loads(data)
        except ValueError:
            return  # which the dialect refuses before it gets this far
        if isinstance(value, dict):
            await turns()  # for what methods have begun
            asked = len(self.device.asked)
            self.agent.twin(value, 1)
            await self.judge(asked)

    async def judge(self, asked: int) -> None:
        """Whatever came was understood, or refused with a reason, and then nothing was done."""
        standing = self.agent.controller.standing
        if standing.outcome == "invalid":
            self.refused += 1
            assert 400 <= standing.code < 500
            assert standing.error
            assert standing.fix
            await turns()
            assert len(self.device.asked) == asked
        else:
            self.understood += 1
        own, agent = self.agent.farewell()
        assert len(encode(own)) <= OWN_LIMIT
        if agent is not None:
            assert len(encode(agent)) <= AGENT_LIMIT

    async def call(self, name: str, data: bytes) -> None:
        answer = await self.agent.call(name, data)
        told = json.loads(answer.body)
        assert answer.status < 500, answer
        if answer.status >= 400:
            self.refused += 1
            assert told["error"]["code"] == answer.status
            assert told["error"]["message"]
            assert told["error"]["fix"]
        else:
            self.understood += 1


async def fuzz(world: World, count: int) -> None:
    choice = random.Random(4)
    seeds = [DOCUMENT, manifest(), {"edged": DOCUMENT}, {"modulesContent": {}}]
    names = list(CALLS)
    for _ in range(count):
        kind = choice.randrange(4)
        if kind == 0:
            await world.document(mutant(choice.choice(seeds), choice))
        elif kind == 1:
            await world.twin(mutant(choice.choice(seeds), choice))
        elif kind == 2:
            name = choice.choice(names)
            await world.call(name, mutant(CALLS[name], choice))
        else:
            await odd_messages(world, choice)


async def odd_messages(world: World, choice: random.Random) -> None:
    """Topics that are not ours, and methods that do not exist."""
    topic = raw(b"edged/v1/line4/command/ping", choice).decode("utf-8", "replace")
    world.plain.received(Message(topic, choice.randbytes(choice.randrange(64))))
    name = raw(choice.choice(list(CALLS)).encode(), choice).decode("utf-8", "replace")
    if name not in CALLS:
        await world.call(name, b"{}")


@pytest.mark.parametrize(
    "count", [2000, pytest.param(100_000, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_nonsense_gets_a_reason_and_nothing_is_done(tmp_path: Path, count: int) -> None:
    async def run() -> None:
        world = World(tmp_path)
        serving = world.device.now.model
        await fuzz(world, count)
        assert world.device.now.model in (serving, None), "None, if none was wanted in good order"
        assert world.refused > count * 0.3
        assert world.understood > count * 0.02
        await world.agent.stop()

    asyncio.run(run())
