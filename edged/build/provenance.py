"""Where a model came from and how it was built, for the image's annotations.

Only what equal inputs have in common: no time, host or path, since the image's digest covers it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edged.build import report
from edged.config import version
from edged.errors import ConfigError
from edged.oci import spec
from edged.oci.facts import PREFIX

if TYPE_CHECKING:
    from onnx import ModelProto

    from edged.compiler import ReportRow

BUILD = PREFIX + "build"
LICENSES = "org.opencontainers.image.licenses"
TEXT_LIMIT = 1024  # characters of an annotation's name or value


def build_log(model: ModelProto, rows: Sequence[ReportRow]) -> dict[str, str]:
    """Returns the annotation that says what an image was built from, by which edged.

    Args:
        model: the graph as it was read, whatever it came in; its digest is kept.
        rows: of the build report, of which the counts are kept.
    """
    log = {
        "edged": version.VERSION,
        "graph": _digest(model),
        "nodes": report.counts(rows),
    }
    return {BUILD: spec.to_json(log).decode()}


def checked(annotations: Mapping[str, str]) -> dict[str, str]:
    """Returns a user's own annotations.

    Raises:
        ConfigError: one would say something about the model that only edged knows, is empty, or is
            too long.
    """
    for key, value in annotations.items():
        if key.startswith(PREFIX):
            raise ConfigError(f"cannot annotate {key}: names with {PREFIX} are edged's own")
        if not key or max(len(key), len(value)) > TEXT_LIMIT:
            raise ConfigError(
                f"cannot annotate {key[:80]!r}: expected a name and at most {TEXT_LIMIT} characters"
            )
    return dict(annotations)


def _digest(model: ModelProto) -> str | None:
    """SHA-256 of the graph; None for one beyond what a protobuf message can be, 2 GiB."""
    try:
        data = model.SerializeToString(deterministic=True)
    except ValueError:
        return None
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
