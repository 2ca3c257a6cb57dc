"""Registries, mirrors and token servers that are slow, broken, wrong or out to get us."""

from __future__ import annotations

import gzip
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edged.errors import ConfigError, EdgedError, FetchError, ModelError, VerifyError
from edged.oci import Access, BlobStore, Digest, Image, Registries, open_image, signature, spec
from edged.oci.retry import PassingError
from tests.fakes.authority import Authority
from tests.fakes.registry import free_port
from tests.fakes.web import Asked, Reply, Web
from tests.unit.oci.images import Member, make_image, make_tar

SIZE = 2_000_000
DATA = os.urandom(SIZE)
QUICK = Registries(connect_timeout=5, read_timeout=0.7, patience=1)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.oci.retry.FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout")
    image = make_image(folder, make_tar([Member("model/program.npu", DATA)]))
    image.layout.set_tag(image.descriptor, "v1")  # type: ignore[attr-defined]
    return folder


@pytest.fixture
def web(layout: Path) -> Iterator[Web]:
    with Web(layout) as server:
        yield server


def fetch(folder: Path, reference: str, registries: Registries = QUICK, patience: float = 5) -> int:
    """Fetches into a store, checks it, and returns the bytes that came twice."""
    store = BlobStore(folder / "store", patience)
    image = store.fetch(open_image(reference, registries))
    assert store.check() == []
    image.unpack_model(folder / "model")
    assert (folder / "model" / "program.npu").read_bytes() == DATA
    return store.resent


def layer(bend: Callable[[Asked, Reply], Reply | None]) -> Callable[[Asked, Reply], Reply | None]:
    """Bends answers about the big layer only."""

    def only(asked: Asked, reply: Reply) -> Reply | None:
        large = "/blobs/" in asked.path and (len(reply.body) > 10_000 or reply.status == 416)
        return bend(asked, reply) if large else reply

    return only


# -- links that break


def test_a_cut_goes_on_with_a_range_on_condition_that_it_is_the_same(
    web: Web, tmp_path: Path
) -> None:
    web.bend = layer(lambda _, reply: replace(reply, cut=700_000))
    assert fetch(tmp_path, web.reference) == 0
    digest = str(open_image(web.reference).manifest.layers[0].digest)
    asked = [a for a in web.blobs_asked() if a.path.endswith(digest)]
    ranges = [(a.headers.get("Range"), a.headers.get("If-Range")) for a in asked]
    assert ranges[:3] == [
        (None, None),
        ("bytes=700000-", f'"{digest}"'),
        ("bytes=1400000-", f'"{digest}"'),
    ]
    assert web.sent < SIZE + 20_000


def test_a_cut_without_announced_length_is_no_end(web: Web, tmp_path: Path) -> None:
    web.bend = layer(lambda _, reply: replace(reply, cut=700_000, chunked=True))
    assert fetch(tmp_path, web.reference) == 0


def test_a_connection_that_is_hung_up_on_is_tried_again(web: Web, tmp_path: Path) -> None:
    count = 0

    def bend(asked: Asked, reply: Reply) -> Reply | None:
        nonlocal count
        count += 1
        return reply if count % 2 == 0 else None

    web.bend = bend
    assert fetch(tmp_path, web.reference) == 0


def test_a_stall_is_a_broken_link(web: Web, tmp_path: Path) -> None:
    stalled = threading.Event()

    def bend(asked: Asked, reply: Reply) -> Reply | None:
        if not stalled.is_set():
            stalled.set()
            # Announces everything, sends half, and keeps the line open.
            reply.headers["Content-Length"] = str(len(reply.body))
            half, reply.body = reply.body, b""
            return replace(reply, body=half[: len(half) // 2])
        return reply

    web.bend = layer(bend)
    assert fetch(tmp_path, web.reference) == 0


def test_a_server_that_ignores_ranges_costs_what_it_costs_is_counted_and_said(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = iter([700_000, 900_000])

    def bend(asked: Asked, reply: Reply) -> Reply:
        digest = asked.path.rpartition(":")[2]
        body = (web._layout.path / "blobs" / "sha256" / digest).read_bytes()
        return Reply(200, body, cut=next(cut, None))

    web.bend = layer(bend)
    assert fetch(tmp_path, web.reference) == 700_000 + 900_000
    assert "700000 bytes of" in caplog.text
    assert web.sent < 700_000 + 900_000 + SIZE + 20_000


def test_a_condition_that_fails_is_dropped_before_anything_is_sent_again(
    web: Web, tmp_path: Path
) -> None:
    """Behind a balancer every server may have an ETag of its own; the digest is what counts."""
    count = 0

    def bend(asked: Asked, reply: Reply) -> Reply:
        nonlocal count
        count += 1
        reply.headers["ETag"] = f'"{count}"'
        if "If-Range" in asked.headers:
            digest = asked.path.rpartition(":")[2]
            body = (web._layout.path / "blobs" / "sha256" / digest).read_bytes()
            return Reply(200, body, cut=1000)
        return replace(reply, cut=700_000)

    web.bend = layer(bend)
    assert fetch(tmp_path, web.reference) == 0


def test_a_range_that_ends_early_is_gone_on_from(web: Web, tmp_path: Path) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        if reply.status != 206:
            return replace(reply, cut=100_000)
        start = int(asked.headers["Range"][6:-1])
        part = reply.body[:400_000]
        place = f"bytes {start}-{start + len(part) - 1}/{start + len(reply.body)}"
        return Reply(206, part, {"Content-Range": place})

    web.bend = layer(bend)
    assert fetch(tmp_path, web.reference) == 0


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ("", "a part without place"),
        ("bytes */99", "a part without place"),
        ("bytes 1400000-9/*", "a part that cannot be"),
        ("bytes 1400000-1999999999/*", "a part that cannot be"),
        ("bytes 100-200/99", "bytes, it has 99"),
        ("bytes 900000-1900000/*", "answers from 900000"),
        ("bytes 99999999999999999999-0/0", "a part without place"),
    ],
)
def test_a_part_of_somewhere_else_is_refused(
    web: Web, tmp_path: Path, place: str, cause: str
) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        if reply.status == 206:
            reply.headers["Content-Range"] = place
            return reply
        return replace(reply, cut=700_000)

    web.bend = layer(bend)
    with pytest.raises(EdgedError, match=cause):
        fetch(tmp_path, web.reference)


def test_a_part_that_begins_earlier_is_cut_to_fit(web: Web, tmp_path: Path) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        if reply.status != 206:
            return replace(reply, cut=700_000)
        digest = asked.path.rpartition(":")[2]
        whole = (web._layout.path / "blobs" / "sha256" / digest).read_bytes()
        place = f"bytes 600000-{len(whole) - 1}/{len(whole)}"
        return Reply(206, whole[600_000:], {"Content-Range": place})

    web.bend = layer(bend)
    assert fetch(tmp_path, web.reference) == 100_000


def test_a_registry_that_has_less_than_announced_says_416_and_is_believed(
    web: Web, tmp_path: Path
) -> None:
    count = 0

    def bend(asked: Asked, reply: Reply) -> Reply:
        nonlocal count
        count += 1
        return replace(reply, cut=700_000) if count == 1 else Reply(416, b"")

    web.bend = layer(bend)
    with pytest.raises(VerifyError, match="nothing from byte 700000 on"):
        fetch(tmp_path, web.reference)


# -- lies


@pytest.mark.parametrize("length", [0, 5, SIZE // 2, SIZE * 2, 10**17])
def test_a_wrong_length_is_refused_before_the_body(web: Web, tmp_path: Path, length: int) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        reply.headers["Content-Length"] = str(length)
        return reply

    web.bend = layer(bend)
    with pytest.raises(VerifyError, match=f"it announces {length}"):
        fetch(tmp_path, web.reference)


def test_a_body_without_end_is_cut_off(web: Web, tmp_path: Path) -> None:
    web.bend = layer(lambda _, r: replace(r, body=r.body + bytes(9_000_000), chunked=True))
    with pytest.raises(VerifyError, match="got more"):
        fetch(tmp_path, web.reference)
    partial = list((tmp_path / "store" / "partial").glob("*"))
    assert sum(p.stat().st_size for p in partial) < 10_000, "nothing of it is kept"


def test_a_changed_blob_is_found_out_and_asked_for_once(web: Web, tmp_path: Path) -> None:
    web.bend = layer(lambda _, reply: replace(reply, body=reply.body[:-1] + b"x"))
    with pytest.raises(VerifyError, match="expected sha256:"):
        fetch(tmp_path, web.reference)
    assert len([a for a in web.blobs_asked() if "Range" not in a.headers]) == 2  # config and layer


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(web: Web) -> None:
    digest = open_image(web.reference).digest
    web.bend = lambda _, reply: replace(reply, body=reply.body + b" ")
    for reference in (web.reference, f"docker://{web.host}/x/y@{digest}"):
        with pytest.raises(VerifyError, match=r"announces|expected"):
            open_image(reference, QUICK)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"schemaVersion": 1}', b"\xff", b"[" * 100_000, b'{"a":1,"a":2}']
)
def test_a_manifest_that_makes_no_sense_is_refused(web: Web, body: bytes) -> None:
    web.bend = lambda _, reply: Reply(200, body)
    with pytest.raises(ModelError):
        open_image(web.reference, QUICK)


def test_a_document_without_end_is_refused(web: Web) -> None:
    web.bend = lambda _, reply: Reply(200, bytes(5 << 20), chunked=True)
    with pytest.raises(FetchError, match="expected at most 4194304 bytes"):
        open_image(web.reference, QUICK)


def test_a_compressed_document_that_explodes_is_refused(web: Web) -> None:
    bomb = gzip.compress(bytes(200 << 20), 1)
    web.bend = lambda _, reply: Reply(200, bomb, {"Content-Encoding": "gzip"})
    with pytest.raises(FetchError, match="decompresses to too many bytes"):
        open_image(web.reference, QUICK)


def test_compression_nobody_asked_for_is_undone(web: Web, tmp_path: Path) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        assert asked.headers["Accept-Encoding"] == "identity"
        if reply.status == 200:
            reply.headers["Content-Encoding"] = "gzip"
            return replace(reply, body=gzip.compress(reply.body, 1))
        return reply

    web.bend = bend
    assert fetch(tmp_path, web.reference) == 0


def test_compression_that_cannot_be_undone_is_said(web: Web) -> None:
    web.bend = lambda _, reply: replace(reply, headers={"Content-Encoding": "br"})
    with pytest.raises(FetchError, match="compressed as 'br', expected identity"):
        open_image(web.reference, QUICK)


def test_dockers_older_manifests_say_how_to_push_instead(web: Web) -> None:
    body = spec.to_json({"schemaVersion": 2, "mediaType": spec.DOCKER_MANIFEST})
    web.bend = lambda _, reply: Reply(200, body, {"Content-Type": spec.DOCKER_MANIFEST})
    with pytest.raises(ModelError, match="skopeo copy --preserve-digests"):
        open_image(web.reference, QUICK)


# -- busy and refusing


def test_a_busy_registry_is_asked_again_when_it_says(web: Web) -> None:
    answers = iter([Reply(429, b"", {"Retry-After": "0"}), Reply(503, b""), Reply(500, b"")])
    web.bend = lambda _, reply: next(answers, reply)
    assert open_image(web.reference, QUICK).facts.name == "surface"


def test_a_registry_that_wants_more_time_than_we_have_is_given_up_at_once(web: Web) -> None:
    web.bend = lambda *_: Reply(429, b"", {"Retry-After": "3000"})
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"answers 429.*given up"):
        open_image(web.reference, QUICK)
    assert time.monotonic() - start < 5
    assert len(web.asked) == 1


@pytest.mark.parametrize("text", ["soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT", "9" * 400])
def test_a_retry_after_that_makes_no_sense_does_no_harm(web: Web, text: str) -> None:
    answers = iter([Reply(503, b"", {"Retry-After": text})])
    web.bend = lambda _, reply: next(answers, reply)
    assert open_image(web.reference, QUICK).facts.name == "surface"


def test_what_the_registry_says_is_in_the_error_and_cannot_mess_up_a_terminal(web: Web) -> None:
    said = b'{"errors": [{"code": "DENIED", "message": "pay \\u001b[31m first"}]}'
    web.bend = lambda *_: Reply(403, said)
    with pytest.raises(FetchError, match=r"answers 403 \(DENIED pay \?\[31m first\)"):
        open_image(web.reference, QUICK)
    for body in (b"", b"[]", b'{"errors": 3}', b'{"errors": [3]}', b"\xff" * 100):
        web.bend = lambda *_, body=body: Reply(400, body)
        with pytest.raises(FetchError, match=r"answers 400$"):
            open_image(web.reference, QUICK)


def test_a_registry_that_is_not_there_is_said_after_some_tries() -> None:
    with pytest.raises(FetchError, match=r"onnection refused.*given up"):
        open_image(f"docker://127.0.0.1:{free_port()}/x:v1", QUICK)


def test_a_name_that_does_not_resolve_is_said() -> None:
    with pytest.raises(FetchError, match=r"registry\.invalid"):
        open_image("docker://registry.invalid/x:v1", replace(QUICK, patience=0))


# -- redirects


@pytest.fixture
def elsewhere(layout: Path) -> Iterator[Web]:
    with Web(layout) as server:
        yield server


KNOWN = {"username": "edged", "password": "secret"}


def demand(asked: Asked, reply: Reply) -> Reply:
    """What a registry with passwords answers."""
    if "Authorization" in asked.headers:
        return reply
    return Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})


def test_blobs_may_be_elsewhere_and_credentials_do_not_go_there(
    web: Web, elsewhere: Web, tmp_path: Path
) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        if "/blobs/" in asked.path and "Authorization" in asked.headers:
            there = f"http://{elsewhere.host}{asked.path}?signature=secret"
            return Reply(307, b"", {"Location": there})
        return demand(asked, reply)

    web.bend = bend
    elsewhere.bend = layer(lambda _, reply: replace(reply, cut=700_000))
    registries = replace(QUICK, hosts={web.host: Access(**KNOWN)})  # type: ignore[arg-type]
    assert fetch(tmp_path, web.reference, registries) == 0
    assert len(elsewhere.asked) >= 4
    assert all("Authorization" not in asked.headers for asked in elsewhere.asked)
    assert any("Range" in asked.headers for asked in elsewhere.asked)


def test_the_secret_part_of_an_address_is_not_in_errors(web: Web, elsewhere: Web) -> None:
    there = f"http://{elsewhere.host}/gone?signature=secret"
    web.bend = lambda *_: Reply(302, b"", {"Location": there})
    with pytest.raises(FetchError) as caught:
        open_image(web.reference, QUICK)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://a:b@127.0.0.1/", "http://[::1",
     "http://127.0.0.1:99999/", "//"],
)  # fmt: skip
def test_a_redirect_to_nowhere_is_refused(web: Web, location: str) -> None:
    web.bend = lambda *_: Reply(302, b"", {"Location": location})
    with pytest.raises(FetchError, match="redirects"):
        open_image(web.reference, QUICK)


def test_a_redirect_to_plain_http_is_refused_unless_allowed(web: Web) -> None:
    web.bend = lambda *_: Reply(302, b"", {"Location": "http://storage.example/x"})
    with pytest.raises(FetchError, match=r"redirects to http://storage.example, which is plain"):
        open_image(web.reference, QUICK)


def test_redirects_in_a_circle_end(web: Web) -> None:
    web.bend = lambda asked, _: Reply(302, b"", {"Location": asked.path})
    with pytest.raises(FetchError, match="more than 5 redirects"):
        open_image(web.reference, QUICK)
    assert len(web.asked) == 6


def test_nothing_leads_from_https_to_http(layout: Path, web: Web, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    with Web(layout, context=context) as safe:
        registries = replace(QUICK, hosts={safe.host: Access(ca_file=authority.ca)})
        assert open_image(safe.reference, registries).facts.name == "surface"
        safe.bend = lambda asked, _: Reply(302, b"", {"Location": f"http://{web.host}{asked.path}"})
        with pytest.raises(FetchError, match="plain HTTP"):
            open_image(safe.reference, registries)
    assert web.asked == []


def test_a_wrong_clock_is_named_as_the_reason_why_no_certificate_counts(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    with Web(layout, context=context) as safe:
        plain = replace(QUICK, hosts={safe.host: Access(plain_http=False)})
        monkeypatch.setattr("edged.oci.registry.http._CLOCK_MINIMUM", 1 << 40)
        with pytest.raises(FetchError, match="this machine's clock is wrong"):
            open_image(safe.reference, plain)


def test_plain_http_where_tls_is_expected_says_what_to_set(web: Web) -> None:
    strict = replace(QUICK, hosts={web.host: Access(plain_http=False)})
    with pytest.raises(FetchError, match="does it speak plain HTTP"):
        open_image(web.reference, strict)
    assert web.asked == [], "nothing was said in plain"


# -- credentials


def test_a_registry_that_never_lets_us_in_is_not_asked_for_ever(web: Web) -> None:
    web.bend = lambda *_: Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
    known = replace(QUICK, hosts={web.host: Access(**KNOWN)})  # type: ignore[arg-type]
    with pytest.raises(FetchError, match="does not accept the credentials of user 'edged'"):
        open_image(web.reference, known)
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    "header", ["", "Negotiate", "Bearer", 'Bearer realm=""', "Basic", '"', "=", "Bearer realm"]
)
def test_a_challenge_we_cannot_meet_asks_for_credentials(web: Web, header: str) -> None:
    web.bend = lambda *_: Reply(401, b"", {"WWW-Authenticate": header})
    with pytest.raises(FetchError, match=r"set username|token server"):
        open_image(web.reference, QUICK)


@pytest.mark.parametrize("realm", ["http://tokens.example/", "ftp://x/", "/token", "file:///x"])
def test_credentials_go_to_no_token_server_in_plain(web: Web, realm: str) -> None:
    web.bend = lambda *_: Reply(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}"'})
    known = replace(QUICK, hosts={web.host: Access(**KNOWN)})  # type: ignore[arg-type]
    with pytest.raises(FetchError, match="expected a token server with https"):
        open_image(web.reference, known)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"token": 3}', b'{"token": "a\\nb"}', b'{"token": "\\u00e9"}', b"[]"]
)
def test_a_token_that_is_none_is_refused(web: Web, body: bytes) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        if asked.path.startswith("/token"):
            return Reply(200, body)
        realm = f"http://{web.host}/token"
        return Reply(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})

    web.bend = bend
    with pytest.raises(EdgedError, match="token"):
        open_image(web.reference, QUICK)


# -- mirrors


def mirrored(origin: Web, mirror: Web, **access: object) -> Registries:
    hosts = {origin.host: Access(mirror=mirror.host, **access)}  # type: ignore[arg-type]
    return replace(QUICK, hosts=hosts)


def test_a_good_mirror_saves_the_registry_everything_but_the_question_for_signatures(
    web: Web, elsewhere: Web, tmp_path: Path
) -> None:
    assert fetch(tmp_path, web.reference, mirrored(web, elsewhere)) == 0
    assert elsewhere.sent > SIZE
    assert web.blobs_asked() == []
    assert not [a for a in web.asked if a.path.endswith("/v1")]


@pytest.mark.parametrize("fault", ["absent", "hangs up", "errors", "lies", "lies late", "breaks"])
def test_what_a_mirror_lacks_or_gets_wrong_comes_from_the_registry(
    web: Web, elsewhere: Web, tmp_path: Path, fault: str
) -> None:
    bends: dict[str, Callable[[Asked, Reply], Reply | None]] = {
        "absent": lambda *_: Reply(404, b""),
        "hangs up": lambda *_: None,
        "errors": lambda *_: Reply(500, b""),
        "lies": lambda _, reply: replace(reply, body=b"x" * len(reply.body)),
        "lies late": layer(lambda _, r: replace(r, body=r.body[:-10] + b"xxxxxxxxxx")),
        "breaks": layer(lambda _, reply: replace(reply, cut=100_000)),
    }
    elsewhere.bend = bends[fault]
    resent = fetch(tmp_path, web.reference, mirrored(web, elsewhere))
    assert (resent > SIZE) if fault == "lies late" else (resent == 0)
    if fault != "breaks":
        assert web.sent >= SIZE


def test_a_mirror_that_cannot_go_on_leaves_that_to_the_registry(
    web: Web, elsewhere: Web, tmp_path: Path
) -> None:
    def bend(asked: Asked, reply: Reply) -> Reply:
        digest = asked.path.rpartition(":")[2]
        body = (web._layout.path / "blobs" / "sha256" / digest).read_bytes()
        return Reply(200, body, cut=700_000)

    elsewhere.bend = layer(bend)
    assert fetch(tmp_path, web.reference, mirrored(web, elsewhere)) == 0
    assert web.sent < SIZE - 600_000


def test_the_registrys_credentials_do_not_go_to_its_mirror(
    web: Web, elsewhere: Web, tmp_path: Path
) -> None:
    web.bend = elsewhere.bend = demand
    fetch(tmp_path, web.reference, mirrored(web, elsewhere, **KNOWN))
    assert all("Authorization" not in asked.headers for asked in elsewhere.asked)


def test_a_mirror_that_is_none_is_the_configurations_fault(web: Web) -> None:
    for text in ("not a host", "host/", "https://host"):
        hosts = {web.host: Access(mirror=text)}
        with pytest.raises(ConfigError, match="cannot use"):
            open_image(web.reference, replace(QUICK, hosts=hosts))


# -- signatures


def signed_by(web: Web, parts: list[tuple[bytes, bytes]], *, referrers: bool) -> None:
    """Makes the registry have signatures, under cosign's tag or as referrers."""
    import base64

    blobs = {f"sha256:{Digest.of(payload).hex}": payload for payload, _ in parts}
    layers = [
        {
            "mediaType": signature.PAYLOAD,
            "digest": f"sha256:{Digest.of(payload).hex}",
            "size": len(payload),
            "annotations": {signature.ANNOTATION: base64.b64encode(made).decode()},
        }
        for payload, made in parts
    ]
    config = {"mediaType": spec.CONFIG, "digest": str(Digest.of(b"{}")), "size": 2}
    document = {
        "schemaVersion": 2,
        "mediaType": spec.MANIFEST,
        "config": config,
        "layers": layers,
    }
    manifest = spec.to_json(document)
    own = str(Digest.of(manifest))
    listed = {
        "mediaType": spec.MANIFEST,
        "digest": own,
        "size": len(manifest),
        "artifactType": signature.REFERRER,
    }
    index = spec.to_json({"schemaVersion": 2, "mediaType": spec.INDEX, "manifests": [listed]})

    def bend(asked: Asked, reply: Reply) -> Reply:
        name = asked.path.rpartition("/")[2]
        if name in blobs:
            return Reply(200, blobs[name])
        if name == own or (name.endswith(".sig") and not referrers):
            return Reply(200, manifest, {"Content-Type": spec.MANIFEST})
        if "/referrers/" in asked.path and referrers:
            return Reply(200, index, {"Content-Type": spec.INDEX})
        return reply

    web.bend = bend


@pytest.mark.parametrize("referrers", [False, True])
def test_signatures_are_found_beside_the_image_and_come_with_it(
    web: Web, tmp_path: Path, referrers: bool
) -> None:
    signed_by(web, [(b'{"a": 1}', b"one"), (b'{"b": 2}', b"two")], referrers=referrers)
    image = open_image(web.reference, QUICK)
    expected = [
        signature.Signature(b'{"a": 1}', b"one"),
        signature.Signature(b'{"b": 2}', b"two"),
    ]
    assert image.signatures() == expected
    assert BlobStore(tmp_path).fetch(image).signatures() == expected


def test_a_registry_without_referrers_keeps_them_under_a_tag(web: Web) -> None:
    signed_by(web, [(b"{}", b"one")], referrers=True)
    inner = web.bend

    def bend(asked: Asked, reply: Reply) -> Reply | None:
        if "/referrers/" in asked.path:
            return Reply(404, b"404 page not found")
        if asked.path.endswith(str(open_digest).replace(":", "-")):
            moved = Asked("/v2/x/y/referrers/x", asked.headers)
            return inner(moved, reply)
        return inner(asked, reply)

    open_digest = open_image(web.reference, QUICK).digest
    web.bend = bend
    image = open_image(web.reference, QUICK)
    assert image.signatures() == [signature.Signature(b"{}", b"one")]


def test_signatures_without_end_are_refused(web: Web) -> None:
    signed_by(web, [(b"%d" % n, b"x") for n in range(200)], referrers=False)
    with pytest.raises(ModelError, match="at most 64 layers"):
        open_image(web.reference, QUICK).signatures()
    signed_by(web, [(bytes(100_000), b"x")], referrers=False)
    with pytest.raises(ModelError, match="a layer of 100000 bytes"):
        open_image(web.reference, QUICK).signatures()


# -- being told to stop


def test_a_stalled_fetch_ends_when_it_is_told_to(web: Web, tmp_path: Path) -> None:
    arrived, release = threading.Event(), threading.Event()

    def bend(asked: Asked, reply: Reply) -> Reply | None:
        arrived.set()
        release.wait(60)
        return None

    patient = replace(QUICK, read_timeout=60.0)
    image: Image = open_image(web.reference, patient)
    web.bend = layer(bend)
    store = BlobStore(tmp_path / "store")
    stopping = threading.Event()
    ended: list[BaseException] = []

    def stop() -> None:
        if stopping.is_set():
            raise PassingStopError

    def run() -> None:
        try:
            store.fetch(image, stop=stop)
        except PassingStopError as exc:
            ended.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    assert arrived.wait(20)
    stopping.set()
    release.set()
    store.wake()
    thread.join(20)
    assert not thread.is_alive()
    assert len(ended) == 1


class PassingStopError(Exception): ...


def test_passing_errors_say_how_long_to_wait() -> None:
    assert PassingError("x", 3.0).after == 3.0
