"""What a controller wants the device to have: documents, read and checked; nothing is done here.

Our own document, every key optional::

    {"image": "docker://HOST/NAME:TAG", "digest": "sha256:...", "counter": 7,
     "status": "running" | "stopped",
     "policy": {"force": false, "allowDowngrade": false}, "id": "..."}

``digest`` says which image it has to be, whatever the tag means by then; ``counter`` what it has to
announce. Without ``image``, or stopped, the device is to have no model. ``id`` is for whoever asks:
it comes back in the report, and the same document with another one is a new one.

An IoT Edge deployment manifest is recognised by its shape; see ``edged.mqtt.edge.manifest``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edged.deploy.types import Options
from edged.errors import ConfigError, RequestError, VerifyError
from edged.mqtt.edge import manifest
from edged.mqtt.edge.manifest import Deployment
from edged.mqtt.fields import Fields, parse
from edged.oci import Digest, Reference
from edged.oci.facts import NUMBER_LIMIT

DOCUMENT_LIMIT = 128 * 1024  # bytes; a hub takes 32 KiB of desired properties
ID_LIMIT = 64  # characters
SECTION = "edged"  # of a twin's desired properties
KEYS = ("image", "digest", "counter", "status", "policy", "id")
POLICY_KEYS = ("force", "allowDowngrade")
STATUSES = ("running", "stopped")


@dataclass(frozen=True)
class Target:
    """What the device is to have.

    Attributes:
        reference: of the image; empty for no model.
        options: how it may come into service, or go out of it.
    """

    reference: str = ""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Desired:
    """One document that was understood.

    Attributes:
        key: equal for documents that want the same; secrets are no part of it.
        target: what it wants; None where a manifest has to be looked at first.
        deployment: the manifest, if it is one.
        id: whoever asked's name for it.
    """

    key: str
    target: Target | None = None
    deployment: Deployment | None = None
    id: str = ""


NOTHING = Desired("none", Target())


def read(payload: bytes) -> Desired:
    """Returns what a payload wants; an empty one wants no model.

    Raises:
        RequestError: it cannot be used.
    """
    if not payload:
        return NOTHING
    document = parse(payload, "the desired document", DOCUMENT_LIMIT)
    return understand(document)


def understand(document: Mapping[str, Any]) -> Desired:
    """Returns what a document wants, whichever of the two kinds it is.

    Raises:
        RequestError: it cannot be used.
    """
    if manifest.is_one(document):
        deployment = manifest.parse(document)
        return Desired(_key("manifest", deployment.meaning()), deployment=deployment)
    return own(document)


def own(document: object) -> Desired:
    """Returns what our own document wants.

    Raises:
        RequestError: it cannot be used.
    """
    fields = Fields(document, "the desired document")
    fields.only(KEYS)
    status = fields.choice("status", STATUSES, "running")
    counter = fields.number("counter", 0, NUMBER_LIMIT - 1)
    policy = fields.fields("policy")
    policy.only(POLICY_KEYS)
    options = Options(
        force=policy.flag("force"), allow_downgrade=policy.flag("allowDowngrade"), counter=counter
    )
    name, image, digest = fields.text("id", "", ID_LIMIT), fields.text("image"), _digest(fields)
    if not image and (digest or counter is not None):
        raise RequestError(
            "INVALID_ARGUMENT",
            "cannot use the desired document: it has a digest or a counter, but no image; name one",
        )
    target = Target(options=replace(options, counter=None))
    if image:
        wanted = reference(image, digest, "the desired document: image")
        if status == "running":
            target = Target(str(wanted), _insisting(options, wanted, digest))
    known: dict[str, Any] = {
        "target": target.reference,
        "digest": target.options.digest,
        "counter": target.options.counter,
        "force": options.force,
        "downgrade": options.allow_downgrade,
        "id": name,
    }
    return Desired(_key("own", known), target, id=name)


def reference(image: str, digest: Digest | None, where: str) -> Reference:
    """Returns the reference of an image, pinned to its digest where it is in a registry.

    Args:
        image: with or without ``docker://``.
        digest: which one it has to be; None for whichever is there.
        where: names it in errors.

    Raises:
        RequestError: it is none, or it has another digest itself.
    """
    local = image.startswith(("oci:", "oci-archive:"))
    text = image if local or "://" in image else f"docker://{image}"
    if digest is not None and not local and "@" not in text:
        text = f"{text}@{digest}"
    try:
        found = Reference.parse(text)
    except ConfigError as exc:
        raise RequestError("INVALID_ARGUMENT", f"cannot use {where}: {exc}") from exc
    if not found.remote and not found.path.is_absolute():
        raise RequestError(
            "INVALID_ARGUMENT", f"cannot use {where}: expected an absolute path, got {image[:80]!a}"
        )
    if found.digest is not None and digest is not None and found.digest != digest:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"cannot use {where}: it names {found.digest}, but digest says {digest}; leave one out",
        )
    return found


def _digest(fields: Fields) -> Digest | None:
    text = fields.text("digest")
    try:
        return Digest.parse(text) if text else None
    except VerifyError as exc:
        raise RequestError("INVALID_ARGUMENT", f"cannot use {fields.where}: {exc}") from exc


def _insisting(options: Options, wanted: Reference, digest: Digest | None) -> Options:
    """A registry's reference has the digest in it, which may be that of an index."""
    return options if wanted.remote or digest is None else replace(options, digest=str(digest))


def _key(kind: str, meaning: Mapping[str, Any]) -> str:
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return f"{kind}:{hashlib.sha256(text.encode()).hexdigest()}"
