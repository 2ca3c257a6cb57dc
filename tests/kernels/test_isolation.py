"""What is compiled for one instruction set stays where that is known to be there."""

from __future__ import annotations

import re

import pytest

from tests.kernels.builds import Toolchain

# Instructions that 64-bit processors of the first day lack: AVX and later; dot products on ARM.
LATER = {"x86_64": re.compile(r"%[yz]mm|\tv[a-z]"), "aarch64": re.compile(r"\t[us]u?dot\t")}
SETS = {
    "x86_64": {"edged_avx2", "edged_avxvnni", "edged_avx512vnni"},
    "aarch64": {"edged_neon"},
}


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def tools(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    return Toolchain(request.param, tmp_path_factory.mktemp(request.param), sanitize=False)


def test_only_their_own_libraries_have_later_instructions(tools: Toolchain) -> None:
    for name, objects in tools.libraries().items():
        listing = "".join(tools.binutil("objdump", "-d", "--no-show-raw-insn", o) for o in objects)
        found = LATER[tools.machine].search(listing) is not None
        # The peak's are written in assembler, so the compiler can put none of them elsewhere.
        assert found == (name in SETS[tools.machine] | {"edged_peak"}), name


def test_the_peak_shows_one_function_and_nothing_else(tools: Toolchain) -> None:
    (path,) = tools.libraries()["edged_peak"]
    lines = tools.binutil("nm", "--defined-only", "--extern-only", path).splitlines()
    assert [line.split()[-1] for line in lines] == ["bfp_peak"]


def test_a_set_of_kernels_shows_its_table_and_nothing_else(tools: Toolchain) -> None:
    # Were there anything else, the linker could give it to the portable code.
    for name in SETS[tools.machine]:
        for path in tools.libraries()[name]:
            lines = tools.binutil("nm", "--defined-only", "--extern-only", path).splitlines()
            assert [line.split()[-1] for line in lines] == [name.replace("edged_", "bfp_")]
