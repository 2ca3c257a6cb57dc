"""``python -m edged.containers.runc.probe DIR``: can models run in containers here?

Runs the worker's ``--help`` in a container whose files are below DIR. Prints what shuts it in and
ends with 0, or why it cannot be had and ends with 1.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from edged.containers.logs import Logs
from edged.containers.runc.runtime import RuncRuntime
from edged.containers.runtime import Spec
from edged.errors import DeviceError, EdgedError

LIMIT = 20.0  # seconds for the worker's imports


async def probe(folder: Path) -> str:
    """Returns what shuts a worker in.

    Raises:
        EdgedError: there can be no containers here, and why.
    """
    runtime = RuncRuntime(folder)
    await runtime.reclaim()
    spec = Spec("edged.worker", arguments=["--help"], logs=Logs(folder / "logs"))
    container = runtime.create(spec)
    try:
        await container.start()
        status = await asyncio.wait_for(container.wait(), LIMIT)
    except asyncio.TimeoutError as exc:
        raise DeviceError(f"cannot run a worker: it has not ended within {LIMIT:g} s") from exc
    finally:
        await container.delete()
    if status != 0:
        raise DeviceError(f"cannot run a worker: it ended with status {status}")
    return runtime.describe()


def main() -> int:
    """Returns the exit status."""
    try:
        with tempfile.TemporaryDirectory(prefix="probe-", dir=sys.argv[1]) as name:
            folder = Path(name)
            folder.chmod(0o711)
            print(asyncio.run(probe(folder)))  # noqa: T201 - it is a command
    except OSError as exc:
        print(f"cannot make a folder in {sys.argv[1]}: {exc.strerror}")  # noqa: T201
        return 1
    except EdgedError as exc:
        print(exc)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
