"""What callers may do, in three steps that include each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

CONTROL = "edged.control.v1.Control"
# Of the control service; what is not named here changes something, and takes an admin.
LOOKS = frozenset({"Status", "History", "Quarantine", "SelfTest"})


class Role(IntEnum):
    """A role includes the ones before it."""

    PREDICT = 1
    STATUS = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> Role:
        """Returns the role of that name, in lower case.

        Raises:
            ValueError: there is none.
        """
        for role in cls:
            if role.label == name:
                return role
        raise ValueError(f"expected one of {', '.join(each.label for each in cls)}, got {name!r}")

    @property
    def label(self) -> str:
        """Its name as it is written everywhere."""
        return self.name.lower()


NAMES = tuple(role.label for role in Role)


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        name: of the token, the certificate's subject, or the user; for people and records.
        role: what it may do.
        peer: where it calls from.
    """

    name: str
    role: Role
    peer: str = ""


def needed(method: str) -> Role:
    """Returns what a method takes, by its full name as in ``/package.Service/Method``.

    A method that looks or changes by its request checks for itself what a change takes.
    """
    service, _, name = method.lstrip("/").partition("/")
    if service != CONTROL:
        return Role.PREDICT
    return Role.STATUS if name in LOOKS else Role.ADMIN
