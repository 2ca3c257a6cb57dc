"""What a registry demands when it answers 401: ``WWW-Authenticate`` (RFC 9110, section 11.6.1).

Pure. The header is untrusted: other schemes and unknown parameters are passed over, and the work is
linear in its length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

HEADER_LIMIT = 8192  # characters looked at

# One step: "scheme ", "key=token", 'key="quoted"', or what lies between.
_STEP = re.compile(
    r"""[\s,]*(?:
        (?P<key>[!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*
            (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]*))
      | (?P<scheme>[!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[\s,]|$)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Challenge:
    """One way in: its scheme in lower case (``bearer``, ``basic``) and its parameters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse(header: str) -> list[Challenge]:
    """The challenges of a header, in order; what cannot be read ends the list."""
    header = header[:HEADER_LIMIT]
    found: list[tuple[str, dict[str, str]]] = []
    position = 0
    while match := _STEP.match(header, position):
        position = match.end()
        if match["scheme"]:
            found.append((match["scheme"].lower(), {}))
        elif not found:
            break
        else:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1].setdefault(match["key"].lower(), value)
    return [Challenge(scheme, parameters) for scheme, parameters in found]
