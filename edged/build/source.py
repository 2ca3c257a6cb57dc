"""What an image is built from: a graph with what is known about it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Union

from edged import zoo
from edged.errors import ConfigError, ModelError
from edged.manifest import Preprocess

if TYPE_CHECKING:
    from onnx import ModelProto

SourceLike = Union["str | os.PathLike[str]", "ModelProto", zoo.ZooModel]
"""An .onnx file, the graph itself, the name of a zoo model, or that model."""

LabelsLike = Union[Sequence[str], "os.PathLike[str]", None]
"""Class names in order, or a file with one a line; None for a model without."""

WeightsLike = Union["str | os.PathLike[str]", None]
"""Of a zoo model: ``random:SEED`` or an .npz file; None for ``random:0``."""

_NAME_LIMIT = 100


@dataclass(frozen=True, eq=False)
class Source:
    """A graph and its defaults.

    Attributes:
        name: of the model, unless another is given.
        graph: what to compile.
        preprocess: unless another is given.
        input_names: for the picture, where there is one; the first is the signature's if no value
            of the graph has it, the others are aliases.
        output_aliases: more names of the values that may be outputs.
        notes: what whoever builds it should know, in sentences.
        classes: that it tells apart; None if only its outputs can tell.
    """

    name: str
    graph: ModelProto | Path
    preprocess: Preprocess | None = None
    input_names: tuple[str, ...] = ("images", "Placeholder:0")
    output_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    classes: int | None = None


def open_source(source: SourceLike, weights: WeightsLike = None) -> Source:
    """Finds a graph.

    Args:
        source: a name that the zoo knows is the zoo's, even where a file is called so.
        weights: of a zoo model; see ``edged.zoo.make``.

    Raises:
        ConfigError: there is neither such a file nor such a model, weights are given for a file or
            are not there, or onnx is not installed.
        ModelError: the weights are not the model's.
    """
    zoo.need_onnx()
    if isinstance(source, zoo.ZooModel):
        return _of_zoo(source)
    if not isinstance(source, str | os.PathLike):
        return Source(name="model", graph=source)
    text = os.fspath(source)
    if text in zoo.NAMES:
        return _of_zoo(zoo.make(text, weights="random:0" if weights is None else weights))
    if weights is not None:
        raise ConfigError(f"cannot build {text}: weights belong to zoo models, not to files")
    path = Path(text)
    if path.is_dir():
        raise ConfigError(
            f"cannot build {text}: it is a folder; TensorFlow SavedModels are not supported yet, "
            "convert it to .onnx with tf2onnx"
        )
    if not path.exists():
        raise ConfigError(
            f"cannot build {text}: no such file, nor one of the models edged knows "
            f"({', '.join(zoo.NAMES)})"
        )
    return Source(name=_name_of(path), graph=path)


def _of_zoo(model: zoo.ZooModel) -> Source:
    return Source(
        model.name,
        model.graph,
        model.preprocess,
        model.input_names,
        model.output_aliases,
        model.notes,
        model.classes,
    )


def _name_of(path: Path) -> str:
    name = "".join(c if c.isprintable() else "-" for c in path.stem)[:_NAME_LIMIT]
    return name or "model"


def read_labels(labels: LabelsLike) -> list[str]:
    """Returns the classes, in order; none for None.

    Args:
        labels: the names, or the path of a UTF-8 text file with one a line.

    Raises:
        ConfigError: the file cannot be read.
        ModelError: there are none, or a name is empty or not printable.
    """
    if labels is None:
        return []
    if not isinstance(labels, str | os.PathLike):
        names = list(labels)
    else:
        try:
            names = Path(labels).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot read labels {os.fspath(labels)}: {exc}") from exc
    for number, name in enumerate(names, 1):
        if not name.strip() or not name.isprintable():
            raise ModelError(f"cannot use labels: line {number} is {name!r}, expected a name")
    if not names:
        raise ModelError("cannot use labels: there are none")
    return names
