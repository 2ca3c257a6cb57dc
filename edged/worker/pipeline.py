"""A model's pipeline: its stages in order, item by item.

Invariants:
- A batch of N is N runs: an item's answer never depends on the others'.
- Only stages that the wanted outputs need are run.
- Nothing is kept from one run to the next but which stages which outputs need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edged.errors import ModelError, RequestError
from edged.manifest import ImageStage, Manifest, NpuStage, OnnxStage, Stage, TensorSpec
from edged.npu.reference import Numerics
from edged.worker import stages

Array: TypeAlias = npt.NDArray[Any]
Values: TypeAlias = dict[str, Any]  # arrays, and bytes of a picture, by name
Run: TypeAlias = Callable[[Values, Sequence[str]], Mapping[str, Array]]

_Plan: TypeAlias = Sequence[tuple[Stage, Run, tuple[str, ...]]]

RESULT_LIMIT = 64 * 1024 * 1024  # bytes of all results of a run, as no answer may be larger
PLANS_LIMIT = 64
FILE_LIMIT = 1024 * 1024  # bytes of the manifest, and of the labels


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        outputs: arrays by name, batch first.
        times_us: microseconds by kind of stage (``image``, ``npu``, ``onnx``), over all items.
    """

    outputs: dict[str, Array]
    times_us: dict[str, int]


class Pipeline:
    """A model that is ready to run; made by ``open``.

    Attributes:
        manifest: of the model.
        labels: one name a class; empty if the model has none.
        npu: the stage on the NPU.
    """

    def __init__(
        self,
        manifest: Manifest,
        labels: tuple[str, ...],
        npu: stages.NpuStage,
        steps: Sequence[tuple[Stage, Run]],
    ) -> None:
        self.manifest = manifest
        self.labels = labels
        self.npu = npu
        self._steps = tuple(steps)
        self._outputs = [(each, np.dtype(each.type)) for each in manifest.signature.outputs]
        self._all = tuple(each.name for each in manifest.signature.outputs)
        self._plans: dict[tuple[str, ...], _Plan] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        threads: int | None = None,
        isa: str | None = None,
        numerics: Numerics = "bfp",
    ) -> Pipeline:
        """Returns the model in a folder, with its stages loaded.

        Args:
            folder: with the model's ``manifest.json``.
            threads: of the NPU's emulator and of each graph on the CPU; None for one a usable CPU.
            isa: of the emulator; None for the best here.
            numerics: of the emulator; ``"float32"`` runs the program without block rounding.

        Raises:
            ModelError: a file is missing or damaged, or the parts do not fit each other.
            DeviceError: this machine cannot run it so.
        """
        manifest = Manifest.parse(_read(folder / "manifest.json"))
        labels = _labels(folder, manifest)
        # Importing onnxruntime takes as long as packing the NPU's weights, which needs no Python.
        with ThreadPoolExecutor(1) as beside:
            graphs = beside.submit(_open_graphs, folder, manifest, threads)
            npu = stages.NpuStage(folder, manifest, threads=threads, isa=isa, numerics=numerics)
        try:
            _check_shapes(manifest, npu.shapes)
            opened = iter(graphs.result())
            steps = [(stage, _run_of(stage, npu, opened)) for stage in manifest.stages]
        except BaseException:
            npu.close()
            raise
        return cls(manifest, labels, npu, steps)

    def run(
        self,
        inputs: Mapping[str, npt.ArrayLike | Sequence[bytes]],
        outputs: Sequence[str] | None = None,
        *,
        deadline: float | None = None,
    ) -> Result:
        """Runs the model on a batch.

        Args:
            inputs: by the signature's names: arrays, or lists of JPEG or PNG bytes.
            outputs: names of what is wanted; None for the signature's outputs. Values between
                stages can be asked for too.
            deadline: as ``time.monotonic`` gives it; no further item is begun after it.

        Raises:
            RequestError: an input is not what the model takes, the deadline passed, or results
                are more than ``RESULT_LIMIT``; of a batch the text says which item.
            ModelError: the model fails on it, or answers with other shapes than it says.
        """
        wanted = self._all if outputs is None else tuple(outputs)
        plan = self._plans.get(wanted) or self._plan(wanted)
        batch = _Batch(self.manifest.signature.inputs, inputs)
        made: dict[str, list[Array]] = {name: [] for name in wanted}
        times: dict[str, int] = {stage.kind: 0 for stage, _, _ in plan}
        room = RESULT_LIMIT
        for index in range(batch.size):
            if deadline is not None and time.monotonic() >= deadline:
                done = f"the time was over when {index} of {batch.size} items were done"
                raise RequestError("DEADLINE_EXCEEDED", f"{done}: send fewer at once")
            values = _run_item(plan, batch, index, times)
            for name, arrays in made.items():
                arrays.append(values[name])
                room -= values[name].nbytes
            if room < 0:
                done = f"{index + 1} of {batch.size} items gave more than {RESULT_LIMIT} bytes"
                raise RequestError("RESOURCE_EXHAUSTED", f"{done}: send fewer, or ask for less")
        results = {name: _joined(name, arrays) for name, arrays in made.items()}
        self._check_outputs(results)
        return Result(results, {kind: spent // 1000 for kind, spent in times.items()})

    def close(self) -> None:
        """Gives the device's threads and memory back."""
        self.npu.close()

    def _plan(self, wanted: tuple[str, ...]) -> _Plan:
        """Returns the stages that the wanted outputs need, each with what it must make."""
        needed = set(wanted)
        plan = []
        for stage, run in reversed(self._steps):
            names = tuple(name for name in stage.outputs if name in needed)
            if names:
                plan.append((stage, run, names))
                needed.difference_update(names)
                needed.update(stage.inputs)
        unknown = needed.intersection(wanted)
        if unknown or not wanted:
            raise RequestError(
                "INVALID_ARGUMENT", f"outputs {sorted(unknown)} are not made by the model's stages"
            )
        if len(self._plans) >= PLANS_LIMIT:  # callers choose outputs, in any order
            self._plans.clear()
        self._plans[wanted] = plan[::-1]
        return self._plans[wanted]

    def _check_outputs(self, results: Mapping[str, Array]) -> None:
        for spec, dtype in self._outputs:
            array = results.get(spec.name)
            if array is not None and not (array.dtype == dtype and spec.accepts(array.shape)):
                raise ModelError(
                    f"cannot use output {spec.name!r}: the model made {array.dtype} "
                    f"{list(array.shape)}, its manifest says {spec.type} {list(spec.shape)}"
                )


def _open_graphs(folder: Path, manifest: Manifest, threads: int | None) -> list[stages.OnnxStage]:
    """Returns the stages on the CPU, opened, in the manifest's order."""
    return [
        stages.OnnxStage(folder / stage.model, stage.inputs, stage.outputs, threads)
        for stage in manifest.stages
        if isinstance(stage, OnnxStage)
    ]


def _run_of(stage: Stage, npu: stages.NpuStage, graphs: Iterator[stages.OnnxStage]) -> Run:
    """Returns what runs a stage; a graph is the next one of ``graphs``."""
    if isinstance(stage, ImageStage):
        image = stages.ImageStage(stage.preprocess)
        source, target = stage.input, stage.output
        return lambda values, _names: {target: image.run(values[source])}
    if isinstance(stage, NpuStage):
        return lambda values, _names: npu.run(values)
    return next(graphs).run


def _check_shapes(manifest: Manifest, ports: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that what goes straight to the NPU has the shape of its port, for any batch."""
    known = {spec.name: spec.shape for spec in manifest.signature.inputs}
    known |= {
        stage.output: stage.preprocess.shape
        for stage in manifest.stages
        if isinstance(stage, ImageStage)
    }
    for name, shape in ports.items():
        found = known.get(name)
        if found is not None and (len(found) != len(shape) or found[1:] != shape[1:]):
            raise ModelError(
                f"cannot use model: {name!r} is made with shape {list(found)}, "
                f"the program takes {list(shape)}"
            )


def _run_item(plan: _Plan, batch: _Batch, index: int, times: dict[str, int]) -> Values:
    """Returns the values of one item, with what each planned stage makes; adds to the times."""
    values = batch.item(index)
    try:
        for stage, run, names in plan:
            start = time.perf_counter_ns()
            values.update(run(values, names))
            times[stage.kind] += time.perf_counter_ns() - start
    except RequestError as exc:
        if batch.size == 1:
            raise
        raise RequestError(exc.code, f"item {index + 1} of {batch.size}: {exc}") from exc
    return values


class _Batch:
    """Checked inputs, to be taken item by item."""

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        inputs: Mapping[str, npt.ArrayLike | Sequence[bytes]],
    ) -> None:
        names = [spec.name for spec in specs]
        if len(inputs) != len(names) or any(name not in inputs for name in names):
            raise RequestError(
                "INVALID_ARGUMENT", f"inputs are named {sorted(inputs)}, expected {sorted(names)}"
            )
        # Lists, not dicts by spec: a spec's hash is that of all its fields, computed each time.
        self._values = [(spec, _checked(spec, inputs[spec.name])) for spec in specs]
        sizes = [len(value) for spec, value in self._values if spec.batched]
        if sizes and (min(sizes) != max(sizes) or not sizes[0]):
            named = {spec.name: len(value) for spec, value in self._values if spec.batched}
            raise RequestError(
                "INVALID_ARGUMENT", f"inputs have batches of {named}, expected one size from 1 up"
            )
        self.size = sizes[0] if sizes else 1

    def item(self, index: int) -> Values:
        """Returns the inputs of one item, by name."""
        return {spec.name: _item(spec, value, index) for spec, value in self._values}


def _checked(spec: TensorSpec, value: npt.ArrayLike | Sequence[bytes]) -> Array | Sequence[bytes]:
    if spec.type == "string":
        if not isinstance(value, list | tuple) or not spec.accepts((len(value),)):
            raise RequestError(
                "INVALID_ARGUMENT",
                f"input {spec.name!r} must be a list of pictures' bytes, shape {list(spec.shape)}",
            )
        return value
    array = np.asarray(value)
    if array.dtype != spec.type or not spec.accepts(array.shape):
        raise RequestError(
            "INVALID_ARGUMENT",
            f"input {spec.name!r} is {array.dtype} {list(array.shape)}, "
            f"expected {spec.type} {list(spec.shape)} (-1 is any size)",
        )
    return array


def _item(spec: TensorSpec, value: Array | Sequence[bytes], index: int) -> Array | bytes:
    if isinstance(value, np.ndarray):
        return value[index : index + 1] if spec.batched else value
    return value[index]


def _joined(name: str, arrays: Sequence[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    try:
        return np.concatenate(arrays)
    except ValueError as exc:
        raise ModelError(
            f"cannot join output {name!r} of {len(arrays)} items: their shapes differ"
        ) from exc


def _labels(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    if manifest.labels is None:
        return ()
    data = _read(folder / manifest.labels)
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise ModelError(f"cannot read labels {manifest.labels}: not UTF-8: {exc}") from exc
    return tuple(line.strip() for line in text.splitlines())


def _read(path: Path) -> bytes:
    """Returns a small file of the model."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except OSError as exc:
        raise ModelError(f"cannot read {path.name} of the model: {exc.strerror}") from exc
    if len(data) > FILE_LIMIT:
        raise ModelError(f"cannot read {path.name} of the model: more than {FILE_LIMIT} bytes")
    return data
