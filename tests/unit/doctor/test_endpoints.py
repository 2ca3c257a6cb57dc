"""What the configuration names: other machines, certificates, files with secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edged import messages
from edged.doctor import endpoints, secrets
from edged.doctor.checks import certificates, network
from edged.doctor.reach import Reached
from tests.unit.doctor import planted
from tests.unit.doctor.made import Made, said, status

PLAIN = {"dialect": "plain", "host": "broker.example", "device": "cam"}


def toml(**keys: Any) -> str:
    """The table ``[mqtt]``."""
    return "[mqtt]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def linked(folder: Path, keys: dict[str, Any] | None = None, **facts: Any) -> Made:
    """A device with a link to a plain broker, and other settings of it."""
    return Made(folder, toml(**PLAIN, **(keys or {})), **facts)


def broker(folder: Path, **keys: Any) -> tuple[str, str, int, bool]:
    found = endpoints.broker(Made(folder, toml(**keys)).config)
    assert found is not None
    return found.what, found.host, found.port, found.tls is not None


def test_a_broker_is_where_its_table_says(tmp_path: Path) -> None:
    assert broker(tmp_path, **PLAIN) == ("broker", "broker.example", 8883, True)
    assert broker(tmp_path, **PLAIN, tls=False) == ("broker", "broker.example", 1883, False)
    assert broker(tmp_path, **PLAIN, port=8884)[2] == 8884
    hub = {"dialect": "iothub", "connection_string": planted.CONNECTION}
    assert broker(tmp_path, **hub) == ("broker", "hub.example", 8883, True)
    scope = {"id_scope": "0ne", "registration": "cam", "shared_key": "AAAA"}
    there = {"dialect": "iothub", "provisioning_host": "provisioning.example"}
    found = broker(tmp_path, **there, **scope)
    assert found == ("provisioning service", "provisioning.example", 8883, True)


@pytest.mark.parametrize("text", [None, toml(dialect="off", host="broker.example")])
def test_a_link_that_is_off_is_none(text: str | None, tmp_path: Path) -> None:
    config = Made(tmp_path, text).config
    assert endpoints.broker(config) is None
    assert not any(endpoints.mqtt_secrets(config))
    assert not list(endpoints.secret_files(config))


def test_a_broker_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    assert said(network.broker, linked(tmp_path)) == (
        "ok",
        "broker broker.example:8883 answers -> ",
    )
    away = Reached("tcp", "cannot connect to broker.example:8883: refused", "check the port")
    level, text = said(network.broker, linked(tmp_path, reach=away))
    assert level == "error"
    assert "refused (tcp) -> check the port" in text
    assert said(network.link, linked(tmp_path, status=status()))[0] == "skipped"
    level, _ = said(network.broker, linked(tmp_path, {"tls": False}))
    assert level == "warning", "in the clear, over a network"
    here = toml(**{**PLAIN, "host": "localhost"}, tls=False)
    assert said(network.broker, Made(tmp_path, here))[0] == "ok"


@pytest.mark.parametrize(
    ("link", "level", "text"),
    [
        ({"up": True}, "ok", "edged is connected"),
        ({"up": False, "reason": "refused", "fix": "pay"}, "error", "refused -> pay"),
        ({"up": True, "dropped": 3}, "warning", "3 messages were lost"),
        ({"up": True, "outbox_fault": "disk full"}, "warning", "disk full"),
        ({"up": True, "clock_doubt": "it went back"}, "warning", "it went back"),
    ],
)
def test_the_link_says_how_it_is(
    tmp_path: Path, link: dict[str, Any], level: str, text: str
) -> None:
    answer = status()
    answer.link.CopyFrom(messages.Link(**link))
    got = said(network.link, linked(tmp_path, status=answer))
    assert got[0] == level
    assert text in got[1]


def test_certificates_and_secrets_of_the_broker_are_looked_at(tmp_path: Path) -> None:
    made = linked(tmp_path, {"ca_file": "ca.pem", "cert_file": "c.pem", "key_file": "c.key"})
    level, text = said(certificates.files, made)
    assert level == "error"
    assert "ca.pem" in text
    assert ("key of [mqtt]", tmp_path / "c.key") in list(endpoints.secret_files(made.config))


def test_secrets_of_the_broker_are_known_to_the_redactor(tmp_path: Path) -> None:
    file = tmp_path / "connection"
    file.write_text(planted.CONNECTION + "\n")
    text = toml(dialect="iothub", connection_string_file=str(file), password="t0ps3cret")
    known = list(secrets.known(Made(tmp_path, text)))
    assert {"t0ps3cret", planted.CONNECTION, planted.SAS_KEY} <= set(known)
    file.unlink()
    assert "t0ps3cret" in list(secrets.known(Made(tmp_path, text)))


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [
        ("r.example", "r.example", 443),
        ("r.example:5000", "r.example", 5000),
        ("[::1]:5000", "::1", 5000),
        ("[::1]", "::1", 443),
        ("::1", "::1", 443),
        ("10.0.0.1:80", "10.0.0.1", 80),
    ],
)
def test_hosts_and_ports_are_told_apart(server: str, host: str, port: int) -> None:
    assert endpoints.split(server, 443) == (host, port)


def test_a_mirror_is_another_machine(tmp_path: Path) -> None:
    toml = '[registries."r.example"]\nmirror = "cache.example:5000/images"\n'
    config = Made(tmp_path, toml).config
    assert [host for host, _ in endpoints.registries(config)] == ["r.example", "cache.example:5000"]
