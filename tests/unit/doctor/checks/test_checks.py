"""What each check says of a device: when all is well, and when it is not.

The world is the test's own; checks over a real daemon are in tests/e2e/test_doctor.py.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from edged import messages
from edged.config import version
from edged.deploy.clock import Moment
from edged.deploy.store import Store
from edged.doctor.checks import (
    clock,
    configuration,
    host,
    keys,
    network,
    npu,
    sandbox,
    service,
    store,
)
from edged.doctor.mounts import Mount
from edged.doctor.reach import Reached
from edged.doctor.skip import SkipError
from edged.doctor.world import Room
from edged.errors import ConfigError, RequestError
from edged.oci import keys as signing
from tests.unit.deploy.stores import contents, unpack
from tests.unit.doctor.made import MIB, NOW, Look, Made, look, said, status

EARLY = Moment(0.0, "0123456789ab", 60.0)
UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "Type": "notify",
    "Restart": "on-failure",
    "NRestarts": "0",
    "WatchdogUSec": "10s",
}


CASES: list[tuple[Look, dict[str, Any], str, str]] = [
    # clock
    (clock.time_of_day, {}, "ok", "2026-11-18"),
    (clock.time_of_day, {"now": EARLY}, "error", "no certificate can be checked"),
    (clock.synchronised, {}, "ok", ""),
    (clock.synchronised, {"synchronised": False}, "warning", "timesyncd"),
    (clock.synchronised, {"synchronised": None}, "skipped", ""),
    (clock.boot, {"status": status()}, "ok", "boot 01234567), edged 60 minutes"),
    (clock.boot, {}, "ok", "up 2 hours"),
    # configuration
    (configuration.persistence, {}, "ok", "ext4"),
    (configuration.persistence, {"mount": Mount(Path("/"), "tmpfs", False)}, "warning", "gone"),
    (
        configuration.persistence,
        {"mount": Mount(Path("/"), "ext4", True)},
        "error",
        "read-only",
    ),
    (configuration.persistence, {"mount": None}, "skipped", ""),
    (configuration.secrets, {}, "skipped", ""),
    (configuration.folders, {}, "ok", "state folder"),
    (configuration.folders, {"euid": 4711}, "warning", "as root"),
    # npu
    (npu.lock, {}, "ok", "nobody"),
    (npu.lock, {"lock_owner": "edged run (pid 77)", "status": status()}, "ok", "pid 77"),
    (npu.lock, {"lock_owner": "edged run (pid 99)", "status": status()}, "error", "not the"),
    (npu.lock, {"lock_owner": "edged run (pid 77)"}, "error", "does not answer"),
    (npu.lock, {"status": status()}, "error", "does not hold"),
    (npu.sku, {}, "ok", "bw-cnn-a10 runs"),
    (npu.kernels, {}, "ok", "avx2"),
    (npu.kernels, {"kernels": ["portable"]}, "warning", "another CPU"),
    (npu.heartbeat, {}, "skipped", ""),
    (npu.heartbeat, {"status": status()}, "ok", "process 78"),
    (npu.heartbeat, {"status": status(model=None)}, "skipped", ""),
    (npu.heartbeat, {"status": status(model=messages.Model(name="m"))}, "error", "not run"),
    (
        npu.heartbeat,
        {"status": status(counters=messages.Counters(worker_deaths=2))},
        "warning",
        "2 ended",
    ),
    (npu.self_test, {}, "skipped", "no model"),
    (npu.self_test, {"status": status(model=None)}, "skipped", ""),
    (
        npu.self_test,
        {"status": status(), "self_test": messages.SelfTestReply(passed=True)},
        "ok",
        "golden answers",
    ),
    (
        npu.self_test,
        {"status": status(), "self_test": messages.SelfTestReply(reason="output differs")},
        "error",
        "output differs -> the NPU",
    ),
    (
        npu.self_test,
        {"status": status(), "self_test": RequestError("FAILED_PRECONDITION", "a deployment")},
        "skipped",
        "",
    ),
    (
        npu.self_test,
        {"status": status(), "self_test": RequestError("DEADLINE_EXCEEDED", "no answer")},
        "error",
        "no answer",
    ),
    # store
    (store.version, {}, "skipped", ""),
    (store.content, {}, "skipped", ""),
    (store.records, {}, "ok", ""),
    (store.room, {}, "ok", "256 MiB needs 576"),
    (store.room, {"room": Room(100 * MIB, 200 * MIB, None)}, "error", "100 MiB are free"),
    (store.room, {"room": Room(600 * MIB, 900 * MIB, None)}, "warning", "next deployment"),
    (store.room, {"room": Room(9000 * MIB, 9000 * MIB, 5)}, "error", "only 5 files"),
    (store.last_change, {}, "skipped", ""),
    (store.quarantine, {}, "ok", ""),
    # keys
    (keys.verify, {}, "ok", ""),
    (keys.trusted, {}, "error", "edged keys trust"),
    (keys.rights, {}, "skipped", ""),
    (keys.signatures, {}, "skipped", ""),
    # sandbox
    (sandbox.runtime, {}, "warning", "ordinary user"),
    (sandbox.profile, {}, "skipped", ""),
    (sandbox.groups, {}, "skipped", ""),
    (sandbox.container, {}, "skipped", ""),
    # service
    (service.daemon, {}, "warning", "systemctl start edged"),
    (service.daemon, {"status": status()}, "ok", "process 77 is serving"),
    (service.daemon, {"status": status(state="not_serving", reason="dead")}, "error", "dead"),
    (
        service.daemon,
        {"status": status(state="not_serving", model=None)},
        "warning",
        "edged deploy",
    ),
    (service.same_version, {}, "skipped", ""),
    (service.same_version, {"status": status(version=version.VERSION)}, "ok", ""),
    (service.same_version, {"status": status(version="0.0.9")}, "warning", "restart"),
    (service.ports, {}, "ok", "free"),
    (service.ports, {"can_bind": False}, "error", "somebody else listens"),
    (service.ports, {"status": status()}, "ok", "127.0.0.1:50051 answers SERVING"),
    (service.ports, {"status": status(), "health": "NOT_SERVING"}, "error", "though"),
    (
        service.ports,
        {"status": status(), "health": RequestError("UNAVAILABLE", "nobody")},
        "error",
        "nobody",
    ),
    (
        service.ports,
        {"status": status(), "health": RequestError("UNAUTHENTICATED", "a token")},
        "ok",
        "asks who calls",
    ),
    (service.sockets, {}, "skipped", ""),
    (service.sockets, {"status": status()}, "error", "grpc.sock is not there"),
    (service.unit, {}, "skipped", ""),
    (service.unit, {"unit": UNIT}, "ok", "active, enabled"),
    (service.unit, {"unit": {**UNIT, "UnitFileState": "disabled"}}, "warning", "enable"),
    (service.unit, {"unit": {**UNIT, "Restart": "no"}}, "warning", "Restart="),
    (service.unit, {"unit": {**UNIT, "ActiveState": "failed"}}, "error", "journalctl"),
    (service.unit, {"unit": {**UNIT, "ActiveState": "inactive"}}, "error", "start edged"),
    (service.unit, {"unit": {**UNIT, "NeedDaemonReload": "yes"}}, "warning", "daemon-reload"),
    (service.watchdog, {"unit": UNIT}, "ok", "every 10s"),
    (service.watchdog, {"unit": {**UNIT, "WatchdogUSec": "0"}}, "warning", "WatchdogSec"),
    (service.watchdog, {"unit": {**UNIT, "Type": "simple"}}, "warning", "Type=notify"),
    (service.watchdog, {"unit": {**UNIT, "NRestarts": "9"}}, "warning", "9 restarts"),
    # network
    (network.registries, {}, "skipped", ""),
    (network.broker, {}, "skipped", ""),
    (network.link, {}, "skipped", ""),
    # host
    (host.memory, {}, "ok", "two models"),
    (host.memory, {"status": status()}, "ok", "another model"),
    (host.memory, {"memory_available": 400 * MIB}, "warning", "would be refused"),
    (host.memory, {"memory_available": 10 * MIB}, "error", "10 MiB are available"),
    (host.memory, {"memory_available": None}, "skipped", ""),
    (host.limits, {}, "ok", "this shell may have 4096"),
    (host.limits, {"status": status(), "limits": {"nofile": 64}}, "warning", "edged may have"),
    (host.limits, {"status": status(), "limits": PermissionError()}, "skipped", ""),
    (host.processors, {}, "ok", "4 processors"),
    (host.logs, {}, "skipped", ""),
]


@pytest.mark.parametrize(("check", "facts", "level", "text"), CASES)
def test_a_check_says_what_it_sees_and_what_to_do(
    check: Look, facts: dict[str, Any], level: str, text: str, tmp_path: Path
) -> None:
    got = said(check, Made(tmp_path, **facts))
    assert got[0] == level
    assert text in got[1]


@pytest.mark.parametrize(
    ("toml", "check", "level", "text"),
    [
        ("", configuration.settings, "ok", "edged.toml is read"),
        ("runtim = 'runc'", configuration.settings, "error", "'runtime'"),
        ("verify = 'off'", keys.verify, "warning", "edged keys trust"),
        ("verify = 'off'", keys.trusted, "skipped", ""),
        ("isa = 'neon'", npu.kernels, "error", "avx2, portable"),
        ("isa = 'portable'", npu.kernels, "warning", "avx2 is there"),
        ("threads = 9", host.processors, "warning", "set threads to 4"),
        ("threads = 3", host.processors, "ok", "3 threads"),
        ("sku = 'x'", npu.sku, "raises", "bw-cnn-a10"),
        ("listen = '127.0.0.1:0'", service.ports, "ok", ""),
    ],
)
def test_settings_are_looked_at(
    tmp_path: Path, toml: str, check: Look, level: str, text: str
) -> None:
    world = Made(tmp_path, toml)
    if level == "raises":
        with pytest.raises(ConfigError, match=text):
            check(world)
        return
    got = said(check, world)
    assert got[0] == level
    assert text in got[1]


def test_a_variable_that_is_nearly_one_is_told(tmp_path: Path) -> None:
    world = Made(tmp_path, environ={"EDGED_LISTEM": "x"})
    assert said(configuration.settings, world)[0] == "warning"


def test_secrets_that_others_can_read_are_told_and_not_shown(tmp_path: Path) -> None:
    toml = '[registries."r.example"]\nusername = "line4"\npassword = "hunter2"\n'
    world = Made(tmp_path, toml)
    assert said(configuration.secrets, world)[0] == "ok"
    (tmp_path / "edged.toml").chmod(0o644)
    level, text = said(configuration.secrets, world)
    assert level == "warning"
    assert "chmod o=" in text
    assert "hunter2" not in text
    (tmp_path / "edged.toml").chmod(0o666)
    assert said(configuration.secrets, world)[0] == "error"


def test_a_secrets_file_is_there_and_nobody_elses(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    world = Made(tmp_path, '[registries."r.example"]\nusername = "u"\npassword_file = "pw"\n')
    assert said(configuration.secrets, world)[0] == "error"
    file.touch(0o600)
    assert "is empty" in said(configuration.secrets, world)[1]
    file.write_text("hunter2")
    assert said(configuration.secrets, world)[0] == "ok"
    file.chmod(0o644)
    assert said(configuration.secrets, world)[0] == "warning"


def test_folders_that_everybody_may_write_are_errors(tmp_path: Path) -> None:
    world = Made(tmp_path)
    (tmp_path / "state").chmod(0o777)
    assert "chmod o-w" in said(configuration.folders, world)[1]
    (tmp_path / "state").rmdir()
    (tmp_path / "state").touch()
    assert "is no folder" in said(configuration.folders, world)[1]


def test_a_clock_that_has_gone_back_is_told(tmp_path: Path) -> None:
    world = Made(tmp_path)
    record = tmp_path / "state" / "history.json"
    record.write_text("{}")
    os.utime(record, (NOW + 86400, NOW + 86400))
    assert said(clock.time_of_day, world)[0] == "warning"


def test_a_used_store_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    unpack(1, tmp_path / "state")
    world = Made(tmp_path)
    before = contents(tmp_path / "state")
    assert said(store.version, world) == ("ok", "layout 1 of 1 -> ")
    assert "9 blobs" in said(store.content, world)[1]
    assert said(store.records, world)[0] == "ok"
    assert said(store.last_change, world)[0] == "warning"
    assert "golden test failed" in said(store.last_change, world)[1]
    assert "the last bad" in said(store.quarantine, world)[1]
    assert said(store.room, world)[0] == "ok"
    assert said(host.memory, world)[0] == "ok"
    assert said(host.logs, world)[0] == "ok"
    level, text = said(keys.signatures, world)
    assert level == "error"
    assert "current model" in text
    assert contents(tmp_path / "state") == before


def test_a_damaged_store_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    state = unpack(1, tmp_path / "state")
    world = Made(tmp_path)
    blob = next(path for path in (state / "images/blobs/sha256").iterdir() if path.stat().st_size)
    blob.write_bytes(b"x" * blob.stat().st_size)
    (state / "history.json").write_text("{")
    (state / "hold.json.damaged").touch()
    before = contents(state)
    assert any("is damaged" in each.reason for each in look(store.content, world))
    found = look(store.records, world)
    assert [each.level.value for each in found] == ["error", "warning"]
    assert contents(state) == before


def test_a_newer_store_is_an_error_of_one_check_and_breaks_none(tmp_path: Path) -> None:
    state = unpack(1, tmp_path / "state")
    (state / "version.json").write_text(json.dumps({"schema": 1, "layout": 9}))
    from edged.doctor.checks import GROUPS
    from edged.doctor.examine import examine

    found = list(examine([group for group in GROUPS if group.name == "store"], Made(tmp_path)))
    assert found[0].finding.level.value == "error"
    assert "its layout is of version 9" in found[0].finding.reason
    assert not [each for each in found if "itself failed" in each.finding.reason]


def test_keys_are_told_by_name_and_a_private_one_does_not_belong_here(tmp_path: Path) -> None:
    world = Made(tmp_path)
    signing.generate(tmp_path / "plant")
    signing.trust(tmp_path / "plant.pub", tmp_path / "keys")
    assert "trusts plant (" in said(keys.trusted, world)[1]
    assert said(keys.rights, world)[0] == "ok"
    (tmp_path / "plant.key").rename(tmp_path / "keys" / "plant.key")
    assert "is a private key" in said(keys.rights, world)[1]
    (tmp_path / "keys" / "plant.pub").chmod(0o666)
    assert said(keys.rights, world)[0] == "error"
    (tmp_path / "keys" / "other.pub").write_text("no key")
    with pytest.raises(ConfigError, match=r"other\.pub"):
        keys.trusted(world)


def test_sockets_are_there_and_the_operators_one_is_not_everybodys(tmp_path: Path) -> None:
    world = Made(tmp_path, status=status())
    for name, mode in (("grpc.sock", 0o666), ("control.sock", 0o660)):
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(tmp_path / "run" / name))
        (tmp_path / "run" / name).chmod(mode)
    assert said(service.sockets, world)[0] == "ok"
    (tmp_path / "run" / "control.sock").chmod(0o666)
    assert "is an operator" in said(service.sockets, world)[1]


def test_the_way_to_a_registry_ends_where_it_ends(tmp_path: Path) -> None:
    toml = '[registries."r.example:5000"]\nusername = "u"\n'
    ended = Reached("dns", "cannot resolve r.example", "check the name")
    level, text = said(network.registries, Made(tmp_path, toml, reach=ended))
    assert level == "error"
    assert "registry r.example:5000: cannot resolve r.example (dns) -> check the name" in text


def test_no_store_is_nobodys_fault(tmp_path: Path) -> None:
    world = Made(tmp_path)
    (tmp_path / "state").rmdir()
    with pytest.raises(SkipError, match="has not run here yet"):
        store.version(world)
    Store(Made(tmp_path).state)
    assert said(store.content, world)[0] == "ok"
