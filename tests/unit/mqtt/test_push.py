"""``edged push`` over a real broker: what it says of a device that answers, or does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.mqtt.report import rfc3339
from tests.e2e.device import ROOT
from tests.fakes.authority import Authority
from tests.fakes.broker import Broker
from tests.fakes.plant import Plant

IMAGE = "docker://h.example/n:1"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


def push(broker: Broker, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "edged", "push"),
            *("--broker", url or f"mqtt://127.0.0.1:{broker.port}", "--device", "line4"),
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class FakeDevice:
    """Answers each new document with some reports, as a device would.

    Args:
        broker: where.
        answers: makes the reports' ``desired`` and the rest, of a document.
    """

    def __init__(self, broker: Broker, answers: Callable[[dict[str, Any]], list[Any]]) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.documents: list[dict[str, Any]] = []
        self._answers = answers
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe("edged/v1/line4/desired", 1)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def say(self, topic: str, value: Any) -> None:
        info = self._client.publish(f"edged/v1/line4/{topic}", json.dumps(value), 1, retain=True)
        info.wait_for_publish(10)

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        document = json.loads(message.payload)
        self.documents.append(document)
        for seq, answer in enumerate(self._answers(document)):
            text = answer if isinstance(answer, bytes) else json.dumps(report(seq, **answer))
            self._client.publish("edged/v1/line4/reported", text, 1, retain=True)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def report(seq: int = 1, *, age: float = 0.0, **more: Any) -> dict[str, Any]:
    stamp = {"boot_id": "b", "seq": seq, "ttl": 60, "time": rfc3339(time.time() - age)}
    return {**stamp, "state": "serving", "desired": {"outcome": "none"}, **more}


@pytest.fixture
def answering(broker: Broker) -> Iterator[Callable[..., FakeDevice]]:
    made: list[FakeDevice] = []

    def make(answers: Callable[[dict[str, Any]], list[Any]]) -> FakeDevice:
        made.append(FakeDevice(broker, answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


def desired(document: dict[str, Any], outcome: str, **more: Any) -> dict[str, Any]:
    return {"desired": {"id": document["id"], "outcome": outcome, **more}}


def test_it_follows_a_deployment_to_its_end(
    broker: Broker, answering: Callable[..., FakeDevice]
) -> None:
    model = {"name": "surface", "version": "7", "digest": "sha256:" + "a" * 64}
    device = answering(
        lambda document: [
            {},  # of some other document
            {**desired(document, "applying"), "deployment": {"phase": "fetch", "percent": 40}},
            {**desired(document, "applying"), "deployment": {"phase": "probe", "percent": 98}},
            {**desired(document, "applied", code=200), "model": model},
        ]
    )
    done = push(broker, IMAGE, "--counter", "7", "--force")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["surface 7 is in service at line4", model["digest"]]
    assert done.stderr.splitlines() == ["fetch", "probe"]
    policy = {"force": True, "allowDowngrade": False}
    del device.documents[0]["id"]
    wanted = {"status": "running", "image": IMAGE, "counter": 7, "policy": policy}
    assert device.documents == [wanted]


def test_as_json_it_prints_each_report(
    broker: Broker, answering: Callable[..., FakeDevice]
) -> None:
    answering(lambda document: [desired(document, "applying"), desired(document, "applied")])
    done = push(broker, "--undeploy", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["desired"]["outcome"] for line in lines] == ["applying", "applied"]
    assert done.returncode == 0


@pytest.mark.parametrize("outcome", ["failed", "invalid", "waiting", "superseded"])
def test_the_devices_reason_is_said(
    broker: Broker, answering: Callable[..., FakeDevice], outcome: str
) -> None:
    answering(lambda d: [desired(d, outcome, error="wrong answers\x1b[2J", fix="build it again")])
    done = push(broker, IMAGE)
    assert done.returncode == 1
    assert "wrong answers?[2J; build it again" in done.stderr


def test_a_device_that_makes_no_sense_does_no_harm(
    broker: Broker, answering: Callable[..., FakeDevice]
) -> None:
    answering(
        lambda document: [
            b"{",
            b"\xff",
            b"[" * 60_000,
            b"x" * 100_000,
            {"desired": []},
            {**desired(document, "applying"), "deployment": {"phase": ["x"], "percent": "y"}},
            {**desired(document, "applying"), "deployment": 7, "ttl": "x", "time": 9},
            {**desired(document, "applied"), "model": {"name": {}, "version": [], "digest": 1}},
        ]
    )
    assert push(broker, IMAGE).returncode == 0


def test_a_device_that_never_was_there_is_said(broker: Broker) -> None:
    done = push(broker, IMAGE, "--timeout", "0.5")
    assert done.returncode == 1
    assert "no device line4 has ever reported" in done.stderr


def test_a_device_that_is_offline_is_said(
    broker: Broker, answering: Callable[..., FakeDevice]
) -> None:
    device = answering(lambda _: [])
    device.say("reported", report(age=30))
    device.say("online", {"online": False})
    done = push(broker, IMAGE, "--timeout", "0.5")
    assert done.returncode == 1
    assert "line4 is offline; its last report came 3" in done.stderr


def test_a_stale_report_is_said_to_be_stale_and_taken_for_no_answer(
    broker: Broker, answering: Callable[..., FakeDevice]
) -> None:
    device = answering(lambda _: [])
    device.say("reported", report(seq=9, age=3600))
    device.say("online", {"online": True})
    done = push(broker, IMAGE, "--timeout", "0.5")
    assert done.returncode == 1
    assert re.search(r"is stale: 360\d s old, good for 60 s \(boot b, seq 9\)", done.stderr)


def test_a_device_that_does_not_take_it_up_is_said(
    broker: Broker, answering: Callable[..., FakeDevice]
) -> None:
    answering(lambda _: [{}, {}])
    done = push(broker, IMAGE, "--timeout", "0.5")
    assert done.returncode == 1
    assert "line4 did not take the document up within 0.5 s" in done.stderr


def test_without_waiting_it_is_done_when_the_broker_has_it(broker: Broker) -> None:
    done = push(broker, IMAGE, "--no-wait")
    assert (done.returncode, "it is not known" in done.stdout) == (0, True)
    plant = Plant(broker, "line4")
    try:
        plant.until(lambda: plant.heard("desired"), what="the document")
    finally:
        plant.close()


def test_with_tls_and_a_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    with Broker(tmp_path / "broker", authority=authority, users={"plant": "open sesame"}) as broker:
        url = f"mqtts://localhost:{broker.tls_port}"
        who = ("--username", "plant", "--password-file", str(secret), "--no-wait")
        assert push(broker, IMAGE, *who, "--ca-file", str(authority.ca), url=url).returncode == 0
        unknown = push(broker, IMAGE, *who, url=url)
        assert unknown.returncode == 1
        assert "certificate" in unknown.stderr
        secret.write_text("wrong\n")
        refused = push(broker, IMAGE, *who, "--ca-file", str(authority.ca), url=url)
        assert refused.returncode == 1
        assert "wrong" not in refused.stderr.replace("wrong user", "")


def test_a_broker_that_is_not_there_is_said(broker: Broker) -> None:
    done = push(broker, IMAGE, url="mqtt://127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), "REF or --undeploy"),
        ((IMAGE, "--undeploy"), "REF or --undeploy"),
        (("x",), "NAME:TAG"),
        ((IMAGE, "--digest", "sha256:1"), "64"),
        ((IMAGE, "--device", "a/b"), "cannot use device"),
        ((IMAGE, "--broker", "http://h"), "mqtts://HOST"),
        ((IMAGE, "--broker", "mqtt://user:secret@h"), "--password-file"),
        ((IMAGE, "--broker", "mqtt://h:99999"), "mqtts://HOST"),
        ((IMAGE, "--timeout", "0"), "--timeout"),
        ((IMAGE, "--ca-file", "x.pem"), "without TLS"),
        ((IMAGE, "--password-file", "/nonexistent"), "cannot read password"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(
    arguments: tuple[str, ...], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from edged.__main__ import main

    given = ["push", "--broker", "mqtt://127.0.0.1:1", "--device", "line4", *arguments]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert names in said
    assert "secret" not in said
