"""A repository of a registry as a place that holds images, with its mirror in front.

Invariants:
- Everything found under a digest is held to it, wherever it came from.
- The mirror is asked first; whatever it lacks, refuses or breaks comes from the registry itself.
- Documents are bounded in size and time and tried again for ``Registries.patience``; blobs are not
  tried again here, since only whoever keeps what has come knows where to go on.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from edged.errors import ConfigError, FetchError, ModelError, VerifyError
from edged.oci import spec
from edged.oci.digest import Digest, Prefix, VerifiedReader
from edged.oci.reference import Reference, check_host
from edged.oci.registries import Registries
from edged.oci.registry.body import Body
from edged.oci.registry.endpoint import Endpoint
from edged.oci.registry.http import Answer
from edged.oci.retry import Patience

logger = logging.getLogger(__name__)

ACCEPT = ", ".join((*spec.MANIFESTS, *spec.INDEXES))
MIRROR_PAUSE = 60.0  # seconds a mirror that failed is left alone
_Value = TypeVar("_Value")


class NotFoundError(FetchError):
    """The registry does not have it."""


class Repository:
    """The images of one name.

    Args:
        host: of the registry, ``HOST[:PORT]``.
        name: of the repository.
        registries: how hosts are spoken to.

    Attributes:
        resent: bytes of blobs that came more than once because a server would not go on from where
            it was asked to.
    """

    def __init__(self, host: str, name: str, registries: Registries) -> None:
        self._shown = f"{host}/{name}"
        self._registries = registries
        self._origin = Endpoint(host, name, registries)
        self._mirror = _mirror(registries.of(host).mirror, name, registries)
        self._mirror_after = 0.0  # monotonic seconds
        self._documents: dict[Digest, bytes] = {}
        self._etags: dict[tuple[str, Digest], str] = {}
        self._body: Body | None = None
        self._resent = 0

    @property
    def resent(self) -> int:
        """See the class."""
        return self._resent + (self._body.skipped if self._body else 0)

    def resolve(self, reference: Reference) -> spec.Descriptor:
        """The descriptor of the manifest, or index, that a reference names.

        Raises:
            FetchError: it is not there, or the registry cannot be reached.
            VerifyError: it is not what its digest says.
        """
        if reference.digest:
            return self._manifest(str(reference.digest), reference.digest)
        found = self.find(reference.tag or "")
        if found is None:
            raise FetchError(f"cannot open {reference}: the registry has no such image")
        return found

    # -- as a layout

    def find(self, tag: str) -> spec.Descriptor | None:
        """What that tag names; None if nothing has it.

        Raises:
            FetchError: the registry cannot be reached, or refuses.
        """
        try:
            return self._manifest(tag, None)
        except NotFoundError:
            return None

    def open_blob(
        self, descriptor: spec.Descriptor, prefix: Prefix | None = None
    ) -> VerifiedReader:
        """The content of one blob, verified while it is read; see ``Layout``.

        Raises:
            PassingError: it may work later.
            FetchError: it will not.
            VerifyError: the registry announces another size.
        """
        what = f"blob {descriptor.digest}"
        offset = prefix.size if prefix else 0
        stream: Body | io.BytesIO
        if descriptor.media_type in (*spec.MANIFESTS, *spec.INDEXES):
            stream = io.BytesIO(self._document(descriptor)[offset:])
        else:
            stream = self._each(lambda endpoint: self._open(endpoint, descriptor, offset))
            self._resent += self._body.skipped if self._body else 0
            self._body = stream
        return VerifiedReader(stream, descriptor.digest, descriptor.size, what, prefix)

    def referrers(self, digest: Digest, artifact_type: str) -> list[spec.Descriptor]:
        """What says of itself that it belongs to an image (distribution-spec, "Listing Referrers").

        A registry without that call keeps the list under the tag ``sha256-<hex>``.

        Raises:
            FetchError, ModelError: it cannot be asked, or its answer is none.
        """
        query = f"referrers/{digest}?artifactType={artifact_type.replace('+', '%2B')}"
        what = f"the referrers of {digest}"
        try:
            data = self._patiently(lambda e: self._get(e, query, what, spec.INDEX))[0]
        except NotFoundError:
            listed = self.find(f"sha256-{digest.hex}")
            if listed is None or listed.media_type not in spec.INDEXES:
                return []
            data = self._documents[listed.digest]
        found = spec.Index.parse(data, what).manifests
        return [d for d in found if d.artifact_type == artifact_type][: spec.REFERRERS_LIMIT]

    # -- for whoever keeps what has come

    def wake(self) -> None:
        """Ends a wait for a blob that another thread is in; it fails as a broken link."""
        if self._body is not None:
            self._body.abort()

    def blame(self) -> bool:
        """To be told that what came was not what it should be; whether there is another to ask."""
        if self._mirror is None or self._mirror_after == float("inf"):
            return False
        self._mirror_after = float("inf")
        return True

    # -- inside

    def _manifest(self, name: str, digest: Digest | None) -> spec.Descriptor:
        what = f"{self._shown}{'@' if digest else ':'}{name}"

        def get(endpoint: Endpoint) -> tuple[bytes, str, Digest]:
            data, media_type = self._get(endpoint, f"manifests/{name}", what, ACCEPT)
            got = Digest.of(data)
            if got != (digest or got):
                raise VerifyError(f"cannot fetch {what}: expected {digest}, got {got}")
            return data, media_type, got

        data, media_type, got = self._patiently(get)
        self._documents[got] = data
        inside = spec.parse_json(data, what).get("mediaType")
        return spec.Descriptor(inside if isinstance(inside, str) else media_type, got, len(data))

    def _document(self, descriptor: spec.Descriptor) -> bytes:
        if descriptor.digest not in self._documents:
            self._manifest(str(descriptor.digest), descriptor.digest)
        return self._documents[descriptor.digest]

    def _get(self, endpoint: Endpoint, path: str, what: str, accept: str) -> tuple[bytes, str]:
        """A document and its type."""
        answer = endpoint.get(path, {"Accept": accept}, what)
        if answer.status == 404:
            raise NotFoundError(str(answer.refusal(what)))
        if answer.status != 200:
            raise answer.refusal(what)
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        said = answer.headers.get("Docker-Content-Digest", "")
        data = answer.document(spec.DOCUMENT_LIMIT, what)
        # Nothing is proved by it where a tag was asked for, but a broken cache shows itself.
        if said.startswith("sha256:") and said != str(Digest.of(data)):
            raise VerifyError(
                f"cannot fetch {what}: the registry announces {said[:80]}, got {Digest.of(data)}"
            )
        return data, media_type

    def _open(self, endpoint: Endpoint, blob: spec.Descriptor, offset: int) -> Body:
        what, path = f"blob {blob.digest}", f"blobs/{blob.digest}"
        known = (endpoint.host, blob.digest)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        etag = self._etags.get(known)
        if offset and etag:
            headers["If-Range"] = etag
        answer = endpoint.get(path, headers, what)
        if answer.status == 200 and "If-Range" in headers:
            # The digest says it all; without the condition the server may do better.
            answer.close()
            del headers["If-Range"]
            answer = endpoint.get(path, headers, what)
        if answer.status == 200 and offset and endpoint is self._mirror:
            answer.close()
            raise FetchError(f"cannot fetch {what}: mirror {endpoint.host} cannot go on in it")
        if answer.status == 416:
            answer.close()
            raise VerifyError(
                f"cannot fetch {what}: expected {blob.size} bytes, but {endpoint.host} says it has "
                f"nothing from byte {offset} on"
            )
        if answer.status not in (200, 206):
            raise answer.refusal(what)
        self._remember(known, answer)
        if answer.status == 200 and offset:  # somebody may pay for every byte
            text = "%s cannot go on in a blob: %d bytes of %s come a second time"
            logger.warning(text, endpoint.host, offset, blob.digest, extra={"event": "link"})
        try:
            return Body(answer, blob, offset)
        except (FetchError, VerifyError):
            answer.close()
            raise

    def _remember(self, known: tuple[str, Digest], answer: Answer) -> None:
        etag = answer.headers.get("ETag", "")
        if etag.startswith('"') and len(etag) < 256:  # If-Range takes strong ones only
            self._etags[known] = etag

    def _patiently(self, ask: Callable[[Endpoint], _Value]) -> _Value:
        return Patience(self._registries.patience).run(lambda: self._each(ask))

    def _each(self, ask: Callable[[Endpoint], _Value]) -> _Value:
        """Asks the mirror, then the registry."""
        if self._mirror is not None and time.monotonic() >= self._mirror_after:
            try:
                return ask(self._mirror)
            except NotFoundError:
                pass  # it is well, it just does not have it
            except (FetchError, VerifyError, ModelError):
                self._mirror_after = max(self._mirror_after, time.monotonic() + MIRROR_PAUSE)
        return ask(self._origin)


def _mirror(text: str, name: str, registries: Registries) -> Endpoint | None:
    if not text:
        return None
    host, slash, prefix = text.partition("/")
    if slash and not prefix.strip("/"):
        raise ConfigError(f"cannot use mirror {text!r}: expected HOST[:PORT] or HOST[:PORT]/PREFIX")
    path = f"{prefix.strip('/')}/{name}" if prefix else name
    return Endpoint(check_host(host, text), path, registries)
