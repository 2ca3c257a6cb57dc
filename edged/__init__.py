"""edged: the runtime of an inspection device with one NPU.

What an application or a build script uses is here; everything is imported when it is first asked
for, so that a client pays for nothing of the device and the device for nothing of the compiler::

    edged.compile(model, format="ms-fp13")   -> edged.npu.Program
    edged.build(source, out, name=..., ...)  -> edged.oci.Digest
    edged.npu.open()                         -> a device of one's own
    edged.Client(target)                     -> calls a device over gRPC
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edged import npu, oci
    from edged.build import build
    from edged.client import Client
    from edged.compiler import compile  # noqa: A004 - the verb of the contract

__all__ = ["Client", "build", "compile", "npu", "oci"]

_FROM = {"Client": "edged.client", "build": "edged.build", "compile": "edged.compiler"}


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    if name in __all__:
        return importlib.import_module(f"edged.{name}")
    raise AttributeError(f"module 'edged' has no attribute {name!r}")
