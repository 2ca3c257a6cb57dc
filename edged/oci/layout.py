"""OCI image layouts: a folder that can be read and written, and one tar file of it.

A layout is ``oci-layout``, ``index.json`` and ``blobs/sha256/<hex>``; a tag is the annotation
``org.opencontainers.image.ref.name`` of a descriptor in the index.

Invariants:
- A blob is complete under its name or not there: it is written beside, synced, then renamed.
- ``index.json`` is replaced as a whole, after the blobs it names; what others put into it (fields,
  annotations, images) stays. Writers take turns by a lock on the folder.
- Equal content makes an equal archive.
- Reading trusts nothing: blobs come as ``VerifiedReader``, documents go through ``spec``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from edged.errors import FetchError, ModelError, StoreError, VerifyError
from edged.oci import spec, tar
from edged.oci.digest import CHUNK, Digest, Prefix, VerifiedReader
from edged.osutil import atomic

_HEADER = spec.to_json({"imageLayoutVersion": "1.0.0"})
_HEADER_NAME, _INDEX_NAME = "oci-layout", "index.json"


class Layout(Protocol):
    """A place that holds images."""

    @property
    def resent(self) -> int:
        """Bytes that came a second time because they could not be left out."""

    def find(self, tag: str) -> spec.Descriptor | None:
        """What that tag names; None if nothing has it."""

    def referrers(self, digest: Digest, artifact_type: str) -> list[spec.Descriptor]:
        """Manifests of that type whose ``subject`` is the given image."""

    def open_blob(
        self, descriptor: spec.Descriptor, prefix: Prefix | None = None
    ) -> VerifiedReader:
        """The content of one blob, verified while it is read.

        Args:
            descriptor: of the blob.
            prefix: what the caller has of it already; the content goes on from there.
        """

    def wake(self) -> None:
        """Ends a wait for the network that another thread is in; it fails as a broken link."""

    def blame(self) -> bool:
        """To be told that what came was not what it should be; whether there is another to ask."""


class _Local:
    """What a layout on the disk has to say about networks."""

    resent = 0

    def wake(self) -> None:
        """Nothing is waited for here."""

    def blame(self) -> bool:
        """Nobody else has it."""
        return False


class LayoutFolder(_Local):
    """An image layout in a folder.

    Args:
        path: an existing layout; see ``create`` for a new one.

    Raises:
        FetchError: there is none.
        ModelError: it is of a version edged does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _open_regular(path / _HEADER_NAME) as stream:
            _check_header(stream.read(spec.DOCUMENT_LIMIT + 1), str(path))

    @classmethod
    def create(cls, path: Path) -> LayoutFolder:
        """Open the layout at ``path``, making an empty one where nothing is.

        Raises:
            StoreError: the folder cannot be made, or holds other things.
        """
        atomic.make_folder(path)
        try:
            names = {entry.name for entry in path.iterdir()}
        except OSError as exc:
            raise StoreError(f"cannot make image layout {path}: {exc}") from exc
        if _HEADER_NAME not in names:
            left = {name for name in names if name.startswith(atomic.TEMPORARY)}  # by a crash
            if names - left - {"blobs", _INDEX_NAME}:
                raise StoreError(
                    f"cannot make image layout {path}: the folder is not empty and no layout"
                )
            atomic.make_folder(path / "blobs" / "sha256")
            empty = {"schemaVersion": 2, "mediaType": spec.INDEX, "manifests": []}
            atomic.write_file(path / _INDEX_NAME, spec.to_json(empty))
            atomic.write_file(path / _HEADER_NAME, _HEADER)
        return cls(path)

    def index(self) -> spec.Index:
        """The images in the layout.

        Raises:
            FetchError: there is no ``index.json``.
            ModelError: it is not an image index.
        """
        return spec.Index.parse(self._index_bytes(), f"{self.path}/{_INDEX_NAME}")

    def find(self, tag: str) -> spec.Descriptor | None:
        """What that tag names; None if nothing has it.

        Raises:
            FetchError, ModelError: as ``index``.
        """
        return _tagged(self.index(), tag)

    def referrers(self, digest: Digest, artifact_type: str) -> list[spec.Descriptor]:
        """Manifests of that type whose ``subject`` is the given image; see ``Layout``."""
        return _referrers(self, self.index(), digest, artifact_type)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self.path / "blobs" / "sha256" / digest.hex

    def open_blob(
        self, descriptor: spec.Descriptor, prefix: Prefix | None = None
    ) -> VerifiedReader:
        """The content of one blob, verified while it is read; see ``Layout``.

        Raises:
            FetchError: the layout does not have it.
            VerifyError: its size is not the announced one.
        """
        stream = _open_regular(self.blob_path(descriptor.digest))
        size = os.fstat(stream.fileno()).st_size
        if size != descriptor.size:
            stream.close()
            raise VerifyError(
                f"cannot read blob {descriptor.digest} of {self.path}: expected "
                f"{descriptor.size} bytes, got {size}"
            )
        if prefix:
            stream.seek(prefix.size)
        what = f"blob {descriptor.digest}"
        return VerifiedReader(stream, descriptor.digest, size, what, prefix)

    def put_bytes(self, data: bytes, media_type: str) -> spec.Descriptor:
        """Store a small blob; storing it again changes nothing."""
        with self.new_blob() as out:
            out.write(data)
        return spec.Descriptor(media_type, out.digest, len(data))

    def put_stream(self, blob: VerifiedReader, descriptor: spec.Descriptor) -> None:
        """Store a blob from elsewhere; nothing is left unless all of it was verified.

        Raises:
            VerifyError: the content is not what the descriptor announces.
            StoreError: the disk failed.
        """
        present = self.blob_path(descriptor.digest)
        if present.is_file() and present.stat().st_size == descriptor.size:
            return
        with self.new_blob() as out:
            while chunk := blob.read(CHUNK):
                out.write(chunk)

    @contextlib.contextmanager
    def new_blob(self) -> Iterator[NewBlob]:
        """A blob to be written; it takes its name from its content when the block ends well."""
        folder = self.path / "blobs" / "sha256"
        content = hashlib.sha256()
        atomic.make_folder(folder)
        with atomic.new_file(folder, content.hexdigest, what="blob") as out:
            yield NewBlob(out, content)

    def set_tag(self, descriptor: spec.Descriptor, tag: str | None) -> None:
        """Make ``tag`` (or, with ``None``, the image without a tag) mean this manifest.

        Raises:
            StoreError: the index cannot be written.
            ModelError: the present index is damaged.
        """
        entry = descriptor.to_document()
        if tag is not None:
            entry["annotations"] = {**entry.get("annotations", {}), spec.REF_NAME: tag}
        self._edit(lambda listed: [*(m for m in listed if _tag_of(m) != tag), entry])

    def add(self, descriptor: spec.Descriptor, annotations: Mapping[str, str]) -> None:
        """List an image without a tag, beside whatever is listed; once for each digest.

        Args:
            descriptor: of its manifest; its own annotations were said of it elsewhere.
            annotations: what is to be said of it here.

        Raises:
            StoreError, ModelError: as ``set_tag``.
        """
        entry = {**descriptor.to_document(), "annotations": dict(annotations)}
        digest = str(descriptor.digest)

        def listed_once(listed: list[Any]) -> list[Any]:
            others = [m for m in listed if m["digest"] != digest or _tag_of(m) is not None]
            return listed if entry in listed else [*others, entry]

        self._edit(listed_once)

    def keep(self, wanted: Callable[[spec.Descriptor], bool]) -> None:
        """Take out of the list what is not wanted; the blobs stay.

        Raises:
            StoreError, ModelError: as ``set_tag``.
        """
        what = f"{self.path}/{_INDEX_NAME}"
        self._edit(lambda listed: [m for m in listed if wanted(spec.Descriptor.parse(m, what))])

    def _edit(self, change: Callable[[list[Any]], list[Any]]) -> None:
        with self._locked():
            self.index()  # its checks
            document = spec.parse_json(self._index_bytes(), _INDEX_NAME)
            listed = change(document["manifests"])
            if listed != document["manifests"]:
                document["manifests"] = listed
                atomic.write_file(self.path / _INDEX_NAME, spec.to_json(document))

    def _index_bytes(self) -> bytes:
        with _open_regular(self.path / _INDEX_NAME) as stream:
            return stream.read(spec.DOCUMENT_LIMIT + 1)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


class NewBlob:
    """The writing end of ``LayoutFolder.new_blob``; ``digest`` is of all that was written."""

    def __init__(self, out: atomic.Writer, content: hashlib._Hash) -> None:
        self._out = out
        self._hash = content
        self.size = 0

    @property
    def digest(self) -> Digest:
        """The digest of the bytes written so far."""
        return Digest(self._hash.hexdigest())

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self._hash.update(data)
        self.size += len(data)
        self._out.write(data)


class LayoutArchive(_Local):
    """An image layout in one uncompressed tar file, to be read.

    Args:
        path: the file; its table of members is read at once.

    Raises:
        FetchError: there is no such file.
        ModelError: it is not a tar of an image layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _open_regular(path) as stream:
            self._members = _members(stream, str(path))
        _check_header(self._document(_HEADER_NAME), str(path))

    def index(self) -> spec.Index:
        """The images in the archive.

        Raises:
            ModelError: ``index.json`` is missing or not an image index.
        """
        return spec.Index.parse(self._document(_INDEX_NAME), f"{self.path}: {_INDEX_NAME}")

    def find(self, tag: str) -> spec.Descriptor | None:
        """What that tag names; None if nothing has it.

        Raises:
            ModelError: as ``index``.
        """
        return _tagged(self.index(), tag)

    def referrers(self, digest: Digest, artifact_type: str) -> list[spec.Descriptor]:
        """Manifests of that type whose ``subject`` is the given image; see ``Layout``."""
        return _referrers(self, self.index(), digest, artifact_type)

    def open_blob(
        self, descriptor: spec.Descriptor, prefix: Prefix | None = None
    ) -> VerifiedReader:
        """The content of one blob, verified while it is read; see ``Layout``.

        Raises:
            FetchError: the archive does not have it.
            VerifyError: its size is not the announced one.
        """
        name = f"blobs/sha256/{descriptor.digest.hex}"
        if name not in self._members:
            raise FetchError(f"cannot read blob {descriptor.digest}: {self.path} does not have it")
        entry = self._members[name]
        if entry.size != descriptor.size:
            raise VerifyError(
                f"cannot read blob {descriptor.digest} of {self.path}: expected "
                f"{descriptor.size} bytes, got {entry.size}"
            )
        what = f"blob {descriptor.digest}"
        section = self._open(entry, prefix.size if prefix else 0)
        return VerifiedReader(section, descriptor.digest, entry.size, what, prefix)

    def _document(self, name: str) -> bytes:
        entry = self._members.get(name)
        if entry is None:
            raise ModelError(f"cannot read {self.path}: no {name} in it, so it is no OCI archive")
        with self._open(entry) as stream:
            return stream.read(spec.DOCUMENT_LIMIT + 1)

    def _open(self, entry: tar.Entry, offset: int = 0) -> _Section:
        stream = _open_regular(self.path)
        stream.seek(entry.offset + offset)
        return _Section(stream, entry.size - offset)


class _Section:
    """A piece of a file, as a stream."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> _Section:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_archive(layout: LayoutFolder, path: Path) -> None:
    """Write a layout folder as one tar file, which appears at ``path`` when it is complete.

    Raises:
        StoreError: the disk failed.
    """
    blobs = layout.path / "blobs" / "sha256"
    try:
        names = sorted(p.name for p in blobs.iterdir() if not p.name.startswith("."))
        with atomic.new_file(path.parent, path.name, what="archive") as out:
            for folder in ("blobs", "blobs/sha256"):
                out.write(tar.header(folder, None))
            for name in names:
                _add_file(out, f"blobs/sha256/{name}", blobs / name)
            for name in (_INDEX_NAME, _HEADER_NAME):
                _add_file(out, name, layout.path / name)
            out.write(tar.END)
    except OSError as exc:  # from reading
        raise StoreError(f"cannot write {path}: {exc}") from exc


def _add_file(out: atomic.Writer, name: str, path: Path) -> None:
    size = path.stat().st_size
    out.write(tar.header(name, size))
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            out.write(chunk)
    out.write(tar.padding(size))


def _members(stream: BinaryIO, what: str) -> dict[str, tar.Entry]:
    members: dict[str, tar.Entry] = {}
    for entry in tar.TarReader(stream, what, seek=stream.seek):
        name = entry.name.removeprefix("./")
        if entry.kind == tar.FILE and members.setdefault(name, entry) is not entry:
            raise ModelError(f"cannot read tar {what}: {name[:200]!r} is in it twice")
    return members


def _check_header(data: bytes, what: str) -> None:
    version = spec.parse_json(data, f"{what}: {_HEADER_NAME}").get("imageLayoutVersion")
    if version != "1.0.0":
        raise ModelError(f"cannot read {what}: expected image layout 1.0.0, got {version!r}")


def _tagged(index: spec.Index, tag: str) -> spec.Descriptor | None:
    found = (d for d in index.manifests if d.annotations.get(spec.REF_NAME) == tag)
    return next(found, None)


def _referrers(
    layout: Layout, index: spec.Index, digest: Digest, artifact_type: str
) -> list[spec.Descriptor]:
    found = []
    listed = [d for d in index.manifests if d.artifact_type == artifact_type]
    for descriptor in listed[: spec.REFERRERS_LIMIT]:
        if descriptor.size > spec.DOCUMENT_LIMIT:
            continue
        with layout.open_blob(descriptor) as blob:
            document = spec.parse_json(blob.read(), f"referrer {descriptor.digest}")
        subject = document.get("subject")
        if isinstance(subject, dict) and subject.get("digest") == str(digest):
            found.append(descriptor)
    return found


def _tag_of(entry: dict[str, Any]) -> str | None:
    tag = (entry.get("annotations") or {}).get(spec.REF_NAME)
    return str(tag) if tag is not None else None


def _open_regular(path: Path) -> BinaryIO:
    """Open a file that is really one: a pipe or device of that name must not hang us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise FetchError(f"cannot read {path}: {exc.strerror}") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FetchError(f"cannot read {path}: it is not a regular file")
    return os.fdopen(fd, "rb")
