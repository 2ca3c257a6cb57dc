"""Virtual environments for clients of others, so that nothing of theirs is mixed with edged's.

Each is made once with pip, from whatever index this machine has, and kept in a folder that
``EDGED_TEST_CACHE`` names (default: ``~/.cache/edged-tests``). An environment whose requirements
changed gets a folder of its own; all of them may be deleted at any time. Where one cannot be made,
the tests that need it are skipped with pip's reason.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

LIMIT = 1800.0  # seconds for one call of pip: TensorFlow is some 300 MB


@dataclass(frozen=True)
class Environment:
    """What to install.

    Attributes:
        name: of the folder.
        requirements: with what they require.
        alone: installed after that, without what they require.
        module: that must then be importable; not every release of a package works everywhere.
    """

    name: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()
    module: str = "sys"

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        text = repr((self.requirements, self.alone, sys.version_info[:2], platform.machine()))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return cache() / f"{self.name}-{digest}"

    def python(self) -> Path:
        """Returns the environment's interpreter, made first if need be; skips if it cannot be."""
        python = self.folder / "bin" / "python"
        with _locked(self.folder):
            complete = self.folder / "complete"
            if not complete.exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                _run(self.name, [sys.executable, "-m", "venv", str(self.folder)])
                pip = [str(python), "-m", "pip", "install", "--no-input", "--quiet"]
                _run(self.name, [*pip, *self.requirements])
                if self.alone:
                    _run(self.name, [*pip, "--no-deps", *self.alone])
                _run(self.name, [str(python), "-W", "ignore", "-c", f"import {self.module}"])
                complete.touch()
        return python


_TENSORFLOW = (
    "tensorflow-cpu>=2.16; platform_machine == 'x86_64'",
    "tensorflow>=2.16; platform_machine != 'x86_64'",
)
# Alone, as it requires `tensorflow`: that would be installed over the same modules without a GPU.
_STUBS = "tensorflow-serving-api>=2.16"
TENSORFLOW = Environment(
    "tensorflow-serving",
    (
        *_TENSORFLOW,
        "grpcio>=1.66",
        "grpcio-health-checking>=1.66",
        "googleapis-common-protos>=1.65",
    ),
    (_STUBS,),
    "tensorflow_serving.apis.prediction_service_pb2_grpc",
)
ACCEL = Environment(
    "accel-models",
    (*_TENSORFLOW, "azureml-accel-models>=1.62"),
    (_STUBS,),
    "azureml.accel",
)
# 1.71 is the first whose health service has List.
HEALTH = Environment("health-checking", ("grpcio-health-checking>=1.71",))
# It wants a paho-mqtt below 2, which edged's own is not.
AZURE = Environment("azure-iot-device", ("azure-iot-device>=2.14,<3",), module="azure.iot.device")


def cache() -> Path:
    """The folder of all environments."""
    given = os.environ.get("EDGED_TEST_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "edged-tests"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two runs of the tests do not make the same environment at once."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_suffix(".lock").open("ab")
    except OSError as exc:
        pytest.skip(f"no virtual environment for {folder.name}: cannot write it: {exc}")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(name: str, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"no virtual environment for {name}: not made in {LIMIT:.0f} s")
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        reason = "; ".join(lines or done.stdout.splitlines()[-3:])
        pytest.skip(f"no virtual environment for {name}: {reason}")
