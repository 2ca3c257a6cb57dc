"""Imports every module of edged in the environment that is packaged: does it lack what was pruned?

Only what takes an extra (``edged[build]``, ``edged[bench]``) may be missing.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import edged

EXTRAS = {"onnx", "openvino", "atheris"}


def main() -> int:
    """Returns 0, or 1 after naming what is missing."""
    failed = 0
    for module in pkgutil.walk_packages(edged.__path__, "edged."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ImportError as exc:
            if (exc.name or "").partition(".")[0] not in EXTRAS:
                print(f"cannot import {module.name}: {exc}", file=sys.stderr)
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
