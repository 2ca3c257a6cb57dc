"""Which image of an index is meant for this machine.

A model runs anywhere its NPU does, so an index of one image is that image; tools that push for
several platforms make others. Pure.
"""

from __future__ import annotations

import platform

from edged.errors import FetchError
from edged.oci import spec

_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_ATTACHED = "vnd.docker.reference.type"  # what a build says about itself, listed as an image


def own(machine: str | None = None) -> str:
    """This machine's platform as image-spec writes it, such as ``linux/amd64``."""
    machine = (machine or platform.machine()).lower()
    return f"linux/{_MACHINES.get(machine, machine)}"


def choose(index: spec.Index, what: str, wanted: str) -> spec.Descriptor:
    """The descriptor of the image for a platform.

    Args:
        index: of images.
        what: named in errors.
        wanted: the platform.

    Raises:
        FetchError: there is none for it, or it is not clear which.
    """
    images = [d for d in index.manifests if _is_image(d)]
    exact = [d for d in images if d.platform == wanted or d.platform.startswith(f"{wanted}/")]
    anywhere = [d for d in images if not d.platform]
    for found in (images, exact, anywhere):
        if len({d.digest for d in found}) == 1:
            return found[0]
    known = ", ".join(sorted({d.platform or "any" for d in images})) or "none"
    raise FetchError(
        f"cannot open {what}: expected one image for {wanted}, got {len(exact)} (platforms: "
        f"{known[:200]}); name one by its digest"
    )


def _is_image(descriptor: spec.Descriptor) -> bool:
    return (
        descriptor.media_type in spec.MANIFESTS
        and not descriptor.artifact_type
        and _ATTACHED not in descriptor.annotations
    )
