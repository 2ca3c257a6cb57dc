"""Reading a model: from a path, from bytes or as it is, with its weights in memory.

Invariants:
- Whatever comes out holds all its tensors; nothing is read later.
- No file outside the model's own folder is opened, whatever the model says.

It does not judge the graph; ``check`` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from google.protobuf.message import DecodeError, Message

from edged.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

ModelSource = Union["str | os.PathLike[str]", bytes, "ModelProto"]
"""What a model can be given as: a path, the bytes of an .onnx file, or the parsed message."""

BYTES_LIMIT = (1 << 31) - (1 << 20)
"""A protobuf message holds less than 2 GiB; a model with its weights must fit into one."""


def read(source: ModelSource) -> ModelProto:
    """Returns the model with all its tensors; a message that was handed in is not changed.

    Raises:
        ConfigError: the package onnx is not installed.
        ModelError: it cannot be read, is no ONNX model, or its external data is missing, too large
            or outside the model's folder.
    """
    try:
        from onnx import ModelProto
    except ImportError as exc:
        raise ConfigError(
            "cannot load models: the package onnx is missing; install edged[build]"
        ) from exc

    if isinstance(source, ModelProto):
        model, name = source, "model"
    elif isinstance(source, bytes):
        model, name = _parse(source, "model"), "model"
    else:
        path = Path(source)
        model = _parse(_file(path), str(path))
        _read_external(model, path)
        return model
    for tensor in tensors(model):
        if _is_external(tensor):
            raise ModelError(
                f"cannot load {name}: tensor {tensor.name!r} is stored in another file; "
                "give the path of the .onnx file instead of its content"
            )
    return model


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size > BYTES_LIMIT:
            raise ModelError(f"cannot load {path}: more than {BYTES_LIMIT} bytes")
        return path.read_bytes()
    except OSError as exc:
        raise ModelError(f"cannot load {path}: {exc.strerror}") from exc


def _parse(data: bytes, name: str) -> ModelProto:
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as exc:
        raise ModelError(f"cannot load {name}: it is not an ONNX model: {exc}") from exc
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"cannot load {name}: it is not an ONNX model: it has no graph")
    _check_text(model, name)
    return model


def _check_text(message: Message, name: str) -> None:
    """Texts that are not UTF-8 come out of the parser as bytes, which no name may be."""
    for field, value in message.ListFields():
        if field.type not in {field.TYPE_MESSAGE, field.TYPE_STRING}:
            continue
        values: Iterable[Any] = [value] if isinstance(value, (Message, str, bytes)) else value
        for each in values:
            if isinstance(each, Message):
                _check_text(each, name)
            elif isinstance(each, bytes):
                raise ModelError(f"cannot load {name}: no ONNX model: {field.name} is no text")


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yields every tensor of a model, of its subgraphs and functions too."""
    yield from graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yields every tensor of a graph and of its subgraphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from graph_tensors(graph)


def _is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == tensor.EXTERNAL)


def _read_external(model: ModelProto, path: Path) -> None:
    """Reads all external tensors into the model."""
    total = model.ByteSize()
    for tensor in tensors(model):
        if not _is_external(tensor):
            continue
        try:
            data = _external_bytes(tensor, path.parent.resolve(), BYTES_LIMIT - total)
        except (OSError, ValueError) as exc:
            raise ModelError(f"cannot load {path}: tensor {tensor.name!r}: {exc}") from exc
        total += len(data)
        tensor.raw_data = data
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]


def _external_bytes(tensor: TensorProto, folder: Path, room: int) -> bytes:
    """Returns what an external tensor names; ValueError where it is not a part of such a file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = (folder / location).resolve()
    if not location or folder not in file.parents:
        raise ValueError(f"its data file {location!r} is outside the model's folder")
    if not file.is_file():
        raise ValueError(f"its data file {location!r} is missing")
    size = file.stat().st_size
    offset = int(entries.get("offset", 0))
    length = int(entries.get("length", size - offset))
    if offset < 0 or length < 0 or offset + length > size:
        raise ValueError(f"bytes {offset} to {offset + length} are not in a file of {size}")
    if length > room:
        raise ValueError(f"the model's tensors are more than {BYTES_LIMIT} bytes")
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)
