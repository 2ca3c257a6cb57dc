"""Placement: which nodes are CPU preprocessing, which are the NPU's, which are the CPU's rest.

The NPU's part is the largest set of nodes that the NPU can run and that is closed under
predecessors, after CPU preprocessing (NPU.md 1.7). Preprocessing is what the NPU cannot run on the
way to the first convolutions, with everything in front of it. It never holds a convolution or a
product of matrices: where such a node is the obstacle, the NPU's part ends there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edged.compiler import rules
from edged.compiler.graph import Graph, Node, live
from edged.compiler.rules.scope import Follows, Scope, Unfit
from edged.compiler.steps import Convolve, Step
from edged.compiler.view import View

HEAVY = frozenset(
    {"Conv", "ConvTranspose", "ConvInteger", "DeformConv", "Einsum", "GRU", "Gemm", "LSTM"}
    | {"MatMul", "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN", "com.microsoft.FusedConv"}
)
"""Operators that no preprocessing consists of."""


@dataclass(frozen=True)
class Placement:
    """Where each node runs.

    Attributes:
        steps: the NPU's nodes by index, in order.
        views: of the values on the NPU, and of those that enter it.
        entered: values that enter the NPU, in the order of their makers.
        preprocessing: indices of the nodes that run on the CPU before the NPU.
        reasons: why a node is not the NPU's, by index.
        obstacles: those of them that do not merely follow another.
    """

    graph: Graph
    steps: Mapping[int, Step]
    views: Mapping[str, View]
    entered: tuple[str, ...]
    preprocessing: frozenset[int]
    reasons: Mapping[int, str]
    obstacles: frozenset[int]

    def nodes(self) -> list[Node]:
        """Returns the NPU's nodes in order."""
        return [node for node in self.graph.nodes if node.index in self.steps]

    @property
    def convolves(self) -> bool:
        """Whether the NPU's part holds a convolution."""
        return any(isinstance(step, Convolve) for step in self.steps.values())


def place(graph: Graph, *, classifier: bool, preprocessing: bool) -> Placement:
    """Returns where each node runs.

    Args:
        graph: the folded graph.
        classifier: whether Gemm and MatMul are the NPU's.
        preprocessing: whether the CPU may run nodes before the NPU.
    """
    before: frozenset[int] = frozenset()
    while True:
        placement = _attempt(graph, before, classifier=classifier)
        obstacles = _obstacles(placement) if preprocessing else set()
        if not obstacles:
            return placement
        before |= _with_ancestors(graph, obstacles)


def _attempt(graph: Graph, before: frozenset[int], *, classifier: bool) -> Placement:
    """Applies the rules to all nodes but the preprocessing."""
    made = [name for node in graph.nodes if node.index in before for name in node.outputs]
    scope = Scope(graph, (*graph.inputs, *made), classifier=classifier)
    steps: dict[int, Step] = {}
    reasons: dict[int, str] = {}
    obstacles: set[int] = set()
    for node in graph.nodes:
        if node.index in before:
            continue
        try:
            steps[node.index], scope.views[node.outputs[0]] = rules.apply(scope, node)
        except Unfit as verdict:
            reasons[node.index] = str(verdict)
            if not isinstance(verdict, Follows):
                obstacles.add(node.index)
    order = {name: i for i, name in enumerate((*graph.inputs, *made))}
    entered = tuple(sorted(scope.entered, key=order.__getitem__))
    return Placement(graph, steps, scope.views, entered, before, reasons, frozenset(obstacles))


def _obstacles(placement: Placement) -> set[int]:
    """Returns the nodes in the way to a first convolution that the CPU may run before the NPU."""
    graph = placement.graph
    heavy: set[str] = set()
    for node in graph.nodes:
        if node.operator in HEAVY or heavy.intersection(node.reads):
            heavy.update(node.outputs)
    leads: set[str] = set()
    for node in reversed(graph.nodes):
        is_goal = node.operator == "Conv" and node.attributes.get("group", 1) == 1
        if is_goal or leads.intersection(node.outputs):
            leads.update(node.reads)
    return {
        node.index
        for node in graph.nodes
        if node.index in placement.obstacles
        and not heavy.intersection(node.outputs)
        and leads.intersection(node.outputs)
    }


def _with_ancestors(graph: Graph, indices: Iterable[int]) -> frozenset[int]:
    """Returns nodes and all that they depend on."""
    wanted = set(indices)
    reads = {name for node in graph.nodes if node.index in wanted for name in node.reads}
    return frozenset(wanted | {node.index for node in live(graph.nodes, reads)})
