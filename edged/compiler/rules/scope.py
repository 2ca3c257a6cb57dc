"""What a rule may ask: the values before a node, as feature maps or as constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edged.compiler.graph import Array, Graph, Node
from edged.compiler.steps import Doubles
from edged.compiler.view import View
from edged.npu.chains import Tensor

FLOAT = 1
"""``onnx.TensorProto.FLOAT``."""


class Unfit(Exception):  # noqa: N818 - a verdict, not an error
    """The NPU cannot run a node; the text is the reason."""


class Follows(Unfit):
    """The NPU cannot run a node because one before it runs on the CPU."""


class Scope:
    """The feature maps made so far.

    Args:
        graph: the graph.
        entries: values that may enter the NPU: the graph's inputs, what preprocessing makes.
        classifier: whether Gemm and MatMul are the NPU's.
    """

    def __init__(self, graph: Graph, entries: Iterable[str], *, classifier: bool) -> None:
        self.graph = graph
        self.classifier = classifier
        self.views: dict[str, View] = {}
        self.entered: list[str] = []
        self._entries = set(entries)
        self._maps = 0

    def new_map(self) -> int:
        """Returns the number of a new feature map."""
        self._maps += 1
        return self._maps - 1

    def admit(self, names: Iterable[str]) -> None:
        """Lets values that the CPU makes enter the NPU."""
        self._entries.update(names)

    def is_read(self, name: str) -> bool:
        """Whether a node reads the value or it is an output."""
        return name in self.graph.consumers or name in self.graph.outputs

    def require(self, name: str) -> None:
        """Returns if a value is absent, constant, or on the NPU.

        Raises:
            Follows: it is made by a node that runs on the CPU.
        """
        known = name in self.views or name in self._entries or name in self.graph.constants
        if name and not known:
            maker = self.graph.producers.get(name)
            raise Follows(f"follows {maker}, which runs on the CPU")

    def view(self, name: str) -> View:
        """Returns the view that a value is.

        Raises:
            Unfit: it is none.
        """
        if name in self.graph.constants:
            raise Unfit(f"its operand {name!r} is constant")
        if name not in self.views:
            self.require(name)
            self.views[name] = self._enter(name)
            self.entered.append(name)
        return self.views[name]

    def map_view(self, name: str) -> View:
        """Returns the view that a value is, which has the rows, columns and channels of a map.

        Raises:
            Unfit: it is flattened, or none.
        """
        view = self.view(name)
        if view.layout is None:
            raise Unfit(f"its operand {name!r} of shape {list(view.shape)} is a flattened map")
        return view

    def nchw(self, name: str) -> View:
        """Returns the view that a value is, in the layout that ONNX's windows are defined for.

        Raises:
            Unfit: it is in another.
        """
        view = self.map_view(name)
        if view.layout != "NCHW":
            raise Unfit(f"its operand {name!r} of shape {list(view.shape)} is not NCHW")
        return view

    def is_constant(self, name: str) -> bool:
        """Whether a value is constant."""
        return name in self.graph.constants

    def doubles(self, name: str) -> Doubles:
        """Returns a constant in float64.

        Raises:
            Unfit: it is not constant.
        """
        return self._constant(name).astype(np.float64)

    def integers(self, node: Node, position: int, attribute: str) -> list[int] | None:
        """Returns what is an attribute in older opsets and an input in newer ones, None if absent.

        Raises:
            Unfit: the input is not constant.
        """
        name = node.inputs[position] if len(node.inputs) > position else ""
        found = self._constant(name).ravel().tolist() if name else node.attributes.get(attribute)
        return None if found is None else [int(each) for each in found]

    def number(self, node: Node, position: int, attribute: str, default: float) -> float:
        """As ``integers``, for a single number."""
        name = node.inputs[position] if len(node.inputs) > position else ""
        if name:
            values = self.doubles(name)
            if values.size != 1:
                raise Unfit(f"its operand {name!r} has {values.size} values instead of one")
            return float(values.ravel()[0])
        return float(node.attributes.get(attribute, default))

    def _constant(self, name: str) -> Array:
        if name not in self.graph.constants:
            raise Unfit(f"its operand {name!r} is not constant")
        return self.graph.constants[name]

    def _enter(self, name: str) -> View:
        """Returns the view of a value that enters the NPU."""
        found = self.graph.type_of(name)
        shape = found.static
        if found.element != FLOAT:
            raise Unfit(f"its operand {name!r} is not float32, the only type that enters the NPU")
        if shape is None or shape[:1] != (1,) or len(shape) not in {2, 4} or min(shape) < 1:
            known = "unknown" if found.shape is None else list(found.shape)
            raise Unfit(f"its operand {name!r} has shape {known}; [1, C] or 4 axes enter the NPU")
        if len(shape) == 2:
            return View(self.new_map(), Tensor(1, 1, shape[1]), "CHW", shape)
        if enters_as_nhwc(self.graph, name):
            return View(self.new_map(), Tensor(*shape[1:]), "HWC", shape)
        return View(self.new_map(), Tensor(shape[2], shape[3], shape[1]), "CHW", shape)


_FIXES_NCHW = frozenset(
    {"BatchNormalization", "Conv", "GlobalAveragePool", "MaxPool", "AveragePool"}
)


def enters_as_nhwc(graph: Graph, name: str) -> bool:
    """Whether the first node to care takes a value's last axis for its channels.

    A Transpose to NCHW does so, as tf2onnx puts in front of the first convolution; nodes that have
    no opinion on the way are passed through.
    """
    consumers: Mapping[str, tuple[Node, ...]] = graph.consumers
    pending, seen = {node.index: node for node in consumers.get(name, ())}, {name}
    while pending:
        node = pending.pop(min(pending))
        if node.operator == "Transpose" and tuple(node.attributes.get("perm", ())) == (0, 3, 1, 2):
            return True
        if node.operator in _FIXES_NCHW or node.operator == "Transpose":
            return False
        for each in node.outputs[:1]:
            if each not in seen:
                seen.add(each)
                pending.update({reader.index: reader for reader in consumers.get(each, ())})
    return False
