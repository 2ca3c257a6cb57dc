"""Becomes an ordinary user, for tests that run as root.

The user has a number that nobody has, no groups and no capabilities. What edged needs may lie below
a folder that only root passes through, such as /root: then the command gets a view of the host of
its own, in which such folders are empty but for what it needs.
"""

from __future__ import annotations

import pwd
from pathlib import Path

from edged.containers.runc import view

ROOT = Path(__file__).resolve().parents[2]
UID = next(
    uid for uid in range(61234, 61999) if uid not in {entry.pw_uid for entry in pwd.getpwall()}
)
# $1: a folder to put things aside in; then pairs of a barred folder and one in it, up to "--".
SCRIPT = """
set -eu
aside=$1 number=0 barred=
mount -t tmpfs -o mode=755 aside "$aside"
shift
pairs=
while [ "$1" != -- ]; do
    mkdir "$aside/$number"
    mount --rbind "$2" "$aside/$number"
    case " $barred " in *" $1 "*) ;; *) barred="$barred $1" ;; esac
    pairs="$pairs $number:$2"
    number=$((number + 1))
    shift 2
done
shift
for folder in $barred; do mount -t tmpfs -o mode=755 barred "$folder"; done
for pair in $pairs; do
    mkdir -p "${pair#*:}"
    mount --rbind "$aside/${pair%%:*}" "${pair#*:}"
done
umount -l "$aside"
exec "$@"
"""


def command(aside: Path) -> list[str]:
    """Returns what to put before a command, to run it as the ordinary user.

    Args:
        aside: an empty folder.
    """
    pairs: list[str] = []
    for folder in view.outermost([*view.interpreter(), ROOT]):
        barred = _barred(folder)
        if barred is not None:
            pairs += [str(barred), str(folder)]
    user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"]
    own_view = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(aside), *pairs, "--"]
    return [*own_view, *user, "--bounding-set=-all", "--no-new-privs"]


def _barred(folder: Path) -> Path | None:
    """Returns the outermost folder on the way that others may not pass through."""
    for path in reversed(folder.parents):
        if not path.stat().st_mode & 0o001:
            return path
    return None
