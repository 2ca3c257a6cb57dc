"""The OCI documents edged reads and writes: index, manifest, configuration.

After image-spec 1.1. Everything here is pure: bytes in, frozen values out, and back.

Invariants:
- Documents are untrusted. They have a size limit, must be plain JSON (no duplicate keys, no NaN)
  and must have the right types in every field that is used; else it is a ``ModelError``.
- Unknown fields and annotations are ignored when read.
- ``to_json`` of equal values gives equal bytes: sorted keys, no spaces.
- No policy: which images are wanted is for the callers to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edged.errors import ModelError, VerifyError
from edged.oci.digest import Digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYERS = (LAYER_TAR, LAYER_TAR_GZIP)
# What Docker had before; its manifests have no annotations, so they cannot be of a model.
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (INDEX, DOCKER_INDEX)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
REF_NAME = "org.opencontainers.image.ref.name"

DOCUMENT_LIMIT = 4 << 20  # bytes; what distribution-spec asks registries to accept for a manifest
LAYER_COUNT_LIMIT = 32
BLOB_LIMIT = 16 << 30  # bytes
REFERRERS_LIMIT = 16  # of one type, of one image


def parse_json(data: bytes, what: str, limit: int = DOCUMENT_LIMIT) -> dict[str, Any]:
    """Read one JSON object from outside.

    Args:
        data: UTF-8 text.
        what: named in errors.
        limit: largest size in bytes.

    Raises:
        ModelError: too large, not JSON, a key twice, or not an object.
    """
    if len(data) > limit:
        raise ModelError(f"cannot read {what}: {len(data)} bytes, expected at most {limit}")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as exc:
        raise ModelError(f"cannot read {what}: not valid JSON ({exc})") from exc
    if not isinstance(value, dict):
        raise ModelError(f"cannot read {what}: expected a JSON object, got {type(value).__name__}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def to_json(value: Mapping[str, Any]) -> bytes:
    """The one way edged writes a document: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Descriptor:
    """What a blob is announced as.

    Attributes:
        media_type: what kind of thing it is.
        digest: of its bytes.
        size: in bytes.
        annotations: what is said about it.
        platform: ``os/architecture[/variant]`` it runs on, empty if that is not said; read only.
        artifact_type: of a manifest that is no image; read only.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    artifact_type: str = ""

    @classmethod
    def parse(cls, value: object, what: str) -> Descriptor:
        """Read a descriptor out of a parsed document; ``what`` is named in errors."""
        document = _object(value, what)
        size = document.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= BLOB_LIMIT:
            raise ModelError(
                f"cannot read {what}: size must be an integer from 0 to {BLOB_LIMIT}, got {size!r}"
            )
        try:
            digest = Digest.parse(_text(document, "digest", what))
        except VerifyError as exc:
            raise ModelError(f"cannot read {what}: {exc}") from exc
        return cls(
            _text(document, "mediaType", what),
            digest,
            size,
            _annotations(document, what),
            _platform(document, what),
            str(document.get("artifactType") or ""),
        )

    def to_document(self) -> dict[str, Any]:
        """The descriptor as JSON values."""
        document: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


@dataclass(frozen=True)
class Index:
    """The list of images in a layout."""

    manifests: tuple[Descriptor, ...]

    @classmethod
    def parse(cls, data: bytes, what: str = "index.json") -> Index:
        """Read an image index.

        Raises:
            ModelError: it is not one.
        """
        document = parse_json(data, what)
        _schema(document, INDEXES, what)
        entries = _list(document, "manifests", what)
        return cls(
            tuple(Descriptor.parse(e, f"{what}: manifests[{i}]") for i, e in enumerate(entries))
        )


@dataclass(frozen=True)
class Manifest:
    """One image: its configuration, its layers and what is said about it."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, what: str = "the image manifest") -> Manifest:
        """Read an image manifest.

        Raises:
            ModelError: it is not one, or not of an image whose layers edged can read.
        """
        document = parse_json(data, what)
        if document.get("mediaType") == DOCKER_MANIFEST:
            raise ModelError(
                f"cannot read {what}: expected {MANIFEST}, got Docker's older form, which has no "
                "annotations; push the image as it is, such as with 'skopeo copy "
                "--preserve-digests'"
            )
        _schema(document, (MANIFEST,), what)
        config = Descriptor.parse(document.get("config"), f"{what}: config")
        if config.media_type != CONFIG:
            raise ModelError(
                f"cannot read {what}: expected a configuration of type {CONFIG}, "
                f"got {config.media_type!r}"
            )
        entries = _list(document, "layers", what)
        if not 1 <= len(entries) <= LAYER_COUNT_LIMIT:
            raise ModelError(
                f"cannot read {what}: expected 1 to {LAYER_COUNT_LIMIT} layers, got {len(entries)}"
            )
        layers = tuple(_layer(e, f"{what}: layers[{i}]") for i, e in enumerate(entries))
        return cls(config, layers, _annotations(document, what))

    def to_json(self) -> bytes:
        """The manifest's bytes; their digest is the image's."""
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.config.to_document(),
                "layers": [layer.to_document() for layer in self.layers],
                "annotations": dict(self.annotations),
            }
        )


@dataclass(frozen=True)
class Config:
    """An image's configuration: the digests of its layers after decompression.

    ``architecture`` and ``os`` are demanded by the specification. A model has neither; edged writes
    what every tool accepts and never looks at them.
    """

    diff_ids: tuple[Digest, ...]
    architecture: str = "amd64"
    os: str = "linux"

    @classmethod
    def parse(cls, data: bytes, what: str = "the image configuration") -> Config:
        """Read an image configuration.

        Raises:
            ModelError: it is not one.
        """
        document = parse_json(data, what)
        rootfs = _object(document.get("rootfs"), f"{what}: rootfs")
        if rootfs.get("type") != "layers":
            raise ModelError(f"cannot read {what}: rootfs.type must be 'layers'")
        texts = _list(rootfs, "diff_ids", what)
        try:
            diff_ids = tuple(Digest.parse(str(text)) for text in texts)
        except VerifyError as exc:
            raise ModelError(f"cannot read {what}: {exc}") from exc
        return cls(diff_ids, _text(document, "architecture", what), _text(document, "os", what))

    def to_json(self) -> bytes:
        """The configuration's bytes."""
        return to_json(
            {
                "architecture": self.architecture,
                "os": self.os,
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [str(d) for d in self.diff_ids]},
            }
        )


def _layer(value: object, what: str) -> Descriptor:
    layer = Descriptor.parse(value, what)
    if layer.media_type not in LAYERS:
        raise ModelError(
            f"cannot read {what}: expected a layer of type {' or '.join(LAYERS)}, "
            f"got {layer.media_type!r}"
        )
    return layer


def _schema(document: dict[str, Any], media_types: tuple[str, ...], what: str) -> None:
    if document.get("schemaVersion") != 2:
        raise ModelError(
            f"cannot read {what}: expected schemaVersion 2, got {document.get('schemaVersion')!r}"
        )
    if document.get("mediaType", media_types[0]) not in media_types:
        raise ModelError(
            f"cannot read {what}: expected {media_types[0]}, got {document['mediaType']!r}"
        )


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"cannot read {what}: expected an object, got {type(value).__name__}")
    return value


def _text(document: dict[str, Any], key: str, what: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise ModelError(f"cannot read {what}: {key} must be a string, got {type(value).__name__}")
    return value


def _list(document: dict[str, Any], key: str, what: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise ModelError(f"cannot read {what}: {key} must be a list, got {type(value).__name__}")
    return value


def _platform(document: dict[str, Any], what: str) -> str:
    value = document.get("platform")
    if value is None:
        return ""
    platform = _object(value, f"{what}: platform")
    parts = (platform.get(key) for key in ("os", "architecture", "variant"))
    return "/".join(str(part)[:40] for part in parts if part)


def _annotations(document: dict[str, Any], what: str) -> dict[str, str]:
    value = document.get("annotations")
    if value is None:
        return {}
    entries = _object(value, f"{what}: annotations")
    for key, text in entries.items():
        if not isinstance(text, str):
            raise ModelError(f"cannot read {what}: annotation {key[:80]!r} must be a string")
    return entries
