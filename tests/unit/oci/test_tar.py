"""The tar reader and writer: others' tars are read, damage is an error, bytes are fixed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import ModelError
from edged.oci import tar
from tests.unit.oci.images import Member, make_tar

FIXED = "3baaf467ee03b06c82e030cf6fd917473dcd4bbf5c94ae6d317e31f7ed64482d"


def read(data: bytes, limit: int = 1000) -> list[tuple[str, str, bytes]]:
    reader = tar.TarReader(io.BytesIO(data), "x.tar", limit)
    return [
        (entry.name, entry.kind, b"".join(iter(lambda: reader.read(700), b""))) for entry in reader
    ]


def write(files: dict[str, bytes]) -> bytes:
    parts = [tar.header(name, len(d)) + d + tar.padding(len(d)) for name, d in files.items()]
    return b"".join(parts) + tar.END


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60)


@given(st.dictionaries(NAMES, st.binary(max_size=1500), max_size=5))
def test_the_standard_library_reads_what_we_write(files: dict[str, bytes]) -> None:
    files = {name: data for name, data in files.items() if len(name.encode()) <= 100}
    with tarfile.open(fileobj=io.BytesIO(write(files))) as archive:
        found = {i.name: archive.extractfile(i).read() for i in archive}  # type: ignore[union-attr]
    assert found == files
    assert [(n, d) for n, _, d in read(write(files))] == list(files.items())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [1, 99, 100, 101, 155, 200, 254])
def test_names_of_any_length_in_any_dialect_are_read(form: int, length: int) -> None:
    name = ("folder/" * 40)[: length - 1] + "x"
    data = make_tar([Member(name, b"abc")], form)
    assert read(data) == [(name, "file", b"abc")]


def test_long_names_are_written_with_a_prefix() -> None:
    name = "a" * 90 + "/" + "b" * 90
    with tarfile.open(fileobj=io.BytesIO(write({name: b"1"}))) as archive:
        assert archive.getnames() == [name]
    assert read(write({name: b"1"})) == [(name, "file", b"1")]


@pytest.mark.parametrize("name", ["x" * 101, "a/" + "b" * 101, "a" * 160 + "/b"])
def test_a_name_that_does_not_fit_is_refused_when_written(name: str) -> None:
    with pytest.raises(ModelError, match="too long"):
        tar.header(name, 0)


def test_the_bytes_of_a_header_are_fixed() -> None:
    with tarfile.open(fileobj=io.BytesIO(write({"a": b""}))) as archive:
        info = archive.getmember("a")
    assert (info.mtime, info.uid, info.gid, info.uname, info.mode) == (0, 0, 0, "", 0o644)
    assert hashlib.sha256(write({"a": b"1"})).hexdigest() == FIXED


def test_sizes_beyond_eight_gigabytes_are_written_and_read() -> None:
    block = tar.header("big", 9 << 30)
    entry = next(iter(tar.TarReader(io.BytesIO(block), "x")))
    assert entry.size == 9 << 30
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == 9 << 30


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "named pipe"),
        (tarfile.DIRTYPE, "folder"),
        (b"S", "member of type b'S'"),
    ],
)
def test_every_kind_of_member_is_named(type_: bytes, kind: str) -> None:
    assert read(make_tar([Member("x", type=type_, linkname="/etc/passwd")]))[0][1] == kind


def test_data_nobody_read_is_skipped_with_and_without_seeking() -> None:
    data = make_tar([Member("a", b"1" * 3000), Member("b", b"2" * 511)])
    stream = io.BytesIO(data)
    for seek in (None, stream.seek):
        stream.seek(0)
        entries = list(tar.TarReader(stream, "x", seek=seek))
        assert [(e.name, e.size) for e in entries] == [("a", 3000), ("b", 511)]
        assert data[entries[1].offset :].startswith(b"222")


@pytest.mark.parametrize("keep", [0, 1, 511, 513, 1023, 1500])
def test_a_truncated_tar_is_an_error(keep: int) -> None:
    data = make_tar([Member("a", b"1" * 1000)])
    with pytest.raises(ModelError, match="truncated"):
        read(data[:keep])


def test_a_layer_may_lack_the_end_but_no_member_a_byte() -> None:
    whole = make_tar([Member("a", b"1" * 600), Member("b", b"2" * 700)])
    end = 512 + 1024 + 512 + 700

    def names(data: bytes) -> list[str]:
        reader = tar.TarReader(io.BytesIO(data), "x", open_end=True)
        return [f"{entry.name}:{len(reader.read(4096))}" for entry in reader]

    for keep in (end, end + 1, end + 323, end + 324, end + 324 + 512, len(whole)):
        assert names(whole[:keep]) == ["a:600", "b:700"], keep
    for keep in (1, 511, 1100, 512 + 1024 + 1, end + 324 + 1):
        with pytest.raises(ModelError, match="ends within"):
            names(whole[:keep])


def test_a_header_with_one_wrong_bit_is_an_error() -> None:
    data = bytearray(make_tar([Member("a", b"1")]))
    data[3] ^= 1
    with pytest.raises(ModelError, match="checksum"):
        read(bytes(data))


def bend(offset: int, field: bytes) -> bytes:
    """A tar whose first header has ``field`` at ``offset`` and a right checksum."""
    data = bytearray(make_tar([Member("a", b"1")], tarfile.USTAR_FORMAT))
    data[offset : offset + len(field)] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def test_a_size_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ModelError, match="size is not a number"):
        read(bend(124, b"-0000000001\0"))


def test_an_absurd_size_is_an_error_at_once() -> None:
    with pytest.raises(ModelError, match="expected at most"):
        read(bend(124, b"\x80" + b"\xff" * 11))


def test_a_name_that_is_not_utf8_is_an_error() -> None:
    with pytest.raises(ModelError, match="not UTF-8"):
        read(bend(0, b"\xff\xfe"))


def test_too_many_members_are_an_error() -> None:
    data = make_tar(Member(str(i)) for i in range(20))
    assert len(read(data, 21)) == 20
    with pytest.raises(ModelError, match="too many members"):
        read(data, 20)


def test_a_pax_header_may_set_name_and_size_only() -> None:
    data = make_tar([Member("a", b"1", pax={"path": "ö" * 80, "mtime": "1.5", "VENDOR.x": "y"})])
    assert read(data) == [("ö" * 80, "file", b"1")]


@pytest.mark.parametrize(
    ("pax", "cause"),
    [
        ({"GNU.sparse.major": "1"}, "sparse"),
        ({"size": "-3"}, "pax number"),
        ({"size": "9" * 20}, "pax number"),
        ({"comment": "x" * 70_000}, "extended header of"),
    ],
)
def test_a_harmful_pax_header_is_an_error(pax: dict[str, str], cause: str) -> None:
    with pytest.raises(ModelError, match=cause):
        read(make_tar([Member("a", b"1", pax=pax)]))


@pytest.mark.parametrize(
    "record", [b"path=x\n", b"99 path=x\n", b"5 path=x\n", b"10 path=xy", b"0 a=b\n", b"x a=b\n"]
)
def test_a_damaged_pax_record_is_an_error(record: bytes) -> None:
    data = make_tar([Member("pax", record, tarfile.XHDTYPE), Member("a", b"1")])
    with pytest.raises(ModelError, match="pax"):
        read(data)


def test_a_global_header_may_not_rename_its_members() -> None:
    member = Member("pax", b"11 path=xx\n", tarfile.XGLTYPE)
    with pytest.raises(ModelError, match="global header"):
        read(make_tar([member, Member("a", b"1")]))


@given(st.integers(0, 1 << 30), st.integers(0, 3))
def test_random_damage_is_read_or_refused_but_breaks_nothing(seed: int, hits: int) -> None:
    rng = random.Random(seed)
    data = bytearray(make_tar([Member("a" * 120, b"1" * 600), Member("b", b"2")]))
    for _ in range(hits):
        start = rng.randrange(len(data))
        data[start : start + rng.randrange(40)] = rng.randbytes(rng.randrange(40))
    data = data[: rng.randrange(len(data) + 1)] if hits % 2 else data
    with contextlib.suppress(ModelError):
        read(bytes(data))
