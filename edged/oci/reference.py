"""Names of images, as the command line takes them.

``oci:DIR[:TAG]`` is an image layout folder, ``oci-archive:FILE[:TAG]`` the same in one tar file, as
in containers-transports(5): the first colon after the path starts the tag. A bare path is taken as
``oci-archive:`` when it ends in ``.tar`` and as ``oci:`` otherwise. Pure: nothing is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edged.errors import ConfigError

LAYOUT, ARCHIVE = "oci", "oci-archive"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]*")
_TAG_LIMIT = 255
_SCHEME = re.compile(r"[a-z][a-z0-9+-]*:")


@dataclass(frozen=True)
class Reference:
    """Where an image is: the kind of place, its path and the tag within it."""

    transport: str
    path: Path
    tag: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            ConfigError: unknown or unsupported transport, empty path, bad tag.
        """
        if text.startswith("docker://"):
            raise ConfigError(
                f"cannot use {text!r}: docker:// is not supported yet; use oci: or oci-archive:"
            )
        transport, colon, rest = text.partition(":")
        if colon and transport in (LAYOUT, ARCHIVE):
            path, tagged, tag = rest.partition(":")
            return cls(transport, _path(path, text), _tag(tag, text) if tagged else None)
        if _SCHEME.match(text):
            raise ConfigError(
                f"cannot use {text!r}: unknown kind of reference {transport!r}; expected "
                "oci:DIR[:TAG] or oci-archive:FILE"
            )
        return cls(ARCHIVE if text.endswith(".tar") else LAYOUT, _path(text, text))

    def __str__(self) -> str:
        return f"{self.transport}:{self.path}" + (f":{self.tag}" if self.tag else "")


def _path(path: str, text: str) -> Path:
    if not path or "\0" in path:
        raise ConfigError(f"cannot use {text!r}: the path is empty or has a NUL")
    return Path(path)


def _tag(tag: str, text: str) -> str:
    if len(tag) > _TAG_LIMIT or not _TAG.fullmatch(tag):
        raise ConfigError(
            f"cannot use {text!r}: {tag[:80]!r} is no tag (letters, digits and . _ - / : @ +)"
        )
    return tag
