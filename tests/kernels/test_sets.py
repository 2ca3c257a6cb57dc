"""Every set of kernels gives the same bits, on this CPU and on an emulated ARM.

Two programs in C are built by ``setup.py``'s flags: ``compare`` holds each function to the portable
one's, and ``replay`` runs whole programs, for which the definition says what must come out.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edged.npu import _native
from tests.kernels.builds import MACHINE, Toolchain, table_names
from tests.kernels.recorded import examples

Tools = Callable[[str], Toolchain]
# A processor without the dot product instructions, as older boards have.
OLDER_ARM = "cortex-a57"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Returns the tools for a processor, which keep what they have compiled."""
    made: dict[str, Toolchain] = {}

    def tools_for(machine: str) -> Toolchain:
        if machine not in made:
            made[machine] = Toolchain(machine, tmp_path_factory.mktemp(machine))
        return made[machine]

    return tools_for


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Random programs of every kind of chain and format."""
    count = 400 if request.config.getoption("--long") else 150
    path = tmp_path_factory.mktemp("recording") / "programs"
    path.write_bytes(b"".join(examples(count)))
    return path


def compare(
    tools: Toolchain, *names: str, cpu: str | None = None
) -> subprocess.CompletedProcess[str]:
    libraries = ["edged_dispatch", *table_names(tools.machine)]
    return tools.run(tools.program("tests/kernels/compare.c", libraries), *names, cpu=cpu)


def replay(
    tools: Toolchain, recording: Path, cpu: str | None = None
) -> subprocess.CompletedProcess[str]:
    libraries = ["edged_npu", "edged_dispatch", *table_names(tools.machine)]
    return tools.run(tools.program("tests/kernels/replay.c", libraries), recording, cpu=cpu)


@pytest.mark.parametrize("isa", _native.available())
def test_a_set_of_this_cpu_equals_the_portable_one(tools: Tools, isa: str) -> None:
    done = compare(tools(MACHINE), isa)
    assert (done.returncode, done.stdout) == (0, f"{isa} equals portable\n"), done.stderr


def test_neon_equals_the_portable_kernels(tools: Tools) -> None:
    done = compare(tools("aarch64"), "neon", "portable")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "neon equals portable\nportable equals portable\n"


def test_whole_programs_give_the_definition_s_bits_here(tools: Tools, recording: Path) -> None:
    done = replay(tools(MACHINE), recording)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(_native.available())


def test_whole_programs_give_the_definition_s_bits_on_arm(tools: Tools, recording: Path) -> None:
    done = replay(tools("aarch64"), recording)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["neon", "portable"]


def test_an_arm_without_dot_products_has_the_portable_kernels(
    tools: Tools, recording: Path
) -> None:
    refused = compare(tools("aarch64"), "neon", cpu=OLDER_ARM)
    assert (refused.returncode, refused.stdout) == (2, "this CPU has no kernels neon\n")
    done = replay(tools("aarch64"), recording, cpu=OLDER_ARM)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["portable"]
