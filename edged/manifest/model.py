"""A model's manifest: what it is called, what it was built for, and how its parts fit together.

Invariants:
- A ``Manifest`` that exists is consistent: stages read only the signature's inputs and what earlier
  stages made, every output of the signature is made, exactly one stage is the NPU's.
- ``to_json`` is deterministic, and ``parse`` of it gives an equal manifest.

The module opens no files: whether those that are named exist and fit is the worker's to find.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from edged.errors import ModelError
from edged.manifest import jsonform
from edged.manifest.document import Node, parse
from edged.manifest.parts import Golden, ImageStage, NpuStage, Signature, Stage

SCHEMA = 1
SIZE_LIMIT = 32 * 1024  # bytes of the file; a summary of it must fit one frame to the daemon


@dataclass(frozen=True)
class Manifest:
    """One model.

    Attributes:
        name: of the model, as callers may give it in ``model_spec``.
        version: likewise; callers can ask only for versions that are integers.
        signature: what callers send and get.
        stages: in the order they run.
        sku: of the device the NPU's program was compiled for.
        format: of the program's numbers.
        memory: bytes that the program takes on the device.
        labels: path of a text file with one class a line, or None.
        golden: the golden test, or None for a model that can be run but never deployed.

    Raises:
        ModelError: a name is used before it is made, made twice or never, and so on.
    """

    name: str
    version: str
    signature: Signature
    stages: tuple[Stage, ...]
    sku: str
    format: str
    memory: int
    labels: str | None = None
    golden: Golden | None = None

    def __post_init__(self) -> None:
        _check_signature(self.signature)
        _check_flow(self)
        if sum(isinstance(stage, NpuStage) for stage in self.stages) != 1:
            raise ModelError("cannot use manifest.stages: expected exactly one of kind npu")
        outputs = sorted(self.npu.outputs)
        if self.golden and [name for name, _ in self.golden.npu_sha256] != outputs:
            raise ModelError(
                f"cannot use manifest.golden.npu.sha256: expected digests of {outputs}, in order"
            )

    @property
    def npu(self) -> NpuStage:
        """The stage that runs on the NPU."""
        return next(stage for stage in self.stages if isinstance(stage, NpuStage))

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Returns the manifest that the bytes of a file hold.

        Raises:
            ModelError: it is not JSON, of another schema, or not consistent; the text says where.
        """
        root = parse(data, "manifest", SIZE_LIMIT)
        fields = root.fields(
            ["schema", "name", "version", "signature", "stages", "sku", "format", "memory"],
            ["labels", "golden"],
        )
        fields["schema"].integer(SCHEMA, SCHEMA)
        signature = fields["signature"].fields(["inputs", "outputs"])
        null = Node(None, "manifest")
        return cls(
            name=fields["name"].text(),
            version=fields["version"].text(),
            signature=Signature(
                jsonform.read_specs(signature["inputs"]), jsonform.read_specs(signature["outputs"])
            ),
            stages=tuple(jsonform.read_stage(node) for node in fields["stages"].items(16, 1)),
            sku=fields["sku"].text(),
            format=fields["format"].text(),
            memory=fields["memory"].integer(0, 2**40),
            labels=fields.get("labels", null).optional(Node.path),
            golden=fields.get("golden", null).optional(jsonform.read_golden),
        )

    def to_json(self) -> bytes:
        """Returns the file's bytes: the same for equal manifests."""
        document = {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "signature": {
                "inputs": [jsonform.spec(each) for each in self.signature.inputs],
                "outputs": [jsonform.spec(each) for each in self.signature.outputs],
            },
            "stages": [jsonform.stage(each) for each in self.stages],
            "sku": self.sku,
            "format": self.format,
            "memory": self.memory,
            "labels": self.labels,
            "golden": jsonform.golden(self.golden) if self.golden else None,
        }
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _check_signature(signature: Signature) -> None:
    for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        names = [name for spec in specs for name in spec.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ModelError(f"cannot use manifest.signature.{side}: names twice {twice}")
    for spec in signature.inputs:
        if spec.type == "string" and spec.shape not in ((-1,), (1,)):
            raise ModelError(
                f"cannot use manifest.signature.inputs: {spec.name!r} has shape "
                f"{list(spec.shape)}, pictures need [-1] or [1]"
            )
    strings = [spec.name for spec in signature.outputs if spec.type == "string"]
    if strings:
        raise ModelError(f"cannot use manifest.signature.outputs: {strings} of type string")


def _check_flow(manifest: Manifest) -> None:
    pictures = {spec.name for spec in manifest.signature.inputs if spec.type == "string"}
    arrays = {spec.name for spec in manifest.signature.inputs} - pictures
    made: set[str] = set()
    for index, stage in enumerate(manifest.stages):
        where = f"manifest.stages[{index}]"
        known = pictures if isinstance(stage, ImageStage) else arrays | made
        undefined = sorted(set(stage.inputs) - known)
        if undefined:
            kind = "pictures" if isinstance(stage, ImageStage) else "tensors"
            raise ModelError(f"cannot use {where}: {undefined} are not {kind} made before it")
        again = sorted(set(stage.outputs) & (pictures | arrays | made))
        if again or len(set(stage.outputs)) != len(stage.outputs):
            raise ModelError(f"cannot use {where}: it makes {list(stage.outputs)}, not all new")
        made.update(stage.outputs)
    missing = sorted({spec.name for spec in manifest.signature.outputs} - made)
    if missing:
        raise ModelError(f"cannot use manifest.signature.outputs: no stage makes {missing}")
