"""What the verbs that measure engines have in common: the head of a document, where it goes."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.errors import StoreError

if TYPE_CHECKING:
    from edged.bench.peak import Peak


def head(args: argparse.Namespace, threads: int, most: Peak | None) -> dict[str, Any]:
    """Returns what a document of figures begins with."""
    from edged.bench import contest, peak
    from edged.bench.comparison import machine

    return {
        "schema": 1,
        "machine": machine(),
        "settings": {
            "threads": threads,
            "batch": 1,
            "rounds": args.rounds,
            "runs": args.runs,
            "settle_s": contest.SETTLE,
            "processors": "each engine's process is kept to the first of them, one a thread",
            "order": "another engine begins each round; reversed when all have begun",
            "weights": args.weights,
            "self_check": args.self_check,
        },
        "peak": None
        if most is None
        else {
            "isa": most.isa,
            "seconds": peak.SECONDS,
            "one_thread_gmac_s": round(most.one / 1e9, 1),
            "together_gmac_s": round(most.together / 1e9, 1),
            "threads": most.threads,
        },
    }


def put(target: str | None, document: dict[str, Any]) -> bool:
    """Writes figures where ``--json`` says; returns whether they are to be shown too.

    Raises:
        StoreError: the file cannot be written.
    """
    text = json.dumps(document, indent=1)
    if target == "-":
        print(text)
        return False
    if target is not None:
        try:
            Path(target).write_text(text + "\n")
        except OSError as exc:
            raise StoreError(f"cannot write {target}: {exc.strerror}") from exc
    return True


def say(text: str) -> None:
    """Tells whoever waits what takes long."""
    print(f"edged: {text}", file=sys.stderr, flush=True)


class Progress:
    """Says on a terminal how many rounds are done."""

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            with contextlib.suppress(OSError):
                print(f"\rround {done} of {total}", end=end, file=sys.stderr, flush=True)
