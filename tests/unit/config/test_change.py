"""A reload applies what it can, and names what it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edged.config import Config, between
from edged.config.tables import Limits, Tls

BEFORE = Config(Path("/s"), Path("/r"), tls=Tls(cert_file=Path("/a"), key_file=Path("/k")))


def test_nothing_is_nothing() -> None:
    change = between(BEFORE, replace(BEFORE))
    assert (str(change), change.applied) == ("nothing has changed", BEFORE)


def test_what_can_change_does_and_the_rest_waits() -> None:
    tls = replace(BEFORE.tls, cert_file=Path("/b"), client_role="admin", client_cert="required")
    limits = Limits(connections=5)
    after = replace(
        BEFORE, log_level="debug", threads=3, tls=tls, limits=limits, registries={"h": {}}
    )
    change = between(BEFORE, after)
    assert str(change) == (
        "applied log_level, tls.cert_file, tls.client_role, registries; "
        "threads, tls.client_cert, limits.connections need a restart"
    )
    applied = change.applied
    assert (applied.log_level, applied.threads, applied.limits) == ("debug", None, Limits())
    assert applied.tls == replace(BEFORE.tls, cert_file=Path("/b"), client_role="admin")
    assert applied.registries == {"h": {}}
    waiting = between(applied, after)
    assert (waiting.live, waiting.applied) == ((), applied), "said again at the next reload"


def test_tls_itself_does_not_begin_or_end_by_a_reload() -> None:
    for one, other in ((BEFORE, replace(BEFORE, tls=Tls())), (replace(BEFORE, tls=Tls()), BEFORE)):
        change = between(one, other)
        assert (change.live, change.applied) == ((), one)
        assert change.waiting == ("tls.cert_file", "tls.key_file")
