"""What callers may be told about the one model, wherever it is known from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edged.manifest import Signature


@dataclass(frozen=True)
class Model:
    """The model in service, or on its way into it.

    Attributes:
        name: as callers may give it in ``model_spec``.
        version: likewise; callers can ask only for versions that are integers.
        signature: what callers send and get; None if its manifest cannot be read.
        state: the daemon's one state: serving, swapping, starting or not_serving.
        reason: why it is not serving.
    """

    name: str
    version: str
    signature: Signature | None
    state: str
    reason: str = ""


class Models(Protocol):
    """Who knows the model."""

    def model(self) -> Model | None:
        """Returns the model; None if none is deployed."""
