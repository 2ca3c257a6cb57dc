"""The daemon deploys from a real registry, over links that break."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.errors import RequestError
from edged.oci import LayoutFolder, keys, open_image, signature
from tests.e2e.device import Device
from tests.fakes import images, registry
from tests.fakes.authority import Authority
from tests.fakes.proxy import Proxy
from tests.fakes.registry import PASSWORD, USER, Registry


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.run(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_a_model_is_deployed_from_a_registry(device: Device, plain: Registry) -> None:
    device.start()
    source = images.write(device.folder / "image", "fetched", padding=1000)
    last = device.deploy(plain.push(source, "plant/fetched:v1"))[-1]
    assert last.state == "committed", last.error
    assert device.predict(b"x") == b"fetched:x"
    registry.skopeo("inspect", f"oci:{device.state}/images")


@pytest.mark.parametrize(
    ("size", "cut"), [(12, 1 << 20), pytest.param(100, 4 << 20, marks=pytest.mark.long)]
)
def test_a_killed_daemon_goes_on_where_the_link_had_brought_it(
    device: Device, plain: Registry, monkeypatch: pytest.MonkeyPatch, size: int, cut: int
) -> None:
    """So many megabytes over a link that breaks and stalls; halfway the daemon is killed."""
    monkeypatch.setattr("tests.e2e.device.CALL_LIMIT", 600.0)
    million = 1_000_000
    source = images.write(device.folder / "image", "big", padding=size * million)
    name = f"plant/big{size}:v1"
    plain.push(source, name)
    device.start()
    with Proxy(plain.host, cut_every=cut, stall=0.5, stall_every=cut) as link:
        reference = f"docker://{link.host}/{name}"

        def kill(sent: int) -> None:
            if sent > size * million // 2:
                link.on_bytes = lambda _: None
                device.send(signal.SIGKILL)

        link.on_bytes = kill
        with pytest.raises(RequestError):  # its daemon is gone
            device.deploy(reference)
        device.wait()
        device.start()
        last = device.deploy(reference)[-1]
        assert last.state == "committed", last.error
        assert link.cuts >= 5
        print(f"sent {link.sent / size / million - 1:+.2%}, {link.cuts} cuts, {link.stalls} stalls")
        assert link.sent <= 1.05 * size * million + 100_000, "headers and manifests included"
    assert device.predict(b"x") == b"big:x"


def test_a_signed_model_is_deployed_through_tls_and_password_and_an_unsigned_one_is_not(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "authority")
    keys.generate(tmp_path / "line4")
    keys.trust(tmp_path / "line4.pub", tmp_path / "trusted")
    (tmp_path / "password").write_text(PASSWORD)
    settings = {**registry.tls(authority), **registry.passwords(tmp_path / "users")}
    with registry.run(tmp_path / "registry", **settings) as running:
        (tmp_path / "edged.toml").write_text(
            f"""
verify = "required"
keys_dir = "{tmp_path}/trusted"
[registries."{running.host}"]
username = "{USER}"
password_file = "password"
ca_file = "authority/ca.pem"
"""
        )
        monkeypatch.setenv("EDGED_CONFIG", str(tmp_path / "edged.toml"))
        monkeypatch.setenv("EDGED_VERIFY", "required")
        device.start()
        signed = images.write(device.folder / "signed", "signed", key=tmp_path / "line4.key")
        image = open_image(signed)
        LayoutFolder(device.folder / "signed").set_tag(image.descriptor, "v1")
        creds, beside = f"--dest-creds={USER}:{PASSWORD}", signature.tag(image.digest)
        reference = running.push(f"{signed}:v1", "plant/model:v1", creds)
        running.push(f"{signed}:{beside}", f"plant/model:{beside}", creds)
        last = device.deploy(reference)[-1]
        assert last.state == "committed", last.error
        assert device.predict(b"x") == b"signed:x"
        unsigned = images.write(device.folder / "unsigned", "unsigned")
        last = device.deploy(running.push(unsigned, "plant/other:v1", creds))[-1]
        assert last.state == "failed"
        assert "it is not signed" in last.error
        assert device.predict(b"x") == b"signed:x"
    # The store keeps the signature, so that nobody has to be asked again.
    assert len(signature.read(LayoutFolder(device.state / "images"), image.digest)) == 1
