"""The two ways of compiling: all on the NPU, or with the CPU's parts before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from edged.compiler.chain import Drafts, draft
from edged.compiler.emit import emit
from edged.compiler.extract import extract
from edged.compiler.graph import Graph, Node, Port
from edged.compiler.load import load
from edged.compiler.place import Placement, place
from edged.compiler.report import PlacedRow, ReportRow, in_order
from edged.compiler.rest import rest
from edged.compiler.source import ModelSource
from edged.compiler.steps import Relabel
from edged.errors import ModelError
from edged.npu.formats import DEFAULT_FORMAT
from edged.npu.program import Program

if TYPE_CHECKING:
    from onnx import ModelProto

DEFAULT_SKU = "bw-cnn-a10"
Classifier = Literal["cpu", "npu"]


@dataclass(frozen=True)
class Partition:
    """A model in the parts that run one after the other; names connect them.

    Attributes:
        pre: the CPU's part before the NPU, or None; batch 1.
        program: the NPU's part.
        post: the CPU's part after it, or None; batch 1. It reads the program's outputs, and may
            read inputs of the model and outputs of ``pre``.
        report: one row for each node of the model, in its order.
        inputs, outputs: of the model, batch first as -1.
        boxes: the CPU's part that picks a detector's boxes, where that is apart from ``post``
            (``rest``), or None; batch 1. It may read outputs of ``post`` too.
    """

    pre: ModelProto | None = field(repr=False)
    program: Program
    post: ModelProto | None = field(repr=False)
    report: tuple[ReportRow, ...] = field(repr=False)
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    boxes: ModelProto | None = field(default=None, repr=False)


def compile_model(
    model: ModelSource | Graph,
    *,
    format: str = DEFAULT_FORMAT,  # noqa: A002 - the word users know
    sku: str = DEFAULT_SKU,
    outputs: Sequence[str] | None = None,
) -> Program:
    """Returns the program that computes a model's outputs on the NPU alone.

    Args:
        model: a path, the bytes of an .onnx file, an ``onnx.ModelProto`` or a loaded graph.
        format: number format of the blocks, one of ``edged.npu.FORMATS``.
        sku: name of the device build.
        outputs: values to compute, in this order; the model's own outputs if None.

    Raises:
        ModelError: the model cannot be loaded, or a node cannot run on the NPU; the text names the
            first such node, its operator and the reason.
    """
    graph = load(model, outputs=outputs)
    placement = place(graph, classifier=True, preprocessing=False)
    for node in graph.nodes:
        if node.index in placement.reasons:
            raise ModelError(f"cannot compile {node}: {placement.reasons[node.index]}")
    for name in graph.outputs:
        if name not in placement.views:
            raise ModelError(f"cannot compile model: no node makes its output {name!r}")
    return _program(placement, draft(placement), graph.outputs, format, sku)


def partition(
    model: ModelSource | Graph,
    *,
    format: str = DEFAULT_FORMAT,  # noqa: A002 - the word users know
    sku: str = DEFAULT_SKU,
    classifier: Classifier = "cpu",
) -> Partition:
    """Returns a model as one NPU part with the CPU's parts around it (NPU.md 1.7).

    Args:
        model: as for ``compile_model``.
        format: number format of the blocks.
        sku: name of the device build.
        classifier: where Gemm and MatMul run.

    Raises:
        ModelError: the model cannot be loaded, or no convolution of it can run on the NPU; the text
            names node, operator and reason.
    """
    graph = load(model)
    placement = place(graph, classifier=classifier == "npu", preprocessing=True)
    if not placement.convolves:
        raise ModelError(f"cannot partition model: {_nothing_left(placement)}")
    drafts = draft(placement)
    after, leaving = _after(placement)
    post, boxes = rest(graph, after)
    return Partition(
        pre=_before(placement),
        program=_program(placement, drafts, leaving, format, sku),
        post=post,
        report=in_order(_rows(placement, drafts, after)),
        inputs=tuple(graph.ports[name] for name in graph.inputs),
        outputs=tuple(graph.ports[name] for name in graph.outputs),
        boxes=boxes,
    )


def _program(
    placement: Placement,
    drafts: Drafts,
    outputs: Sequence[str],
    format: str,  # noqa: A002
    sku: str,
) -> Program:
    views = placement.views
    return emit(
        drafts,
        [(name, views[name]) for name in placement.entered],
        [(name, views[name]) for name in outputs],
        {view.map: view.tensor for view in views.values()},
        format=format,
        sku=sku,
    )


def _nothing_left(placement: Placement) -> str:
    for node in placement.graph.nodes:
        if node.index in placement.reasons and node.index not in placement.follows:
            return f"no convolution is left for the NPU: {node}: {placement.reasons[node.index]}"
    return "it has no convolution for the NPU"


def _leaves(placement: Placement, name: str) -> bool:
    """Whether a program hands a value out; if not, a layout node makes it of one that it does."""
    view = placement.views[name]
    entered = {placement.views[each].map for each in placement.entered}
    return view.layout is not None and view.map not in entered


def _after(placement: Placement) -> tuple[list[Node], list[str]]:
    """Returns the nodes that run after the NPU, and the values that leave it.

    Where the CPU needs a view that no port has, the layout nodes that make it run there too.
    """
    graph, steps = placement.graph, placement.steps
    after = {
        node.index
        for node in graph.nodes
        if node.index not in steps and node.index not in placement.preprocessing
    }
    leaving: set[str] = set()
    pending = [
        *graph.outputs,
        *(n for node in graph.nodes if node.index in after for n in node.reads),
    ]
    while pending:
        name = pending.pop()
        maker = graph.producers.get(name)
        if maker is None or maker.index not in steps:
            continue
        if _leaves(placement, name):
            leaving.add(name)
        elif maker.index not in after:
            after.add(maker.index)
            pending += maker.reads
    order = [name for node in graph.nodes for name in node.outputs if name in leaving]
    return [node for node in graph.nodes if node.index in after], order


def _before(placement: Placement) -> ModelProto | None:
    graph = placement.graph
    before = placement.preprocessing
    nodes = [node for node in graph.nodes if node.index in before]
    outside = {name for node in graph.nodes if node.index not in before for name in node.reads}
    wanted = outside.union(graph.outputs)
    outputs = [name for node in nodes for name in node.outputs if name in wanted]
    return extract(graph, nodes, outputs, "pre") if nodes else None


def _rows(placement: Placement, drafts: Drafts, after: Sequence[Node]) -> list[PlacedRow]:
    """Returns a row for each node of the model."""
    graph = placement.graph
    rows = list(graph.folded)
    moved = {node.index for node in after if isinstance(placement.steps.get(node.index), Relabel)}
    for node in graph.nodes:
        if node.index in placement.preprocessing:
            rows.append(node.row("cpu", placement.preprocessing[node.index]))
        elif node.index in placement.reasons:
            rows.append(node.row("cpu", placement.reasons[node.index]))
        elif node.index in moved and not _read_on_npu(placement, node):
            rows.append(node.row("cpu", "layout that only the CPU needs"))
        else:
            rows.append(node.row("npu", drafts.rules[node.index]))
    return rows


def _read_on_npu(placement: Placement, node: Node) -> bool:
    readers = placement.graph.consumers.get(node.outputs[0], ())
    return any(reader.index in placement.steps for reader in readers)
