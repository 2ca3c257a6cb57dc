"""The kinds of stages a model's pipeline is made of: pictures, the NPU, graphs on the CPU.

A stage is opened once and then run for each item; it raises ``RequestError`` for what a caller sent
and ``ModelError`` for what the model brought.
"""

from __future__ import annotations

from edged.worker.stages.image import ImageStage
from edged.worker.stages.npu import NpuStage
from edged.worker.stages.onnx import OnnxStage

__all__ = ["ImageStage", "NpuStage", "OnnxStage"]
