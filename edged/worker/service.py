"""What the worker answers to each of the daemon's questions.

Invariants:
- The model runs only between ACTIVATE and LEAVE: the host has one NPU, and the daemon says whose
  it is.
- Every question gets one answer. A request that is at fault, or that the model fails on, gets an
  ERROR, and the next one is served; only a daemon that breaks the protocol ends the service.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edged.errors import DeviceError, ModelError, RequestError
from edged.manifest import TensorSpec
from edged.messages.link import BODY_LIMIT, Frame, Kind, ProtocolError, Said
from edged.worker import classes, golden, signature
from edged.worker.pipeline import Pipeline, Result
from edged.worker.tensors import Value

logger = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024  # bytes of an error's text, as TensorFlow Serving cuts it
# Seconds for all items of a request. The daemon ends a worker that is silent for 60, so that must
# not be how a caller learns that a batch was too large; one picture may take ten by itself.
RUN_LIMIT = 45.0


class Service:
    """Answers questions about one model.

    Args:
        pipeline: of the model.
        folder: of the model, for its golden files.
    """

    def __init__(self, pipeline: Pipeline, folder: Path) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._active = False

    def hello(self) -> Frame:
        """Returns the frame that says what was loaded."""
        manifest, npu = self._pipeline.manifest, self._pipeline.npu
        sides = {"inputs": manifest.signature.inputs, "outputs": manifest.signature.outputs}
        meta = {
            "name": manifest.name,
            "version": manifest.version,
            "pid": os.getpid(),
            "isa": npu.device.isa,
            "format": manifest.format,
            "sku": manifest.sku,
            "memory_bytes": manifest.memory,
            "predicted_us": npu.predicted_us,
            "signature": {
                side: [_summary(spec) for spec in specs] for side, specs in sides.items()
            },
            "labels": len(self._pipeline.labels),
        }
        return Frame(Kind.HELLO, meta=meta)

    def answer(self, question: Frame) -> Frame:
        """Returns the answer to a question, whatever happens on the way to it.

        Raises:
            ProtocolError: the frame is no question.
        """
        try:
            return self._answer(question)
        except ProtocolError:
            raise
        except RequestError as exc:
            return error(exc.code, str(exc), question.id)
        except (ModelError, DeviceError) as exc:
            logger.error("%s", exc)  # noqa: TRY400 - the text says it all
            return error("INTERNAL", str(exc), question.id)
        except MemoryError:
            logger.error("cannot answer %s: out of memory", question.kind.name)  # noqa: TRY400
            return error(
                "RESOURCE_EXHAUSTED",
                "there is not enough memory for this request: send fewer or smaller items at once",
                question.id,
            )
        except Exception:
            logger.exception("cannot answer %s", question.kind.name)
            return error(
                "INTERNAL", "the model's process failed; its log has the cause", question.id
            )

    def _answer(self, question: Frame) -> Frame:
        if question.kind is Kind.PREDICT:
            return self._predict(question)
        if question.kind is Kind.ACTIVATE:
            self._active = True
            return Frame(Kind.ACTIVE, question.id)
        if question.kind is Kind.LEAVE:
            self._active = False
            return Frame(Kind.LEFT, question.id)
        if question.kind is Kind.PROBE:
            return self._probe(question)
        if question.kind is Kind.BEAT:
            runs = self._pipeline.npu.device.counters().get("runs", 0)
            return Frame(Kind.ALIVE, question.id, {"runs": runs})
        raise ProtocolError(f"cannot answer {question.kind.name}: it is no question to a worker")

    def _probe(self, question: Frame) -> Frame:
        self._need_npu()
        try:
            golden.check(self._pipeline, self._folder)
        except ModelError as exc:
            logger.error("golden test failed: %s", exc)  # noqa: TRY400
            return Frame(
                Kind.PROBED, question.id, {"ok": False, "reason": str(exc)[:MESSAGE_LIMIT]}
            )
        return Frame(Kind.PROBED, question.id, {"ok": True, "reason": ""})

    def _predict(self, question: Frame) -> Frame:
        start = time.perf_counter_ns()
        self._need_npu()
        ask = question.ask
        deadline = ask.deadline_us / 1e6 if ask.deadline_us else math.inf
        if time.monotonic() >= deadline:
            raise RequestError("DEADLINE_EXCEEDED", "the deadline passed before the model ran")
        manifest = self._pipeline.manifest
        asked = signature.parse(question.body, manifest, strict=ask.strict, original=ask.original)
        parsed = time.perf_counter_ns()
        names = tuple(dict.fromkeys(asked.outputs.values()))
        result = self._run(asked.inputs, names, deadline)
        ran = time.perf_counter_ns()
        body = signature.answer(manifest, asked, result.outputs, content=ask.tensor_content)
        if len(body) > BODY_LIMIT:
            raise RequestError(
                "RESOURCE_EXHAUSTED",
                f"the answer has {len(body)} bytes, limit {BODY_LIMIT}: send fewer items at once, "
                "or name the outputs you need in output_filter",
            )
        top = classes.text(classes.best(result.outputs, self._pipeline.labels, ask.top))
        times = {
            "parse": (parsed - start) // 1000,
            **result.times_us,
            "serialise": (time.perf_counter_ns() - ran) // 1000,
        }
        # JSON by hand: these are words and numbers, and the caller's clock runs.
        said = ",".join([f'"{stage}":{spent}' for stage, spent in times.items()])
        return Frame(Kind.RESULT, question.id, body=body, said=Said(f"{{{said}}}", top))

    def _run(self, inputs: Mapping[str, Value], names: Sequence[str], deadline: float) -> Result:
        limit = time.monotonic() + RUN_LIMIT
        try:
            return self._pipeline.run(inputs, names, deadline=min(deadline, limit))
        except RequestError as exc:
            if exc.code != "DEADLINE_EXCEEDED" or deadline <= limit:
                raise
            cause = f"{exc}; a request may run {RUN_LIMIT:g} s"
            raise RequestError("RESOURCE_EXHAUSTED", cause) from exc

    def _need_npu(self) -> None:
        if not self._active:
            raise RequestError(
                "FAILED_PRECONDITION", "the model is not on the NPU: it must be activated first"
            )


def error(code: str, message: str, question: int = 0) -> Frame:
    """Returns an ERROR frame; ``question`` is the id of what it answers."""
    # Bytes, not characters: a status travels in a header, where each byte beyond ASCII takes three.
    encoded = message.encode(errors="replace")
    if len(encoded) > MESSAGE_LIMIT:
        message = encoded[:MESSAGE_LIMIT].decode(errors="ignore") + "...TRUNCATED"
    return Frame(Kind.ERROR, question, {"code": code, "message": message})


def _summary(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "type": spec.type,
        "shape": list(spec.shape),
    }
