"""How the parts of a partitioned graph become the stages and the signature of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edged.build.preprocess import check_fits
from edged.build.source import Source
from edged.errors import ModelError
from edged.manifest import (
    TYPES,
    ImageStage,
    NpuStage,
    OnnxStage,
    Preprocess,
    Signature,
    Stage,
    TensorSpec,
)

if TYPE_CHECKING:
    from onnx import ModelProto

    from edged.compiler import Partition
    from edged.compiler.graph import Port

PROGRAM, PRE, POST, BOXES = "program.npu", "pre.onnx", "post.onnx", "boxes.onnx"
_PICTURE_NAMES = ("images", "jpeg", "pictures")
_OUTPUT_ALIAS = "output_alias"  # what the original service's clients ask for if not told otherwise


def wire(
    partition: Partition, source: Source, preprocess: Preprocess | None
) -> tuple[Signature, tuple[Stage, ...]]:
    """Returns what callers send and get, and the stages in between.

    Raises:
        ModelError: pictures cannot be this graph's input, or it takes or gives a type that no
            caller can send.
    """
    outputs = tuple(_spec(port) for port in partition.outputs)
    inputs = tuple(_spec(port) for port in partition.inputs)
    stages: list[Stage] = []
    if preprocess is not None:
        inputs, image = _picture(partition, source, preprocess)
        stages.append(image)
    only = (_OUTPUT_ALIAS,) if len(outputs) == 1 else ()
    outputs = tuple(
        _with_aliases(spec, (*source.output_aliases.get(spec.name, ()), *only), (*inputs, *outputs))
        for spec in outputs
    )
    if partition.pre is not None:
        stages.append(OnnxStage(PRE, *_names(partition.pre)))
    program = partition.program
    stages.append(
        NpuStage(
            PROGRAM,
            tuple(port.name for port in program.inputs),
            tuple(port.name for port in program.outputs),
        )
    )
    for path, part in ((POST, partition.post), (BOXES, partition.boxes)):
        if part is not None:
            stages.append(OnnxStage(path, *_names(part)))
    return Signature(inputs, outputs), tuple(stages)


def _picture(
    partition: Partition, source: Source, preprocess: Preprocess
) -> tuple[tuple[TensorSpec, ...], ImageStage]:
    if len(partition.inputs) != 1:
        names = ", ".join(port.name for port in partition.inputs)
        raise ModelError(
            f"cannot connect preprocess to the graph: it has {len(partition.inputs)} inputs "
            f"({names}), pictures can be the only one; build it without preprocess"
        )
    port = partition.inputs[0]
    check_fits(preprocess, port.name, port.shape)
    taken = _values(partition)
    candidates = (*source.input_names, *_PICTURE_NAMES, f"{port.name}/jpeg")
    name = next(name for name in candidates if name not in taken)
    spec = TensorSpec(name, (), "string", (-1,))
    outputs = tuple(_spec(each) for each in partition.outputs)
    aliases = (*source.input_names, *_PICTURE_NAMES[:1])
    spec = _with_aliases(spec, aliases, (spec, *outputs))
    return (spec,), ImageStage(name, port.name, preprocess)


def _values(partition: Partition) -> set[str]:
    """Names that values between the stages have."""
    names = {port.name for port in (*partition.inputs, *partition.outputs)}
    names |= {port.name for port in (*partition.program.inputs, *partition.program.outputs)}
    for model in (partition.pre, partition.post, partition.boxes):
        if model is not None:
            inputs, outputs = _names(model)
            names |= {*inputs, *outputs}
    return names


def _with_aliases(
    spec: TensorSpec, aliases: Iterable[str], taken: Iterable[TensorSpec]
) -> TensorSpec:
    """The same tensor, with those other names that are still free."""
    names = {name for each in taken for name in each.names}
    free = tuple(alias for alias in dict.fromkeys(aliases) if alias not in names)
    return TensorSpec(spec.name, free, spec.type, spec.shape)


def _names(model: ModelProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    graph = model.graph
    return tuple(v.name for v in graph.input), tuple(v.name for v in graph.output)


def _spec(port: Port) -> TensorSpec:
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(port.element)
    if dtype.name not in TYPES:
        raise ModelError(
            f"cannot serve tensor {port.name!r}: its type {dtype.name} is none of "
            f"{', '.join(TYPES)}"
        )
    return TensorSpec(port.name, (), dtype.name, port.shape)
