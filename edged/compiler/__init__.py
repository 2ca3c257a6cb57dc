"""The compiler: ONNX models to programs of the NPU.

``load`` reads, checks and folds a model; ``compile`` lowers all of it, ``partition`` cuts it into
what the CPU does before, the NPU, and what the CPU does after. ``onnx`` is imported only when one
of them is called (extra ``edged[build]``).
"""

from edged.compiler.graph import Graph, Port
from edged.compiler.load import load
from edged.compiler.partition import Classifier, Partition, partition
from edged.compiler.partition import compile_model as compile  # noqa: A004 - as the API has it
from edged.compiler.report import ReportRow

__all__ = [
    "Classifier",
    "Graph",
    "Partition",
    "Port",
    "ReportRow",
    "compile",
    "load",
    "partition",
]
