"""The worker's process: loads a model, says HELLO, answers until it is told to leave.

It leaves with 0 on STOP, on SIGTERM and when the daemon is gone, after the running request; with 1
when the model cannot be loaded or the daemon breaks the protocol. SIGINT, which a terminal sends to
the daemon's whole group, is the daemon's to act on.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from edged.errors import DeviceError, ModelError
from edged.messages.link import Kind, ProtocolError
from edged.worker.channel import Channel
from edged.worker.pipeline import Pipeline
from edged.worker.service import Service, error

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the worker; returns the exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    # Pillow warns of what it reads past in a picture. Callers write those texts: they would fill
    # the log, and Python remembers each for ever.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # While the model loads there is nothing to finish. Process 1 of a container needs a handler.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    channel = Channel(socket.socket(fileno=given.fd))
    try:
        return _serve(channel, given)
    except ProtocolError as exc:
        logger.error("giving up: %s", exc)  # noqa: TRY400
        return 1
    finally:
        channel.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edged.worker", description="Serves one model to the edged daemon."
    )
    parser.add_argument("--fd", type=int, required=True, help="the connected socket to the daemon")
    parser.add_argument("--model", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--threads", type=int, help="of the NPU and of graphs on the CPU")
    parser.add_argument("--isa", help="kernels of the NPU's emulator")
    return parser


def _serve(channel: Channel, given: argparse.Namespace) -> int:
    pipeline = _load(channel, given)
    if pipeline is None:
        return 1
    try:
        service = Service(pipeline, given.model)
        channel.leave_on(signal.SIGTERM)
        # What is loaded stays: the collector need not look at it again while requests run.
        gc.collect()
        gc.freeze()
        gc.enable()
        connected = channel.send(service.hello())
        while connected:
            question = channel.receive()
            if question is None or question.kind is Kind.STOP:
                break
            if question.kind is Kind.PREDICT and channel.cancelled(question):
                connected = channel.send(error("CANCELLED", "its caller hung up", question.id))
            elif question.kind is not Kind.CANCEL:  # of what has been answered by now
                connected = channel.send(service.answer(question))
    finally:
        pipeline.close()
    return 0


def _load(channel: Channel, given: argparse.Namespace) -> Pipeline | None:
    """Returns the model, or None after telling the daemon why there is none."""
    try:
        return Pipeline.open(given.model, threads=given.threads, isa=given.isa)
    except (ModelError, DeviceError) as exc:
        logger.error("%s", exc)  # noqa: TRY400
        channel.send(error("FAILED_PRECONDITION", str(exc)))
    except Exception as exc:
        logger.exception("cannot load the model")
        channel.send(error("INTERNAL", f"cannot load the model: {type(exc).__name__}"))
    return None
