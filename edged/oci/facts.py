"""What an image says about its model in the annotations of its manifest.

A device reads them before it fetches anything else: a model for another SKU or too large for the
NPU is refused for the price of one small document. They repeat what the model's own manifest says;
where the two differ, the image is at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edged.errors import ModelError

PREFIX = "org.edged.model."
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
TEXT_LIMIT = 128  # characters of a name, version, SKU or format
NUMBER_LIMIT = 10**15  # of bytes, or of a counter


@dataclass(frozen=True)
class ModelFacts:
    """What a device has to know of a model before it fetches it.

    Attributes:
        name, version: of the model.
        sku: of the device it was built for.
        format: of the NPU's numbers.
        memory: bytes of the NPU's memory that it takes.
        counter: rises with each release under a name; a device that has run one release refuses an
            older one unless it is told to go back.
    """

    name: str
    version: str
    sku: str
    format: str
    memory: int
    counter: int = 0

    @classmethod
    def parse(cls, annotations: Mapping[str, str]) -> ModelFacts:
        """Read the facts from a manifest's annotations.

        Raises:
            ModelError: one is missing or senseless, so this is no image of an edged model.
        """
        return cls(
            _text(annotations, "name"),
            _text(annotations, "version"),
            _text(annotations, "sku"),
            _text(annotations, "format"),
            _number(annotations, "memory"),
            _number(annotations, "counter") if PREFIX + "counter" in annotations else 0,
        )

    def annotations(self) -> dict[str, str]:
        """The annotations that say this, the standard ones for title and version included."""
        own = {
            "name": self.name,
            "version": self.version,
            "sku": self.sku,
            "format": self.format,
            "memory": str(self.memory),
            "counter": str(self.counter),
        }
        return {
            TITLE: self.name,
            VERSION: self.version,
            **{PREFIX + key: value for key, value in own.items()},
        }


def _number(annotations: Mapping[str, str], key: str) -> int:
    text = _text(annotations, key)
    if not (text.isascii() and text.isdigit()) or int(text) >= NUMBER_LIMIT:
        raise ModelError(
            f"cannot use image: annotation {PREFIX}{key} must be a number below {NUMBER_LIMIT}, "
            f"got {text[:40]!r}"
        )
    return int(text)


def _text(annotations: Mapping[str, str], key: str) -> str:
    text = annotations.get(PREFIX + key)
    if text is None:
        raise ModelError(
            f"cannot use image: its manifest has no annotation {PREFIX}{key}, so it is no image of "
            "an edged model (they are made with 'edged build')"
        )
    if not 0 < len(text) <= TEXT_LIMIT or not text.isprintable():
        raise ModelError(
            f"cannot use image: annotation {PREFIX}{key} must be 1 to {TEXT_LIMIT} printable "
            f"characters, got {text[:TEXT_LIMIT]!r}"
        )
    return text
