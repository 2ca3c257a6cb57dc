"""Runs one worker in a container and prints what came of it: the test's end of ``fakes.inside``.

It is a process of its own, since it may have to be an ordinary user.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from edged.containers.runc.runtime import RuncRuntime
from edged.containers.runtime import Limits, Spec
from edged.errors import EdgedError

KEY_SPEC_USER_KEYRING = -4  # keyctl(2)
ADD_KEY = {"x86_64": 248, "aarch64": 217}


def secret() -> int:
    """Gives this user's keyring a key; returns its number, 0 where there is none to be had."""
    number = ADD_KEY[os.uname().machine]
    added = ctypes.CDLL(None).syscall(
        number, b"user", b"edged-test", b"secret", 6, KEY_SPEC_USER_KEYRING
    )
    return max(0, int(added))


async def drive(order: dict[str, Any]) -> dict[str, Any]:
    """Does what the order says."""
    limits = Limits(**order["limits"])
    runtime = RuncRuntime(Path(order["run"]), limits, root=order["root"])
    await runtime.reclaim()
    # As C libraries may have them; it must not get any further.
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    spec = Spec(
        "tests.fakes.inside",
        arguments=[str(secret() if a == "KEY" else a) for a in order["arguments"]],
        socket=theirs.fileno(),
        model=Path(order["model"]),
        limits=limits,
    )
    container = runtime.create(spec)
    said = bytearray()
    try:
        await container.start()
        theirs.close()
        while data := await asyncio.get_running_loop().sock_recv(ours, 1 << 16):
            said += data
            if order["arguments"] == ["hang"]:
                break
        else:
            await container.wait()
    finally:
        await container.delete()
    status = await container.wait()
    left = [str(path) for path in (Path(order["run"]) / "containers").iterdir()]
    return {
        "said": json.loads(said or b"null"),
        "status": status,
        "describe": runtime.describe(),
        "left": left,
    }


def main() -> int:
    """Reads the order from the command line."""
    try:
        print(json.dumps(asyncio.run(drive(json.loads(sys.argv[1])))))
    except EdgedError as exc:
        print(json.dumps({"error": f"{type(exc).__name__}: {exc}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
