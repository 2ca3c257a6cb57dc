"""What a zoo model consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edged.manifest import Preprocess

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, eq=False)
class ZooModel:
    """A graph with what is needed to build an image of it.

    Attributes:
        name: as in ``edged build NAME``.
        graph: NCHW, one input, batch dimension ``N``.
        preprocess: from a picture to the graph's input.
        input_names: that the original service's clients give the picture, the tensor's own first.
        output_aliases: and the values that may be outputs, by the graph's names.
        classes: that it tells apart, a detector's none included; None if not known.
        notes: what whoever builds it should know, in sentences.
    """

    name: str
    graph: ModelProto
    preprocess: Preprocess
    input_names: tuple[str, ...] = ()
    output_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    classes: int | None = None
