"""A worker's process begins, ends and is cleaned up after, with all that it started."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from edged.containers.process import ProcessRuntime
from edged.containers.runtime import Container, Spec, State
from edged.errors import DeviceError

ROOT = Path(__file__).resolve().parents[3]
# A module that edged has, with code of ours: runpy runs `code` with our arguments.
CODE = "tests.fakes.code"


def container(code: str, socket: int | None = None, **environ: str) -> Container:
    return ProcessRuntime().create(Spec(CODE, arguments=[code], socket=socket, environ=environ))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test, debug=True)


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_it_goes_from_created_to_stopped() -> None:
    async def test() -> None:
        worker = container("sys.exit(7)")
        assert (worker.state(), worker.pid) == (State.CREATED, 0)
        await worker.delete()
        await worker.start()
        assert worker.state() is State.RUNNING
        assert worker.pid > 0
        assert await worker.wait() == 7
        assert worker.state() is State.STOPPED
        worker.kill(signal.SIGTERM)
        await worker.delete()

    run(test())


def test_it_gets_its_descriptors_and_variables_and_not_the_service_managers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    monkeypatch.setenv("EDGED_TEST_PASSED", "yes")
    ours, theirs = os.pipe()

    async def test() -> None:
        worker = container(
            f"os.write({theirs}, repr((os.environ.get('NOTIFY_SOCKET'), os.environ['A'],"
            "os.environ['EDGED_TEST_PASSED'], os.getpgid(0) == os.getpid())).encode())",
            theirs,
            A="b",
        )
        await worker.start()
        os.close(theirs)
        assert await worker.wait() == 0

    run(test())
    assert os.read(ours, 100) == b"(None, 'b', 'yes', True)"
    os.close(ours)


def test_a_signal_reaches_it() -> None:
    async def test() -> None:
        worker = container("signal.pause()")
        await worker.start()
        worker.kill(signal.SIGTERM)
        assert await worker.wait() == -signal.SIGTERM

    run(test())


@pytest.mark.parametrize("ends_first", [True, False])
def test_deleting_it_ends_what_it_started(ends_first: bool) -> None:
    ours, theirs = os.pipe()

    async def test() -> None:
        end = "" if ends_first else "signal.pause()"
        worker = container(
            "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
            f"os.write({theirs}, b'%d' % child.pid); {end}",
            theirs,
        )
        await worker.start()
        child = await asyncio.get_running_loop().run_in_executor(None, os.read, ours, 100)
        watched = os.pidfd_open(int(child))
        if ends_first:
            await worker.wait()
        else:
            await worker.delete()
        assert select.select([watched], [], [], 10)[0], "its child is still there"
        os.close(watched)

    run(test())
    os.close(ours)
    os.close(theirs)


def test_a_process_that_does_not_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.containers.process.DELETE_LIMIT", 0.05)

    async def test() -> None:
        worker = container("signal.pause()")
        await worker.start()
        with monkeypatch.context() as patch:
            patch.setattr(os, "killpg", lambda group, number: None)
            with pytest.raises(DeviceError, match=r"still there 0\.05 s after SIGKILL"):
                await worker.delete()
        await worker.delete()

    run(test())


def test_a_process_that_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)

    async def test() -> None:
        with pytest.raises(DeviceError, match="Resource temporarily"):
            await container("pass").start()

    run(test())


def test_it_does_not_outlive_its_parent_even_if_that_is_gone_before_it_looks() -> None:
    # The parent that it is told of is not its parent: as if that had died and init were it now.
    command = [sys.executable, "-m", "edged.containers.launch", "1", CODE, "os._exit(0)"]
    assert subprocess.run(command, check=False).returncode == 1


def test_it_dies_with_its_parent() -> None:
    parent = (
        "import asyncio, os\n"
        "from edged.containers.process import ProcessRuntime\n"
        "from edged.containers.runtime import Spec\n"
        "async def main():\n"
        f"    worker = ProcessRuntime().create(Spec({CODE!r}, arguments="
        "['print(os.getpid(), flush=True, file=sys.stderr); signal.pause()']))\n"
        "    await worker.start()\n"
        "    await worker.wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        watched = os.pidfd_open(int(process.stderr.readline()))
        process.kill()
        assert select.select([watched], [], [], 10)[0], "the worker outlived its parent"
        os.close(watched)
