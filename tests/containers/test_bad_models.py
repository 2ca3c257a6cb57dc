"""A bad model in a real container: the old one serves, nobody notices, and the reason is on record.

The list is that of ``tests.e2e.bad``, with what only a container can hold back: a model that fills
its disk, and one that writes to what is not its own.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edged import oci
from edged.oci import Reference, keys, write_image
from tests.containers.conftest import Box
from tests.crash.powercut import read_tree
from tests.e2e.bad import BAD, WORSE, assert_unnoticed, signed, starts, until_recorded
from tests.e2e.callers import calling

LIMIT = 30.0  # seconds
MEMORY = 256  # MiB that a worker may use
HUNGRY = {"needs too much memory": starts("hungry", f"{MEMORY} MiB")}
SHORT = ["fills its disk", "writes outside", "needs too much memory"]


@pytest.fixture(scope="module", params=["runc-root", "runc"])
def serving(request: pytest.FixtureRequest) -> Iterator[Box]:
    """Both kinds of containers, for all that follows; a signed model is in service."""
    folder = Path(tempfile.mkdtemp(prefix="edged-"))
    folder.chmod(0o711)
    box = Box(folder, root=request.param == "runc-root", module="tests.fakes.daemon")
    keys.generate(folder / "maker")
    keys.trust(folder / "maker.pub", folder / "keys")
    given = ["--verify", "required", "--keys-dir", str(folder / "keys")]
    box.start(*given, "--memory-limit", str(MEMORY))
    event = box.deploy(signed(folder / "old", "old"))[-1]
    assert event.state == "committed", event.error
    yield box
    box.close()
    shutil.rmtree(folder)


@pytest.fixture
def bad_folder(serving: Box) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=serving.folder))
    folder.chmod(0o755)
    keys_of(serving, folder)
    yield folder / "image"
    shutil.rmtree(folder)


def keys_of(box: Box, folder: Path) -> None:
    """The maker's key is looked for beside an image."""
    shutil.copy(box.folder / "maker.key", folder)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in SHORT else pytest.mark.long)
        for kind in (*HUNGRY, *WORSE, *BAD)
    ],
)
def test_the_old_model_serves_on_and_nobody_notices(
    serving: Box, bad_folder: Path, kind: str
) -> None:
    bad = {**BAD, **WORSE, **HUNGRY}[kind]
    if kind == "needs too much memory" and not serving.has_cgroups:
        bad = starts("hungry", "words: MemoryError")
    models = serving.state / "models"
    before = read_tree(models)
    reference = bad.build(bad_folder)
    last = assert_unnoticed(serving, reference, bad)
    assert (last.digest in {each.digest for each in serving.quarantine()}) == bad.own_fault
    after = read_tree(models)
    assert {name: after[name] for name in before} == before, "what serves is as it was"
    assert not (serving.state / "escaped").exists()
    [container] = serving.containers()
    assert not [text for text in serving.leftovers() if container["id"] not in text]


@pytest.mark.long
def test_a_hang_at_start_is_given_up_after_its_20_seconds(serving: Box, bad_folder: Path) -> None:
    bad = starts("hang", "not ready within 20 s", own_fault=False)
    assert_unnoticed(serving, bad.build(bad_folder), bad)


@pytest.mark.parametrize(
    "how", ["fill", *(pytest.param(each, marks=pytest.mark.long) for each in ("abort", "outside"))]
)
def test_one_that_turns_bad_after_the_commit_is_taken_out_again(
    serving: Box, bad_folder: Path, how: str
) -> None:
    """It answers well, and ends after each answer: three times within its window."""
    before = serving.status().model
    reference = signed(bad_folder, behaviour={"crash_after": 1, "crash": how})
    with calling(serving) as callers:
        callers.wait_for(b"old:x")
        event = serving.deploy(reference)[-1]
        assert event.state == "committed", event.error
        callers.wait_for(b"bad:x")
        callers.wait_for(b"old:x")
    assert callers.errors == []
    assert callers.bodies == {b"old:x", b"bad:x"}
    assert serving.status().model == before, "it was still loaded"
    until_recorded(serving, "reverted")
    last = serving.history()[0]
    assert "ended 3 times within 60 s" in last.reason
    deadline = time.monotonic() + LIMIT
    while last.digest not in {each.digest for each in serving.quarantine()}:  # written after it
        assert time.monotonic() < deadline


@pytest.mark.long
@pytest.mark.parametrize(
    ("harm", "outcome", "why"),
    [
        (lambda program: program[: len(program) // 2], "failed", "bytes, there are"),
        (lambda program: program[:-64] + bytes(64), "reverted", "golden test failed"),
    ],
    ids=["corrupt program", "other weights"],
)
def test_a_program_that_is_not_what_was_built_never_serves(
    box: Box, surface_image: str, harm: Callable[[bytes], bytes], outcome: str, why: str
) -> None:
    """With edged's own worker, which is who reads a program."""
    image = oci.open_image(Reference.parse(surface_image))
    image.unpack_model(box.folder / "model")
    files: dict[str, bytes | Path] = {
        name: data for name, data in read_tree(box.folder / "model").items() if data is not None
    }
    program = files["program.npu"]
    assert isinstance(program, bytes)
    files["program.npu"] = harm(program)
    write_image(files, image.facts, Reference.parse(f"oci:{box.folder}/bad"))
    box.start()
    assert box.deploy(surface_image)[-1].state == "committed"
    before = box.status().model
    event = box.deploy(f"oci:{box.folder}/bad")[-1]
    assert (event.state, why in event.error) == (outcome, True), event.error
    assert box.status().model == before
    assert box.history()[0].reason == event.error
