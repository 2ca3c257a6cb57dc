"""The golden test off the daemon: the current model in a worker of its own.

It runs in a process of its own, ``python -m edged.doctor.selftest``, so that whatever becomes of it
touches nobody. The worker is started as the daemon would start it, by the same runtime and with the
same limits; the emulated NPU is its own, so that no lock is taken, and a daemon that starts
meanwhile is not in its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from edged.config.settings import Config
from edged.containers.process import ProcessRuntime
from edged.containers.runtime import MIB, Limits, Runtime, half_of_memory
from edged.deploy import device
from edged.deploy.store import pointed
from edged.doctor.skip import SkipError
from edged.errors import DeviceError, EdgedError, ModelError

LIMIT = 60.0  # seconds for all of it
START_LIMIT = 20.0
PROBE_LIMIT = 15.0


def run(config: Config, state: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Tests the current model; returns a sentence about it.

    Args:
        config: how the worker is run.
        state: the state folder, which is only read.
        environ: of the process.

    Raises:
        SkipError: there is no model, or no memory for one.
        ModelError: the answers are not the golden ones, or it cannot be loaded.
        DeviceError: it could not be run.
    """
    folder, digest = _current(state)
    _check_memory(folder)
    asked = {
        "folder": str(folder),
        "digest": digest,
        "runtime": config.runtime,
        "threads": config.threads,
        "isa": config.isa,
        "memory_limit": config.memory_limit,
        "cpu_limit": config.cpu_limit,
        "process_limit": config.process_limit,
    }
    said = _ask(json.dumps(asked), environ)
    if said.get("passed") is True:
        return str(said.get("reason"))
    raise ModelError(str(said.get("reason") or "the self-test gave no reason"))


def _current(state: Path) -> tuple[Path, str]:
    current = [digest for digest, role in pointed(state).items() if role == "current"]
    if not current:
        raise SkipError("no model is deployed")
    folder = state / "models" / current[0].partition(":")[2]
    if not folder.is_dir():
        raise ModelError(f"cannot test the model: it is not in {folder}; see the store's checks")
    return folder, current[0]


def _check_memory(folder: Path) -> None:
    needed, available = device.memory_needed(folder), device.memory_available()
    if available is not None and available < needed:
        raise SkipError(f"it needs {needed // MIB} MiB of memory, {available // MIB} are available")


def _ask(text: str, environ: Mapping[str, str]) -> dict[str, object]:
    command = [sys.executable, "-m", "edged.doctor.selftest", text]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
            check=False,
            env=dict(environ),
        )
    except subprocess.TimeoutExpired as exc:
        raise DeviceError(f"cannot test the model: not done within {LIMIT:g} s") from exc
    except OSError as exc:
        raise DeviceError(f"cannot test the model: {exc.strerror}") from exc
    try:
        said = json.loads(done.stdout)
    except ValueError as exc:
        tail = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise DeviceError(f"cannot test the model: the test itself failed: {tail}") from exc
    return said if isinstance(said, dict) else {}


# -- in the process


async def _test(asked: Mapping[str, object], run_dir: Path) -> str:
    from edged.model.process import ModelProcess, Worker

    runtime, limits = _runtime(asked, run_dir)
    await runtime.reclaim()
    threads, isa = asked.get("threads"), asked.get("isa")
    worker = Worker(
        runtime,
        threads=threads if isinstance(threads, int) else None,
        isa=isa if isinstance(isa, str) else None,
        limits=limits,
    )
    folder, digest = Path(str(asked["folder"])), str(asked["digest"])
    process = await ModelProcess.start(
        worker, folder, digest, lambda _process, _why: None, START_LIMIT, behind=True
    )
    try:
        await process.activate(PROBE_LIMIT)
        began = time.monotonic()
        await process.probe(PROBE_LIMIT)
        spent = (time.monotonic() - began) * 1e3
    finally:
        with contextlib.suppress(EdgedError):
            await process.stop()
    facts = process.facts
    return (
        f"{facts.name} {facts.version} gave its golden answers in {spent:.0f} ms "
        f"({facts.isa} kernels, {runtime.name})"
    )


def _runtime(asked: Mapping[str, object], run_dir: Path) -> tuple[Runtime, Limits]:
    memory, cpus, pids = (asked.get(f"{name}_limit") for name in ("memory", "cpu", "process"))
    limits = Limits(
        memory * MIB if isinstance(memory, int) else half_of_memory(),
        float(cpus) if isinstance(cpus, int | float) else None,
        pids if isinstance(pids, int) else Limits.pids,
    )
    if asked.get("runtime") == "process":
        return ProcessRuntime(), limits
    from edged.containers.runc.runtime import RuncRuntime

    return RuncRuntime(run_dir, limits, root=asked.get("runtime") == "runc-root"), limits


def main() -> int:
    """Tests what the argument describes, and prints a JSON object about it."""
    with tempfile.TemporaryDirectory(prefix="edged-doctor-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # a container's user has to pass through it
        try:
            said = {"passed": True, "reason": asyncio.run(_test(json.loads(sys.argv[1]), folder))}
        except EdgedError as exc:
            said = {"passed": False, "reason": str(exc)}
    print(json.dumps(said))  # noqa: T201 - it is a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
