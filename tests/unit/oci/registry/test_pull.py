"""Images are pulled from a real registry, plain, with TLS, passwords and tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.errors import ConfigError, FetchError
from edged.oci import Access, Digest, Reference, Registries, open_image, write_image
from edged.oci.blobs import BlobStore
from tests.fakes import registry
from tests.fakes.authority import Authority
from tests.fakes.registry import PASSWORD, USER, Registry, TokenServer
from tests.unit.oci.images import FACTS, FILES, tree


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.run(tmp_path_factory.mktemp("plain")) as running:
        yield running


def write(folder: Path) -> tuple[str, Digest]:
    reference = f"oci:{folder}:v1"
    return reference, write_image(dict(FILES), FACTS, Reference.parse(reference))


def test_an_image_that_skopeo_pushed_is_pulled_by_tag_and_by_digest(
    tmp_path: Path, plain: Registry
) -> None:
    source, digest = write(tmp_path / "a")
    by_tag = plain.push(source, "plant/surface:v1")
    for reference in (by_tag, f"docker://{plain.host}/plant/surface@{digest}"):
        image = open_image(reference)
        assert image.digest == digest
        assert image.facts == FACTS
        stored = BlobStore(tmp_path / reference[-5:]).fetch(image)
        stored.unpack_model(tmp_path / reference[-5:] / "model")
        assert tree(tmp_path / reference[-5:] / "model") == FILES


def test_skopeo_reads_what_we_pulled(tmp_path: Path, plain: Registry) -> None:
    source, digest = write(tmp_path / "a")
    store = BlobStore(tmp_path / "store")
    store.fetch(open_image(plain.push(source, "back:v1")))
    registry.skopeo("copy", f"oci:{tmp_path}/store", f"oci:{tmp_path}/b:x")
    assert open_image(f"oci:{tmp_path}/b:x").digest == digest


def test_what_is_not_there_is_said(tmp_path: Path, plain: Registry) -> None:
    plain.push(write(tmp_path / "a")[0], "there:v1")
    for name in ("there:v2", "nowhere:v1", f"there@{Digest.of(b'')}"):
        with pytest.raises(FetchError, match=r"no such image|answers 404 \(MANIFEST_UNKNOWN"):
            open_image(f"docker://{plain.host}/{name}")


def test_a_private_authority_and_a_password_let_us_in_and_nothing_less(
    tmp_path: Path, authority: Authority
) -> None:
    settings = {**registry.tls(authority), **registry.passwords(tmp_path / "p")}
    source, digest = write(tmp_path / "a")
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\n")
    with registry.run(tmp_path / "r", **settings) as running:
        host = running.host.replace("127.0.0.1", "localhost")
        reference = f"docker://{host}/x/y:v1"
        registry.skopeo("copy", f"--dest-creds={USER}:{PASSWORD}", source, reference)

        def opened(**access: object) -> Digest:
            hosts = {host: Access(**access)}  # type: ignore[arg-type]
            return open_image(reference, Registries(hosts, patience=2)).digest

        good = {"username": USER, "password_file": secret, "ca_file": authority.ca}
        with pytest.raises(FetchError, match="wants credentials; set username"):
            opened(ca_file=authority.ca)
        with pytest.raises(FetchError, match="does not accept the credentials of user 'edged'"):
            opened(**{**good, "password": "wrong"})
        with pytest.raises(FetchError, match=r"certificate verify failed.*name its ca_file"):
            opened(username=USER, password=PASSWORD, plain_http=False)
        with pytest.raises(ConfigError, match="cannot read certificates"):
            opened(**{**good, "ca_file": secret})
        assert opened(**good) == digest


def test_tokens_are_fetched_kept_and_renewed(tmp_path: Path, authority: Authority) -> None:
    server = TokenServer(authority)
    source, digest = write(tmp_path / "a")
    try:
        with registry.run(tmp_path / "r", **server.settings()) as running:
            reference = f"docker://{running.host}/x/y:v1"
            server.open = True
            registry.skopeo("copy", source, reference)
            server.asked.clear()
            assert open_image(reference).digest == digest
            assert [a[1] for a in server.asked] == [""], "an anonymous token, once"
            assert server.asked[0][0] == {"service": "edged-test", "scope": "repository:x/y:pull"}
            server.open = False
            with pytest.raises(FetchError, match="wants credentials"):
                open_image(reference)
            known = Registries({running.host: Access(USER, PASSWORD)})
            server.asked.clear()
            image = open_image(reference, known)
            assert len(server.asked) == 1
            assert server.asked[0][0]["account"] == USER
            server.lifetime = 1  # not used any more after half of that
            image = open_image(reference, known)
            time.sleep(0.6)
            BlobStore(tmp_path / "store").fetch(image)
            assert len(server.asked) > 2
    finally:
        server.close()
