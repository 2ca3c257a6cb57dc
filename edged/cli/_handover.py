"""Hands a local image to a daemon that is another user and may not be able to read it.

As a service the daemon sees no home folder, no /tmp of others and no file that its user may not
read. So a copy goes to where it can read: STATE/incoming, which is named in RUN/daemon.json.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from edged.errors import ConfigError, RequestError, StoreError
from edged.oci import Reference
from edged.oci.reference import ARCHIVE

MODE = 0o640
FACTS_LIMIT = 64 * 1024  # bytes


@contextlib.contextmanager
def readable(reference: Reference, control: Path | None) -> Iterator[Reference]:
    """Yields a reference that the daemon can read, for as long as the deployment takes.

    The copy stays where the daemon may still go on with it: when the caller is interrupted, or the
    daemon itself is away.

    Args:
        reference: as the operator gave it.
        control: the daemon's control socket; None if it is on another host.

    Raises:
        ConfigError: there is no such image here, or the caller is no operator.
        StoreError: it could not be copied.
    """
    here = control is not None and not reference.remote and _is_others(control)
    folder = _incoming(control.parent) if control is not None and here else None
    if control is None or folder is None:
        yield reference.absolute()
        return
    name = f"{reference.path.name[:64]}-{secrets.token_hex(4)}.tar"
    with _Folder(folder, control) as place:
        place.copy(reference, name)
        try:
            yield replace(reference, transport=ARCHIVE, path=folder / name)
        except RequestError as exc:
            if exc.code != "UNAVAILABLE":
                place.remove(name)
            raise
        place.remove(name)


def _is_others(control: Path) -> bool:
    try:
        return control.stat().st_uid != os.geteuid()
    except OSError:  # whoever calls it is told
        return False


def _incoming(run: Path) -> Path | None:
    """Returns the daemon's folder for images; None from one that has none."""
    try:
        with (run / "daemon.json").open("rb") as file:
            found = json.loads(file.read(FACTS_LIMIT)).get("incoming")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(found) if isinstance(found, str) and found.startswith("/") else None


class _Folder:
    """The daemon's folder, held open: a daemon that was taken over cannot put another in its place.

    Raises:
        ConfigError: the caller is no operator, or the folder is not the daemon's.
    """

    def __init__(self, path: Path, control: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            raise ConfigError(
                f"cannot hand an image to edged: {path}: {exc.strerror}; operators are root, and "
                "members of the daemon's group"
            ) from exc
        status = os.fstat(self._descriptor)
        self._path, self._group = path, status.st_gid
        if status.st_uid != control.stat().st_uid:
            os.close(self._descriptor)
            raise ConfigError(f"cannot hand an image to edged: {path} is not the daemon's")

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def copy(self, reference: Reference, name: str) -> None:
        """Copies an archive, or makes one of a layout's folder, for the daemon's group to read.

        Raises:
            ConfigError: there is no such image here.
            StoreError: it could not be copied.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            if not reference.path.exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), reference.path)
            file = os.open(name, flags, MODE, dir_fd=self._descriptor)
        except OSError as exc:
            raise ConfigError(f"cannot deploy {reference}: {exc.filename}: {exc.strerror}") from exc
        try:
            with os.fdopen(file, "wb") as out:
                os.fchown(out.fileno(), -1, self._group)
                os.fchmod(out.fileno(), MODE)
                _write(reference.path, out)
        except OSError as exc:
            self.remove(name)
            raise StoreError(
                f"cannot copy {reference.path} to {self._path}, where edged can read it: "
                f"{exc.strerror}"
            ) from exc
        except BaseException:
            self.remove(name)
            raise

    def remove(self, name: str) -> None:
        """Removes a copy."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)


def _write(source: Path, out: IO[bytes]) -> None:
    if not source.is_dir():
        with source.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)
        return
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for name in ("oci-layout", "index.json", "blobs"):
            if (source / name).exists():
                archive.add(source / name, name)
