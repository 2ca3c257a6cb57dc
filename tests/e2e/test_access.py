"""A device on the network lets in whom its operator lets in, and says why it does not others."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization

from edged import messages
from edged.access.roles import Role
from edged.client import Client
from edged.errors import RequestError
from edged.messages.calls import request_error
from tests.e2e.device import CALL_LIMIT, CONTROL, ROOT, Device, raw
from tests.e2e.secured import Elsewhere, Secured, ask, bearer
from tests.fakes import images
from tests.fakes.authority import Authority, Issued

ANSWER = "fake:x"


@pytest.fixture
def secured(device: Device) -> Secured:
    return Secured(device)


@pytest.fixture
def served(secured: Secured) -> tuple[Secured, str]:
    """A device that serves, and a token to ask it."""
    return secured, serve(secured)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Secured, str]]:
    """The same for tests that leave its files alone, and need not wait for refusals."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    secured = Secured(Device(folder, "tests.fakes.daemon"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGED_TEST_DELAY", "0")
            token = serve(secured)
        yield secured, token
    finally:
        secured.device.close()
        shutil.rmtree(folder)


def serve(secured: Secured) -> str:
    """Starts a device that serves; returns a token."""
    token = secured.token("line4", Role.PREDICT)
    secured.device.start(*secured.flags())
    deploy(secured)
    return token


def deploy(secured: Secured) -> None:
    device = secured.device
    event = device.deploy(images.write(device.folder / "image"))[-1]
    assert event.state == "committed", event.error


def wait_for(said: Callable[[], bool]) -> None:
    """Waits until something is so; what is waited for has no event that a test could have."""
    deadline, paused = time.monotonic() + 20, threading.Event()
    while not said():
        assert time.monotonic() < deadline, "it did not come"
        paused.wait(0.02)


# -- the start


def refused(secured: Secured, *flags: str) -> str:
    """Starts a daemon that must not start; returns what it says."""
    daemon = secured.device.spawn(*flags)
    assert daemon.wait(CALL_LIMIT) != 0
    return secured.device.log_text()


def test_beyond_loopback_it_does_not_start_without_tls(secured: Secured) -> None:
    said = refused(secured, "--listen", "0.0.0.0:0")
    assert "needs TLS and callers' tokens or certificates: set tls.cert_file" in said


def test_beyond_loopback_it_does_not_start_if_nobody_could_call(secured: Secured) -> None:
    secured.token("old", Role.ADMIN, expires_unix=1)
    said = refused(secured, *secured.flags())
    assert "nobody could call" in said
    assert "edged tokens create" in said


def test_it_does_not_start_with_a_key_of_another_certificate(secured: Secured) -> None:
    other = secured.authority.client("other")
    said = refused(secured, *secured.flags(tls__key_file=str(other.key)))
    assert "is the key of another certificate" in said


def test_it_does_not_start_with_damaged_tokens(secured: Secured) -> None:
    (secured.device.state / "tokens.json").write_text("{")
    assert "cannot use tokens" in refused(secured, *secured.flags())


# -- tokens


def test_a_token_opens_and_nothing_else_does(shared: tuple[Secured, str]) -> None:
    secured, token = shared
    expired = secured.token("late", Role.PREDICT, expires_unix=int(time.time()) - 1)
    assert secured.ask(token) == ANSWER
    for wrong in (None, token[:-1], token[1:], token + "x", "x", expired, token.upper()):
        assert secured.ask(wrong) == "UNAUTHENTICATED", wrong
    assert "edged tokens create" in secured.why(None)
    assert "not known" in secured.why("x" * 43)
    assert "token late has expired by the device's clock" in secured.why(expired)
    assert secured.ask(token) == ANSWER
    assert token not in secured.device.log_text()


def test_the_scheme_is_written_as_anybody_likes(shared: tuple[Secured, str]) -> None:
    secured, token = shared
    route = ("x-ms-aml-grpc-service-route", "/api/v1/service/line4")
    with secured.channel() as channel:
        for scheme in ("Bearer", "bearer", "BEARER"):
            metadata = (("authorization", f"{scheme} {token}"), route)
            assert raw(channel)(b"x", timeout=CALL_LIMIT, metadata=metadata) == ANSWER.encode()
        for value in (token, f"Basic {token}", "Bearer", "Bearer ", f"Bearer{token}"):
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                raw(channel)(b"x", timeout=CALL_LIMIT, metadata=(("authorization", value),))
        twice = bearer(token) + bearer("x" * 43)
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            raw(channel)(b"x", timeout=CALL_LIMIT, metadata=twice)


def test_what_is_revoked_is_refused_from_the_next_call_on(shared: tuple[Secured, str]) -> None:
    secured, token = shared
    other = secured.token("line5", Role.PREDICT)
    with secured.channel() as channel:
        assert ask(channel, other) == ANSWER, "a new one counts at once"
        secured.revoke("line5")
        assert ask(channel, other) == "UNAUTHENTICATED"
        assert ask(channel, token) == ANSWER


def test_damaged_tokens_do_not_lock_anybody_out(served: tuple[Secured, str]) -> None:
    secured, token = served
    (secured.device.state / "tokens.json").write_text("{")
    assert secured.ask(token) == ANSWER
    assert "the tokens of before stay in use" in secured.device.log_text()


def test_nothing_answers_without_credentials(shared: tuple[Secured, str]) -> None:
    secured, token = shared
    methods = (
        "/tensorflow.serving.PredictionService/Predict",
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        f"{CONTROL}/Status",
        "/no.such.Service/Method",
    )
    codes = {}
    with secured.channel() as channel:
        for method in methods:
            with pytest.raises(grpc.RpcError) as caught:
                raw(channel, method)(b"", timeout=CALL_LIMIT)
            codes[method] = request_error(caught.value, "", "").code
    assert set(codes.values()) == {"UNAUTHENTICATED"}, codes
    with secured.channel() as channel, pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        raw(channel, "/no.such.Service/Method")(b"", timeout=9, metadata=bearer(token))
    # In the clear there is not even a greeting.
    with grpc.insecure_channel(secured.target) as channel:
        assert ask(channel, token) == "UNAVAILABLE"


def test_the_library_and_the_commands_take_tls_and_tokens(
    shared: tuple[Secured, str], tmp_path: Path
) -> None:
    secured, token = shared
    ca = secured.authority.ca
    with Client(secured.target, tls=ca, token=token) as client:
        client.wait_ready(CALL_LIMIT)
    with Client(secured.target, tls=ca) as client, pytest.raises(RequestError) as caught:
        client.wait_ready(CALL_LIMIT)
    assert caught.value.code == "UNAUTHENTICATED"
    file, picture = tmp_path / "token", tmp_path / "x.jpg"
    file.write_text(token)
    picture.write_bytes(b"x")
    flags = ["--target", secured.target, "--tls", str(ca)]
    refused = secured.device.edged("predict", str(picture), *flags)
    assert (refused.returncode, "UNAUTHENTICATED" in refused.stdout) == (1, True)
    # The fake model's answer is no message, so that the question has got through.
    known = secured.device.edged("predict", str(picture), *flags, "--token", str(file))
    assert "UNAUTHENTICATED" not in known.stdout + known.stderr
    load = ["--requests", "5", "--input", "images", "--json", "-"]
    measured = secured.device.edged("bench", "serve", *flags, "--token", str(file), *load)
    assert json.loads(measured.stdout)["load"]["answered"] == 5, measured.stderr


def test_commands_say_that_it_is_the_certificate(shared: tuple[Secured, str]) -> None:
    secured, _ = shared
    picture = secured.device.folder / "x.jpg"
    picture.write_bytes(b"x")
    target = ["--target", secured.target, "--tls", str(secured.stranger.ca)]
    said = secured.device.edged("predict", str(picture), *target)
    assert said.returncode == 1
    assert f"cannot speak TLS with {secured.target}: " in said.stderr


def test_a_call_that_streams_ends_with_its_token(shared: tuple[Secured, str]) -> None:
    secured, _ = shared
    device = secured.device
    token = secured.token("watcher", Role.PREDICT)
    with secured.channel() as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            messages.HealthCheckRequest.SerializeToString,
            messages.HealthCheckResponse.FromString,
        )
        watching = watch(messages.HealthCheckRequest(), timeout=60, metadata=bearer(token))
        assert next(watching).status == messages.ServingStatus.SERVING
        secured.revoke("watcher")
        device.undeploy()
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            next(watching)
    deploy(secured)


# -- operators over the network


def test_operators_commands_take_the_role(secured: Secured, tmp_path: Path) -> None:
    names = {role: secured.token(role.label, role) for role in Role}
    secured.device.start(*secured.flags(auth__remote_control="true"))
    deploy(secured)

    def edged(role: Role | None, *command: str) -> subprocess.CompletedProcess[str]:
        flags = ["--target", secured.target, "--tls", str(secured.authority.ca)]
        if role is not None:
            file = tmp_path / role.label
            file.write_text(names[role])
            flags += ["--token", str(file)]
        return secured.device.edged(command[0], *flags, *command[1:])

    assert "expected credentials" in edged(None, "status").stderr
    assert "has the role predict; this takes status" in edged(Role.PREDICT, "status").stderr
    assert '"state": "serving"' in edged(Role.STATUS, "status", "--json").stdout
    assert edged(Role.STATUS, "quarantine").returncode == 0
    for command in (["undeploy"], ["hold", "--reason", "x"], ["quarantine", "clear", "sha256:0"]):
        assert "this takes admin" in edged(Role.STATUS, *command).stderr, command
    assert edged(Role.ADMIN, "hold", "--reason", "audit", "--ttl", "1h").returncode == 0
    assert edged(Role.ADMIN, "undeploy").returncode == 1, "it is held"
    assert edged(Role.ADMIN, "undeploy", "--force").returncode == 0
    wait_for(lambda: len(audit(secured.device)) == 5)
    acts = audit(secured.device)
    done = [each["what"] for each in acts]
    assert done == ["deploy", "quarantine clear", "hold", "undeploy", "undeploy"]
    assert acts[1]["outcome"].startswith("refused: token status has the role status")
    assert acts[0]["who"].startswith("user root (uid 0, pid ")
    assert acts[-1]["who"] == "token admin"
    assert acts[-2]["outcome"].startswith("refused: ")
    assert re.match(r"ipv[46]:.*:\d+", acts[-1]["via"])


def test_commands_over_the_network_are_off_unless_asked_for(shared: tuple[Secured, str]) -> None:
    secured, _ = shared
    admin = secured.token("ops", Role.ADMIN)
    with secured.channel() as channel, pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        raw(channel, f"{CONTROL}/Status")(b"", timeout=9, metadata=bearer(admin))


def test_the_control_socket_knows_who_asked(serving: Device) -> None:
    ended = serving.edged("hold", "--reason", "audit", "--ttl", "1h")
    assert ended.returncode == 0
    with serving.channel(f"unix:{serving.run}/control.sock") as idle:
        grpc.channel_ready_future(idle).result(CALL_LIMIT)
        assert serving.edged("release").returncode == 0
    wait_for(lambda: [each["what"] for each in audit(serving)][-2:] == ["hold", "release"])
    hold, release = audit(serving)[-2:]
    assert hold["via"] == "control.sock"
    pids = [
        re.fullmatch(r"user root \(uid 0, pid (\d+)\)", each["who"]) for each in (hold, release)
    ]
    assert all(pids), "told apart from the other connection that is open"
    assert len({found[1] for found in pids if found}) == 2


def audit(device: Device) -> list[dict[str, str]]:
    return [json.loads(line) for line in (device.state / "audit.log").read_text().splitlines()]


# -- certificates


def test_certificates_of_a_wrong_host_or_a_stranger_are_refused_by_callers(
    shared: tuple[Secured, str],
) -> None:
    secured, token = shared
    assert secured.ask(token, ca=secured.stranger.ca) == "UNAVAILABLE"
    host, _, port = secured.target.rpartition(":")
    # The certificate is for localhost and 127.0.0.1.
    assert secured.ask(token, target=f"127.0.0.2:{port}") == "UNAVAILABLE"
    assert secured.ask(token, target=f"127.0.0.1:{port}") == ANSWER
    assert host == "localhost"


def test_mutual_tls_takes_the_place_of_a_token(secured: Secured) -> None:
    good = secured.authority.client("line4")
    denied = secured.authority.client("lost")
    boss = secured.authority.client("boss")
    deny = secured.device.folder / "denied"
    deny.write_text("# none\n")
    secured.device.start(
        *secured.flags(
            tls__client_ca_file=str(secured.authority.ca),
            tls__client_cert="required",
            tls__client_roles="boss=admin",
            tls__deny_file=str(deny),
            auth__remote_control="true",
        )
    )
    deploy(secured)
    assert secured.ask(own=good) == ANSWER
    assert secured.ask(own=denied) == ANSWER
    for own in (
        None,
        secured.stranger.client("line4"),
        self_signed(secured),
        secured.authority.expired("old", ()),
        secured.authority.not_yet_valid("early", ()),
    ):
        assert secured.ask(own=own) == "UNAVAILABLE", own

    with secured.channel(denied) as standing:
        assert ask(standing) == ANSWER
        pem = denied.certificate.read_text()
        deny.write_text(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() + "  # lost\n")
        assert ask(standing) == "UNAUTHENTICATED", "on a connection that stands, too"
    assert "certificate lost is denied" in secured.why(own=denied)
    assert secured.ask(own=good) == ANSWER

    with secured.channel(good) as channel, pytest.raises(grpc.RpcError, match="takes status"):
        raw(channel, f"{CONTROL}/Status")(b"", timeout=CALL_LIMIT)
    with secured.channel(boss) as channel:
        raw(channel, f"{CONTROL}/Status")(b"", timeout=CALL_LIMIT)
    # A wrong token is wrong whoever sends it; a right one adds its role.
    assert secured.ask("x" * 43, good) == "UNAUTHENTICATED"
    status = secured.token("watch", Role.STATUS)
    with secured.channel(good) as channel:
        raw(channel, f"{CONTROL}/Status")(b"", timeout=CALL_LIMIT, metadata=bearer(status))


def self_signed(secured: Secured) -> Issued:
    """A certificate that only its own key vouches for."""
    own = Authority(secured.device.folder / "self", "line4")
    key = own.folder / "ca.key"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(own._key.private_bytes(serialization.Encoding.PEM, *form))
    return Issued(own.ca, key)


def test_certificates_change_while_connections_stand(served: tuple[Secured, str]) -> None:
    secured, token = served
    authority, stranger = secured.authority, secured.stranger
    with secured.channel() as standing:
        assert ask(standing, token) == ANSWER
        # First a pair that does not fit, as while somebody copies one file after the other.
        authority.certificate.write_bytes(stranger.certificate.read_bytes())
        assert secured.ask(token) == ANSWER, "the old one stays"
        assert "is the key of another certificate" in secured.device.log_text()
        authority.key.write_bytes(stranger.key.read_bytes())
        assert secured.ask(token, ca=stranger.ca) == ANSWER, "the new one counts"
        assert secured.ask(token) == "UNAVAILABLE"
        assert ask(standing, token) == ANSWER, "and nobody was dropped"
    authority.key.write_bytes(b"junk")
    assert secured.ask(token, ca=stranger.ca) == ANSWER


def test_an_expired_certificate_of_the_device_is_refused_by_callers(secured: Secured) -> None:
    old = secured.authority.expired("old-server")
    token = secured.token("line4", Role.PREDICT)
    flags = secured.flags(tls__cert_file=str(old.certificate), tls__key_file=str(old.key))
    secured.device.start(*flags)
    assert secured.ask(token) == "UNAVAILABLE"
    assert "has expired at" in secured.device.log_text()


# -- loopback and sockets


def test_loopback_asks_for_tokens_where_it_is_told_to(secured: Secured) -> None:
    token = secured.token("line4", Role.PREDICT)
    secured.device.start("--listen", "127.0.0.1:0", "--auth.on_loopback", "true")
    deploy(secured)
    with grpc.insecure_channel(secured.device.address) as channel:
        assert ask(channel) == "UNAUTHENTICATED"
        assert ask(channel, token) == ANSWER
    with secured.device.channel(f"unix:{secured.device.run}/grpc.sock") as channel:
        assert ask(channel) == ANSWER


def test_sockets_have_the_mode_and_group_they_are_given(device: Device) -> None:
    modes = ["--sockets.grpc_mode", "0660", "--sockets.control_mode", "0600"]
    device.start(*modes, "--sockets.grpc_group", "daemon")
    grpc_socket, control = ((device.run / name).stat() for name in ("grpc.sock", "control.sock"))
    assert (grpc_socket.st_mode & 0o777, control.st_mode & 0o777) == (0o660, 0o600)
    assert grpc_socket.st_gid == 1


def test_a_group_that_there_is_not_is_said(device: Device) -> None:
    daemon = device.spawn("--sockets.control_group", "nosuchgroup")
    assert daemon.wait(CALL_LIMIT) != 0
    assert "control.sock to group nosuchgroup" in device.log_text()


# -- reload


def reload(device: Device, expected: str) -> None:
    """Sends SIGHUP and waits for the record."""
    before = device.log_text().count("what=reload")
    device.send(signal.SIGHUP)
    wait_for(lambda: device.log_text().count("what=reload") > before)
    assert expected in device.log_text().rpartition("edged.daemon: reload: ")[2]


def test_a_reload_applies_what_it_can_and_says_what_it_cannot(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = device.folder / "edged.toml"
    file.write_text("")
    monkeypatch.setenv("EDGED_CONFIG", str(file))
    device.start()
    reload(device, "nothing has changed")
    file.write_text('log_level = "debug"\nwindow = 5\n[registries."r.example"]\nmirror = "m"\n')
    reload(device, "applied log_level, registries; window need a restart")
    file.write_text('log_level = "debug"\nwindwo = 5\n')
    reload(device, f"refused, the settings of before stay: cannot use {file}:2: windwo: unknown")
    file.write_text("this is no toml")
    reload(device, "refused")
    file.write_text('log_level = "info"\n')
    reload(device, "applied log_level, registries")
    assert device.status().state == "not_serving", "it goes on"
    wait_for(lambda: [each["what"] for each in audit(device)] == ["reload"] * 5)


def test_the_service_manager_is_told_of_a_reload(device: Device) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.settimeout(CALL_LIMIT)
        notices.bind(str(device.folder / "notify"))
        device.daemon = device.spawn(notify=str(device.folder / "notify"))

        def wait_told(field: str) -> dict[str, str]:
            while True:
                lines = notices.recv(4096).decode().split("\n")
                told = dict(line.split("=", 1) for line in lines)
                if told.get(field) == "1":
                    return told

        wait_told("READY")
        before = time.monotonic_ns() // 1000
        device.send(signal.SIGHUP)
        assert int(wait_told("RELOADING")["MONOTONIC_USEC"]) >= before
        wait_told("READY")


def test_a_reload_goes_over_to_other_certificates_or_to_none_at_all(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, stranger = secured.device, secured.stranger
    token = secured.token("line4", Role.PREDICT)
    file = device.folder / "edged.toml"
    monkeypatch.setenv("EDGED_CONFIG", str(file))
    good = f'[tls]\ncert_file = "{secured.authority.certificate}"\nkey_file = '
    file.write_text(good + f'"{secured.authority.key}"\n')
    device.start("--listen", "0.0.0.0:0")
    deploy(secured)
    file.write_text(good + '"nonexistent"\n')
    reload(device, "refused, the settings of before stay: cannot read")
    assert secured.ask(token) == ANSWER
    file.write_text(f'[tls]\ncert_file = "{stranger.certificate}"\nkey_file = "{stranger.key}"\n')
    reload(device, "applied tls.cert_file, tls.key_file")
    assert secured.ask(token, ca=stranger.ca) == ANSWER
    file.write_text("")
    reload(device, "refused")
    assert secured.ask(token, ca=stranger.ca) == ANSWER


# -- another machine

CALL = """
import sys, grpc
target, ca, token = sys.argv[1:4]
def ask(channel, metadata=()):
    try:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        return call(b"x", timeout=5, metadata=metadata).decode()
    except grpc.RpcError as exc:
        return exc.code().name
credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
print(ask(grpc.insecure_channel(target)))
print(ask(grpc.insecure_channel(target), (("authorization", f"Bearer {token}"),)))
print(ask(grpc.secure_channel(target, credentials)))
print(ask(grpc.secure_channel(target, credentials), (("authorization", "Bearer x"),)))
print(ask(grpc.secure_channel(target, credentials), (("authorization", f"Bearer {token}"),)))
"""


@pytest.mark.skipif(not Elsewhere.possible(), reason="cannot make a network namespace here")
def test_from_another_network_namespace_only_credentials_are_answered(secured: Secured) -> None:
    token = secured.token("line4", Role.PREDICT)
    with Elsewhere(11) as there:
        own = secured.authority.server(there.host)
        flags = secured.flags(tls__cert_file=str(own.certificate), tls__key_file=str(own.key))
        secured.device.start(*flags)
        deploy(secured)
        target = f"{there.host}:{secured.device.address.rpartition(':')[2]}"
        command = [sys.executable, "-c", CALL, target, str(secured.authority.ca), token]
        ended = subprocess.run(
            there.command(command), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
    refused = ["UNAVAILABLE"] * 2 + ["UNAUTHENTICATED"] * 2
    assert ended.stdout.split("\n")[:5] == [*refused, ANSWER], ended.stderr


def test_on_loopback_nothing_has_changed(serving: Device) -> None:
    assert serving.predict(b"x") == ANSWER.encode()
    with serving.channel() as channel, pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        raw(channel, f"{CONTROL}/Status")(b"", timeout=9)
