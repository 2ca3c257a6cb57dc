"""Who a worker is: its user inside, and which user of the host that stands for.

- The daemon is an ordinary user: one user is mapped, ourselves, and is uid 0 inside since runc can
  set up a container only as that. Without capabilities and with no-new-privileges uid 0 has no
  rights that another has not. Our supplementary groups stay, as nobody but root can drop them.
- The daemon is root: the container's uid 0, as which runc sets up, and the worker's own are mapped
  to users of the host that nobody is. They are in the range that systemd leaves to containers
  (524288 to 1879048191, https://systemd.io/UIDS-GIDS), at its end, since systemd-nspawn takes
  numbers from anywhere in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = 65532  # the user inside when the daemon is root; distributions' "nonroot"
FIRST = 0x6FFE0000  # the container's uid 0 on the host
ID_MAP = Path("/proc/self/uid_map")


@dataclass(frozen=True)
class Identity:
    """The worker's user and group, which have the same number.

    Attributes:
        inside: as the worker sees itself.
        maps: (inside, on the host) for each user there is.
    """

    inside: int
    maps: tuple[tuple[int, int], ...]
    group_maps: tuple[tuple[int, int], ...]

    @property
    def host(self) -> int:
        """The user that the host sees."""
        return dict(self.maps)[self.inside]

    @property
    def rootless(self) -> bool:
        """Whether the daemon is an ordinary user."""
        return self.inside == 0


def choose(uid: int | None = None, gid: int | None = None, id_map: str | None = None) -> Identity:
    """Returns the worker's identity.

    Args:
        uid: of the daemon; by default this process's.
        gid: likewise.
        id_map: the daemon's own /proc/self/uid_map.
    """
    uid = os.geteuid() if uid is None else uid
    gid = os.getegid() if gid is None else gid
    if uid != 0:
        return Identity(0, ((0, uid),), ((0, gid),))
    first = _first(ID_MAP.read_text() if id_map is None else id_map)
    maps = ((0, first), (WORKER, first + 1))
    return Identity(WORKER, maps, maps)


def _first(id_map: str) -> int:
    """Returns the first of two users that there are on this host.

    In a container of its own the daemon has only the users that it was given: then the last two.
    """
    ends = []
    for line in id_map.splitlines():
        start, _, count = (int(field) for field in line.split())
        if start <= FIRST < start + count - 1:
            return FIRST
        ends.append(start + count - 2)
    return max(ends)


def mappings(maps: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    """Returns ``uidMappings`` or ``gidMappings`` of config.json."""
    return [{"containerID": inside, "hostID": host, "size": 1} for inside, host in maps]
