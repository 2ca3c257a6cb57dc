"""A real registry, docker-registry, plain or with TLS, passwords or tokens."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.fakes.authority import Authority

USER, PASSWORD = "edged", "secret"
# bcrypt of PASSWORD, the only kind that docker-registry takes; of the lowest cost.
HTPASSWD = f"{USER}:$2b$04$kFCYaUhtGcHC7nD/ac5b6OCLo1ia//vuIb0Fmux2P8c6fRPm3/WfS\n"


def program(name: str) -> str:
    """The path of a program that Debian has; a test without it is skipped."""
    places = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is None:
        pytest.skip(f"{name} is not installed: packaging/prepare.sh installs it as root")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Registry:
    """A running docker-registry.

    Attributes:
        host: ``HOST:PORT``.
        folder: its files.
    """

    host: str
    folder: Path

    def push(self, source: str, name: str, *options: str) -> str:
        """Copies an image there with skopeo; returns its reference."""
        target = f"docker://{self.host}/{name}"
        skopeo("copy", *options, source, target)
        return target


def skopeo(verb: str, *arguments: str) -> str:
    """Runs skopeo and returns what it prints."""
    command = [program("skopeo"), "--insecure-policy", verb, *arguments]
    if verb == "copy":
        command += ["--preserve-digests", "--dest-tls-verify=false", "--src-tls-verify=false"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def run(folder: Path, **settings: str) -> Iterator[Registry]:
    """Runs a registry whose files are in ``folder``.

    Args:
        folder: made.
        settings: of its configuration, as environment variables without ``REGISTRY_``.
    """
    command = program("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        "http: {addr: 127.0.0.1:0}\n"
    )
    port = free_port()
    variables = {f"REGISTRY_{key}": value for key, value in settings.items()}
    environment = {**os.environ, **variables, "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [command, "serve", str(config)], env=environment, stdout=log, stderr=log
        )
    try:
        _await(port, process, folder / "log")
        yield Registry(f"127.0.0.1:{port}", folder)
    finally:
        process.kill()
        process.wait(10)


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"docker-registry does not listen: {log.read_text()}")


def tls(authority: Authority) -> dict[str, str]:
    """Settings that make a registry speak HTTPS."""
    return {
        "HTTP_TLS_CERTIFICATE": str(authority.certificate),
        "HTTP_TLS_KEY": str(authority.key),
    }


def passwords(folder: Path) -> dict[str, str]:
    """Settings that make a registry ask for ``USER`` and ``PASSWORD``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "htpasswd"
    path.write_text(HTPASSWD)
    return {"AUTH": "htpasswd", "AUTH_HTPASSWD_REALM": "test", "AUTH_HTPASSWD_PATH": str(path)}


class TokenServer:
    """Gives out tokens that a registry with ``settings`` accepts.

    Attributes:
        asked: the query and the ``Authorization`` of every request.
        lifetime: seconds that tokens live.
        open: whether it gives tokens to anybody.
    """

    def __init__(self, authority: Authority) -> None:
        self.asked: list[tuple[dict[str, str], str]] = []
        self.lifetime = 300
        self.open = False
        self._authority = authority
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def settings(self) -> dict[str, str]:
        return {
            "AUTH": "token",
            "AUTH_TOKEN_REALM": f"http://{self.host}/token",
            "AUTH_TOKEN_SERVICE": "edged-test",
            "AUTH_TOKEN_ISSUER": "edged-test-issuer",
            "AUTH_TOKEN_ROOTCERTBUNDLE": str(self._authority.ca),
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(request.path).query))
        authorization = request.headers.get("Authorization", "")
        self.asked.append((query, authorization))
        right = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if not self.open and authorization != right:
            request.send_error(401)
            return
        body = json.dumps({"token": self._token(query), "expires_in": self.lifetime}).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _token(self, query: dict[str, str]) -> str:
        kind, name, actions = query.get("scope", "repository:none:pull").split(":")
        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": self._authority.chain()}
        claims = {
            "iss": "edged-test-issuer",
            "sub": USER,
            "aud": query.get("service", ""),
            "exp": now + self.lifetime,
            "nbf": now - 10,
            "iat": now,
            "jti": str(len(self.asked)),
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        der = self._authority.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        pair = decode_dss_signature(der)
        return f"{signed}.{_base64(b''.join(n.to_bytes(32, 'big') for n in pair))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
