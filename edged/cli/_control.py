"""The operator's end of the control socket."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import grpc

from edged import config, messages
from edged.errors import ConfigError, RequestError
from edged.messages.calls import request_error

SERVICE = "/edged.control.v1.Control"
TIMEOUT = 10.0  # seconds for what is answered at once


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

    def deploy(self, reference: str) -> Iterator[messages.DeployEvent]:
        """Yields the events of a deployment to its end; see protos/edged/control."""
        call = self._channel.unary_stream(
            f"{SERVICE}/Deploy",
            messages.DeployRequest.SerializeToString,
            messages.DeployEvent.FromString,
        )
        try:
            # No deadline: a large image on a slow disk takes its time, and says how far it is.
            yield from call(messages.DeployRequest(reference=reference))
        except grpc.RpcError as exc:
            raise self._error(exc) from exc

    def undeploy(self) -> str:
        """Takes the model out of service; returns its digest, empty if there was none."""
        call = self._channel.unary_unary(
            f"{SERVICE}/Undeploy",
            messages.UndeployRequest.SerializeToString,
            messages.UndeployReply.FromString,
        )
        try:
            # No deadline either: it waits for the deployments before it.
            return call(messages.UndeployRequest()).digest
        except grpc.RpcError as exc:
            raise self._error(exc) from exc

    def status(self) -> messages.StatusReply:
        """Returns what the daemon is doing."""
        call = self._channel.unary_unary(
            f"{SERVICE}/Status",
            messages.StatusRequest.SerializeToString,
            messages.StatusReply.FromString,
        )
        try:
            return call(messages.StatusRequest(), timeout=TIMEOUT)
        except grpc.RpcError as exc:
            raise self._error(exc) from exc

    def _error(self, error: grpc.RpcError) -> RequestError:
        unreachable = (
            f"cannot reach edged at {self._target}: it does not run, or uses another --run-dir, or "
            "you may not open its socket"
        )
        return request_error(error, self._target, unreachable)
