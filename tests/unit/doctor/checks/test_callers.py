"""Whether callers over the network have what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.access import tokens
from edged.access.roles import Role
from edged.doctor.checks import callers
from edged.errors import ConfigError
from tests.fakes.authority import Authority
from tests.unit.doctor.made import NOW, Made, said

DAY = 86400


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def make(state: Path, name: str, expires: float | None) -> str:
    token = tokens.make()
    with tokens.editing(state) as pairs:
        pair = pairs.get(name, tokens.Pair(name, Role.named("predict")))
        until = None if expires is None else round(expires)
        pairs[name] = tokens.put(pair, "primary", token, NOW - DAY, until)
    return token


def beyond(authority: Authority, more: str = "") -> str:
    files = f'cert_file = "{authority.certificate}"\nkey_file = "{authority.key}"\n'
    return f'listen = "0.0.0.0:50051"\n[tls]\n{files}{more}'


def test_loopback_is_for_this_host(tmp_path: Path) -> None:
    assert "for this host alone" in said(callers.network, Made(tmp_path))[1]
    asked = Made(tmp_path, "[auth]\non_loopback = true\n")
    assert "asks who calls" in said(callers.network, asked)[1]


def test_beyond_it_somebody_has_a_token_or_a_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    world = Made(tmp_path, beyond(authority))
    level, text = said(callers.network, world)
    assert level == "error"
    assert "edged tokens create" in text
    make(world.state, "line4", NOW - 1)
    assert said(callers.network, world)[0] == "error", "it has expired"
    make(world.state, "line4", None)
    assert said(callers.network, world)[0] == "ok"
    more = f'client_cert = "required"\nclient_ca_file = "{authority.ca}"\n'
    assert "with certificates" in said(callers.network, Made(tmp_path, beyond(authority, more)))[1]


def test_tokens_are_told_before_they_expire_and_never_shown(tmp_path: Path) -> None:
    world = Made(tmp_path)
    assert said(callers.held, world)[0] == "skipped"
    token = make(world.state, "line4", NOW + 90 * DAY)
    assert said(callers.held, world) == ("ok", "1 tokens of 1 callers -> ")
    make(world.state, "line5", NOW + 3 * DAY)
    level, text = said(callers.held, world)
    assert (level, token in text) == ("warning", False)
    assert "token of line5 expires in 3 days -> edged tokens rotate line5" in text
    make(world.state, "line5", NOW - DAY)
    assert "has expired" in said(callers.held, world)[1]
    tokens.path(world.state).chmod(0o644)
    assert said(callers.held, world)[0] == "error"
    tokens.path(world.state).write_text("{")
    with pytest.raises(ConfigError, match="cannot use tokens"):
        callers.held(Made(tmp_path))
