"""Attackers of a device's TCP port. ``python -m tests.e2e.floods KIND HOST:PORT CA N SECONDS``.

====== ==========================================================================================
tokens N calls with wrong tokens, as many at a time as the device lets them, from 16 connections
idle   N connections that say nothing
silent N connections that shake hands, greet, and say nothing more
loris  N connections that shake hands and then send a request's headers a byte at a time
body   N calls with a right token, read from the environment, whose body comes a byte at a time
====== ==========================================================================================

Prints ``began`` when it is at it and at the end one JSON object of what became of the attempts.
Whatever the device does to an attacker is no error here.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import secrets
import ssl
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from tests.e2e import http2
from tests.e2e.device import PREDICT

Counts = collections.Counter[str]
CHANNELS = 16
PACE = 0.1  # seconds from a byte to the next


async def tokens(address: str, ca: Path, number: int, seconds: float) -> Counts:
    """Calls with wrong tokens."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    trusted = await asyncio.to_thread(ca.read_bytes)
    credentials = grpc.ssl_channel_credentials(trusted)
    counts: Counts = collections.Counter()
    channels = [grpc.aio.secure_channel(address, credentials, options) for _ in range(CHANNELS)]
    left = iter(range(number))
    deadline = time.monotonic() + seconds

    async def calling(channel: grpc.aio.Channel) -> None:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PREDICT)
        for _ in left:
            if time.monotonic() > deadline:
                return
            metadata = (("authorization", f"Bearer {secrets.token_urlsafe(32)}"),)
            try:
                await call(b"x", metadata=metadata, timeout=seconds)
                counts["OK"] += 1
            except grpc.aio.AioRpcError as exc:
                counts[exc.code().name] += 1

    print("began", flush=True)
    await asyncio.gather(*(calling(channels[i % CHANNELS]) for i in range(CHANNELS * 128)))
    for channel in channels:
        await channel.close()
    return counts


async def idle(address: str, _ca: Path, number: int, seconds: float) -> Counts:
    """Connections that say nothing."""
    return await _connections(address, None, number, seconds, _nothing)


async def silent(address: str, ca: Path, number: int, seconds: float) -> Counts:
    """Connections that greet."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""))
        await writer.drain()

    return await _connections(address, ca, number, seconds, greet)


async def loris(address: str, ca: Path, number: int, seconds: float) -> Counts:
    """Requests whose headers do not end."""

    async def dribble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""))
        # A frame of headers that announces more than will ever come.
        writer.write(struct.pack(">I", 16_000 << 8 | http2.HEADERS) + struct.pack(">BI", 4, 1))
        await _slowly(writer, b"\0" * 16_000)

    return await _connections(address, ca, number, seconds, dribble)


async def body(address: str, ca: Path, number: int, seconds: float) -> Counts:
    """Requests of somebody who may call, whose body does not end."""
    token = os.environ["EDGED_TEST_TOKEN"]

    async def dribble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""))
        headers = http2.headers(authorization=f"Bearer {token}")
        writer.write(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, headers))
        part = http2.message(b"x" * 8192)
        for i in range(len(part)):
            await _slowly(writer, http2.frame(http2.DATA, 0, 1, part[i : i + 1]), len(part))

    return await _connections(address, ca, number, seconds, dribble)


async def _slowly(writer: asyncio.StreamWriter, data: bytes, step: int = 1) -> None:
    for i in range(0, len(data), step):
        writer.write(data[i : i + step])
        await writer.drain()
        await asyncio.sleep(PACE)


async def _nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return None


async def _connections(
    address: str,
    ca: Path | None,
    number: int,
    seconds: float,
    then: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> Counts:
    """Keeps ``number`` connections, each opened once; counts those closed by the other side."""
    counts: Counts = collections.Counter()
    host, _, port = address.rpartition(":")
    context = None
    if ca is not None:
        context = ssl.create_default_context(cafile=str(ca))
        context.set_alpn_protocols(["h2"])
    done = asyncio.Event()
    gate = asyncio.Semaphore(64)

    async def one() -> None:
        try:
            async with gate:
                reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        except (OSError, EOFError):
            counts["refused"] += 1
            return
        counts["opened"] += 1
        telling = asyncio.ensure_future(then(reader, writer))
        closed = asyncio.ensure_future(_closed(reader))
        over = asyncio.ensure_future(done.wait())
        await asyncio.wait([closed, over], return_when=asyncio.FIRST_COMPLETED)
        counts["closed" if closed.done() else "kept"] += 1
        for task in (telling, closed, over):
            task.cancel()
        await asyncio.gather(telling, closed, over, return_exceptions=True)
        writer.transport.abort()

    print("began", flush=True)
    attempts = [asyncio.ensure_future(one()) for _ in range(number)]
    await asyncio.wait(attempts, timeout=seconds)
    done.set()
    with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.gather(*attempts), 30)
    return counts


async def _closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass


KINDS = {each.__name__: each for each in (tokens, idle, silent, loris, body)}


def main() -> None:
    """Attacks as the arguments say."""
    kind, address, ca, number, seconds = sys.argv[1:]
    counts = asyncio.run(KINDS[kind](address, Path(ca), int(number), float(seconds)))
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
