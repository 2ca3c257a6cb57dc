"""Images of models that only the fake worker can run, and of some that nobody should."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edged.manifest import Manifest, NpuStage, Signature, TensorSpec
from edged.manifest.parts import Golden
from edged.oci import (
    Digest,
    LayoutFolder,
    ModelFacts,
    Reference,
    keys,
    signature,
    write_image,
)


def manifest(name: str = "fake", *, golden: bool = True, **changes: Any) -> Manifest:
    """Returns a manifest of one NPU stage."""
    spec = TensorSpec("x", (), "float32", (-1, 4))
    test = Golden("i.npz", "o.npz", (("y", "0" * 64),), "pi.npz", "po.npz", 0.02)
    values: dict[str, Any] = {
        "name": name,
        "version": "1",
        "signature": Signature((spec,), (TensorSpec("y", (), "float32", (-1, 4)),)),
        "stages": (NpuStage("program.npu", ("x",), ("y",)),),
        "sku": "bw-cnn-a10",
        "format": "ms-fp13",
        "memory": 4096,
        "golden": test if golden else None,
    }
    return Manifest(**{**values, **changes})


def write(
    folder: Path,
    name: str = "fake",
    *,
    document: bytes | None = None,
    facts: ModelFacts | None = None,
    golden: bool = True,
    padding: int = 0,
    behaviour: Mapping[str, Any] | None = None,
    version: str = "1",
    counter: int = 0,
    annotated: Mapping[str, Any] | None = None,
    key: Path | None = None,
) -> str:
    """Writes the image of a model that behaves like that; returns its reference.

    Args:
        folder: made; an image layout.
        name: of the model; the fake worker begins its answers with it.
        document: the manifest.json, if not a good one.
        facts: the annotations, if not what the manifest says.
        golden: whether the manifest has a golden test.
        padding: bytes of ballast.
        behaviour: for the fake worker.
        version: of the model.
        counter: against downgrades.
        annotated: facts that differ from what the manifest says.
        key: the private one to sign with.
    """
    made = manifest(name, golden=golden, version=version)
    files: dict[str, bytes | Path] = {
        "manifest.json": made.to_json() if document is None else document,
        "behaviour.json": json.dumps({"name": name, **(behaviour or {})}).encode(),
        "program.npu": bytes(padding),
    }
    own = ModelFacts(made.name, made.version, made.sku, made.format, made.memory, counter)
    own = dataclasses.replace(own, **(annotated or {}))
    reference = Reference.parse(f"oci:{folder}")
    digest: Digest = write_image(files, facts or own, reference)
    assert str(digest).startswith("sha256:")
    if key is not None:
        signature.add(LayoutFolder(folder), digest, keys.read_private(key))
    return str(reference)
