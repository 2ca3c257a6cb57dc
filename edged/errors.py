"""The errors edged raises, in one tree, split by whose fault they are.

Invariants:
- The text reads ``cannot <verb> <object>: <cause>`` or names what was expected, what came and what
  to do about it; it never needs a traceback to be understood.
- No transport knowledge: gRPC status objects are made from these in ``edged.rpc``, exit codes in
  ``edged.__main__``.
"""

from __future__ import annotations


class EdgedError(Exception):
    """Base of all errors that edged raises on purpose."""


class RequestError(EdgedError):
    """A caller asked for something that cannot be answered.

    Args:
        code: the name of the gRPC status the caller is to see, such as ``"INVALID_ARGUMENT"``.
        message: what was expected, what came and what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ModelError(EdgedError):
    """A graph, a program, a manifest or an image's content is at fault."""


class DeviceError(EdgedError):
    """The NPU, or the process that drives it, is at fault or taken."""


class CrashError(DeviceError):
    """A model's process ended by itself; it is the model, or what runs it, that is at fault."""


class FetchError(EdgedError):
    """An image could not be obtained: the other side or the way to it is at fault."""


class LinkError(EdgedError):
    """The way to a controller does not stand: the network, its broker or our credentials.

    Args:
        reason: ``cannot <verb> <object>: <cause>``.
        fix: what to do about it, for people.
        after: seconds that the other side asks us to wait.
        kind: ``login`` if it does not accept our credentials, ``clock`` if we hold them back
            because of our clock, ``host`` if there is none of that name; empty for anything else.
    """

    def __init__(self, reason: str, fix: str = "", *, after: float = 0.0, kind: str = "") -> None:
        super().__init__(f"{reason}; {fix}" if fix else reason)
        self.reason = reason
        self.fix = fix
        self.after = after
        self.kind = kind


class VerifyError(EdgedError):
    """What was obtained is not what was announced: digest, size or signature."""


class StoreError(EdgedError):
    """The device's own disk is at fault: full, damaged or read-only."""


class ConfigError(EdgedError):
    """The configuration or the command line is at fault."""
