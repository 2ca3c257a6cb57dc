"""Who the present call is from, as the gate or the control socket found out."""

from __future__ import annotations

import contextvars
from typing import NoReturn

from edged.access.roles import Caller, Role
from edged.errors import RequestError

CURRENT: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("caller", default=None)


def require(role: Role) -> None:
    """Checks what a method takes beside what its name says.

    Raises:
        RequestError: PERMISSION_DENIED.
    """
    caller = CURRENT.get()
    if caller is not None and caller.role < role:
        refuse(caller, role)


def refuse(caller: Caller, needed: Role) -> NoReturn:
    """Raises what a caller without the role is told."""
    raise RequestError(
        "PERMISSION_DENIED",
        f"{caller.name} has the role {caller.role.label}; this takes {needed.label}",
    )
