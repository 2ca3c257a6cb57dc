"""A registry that misbehaves as told: it serves one layout, and a test bends one answer."""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edged.oci import LayoutFolder, open_image, spec

_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass
class Reply:
    """What would be answered; a test may change it.

    Attributes:
        cut: bytes of the body after which the connection is cut; None for none.
        chunked: whether the length is not announced.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    chunked: bool = False


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    path: str
    headers: dict[str, str]


class Web:
    """Listens on loopback until ``close``.

    Args:
        layout: what is served, as the repository ``name``.
        name: of the repository.
        authority: with it HTTPS is spoken.

    Attributes:
        bend: changes an answer before it is sent; or returns None to hang up without one.
        asked: all requests.
        sent: bytes of blobs sent.
    """

    def __init__(self, layout: Path, name: str = "x/y", context: ssl.SSLContext | None = None):
        self._layout = LayoutFolder(layout)
        self._image = open_image(f"oci:{layout}")
        self._name = name
        self.bend: Callable[[Asked, Reply], Reply | None] = lambda _, reply: reply
        self.asked: list[Asked] = []
        self.sent = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._serve(self)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.reference = f"docker://{self.host}/{name}:v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def blobs_asked(self) -> list[Asked]:
        return [each for each in self.asked if "/blobs/" in each.path]

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        asked = Asked(request.path, {k.title(): v for k, v in request.headers.items()})
        self.asked.append(asked)
        reply = self.bend(asked, self._plain(asked))
        if reply is None:
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        request.send_response(reply.status)
        if reply.chunked:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            reply.headers.setdefault("Content-Length", str(len(reply.body)))
        for key, value in reply.headers.items():
            request.send_header(key, value)
        request.end_headers()
        body = reply.body if reply.cut is None else reply.body[: reply.cut]
        if "/blobs/" in asked.path:
            self.sent += len(body)
        if reply.chunked:
            parts = [body[i : i + 10_000] for i in range(0, len(body), 10_000)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            body += b"0\r\n\r\n" if reply.cut is None else b""
        request.wfile.write(body)
        if reply.cut is not None or len(reply.body) != int(
            reply.headers.get("Content-Length", len(reply.body))
        ):
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)

    def _plain(self, asked: Asked) -> Reply:
        """What a good registry answers."""
        place, _, name = asked.path.partition("?")[0].rpartition("/")
        if place == f"/v2/{self._name}/manifests" and name in ("v1", str(self._image.digest)):
            body = self._layout.blob_path(self._image.digest).read_bytes()
            said = {"Docker-Content-Digest": str(self._image.digest)}
            return Reply(200, body, {"Content-Type": spec.MANIFEST, **said})
        if place != f"/v2/{self._name}/blobs":
            return Reply(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "none"}]}')
        return self._blob(asked, name)

    def _blob(self, asked: Asked, name: str) -> Reply:
        path = self._layout.path / "blobs" / "sha256" / name.removeprefix("sha256:")
        if not path.exists():
            return Reply(404, b'{"errors": [{"code": "BLOB_UNKNOWN"}]}')
        body = path.read_bytes()
        wanted = _RANGE.fullmatch(asked.headers.get("Range", ""))
        headers = {"ETag": f'"{name}"'}
        if wanted is None or asked.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            return Reply(200, body, headers)
        start = int(wanted[1])
        if start >= len(body):
            return Reply(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return Reply(206, body[start:], headers)
