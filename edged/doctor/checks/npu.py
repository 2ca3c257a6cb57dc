"""Whether the NPU is ours, works, and gives the right answers."""

from __future__ import annotations

from edged.deploy.device import Npu
from edged.doctor import selftest
from edged.doctor.check import Check, Finding, Group, error, ok, warning
from edged.doctor.skip import SkipError
from edged.doctor.world import SELF_TEST_LIMIT, World
from edged.errors import RequestError

BEAT_LIMIT = 15.0  # seconds without a sign of life


def lock(world: World) -> Finding:
    """The daemon that answers has the NPU, and nobody else."""
    path = world.run_dir / "fpga0.lock"
    owner = world.lock_owner(path)
    if owner is None:
        if world.running:
            fix = "restart edged; give --run-dir if this is another one's"
            return error(f"edged runs and does not hold {path}", fix)
        return ok("nobody has the NPU")
    if not world.running:
        fix = "it hangs, or has another --run-dir: see 'edged logs', then restart it"
        return error(f"{owner} has the NPU and does not answer", fix)
    if f"(pid {world.status.pid})" in owner:
        return ok(f"{owner} has the NPU")
    return error(f"{owner} has the NPU, not the edged that answers", "stop one of them")


def sku(world: World) -> Finding:
    """The device's NPU is one that is known."""
    npu = Npu.named(world.config.sku)
    formats = ", ".join(npu.formats)
    return ok(f"{npu.sku} runs {formats}, {npu.memory / 1e6:.0f} MB for a model")


def kernels(world: World) -> Finding:
    """The instruction set that is asked for is there, and no slow one is used unasked."""
    there, wanted = world.kernels(), world.config.isa
    if wanted is not None and wanted not in there:
        fix = f"set isa to one of {', '.join(there)}, or leave it out"
        return error(f"isa = {wanted!r}, which this CPU does not have", fix)
    used = wanted or there[0]
    if used == "portable":
        fix = f"leave isa out: {there[0]} is there" if there[0] != "portable" else "use another CPU"
        return warning("the portable kernels are used, which are several times slower", fix)
    if used != there[0]:
        return warning(f"{used} is set, and {there[0]} is there", "leave isa out for the best one")
    return ok(f"{used}, the best of this CPU")


def heartbeat(world: World) -> Finding:
    """The model's process is there and shows signs of life."""
    status = world.status
    if not status.HasField("model"):
        raise SkipError("no model is deployed")
    if not status.model.worker_pid:
        fix = "see 'edged status' and 'edged logs' for why"
        return error("the model's process does not run", fix)
    age = getattr(status, "heartbeat_age_us", 0) / 1e6
    if age > BEAT_LIMIT:
        fix = "edged starts it anew by itself; see 'edged logs' if it comes back"
        return error(f"the model's process gave no sign of life for {age:.0f} s", fix)
    deaths = status.counters.worker_deaths
    said = f"process {status.model.worker_pid} has the NPU"
    if deaths:
        return warning(f"{said}; {deaths} ended since the start", "see 'edged logs' for why")
    return ok(said)


def self_test(world: World) -> Finding:
    """The golden test of the current model, run now."""
    if world.running:
        return _by_the_daemon(world)
    state = world.state  # which is there
    tested = selftest.run(world.config, state, world.environ)
    return ok(tested)


def _by_the_daemon(world: World) -> Finding:
    if not world.status.HasField("model"):
        raise SkipError("no model is deployed")
    try:
        reply = world.self_test()
    except RequestError as exc:
        if exc.code in ("FAILED_PRECONDITION", "UNIMPLEMENTED"):
            raise SkipError(str(exc)) from exc
        return error(f"the golden test was not answered: {exc}", "see 'edged logs'")
    if not reply.passed:
        fix = "the NPU, the memory or the files are at fault: 'edged rollback', then have it looked"
        return error(f"the model in service: {reply.reason}", f"{fix} at")
    return ok(f"the model in service gave its golden answers in {reply.elapsed_us / 1e3:.0f} ms")


GROUP = Group(
    "npu",
    (
        Check("lock", lock),
        Check("sku", sku),
        Check("kernels", kernels),
        Check("heartbeat", heartbeat),
        Check("self-test", self_test, max(SELF_TEST_LIMIT, selftest.LIMIT) + 5),
    ),
)
