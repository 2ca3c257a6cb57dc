"""``edged doctor`` on whole devices: serving, broken, hung, and with no daemon at all."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edged.errors import RequestError
from tests.e2e.device import Device
from tests.fakes import images
from tests.fakes.authority import Authority

DAY = dt.timedelta(days=1)


def examined(device: Device, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and the worst result of each check by ``group/check``."""
    done = run(device, "--json", *arguments)
    order = ("skipped", "ok", "warning", "error")
    found: dict[str, dict[str, Any]] = {}
    for each in json.loads(done.stdout)["results"]:
        name = f"{each['group']}/{each['check']}"
        if name not in found or order.index(each["result"]) > order.index(found[name]["result"]):
            found[name] = each
    return done.returncode, found


def run(device: Device, *arguments: str) -> subprocess.CompletedProcess[str]:
    folders = ["--state-dir", str(device.state), "--run-dir", str(device.run)]
    return device.edged("doctor", *folders, *arguments)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_VERIFY", "off")
    monkeypatch.setenv("EDGED_LISTEN", "127.0.0.1:0")


def levels(found: dict[str, dict[str, Any]], *names: str) -> list[str]:
    return [found[name]["result"] for name in names]


def test_a_device_that_serves_is_well(serving: Device) -> None:
    status, found = examined(serving)
    assert status == 0, [each for each in found.values() if each["result"] == "error"]
    names = ("npu/lock", "npu/heartbeat", "npu/self-test", "store/content", "store/version")
    assert levels(found, *names) == ["ok"] * 5
    names = ("service/daemon", "service/ports", "service/sockets", "service/version", "host/limits")
    assert levels(found, *names) == ["ok"] * 5
    assert found["keys/verify"]["result"] == "warning"
    assert found["keys/verify"]["fix"]
    assert run(serving, "--group", "keys", "--warnings-as-errors").returncode == 1
    assert serving.predict(b"x") == b"fake:x", "it serves on"


def test_people_read_a_table_and_may_ask_for_a_group(serving: Device) -> None:
    done = run(serving, "--group", "npu")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "npu"
    assert any(line.split()[:2] == ["ok", "self-test"] for line in lines)
    assert lines[-1].startswith("0 error, 0 warning, ")
    listed = run(serving, "--list").stdout.split("\n")
    assert len(listed) > 20
    assert "clock/time" in listed
    done = run(serving, "--group", "npus")
    assert done.returncode == 2
    assert "expected one of configuration, " in done.stderr


def test_with_the_daemon_down_everything_else_is_looked_at(serving: Device) -> None:
    serving.stop()
    status, found = examined(serving, "--group", "service", "--group", "store", "--group", "npu")
    assert found["service/daemon"]["result"] == "warning"
    assert "does not answer" in found["service/daemon"]["reason"]
    assert levels(found, "service/ports", "store/content", "npu/lock") == ["ok"] * 3
    # The image is the fake worker's, and the real one refuses it.
    assert (status, found["npu/self-test"]["result"]) == (1, "error")


@pytest.mark.long
def test_a_daemon_that_hangs_is_told_from_one_that_is_gone(serving: Device) -> None:
    serving.send(signal.SIGSTOP)
    try:
        status, found = examined(serving, "--group", "npu", "--group", "service")
    finally:
        serving.send(signal.SIGCONT)
    assert status == 1
    assert "has the NPU and does not answer" in found["npu/lock"]["reason"]
    assert found["service/daemon"]["result"] == "warning"
    # The kernel drops the lock with the process, however it ends.
    serving.stop(signal.SIGKILL)
    _, found = examined(serving, "--group", "npu")
    assert found["npu/lock"]["result"] == "ok"


def test_a_model_that_stops_being_right_is_found(serving: Device) -> None:
    serving.change_behaviour({"fake": {"probe": "fail"}})
    serving.kill_worker()
    serving.predict(b"x")  # the next worker is there
    status, found = examined(serving, "--group", "npu")
    assert status == 1
    assert "its golden test failed" in found["npu/self-test"]["reason"]
    assert found["npu/heartbeat"]["result"] == "warning", "a process has died"


def test_the_self_test_needs_a_model(device: Device) -> None:
    from edged import messages

    device.start()
    with pytest.raises(RequestError, match="no model is in service"):
        device._ask("SelfTest", messages.SelfTestRequest(), messages.SelfTestReply)
    _, found = examined(device, "--group", "npu", "--group", "service")
    assert found["npu/self-test"]["result"] == "skipped"
    assert "no model is deployed" in found["service/daemon"]["reason"]


def test_somebody_elses_port_and_a_bad_configuration_are_told(
    device: Device, short_folder: Path
) -> None:
    config = short_folder / "edged.toml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        config.write_text(f'listen = "127.0.0.1:{server.getsockname()[1]}"\n')
        environ = pytest.MonkeyPatch()
        environ.delenv("EDGED_LISTEN")
        try:
            status, found = examined(device, "--config", str(config), "--group", "service")
        finally:
            environ.undo()
    assert status == 1
    assert "somebody else listens" in found["service/ports"]["reason"]
    config.write_text("runtim = 'runc'\n")
    status, found = examined(device, "--config", str(config))
    assert status == 1
    assert "'runtime'" in found["configuration/settings"]["reason"]
    assert found["store/content"]["result"] == "skipped"


def test_the_golden_test_is_run_for_real_without_a_daemon(
    short_folder: Path, surface_image: str
) -> None:
    device = Device(short_folder, "edged")
    device.start()
    try:
        assert device.deploy(surface_image)[-1].state == "committed"
    finally:
        device.close()
    status, found = examined(device, "--group", "npu")
    assert status == 0, found
    assert "gave its golden answers in" in found["npu/self-test"]["reason"]
    (program,) = device.state.glob("models/*/program.npu")
    data = program.read_bytes()
    middle = len(data) // 2
    program.write_bytes(data[:middle] + bytes(4096) + data[middle + 4096 :])
    status, found = examined(device, "--group", "npu", "--group", "store")
    assert status == 1
    assert levels(found, "npu/self-test", "store/content") == ["error", "error"]


@pytest.mark.long
@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed")
def test_the_golden_test_runs_in_a_container_where_models_do(
    short_folder: Path, surface_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_folder.chmod(0o755)
    device = Device(short_folder, "edged")
    device.start()
    try:
        assert device.deploy(surface_image)[-1].state == "committed"
    finally:
        device.close()
    monkeypatch.setenv("EDGED_RUNTIME", "runc")
    status, found = examined(device, "--group", "npu", "--group", "sandbox")
    assert status == 0, found
    assert "runc" in found["npu/self-test"]["reason"]
    assert levels(found, "sandbox/container", "sandbox/seccomp") == ["ok", "ok"]


def test_words_from_elsewhere_do_not_reach_the_terminal(device: Device) -> None:
    device.start()
    reference = images.write(device.folder / "image", "fake\x1b[31m")
    device.deploy(reference)
    done = run(device, "--group", "store")
    assert "\x1b" not in done.stdout


def test_a_device_on_the_network_shows_the_certificate_it_is_to_show(
    device: Device, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(short_folder / "ca")
    good = authority.issue("good", ["localhost"], (-DAY, 90 * DAY))
    certificate, key = short_folder / "edged.pem", short_folder / "edged.key"
    shutil.copy(good.certificate, certificate)
    shutil.copy(good.key, key)
    config = short_folder / "edged.toml"
    config.write_text(
        'listen = "0.0.0.0:0"\nverify = "off"\n[tls]\n'
        f'cert_file = "{certificate}"\nkey_file = "{key}"\n'
        f'client_cert = "required"\nclient_ca_file = "{authority.ca}"\n'
    )
    monkeypatch.setenv("EDGED_CONFIG", str(config))
    monkeypatch.delenv("EDGED_LISTEN")
    device.start("--listen", "0.0.0.0:0")
    groups = ("--group", "certificates", "--group", "service", "--group", "configuration")
    status, found = examined(device, *groups)
    assert status == 0, found
    names = ("certificates/files", "certificates/served", "service/ports", "service/sockets")
    assert levels(found, *names) == ["ok"] * 4
    # Half of a renewal: edged keeps the certificate it has, and the doctor says what is wrong.
    shutil.copy(authority.issue("new", ["localhost"]).certificate, certificate)
    status, found = examined(device, *groups)
    assert status == 1
    assert "is not the certificate's" in found["certificates/files"]["reason"]
    assert "another certificate" in found["certificates/served"]["reason"]
    key.chmod(0o644)
    _, found = examined(device, *groups)
    assert "everybody may read" in found["configuration/secrets"]["reason"]
