"""Microsoft's own client on the hub of our tests, so that the hub is not merely our opinion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.clients import foreign
from tests.clients.environments import AZURE
from tests.clients.foreign import Script
from tests.fakes.hub import Hub, HubError
from tests.fakes.hub.front import port_is_free
from tests.fakes.hub.identities import derived_key, new_key

pytestmark = pytest.mark.long

PORT = 8883  # the only one that this client knows
LARGE = "x" * 4000


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    if not port_is_free(PORT):
        pytest.skip(f"port {PORT} is taken, and Microsoft's client knows no other")
    with Hub(tmp_path / "hub", port=PORT) as hub:
        yield hub


class Run(Protocol):
    def __call__(self, **arguments: Any) -> AbstractContextManager[Script]: ...


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """Starts the device."""
    folder = tmp_path / "script"
    folder.mkdir()

    def start(**arguments: Any) -> AbstractContextManager[Script]:
        given = {"ca": str(hub.authority.ca), "host": hub.host, **arguments}
        return foreign.running(AZURE.python(), "azure_device", given, folder)

    return start


def step(script: Script, name: str) -> Any:
    """The value of a step that must succeed."""
    facts = line(script, step=name)
    assert not facts["error"], facts
    return facts["value"]


def line(script: Script, **wanted: Any) -> dict[str, Any]:
    """The next line that has these facts."""
    while True:
        facts = script.next()
        if wanted.items() <= facts.items():
            return facts


def test_a_device_with_a_key_has_its_whole_life(hub: Hub, run: Run) -> None:
    me = hub.register("dev-1")
    hub.desired("dev-1", {"edged": {"image": "docker://x/y:1"}, "gone": 1})
    hub.desired("dev-1", {"gone": None})
    told = {"body": '{"n": 1}', "properties": {"with space": "a&b=c/d"}}
    sends = [
        ["twin", None],
        ["report", {"state": {"a": 1, "b": [1, 2]}, "old": "x"}],
        ["report", {"old": None}],
        ["message", told],
    ]
    with run(connection_string=me.connection_string, send=sends) as script:
        step(script, "connect")
        twin = step(script, "twin")
        desired = {"edged": {"image": "docker://x/y:1"}, "$version": 3}
        assert twin == {"desired": desired, "reported": {"$version": 1}}
        for name in ("report", "report", "message"):
            step(script, name)
        line(script, step="ready")
        assert hub.reported("dev-1") == {"state": {"a": 1, "b": [1, 2]}}
        hub.until(lambda: hub.telemetry("dev-1"))
        [message] = hub.telemetry("dev-1")
        assert message.json() == {"n": 1}
        assert message.properties["with space"] == "a&b=c/d"
        assert message.properties["$.ct"] == "application/json"

        hub.until(lambda: hub.connected("dev-1"))
        hub.desired("dev-1", {"edged": {"status": "stopped"}})
        patch = line(script, heard="patch")["patch"]
        assert patch == {"edged": {"status": "stopped"}, "$version": 4}
        assert hub.invoke("dev-1", "ping", {"q": [1]}) == (
            207,
            {"name": "ping", "payload": {"q": [1]}},
        )


def test_a_module_has_a_twin_of_its_own(hub: Hub, run: Run) -> None:
    hub.register("dev-1")
    me = hub.register("dev-1/agent")
    sends = [["twin", None], ["report", {"lastDesiredVersion": 1}], ["message", {"body": "{}"}]]
    with run(connection_string=me.connection_string, send=sends) as script:
        step(script, "connect")
        assert step(script, "twin")["desired"] == {"$version": 1}
        step(script, "report")
        step(script, "message")
        assert hub.reported("dev-1/agent") == {"lastDesiredVersion": 1}
        assert hub.reported("dev-1") == {}
        hub.until(lambda: hub.telemetry("dev-1/agent"))


def test_a_device_with_a_certificate(hub: Hub, run: Run) -> None:
    hub.register("dev-1", x509=True)
    mine, other = hub.authority.client("dev-1"), hub.authority.client("dev-2")
    given = {"device": "dev-1", "certificate": str(mine.certificate), "key": str(mine.key)}
    with run(**given, send=[["twin", None]]) as script:
        step(script, "connect")
        assert step(script, "twin")["desired"] == {"$version": 1}
    given |= {"certificate": str(other.certificate), "key": str(other.key)}
    with run(**given) as script:
        assert "CredentialError" in line(script, step="connect")["error"]
    assert "'dev-2' is not that of 'dev-1'" in hub.front.refused[-1]


def test_what_the_hub_refuses_is_an_error_to_the_client(hub: Hub, run: Run) -> None:
    me = hub.register("dev-1")
    sends = [
        ["report", {"a key": 1}],
        ["report", {"text": LARGE * 2}],
        ["report", {str(n): LARGE for n in range(10)}],
        ["report", {"n": 1}],
    ]
    wrong = me.connection_string.replace(me.key, new_key())
    with run(connection_string=wrong) as script:
        assert "CredentialError" in line(script, step="connect")["error"]
    assert "does not fit the key" in hub.front.refused[-1]
    with run(connection_string=me.connection_string, send=sends) as script:
        step(script, "connect")
        for _ in range(3):
            assert "400" in line(script, step="report")["error"]
        step(script, "report")
    assert hub.reported("dev-1") == {"n": 1}


def test_throttling_is_told_by_429(hub: Hub, run: Run) -> None:
    me = hub.register("dev-1")
    hub.fail(429, operation="reported")
    sends = [["report", {"n": 1}], ["report", {"n": 2}]]
    with run(connection_string=me.connection_string, send=sends) as script:
        step(script, "connect")
        assert "429" in line(script, step="report")["error"]
        step(script, "report")
    assert hub.reported("dev-1") == {"n": 2}


def test_who_is_evicted_comes_back(hub: Hub, run: Run) -> None:
    me = hub.register("dev-1")
    with run(connection_string=me.connection_string) as script:
        line(script, step="ready")
        hub.until(lambda: hub.connected("dev-1"))
        hub.evict("dev-1")
        line(script, heard="state", connected=False)
        line(script, heard="state", connected=True)  # this client waits ten seconds before that
        hub.until(lambda: hub.connected("dev-1"))
        assert hub.invoke("dev-1", "again") == (207, {"name": "again", "payload": None})
    assert hub.connects("dev-1") == 2


def test_a_method_of_a_device_that_is_not_there_fails(hub: Hub) -> None:
    hub.register("dev-1")
    with pytest.raises(HubError, match="404"):
        hub.invoke("dev-1", "ping")


@pytest.mark.parametrize("polls", [1, 3])
def test_a_device_of_a_group_is_provisioned(hub: Hub, run: Run, polls: int) -> None:
    service = hub.provisioning
    service.polls = polls
    key = derived_key(service.group_key, "dev-7")
    given = {"scope": service.scope, "registration": "dev-7", "symmetric_key": key}
    with run(**given, send=[["report", {"n": 1}]]) as script:
        step(script, "register")
        assert line(script, step="assigned")["status"] == "assigned"
        step(script, "connect")
        step(script, "report")
    assert hub.reported("dev-7") == {"n": 1}
    assert service.asked == [("PUT", "dev-7"), *[("GET", "dev-7")] * polls]


def test_a_device_with_a_certificate_is_provisioned(hub: Hub, run: Run) -> None:
    service = hub.provisioning
    service.enrol("dev-8")
    service.busy = 1  # asked again, as 429 says
    mine = hub.authority.client("dev-8")
    given = {"scope": service.scope, "registration": "dev-8"}
    given |= {"certificate": str(mine.certificate), "key": str(mine.key)}
    with run(**given, send=[["report", {"n": 1}]]) as script:
        step(script, "register")
        step(script, "connect")
        step(script, "report")
    assert hub.reported("dev-8") == {"n": 1}


def test_a_device_with_a_wrong_key_is_not_provisioned(hub: Hub, run: Run) -> None:
    given = {"scope": hub.provisioning.scope, "registration": "dev-7", "symmetric_key": new_key()}
    with run(**given) as script:
        assert "CredentialError" in line(script, step="register")["error"]
