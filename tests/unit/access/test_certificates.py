"""Certificates are checked before they are used; a list of denied ones is read to the letter."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from edged.access.certificates import denied, load_server, parse
from edged.errors import ConfigError
from tests.fakes.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_good_pair_is_loaded(authority: Authority) -> None:
    server = load_server(authority.certificate, authority.key, authority.ca)
    assert server.certificate.name == "localhost"
    assert len(server.certificate.fingerprint) == 64
    assert server.certificate.trouble(dt.datetime.now(dt.timezone.utc)) == ""


def test_dates_are_said_and_no_reason_to_refuse_our_own(authority: Authority) -> None:
    old, early = authority.expired(), authority.not_yet_valid()
    now = dt.datetime.now(dt.timezone.utc)
    assert "has expired at" in load_server(old.certificate, old.key, None).certificate.trouble(now)
    assert "only from" in load_server(early.certificate, early.key, None).certificate.trouble(now)


def test_anothers_key_is_refused(authority: Authority) -> None:
    other = authority.client("other")
    with pytest.raises(ConfigError, match="is the key of another certificate"):
        load_server(authority.certificate, other.key, None)


def test_what_is_no_certificate_or_key_is_named(authority: Authority, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for files in (
        (junk, authority.key, None),
        (authority.certificate, junk, None),
        (authority.certificate, authority.key, junk),
        (authority.key, authority.key, None),
    ):
        with pytest.raises(ConfigError, match="PEM"):
            load_server(*files)
    with pytest.raises(ConfigError, match="No such file"):
        load_server(tmp_path / "none", authority.key, None)
    with pytest.raises(ConfigError, match="more than"):
        load_server(Path("/dev/zero"), authority.key, None)


def test_a_key_with_a_passphrase_is_refused_with_words(
    authority: Authority, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    form = serialization.BestAvailableEncryption(b"secret")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(authority.private.private_bytes(pem, pkcs8, form))
    with pytest.raises(ConfigError, match="has a passphrase"):
        load_server(authority.certificate, locked, None)


def test_fingerprints_are_taken_as_openssl_prints_them(tmp_path: Path) -> None:
    plain = "ab" * 32
    colons = ":".join(["CD"] * 32)
    file = tmp_path / "denied"
    file.write_text(
        f"# lost in spring\n\n{plain}  # line 4's laptop\nsha256 Fingerprint={colons}\n"
    )
    assert denied(file) == {plain, "cd" * 32}


@pytest.mark.parametrize("line", ["ab" * 20, "xy" * 32, "ab" * 33, "line4", "ab:" * 32])
def test_what_is_no_fingerprint_is_said_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "denied"
    file.write_text(f"{'ab' * 32}\n\n{line}\n")
    with pytest.raises(ConfigError, match="line 3 is no SHA-256 fingerprint"):
        denied(file)


def test_a_name_that_would_act_on_a_terminal_does_not(authority: Authority) -> None:
    issued = authority.issue("line\x1b[31m4", ())
    assert parse(issued.certificate.read_bytes()).name == "line?[31m4"
