"""``edged deploy REF``: brings a model into service."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from edged.cli import _control
from edged.errors import DeviceError

if TYPE_CHECKING:
    from edged import messages

HELP = "bring a model image into service, without losing a request"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "reference",
        metavar="REF",
        help="oci:DIR[:TAG], oci-archive:FILE or docker://HOST/NAME:TAG|@DIGEST",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per event")
    _control.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Deploys and shows the progress; returns 0 when the model is in service."""
    from edged import messages

    reference = _absolute(arguments.reference)
    last = None
    with _control.Control(arguments) as control:
        for event in control.deploy(reference):
            if arguments.json:
                print(json.dumps(_facts(event)), flush=True)
            elif last is None or last.state != event.state or sys.stderr.isatty():
                _show(event, again=last is not None and last.state == event.state)
            last = event
    if last is None:
        raise DeviceError(f"cannot deploy {reference}: edged ended the call without an outcome")
    if last.outcome != messages.Outcome.COMMITTED:
        kept = "; what served before serves on" if last.outcome == messages.Outcome.REVERTED else ""
        raise DeviceError(f"cannot deploy {reference}: {last.error}{kept}")
    if not arguments.json:
        print(_done(last))
    return 0


def _absolute(text: str) -> str:
    """Returns the reference with an absolute path: the daemon has another working directory."""
    from edged.oci import Reference

    return str(Reference.parse(text).absolute())


def _show(event: messages.DeployEvent, *, again: bool) -> None:
    """Writes a line for the state on standard error; again for one that moves."""
    if event.outcome:
        return
    bytes_text = ""
    if event.bytes_total:
        bytes_text = f"  {event.bytes_done / 1e6:.1f} of {event.bytes_total / 1e6:.1f} MB"
    start = "\033[F" if again else ""
    print(f"{start}{event.elapsed_us / 1e6:7.3f} s  {event.state:10}{bytes_text}", file=sys.stderr)


def _done(event: messages.DeployEvent) -> str:
    held = f"; requests waited {event.parked_us / 1e3:.0f} ms" if event.parked_us else ""
    return (
        f"{event.detail} is in service after {event.elapsed_us / 1e6:.2f} s{held}\n{event.digest}"
    )


def _facts(event: messages.DeployEvent) -> dict[str, object]:
    from edged import messages

    facts: dict[str, object] = {field.name: value for field, value in event.ListFields()}
    facts["outcome"] = messages.Outcome(event.outcome).name.lower() if event.outcome else None
    return facts
