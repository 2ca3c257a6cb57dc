"""What a store of images has: read, counted, checked; and the pins, which outsiders may set.

Nothing here needs the daemon, or changes anything but a pin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edged.errors import EdgedError, StoreError
from edged.oci import companion, spec
from edged.oci.digest import CHUNK, Digest
from edged.oci.image import Image, load_image
from edged.oci.layout import LayoutFolder
from edged.osutil import atomic

PARTIAL, PINNED = "partial", "pinned"
REFERENCE = "org.edged.reference"  # annotation in the list: where an image was fetched from
_HEX = 64  # characters of a digest in hexadecimal


@dataclass(frozen=True)
class Stored:
    """An image in the store.

    Attributes:
        image: as the store has it.
        size: bytes of its blobs; some may be shared with other images.
        pinned: whether it is kept whatever happens.
        reference: where it was fetched from last, empty if that is not known.
    """

    image: Image
    size: int
    pinned: bool
    reference: str


def is_image(descriptor: spec.Descriptor) -> bool:
    """Whether an entry of the list is a model's image and not what stands beside one."""
    tag = descriptor.annotations.get(spec.REF_NAME)
    return descriptor.media_type == spec.MANIFEST and not companion.is_tag(tag)


def images(
    layout: LayoutFolder, damaged: Callable[[Digest, EdgedError], None] | None = None
) -> list[Stored]:
    """The images that are whole, in the order they came.

    Args:
        layout: of the store.
        damaged: called with what cannot be read, which is then left out.

    Raises:
        ModelError, FetchError: the list is damaged.
        EdgedError: a manifest is, and nobody is to be called.
    """
    held = pinned(layout)
    found: dict[Digest, Stored] = {}
    for descriptor in layout.index().manifests:
        if descriptor.digest in found or not is_image(descriptor):
            continue
        try:
            image = load_image(layout, descriptor)
        except EdgedError as exc:
            if damaged is None:
                raise
            damaged(descriptor.digest, exc)
            continue
        size = sum({blob.digest: blob.size for blob in image.blobs()}.values())
        reference = descriptor.annotations.get(REFERENCE, "")
        found[image.digest] = Stored(image, size, image.digest in held, reference)
    return list(found.values())


# -- pins: an empty file each, so that nobody has to read a list before changing it


def pinned(layout: LayoutFolder) -> set[Digest]:
    """The images that are kept whatever happens.

    Raises:
        StoreError: they cannot be read.
    """
    folder = layout.path / PINNED
    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as exc:
        raise StoreError(f"cannot read {folder}: {exc.strerror}") from exc
    return {Digest(name) for name in names if _is_hex(name)}


def pin(layout: LayoutFolder, digest: Digest) -> None:
    """Keeps an image whatever happens.

    Raises:
        StoreError: it is not in the store, or the disk failed.
    """
    if not any(d.digest == digest and is_image(d) for d in layout.index().manifests):
        raise StoreError(f"cannot pin {digest}: it is not in the store; see 'edged images'")
    atomic.make_folder(layout.path / PINNED)
    atomic.write_file(layout.path / PINNED / digest.hex, b"", what="pin")


def unpin(layout: LayoutFolder, digest: Digest) -> None:
    """Ends that.

    Raises:
        StoreError: it was not pinned, or the disk failed.
    """
    path = layout.path / PINNED / digest.hex
    if not path.exists():
        raise StoreError(f"cannot unpin {digest}: it is not pinned")
    atomic.unlink(path, missing_ok=True, what="pin")


# -- for whoever clears up


def owners(descriptor: spec.Descriptor) -> set[str]:
    """The images, in hexadecimal, that an entry of the list is there for."""
    tag = descriptor.annotations.get(spec.REF_NAME)
    if companion.is_tag(tag) and tag is not None:
        return {tag.removeprefix("sha256-").partition(".")[0]}
    return {descriptor.digest.hex}


def blobs_of(layout: LayoutFolder, wanted: set[str]) -> set[str]:
    """The blobs, in hexadecimal, of these images and of all that is listed beside them.

    Raises:
        EdgedError: a document of theirs cannot be read.
    """
    listed = layout.index().manifests
    names = {descriptor.digest.hex for descriptor in listed}
    for descriptor in listed:
        if not is_image(descriptor):
            names.update(_parts(layout, descriptor))
    for name in wanted | {d.digest.hex for d in listed if is_image(d)}:
        path = layout.blob_path(Digest(name))
        if path.is_file():
            known = spec.Descriptor(spec.MANIFEST, Digest(name), path.stat().st_size)
            names.update(blob.digest.hex for blob in load_image(layout, known).blobs())
    return names


def _parts(layout: LayoutFolder, descriptor: spec.Descriptor) -> Iterator[str]:
    what = f"manifest {descriptor.digest}"
    if descriptor.size > spec.DOCUMENT_LIMIT:
        raise StoreError(f"cannot read {what}: it has {descriptor.size} bytes")
    with layout.open_blob(descriptor) as blob:
        document = spec.parse_json(blob.read(), what)
    layers = document.get("layers")
    for part in (document.get("config"), *(layers if isinstance(layers, list) else ())):
        yield spec.Descriptor.parse(part, what).digest.hex


# -- the checker


def faults(layout: LayoutFolder) -> Iterator[str]:
    """Reads everything, and says in sentences what is wrong.

    Yields:
        A sentence for each blob that is not what its name says, each listed image that is not whole
        and each file that does not belong there. What a crash may leave behind is no fault.
    """
    damaged = set()
    for path in sorted((layout.path / "blobs" / "sha256").iterdir()):
        if path.name.startswith(atomic.TEMPORARY):
            continue
        if not _is_hex(path.name) or path.is_symlink() or not path.is_file():
            yield f"{path} is no blob"
            continue
        digest = Digest(path.name)
        descriptor = spec.Descriptor("", digest, path.stat().st_size)
        try:
            with layout.open_blob(descriptor) as blob:
                while blob.read(CHUNK):
                    pass
        except (EdgedError, OSError) as exc:
            damaged.add(digest)
            yield f"blob {digest} is damaged: {exc}"
    try:
        yield from _unlisted(layout, damaged)
    except (EdgedError, OSError) as exc:
        yield f"the list of images cannot be read: {exc}"


def _unlisted(layout: LayoutFolder, damaged: set[Digest]) -> Iterator[str]:
    for descriptor in layout.index().manifests:
        if descriptor.digest in damaged:
            continue
        try:
            if is_image(descriptor):
                parts = list(load_image(layout, descriptor).blobs())
                missing = [p for p in parts if not _fits(layout, p)]
                names = [str(part.digest) for part in missing]
            else:
                found = _parts(layout, descriptor)
                names = [n for n in found if not layout.blob_path(Digest(n)).is_file()]
        except (EdgedError, OSError) as exc:
            yield f"image {descriptor.digest} cannot be read: {exc}"
            continue
        for name in names:
            yield f"image {descriptor.digest} is not whole: blob {name} is missing"


def _fits(layout: LayoutFolder, blob: spec.Descriptor) -> bool:
    path = layout.blob_path(blob.digest)
    return path.is_file() and path.stat().st_size == blob.size


def _is_hex(name: str) -> bool:
    return len(name) == _HEX and not set(name) - set("0123456789abcdef")
