"""A device on the network: TLS, tokens, certificates, and callers who have them or do not."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from edged.access import tokens
from edged.access.roles import Role
from edged.client import OPTIONS
from edged.errors import RequestError
from edged.messages.calls import request_error
from tests.e2e.device import CALL_LIMIT, Device, raw
from tests.fakes.authority import Authority, Issued


class Secured:
    """A device whose TCP port others can reach.

    Args:
        device: its daemon is not started yet.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.authority = Authority(device.folder / "ca")
        self.stranger = Authority(device.folder / "stranger")
        device.state.mkdir(parents=True)

    def flags(self, **settings: str) -> list[str]:
        """The daemon's flags: TLS on every address, and more settings, ``__`` for the dot."""
        given = {
            "listen": "0.0.0.0:0",
            "tls.cert_file": str(self.authority.certificate),
            "tls.key_file": str(self.authority.key),
        } | {name.replace("__", "."): value for name, value in settings.items()}
        return [part for name, value in given.items() for part in (f"--{name}", value)]

    def token(self, name: str, role: Role, expires_unix: int | None = None) -> str:
        """Makes a token."""
        token = tokens.make()
        with tokens.editing(self.device.state) as pairs:
            pair = tokens.Pair(name, role)
            pairs[name] = tokens.put(pair, "primary", token, time.time(), expires_unix)
        return token

    def revoke(self, name: str) -> None:
        """Takes a name's tokens away."""
        with tokens.editing(self.device.state) as pairs:
            del pairs[name]

    @property
    def target(self) -> str:
        """Where the daemon's certificate is good for."""
        return f"localhost:{self.device.address.rpartition(':')[2]}"

    @contextlib.contextmanager
    def channel(
        self, own: Issued | None = None, ca: Path | None = None, target: str = ""
    ) -> Iterator[grpc.Channel]:
        """A channel over TLS.

        Args:
            own: the caller's certificate.
            ca: whom the caller trusts.
            target: if not ``target``.
        """
        credentials = grpc.ssl_channel_credentials(
            (ca or self.authority.ca).read_bytes(),
            own.key.read_bytes() if own else None,
            own.certificate.read_bytes() if own else None,
        )
        # Else channels of one process share a connection.
        options = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        channel = grpc.secure_channel(target or self.target, credentials, options)
        try:
            yield channel
        finally:
            channel.close()

    def ask(
        self,
        token: str | None = None,
        own: Issued | None = None,
        *,
        ca: Path | None = None,
        target: str = "",
    ) -> str:
        """Sends one request over a new connection; returns the answer, or the error's code."""
        with self.channel(own, ca, target) as channel:
            return ask(channel, token)

    def why(self, token: str | None = None, own: Issued | None = None) -> str:
        """Sends a request that is refused; returns why."""
        with self.channel(own) as channel:
            try:
                raw(channel)(b"x", timeout=CALL_LIMIT, metadata=bearer(token))
            except grpc.RpcError as exc:
                return str(request_error(exc, "device", "cannot connect"))
        raise AssertionError("expected an error")


def ask(channel: grpc.Channel, token: str | None = None, body: bytes = b"x") -> str:
    """Sends one request; returns the answer, or the error's code."""
    try:
        return raw(channel)(body, timeout=CALL_LIMIT, metadata=bearer(token)).decode()
    except grpc.RpcError as exc:
        error: RequestError = request_error(exc, "device", "cannot connect")
        return error.code


def bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata with a token."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


class Elsewhere:
    """A network namespace with a link to ours: another machine, as far as sockets know.

    Args:
        number: of the networks, below 250.
    """

    def __init__(self, number: int) -> None:
        self.name = f"edged{os.getpid()}"
        self.host = f"10.213.{number}.1"
        self._there = f"10.213.{number}.2"
        self._link = f"ed{os.getpid()}"

    def __enter__(self) -> Elsewhere:
        there = f"{self._link}b"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._link, "type", "veth", "peer", "name", there)
            _ip("link", "set", there, "netns", self.name)
            _ip("addr", "add", f"{self.host}/24", "dev", self._link)
            _ip("link", "set", self._link, "up")
            _ip("-n", self.name, "addr", "add", f"{self._there}/24", "dev", there)
            _ip("-n", self.name, "link", "set", there, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "link", "del", self._link], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Returns a command that runs there."""
        return ["ip", "netns", "exec", self.name, *arguments]

    @staticmethod
    def possible() -> bool:
        """Whether this process may make one."""
        tried = shutil.which("ip") and os.geteuid() == 0
        return (
            bool(tried)
            and not subprocess.run(
                ["unshare", "-n", "true"], check=False, capture_output=True
            ).returncode
        )


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=CALL_LIMIT)
