"""A whole PC that Bochs emulates, with a Linux on it: for processors that neither this machine has
nor qemu knows, such as those with AVX-512.

It has one processor, memory and two serial ports, but no BIOS, disk or screen: ``boot.S`` starts
the Linux that lies in its memory already, and ``init.c`` is its first process.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.kernels import memory
from tests.kernels.builds import Toolchain, needed
from tests.kernels.debian import linux

# Bochs shows the screen by a library of its own; this one needs neither a window nor a network.
DISPLAY = "usr/lib/*/bochs/plugins/libbx_term_gui.so"
SHUT_DOWN = "Shutdown port: shutdown requested"
ROM = 0xF0000  # its address
STEPS = 20_000_000  # of the processor, a second of the emulated time
# Tests of Linux itself, certificates, tracing: half of the time that the start would take.
LEFT_OUT = (
    *("load_system_certificate_list", "crypto_algapi_init", "crypto_kdf108_init"),
    *("trace_eval_init", "init_kprobe_trace", "cubictcp_register"),
)
SETTINGS = (
    "console=ttyS0,115200 quiet panic=-1 reboot=triple",
    f"tsc=reliable tsc_early_khz={STEPS // 1000}",
    # There is none of this, or it is not needed.
    "acpi=off pci=off noapic nolapic no5lvl nokaslr mitigations=off nokprobes audit=0 lsm=",
    # Bochs 2.7 says that the processor has these, but not so that Linux can use them: it would
    # crash (fsrm without what that implies) or do without AVX (wrong sizes of the state).
    "clearcpuid=fsrm,pku,ospke,xsavec,xsaves",
    f"cryptomgr.notests initcall_blacklist={','.join(LEFT_OUT)}",
)


class Bochs:
    """Runs programs on emulated PCs; skips the test where something for it cannot be had.

    Args:
        tools: for x86-64.
        folder: where everything that is made goes.
    """

    def __init__(self, tools: Toolchain, folder: Path) -> None:
        self._bochs, self._folder = needed("bochs"), folder
        if not any(Path("/").glob(DISPLAY)):
            pytest.skip("Bochs has no display term here; packaging/test installs it with apt-get")
        self._linux = linux().read_bytes()
        self._init = tools.program("tests/kernels/init.c", [])
        names = {
            "ROM": ROM,
            "PARAMETERS": memory.PARAMETERS,
            "TABLES": memory.TABLES,
            "ENTRY": memory.ENTRY,
            "MEMORY": memory.SIZE,
        }
        self._rom = tools.image("tests/kernels/boot.S", ROM, names)

    def run(
        self, model: str, commands: Sequence[str], files: Mapping[str, Path], timeout: float
    ) -> list[subprocess.CompletedProcess[str]]:
        """Starts a PC, runs commands on it one after the other and ends it.

        Args:
            model: of its processor, as ``bochs --help cpu`` has it.
            commands: programs with arguments, after what is added to their environment.
            files: what lies in the root of its file system.
            timeout: seconds for all of it.
        """
        image, console, said = (self._folder / name for name in ("image", "console", "said"))
        for path in (console, said):
            path.write_bytes(b"")
        system = memory.archive(
            {**files, "init": self._init}, "".join(f"{line}\n" for line in commands)
        )
        memory.write(image, self._linux, " ".join(SETTINGS), system)
        try:
            ended = self._emulate(model, image, console, said, timeout)
        finally:
            image.unlink()
        text = said.read_text(errors="replace")
        parts = re.split("\x1e(-?[0-9]+)\n", text)
        answers = [
            subprocess.CompletedProcess(command, int(status), output, "")
            for command, output, status in zip(commands, parts[::2], parts[1::2], strict=False)
        ]
        if SHUT_DOWN not in ended or len(answers) != len(commands):
            last = console.read_text(errors="replace")[-3000:]
            pytest.fail(f"the emulated PC failed\n{text}\nits console: {last}\nBochs: {ended}")
        return answers

    def _emulate(self, model: str, image: Path, console: Path, said: Path, timeout: float) -> str:
        """Returns the end of what Bochs says."""
        settings, debugger = self._folder / "bochsrc", self._folder / "debugger"
        lines = (
            f"cpu: model={model}, count=1, ips={STEPS}, reset_on_triple_fault=0",
            f"memory: guest={memory.SIZE >> 20}, host={memory.SIZE >> 20}",
            f"romimage: file={self._rom}",
            f"optramimage1: file={image}, address={memory.START:#x}",
            f"com1: enabled=1, mode=file, dev={console}",
            f"com2: enabled=1, mode=file, dev={said}",
            "clock: sync=none",
            "display_library: term",
            "sound: driver=dummy, waveout=/dev/null, wavein=, midiout=",
            "plugin_ctrl: speaker=0, gameport=0, parallel=0, biosdev=0, extfpuirq=0",
            f"log: {self._folder / 'log'}",
            "panic: action=fatal",
        )
        settings.write_text("".join(f"{line}\n" for line in lines))
        debugger.write_text("continue\nquit\n")  # Debian's Bochs begins in its debugger
        try:
            done = subprocess.run(
                [self._bochs, "-q", "-f", settings, "-rc", debugger],
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "TERM": "linux"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {timeout} s"
        return done.stdout.decode(errors="replace")[-1000:]
