"""Which system calls a worker has: the profile that the distribution ships for all its containers.

The file is written for engines such as Podman and Docker: its rules depend on capabilities, on the
architecture and on the kernel. What runc takes is the plain list of the OCI runtime specification
1.0.2 (config-linux.md, "Seccomp"). The semantics of the conversion are those of
github.com/containers/common, pkg/seccomp:

- ``archMap`` names the architectures by the native one;
- a rule holds if none of its ``excludes`` applies and all of its ``includes`` do: ``arches`` (any
  of them), ``caps`` (all of those included, any of those excluded), ``minKernel``;
- an ``errno`` by name goes over an ``errnoRet`` by number.

Nothing is added to the profile, and nothing is taken out of it.
"""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.errors import ConfigError

PROFILE = Path("/usr/share/containers/seccomp.json")
PACKAGE = "golang-github-containers-common"
SIZE_LIMIT = 1 << 20
# By `uname -m`: the name in rules, which is Go's, and in archMap, which is libseccomp's.
ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}


@dataclass(frozen=True)
class Target:
    """What a profile's conditions are about.

    Attributes:
        machine: as ``uname -m`` says.
        kernel: major and minor version.
        capabilities: that the container has.
    """

    machine: str
    kernel: tuple[int, int]
    capabilities: Collection[str] = ()


def here() -> Target:
    """Returns this machine, for a container without capabilities."""
    return Target(platform.machine(), parse_kernel(platform.release()))


def parse_kernel(release: str) -> tuple[int, int]:
    """Returns major and minor version of a kernel's release, such as ``6.1.0-18-amd64``."""
    major, _, rest = release.partition(".")
    digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
    return int(major) if major.isdigit() else 0, int(digits or 0)


def load(path: Path = PROFILE, target: Target | None = None) -> dict[str, Any]:
    """Returns ``linux.seccomp`` of config.json from the profile in a file.

    Raises:
        ConfigError: there is no such file, or it is not such a profile.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as exc:
        raise ConfigError(
            f"cannot read the seccomp profile {path}: {exc.strerror}; on Debian and Ubuntu it is "
            f"in the package {PACKAGE}"
        ) from exc
    if len(data) > SIZE_LIMIT:
        raise ConfigError(f"cannot use the seccomp profile {path}: over {SIZE_LIMIT} bytes")
    try:
        return convert(json.loads(data), target or here())
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ConfigError(f"cannot use the seccomp profile {path}: {exc!r}") from exc


def convert(profile: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Returns ``linux.seccomp`` of config.json.

    Raises:
        ValueError: the profile has no architecture of ours, or an error that there is not.
        KeyError, TypeError, AttributeError: it has another shape.
    """
    name, library_name = ARCHITECTURES.get(target.machine, (target.machine, ""))
    converted: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": _architectures(profile, target.machine, library_name),
        "syscalls": [_rule(rule) for rule in profile["syscalls"] if _holds(rule, name, target)],
    }
    default = _errno(profile.get("defaultErrno"), profile.get("defaultErrnoRet"))
    if default is not None:
        converted["defaultErrnoRet"] = default
    if profile.get("flags"):
        converted["flags"] = list(profile["flags"])
    return converted


def _architectures(profile: Mapping[str, Any], machine: str, name: str) -> list[str]:
    for entry in profile["archMap"]:
        if entry["architecture"] == name:
            return [name, *(entry.get("subArchitectures") or ())]
    raise ValueError(f"it has no rules for {machine}")


def _holds(rule: Mapping[str, Any], architecture: str, target: Target) -> bool:
    excludes, includes = rule.get("excludes") or {}, rule.get("includes") or {}
    if architecture in (excludes.get("arches") or ()):
        return False
    if any(name in target.capabilities for name in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and target.kernel >= parse_kernel(excludes["minKernel"]):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if any(name not in target.capabilities for name in includes.get("caps") or ()):
        return False
    least = includes.get("minKernel")
    return not least or target.kernel >= parse_kernel(least)


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = [rule["name"]] if rule.get("name") else list(rule["names"])
    converted: dict[str, Any] = {"names": names, "action": rule["action"]}
    number = _errno(rule.get("errno"), rule.get("errnoRet"))
    if number is not None:
        converted["errnoRet"] = number
    if rule.get("args"):
        converted["args"] = [dict(argument) for argument in rule["args"]]
    return converted


def _errno(name: str | None, number: int | None) -> int | None:
    """Returns the number of the error; ``name`` may be one in decimal."""
    if not name:
        return number
    if name.isascii() and name.isdigit():
        return int(name)
    found = getattr(errno, name, None)
    if not isinstance(found, int):
        raise ValueError(f"unknown errno {name!r}")  # noqa: TRY004 - a value of the profile's
    return found
