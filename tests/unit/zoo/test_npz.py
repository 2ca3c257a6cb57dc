"""An .npz file that was made to do harm is one clear error, and costs neither memory nor time."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edged.errors import ConfigError, ModelError
from edged.zoo.npz import MEMBER_LIMIT, Archive

SHAPE = (2, 3)
VALUES = np.arange(6, dtype=np.float32).reshape(SHAPE)


def npy(array: npt.NDArray[Any], version: tuple[int, int] = (1, 0)) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version)
    return out.getvalue()


def headed(header: str | bytes, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """An array with a header of one's own."""
    text = header.encode() if isinstance(header, str) else header
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + data


def archive(folder: Path, member: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "w.npz"
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("a/weights.npy", member)
    return path


def read(path: Path, shape: tuple[int, ...] = SHAPE) -> npt.NDArray[np.float32]:
    with Archive(path) as opened:
        return opened.array("a/weights", shape)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_numpy_writes_is_read(tmp_path: Path, version: tuple[int, int], method: int) -> None:
    found = read(archive(tmp_path, npy(VALUES, version), method))
    assert found.dtype == np.float32
    assert np.array_equal(found, VALUES)


def test_both_orders_and_both_ways_of_saving_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    arrays: dict[str, Any] = {"a/weights:0": np.asfortranarray(VALUES), "b": np.float32(2)}
    np.savez_compressed(path, **arrays)
    with Archive(path) as opened:
        assert opened.names == ("a/weights", "b")
        assert opened.header("b").shape == ()
        assert np.array_equal(opened.array("a/weights", SHAPE), VALUES)
        assert opened.array("b", ()) == 2


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("member", "cause"),
    [
        (npy(VALUES)[:-1], "expected 24 bytes of values, got 23"),
        (npy(VALUES) + b"\0", "expected 24 bytes of values, got more"),
        (npy(VALUES)[:60], "its header is not that of a plain array"),
        (b"", "no .npy array"),
        (pickle.dumps(Bomb()), "no .npy array"),
        (headed("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }"), "got object"),
        (headed("{'descr': '<q9', 'fortran_order': False, 'shape': (2, 3), }"), "got '<q9'"),
        (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (2 3), }"), "invalid literal"),
        (headed("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2, 3), }"), "header"),
        (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }"), "header"),
        (headed("{'shape': (2, 3), 'descr': '<f4'}"), "header"),
        (headed("__import__('os').abort()"), "header"),
        (headed("(" * 60_000), "header"),
        (headed("9" * 4_000, version=b"\2\0"), "header"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 100, "header"),
        (b"\x93NUMPY\4\0" + npy(VALUES)[8:], "format 1.0 to 3.0"),
    ],
)
def test_an_array_that_is_none_is_told_by_its_name(
    tmp_path: Path, member: bytes, cause: str
) -> None:
    with pytest.raises(ModelError, match=rf"w\.npz: variable 'a/weights': .*{cause}"):
        read(archive(tmp_path, member))


def test_a_shape_beyond_reason_is_refused_before_any_memory_is_taken(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 99999999999), }"
    with pytest.raises(ModelError, match=r"expected shape \[2, 3\], got \[999999999999, "):
        read(archive(tmp_path, headed(header)))


def test_a_zip_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = archive(tmp_path, npy(VALUES) + bytes(100 << 20), zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="expected 24 bytes of values, got more"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_list_of_members_beyond_reason_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    # The end record of a file whose list of members is 64 MiB long.
    size = 64 << 20
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0))
    with pytest.raises(ModelError, match=r"expected an \.npz file: its list of members is longer"):
        Archive(path)


def test_more_members_than_a_checkpoint_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as made:
        for number in range(MEMBER_LIMIT + 1):
            made.writestr(f"{number}.npy", b"")
    with pytest.raises(ModelError, match=f"at most {MEMBER_LIMIT} variables, got 10001"):
        Archive(path)


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (["a.npy", "../../etc/passwd"], "expected only .npy members, got '../../etc/passwd'"),
        (["a.npy", "\x1b[1m"], r"got '\\x1b\[1m'"),
        (["a.npy", "a:0.npy"], "variable 'a' is there twice"),
    ],
)
def test_members_that_are_no_variables_are_refused(
    tmp_path: Path, names: list[str], cause: str
) -> None:
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, npy(VALUES))
    with pytest.raises(ModelError, match=cause):
        Archive(path)


def test_only_stored_and_deflated_members_are_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'a/weights': it is neither stored nor deflated"):
        read(archive(tmp_path, npy(VALUES), zipfile.ZIP_LZMA))


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, npy(VALUES))
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"'a/weights': .*encrypted"):
        read(path)


def test_a_value_that_was_changed_on_the_way_is_found(tmp_path: Path) -> None:
    path = archive(tmp_path, npy(VALUES))
    data = bytearray(path.read_bytes())
    data[data.index(VALUES.tobytes()) + 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="Bad CRC-32"):
        read(path)


def test_any_damage_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    whole = archive(tmp_path, npy(VALUES), zipfile.ZIP_DEFLATED).read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.npz"
    refused = 0
    for turn in range(400):
        data = bytearray(whole)
        if turn % 4 == 0:
            del data[int(random.integers(len(data))) :]
        else:
            for _ in range(int(random.integers(1, 4))):
                data[int(random.integers(len(data)))] = int(random.integers(256))
        path.write_bytes(data)
        try:
            with Archive(path) as opened:
                for name in opened.names:
                    opened.array(name, SHAPE)
        except ModelError:
            refused += 1
    assert refused > 200


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    path.write_text("weights")
    with pytest.raises(ModelError, match=r"expected an \.npz file: File is not a zip file"):
        Archive(path)
    with pytest.raises(ConfigError, match="no such file"):
        Archive(tmp_path)
