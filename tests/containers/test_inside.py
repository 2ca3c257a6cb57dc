"""What a worker sees from inside its container, and what is out of its reach."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from edged.containers.runc import identity
from tests.containers import ordinary
from tests.containers.conftest import Sandbox

NONE = "0" * 16  # of a set of capabilities


def test_it_is_nobody_alone_and_has_no_rights(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGED_TEST_SECRET", "the daemon's")
    result = sandbox.run("identity")
    said = result["said"]
    assert result["status"] == 0
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert said[name] == NONE
    assert said["NoNewPrivs"] == "1"
    assert said["Seccomp"] == "2", "a filter of system calls"
    user = identity.WORKER if sandbox.root else 0
    assert said["uid"] == said["gid"] == [user] * 3
    assert (said["pid"], said["processes"]) == (1, [1])
    assert said["oom_score_adj"] == 500, "the kernel ends it before the daemon"
    assert "EDGED_TEST_SECRET" not in said["environ"]
    assert said["environ"]["HOME"] == "/tmp"


def test_the_host_sees_an_ordinary_user(sandbox: Sandbox) -> None:
    described = sandbox.run("identity")["describe"]
    expected = identity.FIRST + 1 if sandbox.root else ordinary.UID
    assert f"user {expected}" in described
    assert ("rootless" in described) is not sandbox.root


def test_only_its_output_and_the_daemons_socket_are_open(sandbox: Sandbox) -> None:
    said = sandbox.run("identity")["said"]
    assert said["open"].keys() == {"0", "1", "2", "3"}
    assert said["open"]["0"] == "/dev/null"
    assert said["open"]["3"].startswith("socket:")


def test_there_is_no_network(sandbox: Sandbox) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind("\0edged-test-outside")
        abstract.listen()
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()  # from outside it can be reached
        said = sandbox.run("network", port)["said"]
    assert said["interfaces"] == ["lo"]
    assert said["routes"] == []
    assert said["outside"] == said["outside6"] == "ENETUNREACH"
    assert said["host"] == said["abstract"] == "ECONNREFUSED"
    assert said["packets"] == said["raw"] == "EPERM"


def test_only_scratch_can_be_written_to(sandbox: Sandbox) -> None:
    said = sandbox.run("files")["said"]
    writable = [place for place, result in said["written"].items() if result == "done"]
    assert writable == ["/tmp"]
    assert {"/", "/usr", "/model", "/dev", sys.base_prefix} <= said["written"].keys() | {
        "/usr/local"
    }
    assert said["execute"] == "EACCES", "nothing written there can be run"
    assert said["sysctl"] == "EROFS"
    assert said["sysrq"] in {"EROFS", "ENOENT"}
    for place, options in said["mounts"].items():
        assert "nosuid" in options or place == "/" or place.startswith(("/dev/", "/proc/")), place
        if place not in {"/proc", "/tmp"} and place in said["written"]:
            assert "ro" in options, place
    assert not (sandbox.model / "edged-test").exists()


def test_the_hosts_files_are_not_there(sandbox: Sandbox) -> None:
    said = sandbox.run("files")["said"]
    assert set(said["hidden"].values()) == {"ENOENT"}
    shown = {Path(place) for place in said["mounts"]}
    for top in {"/" + name for name in said["root"]} - {"/proc", "/dev", "/tmp", "/model", "/usr"}:
        # What else is there is a link into /usr, or leads to a Python's or edged's own folder.
        below = [place for place in shown if Path(top) in (place, *place.parents)]
        assert below or Path(top).is_symlink(), top
    assert said["model"] == ["manifest.json"]
    assert set(said["masked"].values()) <= {"", "ENOENT"}
    assert set(said["cgroup"].replace("\n", ":").split(":")[2::3]) == {"/"}


def test_the_folders_on_the_way_to_python_show_nothing_else(sandbox: Sandbox) -> None:
    said = sandbox.run("way")["said"]
    assert said["stray"] == []
    assert said["seen"] > 0


def test_there_are_no_devices_but_those_every_program_has(sandbox: Sandbox) -> None:
    said = sandbox.run("files")["said"]
    plain = {"full", "null", "random", "tty", "urandom", "zero"}
    links = {"fd", "ptmx", "stdin", "stdout", "stderr", "core"}
    assert set(said["devices"]) <= plain | links
    assert plain <= set(said["devices"])
    assert said["device"] == "EPERM", "and it can make none"


def test_the_kernel_refuses_what_a_worker_has_no_need_of(sandbox: Sandbox) -> None:
    said = sandbox.run("rights", os.getpid(), "KEY")["said"]
    expected = {
        **dict.fromkeys(("mount", "umount", "chroot", "setns", "hostname", "reboot"), "EPERM"),
        **dict.fromkeys(("unshare mount", "unshare net"), "EPERM"),
        "unshare user": "ENOSPC",  # where it would have every capability
        "setuid": "EINVAL",  # there is no other user
        "nice": "EACCES",
        "ptrace": "ESRCH",
        "host's process": "ESRCH",
        # By the distribution's profile:
        **dict.fromkeys(("bpf", "perf_event_open", "init_module", "swapon"), "EPERM"),
        **dict.fromkeys(("open_by_handle_at", "userfaultfd"), "EPERM"),
        **dict.fromkeys(("add_key", "io_uring_setup"), "ENOSYS"),
    }
    keys = said.pop("host's keys")
    assert said == expected
    assert keys in {"ENOKEY", "EACCES"}
