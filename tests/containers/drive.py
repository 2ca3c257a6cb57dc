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
import time
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


async def give_up(order: dict[str, Any]) -> dict[str, Any]:
    """Begins to start workers and thinks better of it, a little later each time."""
    runtime = RuncRuntime(Path(order["run"]), root=order["root"])
    await runtime.reclaim()
    took = await start_and_delete(runtime, None)
    assert took is not None
    given_up = 0
    for step in range(30):
        given_up += await start_and_delete(runtime, took * step / 20) is None
    await start_and_delete(runtime, None)
    left = [str(path) for path in (Path(order["run"]) / "containers").iterdir()]
    return {"left": left, "given up": given_up, "processes": has_children()}


async def start_and_delete(runtime: RuncRuntime, limit: float | None) -> float | None:
    """Returns the seconds that a start took; None if it was given up after ``limit``."""
    container = runtime.create(Spec("tests.fakes.inside", arguments=["hang"]))
    began = time.monotonic()
    try:
        await asyncio.wait_for(container.start(), limit)
    except asyncio.TimeoutError:
        return None
    finally:
        took = time.monotonic() - began
        await asyncio.gather(container.delete(), container.delete())
    return took


def has_children() -> bool:
    """Whether there is a process of ours, reaped or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def main() -> int:
    """Reads the order from the command line."""
    try:
        order = json.loads(sys.argv[1])
        work = give_up if order["arguments"] == ["give up"] else drive
        print(json.dumps(asyncio.run(work(order))))
    except EdgedError as exc:
        print(json.dumps({"error": f"{type(exc).__name__}: {exc}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
