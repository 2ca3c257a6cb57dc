"""Digests are strict, and a verified stream delivers what was announced or says why not."""

from __future__ import annotations

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import VerifyError
from edged.oci import Digest, VerifiedReader

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def reader(data: bytes, announced: bytes, size: int | None = None) -> VerifiedReader:
    digest = Digest.of(announced)
    return VerifiedReader(
        io.BytesIO(data), digest, len(announced) if size is None else size, "blob x"
    )


def test_a_digest_reads_back_as_it_was_written() -> None:
    digest = Digest.of(b"hello")
    assert str(digest) == f"sha256:{HELLO}"
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        HELLO,
        f"sha256:{HELLO.upper()}",
        f"SHA256:{HELLO}",
        f"sha256:{HELLO[:-1]}",
        f"sha256:{HELLO}0",
        f"sha256:{HELLO}\n",
        f"sha512:{HELLO}{HELLO}",
        "sha256:../../../../etc/passwd",
        f" sha256:{HELLO}",
        "sha256:" + "é" * 64,
    ],
)
def test_anything_but_sha256_and_64_lower_case_digits_is_refused(text: str) -> None:
    with pytest.raises(VerifyError, match="cannot read digest"):
        Digest.parse(text)


def test_a_digest_cannot_be_made_from_other_characters() -> None:
    with pytest.raises(VerifyError):
        Digest("../x")


@given(st.binary(max_size=3000), st.integers(1, 700))
def test_a_verified_stream_gives_the_same_bytes_in_any_steps(data: bytes, step: int) -> None:
    with reader(data, data) as stream:
        assert b"".join(iter(lambda: stream.read(step), b"")) == data
        assert stream.read(step) == b""
    assert hashlib.sha256(data).hexdigest() == Digest.of(data).hex


def test_other_content_of_the_same_size_is_found_at_the_end() -> None:
    stream = reader(b"hellp", b"hello")
    assert stream.read(5) == b"hellp"
    with pytest.raises(VerifyError, match=f"expected sha256:{HELLO}, got sha256:"):
        stream.read(5)


def test_fewer_bytes_than_announced_are_an_error() -> None:
    with pytest.raises(VerifyError, match="expected 5 bytes, got 4"):
        reader(b"hell", b"hello").read()


def test_more_bytes_than_announced_are_an_error_before_they_are_handed_out() -> None:
    with pytest.raises(VerifyError, match="expected 5 bytes, got more"):
        reader(b"hello, and more", b"hello").read(100)


def test_drain_verifies_what_nobody_read() -> None:
    reader(b"hello", b"hello").drain()
    with pytest.raises(VerifyError):
        reader(b"hellp", b"hello").drain()
