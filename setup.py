"""Builds the C extensions: one C library for each instruction set, under two thin Cython modules.

Every file is compiled for exactly the instruction set its name says; nothing is built for the
machine that builds. ``EDGED_SANITIZE=1`` builds with ASan and UBSan.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext

X86 = platform.machine() in ("x86_64", "AMD64")
# Contraction is off: a fused multiply-add rounds once where the specification rounds twice.
COMMON = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-Wall", "-Wextra"]
if os.environ.get("EDGED_SANITIZE"):
    COMMON += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1"]
    os.environ["LDFLAGS"] = os.environ.get("LDFLAGS", "") + " -fsanitize=address,undefined"
if X86:
    COMMON += ["-DEDGED_X86"]
AVX512VNNI = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni"]
BFP = ["ext/bfp/kernels.h", "ext/bfp/rows.inc"]
NPU = ["ext/npu/npu.h", "ext/npu/internal.h", "ext/npu/pool.h", *BFP]


def library(
    name: str, sources: list[str], cflags: list[str], headers: list[str]
) -> tuple[str, dict[str, Any]]:
    """Returns a static library for ``setup(libraries=...)``; headers are what it is rebuilt for."""
    flags = [*COMMON, *cflags]
    return name, {"sources": sources, "cflags": flags, "obj_deps": {"": headers}}


# The linker takes each library's symbols where they are first missing, so users come before used.
LIBRARIES = [
    library(
        "edged_npu",
        [
            f"ext/npu/{name}.c"
            for name in ("npu", "memory", "convolution", "rows", "ports", "float32", "pool")
        ],
        [],
        NPU,
    ),
    library("edged_dispatch", ["ext/bfp/dispatch.c"], [], BFP),
]
if X86:
    LIBRARIES.append(library("edged_avx512vnni", ["ext/bfp/x86/avx512vnni.c"], AVX512VNNI, BFP))
LIBRARIES.append(library("edged_portable", ["ext/bfp/portable.c"], [], BFP))

EXTENSIONS = [
    Extension(
        "edged.npu._native",
        ["ext/_native.pyx"],
        include_dirs=["ext"],
        libraries=["m", "pthread"],
        extra_compile_args=["-O2", "-Wno-unused-function", "-Wno-discarded-qualifiers"],
        # Linked again whenever a library is built again.
        depends=[*NPU, *(source for _, each in LIBRARIES for source in each["sources"])],
    ),
    Extension(
        "edged.worker.stages._image",
        ["ext/_image.pyx", "ext/image/resize.c"],
        include_dirs=["ext"],
        extra_compile_args=COMMON,
        depends=["ext/image/resize.h"],
    ),
]


class BuildExtensions(build_ext):
    """Also builds the libraries when only ``build_ext`` was asked for, as ``--inplace`` does."""

    def run(self) -> None:
        """Runs the command."""
        self.run_command("build_clib")
        super().run()


setup(
    libraries=LIBRARIES,
    ext_modules=cythonize(EXTENSIONS, include_path=["ext"], build_dir="build/cython"),
    cmdclass={"build_ext": BuildExtensions, "build_clib": build_clib},
)
