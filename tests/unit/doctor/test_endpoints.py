"""What the configuration names: other machines, certificates, files with secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.doctor import endpoints, secrets
from edged.doctor.checks import certificates, network
from edged.doctor.reach import Reached
from edged.errors import ConfigError
from tests.unit.doctor import planted
from tests.unit.doctor.made import Made, said, status


@dataclass(frozen=True)
class Table:
    """As ``[mqtt]`` is."""

    host: str = "broker.example"
    port: int | None = None
    tls: bool = True
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    password: str = ""
    password_file: Path | None = None
    connection_string: str = ""
    connection_string_file: Path | None = None
    shared_key: str = ""
    shared_key_file: Path | None = None
    group_key: str = ""
    group_key_file: Path | None = None
    id_scope: str = ""
    provisioning_host: str = "provisioning.example"
    provisioning_port: int = 8883

    def secret(self, name: str) -> str:
        path = getattr(self, f"{name}_file")
        if path is not None and not path.exists():
            raise ConfigError(f"cannot read {name} {path}")
        return str(path.read_text().strip() if path else getattr(self, name))


@pytest.fixture
def mqtt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the configuration has as ``[mqtt]``."""

    def set_(**changes: Any) -> None:
        monkeypatch.setattr(endpoints, "_mqtt", lambda config: replace(Table(), **changes))

    return set_


def broker(folder: Path) -> tuple[str, str, int, bool]:
    found = endpoints.broker(Made(folder).config)
    assert found is not None
    return found.what, found.host, found.port, found.tls is not None


def test_a_broker_is_where_its_table_says(mqtt: Any, tmp_path: Path) -> None:
    assert endpoints.broker(Made(tmp_path).config) is None
    mqtt()
    assert broker(tmp_path) == ("broker", "broker.example", 8883, True)
    mqtt(tls=False)
    assert broker(tmp_path) == ("broker", "broker.example", 1883, False)
    mqtt(port=8884)
    assert broker(tmp_path)[2] == 8884
    mqtt(host="", connection_string=planted.CONNECTION)
    assert broker(tmp_path) == ("broker", "hub.example", 8883, True)
    mqtt(id_scope="0ne")
    assert broker(tmp_path) == ("provisioning service", "provisioning.example", 8883, True)


@pytest.mark.parametrize("table", [None, SimpleNamespace(dialect="off")])
def test_a_link_that_is_off_is_none(table: object) -> None:
    config: Any = SimpleNamespace(mqtt=table, tls=SimpleNamespace(key_file=None), registries={})
    assert endpoints.broker(config) is None
    assert not list(endpoints.mqtt_secrets(config))
    assert not list(endpoints.secret_files(config))


def test_a_broker_that_cannot_be_reached_is_an_error(mqtt: Any, tmp_path: Path) -> None:
    mqtt()
    assert said(network.broker, Made(tmp_path)) == ("ok", "broker broker.example:8883 answers -> ")
    away = Reached("tcp", "cannot connect to broker.example:8883: refused", "check the port")
    level, text = said(network.broker, Made(tmp_path, reach=away))
    assert level == "error"
    assert "refused (tcp) -> check the port" in text
    assert said(network.link, Made(tmp_path, status=status()))[0] == "skipped"
    mqtt(tls=False)
    assert said(network.broker, Made(tmp_path))[0] == "warning", "in the clear, over a network"
    mqtt(tls=False, host="localhost")
    assert said(network.broker, Made(tmp_path))[0] == "ok"


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
    mqtt: Any, tmp_path: Path, link: dict[str, Any], level: str, text: str
) -> None:
    mqtt()
    usual = {"reason": "", "fix": "", "dropped": 0, "outbox_fault": "", "clock_doubt": ""}
    said_by = SimpleNamespace(link=SimpleNamespace(**{**usual, **link}), HasField=lambda _: True)
    got = said(network.link, Made(tmp_path, status=said_by))
    assert got[0] == level
    assert text in got[1]


def test_certificates_and_secrets_of_the_broker_are_looked_at(mqtt: Any, tmp_path: Path) -> None:
    mqtt(ca_file=tmp_path / "ca.pem", cert_file=tmp_path / "c.pem", key_file=tmp_path / "c.key")
    level, text = said(certificates.files, Made(tmp_path))
    assert level == "error"
    assert "ca.pem" in text
    config = Made(tmp_path).config
    assert ("private key of [mqtt]", tmp_path / "c.key") in list(endpoints.secret_files(config))


def test_secrets_of_the_broker_are_known_to_the_redactor(mqtt: Any, tmp_path: Path) -> None:
    file = tmp_path / "connection"
    file.write_text(planted.CONNECTION + "\n")
    mqtt(connection_string_file=file, password="t0ps3cret")
    known = list(secrets.known(Made(tmp_path)))
    assert {"t0ps3cret", planted.CONNECTION, planted.SAS_KEY} <= set(known)
    file.unlink()
    assert "t0ps3cret" in list(secrets.known(Made(tmp_path)))


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
