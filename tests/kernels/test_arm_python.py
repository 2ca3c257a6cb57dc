"""The emulator under a Python for ARM: the same tests of the device as here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.arm_python import ArmPython


@pytest.mark.long
def test_the_device_passes_its_tests_on_arm(tmp_path: Path) -> None:
    python = ArmPython(tmp_path)
    done = python.pytest(
        "tests/npu/test_emulator.py",
        "tests/npu/test_reference.py",
        "tests/npu/test_native_types.py",
        "tests/kernels/test_quantise.py",
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "neon" in python.pytest("--collect-only", "tests/kernels/test_quantise.py").stdout
