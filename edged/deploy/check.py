"""The checker: reads a whole store, and says in sentences what is wrong with it.

Nothing is changed, and no daemon is needed; one that runs may change things meanwhile, so that what
is said then is a hint only. What a crash may leave behind without harm is no fault: parts of
images on their way, temporary files, models that nothing points to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edged.deploy.document import Document
from edged.deploy.store import FRESH, STALE, pointed
from edged.errors import EdgedError, StoreError
from edged.oci import inventory
from edged.oci.digest import Digest
from edged.oci.image import load_image
from edged.oci.layout import LayoutFolder
from edged.oci.spec import MANIFEST, Descriptor

RECORDS = ("deploying.json", "history.json", "quarantine.json", "counters.json", "hold.json")


def faults(state: Path) -> Iterator[str]:
    """Yields a sentence for each fault of the store in ``state``; none for one that was never used.

    A blob whose content is not what its name says, an image that is not whole, a pointer that leads
    nowhere, an unpacked model that is not what its image holds, a record that cannot be read.
    """
    images = state / "images"
    if not images.exists():
        return
    layout = LayoutFolder(images)
    yield from inventory.faults(layout)
    try:
        roles = pointed(state)
    except StoreError as exc:
        yield str(exc)
        roles = {}
    for text, role in roles.items():
        yield from _model_faults(state, layout, Digest.parse(text), role)
    for name in RECORDS:
        if (fault := Document(state / name).fault()) is not None:
            yield fault


def _model_faults(state: Path, layout: LayoutFolder, digest: Digest, role: str) -> Iterator[str]:
    folder = state / "models" / digest.hex
    places = [folder, folder.with_suffix(FRESH), folder.with_suffix(STALE)]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        yield f"the {role} model {digest} is not unpacked in {folder}"
        return
    try:
        size = layout.blob_path(digest).stat().st_size
        load_image(layout, Descriptor(MANIFEST, digest, size)).compare_model(found)
    except (EdgedError, OSError) as exc:
        yield f"the {role} model {digest} is not what its image holds: {exc}"
