"""The daemon deploys from a real registry, over links that break."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.e2e.device import Device
from tests.fakes import images, registry
from tests.fakes.proxy import Proxy
from tests.fakes.registry import Registry


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
    device: Device, plain: Registry, size: int, cut: int
) -> None:
    """So many megabytes over a link that breaks and stalls; halfway the daemon is killed."""
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
        with pytest.raises(Exception, match=r"UNAVAILABLE|unavailable|closed|reset|Socket"):
            device.deploy(reference)
        device.wait()
        device.start()
        last = device.deploy(reference)[-1]
        assert last.state == "committed", last.error
        assert link.cuts >= 5
        assert link.sent <= 1.05 * size * million + 100_000, "headers and manifests included"
    assert device.predict(b"x") == b"big:x"
