"""GET over urllib3: time-outs, redirects, certificates, and whose fault an error is.

Invariants:
- Credentials go to the host they were given for and nowhere else: a redirect to another host, port
  or scheme is followed without them.
- Plain HTTP is spoken where the configuration allows it or on loopback. A redirect never leads from
  HTTPS to HTTP.
- A body is asked for as it is (``identity``); a server that compresses all the same is undone here,
  with a bound on what comes out.
- What may pass (a broken link, a busy server) is a ``PassingError``, everything else of the network
  a ``FetchError``; nothing of urllib3 gets out.
"""

from __future__ import annotations

import email.utils
import json
import os
import socket
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from edged.errors import ConfigError, FetchError, ModelError
from edged.oci.inflate import Inflater
from edged.oci.registries import Registries
from edged.oci.retry import PassingError

REDIRECT_LIMIT = 5
REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (408, 425, 429, 500, 502, 503, 504)
ERROR_LIMIT = 8 * 1024  # bytes of an error's body that are looked at
DOCUMENT_SECONDS = 60.0  # for one document, however steadily it drips
AFTER_LIMIT = 3600.0  # seconds
PIECE = 1 << 18  # bytes asked of the socket at once
# A device without a battery for its clock says it once, in the error, not with every request.
urllib3.disable_warnings(urllib3.exceptions.SystemTimeWarning)
# No certificate is older than this program, so a clock before it is wrong.
_CLOCK_MINIMUM = 1_700_000_000


class Answer:
    """A response whose body has not been read yet.

    Args:
        response: urllib3's.
        url: where it came from, without credentials.
        redirected: whether another host answered than the one asked.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, redirected: bool) -> None:
        self._response = response
        self.url = url
        self.redirected = redirected
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def encoding(self) -> str:
        """How the body is compressed, empty if it is not."""
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        return "" if encoding == "identity" else encoding

    def number(self, header: str) -> int | None:
        """A header that is a number of bytes; None if it is missing or none."""
        text = self.headers.get(header, "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def read(self, size: int, /) -> bytes:
        """What has come of the body, at most ``size`` bytes, nothing at its end.

        Raises:
            PassingError: the link broke.
        """
        with _Errors(self.url):
            # read1: with read, what came before a cut would be lost in a buffer.
            return self._response.read1(min(size, PIECE), decode_content=False)

    def body(self, limit: int) -> Inflater | Answer:
        """The body undone of its compression.

        Args:
            limit: most bytes of it, decompressed.

        Raises:
            FetchError: it is compressed in a way we did not ask for and cannot undo.
        """
        if not self.encoding:
            return self
        if self.encoding not in ("gzip", "x-gzip"):
            raise FetchError(
                f"cannot read {self.url}: it comes compressed as {self.encoding[:40]!r}, "
                "expected identity"
            )
        return Inflater(self, limit, self.url)

    def document(self, limit: int, what: str) -> bytes:
        """The whole body; the connection can be used again.

        Raises:
            FetchError: more than ``limit`` bytes, damaged, or too slow.
        """
        until = time.monotonic() + DOCUMENT_SECONDS
        source, parts, seen = self.body(limit + 1), [], 0
        try:
            while data := source.read(PIECE):
                parts.append(data)
                seen += len(data)
                if seen > limit:
                    raise FetchError(f"cannot read {what}: expected at most {limit} bytes")
                if time.monotonic() > until:
                    raise PassingError(f"cannot read {what}: not done in {DOCUMENT_SECONDS:.0f} s")
        except ModelError as exc:
            raise FetchError(f"cannot read {what}: {exc}") from exc
        finally:
            self.close(reuse=seen <= limit)
        return b"".join(parts)

    def abort(self) -> None:
        """Ends a read that another thread is in."""
        # AttributeError: it was closed meanwhile.
        with suppress(OSError, ValueError, AttributeError), _same_socket(self._response) as end:
            end.shutdown(socket.SHUT_RDWR)

    def close(self, *, reuse: bool = False) -> None:
        """No more is read; with ``reuse``, and all read, the connection stays open."""
        if reuse:
            self._response.release_conn()
        else:
            self._response.close()

    def refusal(self, what: str) -> FetchError:
        """The error that this answer is, with what the registry says about it."""
        said = ""
        with suppress(FetchError):
            said = _said(self.document(ERROR_LIMIT, "the registry's error"))
        self.close()
        text = f"cannot fetch {what}: {_place(self.url)} answers {self.status}{said}"
        if self.status in BUSY:
            return PassingError(text, self._after())
        return FetchError(text)

    def _after(self) -> float:
        """Seconds that ``Retry-After`` asks for (RFC 9110, section 10.2.3)."""
        text = self.headers.get("Retry-After", "").strip()
        seconds = 0.0
        if text.isascii() and text.isdigit() and len(text) < 10:
            seconds = float(text)
        elif text:
            with suppress(ValueError, TypeError, OverflowError):
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        return min(max(seconds, 0.0), AFTER_LIMIT)


class Http:
    """Sends GET requests; not for several threads, except ``Answer.abort``.

    Args:
        registries: time-outs, certificates, who may be spoken to in plain.
        ca_file: certificates of the registry, also for hosts it sends us to.
    """

    def __init__(self, registries: Registries, ca_file: Path | None) -> None:
        self._registries = registries
        self._ca_file = ca_file
        self._managers: dict[tuple[str, Path | None], urllib3.PoolManager] = {}

    def get(self, url: str, headers: Mapping[str, str], authorization: str = "") -> Answer:
        """The answer to a request, redirects followed.

        Args:
            url: ``http`` or ``https``.
            headers: to send everywhere.
            authorization: to send to the first host only.

        Raises:
            PassingError, FetchError: see the module.
        """
        first = urllib.parse.urlsplit(url)
        for _ in range(REDIRECT_LIMIT + 1):
            parts = urllib.parse.urlsplit(url)
            home = (parts.scheme, parts.netloc) == (first.scheme, first.netloc)
            own = {"Authorization": authorization} if home and authorization else {}
            answer = self._send(url, parts, {**headers, **own}, not home)
            if answer.status not in REDIRECTS:
                return answer
            answer.close()
            url = self._target(url, parts, answer.headers.get("Location", ""))
        raise FetchError(f"cannot fetch {url}: more than {REDIRECT_LIMIT} redirects")

    def _target(self, url: str, parts: urllib.parse.SplitResult, location: str) -> str:
        try:
            target = urllib.parse.urljoin(url, location)
            there = urllib.parse.urlsplit(target)
            _ = there.port  # raises if it is none
            fine = bool(location and there.hostname and there.username is None)
        except ValueError:
            fine = False
        if not fine or there.scheme not in ("http", "https"):
            raise FetchError(f"cannot fetch {_place(url)}: it redirects to {location[:200]!r}")
        allowed = parts.scheme == "http" and self._registries.plain(there.netloc.lower())
        if there.scheme == "http" and not allowed:
            raise FetchError(
                f"cannot fetch {_place(url)}: it redirects to {_place(target)}, which is plain HTTP"
            )
        return target

    def _send(
        self, url: str, parts: urllib.parse.SplitResult, headers: Mapping[str, str], away: bool
    ) -> Answer:
        shown = urllib.parse.urlunsplit(parts._replace(query="", fragment=""))  # may hold secrets
        headers = {"Accept-Encoding": "identity", "User-Agent": "edged", **headers}
        with _Errors(shown):
            response = self._manager(parts).request(
                "GET", url, headers=headers, redirect=False, preload_content=False
            )
            return Answer(response, shown, away)

    def _manager(self, parts: urllib.parse.SplitResult) -> urllib3.PoolManager:
        ca_file = self._registries.of(parts.netloc.lower()).ca_file or self._ca_file
        key = (parts.scheme, ca_file)
        if key not in self._managers:
            timeout = urllib3.Timeout(
                connect=self._registries.connect_timeout, read=self._registries.read_timeout
            )
            context = _context(ca_file) if parts.scheme == "https" else None
            self._managers[key] = urllib3.PoolManager(
                num_pools=4, retries=False, timeout=timeout, ssl_context=context
            )
        return self._managers[key]


class _Errors:
    """Turns what urllib3 raises within a block into errors of ours."""

    def __init__(self, url: str) -> None:
        self._place = _place(url)

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if isinstance(exc, SSLError):
            raise _tls(self._place, exc) from exc
        if isinstance(exc, LocationValueError | UnicodeError):  # an address that cannot be one
            raise FetchError(f"cannot fetch from {self._place}: {exc}") from exc
        if isinstance(exc, HTTPError | OSError):
            raise PassingError(f"cannot fetch from {self._place}: {_cause(exc)}") from exc


def _tls(place: str, error: SSLError) -> FetchError:
    cause = error.args[0] if error.args else error
    text = f"cannot fetch from {place}: {cause}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        if time.time() < _CLOCK_MINIMUM:
            text += "; this machine's clock is wrong, so no certificate can be checked"
        else:
            text += "; if the registry has a private authority, name its ca_file"
        return FetchError(text)
    if isinstance(cause, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(cause.reason):
        return FetchError(f"{text}; does it speak plain HTTP? Then set plain_http for this host")
    return PassingError(text)


def _cause(exc: BaseException) -> str:
    text = str(exc.args[-1] if exc.args else exc)
    return text.rpartition(">: ")[2] or type(exc).__name__


def _context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(f"cannot read certificates {ca_file}: {exc}") from exc
    return context


def _same_socket(response: urllib3.BaseHTTPResponse) -> socket.socket:
    return socket.socket(fileno=os.dup(response.fileno()))


def _place(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _said(body: bytes) -> str:
    """What a registry's error document says (distribution-spec, "Error Codes")."""
    try:
        errors: Any = json.loads(body)["errors"]
        texts = [f"{each.get('code', '')} {each.get('message', '')}".strip() for each in errors]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    text = "; ".join(texts)[:300]
    return f" ({''.join(c if c.isprintable() else '?' for c in text)})" if text else ""
