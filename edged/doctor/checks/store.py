"""Whether what is on the disk is whole, and whether the next model still fits."""

from __future__ import annotations

from typing import Any

from edged.deploy import check, schema
from edged.deploy.document import Document
from edged.deploy.store import pointed
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import World
from edged.errors import StoreError
from edged.oci.blobs import SPARE_BYTES
from edged.oci.digest import Digest
from edged.oci.image import load_image
from edged.oci.spec import MANIFEST, Descriptor

CHECK_LIMIT = 300.0  # seconds: it reads everything
SHOWN = 10  # faults
UNKNOWN_MODEL = 256 << 20  # bytes to have room for while no model says how large they are
FILES = 1000  # that must be left to make
MIB = 1 << 20


def version(world: World) -> Finding:
    """This edged knows the layout of the state folder."""
    state = world.state
    schema.check(state)
    layout = schema.layout_of(state)
    if layout is None:
        raise SkipError("no model was deployed yet")
    return ok(f"layout {layout} of {schema.LAYOUT}")


def content(world: World) -> list[Finding]:
    """Every byte of the store is what its digest says."""
    schema.check(world.state)
    layout = world.layout
    count = sum(1 for _ in (layout.path / "blobs" / "sha256").iterdir())
    found: list[Finding] = []
    for fault in check.faults(world.state):
        if len(found) == SHOWN:
            break
        fix = "deploy the model again; if it comes back, the disk is at fault"
        found.append(error(fault, fix))
    return found or [ok(f"{count} blobs and the models from them are whole")]


def records(world: World) -> list[Finding]:
    """Every record can be read, and none had to be put aside."""
    faults = [Document(world.state / name).fault() for name in check.RECORDS]
    found = [
        error(fault, "edged puts it aside at its next start and begins anew")
        for fault in faults
        if fault is not None
    ]
    aside = sorted(world.state.glob("*.damaged"))
    found += [
        warning(
            f"{path.name.removesuffix('.damaged')} could not be read once, and began anew",
            f"look at {path}, then remove it; if it comes back, the disk is at fault",
        )
        for path in aside
    ]
    return found or [ok("all records can be read")]


def room(world: World) -> Finding:
    """Another model of the size of the current one fits beside what is there."""
    folder = world.state
    layers = _layers(world)
    needed = 2 * (layers or UNKNOWN_MODEL) + SPARE_BYTES  # fetched, and unpacked
    there = world.room(folder)
    whose = "another model like the current one" if layers else "a model of 256 MiB"
    shown = f"{there.free // MIB} MiB are free on {folder}, {whose} needs {needed // MIB}"
    if there.free < needed:
        return error(shown, "free some; 'edged images' shows what is pinned")
    if there.files is not None and there.files < FILES:
        fix = "remove small files: the file system has no room for more names"
        return error(f"only {there.files} files can be made on {folder}", fix)
    if there.free < 2 * needed:
        return warning(shown, "free some before the next deployment")
    return ok(shown)


def _layers(world: World) -> int:
    """Bytes of the current model's layers; 0 if there is none that can be read."""
    try:
        layout = world.layout
    except SkipError:
        return 0
    current = [text for text, role in pointed(world.state).items() if role == "current"]
    for digest in map(Digest.parse, current):
        path = layout.blob_path(digest)
        if path.is_file():
            image = load_image(layout, Descriptor(MANIFEST, digest, path.stat().st_size))
            return sum(layer.size for layer in image.manifest.layers)
    return 0


def last_change(world: World) -> Finding:
    """The last change of the model went as it was meant to."""
    records = _listed(world, "history.json", "records")
    if not records:
        raise SkipError("nothing was deployed yet")
    last = records[-1]
    outcome = str(last.get("outcome"))
    what = f"{last.get('cause')} {last.get('name') or last.get('reference')}".strip()
    if outcome in ("reverted", "failed"):
        fix = "see 'edged history'; 'edged quarantine' if the image was at fault"
        return warning(f"{what} {outcome}: {last.get('reason')}", fix)
    return ok(f"{what}: {outcome}")


def quarantine(world: World) -> Finding:
    """No image is in quarantine."""
    entries = _listed(world, "quarantine.json", "entries")
    if not entries:
        return ok("no image is in quarantine")
    fix = "'edged quarantine' lists them; build the model anew, or clear it"
    last = entries[-1].get("name")
    return warning(f"{len(entries)} images are in quarantine, the last {last}", fix)


def _listed(world: World, name: str, key: str) -> list[dict[str, Any]]:
    """What is listed in a record, which is left as it is whatever is in it."""
    schema.check(world.state)
    listed = Document(world.state / name).look().get(key, [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise StoreError(f"cannot use {world.state / name}: expected a list of {key}")
    return listed


GROUP = Group(
    "store",
    (
        Check("version", version),
        Check("content", content, CHECK_LIMIT),
        Check("records", records),
        Check("room", room),
        Check("last change", last_change),
        Check("quarantine", quarantine),
    ),
)
