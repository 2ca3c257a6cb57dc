"""The operator's end of the control socket."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from edged import config, messages
from edged.cli import _token
from edged.client.channel import authorization, connect, is_local
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
    parser.add_argument(
        "--target",
        metavar="unix:PATH|HOST:PORT",
        help="its control socket itself, or a device over the network (needs --tls and, unless "
        "with a certificate of one's own, --token)",
    )
    _token.add_arguments(parser)


class Control:
    """A connection to the daemon that ``arguments`` mean."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        run_dir = arguments.run_dir or config.default_run_dir()
        self._target = arguments.target or f"unix:{run_dir.absolute() / 'control.sock'}"
        if arguments.tls is None and not is_local(self._target):
            raise ConfigError(
                f"cannot give commands to {self._target} in the clear: expected --tls FILE with "
                "the certificates to trust"
            )
        token = _token.read_token(arguments.token) if arguments.token else None
        # So that the record of what is done can say who did it; the kernel is asked as well.
        self._metadata = (*authorization(token), ("edged-pid", str(os.getpid())))
        self._channel = connect(self._target, arguments.tls, token)

    @property
    def socket(self) -> Path | None:
        """The daemon's control socket; None for a device over the network."""
        return Path(self._target[5:]) if self._target.startswith("unix:") else None

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

    def status(self, timeout: float = TIMEOUT) -> messages.StatusReply:
        """Returns what the daemon is doing, within so many seconds."""
        return self._ask("Status", messages.StatusRequest(), messages.StatusReply, timeout)

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
            answer: _Reply = call(request, timeout=timeout, metadata=self._metadata)
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
            yield from call(request, metadata=self._metadata)
        except grpc.RpcError as exc:
            raise self._error(exc) from exc

    def _error(self, error: grpc.RpcError) -> RequestError:
        why = (
            "it does not run, or uses another --run-dir, or you may not open its socket"
            if self._target.startswith("unix:")
            else "it does not run, does not trust your certificate or you do not trust its own"
        )
        unreachable = f"cannot reach edged at {self._target}: {why}"
        return request_error(error, self._target, unreachable)
