"""Secrets are taken out of text, and everything else stays."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.doctor.redact import HIDDEN, Redactor, basic
from tests.unit.doctor import planted


def leaked(text: str) -> list[str]:
    return [needle for needle in planted.NEEDLES if needle in text]


@pytest.mark.parametrize("line", [each for each in planted.LINES if leaked(each)])
def test_what_looks_like_a_secret_is_hidden_though_nobody_knows_it(line: str) -> None:
    known = [planted.PASSWORD] if "PASSWORD" in line or "Basic" in line else []
    redacted = Redactor(known)(line)
    if not line.startswith(("MHc", "bGlu")):  # lines of a key alone are told by what is around
        assert not leaked(redacted)
        assert HIDDEN in redacted


def test_a_private_key_is_hidden_whole_cut_and_between_other_words() -> None:
    redact = Redactor()
    lines = planted.PRIVATE.splitlines()
    stamped = "\n".join(f"2026-11-27T00:00:00.000000Z {line}" for line in lines)
    for text in (
        planted.PRIVATE,
        stamped,
        json.dumps({"pem": planted.PRIVATE}),
        "\n".join(lines[:-1]),
        "\n".join(lines[2:]),
        f"before\n{planted.PRIVATE}between\n{planted.PRIVATE}after",
    ):
        redacted = redact(text)
        assert not leaked(redacted), text
    redacted = redact(f"before\n{planted.PRIVATE}between\n{planted.PRIVATE}after")
    assert redacted.split() == ["before", HIDDEN, "between", HIDDEN, "after"]


def test_a_known_secret_is_hidden_however_it_is_written() -> None:
    redact = Redactor([planted.PASSWORD + "\n", basic("line4", planted.PASSWORD)])
    for needle in planted.NEEDLES[:5]:
        assert not leaked(redact(f"x {needle} y")), needle
    assert not leaked(redact(json.dumps({"a": planted.PASSWORD})))
    assert not leaked(redact(repr(planted.PASSWORD)))


def test_a_secret_that_begins_another_leaves_nothing_of_it() -> None:
    assert Redactor(["hunter", "hunter-and-more"])("x hunter-and-more y") == f"x {HIDDEN} y"


def test_what_is_no_secret_stays() -> None:
    text = (
        "sha256:6bc494abbf9827f488cbeebb9e41468a187f8db8d1075069fe966de04af852f5\n"
        "signed by plant (a1b2c3d4e5f6)\n"
        "https://registry.example/v2/surface/manifests/7\n"
        "password_file = /etc/edged/registry-password\n"
        "keys_dir: /etc/edged/keys\n"
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
        '"key": "0123abcd", "counter": 7\n'
        "tokens=3 signature ok, basic checks passed\n"
        "docker://registry.example:5000/surface:7@sha256:6bc494abbf98\n"
        "surface:7@sha256:6bc494abbf98\n"
        "mail: line4@plant.example"
    )
    assert Redactor(["x", "", "  \n"])(text) == text


@given(st.text(max_size=300), st.text(min_size=4, max_size=20))
def test_any_text_comes_out_and_never_with_the_secret(text: str, secret: str) -> None:
    redacted = Redactor([secret])(f"{text}{secret}{text}")
    if secret.strip() and len(secret.strip()) >= 4 and secret.strip() not in HIDDEN:
        assert secret.strip() not in redacted.replace(HIDDEN, "")


@pytest.mark.parametrize(
    "text",
    ["a-", "password", 'password="', "-----BEGIN PRIVATE KEY-----", "eyJ-", "http://x", "x@", " "],
)
def test_a_log_cannot_make_it_slow(text: str) -> None:
    """A pattern that goes over a line again and again would need minutes for these."""
    began = time.process_time()
    Redactor(["secret-known"])(text * (256 * 1024 // len(text)))
    assert time.process_time() - began < 10


def test_a_document_stays_a_document() -> None:
    document = {
        "password": None,
        "api_token": 12345,
        "sas_ttl": 3600,
        "password_file": "/etc/edged/pw",
        "lines": [*planted.LINES, 7, True, 1.5],
        "pem": planted.PRIVATE,
        planted.URL: {"secret": ["a-secret", {"x": planted.TOKEN, "token": planted.TOKEN}]},
    }
    redacted = Redactor([planted.PASSWORD, planted.BASIC, planted.TOKEN]).document(document)
    assert redacted["password"] is None
    assert redacted["api_token"] == HIDDEN
    assert (redacted["sas_ttl"], redacted["password_file"]) == (3600, "/etc/edged/pw")
    assert redacted["lines"][-3:] == [7, True, 1.5]
    text = json.dumps(redacted)
    # Of a key in pieces, one an element, the pieces in the middle are told from nothing.
    whole = json.dumps({**redacted, "lines": redacted["lines"][: -3 - 4]})
    assert not leaked(whole)
    assert "a-secret" not in text
