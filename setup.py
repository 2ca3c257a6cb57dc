"""Builds the C extensions: one C library for each instruction set, under two thin Cython modules.

Every file is compiled for exactly the instruction set its name says; nothing is built for the
machine that builds. ``EDGED_SANITIZE=1`` builds with ASan and UBSan.
"""

from __future__ import annotations

import os
import platform
from typing import Any, NamedTuple

# Contraction is off: a fused multiply-add rounds once where the specification rounds twice.
COMMON = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-Wall", "-Wextra"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1"]
AVX2 = ["-mavx2", "-mfma", "-mf16c", "-mpopcnt"]
AVX512VNNI = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"]
BFP = ["ext/bfp/kernels.h", "ext/bfp/block.h", "ext/bfp/rows.inc"]
X86 = [*BFP, "ext/bfp/x86/blocks.inc"]
YMM = [*X86, "ext/bfp/x86/ymm.inc"]
ZMM = [*X86, "ext/bfp/x86/avx512vnni_convolve.inc"]
NPU = [f"ext/npu/{name}.h" for name in ("npu", "internal", "clock", "pool")] + BFP
NPU_SOURCES = (
    "npu",
    "memory",
    "concat",
    "convolution",
    "expander",
    "rows",
    "band",
    "ports",
    "float32",
    "pool",
)


class Library(NamedTuple):
    """A static library: its files, the flags for its instruction set, what it is rebuilt for."""

    name: str
    sources: list[str]
    flags: list[str]
    headers: list[str]


def libraries(machine: str) -> list[Library]:
    """Returns the C libraries for a processor, as ``uname -m`` names it.

    Users come before used: the linker takes each library's symbols where they are first missing.
    """
    found = [
        Library("edged_npu", [f"ext/npu/{name}.c" for name in NPU_SOURCES], [], NPU),
        Library("edged_peak", ["ext/bfp/peak.c"], [], [*BFP, "ext/bfp/peak.h"]),
        Library("edged_dispatch", ["ext/bfp/dispatch.c"], [], BFP),
    ]
    if machine == "x86_64":
        x86 = "ext/bfp/x86"
        found += [
            Library("edged_avx512vnni", [f"{x86}/avx512vnni.c"], AVX512VNNI, ZMM),
            Library("edged_avxvnni", [f"{x86}/avxvnni.c"], [*AVX2, "-mavxvnni"], YMM),
            Library("edged_avx2", [f"{x86}/avx2.c"], AVX2, YMM),
        ]
    elif machine == "aarch64":
        neon = ["-march=armv8.2-a+dotprod"]
        found += [Library("edged_neon", ["ext/bfp/arm/neon.c"], neon, BFP)]
    return [*found, Library("edged_portable", ["ext/bfp/portable.c"], [], BFP)]


def common_flags(machine: str, *, sanitize: bool = False) -> list[str]:
    """Returns the flags that every C file is compiled with for a processor."""
    which = {"x86_64": ["-DEDGED_X86"], "aarch64": ["-DEDGED_ARM64"]}
    return [*COMMON, *(SANITIZE if sanitize else []), *which.get(machine, [])]


def build() -> None:
    """Runs the command that was asked for."""
    from Cython.Build import cythonize
    from setuptools import Extension, setup
    from setuptools.command.build_clib import build_clib
    from setuptools.command.build_ext import build_ext

    class BuildExtensions(build_ext):
        """Also builds the libraries where only ``build_ext`` was asked for (``--inplace``)."""

        def run(self) -> None:
            """Runs the command."""
            self.run_command("build_clib")
            super().run()

    machine, sanitize = platform.machine(), bool(os.environ.get("EDGED_SANITIZE"))
    if sanitize:
        os.environ["LDFLAGS"] = os.environ.get("LDFLAGS", "") + " -fsanitize=address,undefined"
    common, all_libraries = common_flags(machine, sanitize=sanitize), libraries(machine)
    extensions = [
        Extension(
            "edged.npu._native",
            ["ext/_native.pyx"],
            include_dirs=["ext"],
            libraries=["m", "pthread"],
            extra_compile_args=["-O2", "-Wno-unused-function", "-Wno-discarded-qualifiers"],
            # Linked again whenever a library is built again.
            depends=[*NPU, *(source for each in all_libraries for source in each.sources)],
        ),
        Extension(
            "edged.worker.stages._image",
            ["ext/_image.pyx", "ext/image/resize.c"],
            include_dirs=["ext"],
            extra_compile_args=common,
            depends=["ext/image/resize.h"],
        ),
    ]
    setup(
        libraries=[(each.name, _as_setuptools_has_it(each, common)) for each in all_libraries],
        ext_modules=cythonize(extensions, include_path=["ext"], build_dir="build/cython"),
        cmdclass={"build_ext": BuildExtensions, "build_clib": build_clib},
    )


def _as_setuptools_has_it(each: Library, common: list[str]) -> dict[str, Any]:
    flags = [*common, *each.flags]
    return {"sources": each.sources, "cflags": flags, "obj_deps": {"": each.headers}}


if __name__ == "__main__":
    build()
