"""The quality report: what the NPU's number format costs a model, by layer and in its answers.

Measured when the model is built, on the pictures that are given or else on a drawn one, by running
the same program twice on this machine: in its format, and in float32 without any block rounding.

- A layer's SQNR is ``10 log10(sum s^2 / sum (s - q)^2)`` in dB over all its values, ``s`` those in
  float32 and ``q`` those in the format; the noise of the layers before it is in it.
- Agreement is the share of pictures whose best class is the same in both.

The report stands beside the image as its companion (``edged.oci.companion``), since it depends on
the pictures and on this machine's float32, and the image's digest must not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edged import npu
from edged.build import chart, draw
from edged.errors import ConfigError, ModelError
from edged.manifest import ImageStage, Manifest
from edged.npu.chains import Convolution
from edged.npu.listing import port
from edged.oci import companion
from edged.worker import classes
from edged.worker.pipeline import Pipeline

KIND = "quality"
JSON, PNG = "application/json", "image/png"
PART_LIMIT = 4 << 20  # bytes
PICTURES_LIMIT = 2000  # that are asked for their class
LAYERS_PICTURES = 16  # of them, whose layers are compared: they change little from one to the next
_SUFFIXES = (".jpg", ".jpeg", ".png")
_PICTURE_BYTES = 64 << 20
_SCHEMA = 1
_SEED = 20240301
_BEST_DB = 200.0  # of a layer without any noise

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """A convolution.

    Attributes:
        chain: its number in the program.
        output: height, width and channels of its result.
        sqnr_db: see the module; ``_BEST_DB`` at most.
    """

    chain: int
    output: tuple[int, int, int]
    sqnr_db: float


@dataclass(frozen=True)
class Quality:
    """What was measured.

    Attributes:
        format: of the NPU's numbers.
        layers: convolutions in the order in which they run.
        pictures: how many were given; 0 if a drawn one had to do.
        agreement: share of them, from 0 to 1, with the same best class as in float32; None without
            pictures, and for models that do not classify.
    """

    format: str
    layers: tuple[Layer, ...]
    pictures: int = 0
    agreement: float | None = None

    def document(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        layers = [
            {"chain": each.chain, "output": list(each.output), "sqnr_db": each.sqnr_db}
            for each in self.layers
        ]
        return {
            "schema": _SCHEMA,
            "format": self.format,
            "pictures": self.pictures,
            "agreement": self.agreement,
            "layers": layers,
        }

    def to_json(self) -> bytes:
        """Returns the report as a JSON document."""
        return json.dumps(self.document(), indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Quality:
        """Returns the report in a document from outside.

        Raises:
            ModelError: it is none.
        """
        try:
            document = json.loads(data)
            layers = tuple(_layer(each) for each in document["layers"])
            agreement = document["agreement"]
            return cls(
                str(document["format"]),
                layers,
                int(document["pictures"]),
                None if agreement is None else float(agreement),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise ModelError(f"cannot read quality report: {exc!r}") from exc

    def to_png(self) -> bytes:
        """Returns a picture of the layers."""
        return chart.bars(
            [layer.sqnr_db for layer in self.layers],
            title=f"SQNR by layer, {self.format} against float32",
            subtitle=self.sentence(),
            unit="dB",
        )

    def sentence(self) -> str:
        """Returns the report in a line."""
        values = sorted(layer.sqnr_db for layer in self.layers)
        text = f"{len(values)} convolutions"
        if values:
            text += f", SQNR {values[0]:.1f} to {values[-1]:.1f} dB"
        if self.agreement is not None:
            text += f", same best class for {self.agreement:.1%} of {self.pictures} pictures"
        return text + ("" if self.pictures else " (on a drawn picture)")

    def parts(self) -> list[companion.Part]:
        """Returns the report as an image's companion: JSON and PNG."""
        named = (("quality.json", JSON, self.to_json()), ("quality.png", PNG, self.to_png()))
        return [companion.Part(kind, data, {companion.TITLE: name}) for name, kind, data in named]


def from_parts(parts: Sequence[companion.Part]) -> Quality | None:
    """Returns the report that an image's companion has; None if it has none.

    Raises:
        ModelError: it is damaged.
    """
    for part in parts:
        if part.media_type == JSON:
            return Quality.from_json(part.data)
    return None


def read_samples(sample: str | os.PathLike[str] | None) -> list[bytes]:
    """Returns the pictures in a file or folder, sorted by path, at most ``PICTURES_LIMIT``.

    Raises:
        ConfigError: there are none, or one cannot be read.
    """
    if sample is None:
        return []
    path = Path(sample)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = [file for file in files if file.suffix.lower() in _SUFFIXES][:PICTURES_LIMIT]
    if not found:
        raise ConfigError(f"cannot use samples {path}: expected JPEG or PNG files, got none")
    return [_read(file) for file in found]


def measure(folder: Path, pictures: Sequence[bytes] = ()) -> Quality:
    """Runs the model in a folder in its format and in float32.

    Args:
        folder: with the model's files.
        pictures: JPEG or PNG; none for a drawn one.

    Raises:
        ConfigError: pictures were given, but the model takes none.
        ModelError, RequestError: it cannot be run, or not on one of the pictures.
    """
    with contextlib.ExitStack() as stack:
        ours = Pipeline.open(folder)
        stack.callback(ours.close)
        manifest = ours.manifest
        inputs = list(_inputs(manifest, pictures))
        program = npu.Program.load(folder / manifest.npu.program)
        ports = [each.name for each in program.inputs]
        entered = (_entered(ours, ports, each) for each in inputs[:LAYERS_PICTURES])
        layers = _layers(program, entered)
        agreement = None
        if pictures:
            exact = Pipeline.open(folder, numerics="float32")
            stack.callback(exact.close)
            agreement = _agreement(ours, exact, inputs)
        return Quality(manifest.format, layers, len(pictures), agreement)


def _inputs(manifest: Manifest, pictures: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """The pipeline's inputs, one set for each picture, or one that is drawn."""
    specs = manifest.signature.inputs
    taken = [stage.input for stage in manifest.stages if isinstance(stage, ImageStage)]
    if pictures and (len(specs) != 1 or specs[0].name not in taken):
        raise ConfigError(
            f"cannot use samples: the model takes {', '.join(s.name for s in specs)}, not a "
            "picture; build it with --preprocess, or without --sample"
        )
    if pictures:
        yield from ({specs[0].name: [picture]} for picture in pictures)
    else:
        yield draw.inputs(manifest, _SEED)


def _entered(pipeline: Pipeline, ports: Sequence[str], inputs: Mapping[str, Any]) -> Arrays:
    """What enters the NPU: some of it may be the pipeline's own input, the rest is made."""
    made = [name for name in ports if name not in inputs]
    found = {name: inputs[name] for name in ports if name in inputs}
    return found | (pipeline.run(inputs, made).outputs if made else {})


def _layers(program: npu.Program, entered: Iterable[Arrays]) -> tuple[Layer, ...]:
    """Compares every convolution's result in both numerics."""
    chains = {n: c for n, c in enumerate(program.chains) if isinstance(c, Convolution)}
    if not chains:
        return ()
    # The same program, but every convolution's result leaves the NPU.
    names = {each.tensor: each.name for each in program.outputs}
    taps = [
        port(f"chain {number}", chain.target, "NHWC", program.tensors)
        for number, chain in chains.items()
        if chain.target not in names
    ]
    names |= {each.tensor: each.name for each in taps}
    tapped = dataclasses.replace(program, outputs=(*program.outputs, *taps))
    signal, noise = dict.fromkeys(chains, 0.0), dict.fromkeys(chains, 0.0)
    ours, exact = npu.open(), npu.open(numerics="float32")
    try:
        ours.load(tapped)
        exact.load(tapped)
        for arrays in entered:
            found, true = ours.run(dict(arrays)), exact.run(dict(arrays))
            for number, chain in chains.items():
                name = names[chain.target]
                s, q = true[name].astype(np.float64), found[name].astype(np.float64)
                signal[number] += float(np.vdot(s, s))
                noise[number] += float(np.vdot(s - q, s - q))
    finally:
        ours.close()
        exact.close()
    return tuple(
        Layer(n, _size(program, chain), _decibels(signal[n], noise[n]))
        for n, chain in chains.items()
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return _BEST_DB
    return round(10 * math.log10(signal / noise), 2) if signal else -_BEST_DB


def _size(program: npu.Program, chain: Convolution) -> tuple[int, int, int]:
    target = program.tensors[chain.target]
    return target.height, target.width, target.channels


def _agreement(
    ours: Pipeline, exact: Pipeline, inputs: Iterable[Mapping[str, Any]]
) -> float | None:
    same = total = 0
    for each in inputs:
        best = [classes.best(pipeline.run(each).outputs, (), 1) for pipeline in (ours, exact)]
        if not (best[0] and best[1]):
            return None
        same += best[0][0]["index"] == best[1][0]["index"]
        total += 1
    return same / total


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_PICTURE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read sample {path}: {exc.strerror}") from exc
    if len(data) > _PICTURE_BYTES:
        raise ConfigError(f"cannot use sample {path}: expected at most {_PICTURE_BYTES} bytes")
    return data


def _layer(document: Mapping[str, Any]) -> Layer:
    height, width, channels = (int(side) for side in document["output"])
    return Layer(int(document["chain"]), (height, width, channels), float(document["sqnr_db"]))
