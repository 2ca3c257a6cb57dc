"""Folders are the system's, the unit's or the user's."""

from __future__ import annotations

from pathlib import Path

from edged.config.folders import Folders, default


def test_root_has_the_systems() -> None:
    expected = Folders(Path("/var/lib/edged"), Path("/run/edged"), Path("/etc/edged"))
    assert default({"HOME": "/root", "XDG_STATE_HOME": "/x"}, uid=0) == expected


def test_a_user_has_the_xdg_ones() -> None:
    environ = {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1000"}
    assert default(environ, uid=1000) == Folders(
        Path("/home/u/.local/state/edged"),
        Path("/run/user/1000/edged"),
        Path("/home/u/.config/edged"),
    )
    environ |= {"XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "relative"}
    chosen = default(environ, uid=1000)
    assert (chosen.state, chosen.config) == (Path("/s/edged"), Path("/home/u/.config/edged"))


def test_without_a_session_sockets_are_in_the_state_folder() -> None:
    assert default({"HOME": "/h"}, uid=1000).run == Path("/h/.local/state/edged/run")


def test_a_unit_decides() -> None:
    environ = {
        "STATE_DIRECTORY": "/var/lib/e:/var/lib/other",
        "RUNTIME_DIRECTORY": "/run/e",
        "CONFIGURATION_DIRECTORY": "/etc/e",
        "HOME": "/h",
    }
    expected = Folders(Path("/var/lib/e"), Path("/run/e"), Path("/etc/e"))
    assert default(environ, uid=0) == default(environ, uid=1000) == expected
