"""``edged images``: what the device's store has; it is read as it is, also when no daemon runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.cli._table import size, table
from edged.errors import EdgedError, ModelError, StoreError

if TYPE_CHECKING:
    from edged.oci import Digest, Image, LayoutFolder
    from edged.oci.inventory import Stored

HELP = "show the images in the store; keep some of them whatever happens"
_SHORT = 12  # digits of a digest, for people


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("--tag", action="store_true", help="also where each was fetched from")
    parser.add_argument("--json", action="store_true", help="print facts as JSON")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--pin", metavar="DIGEST", help="keep this image; its first digits will do")
    change.add_argument("--unpin", metavar="DIGEST", help="keep it no longer than needed")
    parser.add_argument("--state-dir", metavar="DIR", help="the daemon's")
    parser.add_argument("--keys-dir", metavar="DIR", help="where trusted keys are")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the daemon's")


def run(arguments: argparse.Namespace) -> int:
    """Shows the images, or pins one.

    Raises:
        EdgedError: the store cannot be read, or has no such image.
    """
    from edged import config
    from edged.oci import inventory

    given = {key: getattr(arguments, key) for key in ("state_dir", "keys_dir")}
    settings = config.load(given, file=arguments.config)
    layout = _open(settings.state_dir / "images")
    wanted = arguments.pin or arguments.unpin
    if wanted is None:
        show(settings.state_dir, layout, settings.keys_dir, arguments)
    elif layout is None:
        raise StoreError(f"cannot find image {wanted!r}: {settings.state_dir} has none")
    else:
        (inventory.pin if arguments.pin else inventory.unpin)(layout, _one(layout, wanted))
    return 0


def show(
    state: Path, layout: LayoutFolder | None, keys_dir: Path, options: argparse.Namespace
) -> None:
    """Prints the list."""
    from edged.deploy.store import pointed
    from edged.oci import inventory

    roles = pointed(state)
    found = inventory.images(layout, _damaged) if layout else []
    rows = [facts(stored, roles, keys_dir) for stored in found]
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif not rows:
        print(f"no images: nothing was deployed from {state} yet")
    else:
        print(_table(rows, with_source=options.tag))


def facts(stored: Stored, roles: dict[str, str], keys_dir: Path) -> dict[str, Any]:
    """What there is to say about an image.

    Args:
        stored: the image.
        roles: by digest: ``current`` or ``previous``.
        keys_dir: the trusted keys.
    """
    said = _said(stored.image)
    return {
        "digest": str(stored.image.digest),
        **said,
        "bytes": stored.size,
        "role": roles.get(str(stored.image.digest)),
        "pinned": stored.pinned,
        "signed_by": _signer(stored.image, keys_dir),
        "source": stored.reference or None,
        "quality": _quality(stored.image),
    }


def _said(image: Image) -> dict[str, str | None]:
    keys = ("name", "version", "format", "sku")
    try:
        found = image.facts
    except ModelError:
        return dict.fromkeys(keys)
    return {key: getattr(found, key) for key in keys}


def _signer(image: Image, keys_dir: Path) -> str | None:
    """The trusted key that signed the image; None if none did."""
    from edged.oci import keys, signature

    try:
        signatures = image.signatures()
        trusted = keys.TrustedKeys.load(keys_dir)
        return str(signature.verify(image.digest, signatures, trusted)) if signatures else None
    except EdgedError:
        return None


def _quality(image: Image) -> dict[str, Any] | None:
    """The main figures of the report that stands beside the image; None if there is none."""
    from edged.build import quality
    from edged.oci import companion

    try:
        parts = companion.read(image.layout, image.digest, quality.KIND, quality.PART_LIMIT)
        report = quality.from_parts(parts)
    except EdgedError:
        return None
    if report is None or not report.layers:
        return None
    values = [layer.sqnr_db for layer in report.layers]
    return {
        "agreement": report.agreement,
        "pictures": report.pictures,
        "sqnr_db": [min(values), max(values)],
    }


def _in_short(quality: dict[str, Any] | None) -> str | None:
    if quality is None:
        return None
    agreement = quality["agreement"]
    text = f"{quality['sqnr_db'][0]:.0f} dB"
    return text if agreement is None else f"{text}, {agreement:.1%} as float32"


def _table(rows: list[dict[str, Any]], *, with_source: bool) -> str:
    headers = ["digest", "name", "version", "format", "sku", "size", "quality", "kept as"]
    headers += ["signed by", *(["from"] if with_source else [])]
    cells = [
        [
            row["digest"].removeprefix("sha256:")[:_SHORT],
            *(row[key] for key in ("name", "version", "format", "sku")),
            size(row["bytes"]),
            _in_short(row["quality"]),
            ", ".join(filter(None, (row["role"], "pinned" if row["pinned"] else None))) or None,
            row["signed_by"],
            *([row["source"]] if with_source else []),
        ]
        for row in rows
    ]
    return table(headers, cells)


def _open(folder: Path) -> LayoutFolder | None:
    from edged.oci import LayoutFolder

    return LayoutFolder(folder) if (folder / "oci-layout").exists() else None


def _damaged(digest: Digest, error: EdgedError) -> None:
    print(f"edged: image {digest} is damaged; deploy it again: {error}", file=sys.stderr)


def _one(layout: LayoutFolder, text: str) -> Digest:
    """The image whose digest begins like that."""
    from edged.oci import inventory

    wanted = text.removeprefix("sha256:")
    found = [each.image.digest for each in inventory.images(layout, _damaged)]
    fitting = [digest for digest in found if wanted and digest.hex.startswith(wanted)]
    if len(fitting) != 1:
        raise StoreError(
            f"cannot find image {text!r}: {len(fitting)} in the store begin like that; "
            "see 'edged images'"
        )
    return fitting[0]
