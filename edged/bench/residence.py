"""The memory of a worker with a model: a daemon of its own, the image deployed, pictures answered.

What an operator's machine has to give, measured on the process that operators run: the NPU's
program, the graphs for the CPU, Python and its libraries.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edged.bench.contender import resident_bytes
from edged.bench.server import own_server
from edged.client import Client
from edged.errors import DeviceError

_MODULE = b"edged.worker"
READY_LIMIT = 30.0  # seconds
_DEADLINE = 60.0  # seconds, of a request


def worker_bytes(image: str, name: str, picture: bytes, *, threads: int, requests: int = 20) -> int:
    """Returns the resident bytes of the worker after it has answered.

    Args:
        image: reference of the model.
        name: of the model's input for a picture.
        picture: JPEG or PNG.
        threads: of the NPU and of graphs on the CPU.
        requests: to answer first.

    Raises:
        DeviceError, FetchError: it cannot be served, or has no worker.
    """
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as folder:
        flags = ["--threads", str(threads)]
        with own_server(Path(folder), image, flags) as served, Client(served.target) as client:
            client.wait_ready(READY_LIMIT)
            for _ in range(requests):
                client.predict({name: picture}, timeout=_DEADLINE)
            return resident_bytes(_worker(served.status["pid"]))


def _worker(daemon: int) -> int:
    """Returns the process that a daemon has started for its model."""
    for pid in _descendants(daemon):
        with contextlib.suppress(OSError):
            if _MODULE in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
    raise DeviceError(f"cannot find the worker of the daemon with process id {daemon}")


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ends meanwhile
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _descendants(child)
