"""One module makes durable writes: nobody else in the store's path changes the disk."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.fakes import images
from tests.fakes.web import Asked, Reply, Web

ROOT = Path(__file__).resolve().parents[3]

# Python tells this hook of every change of the disk, and the stack says who asked for it.
WATCH = """
import os, sys
from pathlib import Path
state, *references = sys.argv[1:]
changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink",
    "os.chmod", "shutil.move", "shutil.copyfile", "shutil.rmtree", "tempfile.mkstemp",
    "tempfile.mkdtemp"}
asked, others = 0, set()
def hook(event, args):
    global asked
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if not writes or isinstance(path, int):
            return
    elif event not in changes:
        return
    if not str(args[0]).startswith(state):
        return
    frame = sys._getframe(1)
    while frame is not None and "/edged/" not in frame.f_code.co_filename:
        frame = frame.f_back
    where = "?" if frame is None else frame.f_code.co_filename.rpartition("/edged/")[2]
    asked += 1
    if where != "osutil/atomic.py":
        others.add(f"{where}: {event} {args[0]}")

from edged import oci
from edged.deploy.store import Store
sys.addaudithook(hook)
store = Store(Path(state))
for reference in references:
    slot = store.unpack(store.copy(oci.open_image(reference), lambda done: None), reference)
    store.commit(slot, store.current)
    store.collect()
print(asked)
print("\\n".join(sorted(others)))
"""


def test_a_deployment_changes_the_store_through_one_module(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    references = [images.write(tmp_path / name, name, padding=1000) for name in "abc"]
    with Web(tmp_path / "c") as web:
        web.bend = cut_short
        watched(state, *references[:2], web.reference, references[0])
    assert len(web.blobs_asked()) > 3, "the link broke, and the rest was asked for"


def cut_short(asked: Asked, reply: Reply) -> Reply:
    large = "/blobs/" in asked.path and len(reply.body) > 2000
    return replace(reply, cut=2000) if large else reply


def watched(state: Path, *references: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WATCH, str(state), *references],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    asked, _, others = result.stdout.partition("\n")
    assert int(asked) > 50, "the hook saw the changes"
    assert others.strip() == ""
