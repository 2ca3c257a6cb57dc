"""A link that is refused says why and what to do within five seconds, and comes back by itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edged import messages
from edged.errors import RequestError
from tests.e2e.device import Device
from tests.e2e.mqtt import ways
from tests.e2e.mqtt.conftest import Configure
from tests.fakes.authority import Authority
from tests.fakes.broker import Broker
from tests.fakes.hub import Hub
from tests.fakes.hub.identities import new_key
from tests.fakes.plant import Plant

NAMED_WITHIN = 5.0  # seconds from the refusal
BACK_WITHIN = 20.0  # seconds from the mending; the device waits two at most between attempts
QUICK = {"retry_limit": 2, "keepalive": 5}


def until(device: Device, true: Callable[[messages.Link], Any], limit: float) -> messages.Link:
    """Returns the link's status once it is like that; the daemon is asked again and again."""
    deadline = time.monotonic() + limit
    link = messages.Link()
    while True:
        with contextlib.suppress(RequestError):  # a busy machine may not let us connect at once
            link = device.status().link
            if true(link):
                return link
        assert time.monotonic() < deadline, f"not within {limit} s: {link}"


@dataclass
class Case:
    """What is wrong with a plant's broker, and what has to be said.

    Attributes:
        wrong: makes it so, before the device starts.
        says: words of the reason.
        fix: a word of what to do.
        mend: makes it right.
    """

    wrong: Callable[[Broker, Authority], None]
    says: tuple[str, ...]
    fix: str
    mend: Callable[[Broker, Authority], None]


def right(broker: Broker, authority: Authority) -> None:
    broker.show(authority.server())


CASES = {
    "wrong password": Case(
        lambda broker, _: broker.set_password("line-4", "another"),
        ("user 'line-4' is not accepted",),
        "password",
        lambda broker, _: broker.set_password("line-4", "secret"),
    ),
    "unknown authority": Case(
        lambda broker, authority: broker.show(
            Authority(authority.folder / "other", "another authority").server()
        ),
        ("certificate", "authority"),
        "ca_file",
        right,
    ),
    "expired certificate": Case(
        lambda broker, authority: broker.show(authority.expired()),
        ("certificate", "expired"),
        "certificate",
        right,
    ),
    "certificate of tomorrow": Case(
        lambda broker, authority: broker.show(authority.not_yet_valid()),
        ("certificate", "not valid yet"),
        "clock",
        right,
    ),
    "another host's certificate": Case(
        lambda broker, authority: broker.show(authority.wrong_host()),
        ("certificate", "localhost"),
        "host",
        right,
    ),
    "nobody there": Case(
        lambda broker, _: broker.kill(),
        ("listens",),
        "broker",
        lambda broker, _: broker.start(),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "wrong password",
        "expired certificate",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in CASES
            if name not in ("wrong password", "expired certificate")
        ),
    ],
)
def test_a_broker_that_refuses_is_named_and_let_in_again(
    name: str, device: Device, configure: Configure, tmp_path: Path
) -> None:
    case, authority = CASES[name], Authority(tmp_path / "authority")
    users = {"line-4": "secret", "plant": "secret"}
    with Broker(tmp_path / "broker", authority=authority, users=users) as broker:
        settings = {
            "dialect": "plain",
            "device": ways.DEVICE,
            "host": "localhost",
            "port": broker.tls_port,
            "ca_file": str(authority.ca),
            "username": "line-4",
            "password": "secret",
        }
        case.wrong(broker, authority)
        configure(device, {**settings, **QUICK})
        device.start()
        link = until(device, lambda link: link.reason, NAMED_WITHIN)
        assert not link.up
        for each in case.says:
            assert each in link.reason, link
        assert case.fix in link.fix, link
        shown = device.edged("status").stdout
        assert link.reason in " ".join(shown.split()), shown
        case.mend(broker, authority)
        until(device, lambda link: link.up, BACK_WITHIN)
        with Plant(broker, ways.DEVICE, "plant", "secret") as plant:
            plant.until(plant.reported, what="a report, after all")
        link = device.status().link
        assert link.up
        assert not link.reason


@pytest.mark.long
def test_a_name_that_nobody_knows_is_named(device: Device, configure: Configure) -> None:
    settings = {"dialect": "plain", "device": "x", "host": "no-such-host.invalid", "tls": False}
    configure(device, {**settings, **QUICK})
    device.start()
    link = until(device, lambda link: link.reason, NAMED_WITHIN)
    assert "no-such-host.invalid" in link.reason


@pytest.mark.long
def test_a_broker_that_hangs_is_noticed(
    device: Device, configure: Configure, broker: Broker, plant: Plant
) -> None:
    """The connection stands, and nothing comes any more: only asking finds that out."""
    configure(device, {**ways.plain_settings(broker), **QUICK})
    device.start()
    until(device, lambda link: link.up, BACK_WITHIN)
    broker.freeze()
    link = until(device, lambda link: not link.up, 3 * QUICK["keepalive"])
    assert link.reason
    seen = len(plant.reports())
    broker.thaw()
    until(device, lambda link: link.up, BACK_WITHIN)
    plant.until(lambda: len(plant.reports()) > seen, what="a report, after all")


# -- the hub


def test_an_expired_signature_is_named_and_the_link_comes_back(
    device: Device, configure: Configure, hub: Hub
) -> None:
    """The hub's clock says another day than the device's: whatever is signed has expired."""
    me = hub.register(ways.DEVICE)
    hub.skew = 86400.0
    configure(device, {**ways.hub_settings(hub, me), **QUICK})
    device.start()
    hub.until(lambda: hub.front.refused, what="a refusal")
    assert "expired" in hub.front.refused[0]
    link = until(device, lambda link: link.reason, NAMED_WITHIN)
    assert "is not accepted" in link.reason, link
    assert "clock" in link.fix, "a hub does not say that it is the signature's time"
    hub.skew = 0.0
    hub.until(lambda: hub.reported(ways.DEVICE), BACK_WITHIN, "a report, after all")


@pytest.mark.long
def test_a_signature_is_renewed_before_it_expires(
    device: Device, configure: Configure, hub: Hub
) -> None:
    me = hub.register(ways.DEVICE)
    hub.front.allowance = 0.0
    configure(device, {**ways.hub_settings(hub, me), **QUICK, "sas_ttl": 10})
    device.start()
    hub.until(lambda: hub.connects(ways.DEVICE) > 2, 60.0, "the third connection")
    hub.until(lambda: hub.connected(ways.DEVICE), what="the device")
    assert hub.front.refused == []
    assert not [each for each in hub.front.closed if "expired" in each]


@pytest.mark.long
def test_the_hubs_certificates_are_looked_at_too(
    device: Device, configure: Configure, hub: Hub
) -> None:
    me = hub.register(ways.DEVICE)
    for issued, says in (
        (hub.authority.expired(), "expired"),
        (hub.authority.wrong_host(), "localhost"),
    ):
        hub.show(issued)
        configure(device, {**ways.hub_settings(hub, me), **QUICK})
        device.start()
        link = until(device, lambda link: link.reason, NAMED_WITHIN)
        assert says in link.reason
        hub.show(hub.authority.server())
        until(device, lambda link: link.up, BACK_WITHIN)
        device.stop()


@pytest.mark.long
def test_a_device_by_certificate(device: Device, configure: Configure, hub: Hub) -> None:
    me = hub.register(ways.DEVICE, x509=True)
    mine, other = hub.authority.client(ways.DEVICE), hub.authority.client("another")
    settings = {**ways.hub_settings(hub, me), **QUICK}
    wrong = {"cert_file": str(other.certificate), "key_file": str(other.key)}
    configure(device, {**settings, **wrong})
    device.start()
    link = until(device, lambda link: link.reason, NAMED_WITHIN)
    assert "not that of" in hub.front.refused[-1]
    assert "certificate" in link.fix, link
    # The files are read for each connection: mended without a restart.
    other.certificate.write_bytes(mine.certificate.read_bytes())
    other.key.write_bytes(mine.key.read_bytes())
    hub.until(lambda: hub.reported(ways.DEVICE), BACK_WITHIN, "a report, after all")


@pytest.mark.long
def test_a_device_that_is_not_registered_any_more_is_told_and_comes_back(
    device: Device, configure: Configure, hub: Hub
) -> None:
    me = hub.register(ways.DEVICE)
    configure(device, {**ways.hub_settings(hub, me), **QUICK})
    device.start()
    hub.until(lambda: hub.reported(ways.DEVICE), what="a report")
    hub.forget(ways.DEVICE)
    until(device, lambda link: not link.up and link.reason, BACK_WITHIN)
    hub.until(lambda: hub.front.refused, BACK_WITHIN, what="a refusal")


@pytest.mark.parametrize(
    "how",
    ["group key", *(pytest.param(x, marks=pytest.mark.long) for x in ("own key", "certificate"))],
)
def test_a_device_is_provisioned(how: str, device: Device, configure: Configure, hub: Hub) -> None:
    service = hub.provisioning
    service.busy = 1  # it is to ask again
    if how == "group key":
        proof = {"group_key": service.group_key}
    elif how == "own key":
        proof = {"shared_key": new_key()}
        service.enrol(ways.DEVICE, proof["shared_key"])
    else:
        service.enrol(ways.DEVICE)
        mine = hub.authority.client(ways.DEVICE)
        proof = {"cert_file": str(mine.certificate), "key_file": str(mine.key)}
    settings = {
        "dialect": "iothub",
        "id_scope": service.scope,
        "registration": ways.DEVICE,
        "provisioning_host": hub.host,
        "provisioning_port": hub.port,
        "port": hub.port,
        "ca_file": str(hub.authority.ca),
    }
    configure(device, {**settings, **proof, **QUICK})
    device.start()
    hub.until(lambda: ("GET", ways.DEVICE) in service.asked, what="a registration")
    hub.until(lambda: hub.reported(ways.DEVICE), what="a report")
