"""From an ONNX graph to a model image: ``edged.build(source, out, ...)``.

- ``source``, ``preprocess``: what the user gives; ``wiring``: stages and signature;
- ``golden``, ``draw``, ``arrays``: what the device must answer before it serves the model;
- ``report``: where every node runs; ``assemble``: all of it, and the image.

Needs the extra ``edged[build]`` (onnx).
"""

from __future__ import annotations

import sys
import types
from typing import Any

from edged.build.assemble import Built, assemble, build
from edged.oci import Digest

__all__ = ["Built", "assemble", "build"]


class _Callable(types.ModuleType):
    """Lets ``edged.build`` be the function of the public API and this package at once.

    The import system binds the package to that name in ``edged`` whenever somebody imports it.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Digest:
        return build(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
