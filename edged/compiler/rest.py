"""What the CPU runs after the NPU, as one graph or two.

A detector may give boxes and what they are made of. Picking boxes takes longer than all else that
is left, and onnxruntime computes a graph whole; so where some outputs depend on NonMaxSuppression
and others do not, the nodes that only the former need are a graph of their own. Whoever asks for
the others does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edged.compiler.extract import extract
from edged.compiler.graph import Graph, Node, live

if TYPE_CHECKING:
    from onnx import ModelProto

PICKS = "NonMaxSuppression"

Parts = tuple["ModelProto | None", "ModelProto | None"]


def rest(graph: Graph, nodes: Sequence[Node]) -> Parts:
    """Returns the graph of the nodes, and that of those which pick boxes; None where there is none.

    Args:
        graph: the folded graph.
        nodes: the CPU's after the NPU, in order.
    """
    made = {name for node in nodes for name in node.outputs}
    outputs = [name for name in graph.outputs if name in made]
    plain = [name for name in outputs if not _picked(nodes, name)]
    picked = [name for name in outputs if name not in plain]
    if not nodes:
        return None, None
    if not plain or not picked:
        return extract(graph, nodes, outputs, "post"), None
    first = live(nodes, plain)
    kept = {node.index for node in first}
    second = [node for node in nodes if node.index not in kept]
    needed = {name for node in second for name in node.reads}
    between = [
        name for node in first for name in node.outputs if name in needed and name not in plain
    ]
    return (
        extract(graph, first, [*plain, *between], "post"),
        extract(graph, second, picked, "boxes"),
    )


def _picked(nodes: Sequence[Node], output: str) -> bool:
    return any(node.operator == PICKS for node in live(nodes, [output]))
