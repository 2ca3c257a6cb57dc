"""runc that is missing, hangs, fails or lies: an error in its own words, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from edged.containers.runc import bundle, cgroups, command, identity, seccomp
from edged.containers.runc.bundle import Host
from edged.containers.runc.runtime import RuncRuntime, check_passable
from edged.containers.runtime import Limits, Spec, State
from edged.errors import ConfigError, DeviceError

Install = Callable[[str], None]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60), debug=True)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a shell script in runc's place; it gets the log's path as $log and the verb as $verb."""
    host = Host(identity.choose(1000, 1000, ""), cgroups.Delegation(), {}, (6, 1))
    monkeypatch.setattr("edged.containers.runc.runtime.look", lambda: host)

    def install(script: str) -> None:
        find = 'while [ "$1" != --log ]; do shift; done; log=$2; verb=$5\n'
        path = tmp_path / "bin" / "runc"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{find}{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))

    return install


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def refused(folder: Path, why: str, spec: Spec | None = None) -> None:
    async def test() -> None:
        runtime = RuncRuntime(folder)
        await runtime.reclaim()
        container = runtime.create(spec or Spec("edged.worker", name="edged-x"))
        with pytest.raises(DeviceError, match=why):
            await container.start()
        assert container.state() is State.CREATED
        await container.delete()

    run(test())


def test_runcs_own_reason_is_said(folder: Path, install: Install) -> None:
    install(
        'if [ $verb = run ]; then echo \'{"level":"warning","msg":"hm"}\' >$log; echo "{" >>$log\n'
        'echo \'{"level":"error","msg":"runc run failed: no\\\\n  room"}\' >>$log; exit 1; fi'
    )
    refused(folder, r"^cannot run container edged-x: no room$")
    assert not list((folder / "containers").iterdir())


def test_a_failure_without_a_reason_has_its_status(folder: Path, install: Install) -> None:
    install("[ $verb != run ] || exit 7")
    refused(folder, "cannot run container edged-x: runc ended with status 7")


def test_a_runc_that_hangs_is_ended_with_what_it_started(
    folder: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LIMIT", 0.3)
    pids = folder.parent / "pids"
    install(f"[ $verb != run ] || {{ sleep 1000 & echo $$ $! >{pids}; wait; }}")
    began = time.monotonic()
    refused(folder, r"runc has not ended within 0\.3 s")
    assert time.monotonic() - began < 20
    for pid in map(int, pids.read_text().split()):
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_start_that_is_given_up_leaves_nothing(folder: Path, install: Install) -> None:
    pids = folder.parent / "pids"
    os.mkfifo(pids)
    install(f"[ $verb != run ] || {{ echo $$ >{pids}; exec sleep 1000; }}")

    async def test() -> None:
        runtime = RuncRuntime(folder)
        await runtime.reclaim()
        container = runtime.create(Spec("edged.worker", name="edged-x"))
        starting = asyncio.create_task(container.start())
        loop = asyncio.get_running_loop()
        pid = int(await loop.run_in_executor(None, pids.read_text))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        await container.delete()

    run(test())
    assert not list((folder / "containers").iterdir())


def test_a_runc_that_says_it_ran_and_did_not_is_found_out(folder: Path, install: Install) -> None:
    install("")
    refused(folder, r"cannot run container edged-x: .*pid")
    install('[ $verb != run ] || { while [ "$1" != --pid-file ]; do shift; done; echo x >$2; }')
    refused(folder, "cannot run container edged-x: invalid literal")


def test_what_cannot_be_reclaimed_keeps_nobody_from_starting(
    folder: Path, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install('echo \'{"level":"error","msg":"it is stuck"}\' >$log; exit 1')
    (folder / "containers" / "edged-old").mkdir(parents=True)
    run(RuncRuntime(folder).reclaim())
    assert "cannot delete container edged-old: it is stuck" in caplog.text
    assert (folder / "containers" / "edged-old").exists(), "the next daemon tries again"


def test_a_container_that_never_began_needs_no_end(folder: Path, install: Install) -> None:
    install("exit 9")

    async def test() -> None:
        container = RuncRuntime(folder).create(Spec("edged.worker"))
        container.kill(15)
        await container.delete()

    run(test())


def test_without_runc_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(command, "PLACES", str(folder))
    with pytest.raises(ConfigError, match=r"no runc on this host; install it .* 'process'"):
        command.program()


def test_runc_root_is_for_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="does not run as root; use runtime 'runc'"):
        RuncRuntime(folder, root=True)


def test_a_folder_that_only_root_may_pass_through_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=f"cannot pass through {inner}; chmod o\\+x {inner}"):
        check_passable(inner / "run")
    check_passable(Path("/usr"))


def test_it_says_who_the_worker_is_and_what_holds_it(folder: Path, install: Install) -> None:
    install("")
    described = RuncRuntime(folder, Limits(1 << 30, 1.5, 64)).describe()
    assert described == (
        "runc, rootless, as user 1000; 1024 MiB, 1.5 CPUs (not enforced), 64 processes "
        "(by rlimits, no cgroups are delegated)"
    )


def test_this_host_is_looked_at_as_it_is() -> None:
    if not seccomp.PROFILE.exists():
        pytest.skip(f"{seccomp.PROFILE} is not there")
    assert bundle.look().identity.rootless is (os.geteuid() != 0)
