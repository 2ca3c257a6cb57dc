"""The kernels for AVX-512 on an emulated PC, whatever this CPU has.

The programs in C are those of ``test_sets.py``. The PC's start takes longer than much of what they
do, so there is one for each model of processor, and the tests look at what was said on it.
"""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.kernels.bochs import Bochs
from tests.kernels.builds import HERE, MACHINE, Toolchain, table_names
from tests.kernels.recorded import examples

WITH_VNNI = "corei7_icelake_u"
WITHOUT_VNNI = "corei7_skylake_x"  # with the rest of AVX-512
LIMIT = 1200  # seconds

Answers = list[CompletedProcess[str]]
Runs = Callable[[str, list[str]], Answers]


@pytest.fixture(scope="module")
def on_a_pc(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Runs:
    """Returns what runs commands on a PC, where compare, replay and recordings lie."""
    if MACHINE != "x86_64":
        pytest.skip("the programs of this machine's compiler are for another processor")
    folder = tmp_path_factory.mktemp("bochs")
    tools = Toolchain(MACHINE, folder, static=True, before=HERE / "rounding.s")
    bochs = Bochs(tools, folder)
    tables = table_names(MACHINE)
    recording = list(examples(150 if request.config.getoption("--long") else 30))
    for name, count in (("all", len(recording)), ("some", 10)):
        (folder / name).write_bytes(b"".join(recording[:count]))
    files = {
        "compare": tools.program("tests/kernels/compare.c", ["edged_dispatch", *tables]),
        "replay": tools.program("tests/kernels/replay.c", ["edged_npu", "edged_dispatch", *tables]),
        "all": folder / "all",
        "some": folder / "some",
    }
    return lambda model, commands: bochs.run(model, commands, files, LIMIT)


@pytest.fixture(scope="module")
def with_vnni(on_a_pc: Runs, request: pytest.FixtureRequest) -> Answers:
    every = 1 if request.config.getoption("--long") else 10
    commands = [f"EVERY={every} /compare avx512vnni", "/replay /all avx512vnni", "/replay /some"]
    return on_a_pc(WITH_VNNI, commands)


@pytest.fixture(scope="module")
def without_vnni(on_a_pc: Runs) -> Answers:
    return on_a_pc(WITHOUT_VNNI, ["/compare avx512vnni", "/replay /some"])


def sets(answer: CompletedProcess[str]) -> list[str]:
    """The sets that gave all bits, the one that is chosen first."""
    assert answer.returncode == 0, answer.stdout
    return [line.split(" gives the bits of ")[0] for line in answer.stdout.splitlines()]


def test_avx512vnni_equals_the_portable_kernels(with_vnni: Answers) -> None:
    compared = with_vnni[0]
    assert compared.returncode == 0, compared.stdout
    assert compared.stdout == "avx512vnni equals portable\n"


def test_whole_programs_give_the_definition_s_bits_with_avx512vnni(with_vnni: Answers) -> None:
    assert sets(with_vnni[1]) == ["avx512vnni"]


def test_a_cpu_with_avx512vnni_has_it_first(with_vnni: Answers) -> None:
    assert sets(with_vnni[2]) == ["avx512vnni", "avx2", "portable"]


@pytest.mark.long
def test_a_cpu_with_the_rest_of_avx512_has_avx2_first(without_vnni: Answers) -> None:
    refused, replayed = without_vnni
    assert (refused.returncode, refused.stdout) == (2, "this CPU has no kernels avx512vnni\n")
    assert sets(replayed) == ["avx2", "portable"]
