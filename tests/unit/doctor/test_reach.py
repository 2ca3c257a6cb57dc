"""How far one gets on the way to another machine: real sockets, real certificates, real faults."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.doctor import endpoints, login, reach
from edged.doctor.reach import Tls
from edged.errors import ConfigError, DeviceError
from edged.oci.registries import Access, Registries
from tests.fakes import registry
from tests.fakes.authority import Authority, Issued

QUICK = 2.0


@contextlib.contextmanager
def listener(shows: Issued | None = None, *, asks: Path | None = None) -> Iterator[int]:
    """A server: with TLS if it has a certificate, else silent; returns its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        kept: list[socket.socket] = []
        context = None
        if shows is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(shows.certificate, shows.key)
            if asks is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(asks)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    end, _ = server.accept()
                    kept.append(end)
                    if context is not None:
                        with contextlib.suppress(OSError, ssl.SSLError):
                            kept.append(context.wrap_socket(end, server_side=True))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield port
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for end in kept:
                end.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_a_name_that_there_is_not_is_told_from_all_else() -> None:
    found = reach.reach("no-such-host.invalid", 443, None, QUICK)
    assert found.step == "dns"
    assert "cannot resolve no-such-host.invalid" in found.reason
    assert "resolv.conf" in found.fix


def test_a_name_server_that_hangs_does_not_hang_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        let_go.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    found = reach.reach("slow.example", 443, None, 0.2)
    let_go.set()
    assert (found.step, found.reason) == (
        "dns",
        "cannot resolve slow.example: no answer within 0.2 s",
    )


def test_a_port_where_nobody_listens_is_told(authority: Authority) -> None:
    port = registry.free_port()
    found = reach.reach("127.0.0.1", port, Tls(authority.ca), QUICK)
    assert found.step == "tcp"
    assert "Connection refused" in found.reason


def test_a_server_that_answers_is_reached(authority: Authority) -> None:
    with listener(authority.server()) as port:
        assert reach.reach("127.0.0.1", port, Tls(authority.ca), QUICK).step == "ok"
        assert reach.reach("localhost", port, None, QUICK).step == "ok"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("expired", "certificate has expired"),
        ("not_yet_valid", "not yet valid"),
        ("wrong_host", "127.0.0.1"),
    ],
)
def test_a_bad_certificate_is_told_with_what_is_bad(
    authority: Authority, bad: str, why: str
) -> None:
    with listener(getattr(authority, bad)()) as port:
        found = reach.reach("127.0.0.1", port, Tls(authority.ca), QUICK)
    assert found.step == "tls"
    assert why in found.reason


def test_an_authority_nobody_named_is_not_trusted(authority: Authority) -> None:
    with listener(authority.server()) as port:
        found = reach.reach("127.0.0.1", port, Tls(), QUICK)
    assert found.step == "tls"
    assert "ca_file" in found.fix


def test_a_server_that_says_nothing_is_given_up(authority: Authority) -> None:
    with listener() as port:
        found = reach.reach("127.0.0.1", port, Tls(authority.ca), 0.3)
    assert found.step == "tls"
    assert "in time" in found.reason


def test_our_own_certificates_have_to_be_readable(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pem"):
        reach.reach("127.0.0.1", 1, Tls(tmp_path / "none.pem"), QUICK)
    encrypted = Tls(authority.ca, authority.ca, authority.ca)
    with pytest.raises(ConfigError, match="cannot read certificates"):
        reach.reach("127.0.0.1", 1, encrypted, QUICK)


def test_the_certificate_of_our_own_port_is_looked_at_without_trust(authority: Authority) -> None:
    shown = authority.expired()
    with listener(shown, asks=authority.ca) as port:
        der = reach.peer_certificate("127.0.0.1", port, QUICK)
    assert ssl.DER_cert_to_PEM_cert(der).split() == shown.certificate.read_text().split()
    with pytest.raises(DeviceError, match="cannot speak TLS"):
        reach.peer_certificate("127.0.0.1", registry.free_port(), QUICK)


def test_a_port_is_free_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not reach.can_bind("127.0.0.1", server.getsockname()[1])
    assert reach.can_bind("127.0.0.1", 0)


# -- registries: the real one


def asked(host: str, access: Access) -> tuple[str, str]:
    found = login.registry(host, Registries({host: access}))
    return found.level.value, f"{found.reason} {found.fix}"


def test_a_registry_says_whether_it_knows_us(tmp_path: Path, authority: Authority) -> None:
    settings = {**registry.tls(authority), **registry.passwords(tmp_path / "auth")}
    with registry.run(tmp_path / "registry", **settings) as running:
        host, ca = running.host, authority.ca
        known = Access(registry.USER, registry.PASSWORD, ca_file=ca)
        assert asked(host, known) == ("ok", f"registry {host} answers, and knows 'edged' ")
        assert asked(host, Access(ca_file=ca))[0] == "ok"
        level, text = asked(host, Access(registry.USER, "wrong-secret", ca_file=ca))
        assert level == "error"
        assert "does not accept user 'edged'" in text
        assert "wrong-secret" not in text
        missing = Access(registry.USER, password_file=tmp_path / "none", ca_file=ca)
        assert "cannot read password" in asked(host, missing)[1]
        there = endpoints.of_registry(host, Registries({host: known}))
        assert reach.reach(there.host, there.port, there.tls, QUICK).step == "ok"


def test_what_answers_and_is_no_registry_is_told(tmp_path: Path) -> None:
    import http.server

    class Page(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        level, text = asked(f"127.0.0.1:{server.server_port}", Access())
        server.shutdown()
    assert level == "error"
    assert "404" in text
