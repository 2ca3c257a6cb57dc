"""The table [mqtt]: what is valid, what is said of the rest, and where secrets come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config import load
from edged.config.mqtt import Mqtt
from edged.config.settings import unknown_variables
from edged.errors import ConfigError

PLAIN = 'dialect = "plain"\nhost = "broker.example"\ndevice = "line4"\n'
STRING = 'dialect = "iothub"\nconnection_string_file = "secret"\n'
SCOPE = 'dialect = "iothub"\nid_scope = "0ne1"\nregistration = "line4"\n'


def read(folder: Path, table: str | None, **environ: str) -> Mqtt:
    given = {"HOME": str(folder), **environ}
    path = None
    if table is not None:
        path = folder / "edged.toml"
        path.write_text(f"[mqtt]\n{table}")
    return load({}, given, path).mqtt


def test_without_a_table_there_is_no_link(tmp_path: Path) -> None:
    assert not read(tmp_path, None).is_on
    assert not read(tmp_path, "").is_on
    assert not read(tmp_path, "dialect = 'off'\nhost = 'h'").is_on


@pytest.mark.parametrize(
    "table",
    [
        PLAIN,
        PLAIN + "tls = false\nport = 1883\nusername = 'u'\npassword_file = 'p'",
        PLAIN + "telemetry_interval = 0\nresults = true\nresults_rate = 0.5\nretry_limit = 10",
        STRING,
        STRING + "module = '$edgeAgent'",
        SCOPE + "group_key_file = 'k'",
        SCOPE + "shared_key = 'AAAA'",
        SCOPE + "cert_file = 'c'\nkey_file = 'k'",
        "dialect = 'iothub'\nhost = 'h.example'\ndevice = 'd'\ncert_file = 'c'",
    ],
)
def test_what_is_valid(tmp_path: Path, table: str) -> None:
    assert read(tmp_path, table).is_on


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("dialect = 'azure'", "2: mqtt.dialect: expected one of off, plain, iothub, got 'azure'"),
        (PLAIN + "hosst = 'x'", "5: mqtt.hosst: unknown key 'hosst'; the nearest is 'host'"),
        (PLAIN + "port = 70000", "5: mqtt.port: expected a number from 1 to 65535, got 70000"),
        (PLAIN + "port = true", "mqtt.port: expected a number from 1 to 65535, got True"),
        (PLAIN + "keepalive = 10.5", "mqtt.keepalive: expected a number from 5 to 1177"),
        (PLAIN + "retry_limit = nan", "mqtt.retry_limit: expected seconds from 1 to 3600, got nan"),
        (PLAIN + "tls = 'no'", "mqtt.tls: expected true or false, got 'no'"),
        (PLAIN + "username = ''", "mqtt.username: expected a text, got ''"),
        (PLAIN + "password = 7", "mqtt.password: expected a text, got (hidden)"),
        (PLAIN + "password = 'a'\npassword_file = 'b'", "password_file is given too; leave one"),
        (PLAIN + "key_file = 'b'", "mqtt.key_file: it needs cert_file too"),
        (PLAIN + "tls = false\nca_file = 'b'", "mqtt.ca_file: it needs tls = true"),
        ("dialect = 'plain'\ndevice = 'd'", "plain needs host, the broker"),
        ("dialect = 'plain'\nhost = 'h'\ndevice = 'a/b'", "device: expected 1 to 128 letters"),
        ("dialect = 'plain'\nhost = 'h'", "mqtt.dialect: plain needs device"),
        ("dialect = 'iothub'", "one of connection_string; id_scope and registration; host and"),
        (STRING + "id_scope = 'x'", "got both connection_string and id_scope and registration"),
        (STRING + "tls = false", "a hub is never spoken to without TLS"),
        ("dialect = 'iothub'\nid_scope = 'x'", "registration is missing"),
        ("dialect = 'iothub'\nhost = 'x'", "device is missing"),
        (SCOPE, "expected one of shared_key, group_key, cert_file (keys also as *_file), got none"),
        (SCOPE + "shared_key = 'A'\ncert_file = 'c'", "got shared_key and cert_file"),
        (
            "dialect = 'iothub'\nhost = 'h'\ndevice = 'd'\ngroup_key = 'A'",
            "group_key: it is for provisioning",
        ),
    ],
)
def test_what_is_not_valid_is_named(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, table)
    assert "edged.toml" in str(error.value)
    assert said in str(error.value)


def test_files_are_beside_the_one_that_names_them(tmp_path: Path) -> None:
    found = read(tmp_path, PLAIN + "ca_file = 'ca.pem'\npassword_file = '/etc/secret'")
    assert found.ca_file == tmp_path / "ca.pem"
    assert found.password_file == Path("/etc/secret")


def test_secrets_come_from_their_files_and_are_not_shown(tmp_path: Path) -> None:
    found = read(tmp_path, PLAIN + "password_file = 'word'")
    with pytest.raises(ConfigError, match="cannot read password"):
        found.secret("password")
    (tmp_path / "word").write_text("s3cret\nmore\n")
    assert found.secret("password") == "s3cret"
    found = read(tmp_path, PLAIN + "password = 's3cret'")
    assert found.secret("password") == "s3cret"
    assert "s3cret" not in repr(found)


def test_variables_go_over_the_table_or_do_without_one(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        PLAIN + "password_file = 'old'\nport = 1883",
        EDGED_MQTT_PORT="1884",
        EDGED_MQTT_TLS="false",
        EDGED_MQTT_RESULTS_RATE="0.5",
        EDGED_MQTT_PASSWORD_FILE="/run/secrets/word",
        EDGED_MQTT_USERNAME="",
    )
    assert (found.port, found.tls, found.results_rate) == (1884, False, 0.5)
    assert found.password_file == Path("/run/secrets/word")

    found = read(
        tmp_path,
        None,
        EDGED_MQTT_DIALECT="iothub",
        EDGED_MQTT_CONNECTION_STRING="HostName=h;DeviceId=d;SharedAccessKey=AAAA",
    )
    assert found.secret("connection_string").startswith("HostName=h")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "many", "EDGED_MQTT_PORT: mqtt.port: expected a number from 1 to 65535"),
        ("TLS", "maybe", "EDGED_MQTT_TLS: mqtt.tls: expected true or false, got 'maybe'"),
        ("DIALECT", "azure", "expected one of off, plain, iothub, got 'azure'"),
    ],
)
def test_variables_that_are_not_valid_are_named(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, PLAIN, **{f"EDGED_MQTT_{name}": value})
    assert said in str(error.value)


def test_a_variable_that_nobody_reads_is_told() -> None:
    assert unknown_variables({"EDGED_MQTT_HOSTS": "x", "EDGED_MQTT_HOST": "x"}) == [
        "EDGED_MQTT_HOSTS is not used; did you mean EDGED_MQTT_HOST?"
    ]
