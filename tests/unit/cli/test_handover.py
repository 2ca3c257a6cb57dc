"""What an operator deploys reaches a daemon that is another user, and leaves no copy behind."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from edged.cli import _handover
from edged.deploy import incoming
from edged.errors import ConfigError, RequestError
from edged.oci import Reference, open_image
from tests.fakes import images

DAEMON = 61001  # a user's number, and its group's


class Place:
    """The folders of a daemon, and an operator's image."""

    def __init__(self, folder: Path) -> None:
        self.control = folder / "run/control.sock"
        self.incoming = folder / "state/incoming"
        self.control.parent.mkdir()
        self.control.touch()
        self.incoming.mkdir(parents=True)
        facts = {"incoming": str(self.incoming)}
        (folder / "run/daemon.json").write_text(json.dumps(facts))
        self.image = Reference.parse(images.write(folder / "image"))

    def left(self) -> list[Path]:
        return list(self.incoming.iterdir())


@pytest.fixture
def own(tmp_path: Path) -> Place:
    """Those of a daemon that the operator runs."""
    return Place(tmp_path)


@pytest.fixture
def others(own: Place) -> Place:
    """Those of a daemon that is another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    for path in (own.control, own.incoming):
        os.chown(path, DAEMON, DAEMON)
    return own


def test_ones_own_daemon_reads_the_image_where_it_is(own: Place) -> None:
    with _handover.readable(own.image, own.control) as there:
        assert there == own.image.absolute()
    assert own.left() == []


def test_anothers_gets_a_copy_that_its_group_may_read_until_it_is_done(others: Place) -> None:
    with _handover.readable(others.image, others.control) as there:
        (copy,) = others.left()
        assert str(there) == f"oci-archive:{copy}"
        status = copy.stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_gid == DAEMON
        assert open_image(there).digest == open_image(others.image).digest
    assert others.left() == []


def test_an_archive_is_copied_as_it_is(others: Place, tmp_path: Path) -> None:
    with _handover.readable(others.image, others.control) as there:
        archive = tmp_path / "surface.tar"
        archive.write_bytes(there.path.read_bytes())
    given = Reference.parse(f"oci-archive:{archive}")
    with _handover.readable(given, others.control) as there:
        assert there.path.read_bytes() == archive.read_bytes()
        assert there.path.name.startswith("surface.tar-")


@pytest.mark.parametrize(
    ("code", "left"), [("UNAVAILABLE", 1), ("FAILED_PRECONDITION", 0)], ids=["away", "refused"]
)
def test_the_copy_stays_only_for_a_daemon_that_may_come_back(
    code: str, left: int, others: Place
) -> None:
    with pytest.raises(RequestError), _handover.readable(others.image, others.control):
        raise RequestError(code, "no")
    assert len(others.left()) == left


def test_an_operator_who_is_interrupted_stops_no_deployment(others: Place) -> None:
    with pytest.raises(KeyboardInterrupt), _handover.readable(others.image, others.control):
        raise KeyboardInterrupt
    assert len(others.left()) == 1


def test_an_image_that_is_not_there_is_said_before_anything_is_asked(others: Place) -> None:
    missing = Reference.parse("oci-archive:/nowhere/x.tar")
    with (
        pytest.raises(ConfigError, match=r"cannot deploy .*/nowhere/x\.tar: No such file"),
        _handover.readable(missing, others.control),
    ):
        raise AssertionError
    assert others.left() == []


def test_a_folder_that_is_not_the_daemons_gets_nothing(others: Place, tmp_path: Path) -> None:
    # As a daemon that was taken over might ask of root.
    (tmp_path / "cron").mkdir()
    others.incoming.rmdir()
    others.incoming.symlink_to(tmp_path / "cron")
    with (
        pytest.raises(ConfigError, match="is not the daemon's"),
        _handover.readable(others.image, others.control),
    ):
        raise AssertionError
    assert list((tmp_path / "cron").iterdir()) == []


def test_a_registrys_image_is_the_daemons_to_fetch(others: Place) -> None:
    there = Reference.parse("docker://registry.example/surface:7")
    with _handover.readable(there, others.control) as asked:
        assert asked == there
    assert others.left() == []


def test_copies_that_nobody_came_back_for_go_at_a_start(tmp_path: Path) -> None:
    folder = incoming.prepare(tmp_path)
    assert folder == tmp_path / "incoming"
    old, new = folder / "old.tar", folder / "new.tar"
    old.touch()
    new.touch()
    yesterday = time.time() - incoming.KEPT - 60
    os.utime(old, (yesterday, yesterday))
    assert incoming.prepare(tmp_path) == folder
    assert list(folder.iterdir()) == [new]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o770


def test_a_disk_that_fails_stops_no_start(tmp_path: Path) -> None:
    (tmp_path / "incoming").write_text("in the way")
    assert incoming.prepare(tmp_path) is None
