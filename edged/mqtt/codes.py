"""Errors as controllers see them: a number as of HTTP, what is wrong, and what to do about it."""

from __future__ import annotations

from edged.deploy.types import Fault
from edged.errors import EdgedError, RequestError

OK, ACCEPTED = 200, 202
BAD, NOT_FOUND, UNKNOWN, CONFLICT, UNSUITABLE, EMPTY, LOCKED = 400, 404, 406, 409, 412, 417, 423
FAILED, UNAVAILABLE = 500, 503

_BY_STATUS = {
    "INVALID_ARGUMENT": BAD,
    "NOT_FOUND": NOT_FOUND,
    "FAILED_PRECONDITION": UNSUITABLE,
    "ABORTED": CONFLICT,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": UNAVAILABLE,
    "DEADLINE_EXCEEDED": 504,
}
_BY_FAULT = {
    Fault.NONE: FAILED,
    Fault.MODEL: UNSUITABLE,
    Fault.PASSING: UNAVAILABLE,
    Fault.HELD: LOCKED,
    Fault.OVERTAKEN: CONFLICT,
    Fault.STOPPING: UNAVAILABLE,
}
_FIXES = {
    Fault.MODEL: "push another image; 'edged history' and 'edged logs' at the device show more",
    Fault.PASSING: "it is tried again by itself; if it lasts, look at the link, the registry and "
    "the disk",
    Fault.HELD: "it is done when the device is released ('edged release'), or push with force",
    Fault.OVERTAKEN: "something newer was asked for",
    Fault.STOPPING: "it goes on when edged runs again",
}


def of_error(error: EdgedError) -> int:
    """Returns the number of an error."""
    if isinstance(error, RequestError):
        return _BY_STATUS.get(error.code, FAILED)
    return FAILED


def of_fault(fault: Fault) -> int:
    """Returns the number of a deployment that failed."""
    return _BY_FAULT[fault]


def fix(fault: Fault, error: str = "") -> str:
    """Returns what to do about a deployment that failed.

    Args:
        fault: whose it is.
        error: the text; where it says itself what to do, that is taken.
    """
    _, semicolon, said = error.rpartition("; ")
    if semicolon and fault in (Fault.MODEL, Fault.HELD):
        return said
    return _FIXES.get(fault, "look at the device's log")


def split(text: str) -> tuple[str, str]:
    """Returns an error's text in two parts: what is wrong, and what to do, which may be empty."""
    what, semicolon, fix_text = text.rpartition("; ")
    return (what, fix_text) if semicolon else (text, "")
