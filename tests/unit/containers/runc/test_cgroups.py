"""Which cgroups a container may have, and what it is held to without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.containers.runc import cgroups
from edged.containers.runc.cgroups import Delegation
from edged.containers.runtime import Limits

V1 = """\
25 30 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
29 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
31 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
OWN_V1 = """\
4:memory:/system.slice/edged.service
3:cpu,cpuacct:/system.slice
2:pids:/
1:name=systemd:/system.slice/edged.service
0::/system.slice/edged.service
"""
V2 = "25 30 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_version_1_and_hybrid_have_a_folder_in_every_hierarchy_below_our_own() -> None:
    asked: list[Path] = []
    found = cgroups.find(V1, OWN_V1, lambda folder: not asked.append(folder))  # type: ignore[func-returns-value]
    root = Path("/sys/fs/cgroup")
    assert found.version == 1
    assert found.folders("c") == sorted(
        [
            root / "cpu,cpuacct/system.slice/c",
            root / "memory/system.slice/edged.service/c",
            root / "pids/c",
            root / "systemd/system.slice/edged.service/c",
            root / "unified/system.slice/edged.service/c",
        ]
    )
    assert set(asked) == {folder.parent for folder in found.folders("c")}


@pytest.mark.parametrize("barred", ["memory", "systemd"])
def test_without_one_of_the_hierarchies_there_are_none(barred: str) -> None:
    found = cgroups.find(V1, OWN_V1, lambda folder: barred not in folder.parts)
    assert found == Delegation()
    assert found.folders("c") == []
    assert found.resources(Limits(memory_bytes=1 << 30)) == {}
    assert not found.out_of_memory("c")


def test_without_a_controller_there_are_none() -> None:
    mounts = "".join(line + "\n" for line in V1.splitlines() if "/pids" not in line)
    assert cgroups.find(mounts, OWN_V1, lambda _: True) == Delegation()
    assert cgroups.find("", "", lambda _: True) == Delegation()


@pytest.mark.parametrize(
    ("files", "writable", "version"),
    [
        ({"controllers": "cpuset cpu io memory pids"}, True, 2),
        ({"controllers": "cpu memory pids"}, False, 0),
        ({"controllers": "memory pids"}, True, 0),
        ({}, True, 0),
        # One with processes hands on what it does already, and no more.
        ({"controllers": "cpu memory pids", "type": "domain", "procs": "1\n"}, True, 0),
        ({"controllers": "cpu memory pids", "type": "domain", "procs": ""}, True, 2),
        ({"controllers": "cpu memory pids", "procs": "1\n"}, True, 2),
        (
            {
                "controllers": "cpu memory pids",
                "type": "domain",
                "procs": "1\n",
                "subtree_control": "cpu io memory pids",
            },
            True,
            2,
        ),
    ],
)
def test_version_2_has_one_beside_our_own_if_all_controllers_are_delegated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    writable: bool,
    version: int,
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    parent = tmp_path / "user.slice" / "app.slice"
    parent.mkdir(parents=True)
    for name, content in {"subtree_control": "", **files}.items() if files else ():
        (parent / f"cgroup.{name}").write_text(content)
    mounts = V2.replace("/sys/fs/cgroup", str(tmp_path))
    own = "0::/user.slice/app.slice/edged.service\n"
    found = cgroups.find(mounts, own, lambda folder: writable and folder == parent)
    assert found.version == version
    assert found.folders("c") == ([parent / "c"] if version else [])


def test_an_ordinary_file_system_says_itself_what_can_be_written(tmp_path: Path) -> None:
    assert cgroups._writable(tmp_path)
    assert not cgroups._writable(tmp_path / "nowhere")


def test_resources_are_the_limits() -> None:
    limits = Limits(memory_bytes=512 << 20, cpus=1.5, pids=64)
    own = Delegation(2, {"": Path("/nowhere")}, swap=True)
    assert own.resources(limits) == {
        "memory": {"limit": 512 << 20, "swap": 512 << 20},
        "cpu": {"quota": 150_000, "period": 100_000},
        "pids": {"limit": 64},
    }
    assert own.resources(Limits()) == {"pids": {"limit": 256}}
    without_swap = Delegation(1, {"memory": Path("/nowhere")})
    assert "swap" not in without_swap.resources(limits)["memory"]


@pytest.mark.parametrize(
    ("version", "controller", "file"),
    [(1, "memory", "memory.oom_control"), (2, "", "memory.events")],
)
def test_out_of_memory_is_told_by_the_kernels_count(
    tmp_path: Path, version: int, controller: str, file: str
) -> None:
    own = Delegation(version, {controller: tmp_path})
    assert not own.out_of_memory("c")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / file).write_text("under_oom 0\noom_kill 0\n")
    assert not own.out_of_memory("c")
    (tmp_path / "c" / file).write_text("under_oom 0\noom_kill 2\n")
    assert own.out_of_memory("c")


def test_a_cgroup_that_is_gone_is_removed() -> None:
    cgroups.remove(Path("/sys/fs/cgroup/nowhere"))
