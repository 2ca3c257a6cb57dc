"""What lies in the memory of an emulated PC when its processor begins: what a boot loader brings.

That is a Linux, its parameters, page tables and a file system, each where ``boot.S`` or Linux looks
for it. The layout of the parameters is Linux's x86 boot protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

SIZE = 256 << 20  # of all memory
START = 0x100000  # of what is brought
PARAMETERS, COMMAND_LINE, TABLES, LINUX = START, START + 0x1000, START + 0x2000, 0x1000000
ENTRY = LINUX + 0x200  # of 64-bit code
PAGE, LARGE_PAGE = 4096, 2 << 20


def write(path: Path, linux: bytes, command_line: str, system: bytes) -> None:
    """Writes the memory from ``START`` on.

    Args:
        path: the file to write.
        linux: as its package has it, compressed or not.
        command_line: of Linux.
        system: an archive of the file system.
    """
    (taken,) = struct.unpack_from("<I", linux, 0x260)
    at = -(-(LINUX + taken) // LARGE_PAGE) * LARGE_PAGE  # beyond what Linux unpacks itself into
    assert at + 2 * len(system) < SIZE, "the files do not fit into the PC's memory"
    pieces = {
        PARAMETERS: _parameters(linux, at, len(system)),
        COMMAND_LINE: command_line.encode() + b"\0",
        TABLES: _tables(),
        LINUX: linux[(linux[0x1F1] + 1) * 512 :],
        at: system,
    }
    with path.open("wb") as file:
        for address, content in pieces.items():
            file.seek(address - START)
            file.write(content)


def archive(files: Mapping[str, Path], commands: str) -> bytes:
    """Returns a file system as Linux unpacks it at its start: a cpio archive of the newer kind."""
    entries = [
        ("dev", 0o040755, (0, 0), b""),
        ("dev/console", 0o020600, (5, 1), b""),
        ("dev/ttyS1", 0o020600, (4, 65), b""),
        ("commands", 0o100644, (0, 0), commands.encode()),
        *((name, 0o100755, (0, 0), path.read_bytes()) for name, path in files.items()),
        ("TRAILER!!!", 0, (0, 0), b""),
    ]
    parts = []
    for name, mode, device, content in entries:
        label = name.encode() + b"\0"
        numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(label), 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + label
        parts += [head, b"\0" * (-len(head) % 4), content, b"\0" * (-len(content) % 4)]
    return b"".join(parts)


def _parameters(linux: bytes, system: int, size: int) -> bytes:
    page = bytearray(PAGE)
    end = 0x202 + linux[0x201]
    page[0x1F1:end] = linux[0x1F1:end]
    page[0x210] = 0xFF  # a boot loader that has no number
    struct.pack_into("<II", page, 0x218, system, size)
    struct.pack_into("<I", page, 0x228, COMMAND_LINE)
    usable = ((0, 0x9F000), (START, SIZE - START))
    page[0x1E8] = len(usable)
    for i, (start, length) in enumerate(usable):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * i, start, length, 1)
    return bytes(page)


def _tables() -> bytes:
    """Three levels: one entry, one entry, then pages of 2 MiB, each mapped to itself."""
    present, large = 0x03, 0x80
    upper = [struct.pack("<Q", TABLES + i * PAGE | present).ljust(PAGE, b"\0") for i in (1, 2)]
    pages = (i * LARGE_PAGE | large | present for i in range(512))
    return b"".join(upper) + struct.pack("<512Q", *pages)
