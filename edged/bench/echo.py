"""A bare gRPC server that answers each request with so many bytes: the floor of any service here.

``python -m edged.bench.echo --listen ADDRESS --answer BYTES``, a process of its own as the daemon
is. It says its address in a line on standard output once it serves, and ends when its standard
input does, as it does when whoever started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.errors import DeviceError

if TYPE_CHECKING:
    import grpc

METHOD = "/edged.bench.Echo/Echo"
START_LIMIT = 30.0  # seconds
STOP_LIMIT = 5.0
MESSAGE_LIMIT = 64 * 1024 * 1024  # bytes


@contextlib.contextmanager
def echo_server(folder: Path, answer: int, *, tcp: bool) -> Iterator[str]:
    """Starts one; yields its address; ends it with the block.

    Args:
        folder: for its socket, with a short path.
        answer: bytes of each answer.
        tcp: over loopback instead of a Unix socket.

    Raises:
        DeviceError: it does not start.
    """
    listen = "127.0.0.1:0" if tcp else f"unix:{folder / 'echo.sock'}"
    command = [sys.executable, "-m", __name__, "--listen", listen, "--answer", str(answer)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None  # noqa: S101 - both are pipes
        assert server.stdout is not None  # noqa: S101
        try:
            ready, _, _ = select.select([server.stdout], [], [], START_LIMIT)
            address = server.stdout.readline().decode().strip() if ready else ""
            if not address:
                raise DeviceError(f"cannot start the echo server on {listen}: it said nothing")
            yield address
        finally:
            server.stdin.close()
            try:
                server.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                server.kill()


async def serve(listen: str, answer: bytes) -> None:
    """Serves until standard input ends."""
    import grpc

    async def echo(_request: bytes, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return answer

    limits = [(f"grpc.max_{way}_message_length", MESSAGE_LIMIT) for way in ("receive", "send")]
    server = grpc.aio.server(options=limits)
    service, method = METHOD.strip("/").split("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port(listen)
    await server.start()
    address = listen if listen.startswith("unix:") else f"127.0.0.1:{port}"
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    await _end_of_input()
    await server.stop(0)


async def _end_of_input() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


def main() -> int:
    """Runs the server."""
    parser = argparse.ArgumentParser(description="answers each gRPC request with so many bytes")
    parser.add_argument("--listen", required=True, metavar="ADDRESS")
    parser.add_argument("--answer", required=True, type=int, metavar="BYTES")
    given = parser.parse_args()
    # Ctrl-C reaches us as it does whoever started us, who says what there is to say.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.listen, bytes(given.answer)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
