"""A token is given to nobody on the way, and TLS says what it needs."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from edged.client import Client
from edged.client.channel import is_local
from edged.errors import ConfigError

HERE = [
    *("127.0.0.1:50051", "127.8.9.10:1", "localhost:50051", "localhost", "[::1]:50051"),
    *("unix:/run/edged/grpc.sock", "unix:///run/edged/grpc.sock", "unix-abstract:edged"),
    *("ipv4:127.0.0.1:1", "dns:///localhost:1", "ipv6:[::1]:1", "127.0.0.1"),
]
ELSEWHERE = [
    *("10.0.0.1:50051", "edge-7:50051", "localhost.example.org:1", "127.0.0.1.example.org:1"),
    *("[2001:db8::1]:1", "dns://10.0.0.1/localhost:1", "xds:///localhost", "ipv4:10.0.0.1:1", ""),
]


@pytest.mark.parametrize("target", HERE)
def test_what_stays_on_this_host_may_have_a_token(target: str) -> None:
    assert is_local(target)
    Client(target, token="secret").close()


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_token_does_not_go_over_a_network_in_the_clear(target: str) -> None:
    assert not is_local(target)
    with pytest.raises(ConfigError, match=r"in the clear.*tls=FILE"):
        Client(target, token="secret")


def test_with_tls_it_may() -> None:
    Client("edge-7:50051", token="secret", tls=grpc.ssl_channel_credentials()).close()


@pytest.mark.parametrize("token", ["", "a\nb", "a ", " a", "t\u00f6ken", "\x00"])
def test_a_token_that_metadata_cannot_carry_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="cannot use the token: expected") as caught:
        Client("127.0.0.1:1", token=token)
    assert repr(token) not in str(caught.value)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*ca\.pem: No such file"):
        Client("edge-7:50051", tls=tmp_path / "ca.pem")


def test_a_client_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tls with 2 files: expected"):
        Client("edge-7:50051", tls=[tmp_path / "ca.pem", tmp_path / "own.pem"])
