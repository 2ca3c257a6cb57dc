"""Images of models: opened from a reference, unpacked, copied, made.

Invariants:
- An ``Image`` was found by name but is known by its manifest's digest; the manifest and the
  configuration were verified when it was opened, everything else is verified while it is read.
- ``unpack_model`` and ``write_image`` leave either the whole result or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edged.errors import FetchError, ModelError, StoreError
from edged.oci import companion, compare, platforms, signature, spec, unpack
from edged.oci.digest import Digest, Prefix, VerifiedReader
from edged.oci.facts import ModelFacts
from edged.oci.layer import write_layer
from edged.oci.layout import Layout, LayoutArchive, LayoutFolder, write_archive
from edged.oci.reference import ARCHIVE, Reference
from edged.oci.registries import Registries
from edged.oci.retry import Patience
from edged.osutil import atomic

LATEST = "latest"  # the tag of an image that was given none, and is not alone

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


@dataclass(frozen=True)
class Image:
    """One image of a layout.

    Attributes:
        layout: where its blobs are.
        descriptor: of its manifest.
        manifest: parsed.
        config: parsed.
        reference: by which it was opened, empty if by none.
    """

    layout: Layout
    descriptor: spec.Descriptor
    manifest: spec.Manifest
    config: spec.Config
    reference: str = field(default="", compare=False)

    @property
    def digest(self) -> Digest:
        """The manifest's digest: the image's name."""
        return self.descriptor.digest

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's annotations."""
        return self.manifest.annotations

    @property
    def facts(self) -> ModelFacts:
        """What the annotations say about the model.

        Raises:
            ModelError: it is not an image of an edged model.
        """
        return ModelFacts.parse(self.annotations)

    def blobs(self) -> Iterator[spec.Descriptor]:
        """Every blob of the image: layers, configuration, and the manifest last."""
        yield from self.manifest.layers
        yield self.manifest.config
        yield self.descriptor

    def open_blob(
        self, descriptor: spec.Descriptor, prefix: Prefix | None = None
    ) -> VerifiedReader:
        """The content of one blob, or what follows ``prefix``, verified while it is read."""
        return self.layout.open_blob(descriptor, prefix)

    def signatures(self) -> list[signature.Signature]:
        """The signatures that stand beside the image, not verified; none is an empty list.

        Raises:
            FetchError, ModelError, VerifyError: they cannot be read.
        """
        return signature.read(self.layout, self.digest)

    def unpack_model(self, dest: Path, limits: unpack.Limits | None = None) -> None:
        """Make the folder ``dest`` with what the image has in ``/model``.

        The folder appears at once, when all of it was verified and is on the disk.

        Raises:
            ModelError: the image asks for something that is not allowed; see ``unpack``.
            VerifyError: a blob is not what it is announced as.
            FetchError: a blob is missing.
            StoreError: ``dest`` exists, or the disk failed.
        """
        if dest.exists():
            raise StoreError(f"cannot unpack {self.digest} to {dest}: it exists")
        with atomic.temporary_folder(dest.parent) as partial:
            unpack.unpack(self._open_layers(), partial, limits)
            atomic.move_folder(partial, dest, what="model")

    def compare_model(self, folder: Path, limits: unpack.Limits | None = None) -> None:
        """Return if ``folder`` holds what ``unpack_model`` would make of the image.

        Raises:
            VerifyError: it holds something else, or a blob is not what it is announced as.
            FetchError, ModelError, StoreError: as ``unpack_model``.
        """
        compare.compare(self._open_layers(), folder, limits)

    def _open_layers(self) -> Iterator[tuple[VerifiedReader, spec.Descriptor, Digest]]:
        for layer, diff_id in zip(self.manifest.layers, self.config.diff_ids, strict=True):
            yield self.open_blob(layer), layer, diff_id

    def copy_to(self, layout: LayoutFolder, tag: str | None = None) -> None:
        """Copy the image, every blob verified, and tag it there."""
        for descriptor in self.blobs():
            with self.open_blob(descriptor) as blob:
                layout.put_stream(blob, descriptor)
        plain = spec.Descriptor(
            self.descriptor.media_type, self.descriptor.digest, self.descriptor.size
        )
        layout.set_tag(plain, tag)


def open_image(reference: Reference | str, registries: Registries | None = None) -> Image:
    """Open an image by its reference. Of an index the image for this machine is opened.

    Args:
        reference: where it is.
        registries: how registries are spoken to.

    Raises:
        ConfigError: the reference cannot be read, or the configuration cannot be used.
        FetchError: nothing is there, or no image of that tag, or it has to be told which.
        ModelError: a document is not what it should be.
        VerifyError: a document is not what was announced.
    """
    if isinstance(reference, str):
        reference = Reference.parse(reference)
    if reference.remote:
        return _open_remote(reference, registries or Registries())
    archive = reference.transport == ARCHIVE
    layout = LayoutArchive(reference.path) if archive else LayoutFolder(reference.path)
    return _load(layout, _choose(layout.index(), reference), str(reference))


def _open_remote(reference: Reference, registries: Registries) -> Image:
    from edged.oci.registry.repository import Repository

    repository = Repository(reference.host, reference.name, registries)
    found = repository.resolve(reference)
    patience = Patience(registries.patience)
    return patience.run(lambda: _load(repository, found, str(reference)))


def _load(layout: Layout, descriptor: spec.Descriptor, what: str) -> Image:
    """The image that a descriptor of a manifest, or of an index, leads to."""
    if descriptor.media_type in spec.INDEXES:
        listed = spec.Index.parse(_document(layout, descriptor, descriptor.media_type), what)
        descriptor = platforms.choose(listed, what, platforms.own())
    if descriptor.media_type not in spec.MANIFESTS:
        raise ModelError(
            f"cannot open {what}: expected an image manifest, got {descriptor.media_type[:80]!r}"
        )
    return replace(load_image(layout, descriptor), reference=what)


def load_image(layout: Layout, descriptor: spec.Descriptor) -> Image:
    """Read the manifest and the configuration of an image.

    Raises:
        ModelError, VerifyError, FetchError: as ``open_image``.
    """
    manifest = spec.Manifest.parse(_document(layout, descriptor, spec.MANIFEST))
    config = spec.Config.parse(_document(layout, manifest.config, spec.CONFIG))
    if len(config.diff_ids) != len(manifest.layers):
        raise ModelError(
            f"cannot read image {descriptor.digest}: {len(manifest.layers)} layers, but its "
            f"configuration has {len(config.diff_ids)} diff_ids"
        )
    return Image(layout, descriptor, manifest, config)


def write_image(
    files: Mapping[str, bytes | Path],
    facts: ModelFacts,
    reference: Reference,
    *,
    annotations: Mapping[str, str] | None = None,
    sign: EllipticCurvePrivateKey | None = None,
    companions: Mapping[str, Sequence[companion.Part]] | None = None,
) -> Digest:
    """Make the image of a model, of one uncompressed layer.

    Equal files, facts and annotations give an equal digest. A new layout or archive appears when it
    is complete; in an existing layout the tag moves last.

    Args:
        files: from the path below ``/model`` to the content, or the file that has it.
        facts: what the device has to know before it fetches the rest.
        reference: the layout folder (its other images stay) or the archive (replaced) to write. An
            image without a tag that has something beside it is tagged ``LATEST``.
        annotations: more of them. There is no time stamp unless it is given here, since it would
            change the digest.
        sign: key to sign the image with; the signature stands beside the image and is no part of
            its digest.
        companions: what else stands beside it, by kind.

    Raises:
        StoreError: the disk failed.
    """
    reference.check_writable()
    path = reference.path
    if reference.transport != ARCHIVE and path.exists():
        return _write(
            LayoutFolder.create(path), files, facts, reference, annotations, sign, companions
        )
    atomic.make_folder(path.parent)
    with atomic.temporary_folder(path.parent) as folder:
        layout = LayoutFolder.create(folder / "layout")
        digest = _write(layout, files, facts, reference, annotations, sign, companions)
        if reference.transport == ARCHIVE:
            write_archive(layout, path)
        else:
            atomic.move_folder(layout.path, path, what="layout")
        return digest


def _write(
    layout: LayoutFolder,
    files: Mapping[str, bytes | Path],
    facts: ModelFacts,
    reference: Reference,
    annotations: Mapping[str, str] | None,
    sign: EllipticCurvePrivateKey | None,
    companions: Mapping[str, Sequence[companion.Part]] | None,
) -> Digest:
    with layout.new_blob() as out:
        write_layer(files, out)
    layer = spec.Descriptor(spec.LAYER_TAR, out.digest, out.size)
    config = layout.put_bytes(spec.Config((out.digest,)).to_json(), spec.CONFIG)
    manifest = spec.Manifest(config, (layer,), {**facts.annotations(), **(annotations or {})})
    descriptor = layout.put_bytes(manifest.to_json(), spec.MANIFEST)
    # They go first, so that whoever finds the image finds it signed.
    for kind, parts in (companions or {}).items():
        companion.write(layout, descriptor.digest, kind, parts)
    if sign is not None:
        signature.add(layout, descriptor.digest, sign, f"{facts.name}:{facts.version}")
    if reference.tag is None and (companions or sign is not None):
        # skopeo takes an image without a tag only where there is nothing else.
        layout.set_tag(descriptor, LATEST)
        layout.keep(lambda each: spec.REF_NAME in each.annotations or bool(each.artifact_type))
    else:
        layout.set_tag(descriptor, reference.tag)
    return descriptor.digest


def _choose(index: spec.Index, reference: Reference) -> spec.Descriptor:
    images = [d for d in index.manifests if not companion.is_tag(d.annotations.get(spec.REF_NAME))]
    tags = [d.annotations.get(spec.REF_NAME) for d in images]
    known = ", ".join(sorted(t for t in tags if t)) or "none"
    if reference.tag is None:
        found = images
    else:
        found = [d for d, tag in zip(images, tags, strict=True) if tag == reference.tag]
    if not found:
        wanted = f"image with tag {reference.tag!r}" if reference.tag else "image"
        raise FetchError(f"cannot open {reference}: no {wanted} there (tags: {known})")
    if len({d.digest for d in found}) > 1:
        raise FetchError(
            f"cannot open {reference}: it holds several images; say which by tag (tags: {known})"
        )
    return found[0]


def _document(layout: Layout, descriptor: spec.Descriptor, media_type: str) -> bytes:
    if descriptor.size > spec.DOCUMENT_LIMIT:
        raise ModelError(
            f"cannot read {media_type}: {descriptor.size} bytes announced, expected at most "
            f"{spec.DOCUMENT_LIMIT}"
        )
    with layout.open_blob(descriptor) as blob:
        return blob.read()
