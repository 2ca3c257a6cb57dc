"""Placement: which nodes are CPU preprocessing, which are the NPU's, which are the CPU's rest.

The NPU's part is the largest set of nodes that the NPU can run and that is closed under
predecessors, after CPU preprocessing (NPU.md 1.7). Preprocessing is what the NPU cannot run on the
way to the first convolutions, with everything in front of it. It never holds a convolution or a
product of matrices: where such a node is the obstacle, the NPU's part ends there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
        preprocessing: the nodes that run on the CPU before the NPU, by index, and why.
        reasons: why a later node is not the NPU's, by index.
        follows: those of them that merely follow another.
    """

    graph: Graph
    steps: Mapping[int, Step]
    views: Mapping[str, View]
    entered: tuple[str, ...]
    preprocessing: Mapping[int, str]
    reasons: Mapping[int, str]
    follows: frozenset[int]

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
    movable = _movable(graph) if preprocessing else frozenset()
    before: dict[int, str] = {}
    while True:
        placement, obstacles = _attempt(graph, before, movable, classifier=classifier)
        if not obstacles:
            return placement
        # What is in front of an obstacle goes with it; then the rest is looked at afresh, since
        # other values enter the NPU now.
        for node in _ancestors(graph, obstacles):
            before.setdefault(node.index, "preprocessing: a node of the CPU needs it")
        before.update({i: f"preprocessing: {reason}" for i, reason in obstacles.items()})


def _attempt(
    graph: Graph, before: Mapping[int, str], movable: frozenset[int], *, classifier: bool
) -> tuple[Placement, dict[int, str]]:
    """Applies the rules to all nodes but the preprocessing.

    Returns the placement and which movable nodes stand in the way, with the reasons.
    """
    made = [name for node in graph.nodes if node.index in before for name in node.outputs]
    scope = Scope(graph, (*graph.inputs, *made), classifier=classifier)
    steps: dict[int, Step] = {}
    reasons: dict[int, str] = {}
    follows: set[int] = set()
    obstacles: dict[int, str] = {}
    for node in graph.nodes:
        if node.index in before:
            continue
        try:
            steps[node.index], scope.views[node.outputs[0]] = rules.apply(scope, node)
        except Follows as verdict:
            reasons[node.index] = str(verdict)
            follows.add(node.index)
        except Unfit as verdict:
            reasons[node.index] = str(verdict)
            if node.index in movable:
                obstacles[node.index] = str(verdict)
                scope.admit(node.outputs)
    order = {name: i for i, name in enumerate((*graph.inputs, *made))}
    entered = tuple(sorted(scope.entered, key=lambda name: order.get(name, len(order))))
    placement = Placement(
        graph, steps, scope.views, entered, dict(before), reasons, frozenset(follows)
    )
    return placement, obstacles


def _movable(graph: Graph) -> frozenset[int]:
    """Returns the nodes that may be preprocessing: on the way to a first convolution."""
    heavy: set[str] = set()
    for node in graph.nodes:
        if node.operator in HEAVY or heavy.intersection(node.reads):
            heavy.update(node.outputs)
    leads: set[str] = set()
    for node in reversed(graph.nodes):
        is_goal = node.operator == "Conv" and node.attributes.get("group", 1) == 1
        if is_goal or leads.intersection(node.outputs):
            leads.update(node.reads)
    return frozenset(
        node.index
        for node in graph.nodes
        if leads.intersection(node.outputs) and not heavy.intersection(node.outputs)
    )


def _ancestors(graph: Graph, indices: Collection[int]) -> list[Node]:
    """Returns all nodes that some nodes depend on."""
    reads = {name for node in graph.nodes if node.index in indices for name in node.reads}
    return list(live(graph.nodes, reads))
