"""What quickstart asks before it chooses: can models run in containers here?"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.containers.conftest import Sandbox
from tests.e2e.device import ROOT


def probe(sandbox: Sandbox, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edged.containers.runc.probe", str(sandbox.run_dir)]
    return subprocess.run(
        [*sandbox.user, *command],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_edgeds_own_worker_runs_in_a_container_and_it_says_in_which(sandbox: Sandbox) -> None:
    answer = probe(sandbox)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.startswith("runc, user " if sandbox.root else "runc, rootless, as user ")
    assert not list(sandbox.run_dir.iterdir())


def test_where_it_cannot_it_says_why(sandbox: Sandbox) -> None:
    if not sandbox.root:
        sandbox.run_dir.chmod(0o500)
        answer = probe(sandbox)
        assert answer.returncode == 1
        assert "cannot make a folder" in answer.stdout
        return
    sandbox.run_dir.chmod(0o700)
    answer = probe(sandbox)
    assert answer.returncode == 1
    assert "cannot pass through" in answer.stdout
