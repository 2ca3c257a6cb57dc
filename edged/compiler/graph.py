"""The folded graph: what loading and folding make and lowering reads.

Invariants:
- Nodes stand in the model's own order, every value is defined once and before its first use.
- What is constant is in ``constants`` and nowhere else; no node makes a constant.
- The batch dimension is 1 in every type, and every node contributes to an output.

It does not know the NPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edged.compiler.report import PlacedRow, ReportRow, Where

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ValueType:
    """Element type and shape of a value.

    Attributes:
        element: ``onnx.TensorProto.DataType``, 0 where it is not known.
        shape: the dimensions, None for one that is not known; None where not even the rank is.
    """

    element: int = 0
    shape: tuple[int | None, ...] | None = None

    @property
    def static(self) -> tuple[int, ...] | None:
        """The shape where every dimension is known, else None."""
        if self.shape is None or any(each is None for each in self.shape):
            return None
        return tuple(each for each in self.shape if each is not None)


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        index: position in the model after functions were inlined.
        label: the node's name, or its first output's where it has none.
        operator: such as ``Conv``; with the domain in front where it is not ONNX's own.
        inputs, outputs: names of values; ``""`` for an optional one that is absent.
        proto: the node as ONNX has it, with the same names.
        captured: values of the graph that only the node's subgraphs name.
    """

    index: int
    label: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(repr=False)
    proto: NodeProto = field(repr=False, compare=False)
    captured: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """All values that the node reads, once per use."""
        return (*(name for name in self.inputs if name), *self.captured)

    def row(self, where: Where, rule: str) -> PlacedRow:
        """Returns the node's row of the report."""
        return self.index, ReportRow(self.label, self.operator, where, rule)

    def __str__(self) -> str:
        return f"node {self.label!r} ({self.operator})"


class Constants(Mapping[str, Array]):
    """Constants by name; what the model stores is decoded at its first use."""

    def __init__(self) -> None:
        self._stored: dict[str, TensorProto] = {}
        self._arrays: dict[str, Array] = {}

    def store(self, name: str, tensor: TensorProto) -> None:
        """Adds a constant as the model stores it."""
        self._stored[name] = tensor

    def put(self, name: str, array: Array) -> None:
        """Adds a constant that folding made; it may be a broadcast view of a single value."""
        self._arrays[name] = array

    def tensor(self, name: str) -> TensorProto | None:
        """Returns the constant as the model stores it, or None where folding made it."""
        return self._stored.get(name)

    def __getitem__(self, name: str) -> Array:
        from onnx import numpy_helper

        if name not in self._arrays:
            self._arrays[name] = np.asarray(numpy_helper.to_array(self._stored[name]))
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._stored or name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter({**self._stored, **self._arrays})

    def __len__(self) -> int:
        return len({**self._stored, **self._arrays})


@dataclass(frozen=True)
class Port:
    """An input or output of the original model.

    Attributes:
        name: as the model has it.
        element: ``onnx.TensorProto.DataType``.
        shape: batch first as -1, then the dimensions, -1 for one that is not known.
    """

    name: str
    element: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """A checked and folded model.

    Attributes:
        nodes: what is left to compute.
        types: of every value that a node, an input or a constant defines.
        inputs, outputs: names.
        ports: the model's inputs and outputs, as a caller sees them.
        folded: report rows of the nodes that folding took away.
        opsets: version by domain.
        model: what was folded.
    """

    nodes: tuple[Node, ...]
    constants: Constants
    types: Mapping[str, ValueType]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ports: Mapping[str, Port]
    folded: tuple[PlacedRow, ...]
    opsets: Mapping[str, int]
    model: ModelProto = field(repr=False, compare=False)

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each value."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, once per use."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.reads:
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def type_of(self, name: str) -> ValueType:
        """Returns what is known of a value's type."""
        return self.types.get(name, ValueType())


def live(nodes: Iterable[Node], outputs: Iterable[str]) -> tuple[Node, ...]:
    """Returns the nodes that the outputs depend on, in the same order."""
    wanted = set(outputs)
    kept: list[Node] = []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.reads)
    return tuple(reversed(kept))
