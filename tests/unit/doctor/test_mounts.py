"""Which file system a folder is on."""

from __future__ import annotations

from pathlib import Path

from edged.doctor import mounts, unit

TEXT = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:20 / /run rw,nosuid - tmpfs tmpfs rw,size=10%
24 22 8:2 / /data\\040disk ro,relatime - ext4 /dev/sdb1 rw
25 22 8:3 / /usr rw,relatime - ext4 /dev/sdc1 ro
damaged line
"""


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    assert mounts.of(Path("/"), TEXT) == mounts.Mount(Path("/"), "ext4", read_only=False)
    found = mounts.of(Path("/run"), TEXT)
    assert found is not None
    assert (found.at, found.kind) == (Path("/run"), "tmpfs")
    found = mounts.of(Path("/data disk"), TEXT)
    assert found is not None
    assert found.read_only
    found = mounts.of(Path("/usr"), TEXT)
    assert found is not None
    assert found.read_only, "also where the file system itself is"


def test_this_host_can_be_asked(tmp_path: Path) -> None:
    assert mounts.of(tmp_path) is not None
    assert unit.clock_synchronised() in (True, False, None)
