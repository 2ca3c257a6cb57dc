"""What an image holds, as plain facts: for ``edged inspect`` and whoever scripts with it.

The image is unpacked and verified on the way, so what is shown is what a device would run.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged import npu, oci
from edged.build import quality, report
from edged.errors import VerifyError
from edged.manifest import Manifest, NpuStage, OnnxStage, Stage
from edged.npu import timing
from edged.npu.chains import AveragePool, Chain, Convolution, MaxPool, Norm, Scale

_MANIFEST = "manifest.json"


@dataclass(frozen=True, eq=False)
class Description:
    """An image's facts.

    Attributes:
        digest: of the image.
        manifest: of the model.
        program: of the NPU.
        files: sizes in bytes by the path in the model's folder.
        rows: of the build report; empty if the image does not keep it.
        annotations: of the image's manifest.
        counter: of the release.
        signatures: how many stand beside the image; whose they are depends on whom one trusts.
        quality: report that stands beside the image, if one does.
    """

    digest: oci.Digest
    manifest: Manifest
    program: npu.Program
    files: dict[str, int]
    rows: list[dict[str, str]]
    annotations: dict[str, str]
    counter: int
    signatures: int
    quality: quality.Quality | None

    def chains(self) -> list[dict[str, Any]]:
        """Returns one row for each chain of the program."""
        predicted = timing.predicted_us(self.program)
        rows = enumerate(zip(self.program.chains, predicted, strict=True))
        return [
            {"chain": index, **chain_row(self.program, chain), "predicted_us": round(spent, 3)}
            for index, (chain, spent) in rows
        ]

    def stages(self) -> list[dict[str, Any]]:
        """Returns one row for each stage of the pipeline."""
        return [self._stage(stage) for stage in self.manifest.stages]

    def _stage(self, stage: Stage) -> dict[str, Any]:
        row: dict[str, Any] = {
            "kind": stage.kind,
            "inputs": list(stage.inputs),
            "outputs": list(stage.outputs),
        }
        if isinstance(stage, OnnxStage):
            row |= {"file": stage.model, "bytes": self.files[stage.model]}
        elif isinstance(stage, NpuStage):
            row |= {"file": stage.program, "bytes": self.files[stage.program]}
        else:
            row |= {"preprocess": stage.preprocess.to_json()}
        return row

    def document(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        chains = self.chains()
        signature = self.manifest.signature
        return {
            "digest": str(self.digest),
            "name": self.manifest.name,
            "version": self.manifest.version,
            "sku": self.manifest.sku,
            "format": self.manifest.format,
            "memory": self.manifest.memory,
            "memory_limit": self.program.device_build.memory_bytes,
            "signature": {
                side: [
                    {
                        "name": spec.name,
                        "aliases": list(spec.aliases),
                        "type": spec.type,
                        "shape": list(spec.shape),
                    }
                    for spec in specs
                ]
                for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
            },
            "stages": self.stages(),
            "chains": chains,
            "tile_operations": sum(row["tile_operations"] for row in chains),
            "macs": sum(row["macs"] for row in chains),
            "predicted_us": round(sum(timing.predicted_us(self.program)), 3),
            "golden": self.manifest.golden is not None,
            "labels": self.manifest.labels,
            "files": self.files,
            "report": self.rows,
            "annotations": self.annotations,
            "counter": self.counter,
            "signatures": self.signatures,
            "quality": self.quality.document() if self.quality else None,
        }


def describe(
    reference: oci.Reference | str, registries: oci.Registries | None = None
) -> Description:
    """Returns the facts of an image.

    Args:
        reference: where it is.
        registries: how registries are spoken to.

    Raises:
        FetchError, VerifyError, ModelError, ConfigError: it cannot be opened, is not what it
            announces, or is not the image of a model.
    """
    image = oci.open_image(reference, registries)
    facts = image.facts
    with tempfile.TemporaryDirectory(prefix="edged-inspect-") as folder:
        root = Path(folder, "model")
        image = oci.blobs.at_hand(image, Path(folder, "blobs"))
        image.unpack_model(root)
        files = {
            str(path.relative_to(root)): path.stat().st_size
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        manifest = Manifest.parse(_read(root, _MANIFEST))
        said = oci.ModelFacts(
            manifest.name,
            manifest.version,
            manifest.sku,
            manifest.format,
            manifest.memory,
            facts.counter,  # which the image alone knows
        )
        if facts != said:
            raise VerifyError(
                f"cannot use image {image.digest}: its annotations say {facts}, its model {said}"
            )
        return Description(
            image.digest,
            manifest,
            npu.Program.load(root / manifest.npu.program),
            files,
            report.read_json(_read(root, report.FILE)) if report.FILE in files else [],
            dict(image.annotations),
            facts.counter,
            len(oci.signature.read(image.layout, image.digest)),
            quality.from_parts(
                oci.companion.read(image.layout, image.digest, quality.KIND, quality.PART_LIMIT)
            ),
        )


def _read(root: Path, name: str) -> bytes:
    path = root / name
    if not path.is_file():
        raise VerifyError(f"cannot use image: it has no /model/{name}")
    return path.read_bytes()


def chain_row(program: npu.Program, chain: Chain) -> dict[str, Any]:
    """Returns what one chain does: sizes in pixels and channels, work, bytes of constants."""
    source, target = program.tensors[chain.source], program.tensors[chain.target]
    row: dict[str, Any] = {
        "kind": _kind(chain),
        "input": [source.height, source.width, source.channels],
        "output": [target.height, target.width, target.channels],
        "kernel": None,
        "stride": None,
        "activation": getattr(chain, "activation", "none"),
        "tile_operations": timing.tile_operations(program, chain),
        "macs": timing.macs(program, chain),
        "constant_bytes": 0,
    }
    if isinstance(chain, Convolution | MaxPool | AveragePool):
        row |= {"kernel": list(chain.window.kernel), "stride": list(chain.window.stride)}
    if isinstance(chain, Convolution):
        row["constant_bytes"] = chain.weights.nbytes + chain.bias.nbytes
    elif isinstance(chain, Scale):
        row["constant_bytes"] = chain.scale.nbytes + chain.bias.nbytes
    elif isinstance(chain, Norm) and chain.scale is not None:
        row["constant_bytes"] = chain.scale.nbytes
    return row


def _kind(chain: Chain) -> str:
    if isinstance(chain, Convolution):
        name = "expander convolution" if chain.expander else "convolution"
        return name + (" + residual" if chain.residual is not None else "")
    names = {"Scale": "pre-activation", "MaxPool": "max-pool", "AveragePool": "average-pool"}
    return names.get(type(chain).__name__, type(chain).__name__.lower())
