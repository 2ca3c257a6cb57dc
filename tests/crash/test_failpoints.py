"""The real daemon, killed at every durable step of all it does; or a worker of it, at each of them.

What a device does is a scenario. It runs once undisturbed, and the daemon notes the failpoints that
it passes (``edged.osutil.atomic``: one before, between and after the system calls of each durable
step). Then it runs again for each of them, on the same disk, and somebody is killed there. The
daemon starts again, what it was fetching from is gone, and the old or the new model has to serve.

``pytest --long tests/crash/test_failpoints.py -s`` tries them all, and says how many there were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from edged.deploy import check
from edged.deploy.store import Store
from edged.errors import RequestError
from edged.messages.calls import request_error
from tests.e2e.aftermath import assert_clean, ends, workers
from tests.e2e.device import CALL_LIMIT, Device, raw
from tests.fakes import images

OLD, NEW, BEFORE, EMPTY = "old", "new", "before", "nothing"
BAD, CRASHER, LARGE = "bad", "crasher", "large"
WINDOW = "0.2"  # seconds; shown where it passes
SAMPLE = 3  # of the failpoints of a scenario, in the short run
LARGE_MODEL = 9_000_000  # bytes: over a mark of what has come (edged.oci.partial)


class Site:
    """Folders for devices: images, and the disk of one that has had two models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images"
        self.images.mkdir()
        behaviours: dict[str, dict[str, Any]] = {
            BAD: {"probe": "fail"},
            CRASHER: {"crash_after": 1},
        }
        self.references = {
            name: images.write(
                self.images / name,
                name,
                padding=LARGE_MODEL if name == LARGE else 300_000,
                behaviour=behaviours.get(name),
            )
            for name in (BEFORE, OLD, NEW, BAD, CRASHER, LARGE, "next")
        }
        self.points = folder / "points"
        self.points.mkdir()
        self.disk = folder / "disk"
        self._made = 0
        with self.device() as device:
            device.start("--window", "0")  # none is open when the next one starts on this disk
            for name in (BEFORE, OLD):
                assert device.deploy(self.references[name])[-1].state == "committed"
            device.stop()
            shutil.copytree(device.state, self.disk)

    @contextlib.contextmanager
    def device(self, disk: Path | None = None) -> Iterator[Device]:
        """A device, on a copy of a disk if one is given; all of it is gone afterwards."""
        self._made += 1
        folder = self.folder / str(self._made)
        folder.mkdir()
        device = Device(folder, "tests.fakes.daemon")
        if disk is not None:
            shutil.copytree(disk, device.state)
        for name in ("passed", "kill"):
            (self.points / name).unlink(missing_ok=True)
        try:
            yield device
        finally:
            device.close()
            shutil.rmtree(folder)

    def passed(self) -> list[str]:
        """The failpoints that were passed since this was asked last."""
        file = self.points / "passed"
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return found

    def kill_at(self, point: int | str, who: str) -> None:
        """Has somebody killed at the so-many-th failpoint from now on, or the first so called."""
        (self.points / "new").write_text(f"{point} {who}")
        (self.points / "new").rename(self.points / "kill")

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """What was deployed from is out of reach."""
        away = self.images.rename(self.folder / "away")
        try:
            yield
        finally:
            away.rename(self.images)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(tempfile.mkdtemp(prefix="edged-"))
        patch.setenv("EDGED_TEST_POINTS", str(folder / "points"))
        yield Site(folder)
        shutil.rmtree(folder)


Work = Callable[[Device, Site], object]


def deploying(name: str) -> Work:
    return lambda device, site: device.deploy(site.references[name])


def undeploying(device: Device, site: Site) -> None:
    device.undeploy()


def rolling_back(device: Device, site: Site) -> None:
    device.rollback()


def holding(device: Device, site: Site) -> None:
    assert device.edged("hold", "--reason", "test").returncode == 0
    assert device.edged("release").returncode == 0


def condemning(device: Device, site: Site) -> None:
    last = device.deploy(site.references[BAD])[-1]
    assert device.edged("quarantine", "clear", last.digest).returncode == 0


def reverting(device: Device, site: Site) -> None:
    """The new model is taken out of service within its window."""
    device.deploy(site.references[CRASHER])
    while ask(device) != b"old:x" or device.history()[0].outcome != "reverted":
        pass


def keeping(device: Device, site: Site) -> None:
    """The new model's window passes."""
    device.deploy(site.references[NEW])
    while device.history()[0].window != "passed":
        pass


def starting(device: Device, site: Site) -> None:
    assert ask(device)
    device.deploy(site.references[OLD])  # its turn comes when the start is over


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What a device does, and what may serve after a kill in the middle of it.

    Attributes:
        work: after it has started.
        serves: names of models, or ``EMPTY``.
        flags: of the daemon.
        from_start: whether its start belongs to it.
        disk: changes the disk before that.
        other: from which failpoint on it is another one than those before it here.
        only: how the names of failpoints begin that are tried, if not all.
    """

    work: Work
    serves: frozenset[str]
    flags: Sequence[str] = ()
    from_start: bool = False
    disk: Callable[[Site, Path], object] = lambda site, disk: None
    other: str = ""
    only: tuple[str, ...] = ("",)


def rotten(site: Site, disk: Path) -> None:
    """The files of the model in service are not what its image holds."""
    current = Store(disk).current
    assert current is not None
    path = current.folder / "program.npu"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def left(site: Site, disk: Path) -> None:
    """A daemon was killed when it had just loaded the new model."""
    with site.device(disk) as device, pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGED_TEST_KILL", "park daemon")
        device.start()
        with contextlib.suppress(RequestError):
            device.deploy(site.references[NEW])
        assert device.wait() == -signal.SIGKILL
        shutil.rmtree(disk)
        shutil.copytree(device.state, disk)


SCENARIOS = {
    "deploy": Scenario(deploying(NEW), frozenset({OLD, NEW})),
    "deploy a large one": Scenario(
        deploying(LARGE), frozenset({OLD, LARGE}), only=("partial", "marks", "blob")
    ),
    "deploy a bad one, and allow it again": Scenario(
        condemning, frozenset({OLD}), other="history.json:create"
    ),
    "revert in the window": Scenario(
        reverting, frozenset({OLD, CRASHER}), other="current.json:create"
    ),
    "pass the window": Scenario(
        keeping, frozenset({OLD, NEW}), ("--window", WINDOW), other="current.json:create"
    ),
    "roll back": Scenario(rolling_back, frozenset({OLD, BEFORE})),
    "undeploy": Scenario(undeploying, frozenset({OLD, EMPTY})),
    "hold and release": Scenario(holding, frozenset({OLD})),
    "start": Scenario(starting, frozenset({OLD}), from_start=True),
    "start, and mend a model": Scenario(starting, frozenset({OLD}), from_start=True, disk=rotten),
    "start, and take up a deployment": Scenario(
        starting, frozenset({OLD, NEW}), from_start=True, disk=left
    ),
}


class Runs:
    """The runs of one scenario."""

    def __init__(self, site: Site, scenario: Scenario) -> None:
        self.site = site
        self.scenario = scenario
        self.disk = site.folder / "scenario"
        shutil.copytree(site.disk, self.disk)
        scenario.disk(site, self.disk)

    def undisturbed(self) -> list[str]:
        """Runs it once; returns the failpoints that were passed."""
        scenario, site = self.scenario, self.site
        with site.device(self.disk) as device:
            device.start(*scenario.flags)
            if not scenario.from_start:
                ask(device)
                site.passed()
            scenario.work(device, site)
            device.stop()
            return site.passed()

    def daemon_killed(self, point: int | str) -> str:
        """Kills the daemon at a failpoint; returns its name, empty if it was not reached."""
        scenario, site = self.scenario, self.site
        with site.device(self.disk) as device:
            if scenario.from_start:
                site.kill_at(point, "daemon")
                with contextlib.suppress(AssertionError, RequestError):
                    device.start(*scenario.flags)
                    scenario.work(device, site)
            else:
                device.start(*scenario.flags)
                ask(device)
                site.passed()
                site.kill_at(point, "daemon")
                with contextlib.suppress(AssertionError, RequestError):
                    scenario.work(device, site)
            # What is written beside the work may come after it, up to the orderly end.
            if device.stop() != -signal.SIGKILL:
                (site.points / "kill").unlink()
                return ""
            name = site.passed()[-1]
            assert all(ends(int(worker.name)) for worker in workers(device))
            self._survive(device, f"killed at {name}, point {point}")
            return name

    def _survive(self, device: Device, what: str) -> None:
        """The next start, on what is there."""
        site = self.site
        with site.cut_off():
            device.start()
            assert serving(device) in self.scenario.serves, what
        device.edged("release")
        events = device.deploy(site.references["next"])
        assert events[-1].state == "committed", (what, events[-1].error)
        assert serving(device) == "next", what
        assert list(device.status().store_faults) == [], what
        assert_clean(device)

    def close(self) -> None:
        shutil.rmtree(self.disk)


def ask(device: Device) -> bytes:
    """An answer, by a socket that no device before had: gRPC remembers a port that was dead.

    A connection that takes its 20 s, on a machine that has more to do than it can, is made again.
    """
    with device.channel(f"unix:{device.run}/grpc.sock") as channel:
        try:
            return raw(channel)(b"x", timeout=CALL_LIMIT, wait_for_ready=True)
        except grpc.RpcError as exc:
            raise request_error(exc, "device", "no daemon") from exc


def serving(device: Device) -> str:
    """The name of the model that answers, or ``EMPTY``."""
    try:
        return ask(device).partition(b":")[0].decode()
    except RequestError as exc:
        if exc.code != "NOT_FOUND":
            raise
        return EMPTY


@pytest.fixture
def runs(site: Site, request: pytest.FixtureRequest) -> Iterator[Runs]:
    runs = Runs(site, SCENARIOS[request.param])
    yield runs
    runs.close()


def chosen(passed: Sequence[str], scenario: Scenario, pytestconfig: pytest.Config) -> list[int]:
    """The failpoints of a scenario that are tried: in the short run some of them.

    Of those that are passed many times in a row one in ten.
    """
    begin = passed.index(scenario.other) if scenario.other else 0
    numbers = [
        number
        for number, name in enumerate(passed)
        if number >= begin
        and name.startswith(scenario.only)
        and (passed[max(0, number - 1) : number + 2].count(name) < 3 or number % 10 == 0)
    ]
    if pytestconfig.getoption("--long"):
        return numbers
    return numbers[len(numbers) // SAMPLE // 2 :: len(numbers) // SAMPLE]


@pytest.mark.parametrize(
    "runs",
    [pytest.param(name, marks=[] if name == "deploy" else pytest.mark.long) for name in SCENARIOS],
    indirect=True,
)
def test_the_daemon_may_be_killed_at_any_durable_step(
    runs: Runs, pytestconfig: pytest.Config
) -> None:
    passed = runs.undisturbed()
    numbers = chosen(passed, runs.scenario, pytestconfig)
    reached = [runs.daemon_killed(number) for number in numbers]
    print(f"{len(passed)} failpoints, {len(set(passed))} names, {len(numbers)} kills")
    # What happens beside each other comes in another order each time.
    assert reached.count("") <= len(numbers) // 10 + 1
    if pytestconfig.getoption("--long"):
        for name in sorted({passed[number] for number in numbers} - {*reached}):
            assert runs.daemon_killed(name) == name


@pytest.mark.parametrize("who", ["serving", "candidate"])
def test_a_worker_may_be_killed_at_any_durable_step(
    site: Site, who: str, pytestconfig: pytest.Config
) -> None:
    """One daemon lives through them all, and swaps on."""
    with site.device(site.disk) as device:
        device.start("--window", WINDOW)
        ask(device)
        site.passed()
        names = (NEW, OLD)
        device.deploy(site.references[NEW])
        numbers = chosen(site.passed(), SCENARIOS["deploy"], pytestconfig)
        for count, number in enumerate(numbers):
            site.kill_at(number, who)
            last = device.deploy(site.references[names[(count + 1) % 2]])[-1]
            (site.points / "kill").unlink(missing_ok=True)
            assert last.state in ("committed", "failed", "reverted"), number
            assert serving(device) in names, (number, last.error)
            assert device.quarantine() == [], "who kills is the host"
        events = device.deploy(site.references["next"])
        assert events[-1].state == "committed", events[-1].error
        assert serving(device) == "next"
        assert_clean(device)
        print(f"{len(numbers)} kills of {who}")


def test_the_checker_finds_what_was_harmed(site: Site, tmp_path: Path) -> None:
    """Or else it would prove nothing here."""
    disk = shutil.copytree(site.disk, tmp_path / "disk")
    assert list(check.faults(disk)) == []
    rotten(site, disk)
    assert list(check.faults(disk))
