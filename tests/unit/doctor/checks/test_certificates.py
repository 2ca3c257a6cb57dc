"""Certificates: told before they expire, with what is wrong with them."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest

from edged.deploy.clock import Moment
from edged.doctor.checks import certificates
from tests.fakes.authority import Authority, Issued
from tests.unit.doctor.made import Made, said, status

DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def world(folder: Path, issued: Issued, unix: float = 0.0, **facts: Any) -> Made:
    toml = f'[tls]\ncert_file = "{issued.certificate}"\nkey_file = "{issued.key}"\n'
    now = Moment(unix or time.time(), "boot", 60.0)
    return Made(folder, toml, now=now, **facts)


def test_no_certificates_are_nothing_to_look_at(tmp_path: Path) -> None:
    for check in (certificates.files, certificates.rights, certificates.served):
        assert said(check, Made(tmp_path))[0] == "skipped"


def test_a_certificate_is_told_before_it_expires(authority: Authority, tmp_path: Path) -> None:
    good = authority.issue("good", ["localhost"], (-DAY, 90 * DAY))
    assert said(certificates.files, world(tmp_path, good))[0] == "ok"
    assert said(certificates.rights, world(tmp_path, good))[0] == "ok"
    level, text = said(certificates.files, world(tmp_path, authority.server()))
    assert level == "warning"
    assert "expires in 1 days" in text
    assert "of the TCP port" in text


@pytest.mark.parametrize(
    ("bad", "why"), [("expired", "has expired on"), ("not_yet_valid", "is not valid before")]
)
def test_one_that_is_not_valid_now_is_an_error(
    authority: Authority, tmp_path: Path, bad: str, why: str
) -> None:
    level, text = said(certificates.files, world(tmp_path, getattr(authority, bad)()))
    assert level == "error"
    assert why in text


def test_a_key_has_to_be_the_certificates(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.server("a.example"), authority.server("b.example")
    mixed = Issued(good.certificate, other.key)
    assert "is not the certificate's" in said(certificates.files, world(tmp_path, mixed))[1]
    mixed = Issued(good.certificate, good.certificate)
    assert "no private key" in said(certificates.files, world(tmp_path, mixed))[1]
    mixed = Issued(good.key, good.key)
    assert "no certificate in PEM" in said(certificates.files, world(tmp_path, mixed))[1]
    good.certificate.chmod(0o666)
    assert said(certificates.rights, world(tmp_path, good))[0] == "error"


def test_registries_authorities_are_looked_at_too(authority: Authority, tmp_path: Path) -> None:
    toml = f'[registries."r.example"]\nca_file = "{authority.ca}"\n'
    level, text = said(certificates.files, Made(tmp_path, toml))
    assert level == "ok"
    assert "of registry r.example" in text
    (tmp_path / "edged.toml").unlink()
    gone = Made(tmp_path, '[registries."r.example"]\nca_file = "gone.pem"\n')
    assert said(certificates.files, gone)[0] == "error"


def test_the_port_has_to_show_the_files_certificate(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    good = authority.issue("shown", ["localhost"], (-DAY, 90 * DAY))
    (shown,) = certificates.load(good.certificate)
    facts: dict[str, Any] = {
        "status": status(),
        "peer_certificate": shown.public_bytes(Encoding.DER),
    }
    assert said(certificates.served, world(tmp_path, good, **facts))[0] == "ok"
    facts["peer_certificate"] = b"another"
    level, text = said(certificates.served, world(tmp_path, good, **facts))
    assert level == "error"
    assert "reload" in text
