"""The engines that run one network side by side, each as fast as its own users would set it up.

=====================  ============================================================================
name                   what it is
=====================  ============================================================================
edged                  the NPU's emulator, the program as compiled
onnxruntime-float32    the graph that was compiled
onnxruntime-int8       static quantisation, QDQ, weights per channel, activations U8
openvino-float32       the graph, float32 throughout
openvino-bf16          the graph, bfloat16 where OpenVINO has it
openvino-int8          the same QDQ graph; the precision of the rest is OpenVINO's choice
=====================  ============================================================================

Where a graph joins channels there is a second quantised one, in which Concat and BatchNormalization
stay float32: DenseNet's other one ends OpenVINO 2026.4 with a segmentation fault. An int8 engine
is given whichever it runs faster. Leaving more in float32 was not faster on ResNet, VGG or SSD.

Every one runs batch 1 on the same processors with the same number of threads, reads one input that
stays where it is and writes outputs that stay where they are, as far as its interface allows.
OpenVINO has the latency hint, one stream, and a graph of fixed shape.

A module of the process that measures: it imports an engine's library when that engine is opened.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edged.errors import ConfigError, DeviceError

Array = npt.NDArray[np.float32]

EDGED = "edged"
ONNXRUNTIME = ("onnxruntime-float32", "onnxruntime-int8")
OPENVINO = ("openvino-float32", "openvino-bf16", "openvino-int8")
NAMES = (EDGED, *ONNXRUNTIME, *OPENVINO)
AGAIN, ALONE = "again", "1 thread"

PROGRAM, FLOAT32, INPUTS = "program.npu", "float32.onnx", "inputs.npz"
INT8, APART = "int8.onnx", "int8-apart.onnx"
"""Files that ``edged.bench.subject`` makes; ``APART`` only where channels are joined."""

CAPS = {
    "avx2": "AVX2",
    "avxvnni": "AVX2_VNNI",
    "avx512vnni": "AVX512_CORE_VNNI",
}
"""Our names of instruction sets and oneDNN's, for ``ONEDNN_MAX_CPU_ISA``.

That holds OpenVINO's convolutions, which are oneDNN's. Its own kernels, for what little is left,
have ``OV_CPU_MAX_ISA``, which releases up to 2026.4 do not read.
"""


@dataclass(frozen=True)
class Spec:
    """One engine as it is to be measured.

    Attributes:
        name: one of ``NAMES``.
        threads: that run it, and processors it may use.
        isa: the NPU's kernels, or the most that OpenVINO may use; None for the best here.
        graph: that an int8 engine runs, ``INT8`` or ``APART``.
        mark: tells an engine from itself: ``AGAIN``, or ``ALONE`` for one thread beside several.
    """

    name: str
    threads: int
    isa: str | None = None
    mark: str = ""
    graph: str = INT8

    @property
    def int8(self) -> bool:
        """Whether it runs a quantised graph."""
        return self.name.endswith("int8")

    @property
    def label(self) -> str:
        """What it is called in figures."""
        name = self.name + (f"@{self.isa}" if self.isa else "")
        return f"{name} ({self.mark})" if self.mark else name

    def environment(self) -> dict[str, str]:
        """Returns what has to be set before its library is loaded."""
        # Both packages of wheels report home unless they are kept from it; see also `_openvino`.
        extra = {"ORT_DISABLE_TELEMETRY": "1"}
        if self.isa is not None and self.name in OPENVINO:
            extra["ONEDNN_MAX_CPU_ISA"] = extra["OV_CPU_MAX_ISA"] = CAPS[self.isa]
        return extra

    def document(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)


def parse(text: str, threads: int, isa: str | None = None) -> Spec:
    """Returns the engine of that name: ``NAME`` or ``NAME@ISA``.

    Args:
        text: as users write it.
        threads: that run it.
        isa: for the NPU where the text names none.

    Raises:
        ConfigError: there is no such engine, or its instruction set cannot be chosen.
    """
    name, at, chosen = text.partition("@")
    if name not in NAMES:
        raise ConfigError(f"cannot measure engine {name!r}: expected one of {', '.join(NAMES)}")
    if name in ONNXRUNTIME and at:
        raise ConfigError(f"cannot measure {text!r}: onnxruntime uses what the CPU has, always")
    if name in OPENVINO and at and chosen not in CAPS:
        raise ConfigError(
            f"cannot measure {text!r}: OpenVINO can be held to one of {', '.join(CAPS)}"
        )
    if name == EDGED:
        return Spec(name, threads, chosen or isa)
    return Spec(name, threads, chosen or None)


@dataclass
class Engine:
    """An engine with the network loaded.

    Attributes:
        run: runs it once on the input.
        outputs: the last run's, by name.
        load_ms: milliseconds from the file to ready, the library's import not counted.
        settings: what it says of itself, as JSON values.
        chain_times: microseconds of entry, each chain and exit in the last run; ours only.
        held: what the library reads without keeping it alive.
    """

    run: Callable[[], object]
    outputs: Callable[[], Mapping[str, Array]]
    load_ms: float
    settings: dict[str, Any] = field(default_factory=dict)
    chain_times: Callable[[], list[float]] | None = None
    held: object = None


def open_engine(spec: Spec, folder: Path) -> Engine:
    """Loads the network in a folder of ``edged.bench.subject`` into an engine.

    Raises:
        ConfigError: its library is not installed.
        DeviceError, ModelError: it cannot run here, or cannot run this.
    """
    with np.load(folder / INPUTS) as archive:
        feed = {name: np.ascontiguousarray(archive[name], np.float32) for name in archive.files}
    if spec.name == EDGED:
        return _open_edged(spec, folder / PROGRAM, feed)
    file = folder / (spec.graph if spec.int8 else FLOAT32)
    if spec.name in ONNXRUNTIME:
        return _open_onnxruntime(spec, file, feed)
    return _open_openvino(spec, file, feed)


def _open_edged(spec: Spec, file: Path, feed: Mapping[str, Array]) -> Engine:
    from edged import npu

    began = time.perf_counter()
    program = npu.Program.load(file)
    device = npu.open(threads=spec.threads, isa=spec.isa)
    device.load(program)
    load_ms = (time.perf_counter() - began) * 1e3
    found: dict[str, Array] = {}
    return Engine(
        run=lambda: found.update(device.run(feed)),
        outputs=lambda: found,
        load_ms=load_ms,
        settings={"isa": device.isa, "format": program.format, "waiting": "its threads sleep"},
        chain_times=device.times_us,
    )


def _open_onnxruntime(spec: Spec, file: Path, feed: Mapping[str, Array]) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    began = time.perf_counter()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    load_ms = (time.perf_counter() - began) * 1e3
    bound = session.io_binding()
    for name, array in feed.items():
        bound.bind_cpu_input(name, array)
    names = [each.name for each in session.get_outputs()]
    session.run_with_iobinding(_with_outputs(bound, names))
    return Engine(
        run=lambda: session.run_with_iobinding(bound),
        outputs=lambda: dict(zip(names, bound.copy_outputs_to_cpu(), strict=True)),
        load_ms=load_ms,
        settings={
            "version": onnxruntime.__version__,
            "optimisations": "all",
            "waiting": "its threads spin for a while after a run, its default",
        },
        held=feed,
    )


def _with_outputs(bound: Any, names: list[str]) -> Any:
    for name in names:
        bound.bind_output(name, "cpu")
    return bound


def _open_openvino(spec: Spec, file: Path, feed: Mapping[str, Array]) -> Engine:
    openvino = _openvino()
    core = openvino.Core()
    can = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    wish: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": spec.threads}
    wish |= {"NUM_STREAMS": 1}
    if spec.name.endswith("bf16"):
        if "BF16" not in can:
            raise DeviceError("cannot run openvino-bf16: OpenVINO has no bfloat16 on this CPU")
        wish["INFERENCE_PRECISION_HINT"] = "bf16"
    elif spec.name.endswith("float32"):
        wish["INFERENCE_PRECISION_HINT"] = "f32"
    began = time.perf_counter()
    compiled = core.compile_model(core.read_model(str(file)), "CPU", wish)
    load_ms = (time.perf_counter() - began) * 1e3
    request = compiled.create_infer_request()
    tensors = {name: openvino.Tensor(array, shared_memory=True) for name, array in feed.items()}
    for name, tensor in tensors.items():
        request.set_tensor(name, tensor)
    names = [each.get_any_name() for each in compiled.outputs]
    return Engine(
        run=request.infer,
        outputs=lambda: {name: request.get_tensor(name).data.copy() for name in names},
        load_ms=load_ms,
        settings={
            "version": openvino.__version__,
            "precision": compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
            "threads": compiled.get_property("INFERENCE_NUM_THREADS"),
            "streams": str(compiled.get_property("NUM_STREAMS")),
            "pinned": bool(compiled.get_property("ENABLE_CPU_PINNING")),
            "most": os.environ.get("ONEDNN_MAX_CPU_ISA", "what the CPU has"),
            "waiting": "its threads (TBB) spin for a moment, its default",
        },
        held=(feed, tensors),
    )


def missing(spec: Spec) -> str | None:
    """Says what an engine lacks here, or None."""
    from importlib.util import find_spec

    if spec.name in OPENVINO and find_spec("openvino") is None:
        return "OpenVINO is not installed: pip install 'edged[bench]'"
    return None


def _openvino() -> Any:
    """Returns OpenVINO without its telemetry, which its model converter brings in.

    The converter falls back to a stand-in that sends nothing when that package cannot be imported.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as exc:
        raise ConfigError(
            f"cannot measure OpenVINO: {exc}; install it with pip install 'edged[bench]'"
        ) from exc
    return openvino
