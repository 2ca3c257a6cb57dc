"""What connections are made with is kept while the files are, and read again when they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import ConfigError
from edged.mqtt import tls
from tests.fakes.authority import Authority


def test_the_same_files_are_read_once(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine = authority.client("line-4")
    first = tls.context(authority.ca, mine.certificate, mine.key)
    assert tls.context(authority.ca, mine.certificate, mine.key) is first
    assert tls.context(authority.ca) is not first
    assert tls.context(authority.ca, check_dates=False) is not tls.context(authority.ca)


def test_files_that_change_are_read_again(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    first = tls.context(authority.ca)
    authority.ca.write_bytes(other.ca.read_bytes())
    second = tls.context(authority.ca)
    assert second is not first
    subjects = [entry["serialNumber"] for entry in second.get_ca_certs()]
    assert set(subjects) != {entry["serialNumber"] for entry in first.get_ca_certs()}


def test_a_file_that_went_bad_is_told_each_time_and_works_once_mended(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    good = authority.ca.read_bytes()
    tls.context(authority.ca)
    authority.ca.write_bytes(b"nothing of the kind")
    for _ in range(2):
        with pytest.raises(ConfigError, match="ca_file"):
            tls.context(authority.ca)
    authority.ca.unlink()
    with pytest.raises(ConfigError, match="ca_file"):
        tls.context(authority.ca)
    authority.ca.write_bytes(good)
    tls.context(authority.ca)


def test_no_more_are_kept_than_a_device_has(tmp_path: Path) -> None:
    first = tls.context(Authority(tmp_path / "0").ca)
    for number in range(1, tls.KEPT + 1):
        tls.context(Authority(tmp_path / str(number)).ca)
    assert tls.context(tmp_path / "0" / "ca.pem") is not first
