"""The generator of load: who sends when, what counts, what is shown."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from edged.__main__ import main
from edged.bench import figures, load, plot, serve
from edged.bench.echo import METHOD, echo_server
from edged.bench.load import Reply, Shot, Span
from edged.bench.server import Served, own_server
from edged.bench.target import Target
from edged.build import assemble
from edged.errors import RequestError, StoreError
from tests.unit.build import models

pytestmark = pytest.mark.alone


class Server:
    """Answers one request at a time, each after ``work`` seconds; notes how many are with it."""

    def __init__(self, work: float = 0.0) -> None:
        self._work = work
        self._line = asyncio.Lock()
        self.now = self.most = self.sent = 0

    async def send(self, _caller: int) -> Reply:
        self.sent += 1
        self.now += 1
        self.most = max(self.most, self.now)
        async with self._line:
            await asyncio.sleep(self._work)
        self.now -= 1
        return Reply(time.perf_counter())


def test_a_closed_loop_has_so_many_callers_and_no_more() -> None:
    server = Server()
    shots = load.run(load.closed(server.send, 4, Span(requests=50)))
    assert (len(shots), server.sent, server.most) == (50, 50, 4)
    assert all(shot.intended == shot.sent <= shot.ended for shot in shots)


def test_a_closed_loop_ends_when_its_time_is_over_with_every_request_answered() -> None:
    server = Server(0.01)
    shots = load.run(load.closed(server.send, 3, Span(seconds=0.2)))
    assert 3 <= len(shots) == server.sent <= 30
    assert max(shot.sent for shot in shots) < 0.2


def test_in_an_open_loop_requests_start_whether_or_not_others_are_answered() -> None:
    server = Server(0.05)
    shots = load.run(load.opened(server.send, load.fixed(1000), Span(requests=10)))
    assert server.most > 5
    assert [shot.intended for shot in shots] == [number / 1000 for number in range(10)]


def test_a_request_that_could_not_be_sent_in_time_is_as_late_as_its_caller_finds_it() -> None:
    """Else a server that stops for a second has one slow request, where all callers waited."""
    server = Server(0.02)
    work = load.opened(server.send, load.fixed(1000), Span(requests=10), in_flight=1)
    shots = load.run(work)
    assert server.most == 1
    # The tenth was meant to start after 9 ms and ends after all ten.
    assert shots[-1].latency >= 10 * 0.02 - 0.009 - 1e-3
    assert shots[-1].lag >= 9 * 0.02 - 0.009 - 1e-3


def test_an_open_loop_ends_when_its_time_is_over() -> None:
    shots = load.run(load.opened(Server().send, load.fixed(100), Span(seconds=0.1)))
    assert len(shots) == 10


def test_arrivals_have_their_rate_and_poisson_ones_repeat() -> None:
    times = list(itertools.islice(load.poisson(200.0, seed=3), 4000))
    assert times == sorted(times)
    assert times == list(itertools.islice(load.poisson(200.0, seed=3), 4000))
    assert times[-1] == pytest.approx(20.0, rel=0.1)
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # as an exponential's are
    assert list(itertools.islice(load.fixed(4.0), 3)) == [0.0, 0.25, 0.5]


def test_turns_alternate() -> None:
    order: list[str] = []

    async def first(_caller: int) -> Reply:
        order.append("a")
        return Reply(time.perf_counter())

    async def second(_caller: int) -> Reply:
        order.append("b")
        return Reply(time.perf_counter())

    ours, theirs = load.run(load.in_turns(first, second, 3))
    assert "".join(order) == "ababab"
    assert (len(ours), len(theirs)) == (3, 3)


def shot(latency_ms: float, code: str = "OK", start: float = 0.0, **times: int) -> Shot:
    said = {"edged-times-us": json.dumps(times), "edged-queued-us": "250"} if times else {}
    ended = start + latency_ms / 1e3
    return Shot(start, start, ended, Reply(ended, code, said))


def test_the_figures_of_a_load_are_right() -> None:
    shots = [shot(10, start=n * 0.01, npu=6000, image=2000) for n in range(200)]
    refused = [shot(1, "RESOURCE_EXHAUSTED"), shot(1, "RESOURCE_EXHAUSTED"), shot(1, "INTERNAL")]
    found = figures.of_load([*shots, *refused])
    assert (found["requests"], found["answered"]) == (203, 200)
    assert found["errors"] == {"RESOURCE_EXHAUSTED": 2, "INTERNAL": 1}
    assert found["throughput_per_s"] == pytest.approx(100)
    assert found["throughput_by_stages"] == pytest.approx(0.8)  # 8 of each 10 ms are work
    assert found["end_to_end_ms"]["p50"] == found["end_to_end_ms"]["max"] == pytest.approx(10)
    assert found["stages_ms"]["npu"]["p99"] == pytest.approx(6)
    assert found["overhead_ms"]["mean"] == pytest.approx(1.75)
    assert json.loads(json.dumps(found)) == found


def test_a_percentile_needs_enough_requests_behind_it() -> None:
    few, more, many = ([1.0] * n for n in (99, 100, 1000))
    assert figures.distribution(few)["p99"] is None
    assert figures.distribution(more)["p99"] == 1
    assert figures.distribution(more)["p99.9"] is None
    assert figures.distribution(many)["p99.9"] == 1
    assert figures.distribution([]) == {}


def test_what_edged_adds_is_the_overhead_above_the_echo() -> None:
    found = figures.of_turns([shot(3, npu=2000), shot(3, npu=2200)], [shot(0.5), shot(0.5)])
    assert found["overhead_ms"]["p50"] == pytest.approx(0.8)
    assert found["above_echo_ms"] == pytest.approx(0.4)
    assert (found["pairs"], found["failed"]) == (2, 0)
    failed = figures.of_turns([shot(3, "INTERNAL")], [shot(0.5)])
    assert (failed["failed"], failed["above_echo_ms"]) == (1, None)


def test_nothing_answered_has_figures_too() -> None:
    found = figures.of_load([shot(1, "UNAVAILABLE")])
    assert (found["answered"], found["throughput_by_stages"]) == (0, None)
    assert figures.of_load([])["requests"] == 0


@pytest.mark.parametrize(
    "values", [[1.0], [2.0] * 50, [0.0, 5.0], list(np.geomspace(0.5, 900, 5000))]
)
def test_a_plot_of_whatever_was_measured_can_be_drawn(tmp_path: Path, values: list[float]) -> None:
    path = tmp_path / "plot.png"
    plot.draw(path, {"end to end": values, "stages": [v / 2 for v in values]}, "title")
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert (image.format, image.size) == ("PNG", plot.SIZE)
        colours = {colour for _, colour in image.getcolors(1 << 20) or ()}
    assert {(0, 114, 178), (230, 159, 0)} <= colours  # both lines are there
    with pytest.raises(StoreError, match="cannot write plot"):
        plot.draw(tmp_path / "none" / "plot.png", {"a": values}, "title")


@pytest.mark.parametrize(
    "values", [[1.0], [2.0] * 50, [0.0, 5.0], list(np.geomspace(0.5, 900, 5000))]
)
def test_the_text_counts_every_request_once(values: list[float]) -> None:
    lines = plot.text(values).splitlines()[1:]
    assert 1 <= len(lines) <= 16
    assert sum(int(line.split()[3]) for line in lines) == len(values)
    assert lines[-1].split()[2] == "100.00%"
    assert max(len(line) for line in lines) <= 80


@pytest.mark.parametrize("tcp", [True, False])
def test_the_echo_answers_so_many_bytes_and_is_gone_afterwards(tmp_path: Path, tcp: bool) -> None:
    async def ask(address: str) -> Reply:
        async with Target(address, b"x" * 60_000, 10.0, method=METHOD) as target:
            return await target.send(0)

    with echo_server(tmp_path, 123, tcp=tcp) as address:
        assert load.run(ask(address)).size == 123
    assert load.run(ask(address)).code == "UNAVAILABLE"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("s")
    built = assemble(models.classifier(), name="lids", preprocess=models.PREPROCESS)
    built.write(f"oci:{folder}/image")
    (folder / "h").mkdir()
    with own_server(folder / "h", f"oci:{folder}/image", ["--threads", "1"]) as served:
        yield served


def small_picture(folder: Path) -> str:
    path = folder / "part.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    return str(path)


QUICK = ["--warm-up", "0", "--pairs", "5"]


def test_a_closed_loop_against_a_server_that_is_there(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--target", served.target, "--picture", small_picture(tmp_path), *QUICK]
    flags += ["--concurrency", "4", "--requests", "200", "--plot", str(tmp_path / "p.png")]
    assert main(["bench", "serve", *flags, "--json", str(tmp_path / "p.json")]) == 0
    shown = capsys.readouterr().out
    for part in (
        "4 callers",
        "one caller, 5 times",
        "echo",
        "npu",
        "p99.9 ms",
        "200 of 200",
        "so far",
    ):
        assert part in shown
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["load"]["answered"] == 200
    assert found["settings"]["concurrency"] == 4
    assert 0 < found["load"]["stages_ms"]["npu"]["p50"] < found["load"]["end_to_end_ms"]["p50"]
    assert found["one_caller"]["echo_ms"]["p50"] > 0
    assert 0 < found["load"]["throughput_by_stages"] < 1.5
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_an_open_loop_prints_figures_for_scripts(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--target", served.target, "--picture", small_picture(tmp_path), "--pairs", "0"]
    flags += ["--rate", "100", "--seconds", "0.5", "--arrivals", "fixed", "--warm-up", "0"]
    assert main(["bench", "serve", *flags, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["load"]["requests"] == 50
    assert found["settings"]["loop"] == "open"
    assert "one_caller" not in found


def test_a_server_that_refuses_the_request_is_not_loaded(served: Served) -> None:
    with pytest.raises(RequestError, match=f"cannot load {served.target}") as caught:
        serve.measure(served.target, b"no request", serve.Plan())
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_request_without_an_answer_ends_at_its_deadline() -> None:
    async def silent(_request: bytes, _context: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def ask() -> Reply:
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(silent)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("silent", {"Ask": method}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with Target(f"127.0.0.1:{port}", b"", 0.3, method="/silent/Ask") as target:
            reply = await target.send(0)
        await server.stop(0)
        return reply

    reply = load.run(ask())
    assert reply.code == "DEADLINE_EXCEEDED"
    assert figures.of_load([Shot(0, 0, 0.3, reply)])["errors"] == {"DEADLINE_EXCEEDED": 1}


def test_an_image_that_exists_is_loaded_on_a_server_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = f"oci:{tmp_path}/image"
    assemble(models.classifier(), name="lids", preprocess=models.PREPROCESS).write(image)
    flags = ["--model", image, "--threads", "1", "--isa", "portable", "--requests", "5", *QUICK]
    assert main(["bench", "serve", *flags, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["isa"], found["load"]["answered"]) == ("lids", "portable", 5)
    assert 55_000 < found["settings"]["picture_bytes"] < 65_000


def test_bench_serve_names_what_is_wrong(tmp_path: Path) -> None:
    assert main(["bench", "serve", "--picture", str(tmp_path / "none.jpg")]) == 2
    assert main(["bench", "serve", "--model", f"oci:{tmp_path}/none"]) == 1
    for wrong in (
        ["--rate", "0"],
        ["--rate", "x"],
        ["--seconds", "-1"],
        ["--seconds", "nan"],
        ["--concurrency", "0"],
        ["--rate", "1", "--concurrency", "2"],
        ["--pairs", "-1"],
    ):
        with pytest.raises(SystemExit):
            main(["bench", "serve", *wrong])
