"""What a bad model does to the disk it runs on, as far as its container lets it.

It ends as a program does that did not expect this: with the error of its last attempt.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

HOST = ("/etc/passwd", "/etc/edged/keys/mine.pub", "/root", "/home/x", "/var/x", "/run/x")
KERNEL = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/x", "/dev/x")
OWN = (
    "/model/manifest.json",
    "/model/program.npu",
    "/model/more",
    "/usr/bin/python3",
    "/usr/x",
    "/x",
)


def fill() -> None:
    """Writes into every folder that takes it until none takes any more."""
    _only_in_a_container()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    folders = sorted({line.split()[4] for line in mounts if Path(line.split()[4]).is_dir()})
    writable = [folder for folder in folders if os.access(folder, os.W_OK)]
    assert writable == ["/tmp"], writable
    number = itertools.count()
    while True:
        try:
            with Path(f"/tmp/{next(number)}").open("wb", buffering=0) as file:
                while file.write(bytes(1 << 20)):
                    pass
        except OSError as exc:
            if exc.errno != errno.EFBIG:  # a file has its own limit: on with the next one
                raise


def outside(places: Iterable[str]) -> None:
    """Writes to places that are not its own: over files, beside them, and through links to them."""
    _only_in_a_container()
    written, error = [], OSError("nothing was tried")
    for place in (*HOST, *KERNEL, *OWN, *places):
        link = Path("/tmp", place.replace("/", "-"))
        link.symlink_to(place)
        for path in (Path(place), link, Path(place).with_name("edged-test")):
            try:
                path.write_bytes(b"spoilt")
                written.append(str(path))
            except OSError as exc:
                error = exc
    if written:
        print("written:", *written)
        os._exit(0)
    raise error


def _only_in_a_container() -> None:
    assert os.getpid() == 1, "this is meant for a container's first process, never for a host"
