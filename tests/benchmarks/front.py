"""What a request costs on its way: ``python -m tests.benchmarks.front [--requests N]``.

The real daemon with a worker that sleeps 5 ms for each request; shown is the time the caller waited
less the time the worker slept, in milliseconds, over one TCP connection, by size of the request.
With several callers it is the whole time from answer to answer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

import grpc

from tests.e2e.device import Device, raw
from tests.fakes import images

WORK_US = 5000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="the cost of the way to the worker")
    parser.add_argument("--requests", type=int, default=500)
    count = parser.parse_args().requests
    with tempfile.TemporaryDirectory(prefix="edged-") as folder:
        device = Device(Path(folder), "tests.fakes.daemon")
        device.start()
        try:
            device.deploy(images.write(device.folder / "image"))
            measure(device, count)
        finally:
            device.stop()


def measure(device: Device, count: int) -> None:
    """Prints a line for each size, then one for several callers."""
    with device.channel() as channel:
        for size in (1_000, 62_000, 600_000):
            times = one_caller(channel, size, count)
            cuts = statistics.quantiles(times, n=100)
            print(f"{size:7} bytes, 1 caller: p50 {cuts[49]:.2f}  p99 {cuts[98]:.2f} ms overhead")
    print(f"  62000 bytes, 8 callers: {several(device, 8, count):.2f} ms a request")


def request(size: int) -> bytes:
    """Returns a request of so many bytes that takes ``WORK_US``."""
    return f"work {WORK_US} ".encode().ljust(size, b"x")


def one_caller(channel: grpc.Channel, size: int, count: int) -> list[float]:
    """Returns the overhead of each request, in milliseconds."""
    predict, body, times = raw(channel), request(size), []
    for number in range(count + 20):
        began = time.perf_counter()
        _, call = predict.with_call(body, timeout=30)
        took = (time.perf_counter() - began) * 1e3
        said = dict(call.trailing_metadata() or ())
        if number >= 20:
            times.append(took - json.loads(said["edged-times-us"])["work"] / 1e3)
    return times


def several(device: Device, callers: int, count: int) -> float:
    """Returns the milliseconds from answer to answer."""

    def load() -> None:
        with device.channel() as channel:
            predict, body = raw(channel), request(62_000)
            for _ in range(count // callers):
                predict(body, timeout=30)

    threads = [threading.Thread(target=load) for _ in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - began) * 1e3 / (count // callers * callers)


if __name__ == "__main__":
    main()
