"""A worker that looks about in its container and says what it found, as JSON, over its socket.

``python -m tests.fakes.inside NAME --fd N [--model PATH]`` runs the function NAME.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET = 0x10000000, 0x00020000, 0x40000000
SYSCALLS = {  # x86-64, aarch64
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265),
    "swapon": (167, 224),
    "userfaultfd": (323, 282),
}


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def refused(call: Callable[[], int]) -> str:
    """The error's name, or what the call returned."""
    ctypes.set_errno(0)
    result = call()
    return errno.errorcode[ctypes.get_errno()] if result < 0 else str(result)


def attempt(call: Callable[[], object]) -> str:
    """The error's name, or ``done``."""
    try:
        call()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    return "done"


def read(path: str) -> str:
    """The file's content, or the error's name."""
    try:
        return Path(path).read_text()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def identity(_model: Path) -> dict[str, Any]:
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    return {
        **{name: status[name].strip() for name in names},
        "uid": os.getresuid(),
        "gid": os.getresgid(),
        "pid": os.getpid(),
        "processes": sorted(int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()),
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
        "environ": dict(os.environ),
        "open": open_files(),
    }


def open_files() -> dict[str, str]:
    """What each descriptor is; the one that lists them is closed again, and so is left out."""
    found = {}
    for path in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = str(path.readlink())
    return found


def network(_model: Path) -> dict[str, Any]:
    def connect(family: int, address: Any) -> str:
        with socket.socket(family) as end:
            end.settimeout(5)
            return attempt(lambda: end.connect(address))

    return {
        "interfaces": [name for _, name in socket.if_nameindex()],
        "routes": Path("/proc/net/route").read_text().splitlines()[1:],
        "outside": connect(socket.AF_INET, ("192.0.2.1", 80)),
        "outside6": connect(socket.AF_INET6, ("2001:db8::1", 80)),
        "host": connect(socket.AF_INET, ("127.0.0.1", int(sys.argv[2]))),
        "abstract": connect(socket.AF_UNIX, "\0edged-test-outside"),
        "packets": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
        "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)),
    }


def files(model: Path) -> dict[str, Any]:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places = {fields[4]: fields[5].split(",") for fields in mounts}
    hidden = ("/etc/shadow", "/etc/passwd", "/home", "/run", "/var", "/sys", "/boot", "/mnt")

    def write(folder: str) -> str:
        path = Path(folder) / "edged-test"
        result = attempt(path.touch)
        with contextlib.suppress(OSError):
            path.unlink()
        return result

    return {
        "root": sorted(path.name for path in Path("/").iterdir()),
        "model": sorted(path.name for path in model.iterdir()),
        "written": {place: write(place) for place in [*places, "/"] if Path(place).is_dir()},
        "hidden": {path: attempt(Path(path).stat) for path in hidden},
        "sysctl": attempt(lambda: Path("/proc/sys/kernel/core_pattern").write_text("x")),
        "sysrq": attempt(lambda: Path("/proc/sysrq-trigger").write_text("h")),
        "masked": {path: read(path) for path in ("/proc/keys", "/proc/kcore", "/proc/timer_list")},
        "devices": sorted(path.name for path in Path("/dev").iterdir()),
        "device": attempt(lambda: os.mknod("/tmp/sda", 0o600 | 0o060000, os.makedev(8, 0))),
        "cgroup": Path("/proc/self/cgroup").read_text(),
        "mounts": places,
        "execute": attempt(_execute_scratch),
    }


def way(_model: Path) -> dict[str, Any]:
    """Looks for files in the folders that only lead to what is shown."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    shown = {Path(line.split()[4]) for line in lines} - {Path("/")}
    seen, stray = 0, []
    for folder in {parent for place in shown for parent in place.parents} - {Path("/proc")}:
        for entry in folder.iterdir():
            seen += 1
            leads = entry in shown or any(entry in place.parents for place in shown)
            if not leads and not entry.is_symlink():
                stray.append(str(entry))
    return {"seen": seen, "stray": stray}


def _execute_scratch() -> None:
    script = Path("/tmp/script")
    script.write_text("#!/usr/bin/sh\n")
    script.chmod(0o755)
    os.posix_spawn("/tmp/script", ["script"], {})


def rights(_model: Path) -> dict[str, Any]:
    call = libc()
    machine = 1 if os.uname().machine == "aarch64" else 0
    return {
        "mount": refused(lambda: call.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
        "umount": refused(lambda: call.umount2(b"/tmp", 2)),
        "chroot": attempt(lambda: os.chroot("/tmp")),
        "unshare mount": refused(lambda: call.unshare(CLONE_NEWNS)),
        "unshare net": refused(lambda: call.unshare(CLONE_NEWNET)),
        "unshare user": refused(lambda: call.unshare(CLONE_NEWUSER)),
        "setns": refused(lambda: call.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)),
        "setuid": attempt(lambda: os.setuid(1)),
        "hostname": refused(lambda: call.sethostname(b"x", 1)),
        "ptrace": refused(lambda: call.ptrace(16, os.getppid(), 0, 0)),
        "host's process": attempt(lambda: os.kill(int(sys.argv[2]), 0)),
        "reboot": refused(lambda: call.reboot(0)),
        "nice": attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
        **{
            name: refused(partial(call.syscall, numbers[machine], 0, 0, 0, 0, 0))
            for name, numbers in SYSCALLS.items()
        },
        # The profile allows keyctl: there must be no key of the host's to have.
        "host's keys": refused(
            lambda: call.syscall((250, 219)[machine], 11, int(sys.argv[3]), 0, 0)
        ),
    }


def processes(_model: Path) -> dict[str, Any]:
    """Starts as many as there may be; they end with us."""
    children, why = 0, ""
    while children < 4096 and not why:
        try:
            if os.fork() == 0:
                signal.pause()
            children += 1
        except OSError as exc:
            why = errno.errorcode[exc.errno or 0]
    try:
        threading.Thread(target=int).start()
    except RuntimeError as exc:
        why += f" {exc}"
    return {"children": children, "why": why}


def memory(_model: Path) -> dict[str, Any]:
    """Takes memory until there is no more."""
    taken: list[bytes] = []
    try:
        while len(taken) < 4096:
            taken.append(b"x" * (1 << 20))
    except MemoryError:
        count = len(taken)
        taken.clear()
        return {"megabytes": count, "why": "MemoryError"}
    return {"megabytes": len(taken), "why": ""}


def disk(_model: Path) -> dict[str, Any]:
    """Fills what it can write to."""
    written, why = 0, ""
    for number in range(1000):
        try:
            with Path(f"/tmp/{number}").open("wb", buffering=0) as file:
                while not why:
                    written += file.write(b"x" * (1 << 20))
        except OSError as exc:
            why = errno.errorcode[exc.errno or 0]
            if why == "ENOSPC":
                break
            why = ""
    inodes = 0
    with contextlib.suppress(OSError):
        for inodes in range(100_000):
            Path(f"/tmp/d{inodes}").mkdir()
    return {"written": written, "inodes": inodes, "why": why}


def busy(_model: Path) -> dict[str, Any]:
    """Works for a second on every processor; says how much work that was, in seconds."""
    import time

    def work() -> None:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            pass

    for _ in range(3):
        if os.fork() == 0:
            work()
            os._exit(0)
    work()
    for _ in range(3):
        os.wait()
    mine, children = os.times()[:2], os.times()[2:4]
    return {"seconds": sum(mine) + sum(children)}


def hang(_model: Path) -> Iterator[None]:
    """Never ends, whatever it is asked."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--fd", type=int)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    with socket.socket(fileno=given.fd) as end:
        if given.name == "hang":
            end.sendall(b"{}")  # it is there
        end.sendall(json.dumps(globals()[given.name](given.model)).encode())


if __name__ == "__main__":
    main()
