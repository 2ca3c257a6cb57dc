"""What a worker may use at most, and what becomes of one that wants more."""

from __future__ import annotations

import time

import pytest

from tests.containers.conftest import Sandbox

pytestmark = pytest.mark.alone

MIB = 1 << 20


def test_processes_and_threads_are_limited(sandbox: Sandbox) -> None:
    said = sandbox.run("processes", pids=64)["said"]
    assert said["why"].startswith("EAGAIN")
    assert said["children"] <= 64
    assert "can't start new thread" in said["why"]


def test_memory_is_limited(sandbox: Sandbox) -> None:
    result = sandbox.run("memory", memory_bytes=256 * MIB)
    if sandbox.has_cgroups:
        assert result["status"] == -9, "by the kernel"
        assert result["said"] is None
    else:
        assert result["said"]["why"] == "MemoryError"
        assert result["said"]["megabytes"] < 256
    assert result["left"] == []
    assert sandbox.run("identity")["status"] == 0, "the next one is not the worse for it"


def test_what_it_can_write_is_limited(sandbox: Sandbox) -> None:
    said = sandbox.run("disk", scratch_bytes=16 * MIB)["said"]
    assert said["why"] == "ENOSPC"
    assert said["written"] <= 16 * MIB
    assert said["inodes"] < 5000


def test_processor_time_is_limited_where_there_are_cgroups(sandbox: Sandbox) -> None:
    result = sandbox.run("busy", cpus=0.25)
    if sandbox.has_cgroups:
        assert result["said"]["seconds"] < 0.6
    else:
        assert "0.25 CPUs (not enforced)" in result["describe"]


def test_a_worker_that_does_not_end_is_ended(sandbox: Sandbox) -> None:
    began = time.monotonic()
    result = sandbox.run("hang")
    assert result["status"] == -9
    assert result["left"] == []
    assert time.monotonic() - began < 30


def test_what_holds_the_limits_is_said(sandbox: Sandbox) -> None:
    described = sandbox.run("identity", memory_bytes=300 * MIB, pids=77)["describe"]
    assert "300 MiB" in described
    assert "77 processes" in described
    assert ("by cgroups" in described) is sandbox.has_cgroups


def test_a_start_that_is_given_up_leaves_nothing_at_whatever_point(sandbox: Sandbox) -> None:
    result = sandbox.run("give up")
    assert result == {"left": [], "given up": result["given up"], "processes": False}
    assert result["given up"] > 0
