"""What the engines run: one network, as each of them wants it, in a folder.

From a model edged knows by name, an ONNX file, or a program. The graph is cut where the NPU's part
begins and ends and its batch is fixed at 1, so that everybody computes the same values from the
same input. A program alone has no graph: only the NPU can run it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edged import npu
from edged.bench import baselines
from edged.bench.engines import APART, FLOAT32, INPUTS, INT8, PROGRAM
from edged.bench.measure import draw_jpeg
from edged.errors import ConfigError, StoreError
from edged.npu.fileform import MAGIC
from edged.osutil import atomic

if TYPE_CHECKING:
    from onnx import ModelProto

    from edged.manifest import Preprocess

Array = npt.NDArray[np.float32]

FACTS = "network.json"
"""Says what the folder has; written last."""

FORM = 2
"""Of the quantised graphs: raised when they are made otherwise."""

CALIBRATION = 4
"""Pictures that the int8 ranges are taken from; the first is the one that is measured."""
PICTURE = (480, 640)  # height and width


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, ready for the engines.

    Attributes:
        name: of the network.
        program: of the NPU.
        folder: with the files of ``edged.bench.engines``.
        graph: whether there is a graph, so that others can run it too.
        notes: what the reader of the figures should know.
        pictures: whether it was made from a model that takes pictures.
    """

    name: str
    program: npu.Program
    folder: Path
    graph: bool
    notes: tuple[str, ...] = ()
    pictures: bool = False


@dataclass(frozen=True, eq=False)
class Network:
    """A graph as it is given.

    Attributes:
        name: of the network.
        graph: ONNX.
        preprocess: of its pictures, if it takes pictures.
        notes: of whoever made it.
    """

    name: str
    graph: ModelProto
    preprocess: Preprocess | None = None
    notes: tuple[str, ...] = ()


def prepare(
    source: str,
    folder: Path,
    *,
    format: str,  # noqa: A002 - the word users know
    weights: str = "random:0",
    int8: bool = True,
    say: Callable[[str], None] = lambda _text: None,
) -> Subject:
    """Writes a network's files.

    Args:
        source: a model's name, or the path of an ONNX file or a program.
        folder: for the files; those of an earlier call with the same network are used again.
        format: of the NPU's numbers; a program has its own.
        weights: of a model known by name.
        int8: whether an engine wants the quantised graph.
        say: is told what takes long.

    Raises:
        ConfigError: there is no such model or file.
        ModelError: it cannot be compiled whole, or a program is not valid.
        StoreError: the files cannot be written.
    """
    from edged import zoo

    path = Path(source)
    if source in zoo.NAMES:
        say(f"make {source}")
        made = zoo.make(source, weights=weights)
        network = Network(source, made.graph, made.preprocess, tuple(made.notes))
        return write(network, folder, format=format, int8=int8, say=say)
    if not path.is_file():
        raise ConfigError(
            f"cannot measure {source!r}: it is no file, and no model edged knows "
            f"({', '.join(zoo.NAMES)})"
        )
    if _begins_with(path, MAGIC):
        return _of_program(path, folder)
    from edged.compiler.source import read

    return write(Network(path.stem, read(path)), folder, format=format, int8=int8, say=say)


def write(
    network: Network,
    folder: Path,
    *,
    format: str,  # noqa: A002
    int8: bool = True,
    say: Callable[[str], None] = lambda _text: None,
) -> Subject:
    """Compiles a graph and writes its files; arguments and errors as for ``prepare``."""
    from edged import compiler

    say(f"compile {network.name} in {format}")
    program = compiler.partition(compiler.load(network.graph), format=format).program
    cut = baselines.cut(
        network.graph,
        [port.name for port in program.outputs],
        {port.name: port.shape for port in program.inputs},
    )
    feeds = list(_feeds(program, network.preprocess))
    data = cut.SerializeToString(deterministic=True)
    _write(folder / FLOAT32, data)
    _write(folder / PROGRAM, program.to_bytes())
    _write(folder / INPUTS, _npz(feeds[0]))
    if int8:
        _quantise(cut, data, feeds, folder, say)
    pictures = network.preprocess is not None
    return _done(Subject(network.name, program, folder, True, network.notes, pictures))


def reopen(folder: Path) -> Subject:
    """Returns the network whose files an earlier call wrote to a folder.

    Raises:
        ConfigError: there is none in it.
        ModelError: its program is not valid.
    """
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        name, notes = str(facts["name"]), tuple(map(str, facts["notes"]))
        graph, pictures = bool(facts["graph"]), bool(facts["pictures"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(
            f"cannot measure {folder}: it has no network, or a damaged one ({exc}); "
            "make one with --keep"
        ) from exc
    return Subject(name, npu.Program.load(folder / PROGRAM), folder, graph, notes, pictures)


def _done(subject: Subject) -> Subject:
    """Notes what the folder has, last of all."""
    facts = {
        "name": subject.name,
        "graph": subject.graph,
        "notes": list(subject.notes),
        "pictures": subject.pictures,
    }
    _write(subject.folder / FACTS, json.dumps(facts).encode())
    return subject


def _of_program(path: Path, folder: Path) -> Subject:
    program = npu.Program.load(path)
    _write(folder / PROGRAM, path.read_bytes())
    _write(folder / INPUTS, _npz(next(iter(_feeds(program, None)))))
    return _done(Subject(path.stem, program, folder, graph=False))


def _quantise(
    cut: ModelProto,
    data: bytes,
    feeds: list[dict[str, Array]],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Writes the int8 graph, unless the folder has the one of this graph and these pictures."""
    import onnxruntime

    digest = hashlib.sha256(data + f"{FORM} {onnxruntime.__version__}".encode())
    for feed in feeds:
        for array in feed.values():
            digest.update(array.tobytes())
    stamp = folder / "int8.sha256"
    if (folder / INT8).is_file() and stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    say("quantise the same graph for the int8 engines")
    stamp.unlink(missing_ok=True)
    _write(folder / INT8, baselines.quantise(cut, feeds))
    if any(node.op_type == "Concat" for node in cut.graph.node):
        _write(folder / APART, baselines.quantise(cut, feeds, but=["BatchNormalization", "Concat"]))
    else:
        (folder / APART).unlink(missing_ok=True)
    _write(stamp, digest.hexdigest().encode())


def _feeds(program: npu.Program, preprocess: Preprocess | None) -> Iterable[dict[str, Array]]:
    """Yields inputs: drawn pictures, as the model's own preprocessing hands them over."""
    for seed in range(CALIBRATION):
        yield {port.name: _picture(port, preprocess, seed) for port in program.inputs}


def _picture(port: npu.Port, preprocess: Preprocess | None, seed: int) -> Array:
    from edged.worker.stages import ImageStage

    if preprocess is not None:
        made: Array = ImageStage(preprocess).run(draw_jpeg(*PICTURE, seed))
        if made.shape == port.shape:
            return made
    return _like_a_picture(port, seed)


def _like_a_picture(port: npu.Port, seed: int) -> Array:
    """Returns smooth light with a grain in every channel, of mean 0 and deviation 1."""
    random = np.random.default_rng(seed)
    if port.layout == "NC":
        return random.standard_normal(port.shape, np.float32)
    high, wide = (2, 3) if port.layout == "NCHW" else (1, 2)
    channels = 6 - high - wide  # the axis that is neither, nor the batch
    height, width, count = port.shape[high], port.shape[wide], port.shape[channels]
    steps = random.standard_normal((count, height // 32 + 2, width // 32 + 2))
    light = np.repeat(np.repeat(steps, 32, axis=1), 32, axis=2)[:, :height, :width]
    pixels = light + 0.2 * random.standard_normal(light.shape)
    pixels = (pixels - pixels.mean()) / pixels.std()
    ordered = pixels if port.layout == "NCHW" else pixels.transpose(1, 2, 0)
    return np.ascontiguousarray(ordered[np.newaxis], np.float32)


def _npz(arrays: dict[str, Array]) -> bytes:
    out = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez(out, **named)
    return out.getvalue()


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_file(path, data)
    except OSError as exc:
        raise StoreError(f"cannot write {path}: {exc.strerror or exc}") from exc
