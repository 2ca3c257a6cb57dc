"""What a registry demands, as RFC 9110 has it written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.oci.registry.challenge import Challenge, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        ("Negotiate", [Challenge("negotiate")]),
        (
            'Bearer realm="https://t/token",service="s",scope="repository:a/b:pull,push"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://t/token",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'Negotiate, Basic realm="a, b", charset=UTF-8 , BEARER Realm=plain',
            [
                Challenge("negotiate"),
                Challenge("basic", {"realm": "a, b", "charset": "UTF-8"}),
                Challenge("bearer", {"realm": "plain"}),
            ],
        ),
        (r'Basic realm="a \"b\" \\c"', [Challenge("basic", {"realm": r'a "b" \c'})]),
        ('Bearer realm = "x"', [Challenge("bearer", {"realm": "x"})]),
        ('Bearer realm="a",realm="b"', [Challenge("bearer", {"realm": "a"})]),
        ('Bearer realm="never ends', [Challenge("bearer", {"realm": ""})]),
        ('realm="x"', []),
    ],
)
def test_challenges_are_read(header: str, expected: list[Challenge]) -> None:
    assert parse(header) == expected


@given(st.text(max_size=200) | st.from_regex(r'(Bearer|Basic|[a-z]+="?[^"]*"?|[, ])*'))
def test_no_header_breaks_the_reader(header: str) -> None:
    for each in parse(header):
        assert each.scheme == each.scheme.lower()


@pytest.mark.parametrize("piece", ['a="', "a=", "a ", ", ", "\\", '"', 'Basic a="\\'])
def test_a_long_header_costs_no_time(piece: str) -> None:
    start = time.process_time()
    parse("Bearer " + piece * 100_000)
    assert time.process_time() - start < 1
