"""The distribution's seccomp profile, as runc takes it: each rule where its conditions hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edged.containers.runc import seccomp
from edged.containers.runc.seccomp import Target, convert
from edged.errors import ConfigError

X86 = Target("x86_64", (6, 1))
ARM = Target("aarch64", (6, 1))


def profile(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": None},
        ],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", **rule} for rule in rules],
        **more,
    }


def holds(target: Target, **rule: Any) -> bool:
    return bool(convert(profile(rule), target)["syscalls"])


def test_architectures_are_those_of_the_machine() -> None:
    assert convert(profile(), X86)["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert convert(profile(), ARM)["architectures"] == ["SCMP_ARCH_AARCH64"]
    with pytest.raises(ValueError, match="no rules for riscv64"):
        convert(profile(), Target("riscv64", (6, 1)))


@pytest.mark.parametrize(
    ("condition", "x86", "arm"),
    [
        ({}, True, True),
        ({"includes": {}, "excludes": {}}, True, True),
        ({"includes": {"arches": ["amd64", "x32"]}}, True, False),
        ({"includes": {"arches": ["arm", "arm64"]}}, False, True),
        ({"excludes": {"arches": ["arm64"]}}, True, False),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True, True),
        ({"includes": {"arches": ["amd64"], "caps": ["CAP_SYS_ADMIN"]}}, False, False),
    ],
)
def test_a_rule_holds_where_its_conditions_do(
    condition: dict[str, Any], x86: bool, arm: bool
) -> None:
    assert (holds(X86, **condition), holds(ARM, **condition)) == (x86, arm)


def test_rules_of_a_capability_follow_it() -> None:
    some = Target("x86_64", (6, 1), {"CAP_SYS_ADMIN"})
    assert holds(some, includes={"caps": ["CAP_SYS_ADMIN"]})
    assert not holds(some, includes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}), "all of them"
    assert not holds(some, excludes={"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}), "any of them"


@pytest.mark.parametrize(
    ("release", "holding"),
    [("4.8.0-1-generic", True), ("6.1", True), ("4.7.9", False), ("3.99", False)],
)
def test_rules_of_a_kernel_follow_its_number_not_its_letters(release: str, holding: bool) -> None:
    target = Target("x86_64", seccomp.parse_kernel(release))
    assert holds(target, includes={"minKernel": "4.8"}) is holding
    assert holds(target, excludes={"minKernel": "4.8"}) is not holding


def test_a_rule_keeps_its_error_and_its_arguments() -> None:
    argument = {"index": 0, "value": 16, "valueTwo": 0, "op": "SCMP_CMP_EQ"}
    made = convert(
        profile(
            {"action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EINVAL", "args": [argument]},
            {"name": "write", "args": None},
            {"errnoRet": 5},
            defaultErrnoRet=38,
            defaultErrno="ENOSYS",
        ),
        X86,
    )
    assert made["defaultErrnoRet"] == 38
    assert made["syscalls"] == [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [argument]},
        {"names": ["write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 5},
    ]


def test_the_distributions_profile_is_taken_as_it_is() -> None:
    if not seccomp.PROFILE.exists():
        pytest.skip(f"{seccomp.PROFILE} is not there: install {seccomp.PACKAGE}")
    given = json.loads(seccomp.PROFILE.read_bytes())
    made = seccomp.load(target=X86)
    allowed = {
        name
        for rule in made["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW"
        for name in rule["names"]
    }
    unconditional = [
        rule for rule in given["syscalls"] if not rule.get("includes") and not rule.get("excludes")
    ]
    for rule in unconditional:
        if rule["action"] == "SCMP_ACT_ALLOW":
            assert set(rule["names"]) <= allowed
    assert {"read", "mmap", "execve", "futex"} <= allowed
    assert not allowed & {"bpf", "init_module", "perf_event_open", "add_key", "open_by_handle_at"}
    assert made["defaultAction"] == given["defaultAction"] == "SCMP_ACT_ERRNO"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory; on Debian and Ubuntu it is in the package golang-git"),
        (b"{", "cannot use the seccomp profile"),
        (b"[]", "cannot use the seccomp profile"),
        (b'{"defaultAction": "x", "archMap": [], "syscalls": []}', "no rules for"),
        (json.dumps(profile({"errno": "ENOTHING"})).encode(), "unknown errno 'ENOTHING'"),
        (b" " * ((1 << 20) + 1), "over 1048576 bytes"),
    ],
)
def test_a_profile_that_cannot_be_used_is_said(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "seccomp.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="seccomp profile") as caught:
        seccomp.load(path, X86)
    assert why in str(caught.value)
