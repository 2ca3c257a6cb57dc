"""The operator's end of the control socket."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from edged import config, messages
from edged.errors import ConfigError, RequestError
from edged.messages.calls import request_error

SERVICE = "/edged.control.v1.Control"
TIMEOUT = 10.0  # seconds for what is answered at once
_Reply = TypeVar("_Reply", bound=Message)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which daemon is meant."""
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="the daemon's folder of sockets"
    )
    parser.add_argument("--target", metavar="unix:PATH", help="its control socket itself")


class Control:
    """A connection to the daemon that ``arguments`` mean."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        run_dir = arguments.run_dir or config.default_run_dir()
        self._target = arguments.target or f"unix:{run_dir.absolute() / 'control.sock'}"
        if not self._target.startswith("unix:"):
            raise ConfigError(f"cannot use --target {self._target}: expected unix:PATH")
        self._channel = grpc.insecure_channel(self._target)

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def deploy(self, request: messages.DeployRequest) -> Iterator[messages.DeployEvent]:
        """Yields the events of a deployment to its end; see protos/edged/control."""
        return self._events("Deploy", request)

    def rollback(self, request: messages.RollbackRequest) -> Iterator[messages.DeployEvent]:
        """Yields the events of the deployment of the previous model to its end."""
        return self._events("Rollback", request)

    def undeploy(self, request: messages.UndeployRequest) -> str:
        """Takes the model out of service; returns its digest, empty if there was none."""
        # No deadline: it waits for what is under way.
        return self._ask("Undeploy", request, messages.UndeployReply, timeout=None).digest

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""
        return self._ask("Status", messages.StatusRequest(), messages.StatusReply)

    def history(self, limit: int) -> list[messages.Record]:
        """Returns the newest records, newest first; all of them if ``limit`` is 0."""
        request = messages.HistoryRequest(limit=limit)
        return list(self._ask("History", request, messages.HistoryReply).records)

    def hold(self, request: messages.HoldRequest) -> messages.Held:
        """Refuses deployments for a while."""
        return self._ask("Hold", request, messages.HoldReply).hold

    def release(self) -> messages.Held | None:
        """Ends the hold; returns it, None if there was none."""
        reply = self._ask("Release", messages.ReleaseRequest(), messages.HoldReply)
        return reply.hold if reply.HasField("hold") else None

    def quarantine(self, clear: str = "") -> list[messages.Quarantined]:
        """Returns the images in quarantine, or those that it takes out."""
        request = messages.QuarantineRequest(clear=clear)
        return list(self._ask("Quarantine", request, messages.QuarantineReply).images)

    def _ask(
        self,
        method: str,
        request: Message,
        reply: type[_Reply],
        timeout: float | None = TIMEOUT,
    ) -> _Reply:
        call = self._channel.unary_unary(
            f"{SERVICE}/{method}", type(request).SerializeToString, reply.FromString
        )
        try:
            answer: _Reply = call(request, timeout=timeout)
        except grpc.RpcError as exc:
            raise self._error(exc) from exc
        return answer

    def _events(self, method: str, request: Message) -> Iterator[messages.DeployEvent]:
        call = self._channel.unary_stream(
            f"{SERVICE}/{method}",
            type(request).SerializeToString,
            messages.DeployEvent.FromString,
        )
        try:
            # No deadline: a large image on a slow link takes its time, and says how far it is.
            yield from call(request)
        except grpc.RpcError as exc:
            raise self._error(exc) from exc

    def _error(self, error: grpc.RpcError) -> RequestError:
        unreachable = (
            f"cannot reach edged at {self._target}: it does not run, or uses another --run-dir, or "
            "you may not open its socket"
        )
        return request_error(error, self._target, unreachable)
