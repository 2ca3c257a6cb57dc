"""Why a link does not stand is named at once, with what to do; once that is done it comes up."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edged.errors import ConfigError
from edged.mqtt import tls
from edged.mqtt.dialect import Endpoint
from tests.fakes.authority import Authority
from tests.fakes.broker import Broker
from tests.unit.mqtt.links import Plain, at, linked, until

PROMPT = 5.0  # seconds within which a refusal is to be named


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "another authority")


def refused(folder: Path, endpoint: Endpoint, reason: str, fix: str) -> None:
    """Checks that a link to there is refused for that reason."""
    named_then_up(folder, endpoint, reason, fix, None)


def named_then_up(
    folder: Path,
    endpoint: Endpoint,
    reason: str,
    fix: str,
    mend: Callable[[Plain], None] | None,
) -> None:
    dialect = Plain(endpoint)

    async def work() -> None:
        async with linked(dialect, folder / "box") as (link, _):
            began = time.monotonic()
            await until(lambda: link.state.reason)
            assert time.monotonic() - began < PROMPT
            state = link.state
            assert not state.up
            assert any(each in state.reason for each in reason.split("|")), state
            assert fix in state.fix
            if mend is not None:
                await asyncio.to_thread(mend, dialect)
                await until(lambda: link.state.up)
                assert (link.state.reason, link.state.fix) == ("", "")

    asyncio.run(work())


def test_a_wrong_password(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker", users={"line": "right"}) as broker:
        named_then_up(
            tmp_path,
            at(broker.port, username="line", password="wrong"),
            "cannot log in to 127.0.0.1:",
            "password_file",
            lambda _: broker.set_password("line", "wrong"),
        )


def test_no_user_where_one_is_wanted(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker", users={"line": "right"}) as broker:
        refused(tmp_path, at(broker.port), "a user without name is not accepted", "username")


def test_an_authority_that_is_unknown(
    tmp_path: Path, authority: Authority, other: Authority
) -> None:
    def trust(dialect: Plain) -> None:
        dialect.to = at(broker.tls_port, tls=tls.context(authority.ca))

    with Broker(tmp_path / "broker", authority=authority) as broker:
        for context in (tls.context(), tls.context(other.ca)):
            named_then_up(
                tmp_path,
                at(broker.tls_port, tls=context),
                "its certificate is from an authority that is unknown here",
                "ca_file",
                trust,
            )


@pytest.mark.parametrize("kind", ["expired", "not_yet_valid", "wrong_host"])
def test_a_certificate_of_the_broker_that_is_not_good(
    tmp_path: Path, authority: Authority, kind: str
) -> None:
    reason, fix = {
        "expired": ("its certificate has expired, by this device's clock, which reads 2", "clock"),
        "not_yet_valid": ("is not valid yet, by this device's clock, which reads 2", "clock"),
        "wrong_host": ("its certificate is not for '127.0.0.1'", "host in [mqtt]"),
    }[kind]
    with Broker(tmp_path / "broker", authority=authority) as broker:
        broker.show(getattr(authority, kind)())
        named_then_up(
            tmp_path,
            at(broker.tls_port, tls=tls.context(authority.ca)),
            reason,
            fix,
            lambda _: broker.show(authority.server()),
        )


def test_certificates_of_ours(tmp_path: Path, authority: Authority, other: Authority) -> None:
    good, late, foreign = (
        authority.client("line"),
        authority.expired("late", ()),
        other.client("line"),
    )

    def show(dialect: Plain) -> None:
        context = tls.context(authority.ca, good.certificate, good.key)
        dialect.to = at(broker.tls_port, tls=context)

    with Broker(tmp_path / "broker", authority=authority, certificates=True) as broker:
        for issued, reason in (
            (None, "it wants a certificate and we show none"),
            (late, "it says that our certificate has expired"),
            (foreign, "it does not know the authority of our certificate"),
        ):
            files = (issued.certificate, issued.key) if issued else ()
            context = tls.context(authority.ca, *files)
            named_then_up(
                tmp_path, at(broker.tls_port, tls=context), reason, "cert_file and key_file", show
            )


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    refused(tmp_path, at(port), "nobody listens on that port", "check the port")


def test_a_name_that_nobody_knows(tmp_path: Path) -> None:
    endpoint = at(8883, host="broker.invalid")
    refused(tmp_path, endpoint, "cannot find broker.invalid", "name server")


def test_tls_where_there_is_none_and_none_where_there_is(
    tmp_path: Path, authority: Authority
) -> None:
    with Broker(tmp_path / "broker", authority=authority) as broker:
        context = tls.context(authority.ca)
        refused(tmp_path, at(broker.port, tls=context), "cannot ", "the port is one with TLS")
        refused(tmp_path, at(broker.tls_port), "broke off before it answered", "set tls = true")


@contextmanager
def speaking(said: bytes) -> Iterator[int]:
    """Somebody who says something of his own to whoever connects; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(1000)
                    connection.sendall(said)
                    connection.recv(1000)

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\x20\x02\x00\x01", "not MQTT 3.1.1|it broke off"),  # as paho has it
        (b"\x20\x02\x00\x02", "client id 'device' is not accepted"),
        (b"\x20\x02\x00\x03", "the broker is not available"),
        (b"\x20\x02\x00\x63", "cannot log in"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
        (b"\x20\xff\xff\xff\xff\xff", ""),
        (b"\x20\x00", ""),
        (b"\x90\x00\x90\x01\x00", ""),
        (b"\x30\xff\xff\xff\x7f", "it sends a packet of 268435455 bytes"),
    ],
)
def test_others_than_a_broker_and_brokers_that_say_no(
    tmp_path: Path, said: bytes, reason: str
) -> None:
    with speaking(said) as port:
        refused(tmp_path, at(port), reason or "cannot ", "")


def test_a_subscription_that_is_not_allowed(tmp_path: Path) -> None:
    with speaking(b"\x20\x02\x00\x00\x90\x03\x00\x01\x80") as port:
        refused(
            tmp_path,
            at(port),
            "cannot subscribe to 'in/#'",
            "check the broker's access rules for this device",
        )


@pytest.mark.parametrize("what", ["ca_file", "cert_file", "key_file", "foreign key"])
def test_files_that_are_no_certificates(tmp_path: Path, authority: Authority, what: str) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    good = authority.client("line")
    files = {
        "ca_file": (bad,),
        "cert_file": (None, bad, good.key),
        "key_file": (None, good.certificate, bad),
        "foreign key": (None, good.certificate, authority.client("another").key),
    }[what]
    with pytest.raises(ConfigError, match=r"cannot use c.*in PEM"):
        tls.context(*files)
    with pytest.raises(ConfigError, match="No such file"):
        tls.context(tmp_path / "missing")
