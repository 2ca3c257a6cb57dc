"""Loading: a model in whatever form, checked and folded."""

from __future__ import annotations

from collections.abc import Sequence

from edged.compiler.check import checked
from edged.compiler.fold import fold
from edged.compiler.graph import Graph
from edged.compiler.source import ModelSource, read


def load(model: ModelSource | Graph, *, outputs: Sequence[str] | None = None) -> Graph:
    """Returns the checked and folded graph of a model.

    Args:
        model: a path, the bytes of an .onnx file, an ``onnx.ModelProto``, or a graph that was
            loaded before.
        outputs: values of the model to end with; its own outputs if None.

    Raises:
        ModelError: it cannot be read or is not a model the compiler can take apart; the text names
            node, operator and reason.
    """
    if isinstance(model, Graph):
        return model if outputs is None else fold(model.model, outputs)
    return fold(checked(read(model)), outputs)
