"""What the scripts of foreign clients have in common; nothing but grpc is imported here.

A case is a function that returns JSON values; its errors are printed with gRPC's code and details.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import grpc

from tests.clients.scripts.lines import tell

CASES: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    """Adds a case, under the function's name."""
    CASES[function.__name__] = function
    return function


def outcome(function: Callable[[], Any]) -> dict[str, Any]:
    """Runs a function and returns what it came to."""
    try:
        return {"value": function()}
    except grpc.RpcError as exc:
        code, details = exc.code(), exc.details()
        return {"error": "RpcError", "code": code.name, "details": details}
    except Exception as exc:  # noqa: BLE001 - whatever it is, the test is to see it
        traceback.print_exc()
        return {"error": f"{type(exc).__name__}: {exc}"}


def main() -> None:
    """Runs every case."""
    for name, function in CASES.items():
        tell(case=name, **outcome(function))
