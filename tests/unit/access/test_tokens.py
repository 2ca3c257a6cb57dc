"""Tokens are kept as hashes, found whole or not at all, and changed without losing any."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from edged.access import tokens
from edged.access.roles import Role
from edged.access.tokens import Pair, Tokens
from edged.errors import ConfigError, StoreError
from edged.osutil import atomic

SHORT_HASH = (
    b'{"schema": 1, "tokens": [{"name": "a", "role": "admin", "slots": {"primary": '
    b'{"hash": "00", "created_unix": 1}}}]}'
)
NOW = 1_800_000_000.0


def kept(
    state: Path, name: str = "line4", role: Role = Role.PREDICT, **expires: int
) -> dict[str, str]:
    """Makes both tokens of a name; returns them by slot."""
    made = {slot: tokens.make() for slot in tokens.SLOTS}
    with tokens.editing(state) as pairs:
        pair = Pair(name, role)
        for slot, token in made.items():
            pair = tokens.put(pair, slot, token, NOW, expires.get(slot))
        pairs[name] = pair
    return made


def test_a_token_has_32_random_bytes() -> None:
    made = {tokens.make() for _ in range(100)}
    assert len(made) == 100
    assert {len(each) for each in made} == {43}
    assert all(each.isascii() and "=" not in each for each in made)


def test_the_file_has_hashes_and_is_its_owners_alone(tmp_path: Path) -> None:
    made = kept(tmp_path)
    file = tokens.path(tmp_path)
    text = file.read_text()
    for token in made.values():
        assert token not in text
        assert hashlib.sha256(token.encode()).hexdigest() in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(text)["schema"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away, which takes root")
def test_tokens_that_root_makes_belong_to_whom_the_folder_belongs(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    kept(tmp_path)
    status = tokens.path(tmp_path).stat()
    assert (status.st_uid, status.st_gid) == (12345, 12346)


def test_either_token_of_a_pair_is_found_with_its_role(tmp_path: Path) -> None:
    made = kept(tmp_path, role=Role.STATUS)
    known = tokens.read(tokens.path(tmp_path))
    for slot in tokens.SLOTS:
        found = known.find(made[slot], NOW)
        assert found is not None
        assert (found.caller.name, found.caller.role, found.slot, found.expired) == (
            "token line4",
            Role.STATUS,
            slot,
            False,
        )


def test_what_is_not_the_whole_token_is_not_found(tmp_path: Path) -> None:
    token = kept(tmp_path)["primary"]
    known = tokens.read(tokens.path(tmp_path))
    wrong = ["", token[:-1], token[1:], token + "A", token.swapcase(), "\udcff", "x" * 10_000]
    wrong += [hashlib.sha256(token.encode()).hexdigest(), tokens.make()]
    assert [known.find(each, NOW) for each in wrong] == [None] * len(wrong)


def test_an_expired_one_is_told_from_an_unknown_one(tmp_path: Path) -> None:
    made = kept(tmp_path, primary=int(NOW) + 10)
    known = tokens.read(tokens.path(tmp_path))
    before, after = known.find(made["primary"], NOW + 9), known.find(made["primary"], NOW + 10)
    assert before is not None
    assert after is not None
    assert (before.expired, after.expired) == (False, True)
    assert known.usable(NOW + 10), "the secondary never expires"


def test_nothing_is_usable_where_there_is_nothing(tmp_path: Path) -> None:
    assert not tokens.read(tmp_path / "tokens.json").usable(NOW)
    assert not Tokens().usable(NOW)


def test_the_older_of_two_is_replaced_next(tmp_path: Path) -> None:
    pair = tokens.put(Pair("n", Role.PREDICT), "primary", "a" * 40, 1, None)
    assert tokens.older(pair) == "secondary", "there is none"
    pair = tokens.put(pair, "secondary", "b" * 40, 2, None)
    assert tokens.older(pair) == "primary"
    pair = tokens.put(pair, "primary", "c" * 40, 3, None)
    assert tokens.older(pair) == "secondary"


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("short" * 6, "expected 32 to 4096 characters, got 30"),
        ("x" * 5000, "got 5000"),
        ("ab" * 20, "fewer than 10 different"),
        ("0123456789abcdef0123456789abcde\n" + "f", "printable ASCII"),
        (" 0123456789abcdef0123456789abcdef", "printable ASCII"),
        ("0123456789abcdef0123456789abcdé", "got 31"),
        ("0123456789abcdef0123456789abcdefé", "printable ASCII"),
    ],
)
def test_a_given_token_that_could_be_guessed_or_not_be_sent_is_refused(
    token: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        tokens.check_given(token)


@pytest.mark.parametrize(
    "token", ["abc:/def/ghi+jkl=0123456789:/456", "k1:" + "aZ/9" * 10 + "bcdefg"]
)
def test_a_given_token_is_taken_as_it_is(token: str) -> None:
    assert tokens.check_given(token) == token


@pytest.mark.parametrize("name", ["", "a b", "-x", "a/b", "x" * 65, "é", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot use name"):
        tokens.check_name(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"schema": 2, "tokens": []}',
        b'{"schema": 1}',
        b'{"schema": 1, "tokens": [3]}',
        b'{"schema": 1, "tokens": [{"name": "a", "role": "king", "slots": {}}]}',
        b'{"schema": 1, "tokens": [{"name": "a b", "role": "admin", "slots": {}}]}',
        b'{"schema": 1, "tokens": [{"name": "a", "role": "admin", "slots": {"primary": 5}}]}',
        SHORT_HASH,
        b"\xff\xfe",
        b" " * (2 << 20),
    ],
)
def test_a_damaged_file_is_said_and_lets_nobody_in(tmp_path: Path, content: bytes) -> None:
    tokens.path(tmp_path).write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot use tokens .*tokens\.json"):
        tokens.read(tokens.path(tmp_path))


def test_two_cannot_change_them_at_a_time(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process does"):
            kept(tmp_path)
    finally:
        os.close(folder)
    kept(tmp_path)


def test_a_full_disk_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = kept(tmp_path)

    def full(name: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "failpoint_hook", full)
    with pytest.raises(StoreError, match="cannot write"):
        kept(tmp_path, "other")
    monkeypatch.undo()
    assert tokens.read(tokens.path(tmp_path)).find(made["primary"], NOW)


def test_names_have_a_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 64 names"), tokens.editing(tmp_path) as pairs:
        pairs.update({f"n{i}": Pair(f"n{i}", Role.PREDICT) for i in range(65)})
    assert tokens.read(tokens.path(tmp_path)).pairs == {}
