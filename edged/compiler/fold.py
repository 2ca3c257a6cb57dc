"""Folding: takes away what does not depend on the input, and learns every shape.

One pass forward through the nodes. What each node reads is either known by then or is not, so a
constant, a shape or an alias that one node yields is there for all later ones.

Folded: Constant, ConstantOfShape, Shape, Size, arithmetic on constants (``evaluate``), Identity,
Dropout, Cast to the same type, one-input Concat and Sum, Pad by nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edged.compiler.check import label, operator
from edged.compiler.evaluate import Evaluator, fill
from edged.compiler.graph import Constants, Graph, Node, Port, live
from edged.compiler.infer import Types
from edged.compiler.report import PlacedRow
from edged.errors import ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

ELEMENT_LIMIT = 1 << 28
"""Elements of an input."""


def fold(model: ModelProto, outputs: Sequence[str] | None = None) -> Graph:
    """Returns the folded graph of a checked model.

    Args:
        model: it is not changed.
        outputs: values to end with; the model's own outputs if None.

    Raises:
        ModelError: an input has a dimension that is not fixed, a node does not fit its inputs, or
            there is no such output.
    """
    from onnx import ValueInfoProto

    infos = {each.name: each for each in model.graph.output}
    names = list(infos) if outputs is None else list(outputs)
    folding = _Folding(model, names)
    for proto in model.graph.node:
        folding.visit(proto)
    return folding.graph([infos.get(name) or ValueInfoProto(name=name) for name in names])


class _Folding:
    def __init__(self, model: ModelProto, outputs: Sequence[str]) -> None:
        self._model = model
        self._opsets = {
            "" if each.domain == "ai.onnx" else each.domain: each.version
            for each in model.opset_import
        }
        self._constants = Constants()
        self._types = Types(self._opsets, self._constants)
        self._evaluator = Evaluator(self._opsets)
        self._aliases: dict[str, str] = {}
        self._alias_of: dict[str, Node] = {}
        self._nodes: list[Node] = []
        self._rows: list[PlacedRow] = []
        self._read = {*_names_read(model.graph), *outputs}
        self._batch = 1
        self._count = 0
        for tensor in model.graph.initializer:
            self._constants.store(tensor.name, tensor)
            self._types.put_constant(tensor.name)
        self._inputs = [each for each in model.graph.input if each.name not in self._constants]
        self._ports = {each.name: self._input_port(each) for each in self._inputs}

    def _input_port(self, info: ValueInfoProto) -> Port:
        """Sets an input's type with a batch of 1 and returns what callers see."""
        tensor = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
            raise ModelError(f"cannot load input {info.name!r}: it is not a tensor with a shape")
        dims = [each.dim_value if each.dim_value > 0 else -1 for each in tensor.shape.dim]
        for axis, size in enumerate(dims[1:], 1):
            if size < 0:
                raise ModelError(
                    f"cannot load input {info.name!r}: dimension {axis} "
                    f"({tensor.shape.dim[axis].dim_param or 'unnamed'}) is not fixed; only the "
                    "first, the batch, may vary: export the model with a fixed size"
                )
        batched = len(dims) > 1 or dims == [-1]
        if batched:
            self._batch = max(self._batch, dims[0])
            dims[0] = 1
        if int(np.prod(dims, dtype=object)) > ELEMENT_LIMIT:
            raise ModelError(f"cannot load input {info.name!r}: {dims} is too large")
        self._types.put(info.name, tensor.elem_type, tuple(dims))
        return Port(info.name, tensor.elem_type, (-1, *dims[1:]) if batched else tuple(dims))

    def visit(self, original: NodeProto) -> None:
        """Folds one node or keeps it."""
        proto = _renamed(original, self._aliases)
        self._fit_batch(proto)
        node = _node(self._count, proto)
        self._count += 1
        if node.operator == "If" and node.inputs[0] in self._constants:
            self._inline_branch(node)
            return
        if self._is_alias(node):
            self._aliases[node.outputs[0]] = node.inputs[0]
            self._alias_of[node.outputs[0]] = node
            self._rows.append(node.row("folded", "passes its input on"))
            return
        found = self._known(node)
        if found is None:
            self._types.infer(node)
            found = self._computed(node)
        if found is None:
            self._nodes.append(node)
            return
        for name, array in zip(filter(None, node.outputs), found, strict=False):
            self._constants.put(name, array)
            self._types.put_constant(name)
        self._rows.append(node.row("folded", "constant"))

    def _inline_branch(self, node: Node) -> None:
        """Puts the nodes of the branch that is always taken in the place of an If."""
        taken = "then_branch" if np.all(self._constants[node.inputs[0]]) else "else_branch"
        branch = next(each.g for each in node.proto.attribute if each.name == taken)
        inner = {name for each in branch.node for name in each.output if name}
        inner |= {each.name for each in branch.initializer}
        names = {name: f"{node.label}/{node.index}/{name}" for name in inner}
        for tensor in branch.initializer:
            self._constants.store(names[tensor.name], tensor)
            self._types.put_constant(names[tensor.name])
        self._rows.append(node.row("folded", f"always takes its {taken}"))
        for each in branch.node:
            self.visit(_renamed(each, names, outputs=True))
        for name, info in zip(node.outputs, branch.output, strict=True):
            inside = names.get(info.name, info.name)
            self._aliases[name] = self._aliases.get(inside, inside)

    def _arrays(self, names: Sequence[str]) -> list[Any] | None:
        if all(not name or name in self._constants for name in names):
            return [self._constants[name] if name else None for name in names]
        return None

    def _computed(self, node: Node) -> list[Any] | None:
        """Returns what a node yields that reads constants only, if it is one to fold."""
        arrays = self._arrays(node.inputs)
        if arrays is None or node.captured or not any(node.inputs):
            return None
        return self._evaluator.evaluate(node, arrays, self._types.bytes_of(node.outputs))

    def _known(self, node: Node) -> list[Any] | None:
        """Returns what a node yields whose value needs no arithmetic."""
        if node.operator == "Constant":
            return [_constant_value(node)]
        source = self._types[node.inputs[0]].static if node.inputs else None
        if node.operator == "Shape" and source is not None:
            start, end = node.attributes.get("start", 0), node.attributes.get("end")
            return [np.array(source[start:end], np.int64)]
        if node.operator == "Size" and source is not None:
            return [np.array(int(np.prod(source, dtype=object)), np.int64)]
        if node.operator == "ConstantOfShape" and node.inputs[0] in self._constants:
            value = node.attributes.get("value")
            return [fill(node, self._constants[node.inputs[0]], _filling(value))]
        return None

    def _is_alias(self, node: Node) -> bool:
        """Whether the first output is the first input."""
        first = self._types[node.inputs[0]] if node.inputs and node.inputs[0] else None
        if first is None or any(name in self._read for name in node.outputs[1:]):
            return False
        if node.operator == "Dropout":
            training = self._arrays(node.inputs[2:3] or ("",))
            return training is not None and not any(np.any(each) for each in training)
        if node.operator == "Cast":
            return bool(first.element == node.attributes["to"])
        if node.operator == "CastLike":
            return first.element == self._types[node.inputs[1]].element != 0
        if node.operator == "Pad":
            pads = self._arrays(node.inputs[1:2])
            amounts = pads[0] if pads else node.attributes.get("pads")
            return amounts is not None and not np.any(amounts)
        return node.operator == "Identity" or (
            node.operator in {"Concat", "Sum", "Max", "Min", "Mean"} and len(node.inputs) == 1
        )

    def _fit_batch(self, proto: NodeProto) -> None:
        """Makes the batch that a Reshape was exported with 1."""
        if self._batch == 1 or proto.op_type != "Reshape" or proto.input[1] not in self._constants:
            return
        target = self._constants[proto.input[1]]
        source = self._types[proto.input[0]].static
        if source and source[0] == 1 and target.size and target[0] == self._batch:
            name = f"{proto.output[0]}/batch-1-shape"
            self._constants.put(name, np.concatenate([[1], target[1:]]).astype(np.int64))
            self._types.put_constant(name)
            proto.input[1] = name

    def graph(self, infos: Sequence[ValueInfoProto]) -> Graph:
        """Returns the result, with outputs under the model's own names."""
        outputs = tuple(each.name for each in infos)
        self._check_outputs(outputs)
        self._name_outputs(outputs)
        nodes = live(self._nodes, outputs)
        kept = {node.index for node in nodes}
        dead = [
            node.row("folded", "no output needs it")
            for node in self._nodes
            if node.index not in kept
        ]
        for info in infos:
            self._ports[info.name] = self._output_port(info)
        return Graph(
            nodes=nodes,
            constants=self._constants,
            types=self._types.all(),
            inputs=tuple(each.name for each in self._inputs),
            outputs=outputs,
            ports=self._ports,
            folded=(*self._rows, *dead),
            opsets=self._opsets,
            model=self._model,
        )

    def _check_outputs(self, outputs: tuple[str, ...]) -> None:
        known = {name for node in self._nodes for name in node.outputs}
        known |= {*self._aliases, *self._constants, *self._ports}
        for name in outputs:
            if name not in known:
                own = ", ".join(repr(each.name) for each in self._model.graph.output)
                raise ModelError(f"cannot load output {name!r}: no such value; outputs are {own}")
        if len(set(outputs)) != len(outputs) or not outputs:
            raise ModelError(f"cannot load outputs {list(outputs)}: none, or one of them twice")

    def _name_outputs(self, outputs: tuple[str, ...]) -> None:
        """Gives a value that an output is an alias of the output's name, or copies it."""
        made = {name for node in self._nodes for name in node.outputs}
        renames: dict[str, str] = {}
        for name in outputs:
            root = self._aliases.get(name, name)
            if root == name and name not in self._constants:
                continue
            if root in made and root not in outputs and root not in renames:
                renames[root] = name
                self._types.alias(root, name)
            elif name not in self._ports:
                self._nodes.append(self._copy(name, root))
        self._nodes = sorted(
            (_node(node.index, _renamed(node.proto, renames, outputs=True)) for node in self._nodes)
            if renames
            else self._nodes,
            key=lambda node: node.index,
        )

    def _copy(self, name: str, root: str) -> Node:
        """Returns an Identity that makes an output of a value that has another name."""
        from onnx import helper

        if root == name:
            root = f"{name}/constant"
            self._constants.put(root, self._constants[name])
            self._types.put_constant(root)
        self._types.alias(root, name)
        alias = self._alias_of.get(name)
        index = alias.index if alias else self._count
        self._rows = [placed for placed in self._rows if placed[0] != index]
        title = alias.label if alias else f"{name}/copy"
        return _node(index, helper.make_node("Identity", [root], [name], name=title))

    def _output_port(self, info: ValueInfoProto) -> Port:
        """Returns what callers see of an output; its batch must have become 1."""
        tensor = info.type.tensor_type
        if self._types[info.name].shape is None and tensor.HasField("shape"):
            # Nothing could be inferred: the model's word is all there is.
            dims = [each.dim_value or None for each in tensor.shape.dim]
            first = [1 if each in {None, self._batch} else each for each in dims[:1]]
            self._types.put(info.name, tensor.elem_type, [*first, *dims[1:]])
        found = self._types[info.name]
        shape = tuple(-1 if each is None else each for each in found.shape or ())
        declared = [each.dim_value for each in tensor.shape.dim]
        for axis, size in enumerate(declared[: len(shape)]):
            want = 1 if axis == 0 and size == self._batch else size
            if size > 0 and shape[axis] not in {-1, want}:
                raise ModelError(
                    f"cannot load output {info.name!r}: a batch of 1 gives {list(shape)}, the "
                    f"model announces {declared}; export it with a batch of 1"
                )
        element = found.element or tensor.elem_type
        return Port(info.name, element, (-1, *shape[1:]) if shape[:1] == (1,) else shape)


def _names_read(graph: GraphProto) -> Iterable[str]:
    """Yields every name that a graph or one of its subgraphs reads."""
    for node in graph.node:
        yield from node.input
        for each in _subgraphs(node):
            yield from _names_read(each)
    yield from (each.name for each in graph.output)


def _subgraphs(node: NodeProto) -> list[GraphProto]:
    return [
        graph
        for attribute in node.attribute
        for graph in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def _node(index: int, proto: NodeProto) -> Node:
    from onnx import AttributeProto, helper

    graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    attributes = {
        each.name: _plain(helper.get_attribute_value(each))
        for each in proto.attribute
        if each.type not in graphs
    }
    captured: list[str] = []
    for graph in _subgraphs(proto):
        inner = {each.name for each in graph.input} | {each.name for each in graph.initializer}
        inner |= {name for each in graph.node for name in each.output}
        captured += [name for name in _names_read(graph) if name and name not in inner]
    return Node(
        index=index,
        label=label(proto),
        operator=operator(proto),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
        proto=proto,
        captured=tuple(dict.fromkeys(captured)),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _renamed(proto: NodeProto, names: dict[str, str], *, outputs: bool = False) -> NodeProto:
    """Returns a copy of a node that reads, and on request makes, values by other names."""
    from onnx import NodeProto

    copy = NodeProto()
    copy.CopyFrom(proto)
    _rename(copy, names)
    if outputs:
        copy.output[:] = [names.get(name, name) for name in copy.output]
    return copy


def _rename(node: NodeProto, names: dict[str, str]) -> None:
    if any(name in names for name in node.input):
        node.input[:] = [names.get(name, name) for name in node.input]
    for graph in _subgraphs(node):
        for each in graph.node:
            _rename(each, names)
        for info in graph.output:
            info.name = names.get(info.name, info.name)


def _constant_value(node: Node) -> Any:
    from onnx import numpy_helper

    attributes = node.proto.attribute
    if len(attributes) != 1:
        raise ModelError(f"cannot fold {node}: it has {len(attributes)} values instead of one")
    attribute = attributes[0]
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(attribute.t))
    kinds: dict[str, Any] = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_string": object,
        "value_strings": object,
    }
    if attribute.name not in kinds:
        raise ModelError(f"cannot fold {node}: {attribute.name} is not supported")
    return np.array(node.attributes[attribute.name], kinds[attribute.name])


def _filling(value: Any) -> Any:
    from onnx import numpy_helper

    return np.zeros(1, np.float32) if value is None else np.asarray(numpy_helper.to_array(value))
