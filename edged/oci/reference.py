"""Names of images, as the command line takes them.

``oci:DIR[:TAG]`` is an image layout folder, ``oci-archive:FILE[:TAG]`` the same in one tar file, as
in containers-transports(5): the first colon after the path starts the tag. A bare path is taken as
``oci-archive:`` when it ends in ``.tar`` and as ``oci:`` otherwise.

``docker://HOST[:PORT]/NAME:TAG`` and ``docker://HOST[:PORT]/NAME@DIGEST`` are images in a registry.
The first component is always the host, and there is no default tag: a device is told what it gets.
Names and tags are limited as distribution-spec 1.1 limits them. Pure: nothing is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from edged.errors import ConfigError, VerifyError
from edged.oci.digest import Digest

LAYOUT, ARCHIVE, REGISTRY = "oci", "oci-archive", "docker"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]*")
_TAG_LIMIT = 255
_SCHEME = re.compile(r"[a-z][a-z0-9+-]*:")
_HOST = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::([0-9]+))?")
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_REMOTE_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_NAME_LIMIT = 255
_HOST_LIMIT = 253


@dataclass(frozen=True)
class Reference:
    """Where an image is.

    Attributes:
        transport: the kind of place: ``oci``, ``oci-archive`` or ``docker``.
        path: of the layout; empty for a registry.
        tag: within it.
        host: of the registry, with the port if one is given.
        name: of the repository in the registry.
        digest: of the image's manifest; a tag beside it is for people.
    """

    transport: str
    path: Path = Path()
    tag: str | None = None
    host: str = ""
    name: str = ""
    digest: Digest | None = None

    @property
    def remote(self) -> bool:
        """Whether it takes the network to get there."""
        return self.transport == REGISTRY

    def check_writable(self) -> None:
        """Returns if images can be written there.

        Raises:
            ConfigError: it is a registry.
        """
        if self.remote:
            raise ConfigError(
                f"cannot write {self}: edged does not push; write an oci: or oci-archive: and copy "
                f"that, such as with 'skopeo copy --preserve-digests oci:DIR {self}'"
            )

    def absolute(self) -> Reference:
        """The same, whatever the working directory of the process that reads it."""
        return self if self.remote else replace(self, path=self.path.absolute())

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            ConfigError: unknown transport, empty path, bad name or tag.
        """
        transport, colon, rest = text.partition(":")
        if colon and transport in (LAYOUT, ARCHIVE):
            path, tagged, tag = rest.partition(":")
            return cls(transport, _path(path, text), _tag(tag, text) if tagged else None)
        if text.startswith("docker://"):
            return _remote(text)
        if _SCHEME.match(text):
            raise ConfigError(
                f"cannot use {text[:200]!r}: unknown kind of reference {transport[:40]!r}; "
                "expected oci:DIR[:TAG], oci-archive:FILE or docker://HOST/NAME:TAG"
            )
        return cls(ARCHIVE if text.endswith(".tar") else LAYOUT, _path(text, text))

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        if not self.remote:
            return f"{self.transport}:{self.path}{tag}"
        digest = f"@{self.digest}" if self.digest else ""
        return f"docker://{self.host}/{self.name}{tag}{digest}"


def check_host(host: str, text: str) -> str:
    """A registry's ``HOST[:PORT]``, in lower case.

    Args:
        host: to check.
        text: named in errors.

    Raises:
        ConfigError: it is none.
    """
    match = _HOST.fullmatch(host)
    if match is None or len(host) > _HOST_LIMIT or int(match[2] or 1) not in range(1, 65536):
        raise ConfigError(f"cannot use {text[:300]!r}: {host[:80]!r} is no HOST or HOST:PORT")
    return host.lower()


def _remote(text: str) -> Reference:
    host, slash, rest = text.removeprefix("docker://").partition("/")
    name, at, digest = rest.partition("@")
    name, colon, tag = name.partition(":")
    if not slash or not name or not (at or colon):
        raise ConfigError(
            f"cannot use {text[:300]!r}: expected docker://HOST/NAME:TAG or "
            "docker://HOST/NAME@sha256:DIGEST"
        )
    if len(name) > _NAME_LIMIT or not all(_PART.fullmatch(part) for part in name.split("/")):
        raise ConfigError(
            f"cannot use {text[:300]!r}: {name[:80]!r} is no name of a repository (lower-case "
            "letters, digits, and . _ - between them, in parts divided by /)"
        )
    if colon and not _REMOTE_TAG.fullmatch(tag):
        raise ConfigError(
            f"cannot use {text[:300]!r}: {tag[:80]!r} is no tag (letters, digits and . _ -, "
            "at most 128)"
        )
    try:
        found = Digest.parse(digest) if at else None
    except VerifyError as exc:
        raise ConfigError(f"cannot use {text[:300]!r}: {exc}") from exc
    return Reference(REGISTRY, Path(), tag or None, check_host(host, text), name, found)


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
