"""From a graph to a model image.

Everything is made in memory and in a folder of its own, the model is run once, and only then the
image is written: a graph that cannot be built leaves no trace.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edged import compiler, npu, oci
from edged.build import golden, provenance, quality, report, wiring
from edged.build.preprocess import PreprocessLike, read_preprocess
from edged.build.source import LabelsLike, SourceLike, WeightsLike, open_source, read_labels
from edged.compiler.source import read
from edged.errors import ConfigError, ModelError
from edged.manifest import Manifest, Preprocess, Signature
from edged.npu.sku import DEFAULT_SKU

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from onnx import ModelProto

LABELS, MANIFEST = "labels.txt", "manifest.json"
_TEXT_LIMIT = 128  # characters of a name or version


@dataclass(frozen=True, eq=False)
class Built:
    """A model's files and what is said about them, before they are an image.

    Attributes:
        manifest: the model's.
        files: content by the path in the model's folder, the manifest's included.
        rows: of the build report.
        quality: what the number format costs it.
        annotations: of the image, beside those that the manifest gives.
        counter: of the release; see ``oci.ModelFacts``.
        notes: what whoever builds it should know, in sentences.
    """

    manifest: Manifest
    files: Mapping[str, bytes] = field(repr=False)
    rows: tuple[compiler.ReportRow, ...] = field(repr=False)
    quality: quality.Quality = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)
    counter: int = 0
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> oci.ModelFacts:
        """What the image's annotations say."""
        m = self.manifest
        return oci.ModelFacts(m.name, m.version, m.sku, m.format, m.memory, self.counter)

    def write(
        self, out: str | os.PathLike[str], sign: EllipticCurvePrivateKey | None = None
    ) -> oci.Digest:
        """Writes the image to ``out``, a reference or a path, signed with ``sign`` if it is given.

        Returns:
            The digest of the image's manifest, which the signature does not change.
        """
        reference = oci.Reference.parse(os.fspath(out))
        return oci.write_image(
            self.files,
            self.facts,
            reference,
            annotations=self.annotations,
            sign=sign,
            companions={quality.KIND: self.quality.parts()},
        )


def build(
    source: SourceLike,
    out: str | os.PathLike[str],
    *,
    format: str = npu.DEFAULT_FORMAT,  # noqa: A002 - the word users know
    name: str | None = None,
    version: str = "1",
    labels: LabelsLike = None,
    preprocess: PreprocessLike = None,
    classifier: compiler.Classifier = "cpu",
    sku: str = DEFAULT_SKU,
    weights: WeightsLike = None,
    outputs: Sequence[str] | None = None,
    counter: int = 0,
    annotations: Mapping[str, str] | None = None,
    sample: str | os.PathLike[str] | None = None,
    sign: str | os.PathLike[str] | None = None,
    passphrase: bytes | None = None,
) -> oci.Digest:
    """Builds a model image.

    Args:
        source: an .onnx file, an ``onnx.ModelProto`` or the name of a model edged knows
            (``resnet50``).
        out: ``oci:DIR[:TAG]`` or ``oci-archive:FILE``; a bare path is a folder, or an archive if it
            ends in ``.tar``.
        format: of the NPU's numbers, one of ``edged.npu.FORMATS``.
        name: of the model; the file's name if None.
        version: of the model.
        labels: class names in order, or a file with one a line.
        preprocess: from JPEG or PNG to the graph's input, as ``Preprocess``, JSON, a file of it or
            the name of a preset; None for a model that takes tensors.
        classifier: where Gemm runs, ``"cpu"`` or ``"npu"``.
        sku: of the device to build for.
        weights: of a model edged knows: ``random:SEED``, or an .npz file keyed by TensorFlow's
            names of its variables.
        outputs: values of the graph to answer with, in this order; the graph's outputs if None.
        counter: of the release: a device that has run a model refuses an image of the same name
            and signer with a smaller one, unless it is told to go back.
        annotations: more annotations for the image's manifest.
        sample: pictures, a file or a folder, on which the quality report is measured; None for a
            drawn one.
        sign: file of the private key to sign the image with ('edged keys generate').
        passphrase: of that file, if it has one.

    Returns:
        The digest of the image's manifest; equal inputs give equal digests.

    Raises:
        ModelError: the graph cannot be built, or the weights are not its own; nothing is written.
        ConfigError: an argument is wrong.
        StoreError: the image cannot be written.
    """
    key = None if sign is None else oci.keys.read_private(Path(sign), passphrase)
    oci.Reference.parse(os.fspath(out)).check_writable()  # a wrong one is told before the work
    built = assemble(
        source,
        format=format,
        name=name,
        version=version,
        labels=labels,
        preprocess=preprocess,
        classifier=classifier,
        sku=sku,
        weights=weights,
        outputs=outputs,
        counter=counter,
        annotations=annotations,
        sample=sample,
    )
    return built.write(out, key)


def assemble(
    source: SourceLike,
    *,
    format: str = npu.DEFAULT_FORMAT,  # noqa: A002
    name: str | None = None,
    version: str = "1",
    labels: LabelsLike = None,
    preprocess: PreprocessLike = None,
    classifier: compiler.Classifier = "cpu",
    sku: str = DEFAULT_SKU,
    weights: WeightsLike = None,
    outputs: Sequence[str] | None = None,
    counter: int = 0,
    annotations: Mapping[str, str] | None = None,
    sample: str | os.PathLike[str] | None = None,
) -> Built:
    """Makes the files of a model; arguments and errors as for ``build``."""
    _check_text("version", version)
    if not 0 <= counter < oci.facts.NUMBER_LIMIT:
        raise ConfigError(
            f"cannot build: counter must be 0 to {oci.facts.NUMBER_LIMIT - 1}, got {counter}"
        )
    own = provenance.checked(annotations or {})
    pictures = quality.read_samples(sample)
    classes = read_labels(labels)
    opened = open_source(source, weights)
    name = opened.name if name is None else name
    _check_text("name", name)
    model = read(opened.graph)
    settings = _settings(model, opened.preprocess if preprocess is None else preprocess)
    if settings is not None:
        model = _with_size(model, settings)
    graph = compiler.load(model, outputs=_outputs(outputs))
    partition = compiler.partition(graph, format=format, sku=sku, classifier=classifier)
    signature, stages = wiring.wire(partition, opened, settings)
    _check_labels(classes, _classes(signature) if opened.classes is None else opened.classes)
    manifest = Manifest(
        name=name,
        version=version,
        signature=signature,
        stages=stages,
        sku=partition.program.sku,
        format=partition.program.format,
        memory=partition.program.memory_bytes,
        labels=LABELS if classes else None,
    )
    files = {
        wiring.PROGRAM: partition.program.to_bytes(),
        report.FILE: report.to_json(partition.report),
    }
    for path, part in (
        (wiring.PRE, partition.pre),
        (wiring.POST, partition.post),
        (wiring.BOXES, partition.boxes),
    ):
        if part is not None:
            files[path] = part.SerializeToString(deterministic=True)
    if classes:
        files[LABELS] = "".join(f"{each}\n" for each in classes).encode()
    built = _with_golden(manifest, files, partition, pictures)
    log = provenance.build_log(model, partition.report)
    return replace(built, annotations={**own, **log}, counter=counter, notes=opened.notes)


def _with_golden(
    manifest: Manifest,
    files: dict[str, bytes],
    partition: compiler.Partition,
    pictures: Sequence[bytes],
) -> Built:
    """Adds the golden test, which runs the model once as a device will, and measures quality."""
    npu_files, npu_outputs = golden.npu_files(manifest, partition.program)
    files |= npu_files
    files[golden.INPUTS], sent = golden.pipeline_inputs(manifest)
    with tempfile.TemporaryDirectory(prefix="edged-build-") as folder:
        for path, data in {**files, MANIFEST: manifest.to_json()}.items():
            target = Path(folder, path)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        files[golden.OUTPUTS] = golden.pipeline_outputs(Path(folder), sent)
        measured = quality.measure(Path(folder), pictures)
    manifest = replace(manifest, golden=golden.golden(npu_outputs))
    files[MANIFEST] = manifest.to_json()
    return Built(Manifest.parse(files[MANIFEST]), files, partition.report, measured)


def _outputs(names: Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise ConfigError(f"cannot build: outputs must be different names, got {names!r}")
    return list(names)


def _check_text(what: str, text: str) -> None:
    if not 0 < len(text) <= _TEXT_LIMIT or not text.isprintable():
        raise ConfigError(
            f"cannot build: {what} must be 1 to {_TEXT_LIMIT} printable characters, got {text!r}"
        )


def _classes(signature: Signature) -> int | None:
    """How many the only output seems to tell apart; None where there are more, or it is another."""
    (shape, *more) = [spec.shape for spec in signature.outputs]
    return shape[1] if not more and len(shape) == 2 and shape[1] != -1 else None


def _check_labels(labels: Sequence[str], classes: int | None) -> None:
    if labels and classes not in (None, len(labels)):
        raise ModelError(
            f"cannot use labels: {len(labels)} of them, but the model has {classes} classes"
        )


def _settings(model: ModelProto, preprocess: PreprocessLike) -> Preprocess | None:
    """The preprocessing for the graph's first input that no initializer gives."""
    shape: tuple[int, ...] = ()
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in stored:
            dims = value.type.tensor_type.shape.dim
            shape = tuple(d.dim_value or -1 for d in dims)
            break
    return read_preprocess(preprocess, shape)


def _with_size(model: ModelProto, preprocess: Preprocess) -> ModelProto:
    """The model with the picture's size in place of dimensions that its input leaves open."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else ()
    if len(dims) != 4 or all(d.dim_value for d in dims[1:]):
        return model
    fixed = type(model)()
    fixed.CopyFrom(model)
    value = next(v for v in fixed.graph.input if v.name == inputs[0].name)
    for dim, size in zip(value.type.tensor_type.shape.dim[1:], preprocess.shape[1:], strict=False):
        if not dim.dim_value:
            dim.dim_value = size
    return fixed
