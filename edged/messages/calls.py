"""What a failed call says to the one who called: grpc's error as a ``RequestError``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edged.errors import RequestError

if TYPE_CHECKING:
    import grpc

# What grpc says itself, also within other words; a server says more.
_OURS = ("Deadline Exceeded", "no reason given")
_TLS = ("handshake", "ssl_error", "peer name", "certificate")
DETAILS_LIMIT = 200  # characters of what grpc says within a sentence of ours


def request_error(error: grpc.RpcError, target: str, unreachable: str) -> RequestError:
    """Returns the error to raise in place of grpc's own.

    Args:
        error: raised by a call; it is a ``grpc.Call`` too, which its type does not say.
        target: what was called.
        unreachable: what to tell the caller if there is nobody at ``target``.
    """
    code = str(getattr(error, "code", lambda: None)() or "").rpartition(".")[2] or "UNKNOWN"
    details = str(getattr(error, "details", lambda: None)() or "no reason given")
    if code == "DEADLINE_EXCEEDED" and any(text in details for text in _OURS):
        details = f"no answer from {target} in time"
    elif code == "UNAVAILABLE" and any(word in details.lower() for word in _TLS):
        details = (
            f"cannot speak TLS with {target}: {_last(details)}; expected a certificate for that "
            "name by an authority that is trusted here, and one's own if the server asks for it"
        )
    elif code == "UNAVAILABLE" and "connect" in details.lower():
        details = unreachable
    return RequestError(code, details)


def _last(details: str) -> str:
    """Returns the innermost cause of what grpc lists, outermost first."""
    return details.rpartition("last error: ")[2][-DETAILS_LIMIT:]
