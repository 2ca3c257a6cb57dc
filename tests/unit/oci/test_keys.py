"""Keys: made for their owner alone, read from openssl's files too, trusted by folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edged.__main__ import main
from edged.errors import ConfigError
from edged.oci import keys


def openssl(*arguments: str | Path) -> bytes:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed: nobody else to make keys")
    return subprocess.run([program, *arguments], check=True, capture_output=True).stdout


def test_a_pair_of_keys_fits_and_the_private_one_is_its_owners_alone(tmp_path: Path) -> None:
    made = keys.generate(tmp_path / "plant")
    private = keys.read_private(tmp_path / "plant.key")
    assert keys.key_id(private.public_key()) == made.id
    assert keys.read_public(tmp_path / "plant.pub") == made
    assert (tmp_path / "plant.key").stat().st_mode & 0o777 == 0o600


def test_keys_are_never_written_over_others(tmp_path: Path) -> None:
    keys.generate(tmp_path / "plant")
    before = (tmp_path / "plant.key").read_bytes()
    with pytest.raises(ConfigError, match=r"plant\.key exists"):
        keys.generate(tmp_path / "plant")
    assert (tmp_path / "plant.key").read_bytes() == before


def test_a_passphrase_locks_the_private_key(tmp_path: Path) -> None:
    keys.generate(tmp_path / "plant", b"correct horse")
    keys.read_private(tmp_path / "plant.key", b"correct horse")
    with pytest.raises(ConfigError, match="it is encrypted: give its passphrase"):
        keys.read_private(tmp_path / "plant.key")
    with pytest.raises(ConfigError, match="locked"):
        keys.read_private(tmp_path / "plant.key", b"battery staple")


def test_a_passphrase_too_many_is_said(tmp_path: Path) -> None:
    keys.generate(tmp_path / "plant")
    with pytest.raises(ConfigError, match="it has no passphrase"):
        keys.read_private(tmp_path / "plant.key", b"correct horse")


def test_keys_made_by_openssl_are_read(tmp_path: Path) -> None:
    private, public = tmp_path / "o.key", tmp_path / "o.pub"
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl("genpkey", *curve, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    assert keys.key_id(keys.read_private(private).public_key()) == keys.read_public(public).id


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    private, public = tmp_path / "o.key", tmp_path / "o.pub"
    for curve in (["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], ["ED25519"]):
        openssl("genpkey", "-algorithm", *curve, "-out", private)
        openssl("pkey", "-in", private, "-pubout", "-out", public)
        with pytest.raises(ConfigError, match="expected ECDSA on P-256"):
            keys.read_private(private)
        with pytest.raises(ConfigError, match="expected ECDSA on P-256"):
            keys.read_public(public)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no public key in PEM"),
        (b"\x00" * 100, "no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (b"x" * (keys.KEY_LIMIT + 1), "at most"),
    ],
)
def test_what_is_no_key_stops_the_whole_folder_and_is_named(
    tmp_path: Path, content: bytes, words: str
) -> None:
    keys.generate(tmp_path / "good")
    (tmp_path / "bad.pub").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"bad\.pub.*{words}"):
        keys.TrustedKeys.load(tmp_path)


def test_a_private_key_among_the_trusted_is_refused_in_words(tmp_path: Path) -> None:
    keys.generate(tmp_path / "plant")
    (tmp_path / "plant.key").replace(tmp_path / "plant.pub")
    with pytest.raises(ConfigError, match="it is a private key, which no device needs"):
        keys.TrustedKeys.load(tmp_path)


def test_a_pipe_among_the_trusted_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pub")
    with pytest.raises(ConfigError, match="not a regular file"):
        keys.TrustedKeys.load(tmp_path)


def test_cosigns_own_private_keys_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "cosign.key").write_text("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match="encrypted in cosign's own way"):
        keys.read_private(tmp_path / "cosign.key")


def test_a_device_without_the_folder_trusts_nobody(tmp_path: Path) -> None:
    assert keys.TrustedKeys.load(tmp_path / "none").keys == ()


def test_the_number_of_trusted_keys_is_bounded(tmp_path: Path) -> None:
    for number in range(keys.KEYS_LIMIT + 1):
        (tmp_path / f"{number}.pub").touch()
    with pytest.raises(ConfigError, match=f"at most {keys.KEYS_LIMIT}"):
        keys.TrustedKeys.load(tmp_path)


def test_keys_are_made_trusted_and_listed_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trusted = ["--keys-dir", str(tmp_path / "trusted")]
    assert main(["keys", "list", *trusted]) == 0
    assert "no key is trusted" in capsys.readouterr().out
    assert main(["keys", "generate", str(tmp_path / "plant"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    for _ in range(2):  # again changes nothing
        assert main(["keys", "trust", str(tmp_path / "plant.pub"), *trusted]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--json", *trusted]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] == [{"name": "plant", "id": made["id"]}]


def test_another_key_of_the_same_name_does_not_replace_a_trusted_one(tmp_path: Path) -> None:
    for where in ("a", "b"):
        (tmp_path / where).mkdir()
        keys.generate(tmp_path / where / "plant")
    keys.trust(tmp_path / "a/plant.pub", tmp_path / "trusted")
    with pytest.raises(ConfigError, match="another key has the name"):
        keys.trust(tmp_path / "b/plant.pub", tmp_path / "trusted")


def test_the_passphrase_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "empty").touch()
    given = ["--passphrase-file", str(tmp_path / "pass")]
    assert main(["keys", "generate", str(tmp_path / "plant"), *given]) == 0
    keys.read_private(tmp_path / "plant.key", b"correct horse")
    for wrong in ("empty", "none"):
        given = ["--passphrase-file", str(tmp_path / wrong)]
        assert main(["keys", "generate", str(tmp_path / "other"), *given]) != 0
    assert not (tmp_path / "other.key").exists()
