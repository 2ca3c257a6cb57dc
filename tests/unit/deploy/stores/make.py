"""``python -m tests.unit.deploy.stores.make FILE.tar.gz``: a used store, as this version leaves it.

Run once for each layout of the store, by the last version that wrote it; the file is kept for ever.
It holds two models deployed one after the other, a third that reverted and is in quarantine, a
pinned image, a hold and the logs of the models' processes.
"""

from __future__ import annotations

import gzip
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from edged import messages
from tests.e2e.device import Device
from tests.fakes import images


def main() -> int:
    """Writes the file."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    device = Device(folder, "tests.fakes.daemon")
    try:
        device.start()
        for name, counter in (("one", 1), ("two", 2)):
            event = device.deploy(images.write(folder / name, name, counter=counter))[-1]
            assert event.state == "committed", event.error
        bad = images.write(folder / "bad", "bad", behaviour={"probe": "fail"})
        event = device.deploy(bad)[-1]
        assert event.state == "reverted", event
        pinned = device.status().previous_digest
        done = device.edged("images", "--state-dir", str(device.state), "--pin", pinned)
        assert done.returncode == 0, done.stderr
        request = messages.HoldRequest(owner="line4", reason="audit", ttl_s=3600)
        device._ask("Hold", request, messages.HoldReply)
        assert device.stop() == 0
        with (
            Path(sys.argv[1]).open("wb") as out,
            gzip.GzipFile("", "wb", 9, out, 0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            archive.add(device.state, ".")
    finally:
        device.close()
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
