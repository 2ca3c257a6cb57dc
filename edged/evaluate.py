"""How well a model does on pictures sorted into folders: top-1, agreement with float32, confusion.

Float32 is either the original graph under onnxruntime, fed by the same image stage, or the same
program without block rounding: the first tells what the user loses, the second also tells a mapping
error (the two differ) from rounding (they do not).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from edged.errors import ConfigError, ModelError, RequestError
from edged.manifest import DETECTIONS, ImageStage, Manifest
from edged.worker import classes

if TYPE_CHECKING:
    from edged.client import Client
    from edged.worker.pipeline import Pipeline

SUFFIXES = (".jpg", ".jpeg", ".png")
Labels = npt.NDArray[np.int64]


class Classifier(Protocol):
    """Anything that sees one class in a picture."""

    def classify(self, picture: bytes) -> int:
        """Returns the index of the best class of a JPEG or PNG."""


class Local:
    """The model in this process, in the pipeline's own numerics.

    Args:
        pipeline: with one picture as its input.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._input = picture_stage(pipeline.manifest).input

    def classify(self, picture: bytes) -> int:
        """Returns the index of the best class."""
        return best(self._pipeline.run({self._input: [picture]}).outputs)


class Served:
    """The model behind a server.

    Args:
        client: connected to it.
        manifest: of the model it is to serve.
        digest: of the image it is to serve; an answer from another one is an error.
    """

    def __init__(self, client: Client, manifest: Manifest, digest: str) -> None:
        self._client = client
        self._input = picture_stage(manifest).input
        self._digest = digest

    def classify(self, picture: bytes) -> int:
        """Returns the index of the best class."""
        answer = self._client.predict({self._input: picture}, timeout=60)
        if answer.digest not in ("", self._digest):
            raise ConfigError(
                f"cannot evaluate: the server serves {answer.digest}, expected {self._digest}; "
                "deploy that image first"
            )
        found = {k: v for k, v in answer.outputs.items() if isinstance(v, np.ndarray)}
        return best(found)


class Original:
    """The original graph in float32 under onnxruntime, fed by the model's image stage.

    Args:
        graph: the .onnx file.
        manifest: whose preprocessing is used.

    Raises:
        ModelError: there is no such graph, or it has several inputs.
    """

    def __init__(self, graph: Path, manifest: Manifest) -> None:
        from edged.worker.stages import ImageStage as Stage

        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        self._graph = graph
        self._image = Stage(picture_stage(manifest).preprocess)
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # onnxruntime's own classes, without a common base
            raise ModelError(f"cannot load reference {graph}: {exc}") from exc
        if len(session.get_inputs()) != 1:
            raise ModelError(
                f"cannot use reference {graph}: it has {len(session.get_inputs())} inputs, "
                "expected one, the picture"
            )
        self._session = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def classify(self, picture: bytes) -> int:
        """Returns the index of the best class."""
        tensor = self._image.run(picture)
        try:
            made = self._session.run(None, {self._input: tensor})
        except Exception as exc:
            raise ModelError(f"cannot run reference {self._graph}: {exc}") from exc
        return best(dict(zip(self._outputs, made, strict=True)))


def picture_stage(manifest: Manifest) -> ImageStage:
    """Returns the stage that takes the picture.

    Raises:
        ConfigError: the model takes other things than one picture.
    """
    found = [stage for stage in manifest.stages if isinstance(stage, ImageStage)]
    if len(found) != 1 or len(manifest.signature.inputs) != 1:
        raise ConfigError(
            f"cannot evaluate {manifest.name}: it does not take one picture; build it with "
            "--preprocess"
        )
    return found[0]


def best(outputs: dict[str, npt.NDArray[Any]]) -> int:
    """Returns the class with the highest score; a detector's is that of its best box.

    Where a detector finds nothing it is 0, which is its number for none.

    Raises:
        ModelError: no output is a list of scores.
    """
    found = classes.best(outputs, (), 1)
    if not found and all(name in outputs for name in DETECTIONS):
        return 0
    if not found:
        shapes = {name: list(array.shape) for name, array in outputs.items()}
        raise ModelError(f"cannot evaluate: no output is a list of scores, got {shapes}")
    return int(found[0]["index"])


@dataclass(frozen=True)
class Picture:
    """One file and the class that its folder says it is."""

    path: Path
    label: int


def find_pictures(folder: Path, labels: Sequence[str]) -> tuple[list[Picture], list[str]]:
    """Returns the pictures below a folder with one subfolder a class, and the classes' names.

    Args:
        folder: its subfolders are named as the classes; hidden ones are left out.
        labels: the classes in the model's order; if there are none, the folders' alphabetical one.

    Raises:
        ConfigError: there is no such folder, no picture in it, or a subfolder that is no class.
    """
    try:
        names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as exc:
        raise ConfigError(f"cannot read pictures {folder}: {exc.strerror}") from exc
    known = list(labels) or names
    unknown = [name for name in names if known.count(name) != 1]
    if unknown:
        raise ConfigError(
            f"cannot use folder {folder / unknown[0]}: the model has "
            f"{known.count(unknown[0])} classes of that name, expected one of {_listed(known)}"
        )
    pictures = [
        Picture(path, known.index(name))
        for name in names
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES and path.name[0] != "."
    ]
    if not pictures:
        raise ConfigError(
            f"cannot use pictures {folder}: expected subfolders named as the classes with "
            f"{', '.join(SUFFIXES)} files in them, found {len(names)} subfolders and no picture"
        )
    return pictures, known


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came out.

    Attributes:
        labels: names of the classes.
        truth: class of each picture by its folder.
        predicted: by the model as it runs on the device.
        reference: in float32.
    """

    labels: Sequence[str]
    truth: Labels
    predicted: Labels
    reference: Labels

    @property
    def top1(self) -> float:
        """Part of the pictures whose class the model sees."""
        return float((self.predicted == self.truth).mean())

    @property
    def reference_top1(self) -> float:
        """The same in float32."""
        return float((self.reference == self.truth).mean())

    @property
    def agreement(self) -> float:
        """Part of the pictures for which both see the same class, right or wrong."""
        return float((self.predicted == self.reference).mean())

    def confusion(self) -> tuple[list[int], npt.NDArray[np.int64]]:
        """Returns the classes that occur, and counts ``[true class, predicted class]``."""
        occurring = np.union1d(self.truth, self.predicted)
        matrix = np.zeros((len(occurring), len(occurring)), np.int64)
        places = (np.searchsorted(occurring, a) for a in (self.truth, self.predicted))
        np.add.at(matrix, tuple(places), 1)
        return [int(index) for index in occurring], matrix

    def name(self, index: int) -> str:
        """Returns a class's name."""
        return self.labels[index] if index < len(self.labels) else f"class {index}"

    def document(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        indices, matrix = self.confusion()
        return {
            "pictures": len(self.truth),
            "top1": self.top1,
            "float32_top1": self.reference_top1,
            "agreement": self.agreement,
            "confusion": {
                "classes": [self.name(index) for index in indices],
                "matrix": matrix.tolist(),
            },
        }


def evaluate(
    pictures: Sequence[Picture],
    labels: Sequence[str],
    model: Classifier,
    reference: Classifier,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Classifies every picture twice.

    Args:
        pictures: of known classes.
        labels: names of the classes.
        model: as it runs on the device.
        reference: in float32.
        progress: called with the pictures done and all.

    Raises:
        ConfigError: a picture cannot be read or is none.
    """
    found = np.empty((2, len(pictures)), np.int64)
    for number, picture in enumerate(pictures):
        try:
            data = picture.path.read_bytes()
            found[:, number] = model.classify(data), reference.classify(data)
        except OSError as exc:
            raise ConfigError(f"cannot read picture {picture.path}: {exc.strerror}") from exc
        except RequestError as exc:
            if exc.code != "INVALID_ARGUMENT":
                raise
            raise ConfigError(f"cannot classify {picture.path}: {exc}") from exc
        if progress is not None:
            progress(number + 1, len(pictures))
    truth = np.array([picture.label for picture in pictures], np.int64)
    return Evaluation(labels, truth, found[0], found[1])
