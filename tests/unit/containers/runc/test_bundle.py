"""config.json says what a container is: shut in on every side, and held to its limits."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from edged.containers.runc import bundle, cgroups, identity, view
from edged.containers.runc.bundle import Bundle, Host
from edged.containers.runtime import Limits, Spec

PROFILE = {"defaultAction": "SCMP_ACT_ERRNO"}
ORDINARY = identity.choose(1000, 1000, "")
ROOT = identity.choose(0, 0, "0 0 4294967295")
SEEN = view.View((Path("/opt/py"), Path("/usr")), {"lib": "usr/lib"}, (Path("/opt/src"),))
UNIFIED = cgroups.Delegation(2, {"": Path("/sys/fs/cgroup/x")}, swap=True)
LIMITS = Limits(memory_bytes=1 << 30, cpus=2.0, pids=100, scratch_bytes=1 << 20)


def made(
    who: identity.Identity = ORDINARY,
    own: cgroups.Delegation | None = None,
    kernel: tuple[int, int] = (6, 1),
) -> dict[str, Any]:
    host = Host(who, own or cgroups.Delegation(), PROFILE, kernel)
    spec = Spec(
        "edged.worker",
        name="edged-a-1",
        arguments=["--threads", "2"],
        socket=17,
        model=Path("/var/lib/edged/models/a"),
        environ={"A": "b"},
        limits=LIMITS,
    )
    return bundle.config(spec, host, SEEN, Path("/run/edged/containers/edged-a-1"))


@pytest.mark.parametrize("who", [ORDINARY, ROOT])
def test_every_kind_of_namespace_is_its_own(who: identity.Identity) -> None:
    linux = made(who)["linux"]
    kinds = {namespace["type"] for namespace in linux["namespaces"]}
    assert {"user", "mount", "pid", "ipc", "uts", "network"} <= kinds
    assert all("path" not in namespace for namespace in linux["namespaces"])
    assert len(linux["uidMappings"]) == len(linux["gidMappings"]) == (1 if who is ORDINARY else 2)
    assert 0 not in {mapping["hostID"] for mapping in linux["uidMappings"]}
    assert linux["seccomp"] == PROFILE
    assert "hostname" not in made(who)


def test_the_process_has_no_rights_and_its_place_in_the_containers_files() -> None:
    process = made()["process"]
    assert process["capabilities"] == {}
    assert process["noNewPrivileges"] is True
    assert process["terminal"] is False
    assert process["oomScoreAdj"] > 0
    assert process["args"] == [
        *(sys.executable, "-m", "edged.worker", "--threads", "2"),
        *("--fd", "3", "--model", "/model"),
    ]
    environ = dict(item.split("=", 1) for item in process["env"])
    assert (environ["A"], environ["PYTHONPATH"], environ["HOME"]) == ("b", "/opt/src", "/tmp")


def test_everything_shown_is_read_only_and_scratch_is_bounded() -> None:
    config = made()
    assert config["root"] == {"path": "root", "readonly": True}
    mounts = {mount["destination"]: mount for mount in config["mounts"]}
    assert mounts.keys() == {"/proc", "/dev", "/tmp", "/opt/py", "/usr", "/model"}
    for place in ("/opt/py", "/usr", "/model"):
        assert {"rbind", "rro", "rnosuid", "rnodev"} <= set(mounts[place]["options"])
    assert mounts["/model"]["source"] == "/var/lib/edged/models/a"
    assert {"size=1048576", "noexec", "nosuid", "nodev"} <= set(mounts["/tmp"]["options"])
    assert "ro" in mounts["/dev"]["options"]


def test_limits_are_cgroups_where_there_are_some() -> None:
    config = made(ROOT, UNIFIED)
    assert config["linux"]["cgroupsPath"] == "edged-a-1"
    assert config["linux"]["resources"] == {
        "memory": {"limit": 1 << 30, "swap": 1 << 30},
        "cpu": {"quota": 200_000, "period": 100_000},
        "pids": {"limit": 100},
    }
    assert {limit["type"] for limit in config["process"]["rlimits"]} == {
        *("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_FSIZE"),
    }


@pytest.mark.parametrize(("kernel", "counted"), [((6, 1), True), ((5, 14), True), ((5, 13), False)])
def test_without_cgroups_they_are_rlimits(kernel: tuple[int, int], counted: bool) -> None:
    config = made(kernel=kernel)
    assert "cgroupsPath" not in config["linux"]
    assert "resources" not in config["linux"]
    rlimits = {limit["type"]: limit["hard"] for limit in config["process"]["rlimits"]}
    assert rlimits["RLIMIT_DATA"] == 1 << 30
    assert rlimits["RLIMIT_CORE"] == 0
    # Before, it would count every process of the daemon's user.
    assert rlimits.get("RLIMIT_NPROC") == (100 if counted else None)


def test_the_folder_has_a_place_for_every_mount_and_others_may_pass(tmp_path: Path) -> None:
    host = Host(ROOT, cgroups.Delegation(), PROFILE, (6, 1))
    seen = view.View((Path("/opt/py"), Path("/tmp/venv"), Path("/usr")), {"lib": "usr/lib"}, ())
    made = Bundle(tmp_path / "edged-a-1", Spec("edged.worker"), seen, host)
    made.write()
    root = made.folder / "root"
    assert {path.name for path in root.iterdir()} == {
        *("dev", "lib", "model"),
        *("opt", "proc", "tmp", "usr"),
    }
    assert (root / "lib").readlink() == Path("usr/lib")
    assert (root / "opt" / "py").is_dir()
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert not list((root / "tmp").iterdir()), "what is mounted below it is made there"
    assert made.folder.stat().st_mode & 0o001
    assert json.loads((made.folder / "config.json").read_text())["ociVersion"] == "1.0.2"
    made.remove()
    assert not made.folder.exists()
