"""The onnx stage: a graph on the CPU, by onnxruntime.

Invariants:
- onnxruntime's telemetry is off before it is imported, and its threads sleep after a run.
- A graph brings all its data itself: it is loaded from memory, so that it can name no other files.

onnxruntime is imported when the first stage is opened, and not at all for a model without one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edged.errors import ModelError, RequestError


class OnnxStage:
    """One graph, ready to run.

    Args:
        path: of the .onnx file.
        inputs: names of the graph's inputs, all of them.
        outputs: names of the graph's outputs that the model uses.
        threads: that run it; None for one a usable CPU.

    Raises:
        ModelError: there is no such graph, or onnxruntime cannot run it.
    """

    def __init__(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int | None = None
    ) -> None:
        self._name = path.name
        self._inputs = tuple(inputs)
        try:
            graph = path.read_bytes()
        except OSError as exc:
            raise ModelError(f"cannot read graph {self._name}: {exc.strerror}") from exc
        self._session = _session(self._name, graph, threads)
        found = {node.name for node in self._session.get_inputs()}
        made = {node.name for node in self._session.get_outputs()}
        if found != set(inputs) or not made.issuperset(outputs):
            raise ModelError(
                f"cannot use graph {self._name}: it reads {sorted(found)}, makes {sorted(made)}; "
                f"the manifest says {sorted(inputs)} and {sorted(outputs)}"
            )

    def run(self, values: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Returns the wanted outputs by name for one item.

        Args:
            values: the graph's inputs by name; others are not looked at.
            wanted: names of outputs; the graph is computed whole all the same.

        Raises:
            RequestError: an input has a shape or type that the graph does not take.
            ModelError: the graph fails.
        """
        try:
            made = self._session.run(list(wanted), {name: values[name] for name in self._inputs})
        except Exception as exc:
            # onnxruntime's exceptions are classes of its own, without a base they share.
            cause = f"cannot run graph {self._name}: {exc}"
            if type(exc).__name__ == "InvalidArgument":
                raise RequestError("INVALID_ARGUMENT", cause) from exc
            raise ModelError(cause) from exc
        for name, value in zip(wanted, made, strict=True):
            if not isinstance(value, np.ndarray):
                raise ModelError(
                    f"cannot use output {name!r} of graph {self._name}: expected a tensor, "
                    f"got a {type(value).__name__}"
                )
        return dict(zip(wanted, made, strict=True))


def _session(name: str, graph: bytes, threads: int | None) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they also come as exceptions, with the cause
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise ModelError(f"cannot load graph {name}: {exc}") from exc
