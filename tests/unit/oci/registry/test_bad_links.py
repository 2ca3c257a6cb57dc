"""An image arrives over a link that breaks and stalls, with next to nothing sent twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.oci import BlobStore, Reference, open_image, write_image
from tests.fakes import registry
from tests.fakes.proxy import Proxy
from tests.fakes.registry import Registry
from tests.unit.oci.images import FACTS

ROOT = Path(__file__).resolve().parents[4]
MEGABYTE = 1_000_000

FETCH = """
import logging, sys
from pathlib import Path
from edged.oci import BlobStore, Registries, open_image
logging.basicConfig(level=logging.INFO)
folder, reference = sys.argv[1:]

def peak():  # of this program alone; what getrusage tells includes whoever started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

image = open_image(reference, Registries(read_timeout=1.0))
before = peak()
store = BlobStore(Path(folder))
store.fetch(image)
print(store.resent, peak() - before, before)
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.run(tmp_path_factory.mktemp("plain")) as running:
        yield running


def write(folder: Path, size: int) -> str:
    data = os.urandom(1000) * (size // 1000)
    files: dict[str, bytes | Path] = {"manifest.json": b"{}", "program.npu": data}
    write_image(files, FACTS, Reference.parse(f"oci:{folder}:v1"))
    return f"oci:{folder}:v1"


def start(folder: Path, reference: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(folder), reference],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("size", "cut", "stall"),
    [(12, 1 << 19, 0.2), pytest.param(100, 4 << 20, 2.0, marks=pytest.mark.long)],
)
def test_a_killed_fetch_over_a_bad_link_goes_on_with_next_to_nothing_sent_twice(
    tmp_path: Path, plain: Registry, size: int, cut: int, stall: float
) -> None:
    """So many megabytes; the link breaks every ``cut`` bytes, stalls, and twice we are killed."""
    name = f"plant/bad{size}:v1"
    plain.push(write(tmp_path / "image", size * MEGABYTE), name)
    with Proxy(plain.host, cut_every=cut, stall=stall, stall_every=2 * cut) as link:
        reference = f"docker://{link.host}/{name}"
        for share in (0.3, 0.6):
            process = start(tmp_path / "store", reference)

            def kill(
                sent: int, share: float = share, process: subprocess.Popen[str] = process
            ) -> None:
                if sent > share * size * MEGABYTE:
                    process.send_signal(signal.SIGKILL)

            link.on_bytes = kill
            process.communicate(timeout=300)
            assert process.returncode == -signal.SIGKILL
            assert BlobStore(tmp_path / "store").images() == [], "nothing half-fetched is listed"
        link.on_bytes = lambda _: None
        output, errors = start(tmp_path / "store", reference).communicate(timeout=600)
        assert output, errors
        resent, grown, before = (int(word) for word in output.split())
        assert resent == 0
        print(
            f"sent {link.sent / size / MEGABYTE - 1:+.2%}, {link.cuts} cuts, {link.stalls} stalls"
        )
        print(f"memory {grown} KiB beside {before} KiB")
        assert link.cuts >= 8
        assert link.stalls >= 1
        # What the proxy sent, headers and manifests included; what was on its way is lost.
        assert link.sent <= 1.05 * size * MEGABYTE + 50_000
        assert grown < 16_000, "kilobytes of memory that fetching took, whatever the image's size"
    store = BlobStore(tmp_path / "store")
    assert store.check() == []
    assert store.images()[0].image.digest == open_image(f"oci:{tmp_path}/image").digest
