"""The service under a real systemd: watched, killed, stopped, reloaded, in each of its forms."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.events import EVENTS
from tests.system.conftest import PLACE
from tests.system.machine import Machine

pytestmark = pytest.mark.long

WATCHDOG = 10.0  # seconds; WatchdogSec of the unit
BACK = WATCHDOG + 10.0  # from a process that stands still to an answer
SETTLED = 60.0
DROP_INS = Path(__file__).resolve().parents[2] / "packaging/systemd/drop-ins"
SETTINGS = "etc/edged/edged.toml"


def answers(machine: Machine) -> bool:
    return "dent" in machine.run("edged", "predict", f"{PLACE}/photo.jpg", status=None, limit=BACK)


@pytest.fixture
def serving(device: Machine) -> Iterator[Machine]:
    """The device, which serves; whatever a test does to it is undone."""
    settings = device.root / SETTINGS
    before = settings.read_text()
    device.wait(lambda: answers(device), SETTLED, "it serves")
    yield device
    settings.write_text(before)
    device.run("rm", "-rf", "/etc/systemd/system/edged.service.d")
    device.run("systemctl", "daemon-reload")
    device.run("systemctl", "reset-failed", "edged", status=None)
    device.run("systemctl", "restart", "edged")


def main_pid(machine: Machine) -> str:
    return machine.show("MainPID")["MainPID"]


def test_a_stopped_worker_is_replaced_by_the_daemon(serving: Machine) -> None:
    daemon, worker = main_pid(serving), str(serving.status()["model"]["worker_pid"])
    began = time.monotonic()
    serving.signal("STOP", worker)
    # A caller who waits is answered; nobody else has to do anything.
    assert "dent" in serving.run("edged", "predict", f"{PLACE}/photo.jpg", limit=60)
    assert time.monotonic() - began < BACK
    assert main_pid(serving) == daemon
    (record,) = serving.records(f"MESSAGE_ID={EVENTS['heartbeat'].id}")
    assert record["EDGED_PID"] == worker


def test_a_stopped_daemon_is_replaced_by_systemd(serving: Machine) -> None:
    daemon = main_pid(serving)
    began = time.monotonic()
    serving.signal("STOP", daemon)
    serving.wait(
        lambda: main_pid(serving) not in (daemon, "0") and answers(serving), BACK, "it is back"
    )
    assert time.monotonic() - began < BACK
    assert "Watchdog timeout" in serving.journal()


@pytest.mark.parametrize("who", ["daemon", "worker"])
def test_a_killed_one_is_back_within_seconds(who: str, serving: Machine) -> None:
    pid = main_pid(serving) if who == "daemon" else str(serving.status()["model"]["worker_pid"])
    serving.signal("KILL", pid)
    serving.wait(lambda: answers(serving), 15.0, "it is back")
    # A daemon that was killed leaves no container behind.
    assert len(list((serving.root / "run/edged/containers").glob("*"))) <= 1
    assert len(serving.run("ls", "/run/edged/containers").split()) == 1


def test_the_status_text_and_the_journal_say_what_serves(serving: Machine) -> None:
    digest = serving.status()["model"]["digest"]
    text = serving.wait_text("StatusText", "p99")
    assert text.startswith(f"serving surface 1 ({digest[:19]}); p99 ")
    found = serving.records(f"EDGED_DIGEST={digest}", f"MESSAGE_ID={EVENTS['state'].id}")
    assert found
    assert {"EDGED_EVENT", "EDGED_MODEL", "EDGED_STATE"} <= found[-1].keys()
    assert found[-1]["SYSLOG_IDENTIFIER"] == "edged"
    assert found[-1]["_SYSTEMD_UNIT"] == "edged.service"


def test_a_reload_applies_what_can_change_and_refuses_what_is_wrong(serving: Machine) -> None:
    settings, daemon = serving.root / SETTINGS, main_pid(serving)
    good = settings.read_text()
    debug = good.replace('#log_level = "info"', 'log_level = "debug"')
    assert debug != good
    settings.write_text(debug)
    serving.run("systemctl", "reload", "edged")
    serving.wait(
        lambda: any(
            "log_level" in r["MESSAGE"]
            for r in serving.records(f"MESSAGE_ID={EVENTS['reload'].id}")
        ),
        SETTLED,
        "the reload is in the journal",
    )
    settings.write_text("lissten = 1\n" + good)
    said = serving.run("systemctl", "reload", "edged", status=1)
    assert "failed" in said
    assert "the nearest is 'listen'" in serving.journal()
    assert main_pid(serving) == daemon
    assert answers(serving)


def test_a_configuration_that_cannot_be_used_is_not_tried_for_ever(serving: Machine) -> None:
    settings = serving.root / SETTINGS
    settings.write_text('runtime = "docker"\n')
    serving.run("systemctl", "restart", "edged", status=1)
    shown = serving.show("ActiveState", "ExecMainStatus", "NRestarts", "SubState")
    assert (shown["ActiveState"], shown["ExecMainStatus"]) == ("failed", "2")
    assert "expected one of process, runc, runc-root" in serving.journal()


def test_credentials_reach_the_service_alone(serving: Machine) -> None:
    folder = serving.root / "etc/edged/credentials"
    (folder / "registry").write_text("secret\n")
    settings = serving.root / SETTINGS
    settings.write_text(
        settings.read_text()
        + '\n[registries."plant.example"]\nusername = "x"\n'
        + 'password_file = "credential:registry"\n'
    )
    serving.run("systemctl", "restart", "edged")
    serving.wait(lambda: answers(serving), SETTLED, "it serves")
    seen = serving.run("ls", f"/proc/{main_pid(serving)}/root/run/credentials/edged.service")
    assert seen.split() == ["edged_registry"]
    denied = serving.run("cat", "/etc/edged/credentials/registry", user="nobody", status=1)
    assert "Permission denied" in denied


@pytest.mark.parametrize("form", ["process", "runc-root"])
def test_the_other_forms_serve_under_their_own_directives(form: str, serving: Machine) -> None:
    folder = serving.root / "etc/systemd/system/edged.service.d"
    folder.mkdir(parents=True)
    shutil.copy(DROP_INS / f"{form}.conf", folder)
    serving.run("systemctl", "daemon-reload")
    serving.run("systemctl", "restart", "edged")
    serving.wait(lambda: answers(serving), SETTLED, "it serves")
    assert serving.status()["runtime"] == form
    serving.run("systemctl", "reload", "edged")
    worker = str(serving.status()["model"]["worker_pid"])
    owner = serving.run("stat", "--format", "%u", f"/proc/{worker}").strip()
    expected = {"process": serving.run("id", "-u", "edged").strip(), "runc-root": "1878917121"}
    assert owner == expected[form]


def test_a_reboot_comes_up_serving(serving: Machine) -> None:
    serving.close()
    serving.boot()
    serving.wait(lambda: answers(serving), SETTLED, "it serves")
