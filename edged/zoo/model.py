"""What a zoo model consists of."""

from __future__ import annotations

from dataclasses import dataclass
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
        input_aliases: names that the original service's clients give the picture.
        output_aliases: and the scores.
    """

    name: str
    graph: ModelProto
    preprocess: Preprocess
    input_aliases: tuple[str, ...]
    output_aliases: tuple[str, ...]
