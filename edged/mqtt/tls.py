"""TLS for links: whom we believe, what we show, and a handshake that ends.

Invariants:
- The broker's certificate and its name are always verified, against the system's authorities and
  ``ca_file``, from TLS 1.2 on. No setting turns it off. Their dates are passed over only for a
  device whose clock is known to be wrong.
- A handshake is through within ``HANDSHAKE_LIMIT`` seconds in all, however steadily bytes drip.
- A context belongs to everybody who was given it: nobody changes it.
- What a socket raised last is kept: paho only tells that the connection is gone, and with TLS 1.3 a
  broker refuses our certificate after the handshake.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from edged.errors import ConfigError

HANDSHAKE_LIMIT = 10.0  # seconds
KEPT = 4  # contexts: a device has one or two
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL
_Key = tuple[Path | None, Path | None, Path | None, bool]
_State = tuple[tuple[int, int, int] | None, ...]
_lock = threading.Lock()
_kept: dict[_Key, tuple[_State, ssl.SSLContext]] = {}


class Socket(ssl.SSLSocket):
    """A connection with TLS.

    Attributes:
        fault: what the other side or the network did to it, None while it is well.
    """

    fault: OSError | None = None

    def do_handshake(self, block: bool = False) -> None:  # noqa: ARG002 - as the library has it
        """Shakes hands within ``HANDSHAKE_LIMIT``; a socket that fails is closed.

        Raises:
            TimeoutError: it took longer.
            OSError: what went wrong; ``ssl.SSLError`` is one.
        """
        deadline = time.monotonic() + HANDSHAKE_LIMIT
        try:
            self.setblocking(False)
            while (wanted := self._step()) is not None:
                self._wait(wanted, deadline)
        except BaseException:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As the library's, with ``fault`` kept."""
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as exc:
            if not isinstance(exc, ssl.SSLEOFError) or self.fault is None:
                self.fault = exc
            raise

    def send(self, data: Any, flags: int = 0) -> int:
        """As the library's, with ``fault`` kept."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError as exc:
            self.fault = exc
            # Why it was closed before we could write is there to be read.
            with contextlib.suppress(OSError):
                self.recv(1)
            raise

    def _step(self) -> int | None:
        """Goes on with the handshake; returns what to poll for, None once it is through."""
        try:
            super().do_handshake()
        except ssl.SSLWantReadError:
            return select.POLLIN
        except ssl.SSLWantWriteError:
            return select.POLLOUT
        return None

    def _wait(self, wanted: int, deadline: float) -> None:
        poller = select.poll()  # select() knows no descriptor above 1023
        poller.register(self, wanted)
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1e3):
            raise TimeoutError(f"no TLS handshake within {HANDSHAKE_LIMIT:g} s")


def context(
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
    *,
    check_dates: bool = True,
) -> ssl.SSLContext:
    """What a connection is made with. It reads files: not to be called in the event loop.

    The same one again while the files are the same: all of the system's authorities are a mebibyte
    and much of a small device's time, and a link may be tried for weeks.

    Args:
        ca_file: certificates (PEM) that may vouch for the broker, besides the system's.
        cert_file: our own certificate and those above it (PEM), None for none.
        key_file: the private key of that; None if it is in ``cert_file``.
        check_dates: whether certificates must not have expired; only for whoever has no clock.

    Raises:
        ConfigError: a file cannot be read or is no such thing.
    """
    key = (ca_file, cert_file, key_file, check_dates)
    files = (*ssl.get_default_verify_paths()[:2], ca_file, cert_file, key_file)
    # Looked at before they are read: what changes meanwhile is read again the next time.
    state = tuple(_state(path) for path in files)
    with _lock:
        if (found := _kept.get(key)) is not None and found[0] == state:
            return found[1]
    made = _make(ca_file, cert_file, key_file, check_dates=check_dates)
    with _lock:
        _kept.pop(key, None)
        _kept[key] = (state, made)
        while len(_kept) > KEPT:
            del _kept[next(iter(_kept))]
    return made


def _state(path: str | Path | None) -> tuple[int, int, int] | None:
    """What is another one if a file was changed or exchanged; None if there is no such file."""
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _make(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None, *, check_dates: bool
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.sslsocket_class = Socket
    if not check_dates:
        made.verify_flags |= _NO_CHECK_TIME
    made.load_default_certs()
    if ca_file is not None:
        try:
            made.load_verify_locations(ca_file)
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"cannot use ca_file {ca_file}: {_said(exc)}; expected certificates in PEM"
            ) from exc
    if cert_file is not None:
        try:
            # A key with a passphrase would be asked for on the terminal.
            made.load_cert_chain(cert_file, key_file, password=_no_passphrase)
        except (OSError, ValueError) as exc:
            raise ConfigError(
                f"cannot use cert_file {cert_file} with key_file {key_file or cert_file}: "
                f"{_said(exc)}; expected a certificate and its own key, without passphrase, in PEM"
            ) from exc
    return made


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _said(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).lower().replace("_", " ")
    return getattr(exc, "strerror", None) or str(exc)
